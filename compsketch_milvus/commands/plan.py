"""The command `compsketch plan`: its flags are the fields of `Parameters`, with their texts, units and defaults."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable, Sequence
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, get_type_hints

import typer

from compsketch_milvus.commands.opening import Json
from compsketch_milvus.plan.parameters import Parameters, photo_counts
from compsketch_milvus.terminal import command, emit

if TYPE_CHECKING:
    from compsketch_milvus.plan.figures import Figures
    from compsketch_milvus.plan.sizing import Need

__all__ = ["plan"]

WIDE = 200  # columns, where nobody watches: a table in a file is not wrapped
BYTES = ("bytes", "KiB", "MiB", "GiB", "TiB", "PiB")


def _with_flags(function: Callable[..., None]) -> Callable[..., None]:
    """Give a command, beside its own flags, one for each field of `Parameters`."""
    own = inspect.signature(function, eval_str=True)
    types, flags = get_type_hints(Parameters), []
    for one in fields(Parameters):
        unit = f", {one.metadata['unit']}" if one.metadata["unit"] else ""
        name = f"--{one.name.replace('_', '-')}"
        option = typer.Option(name, help=one.metadata["text"] + unit, show_default=one.default is not None)
        kind = inspect.Parameter.KEYWORD_ONLY
        flags.append(
            inspect.Parameter(one.name, kind, default=one.default, annotation=Annotated[types[one.name], option])
        )
    kept = [each for each in own.parameters.values() if each.kind is not inspect.Parameter.VAR_KEYWORD]
    signature = own.replace(parameters=[*kept, *flags])
    function.__signature__ = signature  # type: ignore[attr-defined]
    function.__annotations__ = {name: each.annotation for name, each in signature.parameters.items()}
    return function


@command
@_with_flags
def plan(
    photos: Annotated[str, typer.Option("--photos", metavar="N[,N...]", help="How many, such as 100000,1000000")],
    figures: Annotated[
        Path | None, typer.Option("--figures", help="File of measured figures  [default: those that are shipped]")
    ] = None,
    as_json: Json = False,
    **given: Any,
) -> None:
    """Size a deployment: bytes, memory, nodes, GPUs, hours, money. Each line says where it comes from.

    Measured (on one machine; extrapolated outside of what was measured), arithmetic (bytes of vectors and codes), or
    given (by these flags and their defaults, which are assumptions).
    """
    from compsketch_milvus.plan.figures import Figures
    from compsketch_milvus.plan.sizing import needs

    counts, parameters, measured = photo_counts(photos), Parameters(**given), Figures.read(figures)
    plans = [needs(count, parameters, measured) for count in counts]
    answer = {
        "plans": [
            {"photos": count, "needs": [need.report() for need in found]}
            for count, found in zip(counts, plans, strict=True)
        ],
        "parameters": parameters.report(),
        "measured": {"setting": dict(measured.setting), "figures": measured.report()},
    }
    emit(answer, as_json, lambda: _print(counts, plans, parameters, measured))


def _print(counts: Sequence[int], plans: Sequence[Sequence[Need]], parameters: Parameters, measured: Figures) -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table

    shown = Table("photos", *(f"{count:,}" for count in counts), "from", "how", box=box.SIMPLE_HEAD)
    for column in shown.columns[1:-2]:
        column.justify, column.no_wrap = "right", True
    for lines in zip(*plans, strict=True):
        sources = set().union(*(line.quantity.sources for line in lines))
        shown.add_row(lines[0].name, *(_said(line) for line in lines), " + ".join(sorted(sources)), lines[0].how)
    console = Console(file=sys.stdout, highlight=False, markup=False, width=None if sys.stdout.isatty() else WIDE)
    console.print(shown)
    for note in _notes(plans, parameters, measured):
        console.print(note)


def _notes(plans: Sequence[Sequence[Need]], parameters: Parameters, measured: Figures) -> list[str]:
    """What the table leaves out: what * and - mean, what was measured how, and what was given."""
    lines = [line for found in plans for line in found]
    notes = []
    if any(line.quantity.extrapolated for line in lines):
        notes.append("* extrapolated: outside of the sizes, or for another index, than were measured")
    lacking = sorted({line.quantity.lacking for line in lines} - {""})
    notes += [f"- not known: {text}" for text in lacking]
    for machine in dict.fromkeys(figure.machine for figure in measured.figures):
        notes.append(f"measured on {machine}:")
        for figure in measured.figures:
            if figure.machine == machine:
                rows = "" if figure.rows is None else f", {figure.rows:,} photos"
                notes.append(f"  {figure.name}{rows}: {figure.value:,.4g} {figure.unit} ({figure.command})")
    given = (
        f"{name}={one['value']}{' (flag)' if one['from'] == 'flag' else ''}"
        for name, one in parameters.report().items()
        if one["value"] is not None
    )
    return [*notes, f"given: {', '.join(given)}"]


def _said(line: Need) -> str:
    """Three digits and a unit, * behind what is extrapolated."""
    value, mark = line.quantity.value, "*" * line.quantity.extrapolated
    if value is None:
        return "-"
    if line.unit == "bytes":
        power = min(max(0, (int(value).bit_length() - 1) // 10), len(BYTES) - 1)
        return f"{_digits(value / 1024**power)} {BYTES[power]}{mark}"
    if line.unit == "hours":
        size, unit = (3600, "s") if value < 1 / 60 else (60, "min") if value < 1 else (1, "h")
        return f"{_digits(value * size)} {unit}{mark}"
    return f"{_digits(value)}{mark}"


def _digits(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 or value == int(value) else f"{value:.3g}"
