"""The one format that every builder writes and that training and evaluation read: parquet, with facts about itself.

Three kinds, one row a photo, a sketch or a query:

* ``photos``: ``file`` (below the folder of photos), ``width``, ``height`` in pixels, ``split`` (``train``,
  ``validation``, ``test`` or empty), ``label`` (the word of a photo of one object without a box, else null) and
  ``boxes``: ``class`` (the word that draws it), ``name`` (the set's own name for it), ``x0, y0, x1, y1`` as fractions
  of the photo, ``group`` (a box around many);
* ``sketches``: ``word``, ``key_id``, ``drawing`` (strokes [[x, ...], [y, ...]], as Quick, Draw! has them);
* ``queries``: the ``file`` of the photo whose layout is asked for, its ``width`` and ``height``, and ``objects``:
  ``class``, ``box`` (which of the photo's boxes, from 0), its ``x0, y0, x1, y1``, ``key_id`` of the sketch in it.

Rows are written as they come, a row group of `ROWS` at a time: 1.3 M photos take no more memory than 4096. Nothing in
a file depends on the clock or on the machine, so that the same input and seed give the same bytes.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, fields
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from encoders.errors import DataError

if TYPE_CHECKING:
    import pyarrow as pa

VERSION = 1
MAGIC = b"PAR1"
ROWS = 4096  # a row group
_PREFIX = "compsketch."


class Box(NamedTuple):
    """A box as fractions of its photo; ``word`` is empty until a class map has said how its class is drawn."""

    name: str
    x0: float
    y0: float
    x1: float
    y1: float
    group: bool = False
    word: str = ""


@dataclass(frozen=True)
class Photo:
    """A photo and the boxes in it; width and height are 0 where the set's files do not say them."""

    file: str
    width: int
    height: int
    split: str
    boxes: tuple[Box, ...]
    label: str | None = None


@dataclass(frozen=True, eq=False)
class Drawing:
    """A sketch of one object: float32 (2, n) strokes in any unit."""

    word: str
    key_id: str
    strokes: tuple[np.ndarray, ...]


@dataclass(frozen=True)
class Facts:
    """What a manifest says about itself.

    Attributes:
        kind: ``photos``, ``sketches`` or ``queries``.
        builder: Who wrote it, such as ``openimages``.
        source: The files that it was made from, by name.
        class_map: Digest of the class map that was applied, empty if none was.
        seed: What was drawn by chance was drawn from it; None if nothing was.
        images: The folder of photos, relative to the manifest's own; empty where that is unknown.
        version: Of this format.
    """

    kind: str
    builder: str
    source: str
    class_map: str = ""
    seed: int | None = None
    images: str = ""
    version: int = VERSION


def is_manifest(path: str | os.PathLike[str]) -> bool:
    """Whether a file is parquet, by its content; False where there is no file."""
    try:
        with open(path, "rb") as file:
            return file.read(4) == MAGIC
    except OSError:
        return False


def read_facts(path: str | os.PathLike[str]) -> Facts:
    """What a manifest says about itself.

    Raises:
        DataError: No such file, damaged, no parquet, not written by a builder, or of another version.
    """
    return _facts(_open(path), path)


def facts_if_manifest(path: str | os.PathLike[str]) -> Facts | None:
    """What a manifest says about itself; None for parquet of another origin.

    Raises:
        DataError: A manifest of another version, or no parquet.
    """
    file = _open(path)
    held = file.schema_arrow.metadata or {}
    return _facts(file, path) if (_PREFIX + "kind").encode() in held else None


def write_photos(path: Path, photos: Iterable[Photo], facts: Facts) -> int:
    """Write photos as they come and return how many there were; an old file is replaced by a whole new one only.

    Raises:
        DataError: There are none, or the place cannot be written.
    """
    rows = (
        {
            **{key: getattr(photo, key) for key in ("file", "width", "height", "split", "label")},
            "boxes": [_box_row(box) for box in photo.boxes],
        }
        for photo in photos
    )
    return _write(path, rows, facts)


def write_sketches(path: Path, drawings: Iterable[Drawing], facts: Facts) -> int:
    """Write sketches as they come; returns and errors as ``write_photos``."""
    rows = (
        {
            "word": drawing.word,
            "key_id": drawing.key_id,
            "drawing": [stroke.astype(np.float32).tolist() for stroke in drawing.strokes],
        }
        for drawing in drawings
    )
    return _write(path, rows, facts)


def write_queries(path: Path, queries: Iterable[Mapping[str, Any]], facts: Facts) -> int:
    """Write queries, one mapping of the columns each; returns and errors as ``write_photos``."""
    return _write(path, queries, facts)


