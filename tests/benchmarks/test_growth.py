"""The table and the picture of growth, on made-up figures whose growth is known."""

from __future__ import annotations

import json
import re
from xml.etree import ElementTree

import numpy as np
import pytest

from tests.benchmarks.growth import FIGURES, ahead, fit, fits, table, write
from tests.benchmarks.growth_picture import draw

SIZES = (100_000, 300_000, 1_000_000)
INDEX = {"type": "IVF_PQ", "params": {"nlist": 1600, "m": 16, "nbits": 8}, "search_params": {"nprobe": 64}}


def figures(rows: int) -> dict:
    """Of a server that keeps 20 bytes a photo and 2 MB for itself, and so on."""
    return {
        "rows": rows, "dim": 256, "queries": 200, "index": INDEX,
        "store_seconds": 5 + 110e-6 * rows, "build_seconds": 14 + 90e-6 * rows, "load_seconds": 8e-4 * rows**0.6,
        "index_bytes_a_photo": 20 + 2e6 / rows, "server_mib": 420 + 1.3e-3 * rows, "p50_ms": 0.5 * rows**0.2,
        "recall_at_10_reranked": 1.05 * rows**-0.005, "recall_at_200": 2.0 * rows**-0.09,
    }  # fmt: skip


MEASURED = [figures(rows) for rows in SIZES]


def test_growth_that_is_known_is_found_and_continued() -> None:
    found, far = fits(MEASURED), figures(4_500_000)
    kinds = {key: one.kind for key, one in found.items()}
    assert [key for key, kind in kinds.items() if kind == "affine"] == [
        "store_seconds", "build_seconds", "index_bytes_a_photo", "server_mib",
    ]  # fmt: skip
    for figure in FIGURES:
        assert found[figure.key].at(4_500_000) == pytest.approx(far[figure.key], rel=1e-6)
        assert found[figure.key].residual < 1e-9
    assert str(found["store_seconds"]) == "5 + 110 per million rows"
    assert str(found["load_seconds"]) == "0.0008 n^0.600"
    assert str(found["index_bytes_a_photo"]) == "20 + 2,000,000 / n"


def test_the_one_that_misses_less_is_kept_with_its_residual() -> None:
    noisy = [value * factor for value, factor in zip((1.0, 3.0, 10.0), (1.1, 0.9, 1.1), strict=True)]
    found = fit(SIZES, noisy)
    errors = [found.at(rows) / value - 1 for rows, value in zip(SIZES, noisy, strict=True)]
    assert found.residual == pytest.approx(np.sqrt(np.mean(np.square(errors))))
    # No line, and no power, that lies nearby misses less.
    a, b = found.a, found.b
    for nearby in ((a * 1.02, b), (a * 0.98, b), (a, b * 1.02), (a, b * 0.98)):
        other = [
            type(found)(found.kind, *nearby, 0).at(rows) / value - 1 for rows, value in zip(SIZES, noisy, strict=True)
        ]
        assert np.mean(np.square(other)) >= 0.999 * found.residual**2


def test_what_falls_never_falls_below_nothing_and_nothing_exceeds_its_most() -> None:
    falling = fit(SIZES, [0.9, 0.8, 0.45], most=1.0)
    assert falling.kind == "power"
    assert 0 < falling.at(45_000_000) < 0.45
    assert fit(SIZES, [0.9, 0.95, 0.99], most=1.0).at(1e9) == 1.0


@pytest.mark.parametrize(
    ("rows", "values", "message"),
    [([100_000], [1.0], "two sizes at least, there are 1"), (SIZES, [1.0, 0.0, 2.0], "each has to be above 0")],
)
def test_what_cannot_be_fitted_says_why(rows, values, message) -> None:
    with pytest.raises(ValueError, match=message):
        fit(rows, values)


def test_the_table_tells_what_is_measured_from_what_is_not() -> None:
    text = table(MEASURED)
    lines = text.splitlines()
    assert "| storing | 16 s | 38 s | 115 s |" in lines
    assert "| index | IVF_PQ, nlist 1600, m 16, nprobe 64 |" in text
    assert "| storing | affine: 5 + 110 per million rows | 0.0% | *500 s* | *1,105 s* |" in lines
    assert "| figure | fit | residual | *4,500,000 extrapolated* | *10,000,000 extrapolated* |" in lines
    assert "vectors are made up: real photos' embeddings, moved by noise that has their own spectrum" in text
    assert "none: two sizes" in table(MEASURED[:2])
    assert "measure more (SIZES)" in table(MEASURED[:1])
    assert ahead([*MEASURED, figures(4_500_000)]) == [10_000_000, 45_000_000]


def test_the_picture_has_dots_where_it_was_measured_and_dashes_where_not() -> None:
    picture = ElementTree.fromstring(draw(MEASURED))
    name = "{http://www.w3.org/2000/svg}"
    dots = [dot for dot in picture.findall(f"{name}circle") if dot.get("stroke") is None]
    rings = [dot for dot in picture.findall(f"{name}circle") if dot.get("stroke") == "#0072b2"]
    lines = [path for path in picture.findall(f"{name}path") if path.get("stroke") == "#0072b2"]
    dashed = [path for path in lines if path.get("stroke-dasharray")]
    assert len(dots) == len(FIGURES) * len(SIZES) + 1  # one in the legend
    assert len(rings) == len(FIGURES) * len(ahead(MEASURED))
    assert rings[0].findtext(f"{name}title") == "4,500,000 rows: 500 s, extrapolated"
    assert len(lines) - len(dashed) == len(dashed) == len(FIGURES) + 1
    assert "extrapolated, not measured" in [text.text for text in picture.iter(f"{name}text")]
    # What was measured without a flaw lies on the line, and the dashes begin at the last dot.
    for panel, path in enumerate(dashed[1:]):
        x, y = map(float, re.match(r"M([\d.]+) ([\d.]+)", path.get("d")).groups())
        last = dots[1 + panel * len(SIZES) + len(SIZES) - 1]
        assert (float(last.get("cx")), float(last.get("cy"))) == pytest.approx((x, y), abs=0.2)
    width, height = (float(picture.get(side)) for side in ("width", "height"))
    assert all(0 < float(dot.get("cx")) < width and 0 < float(dot.get("cy")) < height for dot in dots)


def test_one_size_has_dots_and_no_line() -> None:
    picture = draw(MEASURED[:1])
    assert picture.count("<circle") == len(FIGURES) + 1
    assert "#0072b2" not in picture


def test_both_files_are_written_beside_the_figures(tmp_path) -> None:
    results = tmp_path / "scale.json"
    with pytest.raises(SystemExit, match="no such file; `make bench-scale` measures"):
        write(results)
    results.write_text(json.dumps(MEASURED[::-1]))
    assert write(results) == [tmp_path / "scale.md", tmp_path / "scale.svg"]
    assert (tmp_path / "scale.md").read_text() == table(MEASURED)
    assert (tmp_path / "scale.svg").read_text() == draw(MEASURED)
