"""Classifiers as networks from images to images: the same scores at the native size, and those of every window beyond."""

from __future__ import annotations

import copy
import re
from collections.abc import Callable

import pytest
import timm
import torch
import torchvision
from torch import Tensor, nn
from torch.nn import functional

from pixelwise.errors import UsageError
from pixelwise.nn.convolutionalize import FullyConvolutional, equivalence, to_fully_convolutional
from pixelwise.nn.networks import classifier as classifiers
from pixelwise.nn.networks import regressor
from pixelwise.nn.padding import mirror_to_multiple
from pixelwise.nn.sliding import patch_classifier


def picture(channels: int, height: int, width: int, dtype: torch.dtype = torch.float64, pictures: int = 1) -> Tensor:
    return torch.rand(pictures, channels, height, width, generator=torch.Generator().manual_seed(1), dtype=dtype)


def calibrated(network: nn.Module, image: Tensor) -> nn.Module:
    """Give batch norms the statistics of random pictures: with those they start with, scores hardly depend on the picture."""
    for layer in network.modules():
        layer.train(isinstance(layer, nn.modules.batchnorm._BatchNorm))
        if isinstance(layer, nn.modules.batchnorm._BatchNorm):
            layer.momentum = None
            layer.reset_running_stats()
    with torch.no_grad():
        network(image)
    return network.eval()


def windows(network: nn.Module, dense: FullyConvolutional, image: Tensor) -> Tensor:
    """Return (B, K, h, w): the scores of the classifier itself on every window."""
    (rows, columns), stride = dense.native, dense.stride
    tops, lefts = range(0, image.shape[2] - rows + 1, stride), range(0, image.shape[3] - columns + 1, stride)
    with torch.no_grad():
        answers = [[network(image[:, :, y : y + rows, x : x + columns]).flatten(1) for x in lefts] for y in tops]
    return torch.stack([torch.stack(row, -1) for row in answers], -2)


def error(found: Tensor, expected: Tensor) -> float:
    """Return the largest difference as a part of how much the scores differ at all."""
    return ((found - expected).abs().max() / expected.std()).item()


# ---- the native size


