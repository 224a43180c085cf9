"""f_t: the spatial encoder that takes query tensors into the search embedding (section 3.1, eq. 3).

    T (B, C, 31, 31) -> conv, pool -> (B, C', 15, 15) -> conv, pool -> (B, C'', 7, 7) -> conv -> (B, D, 7, 7)

Three 3 x 3 convolutions interleaved by two max-pools of stride 2, each pool followed by batch normalisation and ReLU.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

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

    def painted(self, cells: Tensor, vectors: Tensor) -> Tensor:
        """The same of query tensors that are not spread over their cells (`query.Painting`), for training.

        Few cells of a query differ, so the first convolution, two thirds of all work, takes each vector through each
        of its 3 x 3 taps once; a cell then is a sum of nine rows.

        Args:
            cells: (B, 31, 31) integers, row of ``vectors`` that each cell holds.
            vectors: (V, C), those of all B queries.

        Returns:
            (B, D, 7, 7).
        """
        conv, *rest = self
        weight, bias = conv.get_parameter("weight"), conv.get_parameter("bias")
        (B, _, _), (V, C) = cells.shape, vectors.shape
        taps = (vectors @ weight.permute(1, 2, 3, 0).reshape(C, -1)).view(V * 9, -1)  # (9 V, C')
        taps = torch.cat([taps, taps.new_zeros(1, taps.shape[1])])  # the last row lies beyond the canvas
        frame = functional.pad(cells, (1, 1, 1, 1), value=V)  # (B, 33, 33)
        near = frame.unfold(1, CELLS, 1).unfold(2, CELLS, 1).reshape(B, 9, CELLS, CELLS)  # cell of each tap
        rows = (near * 9 + torch.arange(9, device=near.device).view(1, 9, 1, 1)).clamp_max(V * 9)
        maps = functional.embedding_bag(rows.permute(0, 2, 3, 1).reshape(-1, 9), taps, mode="sum")  # (B 31 31, C')
        maps = (maps + bias).view(B, CELLS, CELLS, -1).permute(0, 3, 1, 2)  # (B, C', 31, 31)
        for layer in rest:
            maps = layer(maps)
        return maps  # (B, D, 7, 7)
