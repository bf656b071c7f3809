"""Pictures from noise: a generator against a discriminator (Goodfellow et al. 2014; DCGAN, Radford, Metz and Chintala 2016)."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Annotated, ClassVar, Literal, Self

import torch
from PIL import Image as PillowImage
from pydantic import Field, SerializeAsAny
from torch import Tensor, nn
from torch.nn import functional

from pixelwise.adversary import AdversarialConfig, caught, deceived
from pixelwise.codecs.rgb import RGBCodec
from pixelwise.config import Choice
from pixelwise.data.augment import Augment, View, require_no_fill
from pixelwise.data.dataset import Dataset, Meta
from pixelwise.data.datasets import image_folder, world
from pixelwise.data.noise import NOISE, Noisy
from pixelwise.data.sample import Batch, Sample, Values
from pixelwise.data.thumbnails import LIMIT
from pixelwise.embedding import find
from pixelwise.errors import UsageError
from pixelwise.geometry.frame import Frame
from pixelwise.losses.adversarial import Kind
from pixelwise.losses.differentiable_augmentation import Change
from pixelwise.metrics.generation import GenerationMetrics, nearest
from pixelwise.nn.embeddings import Embedding
from pixelwise.nn.network import NetworkConfig
from pixelwise.nn.networks import dcgan, dcgan_discriminator, residual_discriminator, residual_generator
from pixelwise.nn.sides import SIDES
from pixelwise.predictions.image import ImagePrediction
from pixelwise.recipe import Recipe, recipe
from pixelwise.seeds import generator, torch_generator
from pixelwise.task import Phase, Predictor, image_of
from pixelwise.task import Task as AnyTask
from pixelwise.training import Optimizer, Schedule

COLUMNS = 8


class Config(AdversarialConfig):
    """Settings of generation."""

    answering: ClassVar[tuple[str, ...]] = ("features",)
    from_noise: ClassVar[bool] = True
    unmatched: ClassVar[str] = "no picture is the one that noise should become"
    kind: Literal["generation"] = "generation"
    picture: str = Field(default="image", description="field whose pictures are learned")
    category: str | None = Field(
        default=None, description="field of the class that a picture can be asked of, such as category; null: of any class"
    )
    noise: int = Field(default=128, ge=1, description="numbers of noise that a picture is made of")
    size: int | None = Field(default=None, description="side of the pictures; null: that of view.size, a power of 2, 32 to 256")
    adversarial: Kind = Field(default="hinge", description="what the two players minimise; wasserstein wants gradient_penalty")
    discriminator: Annotated[SerializeAsAny[NetworkConfig], Choice("pixelwise.nn.networks")] = Field(
        default=residual_discriminator.Config(), description="the network that judges pictures"
    )
    halved: bool = Field(default=False, description="half the discriminator's loss; wasserstein never is")
    augmentation: tuple[Change, ...] = Field(
        default=("colour", "translation", "cutout"),
        description="DiffAugment: what is changed in all that the discriminator sees; []: nothing, for many pictures",
    )
    features: str = Field(default="random", description="what compares sets of pictures, as in pixelwise compare")

    def idle(self) -> dict[str, str]:
        """Return the settings that change nothing, each with the reason."""
        return super().idle() | {
            "pool": "earlier pictures are of other noise, and of other classes",
        }

    def seen(self, dataset: Dataset, view: View) -> Dataset:
        """Return the middle squares of the pictures, with noise.

        Raises:
            UsageError: The view is none that pictures can be made in.
        """
        side = self.size or view.size[0]
        if view.size != (side, side) or side not in SIDES:
            sides = ", ".join(map(str, SIDES))
            raise UsageError(
                f"view.size = {view.size[0]}x{view.size[1]}: pictures are made with sides of {sides}", "view.size=64x64"
            )
        return Noisy(dataset, self.picture, self.category, side, self.noise)

    def settled(self, train: Dataset) -> Self:
        """Return the settings with the side of the pictures."""
        assert isinstance(train, Noisy)
        return self.model_copy(update={"size": train.side})


class Task(AnyTask):
    """The discriminator is taught first, then the generator by it; both have seen the same generated pictures."""

    codec: RGBCodec
    phases = (Phase("discriminator", ("discriminator",)), Phase("generator", ("generator",)))
    deployed = ("generator",)
    minimised = True
    pads = False
    references = ("training_pictures",)

    def __init__(self, config: Config, meta: Meta) -> None:
        super().__init__(config, meta)
        self.codec = RGBCodec()
        self.game = config.adversarial
        self.inputs = (NOISE, config.category) if config.category else (NOISE,)
        self.fields = ("image", *self.inputs)
        self.classes = meta.vectors[config.category].names if config.category in meta.vectors else ()
        self.sheets = config.noise + len(self.classes)
        self.suffix = re.sub(r"[^\w.-]", "-", config.features)
        self.primary = f"kid_{self.suffix}"
        self.known: Tensor | None = None
        self.trained: list[Tensor] = []

    @cached_property
    def embedding(self) -> Embedding:
        """What compares sets of pictures, made when it is first needed."""
        return find(self.config.features).eval()

    def check(self, view: View, augment: Augment) -> None:
        """Refuse what would show the discriminator fill or parts of pictures, and features that cannot be had."""
        _ = self.embedding
        if view.fit != "stretch" or view.load_size:
            raise UsageError("generation learns whole pictures", "leave out view.fit and view.load_size")
        require_no_fill(view, augment)

    def networks(self, network: NetworkConfig) -> nn.ModuleDict:
        """Build the generator, and the discriminator with an output for each class beside the first."""
        generator, judge = (_sized(one, self.config.size) for one in (network, self.config.discriminator))
        channels = self.codec.channels
        built = {
            "generator": generator.build(self.sheets, channels),
            "discriminator": judge.build(channels, 1 + len(self.classes)),
        }
        return nn.ModuleDict(built)

    def encode(self, batch: Batch) -> Batch:
        """Join noise and class to a code; bring true pictures to [-1, 1]."""
        code, encoded = batch[NOISE], dict[str, Tensor]()
        if self.classes:
            category = encoded["category"] = batch[self.config.category]
            code = torch.cat([code, _one_hot(category, len(self.classes), code)], 1)
        encoded["code"] = code[:, :, None, None]
        return encoded | ({"image": self.codec.encode(batch["image"])} if "image" in batch else {})

    def forward(self, networks: Mapping[str, nn.Module], batch: Batch) -> dict[str, Tensor]:
        """Return `image`, `(B, 3, H, W)` in [-1, 1]."""
        return {"image": networks["generator"](batch["code"])}

    def loss(
        self, phase: str, networks: Mapping[str, nn.Module], batch: Batch, outputs: dict[str, Tensor]
    ) -> dict[str, Tensor]:
        """What each player minimises, given the class that a picture is to be of."""
        judge = Judge(networks["discriminator"], batch.get("category"))
        if phase == "generator":
            return deceived(self.config, judge, batch["image"], outputs["image"])
        return caught(self.config, judge, None, batch["image"], outputs["image"])

    def decode(self, outputs: dict[str, Tensor], samples: Sequence[Sample], frames: Sequence[Frame]) -> list[ImagePrediction]:
        """Round each pixel to 8 bits."""
        made = self.codec.decode(outputs["image"].float().cpu())
        return [ImagePrediction(_drawn_noise(sample), pixels) for sample, pixels in zip(samples, made, strict=True)]

    def truth(self, sample: Sample) -> ImagePrediction:
        """Return a true picture: none is the answer to noise."""
        return ImagePrediction(_drawn_noise(sample), image_of(sample))

    def acquaint(self, train: Dataset) -> None:
        """Keep training pictures and their features, to find what was memorised."""
        self.trained = _evenly(train)
        self.known = torch.stack([self.embedding.of(picture) for picture in self.trained])

    def metrics(self) -> GenerationMetrics:
        """How far generated and true pictures are apart as sets, how varied they are, and whether they were memorised."""
        return GenerationMetrics(self.suffix, self.embedding.of, self.known)

    def score(self, metrics: GenerationMetrics, prediction: ImagePrediction, sample: Sample) -> None:
        """Take in the picture and a true one."""
        metrics.update(prediction.pixels, image_of(sample))

    def pictures(self, metrics: GenerationMetrics) -> dict[str, PillowImage.Image]:
        """Return those of our pictures that are most similar to training pictures, and these below them."""
        if self.known is None or not metrics.images:
            return {}
        apart, index = nearest(torch.stack(metrics.ours[: len(metrics.images)]), self.known)
        first = apart.argsort()[:COLUMNS].tolist()
        rows = [[metrics.images[i] for i in first], [self.trained[int(index[i])] for i in first]]
        return {"most similar to training pictures, and these below": _mosaic(rows)}

    def baselines(self, train: Dataset) -> dict[str, Predictor]:
        """Noise, the mean picture; and for reference other training pictures: what a perfect generator would come near."""
        pictures = _evenly(train)
        mean = torch.stack(pictures).float().mean(0).round().to(torch.uint8)
        order = generator(0, "training pictures").permutation(len(pictures)).tolist()
        given: dict[str, int] = {}

        def noise(sample: Sample) -> ImagePrediction:
            draw = torch_generator(0, "baseline", sample.key)
            return ImagePrediction(mean, torch.randint(256, mean.shape, generator=draw).to(torch.uint8))

        def trained(sample: Sample) -> ImagePrediction:
            place = given.setdefault(sample.key, len(given))
            return ImagePrediction(mean, pictures[order[place % len(order)]])

        return {"noise": noise, "mean_picture": lambda _: ImagePrediction(mean, mean), "training_pictures": trained}


class Judge(nn.Module):
    """A discriminator that is told the classes of the pictures it sees, once or, for several batches in one, in turn."""

    def __init__(self, discriminator: nn.Module, category: Tensor | None) -> None:
        super().__init__()
        self.discriminator, self.category = discriminator, category

    def forward(self, images: Tensor) -> Tensor:
        """Return the logits of pictures (B, C, H, W), or of as many batches of B."""
        category = self.category
        if category is not None:
            category = category.repeat(len(images) // len(category))
        return projected(self.discriminator(images), category)


def projected(outputs: Tensor, category: Tensor | None) -> Tensor:
    """Return the logits (B, 1, H, W) of outputs (B, 1 + classes, H, W): what is said of any picture, and of each class.

    The projection discriminator (Miyato and Koyama 2018, equation 3). Of an unknown class, -1, only the first counts.
    """
    if category is None:
        return outputs
    own = _one_hot(category, outputs.shape[1] - 1, outputs)
    return outputs[:, :1] + (outputs[:, 1:] * own[:, :, None, None]).sum(1, keepdim=True)


def _one_hot(category: Tensor, classes: int, like: Tensor) -> Tensor:
    """Return (B, classes): 1 at the class of each, nowhere if it is unknown."""
    return (category[:, None] == torch.arange(classes, device=category.device)).to(like)


def _sized(network: NetworkConfig, side: int | None) -> NetworkConfig:
    """Return the network for pictures of that side, if its architecture depends on it."""
    return network.model_copy(update={"size": side}) if "size" in type(network).model_fields and side else network


def _evenly(train: Dataset) -> list[Tensor]:
    count = min(len(train), LIMIT)
    return [image_of(train.sample(i * len(train) // count, ("image",))) for i in range(count)]


def _drawn_noise(sample: Sample) -> Tensor:
    """Return the noise as grey squares in a picture of the size that it becomes."""
    noise = sample[NOISE]
    assert isinstance(noise, Values)
    across = int(len(noise.values) ** 0.5)
    squares = noise.values[: across**2].reshape(1, 1, across, across) / 6 + 0.5
    grey = functional.interpolate(squares, noise.frame.size, mode="nearest")[0].clamp(0, 1)
    return (grey * 255).round().to(torch.uint8).expand(3, -1, -1)


def _mosaic(rows: Sequence[Sequence[Tensor]]) -> PillowImage.Image:
    picture = torch.cat([torch.cat([functional.pad(one, (1, 1, 1, 1), value=255) for one in row], 2) for row in rows], 1)
    return PillowImage.fromarray(picture.permute(1, 2, 0).contiguous().numpy())


@recipe
def world_generation() -> Recipe:
    """Street scenes of the embedded world from noise, 64 x 64, with a small residual generator.

    Expect a kernel distance by random features of 0.065 to 64 unseen scenes (other true scenes 0.006, pictures of noise 8.5,
    the mean of 256 scenes 113) after some 5 minutes of one CPU core with AMX: sky, ground and colours, and no objects yet.
    """
    return Recipe(
        name="world_generation",
        task=Config(noise=64, discriminator=residual_discriminator.Config(width=16)),
        data=world.Config(scenes=1024),
        view=View(size=(64, 64)),
        augment=Augment(flip=0.5),
        network=residual_generator.Config(width=16),
        optimizer=Optimizer(kind="adam", lr=4e-4, betas=(0.0, 0.9)),
        schedule=Schedule(kind="linear", hold=0.5),
        ema=0.995,
        steps=1200,
        batch_size=16,
        evaluate_every=400,
        pictures_every=400,
    )


@recipe
def generation() -> Recipe:
    """Your own pictures, data.root=FOLDER, from noise, 64 x 64 (view.size=128x128 for more).

    With a folder for each class: data.kind=class_folder task.category=category. A start, not a result: some ten thousand
    steps, for a GPU. Not measured yet.
    """
    return Recipe(
        name="generation",
        task=Config(),
        data=image_folder.Config(root="data/generation"),
        view=View(size=(64, 64)),
        augment=Augment(flip=0.5),
        network=residual_generator.Config(width=64),
        optimizer=Optimizer(kind="adam", lr=2e-4, betas=(0.0, 0.9)),
        schedule=Schedule(kind="linear", hold=0.5),
        ema=0.999,
        steps=20000,
        batch_size=32,
        evaluate_every=2000,
        pictures_every=2000,
        checkpoint_every=2000,
    )


@recipe
def dcgan_generation() -> Recipe:
    """Your own pictures, data.root=FOLDER, 64 x 64, by DCGAN as published: its layers, start, loss and optimizer.

    For comparison with `generation`; without DiffAugment it needs many pictures. Not measured yet.
    """
    base = generation()
    task = Config(noise=100, adversarial="vanilla", discriminator=dcgan_discriminator.Config(), augmentation=())
    return base.model_copy(
        update={
            "name": "dcgan_generation",
            "task": task,
            "network": dcgan.Config(),
            "optimizer": Optimizer(kind="adam", lr=2e-4, betas=(0.5, 0.999)),
            "schedule": Schedule(),
            "ema": 0.0,
            "batch_size": 128,
        }
    )
