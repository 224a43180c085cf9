"""Which colours a picture was drawn with, and which pixel belongs to which: nearest in colours, not in hues.

An antialiased edge is a blend of an ink with the paper, so a pixel is compared with the whole segment from the
paper's colour to an ink's. The inks themselves are looked for where no blend can be: among "core" pixels, which
have at least as much contrast to the paper as all around them, and first among those with ink all around.
Lines of one or two pixels that are antialiased do not tell two tones of one colour (grey and black) apart.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from encoders.errors import SketchError

MAX_INKS = 64  # before stray dots are dropped
CONTRAST = 36  # Euclidean RGB distance from the paper at which a pixel is ink
EDGE = 12  # likewise at which it is the edge of ink
SAME_SOLID = 40  # colours of solid places nearer than this are one ink
SAME_CRISP = 12  # likewise in a picture without antialiasing
NEAR_BLEND = 40  # how far from an ink's segment a pixel may lie and be explained by it
CRISP_COLOURS = 32  # no more exact colours than this: no antialiasing
FAR = 60  # what it costs a pixel to belong to an ink with no solid pixel close by
MIN_TONE = 24  # solid pixels that a paler tone of another ink needs
MIN_CORE = 8  # pixels that an ink has to explain


@dataclass(frozen=True)
class Inks:
    """Colours (K, 3) float and, for each pixel, the number of its ink or -1 for paper: int8 (H, W)."""

    colours: np.ndarray
    owner: np.ndarray


def separate(pixels: np.ndarray) -> Inks:
    """Find the inks of a picture on plain light or dark paper.

    Args:
        pixels: uint8 (H, W, 3).

    Raises:
        SketchError: No plain paper, no ink, or more than ``MAX_INKS`` colours.
    """
    paper = _paper(pixels)
    contrast = np.sqrt(((pixels.astype(np.float32) - paper) ** 2).sum(axis=2))  # (H, W)
    ink = contrast > CONTRAST
    if not ink.any():
        raise SketchError("it has no ink: nothing stands out from the paper; draw with darker colours")
    core = ink & (contrast >= _around(contrast, np.maximum) - 1.0)
    solid = core & (_around(contrast, np.minimum) > EDGE)  # inside a line of three pixels: pure ink, no blend
    colours = _find(pixels, contrast, core, solid, paper)
    if len(colours) > MAX_INKS:
        raise SketchError("it has too many colours for a sketch; is it a photo? use one plain colour an object")
    return Inks(colours, _assign(pixels, ink, solid, paper, colours))


def _paper(pixels: np.ndarray) -> np.ndarray:
    """(3,) the colour most common along the rim; a drawing's paper also fills a good part of the picture."""
    rim = np.concatenate([pixels[0], pixels[-1], pixels[:, 0], pixels[:, -1]])
    codes = _code(rim, 4)
    common = rim[codes == np.bincount(codes).argmax()].astype(np.float64)
    paper: np.ndarray = np.median(common, axis=0)
    alike = (np.abs(pixels.astype(np.int16) - paper.astype(np.int16)).max(axis=2) <= 20).mean()
    if alike < 0.1:
        raise SketchError("it has no plain paper behind the ink; is it a photo? draw on white or on transparent")
    return paper


def _find(
    pixels: np.ndarray, contrast: np.ndarray, core: np.ndarray, solid: np.ndarray, paper: np.ndarray
) -> np.ndarray:
    """(K, 3) the inks' colours."""
    exact, counts = np.unique(_code(pixels[contrast > CONTRAST], 8), return_counts=True)
    if len(exact) <= CRISP_COLOURS:
        core_counts = np.array([(_code(pixels[core], 8) == code).sum() for code in exact])
        pure = core_counts * 2 >= counts  # an edge's blends lie beside something darker
        return _merge(_decode(exact[pure], 8), core_counts[pure], SAME_CRISP)
    found = _solid(*_bins(pixels[solid]), *_bins(pixels[core]), paper)
    # Lines too thin to have such a place: what core pixels no ink explains.
    colours, weights = _bins(pixels[core])
    rest = _cost(colours, paper, found).min(axis=1) > NEAR_BLEND if len(found) else np.ones(len(colours), dtype=bool)
    colours, weights = colours[rest], weights[rest]
    while len(colours) and len(found) <= MAX_INKS:
        strongest = np.argsort(-((colours - paper) ** 2).sum(axis=1))[:256]
        explained = _cost(colours, paper, colours[strongest]) <= NEAR_BLEND  # (n, candidates)
        gains = weights @ explained
        best = int(gains.argmax())
        if gains[best] < MIN_CORE:
            break
        found = np.concatenate([found, colours[strongest[best]][None]])
        colours, weights = colours[~explained[:, best]], weights[~explained[:, best]]
    return found


