"""A study's figures as files: a report in Markdown and in JSON, Fig. 4 as SVG and PNG; its ratings as a table."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from compsketch_milvus.errors import CompsketchError
from compsketch_milvus.study.histograms import draw_png, draw_svg
from compsketch_milvus.study.plan import Plan
from compsketch_milvus.study.scoring import ALL, TAU, Scoring
from compsketch_milvus.study.store import Store
from encoders.evaluation.tables.table import Cell, Figure
from encoders.evaluation.tables.writing import section

__all__ = ["COLUMNS", "export", "report", "write"]

COLUMNS = ("query", "objects", "rank", "photo", "source", "methods", "rater", "score", "expected", "marked", "at")
TABLE_2 = 3  # the first so many metrics are those of Table 2, the others those of Fig. 4


def report(plan: Plan, store: Store, *, with_marked: bool = False) -> dict[str, Any]:
    """All figures of a study, as far as it is.

    Args:
        plan: the study.
        store: its ratings.
        with_marked: count those raters too who have failed too many checks.

    Raises:
        CompsketchError: there is no rating that counts.
    """
    said, people = store.ratings(), _people(store)
    left_out = set() if with_marked else store.marked()
    scoring = Scoring(plan, [rating for rating in said if rating.rater not in left_out])
    if not scoring.given:
        raise CompsketchError(
            f"no rating counts yet: {len(people)} raters, {len(left_out)} of them left out for the checks they failed; "
            "collect some with `compsketch study serve`"
        )
    return {
        "counts": {**scoring.counts(), "raters": len({one.rater for one in said}), "raters_left_out": len(left_out)},
        "tau": TAU,
        "metrics": list(scoring.metrics),
        "methods": scoring.means(),
        "pairs": scoring.pairs(),
        "histograms": scoring.histograms(),
        "alpha": scoring.agreement(),
        "raters": people,
        "checks": len(plan.checks),
        "encoders": dict(plan.encoders),
        "data": dict(plan.data),
        "seed": plan.seed,
        "fingerprint": plan.fingerprint,
    }


def write(figures: dict[str, Any], folder: Path) -> list[Path]:
    """Write ``report.md``, ``report.json``, ``fig4.svg`` and ``fig4.png``; the folder is made where there is none."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / name for name in ("report.md", "report.json", "fig4.svg", "fig4.png")]
    paths[0].write_text(to_markdown(figures), encoding="utf-8")
    paths[1].write_text(json.dumps(figures, indent=1, ensure_ascii=False, allow_nan=False) + "\n", encoding="utf-8")
    paths[2].write_text(draw_svg(figures["histograms"]), encoding="utf-8")
    draw_png(figures["histograms"]).save(paths[3])
    return paths


def export(plan: Plan, store: Store, path: Path) -> int:
    """Write every score as a line of CSV; raters are numbers. Returns how many there are.

    Raises:
        OSError: the file cannot be written.
    """
    numbers = {rater: number for number, rater in enumerate(store.raters(), start=1)}
    marked, count = store.marked(), 0
    with path.open("w", newline="", encoding="utf-8") as stream:
        lines = csv.writer(stream)
        lines.writerow(COLUMNS)
        for rating in store.ratings():
            task = plan.by_id[rating.task]
            query = plan.queries[task.query]
            kinds: Sequence[str] = task.expected or ("",) * len(task.photos)
            for photo, score, kind in zip(task.photos, rating.scores, kinds, strict=True):
                by = [name for name, found in query.ranked.items() if task.rank and photo in found[task.rank - 1 :][:1]]
                about = (task.query, query.objects, task.rank or "", photo, plan.photos[photo], " ".join(by))
                lines.writerow([*about, numbers[rating.rater], score, kind, int(rating.rater in marked), rating.at])
                count += 1
    return count


