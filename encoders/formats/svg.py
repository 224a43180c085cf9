"""SVG: one ``<g>`` an object.

Each group at the top is an object, with all the groups inside it; each loose shape at the top is one too. A single
group that holds nothing but groups (an editor's layer) is looked into. A group of one rectangle and a text is a word
over a box; any other text is not strokes and is left out, so is what ``display``, ``visibility`` or ``opacity`` hide
(as attribute or inline style; style sheets are not applied), and a rectangle without outline that covers the canvas (a
background).
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from typing import Any
from xml.sax.saxutils import escape, quoteattr

import numpy as np

from encoders.errors import SketchError
from encoders.formats.pen import PALETTE
from encoders.formats.svg_path import Flattener, PathError, draw_path, numbers
from encoders.formats.svg_xml import Node, parse_xml

_UNITS = {"": 1.0, "px": 1.0, "pt": 96 / 72, "pc": 16.0, "in": 96.0, "cm": 96 / 2.54, "mm": 96 / 25.4}
_LENGTH = re.compile(r"\s*([+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?)\s*(px|pt|pc|in|cm|mm|%|)\s*")
_TRANSFORM = re.compile(r"[\s,]*(matrix|translate|scale|rotate|skewX|skewY)\s*\(([^()]*)\)[\s,]*")
_GROUPS = {"g", "a", "switch"}
_SHAPES = {"path", "polyline", "polygon", "line", "rect", "circle", "ellipse"}
_AUTOMATIC = re.compile(r"(g|path|layer|rect|circle|ellipse|line|polyline|polygon|group|svg|object)[\d_.-]*", re.I)

Transform = np.ndarray  # (3, 3)


class _Canvas:
    """The canvas' size in whole pixels, and the way onto it from the root's coordinates."""

    def __init__(self, root: Node) -> None:
        box = root.attributes.get("viewBox")
        view = _numbers(root, "viewBox", box) if box is not None else None
        if view is not None and (len(view) != 4 or not np.isfinite(view).all() or min(view[2:]) <= 0):
            raise SketchError(f"its viewBox {box!r:.60} has to be four numbers with a positive width and height")
        width = _length(root, "width", view[2] if view else None)
        height = _length(root, "height", view[3] if view else None)
        if width is None and height is None and view:
            width, height = view[2], view[3]
        elif view:
            width = width if width is not None else (height or 0.0) * view[2] / view[3]
            height = height if height is not None else width * view[3] / view[2]
        if width is None or height is None:
            raise SketchError("its <svg> has neither width and height nor a viewBox; give it one")
        if not (0 < width <= 1e6 and 0 < height <= 1e6):
            raise SketchError(f"its canvas of {width:g} x {height:g} pixels is impossible; set width and height")
        self.width, self.height = max(1, round(width)), max(1, round(height))
        whole = np.diag([self.width / width, self.height / height, 1.0])
        self.transform: Transform = whole @ _fit(root, view, width, height) if view else whole
        # Lengths in % mean parts of the root's own coordinates.
        self.own = (view[2], view[3]) if view else (width, height)
        self.tolerance = min(0.1, max(self.width, self.height) / 4000)


def read(data: bytes) -> dict[str, Any]:
    """Read an SVG to the dict of stroke JSON; numbers on the canvas, transforms applied, curves cut to lines.

    Raises:
        SketchError: Hostile or malformed, of an unknown size, or a group or a shape that cannot be drawn.
    """
    root = parse_xml(data)
    canvas = _Canvas(root)
    tops = [(node, canvas.transform, "", 1.0) for node in _members(root, canvas.transform, canvas)]
    while len(tops) == 1 and tops[0][0].tag in _GROUPS:
        layer, transform, outer, weight = tops[0]
        placed = transform @ _transform(layer)
        inner = _members(layer, placed, canvas)
        if not inner or any(node.tag not in _GROUPS for node in inner):
            break
        # A group in a group is a layer with one object; either of them may carry the name.
        label = (_label(layer) or outer) if len(inner) == 1 else ""
        tops = [(node, placed, label, _weight(layer, weight)) for node in inner]
    objects: list[dict[str, Any]] = []
    for node, transform, outer, weight in tops:
        item = _word(node, transform, canvas) or {"strokes": list(_strokes(node, transform, canvas, visible=True))}
        if item.get("strokes") == []:
            if node.tag not in _GROUPS or _empty_layer(node):
                continue
            raise SketchError(f"object {len(objects)}, {node.name}, has no ink; draw it, hide it or remove it")
        label = item.get("label") or _label(node) or outer
        if label:
            item["label"] = label
        if "data-bbox" in node.attributes and "strokes" in item:
            item["bbox"] = _placed_box(node, transform)
        objects.append({**item, "weight": _weight(node, weight)})
    return {"width": canvas.width, "height": canvas.height, "objects": objects}


def write(sketch: dict[str, Any]) -> bytes:
    """One ``<g>`` an object, its strokes rounded to 1/1000 pixel, label, bbox and weight in ``data-`` attributes.

    A word over a box is a rectangle and a text; what is not wanted is dashed.
    """
    width, height = sketch["width"], sketch["height"]
    line = max(1.0, max(width, height) / 160)
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" viewBox="0 0 {width} {height}" '
        f'fill="none" stroke-width="{line:g}" stroke-linecap="round" stroke-linejoin="round">'
    ]
    for index, item in enumerate(sketch["objects"]):
        if "photo" in item:
            raise SketchError(f"object {index}: an SVG sketch cannot hold its photo; save it as .json")
        drawn = item.get("strokes", [])
        extra = f" data-label={quoteattr(item['label'])}" if drawn and "label" in item else ""
        if "weight" in item:
            dashes = f' stroke-dasharray="{2 * line:g} {2 * line:g}"' if item["weight"] < 0 else ""
            extra += f' data-weight="{item["weight"]!r}"{dashes}'
        if drawn and "bbox" in item:
            extra += f' data-bbox="{" ".join(repr(value) for value in item["bbox"])}"'
        red, green, blue = PALETTE[index % len(PALETTE)]
        colour = f"#{red:02x}{green:02x}{blue:02x}"
        lines.append(f'<g{extra} stroke="{colour}">')
        if not drawn:
            lines += _compose_word(item["label"], item["bbox"], colour)
        for xs, ys in drawn:
            points = [f"{round(x, 3)!r} {round(y, 3)!r}" for x, y in zip(xs, ys, strict=True)]
            lines.append(f'<path d="M{" L".join(points)}{"Z" if len(points) == 1 else ""}"/>')
        lines.append("</g>")
    return "\n".join([*lines, "</svg>", ""]).encode()


def _compose_word(label: str, bbox: list[float], colour: str) -> list[str]:
    """A box with a word in it."""
    x0, y0, x1, y1 = bbox
    size = max(1.0, min((y1 - y0) / 3, 1.5 * (x1 - x0) / len(label)))
    return [
        f'<rect x="{x0!r}" y="{y0!r}" width="{x1 - x0!r}" height="{y1 - y0!r}"/>',
        f'<text x="{(x0 + x1) / 2:g}" y="{(y0 + y1) / 2:g}" font-size="{size:g}" text-anchor="middle" stroke="none" '
        f'fill="{colour}" xml:space="preserve">{escape(label)}</text>',
    ]


def _word(node: Node, transform: Transform, canvas: _Canvas) -> dict[str, Any] | None:
    """Label and bbox of a group of one rectangle and a text; None for anything else.

    What is written in the box is the word, whatever name an editor keeps for the group.
    """
    shown = [child for child in node.children if _drawn(child)]
    texts = [_text(child) for child in node.children if child.tag == "text" and _style(child, "display") != "none"]
    if node.tag not in _GROUPS or [child.tag for child in shown] != ["rect"] or len(texts) != 1 or not texts[0]:
        return None
    rectangle = shown[0]
    placed = transform @ _transform(node) @ _transform(rectangle)
    out = Flattener(placed[:2], canvas.tolerance)
    try:
        _draw(rectangle, out, canvas)
    except (PathError, OverflowError) as error:
        raise SketchError(f"{rectangle.name}: {error}; mend or redraw it") from None
    if not out.strokes:
        raise SketchError(f'{rectangle.name}: the box of the word "{texts[0]}" has no size; draw it larger')
    corners = np.concatenate(out.strokes, axis=1)
    return {"label": texts[0], "bbox": [*corners.min(axis=1).tolist(), *corners.max(axis=1).tolist()]}


def _text(node: Node) -> str:
    """What a text says; a line break, and a ``<tspan>``, which editors make of a line, separates words."""
    parts = [node.text, *(_text(child) for child in node.children if child.tag == "tspan")]
    return re.sub(r" *[\t\r\n]+ *", " ", "\n".join(parts)).strip()


def _weight(node: Node, outer: float) -> float:
    """Its ``data-weight``, or the one of the layer around it."""
    if "data-weight" not in node.attributes:
        return outer
    values = _numbers(node, "data-weight", node.attributes["data-weight"])
    if len(values) != 1:
        raise SketchError(f"{node.name}: its data-weight has to be one number, found {len(values)}")
    return values[0]


def _strokes(node: Node, transform: Transform, canvas: _Canvas, visible: bool) -> Iterator[np.ndarray]:
    """All visible ink of an element and what is inside it, (2, n) each."""
    if not _drawn(node):
        return
    visibility = _style(node, "visibility")
    if visibility:
        visible = visibility == "visible"
    transform = transform @ _transform(node)
    if node.tag in _GROUPS:
        for child in node.children:
            yield from _strokes(child, transform, canvas, visible)
    elif node.tag == "svg":
        raise SketchError(f"{node.name}: an <svg> inside the <svg> cannot be read; make it a group")
    elif visible:
        out = Flattener(transform[:2], canvas.tolerance)
        try:
            _draw(node, out, canvas)
        except (PathError, OverflowError) as error:
            raise SketchError(f"{node.name}: {error}; mend or redraw it") from None
        if not _is_background(node, out.strokes, canvas):
            yield from out.strokes


def _members(parent: Node, transform: Transform, canvas: _Canvas) -> list[Node]:
    """The children that are shown, without a background."""
    shown = [node for node in parent.children if _drawn(node)]
    return [node for node in shown if node.tag != "rect" or any(True for _ in _strokes(node, transform, canvas, True))]


def _drawn(node: Node) -> bool:
    """Whether it is a shape or a group that is shown (which ``visibility`` alone may still undo)."""
    if node.tag not in _SHAPES | _GROUPS | {"svg"} or _style(node, "display") == "none":
        return False
    opacity = _style(node, "opacity")
    return not re.fullmatch(r"0*\.?0*%?", opacity) if opacity else True


def _draw(node: Node, out: Flattener, canvas: _Canvas) -> None:
    def length(key: str, whole: float = math.hypot(*canvas.own) / math.sqrt(2)) -> float:
        return _length(node, key, whole) or 0.0

    wide, tall = canvas.own
    if node.tag == "path":
        draw_path(node.attributes.get("d", ""), out)
    elif node.tag in ("polyline", "polygon"):
        values = numbers(node.attributes.get("points", ""))
        if len(values) % 2:
            raise PathError(f"its points have an odd number of coordinates ({len(values)})")
        for index, (x, y) in enumerate(zip(values[::2], values[1::2], strict=True)):
            (out.line if index else out.move)(x, y)
        if node.tag == "polygon" and values:
            out.close()
        out.finish()
    elif node.tag == "line":
        out.move(length("x1", wide), length("y1", tall))
        out.line(length("x2", wide), length("y2", tall))
        out.finish()
    elif node.tag == "rect":
        rx, ry = _length(node, "rx", wide), _length(node, "ry", tall)
        corner = (rx if rx is not None else ry or 0.0, ry if ry is not None else rx or 0.0)
        _rectangle(out, length("x", wide), length("y", tall), length("width", wide), length("height", tall), corner)
    else:
        radii = (length("r"),) * 2 if node.tag == "circle" else (length("rx", wide), length("ry", tall))
        if min(radii) > 0:
            x, y = length("cx", wide), length("cy", tall)
            out.move(x + radii[0], y)
            out.ellipse((x, y), radii, 0.0, 0.0, 2 * math.pi)
            out.finish()


def _rectangle(out: Flattener, x: float, y: float, width: float, height: float, corner: tuple[float, float]) -> None:
    if width <= 0 or height <= 0:
        return
    rx, ry = min(corner[0], width / 2), min(corner[1], height / 2)
    if rx <= 0 or ry <= 0:
        rx = ry = 0.0
    out.move(x + rx, y)
    for number, (px, py, cx, cy) in enumerate(
        [
            (x + width - rx, y, x + width - rx, y + ry),
            (x + width, y + height - ry, x + width - rx, y + height - ry),
            (x + rx, y + height, x + rx, y + height - ry),
            (x, y + ry, x + rx, y + ry),
        ]
    ):
        out.line(px, py)
        if rx > 0:
            out.ellipse((cx, cy), (rx, ry), 0.0, (number - 1) * math.pi / 2, math.pi / 2)
    out.close()
    out.finish()


def _is_background(node: Node, strokes: list[np.ndarray], canvas: _Canvas) -> bool:
    if node.tag != "rect" or not strokes or _style(node, "stroke") not in ("", "none"):
        return False
    ink = np.concatenate(strokes, axis=1)
    slack = 0.01 * max(canvas.width, canvas.height)
    covers = (ink.min(axis=1) <= slack) & (ink.max(axis=1) >= np.array([canvas.width, canvas.height]) - slack)
    return bool(covers.all())


def _transform(node: Node) -> Transform:
    """The (3, 3) matrix of its ``transform`` attribute."""
    text = node.attributes.get("transform", "").strip()
    result: Transform = np.eye(3)
    position = 0
    while position < len(text):
        match = _TRANSFORM.match(text, position)
        values = _numbers(node, "transform", match[2]) if match else []
        step = _step(match[1], values) if match else None
        if match is None or step is None:
            raise SketchError(f"{node.name}: its transform {text[position : position + 60]!r} cannot be read; mend it")
        result, position = result @ step, match.end()
    return result


def _step(kind: str, values: list[float]) -> Transform | None:
    """One function of a transform list, None where its count of numbers is wrong."""
    a, b, c, d, e, f = 1.0, 0.0, 0.0, 1.0, 0.0, 0.0
    count = len(values)
    if kind == "matrix" and count == 6:
        a, b, c, d, e, f = values
    elif kind == "translate" and count in (1, 2):
        e, f = values[0], values[1] if count == 2 else 0.0
    elif kind == "scale" and count in (1, 2):
        a, d = values[0], values[-1]
    elif kind == "rotate" and count in (1, 3):
        angle = math.radians(values[0])
        a, b, c, d = math.cos(angle), math.sin(angle), -math.sin(angle), math.cos(angle)
        if count == 3:
            x, y = values[1:]
            e, f = x - a * x - c * y, y - b * x - d * y
    elif kind in ("skewX", "skewY") and count == 1:
        slope = math.tan(math.radians(values[0]))
        b, c = (0.0, slope) if kind == "skewX" else (slope, 0.0)
    else:
        return None
    return np.array([[a, c, e], [b, d, f], [0.0, 0.0, 1.0]])


def _fit(root: Node, view: list[float], width: float, height: float) -> Transform:
    """The viewBox onto the viewport, as ``preserveAspectRatio`` says (default: whole and centred)."""
    words = root.attributes.get("preserveAspectRatio", "xMidYMid meet").split()
    align = words[0] if words else "xMidYMid"
    sx, sy = width / view[2], height / view[3]
    if align != "none":
        sx = sy = max(sx, sy) if words[1:] == ["slice"] else min(sx, sy)
    place = {"Min": 0.0, "Mid": 0.5, "Max": 1.0}
    x = place.get(align[1:4], 0.5) * (width - sx * view[2])
    y = place.get(align[5:8], 0.5) * (height - sy * view[3])
    return np.array([[sx, 0.0, x - sx * view[0]], [0.0, sy, y - sy * view[1]], [0.0, 0.0, 1.0]])


def _length(node: Node, key: str, whole: float | None) -> float | None:
    """A length in px, None if absent; a percentage is of ``whole``, and None without one."""
    text = node.attributes.get(key, "")
    if not text.strip() or text.strip() == "auto":
        return None
    match = _LENGTH.fullmatch(text)
    if match is None or not math.isfinite(float(match[1])):
        raise SketchError(f"{node.name}: its {key} {text!r:.60} is no length in px, pt, pc, in, cm, mm or %")
    if match[2] == "%":
        return None if whole is None else float(match[1]) / 100 * whole
    return float(match[1]) * _UNITS[match[2]]


def _placed_box(node: Node, transform: Transform) -> list[float]:
    values = _numbers(node, "data-bbox", node.attributes["data-bbox"])
    if len(values) != 4:
        raise SketchError(f"{node.name}: its data-bbox has to be four numbers x0 y0 x1 y1, found {len(values)}")
    corners = transform[:2, :2] @ np.array([values[::2], values[1::2]]) + transform[:2, 2:]
    return [*corners.min(axis=1).tolist(), *corners.max(axis=1).tolist()]


def _numbers(node: Node, key: str, text: str) -> list[float]:
    try:
        return numbers(text)
    except PathError as error:
        raise SketchError(f"{node.name}: its {key} cannot be read: {error}") from None


def _style(node: Node, key: str) -> str:
    """A presentation attribute; the inline style goes first."""
    for rule in node.attributes.get("style", "").split(";"):
        name, _, value = rule.partition(":")
        if name.strip() == key:
            return value.strip()
    return node.attributes.get(key, "").strip()


def _label(node: Node) -> str:
    """The word somebody gave it: data-label, aria-label, an editor's label, a title, an id that is no number."""
    titles = [child.text for child in node.children if child.tag == "title"]
    keys = ("data-label", "aria-label", "inkscape:label")
    for text in (*(node.attributes.get(key, "") for key in keys), *titles):
        if text.strip():
            return " ".join(text.split())[:200] if text in titles else text.strip()
    given = node.attributes.get("id", "").strip()
    return "" if _AUTOMATIC.fullmatch(given) else given


def _empty_layer(node: Node) -> bool:
    return node.attributes.get("inkscape:groupmode") == "layer"
