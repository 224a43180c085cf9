"""Bundles: what is saved is what is loaded, a literal fingerprint, and every way a folder can be wrong."""

from __future__ import annotations

import json
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from encoders import bundle as module
from encoders.bundle import Bundle, find
from encoders.errors import BundleError

pytest.importorskip("safetensors")

CONFIG = {"name": "toy", "image_size": 224, "backbone": {"name": "lite0", "channels": 320}, "description": "A toy."}


def tensors() -> dict[str, np.ndarray]:
    return {
        "projection.matrix": np.arange(6, dtype=np.float16).reshape(2, 3),
        "offset": np.array([0.5, -1.0], dtype=np.float32),
        "steps": np.array(7, dtype=np.int64),
    }


@pytest.fixture
def folder(tmp_path):
    path = tmp_path / "mein Bündel"
    Bundle(CONFIG, tensors()).save(path)
    return path


def edit(folder, **changes) -> None:
    path = folder / "config.json"
    config = json.loads(path.read_text())
    path.write_text(json.dumps({**config, **changes}))


def save_model(folder, changed: dict[str, np.ndarray]) -> None:
    from safetensors.numpy import save_file

    save_file(changed, folder / "model.safetensors")


def test_load_gives_back_what_was_saved(folder):
    loaded = Bundle.load(folder)
    assert loaded.config == CONFIG
    assert {name: (t.dtype, t.shape) for name, t in loaded.tensors.items()} == {
        name: (t.dtype, t.shape) for name, t in tensors().items()
    }
    assert all(np.array_equal(loaded.tensors[name], tensor) for name, tensor in tensors().items())
    assert loaded.fingerprint == Bundle(CONFIG, tensors()).fingerprint


def test_literal_fingerprint():
    assert Bundle(CONFIG, tensors()).fingerprint == "cs1-a7038f11a852f43b"


def test_literal_fingerprint_of_the_networks():
    assert Bundle(CONFIG, tensors()).networks == "nw1-a2f94be81b1c3e7c"


def test_another_projection_leaves_the_networks_what_they_are():
    bundle = Bundle({**CONFIG, "dim": 2}, tensors())
    projected = {**tensors(), "projection.matrix": np.ones((4, 3), np.float16), "projection.offset": np.ones(4)}
    other = Bundle({**CONFIG, "dim": 4, "name": "other", "projection": {"version": 2}}, projected)
    assert (other.networks, other.fingerprint != bundle.fingerprint) == (bundle.networks, True)
    assert Bundle(CONFIG, {**tensors(), "offset": np.array([0.5, -1.5], np.float32)}).networks != bundle.networks
    assert Bundle({**CONFIG, "image_size": 192}, tensors()).networks != bundle.networks


def test_config_names_format_shapes_and_fingerprint(folder):
    config = json.loads((folder / "config.json").read_text())
    assert config["format"] == 1
    assert config["tensors"] == {"offset": [2], "projection.matrix": [2, 3], "steps": []}
    assert config["fingerprint"] == Bundle(CONFIG, tensors()).fingerprint
    assert sorted(path.name for path in folder.iterdir()) == ["config.json", "model.safetensors"]


def test_order_memory_layout_and_byte_order_do_not_change_the_fingerprint():
    swapped = dict(reversed(tensors().items()))
    swapped["offset"] = swapped["offset"].astype(">f4")
    swapped["projection.matrix"] = np.asfortranarray(swapped["projection.matrix"])
    config = dict(reversed(CONFIG.items()))
    assert Bundle(config, swapped).fingerprint == Bundle(CONFIG, tensors()).fingerprint


def test_big_endian_and_strided_tensors_are_saved_by_value(tmp_path):
    given = {"a": np.arange(6, dtype=">f4").reshape(2, 3).T, "b": np.arange(10, dtype=np.float32)[::3]}
    bundle = Bundle({}, given)
    bundle.save(tmp_path)
    loaded = Bundle.load(tmp_path)
    assert all(np.array_equal(loaded.tensors[name], tensor) for name, tensor in given.items())
    assert loaded.fingerprint == bundle.fingerprint


