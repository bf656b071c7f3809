"""Decoders with and without skips, through vectors and through pooling indices: against networks written another way."""

from __future__ import annotations

import io
from typing import Any, get_args

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.nn import functional

from pixelwise.errors import UsageError
from pixelwise.nn.encoders import Pyramid
from pixelwise.nn.networks import encoder_decoder, segnet, unet
from pixelwise.nn.upsample import Upsample

NETWORKS: list[tuple[Any, dict[str, Any]]] = [
    *((unet, {"width": 4, "depth": 2, "upsample": kind}) for kind in get_args(Upsample)),
    (unet, {"width": 4, "depth": 2, "skips": "none", "upsample": "unpool"}),
    (unet, {"width": 4, "depth": 2, "skips": "add"}),
    *((segnet, {"width": 4, "depth": 2, "upsample": kind}) for kind in get_args(Upsample)),
    (encoder_decoder, {"width": 4, "depth": 2, "upsample": "unpool"}),
    (encoder_decoder, {"width": 4, "depth": 2, "bottleneck": "vector", "grid": (2, 3), "code": 7}),
]


def image(*shape: int, seed: int = 1) -> Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed))


def build(module: Any, out: int = 2, **changes: Any) -> Any:
    torch.manual_seed(0)
    return module.Config(**changes).build(3, out)


