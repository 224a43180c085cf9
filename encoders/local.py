"""An encoder on this machine: a bundle's networks, compiled, from photos and sketches to vectors of one space."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from functools import cached_property, partial
from hashlib import blake2b
from threading import Lock
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from encoders import tracing
from encoders.bundle import Bundle, find
from encoders.calibration import Calibration, group
from encoders.cutout import LIMITS
from encoders.errors import CompsketchError
from encoders.explain import Explanation, explain, shares
from encoders.images import load_photo
from encoders.indexing import GRID
from encoders.objects import ObjectConfig, ObjectEncoder
from encoders.photos import BATCH, ImageLike, PhotoEncoder, SpatialNetworks, pixels
from encoders.raster import raster
from encoders.runtimes import Normalise, Runtime
from encoders.sketch import Sketch, SketchObject
from encoders.weighing import combined, opposed
from encoders.words import Words

CACHED_OBJECTS = 4096  # vectors that are remembered, 1 KB each: while a person draws, one object changes


class Networks(SpatialNetworks):
    """All networks of a bundle, under the names that their tensors have there.

    Attributes:
        objects: f_s and f_i.
    """

    def __init__(self, config: Mapping[str, Any]) -> None:
        super().__init__(config)
        self.objects = ObjectEncoder(ObjectConfig(**config["objects"]), len(config["vocabulary"]))

    @property
    def painted(self) -> tuple[str, int]:
        """See `SpatialNetworks`."""
        return "f_s gives", self.objects.config.dim


class _Sketched(nn.Module):
    """f_s, with the drawing's mirror image read along: the same thing, seen from the other side."""

    def __init__(self, objects: ObjectEncoder) -> None:
        super().__init__()
        spec = objects.sketch_trunk.spec
        self.normalise, self.objects = Normalise(spec.mean, spec.std), objects

    def forward(self, pictures: Tensor) -> Tensor:
        """(B, S, S, 3) uint8 to (B, C) unit vectors."""
        x = self.normalise(pictures)  # (B, 3, S, S)
        both = self.objects.f_s(torch.cat([x, x.flip(3)]))  # (2 B, C)
        return nn.functional.normalize(both.unflatten(0, (2, -1)).sum(0), dim=1)


class _Photographed(nn.Module):
    """f_i of decoded pixels."""

    def __init__(self, objects: ObjectEncoder) -> None:
        super().__init__()
        spec = objects.photo_trunk.spec
        self.normalise, self.objects = Normalise(spec.mean, spec.std), objects

    def forward(self, pictures: Tensor) -> Tensor:
        """(B, S, S, 3) uint8 to (B, C) unit vectors."""
        return self.objects.f_i(self.normalise(pictures))


