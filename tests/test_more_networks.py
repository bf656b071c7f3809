"""Stack, hourglass and residual encoder-decoder: as large as published, seeing what they should, fused as published."""

from __future__ import annotations

import importlib
from typing import Any

import pytest
import torch
from pydantic import ValidationError
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode

from pixelwise.errors import UsageError
from pixelwise.nn.initialisation import initialise_he
from pixelwise.nn.networks import hourglass, residual, stack, unet
from pixelwise.nn.stages import stages_of


def parameters(network: nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


# ---- the stack


def test_stack_parameters() -> None:
    with torch.device("meta"):
        network = stack.Config().build(3, 2)
    weights, biases = 9 * (3 * 200 + 99 * 200 * 200), 100 * 200
    assert parameters(network) == weights + biases + 200 * 2 + 2 == 35_665_802


def test_stack_needs_the_lectures_memory() -> None:
    layers: list[int] = []
    with torch.device("meta"):
        network = stack.Config().build(3, 2)
        for module in network.layers:
            module.register_forward_hook(lambda _, __, output: layers.append(output.nbytes))
        network(torch.empty(1, 3, 400, 400))
    assert layers == [200 * 400 * 400 * 4] * 100
    assert layers[0] / 2**20 == pytest.approx(122.07, abs=0.005)
    assert 20 * sum(layers) / 2**30 == pytest.approx(238.4, abs=0.05)


@pytest.mark.parametrize("depth", [1, 2, 5])
def test_stack_sees_2n_plus_1_pixels(depth: int) -> None:
    network = stack.Config(width=2, depth=depth).build(1, 1)
    for parameter in network.parameters():
        nn.init.constant_(parameter, 1.0 if parameter.ndim > 1 else 0.0)
    image = torch.zeros(1, 1, 15, 15)
    image[..., 7, 7] = 1
    expected = torch.zeros(15, 15, dtype=torch.bool)
    expected[7 - depth : 8 + depth, 7 - depth : 8 + depth] = True
    assert torch.equal(network(image)[0, 0] > 0, expected)


def test_a_deep_stack_passes_its_signal() -> None:
    torch.manual_seed(0)
    network = stack.Config(width=32, depth=50).build(3, 2)
    assert 1e-3 < network.layers(torch.randn(1, 3, 64, 64)).square().mean() < 1e3  # torch's own start leaves 6^-50


def test_he_initialisation() -> None:
    torch.manual_seed(0)
    layers = nn.Sequential(nn.Conv2d(64, 128, 3), nn.ReLU(), nn.Linear(1000, 200))
    initialise_he(layers)
    # standard errors of a deviation are 1 / sqrt(2 n) of it: 0.26 % of 73,728 and 0.16 % of 200,000 weights
    assert layers[0].weight.std().item() == pytest.approx((2 / (9 * 64)) ** 0.5, rel=0.01)
    assert layers[2].weight.std().item() == pytest.approx((2 / 1000) ** 0.5, rel=0.01)
    assert not layers[0].bias.any() and not layers[2].bias.any()


# ---- the hourglass


def module_parameters(before: int, after: int) -> int:
    """Count a residual module: three norms; convolutions 1x1, 3x3 and 1x1, the last with a bias; a skip if widths differ."""
    half = after // 2
    branch = 2 * (before + 2 * half) + before * half + 9 * half * half + half * after + after
    return branch + (0 if before == after else before * after + after)


@pytest.mark.parametrize(("stacks", "total"), [(1, 3_207_760), (8, 23_688_640)])
def test_hourglass_parameters(stacks: int, total: int) -> None:
    stem = 49 * 3 * 64 + 2 * 64 + module_parameters(64, 128) + module_parameters(128, 128) + module_parameters(128, 256)
    # 4 levels with three modules each and one in the middle; 1x1 convolution and norm; 16 joints
    one = 13 * module_parameters(256, 256) + 256 * 256 + 2 * 256 + 16 * 256 + 16
    onward = (256 * 256 + 256) + (16 * 256 + 256)
    with torch.device("meta"):
        network = hourglass.Config(stacks=stacks).build(3, 16)
    assert parameters(network) == stem + stacks * one + (stacks - 1) * onward == total


SMALL_HOURGLASS: dict[str, Any] = {"width": 8, "depth": 2, "norm": "none"}


@pytest.mark.parametrize("stride", [1, 2, 4])
def test_hourglass_stride(stride: Any) -> None:
    network = hourglass.Config(**SMALL_HOURGLASS, output_stride=stride).build(3, 2)
    assert network(torch.rand(1, 3, 37, 53)).shape == (1, 2, -(-37 // stride), -(-53 // stride))
    assert network.stem(torch.rand(1, 3, 64, 64)).shape == (1, 8, 64 // stride, 64 // stride)


def test_every_hourglass_answers() -> None:
    torch.manual_seed(0)
    network = hourglass.Config(**SMALL_HOURGLASS, stacks=3).build(3, 2)
    image = torch.rand(1, 3, 37, 53)
    answers = network(image, every=True)
    assert answers.shape == (1, 3, 2, 10, 14) and stages_of(network) == 3
    assert torch.equal(answers[:, -1], network(image))
    first = hourglass.Config(**SMALL_HOURGLASS, stacks=1).build(3, 2)
    state = {name: value for name, value in network.state_dict().items() if name in first.state_dict()}
    first.load_state_dict(state)
    assert torch.equal(answers[:, 0], first(image))


def test_most_networks_answer_once() -> None:
    network = unet.Config(width=2, depth=1).build(3, 1)
    assert isinstance(network.stages, nn.ModuleDict) and stages_of(network) == stages_of(nn.Identity()) == 1


def test_predictions_go_back_in() -> None:
    """The input of the second hourglass is that of the first, plus features and scores, each through a 1x1 convolution."""
    torch.manual_seed(0)
    network = hourglass.Config(**SMALL_HOURGLASS, output_stride=1).build(3, 2)
    first, second = network.hourglasses
    maps = torch.rand(1, 8, 8, 8)
    features = first.features(maps)
    expected = maps + first.features_on(features) + first.scores_on(first.scores(features))
    assert torch.equal(first(maps)[0], expected)
    assert second.features_on is None and second.scores_on is None
    network(torch.rand(1, 3, 16, 16))[0].sum().backward()
    assert first.scores.weight.grad.abs().max() > 0


@pytest.mark.parametrize("kind", ["nearest", "unpool"])
def test_an_hourglass_adds_what_comes_back(kind: Any) -> None:
    """With modules that change nothing: the map itself and, enlarged, the maximum of each 2x2."""
    network = hourglass.Hourglass(hourglass.Config(width=4, norm="none", upsample=kind), 1)
    for module in network.modules():
        if isinstance(module, hourglass.Residual):
            nn.init.zeros_(module.branch[-1].weight), nn.init.zeros_(module.branch[-1].bias)
    maps = torch.tensor([[1.0, 2.0, 8.0, 5.0], [4.0, 3.0, 6.0, 7.0]]).expand(1, 4, 2, 4)
    added = [[4.0, 4, 8, 8], [4, 4, 8, 8]] if kind == "nearest" else [[0.0, 0, 8, 0], [4, 0, 0, 0]]
    assert torch.equal(network(maps), maps + torch.tensor(added))


# ---- the residual encoder-decoder


def convolutions(network: nn.Module) -> list[Any]:
    return [module for module in network.modules() if isinstance(module, nn.Conv2d | nn.ConvTranspose2d)]


def test_residual_parameters() -> None:
    ends = (49 * 3 * 64 + 64) + (49 * 64 * 3 + 3)
    halvings = (9 * 64 * 128 + 128) + (9 * 128 * 256 + 256)
    blocks = 18 * (9 * 256 * 256 + 256)
    doublings = (9 * 256 * 128 + 128) + (9 * 128 * 64 + 64)
    assert ends + halvings + blocks + doublings == 11_378_179
    with torch.device("meta"):
        assert parameters(residual.Config().build(3, 3)) == 11_378_179  # the generator of CycleGAN with 9 blocks
        batch = parameters(residual.Config(norm="batch").build(3, 3))
    # a bias less and two numbers more for each of the normed channels
    assert batch == 11_378_179 + 64 + 128 + 256 + 18 * 256 + 128 + 64


def test_residual_layers_are_published() -> None:
    network = residual.Config(width=2, blocks=1, activation="tanh").build(3, 3)
    assert [(m.kernel_size[0], m.stride[0], m.padding_mode) for m in convolutions(network)] == [
        *[(7, 1, "reflect"), (3, 2, "zeros"), (3, 2, "zeros")],
        *[(3, 1, "reflect"), (3, 1, "reflect")],
        *[(3, 2, "zeros"), (3, 2, "zeros"), (7, 1, "reflect")],
    ]
    assert isinstance(network.layers[-1], nn.Tanh)
    assert network(100 * torch.randn(1, 3, 16, 16)).abs().max() <= 1
    weights = torch.cat([m.weight.flatten() for m in convolutions(residual.Config(width=16).build(3, 3))])
    assert weights.std().item() == pytest.approx(0.02, rel=0.01)


def test_bed_of_nails_and_a_convolution_are_the_transposed_convolution() -> None:
    """The published enlargement is the convolution of a bed of nails with the turned kernel (Dumoulin and Visin 2016)."""
    settings: dict[str, Any] = {"width": 4, "blocks": 1, "norm": "none"}
    published = residual.Config(**settings).build(3, 2).double()
    nails = residual.Config(**settings, upsample="bed_of_nails").build(3, 2).double()
    for theirs, ours in zip(convolutions(published), convolutions(nails), strict=True):
        turned = isinstance(theirs, nn.ConvTranspose2d)
        ours.weight.data = theirs.weight.data.transpose(0, 1).flip(2, 3) if turned else theirs.weight.data
        ours.bias.data = theirs.bias.data
    picture = torch.rand(1, 3, 21, 34).double()
    torch.testing.assert_close(nails(picture), published(picture), rtol=0, atol=1e-12)


def test_a_block_adds() -> None:
    block = residual.Block(4, residual.Config(norm="none"))
    nn.init.zeros_(block.branch[-2].weight), nn.init.constant_(block.branch[-2].bias, -3.0)
    maps = torch.randn(1, 4, 5, 5)
    assert torch.equal(block(maps), maps - 3)  # below zero as well: no activation after the sum


def test_pixel_shuffle_starts_without_checkerboard() -> None:
    """The Gaussian start of the other layers must not undo ICNR."""
    network = residual.Config(width=4, blocks=0, upsample="pixel_shuffle").build(3, 2)
    (first, *_) = [layer for layer in network.layers if isinstance(layer, residual.Projected)]
    cells = first(torch.randn(1, 16, 3, 3)).unflatten(3, (3, 2)).unflatten(2, (3, 2))
    assert torch.equal(cells, cells[:, :, :, :1, :, :1].expand_as(cells))


def test_unpooling_what_was_not_pooled_is_refused() -> None:
    with pytest.raises(ValidationError, match="strided convolutions"):
        residual.Config(upsample="unpool")
    with pytest.raises(UsageError, match="strided convolutions"):
        residual.Config.checked({"upsample": "unpool"})


# ---- all of them

NETWORKS: list[tuple[str, dict[str, Any]]] = [
    ("stack", {"width": 4, "depth": 2}),
    ("fcn", {"width": 4, "hidden": 8}),
    ("fcn", {"width": 4, "hidden": 8, "stride": 32, "upsample": "pixel_shuffle"}),
    ("hourglass", {"width": 8, "depth": 2}),
    ("hourglass", {"width": 8, "depth": 2, "upsample": "unpool"}),
    ("residual", {"width": 4, "blocks": 2}),
    ("residual", {"width": 4, "blocks": 1, "upsample": "bed_of_nails"}),
]


def small(kind: str, settings: dict[str, Any]) -> Any:
    return importlib.import_module(f"pixelwise.nn.networks.{kind}").Config(**settings).build(3, 2)


@pytest.mark.parametrize(("kind", "settings"), NETWORKS)
@pytest.mark.parametrize("size", [(1, 1), (2, 7), (9, 30)])
def test_tiny_images_train(kind: str, settings: dict[str, Any], size: tuple[int, int]) -> None:
    network = small(kind, settings)
    output = network(torch.rand(1, 3, *size))
    assert output.shape == (1, 2, *(-(-side // network.stride) for side in size))
    assert output.isfinite().all()


@pytest.mark.parametrize(("kind", "settings"), NETWORKS)
def test_shapes_are_found_without_computing(kind: str, settings: dict[str, Any]) -> None:
    """Analysis follows the operations on tensors without values: nothing may depend on them."""
    with FakeTensorMode():
        network = small(kind, settings)
        output: Tensor = network(torch.empty(2, 3, 1037, 2053))
        output.sum().backward()
    assert output.shape == (2, 2, -(-1037 // network.stride), -(-2053 // network.stride))
