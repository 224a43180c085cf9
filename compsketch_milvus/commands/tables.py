"""`compsketch tables`: the paper's tables on a folder of photos and sketches, one call into `encoders.evaluation`."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from compsketch_milvus.terminal import FAILURES, StageBar, command, emit, note

if TYPE_CHECKING:
    from encoders.evaluation.tables.making import Made

__all__ = ["tables"]

Names = Annotated[list[str] | None, typer.Argument(metavar="[NAME]...", help="Which tables  [default: all]")]
Data = Annotated[Path, typer.Option(help="Folder of sketches and annotated photos, as `train` takes it")]
Out = Annotated[Path, typer.Option(help="Folder for the tables, NAME.md and NAME.json")]
EncoderSpec = Annotated[
    str | None,
    typer.Option("--encoder", help="Encoder bundle, by name or folder  [default: the one that is shipped]"),
]
Semir = Annotated[str | None, typer.Option(help="SemIR bundle, by name or folder  [default: no such rows]")]
Work = Annotated[Path, typer.Option(help="Folder for what takes long, so that a run goes on, and for contact sheets")]
Epochs = Annotated[int, typer.Option(min=1, help="Of each row of losses, backbones and ladder, which train")]
Views = Annotated[int, typer.Option(min=96, help="Views of photos in such an epoch")]
Photos = Annotated[int, typer.Option(min=0, help="Photos that these train on at most; 0 for all")]
Size = Annotated[int, typer.Option("--image-size", min=64, help="Side in pixels at which they see photos")]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object on stdout, all else on stderr")]


@command
def tables(
    names: Names = None,
    *,
    data: Data,
    out: Out,
    encoder: EncoderSpec = None,
    semir: Semir = None,
    work: Work = Path("runs/tables"),
    limit: Annotated[int | None, typer.Option(min=1, help="Queries at most")] = None,
    seed: Annotated[int, typer.Option(min=0, help="Of queries, bootstrap and training")] = 0,
    epochs: Epochs = 6,
    views: Views = 2400,
    photos: Photos = 0,
    image_size: Size = 224,
    as_json: Json = False,
) -> int:
    """Make the paper's tables, Markdown and JSON; what was made of the same before is not made again."""
    from encoders.evaluation.tables import check

    wanted = check(names or [])  # before torch is loaded
    from compsketch_milvus.settings import load_settings
    from compsketch_milvus.truth_sheet import draw
    from encoders.bundle import Bundle, find
    from encoders.evaluation.tables.making import make
    from encoders.evaluation.tables.study import Budget, Study
    from encoders.local import LocalEncoder
    from encoders.semir import SemirEncoder

    settings = load_settings(encoder=encoder)
    bundle = Bundle.load(find(settings.encoder))
    ours = LocalEncoder(bundle, settings.device, settings.runtime)
    theirs = None if semir is None else SemirEncoder.open(semir, settings.device, settings.runtime)
    with StageBar() as bar:
        study = Study(data, work, bundle, ours, theirs, seed, limit, bar)
        made = list(_told(make(wanted, study, Budget(epochs, views, photos, image_size), draw, out)))
    results = [{"name": one.name, "seconds": one.seconds, "kept": one.kept, "error": one.error} for one in made]
    emit({"tables": results, "out": str(out)}, as_json, lambda: typer.echo(f"{len(made)} tables: {out}"))
    return FAILURES if any(one.error for one in made) else 0


def _told(made: Iterable[Made]) -> Iterable[Made]:
    for one in made:
        note(f"{one.name}: {one.error or ('as before' if one.kept else 'made')} ({one.seconds:.0f} s)")
        yield one
