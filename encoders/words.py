"""Class words: which of an encoder's words a label means."""

from __future__ import annotations

import difflib
from collections.abc import Sequence

from encoders.errors import CompsketchError
from encoders.evaluation.data import read_class_map


class Words:
    """The words that an encoder was trained with, found by name.

    Args:
        vocabulary: The words; a label's letters may be of either case.
        encoder: The encoder's name, for messages.
        way_out: What one can do about a label that is not known, the end of the message.
    """

    def __init__(self, vocabulary: Sequence[str], encoder: str, way_out: str) -> None:
        self.encoder, self.way_out = encoder, way_out
        self._row = {word.lower(): row for row, word in enumerate(vocabulary)}
        self._joined = read_class_map().words

    def find(self, label: str) -> int | None:
        """Place in the vocabulary of a label, or of the word that the class map joins it to; None if there is none."""
        word = label.strip().lower()
        return self._row.get(word, self._row.get(self._joined.get(word, "").lower()))

    def row(self, label: str) -> int:
        """As `find`.

        Raises:
            CompsketchError: The encoder was not trained on such a class; the message has the nearest names.
        """
        row = self.find(label)
        if row is None:
            near = difflib.get_close_matches(label.lower(), self._row, n=3, cutoff=0.5)
            hint = f"did you mean {', '.join(near)}?" if near else f"it knows {len(self._row)} words."
            raise CompsketchError(
                f"label {label!r} is no word that encoder {self.encoder!r} knows; {hint} {self.way_out}"
            )
        return row
