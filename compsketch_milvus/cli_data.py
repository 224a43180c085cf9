"""`compsketch data`: builders of manifests from the sets' own files, each one call into `encoders.data`."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from compsketch_milvus.terminal import DONE, FAILURES, StageBar, command, emit, note, table

if TYPE_CHECKING:
    from encoders.data.report import Report

__all__ = ["data"]

data = typer.Typer(
    help="Build manifests (parquet) of photos, sketches and queries from the sets' own files; nothing is downloaded.",
    no_args_is_help=True,
    rich_markup_mode=None,
)

SHOWN = 10  # dropped classes and reasons on the terminal; --json lists them all

Out = Annotated[Path, typer.Option("--out", "-o", help="The manifest to write, .parquet", show_default=False)]
Images = Annotated[Path, typer.Option(help="Folder of the photos", show_default=False)]
ClassMapFile = Annotated[
    Path | None, typer.Option("--class-map", help="JSON of which word draws which class  [default: the set's own]")
]
SketchFile = Annotated[
    Path | None,
    typer.Option("--sketches", help="Manifest or ndjson of sketches: classes that it has none of are dropped"),
]
Groups = Annotated[bool, typer.Option("--groups", help="Keep boxes around groups and crowds")]
PerClass = Annotated[int | None, typer.Option(min=1, help="Sketches of each word at most, drawn by --seed")]
Form = Annotated[str, typer.Option(help="svg, png, or auto: SVGs where there are any")]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object on stdout, all else on stderr")]


@data.command()
@command
def openimages(
    source: Annotated[Path, typer.Argument(help="Folder of Open Images' CSV files", show_default=False)],
    images: Images,
    out: Out,
    split: Annotated[list[str], typer.Option(help="train, validation, test; repeat for several")],
    class_map: ClassMapFile = None,
    sketches: SketchFile = None,
    groups: Groups = False,
    as_json: Json = False,
) -> int:
    """Open Images v6: boxes and class names from its CSV files, sizes from the photos themselves."""
    from encoders.data import openimages as reader
    from encoders.data.build import build_photos
    from encoders.data.report import Report

    started, report = time.monotonic(), Report()
    with StageBar() as bar:
        photos = reader.read(source, split, report, images=images, groups=groups, progress=bar)
        build_photos(
            "openimages", photos, report, out, source=[source], images=images, class_map=class_map, sketches=sketches
        )
    return _say(out, report, started, as_json)


@data.command()
@command
def coco(
    source: Annotated[list[Path], typer.Argument(help="instances_*.json", show_default=False)],
    images: Images,
    out: Out,
    class_map: ClassMapFile = None,
    sketches: SketchFile = None,
    groups: Groups = False,
    as_json: Json = False,
) -> int:
    """COCO: instances_train2017.json and its like; the split is in the file's name."""
    from encoders.data import coco as reader
    from encoders.data.build import build_photos
    from encoders.data.report import Report

    started, report = time.monotonic(), Report()
    with StageBar() as bar:
        photos = reader.read(source, report, images=images, groups=groups, progress=bar)
        build_photos("coco", photos, report, out, source=source, images=images, class_map=class_map, sketches=sketches)
    return _say(out, report, started, as_json)


@data.command()
@command
def voc(
    source: Annotated[Path, typer.Argument(help="Folder of a year, such as VOCdevkit/VOC2012", show_default=False)],
    out: Out,
    split: Annotated[list[str], typer.Option(help="train, val, trainval, test; repeat for several")],
    class_map: ClassMapFile = None,
    sketches: SketchFile = None,
    as_json: Json = False,
) -> int:
    """PASCAL VOC: Annotations, ImageSets/Main and JPEGImages of a year."""
    from encoders.data import voc as reader
    from encoders.data.build import build_photos
    from encoders.data.report import Report

    started, report = time.monotonic(), Report()
    with StageBar() as bar:
        photos = reader.read(source, split, report, progress=bar)
        build_photos(
            "voc",
            photos,
            report,
            out,
            source=[source],
            images=source / "JPEGImages",
            class_map=class_map,
            sketches=sketches,
        )
    return _say(out, report, started, as_json)


@data.command()
@command
def quickdraw(
    source: Annotated[list[Path], typer.Argument(help="ndjson files, plain or gzipped, or folders of them")],
    out: Out,
    per_class: PerClass = None,
    seed: int = 0,
    unrecognised: Annotated[bool, typer.Option("--unrecognised", help="Keep what the game did not recognise")] = False,
    class_map: ClassMapFile = None,
    as_json: Json = False,
) -> int:
    """Quick, Draw!: simplified or raw ndjson, a file a class."""
    from encoders.data import quickdraw as reader
    from encoders.data.build import build_sketches
    from encoders.data.report import Report

    started, report = time.monotonic(), Report()
    with StageBar() as bar:
        drawings = reader.read(source, report, unrecognised=unrecognised, progress=bar)
        build_sketches(
            "quickdraw", drawings, report, out, source=source, class_map=class_map, per_class=per_class, seed=seed
        )
    return _say(out, report, started, as_json)


@data.command()
@command
def tuberlin(
    source: Annotated[Path, typer.Argument(help="Folder that holds svg/ or png/", show_default=False)],
    out: Out,
    form: Form = "auto",
    per_class: PerClass = None,
    seed: int = 0,
    class_map: ClassMapFile = None,
    as_json: Json = False,
) -> int:
    """TU-Berlin: a folder a class, of SVGs or PNGs, with filelist.txt."""
    from encoders.data import tuberlin as reader
    from encoders.data.build import build_sketches
    from encoders.data.report import Report

    started, report = time.monotonic(), Report()
    with StageBar() as bar:
        drawings = reader.read(source, report, form=form, progress=bar)
        build_sketches(
            "tuberlin", drawings, report, out, source=[source], class_map=class_map, per_class=per_class, seed=seed
        )
    return _say(out, report, started, as_json)


