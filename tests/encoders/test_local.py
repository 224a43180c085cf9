"""A bundle opened on this machine, against the same networks run step by step in plain float32 torch."""

import io
import json
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from encoders import backbones
from encoders.bundle import Bundle
from encoders.calibration import Calibration, Sigmoid
from encoders.errors import BundleError, CompsketchError, ImageError
from encoders.indexing import IndexingBranch, IndexingConfig
from encoders.local import LocalEncoder, Networks
from encoders.objects import ObjectConfig, normalise
from encoders.projection import Projection
from encoders.query import query_tensor, query_tensors
from encoders.raster import raster
from encoders.sketch import Sketch, SketchObject
from encoders.spatial import SpatialConfig

C, D, DIM, SIZE = 16, 8, 16, 64
VOCABULARY = ["Cat", "dog", "motorbike", "sailboat"]
CONFIG = {
    "name": "tiny",
    "objects": asdict(ObjectConfig(dim=C, hidden=32, sketch_size=32, crop_size=48)),
    "indexing": asdict(IndexingConfig(image_size=SIZE, hidden=16, channels=D)),
    "spatial": asdict(SpatialConfig(channels=C, widths=(16, 24), out_channels=D)),
    "vocabulary": VOCABULARY,
    "dim": DIM,
}


def pictures(count: int, size: tuple[int, int] = (100, 70), seed: int = 1) -> list[Image.Image]:
    """Smooth random photos: what a stretch does to noise depends on the last bit."""
    rng = np.random.default_rng(seed)
    small = [Image.fromarray(rng.integers(0, 256, (5, 5, 3), dtype=np.uint8)) for _ in range(count)]
    return [picture.resize(size, Image.Resampling.BICUBIC) for picture in small]


def layouts(count: int) -> np.ndarray:
    """Query tensors of two random objects each: (count, C, 31, 31)."""
    rng = np.random.default_rng(2)
    vectors = rng.normal(size=(count, 2, C))
    start = rng.uniform(0, 0.5, (count, 2, 2))
    boxes = np.concatenate([start, start + rng.uniform(0.1, 0.5, start.shape)], axis=2)
    return query_tensors(list(vectors / np.linalg.norm(vectors, axis=2, keepdims=True)), list(boxes))


@torch.no_grad()
def calibrated() -> Networks:
    """Networks as after training: ImageNet trunks, random layers, batch statistics of what they will see."""
    torch.manual_seed(0)
    networks = Networks(CONFIG).eval()
    networks.image.load_state_dict(IndexingBranch(IndexingConfig(**CONFIG["indexing"]), pretrained=True).state_dict())
    trunk = backbones.build(CONFIG["indexing"]["backbone"], pretrained=True).state_dict()
    for own in (networks.objects.sketch_trunk, networks.objects.photo_trunk):
        own.load_state_dict(trunk)
    learned = (networks.image.reduce, networks.spatial, networks.objects.sketch_fc, networks.objects.photo_fc)
    for module in (module for part in learned for module in part.train().modules()):
        if isinstance(module, (nn.BatchNorm1d, nn.BatchNorm2d)):
            module.momentum = 1.0
    spec = networks.image.spec

    def photos(side: int) -> torch.Tensor:
        batch = np.stack([np.asarray(picture) for picture in pictures(32, (side, side), seed=3)])
        return normalise(torch.from_numpy(batch), spec.mean, spec.std)

    strokes = np.random.default_rng(4).uniform(0, 9, (32, 1, 2, 6))
    drawings = torch.from_numpy(np.stack([raster(list(drawing), 32, 3.0) for drawing in strokes]))
    networks.image(photos(SIZE))
    networks.objects.f_i(photos(48))
    networks.objects.f_s(normalise(drawings, spec.mean, spec.std))
    networks.spatial(torch.from_numpy(layouts(32)))
    return networks.eval()


@pytest.fixture(scope="session")
def tiny_bundle(tmp_path_factory) -> Path:
    rng = np.random.default_rng(0)
    matrix = np.linalg.qr(rng.normal(size=(49 * D, DIM)))[0].T
    projection = Projection(matrix.astype(np.float32), rng.normal(0, 0.02, DIM).astype(np.float32))
    folder = tmp_path_factory.mktemp("bundles") / "tiny"
    Bundle(CONFIG, {**calibrated().to_tensors(), **projection.to_tensors()}).save(folder)
    return folder


