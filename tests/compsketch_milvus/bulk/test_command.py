"""`compsketch ingest --via bulk`, where it is refused; tests/integration/test_bulk.py runs it on a server."""

from __future__ import annotations


def test_bulk_needs_a_place_for_its_files(program, photos_folder, monkeypatch) -> None:
    program.refused(r"--via bulk writes files .* give --staging FOLDER", "ingest", photos_folder, "--via", "bulk")
    program.refused("--staging and --keep-staged are for --via bulk", "ingest", photos_folder, "--staging", "/x")
    monkeypatch.setenv("COMPSKETCH_STAGING", "ftp://host/x")
    monkeypatch.setenv("COMPSKETCH_STAGING_SECRET", "hush")
    program.refused("Milvus Lite does not import files; .*--via upsert", "ingest", photos_folder, "--via", "bulk")
    assert "hush" not in program.err


def test_an_ingest_by_upsert_ignores_where_files_would_wait(program, photos_folder, monkeypatch) -> None:
    monkeypatch.setenv("COMPSKETCH_STAGING", "/nowhere")
    assert program.json("ingest", photos_folder)["indexed"] == 3
