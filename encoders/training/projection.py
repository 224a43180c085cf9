"""Stage 3: the projection (section 3.4), fitted on photos alone, and the bundle of all three stages."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch

from encoders.bundle import Bundle
from encoders.images import load_photo
from encoders.indexing import GRID, IndexingBranch
from encoders.projection import Projection, fit
from encoders.runtimes import Normalise, compile_module
from encoders.spool import spooled
from encoders.training import spatial as stage2
from encoders.training.asking import held_out_queries
from encoders.training.checkpoints import load_result
from encoders.training.log import Log, epochs, read_log
from encoders.training.loop import Work, begin
from encoders.training.sources import bundle_networks, open_source


@dataclass(frozen=True)
class Config:
    """Stage 3.

    Attributes:
        recipe: Whose part this is.
        name: Of the bundle.
        description: Of the bundle.
        dim: d, what a collection stores.
        m: Bytes of a product quantiser's code.
        samples: Photos that PCA and OPQ are fitted on, at most.
        seed: Of everything.
    """

    recipe: str = ""
    name: str = "default"
    description: str = ""
    dim: int = 256
    m: int = 16
    samples: int = 8000
    seed: int = 0


def embed_photos(
    branch: IndexingBranch, paths: Sequence[Path], threads: int, device: str = "cpu"
) -> Iterator[np.ndarray]:
    """E_I of photos, blocks of at most 16, (B, 49 D) float32."""
    size = branch.config.image_size
    network = torch.nn.Sequential(Normalise(branch.spec.mean, branch.spec.std), branch, torch.nn.Flatten()).eval()
    run = compile_module(network, np.zeros((1, size, size, 3), np.uint8), threads=threads, device=device)
    for start in range(0, len(paths), 16):
        yield run(np.stack([load_photo(path, size).pixels for path in paths[start : start + 16]]))


def train(config: Config, second: stage2.Config, work: Work, first: Path | None = None) -> Path:
    """Run stage 3.

    Args:
        config: The stage's.
        second: What stage 2 ran with.
        work: Where and on what; stage 2's result is in ``work.out``.
        first: Result of stage 1, as stage 2 had it.

    Returns:
        The folder ``bundle`` in ``work.out``.

    Raises:
        DataError: Stage 2 has not run, or with another configuration.
    """
    result = load_result(work.out / "spatial.pt", second)
    with begin(work, second.photos) as (device, data, unseen):
        torch.manual_seed(config.seed)
        first = first or work.out / "objects.pt"
        source = open_source(first, data, unseen, second.asking, work.out, second.seed)
        model = stage2.Model(second, source.channels, len(source.vocabulary))
        model.load_state_dict(result["weights"])
        model.eval()
        log = Log(work.out / "projection.jsonl", config)
        paths = [*data.photos, *data.labelled, *data.unlabelled]
        chosen = np.random.default_rng(config.seed).permutation(len(paths))[: config.samples]
        embedded = embed_photos(model.image, [paths[i] for i in chosen], work.threads, str(device))
        sample = spooled(embedded, GRID * GRID * model.image.channels)
        projection = fit(sample, config.dim, config.m, config.seed)
        views = stage2.held_out_views(unseen, model.image, second, work)
        check = held_out_queries(source, views, second.seed)
        gallery = projection.apply(stage2.embed(model.image.from_frozen, views.features))
        asked = projection.apply(stage2.embed(model.f_t, check.tensors))
        log.epoch(0, map=check.mean_average_precision(asked @ gallery.T))
        return _save(config, work, first, source.vocabulary, model, projection)


def _save(
    config: Config, work: Work, first: Path, vocabulary: list[str], model: stage2.Model, projection: Projection
) -> Path:
    """Write the networks of all stages, the projection and how they were trained as one bundle."""
    sizes = {
        "name": config.name,
        "description": config.description,
        "indexing": asdict(model.image.config),
        "spatial": asdict(model.f_t.config),
        "vocabulary": vocabulary,
        "dim": config.dim,
    }
    bundle_config, networks = bundle_networks(first, sizes)
    networks.image.load_state_dict(model.image.state_dict())
    networks.spatial.load_state_dict(model.f_t.state_dict())
    logs = [
        *sorted(first.parent.glob("msbir-*.jsonl")),
        first.with_suffix(".jsonl"),
        work.out / "spatial.jsonl",
        work.out / "projection.jsonl",
    ]
    training = {log.stem: epochs(read_log(log)) for log in logs if log.exists()}  # vectors of names have no log
    tensors = {**networks.to_tensors(), **projection.to_tensors()}
    Bundle({**bundle_config, "training": training}, tensors).save(work.out / "bundle")
    return work.out / "bundle"