@pytest.fixture(scope="session")
def encoder(tiny_bundle) -> LocalEncoder:
    """In float32, so that it can be compared to the last digits; `test_runtimes.py` compares the runtimes."""
    return LocalEncoder(Bundle.load(tiny_bundle), device="cpu", runtime="torch")


@pytest.fixture(scope="session")
def plain(tiny_bundle) -> tuple[Networks, Projection]:
    """What the bundle holds, as torch modules."""
    bundle = Bundle.load(tiny_bundle)
    networks = Networks(bundle.config)
    own = {name: tensor for name, tensor in bundle.tensors.items() if not name.startswith("projection.")}
    networks.load_tensors(own, "tiny")
    return networks.eval().requires_grad_(False), Projection.from_tensors(bundle.tensors)


ZIGZAG = ([[10, 30, 50, 70], [20, 60, 20, 60]],)
LOOP = ([[0, 40, 40, 0, 0], [0, 0, 30, 30, 0]], [[5, 35], [15, 15]])


def sketch(labels: tuple[str | None, str | None] = (None, None)) -> Sketch:
    """Two objects whose boxes overlap."""
    first = SketchObject(ZIGZAG, labels[0])
    second = SketchObject(LOOP, labels[1], bbox=(40, 30, 150, 110))
    return Sketch(200, 120, (first, second))


def cosines(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return (a * b).sum(axis=1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)


# --- what it says of itself ---


def test_an_encoder_says_what_it_is(encoder, tiny_bundle):
    assert (encoder.name, encoder.dim, encoder.image_size, encoder.device) == ("tiny", DIM, SIZE, "cpu")
    assert encoder.fingerprint == Bundle.load(tiny_bundle).fingerprint
    assert encoder.vocabulary == VOCABULARY
    assert "runtime=torch was asked for" in encoder.runtime


def test_it_knows_its_networks_apart_from_its_projection(encoder, tiny_bundle):
    assert encoder.networks == Bundle.load(tiny_bundle).networks
    assert encoder.features == 49 * D


# --- photos ---


def test_features_in_half_precision_project_to_what_encode_images_gives(encoder):
    photos = pictures(5)
    features = encoder.embed_images(photos)
    vectors = encoder.encode_images(photos)
    assert np.array_equal(encoder.project(features), vectors)
    assert np.abs(encoder.project(features.astype(np.float16)) - vectors).max() < 1e-3
    assert encoder.project(features[:0]).shape == (0, DIM)


def test_path_bytes_picture_and_array_are_one_photo(encoder, tmp_path):
    (picture,) = pictures(1)
    path = tmp_path / "photo.png"
    picture.save(path)
    forms = [path, str(path), path.read_bytes(), picture, np.asarray(picture)]
    vectors = encoder.encode_images(forms)
    assert vectors.shape == (5, DIM)
    assert vectors.dtype == np.float32
    assert np.allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-6)
    assert all(np.array_equal(vector, vectors[0]) for vector in vectors)


def test_a_jpeg_is_the_same_from_disk_and_from_memory(encoder):
    buffer = io.BytesIO()
    pictures(1, (640, 480))[0].save(buffer, "JPEG", quality=95)
    decoded = Image.open(io.BytesIO(buffer.getvalue()))
    one, other = encoder.encode_images([buffer.getvalue(), decoded])
    assert one @ other > 0.99  # the bytes may be decoded at reduced scale


def test_an_array_of_the_encoders_size_is_taken_as_it_is(encoder):
    (picture,) = pictures(1)
    stretched = np.asarray(picture.resize((SIZE, SIZE), Image.Resampling.BILINEAR))
    assert np.array_equal(encoder.encode_images([stretched]), encoder.encode_images([picture]))


