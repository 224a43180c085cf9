"""f_s and f_i: one sketched or photographed object to a vector of C = 256 (section 3.1, Fig. 2a).

Each domain has a trunk and an fc layer of its own; the last layer, from which the common embedding is read, is shared.
Both vectors lie on the unit sphere, where the rows of `classes` are the vectors of the training classes' names.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from encoders import backbones


@dataclass(frozen=True)
class ObjectConfig:
    """Sizes of the object encoders.

    Attributes:
        sketch_backbone: Row of `backbones.TABLE` for f_s; it is fine-tuned as a whole.
        photo_backbone: Row of `backbones.TABLE` for f_i; it stays as ImageNet made it.
        dim: C, 256 in the paper.
        hidden: Width of each branch's own fc layer.
        sketch_size: Side in pixels of the raster that f_s sees.
        line_width: Width of its strokes in pixels.
        crop_size: Side in pixels of the stretched crop that f_i sees.
    """

    sketch_backbone: str = "efficientnet_lite0"
    photo_backbone: str = "efficientnet_lite0"
    dim: int = 256
    hidden: int = 512
    sketch_size: int = 128
    line_width: float = 3.0
    crop_size: int = 160


class Branch(nn.Sequential):
    """A domain's own fc layer: (B, P) pooled features -> (B, hidden)."""

    def __init__(self, features: int, hidden: int, dropout: float) -> None:
        super().__init__(
            nn.BatchNorm1d(features, affine=False),  # pooled features differ in scale by two orders
            nn.Linear(features, hidden),
            nn.BatchNorm1d(hidden),
            nn.ReLU(inplace=True),
            nn.Dropout(dropout),
        )


class Pooled(nn.Module):
    """A trunk as a network of pooled features, (B, 3, S, S) to (B, P)."""

    def __init__(self, trunk: backbones.Backbone) -> None:
        super().__init__()
        self.trunk = trunk

    def forward(self, images: Tensor) -> Tensor:
        """See the class."""
        return self.trunk.pooled(images)


class ObjectEncoder(nn.Module):
    """f_s and f_i with their shared last layer, and the class vectors that training pulled them to.

    Args:
        config: Sizes.
        classes: Number of training classes; ``class_vectors()`` has a row for each.
        pretrained: Start both trunks from ImageNet weights.
    """

    def __init__(self, config: ObjectConfig, classes: int, pretrained: bool = False) -> None:
        super().__init__()
        self.config = config
        self.sketch_trunk = backbones.build(config.sketch_backbone, pretrained)
        self.photo_trunk = backbones.build(config.photo_backbone, pretrained)
        self.sketch_fc = Branch(self.sketch_trunk.spec.head_channels, config.hidden, dropout=0.2)
        self.photo_fc = Branch(self.photo_trunk.spec.head_channels, config.hidden, dropout=0.3)
        self.shared = nn.Linear(config.hidden, config.dim)
        self.classes = nn.Parameter(torch.randn(classes, config.dim) / config.dim**0.5)
        self.log_scale = nn.Parameter(torch.tensor(2.7))  # of the classifier's cosines in training; e^2.7 = 15

    def f_s(self, rasters: Tensor) -> Tensor:
        """Sketches to the sphere.

        Args:
            rasters: (B, 3, S, S) normalised as the trunk wants it, ink dark on white.

        Returns:
            (B, C), unit length.
        """
        return functional.normalize(self.shared(self.sketch_fc(self.sketch_trunk.pooled(rasters))).float(), dim=1)

    def f_i(self, crops: Tensor) -> Tensor:
        """Photos of one object, (B, 3, S, S) normalised, to the sphere: (B, C), unit length."""
        return self.f_i_pooled(self.photo_trunk.pooled(crops))

    def f_i_pooled(self, features: Tensor) -> Tensor:
        """The same from the trunk's pooled features (B, P), which training computes once."""
        return functional.normalize(self.shared(self.photo_fc(features)).float(), dim=1)

    def class_vectors(self) -> Tensor:
        """(K, C) unit vectors: where the objects of each training class gather, sketched or photographed."""
        return functional.normalize(self.classes, dim=1)


def normalise(pixels: Tensor, mean: Sequence[float], std: Sequence[float]) -> Tensor:
    """uint8 RGB (B, S, S, 3), or gray (B, S, S), to the float (B, 3, S, S) a trunk wants."""
    if pixels.ndim == 3:
        pixels = pixels[..., None].expand(-1, -1, -1, 3)
    x = pixels.permute(0, 3, 1, 2).float() / 255  # (B, 3, S, S)
    shape = (1, 3, 1, 1)
    return (x - torch.tensor(mean, device=x.device).view(shape)) / torch.tensor(std, device=x.device).view(shape)
