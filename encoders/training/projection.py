"""Stage 3: the projection (section 3.4), f_t once more in the projected space, and the bundle of all three stages.

PCA and OPQ are fitted on photos alone. What f_t drew towards the photos in all 49 D dimensions is not quite what lies
nearest in the d that are kept, so f_t learns on, against the projected photos, which stay where they are.
"""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from torch.nn import functional

from encoders.bundle import Bundle
from encoders.evaluation.relevance import Gallery, relevances
from encoders.images import load_photo
from encoders.indexing import GRID, IndexingBranch
from encoders.local import Networks
from encoders.objects import ObjectEncoder
from encoders.projection import Projection, fit
from encoders.runtimes import Normalise, compile_module
from encoders.training import asking
from encoders.training import spatial as stage2
from encoders.training.asking import Asked, Queries, Vectors
from encoders.training.data import read_training_set
from encoders.training.loop import Log, autocast, follow, one_cycle
from encoders.training.losses import towards
from encoders.training.views import ViewConfig, Views, make_views


@dataclass(frozen=True)
class Config:
    """Stage 3.

    Attributes:
        data: Folder that `read_training_set` reads.
        objects: The result of stage 1.
        spatial: The result of stage 2; its folder holds the views.
        out: Folder of the bundle.
        stage2: What stage 2 ran with: views, mixture and jitter are as there.
        name: Of the bundle.
        description: Of the bundle.
        dim: d, what a collection stores.
        m: Bytes of a product quantiser's code.
        samples: Photos that PCA and OPQ are fitted on, at most.
        epochs: Passes of f_t over ``epoch_views`` views; 0 keeps stage 2's.
        epoch_views: Views an epoch.
        learning_rate: Of f_t.
        threads: CPU threads.
        seed: Of everything.
    """

    data: Path
    objects: Path
    spatial: Path
    out: Path
    stage2: stage2.Config
    name: str = "default"
    description: str = ""
    dim: int = 256
    m: int = 16
    samples: int = 8000
    epochs: int = 4
    epoch_views: int = 4800
    learning_rate: float = 5e-4
    threads: int = 2
    seed: int = 0


def load_spatial(config: Config, channels: int, classes: int) -> stage2.Model:
    """The result of stage 2."""
    stored = torch.load(config.spatial, weights_only=True)
    model = stage2.Model(config.stage2, channels, classes)
    model.load_state_dict(stored["weights"])
    return model.eval()


@torch.inference_mode()
def embed_views(branch: IndexingBranch, views: Views, rows: Sequence[int] | np.ndarray) -> np.ndarray:
    """E_I of views, (N, 49 D) float32."""
    parts = []
    for start in range(0, len(rows), 64):
        features = np.stack([views.features[row] for row in rows[start : start + 64]]).astype(np.float32)
        with autocast():
            parts.append(branch.from_frozen(torch.from_numpy(features)).flatten(1).float().numpy())
    return np.concatenate(parts)


def embed_photos(branch: IndexingBranch, paths: Sequence[Path], threads: int) -> np.ndarray:
    """E_I of photos, (N, 49 D) float32."""
    size = branch.config.image_size
    if not paths:  # a folder may hold nothing but photos with boxes
        return np.zeros((0, GRID * GRID * branch.channels), np.float32)
    network = torch.nn.Sequential(Normalise(branch.spec.mean, branch.spec.std), branch, torch.nn.Flatten()).eval()
    run = compile_module(network, np.zeros((1, size, size, 3), np.uint8), threads=threads)
    batches = [paths[start : start + 16] for start in range(0, len(paths), 16)]
    return np.concatenate([run(np.stack([load_photo(path, size).pixels for path in batch])) for batch in batches])


def train(config: Config) -> Path:
    """Run stage 3.

    Returns:
        Folder of the bundle.
    """
    torch.set_num_threads(config.threads)
    torch.manual_seed(config.seed)
    data, unseen = read_training_set(config.data), read_training_set(config.data, held_out=True)
    objects, vocabulary = asking.load_objects(config.objects)
    model = load_spatial(config, objects.config.dim, len(vocabulary))
    work, second = config.spatial.parent, config.stage2
    log = Log(work / "projection.jsonl", config)
    views = make_views(data, model.image, second.views, work / "views", second.seed, config.threads)
    test_views = make_views(unseen, model.image, ViewConfig(0, 0), work / "views-held-out", 0, config.threads)
    embedded = embed_views(model.image, views, range(len(views)))
    more = embed_photos(model.image, [*data.labelled, *data.unlabelled], config.threads)
    whole = np.flatnonzero((views.photo >= 0) & np.r_[True, views.photo[1:] != views.photo[:-1]])
    # Photos as they are; crops and pasted scenes, which no collection holds, are left out.
    sample = np.random.default_rng(config.seed).permutation(np.concatenate([embedded[whole], more]))[: config.samples]
    projection = fit(sample, config.dim, config.m, config.seed)
    check = asking.held_out_queries(objects, unseen, test_views, second.seed)
    gallery = projection.apply(embed_views(model.image, test_views, range(len(test_views))))

    def measure() -> float:
        return _measure(model, projection, gallery, check)

    log.epoch(-1, map=measure())
    vectors = asking.make_vectors(objects, data, second.asking, work / "sketches.npy", second.seed)
    bank = Bank(views, whole, projection.apply(embedded), projection.apply(more))
    _adapt(model, projection, bank, vectors, config, measure, log)
    return _save(config, objects, vocabulary, model, projection, log)


