"""Features kept before the projection, so that another projection asks no network again: parquet parts in a folder.

    part-<20 digits>-<8 hex digits>.parquet    id, source, width, height, fields (JSON), features (F float16)

The digits are a time in nanoseconds, so that names tell the order: of a photo in several parts the newest counts. A
part is written beside its place, synced to the disk and then renamed; it is never changed again. It names the networks
that made it, a bundle's fingerprint without its projection, and those of other networks are refused.

A photo takes 2 F bytes before compression: 12,544 with the bundle that is shipped (F = 6,272), of which 8,720 are left
after it (measured on 64 photos of COCO); 81,536 with the paper's GoogLeNet (F = 40,768). Half precision is enough: the
projection divides by a row's length, and what rounding adds to a unit vector is some 0.0003.
"""

from __future__ import annotations

import json
import os
import re
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

import numpy as np

from compsketch_milvus.encoder import Projecting
from compsketch_milvus.errors import CompsketchError
from compsketch_milvus.records import FACTS, ImageRecord, PhotoVector

if TYPE_CHECKING:
    import pyarrow as pa

    from compsketch_milvus.encoder import Encoder

__all__ = ["Facts", "FeatureStore", "KeptPhoto", "Part", "facts"]

FORMAT = "1"
_NAME = re.compile(r"part-(\d{20})-[0-9a-f]{8}\.parquet")
_ELEMENT = "features.list.element"


Facts: TypeAlias = tuple[Any, ...]


def facts(source: str, fields: Mapping[str, Any]) -> Facts:
    """By what a photo is seen to be the one whose features were kept: its source and those of `FACTS` that it has."""
    return source, *(fields.get(name) for name in FACTS)


class KeptPhoto(NamedTuple):
    """One row of a part, without its features."""

    id: str
    facts: Facts


class Part:
    """One file of the store.

    Args:
        path: the file.
        features: F.
    """

    def __init__(self, path: Path, features: int) -> None:
        self.path, self._features = path, features

    def photos(self) -> list[KeptPhoto]:
        """The photos, in the order of the rows.

        Raises:
            CompsketchError: the file is damaged.
        """
        table = self._read(["id", "source", "fields"]).to_pydict()
        rows = zip(table["id"], table["source"], table["fields"], strict=True)
        return [KeptPhoto(id, facts(source, json.loads(fields))) for id, source, fields in rows]

    def features(self, rows: Sequence[int]) -> np.ndarray:
        """Features of some rows, (len(rows), F) float16.

        Raises:
            CompsketchError: the file is damaged.
        """
        column = self._read(["features"])["features"].combine_chunks()
        kept = column.flatten().to_numpy(zero_copy_only=False).reshape(-1, self._features)
        return np.asarray(kept[list(rows)])

    def _read(self, columns: list[str]) -> pa.Table:
        pa, pq = _pyarrow()
        try:
            return pq.read_table(self.path, columns=columns)
        except (OSError, pa.ArrowException) as error:
            raise CompsketchError(
                f"{self.path}: kept features cannot be read ({error}); move the file away, and its photos are encoded "
                "again from their sources"
            ) from error


