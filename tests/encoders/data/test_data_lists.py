"""Lists and CSVs that are not what the sets come with: each is named, with the line."""

from __future__ import annotations

from pathlib import Path

import pytest

from encoders.data import openimages as open_images
from encoders.data import sketchy, tuberlin, voc
from encoders.data.lists import lines, records
from encoders.data.report import Report
from encoders.errors import DataError
from encoders.evaluation.data import read_sketches

LATIN = "cat/1.svg\nkäfer/2.svg\n".encode("latin-1")


def test_lines_are_those_with_something_in_them(tmp_path):
    (tmp_path / "list.txt").write_bytes("Käfer 1\r\n\n  \ncat -1\n".encode())
    assert lines(tmp_path / "list.txt") == ["Käfer 1", "cat -1"]


@pytest.mark.parametrize("name", ["voc", "tuberlin", "sketchy"])
def test_a_list_that_is_no_utf_8_is_named_with_its_line(tmp_path, name):
    place = {"voc": "ImageSets/Main/train.txt", "tuberlin": "svg/filelist.txt", "sketchy": "info/invalid-error.txt"}
    for folder in ("Annotations", "JPEGImages", "svg/cat", "sketches/cat"):
        (tmp_path / folder).mkdir(parents=True)
    for folder in ("svg", "sketches"):
        (tmp_path / folder / "cat" / "1.svg").touch()
    path: Path = tmp_path / place[name]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(LATIN)
    read = {
        "voc": lambda: voc.read(tmp_path, ["train"], Report()),
        "tuberlin": lambda: tuberlin.read(tmp_path, Report()),
        "sketchy": lambda: list(sketchy.read(tmp_path, Report())),
    }[name]
    with pytest.raises(DataError, match=rf"{path.name}: line 2 is no UTF-8: b'k\\xe4fer/2.svg'; take the set's own"):
        read()


@pytest.mark.parametrize("name", ["class-descriptions-boxable.csv", "train-annotations-bbox.csv"])
def test_a_quote_left_open_is_named_with_its_line(openimages, name):
    path = openimages.csv / name
    path.write_text(path.read_text().splitlines(keepends=True)[0] + '"' + "a,b\n" * 40_000)
    with pytest.raises(DataError, match=rf"{name}: line 2: field larger than field limit .*; is a quote left open"):
        list(open_images.read(openimages.csv, ["train"], Report()))


def test_records_may_hold_line_ends(tmp_path):
    (tmp_path / "a.csv").write_text('1,"two\nlines"\n2,one\n')
    with (tmp_path / "a.csv").open(newline="") as file:
        assert list(records(tmp_path / "a.csv", file)) == [["1", "two\nlines"], ["2", "one"]]


def test_sketches_that_are_no_utf_8_are_named_with_their_line(tmp_path):
    (tmp_path / "cats.ndjson").write_bytes(b'{"word": "k\xe4fer"}\n')
    with pytest.raises(DataError, match=r"cats\.ndjson: line 1 is not JSON"):
        read_sketches(tmp_path / "cats.ndjson")
