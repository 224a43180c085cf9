"""`compsketch ingest`: what it counts, what it reports and goes on from, how it ends."""

from __future__ import annotations

import re
from pathlib import Path


def test_a_bad_photo_is_reported_and_the_others_go_on(program, photos):
    (photos / "text.jpg").write_text("I am no photo")
    (photos / "empty.png").touch()
    done = program.json("ingest", photos, status=1)
    assert done["indexed"] == 4
    assert {Path(failure["source"]).name for failure in done["failed"]} == {"text.jpg", "empty.png"}
    assert all(failure["reason"] for failure in done["failed"])
    assert program("ingest", photos) == 1
    assert "failed: " in program.err
    assert "text.jpg: " in program.err


def test_of_several_sources_a_missing_one_is_a_failure(program, photos, tmp_path):
    done = program.json("ingest", tmp_path / "nowhere", photos, status=1)
    assert done["indexed"] == 4
    assert [failure["source"] for failure in done["failed"]] == [str(tmp_path / "nowhere")]


def test_an_interrupt_says_what_was_done(program, photos, toy_encoder, monkeypatch):
    encode = toy_encoder.encode_images

    def interrupted(images):
        if toy_encoder.batches:
            raise KeyboardInterrupt
        return encode(images)

    monkeypatch.setattr(toy_encoder, "encode_images", interrupted)
    done = program.json("ingest", photos, "--batch-size", 2, status=130)
    assert re.search(r"interrupted after .* run the same ingest again", done["error"])
    assert program.err == f"error: {done['error']}\n"


def test_a_broken_encoder_is_a_failure_of_the_run(program, photos, toy_encoder, monkeypatch):
    def broken(images):
        raise RuntimeError("out of memory")

    monkeypatch.setattr(toy_encoder, "encode_images", broken)
    assert "out of memory" in program.json("ingest", photos, status=1)["error"]


def test_bad_sources(program, tmp_path):
    program.refused("nowhere", "ingest", tmp_path / "nowhere")
    (tmp_path / "leer").mkdir()
    program.refused("leer.*no photos", "ingest", tmp_path / "leer")
    assert not (tmp_path / "photos.db").exists()  # refused before anything is made