@torch.inference_mode()
def test_embed_images_is_equation_4(encoder, plain):
    networks, projection = plain
    photos = pictures(20)  # more than a batch
    spec = networks.image.spec
    pixels = [np.array(photo.resize((SIZE, SIZE), Image.Resampling.BILINEAR)) for photo in photos]
    maps = networks.image(normalise(torch.from_numpy(np.stack(pixels)), spec.mean, spec.std))  # (20, D, 7, 7)
    expected = maps.flatten(1).numpy()
    embedded = encoder.embed_images(photos)
    assert embedded.shape == (20, 49 * D)
    assert embedded.dtype == np.float32
    assert cosines(embedded, expected).min() > 0.99999
    stored = encoder.encode_images(photos)
    assert np.array_equal(stored, encoder.embed_images(photos, project=True))
    by_hand = embedded / np.linalg.norm(embedded, axis=1, keepdims=True) @ projection.matrix.T + projection.offset
    assert np.allclose(stored, by_hand / np.linalg.norm(by_hand, axis=1, keepdims=True), atol=1e-5)


def test_the_machines_own_runtime_gives_much_the_same(encoder, tiny_bundle):
    """Half precision costs a random network on blobs more than a trained one on photos (cosine .999)."""
    photos = pictures(8)
    own = LocalEncoder.open(str(tiny_bundle), device="cpu")
    assert own.runtime.startswith(("openvino", "torch"))
    found = own.embed_images(photos)
    assert cosines(found, encoder.embed_images(photos)).min() > 0.95
    assert own.fingerprint == encoder.fingerprint


@torch.inference_mode()
def test_embed_photo_objects_is_f_i_of_the_whole_photo(encoder, plain):
    networks, _ = plain
    photos, spec = pictures(3), networks.objects.photo_trunk.spec
    pixels = [np.array(photo.resize((48, 48), Image.Resampling.BILINEAR)) for photo in photos]
    expected = networks.objects.f_i(normalise(torch.from_numpy(np.stack(pixels)), spec.mean, spec.std)).numpy()
    assert cosines(encoder.embed_photo_objects(photos), expected).min() > 0.99999


def test_a_bad_photo_is_named(encoder, tmp_path):
    with pytest.raises(ImageError, match=r"nowhere\.jpg: no such file"):
        encoder.encode_images([pictures(1)[0], tmp_path / "nowhere.jpg"])


# --- sketches ---


@torch.inference_mode()
def by_hand(networks: Networks, projection: Projection, drawn: Sketch) -> tuple[np.ndarray, np.ndarray]:
    """f_s, eq. 1, f_t and the projection of one sketch: the flattened map (49 D,) and the vector (d,)."""
    spec, config = networks.objects.sketch_trunk.spec, networks.objects.config
    vectors = []
    for item in drawn.objects:
        picture = torch.from_numpy(np.array(raster(item.strokes, config.sketch_size, config.line_width)))[None]
        seen = [networks.objects.f_s(normalise(side, spec.mean, spec.std))[0] for side in (picture, picture.flip(2))]
        vectors.append(torch.nn.functional.normalize(seen[0] + seen[1], dim=0).numpy())
    tensor = query_tensor(np.stack(vectors), drawn.boxes)
    flat = networks.spatial(torch.from_numpy(tensor)[None]).flatten().numpy()
    projected = projection.matrix @ (flat / np.linalg.norm(flat)) + projection.offset
    return flat, projected / np.linalg.norm(projected)


def test_encode_sketches_is_f_s_equation_1_f_t_and_the_projection(encoder, plain):
    sketches = [sketch(), Sketch(90, 90, (SketchObject(LOOP),))]
    flat, stored = encoder.embed_sketches(sketches), encoder.encode_sketches(sketches)
    assert flat.shape == (2, 49 * D)
    assert stored.shape == (2, DIM)
    assert stored.dtype == np.float32
    assert np.allclose(np.linalg.norm(stored, axis=1), 1, atol=1e-6)
    expected = [by_hand(*plain, drawn) for drawn in sketches]
    assert cosines(flat, np.stack([row for row, _ in expected])).min() > 0.99999
    assert cosines(stored, np.stack([row for _, row in expected])).min() > 0.99999


def test_a_sketch_alone_is_as_in_company(encoder):
    together = encoder.encode_sketches([sketch(), Sketch(90, 90, (SketchObject(ZIGZAG),))])
    assert np.allclose(encoder.encode_sketches([sketch()])[0], together[0], atol=1e-5)


def with_networks_of(encoder: LocalEncoder, folder: Path) -> LocalEncoder:
    """A second encoder, which remembers nothing yet; compiling its networks again would take seconds."""
    fresh = LocalEncoder.open(str(folder), device="cpu")
    fresh.__dict__.update(_sketched=encoder._sketched, _spatial=encoder._spatial)
    return fresh


