"""`compsketch evaluate`: retrieval measured on annotated photos, one call into `encoders.evaluation`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from compsketch_milvus.terminal import StageBar, command, emit, table

__all__ = ["evaluate"]

EncoderSpec = Annotated[
    str | None,
    typer.Option("--encoder", help="Encoder bundle, by name or folder  [default: the one that is shipped]"),
]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object on stdout, all else on stderr")]


@command
def evaluate(
    annotations: Annotated[list[Path], typer.Option(help="annotations.json; repeat for several sets")],
    images: Annotated[list[Path], typer.Option(help="Folder of photos, one for each --annotations")],
    sketches: Annotated[Path, typer.Option(help="Quick, Draw! sketches, .ndjson or .ndjson.gz")],
    methods: Annotated[str, typer.Option(help="Of ssbir, ssbir+words, msbir, random")] = "ssbir,msbir,random",
    encoder: EncoderSpec = None,
    tau: Annotated[float, typer.Option(help="A photo is relevant above this R (eq. 9)")] = 0.5,
    limit: Annotated[int | None, typer.Option(min=1, help="Queries at most")] = None,
    seed: int = 0,
    held_out: Annotated[bool, typer.Option("--held-out", help="Only what training has not seen")] = False,
    as_json: Json = False,
) -> None:
    """Measure retrieval on annotated photos: mAP, NDCG@200 and P@20 of each method."""
    from compsketch_milvus.encoder import connect
    from encoders.evaluation.compare import evaluate as measure

    names = [name.strip() for name in methods.split(",") if name.strip()]
    with StageBar() as bar:
        scores = measure(
            connect(encoder), annotations, images, sketches,
            methods=names, tau=tau, limit=limit, seed=seed, subset="held_out" if held_out else "all", progress=bar,
        )  # fmt: skip
    emit(scores, as_json, lambda: _print_scores(scores))


def _print_scores(scores: dict[str, Any]) -> None:
    columns = ("mAP", "NDCG", "P@20")
    rows = [(name, *(f"{found[key]:.4f}" for key in columns)) for name, found in scores["methods"].items()]
    table(["method", *(f"{name}>" for name in columns)], rows)
    typer.echo("{queries} queries, {gallery} photos, tau {tau}, seed {seed}".format(**scores))
