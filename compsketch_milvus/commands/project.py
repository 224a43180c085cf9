"""`compsketch reproject`, and `train projection --collection`: another projection for photos that Milvus holds."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from compsketch_milvus.commands.opening import EncoderSpec, Json, Token, Uri
from compsketch_milvus.errors import CompsketchError
from compsketch_milvus.terminal import FAILURES, StageBar, command, emit, note

if TYPE_CHECKING:
    from compsketch_milvus.fitting import Fitted
    from compsketch_milvus.tally import Failure

__all__ = [
    "Dim",
    "Features",
    "Live",
    "Parts",
    "Samples",
    "Seed",
    "failures_json",
    "fit_collection",
    "note_failures",
    "reproject",
]

SHOWN_FAILURES = 20  # on stderr; --json lists them all

Live = Annotated[str | None, typer.Option("--collection", help="Fit on the photos of this collection")]
Features = Annotated[Path | None, typer.Option(help="Folder of features, as `ingest --keep-features` keeps them")]
Samples = Annotated[int, typer.Option(min=256, help="Photos to fit on, at most; with --collection")]
Dim = Annotated[
    int | None, typer.Option(min=1, help="Length of the new vectors; with --collection  [default: the encoder's]")
]
Parts = Annotated[int, typer.Option("--m", min=1, help="Bytes of the product quantiser's code; with --collection")]
Seed = Annotated[int, typer.Option(min=0, help="Of the sample and of OPQ; with --collection")]


def fit_collection(out: Path | None, as_json: bool, where: dict[str, Any], **options: Any) -> int:
    """Fit on a live collection's photos, write the new bundle, and say what became of the old one's calibration.

    Args:
        out: folder of the new bundle.
        as_json: as all commands have it.
        where: what `load_settings` takes.
        **options: what `fit_projection` takes.
    """
    from compsketch_milvus.collection import SketchCollection
    from compsketch_milvus.encoder import connect
    from compsketch_milvus.fitting import fit_projection
    from compsketch_milvus.settings import load_settings
    from encoders.bundle import Bundle, find

    settings = load_settings(**where)
    secret = settings.token.get_secret_value() if settings.token else None
    folder = find(settings.encoder)
    if out is None or out.resolve() == folder.resolve():
        raise CompsketchError(
            "give the new bundle a folder of its own with --out: the old one is needed for as long as its collection is"
        )
    encoder = connect(settings.encoder, device=settings.device, runtime=settings.runtime)
    place: dict[str, Any] = {"uri": settings.uri, "token": secret, "db_name": settings.db_name}
    with SketchCollection.open(settings.collection, encoder, create=False, **place) as photos, StageBar() as bar:
        fitted = fit_projection(photos, Bundle.load(folder), progress=bar, **options)
    fitted.bundle.save(out)
    emit(_fitted_json(fitted, out), as_json, lambda: _print_fitted(fitted, out))
    return FAILURES if fitted.sample.unread else 0


def _fitted_json(fitted: Fitted, out: Path) -> dict[str, Any]:
    return {
        "results": {"projection": str(out)},
        "fingerprint": fitted.bundle.fingerprint,
        "projection": fitted.bundle.config["projection"],
        "kept": fitted.sample.kept,
        "unread": failures_json(fitted.sample.unread),
        "dropped": fitted.dropped,
    }


def _print_fitted(fitted: Fitted, out: Path) -> None:
    sample, told = fitted.sample, fitted.bundle.config["projection"]
    note_failures("cannot be read any more", sample.unread, 0)
    typer.echo(
        f"projection {told['version']} ({fitted.bundle.fingerprint}): {out}\nfitted on {len(sample.features)} of "
        f"{sample.rows} photos, {sample.kept} from kept features; {len(sample.unread)} could not be read"
    )
    if fitted.dropped:
        note(f"not carried over, as it was measured with the old projection: {', '.join(fitted.dropped)}")


@command
def reproject(
    old: Annotated[str, typer.Argument(help="Collection, or alias of one, that has the photos", show_default=False)],
    new: Annotated[str, typer.Argument(help="Collection to make of it, or to go on with", show_default=False)],
    encoder: EncoderSpec = None,
    features: Features = None,
    alias: Annotated[
        str | None, typer.Option(help="Name that readers use: pointed to NEW once it has every photo")
    ] = None,
    uri: Uri = None,
    token: Token = None,
    batch_size: Annotated[int, typer.Option(min=1, help="Photos encoded at once")] = 32,
    as_json: Json = False,
) -> int:
    """Make a collection of another one with a new projection; run it again to go on. The old one stays as it is.

    As `upgrade`, with the names spelled out: photos whose features were kept are projected, all others encoded again
    from their sources. With OLD and NEW, and the encoder, changed about it leads readers back.
    """
    from compsketch_milvus.commands.upgrade import carry_over

    place = {"uri": uri, "token": token}
    return carry_over(old, new, encoder, place, as_json, features=features, alias=alias, batch_size=batch_size)


def failures_json(failures: list[Failure]) -> list[dict[str, str]]:
    """Failures as JSON objects."""
    return [{"source": failure.source, "reason": failure.reason} for failure in failures]


def note_failures(what: str, failures: list[Failure], dropped: int) -> None:
    """Say on stderr what happened to the first of them, and how many there are beside (`dropped` beyond the list)."""
    for failure in failures[:SHOWN_FAILURES]:
        note(f"{what}: {failure.source}: {failure.reason}")
    if len(failures) + dropped > SHOWN_FAILURES:
        note(f"… and {len(failures) + dropped - SHOWN_FAILURES} more; --json lists them")