def narrow_vgg(layers: str, batch_norm: bool) -> nn.Module:
    """Return torchvision's VGG with an eighth of its channels, so that the test is quick."""
    widths = [width if width == "M" else int(width) // 8 for width in torchvision.models.vgg.cfgs[layers]]
    network = torchvision.models.VGG(torchvision.models.vgg.make_layers(widths, batch_norm), num_classes=10)
    network.classifier[0] = nn.Linear(64 * 7 * 7, 4096)
    return network


NATIVE: dict[str, tuple[Callable[[], nn.Module], int]] = {
    "alexnet": (lambda: torchvision.models.alexnet(num_classes=10), 224),
    "vgg11": (lambda: narrow_vgg("A", False), 224),
    "vgg16_bn": (lambda: narrow_vgg("D", True), 224),
    "resnet18": (lambda: torchvision.models.resnet18(num_classes=10), 64),
    "densenet121": (lambda: torchvision.models.densenet121(num_classes=10), 64),
    "mobilenet_v3_small": (lambda: torchvision.models.mobilenet_v3_small(num_classes=10), 64),
    "convnext_tiny": (lambda: torchvision.models.convnext_tiny(num_classes=10), 64),
    "timm regnetx_002": (lambda: timm.create_model("regnetx_002", num_classes=10), 64),
    "timm efficientnet_b0": (lambda: timm.create_model("efficientnet_b0", num_classes=10), 64),
    "timm convnext_atto": (lambda: timm.create_model("convnext_atto", num_classes=10), 64),
    "timm resnet18, both poolings": (lambda: timm.create_model("resnet18", num_classes=10, global_pool="catavgmax"), 64),
}


def check_native(network: nn.Module, side: int, size: int | None) -> FullyConvolutional:
    # coarse, as two pictures of fine noise look alike to a network that averages
    images = functional.interpolate(picture(3, 5, 5, torch.float32, 2), (side, side), mode="bilinear")
    dense = to_fully_convolutional(calibrated(network, images), size)
    with torch.no_grad():
        expected, found = network(images), dense(images)
    assert found.shape == (*expected.shape[:2], 1, 1)
    assert (expected[0] - expected[1]).std() > 1e-2 * expected.std()  # they see what differs between pictures
    assert error(found.flatten(1), expected.flatten(1)) < 1e-5
    return dense


@pytest.mark.parametrize(("build", "side"), NATIVE.values(), ids=NATIVE)
def test_scores_at_the_native_size(build: Callable[[], nn.Module], side: int) -> None:
    torch.manual_seed(0)
    check_native(build(), side, side)


def test_a_timm_model_knows_its_size() -> None:
    dense = to_fully_convolutional(timm.create_model("test_resnet"))
    assert dense.native == (160, 160)
    assert (dense.stride, dense.channels) == (32, 3)


WIDE = {
    "torchvision": (
        "alexnet vgg11 vgg13_bn vgg16 vgg16_bn vgg19 resnet18 resnet50 resnext50_32x4d wide_resnet50_2 densenet121 densenet161 "
        "squeezenet1_0 squeezenet1_1 googlenet inception_v3 mobilenet_v2 mobilenet_v3_large mobilenet_v3_small mnasnet0_5 "
        "shufflenet_v2_x0_5 efficientnet_b0 efficientnet_v2_s regnet_x_400mf regnet_y_400mf convnext_tiny"
    ),
    "timm": (
        "vgg11_bn resnet18 resnet26d seresnet50 resnext50_32x4d ecaresnet26t densenet121 mobilenetv2_050 mobilenetv3_small_100 "
        "efficientnet_b0 tf_efficientnet_b0 efficientnetv2_rw_t regnetx_002 regnety_002 convnext_atto convnextv2_atto "
        "inception_v3 inception_v4 inception_resnet_v2 xception41 dpn68 dla34 hrnet_w18_small selecsls42 repvgg_a0 "
        "ghostnet_050 nf_resnet26 res2net50_26w_4s resnest14d skresnet18 ese_vovnet19b_dw cspresnet50 darknet53 mixnet_s "
        "fbnetc_100 rexnet_100 lcnet_050 hardcorenas_a mambaout_femto"
    ),
}


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # what old classifiers warn of is not the matter here
@pytest.mark.parametrize("name", [f"{library} {name}" for library, names in WIDE.items() for name in names.split()])
def test_scores_at_the_native_size_of_many(name: str) -> None:
    library, name = name.split()
    torch.manual_seed(0)
    if library == "timm":
        network = timm.create_model(name)
        check_native(network, network.pretrained_cfg["input_size"][-1], None)
    else:
        settings = {"aux_logits": False, "init_weights": False} if name in ("googlenet", "inception_v3") else {}
        side = 299 if name == "inception_v3" else 224
        check_native(torchvision.models.get_model(name, weights=None, **settings), side, side)


# ---- every window


class Written(nn.Module):
    """A classifier whose head is written as functions."""

    def __init__(self, head: Callable[[Tensor], Tensor], features: int, body: nn.Module | None = None) -> None:
        super().__init__()
        self.body = body or nn.Sequential(nn.Conv2d(2, 4, 3), nn.ReLU(), nn.MaxPool2d(2))
        self.head = head
        self.fully_connected = nn.Linear(features, 3)

    def forward(self, image: Tensor) -> Tensor:
        answer: Tensor = self.fully_connected(self.head(self.body(image)))
        return answer


def layers(*head: nn.Module) -> nn.Module:
    return nn.Sequential(nn.Conv2d(2, 4, 3), nn.ReLU(), nn.MaxPool2d(2), *head)


class ChannelsLast(nn.Module):
    def forward(self, maps: Tensor) -> Tensor:
        return maps.permute(0, 2, 3, 1) * torch.arange(1, 5)


# Unpadded. Of windows of 18x18, 8x8 positions with 4 channels are left; for our own, of 18x10, 3x1.
HEADS: dict[str, Callable[[], nn.Module]] = {
    "flatten": lambda: layers(nn.Flatten(), nn.Linear(256, 5), nn.ReLU(), nn.Dropout(), nn.Linear(5, 3)),
    "without bias": lambda: layers(nn.Flatten(), nn.Linear(256, 3, bias=False)),
    "average": lambda: layers(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 3)),
    "maximum": lambda: layers(nn.AdaptiveMaxPool2d(1), nn.Flatten(), nn.Linear(4, 3)),
    "grid": lambda: layers(nn.AdaptiveAvgPool2d((4, 2)), nn.Flatten(), nn.Dropout(), nn.Linear(32, 3)),
    "grid of maxima": lambda: layers(nn.AdaptiveMaxPool2d((1, 8)), nn.Flatten(), nn.Tanh(), nn.Linear(32, 3)),
    "batch norm": lambda: layers(nn.Flatten(), nn.Linear(256, 5), nn.BatchNorm1d(5), nn.Linear(5, 3)),
    "layer norm": lambda: layers(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.LayerNorm(4), nn.GELU(), nn.Linear(4, 3)),
    "softmax": lambda: layers(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 3), nn.Softmax(-1)),
    "1x1 convolution": lambda: layers(nn.AdaptiveAvgPool2d(1), nn.Conv2d(4, 3, 1), nn.Flatten()),
    "convolution first": lambda: layers(nn.Conv2d(4, 3, 1), nn.AdaptiveAvgPool2d(1)),
    "nothing but convolution": lambda: layers(nn.Conv2d(4, 3, 8), nn.Flatten()),
    "stride of 3": lambda: nn.Sequential(nn.Conv2d(2, 4, 3, 3), nn.Flatten(), nn.Linear(144, 3)),
    "mean": lambda: Written(lambda x: x.mean((2, 3)), 4),
    "mean, kept, viewed": lambda: Written(lambda x: torch.mean(x, dim=(-2, -1), keepdim=True).view(x.shape[0], -1), 4),
    "mean of positions": lambda: Written(lambda x: x.flatten(2).mean(-1), 4),
    "largest": lambda: Written(lambda x: x.amax((2, 3)), 4),
    "functions": lambda: Written(lambda x: torch.flatten(functional.relu(functional.adaptive_avg_pool2d(x, 2)), 1), 16),
    "log softmax": lambda: Written(lambda x: functional.log_softmax(x.mean((2, 3)), dim=-1), 4),
    "both poolings": lambda: Written(lambda x: torch.cat([x.mean((2, 3)), x.amax((2, 3))], 1), 8),
    "sum of poolings": lambda: Written(lambda x: 0.5 * (x.mean((2, 3)) + x.amax((2, 3))), 4),
    "channels last": lambda: Written(lambda x: x.mean((1, 2)), 4, nn.Sequential(nn.Conv2d(2, 4, 3, 2), ChannelsLast())),
    "window of all": lambda: layers(nn.AvgPool2d(8), nn.Flatten(), nn.Linear(4, 3)),
    "window of all, last of a body": lambda: Written(lambda x: x.view(x.size(0), -1), 4, layers(nn.AvgPool2d(8))),
    "window of all as a function": lambda: Written(lambda x: functional.avg_pool2d(x, 8)[:, :, 0, 0], 4),
    "sizes of a pool": lambda: Written(lambda x: (lambda y: y.view(y.size(0), -1))(functional.adaptive_avg_pool2d(x, 1)), 4),
    "generalised mean": lambda: Written(lambda x: functional.avg_pool2d(x**3, (x.size(-2), 8)).pow(1 / 3).flatten(1), 4),
    "nothing after convolution": lambda: layers(nn.Conv2d(4, 3, 8)),
    "patches": lambda: nn.Sequential(nn.Conv2d(2, 2, 2), patch_classifier(8, 2, 4, 3)),
    "our own": lambda: classifiers.Config(channels=(4, 6), padding="none", grid=(3, 1), hidden=5).build(2, 3),
}


