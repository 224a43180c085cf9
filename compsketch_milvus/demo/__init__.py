"""The demonstration: photos into Milvus Lite, the shipped sketches asked, a page of contact sheets."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from compsketch_milvus.collection import SketchCollection
from compsketch_milvus.demo.page import write_page
from compsketch_milvus.demo.scenes import CUTOUTS, gather
from compsketch_milvus.sheet import contact_sheet, save
from encoders.sketch import Sketch

if TYPE_CHECKING:
    from compsketch_milvus.encoder import Encoder
    from compsketch_milvus.ingest import IngestProgress, IngestSummary
    from compsketch_milvus.search import Hit

__all__ = ["SKETCHES", "DemoQuery", "DemoResult", "run", "shipped_sketches"]

SKETCHES = Path(__file__).with_name("sketches")
HITS = 12


@dataclass(frozen=True)
class DemoQuery:
    """One sketch, what it found, and where its contact sheet lies."""

    title: str
    sketch: Sketch
    hits: list[Hit]
    seconds: float
    sheet: Path


@dataclass(frozen=True)
class DemoResult:
    """What the demonstration did; ``page`` is the thing to open, ``uri`` and ``collection`` hold the photos."""

    page: Path
    uri: str
    collection: str
    photos: int
    ingest: IngestSummary
    queries: list[DemoQuery]

    def to_dict(self) -> dict[str, Any]:
        """For ``--json``."""
        return {
            "page": str(self.page),
            "uri": self.uri,
            "collection": self.collection,
            "photos": self.photos,
            "indexed": self.ingest.indexed,
            "skipped": self.ingest.skipped,
            "failed": [{"source": failure.source, "reason": failure.reason} for failure in self.ingest.failed],
            "queries": [
                {
                    "sketch": query.title,
                    "sheet": str(query.sheet),
                    "seconds": query.seconds,
                    "hits": [
                        {"rank": r, "source": hit.source, "score": hit.score} for r, hit in enumerate(query.hits, 1)
                    ],
                }
                for query in self.queries
            ],
        }


def shipped_sketches(*, composed: bool) -> dict[str, Sketch]:
    """The sketches that come with the package, by title.

    Args:
        composed: Those that show only objects of the composed scenes; else those for everyday photos.
    """
    sketches = {path.stem.replace("-", " "): Sketch.open(path) for path in sorted(SKETCHES.glob("*.json"))}
    return {
        title: sketch
        for title, sketch in sketches.items()
        if all(item.label in CUTOUTS for item in sketch.objects) == composed
    }


def run(
    encoder: Encoder,
    out: Path,
    *,
    photos: Path | None = None,
    scenes: int = 300,
    progress: Callable[[IngestProgress], None] | None = None,
) -> DemoResult:
    """Ingest, search with each shipped sketch, write the page. A second run encodes nothing twice.

    Args:
        encoder: Encodes photos and sketches.
        out: Folder for everything that is made: photos, database, contact sheets, ``index.html``.
        photos: Photos to use; None composes scenes from photos that installed packages carry.
        scenes: How many scenes to compose.
        progress: Called as the ingest goes on.

    Raises:
        CompsketchError: No photos, a package that carries them is missing, or the folder cannot be used.
    """
    (out / "sheets").mkdir(parents=True, exist_ok=True)
    source = photos
    if source is None:
        source = out / "photos"
        gather(source, scenes=scenes)
    # One database, but one collection for each set of photos and each encoder: nothing else's photos among the hits.
    mark = hashlib.sha256(f"{source.resolve()} {encoder.fingerprint}".encode()).hexdigest()[:8]
    name, uri = f"demo_{mark}", str(out / "demo.db")
    with SketchCollection.open(name, encoder, uri=uri) as collection:
        summary = collection.ingest(source, progress=progress)
        sketches = shipped_sketches(composed=photos is None)
        collection.search(next(iter(sketches.values())), 1)  # the first search of all warms up: it is not to be timed
        queries = [_ask(collection, title, sketch, out) for title, sketch in sketches.items()]
        result = DemoResult(out / "index.html", uri, name, collection.count(), summary, queries)
    write_page(result, encoder.name)
    return result


def _ask(collection: SketchCollection, title: str, sketch: Sketch, out: Path) -> DemoQuery:
    from compsketch_milvus.search import search

    found = search(collection, sketch, HITS)
    sheet = out / "sheets" / f"{title.replace(' ', '-')}.jpg"
    save(contact_sheet(sketch, found.hits, title=title), sheet)
    return DemoQuery(title, sketch, found.hits, sum(found.seconds.values()), sheet)
