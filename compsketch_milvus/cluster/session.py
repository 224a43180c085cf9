"""The way to a Ray: one that is started on this machine for the time of an ingest, or a cluster that runs."""

from __future__ import annotations

import logging
import os
import re
import signal
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from compsketch_milvus.errors import CompsketchError, ServerError

__all__ = ["LOCAL", "Session", "joined"]

LOCAL = "local"
WAIT = 10.0  # seconds for a host to answer
_PLACE = re.compile(r"(?P<host>[^:/@\s]+|\[[0-9a-fA-F:]+\]):(?P<port>[0-9]{1,5})")
# No usage statistics to Ray's makers, no lines of its own into the progress; what a worker raises comes as an error.
_QUIET = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_IGNORE_UNHANDLED_ERRORS": "1",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "RAY_BACKEND_LOG_LEVEL": "fatal",
    "RAY_DATA_DISABLE_PROGRESS_BARS": "1",
}


@dataclass(frozen=True)
class Session:
    """What there is to work with.

    Args:
        local: whether all of it is this machine.
        cpus: processors that Ray may use.
        gpus: GPUs likewise.
        nodes: machines.
        dashboard: URL of Ray's own page; empty where there is none.
    """

    local: bool
    cpus: int
    gpus: int
    nodes: int
    dashboard: str

    @property
    def words(self) -> str:
        """All that in one line, for people."""
        gpus = f", {self.gpus} GPUs" if self.gpus else ""
        page = f"; dashboard at {self.dashboard}" if self.dashboard else ""
        return f"Ray on {self.nodes} machine{'s' * (self.nodes > 1)}: {self.cpus} CPUs{gpus}{page}"


@contextmanager
def joined(address: str, store_bytes: int) -> Iterator[Session]:
    """Join a Ray for as long as the context lasts. If this process has joined one already, it stays in that.

    Args:
        address: `local`, which starts one here; `auto` for the one that runs on this machine, or HOST:PORT.
        store_bytes: of a local one, the memory for objects.

    Raises:
        CompsketchError: Ray is not installed, or there is no such address.
        ServerError: no Ray answers there.
    """
    ray = _ray()
    ours = not ray.is_initialized()
    dashboard = _start(ray, address, store_bytes) if ours else ""
    try:
        resources = ray.cluster_resources()
        yield Session(
            local=address == LOCAL,
            cpus=max(1, int(resources.get("CPU", 1))),
            gpus=int(resources.get("GPU", 0)),
            nodes=max(1, sum(bool(node["Alive"]) for node in ray.nodes())),
            dashboard=dashboard,
        )
    finally:
        if ours:
            ray.shutdown()


def _ray() -> Any:
    for name, value in _QUIET.items():
        os.environ.setdefault(name, value)  # read while it is imported, or when it starts
    try:
        import ray
        import ray.data
    except ModuleNotFoundError as error:
        raise CompsketchError(
            f'--ray needs {error.name}, which is not installed: pip install "compsketch-milvus[ray]"'
        ) from error
    for name in ("ray", "ray.data"):
        logging.getLogger(name).setLevel(logging.ERROR)
    return ray


def _start(ray: Any, address: str, store_bytes: int) -> str:
    """Start or join; returns the URL of the dashboard, or ''."""
    options: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}
    if address == LOCAL:
        options["object_store_memory"] = store_bytes
    else:
        _check(address)
    on_main_thread = threading.current_thread() is threading.main_thread()
    heeds = signal.getsignal(signal.SIGTERM)
    try:
        url = ray.init(address=address, **options).dashboard_url
    except Exception as error:  # Ray has no one class for it
        if address == LOCAL:
            raise ServerError(f"Ray cannot be started here ({' '.join(str(error).split())})") from error
        raise ServerError(f"{_none_at(address)} ({' '.join(str(error).split())})") from error
    finally:
        if on_main_thread:
            signal.signal(signal.SIGTERM, heeds)  # Ray's would end the program
    return f"http://{url}" if url else ""


def _check(address: str) -> None:
    """Refuse what is no address, and one where nobody listens: Ray itself tries that for many minutes."""
    if address == "auto":
        return
    place = _PLACE.fullmatch(address)
    if place is None:
        raise CompsketchError(
            f"--ray {address!r}: give local, auto for the Ray that runs on this machine, or HOST:PORT; "
            "from outside a cluster use `ray job submit -- compsketch ingest --ray auto …`"
        )
    try:
        with socket.create_connection((place["host"].strip("[]"), int(place["port"])), WAIT):
            return
    except (OSError, OverflowError) as error:
        raise ServerError(f"{_none_at(address)} ({getattr(error, 'strerror', None) or error})") from error


def _none_at(address: str) -> str:
    return f"{address}: no Ray answers; start one with `ray start --head`, or use --ray local"
