"""Rankings to a study's folder: tasks drawn and shuffled by a seed, drawings and photos as pictures of their own."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from hashlib import blake2b
from itertools import chain
from pathlib import Path

import numpy as np
from PIL import Image

from compsketch_milvus.errors import CompsketchError
from compsketch_milvus.sources.access import Access
from compsketch_milvus.sources.stored import stored_record
from compsketch_milvus.study.plan import BAD, GOOD, Plan, Query, Task
from compsketch_milvus.study.rankings import Found, Rankings
from compsketch_milvus.study.store import Store
from encoders.errors import ImageError
from encoders.images import read_image
from encoders.rendering import render

__all__ = ["prepare"]

SIDE, QUALITY = 800, 85  # of a picture: the longest side in pixels, and of a JPEG
MIN_SIDE = 32  # of a picture that people can still see something on
Names = Callable[..., str]


def prepare(
    rankings: Rankings,
    folder: Path,
    *,
    seed: int = 0,
    raters: int = 3,
    every: int = 10,
    progress: Callable[[str, int, int], None] = lambda stage, done, total: None,
) -> Plan:
    """Make a study: of the photos of one rank, one of each method and one by chance, a task; a photo comes once in it.

    Pictures are copies of 800 pixels without metadata: what raters see stays as it was, and tells nothing else.

    Args:
        rankings: what the methods have found.
        folder: where the study will be; made where there is none.
        seed: the same seed and rankings make the same study.
        raters: people a task.
        every: one of so many tasks is a check, where there are checks.
        progress: told of the photos copied.

    Raises:
        CompsketchError: there is a study in the folder already.
        ImageError: a photo cannot be read.
    """
    if (folder / "study.json").exists():
        raise CompsketchError(f"{folder}: there is a study already, perhaps with ratings; prepare another folder")
    name = _names(rankings, seed)
    queries = [_query(number, found, name) for number, found in enumerate(rankings.found)]
    rng = np.random.default_rng(seed)
    tasks = [task for number, query in enumerate(queries) for task in _tasks(number, query, name, rng)]
    tasks = [tasks[place] for place in rng.permutation(len(tasks))]
    checks = list(_checks(rankings.found, name, rng, -(-len(tasks) // every)))
    asked = set(chain.from_iterable(task.photos for task in (*tasks, *checks)))
    sources = {source for found in rankings.found for source in _sources(found)}
    photos = {photo: source for source in sorted(sources) if (photo := name("photo", source)) in asked}
    for part in ("sketches", "photos"):
        (folder / part).mkdir(parents=True, exist_ok=True)
    for query, found in zip(queries, rankings.found, strict=True):
        render(found.sketch, _side(found.sketch.width, found.sketch.height), bare=True).save(
            folder / "sketches" / f"{query.picture}.png"
        )
    for done, (photo, source) in enumerate(photos.items(), start=1):
        _copy(source, folder / "photos" / f"{photo}.jpg")
        progress("photos", done, len(photos))
    plan = Plan(
        tuple(queries), tuple(tasks), tuple(checks), photos, raters, every, seed, rankings.encoders, rankings.data
    )
    (folder / "ratings.db").unlink(missing_ok=True)  # of a preparation that broke off
    Store.create(folder, plan).close()
    plan.save(folder)
    return plan


def _names(rankings: Rankings, seed: int) -> Names:
    """Names that tell nothing to those who do not have the rankings, and that are the same for the same study."""
    state = blake2b(str(seed).encode())
    for found in rankings.found:
        state.update(repr((found.sketch.to_dict(), dict(found.ranked), found.check)).encode())
    key = state.digest()

    def name(*parts: object) -> str:
        return blake2b(repr(parts).encode(), digest_size=8, key=key).hexdigest()

    return name


def _sources(found: Found) -> Iterator[str]:
    yield from chain.from_iterable(found.ranked.values())
    if found.check:
        yield from (found.check.good, *found.check.bad)


def _query(number: int, found: Found, name: Names) -> Query:
    ranked = {method: tuple(name("photo", one) for one in sources) for method, sources in found.ranked.items()}
    return Query(name("sketch", number), found.sketch.to_dict(), ranked)


def _tasks(number: int, query: Query, name: Names, rng: np.random.Generator) -> Iterator[Task]:
    """One a rank; methods that agree there share a photo."""
    for rank in range(max(map(len, query.ranked.values()))):
        photos = sorted({found[rank] for found in query.ranked.values() if rank < len(found)})
        yield Task(name("task", number, rank), number, tuple(_shuffled(photos, rng)), rank + 1)


def _checks(found: Sequence[Found], name: Names, rng: np.random.Generator, most: int) -> Iterator[Task]:
    """As many as somebody who does all tasks will meet, of queries drawn by chance; they look like any other task."""
    known = [(number, one.check) for number, one in enumerate(found) if one.check is not None]
    for place in rng.permutation(len(known))[:most].tolist():
        number, check = known[place]
        expected = {name("photo", check.good): GOOD} | {name("photo", one): BAD for one in check.bad}
        photos = _shuffled(sorted(expected), rng)
        yield Task(name("check", number), number, tuple(photos), expected=tuple(expected[photo] for photo in photos))


def _shuffled(photos: Sequence[str], rng: np.random.Generator) -> list[str]:
    return [photos[place] for place in rng.permutation(len(photos))]


def _side(width: int, height: int) -> tuple[int, int]:
    """A size of `SIDE` at most, and never so thin that nothing is seen."""
    factor = SIDE / max(width, height)
    return max(MIN_SIDE, round(width * factor)), max(MIN_SIDE, round(height * factor))


def _copy(source: str, path: Path) -> None:
    """A photo's pixels and nothing else: its name, its date and where it was taken stay behind."""
    access = Access()
    record = stored_record(source, access)
    if record.error is not None:
        raise ImageError(f"{record.source}: {record.error}")
    photo = read_image(record.content(access.limits.max_bytes), draft=SIDE)
    if max(photo.size) > SIDE:
        photo = photo.resize(_side(*photo.size), Image.Resampling.LANCZOS)
    Image.fromarray(np.asarray(photo)).save(path, quality=QUALITY)  # a fresh picture, without EXIF and the like
