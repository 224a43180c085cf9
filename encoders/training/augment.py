"""Variations of a sketch that a person might have drawn as well; numpy only."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from encoders.raster import raster


def vary(strokes: Sequence[np.ndarray], rng: np.random.Generator, strength: float = 1.0) -> list[np.ndarray]:
    """Rotate, stretch, shear, mirror and jitter a drawing, and sometimes drop a stroke or break one off early.

    Args:
        strokes: (2, n) arrays.
        rng: Source of the choices.
        strength: 1 as in training; 0 changes nothing but the mirror.

    Returns:
        New strokes in a unit of their own.
    """
    kept = list(strokes)
    if len(kept) > 2 and rng.random() < 0.3 * strength:
        del kept[rng.integers(len(kept))]
    ink = np.concatenate(kept, axis=1)
    extent = max(float(np.ptp(ink, axis=1).max()), 1e-6)
    centre = (ink.min(axis=1, keepdims=True) + ink.max(axis=1, keepdims=True)) / 2
    angle = np.clip(rng.normal(0, 0.15), -0.5, 0.5) * strength
    stretch = np.exp(rng.normal(0, 0.25, 2) * strength)  # boxes of photos have any aspect
    shear = rng.normal(0, 0.12) * strength
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    matrix = turn @ np.array([[1, shear], [0, 1]]) @ np.diag(stretch * [rng.choice([-1, 1]), 1])
    return [_wobble(matrix @ (stroke - centre) / extent, rng, strength) for stroke in kept]


def _wobble(stroke: np.ndarray, rng: np.random.Generator, strength: float) -> np.ndarray:
    """Move, scale and shake one stroke by a few hundredths of the drawing's size."""
    middle = stroke.mean(axis=1, keepdims=True)
    moved = (stroke - middle) * (1 + rng.normal(0, 0.05) * strength) + middle + rng.normal(0, 0.015, (2, 1)) * strength
    return moved + rng.normal(0, 0.006, stroke.shape) * strength


def rasters(
    drawings: Sequence[Sequence[np.ndarray]],
    rng: np.random.Generator | None,
    size: int,
    line_width: float,
    strength: float = 1.0,
) -> np.ndarray:
    """Draw many sketches, varied unless ``rng`` is None: (B, size, size) uint8."""
    pictures = []
    for strokes in drawings:
        if rng is None:
            pictures.append(raster(strokes, size, line_width))
        else:
            width = line_width * float(np.exp(rng.normal(0, 0.2)))
            pictures.append(raster(vary(strokes, rng, strength), size, width, margin=float(rng.uniform(0.02, 0.12))))
    return np.stack(pictures)
