"""Unpaired image-to-image translation, both ways at once (CycleGAN; Zhu, Park, Isola and Efros 2017)."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cached_property
from typing import Annotated, Any, ClassVar, Literal

import torch
from pydantic import Field, SerializeAsAny
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from pixelwise.codecs.rgb import RGBCodec
from pixelwise.config import Choice
from pixelwise.data.augment import Augment, View, require_no_fill
from pixelwise.data.dataset import Dataset, Meta
from pixelwise.data.datasets import unpaired, unpaired_folder, world
from pixelwise.data.sample import Batch, Sample
from pixelwise.data.thumbnails import LIMIT
from pixelwise.embedding import find
from pixelwise.geometry.tiles import Tile
from pixelwise.losses.adversarial import discriminator_loss, generator_loss
from pixelwise.metrics.unpaired import UnpairedMetrics
from pixelwise.nn.embeddings import Embedding
from pixelwise.nn.image_pool import ImagePool
from pixelwise.nn.network import NetworkConfig
from pixelwise.nn.networks import patchgan, residual
from pixelwise.predictions.image import ImagePrediction
from pixelwise.recipe import Recipe, TaskConfig, recipe
from pixelwise.task import Phase, PixelTask, Predictor, full_resolution, image_of
from pixelwise.training import Optimizer, Schedule


class Config(TaskConfig):
    """Settings of unpaired translation; the defaults are the published ones."""

    answering: ClassVar[tuple[str, ...]] = ("direction", "features")
    kind: Literal["cycle_translation"] = "cycle_translation"
    direction: Literal["AtoB", "BtoA"] = Field(
        default="AtoB", description="which way pictures are translated and measured; both ways are learned"
    )
    cycle_weight: float = Field(
        default=10.0, ge=0, description="weight of the way there and back against the adversarial loss; 0: not gone"
    )
    identity: float = Field(
        default=0.5, ge=0, description="weight of leaving a picture of the other side as it is, as a share of the cycle's"
    )
    adversarial: Literal["vanilla", "lsgan", "hinge"] = Field(default="lsgan", description="form of the GAN loss")
    pool: int = Field(default=50, ge=0, description="earlier pictures that a discriminator may be shown again; 0: none")
    discriminator: Annotated[SerializeAsAny[NetworkConfig], Choice("pixelwise.nn.networks")] = Field(
        default=patchgan.Config(norm="instance"), description="the network that judges pictures of one side"
    )
    truth: bool = Field(default=False, description="whether the data shows the true B of an A, as field truth, to measure with")
    features: str = Field(default="random", description="what compares sets of pictures, as in pixelwise compare")


class Task(PixelTask):
    """The generators go first, then the discriminators judge what the generators made before their update."""

    codec: RGBCodec
    phases = (
        Phase("generators", ("a_to_b", "b_to_a")),
        Phase("discriminators", ("discriminator_a", "discriminator_b")),
    )
    minimised = True

    def __init__(self, config: Config, meta: Meta) -> None:
        super().__init__(config, meta)
        self.codec = RGBCodec()
        forth = config.direction == "AtoB"
        self.source, self.target = ("a", "b") if forth else ("b", "a")
        self.deployed = ("a_to_b", "b_to_a") if forth else ("b_to_a", "a_to_b")
        self.inputs = (self.source,)
        self.truthful = config.truth and forth
        self.fields = ("a", "b", "truth") if self.truthful else ("a", "b")
        self.distance = "kid_" + re.sub(r"[^\w.-]", "-", config.features)
        self.primary = "l1" if self.truthful else self.distance

    @cached_property
    def embedding(self) -> Embedding:
        """What compares sets of pictures, made when it is first needed."""
        return find(self.config.features).eval()

    def check(self, view: View, augment: Augment) -> None:
        """Refuse what would show the networks fill, and features that cannot be had."""
        _ = self.embedding
        require_no_fill(view, augment)

    def networks(self, network: NetworkConfig) -> nn.ModuleDict:
        """Build two generators, two discriminators, and what these were shown before."""
        channels = self.codec.channels
        built: dict[str, nn.Module] = {
            name: full_resolution(network.build(channels, channels), network) for name in ("a_to_b", "b_to_a")
        }
        for side in ("a", "b"):
            built[f"discriminator_{side}"] = self.config.discriminator.build(channels, 1)
            built[f"pool_{side}"] = ImagePool(self.config.pool)
        return nn.ModuleDict(built)

    def encode(self, batch: Batch) -> Batch:
        """Bring both sides to [-1, 1]."""
        return {name: self.codec.encode(batch[name]) for name in ("a", "b") if name in batch}

    def forward(self, networks: Mapping[str, nn.Module], batch: Batch) -> dict[str, Tensor]:
        """Return of each side what was painted from the other, the way there and back, and what should not change."""
        a, b = batch["a"], batch["b"]
        seen = ([a, b], [b, a]) if self.config.identity else ([a], [b])
        from_a, from_b = (together(networks[name], *images) for name, images in zip(("a_to_b", "b_to_a"), seen, strict=True))
        outputs = {"painted_b": from_a[0], "painted_a": from_b[0]}
        if self.config.cycle_weight:
            outputs |= {"again_a": networks["b_to_a"](from_a[0]), "again_b": networks["a_to_b"](from_b[0])}
        return outputs | ({"same_b": from_a[1], "same_a": from_b[1]} if self.config.identity else {})

    def respond(self, networks: Mapping[str, nn.Module], batch: Batch) -> dict[str, Tensor]:
        """Return `image`, `(B, 3, H, W)` in [-1, 1]: the source painted as a picture of the other side."""
        return {"image": networks[self.deployed[0]](batch[self.source])}

    def loss(
        self, phase: str, networks: Mapping[str, nn.Module], batch: Batch, outputs: dict[str, Tensor]
    ) -> dict[str, Tensor]:
        """Equation 3 of Zhu et al. and the identity loss of their section 5.2; the discriminators' losses are halved."""
        if phase == "discriminators":
            return {f"discriminator_{side}": self._caught(networks, side, batch[side], outputs) for side in ("a", "b")}
        weight, losses = self.config.cycle_weight, dict[str, Tensor]()
        for side in ("a", "b"):
            if weight:
                losses[f"cycle_{side}"] = weight * self.codec.loss(outputs[f"again_{side}"], batch[side])
            if self.config.identity:
                same = self.codec.loss(outputs[f"same_{side}"], batch[side])
                losses[f"identity_{side}"] = self.config.identity * weight * same
            logits = networks[f"discriminator_{side}"](outputs[f"painted_{side}"])
            losses[f"adversarial_{side}"] = generator_loss(logits, self.config.adversarial)
        return losses

    def _caught(self, networks: Mapping[str, nn.Module], side: str, real: Tensor, outputs: dict[str, Tensor]) -> Tensor:
        pool = networks[f"pool_{side}"]
        assert isinstance(pool, ImagePool)
        fake = pool.exchange(outputs[f"painted_{side}"].detach())
        real_logits, fake_logits = together(networks[f"discriminator_{side}"], real, fake)
        return discriminator_loss(real_logits, fake_logits, self.config.adversarial)

    def blank(self, sample: Sample) -> ImagePrediction:
        """Return a prediction without pixels yet, in memory as image files hold them."""
        height, width = sample[self.source].frame.size
        return self._prediction(sample, torch.empty(height, width, 3, dtype=torch.uint8).permute(2, 0, 1))

    def paint(self, prediction: ImagePrediction, place: Tile, maps: Tensor) -> None:
        """Round each pixel to 8 bits."""
        place.of(prediction.pixels).copy_(self.codec.decode(maps))

    def _prediction(self, sample: Sample, pixels: Tensor) -> ImagePrediction:
        return ImagePrediction(image_of(sample, self.source), pixels)

    def truth(self, sample: Sample) -> ImagePrediction:
        """Return the true picture where it is known, else any picture of the other side: no other truth is there."""
        return self._prediction(sample, image_of(sample, "truth" if self.truthful else self.target))

    def metrics(self) -> UnpairedMetrics:
        """How far both sets of pictures are apart; where the truth is known, also L1, PSNR and SSIM."""
        return UnpairedMetrics(self.distance, self.embedding.of)

    def score(self, metrics: UnpairedMetrics, prediction: ImagePrediction, sample: Sample) -> None:
        """Compare with a picture of the other side, and with the truth if there is one."""
        truth = image_of(sample, "truth") if self.truthful else None
        metrics.update(prediction.pixels, image_of(sample, self.target), truth)

    def baselines(self, train: Dataset) -> dict[str, Predictor]:
        """The picture unchanged; one colour; the picture with the other side's mean and deviation of colour (Reinhard 2001)."""
        count = min(len(train), LIMIT)
        indices = [i * len(train) // count for i in range(count)]
        seen = (image_of(train.sample(i, (self.target,)), self.target) for i in indices)
        mean, deviation = torch.stack([_colours(pixels) for pixels in seen]).mean(0).unbind()

        def recoloured(sample: Sample) -> Tensor:
            source = image_of(sample, self.source)
            own, spread = _colours(source)
            changed: Tensor = (source.float() - own) / spread.clamp(min=1) * deviation + mean
            return changed

        def painted(pixels: Tensor, sample: Sample) -> ImagePrediction:
            return self._prediction(sample, pixels.expand_as(image_of(sample, self.source)).round().clamp(0, 255).byte())

        return {
            "identity": lambda sample: painted(image_of(sample, self.source).float(), sample),
            "constant": lambda sample: painted(mean, sample),
            "colour_statistics": lambda sample: painted(recoloured(sample), sample),
        }


def together(network: nn.Module, *images: Tensor) -> list[Any]:
    """Return a network's answer to each of several batches; they pass in one where no picture's answer depends on the others.

    That is so but for batch norm: instance norm looks at each picture by itself, so one pass is equal mathematics.
    """
    if len({image.shape for image in images}) > 1 or any(isinstance(module, _BatchNorm) for module in network.modules()):
        return [network(image) for image in images]
    answers = network(torch.cat(images))
    if isinstance(answers, Tensor):
        return list(answers.chunk(len(images)))
    return list(zip(*(one.chunk(len(images)) for one in answers), strict=True))  # of several discriminators


def _colours(pixels: Tensor) -> Tensor:
    """Return mean and deviation of each channel, `(2, 3, 1, 1)`."""
    values = pixels.float().flatten(1)
    both: Tensor = torch.stack([values.mean(1), values.std(1)])[..., None, None]
    return both


@recipe
def world_day2night() -> Recipe:
    """Streets of the embedded world by day to others by night and back, 64 x 64, unpaired, with small networks.

    The night of every street is known, and measured with; training never sees it. Not measured yet.
    """
    return Recipe(
        name="world_day2night",
        task=Config(discriminator=patchgan.Config(width=32, layers=2, norm="instance"), truth=True),
        data=unpaired.Config(a=world.Config(scenes=384), b=world.Config(scenes=384, seed=1), b_field="night", truth="night"),
        view=View(size=(64, 64)),
        augment=Augment(flip=0.5),
        network=residual.Config(width=24, blocks=3, activation="tanh"),
        optimizer=Optimizer(kind="adam", lr=2e-4, betas=(0.5, 0.999)),
        schedule=Schedule(kind="linear", hold=0.5),
        steps=3000,
        batch_size=4,
        evaluate_every=500,
    )


@recipe
def cycle_translation() -> Recipe:
    """Your own two folders of pictures: data.root=FOLDER with trainA and trainB; CycleGAN as published at 256 x 256.

    A start, not a result: the published length is 200 epochs, for a GPU. Not measured yet.
    """
    return Recipe(
        name="cycle_translation",
        task=Config(),
        data=unpaired_folder.Config(root="data/cycle_translation"),
        view=View(size=(256, 256), load_size=(286, 286)),
        augment=Augment(flip=0.5),
        network=residual.Config(activation="tanh"),
        optimizer=Optimizer(kind="adam", lr=2e-4, betas=(0.5, 0.999)),
        schedule=Schedule(kind="linear", hold=0.5),
        steps=40000,
        batch_size=1,
        evaluate_every=4000,
        checkpoint_every=4000,
    )


def _between(name: str, folder: str, a: str, b: str) -> Recipe:
    data = unpaired_folder.Config(root=f"data/{folder}", a=a, b=b)
    return cycle_translation().model_copy(update={"name": name, "data": data})


@recipe
def day_night_unpaired() -> Recipe:
    """Webcams by day to webcams by night and back: folders day and night in data.root; CycleGAN as published at 256 x 256.

    For a GPU. Not measured yet.
    """
    return _between("day_night_unpaired", "day_night", "day", "night")


@recipe
def cat_dog() -> Recipe:
    """Cats to dogs and back: folders cats and dogs in data.root; CycleGAN as published at 256 x 256.

    Shapes have to change, which the cycle resists: a case that is known to be hard. For a GPU. Not measured yet.
    """
    return _between("cat_dog", "cats_dogs", "cats", "dogs")


@recipe
def visible_infrared() -> Recipe:
    """Roads in visible light to infrared and back: train/visible and train/infrared in data.root; CycleGAN as published.

    For a GPU. Not measured yet.
    """
    return _between("visible_infrared", "roadscene_thermal", "visible", "infrared")
