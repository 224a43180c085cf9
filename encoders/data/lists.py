"""The text files that come with the sets: lists of names, a line each, and CSVs."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from encoders.errors import DataError


def lines(path: Path) -> list[str]:
    """The lines of a list that are not blank.

    Raises:
        DataError: A line is no UTF-8.
    """
    found = []
    for number, line in enumerate(path.read_bytes().splitlines(), start=1):
        try:
            found.append(line.decode())
        except UnicodeDecodeError as error:
            raise DataError(
                f"{path}: line {number} is no UTF-8: {line[:40]!r}; take the set's own list, or save it as UTF-8"
            ) from error
    return [line for line in found if line.strip()]


def records(path: Path, file: IO[str]) -> Iterator[list[str]]:
    """The cells of each line of a CSV.

    Args:
        path: Where it is.
        file: It, opened with ``newline=""``.

    Raises:
        DataError: A cell is longer than any there is, as it is from where a quote is left open.
    """
    reader, done = csv.reader(file), 0
    try:
        for cells in reader:
            yield cells
            done = reader.line_num
    except csv.Error as error:
        raise DataError(f"{path}: line {done + 1}: {error}; is a quote left open there?") from error
