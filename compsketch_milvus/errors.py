"""The plugin's part of the family of exceptions; each message names the input and the way out."""

from __future__ import annotations

from typing import TYPE_CHECKING

from encoders.errors import CompsketchError, ServerError

if TYPE_CHECKING:
    from compsketch_milvus.tally import IngestSummary

__all__ = [
    "CollectionError",
    "CompsketchError",
    "FingerprintError",
    "IngestError",
    "ServerError",
    "SettingsError",
    "SourceError",
]


class CollectionError(CompsketchError):
    """A collection that cannot be opened, written or searched as asked."""


class FingerprintError(CollectionError):
    """A collection whose vectors were made by another encoder: the two spaces have nothing to do with each other."""


class SourceError(CompsketchError):
    """A source of photos that does not exist, holds none, or is of no known kind."""


class SettingsError(CompsketchError):
    """A setting (flag, environment variable or line of a file) that is misspelt or out of range."""


class IngestError(CompsketchError):
    """An ingest that broke off. What was written stays written, and running it again goes on from there.

    The fault itself is the `__cause__`; `summary` has the counts, and `indexed` of it the photos written before.
    """

    def __init__(self, message: str, summary: IngestSummary) -> None:
        super().__init__(message)
        self.summary = summary
        self.indexed = summary.indexed
