"""Paired image-to-image translation: L1, or L1 plus a conditional GAN (pix2pix; Isola et al. 2017), or with features too."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Literal

import torch
from pydantic import Field, SerializeAsAny
from torch import Tensor, nn
from torch.nn import functional

from pixelwise.codecs.rgb import RGBCodec
from pixelwise.color.levels import depth_of
from pixelwise.color.palette import colourise
from pixelwise.config import Choice
from pixelwise.data.augment import Augment, View, require_no_fill
from pixelwise.data.dataset import Dataset, Meta
from pixelwise.data.datasets import paired_folder, world
from pixelwise.data.sample import Batch, Image, LabelMap, Sample
from pixelwise.data.thumbnails import Bank, ridge
from pixelwise.errors import UsageError
from pixelwise.geometry.homography import resize
from pixelwise.geometry.tiles import Tile
from pixelwise.geometry.warp import warp_image
from pixelwise.losses.adversarial import discriminator_loss, generator_loss
from pixelwise.losses.perceptual import PerceptualConfig, PerceptualTerm
from pixelwise.metrics.image import ImageMetrics
from pixelwise.nn.network import NetworkConfig
from pixelwise.nn.networks import patchgan, pix2pix_unet
from pixelwise.predictions.image import ImagePrediction
from pixelwise.recipe import Recipe, TaskConfig, recipe
from pixelwise.task import Phase, PixelTask, Predictor, full_resolution
from pixelwise.training import Optimizer, Schedule

LINEAR_PIXELS = 256
MEAN_SIZE = (128, 128)


class Config(TaskConfig):
    """Settings of paired translation."""

    kind: Literal["translation"] = "translation"
    source: str = Field(default="a", description="the field that is translated")
    target: str = Field(default="b", description="the field it becomes")
    objective: Literal["l1", "gan", "cgan", "l1+gan", "l1+cgan"] = Field(
        default="l1+cgan", description="pixel loss, one learned by a discriminator, which sees the source too if cgan, or both"
    )
    l1_weight: float = Field(default=100.0, ge=0, description="weight of L1 against the adversarial loss")
    adversarial: Literal["vanilla", "lsgan", "hinge"] = Field(default="vanilla", description="form of the GAN loss")
    order: Literal["discriminator_first", "simultaneous"] = Field(
        default="discriminator_first",
        description="whether the generator sees the discriminator after its update, or (2017, Torch) before it",
    )
    labels: Literal["palette", "one_hot"] = Field(
        default="palette", description="how a label map enters the network: painted, or one sheet per class"
    )
    discriminator: Annotated[SerializeAsAny[NetworkConfig], Choice("pixelwise.nn.networks")] = Field(
        default=patchgan.Config(), description="the network that judges (input, output) pairs"
    )
    perceptual: Annotated[SerializeAsAny[PerceptualConfig] | None, Choice("pixelwise.perceptual")] = Field(
        default=None, description="a third loss that sees more than pixels; null: none"
    )


class Task(PixelTask):
    """The generator runs once per step; the discriminator's and the generator's phase share its output."""

    codec: RGBCodec
    deployed = ("generator",)
    primary = "l1"
    minimised = True
    keeps = ("bits", "profile", "exif")  # the paper of a drawing is white, as in the pairs, and the answer paints it

    def __init__(self, config: Config, meta: Meta) -> None:
        super().__init__(config, meta)
        self.fields = (config.source, config.target)
        self.inputs = (config.source,)
        self.codec = RGBCodec()
        self.sheets = len(meta.classes) if config.labels == "one_hot" and meta.classes else 3
        self.pixel, self.adversarial = "l1" in config.objective, config.objective != "l1"
        self.conditional = "cgan" in config.objective
        generator, discriminator = Phase("generator", ("generator",)), Phase("discriminator", ("discriminator",))
        self.phases = (discriminator, generator) if self.adversarial else (generator,)
        self.simultaneous = config.order == "simultaneous"
        self.perceptual = PerceptualTerm(config.perceptual)

    def check(self, view: View, augment: Augment) -> None:
        """Refuse what would show the network fill where a picture ends, because it would learn to paint fill."""
        _ = self.perceptual.built
        require_no_fill(view, augment)

    def networks(self, network: NetworkConfig) -> nn.ModuleDict:
        """Build the generator and, for a GAN, the discriminator of images or of concatenated (source, image) pairs."""
        generator = full_resolution(network.build(self.sheets, self.codec.channels), network)
        built = nn.ModuleDict({"generator": generator})
        if self.adversarial:
            seen = self.codec.channels + (self.sheets if self.conditional else 0)
            built["discriminator"] = self.config.discriminator.build(seen, 1)
        return built

    def encode(self, batch: Batch) -> Batch:
        """Bring source and target to [-1, 1]; paint or unfold a label map."""
        source = batch[self.config.source]
        encoded = {"source": self._unfolded(source) if self.config.labels == "one_hot" else self._painted(source)}
        if self.config.target in batch:
            encoded["target"] = self._painted(batch[self.config.target])
        return encoded

    def _painted(self, field: Tensor) -> Tensor:
        return self.codec.encode(field if field.dim() == 4 else colourise(field, self.meta.palette))

    def _unfolded(self, field: Tensor) -> Tensor:
        """Return one sheet per class of a label map; unknown pixels are 0 in all."""
        if field.dim() != 3 or not self.meta.classes:
            raise UsageError(f"task.labels = 'one_hot', but {self.config.source!r} is no label map with classes", "use palette")
        sheets = functional.one_hot(field.long().clamp(max=self.sheets), self.sheets + 1)
        return sheets[..., :-1].movedim(-1, 1).float()

    def forward(self, networks: Mapping[str, nn.Module], batch: Batch) -> dict[str, Tensor]:
        """Return `image`, `(B, 3, H, W)` in [-1, 1]."""
        return {"image": networks["generator"](batch["source"])}

    def loss(
        self, phase: str, networks: Mapping[str, nn.Module], batch: Batch, outputs: dict[str, Tensor]
    ) -> dict[str, Tensor]:
        """Equations 1 to 4 of Isola et al., with the non-saturating generator loss and the discriminator's halved."""
        if phase == "discriminator":
            fake = outputs["image"].detach()
            real_logits = networks["discriminator"](self._judged(batch, batch["target"]))
            fake_logits = networks["discriminator"](self._judged(batch, fake))
            return {"discriminator": discriminator_loss(real_logits.float(), fake_logits.float(), self.config.adversarial)}
        losses = dict[str, Tensor]()
        if self.pixel:
            losses["l1"] = self.config.l1_weight * self.codec.loss(outputs["image"].float(), batch["target"])
        if self.adversarial:
            logits = networks["discriminator"](self._judged(batch, outputs["image"]))
            losses["adversarial"] = generator_loss(logits.float(), self.config.adversarial)
        return losses | self.perceptual.of((outputs["image"] + 1) / 2, (batch["target"] + 1) / 2)

    def _judged(self, batch: Batch, image: Tensor) -> Tensor:
        return torch.cat([batch["source"], image], 1) if self.conditional else image

    def blank(self, sample: Sample) -> ImagePrediction:
        """Return a prediction without pixels yet, in memory as image files hold them."""
        height, width = sample[self.config.source].frame.size
        field = sample[self.config.source]
        dtype = depth_of(field.pixels) if isinstance(field, Image) else torch.uint8
        return self._prediction(sample, torch.empty(height, width, 3, dtype=dtype).permute(2, 0, 1))

    def paint(self, prediction: ImagePrediction, place: Tile, maps: Tensor) -> None:
        """Round each pixel to the levels of the answer."""
        place.of(prediction.pixels).copy_(self.codec.decode(maps, prediction.pixels.dtype))

    def _prediction(self, sample: Sample, pixels: Tensor) -> ImagePrediction:
        return ImagePrediction(self._picture(sample, self.config.source), pixels)

    def _picture(self, sample: Sample, name: str) -> Tensor:
        field = sample[name]
        if isinstance(field, LabelMap):
            return colourise(field.labels, self.meta.palette)
        if not isinstance(field, Image):
            raise UsageError(
                f"the field {name!r} is neither an image nor a label map", "choose another task.source or task.target"
            )
        return field.pixels

    def truth(self, sample: Sample) -> ImagePrediction:
        """Return the target image."""
        return self._prediction(sample, self._picture(sample, self.config.target))

    def metrics(self) -> ImageMetrics:
        """L1, PSNR and SSIM against the target. They cannot tell sharp from blurred: look at the pictures as well."""
        return ImageMetrics()

    def score(self, metrics: ImageMetrics, prediction: ImagePrediction, sample: Sample) -> None:
        """Compare with the target."""
        metrics.update(prediction.pixels, self._picture(sample, self.config.target))

    def baselines(self, train: Dataset) -> dict[str, Predictor]:
        """The source unchanged; the mean target; the target of the most similar source; a linear map of the colour."""
        bank = Bank.of(train, self.config.source, self.fields, self._summary)
        mean = torch.stack([small for small, _, _ in bank.summaries]).float().mean(0)
        colours, targets = (torch.cat([summary[i] for summary in bank.summaries]) for i in (1, 2))
        weight = ridge(colours, targets, 1e-3)

        def stretched(pixels: Tensor, sample: Sample) -> ImagePrediction:
            height, width = self._picture(sample, self.config.source).shape[-2:]
            own = _fitted(pixels, (height, width))
            return self._prediction(sample, own.round().clamp(0, 255).to(torch.uint8))

        def linear(sample: Sample) -> ImagePrediction:
            source = self._picture(sample, self.config.source).double()
            mapped = torch.einsum("chw,cd->dhw", torch.cat([source, torch.ones_like(source[:1])]), weight)
            return stretched(mapped.float(), sample)

        def nearest(sample: Sample) -> ImagePrediction:
            return stretched(self._picture(bank.sample(bank.nearest(sample)[0]), self.config.target), sample)

        return {
            "identity": lambda sample: stretched(self._picture(sample, self.config.source), sample),
            "constant": lambda sample: stretched(mean, sample),
            "nearest_neighbour": nearest,
            "linear_colour": linear,
        }

    def _summary(self, sample: Sample) -> tuple[Tensor, Tensor, Tensor]:
        """Return the target at 128 x 128, and the colours of source and target at 256 pixels, `(256, 3)` each."""
        source, target = (self._picture(sample, name) for name in (self.config.source, self.config.target))
        places = torch.arange(LINEAR_PIXELS) * source[0].numel() // LINEAR_PIXELS
        return _fitted(target, MEAN_SIZE), source.flatten(1)[:, places].T, target.flatten(1)[:, places].T


