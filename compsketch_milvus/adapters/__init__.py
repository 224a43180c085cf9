"""Sketch search inside other frameworks: a module each, which needs the extra of its name and is imported by it alone.

What both take a query to be: stroke JSON or SVG as text, the path of a sketch's file, a dictionary, or a Sketch.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Protocol

from encoders.sketch import Sketch

__all__ = ["Found", "Searchable", "facts"]


class Found(Protocol):
    """A hit of either kind of search."""

    @property
    def id(self) -> Any: ...
    @property
    def source(self) -> str: ...
    @property
    def score(self) -> float: ...
    @property
    def distance(self) -> float: ...
    @property
    def fields(self) -> dict[str, Any]: ...
    @property
    def confidence(self) -> float | None: ...


class Searchable(Protocol):
    """A SketchCollection, or what is attached to an application's collection (`attach`)."""

    def search(self, sketch: Sketch, limit: int = ..., filter: str = ..., **options: Any) -> Iterable[Found]:
        """The best hits first."""
        ...


def facts(hit: Found) -> dict[str, Any]:
    """A hit as metadata: id, source, score, distance, fields, and the confidence where it is known."""
    known = {"id": hit.id, "source": hit.source, "score": hit.score, "distance": hit.distance, "fields": hit.fields}
    return known if hit.confidence is None else {**known, "confidence": hit.confidence}
