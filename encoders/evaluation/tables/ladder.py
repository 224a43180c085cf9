"""What each part of the recipe `default` brings: both stages on a small budget, one thing changed in each row."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from encoders.evaluation.metrics import average_precision
from encoders.evaluation.scores import METRICS
from encoders.evaluation.tables import trial
from encoders.evaluation.tables.figures import difference, mean
from encoders.evaluation.tables.study import Budget, Study
from encoders.evaluation.tables.table import Cell, Table
from encoders.objects import ObjectConfig, ObjectEncoder
from encoders.training import objects, spatial
from encoders.training.checkpoints import load_result
from encoders.training.crops import crop_features
from encoders.training.data import read_training_set
from encoders.training.recipes import default
from encoders.training.vectors import Mixture
from encoders.training.views import ViewConfig

SIDE = 64  # of the rasters, in pixels
FIRST, STAGE_1, STAGE_2 = "all of it", "1: f_s, crops ranked by a sketch", "2: f_t, photos ranked by a query"


def table(study: Study, budget: Budget, most: int | None = None) -> Table:
    """Rows of stage 1, then of stage 2, at most so many each, compared with the first of its stage."""
    rows: list[tuple[Cell, ...]] = []
    first: dict[str, np.ndarray] = {}
    singles = dict(list(object_rows(study, budget).items())[:most])
    whole = dict(list(spatial_rows(study, budget).items())[:most])

    def add(stage: str, name: str, scores: np.ndarray, read: np.ndarray | None = None) -> None:
        base = first.setdefault(stage, scores)
        against = (None, None, None) if base is scores else difference(scores, base, study.seed)
        rows.append((stage, name, None if read is None else mean(read, study.seed), mean(scores, study.seed), *against))
        study.progress("ladder", len(rows), len(singles) + len(whole))

    for name, config in singles.items():
        found = _read(study, config, budget)
        scores = average_precision(found.hits, found.hits, k=found.hits.shape[1])
        add(STAGE_1, name, scores, found.sketches[found.with_photos])
    for name, wanted in whole.items():
        add(STAGE_2, name, trial.scores(study, wanted, budget)[:, METRICS.index("mAP")])
    notes = (
        f"Stage 1: {budget.epochs} epochs over the sketches at {SIDE} px, from ImageNet weights; measured on unseen "
        "sketches and the crops of held-out photos. Read: a sketch as its class, of classes that photos show.",
        f"Stage 2: {budget.epochs} epochs of {budget.views} views, photos at {budget.image_size} px, with the bundle's "
        "f_s in every row.",
        "Difference, p and d_z: AP against the first row of the stage, paired. A budget this small favours what learns "
        "fast: variation and more views pay later than it ends.",
    )
    columns = ("stage", "recipe", "read", "mAP", "mAP - first", "p", "d_z")
    title = "What each part of the recipe brings, one changed in each row"
    return Table("ladder", title, columns, tuple(rows), notes, study.provenance("ladder", budget))


def object_rows(study: Study, budget: Budget) -> dict[str, objects.Config]:
    """Stage 1 on a budget: the recipe's without edge maps, and what it is without or with one thing."""
    sizes = study.bundle.config["objects"]
    of_bundle = replace(
        ObjectConfig(**sizes), sketch_size=SIDE, line_width=sizes["line_width"] * SIDE / sizes["sketch_size"]
    )

    def config(phase: objects.Phase, photo_class_weight: float = 3.0, **changed: float) -> objects.Config:
        cycle = objects.Cycle((phase,), photo_class_weight=photo_class_weight)
        return objects.Config("tables", of_bundle, (cycle,), photos=budget.photos, seed=study.seed, **changed)  # type: ignore[arg-type]

    phase = objects.Phase(budget.epochs, SIDE)
    return {
        FIRST: config(phase),
        "strokes not varied": config(replace(phase, strength=0.0)),
        "no triplets of sketches and photos": config(phase, triplet_weight=0.0),
        "classes with photos drawn no oftener": config(phase, photo_class_weight=1.0),
        "edge maps of photographed objects beside the sketches": config(replace(phase, edges=16)),
        "rasters half as large again": replace(
            config(replace(phase, side=SIDE * 3 // 2)),
            objects=replace(of_bundle, sketch_size=SIDE * 3 // 2, line_width=of_bundle.line_width * 1.5),
        ),
    }


def spatial_rows(study: Study, budget: Budget) -> dict[str, spatial.Config]:
    """Stage 2 on a budget: the recipe's without crops and pasted scenes, and what it is without or with one thing."""
    first = trial.config(study, budget)
    first = replace(first, indexing=replace(first.indexing, trained=default().spatial.indexing.trained))
    sketches_alone = Mixture(sketch=1.0, name=0.0, both=0.0)
    return {
        FIRST: first,
        "no classes in each cell": replace(first, weights=replace(first.weights, cells=0.0, asked_cells=0.0)),
        "queries of sketches alone, no names": replace(first, asking=replace(first.asking, mixture=sketches_alone)),
        "sketches' vectors without noise": replace(
            first, asking=replace(first.asking, mixture=replace(first.asking.mixture, noise=0.0))
        ),
        "only the trunk's last layer learns": replace(first, indexing=replace(first.indexing, trained=1)),
        "no average of the weights": replace(first, ema=0.0),
        "crops and pasted scenes among the views": replace(first, views=ViewConfig()),
    }


def _read(study: Study, wanted: objects.Config, budget: Budget) -> objects.Reading:
    """Train stage 1, or take what an earlier run trained, and read what it has not seen."""
    path = trial.trained(study, wanted, budget, "objects.pt", lambda work: objects.train(wanted, work))
    result = load_result(path, wanted)
    model = ObjectEncoder(wanted.objects, len(result["vocabulary"]), pretrained=False)
    model.load_state_dict(result["weights"])
    unseen = read_training_set(study.data, held_out=True).sample(wanted.photos)
    return objects.read(model, unseen, crop_features(unseen, model, path.parent.parent, budget.threads, "cpu"))
