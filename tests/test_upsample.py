"""The six ways to enlarge maps: numbers worked by hand, independent implementations, gradients, and export to ONNX."""

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
from pixelwise.nn.upsample import (
    FUNCTIONS,
    Upsample,
    bed_of_nails,
    bilinear,
    bilinear_kernel,
    nearest,
    pixel_shuffle,
    transposed,
    transposed_bilinear,
    unpool,
    upsample,
)

FOUR = torch.tensor([[[[1.0, 2.0], [3.0, 4.0]]]])
every_kind = pytest.mark.parametrize("kind", get_args(Upsample))


def maps(*shape: int, seed: int = 1) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def pooled(channels: int, height: int, width: int, factor: int) -> tuple[Tensor, Tensor]:
    found: tuple[Tensor, Tensor] = functional.max_pool2d(
        maps(2, channels, height * factor, width * factor), factor, return_indices=True
    )
    return found


def test_every_kind_has_a_function() -> None:
    assert tuple(FUNCTIONS) == get_args(Upsample)


def test_bed_of_nails() -> None:
    assert bed_of_nails(FOUR)[0, 0].tolist() == [[1, 0, 2, 0], [0, 0, 0, 0], [3, 0, 4, 0], [0, 0, 0, 0]]
    assert bed_of_nails(FOUR[..., :1, :], 3)[0, 0].tolist() == [[1, 0, 0, 2, 0, 0], [0] * 6, [0] * 6]


