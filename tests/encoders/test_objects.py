"""f_s and f_i: two branches with one last layer, onto one sphere."""

import copy
from dataclasses import replace

import numpy as np
import pytest
import torch

from encoders import backbones
from encoders.errors import CompsketchError
from encoders.objects import ObjectConfig, ObjectEncoder, Pooled, normalise

TINY = ObjectConfig(dim=16, hidden=32, sketch_size=32, crop_size=32)


@pytest.fixture(scope="module")
def model() -> ObjectEncoder:
    torch.manual_seed(0)
    return ObjectEncoder(TINY, classes=5).eval()


def pictures(count: int = 3, side: int = 32) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(0).uniform(-1, 1, (count, 3, side, side)).astype(np.float32))


@torch.inference_mode()
def test_sketches_photos_and_classes_lie_on_one_sphere(model):
    for vectors, count in ((model.f_s(pictures()), 3), (model.f_i(pictures()), 3), (model.class_vectors(), 5)):
        assert vectors.shape == (count, 16)
        assert vectors.dtype == torch.float32
        assert torch.allclose(vectors.norm(dim=1), torch.ones(count))


def test_the_last_layer_is_one_module_that_both_branches_teach(model):
    gradients = []
    for branch in (model.f_s, model.f_i):
        model.zero_grad()
        branch(pictures())[:, 0].sum().backward()
        assert model.shared.weight.grad is not None
        assert model.shared.weight.grad.any()
        gradients.append(model.shared.weight.grad.clone())
        other = model.photo_fc if branch == model.f_s else model.sketch_fc
        assert all(parameter.grad is None for parameter in other.parameters())  # the rest is each branch's own
    model.zero_grad()
    (model.f_s(pictures())[:, 0].sum() + model.f_i(pictures())[:, 0].sum()).backward()
    assert torch.allclose(model.shared.weight.grad, gradients[0] + gradients[1], rtol=1e-4, atol=1e-7)
    model.zero_grad()


@torch.inference_mode()
def test_a_change_of_the_shared_layer_moves_both_and_one_of_a_trunk_only_its_own(model):
    def both() -> tuple[torch.Tensor, torch.Tensor]:
        return model.f_s(pictures()), model.f_i(pictures())

    before = both()
    saved = {name: value.clone() for name, value in model.state_dict().items()}
    model.shared.bias += 1
    assert [torch.equal(a, b) for a, b in zip(before, both(), strict=True)] == [False, False]
    model.load_state_dict(saved)
    model.sketch_fc[1].bias += 1
    assert [torch.equal(a, b) for a, b in zip(before, both(), strict=True)] == [False, True]
    model.load_state_dict(saved)
    assert all(torch.equal(a, b) for a, b in zip(before, both(), strict=True))


@torch.inference_mode()
def test_f_i_is_f_i_pooled_of_what_the_trunk_gives_once(model):
    features = Pooled(model.photo_trunk)(pictures())
    assert features.shape == (3, model.photo_trunk.spec.head_channels)
    assert torch.equal(model.f_i_pooled(features), model.f_i(pictures()))


@torch.inference_mode()
def test_f_s_written_out(model):
    """Pooled features, norm without gain, fc, norm, ReLU, no dropout out of training, shared fc, length 1."""
    x = model.sketch_trunk.pooled(pictures())
    norm, fc, inner, _, dropout = model.sketch_fc
    assert dropout.p > 0
    x = (x - norm.running_mean) / (norm.running_var + norm.eps).sqrt()
    x = x @ fc.weight.T + fc.bias
    x = ((x - inner.running_mean) / (inner.running_var + inner.eps).sqrt() * inner.weight + inner.bias).clamp_min(0)
    x = x @ model.shared.weight.T + model.shared.bias
    assert torch.allclose(model.f_s(pictures()), x / x.norm(dim=1, keepdim=True), atol=1e-5)


