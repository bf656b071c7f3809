"""Networks for poses: as large as published, seeing what the paper says, stage after stage, and not half a pixel beside."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest
import torch
from pydantic import ValidationError
from torch import Tensor, nn

from pixelwise.catalogue import Wanted, find
from pixelwise.errors import UsageError
from pixelwise.nn.network import NetworkConfig
from pixelwise.nn.networks import cpm, hourglass, openpose, simple_baseline, unet
from pixelwise.nn.receptive_field import follow, receptive_field
from pixelwise.nn.stages import stages_of

SMALL: dict[str, NetworkConfig] = {
    "cpm": cpm.Config(width=16, stages=3, kernel=5, stage_kernel=5),
    "cpm of stride 2": cpm.Config(width=16, stages=2, kernel=3, stage_kernel=3, stage_dilation=3, output_stride=2),
    "openpose": openpose.Config(width=8, encoder_width=4, heads=(2, 1)),
    "openpose of 2017": openpose.Config(width=8, encoder_width=4, refinement="convolutions", output_stride=4, heads=(2, 1)),
    "hourglass": hourglass.Config(width=8, stacks=2, depth=2, norm="batch", output_stride=1),
}
EXACT: dict[str, NetworkConfig] = {
    **{name: config for name, config in SMALL.items() if name != "hourglass"},
    **{
        f"simple_baseline, {kind}": simple_baseline.Config(width=8, encoder_width=4, depth=4, upsample=kind)  # type: ignore[arg-type]
        for kind in ("deconvolution", "nearest", "bilinear", "transposed", "pixel_shuffle")
    },
}


def built(config: NetworkConfig, out: int = 3) -> nn.Module:
    torch.manual_seed(0)
    return config.build(3, out)


def parameters(network: nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


def convolution(before: int, after: int, kernel: int) -> int:
    return before * after * kernel**2 + after


def on_meta(config: NetworkConfig, out: int) -> nn.Module:
    with torch.device("meta"):
        return config.build(3, out)


# ---- size


@pytest.mark.parametrize(("stages", "total"), [(1, 4_386_095), (2, 11_885_918), (6, 30_732_698)])
def test_cpm_parameters(stages: int, total: int) -> None:
    """14 parts and the background, as the authors' layers have them, without their map of the person's place."""
    features = convolution(3, 128, 9) + 2 * convolution(128, 128, 9) + convolution(128, 32, 5)
    first = convolution(32, 512, 9) + convolution(512, 512, 1) + convolution(512, 15, 1)
    later = convolution(32 + 15, 128, 11) + 2 * convolution(128, 128, 11) + convolution(128, 128, 1) + convolution(128, 15, 1)
    assert (features, first, later) == (2_788_128, 1_597_967, 4_711_695)
    counted = features + first + (stages > 1) * features + (stages - 1) * later
    assert parameters(on_meta(cpm.Config(stages=stages), 15)) == counted == total


def test_simple_baseline_parameters() -> None:
    """ResNet-50 without its classifier, three deconvolutions of 256 with norms, 17 joints: the published 34.0 million."""
    resnet = 25_557_032 - 2_049_000  # torchvision's count, and of that the classifier: 2048 * 1000 + 1000
    decoder = 16 * 256 * (2048 + 256 + 256) + 3 * 2 * 256
    network = built(simple_baseline.Config(encoder="resnet50"), 17)
    assert parameters(network) == resnet + decoder + 256 * 17 + 17 == 33_999_697
    assert network.multiple == 32 and network.stride == 4


def test_parameters_of_our_residual_encoder() -> None:
    # 3>2 | 2>2>2 | 2>4>4 and 1x1 | deconvolution 4>5 with norm | 5>1; 9 weights per 3x3, 2 numbers per normed channel
    encoder = 9 * 3 * 2 + 4 + 2 * (9 * 2 * 2 + 4) + (9 * 2 * 4 + 8) + (9 * 4 * 4 + 8) + (2 * 4 + 4)
    small = simple_baseline.Config(width=5, encoder_width=2, depth=1, output_stride=1)
    assert parameters(on_meta(small, 1)) == encoder + 16 * 4 * 5 + 2 * 5 + 5 + 1


def test_openpose_parameters() -> None:
    """The stages of the 2017 paper for 19 beliefs and 19 limbs: two branches each, 185 channels in."""
    published = {"width": 128, "refinement": "convolutions", "norm": "none", "heads": (19, 38)}
    one, six = (on_meta(openpose.Config(refinements=n, **published), 57) for n in (0, 5))  # type: ignore[arg-type]
    branches = [(convolution(185, 128, 7) + 4 * convolution(128, 128, 7) + convolution(128, 128, 1)) * 2]
    branches.append(convolution(128, 19, 1) + convolution(128, 38, 1))
    assert parameters(six) - parameters(one) == 5 * sum(branches) == 43_924_125
    first = 2 * (3 * convolution(128, 128, 3) + convolution(128, 512, 1)) + convolution(512, 19, 1) + convolution(512, 38, 1)
    assert parameters(one.first) == first


def test_lightweight_openpose_parameters() -> None:
    """Five blocks for both heads: about an eighth of the two branches of five 7x7 convolutions."""
    light = on_meta(openpose.Config(width=128, norm="none", heads=(19, 38)), 57)
    block = convolution(128, 128, 1) + 2 * convolution(128, 128, 3)
    blocks = 5 * block + 57 * 128  # the first one sees the scores too
    heads = 2 * convolution(128, 128, 1) + convolution(128, 19, 1) + convolution(128, 38, 1)
    assert parameters(light.following[0]) == blocks + heads
    first = 3 * convolution(128, 128, 3) + 2 * convolution(128, 512, 1) + convolution(512, 19, 1) + convolution(512, 38, 1)
    assert parameters(light.first) == first


# ---- place


def mirrored(network: nn.Module) -> nn.Module:
    """Return the network with every kernel mirrored: what it says of a mirrored picture, if it moves nothing."""
    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
            module.weight.data = module.weight.data.flip(-1, -2).clone()
    return network


def beside(network: nn.Module, picture: Tensor) -> float:
    """Return how much the answer changes if picture and kernels are mirrored, and the answer mirrored back."""
    network = network.double().eval()
    with torch.no_grad():
        straight, back = network(picture), mirrored(network)(picture.flip(-1, -2)).flip(-1, -2)
    return float((straight - back).abs().max() / straight.std())


@pytest.mark.parametrize("name", EXACT)
def test_nothing_moves_by_half_a_pixel(name: str) -> None:
    picture = torch.rand(1, 3, 64, 80, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    assert beside(built(EXACT[name]), picture) < 1e-9


def test_one_sided_pooling_would_be_found() -> None:
    """The authors' pooling over 3x3 lies half a pixel to the right of each pair, the published stem of the hourglass left."""
    picture = torch.rand(1, 3, 64, 80, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    assert beside(one_sided(built(SMALL["cpm"])), picture) > 0.01
    assert beside(built(hourglass.Config(width=8, stacks=1, depth=1)), picture) > 0.01


def one_sided(network: nn.Module) -> nn.Module:
    for module in list(network.modules()):
        for name, child in list(module.named_children()):
            if isinstance(child, nn.MaxPool2d):
                setattr(module, name, nn.MaxPool2d(3, 2, ceil_mode=True))
    return network


@pytest.mark.parametrize("name", EXACT)
def test_a_blob_stays_where_it_is(name: str) -> None:
    """With weights that only add up, the centre of what a block of the picture causes is the block's own, at the stride."""
    network = built(EXACT[name], 3).double().eval()
    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
            nn.init.constant_(module.weight, 1 / module.weight[0].numel())
            if module.bias is not None:
                nn.init.zeros_(module.bias)
    picture = torch.zeros(1, 3, 448, 448, dtype=torch.float64)
    picture[..., 208:224, 224:240] = 1  # the middle at (232, 216), on whole cells of stride 16
    with torch.no_grad():
        caused = (network(picture) - network(torch.zeros_like(picture)))[0].sum(0)
    place = (torch.arange(len(caused)) + 0.5) * network.stride
    x, y = ((caused.sum(axis) * place).sum() / caused.sum() for axis in (0, 1))
    assert (float(x), float(y)) == pytest.approx((232, 216), abs=1e-6)


# ---- sight


def test_the_fields_of_the_pose_machine_are_the_papers() -> None:
    """Wei et al. 2016 state 26, 60, 96 and 160 pixels through the first stage, and 400 after the second."""
    network = cpm.Config(width=4).build(3, 2)
    seen = {one.layer: one.rows.field for one in follow(network, 3).layers}
    assert [seen[f"first.0.{place}.0"] for place in (0, 2, 4, 6)] == [9, 26, 60, 96]
    stages = [seen["first.1.2"], *(seen[f"following.{n}.4"] for n in range(5))]
    assert stages == [160, 400, 640, 880, 1120, 1360]
    assert [b - a for a, b in pairwise(stages)] == [3 * 10 * 8] * 5  # three 11x11 at stride 8
    assert [seen["features.6.0"], seen["following.0.0.0"], seen["following.0.1.0"]] == [96, 240, 320]


def test_the_authors_pooling_sees_a_little_more_and_to_one_side() -> None:
    network = one_sided(cpm.Config(width=4, stages=2).build(3, 2))
    sight = follow(network, 3)
    assert {one.layer: one.rows.field for one in sight.layers}["first.1.2"] == 167
    law = sight.outputs[0].rows.law
    assert law is not None and law.fields == (407,) and (law.after - law.before) / 2 == 3.5


@pytest.mark.parametrize(("stride", "fields"), [(8, (160, 400)), (4, (108, 228)), (2, (66, 126)), (1, (37, 67))])
def test_fields_at_other_strides(stride: Any, fields: tuple[int, int]) -> None:
    """9x9, 9x9, 9x9, 5x5 and 9x9 add 8, 8, 8, 4 and 8 cells of their maps, a pooling one; then 11x11 three times 10.

    Stride 4: 9 + 1 + 8 * 2 + 2 + (8 + 4 + 8) * 4 = 108, and 30 * 4. Stride 2: 9 + 1 + (8 + 8 + 4 + 8) * 2 = 66, and 30 * 2.
    """
    found = [receptive_field(cpm.Config(width=4, stages=n, output_stride=stride).build(3, 1), 3)[0] for n in (1, 2)]
    assert tuple(found) == fields


def test_every_refinement_of_openpose_sees_further() -> None:
    fields = [receptive_field(openpose.Config(width=4, encoder_width=2, refinements=n).build(3, 1), 3)[0] for n in (0, 1, 2)]
    assert [b - a for a, b in pairwise(fields)] == [5 * 6 * 8] * 2  # 3x3, and 3x3 dilated: 2 + 4 cells
    wide = openpose.Config(width=4, encoder_width=2, refinement="convolutions")
    assert receptive_field(wide.build(3, 1), 3)[0] - fields[0] == 5 * 6 * 8  # as far as five 7x7 convolutions


# ---- stages and heads


@pytest.mark.parametrize("name", SMALL)
def test_every_stage_answers_through_forward(name: str) -> None:
    network, image = built(SMALL[name]).eval(), torch.rand(2, 3, 37, 53)
    with torch.no_grad():
        every, last = network(image, every=True), network(image)
    assert every.shape == (2, stages_of(network), *last.shape[1:]) and stages_of(network) > 1
    assert torch.equal(every[:, -1], last)
    assert all((a - b).abs().max() > 0.1 * a.abs().max() > 0 for a, b in pairwise(every.unbind(1)))


@pytest.mark.parametrize("name", SMALL)
def test_the_first_stages_of_a_longer_network_are_those_of_a_shorter_one(name: str) -> None:
    config = SMALL[name]
    count = {"cpm": "stages", "openpose": "refinements", "hourglass": "stacks"}[config.kind]
    longer = built(config).eval()
    shorter = built(config.model_copy(update={count: getattr(config, count) - 1})).eval()
    known = longer.state_dict()
    shorter.load_state_dict({name: known[name] for name in shorter.state_dict()})
    image = torch.rand(1, 3, 32, 48)
    with torch.no_grad():
        assert torch.equal(longer(image, every=True)[:, -2], shorter(image))


def test_stages_go_through_the_compiler() -> None:
    network, image = built(SMALL["cpm of stride 2"]), torch.rand(2, 3, 32, 48)
    compiled = torch.compile(network, backend="eager", fullgraph=True)
    for every in (True, False):
        assert torch.equal(compiled(image, every=every), network(image, every=every))


@pytest.mark.filterwarnings("ignore:`broadcast_buffers` is deprecated:FutureWarning")
def test_stages_go_through_ddp() -> None:
    """No parameter is left without a gradient, and the wrapper passes `every` on."""
    torch.distributed.init_process_group("gloo", store=torch.distributed.HashStore(), rank=0, world_size=1)
    try:
        for name in ("cpm of stride 2", "openpose"):
            alone = built(SMALL[name])
            wrapped = nn.parallel.DistributedDataParallel(built(SMALL[name]), broadcast_buffers=False)
            image = torch.rand(2, 3, 32, 48)
            for _ in range(2):  # an unused parameter is reported at the next forward
                expected, found = alone(image, every=True), wrapped(image, every=True)
                assert torch.equal(expected, found)
                expected.square().sum().backward(), found.square().sum().backward()
            for ours, theirs in zip(alone.parameters(), wrapped.parameters(), strict=True):
                assert ours.grad is not None and torch.equal(ours.grad, theirs.grad)
    finally:
        torch.distributed.destroy_process_group()


def test_a_stage_reads_the_beliefs_before_it() -> None:
    """All of a pose machine's first stage changes the second one's answer."""
    network = built(SMALL["cpm"])
    network(torch.rand(1, 3, 32, 32)).sum().backward()
    assert all(parameter.grad.abs().max() > 0 for parameter in network.first.parameters())


def test_a_task_asks_for_heads() -> None:
    config = openpose.Config(width=8, encoder_width=4)
    split = config.with_heads([2, 4])
    assert split.heads == (2, 4) and openpose.Config.model_validate(split.model_dump()) == split
    assert [len(built(one, 6).first.heads) for one in (config, split)] == [1, 2]
    plain = unet.Config()
    assert plain.with_heads([2, 4]) is plain
    with pytest.raises(UsageError, match=r"network.heads = \[2, 4\] are 6 sheets, and the task wants 7"):
        split.build(3, 7)


def test_a_head_of_openpose_learns_by_itself() -> None:
    """The loss of the fields leaves the last layers of the beliefs alone, and changes what both share."""
    network = built(SMALL["openpose"])
    network(torch.rand(1, 3, 32, 32))[:, 2:].sum().backward()
    beliefs, fields = network.following[-1].heads
    assert all(parameter.grad is None or not parameter.grad.any() for parameter in beliefs.parameters())
    assert fields[-1].weight.grad.abs().max() > 0 and network.following[-1].shared[0].before[0].weight.grad.abs().max() > 0


# ---- settings


def test_timm_encoders() -> None:
    pose = built(openpose.Config(width=8, encoder="resnet18"))
    assert pose(torch.rand(1, 3, 70, 53)).shape == (1, 3, 9, 7) and pose.multiple == 8
    simple = built(simple_baseline.Config(width=8, encoder="test_resnet", output_stride=2))
    assert simple(torch.rand(1, 3, 70, 53)).shape == (1, 3, 35, 27)
    assert not simple_baseline.Config(encoder="resnet18", pretrained=True).untrained().pretrained
    assert not openpose.Config(encoder="resnet18", pretrained=True).untrained().pretrained
    with pytest.raises(UsageError, match="'test_resnet' computes something else when it is dilated"):
        openpose.Config(encoder="test_resnet").build(3, 1)


def test_an_untrained_simple_baseline_says_nothing_yet() -> None:
    assert built(simple_baseline.Config(width=8, encoder_width=4))(torch.rand(2, 3, 64, 64)).abs().max() < 0.05


@pytest.mark.parametrize(
    ("config", "changes"),
    [
        (cpm.Config, {"kernel": 4}),
        (cpm.Config, {"stage_kernel": 10}),
        (cpm.Config, {"width": 6}),
        (simple_baseline.Config, {"depth": 1}),
        (simple_baseline.Config, {"pretrained": True}),
        (simple_baseline.Config, {"upsample": "unpool"}),
        (openpose.Config, {"encoder": "resnet18", "output_stride": 4}),
        (openpose.Config, {"pretrained": True}),
        (openpose.Config, {"heads": (0,)}),
    ],
)
def test_impossible_settings_are_refused(config: Any, changes: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        config(**changes)


@pytest.mark.parametrize("kind", ["cpm", "simple_baseline", "openpose"])
def test_the_catalogue_has_them(kind: str) -> None:
    found = find(kind, Wanted(outputs=4, settings=["width=8"]))
    assert found.name == kind and found.channels == 3