@pytest.mark.parametrize("key", ["description", "metrics", "training", "calibration", "projection"])
def test_descriptions_do_not_change_the_fingerprint(key):
    assert Bundle({**CONFIG, key: "other"}, tensors()).fingerprint == Bundle(CONFIG, tensors()).fingerprint


@pytest.mark.parametrize(
    ("config", "changes"),
    [
        ({"image_size": 192}, {}),
        ({"new": None}, {}),
        ({}, {"offset": np.array([0.5, -1.001], dtype=np.float32)}),
        ({}, {"offset": np.array([[0.5, -1.0]], dtype=np.float32)}),
        ({}, {"offset": np.array([0.5, -1.0], dtype=np.float64)}),
        ({}, {"another": np.zeros(0, dtype=np.float32)}),
    ],
)
def test_whatever_shapes_a_vector_changes_the_fingerprint(config, changes):
    changed = Bundle({**CONFIG, **config}, {**tensors(), **changes})
    assert changed.fingerprint != Bundle(CONFIG, tensors()).fingerprint


@given(st.dictionaries(st.text(max_size=5), st.lists(st.floats(-9, 9, width=16), max_size=4), max_size=4))
def test_any_floats_round_trip(values):
    import tempfile

    given = {name: np.array(row, dtype=np.float16) for name, row in values.items() if name != "__metadata__"}
    with tempfile.TemporaryDirectory() as path:
        Bundle({"names": sorted(given)}, given).save(path)
        loaded = Bundle.load(path)
    assert loaded.fingerprint == Bundle({"names": sorted(given)}, given).fingerprint
    assert all(loaded.tensors[name].tobytes() == tensor.tobytes() for name, tensor in given.items())


def test_saving_again_replaces_the_bundle_and_leaves_other_files_alone(folder):
    (folder / "README.md").write_text("mine")
    Bundle({"name": "second"}, {"a": np.ones(3)}).save(folder)
    assert Bundle.load(folder).config == {"name": "second"}
    assert sorted(p.name for p in folder.iterdir()) == ["README.md", "config.json", "model.safetensors"]


@pytest.mark.parametrize("failing", [1, 2])
def test_an_interrupted_save_never_leaves_half_of_each(folder, monkeypatch, failing):
    """The first rename fails: the earlier bundle stands. The second fails: the mixture is refused."""
    renames = []
    replace = module.os.replace

    def fail_at(source, target):
        renames.append(target)
        if len(renames) == failing:
            raise OSError(28, "No space left on device")
        replace(source, target)

    monkeypatch.setattr(module.os, "replace", fail_at)
    changed = {**tensors(), "offset": np.array([9.0, 9.0], dtype=np.float32)}
    with pytest.raises(BundleError, match=r"cannot be written.*No space left"):
        Bundle(CONFIG, changed).save(folder)
    if failing == 1:
        assert Bundle.load(folder).fingerprint == Bundle(CONFIG, tensors()).fingerprint
    else:
        with pytest.raises(BundleError, match="belong to two bundles"):
            Bundle.load(folder)
    assert not list(folder.glob(".*"))


def test_missing_unexpected_and_misshapen_tensors_are_told_apart(folder):
    save_model(folder, {"steps": np.zeros(2), "extra": np.zeros(1), "offset": np.zeros(2, np.float32)})
    with pytest.raises(BundleError) as caught:
        Bundle.load(folder)
    message = str(caught.value)
    assert "missing: projection.matrix; unexpected: extra; misshapen: steps is [2], not []" in message
    assert str(folder) in message


def test_a_folder_without_tensor_list_or_fingerprint_loads(folder):
    (folder / "config.json").write_text(json.dumps({"format": 1, **CONFIG}))
    assert Bundle.load(folder).fingerprint == Bundle(CONFIG, tensors()).fingerprint


@pytest.mark.parametrize("cut", [0, 5, 60, -1])
def test_truncated_model(folder, cut):
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:cut])
    with pytest.raises(BundleError, match=r"model\.safetensors is truncated"):
        Bundle.load(folder)


