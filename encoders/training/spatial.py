"""Stage 2: f_t and the image side (section 3.3), contrasted on photos with boxes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from encoders.errors import DataError
from encoders.indexing import GRID, IndexingBranch, IndexingConfig
from encoders.runtimes import Normalise
from encoders.spatial import SpatialConfig, SpatialEncoder
from encoders.training.asking import AskConfig, Asker, Queries, held_out_queries
from encoders.training.batches import Batch, CachedViews, Photos, Pictures, Steps
from encoders.training.checkpoints import digest, save_result
from encoders.training.data import TrainingSet
from encoders.training.loop import Course, Work, adam, autocast, begin, constant, fit, one_cycle
from encoders.training.losses import cell_classes, in_batch, l_ce, l_cells, l_con, l_sim, relevance
from encoders.training.processes import first_alone, gather_all, rank
from encoders.training.sources import open_source
from encoders.training.views import ViewConfig, Views, make_views


@dataclass(frozen=True)
class Weights:
    """Of the terms of the loss; the paper's are sim .80, ce .15, con .05.

    Attributes:
        in_batch: `losses.in_batch`.
        sim: Eq. 5.
        ce: Eq. 6.
        con: Eq. 7.
        cells: Eq. 6 in every cell of T_I.
        asked_cells: The same of f_t's output: one classifier reads both, so that both say a class in the same way.
    """

    in_batch: float = 1.0
    sim: float = 0.2
    ce: float = 0.3
    con: float = 0.0
    cells: float = 0.0
    asked_cells: float = 0.0


@dataclass(frozen=True)
class Config:
    """Stage 2.

    Attributes:
        recipe: Whose part this is.
        indexing: Sizes of the image side, and how much of it learns; the rest is computed once a view.
        pretrained: Start the trunk from ImageNet weights; without them from chance, where there are none to be had.
        widths: Of f_t.
        head: Width of g, the fc layer of eq. 6 over the whole of T_I: 4096 in the paper; 0 for a linear classifier of
            the mean of T_I's cells.
        views: How many views of each photo.
        weights: Of the losses.
        asking: How queries are made of photos.
        photos: Photos to train on at most; 0 for all.
        epochs: Passes over ``epoch_views`` views.
        epoch_views: Views an epoch; 0 for each once.
        batch: Photos a step, of all processes together.
        temperature: Of the contrast.
        margin: m of eq. 7.
        learning_rate: Of f_t, the reduction and g.
        trunk_learning_rate: Of the trunk's last layers.
        weight_decay: 5e-4 in the paper.
        decoupled: Weight decay as AdamW's; else as ADAM's, which the paper has.
        one_cycle: The rate rises and falls; else it stays, as in the paper.
        ema: Decay a step of the averaged weights that are kept; 0 keeps the last.
        seed: Of everything.
    """

    recipe: str = ""
    indexing: IndexingConfig = field(default_factory=IndexingConfig)
    pretrained: bool = True
    widths: tuple[int, int] = (256, 512)
    head: int = 0
    views: ViewConfig = field(default_factory=ViewConfig)
    weights: Weights = field(default_factory=Weights)
    asking: AskConfig = field(default_factory=AskConfig)
    photos: int = 0
    epochs: int = 10
    epoch_views: int = 4800
    batch: int = 96
    temperature: float = 0.07
    margin: float = 0.3
    learning_rate: float = 1.5e-3
    trunk_learning_rate: float = 3e-4
    weight_decay: float = 2e-2
    decoupled: bool = True
    one_cycle: bool = True
    ema: float = 0.995
    seed: int = 0


class Embedded(NamedTuple):
    """What the networks make of B photos and the queries of them."""

    query: Tensor  # (B, 49 D), unit length: E_Q'
    image: Tensor  # (B, 49 D), unit length: E_I
    logits: Tensor  # (B, K): g(T_I)
    cells: Tensor  # (B, K + 1, 7, 7): what a classifier reads in each cell of T_I; (B, 0) where it is not asked
    asked_cells: Tensor  # (B, K + 1, 7, 7): and of f_t's output


class Model(nn.Module):
    """Everything that learns here: f_t, the image side, and the classifier g of eq. 6."""

    def __init__(self, config: Config, channels: int, classes: int, pretrained: bool = True) -> None:
        super().__init__()
        self.image = IndexingBranch(config.indexing, pretrained and config.pretrained)
        self.image.frozen.requires_grad_(False)
        self.pixels = Normalise(self.image.spec.mean, self.image.spec.std)
        out = self.image.channels
        rectified = not config.indexing.channels and self.image.spec.rectified
        self.f_t = SpatialEncoder(SpatialConfig(channels, config.widths, out, relu=rectified))
        self.g: nn.Module = nn.Linear(out, classes)
        if config.head:  # an fc layer over T_I, as VGG's over its last map
            fc = nn.Linear(GRID * GRID * out, config.head)
            self.g = nn.Sequential(nn.Flatten(), fc, nn.ReLU(inplace=True), nn.Linear(config.head, classes))
        reads = config.weights.cells or config.weights.asked_cells
        self.cells = nn.Conv2d(out, classes + 1, 1) if reads else None

    def forward(self, features: Tensor, cells: Tensor, vectors: Tensor) -> Embedded:
        """A `Batch`'s features and queries to what the losses compare."""
        x = self.pixels(features) if features.dtype == torch.uint8 else features.float()
        maps = self.image.from_frozen(x)  # (B, D, 7, 7)
        query = self.f_t.painted(cells, vectors)  # (B, D, 7, 7)
        logits = self.g(maps if isinstance(self.g, nn.Sequential) else maps.mean((2, 3)))
        none = maps.new_zeros(len(maps), 0)
        shown, asked = (none, none) if self.cells is None else (self.cells(maps), self.cells(query))
        return Embedded(_embed(query), _embed(maps), logits.float(), shown.float(), asked.float())


