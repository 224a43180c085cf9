"""`train projection --collection` and `reproject`: the walk from one projection to another, and what is refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from encoders.bundle import Bundle, find
from encoders.projection import Projection

COUNT, F = 280, 64


@pytest.fixture
def photos(noise) -> Path:
    return noise(COUNT)


@pytest.fixture
def bundle(tmp_path) -> Path:
    pytest.importorskip("safetensors")
    matrix = np.linalg.qr(np.random.default_rng(0).normal(size=(F, 16)))[0].T.astype(np.float32)
    config = {"name": "toy", "dim": 16, "calibration": {"groups": {}}}
    Bundle(config, Projection(matrix, np.zeros(16, np.float32)).to_tensors()).save(tmp_path / "one")
    return tmp_path / "one"


@pytest.fixture
def program(program, toy, monkeypatch):
    """`compsketch` with the toy's networks and the projection of the bundle that is asked for."""
    monkeypatch.setattr(
        "compsketch_milvus.encoder.connect", lambda spec=None, **options: toy.BundledEncoder(Bundle.load(find(spec)))
    )
    return program


@pytest.fixture
def fit(program, bundle):
    """Arguments that fit a projection to 8 dimensions on the collection `photos_1`."""
    return ("train", "projection", "--collection", "photos_1", "--encoder", bundle, "--dim", 8, "--m", 4)


def run_in(program, arguments, *more, **options):
    """A subcommand: the address of the database comes behind its name."""
    name, stage, *rest = arguments
    where = ("--uri", program.folder / "photos.db")
    return program.json(name, stage, *where, *rest, *more, database=False, **options)


def test_from_one_projection_to_another_and_back(program, photos, bundle, fit, tmp_path) -> None:
    kept, two = tmp_path / "kept", tmp_path / "two"
    ingest = ("ingest", photos, "--collection", "photos_1", "--encoder", bundle)
    assert program.json(*ingest, "--keep-features", kept)["indexed"] == COUNT
    said = run_in(program, fit, "--features", kept, "--out", two)
    new = Bundle.load(two)
    assert said["results"] == {"projection": str(two)}
    assert (said["fingerprint"], said["projection"]) == (new.fingerprint, new.config["projection"])
    assert (said["kept"], said["unread"], said["dropped"]) == (COUNT, [], ["calibration"])

    first = program.json("reproject", "photos_1", "photos_2", "--encoder", two, "--features", kept, "--alias", "photos")
    assert first.pop("seconds") >= 0
    assert first == {
        "old": "photos_1", "new": "photos_2", "rows": COUNT, "there": 0, "projected": COUNT, "encoded": 0,
        "pruned": 0, "missing": [], "missing_dropped": 0, "alias": "photos", "before": None,
        "encoder": {"name": "toy", "fingerprint": new.fingerprint},
    }  # fmt: skip
    info = program.json("info", "--collection", "photos", "--encoder", two)
    assert (info["collection"], info["count"], info["dim"]) == ("photos_2", COUNT, 8)
    program.refused(r"'photos_2' \(alias 'photos'\)", "info", "--collection", "photos", "--encoder", bundle)

    assert program("reproject", "photos_2", "photos_1", "--encoder", bundle, "--alias", "photos") == 0
    assert f"photos_1: 0 projected, 0 encoded again, {COUNT} there already, 0 missing, of {COUNT} photos" in program.out
    assert "photos now names photos_1: readers see it when they open the collection again" in program.out
    assert program.json("info", "--collection", "photos")["collection"] == "photos_1"


def test_what_cannot_be_read_is_named_and_the_status_is_1(program, photos, bundle, fit, tmp_path) -> None:
    program("ingest", photos, "--collection", "photos_1", "--encoder", bundle)
    gone = photos / "005.png"
    gone.unlink()
    two = tmp_path / "two"
    (one,) = run_in(program, fit, "--out", two, status=1)["unread"]
    assert one["source"] == str(gone)
    assert program("reproject", "photos_1", "photos_2", "--encoder", two, "--alias", "photos") == 1
    assert f"missing: {gone}: " in program.err
    assert "photos was left as it is: bring back what is missing" in program.err
    assert f"photos_2: 0 projected, {COUNT - 1} encoded again, 0 there already, 1 missing, of {COUNT}" in program.out
    answer = program.json("reproject", "photos_1", "photos_2", "--encoder", two, "--alias", "photos", status=1)
    assert ([failure["source"] for failure in answer["missing"]], answer["alias"]) == ([str(gone)], None)


def test_people_read_what_was_fitted_and_what_is_dropped(program, photos, bundle, fit, tmp_path) -> None:
    program("ingest", photos, "--collection", "photos_1", "--encoder", bundle)
    name, stage, *rest = fit
    two = tmp_path / "two"
    assert program(name, stage, "--uri", tmp_path / "photos.db", *rest, "--out", two, database=False) == 0
    first, second = program.out.splitlines()
    assert first == f"projection 2 ({Bundle.load(two).fingerprint}): {two}"
    assert second == f"fitted on {COUNT} of {COUNT} photos, 0 from kept features; 0 could not be read"
    assert program.err.endswith("not carried over, as it was measured with the old projection: calibration\n")


@pytest.mark.parametrize("out", [(), ("--out", "one")])
def test_the_new_bundle_needs_a_folder_of_its_own(program, bundle, fit, out, monkeypatch, tmp_path) -> None:
    monkeypatch.chdir(tmp_path)
    program.refused("give the new bundle a folder of its own", *fit, *out, database=False)


def test_a_projection_is_fitted_on_either_of_two(program, tmp_path) -> None:
    both = ("--data", tmp_path, "--collection", "photos")
    for arguments in ((), both):
        program.refused("give --data FOLDER .* or --collection NAME", "train", "projection", *arguments, database=False)


def test_features_of_other_networks_are_refused(program, photos, bundle, tmp_path) -> None:
    kept = tmp_path / "kept"
    program("ingest", photos, "--collection", "photos_1", "--encoder", bundle, "--keep-features", kept)
    sound = Bundle.load(bundle)
    Bundle({**sound.config, "image_size": 64}, sound.tensors).save(tmp_path / "other")
    names = ("reproject", "photos_1", "photos_2", "--encoder", tmp_path / "other")
    program.refused("features of the networks nw1-", *names, "--features", kept)
