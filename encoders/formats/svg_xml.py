"""Untrusted XML to a small tree: no entities, nothing from outside, bounded depth and size (stdlib expat only)."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from xml.parsers import expat

from encoders.errors import SketchError

MAX_DEPTH = 64
MAX_ELEMENTS = 50_000
MAX_TITLE = 1000

_REFUSED = {"image", "foreignObject", "script", "iframe", "audio", "video", "embed", "object", "use"}
_FOREIGN = {"metadata", "namedview", "RDF"}  # what editors keep for themselves; never drawn


@dataclass
class Node:
    """One element: local name, attributes under their written names, children, and what a title or a text says."""

    tag: str
    attributes: dict[str, str]
    line: int
    children: list[Node] = field(default_factory=list)
    text: str = ""

    @property
    def name(self) -> str:
        """How error messages call it."""
        given = self.attributes.get("id")
        return f"<{self.tag} id={given!r:.60}>" if given else f"<{self.tag}> in line {self.line}"


def parse_xml(data: bytes) -> Node:
    """Parse an SVG document.

    Raises:
        SketchError: Malformed XML, a DOCTYPE or entities, scripts, embedded or external content, clones, or a
            document that passes ``MAX_DEPTH`` or ``MAX_ELEMENTS``.
    """
    builder = _Builder()
    try:
        builder.parser.Parse(data, True)
    except expat.ExpatError as error:
        reason = expat.errors.messages[error.code]
        raise SketchError(f"is no valid SVG: {reason} in line {error.lineno}, column {error.offset}") from None
    except (ValueError, LookupError) as error:  # an encoding that Python does not know
        if isinstance(error, SketchError):
            raise
        raise SketchError(f"is no valid SVG: {error}; save it as UTF-8") from None
    root = builder.root
    if root is None or root.tag != "svg":
        found = "nothing" if root is None else f"<{root.tag}>"
        raise SketchError(f"is XML but no SVG: its outermost element has to be <svg>, found {found}")
    return root


class _Builder:
    """Handlers for expat; each raises at the first thing that has no place in a drawing."""

    def __init__(self) -> None:
        self.root: Node | None = None
        self.open: list[Node] = []
        self.count = 0
        parser = expat.ParserCreate()
        parser.buffer_text = True
        parser.SetParamEntityParsing(expat.XML_PARAM_ENTITY_PARSING_NEVER)
        parser.StartDoctypeDeclHandler = self._doctype
        parser.EntityDeclHandler = self._entity
        parser.ExternalEntityRefHandler = self._entity
        parser.ProcessingInstructionHandler = self._instruction
        parser.StartElementHandler = self._start
        parser.EndElementHandler = self._end
        parser.CharacterDataHandler = self._characters
        self.parser = parser

    def _doctype(self, name: str, system: str | None, public: str | None, internal: bool) -> None:
        raise SketchError("refused: the SVG has a DOCTYPE; save it without (entities are never read)")

    def _entity(self, *_: object) -> int:
        raise SketchError("refused: the SVG declares entities; save it without")

    def _instruction(self, target: str, data: str) -> None:
        if "href" in data:
            raise SketchError(f"refused: <?{target:.40}?> refers to another file; save the SVG without")

    def _start(self, tag: str, attributes: dict[str, str]) -> None:
        prefix, _, local = tag.rpartition(":")
        node = Node(local if prefix in ("", "svg") else tag, attributes, self.parser.CurrentLineNumber)
        self.count += 1
        if self.count > MAX_ELEMENTS:
            raise SketchError(f"refused: the SVG has more than {MAX_ELEMENTS} elements; simplify the drawing")
        if len(self.open) >= MAX_DEPTH:
            raise SketchError(f"refused: {node.name} is nested deeper than {MAX_DEPTH} elements; ungroup the drawing")
        if local in _REFUSED:
            raise SketchError(f"refused: {node.name} is not strokes; {_way_out(local)}")
        _check_references(node)
        if self.open:
            self.open[-1].children.append(node)
        elif self.root is None:
            self.root = node
        self.open.append(node)

    def _end(self, tag: str) -> None:
        node = self.open.pop()
        if node.tag == "style":
            _check_style(node, node.text)
        if self.open and node.tag.rpartition(":")[2] in _FOREIGN:
            self.open[-1].children.pop()

    def _characters(self, text: str) -> None:
        node = self.open[-1]
        if node.tag in ("title", "text", "tspan"):
            node.text = (node.text + text)[:MAX_TITLE]
        elif node.tag == "style":
            node.text += text


def _check_references(node: Node) -> None:
    for key, value in node.attributes.items():
        local = key.rpartition(":")[2].lower()
        if local in ("href", "src", "base") and not value.strip().startswith("#"):
            raise SketchError(f"refused: {node.name} refers to {value!r:.60} outside the file; remove the reference")
        if "url" in value.lower() or "@import" in value.lower():
            _check_style(node, value)


def _check_style(node: Node, style: str) -> None:
    # Backslash escapes can spell url and @import in ways no pattern sees; a drawing needs none.
    outside = re.search(r"url\s*\(\s*['\"]?\s*(?!['\"#\s])[^)]{0,60}", style, re.IGNORECASE)
    if outside or "@import" in style.lower() or (node.tag == "style" and "\\" in style):
        raise SketchError(f"refused: the style of {node.name} refers to something outside the file; remove it")


def _way_out(local: str) -> str:
    return "unlink the clone (draw its shapes in place)" if local == "use" else "remove it and draw strokes instead"
