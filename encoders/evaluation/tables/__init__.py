"""The paper's tables, and those that say what stands behind them, each a module that gives a `table.Table`.

===============  ==================================================================================================
`methods`        Table 1, upper part: SSBIR against SemIR, mSBIR and chance; `pairs`: every two of them compared
`tau`            the threshold of relevance
`queries`        strokes, words, both; `weights`: objects that weigh more, and that are not wanted
`merge`          eq. 1 against a merge of single objects
`ceiling`        what stands between the sketch and its photo
`reliability`    the calibrated score
`sheets`         Fig. 1 and 3
`code-length`    the hash code of section 3.4
`losses`         eq. 5, 6 and 7, each left out
`backbones`      Table 1, lower part
`ladder`         what each part of the recipe brings
===============  ==================================================================================================
"""

from __future__ import annotations

from collections.abc import Sequence

from encoders.errors import CompsketchError

NAMES = (  # what is cheap and matters most comes first; the last three train
    "methods",
    "pairs",
    "tau",
    "queries",
    "weights",
    "merge",
    "ceiling",
    "reliability",
    "sheets",
    "code-length",
    "losses",
    "backbones",
    "ladder",
)


def check(names: Sequence[str]) -> tuple[str, ...]:
    """The tables that are meant, in their order; all where none is named.

    Raises:
        CompsketchError: There is no such table.
    """
    unknown = [name for name in names if name not in NAMES]
    if unknown:
        raise CompsketchError(f"no table {unknown[0]!r}; choose from {', '.join(NAMES)}")
    return tuple(name for name in NAMES if name in names or not names)
