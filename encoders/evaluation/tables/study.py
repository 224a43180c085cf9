"""What all tables are made of: a data folder, the encoders, and what takes long, done once.

The folder is `encoders.training.data`'s. Queries are laid out in the boxes of photos, and made of sketches, that
training has never seen; one of each photo that holds a box large enough.
"""

from __future__ import annotations

import os
import platform
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from hashlib import blake2b
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np

from encoders.bundle import Bundle
from encoders.errors import CompsketchError, DataError
from encoders.evaluation.benchmark import Benchmark
from encoders.evaluation.compare import compare
from encoders.evaluation.compositions import compositions, held_out_photos, split_sketches
from encoders.evaluation.data import (
    Annotations,
    Labels,
    SketchSet,
    read_class_map,
    read_sketches,
)
from encoders.evaluation.methods import METHODS
from encoders.evaluation.tables.table import Provenance
from encoders.local import LocalEncoder
from encoders.semir import SemirEncoder
from encoders.training.data import annotated, find_files, labelled

TAUS = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)
TAU = 0.5
STEP = 256  # photos embedded between two words of progress

Progress = Callable[[str, int, int], None]


@dataclass(frozen=True)
class Budget:
    """What a table that trains may spend on each of its rows; stated in the table.

    Attributes:
        epochs: Passes over ``views`` views.
        views: Views an epoch.
        photos: Photos to train on at most; 0 for all.
        image_size: Side in pixels of the stretched photo.
        threads: CPU threads.
    """

    epochs: int = 6
    views: int = 2400
    photos: int = 0
    image_size: int = 224
    threads: int = 2