class Bank:
    """Projected photos that queries are contrasted with.

    Attributes:
        views: Of the training photos.
        vectors: (N, d) of the views.
        photos: (M, d) of the photos as they are, then of photos without boxes.
        gallery: The boxes of ``photos``.
    """

    def __init__(self, views: Views, whole: np.ndarray, vectors: np.ndarray, more: np.ndarray) -> None:
        self.views, self.vectors = views, torch.from_numpy(vectors)
        self.photos = torch.from_numpy(np.concatenate([vectors[whole], more]))
        boxes = [views.boxes[row] for row in whole]
        owners = np.repeat(np.arange(len(whole)), [len(row) for row in boxes])
        classes = _names(np.concatenate([views.classes[row] for row in whole]))
        self.gallery = Gallery.build(np.concatenate(boxes), owners, classes, len(self.photos))

    def relevance(self, asked: Asked) -> np.ndarray:
        """Eq. 9 of each query with each photo, (B, M) float32."""
        rows = np.zeros((len(asked.boxes), len(self.photos)), np.float32)
        queries = zip(asked.boxes, (_names(kinds) for kinds in asked.classes), strict=True)
        for row, found in zip(rows, relevances(queries, self.gallery), strict=True):
            row[found.photos] = found.values
        return rows


def _names(classes: np.ndarray) -> list[str]:
    return [str(kind) for kind in classes]


def _adapt(
    model: stage2.Model,
    projection: Projection,
    bank: Bank,
    vectors: Vectors,
    config: Config,
    measure: Callable[[], float],
    log: Log,
) -> None:
    """Let f_t learn on, towards each query's own view and away from every other photo of the training set."""
    second, views = config.stage2, bank.views
    matrix, offset = torch.from_numpy(projection.matrix), torch.from_numpy(projection.offset)
    average, learning = copy.deepcopy(model.f_t), model.f_t
    model.f_t = average
    peak = {"params": list(learning.parameters()), "peak": config.learning_rate}
    optimiser = torch.optim.AdamW([peak], lr=config.learning_rate, weight_decay=second.weight_decay)
    usable, steps = asking.usable(views, second.asking), config.epoch_views // second.batch
    for epoch in range(config.epochs):
        rng = np.random.default_rng([config.seed, 1, epoch])
        order, started, losses = rng.permutation(usable), time.monotonic(), []
        for step in range(steps):
            one_cycle(optimiser, (epoch * steps + step) / (config.epochs * steps))
            rows = order[np.arange(step * second.batch, (step + 1) * second.batch) % len(order)]
            boxes, classes = [views.boxes[row] for row in rows], [views.classes[row] for row in rows]
            asked = asking.ask(boxes, classes, vectors, second.asking, rng)
            relevance = np.concatenate([
                asking.relevance(asked.boxes, asked.classes, boxes, classes), bank.relevance(asked)
            ], axis=1)  # fmt: skip
            learning.train()
            with autocast():
                maps = learning(torch.from_numpy(asked.tensors).contiguous(memory_format=torch.channels_last))
            flat = functional.normalize(maps.flatten(1).float(), dim=1)
            query = functional.normalize(flat @ matrix.T + offset, dim=1)
            others = torch.cat([bank.vectors[rows], bank.photos])  # (B + M, d)
            loss = towards(query @ others.T / second.temperature, torch.from_numpy(relevance))
            optimiser.zero_grad(set_to_none=True)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(learning.parameters(), 5.0)
            optimiser.step()
            losses.append(float(loss.detach()))
            follow(average, learning, min(second.ema, (epoch * steps + step + 1) / 20))
            log.progress(epoch, step, steps, float(np.mean(losses[-20:])))
        log.epoch(epoch, loss=float(np.mean(losses)), seconds=time.monotonic() - started, map=measure())


@torch.inference_mode()
def _measure(model: stage2.Model, projection: Projection, gallery: np.ndarray, queries: Queries) -> float:
    """mAP at tau .5 of held-out queries among the held-out photos, in the projected space."""
    model.f_t.eval()
    asked = []
    for start in range(0, len(queries.tensors), 64):
        with autocast():
            flat = model.f_t(torch.from_numpy(queries.tensors[start : start + 64])).flatten(1)
        asked.append(projection.apply(flat.float().numpy()))
    return queries.mean_average_precision(np.concatenate(asked) @ gallery.T)


def _save(
    config: Config,
    objects: ObjectEncoder,
    vocabulary: list[str],
    model: stage2.Model,
    projection: Projection,
    log: Log,
) -> Path:
    """Write the networks of all stages, the projection and how they were trained as one bundle."""
    bundle_config = {
        "name": config.name,
        "description": config.description,
        "objects": asdict(objects.config),
        "indexing": asdict(config.stage2.indexing),
        "spatial": asdict(model.f_t.config),
        "vocabulary": vocabulary,
        "dim": config.dim,
    }
    networks = Networks(bundle_config)
    networks.objects.load_state_dict(objects.state_dict())
    networks.image.load_state_dict(model.image.state_dict())
    networks.spatial.load_state_dict(model.f_t.state_dict())
    bundle_config["training"] = log.lines()
    tensors = {**networks.to_tensors(), **projection.to_tensors()}
    Bundle(bundle_config, tensors).save(config.out)
    return config.out
