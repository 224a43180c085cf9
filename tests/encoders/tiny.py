"""A bundle in small: its sizes, its networks, photos and sketches for it, and its equations run one by one."""

from __future__ import annotations

from dataclasses import asdict

import numpy as np
import torch
from PIL import Image
from torch import nn

from encoders import backbones
from encoders.indexing import IndexingBranch, IndexingConfig
from encoders.local import Networks
from encoders.objects import ObjectConfig, normalise
from encoders.projection import Projection
from encoders.query import query_tensor, query_tensors
from encoders.raster import raster
from encoders.sketch import Sketch, SketchObject
from encoders.spatial import SpatialConfig

C, D, DIM, SIZE = 16, 8, 16, 64
VOCABULARY = ["Cat", "dog", "motorbike", "sailboat"]
CONFIG = {
    "name": "tiny",
    "objects": asdict(ObjectConfig(dim=C, hidden=32, sketch_size=32, crop_size=48)),
    "indexing": asdict(IndexingConfig(image_size=SIZE, hidden=16, channels=D)),
    "spatial": asdict(SpatialConfig(channels=C, widths=(16, 24), out_channels=D)),
    "vocabulary": VOCABULARY,
    "dim": DIM,
}


def pictures(count: int, size: tuple[int, int] = (100, 70), seed: int = 1) -> list[Image.Image]:
    """Smooth random photos: what a stretch does to noise depends on the last bit."""
    rng = np.random.default_rng(seed)
    small = [Image.fromarray(rng.integers(0, 256, (5, 5, 3), dtype=np.uint8)) for _ in range(count)]
    return [picture.resize(size, Image.Resampling.BICUBIC) for picture in small]


def layouts(count: int) -> np.ndarray:
    """Query tensors of two random objects each: (count, C, 31, 31)."""
    rng = np.random.default_rng(2)
    vectors = rng.normal(size=(count, 2, C))
    start = rng.uniform(0, 0.5, (count, 2, 2))
    boxes = np.concatenate([start, start + rng.uniform(0.1, 0.5, start.shape)], axis=2)
    return query_tensors(list(vectors / np.linalg.norm(vectors, axis=2, keepdims=True)), list(boxes))


@torch.no_grad()
def calibrated() -> Networks:
    """Networks as after training: ImageNet trunks, random layers, batch statistics of what they will see."""
    torch.manual_seed(0)
    networks = Networks(CONFIG).eval()
    networks.image.load_state_dict(IndexingBranch(IndexingConfig(**CONFIG["indexing"]), pretrained=True).state_dict())
    trunk = backbones.build(CONFIG["indexing"]["backbone"], pretrained=True).state_dict()
    for own in (networks.objects.sketch_trunk, networks.objects.photo_trunk):
        own.load_state_dict(trunk)
    learned = (networks.image.reduce, networks.spatial, networks.objects.sketch_fc, networks.objects.photo_fc)
    for module in (module for part in learned for module in part.train().modules()):
        if isinstance(module, (nn.BatchNorm1d, nn.BatchNorm2d)):
            module.momentum = 1.0
    spec = networks.image.spec

    def photos(side: int) -> torch.Tensor:
        batch = np.stack([np.asarray(picture) for picture in pictures(32, (side, side), seed=3)])
        return normalise(torch.from_numpy(batch), spec.mean, spec.std)

    strokes = np.random.default_rng(4).uniform(0, 9, (32, 1, 2, 6))
    drawings = torch.from_numpy(np.stack([raster(list(drawing), 32, 3.0) for drawing in strokes]))
    networks.image(photos(SIZE))
    networks.objects.f_i(photos(48))
    networks.objects.f_s(normalise(drawings, spec.mean, spec.std))
    networks.spatial(torch.from_numpy(layouts(32)))
    return networks.eval()


ZIGZAG = ([[10, 30, 50, 70], [20, 60, 20, 60]],)
LOOP = ([[0, 40, 40, 0, 0], [0, 0, 30, 30, 0]], [[5, 35], [15, 15]])


def sketch(labels: tuple[str | None, str | None] = (None, None)) -> Sketch:
    """Two objects whose boxes overlap."""
    first = SketchObject(ZIGZAG, labels[0])
    second = SketchObject(LOOP, labels[1], bbox=(40, 30, 150, 110))
    return Sketch(200, 120, (first, second))


def cosines(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return (a * b).sum(axis=1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)


@torch.inference_mode()
def by_hand(networks: Networks, projection: Projection, drawn: Sketch) -> tuple[np.ndarray, np.ndarray]:
    """f_s, eq. 1, f_t and the projection of one sketch: the flattened map (49 D,) and the vector (d,)."""
    spec, config = networks.objects.sketch_trunk.spec, networks.objects.config
    vectors = []
    for item in drawn.objects:
        picture = torch.from_numpy(np.array(raster(item.strokes, config.sketch_size, config.line_width)))[None]
        seen = [networks.objects.f_s(normalise(side, spec.mean, spec.std))[0] for side in (picture, picture.flip(2))]
        vectors.append(torch.nn.functional.normalize(seen[0] + seen[1], dim=0).numpy())
    tensor = query_tensor(np.stack(vectors), drawn.boxes)
    flat = networks.spatial(torch.from_numpy(tensor)[None]).flatten().numpy()
    projected = projection.matrix @ (flat / np.linalg.norm(flat)) + projection.offset
    return flat, projected / np.linalg.norm(projected)
