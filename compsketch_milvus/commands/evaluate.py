"""`compsketch evaluate`: retrieval measured on annotated photos, one call into `encoders.evaluation`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from compsketch_milvus.commands.token import without_login
from compsketch_milvus.errors import CompsketchError
from compsketch_milvus.terminal import StageBar, command, emit, table

if TYPE_CHECKING:
    from compsketch_milvus.ranker import MilvusIndex
    from encoders.semir import SemirEncoder

__all__ = ["evaluate"]

COLUMNS = ("mAP", "NDCG", "P@20", "P@200")

Annotations = Annotated[
    list[Path], typer.Option("--annotations", help="annotations.json or a manifest (.parquet); repeat for several sets")
]
Images = Annotated[list[Path], typer.Option(help="Folder of photos, one for each --annotations")]
Sketches = Annotated[Path, typer.Option(help="Quick, Draw! sketches, .ndjson or .ndjson.gz, or a manifest (.parquet)")]
Methods = Annotated[
    str, typer.Option(help="Of ssbir, words, ssbir+words, semir, each also as NAME@pq or NAME@pq+rerank; msbir; random")
]
EncoderSpec = Annotated[
    str | None,
    typer.Option("--encoder", help="Encoder bundle, by name or folder  [default: the one that is shipped]"),
]
Semir = Annotated[str | None, typer.Option(help="SemIR bundle, by name or folder, for the methods semir")]
IndexUri = Annotated[
    str | None,
    typer.Option(
        callback=without_login, help="Milvus server whose IVF_PQ the methods @pq go through  [default: faiss]"
    ),
]
ExtraGallery = Annotated[
    list[Path] | None, typer.Option(help="annotations.json or labels.json of photos that are ranked but not asked for")
]
ExtraImages = Annotated[list[Path] | None, typer.Option(help="Folder of photos, one for each --extra-gallery")]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object on stdout, all else on stderr")]


@command
def evaluate(
    annotations: Annotations,
    images: Images,
    sketches: Sketches,
    methods: Methods = "ssbir,msbir,random",
    encoder: EncoderSpec = None,
    semir: Semir = None,
    index_uri: IndexUri = None,
    queries: Annotated[Path | None, typer.Option(help="Manifest of queries  [default: made from the photos]")] = None,
    extra_gallery: ExtraGallery = None,
    extra_images: ExtraImages = None,
    tau: Annotated[float, typer.Option(help="A photo is relevant above this R (eq. 9)")] = 0.5,
    taus: Annotated[str, typer.Option(help="The sweep over tau")] = ".3,.4,.5,.6,.7",
    limit: Annotated[int | None, typer.Option(min=1, help="Queries at most")] = None,
    seed: Annotated[int, typer.Option(min=0, help="Of the queries, of random and of the bootstrap")] = 0,
    held_out: Annotated[bool, typer.Option("--held-out", help="Only what training has not seen")] = False,
    per_query: Annotated[Path | None, typer.Option(help="Write each query's scores to this .jsonl or .parquet")] = None,
    by_class: Annotated[bool, typer.Option("--by-class", help="Print mAP by class too; --json always has it")] = False,
    as_json: Json = False,
) -> None:
    """Measure retrieval on annotated photos: mAP, NDCG@200, P@20 and P@200 of each method, and each two compared."""
    from compsketch_milvus.encoder import connect
    from encoders.evaluation.compare import evaluate as measure

    names, sweep = _listed(methods), [_number(text) for text in _listed(taus)]
    with StageBar() as bar:
        scores = measure(
            connect(encoder), annotations, images, sketches,
            methods=names, semir=_semir(semir), index=_index(index_uri), tau=tau, taus=sweep, limit=limit, seed=seed,
            subset="held_out" if held_out else "all", extra_gallery=_zipped(extra_gallery, extra_images),
            queries_path=queries, per_query=per_query, progress=bar,
        )  # fmt: skip
    emit(scores, as_json, lambda: _print_scores(scores, by_class))


def _listed(text: str) -> list[str]:
    return [part.strip() for part in text.split(",") if part.strip()]


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise CompsketchError(f"--taus: {text!r} is no number; give numbers such as .3,.5,.7") from None


def _zipped(files: list[Path] | None, folders: list[Path] | None) -> list[tuple[Path, Path]]:
    files, folders = files or [], folders or []
    if len(files) != len(folders):
        raise CompsketchError(f"{len(files)} --extra-gallery and {len(folders)} --extra-images: give one folder a file")
    return list(zip(files, folders, strict=True))


def _semir(spec: str | None) -> SemirEncoder | None:
    if spec is None:
        return None
    from compsketch_milvus.settings import load_settings
    from encoders.semir import SemirEncoder

    settings = load_settings()
    return SemirEncoder.open(spec, settings.device, settings.runtime)


def _index(uri: str | None) -> MilvusIndex | None:
    if uri is None:
        return None
    from compsketch_milvus.ranker import MilvusIndex
    from compsketch_milvus.settings import load_settings

    settings = load_settings(uri=uri)
    token = settings.token.get_secret_value() if settings.token else None
    return MilvusIndex(uri, token=token, db_name=settings.db_name)


def _print_scores(scores: dict[str, Any], by_class: bool) -> None:
    """Means with intervals, mAP by number of objects, tau and class, and the pairs' tests of mAP."""
    methods = scores["methods"]
    table(
        ["method", *(f"{name}>" for name in COLUMNS), "mAP, 95 %>"],
        [(name, *(f"{found[key]:.4f}" for key in COLUMNS), _interval(found)) for name, found in methods.items()],
    )
    _print_parts("mAP by objects", methods, "by_objects")
    _print_parts("mAP by tau", methods, "by_tau")
    if by_class:
        _print_parts("mAP by class", methods, "by_class")
    _print_pairs(pair for pair in scores["pairs"] if pair["metric"] == "mAP")
    typer.echo(
        "\n{queries} queries, {queries_without_relevant} of them without a relevant photo and left out; "
        "{gallery} photos, tau {tau}, seed {seed}".format(**scores)
    )
    if scores["index"]:
        typer.echo("@pq: " + ", ".join(f"{name} {value}" for name, value in scores["index"].items()))


def _print_parts(title: str, methods: Mapping[str, Any], key: str) -> None:
    """One line a part, one column a method."""
    typer.echo()
    parts = next(iter(methods.values()))[key]
    rows = [
        (name, part["queries"], *(f"{found[key][name]['mAP']:.4f}" for found in methods.values()))
        for name, part in parts.items()
    ]
    table([title, "queries>", *(f"{name}>" for name in methods)], rows)


def _print_pairs(pairs: Iterable[Mapping[str, Any]]) -> None:
    rows = [
        (f"{pair['a']} - {pair['b']}", f"{pair['difference']:+.4f}", _ends(pair["interval"], "+"),
         *(_figure(pair[name], form) for name, form in (("t", ".2f"), ("p", ".2g"), ("effect_size", ".2f"))))
        for pair in pairs
    ]  # fmt: skip
    if rows:
        typer.echo()
        table(["mAP, paired", "difference>", "95 %>", "t>", "p>", "d_z>"], rows)


def _interval(found: Mapping[str, Any]) -> str:
    return _ends(found["intervals"] and found["intervals"]["mAP"])


def _ends(interval: list[float] | None, sign: str = "") -> str:
    return "-" if interval is None else " to ".join(f"{end:{sign}.3f}" for end in interval)


def _figure(value: float | None, form: str) -> str:
    return "-" if value is None else f"{value:{form}}"
