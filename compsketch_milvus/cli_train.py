"""`compsketch train`: the stages of training, each one call into `encoders.training`."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from contextlib import redirect_stdout
from pathlib import Path
from typing import Annotated

import typer

from compsketch_milvus.terminal import command, emit
from encoders.errors import DataError

__all__ = ["train"]

train = typer.Typer(
    help="Train an encoder bundle: objects, spatial and projection, or all three. An interrupted stage goes on.",
    no_args_is_help=True,
    rich_markup_mode=None,
)

STAGES = ("objects", "spatial", "projection")

Data = Annotated[Path, typer.Option(help="Folder of sketches and annotated photos, as the README describes it")]
Out = Annotated[Path, typer.Option(help="Folder for checkpoints, logs and results")]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object on stdout, all else on stderr")]


@train.command()
@command
def objects(data: Data, out: Out = Path("runs/default"), as_json: Json = False) -> None:
    """Stage 1: f_s and f_i, one object to 256 numbers (section 3.1 of the paper)."""
    _run(["objects"], data, out, as_json)


@train.command()
@command
def spatial(data: Data, out: Out = Path("runs/default"), as_json: Json = False) -> None:
    """Stage 2: f_t and the photo side's last layers (section 3.3); needs stage 1's result in --out."""
    _run(["spatial"], data, out, as_json)


@train.command()
@command
def projection(data: Data, out: Out = Path("runs/default"), as_json: Json = False) -> None:
    """Stage 3: PCA and OPQ (section 3.4), then the folder `bundle` in --out; needs both results before it there."""
    _run(["projection"], data, out, as_json)


@train.command(name="all")
@command
def all_stages(data: Data, out: Out = Path("runs/default"), as_json: Json = False) -> None:
    """All stages, from nothing to the folder `bundle` in --out, which --encoder takes."""
    _run(STAGES, data, out, as_json)


def _run(stages: Sequence[str], data: Path, out: Path, as_json: bool) -> None:
    started = time.monotonic()
    with redirect_stdout(sys.stderr):  # the stages print how they fare
        results = {stage: str(_stage(stage, data, out)) for stage in stages}
    answer = {"results": results, "seconds": time.monotonic() - started}
    emit(answer, as_json, lambda: typer.echo("\n".join(f"{stage}: {path}" for stage, path in results.items())))


def _stage(stage: str, data: Path, out: Path) -> Path:
    needed = [_result(out, before) for before in STAGES[: STAGES.index(stage)]]  # refused before torch is loaded
    from encoders.training import objects, projection, spatial

    if stage == "objects":
        return objects.train(objects.Config(data, out))
    stage2 = spatial.Config(data, needed[0], out)
    if stage == "spatial":
        return spatial.train(stage2)
    return projection.train(projection.Config(data, needed[0], needed[1], out / "bundle", stage2))


def _result(out: Path, stage: str) -> Path:
    """What an earlier stage has left, asked for before torch is loaded."""
    path = out / f"{stage}.pt"
    if not path.exists():
        raise DataError(f"{path}: no such result of an earlier stage; run `compsketch train {stage}` with this --out")
    return path
