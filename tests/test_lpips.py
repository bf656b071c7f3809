"""Weights from files: LPIPS by hand, the Inception of the Frechet distance, and files that are missing, foreign or hostile."""

from __future__ import annotations

import pickle
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import nn
from torch.nn import functional

from pixelwise.errors import ModelError
from pixelwise.nn.inception import InceptionEmbedding, network
from pixelwise.nn.lpips import LAYOUTS, SCALE, SHIFT, Files, Lpips, files
from pixelwise.nn.weight_files import fill, read


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Files:
    """Return files as torchvision and the package lpips have them, with random numbers in them."""
    import torchvision

    folder, layout = tmp_path_factory.mktemp("weights"), LAYOUTS["alex"]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        with torch.device("meta"):
            model = torchvision.models.alexnet(weights=None)
        trunk = {name: 0.05 * torch.randn(t.shape) for name, t in model.state_dict().items() if name.startswith("features")}
        heads = {f"lin{i}.model.1.weight": torch.rand(1, c, 1, 1) for i, c in enumerate(layout.channels)}
    torch.save(trunk | {"classifier.1.weight": torch.zeros(1)}, folder / "trunk.pth")
    torch.save(heads, folder / "heads.pth")
    return Files(folder / "trunk.pth", folder / "heads.pth")


def test_lpips_by_hand(weights: Files) -> None:
    """Features that are the scaled colours themselves: (1, 0, 0) beside (0, 3, 0) at one of two pixels, weights 0.2, 0.3, 0.5.

    Of length 1 they differ by 1 in two channels: (0.2 + 0.3) / 2 pixels = 0.25.
    """
    lpips = Lpips("alex", weights)
    lpips.trunk, lpips.layers, lpips.least = nn.Sequential(nn.Identity()), (0,), 1
    lpips.heads = nn.ParameterList([nn.Parameter(torch.tensor([0.2, 0.3, 0.5]), requires_grad=False)])

    def picture(*features: tuple[float, float, float]) -> torch.Tensor:
        """Return what the scaling turns into these features: x = (f scale + shift + 1) / 2."""
        return (torch.tensor(features).T * torch.tensor(SCALE)[:, None] + torch.tensor(SHIFT)[:, None] + 1)[None, :, None] / 2

    one, other = picture((1, 0, 0), (0, 0, 1)), picture((0, 3, 0), (0, 0, 2))
    assert lpips(one, other).item() == pytest.approx(0.25, abs=1e-6)


def test_lpips_layer_by_layer(weights: Files) -> None:
    """The equation of the paper, written out with torch's own functions."""
    stored, heads = read(weights.trunk), read(weights.heads)
    pictures = torch.rand(2, 3, 40, 37, generator=torch.Generator().manual_seed(1))
    shift, scale = (torch.tensor(v)[:, None, None] for v in ((-0.030, -0.088, -0.188), (0.458, 0.448, 0.450)))
    maps, expected = (2 * pictures - 1 - shift) / scale, 0.0
    for index, (layer, stride, padding) in enumerate(((0, 4, 2), (3, 1, 2), (6, 1, 1), (8, 1, 1), (10, 1, 1))):
        maps = functional.max_pool2d(maps, 3, 2) if index in (1, 2) else maps
        weight, bias = stored[f"features.{layer}.weight"], stored[f"features.{layer}.bias"]
        maps = functional.conv2d(maps, weight, bias, stride, padding).relu()
        unit = maps / (maps.square().sum(1, keepdim=True).sqrt() + 1e-10)
        difference = (unit[0] - unit[1]).square() * heads[f"lin{index}.model.1.weight"][0]
        expected += float(difference.sum(0).mean())
    found = Lpips("alex", weights)(pictures[:1], pictures[1:])
    assert found.item() == pytest.approx(expected, rel=1e-5) and found.item() > 0.01


def test_lpips_of_equal_black_and_small_pictures(weights: Files) -> None:
    lpips = Lpips("alex", weights)
    black = torch.zeros(1, 3, 40, 40, requires_grad=True)
    assert lpips(black, black).item() == 0
    lpips(black, torch.rand(1, 3, 40, 40)).sum().backward()
    assert black.grad is not None and black.grad.isfinite().all() and black.grad.abs().max() > 0
    assert lpips(torch.rand(2, 3, 31, 31), torch.rand(2, 3, 31, 31)).isfinite().all()
    assert lpips(torch.rand(2, 3, 30, 50), torch.rand(2, 3, 30, 50)).isnan().tolist() == [True, True]


