"""What every bundle's encoder has: T_I, f_t and the projection, from photos and query tensors to vectors of one space.

What the objects of a query are painted with is a subclass' own: vectors of sketches (`local.LocalEncoder`) or of names
(`semir.SemirEncoder`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cached_property, partial
from pathlib import Path
from typing import Any, Generic, TypeVar

import numpy as np
import torch
from PIL import Image
from torch import nn

from encoders import tracing
from encoders.bundle import PROJECTION, Bundle
from encoders.errors import BundleError, CompsketchError
from encoders.images import load_photo
from encoders.indexing import GRID, IndexingBranch, IndexingConfig
from encoders.projection import Projection
from encoders.query import CELLS, query_tensor
from encoders.runtimes import Normalise, Runtime, compile_module
from encoders.sketch import Sketch
from encoders.spatial import SpatialConfig, SpatialEncoder
from encoders.weighing import Subset, weighted

ImageLike = str | Path | bytes | Image.Image | np.ndarray
BATCH = 16  # rows a network sees at once: more gain nothing on a CPU and take memory
GPU_BATCH = 64  # the same on a GPU


class SpatialNetworks(nn.Module):
    """The networks that every bundle has, under the names that their tensors have there.

    Attributes:
        image: T_I.
        spatial: f_t.
    """

    def __init__(self, config: Mapping[str, Any]) -> None:
        super().__init__()
        indexing, spatial = dict(config["indexing"]), dict(config["spatial"])
        spatial["widths"] = tuple(spatial["widths"])
        self.image = IndexingBranch(IndexingConfig(**indexing))
        self.spatial = SpatialEncoder(SpatialConfig(**spatial))

    @property
    def painted(self) -> tuple[str, int]:
        """What gives the vectors of objects, in words, and their size C."""
        raise NotImplementedError

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


Own = TypeVar("Own", bound=SpatialNetworks)


class PhotoEncoder(Generic[Own]):
    """A bundle's image side and f_t on this machine; each network is compiled when it is first needed.

    Args:
        bundle: As `Bundle.load` gives it.
        networks: Makes the bundle's networks of its configuration.
        device: "cpu", "cuda", "cuda:N"; None takes a GPU where there is one.
        runtime: See `runtimes.compile_module`.

    Attributes:
        name: The bundle's name.
        dim: d.
        features: F = 49 D, what the projection takes.
        fingerprint: The bundle's.
        networks: The fingerprint of the bundle without its projection.
        device: Where it runs.
        image_size: Side in pixels of the stretched photo.
        vocabulary: Class words that it was trained with.
    """

    def __init__(
        self, bundle: Bundle, networks: Callable[[Mapping[str, Any]], Own], device: str | None, runtime: str
    ) -> None:
        config = bundle.config
        try:
            made = networks(config)
            self.name = str(config["name"])
        except (KeyError, RuntimeError, TypeError, ValueError) as error:  # RuntimeError: torch, of a negative size
            raise BundleError(
                f"the bundle's config.json is not an encoder's: {error}; train or fetch it again"
            ) from error
        own = {key: value for key, value in bundle.tensors.items() if not key.startswith(PROJECTION)}
        made.load_tensors(own, self.name)
        self._networks = made.eval().requires_grad_(False)
        self.projection = Projection.from_tensors(bundle.tensors)
        _check_sizes(made, self.projection, self.name)
        self.dim, self.features = self.projection.dim, self.projection.features
        self.fingerprint = bundle.fingerprint
        self.networks = bundle.networks
        self.device = device or ("cuda" if torch.cuda.is_available() else "cpu")
        self.image_size = made.image.config.image_size
        self.vocabulary: list[str] = list(config["vocabulary"])
        self._runtime = runtime

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
        rows, batch = [], GPU_BATCH if self.device.startswith("cuda") else BATCH
        for start in range(0, len(images), batch):
            decoded = pixels(images[start : start + batch], self.image_size)
            with tracing.span("T_I", {"compsketch.rows": len(decoded)}):
                flat = self._image(decoded)  # (b, 49 D)
            rows.append(self.project(flat) if project else flat)
        width = self.dim if project else self.features
        return np.concatenate(rows) if rows else np.zeros((0, width), np.float32)

    def project(self, features: np.ndarray) -> np.ndarray:
        """What `embed_images` gave, (B, F) in single or half precision, to what a collection stores: (B, d) float32."""
        if not len(features):
            return np.zeros((0, self.dim), np.float32)
        with tracing.span("projection", {"compsketch.rows": len(features)}):
            return self.projection.apply(features)

    def embed_painted(self, sketches: Sequence[Sketch], vectors: np.ndarray) -> np.ndarray:
        """E_Q: eq. 3, the flattened output of f_t, with objects weighed as `weighing` has it.

        Args:
            sketches: Layouts.
            vectors: (n, C) of all their objects, one sketch after another.

        Returns:
            (B, 49 D) float32.
        """
        weights = [[item.weight for item in sketch.objects] for sketch in sketches]
        return weighted(partial(self.embed_subsets, sketches, vectors), weights)

    def embed_subsets(
        self, sketches: Sequence[Sketch], vectors: np.ndarray, keys: Sequence[tuple[int, Subset]]
    ) -> np.ndarray:
        """e(S): eq. 3 of some objects of a sketch, whatever their weights; of none, the empty canvas.

        Args:
            sketches: Layouts.
            vectors: (n, C) of all their objects, one sketch after another.
            keys: k pairs of a sketch and places of objects in it.

        Returns:
            (k, 49 D) float32.
        """
        starts = np.cumsum([0, *(len(sketch.objects) for sketch in sketches)])
        boxes = [sketch.boxes for sketch in sketches]
        empty = np.zeros((self._networks.spatial.config.channels, CELLS, CELLS), np.float32)
        rows = []
        for first in range(0, len(keys), BATCH):
            tensors = [
                query_tensor(vectors[starts[row] + list(subset)], boxes[row][list(subset)]) if subset else empty
                for row, subset in keys[first : first + BATCH]
            ]
            with tracing.span("f_t", {"compsketch.rows": len(tensors)}):
                rows.append(self._spatial(np.stack(tensors)))  # (b, 49 D)
        return np.concatenate(rows) if rows else np.zeros((0, self.projection.features), np.float32)

    @property
    def runtime(self) -> str:
        """What runs the image network, and why."""
        return self._image.reason

    @cached_property
    def _image(self) -> Runtime:
        branch, size = self._networks.image, self.image_size
        network = nn.Sequential(Normalise(branch.spec.mean, branch.spec.std), branch, nn.Flatten())
        return self._compile(network, np.zeros((1, size, size, 3), np.uint8))

    @cached_property
    def _spatial(self) -> Runtime:
        channels = self._networks.spatial.config.channels
        network = nn.Sequential(self._networks.spatial, nn.Flatten())
        return self._compile(network, np.ones((1, channels, CELLS, CELLS), np.float32), sizes=(1,))

    def _compile(self, network: nn.Module, example: np.ndarray, sizes: tuple[int, ...] = ()) -> Runtime:
        return compile_module(network.eval(), example, runtime=self._runtime, device=self.device, sizes=sizes)


def pixels(images: Sequence[ImageLike], size: int) -> np.ndarray:
    """Photos stretched to squares, (B, size, size, 3) uint8; an array that already is one is taken as it is."""
    return np.stack([
        image if isinstance(image, np.ndarray) and image.shape == (size, size, 3) and image.dtype == np.uint8
        else load_photo(image, size).pixels
        for image in images
    ])  # fmt: skip


def _check_sizes(networks: SpatialNetworks, projection: Projection, name: str) -> None:
    """Each part may fit its own config and yet not the part that it hands its output to."""
    giver, channels = networks.painted
    sizes = {
        f"{giver} and f_t takes": (channels, networks.spatial.config.channels),
        "f_t and T_I give": (networks.spatial.config.out_channels, networks.image.channels),
        "T_I gives and the projection takes": (GRID * GRID * networks.image.channels, projection.features),
    }
    apart = [f"{what} {one} and {other} channels" for what, (one, other) in sizes.items() if one != other]
    if apart:
        raise BundleError(f"bundle {name!r} has parts of different sizes: {'; '.join(apart)}; train or fetch it again")
