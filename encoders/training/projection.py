"""Stage 3: the projection (section 3.4), fitted on photos alone, and the bundle of all three stages."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch

from encoders.bundle import Bundle
from encoders.images import load_photo
from encoders.indexing import GRID, IndexingBranch
from encoders.local import Networks
from encoders.objects import ObjectEncoder
from encoders.projection import Projection, fit
from encoders.runtimes import Normalise, compile_module
from encoders.training import asking
from encoders.training import spatial as stage2
from encoders.training.data import read_training_set
from encoders.training.loop import Log, read_log
from encoders.training.views import ViewConfig, make_views


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
    threads: int = 2
    seed: int = 0


def load_spatial(config: Config, channels: int, classes: int) -> stage2.Model:
    """The result of stage 2."""
    stored = torch.load(config.spatial, weights_only=True)
    model = stage2.Model(config.stage2, channels, classes)
    model.load_state_dict(stored["weights"])
    return model.eval()


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
    # Photos as they are; crops and pasted scenes, which no collection holds, are left out.
    whole = np.flatnonzero((views.photo >= 0) & np.r_[True, views.photo[1:] != views.photo[:-1]])
    embedded = stage2.embed(model.image.from_frozen, views.features, whole)
    more = embed_photos(model.image, [*data.labelled, *data.unlabelled], config.threads)
    sample = np.random.default_rng(config.seed).permutation(np.concatenate([embedded, more]))[: config.samples]
    projection = fit(sample, config.dim, config.m, config.seed)
    check = asking.held_out_queries(objects, unseen, test_views, second.seed)
    gallery = projection.apply(stage2.embed(model.image.from_frozen, test_views.features))
    asked = projection.apply(stage2.embed(model.f_t, check.tensors))
    log.epoch(0, map=check.mean_average_precision(asked @ gallery.T))
    return _save(config, objects, vocabulary, model, projection)


def _save(
    config: Config,
    objects: ObjectEncoder,
    vocabulary: list[str],
    model: stage2.Model,
    projection: Projection,
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
    logs = {"objects": config.objects, "spatial": config.spatial, "projection": config.spatial.with_stem("projection")}
    bundle_config["training"] = {stage: read_log(path.with_suffix(".jsonl")) for stage, path in logs.items()}
    tensors = {**networks.to_tensors(), **projection.to_tensors()}
    Bundle(bundle_config, tensors).save(config.out)
    return config.out
