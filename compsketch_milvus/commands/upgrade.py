"""`compsketch upgrade` and `compsketch alias`: another encoder for photos that Milvus holds, and readers over to it."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from compsketch_milvus.commands.opening import Json, Token, Uri, open_collection
from compsketch_milvus.commands.project import Features, failures_json, note_failures
from compsketch_milvus.errors import CollectionError
from compsketch_milvus.terminal import FAILURES, INTERRUPTED, StageBar, command, emit, note, refuse

if TYPE_CHECKING:
    from compsketch_milvus.collection import SketchCollection
    from compsketch_milvus.encoder import Encoder
    from compsketch_milvus.upgrading import Upgrade

__all__ = ["alias", "carry_over", "upgrade"]

TAG = 8  # letters of a fingerprint in the name of a collection


@command
def upgrade(
    collection: Annotated[str, typer.Argument(help="Collection that has the photos, or its alias", show_default=False)],
    to: Annotated[
        str, typer.Option(metavar="ENCODER", help="The new encoder: a bundle, or grpc://HOST:PORT", show_default=False)
    ],
    alias: Annotated[
        str | None,
        typer.Option(help="Name that readers use  [default: COLLECTION, where that is an alias]", show_default=False),
    ] = None,
    into: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="The new collection  [default: the alias and the encoder's fingerprint]"),
    ] = None,
    features: Features = None,
    allow_missing: Annotated[
        int, typer.Option(min=0, metavar="N", help="Change readers over though N photos cannot be read any more")
    ] = 0,
    prune: Annotated[
        bool, typer.Option("--prune", help="Delete from the new collection what the old one has no more")
    ] = False,
    allow_private: Annotated[
        bool, typer.Option("--allow-private", help="Let photos' URLs lead to private addresses")
    ] = False,
    batch_size: Annotated[int, typer.Option(min=1, help="Photos encoded at once")] = 32,
    uri: Uri = None,
    token: Token = None,
    as_json: Json = False,
) -> int:
    """Another encoder for a collection while people search it: a new collection, filled, then readers over to it.

    The old one stays as it is; `compsketch alias` leads back to it. Run it again to go on, or to bring over what was
    written to the old one since.
    """
    return carry_over(
        collection,
        into,
        to,
        {"uri": uri, "token": token},
        as_json,
        alias=alias,
        features=features,
        allow_missing=allow_missing,
        prune=prune,
        allow_private=allow_private,
        batch_size=batch_size,
    )


def carry_over(
    old: str,
    new: str | None,
    encoder: str | None,
    place: dict[str, str | None],
    as_json: bool,
    *,
    alias: str | None,
    features: Path | None,
    allow_missing: int = 0,
    **options: Any,
) -> int:
    """Make the new collection, change readers over, and say what came of it.

    Args:
        old: name, or alias, of the collection that has the photos.
        new: name of the one to make; None: of the alias and the fingerprint.
        encoder: the new one.
        place: `uri` and `token`, as flags give them.
        as_json: as all commands have it.
        alias: name for readers; None where `old` is none either: they stay where they are.
        features: folder of kept features.
        allow_missing: photos that may be missing.
        **options: further ones of `upgrading.upgrade`.
    """
    from compsketch_milvus.aliases import named_by
    from compsketch_milvus.encoder import connect
    from compsketch_milvus.features import FeatureStore
    from compsketch_milvus.settings import load_settings
    from compsketch_milvus.upgrading import open_successor
    from compsketch_milvus.upgrading import upgrade as work

    settings = load_settings(encoder=encoder, **place)
    secret = settings.token.get_secret_value() if settings.token else None
    where: dict[str, Any] = {"uri": settings.uri, "token": secret, "db_name": settings.db_name}
    with open_collection(place["uri"], old, place["token"], encodes=False) as before:
        made_with = connect(settings.encoder, runtime=settings.runtime)
        if new is None:
            alias = alias or (old if old != before.name else None)
            new = _name(before, alias, made_with)
        if alias is not None:
            named_by(alias, before)  # refused before anything is made
        store = FeatureStore(features, made_with) if features else None
        with open_successor(before, new, made_with, **where) as after, StageBar() as bar:
            names = {"old": before.name, "new": after.name}
            more = {"features": store, "alias": alias, "allow_missing": allow_missing, **options}
            try:
                result = work(before, after, progress=bar, **more)
            except KeyboardInterrupt:
                refuse("interrupted; run the same command again, it goes on from there", as_json)
                return INTERRUPTED
    answer = names | _result_json(result) | {"encoder": {"name": made_with.name, "fingerprint": made_with.fingerprint}}
    emit(answer, as_json, lambda: _print_result(result, names, alias))
    return FAILURES if _missing(result) > allow_missing else 0


def _name(old: SketchCollection, alias: str | None, encoder: Encoder) -> str:
    """Of the new collection: the same each time, so that an interrupted upgrade finds it again."""
    if encoder.fingerprint == old.identity.fingerprint:
        at = alias or old.name
        raise CollectionError(
            f"{at!r} is {old.name!r}, which encoder {encoder.name!r} ({encoder.fingerprint}) made: there is nothing to "
            "upgrade. To bring over what was written to another collection since, name that one, and this alias with "
            f"`--alias {at}`"
        )
    return f"{alias or old.name}_{re.sub('[^0-9A-Za-z]', '', encoder.fingerprint)[-TAG:]}"


def _missing(result: Upgrade) -> int:
    return len(result.missing) + result.missing_dropped


def _result_json(result: Upgrade) -> dict[str, Any]:
    """rows == there + projected + encoded + len(missing) + missing_dropped, where nobody wrote meanwhile."""
    numbers = ("rows", "there", "projected", "encoded", "pruned", "missing_dropped", "alias", "before", "seconds")
    return {name: getattr(result, name) for name in numbers} | {"missing": failures_json(result.missing)}


def _print_result(result: Upgrade, names: dict[str, str], alias: str | None) -> None:
    old, new = names["old"], names["new"]
    note_failures("missing", result.missing, result.missing_dropped)
    pruned = f", {result.pruned} deleted that {old} has no more" if result.pruned else ""
    typer.echo(
        f"{new}: {result.projected} projected, {result.encoded} encoded again, {result.there} there already, "
        f"{_missing(result)} missing, of {result.rows} photos in {result.seconds:.1f} s{pruned}"
    )
    if result.alias:
        typer.echo(f"{result.alias} now names {new}: readers see it when they open the collection again")
        note(f"{old} is left as it is; back to it: compsketch alias {result.alias} {old}")
    elif alias:
        note(
            f"{alias} was left as it is: bring back what is missing, or delete it from the old one, and run it again; "
            f"or let it be missing with --allow-missing {_missing(result)}"
        )


@command
def alias(
    name: Annotated[str, typer.Argument(help="The alias that readers open", show_default=False)],
    collection: Annotated[
        str | None, typer.Argument(metavar="[COLLECTION]", help="Point it there; without: say where it points")
    ] = None,
    rename: Annotated[
        bool,
        typer.Option("--rename", help="NAME is a collection's own: call it COLLECTION, and make NAME its alias"),
    ] = False,
    uri: Uri = None,
    token: Token = None,
    as_json: Json = False,
) -> int:
    """Point an alias to a collection, in one step: also back to the one that it named before an upgrade.

    Readers that are open keep the collection that they have, until they open the alias again, with its encoder.
    """
    from compsketch_milvus.aliases import named_by, point_alias
    from compsketch_milvus.aliases import rename as make_way

    before = None
    with open_collection(uri, name if rename else collection or name, token, encodes=False) as photos:
        if rename:
            _check_rename(name, collection, photos)
            make_way(photos, str(collection))
        elif collection is None:
            named_by(name, photos)  # refuses a collection's own name
        else:
            before = point_alias(name, photos)
        told = {"name": photos.identity.encoder, "fingerprint": photos.identity.fingerprint}
        answer = {"alias": name, "collection": photos.name, "before": before, "count": photos.count(), "encoder": told}
    if before not in (None, answer["collection"]):
        with open_collection(uri, before, token, encodes=False) as left:
            answer["count_before"] = left.count()
    emit(answer, as_json, lambda: _print_alias(answer, rename))
    return 0


def _check_rename(name: str, collection: str | None, photos: SketchCollection) -> None:
    if collection is None:
        raise CollectionError(f"--rename: give the name that {name!r} is to have from now on, such as {name}_1")
    if photos.name != name:
        raise CollectionError(f"{name!r} is an alias already, of {photos.name!r}; leave out --rename")


def _print_alias(answer: dict[str, Any], renamed: bool) -> None:
    name, now, before, count = (answer[key] for key in ("alias", "collection", "before", "count"))
    was = f", until now {before}" if before not in (None, now) else ""
    typer.echo(f"{name} names {now}{was}: {count} photos, encoder {answer['encoder']['name']}")
    if renamed:
        note(f"open {name!r} again wherever it is open, before you point it elsewhere")
    if answer.get("count_before", count) != count:
        note(
            f"{before} has {answer['count_before']} photos: what is there alone readers do not find any more; to bring "
            f"it over: compsketch upgrade {before} --to ENCODER --into {now} --alias {name}"
        )
