"""What an ingest stores photos with, in place of upsert: parts, each imported when it is whole."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import TYPE_CHECKING

from compsketch_milvus.bulk.importing import WAIT, Imported, Importer
from compsketch_milvus.bulk.jobs import Jobs, jobs_of
from compsketch_milvus.bulk.parts import PART_BYTES, CollectionFacts, Part, Parts, leftover
from compsketch_milvus.records import PhotoVector

if TYPE_CHECKING:
    from compsketch_milvus.collection import SketchCollection

__all__ = ["BulkWriter"]

ALONE = "all"  # name of a worker that has the whole source to itself
_log = logging.getLogger(__name__)


class BulkWriter:
    """Photos to parts, and parts to Milvus. While a part is imported, the ingest waits; what it read meanwhile queues.

    Args:
        collection: opened, on a server.
        staging: a folder that the server sees under the same path, or a URL of the server's own bucket.
        worker: name of this process, where several ingest into the collection at the same time; each then takes up
            what a run of its own name left, and one alone what any run left.
        wait: seconds for one import job.
        jobs: the collection's import jobs; None for those of the address and the login that the settings name.
        part_bytes: of a part's rows.
        keep: put imported files aside in place of removing them.

    Raises:
        CollectionError: the collection is in a Milvus Lite file, which imports nothing.
        SettingsError: a staging of no known kind, or a library is missing.
    """

    def __init__(
        self,
        collection: SketchCollection,
        staging: str,
        *,
        worker: str | None = None,
        wait: int = WAIT,
        jobs: Jobs | None = None,
        part_bytes: int = PART_BYTES,
        keep: bool = False,
    ) -> None:
        self._facts, self._staging, self._worker = CollectionFacts.of(collection), staging, worker
        self._importer = Importer(
            collection, jobs or jobs_of(collection), wait=wait, progress=self._waits_for, keep=keep
        )
        self._parts = Parts(self._facts, staging, worker=worker or ALONE, part_bytes=part_bytes)
        self._whole: list[Part] = []
        self._ids: list[str] = []  # of photos that are in the collection, and not yet told
        self.status = ""

    def recover(self) -> Imported:
        """Before an ingest: end what an earlier one began, its jobs and its parts.

        Raises:
            ImportJobError: a job failed, or did not end in time.
            ServerError: Milvus, or the staging, is away or refuses.
        """
        found = Imported()
        try:
            self._importer.settle()
            for part in leftover(self._facts, self._staging, worker=self._worker):
                found += self._importer.take(part)
        finally:
            self.status = ""
        if photos := found.rows + found.upserted:
            _log.warning("%d photos that an earlier run had staged are in the collection now", photos)
        return found

    def store(self, photos: Sequence[PhotoVector]) -> list[str]:
        """Take photos, after importing what is whole; returns ids of photos of earlier calls, now in the collection.

        Raises:
            CollectionError: a photo that does not fit, by its id; none of them was taken.
            ImportJobError, ServerError: as `import_parts`; none of them was taken, and the call may be made again.
        """
        self._import_whole()
        self._parts.add(photos)
        return self._told()

    def finish(self) -> list[str]:
        """Import what is left; returns the ids of the photos that are in the collection by it.

        Raises:
            ImportJobError, ServerError: as `import_parts`; the call may be made again.
        """
        self._parts.finish()
        self._import_whole()
        return self._told()

    def _import_whole(self) -> None:
        self._whole += self._parts.take()
        try:
            while self._whole:
                ids = self._whole[0].ids()
                self._importer.take(self._whole[0])
                self._whole.pop(0)
                self._ids += ids
        finally:
            self.status = ""

    def _told(self) -> list[str]:
        ids, self._ids = self._ids, []
        return ids

    def _waits_for(self, words: str) -> None:
        self.status = words
