"""Where a page is served: the socket it listens at, who may reach it, and uvicorn around it until it is interrupted."""

from __future__ import annotations

import socket
import ssl
from pathlib import Path
from typing import Any

from compsketch_milvus.errors import CompsketchError

__all__ = ["address", "check_reach", "listen", "serve"]

CONNECTIONS, GRACE_SECONDS = 1000, 5


def check_reach(host: str, secret: str | None, pair: tuple[Path | None, Path | None], insecure: bool) -> None:
    """Refuse to serve other machines openly.

    Args:
        host: address to listen at.
        secret: what people have to know; None: nothing.
        pair: certificate and key, where the page is served by TLS.
        insecure: whether other machines may be served without TLS.

    Raises:
        CompsketchError: anybody could use the page, or the secret would be sent in the clear, or the pair is none.
    """
    from compsketch_milvus.web.protection import is_loopback

    _check_pair(*pair)
    if is_loopback(host):
        return
    if secret is None:
        raise CompsketchError(
            f"--host {host}: other machines could search without a login; give --token-file FILE, and --tls-cert and "
            "--tls-key, as the secret would else be sent in the clear"
        )
    if pair[0] is None and not insecure:
        raise CompsketchError(
            f"--host {host}: without TLS the secret is sent in the clear; give --tls-cert and --tls-key, or --insecure "
            "where a proxy in front has TLS"
        )


def listen(host: str, port: int) -> socket.socket:
    """A socket that listens already. Raises CompsketchError where it cannot."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host.strip("[]"), port), family=family, backlog=512)
    except OSError as error:
        raise CompsketchError(f"{host}:{port}: cannot listen there ({error.strerror}); give another --port") from error


def address(opened: socket.socket, host: str, *, tls: bool) -> str:
    """What to open in a browser."""
    scheme, name = "https" if tls else "http", f"[{host.strip('[]')}]" if ":" in host else host
    return f"{scheme}://{name}:{opened.getsockname()[1]}/"


def serve(app: Any, opened: socket.socket, tls_cert: Path | None, tls_key: Path | None) -> None:
    """Serve an app until this process is told to end. Raises KeyboardInterrupt then."""
    import uvicorn

    config = uvicorn.Config(
        app,
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        ws="none",
        limit_concurrency=CONNECTIONS,
        timeout_graceful_shutdown=GRACE_SECONDS,
        ssl_certfile=tls_cert,
        ssl_keyfile=tls_key,
    )
    uvicorn.Server(config).run(sockets=[opened])


def _check_pair(tls_cert: Path | None, tls_key: Path | None) -> None:
    if (tls_cert is None) != (tls_key is None):
        raise CompsketchError("--tls-cert and --tls-key go together: give both, or neither")
    if tls_cert is None or tls_key is None:
        return
    try:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(tls_cert, tls_key, password=lambda: b"")  # without one, it would ask
    except OSError as error:
        raise CompsketchError(f"{tls_cert}, {tls_key}: no certificate with its key, in PEM ({error})") from error
