"""Encoder bundles: a folder with `config.json` and `model.safetensors`, and the fingerprint that tells two apart.

Nothing in a bundle is executed: the configuration is JSON, the tensors are safetensors; there is no pickle.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from encoders.errors import BundleError

FORMAT = 1
CONFIG, MODEL = "config.json", "model.safetensors"
BUNDLES = Path(__file__).with_name("bundles")
DISTRIBUTION = "compsketch-milvus-bundle"  # what the shipped one is installed by
# What `save` writes into config.json beside the caller's configuration, and `load` takes out again.
RESERVED = ("format", "tensors", "fingerprint")
# Keys that say something about a bundle, but do not change one number that it computes.
DESCRIPTIVE = ("description", "metrics", "training", "calibration", "projection")
# What may differ between two bundles whose networks are the same: keys, and the names of tensors begin so.
PROJECTED, PROJECTION = ("name", "dim"), "projection."


@dataclass(frozen=True, eq=False)
class Bundle:
    """An encoder's configuration and weights.

    Attributes:
        config: what JSON can hold; all but `DESCRIPTIVE` is part of the fingerprint. `RESERVED` keys are not allowed.
        tensors: arrays by name, floats (half precision, too) and integers; do not change them once the fingerprint is
            taken.
    """

    config: dict[str, Any]
    tensors: dict[str, NDArray[Any]]

    def __post_init__(self) -> None:
        reserved = [key for key in RESERVED if key in self.config]
        if reserved:
            raise BundleError(f"the bundle's config has {', '.join(reserved)}: `save` writes these, leave them out")

    @cached_property
    def fingerprint(self) -> str:
        """`cs1-` and 16 hex digits over everything that shapes a vector: configuration, names, types, shapes, bytes.

        The order of keys and of tensors does not matter, nor do the keys in `DESCRIPTIVE`.

        Raises:
            BundleError: the configuration holds what JSON cannot.
        """
        return f"cs1-{self._digest(self.config, self.tensors)}"

    @cached_property
    def networks(self) -> str:
        """`nw1-` and 16 hex digits over everything that shapes the features which the projection is given.

        Bundles that differ in their projections alone have it in common, and what is kept of the one serves the other.

        Raises:
            BundleError: as `fingerprint`.
        """
        config = {key: value for key, value in self.config.items() if key not in PROJECTED}
        tensors = {name: tensor for name, tensor in self.tensors.items() if not name.startswith(PROJECTION)}
        return f"nw1-{self._digest(config, tensors)}"

    @staticmethod
    def _digest(config: Mapping[str, Any], tensors: Mapping[str, NDArray[Any]]) -> str:
        digest = hashlib.sha256(_json({key: value for key, value in config.items() if key not in DESCRIPTIVE}))
        for name in sorted(tensors):
            little = _little(tensors[name])
            digest.update(_json([name, little.dtype.str, list(little.shape)]))
            digest.update(little.data if little.size else b"")
        return digest.hexdigest()[:16]

    def save(self, folder: str | Path) -> None:
        """Write the bundle; the folder is made where there is none, other files in it are left alone.

        Each file is written beside its place and then renamed, so that an interruption leaves the earlier bundle, or
        in the instant between the two renames one that `load` refuses, never one that is half of each.

        Raises:
            BundleError: it cannot be written, or holds values that are not finite or not JSON.
        """
        folder = Path(folder)
        _check_finite(self.tensors, folder)
        safetensors = _safetensors(folder)
        shapes = {name: list(tensor.shape) for name, tensor in sorted(self.tensors.items())}
        config = {"format": FORMAT, "fingerprint": self.fingerprint, **self.config, "tensors": shapes}
        contiguous = {name: _little(tensor) for name, tensor in self.tensors.items()}
        try:
            folder.mkdir(parents=True, exist_ok=True)
            _replace(folder, {MODEL: safetensors.save(contiguous), CONFIG: json.dumps(config, indent=1).encode()})
        except OSError as error:
            raise BundleError(
                f"bundle {folder} cannot be written ({error.strerror or error}): free space or choose another folder"
            ) from error

    @classmethod
    def load(cls, folder: str | Path) -> Bundle:
        """Read a bundle and check that it is whole.

        Raises:
            BundleError: no such folder, a file missing, truncated or damaged, another format, tensors missing,
                unexpected or of another shape than the configuration says, values that are not finite.
        """
        folder = Path(folder)
        for name in (CONFIG, MODEL):
            if not (folder / name).is_file():
                raise BundleError(f"bundle {folder} has no {name}: give a folder that holds {CONFIG} and {MODEL}")
        config = _read_config(folder)
        tensors = _read_tensors(folder)
        _check_shapes(tensors, config.get("tensors"), folder)
        _check_finite(tensors, folder)
        bundle = cls({key: value for key, value in config.items() if key not in RESERVED}, tensors)
        stated = config.get("fingerprint", bundle.fingerprint)
        if stated != bundle.fingerprint:
            raise BundleError(
                f"bundle {folder} says it is {stated} but is {bundle.fingerprint}: its files were changed or belong to "
                "two bundles; copy it again, or after a change of your own save it with Bundle.save"
            )
        return bundle


def find(spec: str | Path | None = None) -> Path:
    """The folder of a bundle that ships with the package, by name, or any folder, by path.

    A name goes before a folder of that name in the working directory; write `./name` for the folder.

    Args:
        spec: name or path; None is "default".

    Raises:
        BundleError: neither; the message lists the names there are.
    """
    text = "default" if spec is None else str(spec)
    names = sorted(path.parent.name for path in BUNDLES.glob(f"*/{CONFIG}"))
    if text in names:
        return BUNDLES / text
    path = Path(text).expanduser()
    if text and path.is_dir():
        return path
    if not names:
        raise BundleError(f"no bundle {text!r}, and none is installed: pip install {DISTRIBUTION}, or give a folder")
    raise BundleError(f"no bundle {text!r}: give a folder, or one of these names: {', '.join(names)}")


def _json(value: object) -> bytes:
    """Canonical: one text for equal values."""
    try:
        return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False).encode()
    except (TypeError, ValueError) as error:
        raise BundleError(
            f"the bundle's config is not JSON ({error}): keep to numbers, text, lists and dicts"
        ) from error


def _little(tensor: NDArray[Any]) -> NDArray[Any]:
    """Little-endian and row by row, as the file holds it."""
    return np.ascontiguousarray(tensor, dtype=tensor.dtype.newbyteorder("<")).reshape(tensor.shape)


def _safetensors(folder: Path) -> Any:
    try:
        import safetensors.numpy
    except ImportError as error:
        raise BundleError(f"bundle {folder} needs safetensors: pip install 'compsketch-milvus[encoders]'") from error
    return safetensors.numpy


def _read_config(folder: Path) -> dict[str, Any]:
    try:
        config = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:  # UnicodeDecodeError and JSONDecodeError are ValueErrors
        raise BundleError(f"bundle {folder}: {CONFIG} cannot be read ({error}): copy or save it again") from error
    found = config.get("format") if isinstance(config, dict) else None
    if found != FORMAT:
        raise BundleError(
            f"bundle {folder} has format {found!r}, this version reads {FORMAT}: "
            "install the compsketch-milvus it was made with, or save it again with this one"
        )
    return dict(config)


def _read_tensors(folder: Path) -> dict[str, NDArray[Any]]:
    numpy_io = _safetensors(folder)
    try:
        return dict(numpy_io.load_file(folder / MODEL))
    except Exception as error:  # SafetensorError for damage; KeyError, TypeError for a type that numpy has not
        raise BundleError(
            f"bundle {folder}: {MODEL} is truncated, damaged or of a type numpy cannot hold ({error}): "
            "copy or save it again"
        ) from error


def _check_shapes(tensors: Mapping[str, NDArray[Any]], spec: object, folder: Path) -> None:
    """Compare names and shapes with the configuration's {name: shape}; a bundle without that list is not checked."""
    if spec is None:
        return
    if not isinstance(spec, dict):
        raise BundleError(f'bundle {folder}: "tensors" in {CONFIG} is not {{name: shape}}: copy or save it again')
    shaped = [
        f"{name} is {list(tensors[name].shape)}, not {shape}"
        for name, shape in spec.items()
        if name in tensors and list(tensors[name].shape) != shape
    ]
    faults = {
        "missing": sorted(set(spec) - set(tensors)),
        "unexpected": sorted(set(tensors) - set(spec)),
        "misshapen": shaped,
    }
    told = "; ".join(f"{what}: {', '.join(names)}" for what, names in faults.items() if names)
    if told:
        raise BundleError(
            f"bundle {folder} does not hold the tensors its {CONFIG} lists ({told}): copy or save it again"
        )


def _check_finite(tensors: Mapping[str, NDArray[Any]], folder: Path) -> None:
    bad = sorted(n for n, t in tensors.items() if np.issubdtype(t.dtype, np.floating) and not np.isfinite(t).all())
    if bad:
        raise BundleError(
            f"bundle {folder} has values that are not finite in {', '.join(bad)}: train or convert it again"
        )


def _replace(folder: Path, files: Mapping[str, bytes]) -> None:
    """Write all files under temporary names first, then rename them in order."""
    temporary = {name: folder / f".{name}.{os.getpid()}.tmp" for name in files}
    try:
        for name, content in files.items():
            with open(temporary[name], "wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
        for name, path in temporary.items():
            os.replace(path, folder / name)
    finally:
        for path in temporary.values():
            path.unlink(missing_ok=True)
