"""A part of a set of sketches, so many of each word, that a seed decides: not the order of files or of lines."""

from __future__ import annotations

import hashlib
import heapq
from collections.abc import Iterable, Iterator

from encoders.data.manifest import Drawing


def sample(drawings: Iterable[Drawing], per_class: int, seed: int) -> Iterator[Drawing]:
    """Of each word the ``per_class`` sketches with the smallest hash of seed, word and key_id, by word and key_id.

    Only those are in memory, however many come.
    """
    heaps: dict[str, list[tuple[int, int, Drawing]]] = {}
    for number, drawing in enumerate(drawings):
        heap = heaps.setdefault(drawing.word, [])
        digest = hashlib.sha256(f"{seed}:{drawing.word}:{drawing.key_id}".encode()).digest()
        entry = (-int.from_bytes(digest[:8], "big"), number, drawing)  # the largest hash is the first to go
        if len(heap) < per_class:
            heapq.heappush(heap, entry)
        elif entry[0] > heap[0][0]:
            heapq.heapreplace(heap, entry)
    for word in sorted(heaps):
        yield from (drawing for _, _, drawing in sorted(heaps[word], key=lambda entry: entry[2].key_id))
