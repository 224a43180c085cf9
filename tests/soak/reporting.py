"""What a run has shown, as one JSON object, and the timeline of all ledgers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tests.soak.checks import outages
from tests.soak.ledger import Tail

__all__ = ["faults_of_growth", "report", "timeline", "tracebacks"]

LEAK = 64.0  # megabytes an hour by which a process of ours may grow
OLD = 600  # seconds from which on growth says something
MOST_TEMPORARY = 50  # files left in the folder for temporary files


def timeline(folder: Path) -> list[dict[str, Any]]:
    """The lines of all ledgers, by their time, each with its writer."""
    lines = [{"by": path.stem, **line} for path in sorted(folder.glob("*.jsonl")) for line in Tail(path).new()]
    return sorted(lines, key=lambda line: line["at"])


def report(lines: Sequence[Mapping[str, Any]], memory: Mapping[str, Mapping[str, float]]) -> dict[str, Any]:
    """The counts of a run.

    Args:
        lines: its timeline.
        memory: what its processes took, by name.
    """
    strikes = [line for line in lines if line["kind"] == "strike"]
    exits = [line for line in lines if line["kind"] == "exit" and not line["struck"] and line["status"] != 0]
    batches = [line for line in lines if line["kind"] == "batch"]
    return {
        "seed": next((line["seed"] for line in lines if line["kind"] == "begin"), None),
        "seconds": round(lines[-1]["at"] - lines[0]["at"]) if lines else 0,
        "struck": _counted(f"{_kind(line['victim'])} {line['signal']}" for line in strikes),
        "folder": _counted(line["kind"] for line in lines if line["by"] == "folder"),
        "batches": len(batches),
        "photos": sum(len(line["paths"]) for line in batches),
        "starts_of_workers": sum(line["starts"] for line in batches),
        "deleted": sum(len(line["paths"]) for line in lines if line["kind"] == "deleted"),
        "clients": {name: _client([one for one in lines if _client_of(one) == name]) for name in _clients(lines)},
        "ended_by_themselves": _counted(f"{_kind(line['name'])}: {line['line'][:160]}" for line in exits),
        "processes": memory,
        "violations": [line["what"] for line in lines if line["kind"] == "violation"],
    }


def faults_of_growth(memory: Mapping[str, Mapping[str, float]], temporary: int) -> list[str]:
    """What grew and should not: memory of our processes that lived long, files left lying about."""
    faults = [
        f"{name} grew by {facts['growth_mb_an_hour']:g} MB an hour, over {LEAK:g}"
        for name, facts in memory.items()
        if name != "milvus" and facts["longest_seconds"] >= OLD and facts["growth_mb_an_hour"] > LEAK
    ]
    if temporary > MOST_TEMPORARY:
        faults.append(f"{temporary} temporary files are left, over {MOST_TEMPORARY}")
    return faults


def tracebacks(logs: Path) -> list[str]:
    """The programs that ended in, or logged, a traceback: none of theirs is foreseen."""
    found = []
    for path in sorted(logs.glob("*.err")):
        text = path.read_text("utf-8", "replace")
        if "Traceback (most recent call last)" in text:
            found.append(f"{path.name}: {text.count('Traceback (most recent call last)')} tracebacks")
    return found


def _client(lines: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    spans = [end - start for start, end in outages(lines)]
    answered = [line["seconds"] for line in lines if line["kind"] == "ok"]
    return {
        "answered": len(answered),
        "away": sum(line["kind"] == "away" for line in lines),
        "outages": len(spans),
        "away_seconds": round(sum(spans), 1),
        "longest_outage": round(max(spans, default=0.0), 1),
        "slowest_answer": max(answered, default=0.0),
    }


def _clients(lines: Sequence[Mapping[str, Any]]) -> list[str]:
    return sorted({_client_of(line) for line in lines if line["kind"] in ("ok", "away")} - {""})


def _client_of(line: Mapping[str, Any]) -> str:
    return " ".join(filter(None, (line["by"], line.get("page", "")))) if line["kind"] in ("ok", "away") else ""


def _kind(name: str) -> str:
    return "ingest" if name.startswith("ingest-") else name


def _counted(names: Any) -> dict[str, int]:
    return dict(sorted(Counter(names).items()))
