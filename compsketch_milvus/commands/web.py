"""`compsketch web`: the sketch page, served until it is interrupted."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from compsketch_milvus.commands.ingest import Drain
from compsketch_milvus.commands.opening import EncoderSpec, Json, Name, Token, Uri
from compsketch_milvus.errors import CompsketchError, ServerError
from compsketch_milvus.terminal import INTERRUPTED, emit, lasting, note
from compsketch_milvus.web.listening import address, check_reach, listen, serve

if TYPE_CHECKING:
    from compsketch_milvus.web.app import Options

__all__ = ["web"]

PATIENCE = 5.0  # seconds for an encoder service: who draws wants to know that it is away
_MAKE = "openssl rand -hex 24"


@lasting
def web(
    uri: Uri = None,
    collection: Name = None,
    token: Token = None,
    encoder: EncoderSpec = None,
    host: Annotated[
        str, typer.Option(help="Address to listen at; other machines reach 0.0.0.0, or [::]")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port to listen at; 0 takes a free one")] = 8420,
    token_file: Annotated[
        Path | None, typer.Option(help="A file with the secret by which people log in, 16 letters or more")
    ] = None,
    tls_cert: Annotated[Path | None, typer.Option(help="The certificate to serve by TLS with, in PEM")] = None,
    tls_key: Annotated[Path | None, typer.Option(help="Its key, in PEM")] = None,
    insecure: Annotated[
        bool, typer.Option("--insecure", help="Serve other machines without TLS, as behind a proxy that has it")
    ] = False,
    cache: Annotated[
        Path | None, typer.Option(help="Folder for thumbnails  [default: one in your cache folder]")
    ] = None,
    cache_bytes: Annotated[int, typer.Option(min=1, help="Bytes that they may take")] = 512 * 2**20,
    allow_private: Annotated[
        bool, typer.Option("--allow-private", help="Also show photos at URLs that lead to private addresses")
    ] = False,
    open_browser: Annotated[bool, typer.Option("--open", help="Open the page in the browser")] = False,
    as_json: Json = False,
) -> int:
    """Serve the sketch page: draw objects, watch the photos rearrange. SIGTERM or Ctrl-C ends it.

    Only this machine reaches it, unless `--host` says otherwise; then it takes a secret and TLS.
    """
    from compsketch_milvus.web.app import Options
    from compsketch_milvus.web.opened import Where

    secret = None if token_file is None else _secret(token_file)
    check_reach(host, secret, (tls_cert, tls_key), insecure)
    where, opened = _where(uri, collection, token), listen(host, port)
    options = Options(Where(**where), secret, tls_cert is not None, cache, cache_bytes, allow_private)
    link = address(opened, host, tls=tls_cert is not None)
    with opened:
        app = _app(encoder, options)
        told = {"url": link, "collection": options.where.collection, "login": secret is not None}
        emit(told, as_json, lambda: typer.echo(f"the sketch page: {link}"))
        if open_browser:
            import webbrowser

            webbrowser.open(link)
        try:
            with Drain():  # what is under way is answered, and SIGTERM is how a service is meant to end
                serve(app, opened, tls_cert, tls_key)
        except KeyboardInterrupt:
            return INTERRUPTED
    return 0


def _secret(file: Path) -> str:
    from compsketch_milvus.web.login import MIN_TOKEN

    try:
        secret = file.read_text("utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise CompsketchError(f"{file}: cannot be read as the secret ({error}); make one: {_MAKE} > {file}") from error
    if len(secret) < MIN_TOKEN:
        raise CompsketchError(
            f"{file}: a secret of {len(secret)} letters could be guessed; {MIN_TOKEN} or more it has to have: "
            f"{_MAKE} > {file}"
        )
    return secret


def _where(uri: str | None, collection: str | None, token: str | None) -> dict[str, Any]:
    from compsketch_milvus.settings import load_settings

    settings = load_settings(uri=uri, collection=collection, token=token)
    secret = settings.token.get_secret_value() if settings.token else None
    return {"uri": settings.uri, "collection": settings.collection, "token": secret, "db_name": settings.db_name}


def _app(encoder: str | None, options: Options) -> Any:
    """The app, its encoder warm and its collection opened, unless Milvus is away: it may come later."""
    from compsketch_milvus.collection import SketchCollection
    from compsketch_milvus.encoder import connect
    from compsketch_milvus.web.app import create_app
    from encoders.sketch import Sketch, SketchObject

    # As many searches run at once as there are CPUs: a thread for each costs a third less than all threads for each.
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    network, where = connect(encoder, timeout=PATIENCE), options.where
    line = SketchObject(([[1, 9], [1, 9]],))  # type: ignore[arg-type]
    network.encode_sketches([Sketch(10, 10, (line,))])  # compiles what nobody should wait for while drawing
    try:
        more: dict[str, Any] = {"token": where.token, "db_name": where.db_name, "create": False}
        SketchCollection.open(where.collection, network, uri=where.uri, **more).close()
    except ServerError as error:
        if not error.transient:
            raise
        note(f"{error}; the page tries again by itself")
    return create_app(network, options)
