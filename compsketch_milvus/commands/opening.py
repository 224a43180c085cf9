"""The flags by which commands name a collection, and the collection that they name."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any

import typer

from compsketch_milvus.commands.token import Token, Uri

if TYPE_CHECKING:
    from compsketch_milvus.collection import SketchCollection

__all__ = ["EncoderSpec", "Filter", "Json", "Name", "Token", "Uri", "open_collection"]

Name = Annotated[str | None, typer.Option("--collection", help="Collection of photos  [default: photos]")]
EncoderSpec = Annotated[
    str | None,
    typer.Option(
        "--encoder", help="Encoder bundle, by name or folder, or grpc://HOST:PORT  [default: the one that is shipped]"
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object on stdout, all else on stderr")]
Filter = Annotated[str, typer.Option(help="Milvus filter, such as 'width > 640 and source like \"/photos/%\"'")]


def open_collection(
    uri: str | None,
    name: str | None,
    token: str | None,
    encoder: str | None = None,
    *,
    create: bool = False,
    encodes: bool = True,
    once: bool = False,
    index: str = "auto",
    index_params: Mapping[str, Any] | None = None,
    partition_key: str | None = None,
) -> SketchCollection:
    """Open the collection that flags, environment and settings file name; without encoder unless it ``encodes``.

    For one sketch, asked ``once``, networks run in torch if nothing else is set: to compile them takes seconds more.
    """
    from compsketch_milvus.collection import SketchCollection
    from compsketch_milvus.encoder import connect
    from compsketch_milvus.settings import load_settings

    settings = load_settings(uri=uri, token=token, collection=name, encoder=encoder)
    secret = settings.token.get_secret_value() if settings.token else None
    runtime = "torch" if once and settings.runtime == "auto" else settings.runtime
    return SketchCollection.open(
        settings.collection,
        connect(settings.encoder, runtime=runtime) if encodes else None,
        uri=settings.uri,
        token=secret,
        db_name=settings.db_name,
        create=create,
        index=index,
        index_params=index_params,
        partition_key=partition_key,
    )
