"""What the command line says and where: results on stdout; progress, warnings and errors on stderr.

With ``--json`` stdout holds exactly one JSON object, ``{"error": "…"}`` where a command could not run.
"""

from __future__ import annotations

import contextlib
import functools
import json
import logging
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any, ParamSpec

import typer

from compsketch_milvus.errors import CompsketchError, IngestError, SettingsError
from encoders import tracing
from encoders.request import current, request

if TYPE_CHECKING:
    from rich.progress import Progress
    from typing_extensions import Self

    from compsketch_milvus.ingest import IngestProgress

__all__ = [
    "DONE",
    "FAILURES",
    "INTERRUPTED",
    "MISUSE",
    "IngestBar",
    "StageBar",
    "command",
    "emit",
    "lasting",
    "note",
    "refuse",
    "table",
]

DONE, FAILURES, MISUSE, INTERRUPTED = 0, 1, 2, 130
# What brings libraries that only some commands need.
EXTRAS = {
    "fastapi": "web",
    "starlette": "web",
    "uvicorn": "web",
    "scipy": "evaluate",
    "faiss": "evaluate",
    "prometheus_client": "metrics",
}

P = ParamSpec("P")


def command(function: Callable[P, int | None]) -> Callable[P, None]:
    """Turn a function into a command: its return value is the exit status, a user's mistake one line and status 2."""
    return _command(function, lasting=False)


def lasting(function: Callable[P, int | None]) -> Callable[P, None]:
    """`command` for what goes on until it is ended: each thing it does has an id and a trace of its own."""
    return _command(function, lasting=True)


def _command(function: Callable[P, int | None], *, lasting: bool) -> Callable[P, None]:
    @functools.wraps(function)
    def run(*args: P.args, **kwargs: P.kwargs) -> None:
        _log_to_stderr()
        try:
            _trace(f"compsketch-{function.__name__}")
            with contextlib.nullcontext() if lasting else _one_request(f"command {function.__name__}"):
                status = function(*args, **kwargs) or DONE
        except BrokenPipeError:
            raise  # `| head`: the parser knows how to end quietly
        except ModuleNotFoundError as error:
            if (error.name or "").split(".")[0] in ("", "compsketch_milvus", "encoders"):
                raise  # the installation itself is broken: not for the user to mend
            extra = EXTRAS.get((error.name or "").split(".")[0], "all")
            hint = f'this needs {error.name}, which is not installed: pip install "compsketch-milvus[{extra}]"'
            refuse(hint, bool(kwargs.get("as_json")))
            status = MISUSE
        except (CompsketchError, OSError) as error:
            refuse(str(error), bool(kwargs.get("as_json")))
            status = FAILURES if isinstance(error, IngestError) else MISUSE  # the one that did part of its work
        except KeyboardInterrupt:
            refuse("interrupted", bool(kwargs.get("as_json")))
            status = INTERRUPTED
        raise typer.Exit(status)

    return run


def _trace(service: str) -> None:
    """Set OpenTelemetry up if the settings say so. What is wrong with them, those say who need them."""
    from compsketch_milvus.settings import load_settings

    with contextlib.suppress(SettingsError):
        if load_settings().tracing:
            tracing.start(service)


@contextlib.contextmanager
def _one_request(name: str) -> Iterator[None]:
    with request(), tracing.span(name):
        yield


class _Lines(logging.Formatter):
    """A record as a line, with the id of its request: a server's log may say more under it."""

    def formatMessage(self, record: logging.LogRecord) -> str:
        line, id = super().formatMessage(record), current()
        return f"{line} (request {id})" if id else line


