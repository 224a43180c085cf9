"""What is checked on this machine: settings, what is installed, the encoder, the disk."""

from __future__ import annotations

import difflib
import os
import re
import shutil
import stat
import time
from collections.abc import Generator, Iterator, Mapping
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

from compsketch_milvus.doctor.checks import Check, State, reported
from compsketch_milvus.server import lite_path, public_uri
from compsketch_milvus.settings import VARIABLES, config_file, load_settings

if TYPE_CHECKING:
    from compsketch_milvus.encoder import Encoder
    from compsketch_milvus.settings import Settings

__all__ = ["check_disk", "check_encoder", "check_extras", "check_settings"]

DISTRIBUTION = "compsketch-milvus"
# What each extra is there for; those that only developers need are not asked about.
PURPOSES = {
    "encoders": "encoding photos and sketches on this machine",
    "lite": "Milvus Lite files, which need no server",
    "train": "training bundles",
    "evaluate": "evaluation",
    "demo": "the demonstration's own photos",
    "data": "manifests in parquet",
    "web": "the sketch page",
    "serve": "the encoder service",
    "ray": "ingestion on many machines",
    "tracing": "sending traces to OpenTelemetry",
}
LITTLE, TOO_LITTLE = 2 << 30, 200 << 20  # bytes: room for a million vectors, and for hardly any
READABLE = stat.S_IRGRP | stat.S_IROTH  # by others than the file's owner
SECRETS = ("MILVUS_TOKEN", "MILVUS_PASSWORD", "MILVUS_SOURCE_TOKEN", "COMPSKETCH_ENCODER_TOKEN")


def check_settings(flags: Mapping[str, Any]) -> Generator[Check, None, Settings | None]:
    """Flags, environment and the settings file; returns what they give, or None where that is no good."""
    settings, failures = None, list[Check]()
    with reported("settings", failures):
        settings = load_settings(**flags)
    yield from failures
    file = config_file()
    if settings is not None:
        known = [variable for variable, _ in VARIABLES.values()]
        used = ", ".join(name for name in known if os.environ.get(name)) or "nothing"
        there = f"{file} and" if file.is_file() else f"no file {file};"
        yield Check("settings", State.OK, f"{there} of the environment {used}; Milvus at {public_uri(settings.uri)}")
    yield from _near_misses()
    if file.is_file() and os.name == "posix" and file.stat().st_mode & READABLE and _holds_secret(file):
        yield Check(
            "settings file", State.WARNING, f"{file} holds a secret, and others can read it", f"chmod 600 {file}"
        )
    return settings


def _near_misses() -> Iterator[Check]:
    """Variables that are Milvus' by name and are nearly one that is read; others may belong to other programs."""
    known = [variable for variable, _ in VARIABLES.values() if variable.startswith("MILVUS_")]
    for name in sorted(os.environ):
        near = difflib.get_close_matches(name, known, n=1, cutoff=0.85) if name.startswith("MILVUS_") else []
        if near and name not in known:
            yield Check("settings", State.WARNING, f"{name} is set and nobody reads it", f"did you mean {near[0]}?")


def _holds_secret(file: Path) -> bool:
    try:
        text = file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return False
    return any(line.split("=")[0].removeprefix("export ").strip() in SECRETS for line in text.splitlines())


def check_extras() -> Iterator[Check]:
    """Which optional parts are installed, and what the others would be for."""
    try:
        required = metadata.requires(DISTRIBUTION) or []
    except metadata.PackageNotFoundError:
        yield Check("extras", State.WARNING, "this checkout is not installed", "pip install -e .")
        return
    needs: dict[str, set[str]] = {extra: set() for extra in PURPOSES}
    for line in required:
        extra = re.search(r"extra\s*==\s*['\"]([\w-]+)['\"]", line)
        if extra and extra[1] in needs:
            needs[extra[1]].add(line)
    missing = {extra: purpose for extra, purpose in PURPOSES.items() if not all(map(_installed, needs[extra]))}
    present = ", ".join(extra for extra in PURPOSES if extra not in missing) or "none"
    lacking = "".join(f"; {extra} is not, for {purpose}" for extra, purpose in missing.items())
    wanted = ",".join(missing)
    remedy = f'where you need them: pip install "{DISTRIBUTION}[{wanted}]"' if missing else ""
    yield Check("extras", State.OK, f"installed: {present}{lacking}", remedy)