def _embed(maps: Tensor) -> Tensor:
    return functional.normalize(maps.flatten(1).float(), dim=1)


def terms(found: Embedded, batch: Batch, config: Config) -> dict[str, Tensor]:
    """The loss, term by term and weighted; a further term is an entry here and its weight one in `Weights`.

    Args:
        found: Of the whole batch.
        batch: The whole batch, of all processes.
        config: Its weights, temperature and margin.
    """
    weights, (query, image, logits, shown, asked) = config.weights, found
    losses = {}
    if weights.in_batch:
        relevant = relevance(batch.asked, batch.asked_classes, batch.boxes, batch.classes)
        losses["in_batch"] = weights.in_batch * in_batch(query, image, relevant, config.temperature)
    if weights.sim:
        losses["sim"] = weights.sim * l_sim(query, image)
    if weights.ce:
        present = torch.zeros_like(logits)  # c(I)
        present.scatter_reduce_(1, batch.classes.clamp_min(0), (batch.classes >= 0).to(present.dtype), "amax")
        losses["ce"] = weights.ce * l_ce(logits, present)
    classes_and_nothing = shown.shape[1]
    if weights.cells:
        target = cell_classes(batch.boxes, batch.classes, classes_and_nothing - 1)
        losses["cells"] = weights.cells * l_cells(shown, target)
    if weights.asked_cells:
        target = cell_classes(batch.asked, batch.asked_classes, classes_and_nothing - 1)
        losses["asked_cells"] = weights.asked_cells * l_cells(asked, target)
    if weights.con:  # the batch is in random order: the next photo is a random one
        losses["con"] = weights.con * l_con(query, image, image.roll(1, dims=0), config.margin)
    return losses


def losses(model: nn.Module, batch: Batch, config: Config) -> dict[str, Tensor]:
    """The loss' terms of a step, over the batches of all processes."""
    with autocast(batch.features.device):
        found: Embedded = model(batch.features, batch.cells, batch.vectors)
    none = batch.asked_classes  # in place of what is too large to send and not needed
    rest = batch._replace(features=none, cells=none, vectors=none)
    return terms(gather_all(found), gather_all(rest), config)


