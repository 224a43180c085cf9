"""Making tables, one after another: what was made of the same before is taken, and one that fails stops no other."""

from __future__ import annotations

import json
import logging
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from hashlib import blake2b
from importlib import import_module
from pathlib import Path

from encoders.errors import CompsketchError
from encoders.evaluation.tables import writing
from encoders.evaluation.tables.sheets import Draw
from encoders.evaluation.tables.study import Budget, Study
from encoders.evaluation.tables.table import Table

log = logging.getLogger(__name__)

TRAINED = ("losses", "backbones", "ladder")  # take a budget
BESIDE = {"pairs": ("methods", "pairs"), "weights": ("queries", "weights")}  # in the module of another table


@dataclass(frozen=True)
class Made:
    """What became of a table.

    Attributes:
        name: Its name.
        seconds: Taken.
        kept: It was made before, of the same.
        error: Why there is none; None where there is.
    """

    name: str
    seconds: float
    kept: bool = False
    error: str | None = None


def make(names: Sequence[str], study: Study, budget: Budget, draw: Draw, out: Path) -> Iterator[Made]:
    """Make tables and write each as soon as it is there.

    Args:
        names: As `check` gives them.
        study: What they are made of.
        budget: Of the tables that train.
        draw: Draws contact sheets.
        out: Folder for ``<name>.md`` and ``<name>.json``.

    Yields:
        What became of each.
    """
    for name in names:
        started = time.monotonic()
        try:
            table, kept = _made(name, study, budget, draw)
            writing.write(table, out)
        except (CompsketchError, OSError) as error:
            yield Made(name, time.monotonic() - started, error=str(error))
        except Exception as error:  # a fault of ours: tell all of it, but hours of other tables are not to be lost
            log.exception("table %s", name)
            yield Made(name, time.monotonic() - started, error=f"{type(error).__name__}: {error}")
        else:
            yield Made(name, time.monotonic() - started, kept)


def _made(name: str, study: Study, budget: Budget, draw: Draw) -> tuple[Table, bool]:
    if name == "sheets":  # its pictures may be gone, and it is quick
        return import_module("encoders.evaluation.tables.sheets").table(study, draw), False
    place, function = BESIDE.get(name, (name.replace("-", "_"), "table"))
    maker: Callable[..., Table] = getattr(import_module(f"encoders.evaluation.tables.{place}"), function)
    given = (study, budget) if name in TRAINED else (study,)
    return kept(name, study, budget if name in TRAINED else None, sys.modules[maker.__module__].__file__,
                lambda: maker(*given))  # fmt: skip


def kept(
    name: str, study: Study, budget: Budget | None, code: str | None, fresh: Callable[[], Table]
) -> tuple[Table, bool]:
    """The table that was made of the same, else a fresh one, which is kept.

    The same are: name, seed, data, encoders, machine, limit and budget, and the table's own module.

    Returns:
        The table, and whether it was kept.
    """
    inputs = [asdict(study.provenance(name, budget)), Path(code).read_text(encoding="utf-8") if code else ""]
    digest = blake2b(json.dumps(inputs, sort_keys=True, default=dict).encode(), digest_size=8).hexdigest()
    file = study.work / "tables" / f"{name}-{digest}.json"
    if file.exists():
        return Table.from_dict(json.loads(file.read_text(encoding="utf-8"))), True
    table = fresh()
    file.parent.mkdir(parents=True, exist_ok=True)
    part = file.with_suffix(".new")
    part.write_text(writing.to_json(table), encoding="utf-8")
    part.replace(file)
    return table, False