def test_lpips_says_what_to_put_where(weights: Files, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    monkeypatch.setattr("pixelwise.nn.lpips.find_spec", lambda package: None)
    with pytest.raises(ModelError, match=r"alexnet: no file .*checkpoints.alexnet-owt-7be5be79\.pth") as caught:
        files("alex")
    assert "trunk=FILE" in caught.value.hint
    with pytest.raises(ModelError, match="needs its linear heads") as caught:
        files("alex", weights.trunk)
    assert "heads=FILE" in caught.value.hint
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "checkpoints" / LAYOUTS["alex"].file).symlink_to(weights.trunk)
    assert files("alex", heads=weights.heads).trunk.is_file()
    with pytest.raises(ModelError, match="missing"):
        Lpips("vgg", weights)
    with pytest.raises(ModelError, match="no linear head of 64 channels for layer 0"):
        Lpips("alex", Files(weights.trunk, weights.trunk))


def test_heads_of_an_installed_package_are_found_without_importing_it(
    weights: Files, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "lpips" / "weights" / "v0.1"
    folder.mkdir(parents=True)
    (tmp_path / "lpips" / "__init__.py").write_text("raise RuntimeError('imported')")
    (folder / "alex.pth").write_bytes(weights.heads.read_bytes())
    monkeypatch.syspath_prepend(tmp_path)
    assert files("alex", weights.trunk).heads == folder / "alex.pth"


class Hostile:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return eval, ("1 / 0",)


def test_files_that_are_no_weights(tmp_path: Path) -> None:
    layer = nn.Linear(2, 1)
    for name, content in (("a.pth", b"no"), ("a.safetensors", b"no"), ("empty.pth", b""), ("pops.pth", b"\x80\x02.")):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(ModelError, match="no file of weights"):
            read(tmp_path / name)
    (tmp_path / "hostile.pkl").write_bytes(pickle.dumps(Hostile()))
    torch.save({"weight": Hostile()}, tmp_path / "hostile.pth")
    for name in ("hostile.pkl", "hostile.pth"):
        with pytest.raises(ModelError, match=r"no file of weights|its pickle wants to run eval"):
            read(tmp_path / name)
    torch.save([1, 2], tmp_path / "list.pth")
    with pytest.raises(ModelError, match="no state dictionary"):
        read(tmp_path / "list.pth")
    with pytest.raises(ModelError, match="no weights at") as caught:
        fill(layer, tmp_path / "none.pth", "put it there")
    assert caught.value.hint == "put it there"
    save_file({"weight": torch.ones(1, 3), "bias": torch.ones(1)}, tmp_path / "wrong.safetensors")
    with pytest.raises(ModelError, match=r"weight has shape \(1, 3\), the network needs \(1, 2\)"):
        fill(layer, tmp_path / "wrong.safetensors")
    torch.save(
        {"state_dict": {"weight": torch.tensor([[2.0, 3]]).half(), "bias": torch.zeros(1).half()}}, tmp_path / "half.pth"
    )
    fill(layer, tmp_path / "half.pth")
    assert layer(torch.tensor([5.0, 7])).item() == 31


def test_inception_reads_its_weights_and_pools_as_the_original(tmp_path: Path) -> None:
    """Beside torchvision's, average poolings leave out padding, and the last block takes the maximum."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        built = network()
    maps = torch.rand(1, 2048, 4, 4, generator=torch.Generator().manual_seed(0))
    seen: dict[str, torch.Tensor] = {}
    for name in ("Mixed_5b", "Mixed_6e", "Mixed_7b", "Mixed_7c"):
        block = built.get_submodule(name)
        pool = block.get_submodule("branch_pool")
        pool.register_forward_pre_hook(lambda module, inputs, name=name: seen.update({name: inputs[0]}))  # type: ignore[misc]
        channels = pool.get_submodule("conv").weight.shape[1]
        built.eval().get_submodule(name)(maps[:, :channels])
        corner = maps[:, :channels, :2, :2].amax((2, 3)) if name == "Mixed_7c" else maps[:, :channels, :2, :2].mean((2, 3))
        torch.testing.assert_close(seen[name][..., 0, 0], corner)
    stored = {name: tensor for name, tensor in built.state_dict().items() if not name.endswith("num_batches_tracked")}
    save_file(stored, tmp_path / "inception.safetensors")
    embedding = InceptionEmbedding(tmp_path / "inception.safetensors")
    vector = embedding.of(torch.randint(0, 256, (3, 50, 60), generator=torch.Generator().manual_seed(0), dtype=torch.uint8))
    assert vector.shape == (2048,) and vector.isfinite().all() and embedding.protocol == "inception2015,bicubic299"
    del stored["fc.bias"]
    save_file(stored, tmp_path / "less.safetensors")
    with pytest.raises(ModelError, match=r"1 tensors missing \(fc.bias\)"):
        InceptionEmbedding(tmp_path / "less.safetensors")
