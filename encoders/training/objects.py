"""Stage 1: f_s and f_i (section 3.1), on single sketches and the crops of photos.

The photo side's trunk stays frozen, so the pooled features of all crops are computed once. Both sides, through their
shared last layer, answer one cosine classifier over the classes of sketches and photos; a triplet term draws sketches
to photos.
"""

from __future__ import annotations

import copy
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from encoders.objects import ObjectConfig, ObjectEncoder, Pooled, normalise
from encoders.runtimes import Normalise, compile_module
from encoders.training.augment import rasters
from encoders.training.data import TrainingSet, crops, read_training_set
from encoders.training.loop import Log, autocast, follow, load_state, one_cycle, save_state
from encoders.training.losses import triplet


@dataclass(frozen=True)
class Config:
    """Stage 1.

    Attributes:
        data: Folder that `read_training_set` reads.
        out: Folder for the cache, checkpoints, metrics and the result, ``objects.pt``.
        objects: Sizes of the encoders.
        phases: (epochs, side of the raster, strength of its variation): most of training at a smaller size costs half.
        batch: Sketches a step.
        photo_batch: Photo features a step.
        photo_class_weight: How much likelier a sketch is drawn if its class has photos.
        learning_rate: Of the sketch trunk.
        head_learning_rate: Of everything else.
        weight_decay: AdamW's.
        label_smoothing: Of the classifier's targets.
        triplet_weight: Of the triplet term.
        ema: Decay a step of the averaged weights that are kept.
        min_area: Boxes under this part of their photo are left out.
        threads: CPU threads.
        seed: Of everything.
    """

    data: Path
    out: Path
    objects: ObjectConfig = field(default_factory=ObjectConfig)
    phases: tuple[tuple[int, int, float], ...] = ((10, 96, 1.0), (4, 128, 1.0), (4, 128, 0.6))
    batch: int = 64
    photo_batch: int = 320
    photo_class_weight: float = 3.0
    learning_rate: float = 8e-4
    head_learning_rate: float = 3e-3
    weight_decay: float = 2e-2
    label_smoothing: float = 0.1
    triplet_weight: float = 0.5
    ema: float = 0.998
    min_area: float = 0.01
    threads: int = 2
    seed: int = 0


@dataclass(frozen=True)
class Crops:
    """Pooled features (N, P) float16 of photo crops and their classes (N,)."""

    features: np.ndarray
    classes: np.ndarray


def crop_features(data: TrainingSet, model: ObjectEncoder, config: Config, cache: Path) -> Crops:
    """The frozen photo trunk's features of every box over ``min_area`` and every labelled photo; cached on disk."""
    if cache.exists():
        stored = np.load(cache)
        return Crops(stored["features"], stored["classes"])
    whole = np.array([[0, 0, 1, 1]], np.float32)
    jobs = [*zip(data.photos, data.boxes, data.words, strict=True)]
    jobs += [(path, whole, [word]) for path, word in zip(data.labelled, data.labels, strict=True)]
    spec, size = model.photo_trunk.spec, config.objects.crop_size
    network = nn.Sequential(Normalise(spec.mean, spec.std), Pooled(model.photo_trunk)).eval()
    run = compile_module(network, np.zeros((1, size, size, 3), np.uint8), threads=config.threads)
    features: list[np.ndarray] = []
    classes: list[int] = []
    started = time.monotonic()
    for done, (path, boxes, words) in enumerate(jobs):
        area = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
        keep = np.flatnonzero(area > config.min_area)
        if len(keep):
            features.append(run(crops(path, boxes[keep], size)).astype(np.float16))
            classes += [data.number[words[i]] for i in keep]
        if done % 500 == 0:
            print(f"crops of {done}/{len(jobs)} photos, {time.monotonic() - started:.0f} s", flush=True)
    result = Crops(np.concatenate(features), np.array(classes))
    np.savez(cache, features=result.features, classes=result.classes)
    return result