@dataclass
class Study:
    """One run of tables.

    Attributes:
        data: The data folder.
        work: Where what takes long is kept: embeddings, trained networks, tables.
        bundle: SSBIR's.
        encoder: Of the bundle.
        semir: SemIR's; without it the tables have no such row.
        seed: Of queries, bootstrap and training.
        limit: Queries at most; the gallery stays whole.
        progress: Called with what is being done, how much is done, and of how much.
    """

    data: Path
    work: Path
    bundle: Bundle
    encoder: LocalEncoder
    semir: SemirEncoder | None = None
    seed: int = 0
    limit: int | None = None
    progress: Progress = field(default=lambda stage, done, total: None)

    @cached_property
    def unseen(self) -> Benchmark:
        """Held-out photos, and queries made of them."""
        return self._benchmark(self._held_out, self.boxed)

    @cached_property
    def photos(self) -> Annotations:
        """The held-out photos and their boxes, in the order of ``unseen``."""
        return Annotations.join(self._held_out)

    @cached_property
    def whole(self) -> Benchmark:
        """The same queries among all photos of the folder; those that training saw, or that have no boxes, distract."""
        rest = [part.select(~held_out_photos(part)) for part, _ in self.boxed]
        plain = [(labels.as_annotations(), images) for images, labels in labelled(self.data)]
        for folder in sorted({path.parent for path in self._files("*/backgrounds/*")}):
            names = tuple(path.name for path in sorted(folder.iterdir()) if path.suffix.lower() in {".jpg", ".png"})
            plain.append((Labels(names, names).as_annotations(), folder))
        parts = [*self._held_out, *rest, *(part for part, _ in plain)]
        return self._benchmark(parts, [*self.boxed, *self.boxed, *plain])

    @cached_property
    def sketches(self) -> SketchSet:
        """Held-out sketches."""
        sketches = SketchSet.join([read_sketches(path) for path in find_files(self.data)[1]])
        return sketches.select(split_sketches(sketches.key_ids))

    @cached_property
    def comparison(self) -> dict[str, Any]:
        """All methods that these encoders can do, with every tau, as ``compare.compare`` returns it."""
        chosen = [name for name, method in METHODS.items() if self._can(name, method)]
        return compare(
            self.remembering, self.unseen, methods=chosen, semir=self.semir, tau=TAU, taus=TAUS, seed=self.seed,
            progress=self.progress,
        )  # fmt: skip

    @cached_property
    def remembering(self) -> Any:
        """The encoder, which has embedded the held-out photos already."""
        return _Remembering(self)

    @cached_property
    def queries(self) -> np.ndarray:
        """E_Q of the queries' strokes, (Q, 49 D)."""
        return self.encoder.embed_sketches([query.sketch for query in self.unseen.queries])

    def embedded(self, paths: Sequence[Path]) -> np.ndarray:
        """E_I of photos, (n, 49 D) float32 mapped from disk, where it stays from one run to the next."""
        state = blake2b(self.bundle.fingerprint.encode(), digest_size=8)
        for path in paths:
            state.update(f"{path.parent.parent.name}/{path.name}:{path.stat().st_size}\n".encode())
        file = self.work / f"photos-{state.hexdigest()}.npy"
        if not file.exists():
            self.work.mkdir(parents=True, exist_ok=True)
            rows = []
            for start in range(0, len(paths), STEP):
                rows.append(self.encoder.embed_images(list(paths[start : start + STEP])))
                self.progress("photos embedded", min(start + STEP, len(paths)), len(paths))
            with (fresh := file.with_suffix(".new")).open("wb") as stream:
                np.save(stream, np.concatenate(rows))
            fresh.replace(file)
        return np.asarray(np.load(file, mmap_mode="r"))

    def provenance(self, name: str, budget: Budget | None = None) -> Provenance:
        """What a table of this study was made of."""
        command = f"compsketch tables {name} --data DATA --out OUT"
        if self.semir is not None:
            command += " --semir SEMIR"
        if self.seed:
            command += f" --seed {self.seed}"
        if self.limit is not None:
            command += f" --limit {self.limit}"
        if budget is not None:
            command += f" --epochs {budget.epochs} --views {budget.views} --image-size {budget.image_size}"
            command += f" --photos {budget.photos}" if budget.photos else ""
        encoders = {"ssbir": f"{self.encoder.name} {self.encoder.fingerprint}"}
        if self.semir is not None:
            encoders["semir"] = f"{self.semir.name} {self.semir.fingerprint}"
        return Provenance(command, self.seed, self.facts, encoders, machine())

    @cached_property
    def facts(self) -> Mapping[str, Any]:
        """Names, counts and a digest of the data."""
        folders = [images for _, images in self.boxed] + [images for images, _ in labelled(self.data)]
        return {
            "sets": ", ".join(sorted({images.parent.name for images in folders})),
            "held-out photos": len(self.unseen.paths),
            "held-out sketches": len(self.sketches.words),
            "queries": len(self.unseen.queries),
            "digest": self._digest(),
        }

    @cached_property
    def boxed(self) -> list[tuple[Annotations, Path]]:
        """Photos with boxes, each set with its folder of photos."""
        return [(part, images) for images, part in annotated(find_files(self.data)[0])]

    @property
    def _held_out(self) -> list[Annotations]:
        return [part.select(held_out_photos(part)) for part, _ in self.boxed]

    def _benchmark(self, parts: Sequence[Annotations], sources: Sequence[tuple[Annotations, Path]]) -> Benchmark:
        """Of photos, the first of which are the held-out ones; queries are made of those alone."""
        photos, class_map = Annotations.join(parts), read_class_map()
        paths = [folder / name for part, (_, folder) in zip(parts, sources, strict=True) for name in part.files]
        missing = [path for path in paths if not path.is_file()]
        if missing:
            raise DataError(f"{len(missing)} of {len(paths)} photos are missing, {missing[0]} first; check the folder")
        asked = range(sum(len(part.files) for part in parts[: len(self.boxed)]))
        queries = compositions(photos, self.sketches, class_map, n=self.limit, seed=self.seed, photos=asked)
        return Benchmark.of(photos, paths, queries, class_map, list(self.sketches.by_class), above=min(TAUS))

    def _can(self, name: str, method: Any) -> bool:
        if method.indexed and len(self.unseen.paths) < 256:  # fewer photos than a quantiser has centroids
            return False
        try:
            method.check(name, {"encoder": self.encoder, "semir": self.semir})
        except CompsketchError:
            return False
        return True

    def _files(self, pattern: str) -> list[Path]:
        return sorted(path for path in self.data.glob(pattern) if path.is_file())

    def _digest(self) -> str:
        """Twelve hexadecimal digits that change with a box, a label, a sketch, or a photo's name or size."""
        state = blake2b(digest_size=6)
        below = [path for name in ("annotations.json", "labels.json", "*.parquet") for path in self._files(f"*/{name}")]
        for path in self._files("*") + below:
            if path.suffix in {".json", ".ndjson", ".gz", ".parquet"}:
                state.update(path.name.encode() + path.read_bytes())
        for path in self._files("*/images/*") + self._files("*/backgrounds/*"):
            state.update(f"{path.name}:{path.stat().st_size}\n".encode())
        return state.hexdigest()


class _Remembering:
    """See `Study.remembering`; all but photos is the encoder's own."""

    def __init__(self, study: Study) -> None:
        self._study, self._row = study, {path: row for row, path in enumerate(study.unseen.paths)}

    def encode_images(self, images: Sequence[Path]) -> np.ndarray:
        """(B, d)."""
        if any(path not in self._row for path in images):  # a manifest's photos without boxes
            return self._study.encoder.encode_images(images)
        rows = self._study.embedded(self._study.unseen.paths)[[self._row[path] for path in images]]
        return self._study.encoder.projection.apply(rows)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._study.encoder, name)


def machine() -> str:
    """Processor, and versions of what the last digits depend on."""
    model = platform.processor() or platform.machine()
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        model = next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        pass
    found = [f"Python {platform.python_version()}"]
    for package in ("numpy", "torch", "openvino", "faiss-cpu"):
        try:
            found.append(f"{package} {version(package)}")
        except PackageNotFoundError:
            continue
    return f"{model}, {os.cpu_count()} cores, {', '.join(found)}"
