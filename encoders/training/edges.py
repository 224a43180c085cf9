"""Edge maps of photographed objects, on white like sketches: some thousand more drawings of what has photos."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from encoders.images import read_image
from encoders.training.checkpoints import digest, save_arrays
from encoders.training.crops import crop_list
from encoders.training.data import TrainingSet

SIDE = 112  # pixels
FREE = 4  # pixels of it on every side
SMALLEST = 24  # pixels of a box's shorter side in its photo
MIN_AREA = 0.03  # of its photo
BLUR = 2.0  # pixels, before edges are looked for: texture is not drawn
EMPTY = 0.01  # a crop with fewer edges shows nothing


@dataclass(frozen=True)
class Edges:
    """Edge maps.

    Attributes:
        pictures: (N, 112, 112) uint8, edges 0 on white 255.
        classes: (N,) integers, into the vocabulary.
    """

    pictures: np.ndarray
    classes: np.ndarray

    def draw(self, count: int, rng: np.random.Generator, side: int) -> tuple[Tensor, Tensor]:
        """Some of them, rare classes more often, mirrored, turned and stretched: (count, side, side) uint8, classes."""
        chance = np.bincount(self.classes)[self.classes] ** -0.6
        chosen = rng.choice(len(self.classes), count, p=chance / chance.sum())
        pictures = np.stack([_vary(self.pictures[i], rng, side) for i in chosen])
        return torch.from_numpy(pictures), torch.from_numpy(self.classes[chosen])


def edge_map(crop: Image.Image) -> np.ndarray | None:
    """An object's edges (Canny), aspect kept and centred.

    Returns:
        (112, 112) uint8; None where there are next to none.
    """
    from scipy.ndimage import binary_dilation, gaussian_filter
    from skimage.feature import canny

    scale = (SIDE - 2 * FREE) / max(crop.size)
    width, height = (max(8, round(extent * scale)) for extent in crop.size)
    gray = np.asarray(crop.convert("L").resize((width, height), Image.Resampling.BILINEAR), np.float32) / 255
    edges = canny(gray, sigma=BLUR)
    if edges.mean() < EMPTY:
        return None
    soft = gaussian_filter(binary_dilation(edges).astype(np.float32), 0.6)  # a line of three pixels, antialiased
    picture = np.full((SIDE, SIDE), 255, np.uint8)
    top, left = (SIDE - height) // 2, (SIDE - width) // 2
    picture[top : top + height, left : left + width] = 255 * (1 - soft.clip(0, 1))
    return picture


def edge_maps(data: TrainingSet, folder: Path) -> Edges | None:
    """The edge maps of all boxes and labelled photos that are large enough and can be drawn, kept in the folder.

    Returns:
        None where there is not one.
    """
    cache = folder / f"edges-{digest(SIDE, MIN_AREA, SMALLEST, BLUR, data)}.npz"
    if cache.exists():
        return Edges(**np.load(cache))
    jobs, kinds = crop_list(data)
    drawable = np.isin(kinds, [data.number[word] for word in set(data.sketches.words)])
    pictures, classes = [], []
    for path, boxes, first in jobs:
        large = (boxes[:, 2:] - boxes[:, :2]).prod(axis=1) > MIN_AREA
        wanted = np.flatnonzero(large & drawable[first : first + len(boxes)])
        if not len(wanted):
            continue
        photo = read_image(path)
        for i in wanted:
            x0, y0, x1, y1 = (boxes[i] * np.array([photo.width, photo.height] * 2)).round().tolist()
            crop = photo.crop((int(x0), int(y0), int(x1), int(y1)))
            picture = edge_map(crop) if min(crop.size) >= SMALLEST else None
            if picture is not None:
                pictures.append(picture)
                classes.append(kinds[first + i])
    if not pictures:
        print("edge maps: none, no object is large enough and of a class with sketches", flush=True)
        return None
    result = Edges(np.stack(pictures), np.array(classes, np.int64))
    save_arrays(cache, **vars(result))
    return result


def _vary(picture: np.ndarray, rng: np.random.Generator, side: int) -> np.ndarray:
    image = Image.fromarray(picture)
    if rng.random() < 0.5:
        image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    angle = np.deg2rad(rng.normal(0, 8))
    stretch = np.exp(rng.normal(0, 0.12, 2))
    turn = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
    matrix = turn / stretch * (SIDE / side)  # from pixels of the result to those of the picture
    offset = SIDE / 2 - matrix @ np.full(2, side / 2)
    row = (*matrix[0], offset[0], *matrix[1], offset[1])
    return np.asarray(
        image.transform((side, side), Image.Transform.AFFINE, row, Image.Resampling.BILINEAR, fillcolor=255)
    )
