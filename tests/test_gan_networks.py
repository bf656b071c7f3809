"""Generators and discriminators of the GANs: what they cost, what they see, and what is optional in them."""

from __future__ import annotations

import pytest
import torch
from test_networks import image, parameters
from torch import nn
from torch.nn.functional import avg_pool2d

from pixelwise.nn.blocks import PictureNorm
from pixelwise.nn.networks import patchgan, pix2pix_unet, residual
from pixelwise.nn.receptive_field import receptive_field


@pytest.mark.parametrize(("blocks", "count"), [(9, 11_378_179), (6, 7_837_699)])
def test_cyclegan_generator_parameters(blocks: int, count: int) -> None:
    ends = 49 * 3 * 64 + 64 + 49 * 64 * 3 + 3
    between = 9 * 64 * 128 + 128 + 9 * 128 * 256 + 256 + 9 * 256 * 128 + 128 + 9 * 128 * 64 + 64
    assert ends + between + blocks * 2 * (9 * 256 * 256 + 256) == count
    assert parameters(residual.Config(blocks=blocks, activation="tanh").build(3, 3)) == count


@pytest.mark.parametrize("upsample", ["transposed", "nearest"])
def test_resnet_generator_paints_pictures_of_any_size(upsample: str) -> None:
    network = residual.Config(width=4, blocks=1, activation="tanh", upsample=upsample).build(5, 2)  # type: ignore[arg-type]
    painted = network(image(1, 5, 37, 50))
    assert painted.shape == (1, 2, 37, 50) and painted.abs().max() <= 1


def test_dropout_in_the_blocks_moves_no_parameter() -> None:
    plain, dropped = (residual.Config(width=4, blocks=2, dropout=p).build(3, 3) for p in (0.0, 0.5))
    assert list(plain.state_dict()) == list(dropped.state_dict())
    dropped.load_state_dict(plain.state_dict())
    picture = image(1, 3, 16, 16)
    assert torch.equal(plain.eval()(picture), dropped.eval()(picture))
    dropped.train()
    torch.manual_seed(1)
    assert not torch.equal(dropped(picture), dropped(picture))
    assert [m.p for m in dropped.modules() if isinstance(m, nn.Dropout)] == [0.5, 0.5]


@pytest.mark.parametrize("module", [pix2pix_unet, residual])
def test_statistics_of_the_picture_are_batch_norm_at_batch_1(module: object) -> None:
    """In evaluation each picture is normalised as training does alone; with running statistics it is not."""
    settings = {"depth": 4, "dropout": 0.0} if module is pix2pix_unet else {"blocks": 1}
    build = module.Config  # type: ignore[attr-defined]
    networks = [build(width=4, norm="batch", test_statistics=s, **settings).build(3, 3) for s in ("picture", "running")]
    networks[1].load_state_dict(networks[0].state_dict())
    pictures = image(2, 3, 32, 32)
    answers = [network.eval()(pictures) for network in networks]
    alone = torch.cat([networks[1].train()(picture[None]) for picture in pictures])
    torch.testing.assert_close(answers[0], alone, rtol=1e-5, atol=1e-5)
    assert (answers[1] - alone).abs().max() > 0.01
    assert any(isinstance(part, PictureNorm) for part in networks[0].modules())


@pytest.mark.parametrize(("norm", "biased"), [("batch", False), ("instance", True), ("group", True), ("none", True)])
def test_unet_with_every_norm(norm: str, biased: bool) -> None:
    network = pix2pix_unet.Config(width=2, depth=4, norm=norm).build(4, 2)  # type: ignore[arg-type]
    assert network(image(1, 4, 20, 33)).shape == (1, 2, 20, 33)
    assert (network.down[1][0].bias is not None) == biased  # type: ignore[index]


def test_spectral_norm_leaves_no_weight_that_stretches() -> None:
    network = patchgan.Config(width=4, layers=2, norm="none", spectral_norm=True).build(3)
    for _ in range(30):
        network(image(1, 3, 32, 32))
    network.eval()
    convolutions = [module for module in network.modules() if isinstance(module, nn.Conv2d)]
    assert len(convolutions) == 4
    for module in convolutions:
        assert torch.linalg.matrix_norm(module.weight.flatten(1), 2).item() == pytest.approx(1, abs=0.02)


def test_each_scale_judges_the_halved_picture() -> None:
    """Full size first; patches of 34 pixels there, and of 2 (34 - 1) + 3 = 69 through the mean of 3x3 at steps of 2."""
    network = patchgan.Config(width=4, layers=2, norm="none", scales=2).build(3)
    picture = image(1, 3, 64, 48)
    full, half = network(picture)
    assert [tuple(logits.shape) for logits in (full, half)] == [(1, 1, 14, 10), (1, 1, 6, 4)]
    assert torch.equal(full, network.scales[0](picture))  # type: ignore[index, operator]
    halved = avg_pool2d(picture, 3, 2, 1, count_include_pad=False)
    assert torch.equal(half, network.scales[1](halved))  # type: ignore[index, operator]
    assert receptive_field(network, 3) == (69, 69)
    assert parameters(network) == 2 * parameters(patchgan.Config(width=4, layers=2, norm="none").build(3))


def test_what_a_discriminator_sees_inside() -> None:
    network = patchgan.Config(width=4, layers=2).build(3).eval()
    picture = image(1, 3, 32, 32)
    inside = network(picture, every=True)
    assert [tuple(maps.shape[1:]) for maps in inside] == [(4, 16, 16), (8, 8, 8), (16, 7, 7), (1, 6, 6)]
    assert torch.equal(inside[-1], network(picture))
    scales = patchgan.Config(width=4, layers=1, scales=3).build(3)(image(1, 3, 5, 5), every=True)
    assert [len(maps) for maps in scales] == [3, 3, 3]
