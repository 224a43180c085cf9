"""Stage 2 on a budget: one row of a table that trains, judged on the study's queries.

The objects' vectors are the bundle's own f_s in every row, so that rows differ in what they are about alone. Scores are
of the flattened 49 D, before any projection.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from encoders.evaluation.ranking import rank
from encoders.evaluation.scores import DEEP
from encoders.evaluation.tables.figures import scored, unit
from encoders.evaluation.tables.study import TAU, Budget, Study
from encoders.indexing import IndexingConfig
from encoders.local import Networks
from encoders.query import query_tensors
from encoders.training import spatial
from encoders.training.checkpoints import digest
from encoders.training.loop import Work
from encoders.training.projection import embed_photos
from encoders.training.recipes import default
from encoders.training.views import ViewConfig

CACHES = ("views-*", "sketches-*", "crops-*", "edges-*")  # of both stages, each named by what is in it
LAST = {"vgg11": 3}  # trunk layers that learn: the last one that has weights, and what follows it


def config(study: Study, budget: Budget, backbone: str | None = None) -> spatial.Config:
    """Stage 2 of the recipe `default`, but for its length, with neither crops nor pasted scenes.

    Args:
        study: Its seed, and its bundle's sizes.
        budget: What a row may take.
        backbone: Of T_I; by default the bundle's.
    """
    sizes = study.bundle.config["indexing"]
    name = backbone or sizes["backbone"]
    return replace(
        default().spatial,
        recipe="tables",
        indexing=IndexingConfig(
            backbone=name,
            image_size=budget.image_size,
            hidden=sizes["hidden"],
            channels=sizes["channels"],
            trained=LAST.get(name, 1),
        ),
        widths=tuple(study.bundle.config["spatial"]["widths"]),
        views=ViewConfig(crops=0, scenes=0),
        photos=budget.photos,
        epochs=budget.epochs,
        epoch_views=budget.views,
        seed=study.seed,
    )


def scores(study: Study, wanted: spatial.Config, budget: Budget) -> np.ndarray:
    """Train, or take what an earlier run trained, and score: (n, 4) as `figures.scored`, a row a query."""
    folder = study.work / "trials"
    result = trained(
        study, wanted, budget, "spatial.pt", lambda work: spatial.train(wanted, work, _objects(study, folder))
    )
    return _judge(study, wanted, result, budget)


def trained(study: Study, wanted: object, budget: Budget, result: str, train: Callable[[Work], Path]) -> Path:
    """What a configuration gives, from an earlier run if there is one; what was computed once serves all rows."""
    folder = study.work / "trials"
    out = folder / digest(wanted, study.bundle.fingerprint, study.facts["digest"])
    out.mkdir(parents=True, exist_ok=True)
    if not (out / result).exists():
        _share(folder, out)
        train(Work(study.data, out, threads=budget.threads))
        for cache in [path for pattern in CACHES for path in out.glob(pattern) if not path.is_symlink()]:
            cache.replace(folder / cache.name)
    return out / result


def _share(folder: Path, out: Path) -> None:
    """Let a run find what others computed."""
    for path in [path for pattern in CACHES for path in folder.glob(pattern)]:
        if not (out / path.name).exists():
            (out / path.name).symlink_to(path.resolve())


def _objects(study: Study, folder: Path) -> Path:
    """The bundle's f_s and f_i as a result of stage 1, which is what stage 2 takes."""
    path = folder / f"{study.bundle.fingerprint}.pt"
    if not path.exists():
        networks, parts = Networks(study.bundle.config), study.bundle.tensors
        networks.load_tensors({name: part for name, part in parts.items() if not name.startswith("projection.")},
                              study.encoder.name)  # fmt: skip
        content = {key: study.bundle.config[key] for key in ("objects", "vocabulary")}
        torch.save({**content, "weights": networks.objects.state_dict()}, path)
    return path


@torch.inference_mode()
def _judge(study: Study, wanted: spatial.Config, result: Path, budget: Budget) -> np.ndarray:
    vocabulary, channels = study.bundle.config["vocabulary"], study.bundle.config["spatial"]["channels"]
    model = spatial.Model(wanted, channels, len(vocabulary), pretrained=False)
    model.load_state_dict(torch.load(result, weights_only=True)["weights"])
    model.eval()
    photos = np.concatenate([*embed_photos(model.image, study.unseen.paths, budget.threads)])
    sketches = [query.sketch for query in study.unseen.queries]
    vectors = [study.encoder.embed_objects(sketch.objects) for sketch in sketches]
    queries = spatial.embed(model.f_t, query_tensors(vectors, [sketch.boxes for sketch in sketches]))
    found = rank(unit(queries), unit(photos), DEEP)
    return scored(study.unseen, found, TAU)
