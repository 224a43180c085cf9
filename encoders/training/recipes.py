"""Named recipes: for each stage of training one frozen configuration, saved with what it made.

=========  ============================================================================================================
`paper`    Section 3 as printed: mSBIR's three stages, GoogLeNet throughout, the whole indexing branch fine-tuned, eq. 5
           to 7 at .80, .15 and .05 with m = .3, ADAM at 1e-4 with weight decay 5e-4, queries painted with f_i of the
           photo's own objects (eq. 2). What is not printed is chosen here: batches, epochs, views.
`default`  What does best on few photos and little time: a small trunk, most of it computed once, queries painted with
           sketches and names, contrast within the batch.
`smoke`    All that `default` does, on a few photos, in under three minutes on two cores.
=========  ============================================================================================================
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from encoders.errors import CompsketchError
from encoders.indexing import IndexingConfig
from encoders.objects import ObjectConfig
from encoders.training import calibration, msbir, objects, projection, semir, spatial
from encoders.training.asking import AskConfig
from encoders.training.checkpoints import find_result, load_result
from encoders.training.loop import Work
from encoders.training.processes import first_alone, team
from encoders.training.vectors import Mixture
from encoders.training.views import ViewConfig

STAGES = ("objects", "spatial", "projection")


@dataclass(frozen=True)
class Recipe:
    """The stages' configurations."""

    objects: objects.Config | msbir.Config
    spatial: spatial.Config
    projection: projection.Config
    calibration: calibration.Config = field(default_factory=calibration.Config)


def paper() -> Recipe:
    """See the module."""
    return Recipe(
        msbir.Config("paper"),
        spatial.Config(
            recipe="paper",
            indexing=IndexingConfig("googlenet", image_size=224, channels=0, trained=-1),  # 7 x 7 x 832 as they are
            head=4096,
            views=ViewConfig(crops=1, scenes=0),
            weights=spatial.Weights(in_batch=0.0, sim=0.80, ce=0.15, con=0.05),
            asking=AskConfig(Mixture(sketch=0.0, name=0.0, both=0.0, crop=1.0), jitter=0.0, undrawable=1.0),
            epochs=10,
            epoch_views=0,  # every photo once
            batch=64,
            margin=0.3,
            learning_rate=1e-4,
            trunk_learning_rate=1e-4,
            weight_decay=5e-4,
            decoupled=False,
            one_cycle=False,
            ema=0.0,
        ),
        projection.Config("paper", name="paper"),
    )


def default() -> Recipe:
    """See the module."""
    return Recipe(
        objects.Config("default", ObjectConfig(sketch_size=112, line_width=2.6)),
        spatial.Config(
            "default",
            indexing=IndexingConfig(trained=3),
            weights=spatial.Weights(cells=1.0, asked_cells=0.5),
            asking=AskConfig(strengths=(1.0, 1.0, 1.6)),
            epochs=16,
            ema=0.99,
        ),
        projection.Config("default"),
    )


def smoke() -> Recipe:
    """See the module."""
    return Recipe(
        objects.Config(
            "smoke",
            ObjectConfig(sketch_size=64, line_width=2.0, crop_size=64),
            cycles=(objects.Cycle((objects.Phase(2, 64, edges=8),)),),
            photos=300,
        ),
        spatial.Config(
            recipe="smoke",
            indexing=IndexingConfig(image_size=128),
            views=ViewConfig(crops=0, scenes=60),
            asking=AskConfig(strengths=(1.0,)),
            photos=300,
            epochs=2,
            epoch_views=288,
            batch=48,
        ),
        projection.Config("smoke", name="smoke", dim=64, m=8, samples=400),
        calibration.Config(photos=100, seeds=(100,)),
    )


RECIPES: dict[str, Callable[[], Recipe]] = {"paper": paper, "default": default, "smoke": smoke}


def named(name: str) -> Recipe:
    """The recipe of a name.

    Raises:
        CompsketchError: There is none; the message lists them.
    """
    if name not in RECIPES:
        raise CompsketchError(f"unknown recipe {name!r}; choose one of {', '.join(RECIPES)}")
    return RECIPES[name]()


def run(recipe: Recipe, stages: Sequence[str], work: Work) -> dict[str, Path]:
    """Run stages of a recipe, one after another; what an earlier run has finished is gone through quickly.

    Args:
        recipe: The stages' configurations.
        stages: Of `STAGES`, then ``calibration``; or ``semir``: the baseline by the recipe's last two.
        work: Where and on what.

    Returns:
        Each stage's result.

    Raises:
        DataError: A stage's forerunner has left no result in ``work.out``, or one of another recipe.
    """
    needed = STAGES[: STAGES.index(stages[0])] if stages[0] in STAGES else ()  # SemIR and calibration look themselves
    for before in needed:
        find_result(work.out / f"{before}.pt")
    with team(work.device):
        return {stage: _stage(recipe, stage, work) for stage in stages}


def _stage(recipe: Recipe, stage: str, work: Work) -> Path:
    if stage == "semir":
        return semir.train(recipe.spatial, recipe.projection, work)
    if stage == "calibration":
        with first_alone() as first:
            bundle = work.out / "bundle"
            return calibration.train(bundle, work.data, recipe.calibration) if first else bundle
    if stage == "objects":
        config = recipe.objects
        return msbir.train(config, work) if isinstance(config, msbir.Config) else objects.train(config, work)
    load_result(work.out / "objects.pt", recipe.objects)
    if stage == "spatial":
        return spatial.train(recipe.spatial, work)
    with first_alone() as first:
        if first:  # nothing to share out: one pass over photos, then faiss
            projection.train(recipe.projection, recipe.spatial, work)
    return work.out / "bundle"