def to_markdown(figures: dict[str, Any]) -> str:
    """The report for people."""
    counts, metrics = figures["counts"], figures["metrics"]
    encoders = ", ".join(f"{method} {name}" for method, name in figures["encoders"].items())
    data = ", ".join(f"{name} {value}" for name, value in figures["data"].items())
    lines = [
        "# User study",
        "",
        "{ratings} ratings of {pairs} pairs of drawing and photo by {raters} raters, {raters_left_out} of whom are "
        "left out for the checks they failed; {tasks_complete} of {tasks} tasks are complete.".format(**counts),
        "",
        f"Study {figures['fingerprint']}, seed {figures['seed']}. Data: {data}. Encoders: {encoders}.",
        "",
    ]
    notes = (
        f"R of a query and a photo is the mean of their ratings; relevant is R > {figures['tau']:g}.",
        "The gain of NDCG is R where a photo is relevant, else 0.",
        "mAP and NDCG measure against all photos that were rated for a query, whichever method found them.",
        "{queries_answered} of {queries} queries have a rating of every photo and count; "
        "{queries_without_relevant} of these have no relevant photo, and so no mAP and no NDCG.".format(**counts),
        "In brackets: 95 % bootstrap intervals over queries (BCa).",
    )
    of_table = metrics[:TABLE_2]
    lines += section("Table 2", ("method", *of_table), list(_means(figures, ALL, of_table)), notes, level=2)
    rows = [(group, *row) for group in figures["methods"] for row in _means(figures, group, metrics)]
    lines += ["", *section("By number of objects", ("objects", "method", *metrics), rows, level=2)]
    lines += ["## Fig. 4", "", "![How often each rating was given](fig4.svg)", ""]
    lines += _tests(figures)
    alphas: list[tuple[Cell, ...]] = list(figures["alpha"].items())
    note = "Krippendorff's alpha for ordinal ratings: 1 is agreement, 0 is chance; none where all ratings are the same."
    lines += ["", *section("Agreement", ("objects", "alpha"), alphas, (note,), level=2)]
    lines += ["", *_raters(figures)]
    return "\n".join(lines) + "\n"


def _means(figures: dict[str, Any], group: str, metrics: Sequence[str]) -> Iterator[tuple[Cell, ...]]:
    for method, found in figures["methods"][group].items():
        yield (method, *(_figure(found[metric]) for metric in metrics))


def _figure(mean: dict[str, Any]) -> Cell:
    return None if mean["value"] is None else Figure(mean["value"], *(mean["interval"] or ()))


def _tests(figures: dict[str, Any]) -> list[str]:
    """Of all queries the metrics of Table 2, of each number of objects what Fig. 4 shows; the JSON has the rest."""
    of_table, of_figure = figures["metrics"][:TABLE_2], figures["metrics"][TABLE_2:]
    rows = [
        (pair["objects"], pair["metric"], f"{pair['a']} - {pair['b']}",
         *(pair[name] for name in ("difference", "t", "p", "effect_size", "n")))
        for pair in figures["pairs"]
        if pair["metric"] in (of_table if pair["objects"] == ALL else of_figure)
    ]  # fmt: skip
    columns = ("objects", "metric", "methods", "difference", "t", "p", "d_z", "queries")
    note = "Paired over queries, two-sided, not corrected for the number of pairs; d_z is Cohen's."
    return section("Paired t-tests", columns, rows, (note,), level=2)


def _raters(figures: dict[str, Any]) -> list[str]:
    names = ("number", "tasks", "checks_passed", "checks_failed")
    rows = [(*(one[name] for name in names), "yes" if one["marked"] else "no") for one in figures["raters"]]
    note = (
        "A check is passed by rating the photo that is known to be good above all that are known to be bad; marked is "
        "who fails more than a third."
        if figures["checks"]
        else "The study has no checks: nothing is known of any photo."
    )
    columns = ("rater", "tasks", "checks passed", "checks failed", "marked")
    return section("Raters", columns, rows, (note,), level=2)


def _people(store: Store) -> list[dict[str, Any]]:
    """Each rater by a number, in the order in which they came: their cookie is not for a report."""
    checks, marked, said = store.checks(), store.marked(), [rating.rater for rating in store.ratings()]
    people = []
    for number, rater in enumerate(store.raters(), start=1):
        passed, failed = checks.get(rater, (0, 0))
        about = {"number": number, "tasks": said.count(rater), "checks_passed": passed, "checks_failed": failed}
        people.append({**about, "marked": rater in marked})
    return people
