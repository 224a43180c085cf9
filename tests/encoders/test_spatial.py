"""f_t: sizes, the paper's order of layers, and the numbers against plain functions."""

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from encoders.query import layout, paint
from encoders.spatial import SpatialConfig, SpatialEncoder

TINY = SpatialConfig(channels=3, widths=(4, 5), out_channels=6)


def encoder(config: SpatialConfig = TINY) -> SpatialEncoder:
    torch.manual_seed(0)
    return SpatialEncoder(config).eval()


def test_two_pools_take_31_cells_to_15_and_to_7():
    maps = torch.zeros(2, 3, 31, 31)
    sides = []
    for layer in encoder():
        maps = layer(maps)
        if isinstance(layer, nn.MaxPool2d):
            sides.append(tuple(maps.shape[2:]))
    assert sides == [(15, 15), (7, 7)]
    assert maps.shape == (2, 6, 7, 7)


@pytest.mark.parametrize("relu", [True, False])
def test_three_convolutions_with_pool_norm_and_relu_in_the_papers_order(relu):
    config = SpatialConfig(channels=3, widths=(4, 5), out_channels=6, relu=relu)
    kinds = [type(layer) for layer in encoder(config)]
    end = [nn.BatchNorm2d, nn.ReLU] if relu else []
    assert kinds == [nn.Conv2d, nn.MaxPool2d, nn.BatchNorm2d, nn.ReLU] * 2 + [nn.Conv2d, *end]
    widths = [(layer.in_channels, layer.out_channels, layer.kernel_size)
              for layer in encoder(config) if isinstance(layer, nn.Conv2d)]  # fmt: skip
    assert widths == [(3, 4, (3, 3)), (4, 5, (3, 3)), (5, 6, (3, 3))]


def test_the_papers_sizes():
    f_t = encoder(SpatialConfig(channels=256, widths=(256, 512), out_channels=832, relu=True))
    with torch.inference_mode():
        maps = f_t(torch.zeros(1, 256, 31, 31))
    assert maps.shape == (1, 832, 7, 7)
    assert maps.flatten(1).shape == (1, 40768)
    assert (maps >= 0).all()


def test_the_output_is_that_of_the_functions_written_out():
    f_t = encoder().train()
    batch = torch.from_numpy(np.random.default_rng(1).normal(size=(4, 3, 31, 31)).astype(np.float32))
    f_t(batch)  # gives the norms statistics that are not 0 and 1
    w = f_t.eval().state_dict()
    x = batch
    for conv, norm in ((0, 2), (4, 6)):
        x = functional.conv2d(x, w[f"{conv}.weight"], w[f"{conv}.bias"], padding=1)
        x = functional.max_pool2d(x, 3, 2)
        mean, var = (w[f"{norm}.{name}"].view(1, -1, 1, 1) for name in ("running_mean", "running_var"))
        gain, bias = (w[f"{norm}.{name}"].view(1, -1, 1, 1) for name in ("weight", "bias"))
        x = ((x - mean) / (var + 1e-5).sqrt() * gain + bias).clamp_min(0)
    x = functional.conv2d(x, w["8.weight"], w["8.bias"], padding=1)
    assert torch.allclose(f_t(batch), x, atol=1e-5)


def test_without_the_last_relu_the_output_is_signed():
    maps = encoder()(torch.randn(2, 3, 31, 31, generator=torch.Generator().manual_seed(0)))
    assert (maps < 0).any()
    assert (maps > 0).any()


@pytest.mark.parametrize("shape", [(1, 4, 31, 31), (1, 3, 31, 30), (1, 3, 30, 31), (3, 31, 31), (1, 1, 3, 31, 31)])
def test_another_shape_is_refused_with_both_shapes(shape):
    with pytest.raises(ValueError, match=r"expected query tensors \(B, 3, 31, 31\), found \(") as caught:
        encoder()(torch.zeros(shape))
    assert str(shape) in str(caught.value)


def test_what_is_painted_gives_what_its_query_tensors_give_and_the_same_gradients():
    rng = np.random.default_rng(2)
    corners = [np.sort(rng.uniform(0, 1, (count, 2, 2)), axis=1).reshape(count, 4) for count in (1, 2, 4)]
    paintings = [paint(layout(boxes), rng.normal(size=(len(boxes), 3))) for boxes in corners]
    starts = np.cumsum([0, *(len(painting.vectors) for painting in paintings[:-1])])
    cells = torch.from_numpy(np.stack([p.cells + start for p, start in zip(paintings, starts, strict=True)]))
    vectors = torch.from_numpy(np.concatenate([painting.vectors for painting in paintings]))
    tensors = torch.from_numpy(np.stack([painting.spread() for painting in paintings]))
    f_t = encoder()
    painted, spread = f_t.painted(cells, vectors), f_t(tensors)
    torch.testing.assert_close(painted, spread, atol=1e-5, rtol=1e-5)
    gradients = [torch.autograd.grad(maps.square().sum(), f_t[0].weight)[0] for maps in (painted, spread)]
    torch.testing.assert_close(*gradients, atol=1e-4, rtol=1e-4)
