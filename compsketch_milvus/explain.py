"""Why photos were found: the stored vectors of hits, taken apart by the encoder that asked for them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from compsketch_milvus.encoder import Explaining
from compsketch_milvus.errors import CollectionError
from encoders.sketch import Sketch

if TYPE_CHECKING:
    from compsketch_milvus.collection import SketchCollection
    from compsketch_milvus.search import Hit
    from encoders.explain import Explanation

__all__ = ["check_explains", "explain"]


def check_explains(collection: SketchCollection) -> Explaining:
    """The collection's encoder, if it can explain.

    Raises:
        CollectionError: it cannot, or the collection was opened without one.
    """
    encoder = collection.encoder
    if not isinstance(encoder, Explaining):
        raise CollectionError(f"encoder {encoder.name!r} cannot explain its hits; use a bundle on this machine")
    return encoder


def explain(
    collection: SketchCollection, hits: Sequence[Hit], sketch: Sketch, *, words: bool = False
) -> list[Explanation]:
    """What each object of a sketch adds to the score of each hit, in each cell; the parts sum to the score.

    The photos themselves are not needed: what Milvus stores of them is what was compared.

    Args:
        collection: where the hits were found.
        hits: of a search with this sketch.
        sketch: what was searched with.
        words: as in that search.

    Raises:
        CollectionError: the encoder cannot explain, or a photo has been deleted since.
        ServerError: Milvus failed.
    """
    encoder = check_explains(collection)
    if not hits:
        return []
    stored = collection.stored((hit.id for hit in hits), ["vector"])
    gone = [hit.id for hit in hits if hit.id not in stored]
    if gone:
        raise CollectionError(f"photo {gone[0]!r} is no longer in collection {collection.name!r}; search again")
    return encoder.explain(sketch, np.array([stored[hit.id]["vector"] for hit in hits], np.float32), words=words)
