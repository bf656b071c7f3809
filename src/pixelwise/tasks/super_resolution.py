"""Super-resolution of single pictures: more pixels, as true as can be (Dong et al. 2014 to Lim et al. 2017)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Annotated, ClassVar, Literal, Self

import torch
from pydantic import Field, SerializeAsAny
from torch import Tensor, nn
from torch.nn import functional

from pixelwise.codecs.fine_rgb import FineRGBCodec, Loss
from pixelwise.color.levels import depth_of
from pixelwise.config import Choice
from pixelwise.data import degradation
from pixelwise.data.augment import Augment, View
from pixelwise.data.carried import EVERYTHING
from pixelwise.data.dataset import Dataset, Meta
from pixelwise.data.datasets import image_folder, low_resolution, world
from pixelwise.data.sample import Batch, FineImage, Sample
from pixelwise.errors import UsageError
from pixelwise.geometry.resample import bicubic
from pixelwise.geometry.tiles import Tile
from pixelwise.losses.perceptual import PerceptualConfig, PerceptualTerm
from pixelwise.metrics.image import luma
from pixelwise.metrics.super_resolution import SuperResolutionMetrics, names
from pixelwise.nn.enlarging import LumaEnlarger
from pixelwise.nn.network import NetworkConfig
from pixelwise.nn.networks import espcn, fsrcnn, residual_pixel_shuffle, srcnn, vdsr
from pixelwise.predictions.enlarged import EnlargedPrediction
from pixelwise.recipe import Recipe, TaskConfig, recipe
from pixelwise.task import PixelTask, Predictor, full_resolution, image_of, unit
from pixelwise.training import Optimizer, Schedule

Enlarge = Callable[[Tensor, tuple[int, int]], Tensor]
EXACT = ("flip", "quarter_turns")
"""Augmentations that copy pixels."""


class Config(TaskConfig):
    """Settings of super-resolution."""

    answering: ClassVar[tuple[str, ...]] = ("self_ensemble",)
    kind: Literal["super_resolution"] = "super_resolution"
    scale: int = Field(default=2, ge=2, description="pixels of the answer per pixel, across and down; as data.scale")
    channels: Literal["y", "rgb"] = Field(
        default="y", description="the network enlarges the luma, and bicubic the chroma (published), or all three channels"
    )
    loss: Loss = Field(default="l1", description="of the luma, or of all three channels, in units of white")
    pixel_weight: float = Field(default=1.0, ge=0, description="weight of that difference beside the perceptual loss")
    perceptual: Annotated[SerializeAsAny[PerceptualConfig] | None, Choice("pixelwise.perceptual")] = Field(
        default=None, description="a second loss that sees more than pixels; null: none"
    )
    self_ensemble: bool = Field(
        default=False, description="average the answers to the picture turned and mirrored in all 8 ways (Timofte et al. 2016)"
    )

    def settled(self, train: Dataset) -> Self:
        """Return these settings.

        Raises:
            UsageError: The data has another scale.
        """
        fine = _fine(train.sample(0, ("fine",)))
        if fine.scale != self.scale:
            what = f"task.scale = {self.scale}, but the pictures of the data are {fine.scale} times as fine"
            raise UsageError(what, f"set task.scale={fine.scale}, or data.scale={self.scale}")
        return self


class Task(PixelTask):
    """The network puts out sheets, as many for each pixel as the answer has pixels there, so tiles are those of any task."""

    codec: FineRGBCodec
    fields = ("image", "fine")
    keeps = EVERYTHING

    def __init__(self, config: Config, meta: Meta) -> None:
        super().__init__(config, meta)
        self.scale = config.scale
        self.codec = FineRGBCodec(config.scale, config.loss)
        self.perceptual = PerceptualTerm(config.perceptual)
        self.mirrors = self.turns = config.self_ensemble
        self.primary = names(config.scale)[0]

    def check(self, view: View, augment: Augment) -> None:
        """Refuse what would change pixels on the way: the low resolution would no longer be that of the fine picture."""
        _ = self.perceptual.built
        if view.fit != "native":
            raise UsageError(f"view.fit = {view.fit!r} would resize the low resolution", "set view.fit=native")
        default = Augment()
        for name in Augment.model_fields:
            if name not in EXACT and getattr(augment, name) != getattr(default, name):
                raise UsageError(f"augment.{name} would change the low resolution", f"leave it out; {', '.join(EXACT)} do not")

    def networks(self, network: NetworkConfig) -> nn.ModuleDict:
        """Build the network: for the luma, wrapped so that bicubic enlarges the chroma, or for all three channels."""
        channels = 1 if self.config.channels == "y" else 3
        built = full_resolution(network.build(channels, channels * self.scale**2), network)
        return nn.ModuleDict({"network": LumaEnlarger(built, self.scale) if channels == 1 else built})

    def targets(self, batch: Batch) -> Batch:
        """Return the fine picture in [0, 1]."""
        return {"fine": unit(batch["fine"])} if "fine" in batch else {}

    def forward(self, networks: Mapping[str, nn.Module], batch: Batch) -> dict[str, Tensor]:
        """Return `sheets`, `(B, 3 s^2, H, W)` in [0, 1], not clipped."""
        return {"sheets": networks["network"](batch["image"])}

    def loss(
        self, phase: str, networks: Mapping[str, nn.Module], batch: Batch, outputs: dict[str, Tensor]
    ) -> dict[str, Tensor]:
        """Return the difference from the fine picture, of what the network says of it; and how unlike the two look."""
        ours, theirs = self.codec.picture(outputs["sheets"].float()), batch["fine"]
        seen = self.perceptual.of(ours, theirs)
        if self.config.channels == "y":
            ours, theirs = luma(ours), luma(theirs)
        return {self.config.loss: self.config.pixel_weight * self.codec.loss(ours, theirs), **seen}

    def respond(self, networks: Mapping[str, nn.Module], batch: Batch) -> dict[str, Tensor]:
        """Return the sheets, averaged over the eight symmetries if asked for."""
        if not self.config.self_ensemble:
            return self.forward(networks, batch)
        total = torch.zeros(())
        for to, back in symmetries():
            sheets = self.forward(networks, {"image": to(batch["image"])})["sheets"]
            total = total.to(sheets) + back(self.codec.picture(sheets.float()))
        return {"sheets": self.codec.encode(total / 8)}

    def blank(self, sample: Sample) -> EnlargedPrediction:
        """Return a prediction without pixels yet, in memory as image files hold them."""
        height, width = (self.scale * side for side in sample["image"].frame.size)
        return self._prediction(sample, torch.empty(height, width, 3, dtype=depth_of(image_of(sample))).permute(2, 0, 1))

    def paint(self, prediction: EnlargedPrediction, place: Tile, maps: Tensor) -> None:
        """Lay the sheets of `place` out and round each pixel to the levels of the answer."""
        place.scaled(self.scale).of(prediction.pixels).copy_(self.codec.decode(maps, prediction.pixels.dtype))

    def _prediction(self, sample: Sample, pixels: Tensor) -> EnlargedPrediction:
        return EnlargedPrediction(image_of(sample), pixels, self.scale)

    def truth(self, sample: Sample) -> EnlargedPrediction:
        """Return the fine picture."""
        return self._prediction(sample, _fine(sample).pixels)

    def metrics(self) -> SuperResolutionMetrics:
        """PSNR and SSIM in the published protocol."""
        return SuperResolutionMetrics(self.scale)

    def score(self, metrics: SuperResolutionMetrics, prediction: EnlargedPrediction, sample: Sample) -> None:
        """Compare with the fine picture."""
        fine = _fine(sample)
        metrics.update(prediction.pixels, fine.pixels, fine.grey)

    def baselines(self, train: Dataset) -> dict[str, Predictor]:
        """Enlargement without training: nearest pixels, bilinear, and MATLAB's bicubic."""

        def by(enlarge: Enlarge) -> Predictor:
            def predict(sample: Sample) -> EnlargedPrediction:
                height, width = (self.scale * side for side in sample["image"].frame.size)
                unrounded = enlarge(image_of(sample).float(), (height, width))
                return self._prediction(sample, unrounded.round().clamp(0, 255).to(torch.uint8))

            return predict

        def interpolated(mode: str) -> Enlarge:
            return lambda image, size: functional.interpolate(image[None], size, mode=mode)[0]

        return {"nearest": by(interpolated("nearest")), "bilinear": by(interpolated("bilinear")), "bicubic": by(bicubic)}