def test_objects_are_encoded_once(encoder, tiny_bundle):
    fresh, seen = with_networks_of(encoder, tiny_bundle), []
    run = encoder._sketched
    fresh.__dict__["_sketched"] = lambda batch: (seen.append(len(batch)), run(batch))[1]
    twice = Sketch(200, 120, (SketchObject(ZIGZAG), SketchObject(ZIGZAG, bbox=(100, 0, 180, 90)), SketchObject(LOOP)))
    first = fresh.encode_sketches([twice])
    assert seen == [2]  # the zigzag stands in two boxes, and is one drawing
    assert np.array_equal(fresh.encode_sketches([twice]), first)
    assert seen == [2]
    moved = [[[x + 1 for x in xs], ys] for xs, ys in LOOP]
    fresh.encode_sketches([Sketch(200, 120, (SketchObject(ZIGZAG), SketchObject(moved)))])
    assert seen == [2, 1]  # only what is new


def test_only_so_many_objects_are_remembered(encoder, tiny_bundle, monkeypatch):
    monkeypatch.setattr("encoders.local.CACHED_OBJECTS", 3)
    fresh = with_networks_of(encoder, tiny_bundle)
    items = [SketchObject(([[0, 10, length], [0, 10, 0]],)) for length in range(20, 26)]
    vectors = fresh.embed_objects(items)
    assert len(fresh._remembered) == 3
    assert np.allclose(fresh.embed_objects(items), vectors, atol=1e-3)


def test_one_in_place_of_a_list_is_told_how(encoder):
    with pytest.raises(CompsketchError, match=r"found one str; write \[photo\]"):
        encoder.encode_images("a.jpg")
    with pytest.raises(CompsketchError, match=r"found one Sketch; write \[sketch\]"):
        encoder.encode_sketches(Sketch(10, 10, (SketchObject([[[1, 5], [1, 5]]]),)))


def test_nothing_in_nothing_out(encoder):
    for vectors, width in (
        (encoder.encode_images([]), DIM),
        (encoder.embed_images([]), 49 * D),
        (encoder.embed_photo_objects([]), C),
        (encoder.encode_sketches([]), DIM),
        (encoder.encode_sketches([], words=True), DIM),
        (encoder.embed_sketches([]), 49 * D),
        (encoder.embed_objects([]), C),
        (encoder.embed_canvas([]), C),
    ):
        assert vectors.shape == (0, width)
        assert vectors.dtype == np.float32


def test_embed_canvas_is_f_s_of_all_strokes_as_one_drawing(encoder):
    whole = SketchObject((*ZIGZAG, *LOOP))
    assert np.array_equal(encoder.embed_canvas([sketch()]), encoder.embed_objects([whole]))


# --- words ---


def test_words_mix_the_labels_vector_into_the_drawings(encoder, plain):
    names = plain[0].objects.class_vectors().numpy()
    drawn = encoder.embed_objects(sketch().objects)
    labelled = sketch(labels=("dog", None))
    assert np.array_equal(encoder.embed_objects(labelled.objects), drawn)  # only where they are asked for
    mixed = encoder.embed_objects(labelled.objects, words=True)
    expected = drawn[0] + names[VOCABULARY.index("dog")]
    assert np.allclose(mixed[0], expected / np.linalg.norm(expected), atol=1e-6)
    assert np.array_equal(mixed[1], drawn[1])
    assert encoder.encode_sketches([labelled], words=True)[0] @ encoder.encode_sketches([labelled])[0] < 0.999


@pytest.mark.parametrize(
    ("label", "word"),
    [
        ("dog", "dog"),
        (" Dog ", "dog"),
        ("cat", "Cat"),
        ("motorcycle", "motorbike"),  # one of COCO's names for it
        ("Boat", "sailboat"),
    ],
)
def test_a_label_is_found_in_any_case_and_by_the_class_map(encoder, label, word):
    assert np.array_equal(encoder.word_vector(label), encoder.word_vector(word))
    assert np.array_equal(encoder.word_vector(label), encoder._class_vectors[VOCABULARY.index(word)])


