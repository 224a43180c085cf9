"""Stage 2: f_t and the image side's last layers (section 3.3), contrasted on photos with boxes."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from encoders.indexing import IndexingBranch, IndexingConfig
from encoders.spatial import SpatialConfig, SpatialEncoder
from encoders.training import asking
from encoders.training.asking import AskConfig, Queries, Vectors
from encoders.training.data import read_training_set
from encoders.training.loop import Log, autocast, follow, load_state, one_cycle, save_state
from encoders.training.losses import in_batch, l_ce, l_con, l_sim
from encoders.training.views import ViewConfig, Views, make_views, mirror_boxes


@dataclass(frozen=True)
class Weights:
    """Of the terms of the loss; the paper's are sim .80, ce .15, con .05."""

    in_batch: float = 1.0
    sim: float = 0.2
    ce: float = 0.3
    con: float = 0.0


@dataclass(frozen=True)
class Config:
    """Stage 2.

    Attributes:
        data: Folder that `read_training_set` reads.
        objects: The result of stage 1.
        out: Folder for the cache, checkpoints, metrics and the result, ``spatial.pt``.
        indexing: Sizes of the image side.
        widths: Of f_t.
        views: How many views of each photo.
        weights: Of the losses.
        asking: How queries are made of photos.
        epochs: Passes over ``epoch_views`` views.
        epoch_views: Views an epoch.
        batch: Photos a step.
        temperature: Of the contrast.
        learning_rate: Of f_t and the reduction.
        trunk_learning_rate: Of the trunk's last layers.
        weight_decay: AdamW's; 5e-4 in the paper with ADAM.
        ema: Decay a step of the averaged weights that are kept.
        threads: CPU threads.
        seed: Of everything.
    """

    data: Path
    objects: Path
    out: Path
    indexing: IndexingConfig = field(default_factory=IndexingConfig)
    widths: tuple[int, int] = (256, 512)
    views: ViewConfig = field(default_factory=ViewConfig)
    weights: Weights = field(default_factory=Weights)
    asking: AskConfig = field(default_factory=AskConfig)
    epochs: int = 10
    epoch_views: int = 4800
    batch: int = 96
    temperature: float = 0.07
    learning_rate: float = 1.5e-3
    trunk_learning_rate: float = 3e-4
    weight_decay: float = 2e-2
    ema: float = 0.995
    threads: int = 2
    seed: int = 0


class Model(nn.Module):
    """Everything that learns here: f_t, the image side, and the classifier g of eq. 6."""

    def __init__(self, config: Config, channels: int, classes: int) -> None:
        super().__init__()
        self.image = IndexingBranch(config.indexing, pretrained=True)
        self.image.frozen.requires_grad_(False)
        out = self.image.channels
        rectified = not config.indexing.channels and self.image.spec.rectified
        self.f_t = SpatialEncoder(SpatialConfig(channels, config.widths, out, relu=rectified))
        self.g = nn.Linear(out, classes)


@dataclass(frozen=True)
class Batch:
    """B views and a query for each: what a step needs."""

    features: Tensor  # (B, E, h, w)
    tensors: Tensor  # (B, C, 31, 31)
    relevance: Tensor  # (B, B)
    likelihood: Tensor  # (B, K)


def _draw(views: Views, rows: np.ndarray, vectors: Vectors, config: AskConfig, rng: np.random.Generator) -> Batch:
    """The views of ``rows``, half of them mirrored, and what is asked of them."""
    features, boxes = [], []
    for row in rows:
        view, its_boxes = np.asarray(views.features[row]), views.boxes[row]
        if rng.random() < 0.5:
            view, its_boxes = view[:, :, ::-1], mirror_boxes(its_boxes)
        features.append(view)
        boxes.append(its_boxes)
    classes = [views.classes[row] for row in rows]
    asked = asking.ask(boxes, classes, vectors, config, rng)
    likelihood = np.zeros((len(rows), len(vectors.names)), np.float32)
    for i, kinds in enumerate(classes):
        likelihood[i, kinds] = 1
    return Batch(
        torch.from_numpy(np.stack(features).astype(np.float32)),
        torch.from_numpy(asked.tensors),
        torch.from_numpy(asking.relevance(asked.boxes, asked.classes, boxes, classes)),
        torch.from_numpy(likelihood),
    )


def _embed(maps: Tensor) -> Tensor:
    return functional.normalize(maps.flatten(1).float(), dim=1)