def symmetries() -> Iterator[tuple[Callable[[Tensor], Tensor], Callable[[Tensor], Tensor]]]:
    """Yield the eight ways to turn and mirror a picture (..., H, W), each with the way back."""
    for turns in range(4):
        for mirrored in (False, True):

            def to(image: Tensor, turns: int = turns, mirrored: bool = mirrored) -> Tensor:
                return torch.rot90(image.flip(-1) if mirrored else image, turns, (-2, -1))

            def back(image: Tensor, turns: int = turns, mirrored: bool = mirrored) -> Tensor:
                upright = torch.rot90(image, -turns, (-2, -1))
                return upright.flip(-1) if mirrored else upright

            yield to, back


def _fine(sample: Sample) -> FineImage:
    field = sample["fine"]
    assert isinstance(field, FineImage)
    return field


def _published(scale: int, root: str, train: Sequence[str] = (), val: Sequence[str] = (), test: Sequence[str] = ()) -> Recipe:
    """Return the recipe for pictures below `root`: patches of 64 x 64 fine pixels at x2, 78 at x3 and 96 at x4."""
    source = image_folder.Config(root=root, train=tuple(train), val=tuple(val), test=tuple(test))
    side = 16 + 32 // scale
    return Recipe(
        name=f"sr_x{scale}",
        task=Config(scale=scale),
        data=low_resolution.Config(source=source, scale=scale),
        view=View(size=(side, side), fit="native"),
        augment=Augment(flip=0.5, quarter_turns=1.0),
        network=residual_pixel_shuffle.Config(),
        optimizer=Optimizer(kind="adam", lr=1e-3, betas=(0.9, 0.99)),
        schedule=Schedule(kind="cosine", warmup_steps=200),
        ema=0.999,
        steps=16000,
        batch_size=16,
        evaluate_every=1000,
        checkpoint_every=1000,
    )


