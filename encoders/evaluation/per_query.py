"""Every score of an evaluation on a line of its own, so that any table can be made again without ranking again."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from encoders.errors import DataError

SUFFIXES = (".jsonl", ".parquet")


def check(path: str | Path) -> Path:
    """Refuse, before the work begins, a file that could not be written at its end.

    Raises:
        DataError: Another suffix, or no such folder.
    """
    path = Path(path)
    if path.suffix not in SUFFIXES:
        raise DataError(f"{path}: scores by query are written to {' or '.join(SUFFIXES)}; give a name that ends so")
    if not path.parent.is_dir():
        raise DataError(f"{path}: there is no folder {path.parent}; make it first")
    return path


def rows(
    queries: Sequence[Mapping[str, Any]],
    possible: np.ndarray,
    scores: np.ndarray,
    methods: Sequence[str],
    taus: Sequence[float],
) -> Iterator[dict[str, Any]]:
    """A row for each query, tau and method.

    Args:
        queries: (Q,) what to say of each query.
        possible: (T, Q) how many photos are relevant.
        scores: (T, Q, M, 4) AP, NDCG, P@20 and P@200.
        methods: (M,) names.
        taus: (T,).

    Yields:
        What is said of the query, and ``tau``, ``relevant``, ``method``, ``AP``, ``NDCG``, ``P@20``, ``P@200``.
    """
    for place, tau in enumerate(taus):
        for query, about in enumerate(queries):
            for i, method in enumerate(methods):
                values = dict(zip(("AP", "NDCG", "P@20", "P@200"), scores[place, query, i].tolist(), strict=True))
                yield {**about, "tau": tau, "relevant": int(possible[place, query]), "method": method, **values}


def write(path: Path, table: Iterator[dict[str, Any]]) -> None:
    """Write the rows, as parquet where the name says so, else as JSON lines."""
    if path.suffix == ".parquet":
        import pyarrow
        import pyarrow.parquet

        pyarrow.parquet.write_table(pyarrow.Table.from_pylist(list(table)), path)
        return
    with path.open("w", encoding="utf-8") as file:
        file.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in table)