def _solid(
    colours: np.ndarray, weights: np.ndarray, core: np.ndarray, core_weights: np.ndarray, paper: np.ndarray
) -> np.ndarray:
    """(K, 3) inks among the colours of solid places.

    A paler tone of another ink (grey beside black) counts only if enough of its core pixels are solid; otherwise
    it is where thin lines of the other ink cross.
    """
    found = np.zeros((0, 3))
    for colour in _merge(colours, weights, SAME_SOLID):
        count = weights[np.linalg.norm(colours - colour, axis=1) <= SAME_SOLID].sum()
        around = core_weights[np.linalg.norm(core - colour, axis=1) <= SAME_SOLID].sum()
        others = colours[weights >= MIN_CORE]
        stronger = others[np.linalg.norm(others - paper, axis=1) > np.linalg.norm(colour - paper) + SAME_SOLID]
        tone = len(stronger) > 0 and bool((_cost(colour[None], paper, stronger) <= NEAR_BLEND).any())
        if count >= (max(MIN_TONE, around / 3) if tone else MIN_CORE):
            found = np.concatenate([found, colour[None]])
    return found


def _assign(
    pixels: np.ndarray, ink: np.ndarray, solid: np.ndarray, paper: np.ndarray, colours: np.ndarray
) -> np.ndarray:
    """Solid pixels go to the nearest ink; the others too, but one with solid pixels close by is preferred."""
    owner = np.full(ink.shape, -1, dtype=np.int8)
    levels = _decode(np.arange(2**15), 5)
    cost = _cost(levels, paper, colours)
    # Blends of black and of grey lie on one line: there the nearer colour decides.
    cost += 0.15 * np.sqrt(((levels[:, None] - colours) ** 2).sum(axis=2))
    nearest = cost.argmin(axis=1)  # (32768,)
    owner[solid] = nearest[_code(pixels[solid], 5)]
    soft = ink & ~solid
    codes = _code(pixels[soft], 5)
    best, choice = np.full(len(codes), np.inf), np.zeros(len(codes), dtype=np.int64)
    for number in range(len(colours)):
        near = _around(_around(owner == number, np.maximum), np.maximum)[soft]
        price = cost[codes, number] + np.where(near, 0.0, FAR)
        better = price < best
        best[better], choice[better] = price[better], number
    owner[soft] = choice
    return owner


def _cost(points: np.ndarray, paper: np.ndarray, colours: np.ndarray) -> np.ndarray:
    """(n, K) distance of each colour from the segment between the paper and each ink."""
    rays = colours - paper  # (K, 3)
    offset = points - paper  # (n, 3)
    length = np.maximum((rays**2).sum(axis=1), 1e-9)
    share = np.clip(offset @ rays.T / length, 0.0, 1.0)  # (n, K) how much ink there is
    square = (offset**2).sum(axis=1)[:, None] - 2 * share * (offset @ rays.T) + share**2 * length
    return np.sqrt(np.maximum(square, 0.0))


def _merge(colours: np.ndarray, weights: np.ndarray, radius: float) -> np.ndarray:
    """The most common colours, each standing for those within ``radius`` of it."""
    kept: list[np.ndarray] = []
    for number in np.argsort(-weights, kind="stable"):
        if all(np.linalg.norm(colours[number] - other) > radius for other in kept):
            kept.append(colours[number])
        if len(kept) > MAX_INKS:
            break
    return np.array(kept).reshape(-1, 3)


def _bins(colours: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Colours (n, 3) to the mean (m, 3) and the count (m,) of each filled cell of 8 x 8 x 8 levels."""
    codes = _code(colours, 5)
    counts = np.bincount(codes, minlength=2**15)
    filled = counts > 0
    sums = [np.bincount(codes, weights=colours[:, channel], minlength=2**15)[filled] for channel in range(3)]
    return np.stack(sums, axis=1) / counts[filled, None], counts[filled]


def _code(colours: np.ndarray, bits: int) -> np.ndarray:
    """uint8 (…, 3) to one integer each, ``bits`` a channel."""
    levels = colours.astype(np.int64) >> (8 - bits)
    return (levels[..., 0] << 2 * bits) | (levels[..., 1] << bits) | levels[..., 2]


def _decode(codes: np.ndarray, bits: int) -> np.ndarray:
    """The inverse of ``_code``, to the middle of each level: float (n, 3)."""
    top = 2**bits - 1
    levels = np.stack([codes >> 2 * bits, codes >> bits & top, codes & top], axis=-1).astype(np.float64)
    return levels if bits == 8 else (levels + 0.5) * 2 ** (8 - bits)


def _around(values: np.ndarray, pick: np.ufunc) -> np.ndarray:
    """The maximum or minimum over each pixel's 3 x 3 neighbourhood."""
    padded = np.pad(values, 1, mode="edge")
    columns = pick(pick(padded[:, :-2], padded[:, 1:-1]), padded[:, 2:])
    result: np.ndarray = pick(pick(columns[:-2], columns[1:-1]), columns[2:])
    return result
