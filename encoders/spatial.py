"""f_t: the spatial encoder that takes query tensors into the search embedding (section 3.1, eq. 3).

    T (B, C, 31, 31) -> conv, pool -> (B, C', 15, 15) -> conv, pool -> (B, C'', 7, 7) -> conv -> (B, D, 7, 7)

Three 3 x 3 convolutions interleaved by two max-pools of stride 2, each pool followed by batch normalisation and ReLU.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn

from encoders.query import CELLS


@dataclass(frozen=True)
class SpatialConfig:
    """Sizes of f_t.

    Attributes:
        channels: C, what an object's vector has.
        widths: Channels after the first and the second convolution.
        out_channels: D, the image side's; 832 with the paper's GoogLeNet.
        relu: End in BN and ReLU, as for a trunk whose last layer is rectified; a trunk that ends in a linear layer has
            signed features, which no rectified output could meet.
    """

    channels: int = 256
    widths: tuple[int, int] = (256, 512)
    out_channels: int = 128
    relu: bool = False


class SpatialEncoder(nn.Sequential):
    """f_t; see the module. Flattened, its output is f_t*, the embedding of a query."""

    def __init__(self, config: SpatialConfig) -> None:
        first, second = config.widths
        layers: list[nn.Module] = [
            nn.Conv2d(config.channels, first, 3, padding=1),
            nn.MaxPool2d(3, stride=2),  # 31 -> 15
            nn.BatchNorm2d(first),
            nn.ReLU(inplace=True),
            nn.Conv2d(first, second, 3, padding=1),
            nn.MaxPool2d(3, stride=2),  # 15 -> 7
            nn.BatchNorm2d(second),
            nn.ReLU(inplace=True),
            nn.Conv2d(second, config.out_channels, 3, padding=1),
        ]
        if config.relu:
            layers += [nn.BatchNorm2d(config.out_channels), nn.ReLU(inplace=True)]
        super().__init__(*layers)
        self.config = config

    def forward(self, tensors: Tensor) -> Tensor:
        """Query tensors to maps.

        Args:
            tensors: (B, C, 31, 31), T_Q or T_Q'.

        Returns:
            (B, D, 7, 7).

        Raises:
            ValueError: Another number of channels or cells.
        """
        channels = self[0].in_channels
        if tensors.ndim != 4 or tuple(tensors.shape[1:]) != (channels, CELLS, CELLS):
            raise ValueError(f"expected query tensors (B, {channels}, {CELLS}, {CELLS}), found {tuple(tensors.shape)}")
        return super().forward(tensors)  # (B, D, 7, 7)
