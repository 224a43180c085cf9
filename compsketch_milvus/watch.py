"""A folder and a collection in step: what is added, changed, moved or deleted there is so here.

Two ways lead to a change. The file system's events tell of it at once; a comparison of the whole folder with the whole
collection, at the start and at intervals, finds whatever no event told of. Memory: the names of one folder, one page of
rows, and at most `MAX_WAITING` paths that events named.

Only rows whose source lies below the folder are ever deleted, and only where the folder is surely there: one without a
single photo may be a disk that is not mounted.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from compsketch_milvus.errors import IngestError, ServerError, SourceError
from compsketch_milvus.paging import literal, pages
from compsketch_milvus.records import ImageRecord
from compsketch_milvus.sources import iterate
from compsketch_milvus.sources.archives import container
from compsketch_milvus.sources.naming import file_record, is_photo, source_id

if TYPE_CHECKING:
    from compsketch_milvus.collection import SketchCollection
    from compsketch_milvus.records import PhotoVector
    from compsketch_milvus.tally import IngestProgress

__all__ = ["NoObserver", "Observer", "Watch", "WatchSummary"]

MAX_WAITING = 10_000  # paths; beyond, the whole folder is compared
MAX_FAILED = 10_000  # photos remembered as no good, so that they are not tried and told again and again
ADDED = 1  # watchfiles.Change.added
TICK_SECONDS = 0.25
RETRY_SECONDS = 30.0  # after the server gave way
PATIENCE = 30  # times the settling, for a file that is written to all the time, where only one comparison is made

Facts = tuple[int, int, int]  # a file's size, and its times of modification and of change, as of its permissions, in ns


class Stop(Protocol):
    """What tells a watch to end, such as a threading.Event."""

    def is_set(self) -> bool: ...


class Observer(Protocol):
    """Hears what a watch does, as for metrics; must not block or raise."""

    def running(self) -> AbstractContextManager[Callable[[IngestProgress], None]]:
        """Around each ingest of files that may have changed; gives that one's `progress`."""

    def stored(self, photos: Sequence[PhotoVector]) -> None:
        """The rows of these photos have been acknowledged; called on another thread."""

    def deleted(self, rows: int) -> None:
        """So many rows of files that have gone were deleted."""

    def in_step(self) -> None:
        """Nothing is left to do that is known of; told again and again while that is so."""


class NoObserver:
    """An observer that lets everything pass."""

    @contextmanager
    def running(self) -> Iterator[Callable[[IngestProgress], None]]:
        """See `Observer`."""
        yield lambda now: None

    def stored(self, photos: Sequence[PhotoVector]) -> None:
        """See `Observer`."""

    def deleted(self, rows: int) -> None:
        """See `Observer`."""

    def in_step(self) -> None:
        """See `Observer`."""


@dataclass
class WatchSummary:
    """What a watch did.

    Args:
        indexed: photos written: new ones and changed ones.
        deleted: rows deleted, since their files have gone.
        failed: photos below the folder that could not be indexed as they are now, with the reasons.
        kept: rows that were not deleted though their files are not there, as the folder holds no photo at all.
        comparisons: how often the whole folder was compared.
        unsettled: files left out, as they were still being written.
    """

    indexed: int = 0
    deleted: int = 0
    failed: dict[str, str] = field(default_factory=dict)
    kept: int = 0
    comparisons: int = 0
    unsettled: int = 0


