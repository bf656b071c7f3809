"""Generation: the published networks, what is learned from, the losses, the metrics, and pictures from the command line."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch
from PIL import Image as PillowImage
from safetensors.torch import load_file
from test_cli import Capture, fails
from test_tasks import opened, small, untrained
from torch import Tensor, nn
from torch.nn import functional

from pixelwise import adversary
from pixelwise.asked import Wished
from pixelwise.cli import main
from pixelwise.data.augment import Augment, View
from pixelwise.data.dataset import Dataset, Meta, Source
from pixelwise.data.noise import NOISE, Noisy, noise_of
from pixelwise.data.sample import Category, Image, Sample, Values
from pixelwise.engine.checkpoint import newest
from pixelwise.errors import UsageError
from pixelwise.evaluation import beats_baselines, evaluate
from pixelwise.generating import between, generate, generate_files
from pixelwise.geometry.frame import Frame
from pixelwise.losses.differentiable_augmentation import Draw
from pixelwise.metrics.generation import GenerationMetrics, diversity, nearest
from pixelwise.model import Model, load
from pixelwise.nn.networks import dcgan, dcgan_discriminator, residual_discriminator, residual_generator
from pixelwise.nn.networks.residual_generator import SteeredNorm
from pixelwise.recipe import find_recipe
from pixelwise.run import Data, proceed, start
from pixelwise.tasks import generation
from pixelwise.tasks.generation import projected

# The networks


def parameters(network: nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


def test_dcgan_as_published() -> None:
    """4x4 convolutions without bias, two numbers per normed channel; 4 x 4 x 512 first, or x 1024 with width 128."""
    made = dcgan.Config().build(100, 3)
    convolutions = 16 * (100 * 512 + 512 * 256 + 256 * 128 + 128 * 64 + 64 * 3)
    assert parameters(made) == convolutions + 2 * (512 + 256 + 128 + 64) == 3_576_704
    judge = dcgan_discriminator.Config().build(3, 1)
    assert parameters(judge) == 16 * (3 * 64 + 64 * 128 + 128 * 256 + 256 * 512 + 512) + 2 * (128 + 256 + 512) == 2_765_568
    sides: list[tuple[int, int]] = []
    for layer in dcgan.Config(width=128).build(100, 3).layers:
        if isinstance(layer, nn.ConvTranspose2d):
            sides.append((layer.in_channels, layer.out_channels))
    assert sides == [(100, 1024), (1024, 512), (512, 256), (256, 128), (128, 3)]
    weights = torch.cat([m.weight.detach().flatten() for m in made.modules() if isinstance(m, nn.ConvTranspose2d)])
    scales = torch.cat([m.weight.detach() for m in made.modules() if isinstance(m, nn.BatchNorm2d)])
    assert abs(float(weights.mean())) < 1e-4 and abs(float(weights.std()) - 0.02) < 1e-4
    assert abs(float(scales.mean()) - 1) < 0.003 and 0.018 < float(scales.std()) < 0.022
    assert [m.negative_slope for m in judge.modules() if isinstance(m, nn.LeakyReLU)] == [0.2] * 4
    with torch.no_grad():
        pictures = made(torch.randn(2, 100, 1, 1))
        assert pictures.shape == (2, 3, 64, 64) and pictures.abs().max() <= 1
        assert judge(pictures).shape == (2, 1, 1, 1)


@pytest.mark.parametrize("kind", [dcgan, residual_generator])
@pytest.mark.parametrize("side", [32, 64, 128, 256])
def test_sides(kind: object, side: int) -> None:
    network = kind.Config(size=side, width=2).build(5, 3).eval()  # type: ignore[attr-defined]
    with torch.inference_mode():
        assert network(torch.zeros(1, 5, 1, 1)).shape == (1, 3, side, side)


def test_a_verdict_on_larger_pictures_is_the_mean_over_parts() -> None:
    judge = dcgan_discriminator.Config(width=2, size=32).build(3, 1).eval()
    picture = torch.rand(1, 3, 32, 40)
    inner = judge.layers(picture)
    assert inner.shape == (1, 1, 1, 2)
    torch.testing.assert_close(judge(picture), inner.mean((2, 3), keepdim=True))


def test_a_steered_norm_by_hand() -> None:
    layer = SteeredNorm(1, 2)
    with torch.no_grad():
        layer.steer.weight.copy_(torch.tensor([[0.5, 0.0], [0.0, 3.0]]))
    maps = torch.tensor([-1.0, 1.0])[None, None, None]  # mean 0, variance 1
    changed = layer(maps.expand(2, 1, 1, 2), torch.tensor([[2.0, 0.0], [0.0, 1.0]]))
    torch.testing.assert_close(changed[:, 0, 0], torch.tensor([[-2.0, 2.0], [2.0, 4.0]]), atol=1e-4, rtol=0)


def test_projection_adds_what_is_said_of_the_own_class() -> None:
    outputs = torch.tensor([[1.0, 10.0, 20.0], [2.0, 30.0, 40.0], [3.0, 50.0, 60.0]])[:, :, None, None]
    assert projected(outputs, torch.tensor([1, 0, -1])).flatten().tolist() == [21.0, 32.0, 3.0]
    assert torch.equal(projected(outputs[:, :1], None), outputs[:, :1])


def test_the_residual_discriminator_is_a_projection_discriminator() -> None:
    """Equation 3 of Miyato and Koyama: y V phi(x) + psi(phi(x)), with phi the features summed over the picture."""
    judge = residual_discriminator.Config(width=2, size=32, spectral_norm=False).build(3, 4)
    picture, category = torch.rand(2, 3, 32, 32), torch.tensor([2, 0])
    phi = functional.relu(judge.blocks(picture)).sum((2, 3))
    weight, bias = judge.judge.weight[:, :, 0, 0], judge.judge.bias
    assert bias is not None
    said = phi @ weight[0] + bias[0] + (phi * weight[1 + category]).sum(1) + bias[1 + category]
    torch.testing.assert_close(projected(judge(picture), category).flatten(), said)


# What is learned from


class Two(Dataset):
    meta = Meta()
    fields = ("photo", "category")

    def __len__(self) -> int:
        return 2

    def key(self, index: int) -> str:
        return f"picture {index}"

    def sample(self, index: int, fields: object) -> Sample:
        frame = Frame.of((32, 96))
        pixels = torch.arange(96, dtype=torch.uint8).expand(3, 32, 96)
        return Sample(self.key(index), {"photo": Image(pixels, frame), "category": Category(index, frame)})

    def source(self, index: int, field: str) -> Source | None:
        return Source(Path("x"), "photo") if field == "photo" else None


def test_the_middle_square_and_noise_that_belongs_to_the_key() -> None:
    data = Noisy(Two(), "photo", "category", 32, 5)
    sample = data.sample(1, ("image", "category", NOISE))
    image, noise = sample["image"], sample[NOISE]
    assert isinstance(image, Image) and isinstance(noise, Values)
    assert torch.equal(image.pixels[0, 3], torch.arange(32, 64, dtype=torch.uint8))
    assert noise.frame.size == sample["category"].frame.size == image.frame.size == (32, 32)
    assert torch.equal(noise.values, noise_of(0, "picture 1", 5)) and not torch.equal(noise.values, noise_of(0, "picture 0", 5))
    assert data.source(1, "image") == Source(Path("x"), "photo square 32") and data.source(1, NOISE) is None
    varied = data.varied(sample, lambda: np.random.default_rng(3))
    expected = torch.from_numpy(np.random.default_rng(3).standard_normal(5, np.float32))
    assert torch.equal(varied[NOISE].tensors()[""], expected) and varied["image"] is image
    halved = Noisy(Two(), "photo", None, 16, 5).sample(0, ("image",))["image"]
    assert isinstance(halved, Image) and halved.pixels.shape == (3, 16, 16)
    # each of the inner columns averages around 32 + 2 i + 1, whose pixels are 32 + 2 i and 32 + 2 i + 1
    assert (halved.pixels[0, 8].float() - (32.5 + 2 * torch.arange(16))).abs().max() <= 0.5


@pytest.mark.parametrize(
    ("pairs", "message"),
    [
        (["view.size=48x48"], "view.size = 48x48: pictures are made with sides of 32, 64, 128, 256"),
        (["view.size=64x128"], "view.size = 64x128: pictures are made"),
        (["view.load_size=70x70"], "generation learns whole pictures"),
        (["task.category=distance"], "task.category must name a field with one class for each picture"),
        (["task.category=kind"], "the data has no field 'kind'"),
        (["task.picture=labels"], "the field 'labels' is no picture"),
        (["task.features=nothing"], "no features 'nothing'"),
        (["augment.rotate=20"], "fill"),
    ],
)
def test_mistakes_are_told(pairs: list[str], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        data = Data.of(find_recipe("world_generation").override(["data.scenes=4", *pairs]))
        data.train.sample(0, data.task.fields)


# The losses


def by_hand(form: str) -> tuple[float, float, float]:
    """Return the discriminator's loss, its penalty and the generator's loss for true logits (2, -1), generated (0.5, -3)."""
    true, fake = (2.0, -1.0), (0.5, -3.0)
    soft = lambda x: math.log1p(math.exp(x))  # noqa: E731
    if form == "hinge":
        return sum(max(0, 1 - t) for t in true) / 2 + sum(max(0, 1 + f) for f in fake) / 2, 2.5, -sum(fake) / 2
    return sum(soft(-t) for t in true) / 2 + sum(soft(f) for f in fake) / 2, 2.5, sum(soft(-f) for f in fake) / 2


@pytest.mark.parametrize("form", ["hinge", "vanilla"])
def test_losses_by_hand(form: str) -> None:
    """A discriminator that says the sum of a picture of one red pixel, whose slope is 1 in each of 3 values: gamma 3 / 2."""

    class Sum(nn.Module):
        def forward(self, images: Tensor) -> Tensor:
            return images.sum((1, 2, 3), keepdim=True)

    task = generation.Task(generation.Config(adversarial=form, augmentation=(), r1=5 / 3, size=32), Meta())  # type: ignore[arg-type]
    true, fake = (
        torch.tensor(values)[:, None, None, None] * torch.tensor([1.0, 0, 0])[:, None, None]
        for values in ((2.0, -1.0), (0.5, -3.0))
    )
    networks = {"discriminator": Sum()}
    judged = task.loss("discriminator", networks, {"image": true}, {"image": fake})
    made = task.loss("generator", networks, {"image": true}, {"image": fake})
    assert [*judged, *made] == ["discriminator", "r1", "adversarial"]
    assert [float(loss) for loss in (*judged.values(), *made.values())] == pytest.approx(by_hand(form), abs=1e-6)


def test_what_the_discriminator_sees_is_changed_alike(monkeypatch: pytest.MonkeyPatch) -> None:
    """True and generated pictures get one draw in a pass; the generator's pass has another."""
    seen: list[Draw] = []

    def watched(images: Tensor, policy: tuple[str, ...], draw: Draw) -> Tensor:
        assert policy == ("colour", "translation", "cutout")
        seen.append(draw)
        return images

    monkeypatch.setattr(adversary, "augmented", watched)
    task = generation.Task(generation.Config(size=32), Meta())
    networks = {"discriminator": residual_discriminator.Config(width=2, size=32).build(3, 1)}
    batch, outputs = {"image": torch.rand(2, 3, 32, 32)}, {"image": torch.rand(2, 3, 32, 32)}
    task.loss("discriminator", networks, batch, outputs)
    task.loss("generator", networks, batch, outputs)
    assert seen[0] is seen[1] and not torch.equal(seen[0].shift_x, seen[2].shift_x)