def iter_photos(path: str | os.PathLike[str]) -> Iterator[Photo]:
    """The photos of a manifest, a row group in memory at a time.

    Raises:
        DataError: As ``read_facts``; another kind; a column is missing.
    """
    for batch in batches(path, "photos"):
        for row in batch.to_pylist():
            boxes = tuple(Box(word=box.pop("class"), **box) for box in row.pop("boxes"))
            yield Photo(**row, boxes=boxes)


def batches(path: str | os.PathLike[str], kind: str) -> Iterator[pa.RecordBatch]:
    """The rows of a manifest of one kind, in order and with the columns of the module's docstring.

    Raises:
        DataError: As ``read_facts``; another kind; a column is missing or of another type.
    """
    import pyarrow as pa

    file = _open(path)
    facts, expected = _facts(file, path), schema(kind)
    if facts.kind != kind:
        raise DataError(f"{path} holds {facts.kind}, where a manifest of {kind} was expected; name another file")
    found = file.schema_arrow
    missing = [name for name in expected.names if name not in found.names]
    if missing:
        raise DataError(f"{path}: column {missing[0]!r} is missing; build the manifest again")
    try:
        for batch in file.iter_batches(batch_size=ROWS, columns=expected.names):
            yield batch.select(expected.names).cast(expected)
    except (OSError, ValueError, pa.ArrowException) as error:
        raise DataError(f"{path} cannot be read ({error}); build the manifest again") from error


def schema(kind: str) -> pa.Schema:
    """The columns of a kind."""
    import pyarrow as pa

    def listed(*columns: tuple[str, pa.DataType]) -> pa.DataType:
        return pa.list_(pa.struct([pa.field(name, type_, nullable=False) for name, type_ in columns]))

    text = pa.string()
    sides = [(side, pa.float64() if kind == "queries" else pa.float32()) for side in ("x0", "y0", "x1", "y1")]
    photo = [("file", text), ("width", pa.int32()), ("height", pa.int32())]
    box = [("class", text), ("name", text), *sides, ("group", pa.bool_())]
    thing = [("class", text), ("box", pa.int32()), *sides, ("key_id", text)]
    columns = {
        "photos": [*photo, ("split", text), ("label", text), ("boxes", listed(*box))],
        "sketches": [("word", text), ("key_id", text), ("drawing", pa.list_(pa.list_(pa.list_(pa.float32()))))],
        "queries": [*photo, ("objects", listed(*thing))],
    }
    return pa.schema([pa.field(name, type_, nullable=name == "label") for name, type_ in columns[kind]])


def _box_row(box: Box) -> dict[str, Any]:
    row = box._asdict()
    row["class"] = row.pop("word")
    return row


def _write(path: Path, rows: Iterable[Mapping[str, Any]], facts: Facts) -> int:
    import pyarrow as pa
    import pyarrow.parquet as pq

    said = {_PREFIX + key: "" if value is None else str(value) for key, value in asdict(facts).items()}
    columns, waiting, count = schema(facts.kind).with_metadata(said), iter(rows), 0
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=".manifest-", suffix=".parquet")
    except OSError as error:
        raise DataError(f"{path}: cannot be written ({error.strerror}); choose another place") from error
    try:
        with os.fdopen(handle, "wb") as file, pq.ParquetWriter(file, columns, compression="zstd") as writer:
            while group := list(islice(waiting, ROWS)):
                writer.write_table(pa.Table.from_pylist(group, columns))
                count += len(group)
        if not count:
            raise DataError(f"{path}: nothing is left to write; see what was dropped, and why")
        os.chmod(name, 0o644)
        os.replace(name, path)
    finally:
        Path(name).unlink(missing_ok=True)
    return count


def _open(path: str | os.PathLike[str]) -> Any:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        return pq.ParquetFile(path)
    except (FileNotFoundError, IsADirectoryError) as error:
        raise DataError(f"no file {path}; give the path of an existing file") from error
    except (OSError, pa.ArrowException) as error:
        raise DataError(f"{path} is no parquet that can be read ({error}); build the manifest again") from error


def _facts(file: Any, path: str | os.PathLike[str]) -> Facts:
    held = {key.decode(): value.decode() for key, value in (file.schema_arrow.metadata or {}).items()}
    said = {field.name: held.get(_PREFIX + field.name) for field in fields(Facts)}
    if None in said.values():
        raise DataError(f"{path} is parquet, but no manifest; write it with `compsketch data`")
    if said["version"] != str(VERSION):
        raise DataError(f"{path} has version {said['version']} of the format, this is {VERSION}; build it again")
    kind, builder, source, class_map, seed, images = (str(said[field.name]) for field in fields(Facts)[:-1])
    return Facts(kind, builder, source, class_map, int(seed) if seed else None, images)
