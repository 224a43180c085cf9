"""`compsketch serve`: encoders as a service for clients that have neither torch nor a GPU."""

from __future__ import annotations

import asyncio
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from compsketch_milvus.commands.opening import Json
from compsketch_milvus.errors import CompsketchError
from compsketch_milvus.terminal import emit, lasting

if TYPE_CHECKING:
    from encoders.serving.server import Server
    from encoders.serving.tls import Tls

__all__ = ["serve"]

LARGEST_CALL = 256  # `CallLimits.items`: a queue that holds no such call would refuse it for ever
EXTRA = ("grpc_health", "grpc_reflection", "prometheus_client")


@lasting
def serve(
    encoder: Annotated[
        list[str] | None,
        typer.Option(
            help="Bundle to serve, by name or folder; repeatable, the first is the default  [the shipped one]"
        ),
    ] = None,
    host: Annotated[str, typer.Option(help="Address to listen at; a public one needs TLS and tokens")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port; 0 takes a free one")] = 50051,
    metrics_host: Annotated[str, typer.Option(help="Address of the metrics")] = "127.0.0.1",
    metrics_port: Annotated[int, typer.Option(min=0, max=65535, help="Port of the metrics; 0 takes a free one")] = 9464,
    health_port: Annotated[
        int | None, typer.Option(min=0, max=65535, help="Port for health checks alone, without TLS, beside the metrics")
    ] = None,
    token_file: Annotated[
        Path | None, typer.Option(help="Who may call: lines of NAME TOKEN, read again when they change")
    ] = None,
    tls_cert: Annotated[Path | None, typer.Option(help="PEM file of the server's certificate")] = None,
    tls_key: Annotated[Path | None, typer.Option(help="PEM file of its key")] = None,
    tls_client_ca: Annotated[
        Path | None, typer.Option(help="PEM file of the authorities whose certificates clients have to show")
    ] = None,
    insecure: Annotated[
        bool, typer.Option("--insecure", help="Serve at a public address without TLS or tokens")
    ] = False,
    reflection: Annotated[bool, typer.Option("--reflection", help="Let clients ask for the protocol")] = False,
    max_batch: Annotated[int, typer.Option(min=1, max=1024, help="Rows the networks take at a time")] = 32,
    max_wait: Annotated[
        float, typer.Option(min=0, max=1, metavar="SECONDS", help="How long a bulk batch waits to be filled")
    ] = 0.003,
    queue: Annotated[int, typer.Option(min=LARGEST_CALL, help="Rows under way in each lane; more are refused")] = 1024,
    decode_workers: Annotated[
        int | None, typer.Option(min=1, help="Processes that decode photos  [default: one a core]")
    ] = None,
    nvjpeg: Annotated[
        bool, typer.Option("--nvjpeg", help="Have the GPU decode JPEGs; of use where there are few cores")
    ] = False,
    rate: Annotated[
        float | None, typer.Option(min=0.001, metavar="ROWS/S", help="Rows a second one client may ask for")
    ] = None,
    drain: Annotated[
        float, typer.Option(min=0, metavar="SECONDS", help="After SIGTERM, time for what was accepted")
    ] = 30.0,
    as_json: Json = False,
) -> None:
    """Encode for clients over gRPC, until SIGTERM or Ctrl-C: what was accepted by then is answered first.

    With --json the object on stdout comes when calls are let in. The log, JSON lines, is on stderr.
    """
    from compsketch_milvus.encoder import connect

    _check_installed()
    from encoders.serving import server

    options = server.ServeOptions(
        host=host,
        port=port,
        metrics_host=metrics_host,
        metrics_port=metrics_port,
        health_port=health_port,
        token_file=token_file,
        tls=_tls(tls_cert, tls_key, tls_client_ca),
        insecure=insecure,
        reflection=reflection,
        batch=max_batch,
        wait=max_wait,
        queue=queue,
        decode_workers=decode_workers,
        nvjpeg=nvjpeg,
        rate=rate,
        drain=drain,
    )
    options.check_files()
    encoders = [connect(spec) for spec in encoder] if encoder else [connect()]
    asyncio.run(server.serve(encoders, options, ready=lambda running: _tell(running, as_json)))


def _check_installed() -> None:
    missing = next((name for name in EXTRA if find_spec(name) is None), None)
    if missing is not None:
        raise CompsketchError(f'serve needs {missing}, which is not installed: pip install "compsketch-milvus[serve]"')


def _tls(cert: Path | None, key: Path | None, client_ca: Path | None) -> Tls | None:
    from encoders.serving.tls import Tls

    if cert is None and key is None and client_ca is None:
        return None
    if cert is None or key is None:
        raise CompsketchError("TLS needs both --tls-cert and --tls-key")
    return Tls(cert, key, client_ca)


def _tell(running: Server, as_json: bool) -> None:
    models = [
        {
            "name": one.name,
            "fingerprint": one.fingerprint,
            "dim": one.engine.encoder.dim,
            "device": one.engine.encoder.device,
        }
        for one in running.models
    ]
    answer: dict[str, Any] = {
        "host": running.options.host,
        "port": running.port,
        "metrics_port": running.metrics_port,
        "health_port": running.health_port,
        "tls": running.options.tls is not None,
        "models": models,
    }
    emit(answer, as_json, lambda: typer.echo(_words(answer)))


def _words(answer: dict[str, Any]) -> str:
    scheme = "grpcs" if answer["tls"] else "grpc"
    models = ", ".join("{name} ({fingerprint}, {device})".format(**model) for model in answer["models"])
    return f"serving {models} at {scheme}://{answer['host']}:{answer['port']}; metrics at port {answer['metrics_port']}"
