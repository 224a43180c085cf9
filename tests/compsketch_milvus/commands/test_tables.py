"""`compsketch tables` on a small data folder and an untrained bundle, and the sheet that it draws."""

import importlib.util
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from compsketch_milvus.cli import run
from compsketch_milvus.truth_sheet import GAP, HEIGHT, WIDTH, draw
from encoders.evaluation.tables.sheets import Answer, Answered
from encoders.sketch import Sketch, SketchObject

_place = Path(__file__).parents[2] / "encoders" / "evaluation" / "tables" / "conftest.py"
_spec = importlib.util.spec_from_file_location("small_study", _place)
_module = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(_module)
data_folder, bundle = _module.data_folder, _module.bundle


@pytest.fixture
def arguments(data_folder, bundle, tmp_path, monkeypatch):
    """Flags of a run."""
    monkeypatch.setenv("COMPSKETCH_RUNTIME", "torch")
    bundle.save(tmp_path / "bundle")
    where = {"data": data_folder, "out": tmp_path / "out", "work": tmp_path / "work", "encoder": tmp_path / "bundle"}
    return [part for name, path in where.items() for part in (f"--{name}", str(path))] + ["--limit", "8"]


def test_tables_are_written_told_and_kept(arguments, tmp_path, capsys):
    assert run(["tables", "tau", "sheets", *arguments, "--json"]) == 0
    told = capsys.readouterr()
    answer = json.loads(told.out)
    assert [(one["name"], one["kept"], one["error"]) for one in answer["tables"]] == [
        ("tau", False, None),
        ("sheets", False, None),
    ]
    assert "tau: made" in told.err
    written = json.loads((tmp_path / "out" / "tau.json").read_text())
    assert written["provenance"]["command"] == "compsketch tables tau --data DATA --out OUT --limit 8"
    assert written["provenance"]["data"]["queries"] == 8
    assert str(tmp_path) not in (tmp_path / "out" / "tau.md").read_text() + (tmp_path / "out" / "sheets.md").read_text()
    sheets = list((tmp_path / "work" / "sheets").glob("*.jpg"))
    assert sheets
    assert not list((tmp_path / "out").glob("*.jpg"))  # the photos are not ours
    assert run(["tables", "tau", *arguments]) == 0
    assert "tau: as before" in capsys.readouterr().err


def test_a_table_that_fails_is_told_and_the_others_are_there(arguments, tmp_path, capsys):
    (tmp_path / "work").mkdir()
    (tmp_path / "work" / "sheets").write_text("in the way")
    assert run(["tables", "sheets", "tau", *arguments]) == 1
    assert "sheets: " in capsys.readouterr().err
    assert (tmp_path / "out" / "tau.md").exists()


@pytest.mark.parametrize(
    ("change", "message"),
    [(["mehtods"], "no table 'mehtods'; choose from methods, pairs"), (["tau", "--semir", "nowhere"], "nowhere")],
)
def test_mistakes_are_one_line(arguments, capsys, change, message):
    assert run(["tables", *change, *arguments]) == 2
    assert message in capsys.readouterr().err


def test_a_sheet_shows_true_boxes_in_their_objects_colours(tmp_path):
    photo = tmp_path / "grey.png"
    Image.new("RGB", (WIDTH, HEIGHT), "grey").save(photo)
    sketch = Sketch(100, 75, (SketchObject(([[10, 90], [10, 60]],), label="cat"),))
    box = Answer(photo, 0.5, np.array([[0.25, 0.25, 0.75, 0.75]]), (0,))
    nothing = Answer(photo, 0.0, np.zeros((0, 4)), ())
    draw("1 object", [Answered(sketch, (box, nothing))], tmp_path / "sheet.jpg")
    sheet = np.asarray(Image.open(tmp_path / "sheet.jpg"), int)
    assert sheet.shape[1] == GAP + 3 * (WIDTH + GAP)
    coloured = np.ptp(sheet, axis=2) > 60  # the photo is grey
    first, second = (slice(GAP + place * (WIDTH + GAP), GAP + place * (WIDTH + GAP) + WIDTH) for place in (1, 2))
    assert coloured[:, first].any()
    assert not coloured[:, second].any()
