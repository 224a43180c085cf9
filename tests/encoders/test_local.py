"""A bundle opened on this machine, against the same networks run step by step in plain float32 torch."""

from __future__ import annotations

import io
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from encoders.bundle import Bundle
from encoders.calibration import Calibration, Sigmoid
from encoders.errors import ImageError
from encoders.local import LocalEncoder
from encoders.objects import normalise
from encoders.sketch import Sketch, SketchObject
from tests.encoders.tiny import DIM, LOOP, SIZE, VOCABULARY, D, cosines, pictures, sketch

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