def test_an_unknown_label_is_answered_with_near_names(encoder):
    with pytest.raises(CompsketchError, match=r"label 'motorbik' is no word .*'tiny' knows; did you mean motorbike\?"):
        encoder.encode_sketches([sketch(labels=("motorbik", None))], words=True)
    with pytest.raises(CompsketchError, match=r"label 'quark' .* it knows 4 words\. Or use strokes without words"):
        encoder.word_vector("quark")
    with pytest.raises(CompsketchError, match="label 'bus'"):  # in the class map, but not in this vocabulary
        encoder.word_vector("bus")


def test_a_word_over_a_box_paints_the_class_vector(encoder, plain):
    word = Sketch(200, 120, (SketchObject((), "dog", (40, 30, 150, 110)),))
    name = plain[0].objects.class_vectors()[VOCABULARY.index("dog")].numpy()
    assert np.array_equal(encoder.embed_objects(word.objects)[0], name)
    tensor = torch.from_numpy(query_tensor(name[None], word.boxes))[None]
    expected = plain[0].spatial(tensor).flatten(1).detach().numpy()
    for words in (False, True):
        assert cosines(encoder.embed_sketches([word], words=words), expected).min() > 0.99999
    drawn = sketch(("dog", "cat"))
    assert np.array_equal(encoder.encode_sketches([drawn.without_strokes()])[0],
                          encoder.encode_sketches([drawn.without_strokes()], words=True)[0])  # fmt: skip


def test_strokes_and_words_mix_in_one_sketch(encoder):
    mixed = Sketch(200, 120, (SketchObject((), "dog", (0, 0, 90, 110)), *sketch(("quark", None)).objects))
    vectors = encoder.embed_objects(mixed.objects)
    assert np.array_equal(vectors[0], encoder.word_vector("dog"))
    assert np.array_equal(vectors[1:], encoder.embed_objects(mixed.objects[1:]))  # "quark" is a note
    with pytest.raises(CompsketchError, match="label 'quark' is no word"):
        encoder.encode_sketches([Sketch(9, 9, (SketchObject((), "quark", (0, 0, 5, 5)),))])
    with pytest.raises(CompsketchError, match="no ink"):
        encoder.embed_canvas([sketch(("dog", "cat")).without_strokes()])


# --- weights ---


def reweighed(drawn: Sketch, *weights: float) -> Sketch:
    return replace(drawn, objects=tuple(replace(o, weight=w) for o, w in zip(drawn.objects, weights, strict=True)))


def test_equal_weights_are_the_sketch_itself_bit_for_bit(encoder):
    assert np.array_equal(encoder.embed_sketches([reweighed(sketch(), 2, 2)]), encoder.embed_sketches([sketch()]))


def test_weights_and_negatives_are_the_equations(encoder, plain):
    drawn = sketch()
    both, first, second = (
        by_hand(*plain, replace(drawn, objects=objects))[0]
        for objects in (drawn.objects, drawn.objects[:1], drawn.objects[1:])
    )
    against = np.linalg.norm(first) * second / np.linalg.norm(second)
    expected = [0.25 * both + 0.75 * first, first - 0.5 * against]
    found = encoder.embed_sketches([reweighed(drawn, 4, 1), reweighed(drawn, 1, -2)])
    assert np.allclose(found, expected, rtol=1e-3, atol=1e-3 * np.abs(expected).max())


def test_an_object_that_is_not_wanted_is_no_ink_of_the_canvas(encoder):
    drawn = sketch()
    alone = replace(drawn, objects=drawn.objects[:1])
    assert np.array_equal(encoder.embed_canvas([reweighed(drawn, 1, -1)]), encoder.embed_canvas([alone]))


# --- bundles that do not fit ---


def changed(folder: Path, **tensors: np.ndarray | None) -> Bundle:
    """The bundle with tensors added, replaced, or with None taken out."""
    bundle = Bundle.load(folder)
    kept = {**bundle.tensors, **{name.replace("__", "."): tensor for name, tensor in tensors.items()}}
    return Bundle(bundle.config, {name: tensor for name, tensor in kept.items() if tensor is not None})


def test_tensors_that_do_not_fit_are_listed_apart(tiny_bundle):
    broken = changed(
        tiny_bundle,
        objects__shared__bias=None,
        spatial__extra=np.zeros(2, np.float32),
        **{"spatial__0__weight": np.zeros((16, 15, 3, 3), np.float32)},
    )
    with pytest.raises(BundleError) as caught:
        LocalEncoder(broken)
    assert str(caught.value) == (
        "bundle 'tiny' does not fit its own config: missing: objects.shared.bias (1); "
        "unexpected: spatial.extra (1); of another shape: spatial.0.weight (1); train or fetch it again"
    )