class Watch:
    """Keeps one collection in step with one folder.

    Args:
        collection: open, with its encoder.
        folder: links in its name are resolved.
        batch_size: photos encoded at once.
        settle: seconds for which a file's size and time have to stay the same before it is read.
        rescan: seconds between two comparisons of the whole.
        allow_empty: delete all rows below a folder that holds no photo, or is not there any more.
        stop: ends the watch once it is set; a batch that is under way is stored.
        tell: is given lines for the person who watches.
        observe: hears what is done.

    Raises:
        SourceError: there is no such folder.
    """

    def __init__(
        self,
        collection: SketchCollection,
        folder: str | Path,
        *,
        batch_size: int = 32,
        settle: float = 2.0,
        rescan: float = 300.0,
        allow_empty: bool = False,
        stop: Stop | None = None,
        tell: Callable[[str], None] = lambda line: None,
        observe: Observer | None = None,
    ) -> None:
        self.collection, self.batch_size, self.settle, self.rescan = collection, batch_size, settle, rescan
        self.allow_empty, self.stop, self.tell = allow_empty, stop, tell
        self.observe: Observer = observe or NoObserver()
        self.root = Path(folder).expanduser().resolve()
        if not self.root.is_dir():
            raise SourceError(f"{folder}: no such folder to watch; check the path, and whether it is mounted")
        self.summary = WatchSummary()
        self._waiting: dict[Path, tuple[Facts | None, float]] = {}  # until they settle: their facts, and since when
        self._failed: dict[str, Facts | None] = {}
        self._compare_at = 0.0

    def once(self) -> WatchSummary:
        """Compare the folder with the collection once, and bring the collection in step.

        Raises:
            IngestError, ServerError: the encoder or the collection gave way; another run goes on from there.
        """
        self.compare(self.root)
        end = time.monotonic() + PATIENCE * self.settle
        while self._waiting and time.monotonic() < end and not self._stopped():
            time.sleep(min(TICK_SECONDS, self.settle))
            self._settled()
        self.summary.unsettled = len(self._waiting)
        return self.summary

    def run(self) -> WatchSummary:
        """Keep in step until `stop` is set. A server that goes away is waited for."""
        while not self._stopped():
            with closing(self._events()) as events:
                next(events)  # from here on events are kept, so that the comparison misses nothing
                self._compare_at = 0.0
                self._follow(events)
        self.summary.unsettled = len(self._waiting)
        return self.summary

    def _follow(self, events: Iterator[set[tuple[Any, str]]]) -> None:
        """Heed events, and compare the whole where it is time to, and once more before new events are asked for."""
        compared = False
        for changes in events:
            if self._stopped():
                return
            try:
                self._heed(changes)
                self._settled()
                if time.monotonic() >= self._compare_at:
                    if compared:
                        return  # the folder's events are asked for anew: it may have been mounted meanwhile
                    self._compare_at = time.monotonic() + self.rescan
                    self.compare(self.root)
                    compared = True
                if compared and not self._waiting:
                    self.observe.in_step()
            except (IngestError, ServerError) as error:
                self.tell(f"{error}; trying again in {RETRY_SECONDS:g} s")
                self._compare_at = time.monotonic() + RETRY_SECONDS
                compared = False

    def _stopped(self) -> bool:
        return self.stop is not None and self.stop.is_set()

    # --- events ---

    def _events(self) -> Generator[set[tuple[Any, str]], None, None]:
        """The file system's changes, and an empty set now and then; only those where there are no events to be had."""
        try:
            import watchfiles
        except ImportError:
            raise SourceError('watch needs watchfiles: pip install "compsketch-milvus[watch]"') from None
        try:
            yield from watchfiles.watch(
                self.root,
                watch_filter=None,
                rust_timeout=int(TICK_SECONDS * 1000),
                yield_on_timeout=True,
                stop_event=self.stop,
            )
        except (OSError, RuntimeError) as error:  # too few watches allowed; the folder is gone
            self.tell(f"{self.root}: gives no events ({error}); it is compared every {self.rescan:g} s, no sooner")
        while not self._stopped():
            yield set()
            time.sleep(TICK_SECONDS)

    def _heed(self, changes: Iterable[tuple[Any, str]]) -> None:
        gone = []
        for change, name in changes:
            path = Path(name)
            if any(part.startswith(".") for part in path.relative_to(self.root).parts):
                continue
            if os.path.isdir(path):  # False also where nobody may look
                if change == ADDED:
                    self.compare(path)  # it may have come with all that is in it, which no event tells
            elif not os.path.lexists(path):
                self._waiting.pop(path, None)
                self._forget(path.as_posix())
                gone.append(path)
            elif is_photo(path.name):
                self._wait_for(path)
        self._delete_files([path for path in gone if is_photo(path.name)])
        for path in gone:
            if not is_photo(path.name):
                self._delete_below(path)  # a folder, perhaps

    def _wait_for(self, path: Path) -> None:
        if len(self._waiting) < MAX_WAITING:
            self._waiting.setdefault(path, (None, time.monotonic()))
        else:
            self._compare_at = min(self._compare_at, time.monotonic() + self.settle)

    def _settled(self) -> None:
        """Index the files that have not changed for long enough."""
        now, ripe = time.monotonic(), []
        for path, (facts, since) in list(self._waiting.items()):
            found = _facts(path)
            if found is None:
                del self._waiting[path]  # gone again, and an event tells, or the next comparison
            elif found != facts:
                self._waiting[path] = (found, now)
            elif now - since >= self.settle:
                del self._waiting[path]
                ripe.append(path)
        if ripe:
            self._index(file_record(path) for path in ripe)

    # --- the two halves of a comparison ---

    def compare(self, part: Path) -> None:
        """Bring the rows in step with the files below a folder of the watched one."""
        if part == self.root:
            self.summary.comparisons += 1
            self.summary.kept = 0
        self._index(self._ripe(_photos(part)))
        if not self._stopped():
            self._delete_below(part)

    def _ripe(self, records: Iterator[ImageRecord]) -> Iterator[ImageRecord]:
        """The records of files that were not written to just now; those wait."""
        for record in records:
            changed = record.fields.get("mtime")
            if changed is not None and abs(time.time() - changed / 1000) < self.settle and record.path is not None:
                self._wait_for(record.path)
            else:
                yield record

    def _index(self, records: Iterator[ImageRecord]) -> None:
        """Index what is new or changed; what was no good and has not changed is not tried again."""
        with self.observe.running() as progress:
            done = self.collection.ingest(
                self._untried(records),
                batch_size=self.batch_size,
                stop=self.stop,
                progress=progress,
                stored=self.observe.stored,
            )
        self.summary.indexed += done.indexed
        if done.indexed:
            self.tell(f"{done.indexed} indexed")
        for failure in done.failed:
            if len(self._failed) < MAX_FAILED:
                self._failed[failure.source] = _facts(Path(failure.source))
                self.summary.failed[failure.source] = failure.reason
            self.tell(f"failed: {failure.source}: {failure.reason}")

    def _untried(self, records: Iterator[ImageRecord]) -> Iterator[ImageRecord]:
        for record in records:
            if self._stopped():
                return  # what was read is stored
            if record.source in self._failed:
                if self._failed[record.source] == _facts(Path(record.source)):
                    continue
                self._forget(record.source)
            yield record

    def _forget(self, source: str) -> None:
        self._failed.pop(source, None)
        self.summary.failed.pop(source, None)

    def _delete_files(self, paths: list[Path]) -> None:
        """Delete the rows of files of which an event says that they have gone."""
        for start in range(0, len(paths), 1000):
            sources = [path.as_posix() for path in paths[start : start + 1000]]
            there = self.collection.existing([source_id(source) for source in sources])
            self._delete([source for source in sources if source_id(source) in there])

    def _delete_below(self, part: Path) -> None:
        """Delete the rows below a folder whose files have gone, and forget failures of what is not so any more."""
        below = f"{part.as_posix().rstrip('/')}/"
        for source, facts in list(self._failed.items()):
            if source.startswith(below) and _facts(Path(source)) != facts:
                self._forget(source)
        for page in pages(self.collection.call, "id", ["source"], filter=_source_begins(below)):
            # A row under another id than its source's was not made from the file: it is its owner's.
            self._delete(
                [
                    row["source"]
                    for row in page
                    if row["source"].startswith(below) and row["id"] == source_id(row["source"])
                ]
            )
            if self._stopped():
                return

    def _delete(self, sources: list[str]) -> None:
        """Delete the rows of those sources that are files no more."""
        gone = [source for source in sources if _is_gone(source)]
        if not gone:
            return
        # Asked after each file: a disk that went away in between would have taken all of them.
        if not self.allow_empty and next(_photos(self.root), None) is None:
            self.summary.kept += len(gone)
            self.tell(
                f"{self.root}: holds no photo, and {len(gone)} rows below it are kept; "
                "if it is mounted and meant to be empty, give --allow-empty"
            )
            return
        deleted = self.collection.delete([source_id(source) for source in gone])
        self.summary.deleted += deleted
        self.observe.deleted(deleted)
        self.tell(f"{deleted} deleted")
        for source in gone:
            self._forget(source)


def _photos(folder: Path) -> Iterator[ImageRecord]:
    """The photos below a folder; none where it holds none, or is not there."""
    try:
        yield from iterate(folder)
    except SourceError:
        return


def _facts(path: Path) -> Facts | None:
    try:
        status = os.stat(path)
    except (OSError, ValueError):
        return None
    return status.st_size, status.st_mtime_ns, status.st_ctime_ns


def _is_gone(source: str) -> bool:
    """Whether a row's file is surely not there. A photo inside an archive goes with the archive."""
    for path in {source, container(source) or source}:
        try:
            os.stat(path)
        except (FileNotFoundError, NotADirectoryError):
            continue
        except (OSError, ValueError):  # no permission, a network that is away: nobody knows
            return False
        return False
    return True


def _source_begins(prefix: str) -> str:
    """A filter for sources that begin nearly so: what Milvus takes for a wildcard ends it, and the rest is checked."""
    plain = prefix
    for wildcard in "%_\\":
        plain = plain.partition(wildcard)[0]
    return f"source like {literal(plain + '%')}"
