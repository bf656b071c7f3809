"""Every network: any size and channels, gradients everywhere, repeatable; the published ones exactly as published."""

from __future__ import annotations

import importlib
import subprocess
import sys
from typing import Any

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from torch import Tensor, nn

from pixelwise.config import kinds, settings
from pixelwise.errors import ModelError, UsageError
from pixelwise.nn.blocks import norm
from pixelwise.nn.encoders import TimmEncoder
from pixelwise.nn.initialisation import initialise
from pixelwise.nn.networks import patchgan, pix2pix_unet, regressor, unet
from pixelwise.nn.padding import mirror_to_multiple
from pixelwise.nn.products import Double, Halve
from pixelwise.nn.upsample import Projected, upsample

SMALL: dict[str, list[dict[str, Any]]] = {
    "unet": [
        {"width": 4, "depth": 2},
        {"width": 4, "norm": "instance", "upsample": "nearest", "dropout": 0.2},
        {"width": 4, "norm": "group", "upsample": "transposed", "output_stride": 2},
        {"width": 4, "norm": "none", "depth": 5, "output_stride": 8},
        {"width": 4, "depth": 2, "upsample": "bed_of_nails", "skips": "add"},
        {"width": 4, "depth": 2, "upsample": "unpool", "skips": "none"},
        {"width": 4, "depth": 2, "upsample": "pixel_shuffle"},
    ],
    "encoder_decoder": [
        {"width": 4, "depth": 2},
        {"width": 4, "norm": "group", "upsample": "unpool"},
        {"width": 4, "depth": 3, "norm": "instance", "bottleneck": "vector", "grid": (2, 3), "code": 7},
    ],
    "segnet": [{"width": 4}, {"width": 4, "depth": 1}, {"width": 4, "depth": 3, "upsample": "transposed"}],
    "stack": [{"width": 4, "depth": 3}, {"width": 4, "depth": 2, "norm": "batch"}],
    "fcn": [
        {"width": 8, "hidden": 8, "dropout": 0.0},
        {"width": 4, "hidden": 8, "stride": 16, "norm": "batch", "upsample": "nearest"},
        {"width": 4, "hidden": 8, "stride": 32, "norm": "instance", "upsample": "pixel_shuffle"},
        {"width": 4, "hidden": 8, "norm": "group", "upsample": "bed_of_nails"},
    ],
    "hourglass": [
        {"width": 8, "depth": 2},
        {"width": 8, "depth": 2, "stacks": 1, "norm": "instance", "upsample": "unpool", "output_stride": 1},
        {"width": 8, "depth": 1, "stacks": 3, "norm": "group", "upsample": "transposed", "output_stride": 2},
        {"width": 16, "depth": 2, "norm": "none", "upsample": "pixel_shuffle"},
    ],
    "cpm": [
        {"width": 16, "stages": 2, "kernel": 3, "stage_kernel": 3, "output_stride": 4},
        {"width": 16, "stages": 1, "kernel": 5, "norm": "batch"},
        {"width": 16, "stages": 3, "kernel": 5, "stage_kernel": 5, "norm": "group", "output_stride": 1},
    ],
    "simple_baseline": [
        {"width": 4, "encoder_width": 4, "depth": 3},
        {"width": 4, "encoder_width": 2, "norm": "none", "upsample": "bilinear", "output_stride": 2},
        {"width": 4, "encoder_width": 2, "depth": 2, "norm": "group", "upsample": "pixel_shuffle", "output_stride": 1},
    ],
    "openpose": [
        {"width": 4, "encoder_width": 2},
        {"width": 12, "encoder_width": 2, "refinements": 2, "norm": "group", "output_stride": 4, "heads": (1, 1)},
        {"width": 16, "encoder_width": 4, "refinement": "convolutions", "norm": "none", "output_stride": 2, "heads": (1, 1)},
    ],
    "residual": [
        {"width": 4, "blocks": 2},
        {"width": 4, "blocks": 0, "norm": "batch", "upsample": "nearest", "activation": "tanh"},
        {"width": 4, "blocks": 1, "norm": "none", "upsample": "bed_of_nails"},
        {"width": 4, "blocks": 1, "norm": "group", "upsample": "pixel_shuffle"},
        {"width": 4, "blocks": 2, "norm": "batch", "dropout": 0.5, "test_statistics": "picture"},
    ],
    "hed": [
        {"width": 4, "depth": 2},
        {"width": 4, "depth": 3, "norm": "group"},
        {"width": 4, "depth": 1, "norm": "none"},
    ],
    "pixel_difference": [{"width": 4}, {"width": 2, "norm": "batch"}, {"width": 2, "differences": False, "norm": "instance"}],
    "pix2pix_unet": [
        {"width": 4, "depth": 5},
        {"width": 4, "depth": 6, "norm": "instance", "dropout": 0.0},
        {"width": 4, "depth": 3, "upsample": "nearest"},
        {"width": 4, "depth": 5, "norm": "group"},
        {"width": 4, "depth": 4, "norm": "none", "test_statistics": "running"},
        {"width": 4, "depth": 3, "upsample": "pixel_shuffle"},
    ],
    "patchgan": [
        {"width": 4},
        {"width": 4, "norm": "instance"},
        {"width": 4, "norm": "none"},
        {"width": 4, "norm": "none", "spectral_norm": True},
        {"width": 4, "norm": "group", "layers": 0},
        {"layers": 0},
    ],
    "classifier": [
        {"channels": (4, 8)},
        {"channels": (4, 8), "norm": "instance", "grid": (2, 3), "hidden": 8, "dropout": 0.1},
        {"channels": (4, 8), "norm": "none", "padding": "none", "kernel": 5},
    ],
    "regressor": [{"channels": (4, 8), "hidden": 8}, {"channels": (4, 8), "norm": "none", "dropout": 0.1}],
    "srcnn": [{"widths": (4, 2)}, {"widths": (4, 2), "kernels": (9, 5, 5)}],
    "fsrcnn": [{"features": 4, "shrunk": 2, "mappings": 1}],
    "espcn": [{"widths": (4, 2)}],
    "vdsr": [{"depth": 3, "width": 4}],
    "residual_pixel_shuffle": [{"width": 4, "blocks": 1}],
    "dcgan": [{"width": 4}, {"width": 4, "size": 32}],
    "dcgan_discriminator": [
        {"width": 4},
        {"width": 4, "size": 32, "norm": "none", "spectral_norm": True},
        {"width": 4, "size": 32, "norm": "group"},
    ],
    "residual_generator": [{"width": 4}, {"width": 4, "size": 128}],
    "residual_discriminator": [{"width": 4}, {"width": 4, "size": 32, "spectral_norm": False}],
}
ENLARGING = ("srcnn", "fsrcnn", "espcn", "vdsr", "residual_pixel_shuffle")
"""These put out four sheets per channel, for twice the size."""
FROM_CODES = ("dcgan", "residual_generator")
"""These make pictures of one size, of the mean of what they are given."""
CASES = [(kind, changes) for kind, all_changes in SMALL.items() for changes in all_changes]
each_case = pytest.mark.parametrize(("kind", "changes"), CASES)