def test_pretrained_starts_both_trunks_from_imagenet():
    model = ObjectEncoder(TINY, classes=2, pretrained=True)
    trunk = backbones.build(TINY.sketch_backbone, pretrained=True).state_dict()
    for own in (model.sketch_trunk.state_dict(), model.photo_trunk.state_dict()):
        assert all(torch.equal(own[name], value) for name, value in trunk.items())
    shared = {id(p) for p in model.sketch_trunk.parameters()} & {id(p) for p in model.photo_trunk.parameters()}
    assert not shared


@pytest.mark.parametrize("shape", [(2, 4, 4, 3), (2, 4, 4)], ids=["RGB", "gray"])
def test_normalise_is_pixel_by_pixel(shape):
    pixels = np.random.default_rng(1).integers(0, 256, shape, dtype=np.uint8)
    mean, std = (0.1, 0.2, 0.3), (0.5, 0.6, 0.7)
    x = normalise(torch.from_numpy(pixels), mean, std).numpy()
    assert x.shape == (2, 3, 4, 4)
    for b, c, row, column in np.ndindex(x.shape):
        value = pixels[b, row, column] if len(shape) == 3 else pixels[b, row, column, c]
        assert x[b, c, row, column] == pytest.approx((value / 255 - mean[c]) / std[c], abs=1e-6)


LATE = replace(TINY, share_late=True)


def test_late_layers_have_one_set_of_weights_and_two_of_statistics():
    model = ObjectEncoder(LATE, classes=3)
    for own, other in zip(model.late_layers("sketch"), model.late_layers("photo"), strict=True):
        assert all(a is b for a, b in zip(own.parameters(), other.parameters(), strict=True))
        assert not {id(buffer) for buffer in own.buffers()} & {id(buffer) for buffer in other.buffers()}
    apart, shared = (sum(p.numel() for p in made.parameters()) for made in (ObjectEncoder(TINY, classes=3), model))
    assert shared < apart
    assert not torch.equal(model.sketch_trunk.early[0].weight, model.photo_trunk.early[0].weight)


def test_shared_layers_start_at_the_last_one_of_stride_16():
    """GoogLeNet's is inception4e, where mSBIR's branches meet."""
    for name, first in (("googlenet", "inception4e"), ("resnet50", "layer3"), ("mobilenet_v2", "13")):
        with torch.device("meta"):
            model = ObjectEncoder(replace(LATE, sketch_backbone=name, photo_backbone=name), classes=3)
        assert [*dict(model.sketch_trunk.early.named_children())][-1] == first
        assert model.late_layers("sketch")[0] is model.sketch_trunk.early[-1]


def test_shared_weights_come_back_from_a_state_and_in_a_copy():
    torch.manual_seed(1)
    model, other = ObjectEncoder(LATE, classes=3).eval(), ObjectEncoder(LATE, classes=3).eval()
    other.load_state_dict(model.state_dict())
    for again in (other, copy.deepcopy(model)):
        assert again.sketch_trunk.late[0].conv_pw.weight is again.photo_trunk.late[0].conv_pw.weight
        with torch.inference_mode():
            assert torch.equal(again.f_s(pictures()), model.f_s(pictures()))
            assert torch.equal(again.f_i(pictures()), model.f_i(pictures()))


@torch.inference_mode()
def test_without_a_hidden_layer_the_shared_fc_reads_the_pooled_features():
    model = ObjectEncoder(replace(TINY, hidden=0), classes=3).eval()
    x = model.sketch_trunk.pooled(pictures())
    norm = model.sketch_fc[0]
    x = (x - norm.running_mean) / (norm.running_var + norm.eps).sqrt()
    x = x @ model.shared.weight.T + model.shared.bias
    assert torch.allclose(model.f_s(pictures()), x / x.norm(dim=1, keepdim=True), atol=1e-5)


@pytest.mark.parametrize(
    "config", [replace(LATE, sketch_backbone="vgg11"), replace(TINY, hidden=0, photo_backbone="vgg11")]
)
def test_two_kinds_of_trunk_cannot_share(config):
    with pytest.raises(CompsketchError, match="cannot share layers: choose one trunk for both"), torch.device("meta"):
        ObjectEncoder(config, classes=3)