@pytest.mark.parametrize("build", HEADS.values(), ids=HEADS)
def test_unpadded_networks_score_every_window_as_if_alone(build: Callable[[], nn.Module]) -> None:
    torch.manual_seed(0)
    network = calibrated(build().double(), picture(2, 18, 18, pictures=8))
    size = (18, 10) if isinstance(network, classifiers.Classifier) else (18, 18)
    dense = to_fully_convolutional(network, size)
    image = picture(2, size[0] + 3 * dense.stride, size[1] + 4 * dense.stride, pictures=2)
    expected = windows(network, dense, image)
    assert expected.shape == (2, 3, 4, 5)
    assert expected.std((2, 3)).max() > 1e-3  # windows differ, so none can stand for another
    assert (dense(image) - expected).abs().max() < 1e-12
    assert equivalence(dense) == (True, "no layer pads and none sees the whole picture", [])


def test_a_pool_over_a_window_of_all_positions_has_the_stride_of_what_it_pools() -> None:
    for head in (nn.AvgPool2d(8), nn.AdaptiveAvgPool2d(1)):
        assert to_fully_convolutional(layers(head, nn.Flatten(), nn.Linear(4, 3)), 18).stride == 2
    twice = layers(nn.AvgPool2d(8), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 3))
    assert to_fully_convolutional(twice, 18).stride == 2
    assert to_fully_convolutional(layers(nn.AvgPool2d(8), nn.Flatten(), nn.Linear(4, 3)), 20).stride == 16  # of 9x9, a rest


