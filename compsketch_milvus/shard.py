"""A worker's share of a source: each photo belongs to exactly one worker, by its id and nothing else."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass

from compsketch_milvus.errors import SourceError

__all__ = ["Shard"]


@dataclass(frozen=True)
class Shard:
    """The photos of worker `index` of `count`; those of all workers together are the whole source, none twice.

    The hash of an id decides, so that the share is the same on every machine, whatever the order and whatever else the
    source holds.

    Args:
        index: 1 to `count`.
        count: number of workers.

    Raises:
        SourceError: `index` is out of range.
    """

    index: int
    count: int

    def __post_init__(self) -> None:
        if not 1 <= self.index <= self.count:
            raise SourceError(f"shard {self.index}/{self.count}: give I/N with 1 <= I <= N, such as 2/3")

    @classmethod
    def parse(cls, text: str) -> Shard:
        """A shard written as `I/N`.

        Raises:
            SourceError: it is not written like that, or out of range.
        """
        match = re.fullmatch(r"([0-9]{1,9})/([0-9]{1,9})", text)
        if match is None:
            raise SourceError(f"shard {text!r}: give I/N with 1 <= I <= N, such as 2/3")
        return cls(int(match[1]), int(match[2]))

    def holds(self, id: str) -> bool:
        """Whether the photo of this id is this worker's."""
        digest = hashlib.sha256(id.encode("utf-8", "surrogatepass")).digest()
        return int.from_bytes(digest[:8], "big") % self.count == self.index - 1