def _log_to_stderr() -> None:
    """Only this program's own warnings: grpc and Milvus Lite log tracebacks for calls that pymilvus merely tries."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_Lines("%(levelname)s: %(message)s"))
    for name in ("compsketch_milvus", "encoders"):
        logging.getLogger(name).handlers[:] = [handler]
    logging.getLogger("compsketch_milvus.indexing").setLevel(logging.INFO)  # which index is built, and why


def refuse(message: str, as_json: bool) -> None:
    """Say in one line why there is no result."""
    line = " ".join(message.split())
    note(f"error: {line}")
    if as_json:
        emit({"error": line}, True, lambda: None)


def emit(result: dict[str, Any], as_json: bool, human: Callable[[], None]) -> None:
    """Print a result: as one JSON object, or by ``human`` for people."""
    if as_json:
        sys.stdout.write(json.dumps(result, ensure_ascii=False, allow_nan=False) + "\n")
        sys.stdout.flush()
    else:
        human()


def note(line: str) -> None:
    """Say one line on stderr."""
    sys.stderr.write(line.encode("utf-8", "backslashreplace").decode("utf-8") + "\n")
    sys.stderr.flush()


def table(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Print aligned columns on stdout, one line a row whatever its length: a path is there to be copied.

    Args:
        columns: Headings; one that ends in ``>`` is right-aligned. All empty: no heading.
        rows: Their cells.
    """
    lines = [[str(cell) for cell in row] for row in rows]
    lines = [[column.rstrip(">") for column in columns], *lines] if any(columns) else lines
    widths = [max(len(line[place]) for line in lines) for place in range(len(columns))] if lines else []
    for line in lines:
        cells = zip(line, columns, widths, strict=True)
        padded = [cell.rjust(width) if column.endswith(">") else cell.ljust(width) for cell, column, width in cells]
        typer.echo("  ".join(padded).rstrip())


def _progress(*columns: Any) -> Progress:
    from rich.console import Console
    from rich.progress import Progress

    console = Console(stderr=True)
    return Progress(*columns, console=console, transient=True, disable=not console.is_terminal)


class _Bar:
    """A context in which a bar of rich is shown."""

    _bar: Progress

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.stop()


class IngestBar(_Bar):
    """The progress of an ingest on stderr: count, rate, time left, failures; a line now and then where no one watches.

    Args:
        every: Seconds between two lines where stderr is no terminal.
    """

    def __init__(self, every: float = 10.0) -> None:
        from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn

        self.last: IngestProgress | None = None
        self._every, self._said, self._waiting = every, time.monotonic(), False
        self._bar = _progress(
            TextColumn("ingest"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[rate]:.1f}/s"),
            TimeRemainingColumn(),
            TextColumn("{task.fields[failed]} failed", style="red"),
            TextColumn("{task.fields[status]}", style="yellow", markup=False),
        )
        self._task = self._bar.add_task("ingest", total=None, rate=0.0, failed=0, status="")

    def __call__(self, now: IngestProgress) -> None:
        """Show how far the ingest is."""
        self.last = now
        done = now.indexed + now.skipped + now.failed
        shown: dict[str, Any] = {"rate": now.rate, "failed": now.failed, "status": now.status}
        self._bar.update(self._task, completed=done, total=now.total, **shown)
        news = bool(now.status) and not self._waiting
        self._waiting = bool(now.status)
        if self._bar.disable and (news or time.monotonic() - self._said >= self._every):
            self._said = time.monotonic()
            note(f"ingest: {self.counts()}, {now.rate:.1f}/s" + f"; {now.status}" * self._waiting)

    def counts(self) -> str:
        """The counts in words."""
        now = self.last
        if now is None:
            return "nothing read"
        total = "" if now.total is None else f" of {now.total}"
        done = now.indexed + now.skipped + now.failed
        return f"{done}{total} photos: {now.indexed} indexed, {now.skipped} skipped, {now.failed} failed"


class StageBar(_Bar):
    """One bar on stderr for work in named stages, each reporting (stage, done, total)."""

    def __init__(self) -> None:
        from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn

        self._bar = _progress(
            TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
        )
        self._tasks: dict[str, Any] = {}

    def __call__(self, stage: str, done: int, total: int) -> None:
        """Show how far a stage is."""
        if stage not in self._tasks:
            self._tasks[stage] = self._bar.add_task(stage, total=total)
        self._bar.update(self._tasks[stage], completed=done)