def test_a_bundle_without_a_projection_is_refused(tiny_bundle):
    with pytest.raises(BundleError, match=r"lacks projection\.matrix"):
        LocalEncoder(changed(tiny_bundle, projection__matrix=None))


@pytest.mark.parametrize(
    ("part", "value", "named"),
    [
        ("name", None, "name"),
        ("vocabulary", None, "vocabulary"),
        ("vocabulary", 7, "int"),
        ("objects", None, "objects"),
        ("objects", {"dimension": 3}, "dimension"),
        ("indexing", "photo", "dictionary"),
        ("spatial", {"channels": 3}, "widths"),
        ("spatial", {"channels": -3, "widths": [1, 1]}, "negative"),
        ("objects", {"sketch_backbone": "alexnet"}, "alexnet"),
    ],
)
def test_a_damaged_config_is_a_bundle_error_that_names_the_part(tiny_bundle, part, value, named):
    bundle = Bundle.load(tiny_bundle)
    config = {**bundle.config, part: value}
    if value is None:
        del config[part]
    with pytest.raises(BundleError, match=named):
        LocalEncoder(Bundle(config, bundle.tensors))


def test_networks_that_do_not_fit_each_other_are_refused(tiny_bundle):
    short = np.eye(DIM, 49 * D - 1, dtype=np.float32)
    with pytest.raises(BundleError, match="T_I gives and the projection takes 392 and 391 channels"):
        LocalEncoder(changed(tiny_bundle, projection__matrix=short))
    with pytest.raises(CompsketchError, match="projection"):
        LocalEncoder(changed(tiny_bundle, projection__offset=np.zeros(3, np.float32)))


def test_a_damaged_file_is_a_bundle_error(tiny_bundle, tmp_path):
    for name in ("config.json", "model.safetensors"):
        content = (tiny_bundle / name).read_bytes()
        (tmp_path / name).write_bytes(content)
    LocalEncoder.open(str(tmp_path), device="cpu")
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**config, "vocabulary": ["other", "words", "than", "were"]}))
    with pytest.raises(BundleError, match="its files were changed"):
        LocalEncoder.open(str(tmp_path), device="cpu")
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(BundleError, match=r"config\.json cannot be read"):
        LocalEncoder.open(str(tmp_path), device="cpu")


def test_there_is_no_such_bundle(tmp_path):
    with pytest.raises(BundleError, match="nothing"):
        LocalEncoder.open(str(tmp_path / "nothing"))


# --- why, and how likely ---


@pytest.mark.parametrize("weights", [(1, 1), (2, 1), (1, -1)])
@pytest.mark.parametrize("words", [False, True])
def test_an_explanation_sums_to_the_score(encoder, weights, words):
    objects = [replace(one, weight=w) for one, w in zip(sketch(("cat", "dog")).objects, weights, strict=True)]
    drawn, stored = Sketch(200, 120, objects), encoder.encode_images(pictures(3))
    scores = stored @ encoder.encode_sketches([drawn], words=words)[0]
    explained = encoder.explain(drawn, stored, words=words)
    assert [one.score for one in explained] == pytest.approx(scores.tolist(), abs=1e-5)
    assert {one.objects.shape for one in explained} == {(2, 7, 7)}
    assert all(np.abs(one.totals).min() > 1e-6 for one in explained)  # each object has its part


def test_confidence_is_what_the_bundle_says_of_such_a_sketch(encoder, tiny_bundle):
    bundle, told = Bundle.load(tiny_bundle), Calibration({"strokes/2": Sigmoid(10.0, -5.0, 100, 5)})
    calibrated = LocalEncoder(Bundle({**bundle.config, "calibration": told.to_dict()}, bundle.tensors), device="cpu")
    assert calibrated.fingerprint == encoder.fingerprint
    assert calibrated.confidence(sketch(), np.array([0.5, 0.9])) == pytest.approx([0.5, 1 / (1 + np.exp(-4))])
    assert calibrated.confidence(Sketch(90, 90, (SketchObject(LOOP),)), np.array([0.5])) is None
    assert encoder.confidence(sketch(), np.array([0.5])) is None