@data.command()
@command
def sketchy(
    source: Annotated[Path, typer.Argument(help="Folder of the unpacked archives", show_default=False)],
    out: Out,
    form: Form = "auto",
    photos: Annotated[Path | None, typer.Option(help="Write the photos beside, to this manifest")] = None,
    invalid: Annotated[bool, typer.Option("--invalid", help="Keep sketches that Sketchy lists as invalid")] = False,
    per_class: PerClass = None,
    seed: int = 0,
    class_map: ClassMapFile = None,
    as_json: Json = False,
) -> int:
    """Sketchy: sketches as SVGs or PNGs, and the photos that they are of."""
    from encoders.data import sketchy as reader
    from encoders.data.build import build_photos, build_sketches
    from encoders.data.report import Report

    started, report, beside = time.monotonic(), Report(), Report()
    folder = None if photos is None else reader.photos_folder(source)  # found missing before the sketches are read
    with StageBar() as bar:
        drawings = reader.read(source, report, form=form, invalid=invalid, progress=bar)
        build_sketches(
            "sketchy", drawings, report, out, source=[source], class_map=class_map, per_class=per_class, seed=seed
        )
        if photos is not None and folder is not None:
            found = reader.read_photos(folder)
            build_photos("sketchy", found, beside, photos, source=[source], images=folder, class_map=class_map)
    also = {} if photos is None else {str(photos): beside.to_dict()}
    return _say(out, report, started, as_json, also)


@data.command()
@command
def sets(
    photos: Annotated[Path, typer.Argument(help="Manifest of photos with splits", show_default=False)],
    sketches: Annotated[Path, typer.Option(help="Manifest or ndjson of sketches", show_default=False)],
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder for the sets", show_default=False)],
    seed: int = 0,
    large: Annotated[int, typer.Option(min=0, help="Queries of test-lq at most")] = 11_000,
    small: Annotated[int, typer.Option(min=0, help="Queries of test-sq, a part of test-lq")] = 900,
    stock: Annotated[int, typer.Option(min=0, help="Queries of stock, balanced over 1, 2 and 3 objects")] = 100,
    as_json: Json = False,
) -> None:
    """The paper's sets (section 4.1): trainval, test, test-lq, test-sq and stock, from two manifests."""
    from encoders.data.sets import build_sets

    made = build_sets(photos, sketches, out, seed=seed, large=large, small=small, stock=stock)
    emit({"out": str(out), "seed": seed, "sets": made}, as_json, lambda: _print_sets(made))


@data.command()
@command
def queries(
    photos: Annotated[Path, typer.Argument(help="Manifest of photos", show_default=False)],
    sketches: Annotated[Path, typer.Option(help="Manifest or ndjson of sketches", show_default=False)],
    out: Out,
    count: Annotated[int | None, typer.Option(min=1, help="Queries at most  [default: one of each photo]")] = None,
    objects: Annotated[list[int] | None, typer.Option(min=1, help="Numbers of objects  [default: 1, 2, 3]")] = None,
    balanced: Annotated[bool, typer.Option("--balanced", help="As many queries of each number of objects")] = False,
    split: Annotated[str | None, typer.Option(help="Only photos of this split")] = None,
    seed: int = 0,
    as_json: Json = False,
) -> None:
    """A set of queries: sketches laid out in the boxes of photos, the same from the same seed."""
    from encoders.data.sets import build_queries

    made = build_queries(
        photos, sketches, out, n=count, seed=seed, objects=objects or (1, 2, 3), balanced=balanced, split=split
    )
    emit({"out": str(out), "seed": seed} | made, as_json, lambda: _print_sets({str(out): made}))


def _say(
    out: Path, report: Report, started: float, as_json: bool, also: dict[str, dict[str, Any]] | None = None
) -> int:
    """Print the account of a build; the status says whether something was bad or missing."""
    account = report.to_dict()
    answer = {"out": str(out), **account, "seconds": time.monotonic() - started}
    made = {str(out): account, **(also or {})}
    emit(answer | ({"also": also} if also else {}), as_json, lambda: _print_accounts(made))
    return FAILURES if any(found["failed"] for found in made.values()) else DONE


def _print_accounts(made: dict[str, dict[str, Any]]) -> None:
    for path, account in made.items():
        dropped = account["dropped_classes"]
        if dropped:
            table(["dropped class", "count>", "why"], [(d["class"], d["count"], d["reason"]) for d in dropped[:SHOWN]])
        if len(dropped) > SHOWN:
            typer.echo(f"… and {len(dropped) - SHOWN} more dropped classes; --json lists them")
        for what in ("left_out", "failed"):
            for item in account[what][:SHOWN]:
                note(f"{what.replace('_', ' ')}: {item['count']} x {item['reason']}, first {item['first']}")
        typer.echo(f"{path}: {_contents(account)}")


def _print_sets(made: dict[str, dict[str, Any]]) -> None:
    for path, account in made.items():
        if "queries" in account:
            counts = ", ".join(f"{count} of {objects}" for objects, count in account["by_objects"].items())
            typer.echo(f"{path}: {account['queries']} queries ({counts} objects)")
        else:
            typer.echo(f"{path}: {_contents(account)}")


def _contents(account: dict[str, Any]) -> str:
    if account["sketches"]:
        return f"{account['sketches']} sketches of {account['classes']} words"
    return f"{account['photos']} photos, {account['boxes']} boxes of {account['classes']} words"
