"""An encoder on this machine: a bundle's networks, compiled, from photos and sketches to vectors of one space."""

from __future__ import annotations

import difflib
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from functools import cached_property
from hashlib import blake2b
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from encoders.bundle import Bundle, find
from encoders.errors import BundleError, CompsketchError
from encoders.evaluation.data import read_class_map
from encoders.images import load_photo
from encoders.indexing import GRID, IndexingBranch, IndexingConfig
from encoders.objects import ObjectConfig, ObjectEncoder
from encoders.projection import Projection
from encoders.query import CELLS, query_tensor
from encoders.raster import raster
from encoders.runtimes import Normalise, Runtime, compile_module
from encoders.sketch import Sketch, SketchObject
from encoders.spatial import SpatialConfig, SpatialEncoder

ImageLike = str | Path | bytes | Image.Image | np.ndarray
BATCH = 16  # rows a network sees at once: more gain nothing on a CPU and take memory
CACHED_OBJECTS = (
    4096  # vectors of drawn objects that are remembered, 1 KB each: while a person draws, one object changes
)


class Networks(nn.Module):
    """All networks of a bundle, under the names that their tensors have there.

    Attributes:
        objects: f_s and f_i.
        image: T_I.
        spatial: f_t.
    """

    def __init__(self, config: Mapping[str, Any]) -> None:
        super().__init__()
        vocabulary = config["vocabulary"]
        indexing, spatial = dict(config["indexing"]), dict(config["spatial"])
        spatial["widths"] = tuple(spatial["widths"])
        self.objects = ObjectEncoder(ObjectConfig(**config["objects"]), len(vocabulary))
        self.image = IndexingBranch(IndexingConfig(**indexing))
        self.spatial = SpatialEncoder(SpatialConfig(**spatial))

    def to_tensors(self) -> dict[str, np.ndarray]:
        """What a bundle stores: matrices in fp16, the rest (biases, batch statistics) in float32, counters left out."""
        return {
            name: tensor.numpy().astype(np.float16 if tensor.ndim > 1 else np.float32)
            for name, tensor in self.state_dict().items()
            if tensor.is_floating_point()
        }

    def load_tensors(self, tensors: Mapping[str, np.ndarray], name: str) -> None:
        """Take the weights of a bundle.

        Raises:
            BundleError: Tensors are missing, unexpected or of another shape.
        """
        own = {key: value for key, value in self.state_dict().items() if value.is_floating_point()}
        problems = {
            "missing": sorted(own.keys() - tensors.keys()),
            "unexpected": sorted(tensors.keys() - own.keys()),
            "of another shape": sorted(
                key for key in own.keys() & tensors.keys() if tuple(own[key].shape) != tensors[key].shape
            ),
        }
        if any(problems.values()):
            said = "; ".join(f"{what}: {', '.join(keys[:3])} ({len(keys)})" for what, keys in problems.items() if keys)
            raise BundleError(f"bundle {name!r} does not fit its own config: {said}; train or fetch it again")
        state = {key: torch.from_numpy(np.asarray(value, np.float32)) for key, value in tensors.items()}
        self.load_state_dict(state, strict=False)  # only the counters of batch norms are not in a bundle


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


