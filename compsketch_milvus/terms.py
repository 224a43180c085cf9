"""The terms of a search: everything about it but what is searched for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from compsketch_milvus.errors import CollectionError

__all__ = ["CONSISTENCY", "MAX_LIMIT", "RERANK", "Terms"]

MAX_LIMIT = 16384  # Milvus' own
RERANK = 200  # through the paper's quantiser, the true top 10 are always among them
CONSISTENCY = ("Bounded", "Session", "Strong", "Eventually")


@dataclass(frozen=True)
class Terms:
    """The terms of a search.

    Args:
        limit: number of hits, 1 to 16384; 1 to 1024 where the index is on a GPU.
        filter: Milvus' filter expression over width, height, source and further fields, such as 'width > 640'. Where
            values come from elsewhere, write names in braces, 'width > {least} and tag in {tags}'.
        filter_params: the values of these names: {"least": 640, "tags": ["sea", "sky"]}.
        threshold: leave out hits with a lower score, -1 to 1.
        rerank: how many photos a lossy index is asked for at least, to be ranked by their stored vectors; 0 takes the
            index' own distances.
        consistency: what a search on a server has to see. "Bounded": all but the last seconds' changes. "Session":
            all that this process stored. "Strong": all that anyone wrote. "Eventually": what is there. None: what was
            stored and deleted through this very object is seen ("Session", or "Strong" for a minute after a deletion),
            else "Bounded". Milvus Lite always shows all.
        group_by: name of a field: no more than `group_size` hits have one value of it; a photo without it is alone.
        group_size: hits a value, from 1.
        hide_duplicates: leave out a photo whose cosine with a better hit is this or more, over 0 to 1, such as 0.98;
            that hit's `duplicates` names it.

    Raises:
        CollectionError: one of them is out of its range.
    """

    limit: int = 20
    filter: str = ""
    filter_params: Mapping[str, Any] | None = None
    threshold: float | None = None
    rerank: int = RERANK
    consistency: str | None = None
    group_by: str | None = None
    group_size: int = 1
    hide_duplicates: float | None = None

    def __post_init__(self) -> None:
        _check_whole("limit", self.limit, 1)
        _check_whole("rerank", self.rerank, 0)
        _check_whole("group_size", self.group_size, 1)
        if self.threshold is not None and not -1 <= self.threshold <= 1:
            raise CollectionError(f"threshold {self.threshold!r}: it has to be a cosine, from -1 to 1")
        if self.consistency is not None and self.consistency not in CONSISTENCY:
            raise CollectionError(f"consistency {self.consistency!r}: there are {', '.join(CONSISTENCY)}")
        if self.group_by is not None and self.group_by in ("", "id", "vector", "$meta"):
            raise CollectionError(f"group_by {self.group_by!r}: name a field that photos can have in common")
        if self.group_size != 1 and self.group_by is None:
            raise CollectionError(f"group_size {self.group_size}: say by which field, with group_by")
        if self.hide_duplicates is not None and not 0 < self.hide_duplicates <= 1:
            raise CollectionError(f"hide_duplicates {self.hide_duplicates!r}: it has to be a cosine, over 0 to 1")

    @property
    def thins(self) -> bool:
        """Whether photos are left out for the sake of others."""
        return self.group_by is not None or self.hide_duplicates is not None


def _check_whole(name: str, value: Any, least: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= MAX_LIMIT:
        raise CollectionError(f"{name} {value!r}: it has to be a whole number from {least} to {MAX_LIMIT}")
