"""What is known of a photo on another machine before it is fetched: its size, its time of modification, its version."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future
from dataclasses import replace
from datetime import datetime
from email.utils import parsedate_to_datetime
from typing import Any

from compsketch_milvus.errors import CompsketchError
from compsketch_milvus.records import ImageRecord
from compsketch_milvus.sources.access import Access
from compsketch_milvus.sources.naming import checked
from compsketch_milvus.sources.remote import HTTP, check_url, file_system, is_url

__all__ = ["facts_of", "with_facts"]

AHEAD = 32  # questions under way at once
SECONDS = 10  # for one
_CHANGED = ("lastmodified", "last-modified", "updated", "created")  # S3, HTTP, Google, memory


def with_facts(records: Iterator[ImageRecord], access: Access) -> Iterator[ImageRecord]:
    """The records in their order, those at URLs with the facts by which a later ingest sees that they have changed.

    Some are asked about ahead of the one that is given out, so that a manifest does not wait for each. Where a server
    tells none, there are none: its photo is indexed once, and again with `force`.
    """
    waiting: deque[tuple[ImageRecord, Future[dict[str, Any]] | None]] = deque()
    damage: CompsketchError | None = None
    try:
        try:
            for record in records:
                waiting.append((record, _asked(record, access)))
                while len(waiting) > AHEAD or (waiting and waiting[0][1] is None):
                    yield _informed(*waiting.popleft())
        except CompsketchError as error:  # of a source that is no good from there on: told after what came before it
            damage = error
        while waiting:
            yield _informed(*waiting.popleft())
        if damage is not None:
            raise damage
    finally:
        for _, future in waiting:
            if future is not None:
                future.cancel()


def _asked(record: ImageRecord, access: Access) -> Future[dict[str, Any]] | None:
    if record.error is not None or record.fetch is None or not is_url(record.source) or "bytes" in record.fields:
        return None
    if not access.asks(record.id):
        return None
    scheme = check_url(record.source)
    system = file_system(scheme, access.allow_private)
    if not system.async_impl:
        done: Future[dict[str, Any]] = Future()
        try:
            done.set_result(system.info(record.source))
        except OSError as error:
            done.set_exception(error)
        return done
    if scheme in HTTP:
        from compsketch_milvus.sources.web_session import head

        question = head(system, record.source)
    else:
        question = system._info(system._strip_protocol(record.source))
    return asyncio.run_coroutine_threadsafe(asyncio.wait_for(question, SECONDS), system.loop)


def _informed(record: ImageRecord, future: Future[dict[str, Any]] | None) -> ImageRecord:
    if future is None:
        return record
    try:
        facts = facts_of(future.result())
    except Exception:  # what is wrong with it is told when it is fetched
        return record
    return checked(replace(record, fields={**record.fields, **facts}))


def facts_of(info: dict[str, Any]) -> dict[str, Any]:
    """What a file system tells about a file, by the names of the collection; each has names of its own."""
    told = {key.lower(): value for key, value in info.items()}
    facts: dict[str, Any] = {}
    size = str(told.get("size", told.get("content-length", "")))
    if size.isdecimal() and len(size) < 18:
        facts["bytes"] = int(size)
    etag = told.get("etag")
    if isinstance(etag, str) and etag.isprintable():
        facts["etag"] = etag.strip('"')[:256]
    changed = next((told[key] for key in _CHANGED if told.get(key)), None)
    try:
        if isinstance(changed, str):
            iso = changed[:4].isdecimal()
            changed = datetime.fromisoformat(changed.replace("Z", "+00:00")) if iso else parsedate_to_datetime(changed)
        if isinstance(changed, datetime):
            facts["mtime"] = int(changed.timestamp() * 1000)
    except (ValueError, OverflowError):
        pass
    return facts