class LocalEncoder:
    """A bundle's networks on this machine; each is compiled when it is first needed.

    Args:
        bundle: As `Bundle.load` gives it.
        device: "cpu", "cuda", "cuda:N"; None takes a GPU where there is one.
        runtime: See `runtimes.compile_module`.

    Attributes:
        name: The bundle's name.
        dim: d.
        fingerprint: The bundle's.
        device: Where it runs.
        image_size: Side in pixels of the stretched photo.
        vocabulary: Class words whose vectors `words=True` mixes in.
    """

    def __init__(self, bundle: Bundle, device: str | None = None, runtime: str = "auto") -> None:
        config = bundle.config
        try:
            networks = Networks(config)
            self.name = str(config["name"])
        except (KeyError, RuntimeError, TypeError, ValueError) as error:  # RuntimeError: torch, of a negative size
            raise BundleError(
                f"the bundle's config.json is not an encoder's: {error}; train or fetch it again"
            ) from error
        own = {key: value for key, value in bundle.tensors.items() if not key.startswith("projection.")}
        networks.load_tensors(own, self.name)
        self._networks = networks.eval().requires_grad_(False)
        self.projection = Projection.from_tensors(bundle.tensors)
        _check_sizes(networks, self.projection, self.name)
        self.dim = self.projection.dim
        self.fingerprint = bundle.fingerprint
        self.device = device or ("cuda" if torch.cuda.is_available() else "cpu")
        self.image_size = networks.image.config.image_size
        self.vocabulary: list[str] = list(config["vocabulary"])
        self._runtime = runtime
        self._remembered: OrderedDict[bytes, np.ndarray] = OrderedDict()
        self._lock = Lock()

    @classmethod
    def open(cls, spec: str | None = None, device: str | None = None, runtime: str = "auto") -> LocalEncoder:
        """The encoder of a bundle, by name or folder.

        Raises:
            BundleError: There is none, it is damaged, or its parts do not fit each other.
        """
        return cls(Bundle.load(find(spec)), device, runtime)

    # --- photos ---

    def encode_images(self, images: Sequence[ImageLike]) -> np.ndarray:
        """Photos to what a collection stores.

        Args:
            images: Paths, encoded bytes, Pillow images or uint8 arrays (H, W, 3); an array of (image_size, image_size,
                3) is taken as it is.

        Returns:
            (B, d) float32, unit length.

        Raises:
            ImageError: A photo cannot be decoded; the message names it.
        """
        return self.embed_images(images, project=True)

    def embed_images(self, images: Sequence[ImageLike], *, project: bool = False) -> np.ndarray:
        """E_I (eq. 4): the flattened 7 x 7 x D maps, (B, 49 D) float32, or with ``project`` their (B, d) projection."""
        if isinstance(images, str | bytes | Path | Image.Image):
            raise CompsketchError(f"expected a list of photos, found one {type(images).__name__}; write [photo]")
        rows = []
        for start in range(0, len(images), BATCH):
            flat = self._image(self._pixels(images[start : start + BATCH], self.image_size))  # (b, 49 D)
            rows.append(self.projection.apply(flat) if project else flat)
        width = self.dim if project else self.projection.features
        return np.concatenate(rows) if rows else np.zeros((0, width), np.float32)

    def embed_photo_objects(self, images: Sequence[ImageLike]) -> np.ndarray:
        """f_i of whole photos, as if each were one object (the mSBIR baseline): (B, C) float32, unit length."""
        size = self._networks.objects.config.crop_size
        rows = [
            self._photographed(self._pixels(images[start : start + BATCH], size))
            for start in range(0, len(images), BATCH)
        ]
        return np.concatenate(rows) if rows else np.zeros((0, self._networks.objects.config.dim), np.float32)

    def _pixels(self, images: Sequence[ImageLike], size: int) -> np.ndarray:
        return np.stack([
            image if isinstance(image, np.ndarray) and image.shape == (size, size, 3) and image.dtype == np.uint8
            else load_photo(image, size).pixels
            for image in images
        ])  # fmt: skip

    # --- sketches ---

    def encode_sketches(self, sketches: Sequence[Sketch], *, words: bool = False) -> np.ndarray:
        """Sketches to what a collection is asked with.

        Args:
            sketches: Any number.
            words: Mix the vector of its label into each object that has one.

        Returns:
            (B, d) float32, unit length.

        Raises:
            CompsketchError: With ``words``, a label that the encoder does not know.
        """
        flat = self.embed_sketches(sketches, words=words)
        return self.projection.apply(flat) if len(flat) else np.zeros((0, self.dim), np.float32)

    def embed_sketches(self, sketches: Sequence[Sketch], *, words: bool = False) -> np.ndarray:
        """E_Q (eq. 3): the flattened output of f_t, (B, 49 D) float32."""
        if isinstance(sketches, Sketch):
            raise CompsketchError("expected a list of sketches, found one Sketch; write [sketch]")
        vectors = self.embed_objects([item for sketch in sketches for item in sketch.objects], words=words)
        starts = np.cumsum([0, *(len(sketch.objects) for sketch in sketches)])
        rows = []
        for first in range(0, len(sketches), BATCH):
            tensors = [
                query_tensor(vectors[start : start + len(sketch.objects)], sketch.boxes)
                for sketch, start in zip(sketches[first : first + BATCH], starts[first:], strict=False)
            ]
            rows.append(self._spatial(np.stack(tensors)))  # (b, 49 D)
        return np.concatenate(rows) if rows else np.zeros((0, self.projection.features), np.float32)

    def embed_objects(self, objects: Sequence[SketchObject], *, words: bool = False) -> np.ndarray:
        """f_s of single objects, (n, C) float32, unit length; what was drawn before is not encoded again."""
        names = [self.word_vector(item.label) if words and item.label else None for item in objects]
        keys = [_key(item) for item in objects]
        with self._lock:
            known = {key: self._remembered[key] for key in keys if key in self._remembered}
        new = {key: item for key, item in zip(keys, objects, strict=True) if key not in known}
        if new:
            config = self._networks.objects.config
            pictures = np.stack([raster(item.strokes, config.sketch_size, config.line_width) for item in new.values()])
            vectors = self._sketched(np.repeat(pictures[..., None], 3, axis=3))  # (n, C)
            known.update(zip(new, vectors, strict=True))
            self._remember(dict(zip(new, vectors, strict=True)))
        rows = [known[key] if name is None else _unit(known[key] + name) for key, name in zip(keys, names, strict=True)]
        return np.stack(rows) if rows else np.zeros((0, self._networks.objects.config.dim), np.float32)

    def embed_canvas(self, sketches: Sequence[Sketch]) -> np.ndarray:
        """f_s of whole canvases, all objects as one drawing (the mSBIR baseline): (B, C) float32, unit length."""
        return self.embed_objects(
            [SketchObject(tuple(s for item in sketch.objects for s in item.strokes)) for sketch in sketches]
        )

    def word_vector(self, label: str) -> np.ndarray:
        """The vector (C,) of a class by its name, Quick, Draw!'s or one that the class map joins to it.

        Raises:
            CompsketchError: The encoder was not trained on such a class; the message has the nearest names.
        """
        word = label.strip().lower()
        word = self._words.get(word) or self._words.get(str(read_class_map().words.get(word, "")).lower()) or ""
        if not word:
            near = difflib.get_close_matches(label.lower(), self._words, n=3, cutoff=0.5)
            hint = f"did you mean {', '.join(near)}?" if near else f"it knows {len(self._words)} words."
            raise CompsketchError(
                f"label {label!r} is no word that encoder {self.name!r} knows; {hint} Or search without words"
            )
        return self._class_vectors[self.vocabulary.index(word)]

    def _remember(self, vectors: Mapping[bytes, np.ndarray]) -> None:
        with self._lock:
            self._remembered.update(vectors)
            while len(self._remembered) > CACHED_OBJECTS:
                self._remembered.popitem(last=False)

    # --- networks ---

    @property
    def runtime(self) -> str:
        """What runs the image network, and why."""
        return self._image.reason

    @cached_property
    def _words(self) -> dict[str, str]:
        return {word.lower(): word for word in self.vocabulary}

    @cached_property
    def _class_vectors(self) -> np.ndarray:
        return self._networks.objects.class_vectors().numpy()

    @cached_property
    def _image(self) -> Runtime:
        branch, size = self._networks.image, self.image_size
        network = nn.Sequential(Normalise(branch.spec.mean, branch.spec.std), branch, nn.Flatten())
        return self._compile(network, np.zeros((1, size, size, 3), np.uint8))

    @cached_property
    def _sketched(self) -> Runtime:
        size = self._networks.objects.config.sketch_size
        example = np.full((1, size, size, 3), 255, np.uint8)
        return self._compile(_Sketched(self._networks.objects), example, sizes=(1, 2, 3))

    @cached_property
    def _photographed(self) -> Runtime:
        size = self._networks.objects.config.crop_size
        return self._compile(_Photographed(self._networks.objects), np.zeros((1, size, size, 3), np.uint8))

    @cached_property
    def _spatial(self) -> Runtime:
        channels = self._networks.objects.config.dim
        network = nn.Sequential(self._networks.spatial, nn.Flatten())
        return self._compile(network, np.ones((1, channels, CELLS, CELLS), np.float32), sizes=(1,))

    def _compile(self, network: nn.Module, example: np.ndarray, sizes: tuple[int, ...] = ()) -> Runtime:
        return compile_module(network.eval(), example, runtime=self._runtime, device=self.device, sizes=sizes)


def _check_sizes(networks: Networks, projection: Projection, name: str) -> None:
    """Each part may fit its own config and yet not the part that it hands its output to."""
    sizes = {
        "f_s gives and f_t takes": (networks.objects.config.dim, networks.spatial.config.channels),
        "f_t and T_I give": (networks.spatial.config.out_channels, networks.image.channels),
        "T_I gives and the projection takes": (GRID * GRID * networks.image.channels, projection.features),
    }
    apart = [f"{what} {one} and {other} channels" for what, (one, other) in sizes.items() if one != other]
    if apart:
        raise BundleError(f"bundle {name!r} has parts of different sizes: {'; '.join(apart)}; train or fetch it again")


def _key(item: SketchObject) -> bytes:
    """What tells one drawing from another: its strokes, wherever their box is said to be.

    A digest: the strokes themselves can take megabytes, times `CACHED_OBJECTS`.
    """
    digest = blake2b(digest_size=16)
    for stroke in item.strokes:
        digest.update(stroke.shape[1].to_bytes(8, "little"))
        digest.update(np.ascontiguousarray(stroke, np.float64).tobytes())
    return digest.digest()


def _unit(vector: np.ndarray) -> np.ndarray:
    return vector / np.linalg.norm(vector)