def parameters(network: nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


def test_the_pyramid_gives_the_indices_of_its_own_pooling() -> None:
    pyramid = Pyramid(3, 4, 2, "batch").eval()
    picture, indices = image(2, 3, 16, 24), dict[int, Tensor]()
    found = pyramid(picture, indices)
    for stride, plain in pyramid(picture).items():
        assert torch.equal(found[stride], plain)
    assert indices.keys() == {1, 2}
    for stride, positions in indices.items():
        large = found[stride]
        maxima = large.flatten(2).gather(2, positions.flatten(2)).view(positions.shape)
        assert torch.equal(maxima, functional.max_pool2d(large, 2))


@pytest.mark.parametrize("kind", get_args(Upsample))
def test_skips_of_unet(kind: Any) -> None:
    """A level that adds, or does without, has no weights for a second half of its input; the rest is the same."""
    sizes = {s: parameters(build(unet, width=4, depth=2, upsample=kind, skips=s)) for s in ("concatenate", "add", "none")}
    assert sizes["none"] == sizes["add"] == sizes["concatenate"] - 9 * (8 * 8 + 4 * 4)


def test_skips_decide_what_the_decoder_sees() -> None:
    """With everything that comes from below at zero, an added skip is all that is left."""
    networks = {skips: build(unet, width=4, depth=1, norm="none", skips=skips).eval() for skips in ("add", "none")}
    picture = image(1, 3, 16, 16)
    for skips, network in networks.items():
        stage = network.stages["1"]
        for parameter in stage.enlarge.parameters():
            nn.init.zeros_(parameter)
        skip = network.encoder(picture)[1] if skips == "add" else torch.zeros(1, 4, 16, 16)
        assert torch.equal(network(picture), network.head(stage.convolutions(skip)))


def test_added_skips_of_timm_are_projected() -> None:
    network = build(unet, encoder="resnet18", width=4, skips="add")
    output = network(image(2, 3, 37, 53))
    assert output.shape == (2, 2, 37, 53)
    output.square().sum().backward()
    # 256 channels of stride 16 are added to 64, 64 of stride 2 to 8; stride 1 has no map
    shapes = {stride: getattr(stage.project, "weight", torch.empty(0)).shape[:2] for stride, stage in network.stages.items()}
    assert shapes == {"16": (64, 256), "8": (32, 128), "4": (16, 64), "2": (8, 64), "1": (0,)}
    assert network.stages["2"].project.weight.grad.abs().max() > 0


def test_unpooling_with_timm_is_refused() -> None:
    with pytest.raises(UsageError, match="unpool needs the indices of max poolings"):
        unet.Config.checked({"encoder": "resnet18", "upsample": "unpool"})


def test_unpooling_in_unet_restores_the_positions() -> None:
    """Written with torch's own unpooling, which no exporter knows."""
    network = build(unet, width=4, depth=1, upsample="unpool").eval()
    picture = image(2, 3, 16, 24)
    above = network.encoder.levels[0](picture)
    small, indices = functional.max_pool2d(above, 2, return_indices=True)
    stage = network.stages["1"]
    larger = functional.max_unpool2d(stage.enlarge[0](network.encoder.levels[1](small)), indices, 2)
    expected = network.head(stage.convolutions(torch.cat([above, larger], 1)))
    assert torch.equal(network(picture), expected)


@pytest.mark.parametrize("kind", ["bilinear", "unpool"])
def test_spatial_bottleneck_is_unet_without_skips(kind: Any) -> None:
    ours = build(encoder_decoder, width=4, depth=3, upsample=kind).eval()
    theirs = build(unet, width=4, depth=3, upsample=kind, skips="none").eval()
    theirs.load_state_dict(ours.state_dict())
    picture = image(2, 3, 37, 53)
    assert torch.equal(ours(picture), theirs(picture))
    with pytest.raises(UsageError, match="no code"):
        ours.code(picture)


def test_vector_bottleneck_resizes_nothing_at_its_native_size() -> None:
    network = build(encoder_decoder, width=4, depth=2, bottleneck="vector", grid=(4, 6), code=7).eval()
    picture = image(2, 3, 16, 24)
    deepest = network.encoder(picture)[4]
    encode, decode = network.bottleneck.encode[-1], network.bottleneck.decode[0]
    code = deepest.flatten(1) @ encode.weight.T + encode.bias
    torch.testing.assert_close(network.code(picture), code, rtol=0, atol=1e-6)
    maps = (code @ decode.weight.T + decode.bias).relu().view(2, 16, 4, 6)
    for stage in network.stages.values():
        maps = stage(maps)
    torch.testing.assert_close(network(picture), network.head(maps), rtol=0, atol=1e-6)


def test_vector_bottleneck_parameters() -> None:
    spatial, vector = (
        build(encoder_decoder, width=4, depth=2, bottleneck=kind, grid=(2, 3), code=7) for kind in ("spatial", "vector")
    )
    numbers = 16 * 2 * 3
    assert parameters(vector) - parameters(spatial) == numbers * 7 + 7 + 7 * numbers + numbers


def test_nothing_goes_round_the_vector() -> None:
    network = build(encoder_decoder, width=4, depth=2, bottleneck="vector", code=7).eval()
    nn.init.zeros_(network.bottleneck.decode[0].weight)
    first, second = (network(image(1, 3, 37, 53, seed=seed)) for seed in (1, 2))
    assert torch.equal(first, second)
    assert network.code(image(2, 3, 37, 53)).shape == (2, 7)


def test_segnet_encoder_is_that_of_vgg_16() -> None:
    network = build(segnet, out=11)
    pairs = [(3, 1), (1, 1), (1, 2), (2, 2), (2, 4), *[(4, 4)] * 2, (4, 8), *[(8, 8)] * 5]  # in widths of 64, but for the 3
    weights = sum(9 * (3 if n == 0 else 64 * before) * 64 * after for n, (before, after) in enumerate(pairs))
    scales = 2 * 64 * sum(after for _, after in pairs)
    assert weights == 14_710_464 and scales == 8_448
    assert parameters(network.encoder) == weights + scales == 14_718_912
    # mirrored, so every convolution but the last ends in the channels that the encoder's began with
    decoder_scales = 2 * 64 * sum(before for before, _ in pairs[1:])
    classifier = 9 * 64 * 11 + 11
    assert parameters(network) == 14_718_912 + weights - 9 * 64 * 3 + decoder_scales + classifier == 29_441_419


def test_segnet_encoder_has_the_shapes_of_torchvisions_vgg() -> None:
    vgg = pytest.importorskip("torchvision.models").vgg16_bn()
    ours, theirs = (
        [module.weight.shape for module in network.modules() if isinstance(module, nn.Conv2d)]
        for network in (build(segnet).encoder, vgg.features)
    )
    assert ours == theirs


@pytest.mark.parametrize("depth", [1, 3])
def test_segnet_written_with_torchs_unpooling(depth: int) -> None:
    network = build(segnet, width=4, depth=depth).eval()
    picture = image(2, 3, 16, 24)
    pool, back = nn.MaxPool2d(2, return_indices=True), nn.MaxUnpool2d(2)

    def around(maps: Tensor, level: int) -> Tensor:
        if level == depth:
            return maps
        smaller, indices = pool(network.encoder[level](maps))
        decoded: Tensor = network.decoder[depth - 1 - level](back(around(smaller, level + 1), indices))
        return decoded

    assert torch.equal(network(picture), network.head(around(picture, 0)))


@pytest.mark.parametrize("size", [(1, 1), (2, 7)])
@pytest.mark.parametrize("module", [segnet, encoder_decoder])
def test_tiny_images(module: Any, size: tuple[int, int]) -> None:
    assert build(module, width=4)(image(1, 3, *size)).shape == (1, 2, *size)


@pytest.mark.parametrize(("module", "changes"), NETWORKS)
def test_shapes_follow_without_values(module: Any, changes: dict[str, Any]) -> None:
    with FakeTensorMode():
        network = build(module, **changes)
        assert network(torch.empty(2, 3, 37, 53)).shape == (2, 2, 37, 53)


@pytest.mark.parametrize("module", [unet, segnet, encoder_decoder])
def test_onnx(module: Any) -> None:
    pytest.importorskip("onnxscript")
    runtime = pytest.importorskip("onnxruntime")
    network = build(module, width=4, depth=2, upsample="unpool").eval()
    program = torch.onnx.export(network, (image(1, 3, 14, 21),), dynamo=True, verbose=False)
    assert program is not None
    file = io.BytesIO()
    program.save(file)
    session = runtime.InferenceSession(file.getvalue(), providers=["CPUExecutionProvider"])
    picture = image(1, 3, 14, 21, seed=2)
    (answer,) = session.run(None, {session.get_inputs()[0].name: picture.numpy()})
    np.testing.assert_allclose(answer, network(picture).detach().numpy(), rtol=0, atol=1e-6)
