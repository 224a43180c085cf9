"""`compsketch data`: builders of manifests from the sets' own files, each one call into `encoders.data`."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeAlias

import typer

from compsketch_milvus.terminal import DONE, FAILURES, StageBar, command, emit, note, table

if TYPE_CHECKING:
    from encoders.data.manifest import Drawing, Photo
    from encoders.data.report import Report

    Build: TypeAlias = Callable[[Report, StageBar], None]

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
Seed = Annotated[int, typer.Option(min=0, help="Of what is drawn by chance")]
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

    read = partial(reader.read, source, split, images=images, groups=groups)
    build = _photos("openimages", read, out, [source], images, class_map, sketches)
    return _run([(out, build)], as_json)


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

    read = partial(reader.read, source, images=images, groups=groups)
    return _run([(out, _photos("coco", read, out, source, images, class_map, sketches))], as_json)


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

    read = partial(reader.read, source, split)
    build = _photos("voc", read, out, [source], source / "JPEGImages", class_map, sketches)
    return _run([(out, build)], as_json)


@data.command()
@command
def quickdraw(
    source: Annotated[list[Path], typer.Argument(help="ndjson files, plain or gzipped, or folders of them")],
    out: Out,
    per_class: PerClass = None,
    seed: Seed = 0,
    unrecognised: Annotated[bool, typer.Option("--unrecognised", help="Keep what the game did not recognise")] = False,
    class_map: ClassMapFile = None,
    as_json: Json = False,
) -> int:
    """Quick, Draw!: simplified or raw ndjson, a file a class."""
    from encoders.data import quickdraw as reader

    read = partial(reader.read, source, unrecognised=unrecognised)
    return _run([(out, _sketches("quickdraw", read, out, source, class_map, per_class, seed))], as_json)


@data.command()
@command
def tuberlin(
    source: Annotated[Path, typer.Argument(help="Folder that holds svg/ or png/", show_default=False)],
    out: Out,
    form: Form = "auto",
    per_class: PerClass = None,
    seed: Seed = 0,
    class_map: ClassMapFile = None,
    as_json: Json = False,
) -> int:
    """TU-Berlin: a folder a class, of SVGs or PNGs, with filelist.txt."""
    from encoders.data import tuberlin as reader

    read = partial(reader.read, source, form=form)
    return _run([(out, _sketches("tuberlin", read, out, [source], class_map, per_class, seed))], as_json)


@data.command()
@command
def sketchy(
    source: Annotated[Path, typer.Argument(help="Folder of the unpacked archives", show_default=False)],
    out: Out,
    form: Form = "auto",
    photos: Annotated[Path | None, typer.Option(help="Write the photos beside, to this manifest")] = None,
    invalid: Annotated[bool, typer.Option("--invalid", help="Keep sketches that Sketchy lists as invalid")] = False,
    per_class: PerClass = None,
    seed: Seed = 0,
    class_map: ClassMapFile = None,
    as_json: Json = False,
) -> int:
    """Sketchy: sketches as SVGs or PNGs, and the photos that they are of."""
    from encoders.data import sketchy as reader

    read = partial(reader.read, source, form=form, invalid=invalid)
    builds = [(out, _sketches("sketchy", read, out, [source], class_map, per_class, seed))]
    if photos is not None:
        folder = reader.photos_folder(source)  # found missing before the sketches are read
        listed = _photos(
            "sketchy", lambda *_, progress: reader.read_photos(folder), photos, [source], folder, class_map
        )
        builds.append((photos, listed))
    return _run(builds, as_json)


@data.command()
@command
def sets(
    photos: Annotated[Path, typer.Argument(help="Manifest of photos with splits", show_default=False)],
    sketches: Annotated[Path, typer.Option(help="Manifest or ndjson of sketches", show_default=False)],
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder for the sets", show_default=False)],
    seed: Seed = 0,
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
    seed: Seed = 0,
    as_json: Json = False,
) -> None:
    """A set of queries: sketches laid out in the boxes of photos, the same from the same seed."""
    from encoders.data.sets import build_queries

    made = build_queries(
        photos, sketches, out, n=count, seed=seed, objects=objects or (1, 2, 3), balanced=balanced, split=split
    )
    emit({"out": str(out), "seed": seed} | made, as_json, lambda: _print_sets({str(out): made}))


def _photos(
    builder: str,
    read: Callable[..., Iterator[Photo]],
    out: Path,
    source: list[Path],
    images: Path,
    class_map: Path | None,
    sketches: Path | None = None,
) -> Build:
    """The build of a manifest of photos."""
    from encoders.data.build import build_photos

    files = {"images": images, "class_map": class_map, "sketches": sketches}
    return lambda report, bar: build_photos(builder, read(report, progress=bar), report, out, source=source, **files)


def _sketches(
    builder: str,
    read: Callable[..., Iterator[Drawing]],
    out: Path,
    source: list[Path],
    class_map: Path | None,
    per_class: int | None,
    seed: int,
) -> Build:
    """The build of a manifest of sketches."""
    from encoders.data.build import build_sketches

    return lambda report, bar: build_sketches(
        builder, read(report, progress=bar), report, out,
        source=source, class_map=class_map, per_class=per_class, seed=seed,
    )  # fmt: skip


def _run(builds: list[tuple[Path, Build]], as_json: bool) -> int:
    """Build manifests and print an account of each; the status says whether something was bad or missing."""
    from encoders.data.report import Report

    started, accounts = time.monotonic(), []
    with StageBar() as bar:
        for out, build in builds:
            report = Report()
            build(report, bar)
            accounts.append((str(out), report.to_dict()))
    (path, first), *others = accounts
    answer = {"out": path, **first, "seconds": time.monotonic() - started}
    also = {"also": dict(others)} if others else {}
    emit(answer | also, as_json, lambda: _print_accounts(accounts))
    return FAILURES if any(account["failed"] for _, account in accounts) else DONE


def _print_accounts(made: list[tuple[str, dict[str, Any]]]) -> None:
    for path, account in made:
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
