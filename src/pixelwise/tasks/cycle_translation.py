"""Unpaired image-to-image translation, both ways at once (CycleGAN; Zhu, Park, Isola and Efros 2017)."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cached_property
from typing import Annotated, ClassVar, Literal

import torch
from pydantic import Field, SerializeAsAny
from torch import Tensor, nn

from pixelwise.adversary import TranslationConfig, answered, apart, caught, deceived, require_noise
from pixelwise.codecs.rgb import RGBCodec
from pixelwise.color.palette import colourise, one_hot
from pixelwise.config import Choice
from pixelwise.data.augment import Augment, View, require_no_fill
from pixelwise.data.dataset import Dataset, Meta
from pixelwise.data.sample import Batch, LabelMap, Sample
from pixelwise.data.thumbnails import LIMIT
from pixelwise.embedding import find
from pixelwise.errors import UsageError
from pixelwise.geometry.tiles import Tile
from pixelwise.losses.adversarial import Kind
from pixelwise.metrics.unpaired import UnpairedMetrics
from pixelwise.nn.embeddings import Embedding
from pixelwise.nn.image_pool import ImagePool
from pixelwise.nn.network import NetworkConfig
from pixelwise.nn.networks import patchgan
from pixelwise.nn.together import together
from pixelwise.predictions.image import ImagePrediction
from pixelwise.task import Phase, PixelTask, Predictor, full_resolution, image_of


class Config(TranslationConfig):
    """Settings of unpaired translation; the defaults are the published ones."""

    answering: ClassVar[tuple[str, ...]] = (*TranslationConfig.answering, "direction", "features")
    unmatched: ClassVar[str] = "the pictures of the two sides do not pair up"
    kind: Literal["cycle_translation"] = "cycle_translation"
    direction: Literal["AtoB", "BtoA"] = Field(
        default="AtoB", description="which way pictures are translated and measured; both ways are learned"
    )
    cycle_weight: float = Field(
        default=10.0, ge=0, description="weight of the way there and back against the adversarial loss; 0: it is not gone"
    )
    identity: float = Field(
        default=0.5, ge=0, description="weight of leaving a picture of the other side as it is, as a share of the cycle's"
    )
    adversarial: Kind = Field(default="lsgan", description="what the two players minimise; wasserstein wants gradient_penalty")
    discriminator: Annotated[SerializeAsAny[NetworkConfig], Choice("pixelwise.nn.networks")] = Field(
        default=patchgan.Config(norm="instance"), description="the network that judges pictures of one side"
    )
    pool: int = Field(default=50, ge=0, description="earlier pictures that a discriminator may be shown again; 0: none")
    labels: Literal["palette", "one_hot"] = Field(
        default="palette", description="what a network sees of label maps: the painting, or one sheet per class"
    )
    truth: bool = Field(default=False, description="whether the data shows the true B of an A, as field truth, to measure with")
    features: str = Field(default="random", description="what compares sets of pictures, as in pixelwise compare")

    def idle(self) -> dict[str, str]:
        """Return the settings that change nothing beside the others."""
        alone = {} if self.cycle_weight else {"identity": "it is a share of task.cycle_weight, which is 0"}
        return super().idle() | alone


class Task(PixelTask):
    """The generators go first, then the discriminators judge what the generators made before their update."""

    codec: RGBCodec
    phases = (
        Phase("generators", ("a_to_b", "b_to_a")),
        Phase("discriminators", ("discriminator_a", "discriminator_b")),
    )
    minimised = True
    pads = False

    def __init__(self, config: Config, meta: Meta) -> None:
        super().__init__(config, meta)
        self.codec = RGBCodec()
        self.game = config.adversarial
        unfolded = meta.labelled if config.labels == "one_hot" else ()
        self.channels = {side: len(meta.classes) if side in unfolded else 3 for side in ("a", "b")}
        self.identity = config.identity * config.cycle_weight
        self.inexact = apart(config)
        forth = config.direction == "AtoB"
        self.source, self.target = ("a", "b") if forth else ("b", "a")
        self.deployed = ("a_to_b", "b_to_a") if forth else ("b_to_a", "a_to_b")
        self.inputs, self.sheets = (self.source,), self.channels[self.source]
        self.unfolded = {side: side in unfolded for side in ("a", "b")}
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
        if self.config.labels == "one_hot" and not self.meta.labelled:
            raise UsageError("task.labels = 'one_hot', but neither side is label maps", "name the side that is: data.labels=a")
        a, b = self.channels.values()
        if self.identity and a != b:
            what = f"task.identity shows pictures of one side to both networks, and they have {a} and {b} sheets"
            raise UsageError(what, "set task.identity=0")
        require_no_fill(view, augment)

    def networks(self, network: NetworkConfig) -> nn.ModuleDict:
        """Build two generators, two discriminators, and what these were shown before."""
        a, b = self.channels.values()
        built: dict[str, nn.Module] = {
            name: full_resolution(network.build(*ends), network) for name, ends in (("a_to_b", (a, b)), ("b_to_a", (b, a)))
        }
        require_noise(self.config, built)
        for side in ("a", "b"):
            built[f"discriminator_{side}"] = self.config.discriminator.build(self.channels[side], 1)
            built[f"pool_{side}"] = ImagePool(self.config.pool)
        return nn.ModuleDict(built)

    def encode(self, batch: Batch) -> Batch:
        """Bring both sides to [-1, 1], label maps as paintings or as one sheet per class."""
        return {name: self._encoded(name, batch[name]) for name in ("a", "b") if name in batch}

    def _encoded(self, side: str, field: Tensor) -> Tensor:
        if self.unfolded[side]:
            return 2 * one_hot(field, len(self.meta.classes)) - 1
        return self.codec.encode(field if field.dim() == 4 else colourise(field, self.meta.palette))

    def forward(self, networks: Mapping[str, nn.Module], batch: Batch) -> dict[str, Tensor]:
        """Return of each side what was painted from the other, the way there and back, and what should not change."""
        a, b = batch["a"], batch["b"]
        seen = ([a, b], [b, a]) if self.identity else ([a], [b])
        from_a, from_b = (together(networks[name], *images) for name, images in zip(("a_to_b", "b_to_a"), seen, strict=True))
        outputs = {"painted_b": from_a[0], "painted_a": from_b[0]}
        if self.config.cycle_weight:
            outputs |= {"again_a": networks["b_to_a"](from_a[0]), "again_b": networks["a_to_b"](from_b[0])}
        return outputs | ({"same_b": from_a[1], "same_a": from_b[1]} if self.identity else {})

    def respond(self, networks: Mapping[str, nn.Module], batch: Batch) -> dict[str, Tensor]:
        """Return `image`, `(B, C, H, W)` in [-1, 1]: the source painted as a picture of the other side."""
        return {"image": answered(self.config, networks[self.deployed[0]], batch[self.source])}

    def loss(
        self, phase: str, networks: Mapping[str, nn.Module], batch: Batch, outputs: dict[str, Tensor]
    ) -> dict[str, Tensor]:
        """Equation 3 of Zhu et al. and the identity loss of their section 5.2; the discriminators' losses are halved."""
        weight, losses = self.config.cycle_weight, dict[str, Tensor]()
        for side in ("a", "b"):
            judge, real, fake = networks[f"discriminator_{side}"], batch[side], outputs[f"painted_{side}"]
            if phase == "discriminators":
                found = caught(self.config, judge, networks[f"pool_{side}"], real, fake)
            else:
                found = {"cycle": weight * self.codec.loss(outputs[f"again_{side}"], real)} if weight else {}
                if self.identity:
                    found["identity"] = self.identity * self.codec.loss(outputs[f"same_{side}"], real)
                found |= deceived(self.config, judge, real, fake)
            losses |= {f"{name}_{side}": loss for name, loss in found.items()}
        return losses

    def blank(self, sample: Sample) -> ImagePrediction:
        """Return a prediction without pixels yet, in memory as image files hold them."""
        height, width = sample[self.source].frame.size
        return self._prediction(sample, torch.empty(height, width, 3, dtype=torch.uint8).permute(2, 0, 1))

    def paint(self, prediction: ImagePrediction, place: Tile, maps: Tensor) -> None:
        """Round each pixel to 8 bits, or paint it as the class of its highest sheet."""
        pixels = colourise(maps.argmax(0), self.meta.palette) if self.unfolded[self.target] else self.codec.decode(maps)
        place.of(prediction.pixels).copy_(pixels)

    def _prediction(self, sample: Sample, pixels: Tensor) -> ImagePrediction:
        return ImagePrediction(self._picture(sample, self.source), pixels)

    def _picture(self, sample: Sample, name: str) -> Tensor:
        field = sample[name]
        return colourise(field.labels, self.meta.palette) if isinstance(field, LabelMap) else image_of(sample, name)

    def truth(self, sample: Sample) -> ImagePrediction:
        """Return the true picture where it is known, else any picture of the other side: no other truth is there."""
        return self._prediction(sample, self._picture(sample, "truth" if self.truthful else self.target))

    def metrics(self) -> UnpairedMetrics:
        """How far both sets of pictures are apart; where the truth is known, also L1, PSNR and SSIM."""
        return UnpairedMetrics(self.distance, self.embedding.of)

    def score(self, metrics: UnpairedMetrics, prediction: ImagePrediction, sample: Sample) -> None:
        """Compare with a picture of the other side, and with the truth if there is one."""
        truth = self._picture(sample, "truth") if self.truthful else None
        metrics.update(prediction.pixels, self._picture(sample, self.target), truth)

    def baselines(self, train: Dataset) -> dict[str, Predictor]:
        """The picture unchanged; one colour; the picture with the other side's mean and deviation of colour (Reinhard 2001)."""
        count = min(len(train), LIMIT)
        indices = [i * len(train) // count for i in range(count)]
        seen = (self._picture(train.sample(i, (self.target,)), self.target) for i in indices)
        mean, deviation = torch.stack([_colours(pixels) for pixels in seen]).mean(0).unbind()

        def recoloured(sample: Sample) -> Tensor:
            source = self._picture(sample, self.source)
            own, spread = _colours(source)
            changed: Tensor = (source.float() - own) / spread.clamp(min=1) * deviation + mean
            return changed

        def painted(pixels: Tensor, sample: Sample) -> ImagePrediction:
            return self._prediction(sample, pixels.expand_as(self._picture(sample, self.source)).round().clamp(0, 255).byte())

        return {
            "identity": lambda sample: painted(self._picture(sample, self.source).float(), sample),
            "constant": lambda sample: painted(mean, sample),
            "colour_statistics": lambda sample: painted(recoloured(sample), sample),
        }


def _colours(pixels: Tensor) -> Tensor:
    """Return mean and deviation of each channel, `(2, 3, 1, 1)`."""
    values = pixels.float().flatten(1)
    both: Tensor = torch.stack([values.mean(1), values.std(1)])[..., None, None]
    return both