def test_our_own_classifiers_at_the_native_size() -> None:
    torch.manual_seed(0)
    for settings, size in (
        (regressor.Config(channels=(4, 8), grid=(2, 3), hidden=7), (16, 36)),
        (classifiers.Config(encoder="test_resnet", hidden=5), (128, 160)),
    ):
        image = picture(3, *size, pictures=3)
        network = calibrated(settings.build(3, 4).double(), image)
        dense = to_fully_convolutional(network, size)
        assert (dense(image) - network(image)).abs().max() < 1e-12
        larger = picture(3, size[0] + dense.stride, size[1] + 3 * dense.stride)
        assert dense(larger).shape == (1, 4, 2, 4)


# ---- where windows are as if alone, and where not


class SqueezeAndExcitation(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Conv2d(4, 4, 1)

    def forward(self, maps: Tensor) -> Tensor:
        return maps * self.scale(functional.adaptive_avg_pool2d(maps, 1)).sigmoid()


class Function(nn.Module):
    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, maps: Tensor) -> Tensor:
        return self.function(maps)


PADDING = "seen alone, a window has padding where a larger picture has content"
WHOLE = "some layers see the whole picture, not the window"

# What comes second of three layers: 13x13 positions of 4 channels at the native size.
BODIES: dict[str, tuple[Callable[[], nn.Module], str]] = {
    "nothing": (nn.Identity, ""),
    "pooling": (lambda: nn.MaxPool2d(3, 2), ""),
    "pooling that leaves a rest": (lambda: nn.AvgPool2d(2), ""),
    "ceil mode without a cut": (lambda: nn.MaxPool2d(3, 2, ceil_mode=True), ""),
    "batch norm": (lambda: nn.BatchNorm2d(4), ""),
    "dilation": (lambda: nn.Conv2d(4, 4, 3, dilation=2), ""),
    "layer norm of channels": (lambda: timm.layers.LayerNorm2d(4), ""),
    "zero padding": (lambda: nn.Conv2d(4, 4, 3, padding=1), PADDING),
    "zero padding, same": (lambda: nn.Conv2d(4, 4, 3, padding="same"), PADDING),
    "mirrored padding": (lambda: nn.Conv2d(4, 4, 3, padding=1, padding_mode="reflect"), PADDING),
    "cyclic padding": (lambda: nn.Conv2d(4, 4, 3, padding=1, padding_mode="circular"), PADDING),
    "padded pooling": (lambda: nn.MaxPool2d(3, 2, 1), PADDING),
    "a cut window": (lambda: nn.MaxPool2d(2, ceil_mode=True), PADDING),
    "padding as a function": (lambda: Function(lambda x: functional.pad(x, (0, 1, 1, 0))), PADDING),
    "padding of channels": (lambda: Function(lambda x: functional.pad(x, (0, 0, 0, 0, 1, 1))[:, :4]), ""),
    "our own mirroring": (lambda: Function(lambda x: mirror_to_multiple(x, 7)), PADDING),
    "resampling": (lambda: nn.Sequential(nn.Upsample(scale_factor=2, mode="bilinear"), nn.MaxPool2d(2)), PADDING),
    "squeeze and excitation": (SqueezeAndExcitation, WHOLE),
    "group norm": (lambda: nn.GroupNorm(2, 4), WHOLE),
    "instance norm": (lambda: nn.InstanceNorm2d(4), WHOLE),
    "response norm": (lambda: Function(lambda x: x / x.norm(dim=(2, 3), keepdim=True)), WHOLE),
}


