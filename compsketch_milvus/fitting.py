"""A projection (section 3.4) for the photos that a collection holds, instead of those a bundle was trained on."""

from __future__ import annotations

import os
import random
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from compsketch_milvus.encoder import Projecting
from compsketch_milvus.errors import CompsketchError
from compsketch_milvus.features import FeatureStore, facts
from compsketch_milvus.sources.walk import Row, dynamic, record_of, rows
from compsketch_milvus.tally import Failure
from encoders.errors import ImageError
from encoders.images import Limits, load_photo
from encoders.spool import spooled

if TYPE_CHECKING:
    from compsketch_milvus.collection import SketchCollection
    from encoders.bundle import Bundle

__all__ = ["Fitted", "Sample", "fit_projection", "sample_features"]

BATCH = 16  # photos encoded at once

Progress = Callable[[str, int, int], None]


@dataclass(frozen=True)
class Sample:
    """Features of some of a collection's photos.

    Args:
        features: (N, F) float16, mapped from the disk.
        rows: photos of the collection, of which these were drawn.
        kept: how many of the N were kept features; the others were encoded anew.
        unread: photos that were drawn and could not be read any more, each with its reason.
    """

    features: np.ndarray
    rows: int
    kept: int
    unread: list[Failure]


@dataclass(frozen=True)
class Fitted:
    """A bundle with a new projection.

    Args:
        bundle: the new one.
        sample: that it was fitted on.
        dropped: keys of the old bundle's configuration that say nothing of the new one, and are not in it.
    """

    bundle: Bundle
    sample: Sample
    dropped: list[str]


def fit_projection(
    collection: SketchCollection,
    bundle: Bundle,
    *,
    samples: int = 8000,
    dim: int | None = None,
    m: int = 16,
    seed: int = 0,
    features: str | Path | None = None,
    progress: Progress | None = None,
) -> Fitted:
    """Fit PCA and OPQ on a sample of a live collection's photos.

    Args:
        collection: opened with the encoder of `bundle`.
        bundle: whose networks are kept. Calibration and metrics do not carry over.
        samples: photos, at most; 256 is the least. Memory does not grow with them but for some 1 KB each;
            a temporary file holds 2 F bytes of each, which is read 3 or 4 times.
        dim: d of the new vectors; None for the bundle's.
        m: bytes of the product quantiser to rotate for; divides `dim`.
        seed: of the sample and of OPQ.
        features: folder of kept features; what it lacks is read anew from its source.
        progress: called with a stage, photos done and their number.

    Raises:
        CompsketchError: too few photos are left to fit on, or as `encoders.training.refitting.refit`.
        ServerError: Milvus cannot be reached or refuses.
    """
    from encoders.training.refitting import refit

    sample = sample_features(collection, samples, seed=seed, features=features, progress=progress)
    told = {
        "collection": collection.name,
        "rows": sample.rows,
        "photos": len(sample.features),
        "date": datetime.now(timezone.utc).date().isoformat(),
    }
    try:
        fitted = refit(bundle, sample.features, told, dim, m, seed)
    except CompsketchError as error:
        lost = f", and {len(sample.unread)} more could not be read" if sample.unread else ""
        raise CompsketchError(
            f"collection {collection.name!r}, {len(sample.features)} photos{lost}: {error}"
        ) from error
    return Fitted(fitted, sample, sorted(set(bundle.config) - set(fitted.config)))


def sample_features(
    collection: SketchCollection,
    samples: int,
    *,
    seed: int = 0,
    features: str | Path | None = None,
    progress: Progress | None = None,
) -> Sample:
    """Features of photos of a collection, each as likely as any other; from kept ones, else from sources.

    They go to a temporary file as they come (`encoders.spool`). Memory holds a part of the kept ones or a batch of
    photos, and the rows that were drawn: some 1 KB a photo.
    """
    say = progress or (lambda stage, done, total: None)
    encoder = collection.encoder
    if not isinstance(encoder, Projecting):
        raise CompsketchError(f"encoder {encoder.name!r} gives no features to fit on: use a bundle on this machine")
    store = None if features is None else FeatureStore(features, encoder)
    total, drawn = _draw(collection, samples, seed)
    lacking = dict(drawn)
    unread: list[Failure] = []

    def blocks() -> Iterator[np.ndarray]:
        for ids, found in _kept(store, drawn) if store is not None else ():
            for id in ids:
                del lacking[id]
            say("kept features", len(drawn) - len(lacking), len(drawn))
            yield found
        done = len(drawn) - len(lacking)
        for found, failures in _encoded(collection, list(lacking.values())):
            unread.extend(failures)
            done += len(found) + len(failures)
            say("photos", done, len(drawn))
            yield found

    embedded = spooled(blocks(), encoder.features)
    return Sample(embedded, total, len(drawn) - len(lacking), unread)


def _draw(collection: SketchCollection, samples: int, seed: int) -> tuple[int, dict[str, Row]]:
    """How many rows there are, and some of them by id: a reservoir, with the memory of the sample."""
    rng, seen = random.Random(seed), 0
    drawn: list[Row] = []
    for page in rows(collection):
        for row in page:
            seen += 1
            if len(drawn) < samples:
                drawn.append(row)
            elif (place := rng.randrange(seen)) < samples:
                drawn[place] = row
    return seen, {row["id"]: row for row in drawn}


def _kept(store: FeatureStore, drawn: dict[str, Row]) -> Iterator[tuple[list[str], np.ndarray]]:
    """The features that are kept of the photos as they are in the collection, the newest: ids and (B, F), by part."""
    wanted = {id: facts(row["source"], dynamic(row)) for id, row in drawn.items()}
    for part in store.parts():
        if not wanted:
            return
        places = {photo.id: n for n, photo in enumerate(part.photos()) if wanted.get(photo.id) == photo.facts}
        if places:
            for id in places:
                del wanted[id]
            yield list(places), part.features(list(places.values()))


def _encoded(collection: SketchCollection, drawn: list[Row]) -> Iterator[tuple[np.ndarray, list[Failure]]]:
    """Features of photos read anew, batch by batch, and those that cannot be read."""
    encoder, limits = collection.encoder, Limits()

    def read(row: Row) -> np.ndarray | Failure:
        try:
            return load_photo(record_of(row).content(limits.max_bytes), encoder.image_size, limits=limits).pixels
        except (ImageError, OSError) as error:
            return Failure(row["source"], str(error).removeprefix(f"{row['source']}: "))

    with ThreadPoolExecutor(os.cpu_count()) as threads:
        for start in range(0, len(drawn), BATCH):
            photos = list(threads.map(read, drawn[start : start + BATCH]))
            pixels = [photo for photo in photos if not isinstance(photo, Failure)]
            yield encoder.embed_images(pixels), [photo for photo in photos if isinstance(photo, Failure)]