@pytest.mark.parametrize("factor", [2, 3, 4])
def test_a_convolution_mends_the_nails(factor: int) -> None:
    """Filtered by the bilinear kernel, nails become the aligned bilinear enlargement: their shift is undone as well."""
    small = maps(1, 1, 7, 9).double()
    kernel = bilinear_kernel(factor)
    before = len(kernel) - 1 - factor // 2
    nails = functional.pad(bed_of_nails(small, factor), (before, factor // 2) * 2)
    # the last row and column of nails are followed by factor - 1 zeros of their own, so the sizes agree by cropping
    mended = functional.conv2d(nails, kernel[None, None])[..., : 7 * factor, : 9 * factor]
    torch.testing.assert_close(mended, transposed(small, factor), rtol=0, atol=1e-13)


def test_nearest() -> None:
    assert nearest(FOUR)[0, 0].tolist() == [[1, 1, 2, 2], [1, 1, 2, 2], [3, 3, 4, 4], [3, 3, 4, 4]]
    assert nearest(FOUR[..., :1, :], 3)[0, 0].tolist() == [[1, 1, 1, 2, 2, 2]] * 3


def test_bilinear_example_of_the_lecture() -> None:
    # output centres lie at 0.25, 0.75, 1.25, 1.75 input pixels, input centres at 0.5 and 1.5
    assert bilinear(FOUR)[0, 0].tolist() == [
        [1.00, 1.25, 1.75, 2.00],
        [1.50, 1.75, 2.25, 2.50],
        [2.50, 2.75, 3.25, 3.50],
        [3.00, 3.25, 3.75, 4.00],
    ]


@pytest.mark.parametrize("factor", [2, 3, 5])
def test_bilinear_is_inverse_warping(factor: int) -> None:
    ndimage = pytest.importorskip("scipy.ndimage")
    small = maps(1, 1, 5, 7).double()
    rows, columns = ((np.arange(size * factor) + 0.5) / factor - 0.5 for size in (5, 7))
    places = np.meshgrid(rows, columns, indexing="ij")
    warped = ndimage.map_coordinates(small[0, 0].numpy(), places, order=1, mode="nearest")
    np.testing.assert_allclose(bilinear(small, factor)[0, 0].numpy(), warped, rtol=0, atol=1e-14)


def test_unpool() -> None:
    # the maxima of a 4x4 picture: (0, 1), (1, 2), (3, 0), (2, 3) at 4 * row + column
    indices = torch.tensor([[[[1, 6], [12, 11]]]])
    assert unpool(FOUR, 2, indices)[0, 0].tolist() == [[0, 1, 0, 0], [0, 0, 2, 0], [0, 0, 0, 4], [3, 0, 0, 0]]


@pytest.mark.parametrize("factor", [1, 2, 3])
def test_unpool_equals_torch(factor: int) -> None:
    small, indices = pooled(3, 5, 7, factor)
    assert torch.equal(unpool(small, factor, indices), functional.max_unpool2d(small, indices, factor))


def test_unpool_needs_indices() -> None:
    with pytest.raises(UsageError, match="needs the indices"):
        upsample("unpool", 3, 2)(maps(1, 3, 4, 4))


def test_unpool_is_deterministic() -> None:
    small, indices = pooled(3, 5, 7, 2)
    torch.use_deterministic_algorithms(True)
    try:
        unpool(small.requires_grad_(), 2, indices).sum().backward()
    finally:
        torch.use_deterministic_algorithms(False)


def test_bilinear_kernel() -> None:
    # 1 - distance / factor at the distances of the centres: 0.75, 0.25 for 2; 2/3, 1/3, 0 for 3
    assert bilinear_kernel(2)[0].tolist() == [0.0625, 0.1875, 0.1875, 0.0625]
    torch.testing.assert_close(bilinear_kernel(3)[2] * 3, torch.tensor([1.0, 2, 3, 2, 1]).double(), rtol=0, atol=1e-15)


@pytest.mark.parametrize("factor", [1, 2, 3, 4, 8])
def test_transposed_is_bilinear_off_the_border(factor: int) -> None:
    small = maps(2, 3, 5, 7).double()
    inside = (..., slice(factor // 2, 5 * factor - factor // 2), slice(factor // 2, 7 * factor - factor // 2))
    torch.testing.assert_close(transposed(small, factor)[inside], bilinear(small, factor)[inside], rtol=0, atol=1e-13)


def test_transposed_fades_at_the_border() -> None:
    # 0.75 of the first value and 0.25 of nothing, in both directions
    assert transposed(torch.ones(1, 1, 3, 3))[0, 0, 0].tolist() == [0.5625, 0.75, 0.75, 0.75, 0.75, 0.5625]


@pytest.mark.parametrize("factor", [2, 3, 8])
def test_transposed_bilinear_starts_as_such_and_can_mix_channels(factor: int) -> None:
    module = transposed_bilinear(3, factor)
    small = maps(2, 3, 5, 7)
    torch.testing.assert_close(module(small), transposed(small, factor), rtol=0, atol=1e-6)
    module(small).sum().backward()
    (weight,) = module.parameters()
    side = 2 * factor - factor % 2
    assert weight.shape == (3, 3, side, side) and weight.grad is not None and (weight.grad != 0).all()


def test_pixel_shuffle() -> None:
    cell = torch.tensor([1.0, 2, 3, 4, 5, 6, 7, 8])[None, :, None, None]
    assert pixel_shuffle(cell)[0].tolist() == [[[1, 2], [3, 4]], [[5, 6], [7, 8]]]


@pytest.mark.parametrize("factor", [2, 3])
def test_pixel_shuffle_starts_as_nearest(factor: int) -> None:
    module: Any = upsample("pixel_shuffle", 5, 3, factor)
    small = maps(2, 5, 4, 6)
    weight, bias = (parameter[:: factor**2] for parameter in module[0].parameters())
    expected = nearest(functional.conv2d(small, weight, bias), factor)
    torch.testing.assert_close(module(small), expected, rtol=0, atol=1e-6)
    assert len(weight.unique()) == 3 * 5  # alike within a cell only


@every_kind
@pytest.mark.parametrize("factor", [1, 2, 3, 4])
@pytest.mark.parametrize("out", [3, None])
def test_modules(kind: Any, factor: int, out: int | None) -> None:
    module = upsample(kind, 6, out, factor)
    small = maps(2, 6, 5, 7)
    channels = out or 6
    _, indices = pooled(channels, 5, 7, factor)
    larger = module(small, indices)
    assert larger.shape == (2, channels, 5 * factor, 7 * factor)
    if kind != "unpool":
        assert torch.equal(module(small), larger)
    # six weights and a bias for every channel, the convolution's (pixel shuffle: factor^2 of them) or transposed one's
    weights = {"transposed": channels * (6 * factor**2 + 1), "pixel_shuffle": channels * factor**2 * 7}
    assert sum(parameter.numel() for parameter in module.parameters()) == weights.get(kind, 7 * out if out else 0)


@every_kind
def test_gradient_of_every_weight(kind: Any) -> None:
    module = upsample(kind, 6, 3)
    module(maps(2, 6, 5, 7), pooled(3, 5, 7, 2)[1]).square().sum().backward()
    assert all(parameter.grad is not None and (parameter.grad != 0).all() for parameter in module.parameters())


@every_kind
def test_gradients(kind: Any) -> None:
    small = maps(1, 4, 3, 2).double().requires_grad_()
    _, indices = pooled(4, 3, 2, 2)
    assert torch.autograd.gradcheck(lambda values: FUNCTIONS[kind](values, 2, indices[:1]), small)


def test_names_of_weights_stay_loadable() -> None:
    assert {*upsample("bilinear", 4, 2).state_dict()} == {*upsample("nearest", 4, 2).state_dict()} == {"0.weight", "0.bias"}
    assert {*upsample("transposed", 4, 2).state_dict()} == {"weight", "bias"}


@every_kind
def test_shapes_follow_without_values(kind: Any) -> None:
    module = upsample(kind, 4, 3, 3)
    with FakeTensorMode(allow_non_fake_inputs=True):
        small, indices = functional.max_pool2d(torch.empty(1, 4, 15, 21), 3, return_indices=True)
        assert module(small, indices[:, :3]).shape == (1, 3, 15, 21)


class Around(nn.Module):
    """Max pooling, a convolution, and the enlargement back to the picture's size."""

    def __init__(self, kind: Upsample) -> None:
        super().__init__()
        self.halve = nn.MaxPool2d(2, return_indices=True)
        self.convolution = nn.Conv2d(3, 5, 1)
        self.enlarge = upsample(kind, 5, 3)

    def forward(self, picture: Tensor) -> Tensor:
        small, indices = self.halve(picture)
        larger: Tensor = self.enlarge(self.convolution(small), indices)
        return larger


@every_kind
def test_onnx(kind: Any) -> None:
    pytest.importorskip("onnxscript")
    runtime = pytest.importorskip("onnxruntime")
    torch.manual_seed(0)
    network, picture = Around(kind).eval(), maps(2, 3, 10, 14)
    program = torch.onnx.export(network, (picture,), dynamo=True, verbose=False)
    assert program is not None
    file = io.BytesIO()
    program.save(file)
    session = runtime.InferenceSession(file.getvalue(), providers=["CPUExecutionProvider"])
    other = maps(2, 3, 10, 14, seed=2)
    (answer,) = session.run(None, {session.get_inputs()[0].name: other.numpy()})
    np.testing.assert_allclose(answer, network(other).detach().numpy(), rtol=0, atol=1e-6)
