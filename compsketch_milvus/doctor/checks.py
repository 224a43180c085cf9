"""One finding, and what every check has in common."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from enum import Enum

from compsketch_milvus.errors import CompsketchError

__all__ = ["Check", "State", "reported"]


class State(str, Enum):
    """How a check ended. SKIPPED: what it needs has failed."""

    OK = "ok"
    WARNING = "warning"
    FAILED = "failed"
    SKIPPED = "skipped"


@dataclass(frozen=True)
class Check:
    """One finding.

    Args:
        name: of what was checked, such as "login".
        state: how that ended.
        message: what was found.
        remedy: the way out, where the message does not hold it.
    """

    name: str
    state: State
    message: str
    remedy: str = ""

    def to_dict(self) -> dict[str, str]:
        """What JSON can hold."""
        return {"name": self.name, "state": self.state.value, "message": self.message, "remedy": self.remedy}


@contextmanager
def reported(name: str, failures: list[Check]) -> Iterator[None]:
    """Turn an error inside into a failed check, which is added to the list: an error names its own way out."""
    try:
        yield
    except (CompsketchError, OSError) as error:
        failures.append(Check(name, State.FAILED, " ".join(str(error).split())))