def _fitted(pixels: Tensor, size: tuple[int, int]) -> Tensor:
    return warp_image(pixels, resize((pixels.shape[-2], pixels.shape[-1]), size), size)


@recipe
def world_translation() -> Recipe:
    """Aerial views of the embedded world to their maps, 64 x 64, pix2pix with a small generator; part of the demo.

    Expect L1 0.062 on 96 unseen scenes (linear map of the colour 0.088, mean map 0.096) after 45 seconds on 2 cores with AMX.
    """
    return Recipe(
        name="world_translation",
        task=Config(source="aerial", target="map", discriminator=patchgan.Config(width=32, layers=2)),
        data=world.Config(scenes=384),
        view=View(size=(64, 64)),
        augment=Augment(flip=0.5),
        network=pix2pix_unet.Config(width=32, depth=6),
        optimizer=Optimizer(kind="adam", lr=4e-4, betas=(0.5, 0.999)),
        schedule=Schedule(kind="linear", hold=0.5),
        steps=800,
        batch_size=8,
        evaluate_every=200,
    )


@recipe
def world_edges2photo() -> Recipe:
    """Edge drawings of the embedded world to its photographs, 128 x 128: colours cannot be known, so judge it by eye.

    Its quality is not measured yet. A step takes 0.38 s of one core with AMX, so the whole about an hour.
    """
    base = world_translation()
    return base.model_copy(
        update={
            "name": "world_edges2photo",
            "task": Config(source="edges", target="image"),
            "data": world.Config(scenes=1024, size=(128, 128)),
            "view": View(size=(128, 128)),
            "network": pix2pix_unet.Config(width=48, depth=7),
            "optimizer": Optimizer(kind="adam", lr=2e-4, betas=(0.5, 0.999)),
            "steps": 10000,
            "batch_size": 4,
            "evaluate_every": 1000,
        }
    )