def _step(model: Model, optimiser: torch.optim.Optimizer, batch: Batch, config: Config) -> float:
    model.train()
    with autocast():
        maps = model.image.from_frozen(batch.features)  # (B, D, 7, 7)
        logits = model.g(maps.mean((2, 3)))
        query = _embed(model.f_t(batch.tensors.contiguous(memory_format=torch.channels_last)))
    image = _embed(maps)
    weights = config.weights
    loss = weights.in_batch * in_batch(query, image, batch.relevance, config.temperature)
    loss = loss + weights.sim * l_sim(query, image) + weights.ce * l_ce(logits.float(), batch.likelihood)
    if weights.con:
        loss = loss + weights.con * l_con(query, image, image.roll(1, dims=0))
    optimiser.zero_grad(set_to_none=True)
    loss.backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), 5.0)
    optimiser.step()
    return float(loss.detach())


def train(config: Config) -> Path:
    """Run stage 2, going on from the last finished epoch in ``config.out`` if there is one.

    Returns:
        Path of ``spatial.pt``: sizes and the averaged weights.
    """
    torch.set_num_threads(config.threads)
    torch.manual_seed(config.seed)
    config.out.mkdir(parents=True, exist_ok=True)
    data, unseen = read_training_set(config.data), read_training_set(config.data, held_out=True)
    objects, vocabulary = asking.load_objects(config.objects)
    model = Model(config, objects.config.dim, len(vocabulary))
    views = make_views(data, model.image, config.views, config.out / "views", config.seed, config.threads)
    test_views = make_views(unseen, model.image, ViewConfig(0, 0), config.out / "views-held-out", 0, config.threads)
    vectors = asking.make_vectors(objects, data, config.asking, config.out / "sketches.npy", config.seed)
    check = asking.held_out_queries(objects, unseen, test_views, config.seed)
    model.f_t.to(memory_format=torch.channels_last)
    average = copy.deepcopy(model).eval()
    fast = [p for part in (model.f_t, model.image.reduce, model.g) for p in part.parameters()]
    optimiser = torch.optim.AdamW(
        [
            {"params": fast, "peak": config.learning_rate},
            {"params": list(model.image.last.parameters()), "peak": config.trunk_learning_rate},
        ],
        lr=config.learning_rate,
        weight_decay=config.weight_decay,
    )
    usable = asking.usable(views, config.asking)
    steps = config.epoch_views // config.batch
    checkpoint = config.out / "spatial-checkpoint.pt"
    first = load_state(checkpoint, model=model, average=average, optimiser=optimiser)
    log = Log(config.out / "spatial.jsonl", config)
    for epoch in range(first, config.epochs):
        rng = np.random.default_rng([config.seed, epoch])
        order = rng.permutation(usable)
        started, losses = time.monotonic(), []
        for step in range(steps):
            one_cycle(optimiser, (epoch * steps + step) / (config.epochs * steps))
            rows = order[np.arange(step * config.batch, (step + 1) * config.batch) % len(order)]
            losses.append(_step(model, optimiser, _draw(views, rows, vectors, config.asking, rng), config))
            follow(average, model, min(config.ema, (epoch * steps + step + 1) / 50))
            log.progress(epoch, step, steps, float(np.mean(losses[-20:])))
        save_state(checkpoint, epoch + 1, model=model, average=average, optimiser=optimiser)
        log.epoch(epoch, loss=float(np.mean(losses)), seconds=time.monotonic() - started,
                  map=measure(average, test_views, check))  # fmt: skip
    result = config.out / "spatial.pt"
    torch.save({"indexing": asdict(config.indexing), "widths": config.widths, "weights": average.state_dict()}, result)
    return result


@torch.inference_mode()
def embed(network: Callable[[Tensor], Tensor], inputs: np.ndarray, rows: np.ndarray | None = None) -> np.ndarray:
    """Flattened output of a network, in evaluation mode, for rows of what it takes: E_I of views, E_Q of query tensors.

    Args:
        network: (B, ...) to (B, D, 7, 7).
        inputs: (N, ...), which may lie on disk.
        rows: Which rows; None for all.

    Returns:
        (N, 49 D) float32.
    """
    chosen = np.arange(len(inputs)) if rows is None else rows
    parts = []
    for start in range(0, len(chosen), 64):
        batch = torch.from_numpy(np.asarray(inputs[chosen[start : start + 64]], np.float32))
        with autocast():
            parts.append(network(batch).flatten(1).float().numpy())
    return np.concatenate(parts)


def measure(model: Model, views: Views, queries: Queries) -> float:
    """mAP at tau .5 of held-out queries among the held-out photos, by the flattened embedding."""
    model.eval()
    images = torch.from_numpy(embed(model.image.from_frozen, views.features))
    asked = torch.from_numpy(embed(model.f_t, queries.tensors))
    cosine = functional.normalize(asked, dim=1) @ functional.normalize(images, dim=1).T  # (Q, N)
    return queries.mean_average_precision(cosine.numpy())
