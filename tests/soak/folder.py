"""A folder of photos that people work in: added, changed, moved, deleted; with what is no photo in between."""

from __future__ import annotations

import random
import shutil
import time
from collections.abc import Callable
from pathlib import Path

from tests.integration.noise import photo
from tests.soak.ledger import Ledger

__all__ = ["BROKEN", "Folder", "photos_below"]

BROKEN = "broken"  # a name that begins so is that of a file that holds no photo
FEW, MANY = 60, 240  # photos: below, none is deleted; above, none is added


def photos_below(root: Path) -> list[Path]:
    """The files that have to be found in a collection."""
    return sorted(path for path in root.rglob("*.png") if not path.name.startswith((BROKEN, ".")))


class Folder:
    """Changes a folder a step at a time.

    Args:
        root: the folder, which is made.
        rng: decides.
        ledger: is told each step before it is taken.
    """

    def __init__(self, root: Path, rng: random.Random, ledger: Ledger) -> None:
        self.root, self._rng, self._ledger = root, rng, ledger
        self._number = 0
        root.mkdir(parents=True)
        for _ in range(FEW):
            self.add()

    def step(self) -> None:
        """One change, whichever is fitting."""
        there = len(photos_below(self.root))
        ways: list[tuple[Callable[[], None], int]] = [(self.change, 4), (self.move, 2), (self.move_folder, 1)]
        ways += [(self.add, 6), (self.add_slowly, 1), (self.add_broken, 1)] if there < MANY else []
        ways += [(self.delete, 4)] if there > FEW else []
        ways += [(self.delete_folder, 1)] if there > 2 * FEW else []
        self._rng.choices([way for way, _ in ways], [weight for _, weight in ways])[0]()

    def add(self) -> None:
        """A new photo, complete at once: written beside and moved into its place."""
        path = self._new()
        hidden = path.with_name(f".{path.name}.part")
        hidden.write_bytes(self._photo())
        hidden.rename(self._noted("add", path))

    def add_slowly(self) -> None:
        """A new photo that is written in two goes."""
        path, content = self._noted("add slowly", self._new()), self._photo()
        with path.open("wb") as file:
            file.write(content[: len(content) // 2])
            file.flush()
            time.sleep(0.3)
            file.write(content[len(content) // 2 :])

    def add_broken(self) -> None:
        """A file that only its name makes a photo."""
        path = self._new()
        self._noted("add broken", path.with_name(f"{BROKEN}-{path.name}")).write_bytes(b"no photo")

    def change(self) -> None:
        """Another photo in place of one, under the same name."""
        self._noted("change", self._any()).write_bytes(self._photo())

    def move(self) -> None:
        """A photo under another name, perhaps in another folder."""
        path, to = self._any(), self._new()
        self._noted("move", path, to).rename(to)

    def move_folder(self) -> None:
        """A folder under another name."""
        if folder := self._any_folder():
            self._number += 1
            to = self.root / f"moved-{self._number}"
            self._noted("move folder", folder, to).rename(to)

    def delete(self) -> None:
        """A photo less."""
        self._noted("delete", self._any()).unlink()

    def delete_folder(self) -> None:
        """A folder less, with all that is in it."""
        if folder := self._any_folder():
            shutil.rmtree(self._noted("delete folder", folder))

    def _new(self) -> Path:
        self._number += 1
        folder = self._rng.choice([self.root, self.root, self.root / f"folder-{self._number // 12}"])
        folder.mkdir(exist_ok=True)
        return folder / f"{self._number:06}.png"

    def _any(self) -> Path:
        return self._rng.choice(photos_below(self.root))

    def _any_folder(self) -> Path | None:
        folders = sorted(path for path in self.root.iterdir() if path.is_dir())
        return self._rng.choice(folders) if folders else None

    def _photo(self) -> bytes:
        return photo(self._rng.getrandbits(48))

    def _noted(self, what: str, path: Path, *more: Path) -> Path:
        self._ledger.write(what, paths=[str(one.relative_to(self.root)) for one in (path, *more)])
        return path
