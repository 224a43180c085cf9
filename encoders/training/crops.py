"""The crops of photos that stage 1 learns from, as the frozen photo trunk sees them."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from torch import nn

from encoders.errors import DataError
from encoders.objects import ObjectEncoder, Pooled
from encoders.runtimes import Normalise, compile_module
from encoders.training.checkpoints import digest, save_arrays
from encoders.training.data import FEW, TrainingSet, crops

MIN_AREA = 0.01  # of its photo: smaller boxes are no crops


@dataclass(frozen=True)
class Crops:
    """Photo crops as the trunk sees them.

    Attributes:
        features: (N, P) float16, pooled.
        classes: (N,) integers, into the vocabulary.
        numbers: (N,) which they are: boxes of all photos in order, then the labelled photos.
    """

    features: np.ndarray
    classes: np.ndarray
    numbers: np.ndarray


def crop_list(data: TrainingSet) -> tuple[list[tuple[Path, np.ndarray, int]], np.ndarray]:
    """Every crop there is, however small: the boxes of photos, and labelled photos as a whole.

    Returns:
        (photo, boxes (n, 4), number of its first box) for each photo, and the class (M,) of each crop by its number.
    """
    whole = np.array([[0, 0, 1, 1]], np.float32)
    starts = np.cumsum([0, *(len(boxes) for boxes in data.boxes)])
    jobs = [*zip(data.photos, data.boxes, starts.tolist(), strict=False)]
    jobs += [(path, whole, int(starts[-1]) + i) for i, path in enumerate(data.labelled)]
    words = [*(word for row in data.words for word in row), *data.labels]
    return jobs, np.array([data.number[word] for word in words], np.int64)


def check_crops(data: TrainingSet, count: int) -> None:
    """See that stage 1 has something to learn photos from: ``count`` of the crops are large enough.

    Raises:
        DataError: None is.
    """
    if not count:
        raise DataError(
            f"no object to cut out of {len(data.photos)} photos: none of {sum(map(len, data.boxes))} boxes covers over "
            f"{MIN_AREA:.0%} of its photo, and no labels.json has {FEW} photos a class; add photos of larger objects"
        )


def crop_features(data: TrainingSet, model: ObjectEncoder, folder: Path, threads: int, device: str = "cpu") -> Crops:
    """The photo trunk's features of all crops, kept in the folder for this trunk and these photos."""
    size = model.config.crop_size
    cache = folder / f"crops-{digest(model.photo_trunk, size, MIN_AREA, data)}.npz"
    if cache.exists():
        return Crops(**np.load(cache))
    result = compute_crops(data, model, threads, device)
    save_arrays(cache, **vars(result))
    return result


def compute_crops(
    data: TrainingSet, model: ObjectEncoder, threads: int, device: str = "cpu", runtime: str = "auto"
) -> Crops:
    """The photo trunk's features of all crops."""
    size, spec = model.config.crop_size, model.photo_trunk.spec
    jobs, kinds = crop_list(data)
    network = nn.Sequential(Normalise(spec.mean, spec.std), Pooled(model.photo_trunk)).eval()
    example = np.zeros((1, size, size, 3), np.uint8)
    run = compile_module(network, example, runtime, threads=threads, device=device)
    features = [np.zeros((0, spec.head_channels), np.float16)]
    numbers: list[int] = []
    started = time.monotonic()
    for done, (path, boxes, first) in enumerate(jobs):
        keep = np.flatnonzero((boxes[:, 2:] - boxes[:, :2]).prod(axis=1) > MIN_AREA)
        if len(keep):
            features.append(run(crops(path, boxes[keep], size)).astype(np.float16))
            numbers += (first + keep).tolist()
        if done % 500 == 0:
            print(f"crops of {done}/{len(jobs)} photos, {time.monotonic() - started:.0f} s", flush=True)
    return Crops(np.concatenate(features), kinds[numbers], np.array(numbers, np.int64))
