"""Stage 1: f_s and f_i (section 3.1), on single sketches and the crops of photos.

The photo side's trunk stays frozen, so the pooled features of all crops are computed once. Both sides, through their
shared last layer, answer one cosine classifier over the classes of sketches and photos; a triplet term draws sketches
to photos. `msbir` trains them in the paper's own stages.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import Dataset

from encoders.errors import DataError
from encoders.evaluation.metrics import average_precision, precision_at
from encoders.objects import ObjectConfig, ObjectEncoder, normalise
from encoders.training.augment import rasters
from encoders.training.checkpoints import save_result
from encoders.training.crops import Crops, check_crops, crop_features
from encoders.training.data import TrainingSet
from encoders.training.edges import Edges, edge_maps
from encoders.training.loop import Course, Work, adam, autocast, begin, fit, generator, one_cycle
from encoders.training.losses import triplet
from encoders.training.processes import first_alone, gather, gather_all, per_process, rank


@dataclass(frozen=True)
class Phase:
    """Epochs that are alike.

    Attributes:
        epochs: How many.
        side: Of the rasters, in pixels: most of training at a smaller size costs half.
        strength: Of their variation.
        edges: Edge maps of photographed objects a step beside the sketches, of all processes together.
    """

    epochs: int
    side: int
    strength: float = 1.0
    edges: int = 0


@dataclass(frozen=True)
class Cycle:
    """Phases over which the learning rate rises and falls once.

    Attributes:
        phases: One after the other.
        rate: Factor of the learning rates.
        photo_class_weight: How much likelier a sketch is drawn if its class has photos.
    """

    phases: tuple[Phase, ...]
    rate: float = 1.0
    photo_class_weight: float = 3.0

    @property
    def plan(self) -> list[Phase]:
        """Each epoch's phase."""
        return [phase for phase in self.phases for _ in range(phase.epochs)]


@dataclass(frozen=True)
class Config:
    """Stage 1.

    Attributes:
        recipe: Whose part this is.
        objects: Sizes of the encoders.
        cycles: What is drawn, and the course of the learning rate: once through everything, once with edge maps of
            photos, once with what has photos mostly, since nothing else can be found.
        pretrained: Start from ImageNet weights.
        photos: Photos and sketches to train on at most, each; 0 for all.
        batch: Sketches a step, of all processes together.
        photo_batch: Photo features a step, likewise.
        learning_rate: Of the sketch trunk.
        head_learning_rate: Of everything else.
        weight_decay: AdamW's.
        label_smoothing: Of the classifier's targets.
        triplet_weight: Of the triplet term.
        ema: Decay a step of the averaged weights that are kept.
        seed: Of everything.
    """

    recipe: str = ""
    objects: ObjectConfig = field(default_factory=ObjectConfig)
    cycles: tuple[Cycle, ...] = (
        Cycle((Phase(10, 96), Phase(4, 128), Phase(4, 128, 0.6))),
        Cycle((Phase(12, 96, edges=16), Phase(1, 112)), rate=0.6),
        Cycle((Phase(3, 112), Phase(2, 112, 0.6)), rate=0.3, photo_class_weight=8.0),
    )
    pretrained: bool = True
    photos: int = 0
    batch: int = 64
    photo_batch: int = 320
    learning_rate: float = 8e-4
    head_learning_rate: float = 3e-3
    weight_decay: float = 2e-2
    label_smoothing: float = 0.1
    triplet_weight: float = 0.5
    ema: float = 0.998
    seed: int = 0

    @property
    def plan(self) -> list[tuple[Cycle, Phase]]:
        """Each epoch's cycle and phase."""
        return [(cycle, phase) for cycle in self.cycles for phase in cycle.plan]

    def rate(self, done: float) -> float:
        """The learning rate's factor, given the part of the run that is done."""
        epoch, start = done * len(self.plan), 0
        for number, cycle in enumerate(self.cycles, start=1):
            if epoch < start + len(cycle.plan) or number == len(self.cycles):
                return cycle.rate * one_cycle((epoch - start) / len(cycle.plan))
            start += len(cycle.plan)
        raise ValueError("a run has at least one cycle")


class Batch(NamedTuple):
    """Of a step."""

    pictures: Tensor  # (B, S, S) uint8 rasters, edge maps the last of them
    sketch_classes: Tensor  # (B,)
    features: Tensor  # (N, P) float16 of crops
    photo_classes: Tensor  # (N,)