@pytest.mark.parametrize(("build", "reason"), BODIES.values(), ids=BODIES)
def test_equivalence_is_what_is_measured(build: Callable[[], nn.Module], reason: str) -> None:
    torch.manual_seed(0)
    body = nn.Sequential(nn.Conv2d(2, 4, 3), nn.Tanh(), build(), nn.Conv2d(4, 4, 3), nn.Tanh())
    network = nn.Sequential(body, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 3)).double().eval()
    dense = to_fully_convolutional(network, 15)
    stated = equivalence(dense)
    image = picture(2, 15 + 14 * dense.stride, 15 + 7 * dense.stride)
    expected = windows(network, dense, image)
    assert (error(dense(image), expected) < 1e-10) == stated.everywhere == (not reason)
    assert error(dense(image[:, :, :15, :15]), expected[:, :, :1, :1].expand(1, 3, 1, 1)) < 1e-10
    assert stated.reason == (reason or "no layer pads and none sees the whole picture")
    assert all(layer.startswith("0.2") for layer in stated.layers)
    assert len(stated.layers) == bool(reason)


def test_all_layers_that_prevent_equivalence_are_named() -> None:
    network = timm.create_model("mobilenetv3_small_050", num_classes=2)
    stated = equivalence(to_fully_convolutional(network, 64))
    assert not stated.everywhere
    assert stated.reason == f"{PADDING}; {WHOLE}"
    modules = dict(network.named_modules())
    convolutions = {name for name, layer in modules.items() if isinstance(layer, nn.Conv2d) and layer.padding != (0, 0)}
    squeezers = {name for name, layer in modules.items() if type(layer).__name__ == "SqueezeExcite"}
    assert convolutions
    assert squeezers
    assert set(stated.layers) == convolutions | squeezers
    assert stated.layers[0] == "conv_stem"


# ---- what a converted classifier is


def test_pictures_that_are_not_made_of_windows() -> None:
    torch.manual_seed(0)
    network = layers(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 3)).double()
    dense = to_fully_convolutional(network, (18, 10))
    assert (dense.native, dense.stride) == ((18, 10), 2)
    image = picture(2, 21, 15)
    assert dense(image).shape == (1, 3, 2, 3)
    assert torch.equal(dense(image), dense(image[:, :, :20, :14]))
    for size in ((17, 15), (21, 9)):
        with pytest.raises(UsageError, match=f"a picture of {size[0]}x{size[1]} pixels is smaller than .* 18x10"):
            dense(picture(2, *size))


def test_padding_that_depends_on_the_size_is_that_of_a_window() -> None:
    """TensorFlow pads 225 pixels differently from 224: the last row of the picture must not move the first scores."""
    torch.manual_seed(0)
    dense = to_fully_convolutional(timm.create_model("tf_mobilenetv3_small_075", num_classes=2), 64)
    assert dense.stride == 32
    image = picture(3, 97, 127, torch.float32)
    with torch.no_grad():
        assert torch.equal(dense(image), dense.network(image[:, :, :96, :96]))


