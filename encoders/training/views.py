"""Stage 2's photos: each several times, cropped and mirrored, and scenes pasted together from photos of one object.

Only the last layers of the image side learn, so what comes before them is computed once a view and kept on disk.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from encoders.images import read_image
from encoders.indexing import IndexingBranch
from encoders.runtimes import Normalise, compile_module
from encoders.training.checkpoints import save_arrays
from encoders.training.data import TrainingSet

KEPT = 0.6  # part of a box that a crop must hold for the object still to count as there


@dataclass(frozen=True)
class Views:
    """N views of photos.

    Attributes:
        features: (N, E, h, w) float16, what the frozen layers give; mapped from disk.
        boxes: One (n, 4) float32 array a view, corners in [0, 1].
        classes: One (n,) integer array a view, into the vocabulary.
        crops: One (n,) integer array a view, the crop that each box shows, by its number: crops are counted as
            `crops.crop_list` goes through them, every box of every photo and then every labelled photo.
        photo: (N,) integers, the photo a view is of; -1 for a pasted scene.
    """

    features: np.ndarray
    boxes: list[np.ndarray]
    classes: list[np.ndarray]
    crops: list[np.ndarray]
    photo: np.ndarray

    def __len__(self) -> int:
        return len(self.boxes)


@dataclass(frozen=True)
class ViewConfig:
    """How many views.

    Attributes:
        crops: Random crops of each photo with boxes, beside the photo as it is.
        scenes: Scenes pasted from photos of one object.
        smallest: Sides of a crop, as a part of the photo's.
    """

    crops: int = 2
    scenes: int = 3000
    smallest: float = 0.6


def crop_boxes(boxes: np.ndarray, window: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Boxes as a window of their photo has them.

    Args:
        boxes: (n, 4) corners in [0, 1].
        window: (4,) corners in [0, 1].

    Returns:
        (m, 4) corners in the window's frame and (m,) the indices of the boxes, those the window holds 60 % of.
    """
    inside = np.concatenate([np.maximum(boxes[:, :2], window[:2]), np.minimum(boxes[:, 2:], window[2:])], axis=1)
    extent = (inside[:, 2:] - inside[:, :2]).clip(0)
    area = (boxes[:, 2:] - boxes[:, :2]).prod(axis=1)
    kept = np.flatnonzero(extent.prod(axis=1) > KEPT * area.clip(1e-9))
    size = np.tile(window[2:] - window[:2], 2)
    return ((inside[kept] - np.tile(window[:2], 2)) / size).astype(np.float32), kept


def mirror_boxes(boxes: np.ndarray) -> np.ndarray:
    """(n, 4) boxes after left and right are exchanged."""
    return np.stack([1 - boxes[:, 2], boxes[:, 1], 1 - boxes[:, 0], boxes[:, 3]], axis=1).astype(np.float32)


def random_window(rng: np.random.Generator, smallest: float) -> np.ndarray:
    """Corners (4,) of a window whose sides are ``smallest`` to 1 of the photo's."""
    size = rng.uniform(smallest, 1, 2)
    start = rng.uniform(0, 1 - size)
    return np.concatenate([start, start + size])


def paste_scene(
    rng: np.random.Generator, background: Image.Image, objects: list[Image.Image], side: int
) -> tuple[Image.Image, np.ndarray]:
    """Objects' photos on a background, later ones on top.

    None hides .4 of another, as far as 20 tries find such a place; two together may hide more.

    Returns:
        The square scene and (n, 4) boxes in [0, 1], in the objects' order.
    """
    scene = background.resize((side, side), Image.Resampling.BILINEAR)
    boxes: list[np.ndarray] = []
    for item in objects:
        for _ in range(20):
            extent = rng.uniform(0.25, 0.75) * np.exp(rng.normal(0, 0.2, 2))
            size = np.minimum(extent, 0.95)
            start = rng.uniform(0, 1 - size)
            box = np.concatenate([start, start + size])
            if all(_hidden(other, box) < 0.4 for other in boxes):
                break
        x0, y0, x1, y1 = (round(float(value) * side) for value in box)
        scene.paste(item.resize((x1 - x0, y1 - y0), Image.Resampling.BILINEAR), (x0, y0))
        boxes.append(box)
    return scene, np.array(boxes, np.float32)


def _hidden(box: np.ndarray, above: np.ndarray) -> float:
    """Part of ``box`` that ``above`` covers."""
    common = (np.minimum(box[2:], above[2:]) - np.maximum(box[:2], above[:2])).clip(0).prod()
    return float(common / (box[2:] - box[:2]).prod())


