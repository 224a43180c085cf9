"""The queries of a canary with their exact answers, and the file that keeps them."""

from __future__ import annotations

import base64
import json
import os
import tempfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from compsketch_milvus.errors import CollectionError

__all__ = ["DEPTH", "Answer", "Canary", "Question", "check_place"]

DEPTH = 10  # answers of each query: recall is recall@10
FORMAT = 1


@dataclass(frozen=True)
class Answer:
    """One of the photos nearest to a query when the canary was prepared.

    Args:
        id: primary key.
        distance: L2 distance of the two vectors.
    """

    id: str
    distance: float


@dataclass(frozen=True)
class Question:
    """A query and its exact answers.

    Args:
        origin: id of the photo whose vector was moved a little, or file of the sketch that was encoded.
        vector: (d,) float32 of unit length.
        answers: nearest first, at most `DEPTH`: fewer only where there were fewer photos.
    """

    origin: str
    vector: np.ndarray
    answers: tuple[Answer, ...]


@dataclass(frozen=True)
class Canary:
    """Queries with their exact answers in one collection at one time.

    Args:
        collection: by the name that it was asked for by, which may be an alias.
        encoder: name of the encoder that made its vectors.
        fingerprint: of that encoder.
        dim: d, length of a vector.
        rows: photos that were compared.
        prepared: when, in seconds since the epoch.
        questions: the queries.
    """

    collection: str
    encoder: str
    fingerprint: str
    dim: int
    rows: int
    prepared: float
    questions: tuple[Question, ...]

    def save(self, path: Path) -> None:
        """Write it as JSON. An old file is only replaced by a whole new one.

        Raises:
            CollectionError: the place cannot be written.
        """
        kept = {"format": FORMAT, **vars(self), "questions": [_written(question) for question in self.questions]}
        try:
            with tempfile.NamedTemporaryFile("w", dir=path.parent, prefix=".canary-", delete=False) as file:
                try:
                    json.dump(kept, file, ensure_ascii=True, indent=1)
                    file.close()
                    os.chmod(file.name, 0o644)
                    os.replace(file.name, path)
                except BaseException:
                    os.unlink(file.name)
                    raise
        except OSError as error:
            raise _unwritable(path, error) from None

    @classmethod
    def read(cls, path: Path) -> Canary:
        """Read what `save` wrote.

        Raises:
            CollectionError: there is no such file, or it is none of a canary's.
        """
        try:
            kept = json.loads(path.read_text(encoding="utf-8"))
            if kept.pop("format") != FORMAT:
                raise ValueError("another format")
            questions = tuple(_read(one, kept["dim"]) for one in kept.pop("questions"))
            if not questions or not kept["rows"] > 0:
                raise ValueError("nothing to ask, or to find")
            return cls(**kept, questions=questions)
        except OSError as error:
            raise CollectionError(
                f"{path}: cannot be read ({error.strerror}); make it with `compsketch canary prepare {path}`"
            ) from None
        except (ValueError, KeyError, TypeError, AttributeError):
            raise CollectionError(
                f"{path}: is no canary of this version; make one with `compsketch canary prepare`"
            ) from None


def check_place(path: Path) -> None:
    """Refuse a place that cannot be written, before there is work to lose.

    Raises:
        CollectionError: it says why.
    """
    try:
        with tempfile.NamedTemporaryFile(dir=path.parent, prefix=".canary-"):
            pass
    except OSError as error:
        raise _unwritable(path, error) from None
    if path.is_dir():
        raise CollectionError(f"{path}: is a folder; give a file, such as canary.json")


def _unwritable(path: Path, error: OSError) -> CollectionError:
    return CollectionError(f"{path}: cannot be written ({error.strerror}); choose another place")


def _written(question: Question) -> dict[str, Any]:
    vector = base64.b64encode(np.asarray(question.vector, "<f4").tobytes()).decode()
    return {"origin": question.origin, "vector": vector, "answers": [asdict(answer) for answer in question.answers]}


def _read(kept: Mapping[str, Any], dim: int) -> Question:
    vector = np.frombuffer(base64.b64decode(kept["vector"], validate=True), "<f4").astype(np.float32)
    if vector.shape != (dim,) or not np.isfinite(vector).all():
        raise ValueError("no vector")
    answers = tuple(Answer(str(one["id"]), float(one["distance"])) for one in kept["answers"])
    if not answers:
        raise ValueError("no answers")
    return Question(str(kept["origin"]), vector, answers)
