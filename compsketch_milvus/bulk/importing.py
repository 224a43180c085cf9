"""Parts to rows of a collection, each photo once, whatever an earlier run left half done."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from compsketch_milvus.bulk.jobs import ImportJobError, Job, Jobs, jobs_of
from compsketch_milvus.bulk.parts import CollectionFacts, Part, rewritten
from compsketch_milvus.contents import LONG
from compsketch_milvus.errors import ServerError
from compsketch_milvus.paging import among

if TYPE_CHECKING:
    from compsketch_milvus.collection import SketchCollection

__all__ = ["WAIT", "Imported", "Importer", "import_parts"]

WAIT = 3600  # seconds for one job
POLL = 0.5  # seconds between two questions
IDS_A_CALL = 10_000  # of at most 64 bytes: a message may have 64 MB
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Imported:
    """What came of parts: `rows` by import, `upserted` of photos that the collection held already; the jobs' ids."""

    rows: int = 0
    upserted: int = 0
    jobs: tuple[str, ...] = ()

    def __add__(self, other: Imported) -> Imported:
        return Imported(self.rows + other.rows, self.upserted + other.upserted, self.jobs + other.jobs)


def import_parts(
    collection: SketchCollection,
    parts: Iterable[Part],
    *,
    wait: int = WAIT,
    progress: Callable[[str], None] | None = None,
    jobs: Jobs | None = None,
    keep: bool = False,
) -> Imported:
    """Import parts, one after the other; each is removed once the collection holds every photo of it once.

    May be called again with the same parts after any error, and after a process was killed: nothing is doubled.

    Args:
        collection: opened, on a server.
        parts: finished ones.
        wait: seconds for one job, and for its rows to be seen.
        progress: called with what is being waited for, in words.
        jobs: the collection's; None for those of the address and the login that the settings name.
        keep: put the files aside, under `imported/` of the staging, in place of removing them.

    Raises:
        CollectionError: the collection is in a Milvus Lite file.
        ImportJobError: a job failed, or did not end in time; it names the job, the reason, the file and the way on.
        ServerError: Milvus, or the staging, is away or refuses.
    """
    importer = Importer(collection, jobs or jobs_of(collection), wait=wait, progress=progress, keep=keep)
    importer.settle()
    return sum((importer.take(part) for part in parts), Imported())


class Importer:
    """Takes parts into a collection; for the arguments and the errors of its methods see `import_parts`."""

    def __init__(
        self,
        collection: SketchCollection,
        jobs: Jobs,
        *,
        wait: int = WAIT,
        progress: Callable[[str], None] | None = None,
        keep: bool = False,
    ) -> None:
        self._collection, self._jobs, self._wait, self._keep = collection, jobs, wait, keep
        self._say = progress or (lambda _: None)
        self._settled = False

    def settle(self) -> None:
        """Wait for jobs that run already, as of a run that was killed, and let everybody see what jobs brought in."""
        listed = self._jobs.listed()
        for job in listed:
            if not (job.done or job.failed):
                self._ended(job.id, time.monotonic() + self._wait)
        if any(not job.failed for job in listed):
            self._show()
        self._settled = True

    def take(self, part: Part) -> Imported:
        """Import a part. After an error, the same part may be given again."""
        if not self._settled:
            self.settle()
        self._settled = False  # until it went well: a job may have been made, and its answer lost
        ids = part.ids()
        left: Part | None = replace(part, rows=len(ids))  # it has fewer than at first, if it is given again
        taken = Imported()
        if held := self._held(ids):  # changed photos, or imported by a run that was killed
            taken = self._upsert(part, held)
            left = rewritten(part, CollectionFacts.of(self._collection), held)
        if left is not None:
            taken += self._import(left)
        self._settled = True
        return taken

    def _held(self, ids: list[str]) -> set[str]:
        """Which of the photos the collection holds."""
        held: set[str] = set()
        for some in _chunks(ids):
            if self._count(some):
                held |= self._collection.existing(some)
        return held

    def _upsert(self, part: Part, held: set[str]) -> Imported:
        upserted = 0
        for photos in part.photos():
            upserted += self._collection.upsert([photo for photo in photos if photo.id in held])
        return Imported(upserted=upserted)

    def _import(self, part: Part) -> Imported:
        job = self._jobs.create(part.path)
        deadline = time.monotonic() + self._wait
        ended = self._ended(job, deadline, part.path)
        if ended.failed:
            raise ImportJobError(
                f"import job {job} failed: {ended.reason or ended.state}; its file {part.path} is kept: put that right "
                "(the server has to be able to read the file under this very path) and run the same again, or remove "
                "the file, and its photos are encoded again"
            )
        if ended.rows is not None and ended.rows != part.rows:
            raise ImportJobError(
                f"import job {job} brought in {ended.rows} of the {part.rows} rows of {part.path}, which is kept; "
                "run the same again: what is missing is stored then"
            )
        self._verify(part, job, deadline)
        part.remove(keep=self._keep)
        return Imported(part.rows, jobs=(job,))

    def _ended(self, job: str, deadline: float, path: str = "") -> Job:
        """The job at its end. An answer that fails to come is asked for again until the deadline."""
        last = "no answer"
        while time.monotonic() < deadline:
            try:
                now = self._jobs.ask(job)
            except ServerError as error:
                if not error.transient:
                    raise
                last = str(error)
            else:
                if now.done or now.failed:
                    return now
                last = f"{now.state}, {now.percent} %"
            self._say(f"import job {job}: {last}")
            time.sleep(min(POLL, max(0.0, deadline - time.monotonic())))
        of = f" of {path}, which is kept," if path else ""
        raise ImportJobError(
            f"import job {job}{of} has not ended after {self._wait} s ({last}); "
            "run the same again: it waits for the job, and goes on from there"
        )

    def _show(self) -> None:
        """Make imported rows visible now; by itself, Milvus 2.3 shows them some ten seconds later."""
        self._say("waiting until imported rows are seen")
        self._collection.call("show what was imported", "refresh_load", timeout=LONG)

    def _verify(self, part: Part, job: str, deadline: float) -> None:
        """Wait until the collection holds each photo of a part, and see to it that it is once.

        A photo that somebody else stored while it was imported is there twice: it is upserted, which leaves one.
        """
        with suppress(ServerError):  # it may take longer than an answer may: the counts tell
            self._show()
        for ids in _chunks(part.ids()):
            while (there := self._count(ids)) < len(ids):
                if time.monotonic() > deadline:
                    raise ImportJobError(
                        f"import job {job} has ended, and of {len(ids)} of its photos {there} are in the collection; "
                        f"{part.path} is kept: run the same again: what is missing is stored then"
                    )
                self._say(f"import job {job}: waiting until its rows are seen")
                time.sleep(POLL)
            if there > len(ids):
                twice = there - len(ids)
                _log.warning("%d photos came from elsewhere, too, while they were imported; stored again", twice)
                self._upsert(part, set(ids))

    def _count(self, ids: list[str]) -> int:
        """Rows of these ids, an id that is there twice counted twice."""
        asked: dict[str, Any] = {"filter": among("id", ids)}
        asked |= {"output_fields": ["count(*)"], "consistency_level": "Strong"}
        answer = self._collection.call("count photos", "query", **asked)
        return int(answer[0]["count(*)"])


def _chunks(ids: list[str]) -> Iterator[list[str]]:
    """Ids to be asked for at once: an answer takes Milvus 0.2 to 0.4 s, of however many."""
    for first in range(0, len(ids), IDS_A_CALL):
        yield ids[first : first + IDS_A_CALL]
