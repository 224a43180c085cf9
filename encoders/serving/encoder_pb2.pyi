from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from typing import ClassVar as _ClassVar, Iterable as _Iterable, Mapping as _Mapping, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Lane(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    LANE_UNSPECIFIED: _ClassVar[Lane]
    LANE_INTERACTIVE: _ClassVar[Lane]
    LANE_BULK: _ClassVar[Lane]

class Precision(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    PRECISION_UNSPECIFIED: _ClassVar[Precision]
    PRECISION_FLOAT32: _ClassVar[Precision]
    PRECISION_FLOAT16: _ClassVar[Precision]

class Output(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    OUTPUT_UNSPECIFIED: _ClassVar[Output]
    OUTPUT_VECTOR: _ClassVar[Output]
    OUTPUT_FEATURES: _ClassVar[Output]
LANE_UNSPECIFIED: Lane
LANE_INTERACTIVE: Lane
LANE_BULK: Lane
PRECISION_UNSPECIFIED: Precision
PRECISION_FLOAT32: Precision
PRECISION_FLOAT16: Precision
OUTPUT_UNSPECIFIED: Output
OUTPUT_VECTOR: Output
OUTPUT_FEATURES: Output

class Options(_message.Message):
    __slots__ = ("model", "lane", "precision", "output", "words")
    MODEL_FIELD_NUMBER: _ClassVar[int]
    LANE_FIELD_NUMBER: _ClassVar[int]
    PRECISION_FIELD_NUMBER: _ClassVar[int]
    OUTPUT_FIELD_NUMBER: _ClassVar[int]
    WORDS_FIELD_NUMBER: _ClassVar[int]
    model: str
    lane: Lane
    precision: Precision
    output: Output
    words: bool
    def __init__(self, model: _Optional[str] = ..., lane: _Optional[_Union[Lane, str]] = ..., precision: _Optional[_Union[Precision, str]] = ..., output: _Optional[_Union[Output, str]] = ..., words: bool = ...) -> None: ...

class GetModelsRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class GetModelsResponse(_message.Message):
    __slots__ = ("models", "limits")
    MODELS_FIELD_NUMBER: _ClassVar[int]
    LIMITS_FIELD_NUMBER: _ClassVar[int]
    models: _containers.RepeatedCompositeFieldContainer[Model]
    limits: Limits
    def __init__(self, models: _Optional[_Iterable[_Union[Model, _Mapping]]] = ..., limits: _Optional[_Union[Limits, _Mapping]] = ...) -> None: ...

class Model(_message.Message):
    __slots__ = ("name", "fingerprint", "dim", "image_size", "device", "networks", "features", "explains", "calibration", "vocabulary")
    NAME_FIELD_NUMBER: _ClassVar[int]
    FINGERPRINT_FIELD_NUMBER: _ClassVar[int]
    DIM_FIELD_NUMBER: _ClassVar[int]
    IMAGE_SIZE_FIELD_NUMBER: _ClassVar[int]
    DEVICE_FIELD_NUMBER: _ClassVar[int]
    NETWORKS_FIELD_NUMBER: _ClassVar[int]
    FEATURES_FIELD_NUMBER: _ClassVar[int]
    EXPLAINS_FIELD_NUMBER: _ClassVar[int]
    CALIBRATION_FIELD_NUMBER: _ClassVar[int]
    VOCABULARY_FIELD_NUMBER: _ClassVar[int]
    name: str
    fingerprint: str
    dim: int
    image_size: int
    device: str
    networks: str
    features: int
    explains: bool
    calibration: str
    vocabulary: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, name: _Optional[str] = ..., fingerprint: _Optional[str] = ..., dim: _Optional[int] = ..., image_size: _Optional[int] = ..., device: _Optional[str] = ..., networks: _Optional[str] = ..., features: _Optional[int] = ..., explains: bool = ..., calibration: _Optional[str] = ..., vocabulary: _Optional[_Iterable[str]] = ...) -> None: ...

class Limits(_message.Message):
    __slots__ = ("message_bytes", "image_bytes", "image_pixels", "items", "window")
    MESSAGE_BYTES_FIELD_NUMBER: _ClassVar[int]
    IMAGE_BYTES_FIELD_NUMBER: _ClassVar[int]
    IMAGE_PIXELS_FIELD_NUMBER: _ClassVar[int]
    ITEMS_FIELD_NUMBER: _ClassVar[int]
    WINDOW_FIELD_NUMBER: _ClassVar[int]
    message_bytes: int
    image_bytes: int
    image_pixels: int
    items: int
    window: int
    def __init__(self, message_bytes: _Optional[int] = ..., image_bytes: _Optional[int] = ..., image_pixels: _Optional[int] = ..., items: _Optional[int] = ..., window: _Optional[int] = ...) -> None: ...

class Image(_message.Message):
    __slots__ = ("encoded", "pixels")
    ENCODED_FIELD_NUMBER: _ClassVar[int]
    PIXELS_FIELD_NUMBER: _ClassVar[int]
    encoded: bytes
    pixels: bytes
    def __init__(self, encoded: _Optional[bytes] = ..., pixels: _Optional[bytes] = ...) -> None: ...

class Sketch(_message.Message):
    __slots__ = ("json", "canvas")
    JSON_FIELD_NUMBER: _ClassVar[int]
    CANVAS_FIELD_NUMBER: _ClassVar[int]
    json: str
    canvas: Canvas
    def __init__(self, json: _Optional[str] = ..., canvas: _Optional[_Union[Canvas, _Mapping]] = ...) -> None: ...

class Canvas(_message.Message):
    __slots__ = ("width", "height", "objects")
    WIDTH_FIELD_NUMBER: _ClassVar[int]
    HEIGHT_FIELD_NUMBER: _ClassVar[int]
    OBJECTS_FIELD_NUMBER: _ClassVar[int]
    width: int
    height: int
    objects: _containers.RepeatedCompositeFieldContainer[SketchObject]
    def __init__(self, width: _Optional[int] = ..., height: _Optional[int] = ..., objects: _Optional[_Iterable[_Union[SketchObject, _Mapping]]] = ...) -> None: ...

class SketchObject(_message.Message):
    __slots__ = ("strokes", "label", "bbox", "weight", "photo")
    STROKES_FIELD_NUMBER: _ClassVar[int]
    LABEL_FIELD_NUMBER: _ClassVar[int]
    BBOX_FIELD_NUMBER: _ClassVar[int]
    WEIGHT_FIELD_NUMBER: _ClassVar[int]
    PHOTO_FIELD_NUMBER: _ClassVar[int]
    strokes: _containers.RepeatedCompositeFieldContainer[Stroke]
    label: str
    bbox: _containers.RepeatedScalarFieldContainer[float]
    weight: float
    photo: bytes
    def __init__(self, strokes: _Optional[_Iterable[_Union[Stroke, _Mapping]]] = ..., label: _Optional[str] = ..., bbox: _Optional[_Iterable[float]] = ..., weight: _Optional[float] = ..., photo: _Optional[bytes] = ...) -> None: ...

class Stroke(_message.Message):
    __slots__ = ("x", "y")
    X_FIELD_NUMBER: _ClassVar[int]
    Y_FIELD_NUMBER: _ClassVar[int]
    x: _containers.RepeatedScalarFieldContainer[float]
    y: _containers.RepeatedScalarFieldContainer[float]
    def __init__(self, x: _Optional[_Iterable[float]] = ..., y: _Optional[_Iterable[float]] = ...) -> None: ...

class Fault(_message.Message):
    __slots__ = ("reason", "message")
    class Reason(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
        __slots__ = ()
        REASON_UNSPECIFIED: _ClassVar[Fault.Reason]
        REASON_INVALID: _ClassVar[Fault.Reason]
        REASON_TOO_LARGE: _ClassVar[Fault.Reason]
        REASON_CRASHED: _ClassVar[Fault.Reason]
        REASON_BUSY: _ClassVar[Fault.Reason]
        REASON_INTERNAL: _ClassVar[Fault.Reason]
    REASON_UNSPECIFIED: Fault.Reason
    REASON_INVALID: Fault.Reason
    REASON_TOO_LARGE: Fault.Reason
    REASON_CRASHED: Fault.Reason
    REASON_BUSY: Fault.Reason
    REASON_INTERNAL: Fault.Reason
    REASON_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    reason: Fault.Reason
    message: str
    def __init__(self, reason: _Optional[_Union[Fault.Reason, str]] = ..., message: _Optional[str] = ...) -> None: ...

class Vector(_message.Message):
    __slots__ = ("values", "fault", "width", "height")
    VALUES_FIELD_NUMBER: _ClassVar[int]
    FAULT_FIELD_NUMBER: _ClassVar[int]
    WIDTH_FIELD_NUMBER: _ClassVar[int]
    HEIGHT_FIELD_NUMBER: _ClassVar[int]
    values: bytes
    fault: Fault
    width: int
    height: int
    def __init__(self, values: _Optional[bytes] = ..., fault: _Optional[_Union[Fault, _Mapping]] = ..., width: _Optional[int] = ..., height: _Optional[int] = ...) -> None: ...

class EncodeImagesRequest(_message.Message):
    __slots__ = ("options", "images")
    OPTIONS_FIELD_NUMBER: _ClassVar[int]
    IMAGES_FIELD_NUMBER: _ClassVar[int]
    options: Options
    images: _containers.RepeatedCompositeFieldContainer[Image]
    def __init__(self, options: _Optional[_Union[Options, _Mapping]] = ..., images: _Optional[_Iterable[_Union[Image, _Mapping]]] = ...) -> None: ...

class EncodeImagesResponse(_message.Message):
    __slots__ = ("fingerprint", "vectors")
    FINGERPRINT_FIELD_NUMBER: _ClassVar[int]
    VECTORS_FIELD_NUMBER: _ClassVar[int]
    fingerprint: str
    vectors: _containers.RepeatedCompositeFieldContainer[Vector]
    def __init__(self, fingerprint: _Optional[str] = ..., vectors: _Optional[_Iterable[_Union[Vector, _Mapping]]] = ...) -> None: ...

class EncodeSketchesRequest(_message.Message):
    __slots__ = ("options", "sketches")
    OPTIONS_FIELD_NUMBER: _ClassVar[int]
    SKETCHES_FIELD_NUMBER: _ClassVar[int]
    options: Options
    sketches: _containers.RepeatedCompositeFieldContainer[Sketch]
    def __init__(self, options: _Optional[_Union[Options, _Mapping]] = ..., sketches: _Optional[_Iterable[_Union[Sketch, _Mapping]]] = ...) -> None: ...

class EncodeSketchesResponse(_message.Message):
    __slots__ = ("fingerprint", "vectors")
    FINGERPRINT_FIELD_NUMBER: _ClassVar[int]
    VECTORS_FIELD_NUMBER: _ClassVar[int]
    fingerprint: str
    vectors: _containers.RepeatedCompositeFieldContainer[Vector]
    def __init__(self, fingerprint: _Optional[str] = ..., vectors: _Optional[_Iterable[_Union[Vector, _Mapping]]] = ...) -> None: ...

class StreamImagesRequest(_message.Message):
    __slots__ = ("options", "images")
    OPTIONS_FIELD_NUMBER: _ClassVar[int]
    IMAGES_FIELD_NUMBER: _ClassVar[int]
    options: Options
    images: _containers.RepeatedCompositeFieldContainer[KeyedImage]
    def __init__(self, options: _Optional[_Union[Options, _Mapping]] = ..., images: _Optional[_Iterable[_Union[KeyedImage, _Mapping]]] = ...) -> None: ...

class KeyedImage(_message.Message):
    __slots__ = ("key", "image")
    KEY_FIELD_NUMBER: _ClassVar[int]
    IMAGE_FIELD_NUMBER: _ClassVar[int]
    key: int
    image: Image
    def __init__(self, key: _Optional[int] = ..., image: _Optional[_Union[Image, _Mapping]] = ...) -> None: ...

class StreamImagesResponse(_message.Message):
    __slots__ = ("fingerprint", "vectors")
    FINGERPRINT_FIELD_NUMBER: _ClassVar[int]
    VECTORS_FIELD_NUMBER: _ClassVar[int]
    fingerprint: str
    vectors: _containers.RepeatedCompositeFieldContainer[KeyedVector]
    def __init__(self, fingerprint: _Optional[str] = ..., vectors: _Optional[_Iterable[_Union[KeyedVector, _Mapping]]] = ...) -> None: ...

class KeyedVector(_message.Message):
    __slots__ = ("key", "vector")
    KEY_FIELD_NUMBER: _ClassVar[int]
    VECTOR_FIELD_NUMBER: _ClassVar[int]
    key: int
    vector: Vector
    def __init__(self, key: _Optional[int] = ..., vector: _Optional[_Union[Vector, _Mapping]] = ...) -> None: ...

class StreamSketchesRequest(_message.Message):
    __slots__ = ("options", "sketches")
    OPTIONS_FIELD_NUMBER: _ClassVar[int]
    SKETCHES_FIELD_NUMBER: _ClassVar[int]
    options: Options
    sketches: _containers.RepeatedCompositeFieldContainer[KeyedSketch]
    def __init__(self, options: _Optional[_Union[Options, _Mapping]] = ..., sketches: _Optional[_Iterable[_Union[KeyedSketch, _Mapping]]] = ...) -> None: ...

class KeyedSketch(_message.Message):
    __slots__ = ("key", "sketch")
    KEY_FIELD_NUMBER: _ClassVar[int]
    SKETCH_FIELD_NUMBER: _ClassVar[int]
    key: int
    sketch: Sketch
    def __init__(self, key: _Optional[int] = ..., sketch: _Optional[_Union[Sketch, _Mapping]] = ...) -> None: ...

class StreamSketchesResponse(_message.Message):
    __slots__ = ("fingerprint", "vectors")
    FINGERPRINT_FIELD_NUMBER: _ClassVar[int]
    VECTORS_FIELD_NUMBER: _ClassVar[int]
    fingerprint: str
    vectors: _containers.RepeatedCompositeFieldContainer[KeyedVector]
    def __init__(self, fingerprint: _Optional[str] = ..., vectors: _Optional[_Iterable[_Union[KeyedVector, _Mapping]]] = ...) -> None: ...

class ProjectRequest(_message.Message):
    __slots__ = ("model", "precision", "features")
    MODEL_FIELD_NUMBER: _ClassVar[int]
    PRECISION_FIELD_NUMBER: _ClassVar[int]
    FEATURES_FIELD_NUMBER: _ClassVar[int]
    model: str
    precision: Precision
    features: bytes
    def __init__(self, model: _Optional[str] = ..., precision: _Optional[_Union[Precision, str]] = ..., features: _Optional[bytes] = ...) -> None: ...

class ProjectResponse(_message.Message):
    __slots__ = ("fingerprint", "vectors")
    FINGERPRINT_FIELD_NUMBER: _ClassVar[int]
    VECTORS_FIELD_NUMBER: _ClassVar[int]
    fingerprint: str
    vectors: bytes
    def __init__(self, fingerprint: _Optional[str] = ..., vectors: _Optional[bytes] = ...) -> None: ...

class ExplainRequest(_message.Message):
    __slots__ = ("model", "sketch", "words", "vectors")
    MODEL_FIELD_NUMBER: _ClassVar[int]
    SKETCH_FIELD_NUMBER: _ClassVar[int]
    WORDS_FIELD_NUMBER: _ClassVar[int]
    VECTORS_FIELD_NUMBER: _ClassVar[int]
    model: str
    sketch: Sketch
    words: bool
    vectors: bytes
    def __init__(self, model: _Optional[str] = ..., sketch: _Optional[_Union[Sketch, _Mapping]] = ..., words: bool = ..., vectors: _Optional[bytes] = ...) -> None: ...

class ExplainResponse(_message.Message):
    __slots__ = ("fingerprint", "explanations")
    FINGERPRINT_FIELD_NUMBER: _ClassVar[int]
    EXPLANATIONS_FIELD_NUMBER: _ClassVar[int]
    fingerprint: str
    explanations: _containers.RepeatedCompositeFieldContainer[Explanation]
    def __init__(self, fingerprint: _Optional[str] = ..., explanations: _Optional[_Iterable[_Union[Explanation, _Mapping]]] = ...) -> None: ...

class Explanation(_message.Message):
    __slots__ = ("objects", "canvas", "bias")
    OBJECTS_FIELD_NUMBER: _ClassVar[int]
    CANVAS_FIELD_NUMBER: _ClassVar[int]
    BIAS_FIELD_NUMBER: _ClassVar[int]
    objects: bytes
    canvas: bytes
    bias: float
    def __init__(self, objects: _Optional[bytes] = ..., canvas: _Optional[bytes] = ..., bias: _Optional[float] = ...) -> None: ...