# The metrics


def test_metrics_by_hand() -> None:
    assert diversity(torch.tensor([[0.0, 0.0], [3.0, 4.0], [0.0, 4.0]])) == pytest.approx((5 + 4 + 3) / 3)
    least, index = nearest(torch.tensor([[0.0, 0.0], [1.0, 1.0]]), torch.tensor([[3.0, 4.0], [1.0, 2.0]]))
    assert least.tolist() == pytest.approx([5**0.5, 1.0]) and index.tolist() == [1, 1]
    metrics = GenerationMetrics("mean", lambda picture: picture.float().mean((1, 2)), torch.tensor([[10.0, 0.0, 0.0]]))
    assert metrics.compute() == {}
    for ours, true in ((0, 4), (3, 4)):
        metrics.update(*(torch.tensor([value, 0, 0], dtype=torch.uint8)[:, None, None] for value in (ours, true)))
    found = metrics.compute()
    # k(x, y) = (x y / 3 + 1)^3: ours 1; theirs (16 / 3 + 1)^3; between, twice 1 and twice 5^3, over 4
    assert found.pop("kid_mean") == pytest.approx(1 + (19 / 3) ** 3 - 2 * (2 + 2 * 125) / 4)
    expected = {"diversity_mean": 3.0, "true_diversity_mean": 0.0, "nearest_mean": 8.5, "true_nearest_mean": 6.0}
    assert found == pytest.approx(expected)


