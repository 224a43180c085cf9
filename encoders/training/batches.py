"""What stage 2 sees in a step: views of photos, a query for each, and the boxes that say how relevant they are."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset

from encoders.images import read_image
from encoders.query import join
from encoders.training.asking import Asker, Boxes
from encoders.training.data import TrainingSet
from encoders.training.loop import generator
from encoders.training.processes import per_process, rank
from encoders.training.views import ViewConfig, Views, crop_boxes, mirror_boxes, random_window

ASKED = 4  # objects of a query, at most


class Batch(NamedTuple):
    """B views and a query for each."""

    features: Tensor  # (B, E, h, w) of the frozen layers, or (B, S, S, 3) uint8 where nothing is frozen
    cells: Tensor  # (B, 31, 31) rows of ``vectors``: the query tensors, see `query.Painting`
    vectors: Tensor  # (V, C)
    boxes: Tensor  # (B, M, 4) of the views
    classes: Tensor  # (B, M), -1 where a view has fewer
    asked: Tensor  # (B, 4, 4) of the queries' objects
    asked_classes: Tensor  # (B, 4), -1 where a query has fewer


class Boxed(NamedTuple):
    """What a view shows."""

    boxes: np.ndarray  # (n, 4)
    classes: np.ndarray  # (n,)
    crops: np.ndarray  # (n,), the numbers of the crops that the boxes show: see `views.Views`


class Look(NamedTuple):
    """One view: the same, and what the network takes."""

    features: np.ndarray
    boxes: np.ndarray  # (n, 4)
    classes: np.ndarray  # (n,)
    crops: np.ndarray  # (n,)


class Pictures(Boxes, Protocol):
    """Where views come from."""

    def look(self, row: int, rng: np.random.Generator) -> Look:
        """One view of a photo."""
        ...


class CachedViews:
    """Views whose features lie on disk; half of them are mirrored."""

    def __init__(self, views: Views) -> None:
        self.views, self.boxes, self.classes, self.crops = views, views.boxes, views.classes, views.crops

    def look(self, row: int, rng: np.random.Generator) -> Look:
        """Features (E, h, w) float16."""
        features, boxes = np.asarray(self.views.features[row]), self.boxes[row]
        if rng.random() < 0.5:
            features, boxes = features[:, :, ::-1], mirror_boxes(boxes)
        return Look(features, boxes, self.classes[row], self.crops[row])


class Photos:
    """Photos decoded each time, cropped and mirrored anew, for an image side that learns as a whole.

    Args:
        data: The photos.
        config: Of a photo's 1 + ``crops`` views one is the whole photo; scenes are not pasted here.
        size: Side in pixels of a view.
        asker: A crop that leaves nothing to ask for gives way to the whole photo.
    """

    def __init__(self, data: TrainingSet, config: ViewConfig, size: int, asker: Asker) -> None:
        self.paths, self.config, self.size, self.asker = data.photos, config, size, asker
        self.boxes = data.boxes
        self.classes = [np.array([data.number[word] for word in words], np.int64) for words in data.words]
        counts = [len(boxes) for boxes in data.boxes]
        self.crops = np.split(np.arange(sum(counts)), np.cumsum(counts)[:-1])

    def look(self, row: int, rng: np.random.Generator) -> Look:
        """Pixels (S, S, 3) uint8."""
        window, whole = np.array([0.0, 0, 1, 1]), Boxed(self.boxes[row], self.classes[row], self.crops[row])
        shown = whole
        if rng.random() < self.config.crops / (1 + self.config.crops):
            cut = random_window(rng, self.config.smallest)
            boxes, kept = crop_boxes(whole.boxes, cut)
            left = Boxed(boxes, whole.classes[kept], whole.crops[kept])
            if len(self.asker.askable(*left)):
                window, shown = cut, left
        photo = read_image(self.paths[row], draft=2 * self.size)
        corners = tuple(window * np.array([photo.width, photo.height] * 2))
        picture = photo.resize((self.size, self.size), Image.Resampling.BILINEAR, box=corners)
        if rng.random() < 0.5:
            picture = picture.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
            shown = shown._replace(boxes=mirror_boxes(shown.boxes))
        return Look(np.asarray(picture), *shown)


class Steps(Dataset[Batch]):
    """The batches of an epoch, this process' part of each.

    Args:
        pictures: To draw from.
        usable: Rows of those that something can be asked about.
        asker: Makes the queries.
        batch: Views a step, of all processes together.
        seed: Of everything.
        epoch: Which one.
    """

    def __init__(self, pictures: Pictures, usable: np.ndarray, asker: Asker, batch: int, seed: int, epoch: int) -> None:
        self.pictures, self.asker = pictures, asker
        self.batch, self.seed, self.epoch = batch, seed, epoch
        self.order = generator(seed, epoch).permutation(usable)
        self.most = max(len(row) for row in pictures.boxes)

    def __getitem__(self, step: int) -> Batch:
        """The batch of a step."""
        own, rng = per_process(self.batch), generator(self.seed, self.epoch, step, rank())
        first = step * self.batch + rank() * own
        rows = self.order[np.arange(first, first + own) % len(self.order)]
        features, boxes, classes, crops = zip(*(self.pictures.look(row, rng) for row in rows), strict=True)
        asked = self.asker.ask(boxes, classes, crops, rng)
        cells, vectors = join(asked.paintings)
        return Batch(
            torch.from_numpy(np.stack(features)),
            torch.from_numpy(cells),
            torch.from_numpy(vectors),
            *pad(boxes, classes, self.most),
            *pad(asked.boxes, asked.classes, ASKED),
        )


def pad(boxes: Sequence[np.ndarray], classes: Sequence[np.ndarray], length: int) -> tuple[Tensor, Tensor]:
    """Boxes (B, length, 4) and classes (B, length), -1 where there are fewer."""
    padded, kinds = np.zeros((len(boxes), length, 4), np.float32), np.full((len(boxes), length), -1)
    for i, (its_boxes, its_classes) in enumerate(zip(boxes, classes, strict=True)):
        padded[i, : len(its_boxes)], kinds[i, : len(its_boxes)] = its_boxes, its_classes
    return torch.from_numpy(padded), torch.from_numpy(kinds)
