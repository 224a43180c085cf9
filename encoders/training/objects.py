"""Stage 1: f_s and f_i (section 3.1), on single sketches and the crops of photos.

The photo side's trunk stays frozen, so the pooled features of all crops are computed once. Both sides, through their
shared last layer, answer one cosine classifier over the classes of sketches and photos; a triplet term draws sketches
to photos. `msbir` trains them in the paper's own stages.
"""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import Dataset

from encoders.objects import ObjectConfig, ObjectEncoder, Pooled, normalise
from encoders.runtimes import Normalise, compile_module
from encoders.training.augment import rasters
from encoders.training.checkpoints import digest, save_result
from encoders.training.data import TrainingSet, crops, read_training_set
from encoders.training.loop import Course, Work, adam, autocast, fit, generator
from encoders.training.losses import triplet
from encoders.training.processes import first_alone, gather, gather_all, per_process, rank, team

MIN_AREA = 0.01  # of its photo: smaller boxes are no crops


@dataclass(frozen=True)
class Config:
    """Stage 1.

    Attributes:
        recipe: Whose part this is.
        objects: Sizes of the encoders.
        phases: (epochs, side of the raster, strength of its variation): most of training at a smaller size costs half.
        pretrained: Start from ImageNet weights.
        photos: Photos and sketches to train on at most, each; 0 for all.
        batch: Sketches a step, of all processes together.
        photo_batch: Photo features a step, likewise.
        photo_class_weight: How much likelier a sketch is drawn if its class has photos.
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
    phases: tuple[tuple[int, int, float], ...] = ((10, 96, 1.0), (4, 128, 1.0), (4, 128, 0.6))
    pretrained: bool = True
    photos: int = 0
    batch: int = 64
    photo_batch: int = 320
    photo_class_weight: float = 3.0
    learning_rate: float = 8e-4
    head_learning_rate: float = 3e-3
    weight_decay: float = 2e-2
    label_smoothing: float = 0.1
    triplet_weight: float = 0.5
    ema: float = 0.998
    seed: int = 0


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
    """Every crop there is to learn from: boxes over `MIN_AREA`, and labelled photos as a whole.

    Returns:
        (photo, boxes (n, 4), number of its first box) for each photo, and the class (M,) of each crop by its number.
    """
    whole = np.array([[0, 0, 1, 1]], np.float32)
    starts = np.cumsum([0, *(len(boxes) for boxes in data.boxes)])
    jobs = [*zip(data.photos, data.boxes, starts.tolist(), strict=False)]
    jobs += [(path, whole, int(starts[-1]) + i) for i, path in enumerate(data.labelled)]
    words = [*(word for row in data.words for word in row), *data.labels]
    return jobs, np.array([data.number[word] for word in words], np.int64)


def crop_features(data: TrainingSet, model: ObjectEncoder, folder: Path, threads: int, device: str = "cpu") -> Crops:
    """The photo trunk's features of all crops, kept in the folder for this trunk and these photos."""
    size = model.config.crop_size
    cache = folder / f"crops-{digest(model.photo_trunk, size, MIN_AREA, data)}.npz"
    if cache.exists():
        return Crops(**np.load(cache))
    result = compute_crops(data, model, threads, device)
    fresh = cache.with_suffix(".new.npz")
    np.savez(fresh, **vars(result))
    fresh.replace(cache)
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


class Batch(NamedTuple):
    """Of a step."""

    pictures: Tensor  # (B, S, S) uint8 rasters
    sketch_classes: Tensor  # (B,)
    features: Tensor  # (N, P) float16 of crops
    photo_classes: Tensor  # (N,)


class SketchDraw:
    """Draws sketches, those of classes with photos more often.

    Args:
        data: The sketches.
        photo_classes: Classes that have photos.
        weight: How much likelier a sketch is whose class has photos.
    """

    def __init__(self, data: TrainingSet, photo_classes: np.ndarray, weight: float) -> None:
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

    def __init__(self, sketches: SketchDraw, photos: Crops, config: Config, epoch: int) -> None:
        self.sketches, self.photos, self.config, self.epoch = sketches, photos, config, epoch
        self.side, self.strength = _plan(config)[epoch]
        self.photo_chance = evenly(photos.classes)

    def __getitem__(self, step: int) -> Batch:
        """The batch of a step."""
        config, rng = self.config, generator(self.config.seed, self.epoch, step, rank())
        width = config.objects.line_width * self.side / config.objects.sketch_size
        drawn = self.sketches.draw(per_process(config.batch), rng, self.side, width, self.strength)
        photos = rng.choice(len(self.photos.classes), per_process(config.photo_batch), p=self.photo_chance)
        features, classes = self.photos.features[photos], self.photos.classes[photos]
        return Batch(*drawn, torch.from_numpy(features), torch.from_numpy(classes))


def _plan(config: Config) -> list[tuple[int, float]]:
    """Each epoch's side and strength."""
    return [(side, strength) for epochs, side, strength in config.phases for _ in range(epochs)]


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
    """
    torch.set_num_threads(work.threads)
    with team(work.device) as device:
        torch.manual_seed(config.seed)
        work.out.mkdir(parents=True, exist_ok=True)
        data = read_training_set(work.data).sample(config.photos)
        unseen = read_training_set(work.data, held_out=True).sample(config.photos)
        model = ObjectEncoder(config.objects, len(data.vocabulary), config.pretrained)
        with first_alone():
            seen_crops = crop_features(data, model, work.out, work.threads, str(device))
            unseen_crops = crop_features(unseen, model, work.out, work.threads, str(device))
        sketches = SketchDraw(data, seen_crops.classes, config.photo_class_weight)
        average = fit(
            Course(
                name="objects",
                config=config,
                model=Branches(model, pooled=True),
                optimiser=_optimiser(model, config),
                batches=lambda epoch: Steps(sketches, seen_crops, config, epoch),
                losses=lambda net, batch: losses(net, batch, config),
                measure=lambda average: measure(average.model, unseen, unseen_crops),
                epochs=len(_plan(config)),
                steps=max(len(sketches) // config.batch, 1),
                seed=config.seed,
                ema=config.ema,
            ),
            work,
            device,
        )
        return save(work.out / "objects.pt", config, average.model, data.vocabulary)


def save(path: Path, config: object, model: ObjectEncoder, vocabulary: list[str]) -> Path:
    """Write a result of stage 1, by the first process."""
    if rank() == 0:
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


@torch.inference_mode()
def measure(model: ObjectEncoder, unseen: TrainingSet, photos: Crops, batch: int = 64) -> dict[str, float]:
    """Held-out sketches and crops: accuracies, and mAP and P@10 of crops ranked by a sketch.

    Returns:
        sketch_accuracy, sketch_accuracy_photo_classes (classes that have crops), crop_accuracy, map, p10.
    """
    model.eval()
    spec, config, device = model.sketch_trunk.spec, model.config, model.classes.device
    classes = np.array([unseen.number[word] for word in unseen.sketches.words])
    drawings = unseen.sketches.drawings
    vectors = []
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
    hits = photos.classes[order] == classes[with_photos][:, None]  # (n', N)
    precision = hits.cumsum(axis=1) / np.arange(1, hits.shape[1] + 1)
    return {
        "sketch_accuracy": float(right.mean()),
        "sketch_accuracy_photo_classes": float(right[with_photos].mean()),
        "crop_accuracy": float(crop_right.mean()),
        "map": float(((precision * hits).sum(axis=1) / hits.sum(axis=1)).mean()),
        "p10": float(hits[:, :10].sum(axis=1).mean() / 10),
    }