def test_training_pictures_are_a_reference_that_need_not_be_beaten() -> None:
    data = opened("generation")
    result, ours = evaluate(untrained("generation"), data.train, data.val, "val")
    assert result["references"] == ["training_pictures"] and list(result["baselines"]) == [
        "noise",
        "mean_picture",
        "training_pictures",
    ]
    reference = result["baselines"]["training_pictures"]
    assert reference["nearest_random"] == 0 < reference["true_nearest_random"]  # all of them are known
    assert reference["kid_random"] < min(result["baselines"][name]["kid_random"] for name in ("noise", "mean_picture"))
    assert result["baselines"]["mean_picture"]["diversity_random"] == 0
    between_both = {
        **result,
        "metrics": {"kid_random": (reference["kid_random"] + result["baselines"]["noise"]["kid_random"]) / 2},
    }
    between_both["baselines"] = {name: result["baselines"][name] for name in ("noise", "training_pictures")}
    assert beats_baselines(between_both) and not beats_baselines({**between_both, "references": []})
    (picture,) = data.task.pictures(ours).values()
    assert picture.size == (3 * 34, 2 * 34)


# A run


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("generation") / "run"
    proceed(start(small("generation").override(["ema=0.5", "pictures_every=4"]), folder))
    return folder


def test_the_average_is_deployed(run: Path) -> None:
    state = newest(run)
    assert state is not None
    averaged, trained = load_file(state / "ema.safetensors"), load_file(state / "networks.safetensors")
    deployed = load_file(run / "model" / "model.safetensors")
    name = "generator.blocks.0.first.weight"
    assert torch.equal(deployed[name], averaged[name]) and not torch.equal(deployed[name], trained[name])
    assert all(name.startswith("generator.") for name in deployed)