def _of_291(scale: int) -> Recipe:
    return _published(scale, "data", ("sr_t91", "bsds500/train/images"), ("sr_set5",), ("sr_set14",))


@recipe
def sr_x2() -> Recipe:
    """T91 and BSD200 at x2: data.source.root=FOLDER with sr_t91, bsds500, sr_set5 and sr_set14; measured on Set5.

    PSNR on Set5, Set14 and BSD100 after 35 minutes on one busy core with AMX: 37.39, 32.91 and 31.78 dB; with
    task.self_ensemble=true 37.53 on Set5. Bicubic has 33.65, 30.22 and 29.55. Published: FSRCNN, on T91, 36.94 on Set5; VDSR,
    on the same pictures (here BSD200 is compressed once more), 37.53, 33.03 and 31.90.
    """
    return _of_291(2)


@recipe
def sr_x3() -> Recipe:
    """The same at x3.

    Not measured yet. A step takes 0.08 s of one core with AMX.
    """
    return _of_291(3)


@recipe
def sr_x4() -> Recipe:
    """The same at x4.

    After steps=6000, 12 minutes on one busy core with AMX: 31.13 dB on Set5 (bicubic 28.42; published: FSRCNN 30.55,
    VDSR 31.35).
    """
    return _of_291(4)


@recipe
def sr_blind_x4() -> Recipe:
    """T91 and BSD200 at x4, blurred, noisy and compressed at random: for pictures that nobody reduced neatly.

    Not measured yet. A step takes 0.08 s of one core with AMX.
    """
    base = sr_x4()
    harm = degradation.Degradation(blur=(0.2, 3.0), noise=(0, 15), jpeg=(40, 95))
    data = low_resolution.Config(source=base.data.source, scale=4, degradation=harm)  # type: ignore[attr-defined]
    return base.model_copy(update={"name": "sr_blind_x4", "data": data})


def _preset(network: NetworkConfig, scale: int, train: Sequence[str], rate: float) -> Recipe:
    """Return the recipe of a published network: its structure, training pictures and loss; the rest is ours."""
    base = _published(scale, "data", train, ("sr_set5",), ("sr_set14",))
    changes = {"task": Config(scale=scale, loss="l2"), "network": network, "optimizer": Optimizer(kind="adam", lr=rate)}
    return base.model_copy(update={"name": f"sr_{network.kind}_x{scale}", **changes})


@recipe
def sr_srcnn_x2() -> Recipe:
    """SRCNN 9-1-5 (Dong et al. 2014) at x2 by L2 on T91; network.kernels=9,5,5 is its larger form.

    Not measured yet. A step takes 0.12 s of one core with AMX. Published with these pictures: 36.28 dB on Set5.
    """
    return _preset(srcnn.Config(), 2, ("sr_t91",), 1e-3)


@recipe
def sr_fsrcnn_x2() -> Recipe:
    """FSRCNN (56, 12, 4) (Dong, Loy and Tang 2016) at x2 by L2 on T91.

    Not measured yet. A step takes 0.05 s of one core with AMX. Published with these pictures: 36.94 dB on Set5.
    """
    return _preset(fsrcnn.Config(), 2, ("sr_t91",), 1e-3)


@recipe
def sr_espcn_x3() -> Recipe:
    """ESPCN (Shi et al. 2016) at x3 by L2 on T91.

    Not measured yet. A step takes 0.02 s of one core with AMX. Published with these pictures: 32.55 dB on Set5.
    """
    return _preset(espcn.Config(), 3, ("sr_t91",), 1e-3)


@recipe
def sr_vdsr_x2() -> Recipe:
    """VDSR of 20 layers (Kim, Lee and Lee 2016) at x2 by L2 on T91 and BSD200; one scale, where the paper has three in one.

    Not measured yet. A step takes 1.0 s of one core with AMX. Published with these pictures: 37.53 dB on Set5.
    """
    return _preset(vdsr.Config(), 2, ("sr_t91", "bsds500/train/images"), 2e-4)


@recipe
def super_resolution() -> Recipe:
    """Your own pictures at x2: data.source.root=FOLDER; for another scale set task.scale and data.scale.

    Not measured yet.
    """
    return _published(2, "data/pictures").model_copy(update={"name": "super_resolution"})


@recipe
def world_super_resolution() -> Recipe:
    """Pictures of the embedded world, 64 x 64, from half their resolution.

    Not measured yet.
    """
    return _published(2, "").model_copy(
        update={
            "name": "world_super_resolution",
            "data": low_resolution.Config(source=world.Config(scenes=256)),
            "network": residual_pixel_shuffle.Config(width=32, blocks=2),
            "steps": 600,
            "batch_size": 8,
            "evaluate_every": 200,
        }
    )