class _Batches:
    """Draws a step's sketches and photo features, classes with photos more often, photo classes evenly."""

    def __init__(self, data: TrainingSet, photos: Crops, config: Config) -> None:
        self.config, self.drawings, self.photos = config, data.sketches.drawings, photos
        self.classes = np.array([data.number[word] for word in data.sketches.words])
        weight = np.where(np.isin(self.classes, photos.classes), config.photo_class_weight, 1.0)
        self.sketch_weight = weight / weight.sum()
        frequency = np.bincount(photos.classes, minlength=len(data.vocabulary))[photos.classes]
        self.photo_weight = frequency**-0.5 / (frequency**-0.5).sum()
        self.steps = len(self.classes) // config.batch

    def draw(self, rng: np.random.Generator, side: int, strength: float) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Rasters (B, S, S) uint8, their classes, photo features (N, P), their classes."""
        config = self.config
        chosen = rng.choice(len(self.classes), config.batch, p=self.sketch_weight)
        width = config.objects.line_width * side / config.objects.sketch_size
        pictures = rasters([self.drawings[i] for i in chosen], rng, side, width, strength)
        photos = rng.choice(len(self.photos.classes), config.photo_batch, p=self.photo_weight)
        return (
            torch.from_numpy(pictures),
            torch.from_numpy(self.classes[chosen]),
            torch.from_numpy(self.photos.features[photos].astype(np.float32)),
            torch.from_numpy(self.photos.classes[photos]),
        )


def train(config: Config) -> Path:
    """Run stage 1, going on from the last finished epoch in ``config.out`` if there is one.

    Returns:
        Path of ``objects.pt``: sizes, vocabulary and the averaged weights.
    """
    torch.set_num_threads(config.threads)
    torch.manual_seed(config.seed)
    config.out.mkdir(parents=True, exist_ok=True)
    data, unseen = read_training_set(config.data), read_training_set(config.data, held_out=True)
    model = ObjectEncoder(config.objects, len(data.vocabulary), pretrained=True)
    model.photo_trunk.requires_grad_(False)
    seen_crops = crop_features(data, model, config, config.out / "crops.npz")
    unseen_crops = crop_features(unseen, model, config, config.out / "crops-held-out.npz")
    average = copy.deepcopy(model).eval()
    optimiser = _optimiser(model, config)
    batches = _Batches(data, seen_crops, config)
    plan = [(side, strength) for epochs, side, strength in config.phases for _ in range(epochs)]
    checkpoint = config.out / "objects-checkpoint.pt"
    first = load_state(checkpoint, model=model, average=average, optimiser=optimiser)
    log = Log(config.out / "objects.jsonl", config)
    for epoch in range(first, len(plan)):
        rng = np.random.default_rng([config.seed, epoch])
        torch.manual_seed(config.seed * 1000 + epoch)
        started, losses = time.monotonic(), []
        for step in range(batches.steps):
            one_cycle(optimiser, (epoch * batches.steps + step) / (len(plan) * batches.steps))
            losses.append(_step(model, optimiser, batches.draw(rng, *plan[epoch]), config))
            follow(average, model, min(config.ema, (epoch * batches.steps + step + 1) / 100))
            log.progress(epoch, step, batches.steps, float(np.mean(losses[-50:])))
        save_state(checkpoint, epoch + 1, model=model, average=average, optimiser=optimiser)
        log.epoch(epoch, side=plan[epoch][0], loss=float(np.mean(losses)), seconds=time.monotonic() - started,
                  **measure(average, unseen, unseen_crops))  # fmt: skip
    result = config.out / "objects.pt"
    torch.save(
        {"objects": asdict(config.objects), "vocabulary": data.vocabulary, "weights": average.state_dict()}, result
    )
    return result


def _optimiser(model: ObjectEncoder, config: Config) -> torch.optim.Optimizer:
    trunk = list(model.sketch_trunk.parameters())
    heads = [*model.sketch_fc.parameters(), *model.photo_fc.parameters(), *model.shared.parameters(), model.classes]
    return torch.optim.AdamW(
        [
            {"params": trunk, "peak": config.learning_rate},
            {"params": heads, "peak": config.head_learning_rate},
            {"params": [model.log_scale], "peak": config.head_learning_rate, "weight_decay": 0.0},
        ],
        lr=config.learning_rate,
        weight_decay=config.weight_decay,
    )


def _step(
    model: ObjectEncoder,
    optimiser: torch.optim.Optimizer,
    batch: tuple[Tensor, Tensor, Tensor, Tensor],
    config: Config,
) -> float:
    pictures, sketch_classes, features, photo_classes = batch
    spec = model.sketch_trunk.spec
    model.train()
    model.photo_trunk.eval()
    x = normalise(pictures, spec.mean, spec.std).contiguous(memory_format=torch.channels_last)
    with autocast():
        sketches, photos = model.f_s(x), model.f_i_pooled(features)
    scale, vectors = model.log_scale.exp(), model.class_vectors().T
    loss = (
        functional.cross_entropy(sketches @ vectors * scale, sketch_classes, label_smoothing=config.label_smoothing)
        + functional.cross_entropy(photos @ vectors * scale, photo_classes, label_smoothing=config.label_smoothing)
        + config.triplet_weight * triplet(sketches, sketch_classes, photos, photo_classes)
    )
    optimiser.zero_grad(set_to_none=True)
    loss.backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), 5.0)
    optimiser.step()
    return float(loss.detach())


@torch.inference_mode()
def measure(model: ObjectEncoder, unseen: TrainingSet, photos: Crops, batch: int = 64) -> dict[str, float]:
    """Held-out sketches and crops: accuracies, and mAP and P@10 of crops ranked by a sketch.

    Returns:
        sketch_accuracy, sketch_accuracy_photo_classes (classes that have crops), crop_accuracy, map, p10.
    """
    model.eval()
    spec, config = model.sketch_trunk.spec, model.config
    classes = np.array([unseen.number[word] for word in unseen.sketches.words])
    drawings = unseen.sketches.drawings
    vectors = []
    for start in range(0, len(drawings), batch):
        pictures = rasters(drawings[start : start + batch], None, config.sketch_size, config.line_width)
        with autocast():
            vectors.append(model.f_s(normalise(torch.from_numpy(pictures), spec.mean, spec.std)))
    sketches = torch.cat(vectors)  # (n, C)
    crops_ = model.f_i_pooled(torch.from_numpy(photos.features.astype(np.float32)))  # (N, C)
    right = (sketches @ model.class_vectors().T).argmax(dim=1).numpy() == classes
    with_photos = np.isin(classes, photos.classes)
    crop_right = (crops_ @ model.class_vectors().T).argmax(dim=1).numpy() == photos.classes
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
