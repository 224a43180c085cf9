"""Write `compsketch plan`'s figures from what `make bench-scale` and `make bench-peers` have measured.

    python -m tests.benchmarks.figures        # on the machine that measured: its name goes into the file
    python -m tests.benchmarks.figures DIR    # where scale.json and peers.json, or one of them, lie elsewhere

Nothing is typed in: what neither has measured is not in the file, and the plan says so.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from compsketch_milvus.plan.figures import UNITS
from encoders.evaluation.tables.study import machine

RESULTS = Path(__file__).parent / "results"
TARGET = Path(__file__).parents[2] / "compsketch_milvus" / "plan" / "figures.json"
SERVER = "ours, Milvus server"
MIB = 2**20


def collected(sizes: list[Mapping[str, Any]], peers: Mapping[str, Any] | None, here: str) -> dict[str, Any]:
    """What figures.json holds.

    Args:
        sizes: of scale.json, one object a size.
        peers: of peers.json; None where it was not made.
        here: the machine, where a measurement does not name its own.

    Raises:
        ValueError: sizes of different indexes: one of them is of another run.
    """
    settings = {tuple(_setting(size).items()) for size in sizes}
    if len(settings) > 1:
        raise ValueError(f"scale.json: sizes of different indexes, {sorted(settings)}; measure all sizes in one run")
    setting = dict(settings.pop()) if settings else {}
    found = [figure for size in sizes for figure in _of_size(size, here)]
    if peers is not None:
        setting["features"] = peers["features"]
        found += _of_peers(peers)
    return {"setting": setting, "figures": found}


def _setting(size: Mapping[str, Any]) -> dict[str, int]:
    return {"dim": size["dim"], **{name: size["index"]["params"][name] for name in ("m", "nbits", "nlist")}}


def _of_size(size: Mapping[str, Any], here: str) -> Iterator[dict[str, Any]]:
    values = {
        "memory": (size["server_mib"] - size["idle_mib"]) * MIB,
        "storing": size["store_seconds"],
        "building": size["build_seconds"],
        "loading": size["load_seconds"],
    }
    for name, value in values.items():
        command = f"make bench-scale SIZES={size['rows']}"
        yield _figure(name, size["rows"], value, size.get("machine", here), command)


def _of_peers(peers: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    server = peers["comparisons"][-1]["rows"][SERVER]
    beside = server["bytes a photo stored"] - server["bytes a photo in the index"] - 4 * peers["dim"]
    for name, value in {"other_storage": beside, **peers["costs"]}.items():
        yield _figure(name, None, value, peers["machine"], peers["command"])


def _figure(name: str, rows: int | None, value: float, where: str, command: str) -> dict[str, Any]:
    return {"name": name, "rows": rows, "value": value, "unit": UNITS[name], "machine": where, "command": command}


def main(folder: Path) -> None:
    """Read, write, and say how many."""
    scale, peers = folder / "scale.json", folder / "peers.json"
    sizes = json.loads(scale.read_text()) if scale.exists() else []
    answer = collected(sizes, json.loads(peers.read_text()) if peers.exists() else None, machine())
    TARGET.write_text(json.dumps(answer, indent=1) + "\n", encoding="utf-8")
    print(f"{len(answer['figures'])} figures in {TARGET}")


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else RESULTS)
