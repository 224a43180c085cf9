"""What a collection remembers of its making: the encoder of its vectors, and the index that was chosen.

It is kept as JSON in the collection's property `compsketch` and in its description: Milvus Lite drops the one, old
servers the other.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from compsketch_milvus.errors import CollectionError, FingerprintError
from compsketch_milvus.index import IndexChoice, ServerFacts

if TYPE_CHECKING:
    from compsketch_milvus.encoder import Encoder

__all__ = ["FORMAT", "PROPERTY", "Identity"]

FORMAT = 1  # of the schema and of this
PROPERTY = "compsketch"


@dataclass(frozen=True)
class Identity:
    """The making of a collection.

    Args:
        encoder: name of the encoder.
        fingerprint: of the encoder.
        dim: length of a vector.
        index: the index: `want` ("auto" or a type) and the parameters `given` with it; `type`, `params`, `search` (of
            those given) and `reason` of what was chosen; `gpu` and `gpu_reason`, the server's answer. Collections of
            version 0.1 have `want`, `type`, `params` and `reason`.
        format: of the schema.
        attached: of a collection that stands beside another one, what it belongs to; see `compsketch_milvus.attached`.
        partition_key: the field by whose value Milvus keeps photos apart.
    """

    encoder: str
    fingerprint: str
    dim: int
    index: dict[str, Any]
    format: int = FORMAT
    attached: dict[str, Any] | None = None
    partition_key: str | None = None

    def to_json(self) -> str:
        """One line of JSON."""
        return json.dumps(asdict(self))

    def check(self, encoder: Encoder, collection: str, asked: str) -> None:
        """Refuse an encoder that did not make the vectors.

        Args:
            encoder: the encoder.
            collection: name, for the message.
            asked: the name by which it was opened: its own, or an alias.

        Raises:
            FingerprintError: its message names both encoders and the way out.
        """
        if (encoder.fingerprint, encoder.dim) == (self.fingerprint, self.dim):
            return
        named = repr(collection) if asked == collection else f"{collection!r} (alias {asked!r})"
        raise FingerprintError(
            f"collection {named} was made by encoder {self.encoder!r} ({self.fingerprint}, {self.dim}-D), "
            f"not by {encoder.name!r} ({encoder.fingerprint}, {encoder.dim}-D), and their vectors cannot be compared; "
            "use that encoder, or ingest again into another collection"
        )

    @staticmethod
    def noted(choice: IndexChoice, want: str, given: Mapping[str, Any], facts: ServerFacts) -> dict[str, Any]:
        """The entry `index` for a choice: what was asked for, what was chosen, and the facts that it hung on."""
        return {
            "want": want.lower(),
            "given": dict(given),
            "type": choice.type,
            "params": choice.params,
            "search": {name: value for name, value in choice.search_params.items() if name in given},
            "reason": choice.reason,
            "gpu": facts.gpu,
            "gpu_reason": facts.gpu_reason,
        }

    @classmethod
    def read(cls, described: Mapping[str, Any], collection: str) -> Identity:
        """Find it in what Milvus says of a collection.

        Args:
            described: the answer of `describe_collection`.
            collection: name, for the message.

        Raises:
            CollectionError: the collection was not made by this package, or is of a later version.
        """
        for text in (dict(described.get("properties") or {}).get(PROPERTY), described.get("description")):
            try:
                found = json.loads(text or "")
            except ValueError:
                continue
            if not isinstance(found, dict) or "format" not in found or "fingerprint" not in found:
                continue
            if found["format"] != FORMAT:
                raise CollectionError(
                    f"collection {collection!r} has format {found['format']}, this version reads {FORMAT}; "
                    "update compsketch-milvus, or ingest into another collection"
                )
            try:
                return cls(**found)
            except TypeError:  # it lacks a name, or has one more
                raise CollectionError(
                    f"collection {collection!r} was made by another version of compsketch-milvus, and this one does "
                    "not know all that it remembers; update compsketch-milvus, or ingest into another collection"
                ) from None
        raise CollectionError(
            f"collection {collection!r} was not made by compsketch (no encoder's fingerprint is kept with it); "
            "choose another name with --collection"
        )