class SketchDraw:
    """Draws sketches, those of classes with photos more often.

    Args:
        data: The sketches.
        photo_classes: Classes that have photos.
        weight: How much likelier a sketch is whose class has photos.

    Raises:
        DataError: There are no sketches.
    """

    def __init__(self, data: TrainingSet, photo_classes: np.ndarray, weight: float) -> None:
        if not data.sketches.words:
            raise DataError("no sketches to train on: the few there are, are all held out; add more")
        self.drawings = data.sketches.drawings
        self.classes = np.array([data.number[word] for word in data.sketches.words])
        chance = np.where(np.isin(self.classes, photo_classes), weight, 1.0)
        self.chance = chance / chance.sum()

    def __len__(self) -> int:
        return len(self.classes)

    def draw(
        self, count: int, rng: np.random.Generator, side: int, width: float, strength: float
    ) -> tuple[Tensor, Tensor]:
        """Rasters (count, side, side) uint8 of varied sketches, and their classes."""
        chosen = rng.choice(len(self.classes), count, p=self.chance)
        pictures = rasters([self.drawings[i] for i in chosen], rng, side, width, strength)
        return torch.from_numpy(pictures), torch.from_numpy(self.classes[chosen])


def evenly(classes: np.ndarray) -> np.ndarray:
    """Chances (N,) of crops: of a class that has four times as many, each half as often."""
    frequency = np.bincount(classes)[classes]
    return np.asarray(frequency**-0.5 / (frequency**-0.5).sum())


class Steps(Dataset[Batch]):
    """The batches of an epoch, this process' part of each."""

    def __init__(self, sketches: SketchDraw, photos: Crops, edges: Edges | None, config: Config, epoch: int) -> None:
        self.sketches, self.photos, self.edges, self.config, self.epoch = sketches, photos, edges, config, epoch
        _, self.phase = config.plan[epoch]
        self.photo_chance = evenly(photos.classes)

    def __getitem__(self, step: int) -> Batch:
        """The batch of a step."""
        config, rng = self.config, generator(self.config.seed, self.epoch, step, rank())
        width = config.objects.line_width * self.phase.side / config.objects.sketch_size
        side, strength = self.phase.side, self.phase.strength
        pictures, kinds = self.sketches.draw(per_process(config.batch), rng, side, width, strength)
        if self.edges is not None and self.phase.edges:
            more, their = self.edges.draw(per_process(self.phase.edges), rng, side)
            pictures, kinds = torch.cat([pictures, more]), torch.cat([kinds, their])
        photos = rng.choice(len(self.photos.classes), per_process(config.photo_batch), p=self.photo_chance)
        features, classes = self.photos.features[photos], self.photos.classes[photos]
        return Batch(pictures, kinds, torch.from_numpy(features), torch.from_numpy(classes))


class Embedded(NamedTuple):
    """What the branches make of sketches and photos."""

    sketches: Tensor  # (B, C), unit length
    photos: Tensor  # (N, C), unit length
    sketch_logits: Tensor  # (B, K)
    photo_logits: Tensor  # (N, K)


class Branches(nn.Module):
    """Both branches in one pass, and the cosine classifier that they share.

    Args:
        model: The encoders.
        pooled: Photos come as the frozen trunk's pooled features, not as pictures.
    """

    def __init__(self, model: ObjectEncoder, pooled: bool) -> None:
        super().__init__()
        self.model, self.pooled = model, pooled
        if pooled:
            model.photo_trunk.requires_grad_(False)

    def forward(self, pictures: Tensor, photos: Tensor) -> Embedded:
        """Rasters (B, S, S) and features (N, P), or pixels (N, S, S, 3), to what the losses compare."""
        model = self.model
        spec, other = model.sketch_trunk.spec, model.photo_trunk.spec
        x = normalise(pictures, spec.mean, spec.std).contiguous(memory_format=torch.channels_last)
        sketches = model.f_s(x)
        if self.pooled:
            photos = model.f_i_pooled(photos.float())
        else:
            photos = model.f_i(normalise(photos, other.mean, other.std).contiguous(memory_format=torch.channels_last))
        scale, vectors = model.log_scale.exp(), model.class_vectors().T
        return Embedded(sketches, photos, sketches @ vectors * scale, photos @ vectors * scale)


def losses(model: nn.Module, batch: Batch, config: Config) -> dict[str, Tensor]:
    """The loss' terms of a step, over the batches of all processes."""
    with autocast(batch.pictures.device):
        found: Embedded = model(batch.pictures, batch.features)
    found = Embedded(*(part.float() for part in gather_all(found)))
    sketch_classes, photo_classes = gather(batch.sketch_classes), gather(batch.photo_classes)
    smooth = config.label_smoothing
    return {
        "sketches": functional.cross_entropy(found.sketch_logits, sketch_classes, label_smoothing=smooth),
        "photos": functional.cross_entropy(found.photo_logits, photo_classes, label_smoothing=smooth),
        "triplet": config.triplet_weight * triplet(found.sketches, sketch_classes, found.photos, photo_classes),
    }