def make_views(
    data: TrainingSet,
    branch: IndexingBranch,
    config: ViewConfig,
    cache: Path,
    seed: int,
    threads: int,
    device: str = "cpu",
) -> Views:
    """All views of a training set through the frozen layers, from ``cache`` (two files) if they are there."""
    features_file, boxes_file = cache.with_suffix(".npy"), cache.with_suffix(".npz")
    if not boxes_file.exists():
        _compute(data, branch, config, features_file, boxes_file, seed, threads, device)
    stored = np.load(boxes_file)
    ends = np.cumsum(stored["counts"])[:-1]
    features = np.load(features_file, mmap_mode="r")
    boxes, classes, crops = (np.split(stored[name], ends) for name in ("boxes", "classes", "crops"))
    return Views(features, boxes, classes, crops, stored["photo"])


def _compute(
    data: TrainingSet,
    branch: IndexingBranch,
    config: ViewConfig,
    features_file: Path,
    boxes_file: Path,
    seed: int,
    threads: int,
    device: str,
) -> None:
    from torch import nn

    side = branch.config.image_size
    network = nn.Sequential(Normalise(branch.spec.mean, branch.spec.std), branch.frozen).eval()
    run = compile_module(network, np.zeros((1, side, side, 3), np.uint8), threads=threads, device=device)
    scenes = config.scenes if data.labelled and data.backgrounds else 0
    total = len(data.photos) * (1 + config.crops) + scenes
    features = np.lib.format.open_memmap(features_file, "w+", np.float16, (total, *run.output_shape))
    boxes: list[np.ndarray] = []
    classes: list[np.ndarray] = []
    crops: list[np.ndarray] = []
    photo: list[int] = []
    pending: list[np.ndarray] = []
    started = time.monotonic()
    for picture, its_boxes, its_classes, its_crops, index in _looks(data, config, scenes, side, seed):
        pending.append(np.asarray(picture))
        boxes.append(its_boxes.astype(np.float32))
        classes.append(its_classes)
        crops.append(its_crops)
        photo.append(index)
        if len(pending) == 16 or len(boxes) == total:
            features[len(boxes) - len(pending) : len(boxes)] = run(np.stack(pending))
            pending.clear()
            if len(boxes) % 1600 == 0:
                print(f"views {len(boxes)}/{total}, {time.monotonic() - started:.0f} s", flush=True)
    features.flush()
    save_arrays(
        boxes_file,
        boxes=np.concatenate(boxes),
        classes=np.concatenate(classes),
        crops=np.concatenate(crops),
        counts=np.array([len(row) for row in boxes]),
        photo=np.array(photo),
    )


def _looks(
    data: TrainingSet, config: ViewConfig, scenes: int, side: int, seed: int
) -> Iterator[tuple[Image.Image, np.ndarray, np.ndarray, np.ndarray, int]]:
    """Each view's picture, boxes, classes, crops and photo, in the order in which `Views` has them."""
    rng = np.random.default_rng(seed)
    first_crop = np.cumsum([0, *(len(row) for row in data.boxes)])  # of each photo, then of the labelled photos
    for index, path in enumerate(data.photos):
        whole = read_image(path)
        its_classes = np.array([data.number[word] for word in data.words[index]], np.int64)
        for copy in range(1 + config.crops):
            window = np.array([0.0, 0, 1, 1]) if copy == 0 else random_window(rng, config.smallest)
            kept_boxes, kept = crop_boxes(data.boxes[index], window)
            corners = tuple(window * np.array([whole.width, whole.height] * 2))
            picture = whole.resize((side, side), Image.Resampling.BILINEAR, box=corners)
            if copy and rng.random() < 0.5:
                picture, kept_boxes = picture.transpose(Image.Transpose.FLIP_LEFT_RIGHT), mirror_boxes(kept_boxes)
            yield picture, kept_boxes, its_classes[kept], first_crop[index] + kept, index
    for _ in range(scenes):
        chosen = rng.choice(len(data.labelled), rng.choice([1, 2, 3], p=[0.4, 0.35, 0.25]), replace=False)
        background = read_image(data.backgrounds[rng.integers(len(data.backgrounds))])
        scene, its_boxes = paste_scene(rng, background, [read_image(data.labelled[i]) for i in chosen], side)
        classes = np.array([data.number[data.labels[i]] for i in chosen])
        yield scene, its_boxes, classes, first_crop[-1] + chosen, -1
