"""T_I: the image indexing branch (section 3.2, eq. 4): a trunk's map, 7 x 7 x D.

The photo is stretched to a square, so that its frame is the canvas'. Where the trunk sees more pixels than 224 its map
is larger than 7 x 7 and is averaged down; where D is to be smaller than the trunk's, two learned 1 x 1 convolutions
reduce it.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn

from encoders import backbones
from encoders.errors import CompsketchError

GRID = 7  # cells a side of the map, in the paper and here


@dataclass(frozen=True)
class IndexingConfig:
    """Sizes of the image side.

    Attributes:
        backbone: Row of `backbones.TABLE`.
        image_size: Side in pixels of the stretched photo.
        hidden: Width between the two 1 x 1 convolutions.
        channels: D after them; 0 keeps the trunk's map as it is, as in the paper.
        trained: How many of the trunk's last layers learn: 0 none; -1 all, as in the paper.
    """

    backbone: str = "efficientnet_lite0"
    image_size: int = 320
    hidden: int = 256
    channels: int = 128
    trained: int = 1


class IndexingBranch(nn.Module):
    """T_I, in the parts that training needs: ``frozen`` is computed once a photo; ``last`` and ``reduce`` learn.

    Raises:
        CompsketchError: ``trained`` is not a number of layers that the trunk has.
    """

    def __init__(self, config: IndexingConfig, pretrained: bool = False) -> None:
        super().__init__()
        trunk = backbones.build(config.backbone, pretrained)
        self.config, self.spec = config, trunk.spec
        layers = [*trunk.early, *trunk.late]
        if not -1 <= config.trained <= len(layers):
            raise CompsketchError(
                f"trained is {config.trained}, but {config.backbone} has {len(layers)} layers: give 0 to that, or -1"
            )
        cut = 0 if config.trained < 0 else len(layers) - config.trained
        self.frozen = nn.Sequential(*layers[:cut])
        self.last = nn.Sequential(*layers[cut:])
        self.pool = nn.AdaptiveAvgPool2d(GRID)
        self.reduce = nn.Sequential() if not config.channels else nn.Sequential(
            nn.BatchNorm2d(trunk.spec.channels, affine=False),  # the linear bottleneck's channels differ in scale
            nn.Conv2d(trunk.spec.channels, config.hidden, 1, bias=False),
            nn.BatchNorm2d(config.hidden),
            nn.ReLU(inplace=True),
            nn.Conv2d(config.hidden, config.channels, 1),
        )  # fmt: skip

    @property
    def channels(self) -> int:
        """D."""
        return self.config.channels or self.spec.channels

    def forward(self, images: Tensor) -> Tensor:
        """(B, 3, S, S) normalised RGB to T_I, (B, D, 7, 7)."""
        return self.from_frozen(self.frozen(images))

    def from_frozen(self, features: Tensor) -> Tensor:
        """What ``frozen`` gave, (B, E', s, s), to T_I, (B, D, 7, 7)."""
        return self.reduce(self.pool(self.last(features)))