def train(config: Config, work: Work, first: Path | None = None) -> Path:
    """Run stage 2, going on from the last checkpoint in ``work.out`` if there is one.

    Args:
        config: The stage's.
        work: Where and on what.
        first: Result of stage 1, whose vectors queries are painted with; ``objects.pt`` in ``work.out`` by default.

    Returns:
        Path of ``spatial.pt``: sizes and the averaged weights.
    """
    with begin(work, config.photos) as (device, data, unseen):
        with first_alone():
            source = open_source(first or work.out / "objects.pt", data, unseen, config.asking, work.out, config.seed)
        torch.manual_seed(config.seed)
        asker, model = Asker(source, config.asking), Model(config, source.channels, len(source.vocabulary))
        with first_alone():
            pictures = _pictures(data, model.image, asker, config, work, str(device))
            test_views = held_out_views(unseen, model.image, config, work, str(device))
        check = held_out_queries(source, test_views, config.seed)
        usable = asker.usable(pictures)
        if not len(usable):
            raise DataError(
                f"{work.data}: none of {len(data.photos)} photos has a box over {config.asking.min_area:.1%} of it "
                "that can be asked for; give more photos, or boxes of classes with sketches"
            )
        average = fit(
            Course(
                name="spatial",
                config=config,
                model=model,
                optimiser=_optimiser(model, config),
                batches=lambda epoch: Steps(pictures, usable, asker, config.batch, config.seed, epoch),
                losses=lambda net, batch: losses(net, batch, config),
                measure=lambda average: {"map": measure(average, test_views, check, device)},
                epochs=config.epochs,
                steps=max((config.epoch_views or len(usable)) // config.batch, 1),
                seed=config.seed,
                ema=config.ema,
                ramp=50,
                rate=one_cycle if config.one_cycle else constant,
            ),
            work,
            device,
        )
        result = work.out / "spatial.pt"
        if rank() == 0:
            made = {"indexing": asdict(config.indexing), "widths": config.widths}
            save_result(result, config, average.state_dict(), **made)
    return result


def _optimiser(model: Model, config: Config) -> torch.optim.Optimizer:
    heads = [model.g] if model.cells is None else [model.g, model.cells]
    fast = [p for part in (model.f_t, model.image.reduce, *heads) for p in part.parameters()]
    last = list(model.image.last.parameters())
    groups = [{"params": fast, "peak": config.learning_rate}]
    if last:
        groups.append({"params": last, "peak": config.trunk_learning_rate})
    return adam(groups, config.weight_decay, config.decoupled)


def _pictures(
    data: TrainingSet, branch: IndexingBranch, asker: Asker, config: Config, work: Work, device: str
) -> Pictures:
    """Views through the frozen layers, or, where nothing is frozen, photos to decode."""
    if not len(branch.frozen):
        return Photos(data, config.views, config.indexing.image_size, asker)
    name = f"views-{digest(branch.frozen, config.indexing.image_size, config.views, config.seed, data)}"
    return CachedViews(make_views(data, branch, config.views, work.out / name, config.seed, work.threads, device))


def held_out_views(
    unseen: TrainingSet, branch: IndexingBranch, config: Config, work: Work, device: str = "cpu"
) -> Views:
    """The held-out photos as they are, through the frozen layers."""
    name = f"views-held-out-{digest(branch.frozen, config.indexing.image_size, unseen)}"
    return make_views(unseen, branch, ViewConfig(0, 0), work.out / name, 0, work.threads, device)


@torch.inference_mode()
def embed(
    network: Callable[[Tensor], Tensor],
    inputs: np.ndarray,
    rows: np.ndarray | None = None,
    device: str | torch.device = "cpu",
) -> np.ndarray:
    """Flattened output of a network, in evaluation mode, for rows of what it takes: E_I of views, E_Q of query tensors.

    Args:
        network: (B, ...) to (B, D, 7, 7).
        inputs: (N, ...), which may lie on disk.
        rows: Which rows; None for all.
        device: Where the network is.

    Returns:
        (N, 49 D) float32.
    """
    chosen = np.arange(len(inputs)) if rows is None else rows
    parts = []
    for start in range(0, len(chosen), 64):
        batch = torch.from_numpy(np.asarray(inputs[chosen[start : start + 64]], np.float32)).to(device)
        with autocast(device):
            parts.append(network(batch).flatten(1).float().cpu().numpy())
    return np.concatenate(parts)


def measure(model: Model, views: Views, queries: Queries, device: str | torch.device = "cpu") -> float:
    """mAP at tau .5 of held-out queries among the held-out photos, by the flattened embedding."""
    images = torch.from_numpy(embed(model.image.from_frozen, views.features, device=device))
    asked = torch.from_numpy(embed(model.f_t, queries.tensors, device=device))
    cosine = functional.normalize(asked, dim=1) @ functional.normalize(images, dim=1).T  # (Q, N)
    return queries.mean_average_precision(cosine.numpy())
