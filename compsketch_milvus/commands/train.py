"""`compsketch train`: the stages of training, each one call into `encoders.training`."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Sequence
from contextlib import redirect_stdout
from pathlib import Path
from typing import Annotated, Any

import typer

from compsketch_milvus.commands.opening import EncoderSpec
from compsketch_milvus.commands.project import Dim, Features, Live, Parts, Samples, Seed, fit_collection
from compsketch_milvus.commands.token import Token, Uri
from compsketch_milvus.errors import CompsketchError
from compsketch_milvus.terminal import StageBar, command, emit

__all__ = ["train"]

train = typer.Typer(
    help="Train an encoder bundle: objects, spatial and projection, or all three. An interrupted stage goes on. "
    "On several GPUs: torchrun --standalone --nproc-per-node N --no-python compsketch train all --data ...",
    no_args_is_help=True,
    rich_markup_mode=None,
)

Data = Annotated[Path, typer.Option(help="Folder of sketches and annotated photos, as the README describes it")]
Out = Annotated[Path, typer.Option(help="Folder for checkpoints, logs and results")]
Recipe = Annotated[str, typer.Option(help="paper: section 3 as printed; default: what does best here; smoke: a trial")]
Device = Annotated[str, typer.Option(help="cpu, cuda, cuda:0, ..., or auto: a GPU where there is one")]
Threads = Annotated[int, typer.Option(min=1, help="CPU threads of each process")]
Workers = Annotated[int, typer.Option(min=0, help="Processes that read photos ahead; on a GPU about 8")]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object on stdout, all else on stderr")]

RUNS = Path("runs/default")


def _add(name: str, stages: Sequence[str], about: str) -> None:
    """Add a command that runs stages of a recipe one after another."""

    @train.command(name, help=about)
    @command
    def run(
        data: Data,
        out: Out = RUNS,
        recipe: Recipe = "default",
        device: Device = "auto",
        threads: Threads = 2,
        workers: Workers = 0,
        as_json: Json = False,
    ) -> None:
        _run(stages, recipe, as_json, data=data, out=out, device=device, threads=threads, workers=workers)


_add("objects", ["objects"], "Stage 1: f_s and f_i, one object to 256 numbers (section 3.1 of the paper).")
_add(
    "spatial",
    ["spatial"],
    "Stage 2: f_t and the photo side (section 3.3); needs stage 1's result in --out, of the same recipe.",
)


@train.command()
@command
def projection(
    data: Annotated[
        Path | None, typer.Option(help="Folder of sketches and annotated photos; or give --collection")
    ] = None,
    out: Annotated[Path | None, typer.Option(help=f"Folder for the results  [default with --data: {RUNS}]")] = None,
    recipe: Recipe = "default",
    device: Device = "auto",
    threads: Threads = 2,
    workers: Workers = 0,
    collection: Live = None,
    uri: Uri = None,
    token: Token = None,
    encoder: EncoderSpec = None,
    features: Features = None,
    samples: Samples = 8000,
    dim: Dim = None,
    m: Parts = 16,
    seed: Seed = 0,
    as_json: Json = False,
) -> int:
    """Stage 3: PCA and OPQ (section 3.4).

    With --data, a recipe's last stage: the folder `bundle` in --out; needs both results before it there.

    With --collection, on photos that Milvus holds, read anew from their sources or taken from kept features: the bundle
    --out, with the networks of --encoder and another fingerprint. `compsketch reproject` then makes a collection of it.
    """
    if (data is None) == (collection is None):
        raise CompsketchError("fit on what? give --data FOLDER for a recipe's stage, or --collection NAME")
    if collection is not None:
        where = {"uri": uri, "token": token, "collection": collection, "encoder": encoder}
        drawn = {"samples": samples, "dim": dim, "m": m, "seed": seed, "features": features}
        return fit_collection(out, as_json, {**where, "device": None if device == "auto" else device}, **drawn)
    _run(["projection"], recipe, as_json, data=data, out=out or RUNS, device=device, threads=threads, workers=workers)
    return 0


_add(
    "all",
    ["objects", "spatial", "projection", "calibration"],
    "All stages and the calibration, from nothing to the folder `bundle` in --out, which --encoder takes.",
)
_add(
    "semir",
    ["semir"],
    "SemIR, the baseline that is told class names, by the recipe's stages 2 and 3: the folder `semir` in --out.",
)


@train.command()
@command
def calibration(
    data: Data,
    bundle: Annotated[Path, typer.Option(help="Folder of the bundle; only its config.json changes")] = RUNS / "bundle",
    as_json: Json = False,
) -> None:
    """Last: what a bundle's scores mean as probabilities, fitted on the photos and sketches that are held out."""
    from encoders.training import calibration as last

    with StageBar() as bar:
        folder = last.train(bundle, data, progress=bar)
    emit({"results": {"calibration": str(folder)}}, as_json, lambda: typer.echo(f"calibration: {folder}"))


def _run(stages: Sequence[str], recipe: str, as_json: bool, **work: Any) -> None:
    started = time.monotonic()
    from encoders.training import recipes
    from encoders.training.loop import Work

    with redirect_stdout(sys.stderr):  # the stages print how they fare
        results = recipes.run(recipes.named(recipe), stages, Work(**work))
    if os.environ.get("RANK", "0") != "0":
        return  # torchrun's first process answers for all
    told = {stage: str(path) for stage, path in results.items()}
    answer = {"results": told, "seconds": time.monotonic() - started}
    emit(answer, as_json, lambda: typer.echo("\n".join(f"{stage}: {path}" for stage, path in told.items())))
