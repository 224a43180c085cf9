"""T_I: the trunk's map, whole or in the two parts that training runs it in."""

import numpy as np
import pytest
import torch

from encoders import backbones
from encoders.indexing import IndexingBranch, IndexingConfig

TINY = IndexingConfig(image_size=64, hidden=8, channels=6)


@pytest.fixture(scope="module")
def reduced() -> IndexingBranch:
    torch.manual_seed(0)
    return IndexingBranch(TINY, pretrained=True).eval()


def photos(side: int, count: int = 2) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(0).uniform(-1, 1, (count, 3, side, side)).astype(np.float32))


@torch.inference_mode()
def test_frozen_and_the_rest_make_the_whole(reduced):
    images = photos(64)
    features = reduced.frozen(images)
    assert features.shape == (2, 192, 2, 2)  # stride 32
    assert torch.equal(reduced.from_frozen(features), reduced(images))


@torch.inference_mode()
@pytest.mark.parametrize("side", [64, 224, 320])
def test_any_photo_becomes_seven_by_seven(reduced, side):
    assert reduced(photos(side)).shape == (2, 6, 7, 7)
    assert reduced.channels == 6


@torch.inference_mode()
def test_the_reduction_is_two_pointwise_layers_on_the_averaged_map(reduced):
    """A larger map than 7 x 7 is averaged down; then every cell for itself, norm, matrix, norm, ReLU, matrix."""
    images = photos(448)
    trunk = backbones.build("efficientnet_lite0", pretrained=True).eval()
    maps = trunk(images)  # (2, 320, 14, 14)
    cells = maps.reshape(2, 320, 7, 2, 7, 2).mean((3, 5)).permute(0, 2, 3, 1)  # (2, 7, 7, 320)
    norm, first, inner, _, last = reduced.reduce
    x = (cells - norm.running_mean) / (norm.running_var + 1e-5).sqrt()
    x = x @ first.weight[:, :, 0, 0].T
    x = ((x - inner.running_mean) / (inner.running_var + 1e-5).sqrt() * inner.weight + inner.bias).clamp_min(0)
    x = x @ last.weight[:, :, 0, 0].T + last.bias
    assert torch.allclose(reduced(images), x.permute(0, 3, 1, 2), atol=1e-3)


@torch.inference_mode()
def test_without_reduction_it_is_the_papers_googlenet():
    branch = IndexingBranch(IndexingConfig(backbone="googlenet", image_size=224, channels=0)).eval()
    trunk = backbones.build("googlenet").eval()
    own = [*branch.frozen.state_dict().values(), *branch.last.state_dict().values()]
    names = [*trunk.early.state_dict(prefix="early."), *trunk.late.state_dict(prefix="late.")]
    trunk.load_state_dict(dict(zip(names, own, strict=True)), strict=False)
    images = photos(224, 1)
    maps = branch(images)
    assert maps.shape == (1, 832, 7, 7)  # 40,768 numbers a photo
    assert branch.channels == 832
    assert len(branch.reduce) == 0
    assert torch.equal(maps, trunk(images))  # 7 x 7 already: nothing is averaged


def test_only_the_last_layers_get_gradients_from_frozen_features(reduced):
    features = torch.randn(2, 192, 2, 2, generator=torch.Generator().manual_seed(0))
    reduced.zero_grad()
    reduced.from_frozen(features).square().mean().backward()
    assert all(parameter.grad is None for parameter in reduced.frozen.parameters())
    assert all(parameter.grad is not None for parameter in reduced.last.parameters())
    assert all(parameter.grad is not None for parameter in reduced.reduce.parameters())
    reduced.zero_grad()


def test_an_unknown_backbone_lists_the_known():
    with pytest.raises(ValueError, match="unknown backbone 'alexnet'; choose one of googlenet, "):
        IndexingBranch(IndexingConfig(backbone="alexnet"))


@torch.inference_mode()
@pytest.mark.parametrize("trained", [0, 1, 2, 3, -1])
def test_however_much_learns_the_whole_is_the_same(trained):
    """Only where it is cut differs; what comes before the cut can be computed once."""
    torch.manual_seed(0)
    branch = IndexingBranch(IndexingConfig(image_size=64, channels=0, trained=trained)).eval()
    torch.manual_seed(0)
    whole = backbones.build("efficientnet_lite0").eval()
    count = len(whole.early) + len(whole.late)
    last = list(branch.last)
    assert len(last) == (count if trained == -1 else trained)
    assert len(branch.frozen) + len(last) == count
    images = photos(64)
    assert torch.equal(branch.from_frozen(branch.frozen(images)), branch.pool(whole(images)))


def test_layers_are_named_by_their_place_before_and_after_the_cut():
    """A bundle holds these names, and its config says where the cut is."""
    names = IndexingBranch(IndexingConfig(trained=3)).state_dict()
    assert "frozen.0.weight" in names
    assert "last.2.conv_pw.weight" in names
    assert "last.3.conv_pw.weight" not in names


@pytest.mark.parametrize("trained", [-2, 19])
def test_more_layers_than_there_are_cannot_learn(trained):
    with pytest.raises(
        ValueError, match=rf"trained is {trained}, but efficientnet_lite0 has 18 layers: give 0 to that"
    ):
        IndexingBranch(IndexingConfig(trained=trained))
