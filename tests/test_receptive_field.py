"""Receptive fields against numbers worked by hand, published ones, and gradients at every position."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator
from fractions import Fraction
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from pixelwise.errors import ModelError
from pixelwise.nn.networks import (
    cpm,
    encoder_decoder,
    fcn,
    hourglass,
    openpose,
    patchgan,
    pix2pix_unet,
    regressor,
    residual,
    segnet,
    simple_baseline,
    stack,
    unet,
)
from pixelwise.nn.receptive_field import LayerSight, Line, Reach, follow, reach, receptive_field
from pixelwise.nn.sensitivity import Extent, extents


class Computed(nn.Module):
    """What a function makes of the picture, with the layers it needs."""

    def __init__(self, function: Callable[..., Any], *layers: nn.Module) -> None:
        super().__init__()
        self.function, self.layers = function, nn.ModuleList(layers)

    def forward(self, image: Tensor) -> Any:
        return self.function(image, *self.layers)


def conv(inputs: int = 2, outputs: int = 2, kernel: Any = 3, *rest: Any, **settings: Any) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, kernel, *rest, **settings)


# Known numbers


@pytest.mark.parametrize("count", [1, 5, 100])
def test_stacked_convolutions_see_2n_plus_1(count: int) -> None:
    assert receptive_field(stack.Config(depth=count, width=2).build(1, 1), 1) == (2 * count + 1, 2 * count + 1)


@pytest.mark.parametrize(("layers", "field"), [(0, 1), (1, 16), (2, 34), (3, 70), (4, 142), (5, 286)])
def test_patchgan(layers: int, field: int) -> None:
    # backwards through 4x4 convolutions of stride 1, 1, 2, 2, 2: 4, 7, 16, 34, 70
    assert receptive_field(patchgan.Config(layers=layers, width=2).build(6), 6) == (field, field)


@pytest.mark.parametrize(("name", "field"), [("resnet18", 435), ("resnet50", 427)])
def test_resnets(name: str, field: int) -> None:
    """Backwards, 3x3 convolutions only: 7 of stride 32, then 15, ... (torchvision strides the 3x3, not the 1x1, of a block)."""
    network = getattr(importlib.import_module("torchvision.models"), name)()
    assert receptive_field(nn.Sequential(*list(network.children())[:-2]), 3, (1024, 1024)) == (field, field)


def test_vgg_16() -> None:
    """Araujo, Norris and Sim 2019, table 1."""
    vgg = importlib.import_module("torchvision.models.vgg")
    assert receptive_field(vgg.make_layers(vgg.cfgs["D"]), 3) == (212, 212)


def test_parallel_branches() -> None:
    """The wider one counts, where sequential counting would add them."""
    both = Computed(lambda image, near, far: near(image).relu() + far(image).tanh(), conv(padding=1), conv(2, 2, 11, padding=5))
    assert receptive_field(both, 2) == (11, 11)


def test_not_square() -> None:
    assert receptive_field(conv(1, 1, (3, 5), dilation=(2, 3)), 1) == (5, 13)


@pytest.mark.parametrize(
    ("kind", "fields"),
    [
        *((kind, {188, 204}) for kind in ("nearest", "transposed", "pixel_shuffle", "unpool")),
        ("bilinear", {220, 236}),
        ("bed_of_nails", {172, 188}),  # between nails there is nothing to see
    ],
)
def test_unet_depends_on_the_position(kind: str, fields: set[int]) -> None:
    """Worked backwards for nearest: two 3x3 add 4, enlarging halves (how depends on the position), pooling doubles.

    Decoder: 1 + 4 = 5, 3 + 4 = 7, 4 + 4 = 8, (4 or 5) + 4, bottom (4 or 5) + 4 = 8 or 9.
    Encoder: 16 or 18, + 4 and doubled: 40 or 44, 88 or 96, 184 or 200, + 4 = 188 or 204.
    """
    output = follow(unet.Config.model_validate({"width": 1, "upsample": kind}).build(1, 1), 1).outputs[0]
    assert output.rows.law is not None and output.rows.law == output.columns.law
    assert set(output.rows.law.fields) == fields and output.rows.law.stride == 1
    assert len(output.rows.law.fields) == output.rows.law.positions == output.rows.law.pixels == 16


def test_position() -> None:
    # 3x3, stride 2, padding 1: output i sees rows 2i-1 ... 2i+1
    output = follow(nn.Conv2d(2, 3, 3, 2, 1), 2, (9, 10)).outputs[0]
    assert output.rows.first.tolist() == [0, 1, 3, 5, 7] and output.rows.end.tolist() == [2, 4, 6, 8, 9]
    assert output.rows.complete.tolist() == [False, True, True, True, False]
    assert output.columns.end.tolist() == [2, 4, 6, 8, 10] and output.columns.complete.tolist() == [False, *[True] * 4]


def test_layers() -> None:
    network = nn.Sequential(
        conv(1, 2, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Sequential(conv(padding=1)), nn.ConvTranspose2d(2, 1, 2, 2)
    )
    sight = follow(network, 1, (64, 64))
    expected = [("0", 3, 1), ("1", 3, 1), ("2", 4, 2), ("3.0", 8, 2), ("4", 8, 1)]
    assert [(one.layer, one.rows.field, one.rows.law and one.rows.law.stride) for one in sight.layers] == expected
    assert [one.kind for one in sight.layers] == ["Conv2d", "ReLU", "MaxPool2d", "Conv2d", "ConvTranspose2d"]
    assert sight.period == (2, 2) and sight.whole == [] and sight.placed is None


def test_several_outputs() -> None:
    network = Computed(lambda image, first, second: {"a": first(image), "b": [second(first(image))]}, conv(), conv(2, 2, 5))
    assert [output.rows.field for output in follow(network, 2).outputs] == [3, 7]
    assert receptive_field(network, 2) == (7, 7)
    with pytest.raises(ModelError, match="returns 2 tensors"):
        reach(network, 2)


# Against gradients, at every row and column


def swapped(image: Tensor, near: nn.Module, far: nn.Module, grouped: nn.Module) -> Tensor:
    """Two channels that see little, two that see much, exchanged, of which groups see only their own."""
    little, much = torch.cat([near(image), far(image)], 1).chunk(2, 1)
    return grouped(torch.stack([much, little], 1).flatten(1, 2))[:, 2:]


def to_depth(image: Tensor) -> Tensor:
    batch, channels, height, width = image.shape
    cells = image.view(batch, channels, height // 2, 2, width // 2, 2)
    return cells.permute(0, 3, 5, 1, 2, 4).reshape(batch, -1, height // 2, width // 2)


def windows(image: Tensor, mix: nn.Module) -> Tensor:
    """Means over windows of 4x4, as tokens, and back: what window attention relates."""
    batch, channels, height, width = image.shape
    cells = image.view(batch, channels, height // 4, 4, width // 4, 4).permute(0, 2, 4, 3, 5, 1)
    tokens = mix(cells.reshape(-1, 16, channels))
    tokens = tokens + tokens.mean(1, keepdim=True)
    cells = tokens.view(batch, height // 4, width // 4, 4, 4, channels).permute(0, 5, 1, 3, 2, 4)
    return cells.reshape(batch, channels, height, width)


def lattices(image: Tensor) -> Tensor:
    """Means over every second pixel: what MobileViT relates, and the grids of MaxViT. Each sees all but one row."""
    batch, channels, height, width = image.shape
    cells = image.view(batch, channels, height // 2, 2, width // 2, 2)
    return (cells + cells.mean((2, 4), keepdim=True)).view(image.shape)


def nails(image: Tensor, after: nn.Module) -> Tensor:
    larger = torch.zeros(1, 2, 2 * image.shape[2], 2 * image.shape[3], dtype=image.dtype)
    larger[..., ::2, 1::2] = image
    return after(larger)


def written(image: Tensor, first: nn.Module) -> Tensor:
    """A view taken before its base is written into has the new values."""
    maps = first(image)
    part, turned = maps[:, :, 2:-2], maps.transpose(2, 3)
    maps += functional.pad(image, (3, -3))
    turned[:, :, 3] *= 2
    turned.select(2, 4).add_(image[:, :, :, 0])
    return part + 0


def indexed(image: Tensor, first: nn.Module) -> Tensor:
    order = torch.arange(image.shape[2] // 2) * 2 + 1
    return first(image[:, [1, 0]][:, :, order].index_select(3, order.flip(0)))


CASES: dict[str, nn.Module] = {
    "strided": conv(2, 3, (3, 2), stride=(2, 3), padding=(2, 1)),
    "dilated": conv(2, 4, (3, 5), dilation=(2, 3), groups=2),
    "same": conv(2, 2, 5, padding="same"),
    "transposed": nn.ConvTranspose2d(2, 2, (4, 3), (2, 3), (1, 0), (1, 2), dilation=(1, 2)),
    "average pooling": nn.AvgPool2d(3, 2, 1, ceil_mode=True),
    "maximum pooling": nn.MaxPool2d((2, 3), (2, 2), ceil_mode=True),
    "adaptive pooling": nn.AdaptiveAvgPool2d((5, 3)),
    "3-D pooling": Computed(lambda x: functional.avg_pool3d(x[:, None], (2, 3, 2))[:, 0]),
    "nearest": nn.Upsample(scale_factor=3),
    "nearest 1.7": nn.Upsample(scale_factor=1.7),
    "nearest to size": nn.Upsample((7, 31)),
    "nearest exact": nn.Upsample((7, 31), mode="nearest-exact"),
    "bilinear": Computed(lambda x, c: c(functional.interpolate(x, scale_factor=2, mode="bilinear")), conv()),
    "bilinear 3": nn.Upsample(scale_factor=3, mode="bilinear"),
    "bilinear smaller": nn.Upsample((5, 6), mode="bilinear"),
    "bilinear aligned": nn.Upsample((25, 33), mode="bilinear", align_corners=True),
    "constant padding": Computed(lambda x, c: c(functional.pad(x, (3, -1, 0, 4))), conv()),
    "channel padding": Computed(lambda x, c: c(functional.pad(x, (0, 0, 0, 0, 1, 1))), conv(4, 4, groups=2)),
    "reflection": Computed(lambda x, c: c(functional.pad(x, (3, 1, 0, 4), mode="reflect")), conv()),
    "replication": Computed(lambda x, c: c(functional.pad(x, (3, 1, 0, 4), mode="replicate")), conv()),
    "circular": conv(2, 2, 3, padding=1, padding_mode="circular"),
    "groups of a concatenation": Computed(swapped, conv(padding=1), conv(2, 2, 5, padding=2), conv(4, 4, padding=1, groups=2)),
    "channel shuffle": Computed(
        lambda x, a, b, c: c(functional.channel_shuffle(torch.cat([a(x), b(x)], 1), 2)),
        *(conv(padding=1), conv(2, 2, 5, padding=2), conv(4, 4, groups=4)),
    ),
    "pixel shuffle": Computed(lambda x, a, b: b(functional.pixel_shuffle(a(x), 2)), conv(2, 8, 3), conv()),
    "pixel unshuffle": Computed(lambda x, c: c(functional.pixel_unshuffle(x, 2)), conv(8, 2)),
    "space to depth": Computed(lambda x, c: c(to_depth(x)), conv(8, 2, groups=2)),
    "one phase of it": Computed(lambda x, c: c(to_depth(x)[:, 6:]), conv()),
    "linear over channels": Computed(
        lambda x, c, d: d(c(x).permute(0, 2, 3, 1).flatten(0, 2)).view(1, 16, 20, 2).permute(0, 3, 1, 2),
        *(conv(padding=1), nn.Linear(2, 2)),
    ),
    "einsum": Computed(lambda x, c: torch.einsum("bchw,dc->bdhw", c(x), torch.ones(3, 2, dtype=x.dtype)), conv()),
    "windows": Computed(lambda x, c, m: windows(c(x), m), conv(padding=1), nn.Linear(2, 2)),
    "unfold, fold": Computed(
        lambda x, c, d: functional.fold(d(functional.unfold(c(x), 3, 2, 1, 2)), (13, 18), (3, 2), 1, (1, 0), 2),
        *(conv(padding=1), nn.Conv1d(18, 12, 1)),
    ),
    "unfold of a tensor": Computed(lambda x: x.unfold(2, 3, 2).mean(-1).unfold(3, 2, 1).amax(-1)),
    "flip, roll": Computed(lambda x, c: c(x.flip(2)).roll((2, -3), (2, 3)), conv()),
    "bed of nails": Computed(nails, conv()),
    "memory shared": Computed(written, conv(padding=1)),
    "indices": Computed(indexed, conv()),
    "pieces": Computed(lambda x, c: c(torch.cat([x.split([5, 11], 2)[1], torch.stack(x.unbind(2)[2:4], 2)], 2)), conv()),
    "repeated": Computed(lambda x, c: c(x.repeat(1, 1, 2, 1).repeat_interleave(2, 3)), conv()),
    "columns to their mean": Computed(lambda x, c: c(x) + torch.zeros(1, 2, 14, 18, dtype=x.dtype), conv()),
    "glu": Computed(lambda x, c: functional.glu(c(x), 1), conv(2, 4)),
}


def checked(network: nn.Module, channels: int, size: tuple[int, int], count: int = 30) -> int:
    """Compare both methods along a diagonal of the output, and return how many positions were compared."""
    output = follow(network, channels, size).outputs[0]
    rows, columns = len(output.rows.first), len(output.columns.first)
    steps = range(0, max(rows, columns), -(-max(rows, columns) // count))
    positions = sorted({(min(step, rows - 1), min(step, columns - 1)) for step in (*steps, max(rows, columns) - 1)})
    positions = [(row, columns - 1 - column) for row, column in positions]
    found = [seen_by(output, *position) for position in positions]
    assert found == extents(network, channels, size, positions)
    return len(positions)


def seen_by(output: LayerSight, row: int, column: int) -> Extent:
    rows, columns = output.rows, output.columns
    found = Extent(*(int(side) for side in (rows.first[row], columns.first[column], rows.end[row], columns.end[column])))
    return found if all(found.size) else Extent(0, 0, 0, 0)


@pytest.mark.parametrize("network", CASES.values(), ids=CASES)
def test_operations(network: nn.Module) -> None:
    assert checked(network, 2, (16, 20)) >= 5


def kinds() -> Iterator[tuple[str, nn.Module, tuple[int, int]]]:
    for upsample in ("bed_of_nails", "nearest", "bilinear", "transposed", "pixel_shuffle"):
        yield f"unet {upsample}", unet.Config(width=1, depth=3, upsample=upsample).build(1, 1), (120, 101)
        yield f"encoder_decoder {upsample}", encoder_decoder.Config(width=1, depth=2, upsample=upsample).build(1, 1), (64, 71)
    yield "unet, stride 4", unet.Config(width=1, output_stride=4).build(1, 1), (256, 224)
    yield "segnet", segnet.Config(width=1, depth=2, upsample="nearest").build(1, 1), (64, 72)
    yield "fcn", fcn.Config(width=1, hidden=2).build(1, 1), (288, 320)
    yield "hourglass", hourglass.Config(width=4, depth=2, stacks=1, norm="none").build(1, 1), (192, 160)
    pose = cpm.Config(width=4, stages=2, kernel=3, stage_kernel=3, stage_dilation=2, output_stride=4)
    yield "cpm", pose.build(1, 1), (100, 120)
    yield "openpose", openpose.Config(width=2, encoder_width=2, norm="none", output_stride=2).build(1, 1), (150, 130)
    yield "simple_baseline", simple_baseline.Config(width=2, encoder_width=2, depth=3, norm="none").build(1, 1), (96, 104)
    yield "residual", residual.Config(width=1, blocks=2, norm="batch").build(1, 1), (71, 64)
    yield "stack", stack.Config(width=1, depth=9).build(1, 1), (30, 25)
    yield "patchgan", patchgan.Config(width=1).build(1), (130, 100)
    yield "pix2pix", pix2pix_unet.Config(width=1, depth=4, test_statistics="running").build(1, 1), (100, 96)
    yield "regressor", regressor.Config(channels=(2, 2), grid=(5, 7)).build(1, 1).features, (96, 80)


KINDS = {name: (network, size) for name, network, size in kinds()}


@pytest.mark.parametrize(("network", "size"), KINDS.values(), ids=KINDS)
def test_our_networks(network: nn.Module, size: tuple[int, int]) -> None:
    assert checked(network, 1, size) >= 6


def trunks() -> Iterator[tuple[str, nn.Module]]:
    models = importlib.import_module("torchvision.models")
    blocks = [models.convnext.CNBlockConfig(4, 8, 1), models.convnext.CNBlockConfig(8, None, 2)]
    yield "alexnet", models.alexnet().features
    yield "vgg11", models.vgg.make_layers(models.vgg.cfgs["A"])
    yield "resnet18", nn.Sequential(*list(models.resnet18().children())[:-2])
    yield "mobilenet_v3_small", models.mobilenet_v3_small().features
    yield "convnext", models.ConvNeXt(blocks).features
    yield "densenet", models.DenseNet(4, (2, 3, 2), 8).features


TRUNKS = dict(trunks())


@pytest.mark.parametrize("trunk", TRUNKS.values(), ids=TRUNKS)
def test_torchvision(trunk: nn.Module) -> None:
    checked(without_excitation(trunk), 3, (96, 128), 4)


@pytest.mark.parametrize("name", ["resnet18", "convnext_atto", "efficientnet_b0"])
def test_timm(name: str) -> None:
    trunk = importlib.import_module("timm").create_model(name, num_classes=0, global_pool="")
    checked(without_excitation(trunk), 3, (96, 128), 4)


def without_excitation(network: nn.Module) -> nn.Module:
    """Take out what lets every position see the whole picture."""
    for module in list(network.modules()):
        for name, part in module.named_children():
            if type(part).__name__ in ("SqueezeExcitation", "SqueezeExcite"):
                setattr(module, name, nn.Identity())
    return network


def test_unpooling_sees_where_the_maximum_was() -> None:
    """An output lies in one window: it depends on all of the 2x2 that were compared, and on the value put there."""

    def unpooled(image: Tensor, after: nn.Module) -> Tensor:
        maps, indices = functional.max_pool2d(image, 2, return_indices=True)
        return functional.max_unpool2d(after(maps), indices, 2)

    line = follow(Computed(unpooled, conv(padding=1)), 2, (12, 12)).outputs[0].rows
    assert line.first.tolist() == [0, 0, 0, 0, 2, 2, 4, 4, 6, 6, 8, 8]
    assert line.end.tolist() == [4, 4, 6, 6, 8, 8, 10, 10, 12, 12, 12, 12]
    assert line.complete.tolist() == [False] * 2 + [True] * 8 + [False] * 2
    # the value may come from far; where it is put comes from near
    indices_only = Computed(lambda image: unpooled(image, nn.Hardtanh()))
    assert receptive_field(indices_only, 2) == (2, 2)


# The whole picture


@pytest.mark.parametrize(
    ("network", "layer"),
    [
        (nn.Sequential(conv(), nn.InstanceNorm2d(2), conv()), "1"),
        (nn.Sequential(conv(), nn.ReLU(), nn.GroupNorm(2, 2)), "2"),
        (nn.Sequential(conv(), nn.BatchNorm2d(2, track_running_stats=False)), "1"),
        (nn.Sequential(conv(), Computed(lambda x, c: x * c(x.mean((2, 3), keepdim=True)), conv(2, 2, 1))), "1"),
        (Computed(lambda x, c: c(x) + functional.adaptive_max_pool2d(x, 1), conv(padding=1)), "Computed"),
        (nn.Sequential(conv(), Computed(lambda x: x.flatten(2).softmax(-1).view(x.shape))), "1"),
        (nn.Sequential(conv(2, 2, 1), Computed(lattices)), "1"),
    ],
)
def test_statistics_of_the_whole_picture(network: nn.Module, layer: str) -> None:
    sight = follow(network, 2, (40, 40))
    assert sight.whole == [layer]
    assert sight.outputs[0].rows.everything == sight.outputs[0].columns.everything == (layer,)
    assert reach(network, 2).whole == layer


def test_batch_norm_in_evaluation_is_local() -> None:
    assert follow(nn.Sequential(conv(), nn.BatchNorm2d(2)).train(), 2, (40, 40)).whole == []


def test_fields_leave_the_whole_picture_aside() -> None:
    assert receptive_field(nn.Sequential(conv(), nn.InstanceNorm2d(2), conv()), 2) == (5, 5)


def test_the_mean_of_columns_sees_whole_rows() -> None:
    sight = follow(Computed(lambda x, c: x + c(x.mean(3, keepdim=True)), conv(2, 2, (3, 1), padding=(1, 0))), 2, (20, 30))
    assert sight.outputs[0].rows.everything == () and sight.outputs[0].rows.field == 3
    assert sight.outputs[0].columns.everything == ("Computed",) and sight.outputs[0].columns.field == 1


def test_a_vector_sees_everything() -> None:
    sight = follow(regressor.Config(channels=(2, 2), hidden=3).build(1, 4), 1, (24, 32))
    assert sight.whole == ["head.1"]
    with pytest.raises(ModelError, match=r"'head\.1' sees the whole picture"):
        receptive_field(regressor.Config(channels=(2, 2), hidden=3).build(1, 4), 1)


def test_attention_and_position() -> None:
    network = importlib.import_module("timm").create_model(
        "vit_tiny_patch16_224", depth=1, num_classes=0, global_pool="", dynamic_img_size=True
    )
    sight = follow(network, 3, (64, 64))
    assert sight.whole == ["blocks.0.attn"] and sight.placed == "VisionTransformer"
    patches = next(one for one in sight.layers if one.layer == "patch_embed.proj")
    assert (patches.rows.first.tolist(), patches.columns.end.tolist()) == ([0, 16, 32, 48], [16, 32, 48, 64])


def test_constants_that_differ_from_place_to_place() -> None:
    def ramp(image: Tensor, after: nn.Module) -> Tensor:
        column = torch.linspace(0, 1, image.shape[2])[:, None].expand(image.shape[2:])
        return after(torch.cat([image, column[None, None]], 1))

    assert follow(Computed(ramp, conv(3)), 2, (20, 20)).placed == "Computed"
    scaled = Computed(lambda x, c: c(x) * torch.tensor([1.0, 2])[:, None, None] + torch.ones(14, 14), conv())
    assert follow(scaled, 2, (16, 16)).placed is None


# What cannot be followed

OPERATIONS = importlib.import_module("torchvision").ops


@pytest.mark.parametrize(
    ("function", "operation"),
    [
        (lambda x: functional.grid_sample(x, torch.zeros(1, 8, 8, 2), align_corners=False), "grid_sampler_2d"),
        (lambda x: x[x > 0], "aten.nonzero"),
        (lambda x: x.gather(3, x.argsort(3)), "gather"),
        (lambda x: torch.fft.rfft2(x).abs(), "_fft_r2c"),
        (lambda x: OPERATIONS.deform_conv2d(x, torch.zeros(1, 2, 8, 8), torch.ones(2, 2, 1, 1)), "deform_conv2d"),
    ],
)
def test_refused(function: Callable[[Tensor], Tensor], operation: str) -> None:
    network = nn.Sequential(conv(padding=1), nn.Sequential(Computed(function)))
    with pytest.raises(ModelError, match=rf"{operation}.* in layer '1\.0' cannot be followed"):
        follow(network, 2, (8, 8))


def test_a_decision_by_values_is_refused() -> None:
    network = nn.Sequential(conv(padding=1), nn.Sequential(Computed(lambda x: x * x.max().item())))
    with pytest.raises(ModelError, match=r"forward\(\) of layer '1\.0' decides by a value that it has computed"):
        follow(network, 2, (8, 8))


def test_sizes_that_do_not_fit() -> None:
    network = nn.Sequential(conv(), nn.Sequential(conv(3)))
    with pytest.raises(ModelError, match=r"does not take 2 x 8 x 9, in layer '1\.0'") as caught:
        follow(network, 2, (8, 9))
    assert "expected input" in caught.value.hint


def test_the_network_stays_as_it_was() -> None:
    network = patchgan.Config(width=2).build(3)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    reach(network, 3)
    assert network.training and all(torch.equal(before[name], value) for name, value in network.state_dict().items())
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in network.modules())


# Tiles


def tile(sides: tuple[int, int], stride: Fraction, side: int, before: int, after: int, period: int) -> tuple[int, int]:
    """Return first and last + 1 pixel of the tile for the outputs of a range, as `Reach` says."""
    start = (sides[0] * stride - before) // period * period
    end = -((-sides[1] * stride - after) // period) * period
    return max(0, int(start)), min(side, int(end))


def furthest(line: Line, place: int) -> int:
    """Return the first output from `place` on that sees as far before itself as any does."""
    assert line.law is not None
    middle = len(line.first) // 2 // line.law.positions * line.law.positions
    phases = range(middle, middle + line.law.positions)
    phase = max(phases, key=lambda other: other * line.law.stride - int(line.first[other])) - middle  # type: ignore[union-attr]
    return place + (phase - place) % line.law.positions


def difference(network: nn.Module, image: Tensor, look: Reach, less: int = 0) -> float:
    """Return by how much blocks of outputs from tiles differ from those of the whole picture, relative to the largest."""
    whole = network(image)
    sight = follow(network, image.shape[1]).outputs[0]
    worst = 0.0
    for share in (0.0, 0.3, 0.45, 0.8, 1.0):
        cut, here, there = [], [], []
        for axis, line in enumerate((sight.rows, sight.columns)):
            assert line.law is not None
            count, period, stride = whole.shape[axis + 2], look.period[axis], line.law.stride
            start = min(furthest(line, int(share * count)), count - 5)
            reaches = look.before[axis] - less * period, look.after[axis] - less * period
            first, end = tile((start, start + 5), stride, image.shape[axis + 2], *reaches, period)
            cut.append(slice(first, end))
            there.append(slice(start, start + 5))
            moved = start - int(first / stride)
            here.append(slice(moved, moved + 5) if moved >= 0 else slice(0, 0))
        part = network(image[..., cut[0], cut[1]])[..., here[0], here[1]]
        same = whole[..., there[0], there[1]]
        worst = max(worst, float("inf") if part.shape != same.shape else (part - same).abs().max().item())
    return worst / whole.abs().max().item()


def lively(network: nn.Module) -> nn.Module:
    """Give it random weights and statistics that leave most activations alive and do not cancel far away."""
    torch.manual_seed(0)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.running_mean, -0.2, 0.1)  # type: ignore[arg-type]
            nn.init.uniform_(module.running_var, 0.2, 0.5)  # type: ignore[arg-type]
        if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
            nn.init.uniform_(module.weight, -0.5, 1)
            module.weight.data /= module.weight[0].numel() / 3
    return network.double().eval()


TILED: dict[str, tuple[nn.Module, tuple[int, int], Reach | None]] = {
    **{
        f"unet {kind}": (
            unet.Config.model_validate({"width": 2, "depth": 2, "upsample": kind}).build(1, 1), (112, 95), None
        )
        for kind in ("bed_of_nails", "nearest", "bilinear", "unpool", "transposed", "pixel_shuffle")
    },
    "stride 4": (unet.Config(width=2, depth=2, output_stride=4).build(1, 1), (92, 104), None),
    "segnet": (segnet.Config(width=2, depth=2).build(1, 1), (92, 103), None),
    "hourglass": (hourglass.Config(width=4, depth=1, stacks=1).build(1, 1), (144, 152), None),
    "residual": (residual.Config(width=2, norm="batch", blocks=1).build(1, 1), (112, 108), None),
    "stack": (stack.Config(width=2, depth=7).build(1, 1), (40, 33), Reach((7, 7), (7, 7), (1, 1), None)),
    # without padding: output i sees rows 2i ... 2i + 4; beyond its own two pixels only downwards
    "valid": (nn.Sequential(conv(1), conv(2, 2, 3, 2)), (40, 33), Reach((0, 0), (3, 3), (2, 2), None)),
    # output i sees rows i + 4 ... i + 6; that of row 0 is made of padding, though the picture goes on there
    "cropped": (Computed(lambda x, c: c(x[..., 5:, 5:]), conv(1, padding=1)), (40, 33), Reach((1, 1), (6, 6), (1, 1), None)),
    # 4x4 convolutions with padding 1: -23 ... +47 around the 8 pixels of an output
    "patchgan": (patchgan.Config(width=2).build(1), (168, 120), Reach((23, 23), (39, 39), (8, 8), None)),
    "windows": (Computed(windows, nn.Linear(1, 1)), (32, 40), Reach((3, 3), (3, 3), (4, 4), None)),
}  # fmt: skip


@pytest.mark.parametrize(("network", "size", "expected"), TILED.values(), ids=TILED)
@torch.no_grad()
def test_tiles_equal_the_whole(network: nn.Module, size: tuple[int, int], expected: Reach | None) -> None:
    network = lively(network)
    look = reach(network, 1)
    assert look.whole is None and (expected is None or look == expected)
    image = torch.rand(1, 1, *size, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    assert network(image).std() > 1e-3 * network(image).abs().max()
    assert difference(network, image, look) < 1e-13
    assert difference(network, image, look, less=1) > 1e-9
    single = network.float()
    assert difference(single, image.float(), look) < 1e-5


@torch.no_grad()
def test_tiles_of_a_network_that_enlarges() -> None:
    """Output i, whose own pixels are i / 2 ... (i + 1) / 2, sees i // 2 ... (i + 2) // 2 + 2: 0.5 and 3.5 more."""
    network = lively(nn.Sequential(conv(1, 4), nn.PixelShuffle(2), conv(1, 1)))
    look = reach(network, 1)
    assert look == Reach((1, 1), (4, 4), (1, 1), None)
    assert difference(network, torch.rand(1, 1, 32, 41, dtype=torch.float64), look) < 1e-13


