"""Draw a layout of objects, find the photos in Milvus that hold it.

Importing this package is cheap: every public name is fetched from its module on first use, so that neither
pymilvus nor torch is loaded before it is needed.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from compsketch_milvus.aio import AsyncSketchCollection
    from compsketch_milvus.collection import SketchCollection
    from compsketch_milvus.encoder import Encoder, connect
    from compsketch_milvus.errors import CompsketchError
    from compsketch_milvus.functions import SketchEmbeddingFunction
    from compsketch_milvus.search import Hit
    from encoders.sketch import Sketch, SketchObject

    __version__: str

__all__ = [
    "AsyncSketchCollection",
    "CompsketchError",
    "Encoder",
    "Hit",
    "Sketch",
    "SketchCollection",
    "SketchEmbeddingFunction",
    "SketchObject",
    "__version__",
    "attach",
    "connect",
]

_HOMES = {
    "AsyncSketchCollection": "compsketch_milvus.aio",
    "CompsketchError": "compsketch_milvus.errors",
    "Encoder": "compsketch_milvus.encoder",
    "Hit": "compsketch_milvus.search",
    "Sketch": "encoders.sketch",
    "SketchCollection": "compsketch_milvus.collection",
    "SketchEmbeddingFunction": "compsketch_milvus.functions",
    "SketchObject": "encoders.sketch",
    "attach": "compsketch_milvus.attached",
    "connect": "compsketch_milvus.encoder",
}


def _version() -> str:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("compsketch-milvus")
    except PackageNotFoundError:  # a checkout that was never installed
        return "0.0.0"


def __getattr__(name: str) -> Any:
    if name == "__version__":
        value: Any = _version()
    elif name in _HOMES:
        value = getattr(import_module(_HOMES[name]), name)
    else:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
