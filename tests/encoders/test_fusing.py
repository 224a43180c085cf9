"""A network rewritten for inference computes what it did before."""

import pytest
import torch
from torch import Tensor, nn

from encoders import backbones
from encoders.fusing import fuse_conv_bn, round_to_bf16


@pytest.mark.parametrize("name", list(backbones.TABLE))
def test_a_fused_trunk_computes_the_same(name: str) -> None:
    torch.manual_seed(0)
    trunk = backbones.build(name)
    with torch.no_grad():
        trunk(torch.rand(4, 3, 64, 64))  # so that the norms' statistics are not those of a new network
    example = torch.rand(2, 3, 64, 64)
    with torch.inference_mode():
        expected = trunk.eval()(example)
        found = fuse_conv_bn(trunk, example)(example)
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-4 * float(expected.abs().max()))


def test_fusing_leaves_no_norm_in_a_trunk() -> None:
    trunk = backbones.build("efficientnet_lite0")
    example = torch.rand(1, 3, 64, 64)
    norms = [layer for layer in fuse_conv_bn(trunk, example).modules() if isinstance(layer, nn.BatchNorm2d)]
    assert len(norms) == 1  # the head's, which the trunk does not run
    with pytest.raises(RuntimeError, match="cannot be fused"):
        fuse_conv_bn(Shortcut(), torch.rand(2, 3, 4, 4))


class Shortcut(nn.Module):
    """Uses a convolution's output beside its norm."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3)
        nn.init.constant_(self.norm.weight, 7.0)

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv(x)
        return y + self.norm(y)


def test_rounding_keeps_each_kernels_sum() -> None:
    torch.manual_seed(0)
    conv = nn.Conv2d(64, 64, 3, groups=64)
    conv.weight.data -= conv.weight.data.mean((2, 3), keepdim=True)  # edge detectors: sums of zero
    exact = conv.weight.detach().clone()
    plain = exact.bfloat16().float()
    round_to_bf16(conv)
    rounded = conv.weight.detach()
    torch.testing.assert_close(rounded.bfloat16().float(), rounded, rtol=0, atol=0)
    assert ((rounded - exact).abs() <= exact.abs() * 2**-7).all()  # one of the two neighbours
    assert rounded.sum((2, 3)).abs().mean() < 0.1 * plain.sum((2, 3)).abs().mean()
    once = rounded.clone()
    round_to_bf16(conv)
    torch.testing.assert_close(conv.weight.detach(), once, rtol=0, atol=0)


def test_rounding_leaves_other_convolutions_alone() -> None:
    conv = nn.Conv2d(3, 8, 3)
    before = conv.weight.detach().clone()
    round_to_bf16(conv)
    assert torch.equal(conv.weight, before)
