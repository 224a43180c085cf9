"""f_s and f_i: one sketched or photographed object to a vector of C = 256 (section 3.1, Fig. 2a).

Each domain has a trunk and an fc layer of its own; the last layer, from which the common embedding is read, is shared.
With `share_late` the weights of the trunks' late layers and of the fc layers are shared, too, as in mSBIR. Both vectors
lie on the unit sphere, where the rows of `classes` are the vectors of the training classes' names.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from encoders import backbones
from encoders.errors import CompsketchError


@dataclass(frozen=True)
class ObjectConfig:
    """Sizes of the object encoders.

    Attributes:
        sketch_backbone: Row of `backbones.TABLE` for f_s.
        photo_backbone: Row of `backbones.TABLE` for f_i.
        dim: C, 256 in the paper.
        hidden: Width of each branch's fc layer before the shared one; 0 leaves it out, as in the paper.
        sketch_size: Side in pixels of the raster that f_s sees.
        line_width: Width of its strokes in pixels.
        crop_size: Side in pixels of the stretched crop that f_i sees.
        share_late: Both branches have one set of weights from the trunk's last layer at stride 16 on, which is
            GoogLeNet's inception4e, where mSBIR's branches meet. Batch statistics stay each branch's own: those of
            sketches are not those of photos.
    """

    sketch_backbone: str = "efficientnet_lite0"
    photo_backbone: str = "efficientnet_lite0"
    dim: int = 256
    hidden: int = 512
    sketch_size: int = 128
    line_width: float = 3.0
    crop_size: int = 160
    share_late: bool = False


class Branch(nn.Sequential):
    """A domain's own fc layer: (B, P) pooled features -> (B, hidden), or (B, P) where hidden is 0."""

    def __init__(self, features: int, hidden: int, dropout: float) -> None:
        layers: list[nn.Module] = [nn.BatchNorm1d(features, affine=False)]  # pooled features differ by two orders
        if hidden:
            layers += [nn.Linear(features, hidden), nn.BatchNorm1d(hidden), nn.ReLU(inplace=True)]
        super().__init__(*layers, nn.Dropout(dropout))


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

    Raises:
        CompsketchError: Two trunks that are to share layers, or to meet without fc layers, are not alike.
    """

    def __init__(self, config: ObjectConfig, classes: int, pretrained: bool = False) -> None:
        super().__init__()
        self.config = config
        self.sketch_trunk = backbones.build(config.sketch_backbone, pretrained)
        self.photo_trunk = backbones.build(config.photo_backbone, pretrained)
        self.sketch_fc = Branch(self.sketch_trunk.spec.head_channels, config.hidden, dropout=0.2)
        self.photo_fc = Branch(self.photo_trunk.spec.head_channels, config.hidden, dropout=0.3)
        if (config.share_late or not config.hidden) and config.sketch_backbone != config.photo_backbone:
            raise CompsketchError(
                f"{config.sketch_backbone} and {config.photo_backbone} cannot share layers: choose one trunk for both"
            )
        if config.share_late:
            for own, other in zip(self.late_layers("sketch"), self.late_layers("photo"), strict=True):
                share_weights(own, other)
        self.shared = nn.Linear(config.hidden or self.sketch_trunk.spec.head_channels, config.dim)
        self.classes = nn.Parameter(torch.randn(classes, config.dim) / config.dim**0.5)
        self.log_scale = nn.Parameter(torch.tensor(2.7))  # of the classifier's cosines in training; e^2.7 = 15

    def late_layers(self, branch: str) -> list[nn.Module]:
        """What `share_late` shares, of the branch "sketch" or "photo": the trunk from `Spec.early` on, and the fc."""
        trunk: backbones.Backbone = getattr(self, f"{branch}_trunk")
        head = [] if trunk.head is None else [trunk.head]
        return [trunk.early[-1], trunk.late, *head, getattr(self, f"{branch}_fc")]

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


def share_weights(own: nn.Module, other: nn.Module) -> None:
    """Make ``other``, of the same build, use ``own``'s parameters; buffers, such as batch statistics, stay its own."""
    for mine, theirs in zip(own.modules(), other.modules(), strict=True):
        for name, weight in list(mine.named_parameters(recurse=False)):
            setattr(theirs, name, weight)


def normalise(pixels: Tensor, mean: Sequence[float], std: Sequence[float]) -> Tensor:
    """uint8 RGB (B, S, S, 3), or gray (B, S, S), to the float (B, 3, S, S) a trunk wants."""
    if pixels.ndim == 3:
        pixels = pixels[..., None].expand(-1, -1, -1, 3)
    x = pixels.permute(0, 3, 1, 2).float() / 255  # (B, 3, S, S)
    shape = (1, 3, 1, 1)
    return (x - torch.tensor(mean, device=x.device).view(shape)) / torch.tensor(std, device=x.device).view(shape)