@torch.no_grad()
def test_tiles_of_a_timm_unet() -> None:
    network = lively(unet.Config(width=2, encoder="resnet18").build(3, 1))
    look = reach(network, 3)
    assert look == Reach((341, 341), (310, 310), (32, 32), None)
    image = torch.rand(1, 3, 768, 64, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    whole, start = network(image), 384
    part = network(image[..., start - 352 : start + 320, :])
    assert torch.allclose(part[..., 352:362, :], whole[..., start : start + 10, :], rtol=1e-10, atol=0)


class Pyramid(nn.Module):
    """Averages over a grid of the picture, whatever its size, beside what is near (Zhao et al. 2017)."""

    def __init__(self) -> None:
        super().__init__()
        self.near, self.grid = conv(padding=1), nn.AdaptiveAvgPool2d(3)

    def forward(self, image: Tensor) -> Tensor:
        return torch.cat([self.near(image), functional.interpolate(self.grid(image), image.shape[-2:])], 1)


@pytest.mark.parametrize(
    ("network", "layer"),
    [
        (nn.Sequential(conv(2, 2, 3, 2, 1), nn.Upsample(scale_factor=2, mode="bilinear", align_corners=True)), "1"),
        (Pyramid(), "grid"),
        (nn.Sequential(conv(padding=1), nn.Upsample((128, 128), mode="nearest")), "1"),
        (nn.Sequential(conv(padding=1), nn.AdaptiveAvgPool2d((64, 64)), conv()), "1"),
        (nn.Sequential(conv(), Computed(lambda x: x.flip(3))), "1"),
    ],
)
def test_what_depends_on_the_size_of_the_picture_cannot_be_tiled(network: nn.Module, layer: str) -> None:
    assert reach(network, 2).whole == layer


def test_steps_that_the_output_does_not_show() -> None:
    """The wide branch hides what the strided one sees, but not that it moves in steps of 4."""
    branches = Computed(
        lambda image, wide, small: wide(image) + functional.interpolate(small(image), scale_factor=4),
        *(conv(padding=8, kernel=17), conv(2, 2, 1, 4)),
    )
    assert reach(branches, 2) == Reach((8, 8), (8, 8), (4, 4), None)


def test_layers_return_what_they_like() -> None:
    network = nn.Sequential(conv(), nn.MaxPool2d(2, return_indices=True), Computed(lambda both: (None, both[0] + 1)))
    network.append(Computed(lambda both: None))
    sight = follow(network, 2, (20, 20))
    assert [one.rows.field for one in sight.layers] == [3, 4, 4] and sight.outputs == []