def _installed(requirement: str) -> bool:
    """Whether the distribution that a line of the metadata names is there; one of our own extras counts by itself."""
    name = re.match(r"[\w.-]+", requirement)
    try:
        return name is not None and bool(metadata.version(name[0]))
    except metadata.PackageNotFoundError:
        return False


def check_encoder(settings: Settings) -> Generator[Check, None, Encoder | None]:
    """The bundle or service: whether it is there, where it runs, and whether it encodes; returns the encoder."""
    import numpy as np

    from compsketch_milvus.encoder import connect

    encoder, failures = None, list[Check]()
    with reported("encoder", failures):
        encoder = connect(settings.encoder, device=settings.device, runtime=settings.runtime)
        yield Check("bundle", State.OK, f"{encoder.name}, {encoder.dim}-D, fingerprint {encoder.fingerprint}")
        yield from _checked_servers(encoder)
        black = np.zeros((encoder.image_size, encoder.image_size, 3), np.uint8)
        started = time.perf_counter()
        vector = encoder.encode_images([black])
        spent = time.perf_counter() - started
        if vector.shape != (1, encoder.dim) or not np.isfinite(vector).all():
            yield Check(
                "encoder",
                State.FAILED,
                f"one photo gave {vector.shape} numbers, or some that are none",
                "is the bundle damaged? try another with --encoder, or another COMPSKETCH_RUNTIME",
            )
            return None
        runtime = getattr(encoder, "runtime", "its own runtime")
        yield Check("encoder", State.OK, f"encodes on {encoder.device}, {runtime}; a first photo took {spent:.1f} s")
        yield from _unused_gpu(encoder.device)
    yield from failures
    return encoder


def _checked_servers(encoder: Encoder) -> Iterator[Check]:
    """Each server of an encoder service by itself: with one of several away, work goes on unnoticed."""
    from encoders.serving.client import RemoteEncoder

    if not isinstance(encoder, RemoteEncoder):
        return
    for server, objection in encoder.servers().items():
        if objection is not None:
            yield Check("service", State.FAILED, str(objection))
        elif server.secure or server.loopback:
            yield Check("service", State.OK, f"{server} answers")
        else:
            yield Check(
                "service",
                State.WARNING,
                f"{server} answers; photos and vectors can be read on the way",
                "serve it with a certificate, and write grpcs:// in its address",
            )


def _unused_gpu(device: str) -> Iterator[Check]:
    """A driver of NVIDIA beside an encoder on the CPU."""
    if device == "cpu" and (shutil.which("nvidia-smi") or Path("/proc/driver/nvidia").exists()):
        yield Check(
            "encoder",
            State.WARNING,
            "this machine has an NVIDIA driver, and the encoder runs on the CPU",
            "set COMPSKETCH_DEVICE=cuda, and install a torch that was built for CUDA",
        )


def check_disk(settings: Settings) -> Iterator[Check]:
    """Room for a Milvus Lite file, and whether its folder can be written; nothing for a server."""
    failures: list[Check] = []
    with reported("disk", failures):
        path = lite_path(settings.uri)
        if path is None:
            return
        folder = next(parent for parent in path.parents if parent.is_dir())
        free = shutil.disk_usage(folder).free
        if not os.access(folder, os.W_OK):
            yield Check(
                "disk", State.FAILED, f"{folder} cannot be written", "give another file with --uri, or MILVUS_URI"
            )
            return
        state = State.OK if free >= LITTLE else State.WARNING if free >= TOO_LITTLE else State.FAILED
        remedy = "" if state is State.OK else "free some space, or give a file on another disk with --uri"
        yield Check("disk", state, f"{free / (1 << 30):.1f} GB free for {path}; a photo takes some 2 KB", remedy)
    yield from failures