def outputs_of(kind: str, channels: int = 3) -> int:
    return 4 * channels if kind in ENLARGING else 2


def build(kind: str, changes: dict[str, Any], channels: int = 3, out: int | None = None) -> nn.Module:
    torch.manual_seed(0)
    config = importlib.import_module(f"pixelwise.nn.networks.{kind}").Config(**changes)
    network: nn.Module = config.build(channels, out or outputs_of(kind, channels))
    return network


def image(*shape: int, seed: int = 1) -> Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed))


def parameters(network: nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


def output_size(kind: str, network: nn.Module, height: int, width: int) -> tuple[int, int]:
    stride = int(network.stride)  # type: ignore[arg-type]
    if kind in FROM_CODES:
        return network.size, network.size  # type: ignore[return-value]
    if stride == 0:
        return 1, 1
    if kind == "patchgan":
        return (height, width) if stride == 1 else (height // stride - 2, width // stride - 2)
    return -(-height // stride), -(-width // stride)


def test_every_kind_is_tested_and_every_setting_described() -> None:
    assert tuple(sorted(SMALL)) == kinds("pixelwise.nn.networks")
    for kind in SMALL:
        config = importlib.import_module(f"pixelwise.nn.networks.{kind}").Config()
        assert config.kind == kind
        assert all(setting.description for setting in settings(config) if setting.key != "kind")


@each_case
@pytest.mark.parametrize("channels", [1, 3, 5])
@pytest.mark.parametrize("size", [(37, 53), (64, 64)])
def test_any_size_and_channels(kind: str, changes: dict[str, Any], channels: int, size: tuple[int, int]) -> None:
    network = build(kind, changes, channels)
    output = network(image(2, channels, *size))
    assert output.shape == (2, outputs_of(kind, channels), *output_size(kind, network, *size))
    assert output.isfinite().all()


@each_case
def test_gradient_reaches_every_parameter(kind: str, changes: dict[str, Any]) -> None:
    network = build(kind, changes)
    output = network(image(2, 3, 37, 53))
    (output * image(*output.shape, seed=2)).sum().backward()
    for name, parameter in network.named_parameters():
        assert parameter.grad is not None and parameter.grad.isfinite().all(), name
        # instance norm removes the bias before it, so the gradient of a published bias is nothing but rounding
        if not (changes.get("norm") == "instance" and name.endswith("bias")):
            assert parameter.grad.abs().max() > 0, name


@each_case
def test_same_seed_same_network_and_repeatable_evaluation(kind: str, changes: dict[str, Any]) -> None:
    network, again = build(kind, changes), build(kind, changes)
    for (name, first), second in zip(network.state_dict().items(), again.state_dict().values(), strict=True):
        assert torch.equal(first, second), name
    network.eval(), again.eval()
    picture = image(1, 3, 37, 53)
    with torch.no_grad():
        assert torch.equal(network(picture), again(picture))
        assert torch.equal(network(picture), network(picture))


@each_case
def test_evaluation_draws_no_random_numbers(kind: str, changes: dict[str, Any]) -> None:
    network = build(kind, changes).eval()
    state = torch.get_rng_state()
    network(image(1, 3, 37, 53))
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("size", [(1, 1), (2, 7), (16, 16)])
@pytest.mark.parametrize("norm_kind", ["batch", "instance", "group", "none"])
def test_unet_trains_on_tiny_images(size: tuple[int, int], norm_kind: str) -> None:
    output = build("unet", {"width": 4, "norm": norm_kind})(image(1, 3, *size))
    assert output.shape == (1, 2, *size)


def test_tiny_images_through_the_gan_networks() -> None:
    assert build("pix2pix_unet", {"width": 4, "depth": 5})(image(1, 3, 3, 5)).shape == (1, 2, 3, 5)
    assert build("patchgan", {"width": 4})(image(1, 3, 3, 5)).shape == (1, 2, 1, 1)  # grown to 24: 12, 6, 3, 2, 1


# the published networks; counts worked by hand: convolutions 4 * 4 * in * out, two numbers per normed channel
def test_pix2pix_parameters() -> None:
    down = 16 * (3 * 64 + 64 * 128 + 128 * 256 + 256 * 512 + 4 * 512 * 512)
    up = 16 * (512 * 512 + 3 * 1024 * 512 + 1024 * 256 + 512 * 128 + 256 * 64 + 128 * 3) + 3
    norms = 2 * (128 + 256 + 4 * 512) + 2 * (4 * 512 + 256 + 128 + 64)
    assert down + up + norms == 54_413_955
    assert parameters(pix2pix_unet.Config().build(3, 3)) == 54_413_955
    level = 16 * (512 * 512 + 1024 * 512) + 2 * 2 * 512
    assert parameters(pix2pix_unet.Config(depth=7).build(3, 3)) == 54_413_955 - level == 41_828_995


@pytest.mark.parametrize(
    ("layers", "count"),
    # 3: 16 (6*64 + 64*128 + 128*256 + 256*512 + 512) + 64 + 1 + 2 (128 + 256 + 512)
    # 0: 6*64 + 64 + 64*128 + 2*128 + 128
    [(0, 9_024), (1, 139_585), (2, 666_433), (3, 2_768_705), (4, 6_964_033), (5, 11_159_361)],
)
def test_patchgan_parameters(layers: int, count: int) -> None:
    assert parameters(patchgan.Config(layers=layers).build(6, 1)) == count


def test_patchgan_map_is_30_by_30() -> None:
    assert patchgan.Config(width=4).build(6).eval()(image(1, 6, 256, 256)).shape == (1, 1, 30, 30)


def test_unet_parameters() -> None:
    # 3>2>2 | 2>4>4 | 1x1 4>2, 4>2>2 | 1x1 2>1; nine weights per 3x3, two numbers per normed channel
    levels = 9 * (3 * 2 + 2 * 2 + 2 * 4 + 4 * 4) + 2 * (2 + 2 + 4 + 4)
    decoder = 4 * 2 + 2 + 9 * (4 * 2 + 2 * 2) + 2 * (2 + 2)
    assert parameters(unet.Config(width=2, depth=1, norm="group").build(3, 1)) == levels + decoder + 2 + 1


def test_regressor_parameters() -> None:
    # 1>12 and 12>16 channels 3x3 with norm, grid 2x3 of 16, hidden 10, 4 numbers
    count = 9 * (12 + 12 * 16) + 2 * (12 + 16) + (16 * 6 * 10 + 10) + (10 * 4 + 4)
    assert parameters(regressor.Config(channels=(12, 16), grid=(2, 3), hidden=10).build(1, 4)) == count


class Nested(nn.Module):
    """One level of the published generator, written the published way: around the level below."""

    def __init__(self, network: pix2pix_unet.Pix2PixUNet, level: int) -> None:
        super().__init__()
        depth = len(network.down)
        below = [Nested(network, level + 1)] if level < depth - 1 else []
        up = network.up[depth - 1 - level]
        down = network.down[level]
        if level == 0:
            self.layers = nn.Sequential(down, *below, nn.ReLU(), up, nn.Tanh())
        else:
            self.layers = nn.Sequential(nn.LeakyReLU(0.2), *down, *below, nn.ReLU(), *up)
        self.outermost = level == 0

    def forward(self, maps: Tensor) -> Tensor:
        answer: Tensor = self.layers(maps)
        return answer if self.outermost else torch.cat([maps, answer], 1)


@pytest.mark.parametrize("training", [True, False])
def test_pix2pix_equals_the_nested_network_at_its_own_size(training: bool) -> None:
    network = pix2pix_unet.Config(width=4).build(3, 3).train(training)
    nested = Nested(network, 0).train(training)
    picture = image(1, 3, 256, 256)
    torch.manual_seed(3)
    ours = network(picture)
    torch.manual_seed(3)
    assert torch.equal(ours, nested(picture))
    assert ours.abs().max() <= 1


def test_pix2pix_layers() -> None:
    network = pix2pix_unet.Config(width=1).build(3, 3)

    def stages(of: type[nn.Module], stack: nn.ModuleList) -> list[int]:
        return [n for n, part in enumerate(stack, 1) if any(isinstance(m, of) for m in part.modules())]

    dropped = [n for n, part in enumerate(network.up, 1) for m in part.modules() if isinstance(m, nn.Dropout) and m.p]
    assert dropped == [2, 3, 4]
    assert stages(nn.BatchNorm2d, network.down) == [2, 3, 4, 5, 6, 7]
    assert stages(nn.BatchNorm2d, network.up) == [1, 2, 3, 4, 5, 6, 7]
    biased = [name for name, _ in network.named_parameters() if name.endswith("bias") and ".1." not in name]
    assert biased == ["up.7.bias"]


@pytest.mark.parametrize(("depth", "stages", "expected"), [(7, None, [2, 3]), (5, None, []), (8, (1, 2, 3), [1, 2, 3])])
def test_dropout_stages(depth: int, stages: tuple[int, ...] | None, expected: list[int]) -> None:
    network = pix2pix_unet.Config(width=1, depth=depth, dropout_stages=stages).build(1, 1)
    dropped = [n for n, part in enumerate(network.up, 1) for m in part.modules() if isinstance(m, nn.Dropout) and m.p]
    assert dropped == expected


def test_a_patch_decides_alone() -> None:
    network = patchgan.Config(width=4, norm="none").build(3).eval()
    picture = image(1, 3, 256, 256)
    changed = picture.clone()
    changed[..., 200:, 200:] += 1
    moved = (network(picture) - network(changed)).abs()[0, 0]
    # output i sees pixels 8 i - 23 ... 8 i + 46, so 200 is first seen by ceil((200 - 46) / 8) = 20
    assert moved[:20].max() == moved[:, :20].max() == 0 < moved[20, 20]


def test_initialisation_follows_the_generator() -> None:
    network = patchgan.Config().build(6)
    initialise(network, torch.Generator().manual_seed(5))
    first = [parameter.clone() for parameter in network.parameters()]
    state = torch.get_rng_state()
    initialise(network, torch.Generator().manual_seed(5))
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(a, b) for a, b in zip(first, network.parameters(), strict=True))
    big = next(m for m in network.modules() if isinstance(m, nn.Conv2d) and m.out_channels == 512)
    # 2,097,152 draws: standard errors are 1.4e-5 of the mean and 9.8e-6 of the deviation
    assert abs(big.weight.mean().item()) < 6e-5 and abs(big.weight.std().item() - 0.02) < 5e-5
    scales = torch.cat([m.weight for m in network.modules() if isinstance(m, nn.BatchNorm2d)])
    assert abs(scales.mean().item() - 1) < 0.003 and 0.018 < scales.std().item() < 0.022
    assert all(not b.any() for name, b in network.named_parameters() if name.endswith("bias"))


@pytest.mark.parametrize("layer_class", [Halve, Double])
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("shape", [(1, 6, 2, 2), (3, 6, 4, 8), (2, 6, 5, 7)])
def test_products_are_the_convolution(layer_class: Any, bias: bool, shape: tuple[int, ...]) -> None:
    layer = layer_class(6, 4, bias).double()
    convolution = layer_class(6, 4, bias).double()
    convolution.load_state_dict(layer.state_dict())
    convolution.few = 0
    answers = []
    for module in (layer, convolution):
        maps = image(*shape).double().requires_grad_()
        output = module(maps)
        (output * image(*output.shape, seed=2)).sum().backward()
        answers.append([output, maps.grad, *(parameter.grad for parameter in module.parameters())])
    for ours, theirs in zip(*answers, strict=True):
        assert torch.allclose(ours, theirs, rtol=1e-12, atol=1e-12)


def test_products_are_used_for_few_positions_only(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[str] = []
    for name in ("conv2d", "conv_transpose2d", "unfold", "fold"):
        original = getattr(nn.functional, name)
        monkeypatch.setattr(nn.functional, name, lambda *a, n=name, f=original, **k: (calls.append(n), f(*a, **k))[1])
    layers = nn.Sequential(Halve(2, 2), Double(2, 2))
    layers(image(1, 2, 32, 32)), layers(image(1, 2, 34, 32))
    assert calls == ["unfold", "fold", "conv2d", "conv_transpose2d"]  # 16 * 16 = 256 positions, 17 * 16 = 272


def test_the_mirror_repeats() -> None:
    row = torch.arange(3.0)[None, None, None]
    assert mirror_to_multiple(row, 10)[0, 0].tolist() == [[0, 1, 2, 2, 1, 0, 0, 1, 2, 2]] * 10
    assert mirror_to_multiple(row[..., :1], 4)[0, 0].tolist() == [[0] * 4] * 4


def test_padding_is_numpys_symmetric_padding() -> None:
    picture = image(1, 2, 5, 9)
    padded = mirror_to_multiple(picture, 8, least=16)
    assert np.array_equal(padded, np.pad(picture, ((0, 0), (0, 0), (0, 11), (0, 7)), mode="symmetric"))
    assert mirror_to_multiple(padded, 8) is padded


def test_interpolations_keep_pixel_areas_aligned() -> None:
    ramp = torch.tensor([[[[0.0, 4.0]]]])
    for kind, expected in (("nearest", [0.0, 0.0, 4.0, 4.0]), ("bilinear", [0.0, 1.0, 3.0, 4.0])):
        module = upsample(kind, 1, 1)  # type: ignore[arg-type]
        nn.init.ones_(module[0].weight), nn.init.zeros_(module[0].bias)  # type: ignore[index]
        assert module(ramp)[0, 0].tolist() == [expected, expected]


@pytest.mark.parametrize("kind", ["bilinear", "nearest", "transposed"])
@pytest.mark.parametrize("factor", [2, 4])
def test_upsampling_shape(kind: Any, factor: int) -> None:
    assert upsample(kind, 6, 3, factor)(image(2, 6, 5, 7)).shape == (2, 3, 5 * factor, 7 * factor)


def test_a_pix2pix_that_shuffles_pixels_starts_without_a_checkerboard() -> None:
    """Right after the shuffle all four pixels of a cell are alike, though the weights are drawn as the paper says."""
    built = pix2pix_unet.Config(width=4, depth=3, upsample="pixel_shuffle").build(3, 3)
    shuffles = [module for module in built.modules() if isinstance(module, Projected)]
    assert len(shuffles) == 3
    for shuffle in shuffles:
        larger = shuffle(image(1, shuffle[0].in_channels, 3, 3))
        assert torch.equal(larger[..., ::2, ::2], larger[..., 1::2, 1::2]) and larger.std() > 0
    with pytest.raises(ValidationError, match="unpool needs the indices of a max pooling"):
        pix2pix_unet.Config(upsample="unpool")


def test_norms() -> None:
    maps = image(2, 12, 4, 4) * 3 + 1
    flat = norm("instance", 12)(maps).flatten(2)
    assert torch.allclose(flat.mean(2), torch.zeros(2, 12), atol=1e-5)
    group = norm("group", 12)
    assert isinstance(group, nn.GroupNorm) and group.num_groups == 4
    assert torch.equal(norm("none", 12)(maps), maps)


@pytest.mark.parametrize(
    ("config", "changes"),
    [
        (unet.Config, {"depth": 1, "output_stride": 4}),
        (unet.Config, {"pretrained": True}),
        (unet.Config, {"norm": "layer"}),
        (unet.Config, {"width": 0}),
        (pix2pix_unet.Config, {"depth": 7, "dropout_stages": (2, 7)}),
        (pix2pix_unet.Config, {"norm": "layer"}),
        (patchgan.Config, {"layers": -1}),
        (regressor.Config, {"channels": ()}),
    ],
)
def test_impossible_settings_are_refused(config: Any, changes: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        config(**changes)


def test_own_networks_import_neither_torchvision_nor_timm() -> None:
    code = (
        "import sys, torch\n"
        "from pixelwise.nn.networks import encoder_decoder, patchgan, pix2pix_unet, regressor, segnet, unet\n"
        "from pixelwise.nn import receptive_field\n"
        "for module in (encoder_decoder, patchgan, pix2pix_unet, regressor, segnet, unet):\n"
        "    module.Config().build(3, 1)(torch.rand(2, 3, 64, 64))\n"
        "assert not {'timm', 'torchvision'} & set(sys.modules)\n"
    )
    path = {"PYTHONPATH": ":".join(sys.path)}
    done = subprocess.run([sys.executable, "-c", code], env=path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("name", ["resnet18", "mobilenetv3_small_100", "vit_tiny_patch16_224"])
def test_timm_encoders(name: str) -> None:
    network = unet.Config(encoder=name, width=4, output_stride=2).build(5, 2)
    output = network(image(2, 5, 37, 53))
    assert output.shape == (2, 2, 19, 27)
    output.sum().backward()
    assert network.stages["2"].enlarge[0].weight.grad.abs().max() > 0  # type: ignore[union-attr, index, operator]


def test_timm_encoder_normalises_the_image() -> None:
    encoder = TimmEncoder("resnet18", 3).eval()
    picture = image(1, 3, 128, 128)
    mean, deviation = (torch.tensor(v)[:, None, None] for v in ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]))
    expected = encoder.network((picture - mean) / deviation)
    for found, feature in zip(encoder(picture).values(), expected, strict=True):
        assert torch.equal(found, feature)
    assert encoder.channels == {2: 64, 4: 64, 8: 128, 16: 256, 32: 512}


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("resnet81", "did you mean 'resnet18'?"),
        ("resnet18.imagenet", "resnet18.a1_in1k"),
        ("hf-hub:someone/resnet18", ""),
        ("maxvit_tiny_tf_224", "window"),
    ],
)
def test_unknown_encoders(name: str, hint: str) -> None:
    with pytest.raises(UsageError, match="encoder") as caught:
        unet.Config(encoder=name).build(3, 1)
    assert hint in caught.value.hint


def test_pretrained_without_network(monkeypatch: pytest.MonkeyPatch) -> None:
    hub = pytest.importorskip("timm.models._builder")

    def refuse(*_: Any, **__: Any) -> None:
        raise OSError("no route to host")

    monkeypatch.setattr(hub, "load_pretrained", refuse)
    config = unet.Config(encoder="resnet18", pretrained=True)
    with pytest.raises(ModelError, match="resnet18") as caught:
        config.build(3, 1)
    assert "pretrained=false" in caught.value.hint
    untrained = config.untrained()
    assert not untrained.pretrained and untrained.encoder == "resnet18"
    assert untrained.build(3, 1).encoder.channels[32] == 512


def test_pix2pix_normalises_each_picture_by_itself_in_evaluation() -> None:
    """What published pix2pix does at test time: equal to training mode at batch 1, dropout aside."""
    torch.manual_seed(0)
    network = pix2pix_unet.Config(width=8, depth=5, dropout=0).build(3, 3)
    images = torch.randn(3, 3, 64, 64)
    with torch.no_grad():
        evaluated = network.eval()(images)
        trained = torch.cat([network.train()(image[None]) for image in images])
    torch.testing.assert_close(evaluated, trained, atol=1e-6, rtol=0)
    running = pix2pix_unet.Config(width=8, depth=5, dropout=0, test_statistics="running").build(3, 3).eval()
    running.load_state_dict(network.state_dict())
    with torch.no_grad():
        assert (running(images) - evaluated).abs().max() > 1e-3