def test_pictures_of_the_same_noise_while_training(run: Path) -> None:
    assert sorted(path.name for path in (run / "pictures").iterdir()) == ["000004.png", "000006.png"]  # and the last step
    report = (run / "report.html").read_text()
    assert "after 4 steps" in report and "after 6 steps" in report and "made from noise" in report
    assert "most similar to training pictures" in report
    assert "pixelwise generate" in (run / "model" / "README.md").read_text()


def test_pictures_from_the_command_line(run: Path, tmp_path: Path, capsys: Capture) -> None:
    assert main(["generate", str(run), str(tmp_path / "few"), "count=3", "seed=5", "class=nobody", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told == json.loads((tmp_path / "few" / "generated.json").read_text())
    assert (told["count"], told["seed"], told["class"]) == (3, 5, "nobody")
    assert main(["generate", str(run), str(tmp_path / "many"), "count=20", "seed=5", "class=nobody"]) == 0
    assert main(["generate", str(run), str(tmp_path / "other"), "count=3", "seed=6", "class=nobody"]) == 0
    assert main(["generate", str(run), str(tmp_path / "class"), "count=3", "seed=5", "class=several people"]) == 0
    read = {
        folder: [(tmp_path / folder / f"{n:05d}.png").read_bytes() for n in range(3)]
        for folder in ("few", "many", "other", "class")
    }
    assert read["few"] == read["many"]
    assert not {*read["few"]} & {*read["other"]} and not {*read["few"]} & {*read["class"]} and len({*read["few"]}) == 3
    with PillowImage.open(tmp_path / "many" / "grid.png") as grid, PillowImage.open(tmp_path / "many" / "00009.png") as one:
        assert grid.size == (8 * 32, 3 * 32)
        assert np.array_equal(np.asarray(grid)[32:64, 32:64], np.asarray(one))


def test_pictures_are_written_as_they_are_made(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before each batch of 16 those before it are in their files; the grid shows 64 of 70."""
    predict, there = Model.predict, list[int]()

    def counted(model: Model, samples: Sequence[Sample]) -> list[Any]:
        there.append(len(list((tmp_path / "out").glob("0*.png"))))
        return list(predict(model, samples))

    monkeypatch.setattr(Model, "predict", counted)
    assert generate_files(run, tmp_path / "out", Wished(70))["count"] == 70
    assert there == [0, 16, 32, 48, 64] and len(list((tmp_path / "out").glob("0*.png"))) == 70
    with PillowImage.open(tmp_path / "out" / "grid.png") as sheet:
        assert sheet.size == (8 * 32, 8 * 32)


def test_without_a_class_each_has_its_turn_and_a_walk_goes_from_one_to_the_next(run: Path) -> None:
    model = load(run)
    turns = [np.asarray(one.render()) for one in generate(model, Wished(5))]
    alone = [np.asarray(one.render()) for one in generate(model, Wished(5, category="one person"))]
    same = [bool((abs(a.astype(int) - b) <= 1).all()) for a, b in zip(turns, alone, strict=True)]
    assert same == [False, True, False, False, True]
    walk = [np.asarray(one.render()).astype(int) for one in generate(model, Wished(3, category="one person", walk=4))]
    assert len(walk) == 9
    assert all(abs(walk[4 * n] - alone[n]).max() <= 1 for n in range(3))
    assert abs(walk[1] - walk[0]).mean() < abs(walk[4] - walk[0]).mean()


def test_the_way_between_keeps_the_length_of_noise() -> None:
    start, end = torch.tensor([3.0, 0.0]), torch.tensor([0.0, 5.0])
    torch.testing.assert_close(between(start, end, 0.0), start)
    torch.testing.assert_close(between(start, end, 1.0), end)
    torch.testing.assert_close(between(start, end, 0.5), torch.tensor([4.0, 4.0]) / 2**0.5)
    torch.testing.assert_close(between(start, 2 * start, 0.5), 1.5 * start)


def test_wrong_wishes(run: Path, tmp_path: Path, capsys: Capture) -> None:
    words = ["generate", str(run), str(tmp_path / "out")]
    assert fails(capsys, *words, "class=nobod") == (2, "this generator knows no class 'nobod'", "did you mean 'nobody'?")
    assert fails(capsys, *words, "seed=-1")[1] == "seed = '-1': should be a whole number, 0 or more"
    assert fails(capsys, *words, "count=0")[1] == "count = '0': should be a positive integer"
    assert fails(capsys, *words, "cout=3") == (2, "generate has no setting 'cout'", "did you mean 'count'?")
    assert fails(capsys, *words, "count=1", "walk=4")[1] == "a walk needs two pictures to go between"
    assert not (tmp_path / "out").exists()
    assert fails(capsys, "generate", str(run), str(run))[1] == f"{run} is there and is not empty"
    assert fails(capsys, "predict", str(run), str(run / "strips.png"))[:2] == (
        2,
        "this model makes pictures from noise and reads none",
    )
    model = untrained("depth")
    model.save(tmp_path / "depth", opened("depth").val.sample(0, model.task.fields), "")
    _, message, hint = fails(capsys, "generate", str(tmp_path / "depth"), str(tmp_path / "out"))
    assert (message, hint) == ("a model of depth makes no pictures from noise", "pixelwise predict RUN IMAGE")


def test_export(run: Path, tmp_path: Path, capsys: Capture) -> None:
    assert main(["export", str(run), str(tmp_path / "x.onnx"), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["input"] == {"noise": ["batch", 8], "crowd": ["batch"], "type": "float32"}
    assert told["outputs"] == {"rgb": ["batch", 3, 32, 32]} and list(told["differences"]) == ["batch 1", "batch 3"]
    session = onnxruntime.InferenceSession(tmp_path / "x.onnx", providers=["CPUExecutionProvider"])
    noise = torch.stack([noise_of(5, str(n), 8) for n in range(2)])
    (rgb,) = session.run(None, {"noise": noise.numpy(), "crowd": np.array([1, 1])})
    ours = [np.asarray(one.render()) for one in generate(load(run), Wished(2, 5, "one person"))]
    assert all(abs(rgb[n].transpose(1, 2, 0) * 255 - ours[n]).max() <= 0.51 for n in range(2))
    known = session.get_modelmeta().custom_metadata_map
    assert known["range"] == "N(0, 1)" and json.loads(known["vectors"])["crowd"]["names"] == [
        "nobody",
        "one person",
        "several people",
    ]


def test_a_folder_with_classes(tmp_path: Path) -> None:
    """A folder for each class; 64 x 48 pictures, of which the middle squares are learned, by DCGAN."""
    draw = np.random.default_rng(0)
    for name in ("cats", "dogs"):
        (tmp_path / "data" / name).mkdir(parents=True)
        for number in range(6):
            PillowImage.fromarray(draw.integers(0, 256, (64, 48, 3), dtype=np.uint8)).save(
                tmp_path / "data" / name / f"{number}.png"
            )
    recipe = find_recipe("dcgan_generation").override(
        [
            *("data.kind=class_folder", f"data.root={tmp_path / 'data'}", "data.val_fraction=0.4", "task.category=category"),
            *(
                "view.size=32x32",
                "network.width=4",
                "task.discriminator.width=4",
                "task.discriminator.norm=none",
                "task.r1=1",
                "steps=2",
                "batch_size=4",
            ),
        ]
    )
    model = proceed(start(recipe, tmp_path / "run"))
    assert model.task.config.size == 32 and model.task.classes == ("cats", "dogs")
    assert {"discriminator", "r1", "adversarial"} <= json.loads(
        (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()[0]
    )["losses"].keys()
    assert [one.render().size for one in generate(load(tmp_path / "run"), Wished(2, 0, "dogs"))] == [(32, 32)] * 2


def test_a_view_that_shows_fill_is_refused_at_once() -> None:
    task = generation.Task(generation.Config(size=32), Meta())
    with pytest.raises(UsageError, match="whole pictures"):
        task.check(View(size=(32, 32), fit="native"), Augment())