class FeatureStore:
    """Kept features of one encoder's networks in a folder. Several processes may add to it at once.

    Args:
        folder: where the parts are; made with the first part.
        encoder: whose networks make the features.

    Raises:
        CompsketchError: parts of other networks or of another format, the encoder cannot project by itself, or pyarrow
            is not installed.
    """

    def __init__(self, folder: str | Path, encoder: Encoder) -> None:
        _pyarrow()
        self.folder = Path(folder).expanduser()
        if not isinstance(encoder, Projecting):
            raise CompsketchError(
                f"encoder {encoder.name!r} cannot tell its projection from its networks, so features cannot be kept "
                "with it: use a bundle on this machine"
            )
        self.networks, self.features = encoder.networks, encoder.features
        self._schema = _schema(encoder.networks, encoder.features)
        if self.folder.exists() and not self.folder.is_dir():
            raise CompsketchError(f"{self.folder}: is no folder; features are kept in one")
        self._parts = [self._checked(path, encoder.name) for path in self._paths()]

    def parts(self) -> list[Part]:
        """All parts that were there when the store was opened, and those that it has added, the newest first."""
        return self._parts[::-1]

    def add(self, photos: Sequence[PhotoVector]) -> Path:
        """Keep the features of photos; when this returns, they are on the disk.

        Args:
            photos: with `features` (F,).

        Raises:
            CompsketchError: features beyond what half precision can hold, or the disk refuses.
        """
        pa, _ = _pyarrow()
        with np.errstate(over="ignore"):
            rows = np.stack([np.asarray(photo.features) for photo in photos]).astype(np.float16)  # (B, F)
        for photo, row in zip(photos, rows, strict=True):
            if not np.isfinite(row).all():
                raise CompsketchError(
                    f"{photo.source}: its features do not fit into half precision; ingest without keeping features"
                )
        columns = {
            "id": [photo.id for photo in photos],
            "source": [photo.source for photo in photos],
            "width": [photo.width for photo in photos],
            "height": [photo.height for photo in photos],
            "fields": [json.dumps(photo.fields) for photo in photos],
            "features": pa.FixedSizeListArray.from_arrays(pa.array(rows.reshape(-1)), self.features),
        }
        path = self.folder / self._next_name()
        try:
            self._write(pa.table(columns, schema=self._schema), path)
        except OSError as error:
            raise CompsketchError(
                f"{path}: features cannot be kept ({error.strerror or error}); free space or choose another folder"
            ) from error
        self._parts.append(Part(path, self.features))
        if "_known" in self.__dict__:
            self._known.update({photo.id: facts(photo.source, photo.fields) for photo in photos})
        return path

    def holds(self, record: ImageRecord) -> bool:
        """Whether the features of a photo as it is now are kept. Takes some 300 bytes of memory a kept photo."""
        return self._known.get(record.id) == facts(record.source, record.fields)

    @cached_property
    def _known(self) -> dict[str, Facts]:
        """Of each photo, the facts in its newest part."""
        return {photo.id: photo.facts for photo in chain.from_iterable(part.photos() for part in self._parts)}

    def _paths(self) -> Iterator[Path]:
        """By age, the newest last."""
        return iter(sorted(path for path in self.folder.glob("part-*.parquet") if _NAME.fullmatch(path.name)))

    def _next_name(self) -> str:
        """Later than all that is there, whatever the clock says."""
        newest = int(self._parts[-1].path.name[5:25]) if self._parts else 0
        return f"part-{max(time.time_ns(), newest + 1):020}-{uuid.uuid4().hex[:8]}.parquet"

    def _checked(self, path: Path, name: str) -> Part:
        pa, pq = _pyarrow()
        try:
            held = pq.read_schema(path).metadata or {}
        except (OSError, pa.ArrowException) as error:
            raise CompsketchError(f"{path}: is no part of kept features ({error}); move the file away") from error
        said = {key.decode(): value.decode() for key, value in held.items()}
        if said.get("compsketch.features") != FORMAT:
            raise CompsketchError(
                f"{path}: has format {said.get('compsketch.features')} of kept features, this version reads {FORMAT}; "
                "choose another folder"
            )
        if said.get("networks") != self.networks:
            raise CompsketchError(
                f"{self.folder}: keeps features of the networks {said.get('networks')}, but those of encoder {name!r} "
                f"are {self.networks}; choose another folder, or that encoder"
            )
        return Part(path, self.features)

    def _write(self, table: pa.Table, path: Path) -> None:
        _, pq = _pyarrow()
        self.folder.mkdir(parents=True, exist_ok=True)
        beside = path.with_name(f".{path.name}.tmp")
        try:
            with beside.open("wb") as file:
                # Half floats have no repeats and a noisy low byte: their bytes apart compress best, and fastest.
                coding = {"compression": "zstd", "use_dictionary": False, "use_byte_stream_split": [_ELEMENT]}
                pq.write_table(table, file, **coding)
                file.flush()
                os.fsync(file.fileno())
            beside.rename(path)
        finally:
            beside.unlink(missing_ok=True)
        folder = os.open(self.folder, os.O_RDONLY)
        try:
            os.fsync(folder)  # the name, too
        finally:
            os.close(folder)


def _schema(networks: str, features: int) -> pa.Schema:
    pa, _ = _pyarrow()
    columns = {
        "id": pa.string(),
        "source": pa.string(),
        "width": pa.int64(),
        "height": pa.int64(),
        "fields": pa.string(),
        "features": pa.list_(pa.float16(), features),
    }
    said = {"compsketch.features": FORMAT, "networks": networks}
    return pa.schema([pa.field(name, kind, nullable=False) for name, kind in columns.items()], metadata=said)


def _pyarrow() -> tuple[Any, Any]:
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError as error:
        raise CompsketchError('keeping features needs pyarrow: pip install "compsketch-milvus[data]"') from error
    return pyarrow, pyarrow.parquet