def test_one_flipped_bit_is_found(folder):
    path = folder / "model.safetensors"
    content = bytearray(path.read_bytes())
    content[-3] ^= 1
    path.write_bytes(content)
    with pytest.raises(BundleError, match="says it is cs1-"):
        Bundle.load(folder)


def test_a_changed_setting_is_found(folder):
    edit(folder, image_size=192)
    with pytest.raises(BundleError, match="its files were changed"):
        Bundle.load(folder)


def test_a_tensor_type_that_numpy_has_not(folder):
    torch = pytest.importorskip("torch")
    from safetensors.torch import save_file

    save_file({"a": torch.zeros(2, dtype=torch.bfloat16)}, folder / "model.safetensors")
    with pytest.raises(
        BundleError, match=r"model\.safetensors is truncated, damaged or of a type|does not hold|finger"
    ):
        Bundle.load(folder)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_values_that_are_not_finite(folder, value):
    bad = {**tensors(), "offset": np.array([value, 0], dtype=np.float32)}
    with pytest.raises(BundleError, match="not finite in offset"):
        Bundle(CONFIG, bad).save(folder)
    assert Bundle.load(folder).config == CONFIG
    save_model(folder, bad)
    with pytest.raises(BundleError, match="not finite in offset"):
        Bundle.load(folder)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "config.json cannot be read"),
        ("[]", "has format None, this version reads 1"),
        ('{"name": "x"}', "has format None"),
        ('{"format": 2}', "has format 2, this version reads 1"),
        ('{"format": 1, "tensors": []}', "is not {name: shape}"),
    ],
)
def test_a_config_that_is_none(folder, content, message):
    (folder / "config.json").write_text(content)
    with pytest.raises(BundleError, match=message):
        Bundle.load(folder)


def test_a_config_in_another_encoding(folder):
    (folder / "config.json").write_bytes(b"\xff\xfe{}")
    with pytest.raises(BundleError, match="cannot be read"):
        Bundle.load(folder)


@pytest.mark.parametrize("name", ["config.json", "model.safetensors"])
def test_a_file_missing(folder, name):
    (folder / name).unlink()
    with pytest.raises(BundleError, match=f"has no {name}"):
        Bundle.load(folder)


def test_no_folder(tmp_path):
    with pytest.raises(BundleError, match="nowhere has no config"):
        Bundle.load(tmp_path / "nowhere")


def test_a_place_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(BundleError, match="file cannot be written"):
        Bundle(CONFIG, tensors()).save(tmp_path / "file")


@pytest.mark.parametrize("value", [np.float32(1), {1, 2}, float("nan")])
def test_a_config_that_json_cannot_hold(value):
    with pytest.raises(BundleError, match="config is not JSON"):
        _ = Bundle({"value": value}, {}).fingerprint


@pytest.mark.parametrize("key", ["format", "tensors", "fingerprint"])
def test_reserved_keys(key):
    with pytest.raises(BundleError, match=f"config has {key}"):
        Bundle({key: 1}, {})


def test_without_safetensors_the_extra_is_named(folder, monkeypatch):
    monkeypatch.setitem(sys.modules, "safetensors.numpy", None)
    with pytest.raises(BundleError, match=r"pip install 'compsketch-milvus\[encoders\]'"):
        Bundle.load(folder)


def test_find_by_name_path_and_default(folder, tmp_path, monkeypatch):
    monkeypatch.setattr(module, "BUNDLES", tmp_path)
    Bundle(CONFIG, {}).save(tmp_path / "default")
    assert find() == find("default") == tmp_path / "default"
    assert find("mein Bündel") == folder
    assert find(folder) == find(str(folder)) == folder
    with pytest.raises(BundleError, match=r"no bundle 'other': .*names: default, mein Bündel"):
        find("other")
    with pytest.raises(BundleError, match="no bundle ''"):
        find("")


def test_find_when_none_are_shipped(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "BUNDLES", tmp_path)
    with pytest.raises(BundleError, match=r"none is installed: pip install compsketch-milvus-bundle"):
        find()


def test_needs_no_torch(folder):
    code = "import sys; from encoders.bundle import Bundle; Bundle.load(sys.argv[1]); sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code, str(folder)], check=False).returncode == 0
