"""Filter expressions with values apart: `width > {least} and tag in {tags}`, and what `least` and `tags` are.

A Milvus server takes the two as they are from 2.5 on. For those before it, and for Milvus Lite, the values are written
into the expression here, as literals that mean exactly the value in either's grammar.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from compsketch_milvus.errors import CollectionError
from compsketch_milvus.index import ServerFacts
from compsketch_milvus.paging import literal

__all__ = ["filter_arguments"]

TEMPLATES_SINCE = (2, 5)
# A literal text, in which braces are just braces, or a name in braces.
_TEXT_OR_NAME = re.compile(r""""(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*'|\{\s*([A-Za-z_]\w*)\s*\}""", re.DOTALL)


def filter_arguments(filter: str, params: Mapping[str, Any] | None, facts: ServerFacts) -> dict[str, Any]:
    """The arguments of a MilvusClient's method for a filter.

    Args:
        filter: an expression, with names in braces where values belong.
        params: the values: numbers, texts, true or false, or lists of one of these.
        facts: of the server.

    Raises:
        CollectionError: a name without a value, a value without a name, or a value that cannot be compared with.
    """
    values = {name: _plain(name, value) for name, value in (params or {}).items()}
    named = {match[1] for match in _TEXT_OR_NAME.finditer(filter) if match[1]}
    if missing := sorted(named - values.keys()):
        raise CollectionError(f"filter {filter!r}: {missing[0]!r} has no value; give it with filter_params (--param)")
    if unused := sorted(values.keys() - named):
        raise CollectionError(f"filter {filter!r}: it has no {{{unused[0]}}} that the parameter could stand for")
    if not values:
        return {"filter": filter}
    if facts.kind == "server" and facts.release >= TEMPLATES_SINCE:
        return {"filter": filter, "filter_params": values}
    return {"filter": _TEXT_OR_NAME.sub(lambda match: _literal(values[match[1]]) if match[1] else match[0], filter)}


def _plain(name: str, value: Any) -> Any:
    """The value in Python's own types."""
    if isinstance(value, Sequence | set | frozenset | np.ndarray) and not isinstance(value, str | bytes):
        items = [_scalar(name, item) for item in value]
        if len({_kind(item) for item in items}) > 1:
            raise CollectionError(f"filter parameter {name!r}: a list has to hold only texts, or numbers, or booleans")
        return items
    return _scalar(name, value)


def _scalar(name: str, value: Any) -> bool | int | float | str:
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, bool) or (isinstance(value, int) and -(2**63) <= value < 2**63):
        return value
    if isinstance(value, float) and math.isfinite(value):
        return value
    if isinstance(value, str):
        if any("\ud800" <= one <= "\udfff" for one in value):
            raise CollectionError(f"filter parameter {name!r}: {value!r:.80} is not valid Unicode")
        return value
    raise CollectionError(
        f"filter parameter {name!r}: {value!r:.80} is no number of 64 bits, text, true or false, nor a list of such"
    )


def _kind(value: bool | int | float | str) -> str:
    return "boolean" if isinstance(value, bool) else "text" if isinstance(value, str) else "number"


def _literal(value: Any) -> str:
    if isinstance(value, list):
        return f"[{', '.join(map(_literal, value))}]"
    if isinstance(value, bool):
        return "true" if value else "false"
    return literal(value) if isinstance(value, str) else repr(value)