def test_the_classifier_stays_as_it_is() -> None:
    network = layers(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 3), nn.BatchNorm1d(3))
    before = copy.deepcopy(network.state_dict())
    state = torch.random.get_rng_state()
    dense = to_fully_convolutional(network, 18)
    assert torch.equal(torch.random.get_rng_state(), state)
    assert all(module.training for module in network.modules())
    assert not any(module.training for module in dense.modules())
    with torch.no_grad():
        for weights in dense.parameters():
            weights.add_(1)
    assert all(torch.equal(now, then) for now, then in zip(network.state_dict().values(), before.values(), strict=True))
    assert isinstance(network[5], nn.Linear)


def test_fully_connected_layers_become_convolutions_in_their_place() -> None:
    network = layers(nn.AdaptiveAvgPool2d(4), nn.Flatten(), nn.Linear(64, 5), nn.ReLU(), nn.Linear(5, 3))
    dense = to_fully_convolutional(network, 18)
    first, second = dense.network.get_submodule("5"), dense.network.get_submodule("7")
    assert isinstance(first, nn.Conv2d)
    assert isinstance(second, nn.Conv2d)
    assert (first.kernel_size, first.dilation, second.kernel_size) == ((4, 4), (2, 2), (1, 1))
    assert torch.equal(first.weight.flatten(1), network[5].weight)
    assert dense.state_dict().keys() == {f"network.{name}" for name in network.state_dict()}


def test_it_can_be_exported_for_any_size() -> None:
    torch.manual_seed(0)
    dense = to_fully_convolutional(layers(nn.AdaptiveAvgPool2d(4), nn.Flatten(), nn.Linear(64, 3), nn.Softmax(1)), 18)
    sizes = ({2: torch.export.Dim.AUTO, 3: torch.export.Dim.AUTO},)
    exported = torch.export.export(dense, (picture(2, 24, 30, torch.float32),), dynamic_shapes=sizes).module()
    for size in ((20, 20), (23, 41)):
        image = picture(2, *size, torch.float32)
        assert torch.equal(exported(image), dense(image))


def test_frozen_weights_are_no_attention() -> None:
    body = nn.Sequential(nn.Conv2d(2, 4, 3), ChannelsLast(), nn.Linear(4, 4, bias=False))
    network = Written(lambda x: x.mean((1, 2)), 4, body).requires_grad_(False)
    assert to_fully_convolutional(network, 18).stride == 1


def test_gradients_reach_all_weights() -> None:
    dense = to_fully_convolutional(layers(nn.Flatten(), nn.Linear(256, 3)), 18)
    dense(picture(2, 20, 20, torch.float32)).sum().backward()
    assert all(weights.grad is not None and weights.grad.any() for weights in dense.parameters())


# ---- no dense equivalent


class Twice(nn.Module):
    def forward(self, maps: Tensor) -> tuple[Tensor, Tensor]:
        return maps.mean((2, 3)), maps.amax((2, 3))


