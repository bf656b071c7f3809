"""Paired image-to-image translation: a pixel loss, a GAN, or both (pix2pix; Isola et al. 2017), or with features too."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Literal

import torch
from pydantic import Field, SerializeAsAny
from torch import Tensor, nn
from torch.nn import functional

from pixelwise.adversary import TranslationConfig, answered, apart, caught, deceived, require_noise
from pixelwise.codecs.rgb import RGBCodec
from pixelwise.color.levels import depth_of, eight_bits, levels
from pixelwise.color.palette import colourise, one_hot
from pixelwise.config import Choice
from pixelwise.data.augment import Augment, View, require_no_fill
from pixelwise.data.dataset import Dataset, Meta, Pixels
from pixelwise.data.sample import Batch, Image, LabelMap, Sample
from pixelwise.data.sample import Field as SampleField
from pixelwise.data.thumbnails import Bank, ridge
from pixelwise.errors import UsageError
from pixelwise.geometry.homography import resize
from pixelwise.geometry.tiles import Tile
from pixelwise.geometry.warp import warp_image
from pixelwise.losses.perceptual import PerceptualConfig, PerceptualTerm
from pixelwise.metrics.image import ImageMetrics
from pixelwise.nn.image_pool import ImagePool
from pixelwise.nn.network import NetworkConfig
from pixelwise.predictions.image import ImagePrediction
from pixelwise.task import Phase, PixelTask, Predictor, full_resolution

PIXEL_LOSSES = {"l1": functional.l1_loss, "l2": functional.mse_loss}
GAME = ("adversarial", "discriminator", "halved", "gradient_penalty", "r1", "feature_matching", "pool", "augmentation", "order")
"""Settings of the discriminator."""
LINEAR_PIXELS = 256
MEAN_SIZE = (128, 128)


class Config(TranslationConfig):
    """Settings of paired translation."""

    kind: Literal["translation"] = "translation"
    source: str = Field(default="a", description="the field that is translated")
    target: str = Field(default="b", description="the field it becomes")
    objective: Literal["l1", "l2", "gan", "cgan", "l1+gan", "l1+cgan", "l2+gan", "l2+cgan"] = Field(
        default="l1+cgan",
        description="pixel loss, a discriminator that sees the answer (gan) or source and answer (cgan), or both losses",
    )
    l1_weight: float = Field(default=100.0, ge=0, description="weight of L1 (or L2) against the adversarial loss")
    order: Literal["discriminator_first", "simultaneous"] = Field(
        default="discriminator_first",
        description="whether the generator sees the discriminator after its update, or (2017, Torch) before it",
    )
    labels: Literal["palette", "one_hot"] = Field(
        default="palette", description="how a label map enters the network: painted, or one sheet per class"
    )
    perceptual: Annotated[SerializeAsAny[PerceptualConfig] | None, Choice("pixelwise.perceptual")] = Field(
        default=None, description="a third loss that sees more than pixels; null: none"
    )

    @property
    def pixels(self) -> str:
        """The pixel loss, `l1` or `l2`; empty without one."""
        first = self.objective.partition("+")[0]
        return first if first in PIXEL_LOSSES else ""

    @property
    def has_judge(self) -> bool:
        """Whether there is a discriminator."""
        return self.objective.endswith("gan")

    def idle(self) -> dict[str, str]:
        """Return the settings that this objective has no use for."""
        found = super().idle()
        if not self.has_judge:
            found |= dict.fromkeys(GAME, f"task.objective = {self.objective!r} has no discriminator; l1+cgan has one")
        return found | ({} if self.pixels else {"l1_weight": f"task.objective = {self.objective!r} has no pixel loss"})


class Task(PixelTask):
    """The generator runs once per step; the discriminator's and the generator's phase share its output."""

    codec: RGBCodec
    deployed = ("generator",)
    primary = "l1"
    minimised = True
    pads = False
    keeps = ("bits", "profile", "exif")  # the paper of a drawing is white, as in the pairs, and the answer paints it

    def __init__(self, config: Config, meta: Meta) -> None:
        super().__init__(config, meta)
        self.fields = (config.source, config.target)
        self.inputs = (config.source,)
        self.seen, self.painted_as = (meta.pictures.get(name, Pixels()) for name in (config.source, config.target))
        self.codec = RGBCodec(self.painted_as.channels)
        self.sheets = len(meta.classes) if config.labels == "one_hot" and meta.classes else self.seen.channels
        generator, discriminator = Phase("generator", ("generator",)), Phase("discriminator", ("discriminator",))
        self.phases = (discriminator, generator) if config.has_judge else (generator,)
        self.game = config.adversarial if config.has_judge else ""
        self.simultaneous = config.order == "simultaneous"
        self.inexact = apart(config)
        self.perceptual = PerceptualTerm(config.perceptual)

    def check(self, view: View, augment: Augment) -> None:
        """Refuse what would show the network fill where a picture ends, because it would learn to paint fill."""
        _ = self.perceptual.built
        if self.config.perceptual and self.codec.channels != 3:
            raise UsageError(f"task.perceptual compares RGB, and {self.config.target!r} has {self.codec.channels} channels")
        require_no_fill(view, augment)

    def networks(self, network: NetworkConfig) -> nn.ModuleDict:
        """Build the generator and, for a GAN, the discriminator, of concatenated (source, image) pairs if conditional."""
        channels = self.codec.channels
        built = {"generator": full_resolution(network.build(self.sheets, channels), network)}
        require_noise(self.config, built)
        if self.config.has_judge:
            conditioned = self.sheets * self.config.objective.endswith("cgan")
            built["discriminator"] = self.config.discriminator.build(conditioned + channels, 1)
        if self.config.pool:
            built["pool"] = ImagePool(self.config.pool)
        return nn.ModuleDict(built)

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
        return one_hot(field, self.sheets)

    def forward(self, networks: Mapping[str, nn.Module], batch: Batch) -> dict[str, Tensor]:
        """Return `image`, `(B, C, H, W)` in [-1, 1]."""
        return {"image": networks["generator"](batch["source"])}

    def respond(self, networks: Mapping[str, nn.Module], batch: Batch) -> dict[str, Tensor]:
        """Return `image` as `task.noise` says."""
        return {"image": answered(self.config, networks["generator"], batch["source"])}

    def loss(
        self, phase: str, networks: Mapping[str, nn.Module], batch: Batch, outputs: dict[str, Tensor]
    ) -> dict[str, Tensor]:
        """Equations 1 to 4 of Isola et al., with the non-saturating generator loss and the discriminator's halved."""
        config, real, fake = self.config, batch["target"], outputs["image"]
        condition = batch["source"] if config.objective.endswith("cgan") else None
        if phase == "discriminator":
            pool = networks["pool"] if config.pool else None
            return caught(config, networks["discriminator"], pool, real, fake, condition)
        losses = dict[str, Tensor]()
        if config.pixels:
            losses[config.pixels] = config.l1_weight * PIXEL_LOSSES[config.pixels](fake.to(real.dtype), real)
        if config.has_judge:
            losses |= deceived(config, networks["discriminator"], real, fake, condition)
        return losses | self.perceptual.of((fake + 1) / 2, (real + 1) / 2)

    def blank(self, sample: Sample) -> ImagePrediction:
        """Return a prediction without pixels yet, in memory as image files hold them."""
        height, width = sample[self.config.source].frame.size
        empty = torch.empty(height, width, self.codec.channels, dtype=self._levels(sample[self.config.source]))
        return self._prediction(sample, empty.permute(2, 0, 1))

    def _levels(self, source: SampleField) -> torch.dtype:
        """Return the levels of an answer: 16 bits if these were learned, or if an RGB source has them."""
        if self.painted_as.bits == 16:
            return torch.uint16
        return depth_of(source.pixels) if isinstance(source, Image) and self.seen == Pixels() else torch.uint8

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
        target = self._picture(sample, self.config.target)
        return self._prediction(sample, levels(target, depth_of(target)) if target.is_floating_point() else target)

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
            source = self._shown(sample, self.config.source).double()
            mapped = torch.einsum("chw,cd->dhw", torch.cat([source, torch.ones_like(source[:1])]), weight)
            return stretched(mapped.float(), sample)

        def nearest(sample: Sample) -> ImagePrediction:
            return stretched(self._shown(bank.sample(bank.nearest(sample)[0]), self.config.target), sample)

        unchanged = {"identity": lambda sample: stretched(self._shown(sample, self.config.source), sample)}
        return (unchanged if len(weight) - 1 == self.codec.channels else {}) | {
            "constant": lambda sample: stretched(mean, sample),
            "nearest_neighbour": nearest,
            "linear_colour": linear,
        }

    def _shown(self, sample: Sample, name: str) -> Tensor:
        return eight_bits(self._picture(sample, name))

    def _summary(self, sample: Sample) -> tuple[Tensor, Tensor, Tensor]:
        """Return the target at 128 x 128, and the colours of source and target at 256 pixels, `(256, 3)` each."""
        source, target = (self._shown(sample, name) for name in (self.config.source, self.config.target))
        places = torch.arange(LINEAR_PIXELS) * source[0].numel() // LINEAR_PIXELS
        return _fitted(target, MEAN_SIZE), source.flatten(1)[:, places].T, target.flatten(1)[:, places].T


def _fitted(pixels: Tensor, size: tuple[int, int]) -> Tensor:
    return warp_image(pixels, resize((pixels.shape[-2], pixels.shape[-1]), size), size)