class LocalEncoder(PhotoEncoder[Networks]):
    """A bundle's networks on this machine, for sketches and photos; arguments and attributes as `PhotoEncoder` has.

    Attributes:
        calibration: How scores are read as probabilities, if the bundle says.
    """

    def __init__(self, bundle: Bundle, device: str | None = None, runtime: str = "auto") -> None:
        super().__init__(bundle, Networks, device, runtime)
        self._words = Words(self.vocabulary, self.name, "Or use strokes without words")
        self._remembered: OrderedDict[bytes, np.ndarray] = OrderedDict()
        self._lock = Lock()
        told = bundle.config.get("calibration")
        self.calibration = None if told is None else Calibration.from_dict(told)

    @classmethod
    def open(cls, spec: str | None = None, device: str | None = None, runtime: str = "auto") -> LocalEncoder:
        """The encoder of a bundle, by name or folder.

        Raises:
            BundleError: There is none, it is damaged, or its parts do not fit each other.
        """
        return cls(Bundle.load(find(spec)), device, runtime)

    # --- photos ---

    def embed_photo_objects(self, images: Sequence[ImageLike]) -> np.ndarray:
        """f_i of whole photos, as if each were one object: mSBIR's half of the photos, see `embed_canvas`.

        Returns:
            (B, C) float32, unit length.
        """
        size = self._networks.objects.config.crop_size
        rows = []
        for start in range(0, len(images), BATCH):
            decoded = pixels(images[start : start + BATCH], size)
            with tracing.span("f_i", {"compsketch.objects": len(decoded)}):
                rows.append(self._photographed(decoded))
        return np.concatenate(rows) if rows else np.zeros((0, self._networks.objects.config.dim), np.float32)

    # --- sketches ---

    def encode_sketches(self, sketches: Sequence[Sketch], *, words: bool = False) -> np.ndarray:
        """Sketches to what a collection is asked with.

        Args:
            sketches: Any number.
            words: Mix the vector of its label into each drawn object that has one. An object without strokes is
                its label's vector in any case.

        Returns:
            (B, d) float32, unit length.

        Raises:
            CompsketchError: A label that the encoder does not know, with ``words`` or of an object without strokes.
        """
        flat = self.embed_sketches(sketches, words=words)
        return self.project(flat)

    def embed_sketches(self, sketches: Sequence[Sketch], *, words: bool = False) -> np.ndarray:
        """E_Q (eq. 3), with objects weighed as `weighing` has it: (B, 49 D) float32."""
        if isinstance(sketches, Sketch):
            raise CompsketchError("expected a list of sketches, found one Sketch; write [sketch]")
        vectors = self.embed_objects([item for sketch in sketches for item in sketch.objects], words=words)
        return self.embed_painted(sketches, vectors)

    def embed_objects(self, objects: Sequence[SketchObject], *, words: bool = False) -> np.ndarray:
        """Vectors of single objects: strokes by f_s, a photo by f_i, a word by its class, two by their sum.

        Args:
            objects: Any number; their boxes and weights do not matter.
            words: Also use the labels of objects that have strokes or a photo.

        Returns:
            (n, C) float32, unit length.

        Raises:
            CompsketchError: As `encode_sketches`, or a photo that cannot be decoded.
        """
        seen = [bool(item.strokes) or item.photo is not None for item in objects]
        names = [
            self.word_vector(str(item.label)) if (words and item.label) or not visible else None
            for item, visible in zip(objects, seen, strict=True)
        ]
        vectors = iter(self._seen_vectors([item for item, visible in zip(objects, seen, strict=True) if visible]))
        rows = [_fused(next(vectors) if visible else None, name) for visible, name in zip(seen, names, strict=True)]
        return np.stack(rows) if rows else np.zeros((0, self._networks.objects.config.dim), np.float32)

    def _seen_vectors(self, objects: Sequence[SketchObject]) -> list[np.ndarray]:
        """f_s of what is drawn, f_i of what is cut out of a photo, (C,) each; what was seen before is remembered."""
        keys = [_key(item) for item in objects]
        with self._lock:
            known = {key: self._remembered[key] for key in keys if key in self._remembered}
        new = {key: item for key, item in zip(keys, objects, strict=True) if key not in known}
        if new:
            drawn = {key: item for key, item in new.items() if item.photo is None}
            cut = {key: item for key, item in new.items() if item.photo is not None}
            vectors = dict(zip(drawn, self._drawn_vectors(list(drawn.values())), strict=True))
            vectors.update(zip(cut, self._cut_vectors(list(cut.values())), strict=True))
            known.update(vectors)
            self._remember(vectors)
        return [known[key] for key in keys]

    def _drawn_vectors(self, objects: Sequence[SketchObject]) -> np.ndarray:
        """f_s: (n, C)."""
        config = self._networks.objects.config
        if not objects:
            return np.zeros((0, config.dim), np.float32)
        with tracing.span("raster", {"compsketch.objects": len(objects)}):
            pictures = np.stack([raster(item.strokes, config.sketch_size, config.line_width) for item in objects])
        with tracing.span("f_s", {"compsketch.objects": len(objects)}):
            return self._sketched(np.repeat(pictures[..., None], 3, axis=3))

    def _cut_vectors(self, objects: Sequence[SketchObject]) -> np.ndarray:
        """f_i: (n, C)."""
        size = self._networks.objects.config.crop_size
        photos = [item.photo for item in objects if item.photo is not None]
        return self.embed_photo_objects([load_photo(photo, size, limits=LIMITS).pixels for photo in photos])

    def embed_canvas(self, sketches: Sequence[Sketch]) -> np.ndarray:
        """f_s of whole canvases, all that is wanted as one drawing: mSBIR's half of the sketches (section 4.3, [16]).

        mSBIR is stage 1 by itself, one drawing against one photo, with no place for layout. Its f_s and f_i are this
        bundle's own, so it has had SSBIR's sketches, crops and steps. As in the original these were of single objects:
        a canvas of several and a photo of a whole scene are what it has never seen. It is not told a class.

        Returns:
            (B, C) float32, unit length.

        Raises:
            SketchError: A sketch has no strokes, only words.
        """
        wanted = [[item for item in sketch.objects if item.weight > 0] for sketch in sketches]
        return self.embed_objects([SketchObject(tuple(s for item in items for s in item.strokes)) for items in wanted])

    def word_vector(self, label: str) -> np.ndarray:
        """The vector (C,) of a class by its name, Quick, Draw!'s or one that the class map joins to it.

        Raises:
            CompsketchError: The encoder was not trained on such a class; the message has the nearest names.
        """
        return self._class_vectors[self._words.row(label)]

    def _remember(self, vectors: Mapping[bytes, np.ndarray]) -> None:
        with self._lock:
            self._remembered.update(vectors)
            while len(self._remembered) > CACHED_OBJECTS:
                self._remembered.popitem(last=False)

    # --- scores ---

    def explain(self, sketch: Sketch, vectors: np.ndarray, *, words: bool = False) -> list[Explanation]:
        """What each object of a sketch adds to the scores of photos, cell by cell.

        Args:
            sketch: The query.
            vectors: (k, d) of the photos, as `encode_images` gives them.
            words: As the query was asked.
        """
        painted = self.embed_objects(sketch.objects, words=words)
        weights = np.array([item.weight for item in sketch.objects])
        embed = partial(self.embed_subsets, [sketch], painted)
        sums = [{(0, subset): times for subset, times in share.items()} for share in shares(weights.tolist())]
        parts = combined(embed, sums)  # (n + 1, 49 D)
        unwanted = np.flatnonzero(weights < 0)
        alone = embed([(0, (int(i),)) for i in unwanted])  # (k, 49 D)
        parts[unwanted] = opposed(parts.sum(axis=0), alone, weights[unwanted])  # by itself, whatever else is there
        return explain(parts, self.projection, vectors, GRID)

    def confidence(self, sketch: Sketch, scores: np.ndarray, *, words: bool = False) -> np.ndarray | None:
        """Scores of photos as probabilities of relevance, (k,); None where the bundle says nothing of such sketches."""
        return None if self.calibration is None else self.calibration.apply(scores, group(sketch, words=words))

    # --- networks ---

    @cached_property
    def _class_vectors(self) -> np.ndarray:
        return self._networks.objects.class_vectors().numpy()

    @cached_property
    def _sketched(self) -> Runtime:
        size = self._networks.objects.config.sketch_size
        example = np.full((1, size, size, 3), 255, np.uint8)
        return self._compile(_Sketched(self._networks.objects), example, sizes=(1, 2, 3))

    @cached_property
    def _photographed(self) -> Runtime:
        size = self._networks.objects.config.crop_size
        return self._compile(_Photographed(self._networks.objects), np.zeros((1, size, size, 3), np.uint8))


def _key(item: SketchObject) -> bytes:
    """What tells one drawing from another: its strokes or its photo, wherever their box is said to be.

    A digest: the strokes themselves can take megabytes, times `CACHED_OBJECTS`.
    """
    digest = blake2b(item.photo or b"", digest_size=16)
    for stroke in item.strokes:
        digest.update(stroke.shape[1].to_bytes(8, "little"))
        digest.update(np.ascontiguousarray(stroke, np.float64).tobytes())
    return digest.digest()


def _fused(drawn: np.ndarray | None, word: np.ndarray | None) -> np.ndarray:
    """The one there is, or the normalised sum of both."""
    vectors = [vector for vector in (drawn, word) if vector is not None]
    return vectors[0] if len(vectors) == 1 else _unit(vectors[0] + vectors[1])


def _unit(vector: np.ndarray) -> np.ndarray:
    return vector / np.linalg.norm(vector)
