"""Dilated encoders: exact ones are taken, wrong ones refused, and the test of them can fail and leaves no trace."""

from __future__ import annotations

import copy
import math
from typing import Any

import pytest
import torch
from pydantic import ValidationError
from torch import Tensor, nn

from pixelwise.errors import UsageError
from pixelwise.nn import dilation, encoders
from pixelwise.nn.encoders import TimmEncoder
from pixelwise.nn.networks import fcn, unet


@pytest.mark.parametrize(
    ("name", "stride", "channels"),
    [
        ("resnet18", 8, {2: 64, 4: 64, 8: 512}),
        ("resnet18", 16, {2: 64, 4: 64, 8: 128, 16: 512}),
        ("mobilenetv2_100", 8, {2: 16, 4: 24, 8: 320}),
        ("convnext_atto", 8, {4: 40, 8: 320}),  # even kernels: found on the grid of (1, 1)
        ("tf_efficientnet_b0", 8, {2: 16, 4: 24, 8: 320}),  # one-sided padding: (3, 3); squeeze and excitation
    ],
)
def test_exact_families_are_taken(name: str, stride: int, channels: dict[int, int]) -> None:
    encoder = TimmEncoder(name, 3, output_stride=stride)
    assert encoder.channels == channels
    maps = encoder(torch.rand(2, 3, 64, 96))
    assert {s: found.shape for s, found in maps.items()} == {s: (2, c, 64 // s, 96 // s) for s, c in channels.items()}


def test_gates_pool_over_the_denser_grid(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the settings say of squeeze-and-excitation: without its gates the features agree, with them they do not."""
    torch.manual_seed(0)
    plain, dilated = (encoders._features("mobilenetv3_small_050", 3, False, stride) for stride in (None, 8))
    assert dilation.relative_error(copy.deepcopy(dilated), copy.deepcopy(plain), 3) < 1e-5
    monkeypatch.setattr(dilation, "GATES", ())
    assert 0.1 < dilation.relative_error(dilated, plain, 3) < 0.4
    for config in (unet.Config, fcn.Config):
        assert "squeeze-and-excitation" in str(config.model_fields["encoder_stride"].description)


def test_a_dilated_encoder_holds_the_features_of_the_plain_one() -> None:
    """On the network as it is used, in float64, with weights in all branches."""
    torch.manual_seed(0)
    plain, dilated = TimmEncoder("resnet18", 3).double().eval(), TimmEncoder("resnet18", 3, output_stride=8).double().eval()
    for name, parameter in plain.named_parameters():
        if parameter.ndim == 1:
            nn.init.constant_(parameter, 0.0 if name.endswith("bias") else 0.5)
    dilated.load_state_dict(plain.state_dict())
    picture = torch.rand(1, 3, 128, 192).double()
    expected = plain(picture)[32]
    varying = (expected - expected.mean((2, 3), keepdim=True)).norm() / expected.norm()
    assert varying > 0.1
    error = (dilated(picture)[8][..., ::4, ::4] - expected).norm() / expected.norm()
    assert error < 1e-12
    finest = dilated.network((picture - dilated.mean) / dilated.deviation)[-1]
    assert torch.equal(dilated(picture)[8], finest)


def widened(monkeypatch: pytest.MonkeyPatch) -> None:
    """Dilate the convolution that lost its stride as well, as segmentation_models_pytorch does."""
    original = encoders._features

    def wrong(name: str, in_channels: int, pretrained: bool, output_stride: int | None) -> Any:
        network = original(name, in_channels, pretrained, output_stride)
        if output_stride is not None:
            convolution = network.layer4[0].conv1
            assert convolution.dilation == (2, 2)
            convolution.dilation = convolution.padding = (4, 4)
        return network

    monkeypatch.setattr(encoders, "_features", wrong)


def test_wrong_dilation_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    widened(monkeypatch)
    with pytest.raises(UsageError, match=r"'resnet18' computes something else .* relative error (0\.[1-9]|1)"):
        TimmEncoder("resnet18", 3, output_stride=8)


def test_a_family_that_timm_dilates_wrongly_is_refused() -> None:
    """The average pooling before the shortcuts of ResNet-D looks at neighbours, however far apart they should be."""
    with pytest.raises(UsageError, match="resnet18d") as caught:
        TimmEncoder("resnet18d", 3, output_stride=8)
    assert "another encoder_stride" in caught.value.hint
    assert max(TimmEncoder("resnet18d", 3, output_stride=16).channels) == 16


@pytest.mark.parametrize("name", ["vgg11", "densenet121", "vit_tiny_patch16_224"])
def test_families_that_timm_does_not_dilate(name: str) -> None:
    with pytest.raises(UsageError, match=f"encoder '{name}' cannot be dilated"):
        TimmEncoder(name, 3, output_stride=8)


def test_gates_are_what_differs_in_squeeze_and_excitation(monkeypatch: pytest.MonkeyPatch) -> None:
    def error() -> float:
        plain, dilated = (encoders._features("efficientnet_b0", 3, False, stride) for stride in (None, 8))
        return dilation.relative_error(dilated, plain, 3)

    torch.manual_seed(0)
    assert error() < 1e-5
    monkeypatch.setattr(dilation, "GATES", ())
    assert error() > 0.01


class Block(nn.Module):
    """A convolution behind a scale, of stride 2 or, at stride 1, followed by one of the given dilation."""

    def __init__(self, stride: int, rate: int, scale: float) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 4, 3, stride, 1)
        self.second = nn.Conv2d(4, 4, 3, padding=rate, dilation=rate)
        self.scale = nn.Parameter(torch.full((4, 1, 1), scale))

    def forward(self, image: Tensor) -> list[Tensor]:
        """Return one map."""
        maps = self.first(image)
        return [maps + self.scale * self.second(maps)]


def test_what_is_not_finite_is_refused() -> None:
    dilated, plain = Block(1, 2, 1.0), Block(2, 1, 1.0)
    dilated.register_forward_hook(lambda _, __, maps: [maps[0], maps[0] * math.nan])
    plain.register_forward_hook(lambda _, __, maps: maps * 2)
    with pytest.raises(UsageError, match="relative error nan"):
        dilation.refuse_inexact("broken", dilated, plain, 3)


@pytest.mark.parametrize(("rate", "exact"), [(2, True), (1, False), (3, False)])
@pytest.mark.parametrize("scale", [1.0, 0.0])
def test_layers_that_start_silent_are_heard(rate: int, exact: bool, scale: float) -> None:
    torch.manual_seed(0)
    error = dilation.relative_error(Block(1, rate, scale), Block(2, 1, scale), 3)
    assert (error < 1e-6) if exact else (error > 0.1)


class Even(nn.Module):
    """A map that says the same of every place."""

    def forward(self, image: Tensor) -> list[Tensor]:
        """Return the picture's mean everywhere."""
        return [image.mean((2, 3), keepdim=True).expand(-1, -1, 4, 4)]


def test_a_network_that_dilation_gives_other_weights_is_refused() -> None:
    """Without stride, a block of GENet has no need of a convolution in its shortcut, or the other way round."""
    with pytest.raises(UsageError, match="'gernet_m' computes something else"):
        TimmEncoder("gernet_m", 3, output_stride=16)


def test_agreement_of_what_does_not_vary_is_empty() -> None:
    assert dilation.relative_error(Even(), Even(), 3) == math.inf
    with pytest.raises(UsageError, match="relative error inf"):
        dilation.refuse_inexact("even", Even(), Even(), 3)


def test_the_test_leaves_no_trace() -> None:
    """Same draws, same weights, same running statistics as without it."""
    torch.manual_seed(5)
    plain = TimmEncoder("resnet18", 3)
    after = torch.get_rng_state()
    torch.manual_seed(5)
    dilated = TimmEncoder("resnet18", 3, output_stride=8)
    assert torch.equal(torch.get_rng_state(), after)
    for (name, one), other in zip(plain.state_dict().items(), dilated.state_dict().values(), strict=True):
        assert torch.equal(one, other), name
    assert dilated.training and all(module.training for module in dilated.modules())


def test_unet_decodes_from_the_encoders_stride() -> None:
    network = unet.Config(encoder="resnet18", encoder_stride=8, width=4).build(3, 2)
    assert [*network.stages] == ["4", "2", "1"]
    assert network(torch.rand(2, 3, 37, 53)).shape == (2, 2, 37, 53)
    with pytest.raises(ValidationError, match="encoder_stride need"):
        unet.Config(encoder_stride=8)