class Recurrent(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.rows = nn.LSTM(4, 4, batch_first=True)

    def forward(self, maps: Tensor) -> Tensor:
        rows = maps.permute(0, 2, 3, 1)
        return self.rows(rows.flatten(0, 1))[0].reshape(rows.shape).permute(0, 3, 1, 2)


class Tied(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.place = nn.Parameter(torch.rand(1, 4, 8, 8))

    def forward(self, maps: Tensor) -> Tensor:
        return maps + self.place


class Undecided(nn.Module):
    def forward(self, maps: Tensor) -> Tensor:
        return maps.mean((2, 3)) if maps.sum() > 0 else maps.amax((2, 3))


class Sized(nn.Module):
    def forward(self, maps: Tensor) -> Tensor:
        return maps.mean((2, 3)) if maps.shape[2] > 9 else maps.amax((2, 3))


REFUSED: dict[str, tuple[Callable[[], nn.Module], int | None, str]] = {
    "vision transformer": (lambda: timm.create_model("test_vit"), None, "layer 'blocks.0.attn' relates all positions"),
    "windows of attention": (torchvision.models.swin_t, 64, "layer 'features.1.0.attn' relates all positions"),
    "recurrence": (lambda: layers(Recurrent(), nn.AdaptiveAvgPool2d(1)), 18, "layer '3.rows' relates all positions"),
    "mixer": (lambda: timm.create_model("mixer_s32_224"), None, "'transpose' .*has no dense equivalent"),
    "uneven grid": (lambda: layers(nn.AdaptiveAvgPool2d(3), nn.Flatten(), nn.Linear(36, 3)), 18, "8x8 positions to 3x3"),
    "too small a picture": (lambda: layers(nn.Flatten(), nn.Linear(256, 3)), 2, "pictures of 2x2 pixels cannot be followed"),
    "another size": (lambda: layers(nn.Flatten(), nn.Linear(256, 3)), 20, "pictures of 20x20 pixels cannot be followed"),
    "two answers": (lambda: layers(Twice()), 18, "not one vector of scores"),
    "maps": (lambda: layers(nn.AdaptiveAvgPool2d(2)), 18, "not a vector, but maps of 2x2 positions"),
    "growing maps": (layers, 18, "not a vector, but maps of 8x8 positions"),
    "norm of a grid": (lambda: layers(nn.Flatten(), nn.BatchNorm1d(256), nn.Linear(256, 3)), 18, "'BatchNorm1d' of layer '4'"),
    "softmax of a grid": (lambda: layers(nn.Flatten(), nn.Softmax(1), nn.Linear(256, 3)), 18, "'Softmax' of layer '4'"),
    "a place of its own": (lambda: layers(Tied(), nn.AdaptiveAvgPool2d(1), nn.Flatten()), 18, "tied to their number"),
    "mixed positions": (lambda: Written(lambda x: functional.normalize(x.mean((2, 3)), dim=-1), 4), 18, "mixes positions"),
    "decisions": (lambda: layers(Undecided()), 18, "cannot be followed"),
    "decisions by size": (lambda: layers(Sized()), 18, "cannot be traced after layer '3'"),
    "resizing": (lambda: layers(nn.Upsample((9, 9)), nn.AdaptiveAvgPool2d(1)), 18, "'Upsample' of layer '3'"),
}


class Weighted(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.body, self.weight = nn.Conv2d(2, 4, 3), nn.Parameter(torch.rand(3, 4))

    def forward(self, image: Tensor) -> Tensor:
        return functional.linear(self.body(image).mean((2, 3)), self.weight)


HINTS: dict[str, tuple[nn.Module, str]] = {
    "one axis after another": (Written(lambda x: x.mean(3).mean(2), 4), "both axes at once"),
    "rows and columns exchanged": (Written(lambda x: x.transpose(2, 3).flatten(1), 256), r"flatten \(B, C, H, W\)"),
    "channels last, flattened": (Written(lambda x: x.permute(0, 2, 3, 1).flatten(1), 256), r"flatten \(B, C, H, W\)"),
    "one of two parts": (Written(lambda x: x.mean((2, 3)).chunk(2, 1)[0], 2), "treats all positions alike"),
    "a tensor of its own": (Written(lambda x: x.mean((2, 3)) * torch.ones(4), 4), "a buffer"),
    "weights without a layer": (Weighted(), "^one of 'linear'$"),
    "sum": (Written(lambda x: x.sum((2, 3)), 4), "pool over all positions"),
}


@pytest.mark.parametrize(("network", "hint"), HINTS.values(), ids=HINTS)
def test_what_is_refused_says_what_could_be_done(network: nn.Module, hint: str) -> None:
    with pytest.raises(UsageError) as caught:
        to_fully_convolutional(network, 18)
    assert re.search(hint, caught.value.hint)


@pytest.mark.parametrize(("build", "size", "message"), REFUSED.values(), ids=REFUSED)
def test_what_has_no_dense_equivalent_says_why(build: Callable[[], nn.Module], size: int | None, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        to_fully_convolutional(build(), size)
