"""Bundles whose parts do not fit each other: what is said of them when they are opened."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from encoders.bundle import Bundle
from encoders.errors import BundleError, CompsketchError
from encoders.local import LocalEncoder
from tests.encoders.tiny import DIM, D


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