def train(config: Config, work: Work) -> Path:
    """Run stage 1, going on from the last checkpoint in ``work.out`` if there is one.

    Returns:
        Path of ``objects.pt``: sizes, vocabulary and the averaged weights.

    Raises:
        DataError: There is no sketch or no object of a photo to learn from.
    """
    with begin(work, config.photos) as (device, data, unseen):
        torch.manual_seed(config.seed)
        model = ObjectEncoder(config.objects, len(data.vocabulary), config.pretrained)
        with first_alone():
            seen_crops = crop_features(data, model, work.out, work.threads, str(device))
            check_crops(data, len(seen_crops.classes))
            unseen_crops = crop_features(unseen, model, work.out, work.threads, str(device))
            edges = edge_maps(data, work.out) if any(phase.edges for _, phase in config.plan) else None
        weights = {cycle.photo_class_weight for cycle in config.cycles}
        sketches = {weight: SketchDraw(data, seen_crops.classes, weight) for weight in weights}
        average = fit(
            Course(
                name="objects",
                config=config,
                model=Branches(model, pooled=True),
                optimiser=_optimiser(model, config),
                batches=lambda epoch: Steps(
                    sketches[config.plan[epoch][0].photo_class_weight], seen_crops, edges, config, epoch
                ),
                losses=lambda net, batch: losses(net, batch, config),
                measure=lambda average: measure(average.model, unseen, unseen_crops),
                epochs=len(config.plan),
                steps=max(len(data.sketches.words) // config.batch, 1),
                seed=config.seed,
                ema=config.ema,
                rate=config.rate,
            ),
            work,
            device,
        )
        return save(work.out / "objects.pt", config, average.model, data.vocabulary)


def save(path: Path, config: object, model: ObjectEncoder, vocabulary: list[str]) -> Path:
    """Write a result of stage 1, by the first process; it is there when the others go on to stage 2."""
    with first_alone() as first:
        if first:
            save_result(path, config, model.state_dict(), objects=asdict(model.config), vocabulary=vocabulary)
    return path


def _optimiser(model: ObjectEncoder, config: Config) -> torch.optim.Optimizer:
    trunk = list(model.sketch_trunk.parameters())
    heads = [*model.sketch_fc.parameters(), *model.photo_fc.parameters(), *model.shared.parameters(), model.classes]
    groups = [
        {"params": trunk, "peak": config.learning_rate},
        {"params": heads, "peak": config.head_learning_rate},
        {"params": [model.log_scale], "peak": config.head_learning_rate, "weight_decay": 0.0},
    ]
    return adam(groups, config.weight_decay, decoupled=True)


class Reading(NamedTuple):
    """How held-out sketches and crops are read, one by one."""

    sketches: np.ndarray  # (n,) bool: read as its class
    with_photos: np.ndarray  # (n,) bool: of a class that has crops
    crops: np.ndarray  # (N,) bool: read as its class
    hits: np.ndarray  # (n', N) bool: for each sketch of such a class the crops, best first, that are of it


@torch.inference_mode()
def read(model: ObjectEncoder, unseen: TrainingSet, photos: Crops, batch: int = 64) -> Reading:
    """Read held-out sketches and crops, and rank the crops by each sketch whose class has some."""
    model.eval()
    spec, config, device = model.sketch_trunk.spec, model.config, model.classes.device
    classes = np.array([unseen.number[word] for word in unseen.sketches.words])
    drawings = unseen.sketches.drawings
    vectors = [torch.zeros(0, config.dim, device=device)]
    for start in range(0, len(drawings), batch):
        pictures = rasters(drawings[start : start + batch], None, config.sketch_size, config.line_width)
        with autocast(device):
            vectors.append(model.f_s(normalise(torch.from_numpy(pictures).to(device), spec.mean, spec.std)))
    sketches = torch.cat(vectors).cpu()  # (n, C)
    names = model.class_vectors().cpu()
    crops_ = model.f_i_pooled(torch.from_numpy(photos.features.astype(np.float32)).to(device)).cpu()  # (N, C)
    right = (sketches @ names.T).argmax(dim=1).numpy() == classes
    with_photos = np.isin(classes, photos.classes)
    crop_right = (crops_ @ names.T).argmax(dim=1).numpy() == photos.classes
    order = (sketches[torch.from_numpy(with_photos)] @ crops_.T).argsort(dim=1, descending=True).numpy()
    return Reading(right, with_photos, crop_right, photos.classes[order] == classes[with_photos][:, None])


def measure(model: ObjectEncoder, unseen: TrainingSet, photos: Crops) -> dict[str, float]:
    """Held-out sketches and crops: accuracies, and mAP and P@10 of crops ranked by a sketch.

    Returns:
        sketch_accuracy, sketch_accuracy_photo_classes (classes that have crops), crop_accuracy, map, p10; without what
        there is nothing to measure on.
    """
    found = read(model, unseen, photos)
    each = {
        "sketch_accuracy": found.sketches,
        "sketch_accuracy_photo_classes": found.sketches[found.with_photos],
        "crop_accuracy": found.crops,
        "map": average_precision(found.hits, found.hits, k=found.hits.shape[1]),
        "p10": precision_at(found.hits, k=10),
    }
    return {name: float(values.mean()) for name, values in each.items() if len(values)}
