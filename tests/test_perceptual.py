"""Losses that see more than pixels: the formulas by hand and against piq, the networks that look, and how a task takes them."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from test_tasks import opened, small, untrained
from torch import Tensor, nn, tensor

from pixelwise.config import kinds
from pixelwise.data.sample import Image, Sample
from pixelwise.engine.rehearsal import step_bytes
from pixelwise.engine.trainer import Trainer
from pixelwise.errors import ModelError, PixelwiseError, UsageError
from pixelwise.features import pretrained, random, run
from pixelwise.geometry.frame import Frame
from pixelwise.losses.deviation import mdsi_loss
from pixelwise.losses.features import feature_loss, gram, style_loss, summed
from pixelwise.losses.perceptual import PerceptualConfig, PerceptualTerm
from pixelwise.losses.structure import FLOOR, _logarithm, ms_ssim_loss, ssim_loss
from pixelwise.losses.total_variation import total_variation
from pixelwise.losses.wavelets import haarpsi_loss
from pixelwise.nn.features import Tapped, used
from pixelwise.perceptual import features, haarpsi, mdsi, ms_ssim, ssim
from pixelwise.predictions.image import ImagePrediction
from pixelwise.recipe import Recipe, find_recipe
from pixelwise.run import Data, proceed, start
from pixelwise.seeds import torch_generator
from pixelwise.tasks import style_transfer
from pixelwise.trial import batches

LOSSES: dict[str, PerceptualConfig] = {
    "features": features.Config(features=random.Config(width=4, levels=2)),
    "style": features.Config(features=random.Config(width=4, levels=2), content=0, style=1, style_levels=(1, 2)),
    "haarpsi": haarpsi.Config(),
    "mdsi": mdsi.Config(),
    "ms_ssim": ms_ssim.Config(),
    "ssim": ssim.Config(),
}
FORMULAS = {"ssim": ssim_loss, "ms_ssim": ms_ssim_loss, "haarpsi": haarpsi_loss, "mdsi": mdsi_loss}


def pair(channels: int, height: int, width: int) -> tuple[Tensor, Tensor]:
    """A smooth picture, and the same with stripes of growing frequency and a little brighter, float64."""
    y, x = torch.meshgrid(torch.arange(height).double(), torch.arange(width).double(), indexing="ij")
    image = torch.stack([0.5 + 0.3 * torch.sin(x / (5 + c) + c) * torch.cos(y / (9 - c)) for c in range(channels)])[None]
    other = (image + 0.1 * torch.sin(x * y / 40) + 0.05).clamp(0, 1)
    return image.expand(1, 3, -1, -1), other.expand(1, 3, -1, -1)


def noise(seed: int, *shape: int) -> Tensor:
    return torch.rand(*shape, generator=torch_generator(seed, "test"))


# Formulas, against numbers of piq 0.8.0 on the pictures of `pair`: channels, height, width, value


@pytest.mark.parametrize(
    ("name", "channels", "size", "value", "tolerance"),
    [
        ("ssim", 3, (192, 208), 0.48463049846207573, 1e-12),
        ("ssim", 3, (64, 80), 0.49833857078875815, 1e-12),
        ("ms_ssim", 1, (192, 208), 0.9572957283716486, 1e-12),
        ("ms_ssim", 3, (192, 208), 0.955366375367653, 1e-12),
        ("haarpsi", 1, (192, 208), 0.8962489021655444, 1e-12),
        ("haarpsi", 1, (64, 80), 0.7636019536537776, 1e-12),
        ("haarpsi", 3, (192, 208), 0.8494099544567146, 3e-4),  # piq has other digits of YIQ than the authors
        ("mdsi", 1, (192, 208), 0.3654475251964417, 1e-7),
        ("mdsi", 3, (192, 208), 0.3867019665051046, 1e-7),
        ("mdsi", 3, (64, 80), 0.3999692362143531, 1e-7),
    ],
)
def test_formulas_agree_with_piq(name: str, channels: int, size: tuple[int, int], value: float, tolerance: float) -> None:
    image, other = pair(channels, *size)
    loss = float(FORMULAS[name](other, image))
    assert (loss**0.25 if name == "mdsi" else 1 - loss) == pytest.approx(value, abs=tolerance)


@pytest.mark.parametrize("name", FORMULAS)
def test_formulas_have_the_gradient_of_their_values(name: str) -> None:
    image, other = pair(3, 22, 24)
    other = other.clone().requires_grad_()
    torch.autograd.gradcheck(lambda ours: FORMULAS[name](ours, image), other, fast_mode=True)


@pytest.mark.parametrize("name", LOSSES)
def test_equal_pictures_have_no_loss_and_unequal_ones_have(name: str) -> None:
    loss, image = LOSSES[name].build(), noise(0, 2, 3, 48, 40)
    assert float(loss(image, image)) == pytest.approx(0, abs=2e-6)
    other = noise(1, 2, 3, 48, 40) ** 3  # of another texture as well
    torch.manual_seed(0)
    far = float(loss(other, image))
    torch.manual_seed(0)
    near = float(loss(image.lerp(other, 0.3), image))
    assert 1e-5 < near < far


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("case", ["equal", "both black", "black for a picture", "a picture for black", "white for black"])
def test_gradients_are_finite(name: str, case: str) -> None:
    picture, black = noise(0, 2, 3, 32, 32), torch.zeros(2, 3, 32, 32)
    ours, theirs = {
        "equal": (picture, picture.clone()),
        "both black": (black, black.clone()),
        "black for a picture": (black, picture),
        "a picture for black": (picture, black),
        "white for black": (black + 1, black),
    }[case]
    ours = ours.requires_grad_()
    loss = LOSSES[name].build()(ours, theirs)
    (gradient,) = torch.autograd.grad(loss, ours)
    assert loss.isfinite() and gradient.isfinite().all() and float(gradient.abs().max()) < 1e3


def test_every_kind_is_tested() -> None:
    assert set(kinds("pixelwise.perceptual")) == set(LOSSES) - {"style"}
    assert kinds("pixelwise.features") == ("pretrained", "random", "run")


def test_the_gram_matrix_and_both_losses_of_johnson_by_hand() -> None:
    maps = tensor([[[[1.0, 2.0]], [[3.0, 4.0]]]])  # C = 2, H W = 2, so F F^T is divided by 4
    assert gram(maps).tolist() == [[[5 / 4, 11 / 4], [11 / 4, 25 / 4]]]
    assert float(style_loss(maps, torch.zeros(1, 2, 3, 3))) == (25 + 2 * 121 + 625) / 16 / 4
    assert float(feature_loss(maps, torch.zeros_like(maps))) == (1 + 4 + 9 + 16) / 4
    assert float(summed(feature_loss, [maps, 2 * maps], [0 * maps, maps], (1, 2))) == 7.5 + 7.5


def test_a_gram_matrix_does_not_know_where_things_are() -> None:
    maps = noise(0, 1, 5, 8, 6)
    moved = maps.flatten(2)[..., torch.randperm(48, generator=torch_generator(0, "order"))].view(1, 5, 8, 6)
    assert float(style_loss(maps, moved)) == pytest.approx(0, abs=1e-14)
    assert float(feature_loss(maps, moved)) > 0.05


def test_total_variation_by_hand() -> None:
    image = tensor([[[[0.0, 1.0], [2.0, 4.0]]]])  # across 1 and 2, down 2 and 3
    assert float(total_variation(image)) == 1.5 + 2.5
    assert float(total_variation(image, 2)) == 2.5 + 6.5
    assert float(total_variation(torch.full((1, 3, 1, 4), 0.5))) == 0


def test_the_logarithm_of_structure_goes_on_as_its_tangent() -> None:
    points = tensor([FLOOR, FLOOR / 2, -0.5, 0.5], dtype=torch.float64, requires_grad=True)
    values = _logarithm(points)
    slopes = torch.autograd.grad(values.sum(), points)[0]
    assert slopes.tolist() == pytest.approx([1 / FLOOR, 1 / FLOOR, 1 / FLOOR, 2.0])
    assert float(values[3].detach()) == pytest.approx(-0.6931471805599453)
    assert float((values[0] - values[1]).detach()) == pytest.approx(0.5)


def test_structure_of_a_negative_still_has_a_way_back() -> None:
    image = noise(0, 1, 3, 32, 32)
    negative = (1 - image).requires_grad_()
    (gradient,) = torch.autograd.grad(ms_ssim_loss(negative, image).sum(), negative)
    assert float((gradient * (image - negative.detach())).sum()) < 0  # downhill is towards the picture


@pytest.mark.parametrize(("name", "side"), [("ssim", 10), ("ms_ssim", 10), ("haarpsi", 15)])
def test_too_small_pictures_are_named(name: str, side: int) -> None:
    small_picture = torch.zeros(1, 3, side, 40)
    with pytest.raises(UsageError, match=f"40x{side}"):
        FORMULAS[name](small_picture, small_picture)


# Networks that look


def test_random_features_do_not_depend_on_contrast_or_brightness_of_their_reference() -> None:
    network, image = random.Config(width=4).build(), noise(0, 1, 3, 48, 40)
    inner = network.renewed(image, 3)
    faint = network.renewed(0.5 + (image - 0.5) / 2, 3)
    for one, other in zip(inner, faint, strict=True):
        torch.testing.assert_close(one, other, atol=1e-3, rtol=0)
    shapes = [tuple(maps.shape[1:]) for maps in inner]
    assert shapes == [(4, 48, 40), (8, 24, 20), (16, 12, 10), (32, 6, 5)]


def test_what_a_channel_answers_to_the_reference_has_mean_0_and_deviation_1() -> None:
    network, image = random.Config(width=8, levels=1).build(), noise(0, 2, 3, 32, 32)
    network.renewed(image, 0)
    first = network.levels[0][0]  # type: ignore[index]
    answer = (first(image * 2 - 1) - network.sizes[0].mean) / network.sizes[0].deviation
    assert answer.mean((0, 2, 3)).abs().max() < 1e-4
    torch.testing.assert_close(answer.square().mean((0, 2, 3)), torch.ones(8), atol=1e-3, rtol=0)


def test_draws_follow_the_seed_of_the_step() -> None:
    image, other = noise(0, 1, 3, 24, 24), noise(1, 1, 3, 24, 24)
    drawn, kept = (features.Config(features=random.Config(width=4, redraw=redraw)).build() for redraw in (True, False))

    def steps(loss: nn.Module) -> list[float]:
        torch.manual_seed(5)
        return [float(loss(image, other)) for _ in range(3)]

    assert steps(drawn) == steps(drawn) and len(set(steps(drawn))) == 3
    assert len(set(steps(kept))) == 1


def test_nothing_is_trained_and_the_target_gets_no_gradient() -> None:
    loss = LOSSES["style"].build()
    ours, theirs = (noise(seed, 1, 3, 24, 24).requires_grad_() for seed in (0, 1))
    loss(ours, theirs).backward()
    assert ours.grad is not None and ours.grad.abs().max() > 0 and theirs.grad is None
    assert not any(parameter.requires_grad or parameter.grad is not None for parameter in loss.parameters())


def test_only_the_levels_that_count_are_computed() -> None:
    network = used(random.Config(width=4, levels=4).build(), (2,))
    assert len(network(torch.zeros(1, 3, 16, 16))) == 2
    with pytest.raises(UsageError, match="level 5 of the features"):
        used(random.Config(width=4).build(), (1,), (5,))


def test_taps_are_the_last_of_each_resolution_and_nothing_after_them_runs() -> None:
    class Late(nn.Module):
        ran = 0

        def forward(self, maps: Tensor) -> Tensor:
            self.ran += 1
            return maps.mean((2, 3))

    convolution = nn.Conv2d(3, 2, 3, padding=1)
    network = nn.Sequential(convolution, nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(2, 4, 1), nn.Upsample(scale_factor=4), Late())
    tapped = Tapped(network, (), lambda image: image)
    assert tapped.layers == ("1", "3")
    image, before = noise(0, 1, 3, 8, 8), network[5].ran  # type: ignore[union-attr]
    first, second = tapped(image)
    torch.testing.assert_close(first, convolution(image).relu())
    assert second.shape == (1, 4, 4, 4) and network[5].ran == before  # type: ignore[union-attr]
    assert not tapped.train().network.training
    with pytest.raises(ModelError, match="no layer 'three'"):
        Tapped(network, ("three",), lambda image: image)
    with pytest.raises(ModelError, match="no maps come out of the layer '5'"):
        Tapped(network, ("5",), lambda image: image)(image)


@pytest.fixture(scope="module")
def classifier_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "seen"
    proceed(start(small("classification").override(["steps=1"]), folder))
    return folder


def test_a_run_looks_with_its_own_weights_and_normalisation(classifier_run: Path) -> None:
    found = run.Config(folder=str(classifier_run)).build()
    assert isinstance(found, Tapped)
    image = torch.randint(0, 256, (1, 3, 32, 32), dtype=torch.uint8, generator=torch_generator(0, "image"))
    maps = found(image.float() / 255)
    shapes = [tuple(m.shape[1:]) for m in maps]
    assert shapes[:2] == [(8, 30, 30), (16, 13, 13)]  # this classifier has no padding: 32 - 2, 30 / 2 - 2
    seen = opened("classification").task.encode({"image": image})["image"]
    first = found.network.features[:3]  # type: ignore[union-attr, index]
    torch.testing.assert_close(maps[0], first(seen))
    assert not any(parameter.requires_grad for parameter in found.parameters())


def test_a_translation_run_sees_minus_one_to_one(tmp_path: Path) -> None:
    proceed(start(small("translation").override(["steps=1", "task.source=image", "task.target=night"]), tmp_path / "run"))
    found = run.Config(folder=str(tmp_path / "run")).build()
    assert isinstance(found, Tapped)
    shown = found.prepare(tensor([0.0, 0.5, 1.0]))
    torch.testing.assert_close(shown, tensor([-1.0, 0.0, 1.0]))


@pytest.mark.parametrize(("folder", "named"), [("", "needs the folder"), ("nowhere", "no model in nowhere")])
def test_a_run_that_is_not_there(folder: str, named: str) -> None:
    with pytest.raises(ModelError, match=named):
        run.Config(folder=folder).build()


def test_pretrained_weights_from_a_file(tmp_path: Path) -> None:
    from torchvision.models import squeezenet1_1

    torch.manual_seed(0)
    network = squeezenet1_1(weights=None)
    weights = {name: t for name, t in network.state_dict().items() if not name.startswith("classifier")}
    save_file(weights, tmp_path / "w.safetensors")
    torch.save(weights, tmp_path / "w.pth")
    image = noise(0, 1, 3, 64, 64)
    mean, deviation = (tensor(v)[:, None, None] for v in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
    for name in ("w.safetensors", "w.pth"):
        chosen = pretrained.Config(model="squeezenet1_1", weights=str(tmp_path / name), layers=("features.1",))
        torch.testing.assert_close(chosen.build()(image)[0], network.features[:2]((image - mean) / deviation))
    save_file({"features.0.weight": torch.zeros(1)}, tmp_path / "other.safetensors")
    with pytest.raises(ModelError, match=r"other\.safetensors: \d+ tensors missing \(features\.0\.bias"):
        chosen.model_copy(update={"weights": str(tmp_path / "other.safetensors")}).build()


class Runs:
    """A pickle of it would call `print`."""

    def __reduce__(self) -> tuple[object, ...]:
        return print, ("code ran",)


def test_weights_with_code_in_them_are_not_opened(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    torch.save({"features.0.weight": Runs()}, tmp_path / "w.pth")
    with pytest.raises(ModelError, match="refused: its pickle wants to run print"):
        pretrained.Config(model="squeezenet1_1", weights=str(tmp_path / "w.pth")).build()
    assert "code ran" not in capsys.readouterr().out


@pytest.mark.parametrize(
    "chosen",
    [
        pretrained.Config(model="squeezenet1_1"),
        pretrained.Config(model="squeezenet1_1", weights="nowhere.pth"),
        pretrained.Config(library="timm", model="resnet10t"),
    ],
)
def test_without_weights_the_error_says_what_works_offline(
    chosen: pretrained.Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("torch.hub.get_dir", lambda: str(tmp_path))
    monkeypatch.setattr("huggingface_hub.try_to_load_from_cache", lambda *names: None)
    with pytest.raises(ModelError) as caught:
        chosen.build()
    assert all(words in caught.value.hint for words in ("features.kind=random", "features.kind=run", "features.weights=FILE"))


@pytest.mark.parametrize("library", ["torchvision", "timm"])
def test_unknown_models_are_named(library: str) -> None:
    with pytest.raises(UsageError, match="vgg61"):
        pretrained.Config(library=library, model="vgg61").build()  # type: ignore[arg-type]


# In a task


def test_settings_by_key_and_value() -> None:
    recipe = find_recipe("world_translation")
    assert recipe.task.perceptual is None  # type: ignore[attr-defined]
    assert recipe.override(["task.perceptual=null"]) == recipe
    chosen = recipe.override(
        ["task.perceptual=features", "task.perceptual.style=2", "task.perceptual.features.kind=run", "task.perceptual.weight=3"]
    )
    assert chosen.task.perceptual == features.Config(weight=3, style=2, features=run.Config())  # type: ignore[attr-defined]
    assert chosen.override(["task.perceptual=null"]) == recipe
    with pytest.raises(UsageError, match="nothing to compare"):
        chosen.override(["task.perceptual.style=0", "task.perceptual.content=0"])


@pytest.mark.parametrize("kind", ["translation", "super_resolution"])
def test_a_task_takes_it_as_a_further_loss_and_saves_nothing_of_it(kind: str) -> None:
    """The loss is the formula of pictures in [0, 1], times its weight; networks and names of weights stay the same."""
    name = f"world_{kind}"
    plainly = find_recipe(name).override(["data.scenes=8" if kind == "translation" else "data.source.scenes=8", "batch_size=2"])
    recipe = plainly.override(["task.perceptual=mdsi", "task.perceptual.weight=3"])
    data = Data.of(recipe)
    networks, plain = data.task.networks(recipe.network), Data.of(plainly).task.networks(recipe.network)
    assert networks.state_dict().keys() == plain.state_dict().keys()
    batch = data.task.encode(next_batch(recipe, data))
    outputs = data.task.forward(networks, batch)
    losses = data.task.loss(data.task.phases[-1].name, networks, batch, outputs)
    if kind == "translation":
        ours, theirs = (outputs["image"] + 1) / 2, (batch["target"] + 1) / 2
    else:
        ours, theirs = data.task.codec.picture(outputs["sheets"]), batch["fine"]  # type: ignore[attr-defined]
    torch.testing.assert_close(losses["perceptual"], 3 * mdsi_loss(ours, theirs).mean())


def next_batch(recipe: Recipe, data: Data) -> dict[str, Tensor]:
    return batches(recipe, data)[0]


def test_what_cannot_be_had_is_said_before_training() -> None:
    with pytest.raises(PixelwiseError, match="no model in nowhere"):
        Data.of(
            small("translation").override(
                ["task.perceptual=features", "task.perceptual.features.kind=run", "task.perceptual.features.folder=nowhere"]
            )
        )


def test_no_term_is_no_loss() -> None:
    assert PerceptualTerm(None).of(torch.zeros(1, 3, 8, 8), torch.zeros(1, 3, 8, 8)) == {}


@pytest.mark.parametrize("kind", ["translation", "style_transfer"])
def test_a_step_can_be_rehearsed_and_then_run(kind: str, tmp_path: Path) -> None:
    """The rehearsal goes through the loss on tensors without values; the real network that looks must not lose its own."""
    pairs = ["task.perceptual=features", "task.perceptual.features.width=4"] if kind == "translation" else []
    recipe = small(kind).override([*pairs, "batch_size=2"])
    data = Data.of(recipe)
    stream = [next_batch(recipe, data)]
    networks = data.task.networks(recipe.network)
    trainer = Trainer(
        data.task, networks, recipe, recipe.optimizer, recipe.schedule, tmp_path, lambda a, b: iter(stream * (b - a))
    )
    one = {name: t[:1] for name, t in stream[0].items()}
    assert step_bytes(trainer, one) > 2**17
    trainer.settings = recipe.model_copy(update={"steps": 1})
    trainer.run()
    assert trainer.step == 1


# Style transfer


def test_the_drawn_style_is_a_picture_of_many_colours() -> None:
    style = style_transfer.waves(64)
    assert style.shape == (3, 64, 64) and style.dtype == torch.uint8
    assert (style.float().std((1, 2)) > 50).all()


def test_the_style_is_at_no_distance_from_itself_and_the_picture_from_its_content() -> None:
    task = opened("style_transfer").task
    sample = opened("style_transfer").val.sample(0, ("image",))
    metrics = task.metrics()
    task.score(metrics, task.baselines(opened("style_transfer").train)["identity"](sample), sample)
    assert metrics.compute()["content"] == 0
    found = task.metrics()
    style = task.style
    task.score(found, ImagePrediction(style, style), Sample("style", {"image": Image(style, Frame.of(style.shape[-2:]))}))
    assert found.compute() == pytest.approx({"objective": 0, "style": 0, "content": 0}, abs=1e-9)


def test_a_style_that_is_not_there_is_named_before_training() -> None:
    with pytest.raises(PixelwiseError, match=r"nowhere\.png"):
        Data.of(small("style_transfer").override(["task.style=nowhere.png"]))


def test_prediction_needs_neither_style_nor_features() -> None:
    task = untrained("style_transfer").task
    missing = task.config.model_copy(update={"style": "nowhere.png", "features": run.Config(folder="nowhere")})
    model = untrained("style_transfer")
    model.task = missing.build(task.meta)
    assert model(torch.zeros(3, 20, 30, dtype=torch.uint8)).render().size == (30, 20)
