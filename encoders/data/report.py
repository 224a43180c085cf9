"""What a builder has kept, what it has left out by rule, and what it could not read: counted, never swallowed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

Progress = Callable[[str, int, int], None]  # what is read, how much of it, of how much


@dataclass
class Tally:
    """How often each reason was met, and where first."""

    counts: dict[str, int] = field(default_factory=dict)
    first: dict[str, str] = field(default_factory=dict)

    def add(self, reason: str, where: str) -> None:
        """Count one."""
        self.counts[reason] = self.counts.get(reason, 0) + 1
        self.first.setdefault(reason, where)

    def to_list(self) -> list[dict[str, Any]]:
        """The most frequent first."""
        ordered = sorted(self.counts, key=lambda reason: (-self.counts[reason], reason))
        return [{"reason": reason, "count": self.counts[reason], "first": self.first[reason]} for reason in ordered]


@dataclass
class Report:
    """The account of one build.

    Attributes:
        photos: Photos written.
        boxes: Boxes written.
        sketches: Sketches written.
        kept: Word -> boxes or sketches written.
        classes: The set's own name of a dropped class -> why.
        boxes_of: Dropped class -> boxes it cost.
        left_out: What a rule leaves out: groups, photos without a class that is drawn, unrecognised sketches.
        failed: What is bad or missing: rows, boxes, files.
    """

    photos: int = 0
    boxes: int = 0
    sketches: int = 0
    kept: dict[str, int] = field(default_factory=dict)
    classes: dict[str, str] = field(default_factory=dict)
    boxes_of: dict[str, int] = field(default_factory=dict)
    left_out: Tally = field(default_factory=Tally)
    failed: Tally = field(default_factory=Tally)

    def drop_class(self, name: str, reason: str) -> None:
        """Count a box, or a sketch, whose class is dropped."""
        self.classes[name] = reason
        self.boxes_of[name] = self.boxes_of.get(name, 0) + 1

    def keep(self, word: str) -> None:
        """Count a box, or a sketch, that is written."""
        self.kept[word] = self.kept.get(word, 0) + 1

    def to_dict(self) -> dict[str, Any]:
        """As JSON; the dropped classes that cost most come first."""
        costly = sorted(self.classes, key=lambda name: (-self.boxes_of[name], name))
        return {
            "photos": self.photos,
            "boxes": self.boxes,
            "sketches": self.sketches,
            "classes": len(self.kept),
            "kept": dict(sorted(self.kept.items())),
            "dropped_classes": [
                {"class": name, "reason": self.classes[name], "count": self.boxes_of[name]} for name in costly
            ],
            "left_out": self.left_out.to_list(),
            "failed": self.failed.to_list(),
        }