@recipe
def translation() -> Recipe:
    """Your own pairs, side by side or in two folders: data.root=FOLDER; pix2pix as published at 256 x 256.

    A start, not a result: the published length is about 100,000 pictures seen, which wants a GPU; try steps=2000 first.
    """
    return facades().model_copy(
        update={"name": "translation", "data": paired_folder.Config(root="data/translation"), "steps": 40000}
    )


@recipe
def facades() -> Recipe:
    """CMP facades, painted labels to photograph, pix2pix as published at 256 x 256 (54.4 M and 2.77 M parameters).

    The published length is 200 epochs, 80,000 steps: for a GPU. After steps=2400 (29 minutes on one busy CPU core with AMX)
    walls and windows are there, textures are coarse: L1 0.181 on the 100 validation pairs, where the mean photograph has
    0.178, a linear map of the colour 0.201 and the nearest neighbour 0.230. L1 prefers blur (task.objective=l1 has 0.166
    after steps=1600, 9 minutes); judge by the pictures.
    """
    return Recipe(
        name="facades",
        task=Config(),
        data=paired_folder.Config(root="data/facades", a="labels", b="photos"),
        view=View(size=(256, 256), load_size=(286, 286)),
        augment=Augment(flip=0.5),
        network=pix2pix_unet.Config(),
        optimizer=Optimizer(kind="adam", lr=2e-4, betas=(0.5, 0.999)),
        schedule=Schedule(kind="linear", hold=0.5),
        steps=80000,
        batch_size=1,
        evaluate_every=4000,
        checkpoint_every=4000,
    )
