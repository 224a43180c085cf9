"""What the page sends and gets, with a bound on every field."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator
from typing_extensions import Self

from compsketch_milvus.terms import RERANK
from encoders import cutout
from encoders.query import MAX_OBJECTS
from encoders.sketch import MAX_LABEL, MAX_POINTS, MAX_SIDE, MAX_WEIGHT, Sketch

__all__ = [
    "MAX_HITS",
    "Details",
    "Drawing",
    "Example",
    "ExplainAnswer",
    "ExplainRequest",
    "FieldInfo",
    "Health",
    "Hit",
    "KnownBox",
    "LoginRequest",
    "Problem",
    "SearchAnswer",
    "SearchRequest",
    "Session",
    "SimilarRequest",
]

MAX_HITS = 200
MAX_STROKES = 5000  # an object
MAX_COORDINATE = 1_000_000.0
MAX_PHOTO = cutout.MAX_BYTES * 4 // 3 + 4  # characters of base64
MAX_FILTER = 2000
MAX_RERANK = 2000

Coordinate = Annotated[float, Field(ge=-MAX_COORDINATE, le=MAX_COORDINATE, allow_inf_nan=False)]
Row = Annotated[list[Coordinate], Field(max_length=MAX_POINTS)]
Stroke = Annotated[list[Row], Field(min_length=2, max_length=2)]
Box = Annotated[list[Coordinate], Field(min_length=4, max_length=4)]
Fraction = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]
Name = Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$", max_length=255)]
Id = Annotated[str, Field(min_length=1, max_length=64)]


class _Sent(BaseModel):
    """A body: nothing unknown in it, nothing converted."""

    model_config = ConfigDict(extra="forbid", strict=True)


class DrawnObject(_Sent):
    """One object of stroke JSON."""

    label: Annotated[str, Field(max_length=MAX_LABEL)] | None = None
    bbox: Box | None = None
    weight: Annotated[float, Field(ge=-MAX_WEIGHT, le=MAX_WEIGHT, allow_inf_nan=False)] = 1.0
    strokes: Annotated[list[Stroke], Field(max_length=MAX_STROKES)] | None = None
    photo: Annotated[str, Field(max_length=MAX_PHOTO)] | None = Field(None, description="base64 of a cut-out")


class Drawing(_Sent):
    """A sketch as stroke JSON."""

    width: Annotated[int, Field(ge=1, le=MAX_SIDE)]
    height: Annotated[int, Field(ge=1, le=MAX_SIDE)]
    objects: Annotated[list[DrawnObject], Field(min_length=1, max_length=MAX_OBJECTS)]

    @model_validator(mode="after")
    def _few_points(self) -> Self:
        points = sum(len(stroke[0]) for item in self.objects for stroke in item.strokes or ())
        if points > MAX_POINTS:
            raise ValueError(f"{points} points are more than {MAX_POINTS}; simplify the strokes")
        return self

    def sketch(self) -> Sketch:
        """The sketch. Raises SketchError where it holds nothing to search with."""
        return Sketch.from_dict(self.model_dump(exclude_none=True))


class _Terms(_Sent):
    """What a search may ask for, whatever it searches with."""

    collection: Name | None = None
    limit: Annotated[int, Field(ge=1, le=MAX_HITS)] = 20
    filter: Annotated[str, Field(max_length=MAX_FILTER)] = ""
    threshold: Annotated[float, Field(ge=-1, le=1, allow_inf_nan=False)] | None = None
    rerank: Annotated[int, Field(ge=0, le=MAX_RERANK)] = RERANK
    hide_duplicates: Annotated[float, Field(gt=0, le=1, allow_inf_nan=False)] | None = None


class SearchRequest(_Terms):
    """A drawing, and the terms of its search."""

    sketch: Drawing
    words: bool = False
    min_confidence: Fraction | None = None


class SimilarRequest(_Terms):
    """A photo whose layout is asked for."""

    id: Id


class ExplainRequest(_Sent):
    """A drawing, and the photo that it found."""

    sketch: Drawing
    words: bool = False
    id: Id
    collection: Name | None = None


class LoginRequest(_Sent):
    """The secret that `compsketch web` was started with."""

    token: Annotated[str, Field(min_length=1, max_length=1024)]


# --- answers ---


class Problem(BaseModel):
    """Any answer from 400 on; `reference`, from 500 on, is the request's id, as the log has it."""

    error: str
    reference: str | None = None


class KnownBox(BaseModel):
    """A box that the collection knows of a photo: x0, y0, x1, y1 in 0 to 1."""

    label: str | None
    box: list[float]


class Hit(BaseModel):
    """One photo found; `name` is the last part of its source."""

    id: str
    score: float
    confidence: float | None
    name: str
    width: int
    height: int
    fields: dict[str, Any]
    objects: list[KnownBox] | None
    duplicates: list[str]


class Seconds(BaseModel):
    """Where the time went; `total` also holds the wait for a turn."""

    encode: float
    search: float
    rerank: float
    total: float


class SearchAnswer(BaseModel):
    """What was found, and the boxes of the query's objects in 0 to 1."""

    hits: list[Hit]
    best: float | None
    short: str | None
    message: str | None
    boxes: list[list[float]]
    seconds: Seconds


class ExplainedObject(BaseModel):
    """What one object adds to a score, in all and by cell; rows from the top."""

    label: str | None
    total: float
    cells: list[list[float]]


class ExplainAnswer(BaseModel):
    """The parts of one photo's score; they add up to it."""

    score: float
    bias: float
    canvas: list[list[float]]
    objects: list[ExplainedObject]
    loudest: float


class Limits(BaseModel):
    """The most that a search may hold."""

    objects: int
    points: int
    label: int
    limit: int


class EncoderInfo(BaseModel):
    """The encoder, and what it can do besides."""

    name: str
    fingerprint: str
    dim: int
    words: bool
    explains: bool
    calibrated: bool


class IndexInfo(BaseModel):
    """The collection's index, and why it is that one."""

    type: str
    reason: str


class Session(BaseModel):
    """Who asks, and what can be searched. Before a needed login there is nothing but that."""

    login: bool = Field(description="whether one is needed")
    user: bool = Field(description="whether this browser may search")
    collection: str | None = None
    collections: list[str] = []
    limits: Limits
    encoder: EncoderInfo | None = None
    count: int | None = None
    index: IndexInfo | None = None


class FieldInfo(BaseModel):
    """A field that filters can name."""

    name: str
    type: Literal["number", "text", "boolean"]
    examples: list[str | float | int | bool]


class Details(BaseModel):
    """All that the collection has of a photo. `source` is told on the machine itself only."""

    id: str
    name: str
    source: str | None
    width: int
    height: int
    fields: dict[str, Any]
    objects: list[KnownBox] | None


class Example(BaseModel):
    """A sketch to begin with."""

    title: str
    sketch: dict[str, Any]


class Health(BaseModel):
    """Whether searches can be answered."""

    status: Literal["ok", "away"]
