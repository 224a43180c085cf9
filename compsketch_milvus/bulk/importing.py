"""Parts to rows of a collection, each photo once, whatever an earlier run left half done."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from compsketch_milvus.bulk.jobs import ImportJobError, Job, Jobs, jobs_of
from compsketch_milvus.bulk.parts import CollectionFacts, Part, rewritten
from compsketch_milvus.contents import LONG
from compsketch_milvus.errors import ServerError
from compsketch_milvus.paging import among

if TYPE_CHECKING:
    from compsketch_milvus.collection import SketchCollection

__all__ = ["WAIT", "Imported", "import_parts", "settle"]

WAIT = 3600  # seconds for one job
POLL = 0.5  # seconds between two questions
GOES_ON = "run the same again: it waits for the job, and goes on from there"
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
    jobs = jobs or jobs_of(collection)
    say = progress or (lambda _: None)
    settle(collection, jobs, wait=wait, progress=say)
    total = Imported()
    for part in parts:
        total += _import(collection, part, jobs, wait, say, keep)
    return total


def settle(
    collection: SketchCollection, jobs: Jobs, *, wait: int = WAIT, progress: Callable[[str], None] = lambda _: None
) -> None:
    """Wait for jobs that run already, as of a run that was killed, and let everybody see what jobs brought in.

    Raises:
        ImportJobError: one did not end in time.
        ServerError: Milvus is away or refuses.
    """
    listed = jobs.listed()
    for job in listed:
        if not (job.done or job.failed):
            _log.info("collection %r: waiting for import job %s, which an earlier run began", collection.name, job.id)
            _ended(jobs, job.id, "", time.monotonic() + wait, wait, progress)
    if any(not job.failed for job in listed):
        _show(collection)


def _import(
    collection: SketchCollection, part: Part, jobs: Jobs, wait: int, say: Callable[[str], None], keep: bool
) -> Imported:
    held = collection.existing(part.ids())
    upserted = 0
    if held:  # changed photos, or imported before the last run was killed
        for photos in part.photos():
            upserted += collection.upsert([photo for photo in photos if photo.id in held])
        remaining = rewritten(part, CollectionFacts.of(collection), held)
        if remaining is None:
            return Imported(upserted=upserted)
        part = remaining
    job = jobs.create(part.path)
    deadline = time.monotonic() + wait
    ended = _ended(jobs, job, part.path, deadline, wait, say)
    if ended.failed:
        raise ImportJobError(
            f"import job {job} failed: {ended.reason or ended.state}; its file {part.path} is kept: "
            "put that right (the server has to be able to read the file under this very path) and run the same again, "
            "or remove the file, and its photos are encoded again"
        )
    if ended.rows is not None and ended.rows != part.rows:
        raise ImportJobError(
            f"import job {job} brought in {ended.rows} of the {part.rows} rows of {part.path}, which is kept; "
            "run the same again: what is missing is stored then"
        )
    _verify(collection, part, job, deadline, say)
    part.remove(keep=keep)
    return Imported(part.rows, upserted, (job,))


def _ended(jobs: Jobs, job: str, path: str, deadline: float, wait: int, say: Callable[[str], None]) -> Job:
    """The job at its end. An answer that fails to come is asked for again until the deadline."""
    last = "no answer"
    while time.monotonic() < deadline:
        try:
            now = jobs.ask(job)
        except ServerError as error:
            if not error.transient:
                raise
            last = str(error)
        else:
            if now.done or now.failed:
                return now
            last = f"{now.state}, {now.percent} %"
        say(f"import job {job}: {last}")
        time.sleep(min(POLL, max(0.0, deadline - time.monotonic())))
    of = f" of {path}, which is kept," if path else ""
    raise ImportJobError(f"import job {job}{of} has not ended after {wait} s ({last}); {GOES_ON}")


def _show(collection: SketchCollection) -> None:
    """Make imported rows visible now; a loaded collection would show them some ten seconds later."""
    collection.call("show what was imported", "refresh_load", timeout=LONG)


def _verify(collection: SketchCollection, part: Part, job: str, deadline: float, say: Callable[[str], None]) -> None:
    """Wait until the collection holds each photo of a part, and see to it that it is once.

    A photo that somebody else stored while it was imported is there twice: it is upserted, which leaves one.
    """
    with suppress(ServerError):  # it may take longer than an answer may: the counts tell
        _show(collection)
    for photos in part.photos():
        ids = [photo.id for photo in photos]
        while (there := _count(collection, ids)) < len(ids):
            if time.monotonic() > deadline:
                raise ImportJobError(
                    f"import job {job} has ended, and of {len(ids)} of its photos {there} are in the collection; "
                    f"{part.path} is kept: run the same again: what is missing is stored then"
                )
            say(f"import job {job}: waiting until its rows are seen")
            time.sleep(POLL)
        if there > len(ids):
            _log.warning("%d photos came from elsewhere, too, while they were imported; stored again", there - len(ids))
            collection.upsert(photos)


def _count(collection: SketchCollection, ids: list[str]) -> int:
    """Rows of these ids, an id that is there twice counted twice."""
    asked: dict[str, Any] = {"output_fields": ["count(*)"], "consistency_level": "Strong", "filter": among("id", ids)}
    answer = collection.call("count photos", "query", **asked)
    return int(answer[0]["count(*)"])
