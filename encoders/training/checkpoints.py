"""What stages leave on disk: checkpoints, results and caches, each tied to the configuration that made it."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, is_dataclass
from hashlib import blake2b
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from encoders.errors import DataError
from encoders.training.data import TrainingSet


def plain(config: Any) -> dict[str, Any]:
    """A configuration as JSON has it: nested dicts, lists, numbers and names."""
    return dict(json.loads(json.dumps(asdict(config), default=str)))


def digest(*parts: Any) -> str:
    """Twelve hexadecimal digits that change with any of the parts: dataclasses, modules, or what JSON can hold."""
    state = blake2b(digest_size=6)
    for part in parts:
        if isinstance(part, nn.Module):
            for name, tensor in part.state_dict().items():
                state.update(name.encode() + tensor.detach().cpu().contiguous().numpy().tobytes())
        elif isinstance(part, TrainingSet):
            state.update(_identity(part))
        else:
            value = plain(part) if is_dataclass(part) else part
            state.update(json.dumps(value, sort_keys=True).encode())
    return state.hexdigest()


def _identity(data: TrainingSet) -> bytes:
    """Which photos, boxes, classes and sketches; not where they lie."""
    names = [[path.name for path in paths] for paths in (data.photos, data.labelled, data.backgrounds)]
    listed = [names, data.words, data.labels, data.vocabulary, list(data.sketches.key_ids)]
    return json.dumps(listed).encode() + b"".join(boxes.tobytes() for boxes in data.boxes)


def differences(found: Mapping[str, Any], expected: Mapping[str, Any], prefix: str = "") -> Iterator[str]:
    """Say each value in which two configurations differ: ``batch 64, not 48``."""
    for name in dict.fromkeys([*expected, *found]):
        ours, theirs = expected.get(name), found.get(name)
        if isinstance(ours, dict) and isinstance(theirs, dict):
            yield from differences(theirs, ours, f"{prefix}{name}.")
        elif ours != theirs:
            yield f"{prefix}{name} {theirs!r}, not {ours!r}"


def check_config(path: Path, found: Mapping[str, Any], expected: Any) -> None:
    """Refuse what another configuration made.

    Raises:
        DataError: It names the file and what differs.
    """
    told = list(differences(found, plain(expected)))
    if told:
        more = f" and {len(told) - 4} more" if len(told) > 4 else ""
        raise DataError(
            f"{path} was made by another configuration ({'; '.join(told[:4])}{more}): "
            "give the --recipe it was made with, or another --out"
        )


def save_state(path: Path, config: Any, position: Mapping[str, Any], **parts: Any) -> None:
    """Write a checkpoint whole or not at all: its configuration, where the run is, and each part's state."""
    states = {name: part.state_dict() for name, part in parts.items()}
    write_whole(path, {"config": plain(config), "position": dict(position), **states})


def load_state(path: Path, config: Any, **parts: Any) -> dict[str, Any]:
    """Restore a checkpoint's parts and return the position it was written at; empty where there is no checkpoint.

    Raises:
        DataError: It is another configuration's.
    """
    if not path.exists():
        return {}
    state = read_whole(path)
    check_config(path, state.get("config", {}), config)
    for name, part in parts.items():
        if state[name]:  # a CPU's scaler has none, and a GPU's would refuse that
            part.load_state_dict(state[name])
    return dict(state["position"])


def save_result(path: Path, config: Any, weights: Mapping[str, torch.Tensor], **content: Any) -> Path:
    """Write a stage's result, with the configuration that made it, whole or not at all."""
    write_whole(path, {"config": plain(config), **content, "weights": {k: v.cpu() for k, v in weights.items()}})
    return path


def load_result(path: Path, config: Any) -> dict[str, Any]:
    """Read a stage's result.

    Raises:
        DataError: There is none, or it is another configuration's.
    """
    find_result(path)
    state = read_whole(path)
    check_config(path, state.get("config", {}), config)
    return state


def save_arrays(path: Path, **arrays: Any) -> None:
    """Write a cache, an .npz file, whole or not at all."""
    fresh = path.with_suffix(".new.npz")
    np.savez(fresh, **arrays)
    fresh.replace(path)


def find_result(path: Path) -> None:
    """See that a stage has run.

    Raises:
        DataError: It has not.
    """
    if not path.exists():
        raise DataError(f"{path}: no such result; run `compsketch train {path.stem}` with this --out first")


def read_whole(path: Path, *names: str) -> dict[str, Any]:
    """A stage's file, on the CPU.

    Args:
        path: The file.
        names: Of what it has to hold.

    Raises:
        DataError: It is damaged, or none of a stage.
    """
    try:
        state = dict(torch.load(path, map_location="cpu", weights_only=True))
    except OSError:
        raise
    except Exception as error:  # a damaged archive or pickle has a dozen names
        raise foreign(path) from error
    if not set(names) <= set(state):
        raise foreign(path)
    return state


def foreign(path: Path) -> DataError:
    """What is said of a file that no stage of training can have written as it is."""
    return DataError(f"{path} is damaged, or no file of a stage of training: delete it and run the stage")


def write_whole(path: Path, state: Mapping[str, Any]) -> None:
    """Write a stage's file whole or not at all."""
    fresh = path.with_suffix(".new")
    torch.save(dict(state), fresh)
    fresh.replace(path)
