"""Query vectors to hits: what is asked of Milvus, how much of it, and what is made of the answers.

A lossy index is asked for `rerank` photos with their stored vectors, in one call: a second one for the vectors, or for
the sources of the few photos shown, takes longer than they take to come along. The photos shown are ranked by these.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from compsketch_milvus.contents import count
from compsketch_milvus.diversity import pick
from compsketch_milvus.errors import CollectionError
from compsketch_milvus.filters import filter_arguments
from compsketch_milvus.ranking import Hit, ranked
from compsketch_milvus.steps import Call, Steps, Work
from compsketch_milvus.terms import Terms

if TYPE_CHECKING:
    from compsketch_milvus.collection import SketchCollection

__all__ = ["Found", "reach", "retrieve"]

QUERIES_A_CALL = 64
ANSWER_BYTES = 16 * 1024 * 1024  # of the answer to several queries
MOST_BYTES = 64 * 1024 * 1024  # of the answer to one; as Python's floats it takes eight times the memory
ROW_BYTES = 512  # an id, a source and fields, roughly
GROWTH = 4  # times as many photos are fetched, where too few of them can be shown
EXHAUSTIVE = ("FLAT", "BRUTE_FORCE", "GPU_BRUTE_FORCE")  # these look at every row
_log = logging.getLogger(__name__)


@dataclass
class Found:
    """What was found for one vector.

    Args:
        hits: best first.
        searched: seconds, its share of the calls.
        ranked: seconds, its share of the ranking.
        short: why there are fewer hits than asked for, though there may be more photos.
    """

    hits: list[Hit]
    searched: float = 0.0
    ranked: float = 0.0
    short: str | None = None


def retrieve(collection: SketchCollection, vectors: np.ndarray, terms: Terms) -> Steps[list[Found]]:
    """Find the photos nearest to each vector.

    Args:
        collection: where to search.
        vectors: (n, d) of unit length, checked.
        terms: of the search.

    Raises:
        CollectionError: more is asked for than the index or one answer can give, or Milvus refuses the filter.
    """
    request = _Request(collection, terms)
    found = [Found([]) for _ in vectors]
    waiting, depth = list(range(len(vectors))), request.depth
    while waiting:
        unfilled: list[int] = []
        size = request.queries_a_call(depth)
        for batch in (waiting[start : start + size] for start in range(0, len(waiting), size)):
            start_time = time.perf_counter()
            answers, exhausted = yield from request.fetch(vectors[batch], depth)
            searched = time.perf_counter()
            filled = yield Work(partial(request.rank, vectors, batch, answers, found), "rerank")
            finished = time.perf_counter()
            for place, rows, full in zip(batch, answers, filled, strict=True):
                found[place].searched += (searched - start_time) / len(batch)
                found[place].ranked += (finished - searched) / len(batch)
                if not (full or exhausted or len(rows) < depth):
                    unfilled.append(place)
        if depth == request.reach:
            for place in unfilled:
                found[place].short = request.shortage(place, len(found[place].hits))
            break
        waiting, depth = unfilled, min(request.reach, GROWTH * depth)
    return found


def reach(collection: SketchCollection, terms: Terms) -> int:
    """The most photos that a search with such terms can ask for."""
    return _Request(collection, terms).reach


class _Request:
    """What a search asks of Milvus.

    Attributes:
        reach: the most photos that can be fetched for a vector.
        depth: how many are fetched at first.
    """

    def __init__(self, collection: SketchCollection, terms: Terms) -> None:
        self.collection, self.terms, self.index = collection, terms, collection.index
        self._reranks = self.index.lossy and terms.rerank > 0
        self._vectors = self._reranks or terms.hide_duplicates is not None
        self._row_bytes = ROW_BYTES + (4 * collection.dim if self._vectors else 0)
        self._filter = filter_arguments(terms.filter, terms.filter_params, collection.facts)
        self._level = terms.consistency or collection.consistency
        self.reach = min(self.index.max_hits, MOST_BYTES // self._row_bytes)
        for name, asked in (("limit", terms.limit), ("rerank", terms.rerank if self._reranks else 0)):
            if asked > self.reach:
                raise CollectionError(f"{name} {asked}: {self._bound()}")
        self.depth = max(terms.limit, terms.rerank if self._reranks else 0)
        if terms.thins:
            self.depth = min(self.reach, max(self.depth, GROWTH * terms.limit))

    def _bound(self) -> str:
        if self.reach == self.index.max_hits:
            return f"index {self.index.type} gives at most {self.reach} photos"
        why = "hide_duplicates needs them" if self.terms.hide_duplicates else "rerank=0 fetches none"
        return f"with vectors of {self.collection.dim}-D an answer holds at most {self.reach} photos; {why}"

    def queries_a_call(self, depth: int) -> int:
        """How many queries' answers go into one message."""
        return max(1, min(QUERIES_A_CALL, ANSWER_BYTES // (depth * self._row_bytes)))

    def fetch(self, vectors: np.ndarray, depth: int) -> Steps[tuple[list[list[dict[str, Any]]], bool]]:
        """Rows for each vector, and whether these are all that there are."""
        answers = yield self._search(vectors, depth, dict(self.index.search_params))
        fewest = min(len(rows) for rows in answers)
        if fewest >= depth or self.index.type in EXHAUSTIVE:
            return (yield Work(partial(_flat, answers))), False
        # A search through a graph, or through some of the lists, can miss what a narrow filter lets pass.
        terms, level = self.terms, self._level
        there = yield from count(self.collection, terms.filter, terms.filter_params, consistency=level)
        if fewest >= min(there, depth):
            return (yield Work(partial(_flat, answers))), False
        if there <= self.reach and there * (4 * self.collection.dim + ROW_BYTES) <= MOST_BYTES:
            every = yield self._query(there)
            return (yield Work(lambda: [[dict(row) for row in every] for _ in vectors])), True
        if "nprobe" in self.index.search_params:
            answers = yield self._search(
                vectors, depth, {**self.index.search_params, "nprobe": self.index.params["nlist"]}
            )
        return (yield Work(partial(_flat, answers))), False

    def _search(self, vectors: np.ndarray, depth: int, params: dict[str, Any]) -> Call:
        if "ef" in params:
            params["ef"] = max(int(params["ef"]), depth)  # HNSW refuses a list shorter than its answer
        arguments = {
            "data": list(vectors),
            "limit": depth,
            "output_fields": [*self.collection.columns, *(["vector"] if self._vectors else [])],
            "search_params": {"metric_type": "L2", "params": params},
            "anns_field": "vector",
            "consistency_level": self._level,
        }
        return Call("search", "search", {**arguments, **self._filter}, self.terms.filter)

    def _query(self, rows: int) -> Call:
        fields = ["id", "vector", *self.collection.columns]
        arguments = {"output_fields": fields, "limit": rows, "consistency_level": self._level}
        return Call("search", "query", {**arguments, **self._filter}, self.terms.filter)

    def rank(
        self, vectors: np.ndarray, places: Sequence[int], answers: Sequence[list[dict[str, Any]]], found: list[Found]
    ) -> list[bool]:
        """Make hits of rows; returns for each vector whether no more are wanted."""
        filled = []
        for place, rows in zip(places, answers, strict=True):
            candidates = ranked(rows, vectors[place])
            group = self.terms.group_by
            if group is not None and rows and not any(group in row for row in rows):
                _log.warning(
                    "query %d: none of the %d photos found has a field %r to group by", place, len(rows), group
                )
            shown = pick(candidates, self.terms)
            found[place].hits = [candidates.hit(one, hidden) for one, hidden in shown.items()]
            filled.append(len(shown) == self.terms.limit or candidates.passing(self.terms.threshold) < len(candidates))
        return filled

    def shortage(self, place: int, hits: int) -> str:
        """Say that a limit could not be filled."""
        said = f"{hits} of {self.terms.limit} hits: no others among the {self.reach} nearest photos; {self._bound()}"
        _log.warning("query %d: %s", place, said)
        return said


def _flat(answers: Any) -> list[list[dict[str, Any]]]:
    """Rows of the answers to several queries, each a flat dict."""
    stored = _vectors(answers)
    flat = [[{"id": row["id"], "distance": row["distance"], **row["entity"]} for row in rows] for rows in answers]
    if stored is not None:
        for hits, rows in zip(answers, flat, strict=True):
            for row, vector in zip(rows, stored[hits.start : hits.start + len(rows)], strict=True):
                row["vector"] = vector
    return flat


def _vectors(answers: Any) -> np.ndarray | None:
    """Take the vectors out of answers, all at once, before pymilvus makes lists of floats of them.

    It does so cell by cell when an answer is first looked at, which takes longer than the search. None where there are
    no vectors, or where this pymilvus keeps them in another way: then they are in the rows, as lists.
    """
    lazy = [getattr(hits, "lazy_field_data", []) for hits in answers]
    field = next((field for fields in lazy for field in fields if field.field_name == "vector"), None)
    if field is None or len(field.valid_data) or not all(hasattr(hits, "start") for hits in answers):
        return None
    stored = np.array(field.vectors.float_vector.data, dtype=np.float32).reshape(-1, field.vectors.dim)
    if len(stored) != sum(map(len, answers)):
        return None
    for hits, fields in zip(answers, lazy, strict=True):
        hits.lazy_field_data = [other for other in fields if other is not field]
    return stored
