"""`compsketch train`: the one line for a folder without data, a stage not run yet, or a package that lacks."""

from __future__ import annotations

import pytest

from compsketch_milvus.cli import run


def test_train_refuses_a_folder_without_data(program, tmp_path):
    program.refused("has no", "train", "all", "--data", tmp_path, "--out", tmp_path / "out", database=False)


def test_train_names_the_stage_that_has_to_run_before(program, tmp_path):
    arguments = ("--data", tmp_path, "--out", tmp_path)
    program.refused(r"objects\.pt.*compsketch train objects", "train", "spatial", *arguments, database=False)
    (tmp_path / "objects.pt").touch()
    program.refused(r"spatial\.pt.*compsketch train spatial", "train", "projection", *arguments, database=False)


@pytest.mark.parametrize("ours", [True, False])
def test_a_missing_package_is_named_but_a_broken_installation_is_not_hidden(program, tmp_path, monkeypatch, ours):
    def missing(*_, **work):
        raise ModuleNotFoundError(name="encoders.training" if ours else "faiss")

    monkeypatch.setattr("compsketch_milvus.commands.train._run", missing)
    if ours:
        with pytest.raises(ModuleNotFoundError):
            run(["train", "all", "--data", str(tmp_path)])
    else:
        program.refused(r"needs faiss.*pip install", "train", "all", "--data", tmp_path, database=False)
