"""Colours for grey pictures: a and b of CIELAB from its L (Zhang, Isola and Efros 2016), with hints if given (2017)."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, Any, ClassVar, Literal, Self

import numpy as np
import torch
from pydantic import Field, SerializeAsAny, model_validator
from torch import Tensor, nn
from torch._subclasses.fake_tensor import unset_fake_temporarily

from pixelwise.codecs.chroma import BINS, GREY, UNIT, ChromaBinsCodec, ChromaCodec, ChromaHybridCodec, coloured
from pixelwise.color.chroma import nearest_bin, smoothed
from pixelwise.color.levels import depth_of, eight_bits, levels
from pixelwise.color.spaces import lab_of_srgb, srgb_of_lab, srgb_of_lightness
from pixelwise.config import Choice
from pixelwise.data.augment import Augment, View
from pixelwise.data.carried import EVERYTHING
from pixelwise.data.dataset import Dataset, Meta
from pixelwise.data.datasets import image_folder, world
from pixelwise.data.sample import Batch, Sample
from pixelwise.data.thumbnails import Bank
from pixelwise.errors import DataError, UsageError
from pixelwise.geometry.frame import Frame
from pixelwise.geometry.homography import Matrix, resize, scaling, translation
from pixelwise.geometry.tiles import Tile, bands
from pixelwise.geometry.warp import warp_image, warp_maps
from pixelwise.losses.perceptual import PerceptualConfig, PerceptualTerm
from pixelwise.metrics.colour import ColourMetrics
from pixelwise.nn.network import NetworkConfig, stride_of
from pixelwise.nn.networks import unet
from pixelwise.predictions.image import ImagePrediction
from pixelwise.recipe import Recipe, TaskConfig, recipe
from pixelwise.seeds import generator
from pixelwise.task import BAND, Predictor, image_of, unit
from pixelwise.task import Task as BaseTask
from pixelwise.training import Optimizer, Schedule

SURVEYED = 512
"""Training pictures, evenly spaced, whose colours are counted."""
ALONG = 64
"""Pixels of a picture's side that are counted, about."""
FEWER = 0.125
"""Probability of no further hint while training (2017: a geometric distribution)."""
LARGEST = 9
"""Pixels of the side of a hint's square while training, at most; at least 1."""
CLICK = 5
"""Pixels of the side of the square that a given hint covers, as the network sees it."""
Fraction = Annotated[float, Field(ge=0, le=1)]
Colour = Annotated[str, Field(pattern=r"^#[0-9a-fA-F]{6}$")]


class Config(TaskConfig):
    """Settings of colorization."""

    answering: ClassVar[tuple[str, ...]] = ("temperature", "hints")
    kind: Literal["colorization"] = "colorization"
    representation: Literal["l2", "classification", "rebalanced", "hybrid"] = Field(
        default="rebalanced",
        description="ab by regression, 313 classes of it, the same with rare ones counting more, or classes and regression",
    )
    neighbours: int = Field(default=5, ge=1, le=BINS, description="bins that stand for one colour: 5 (paper), 10 (its code)")
    sigma: float = Field(default=5.0, gt=0, description="how fast the weights of these bins fall with distance in ab")
    uniform: float = Field(default=0.5, gt=0, le=1, description="rebalanced: share of the even distribution in the prior")
    temperature: float = Field(default=0.38, gt=0, description="of the annealed mean: 1 is the mean, towards 0 the likeliest")
    regression_weight: float = Field(default=10.0, ge=0, description="hybrid: weight of the regression")
    perceptual: Annotated[SerializeAsAny[PerceptualConfig] | None, Choice("pixelwise.perceptual")] = Field(
        default=None, description="l2, hybrid: a further loss, of the coloured picture, that sees more than pixels; null: none"
    )
    interactive: bool = Field(default=False, description="whether the network also sees hints: the colours of a few points")
    hints: tuple[tuple[Fraction, Fraction, Colour], ...] = Field(
        default=(), description='hints to answer with, (x / width, y / height, colour), such as [[0.4,0.7,"#b03020"]]'
    )
    prior: tuple[Annotated[float, Field(ge=0, le=1)], ...] = Field(
        default=(), description="share of each of the 313 bins; counted in the training data unless given"
    )

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if len(self.prior) not in (0, BINS) or (self.prior and not math.isclose(sum(self.prior), 1, abs_tol=1e-3)):
            raise ValueError(f"prior has {len(self.prior)} shares of sum {sum(self.prior):.3g}: there are {BINS} of sum 1")
        if self.hints and not self.interactive:
            raise ValueError("hints are for a network trained with interactive=true")
        if self.perceptual and self.representation in ("classification", "rebalanced"):
            what = f"{self.representation} says how likely each colour is, and a perceptual loss compares colours"
            raise ValueError(f"{what}: choose representation=l2 or hybrid for perceptual={self.perceptual.kind}")
        return self

    def settled(self, train: Dataset) -> Self:
        """Count the colours of the training data unless `prior` is given.

        Raises:
            DataError: All that was counted is grey.
        """
        if self.prior:
            return self
        count = min(len(train), SURVEYED)
        counts, colours = torch.zeros(BINS, dtype=torch.float64), False
        for i in range(count):
            ab = _ab(_thinned(image_of(train.sample(i * len(train) // count, ("image",)))))
            counts += torch.bincount(nearest_bin(ab).flatten(), minlength=BINS)
            colours = colours or bool((ab.abs() > GREY).any())
        if not colours:
            raise DataError(f"all of {count} training pictures are grey: there are no colours to learn from")
        return self.model_copy(update={"prior": tuple(round(share, 9) for share in smoothed(counts).tolist())})


class Task(BaseTask):
    """L / 100 in, ab out at the network's stride, which may be coarse: the eye sees little detail in colours.

    The answer has the picture's own L at full size; ab is bilinear in between. Pictures that are nearly grey are not learned.
    """

    codec: ChromaCodec
    fields = ("image",)
    keeps = EVERYTHING

    def __init__(self, config: Config, meta: Meta) -> None:
        super().__init__(config, meta)
        self.sheets = 4 if config.interactive else 1
        self.encoding = 52 if config.interactive else 24  # floats: Lab, its parts; with hints their sheets, and both joined
        self.primary = "auc_rebalanced" if config.representation == "rebalanced" else "auc_raw"
        self.codec = self._codec(1)
        self.perceptual = PerceptualTerm(config.perceptual)

    def _codec(self, stride: int) -> ChromaCodec:
        config = self.config
        if config.representation == "l2":
            return ChromaCodec(stride)
        belief = {"neighbours": config.neighbours, "sigma": config.sigma}
        if config.representation == "hybrid":
            return ChromaHybridCodec(stride, weight=config.regression_weight, **belief)
        prior = config.prior if config.representation == "rebalanced" else ()
        return ChromaBinsCodec(stride, temperature=config.temperature, prior=prior, uniform=config.uniform, **belief)

    def check(self, view: View, augment: Augment) -> None:
        """Refuse what would change the colours that are to be learned, and hints whose place would not be known."""
        _ = self.perceptual.built
        if augment.hue or augment.saturation:
            raise UsageError("colorization would learn the colours that augmentation made", "leave hue and saturation at 0")
        if self.config.interactive and view.fit == "letterbox":
            raise UsageError(
                "hints are placed in the whole picture: view.fit = 'letterbox' would move them", "view.fit=stretch"
            )

    def networks(self, network: NetworkConfig) -> nn.ModuleDict:
        """Build the one network: L (and hints) in, the codec's sheets out at its stride."""
        built = network.build(self.sheets, self.codec.channels)
        stride = stride_of(built, network)
        if stride == 0:
            raise UsageError(
                f"network.kind = {network.kind!r} answers with one vector, not with a map", "try network.kind=unet"
            )
        self.codec = self._codec(stride)
        return nn.ModuleDict({"network": built})

    def encode(self, batch: Batch) -> Batch:
        """Return L / 100 and the mean ab of every cell; for hints also ab at every pixel, for a perceptual loss the picture."""
        lab = lab_of_srgb(batch["image"])
        encoded = {"image": lab[:, :1] / 100, "ab": self.codec.encode(lab[:, 1:])}
        if self.config.interactive:
            encoded["colours"] = lab[:, 1:]
        if self.config.perceptual:
            encoded["picture"] = unit(batch["image"])
        return encoded

    def forward(self, networks: Mapping[str, nn.Module], batch: Batch) -> dict[str, Tensor]:
        """Return `sheets` at the network's stride; hints are drawn from the truth."""
        image = batch["image"]
        if self.config.interactive:
            image = torch.cat([image, _drawn_hints(batch["colours"])], 1)
        return {"sheets": networks["network"](image)}

    def loss(
        self, phase: str, networks: Mapping[str, nn.Module], batch: Batch, outputs: dict[str, Tensor]
    ) -> dict[str, Tensor]:
        """Return the codec's loss, and how unlike the picture and its L with our colours look."""
        losses = {self.config.representation: self.codec.loss(outputs["sheets"].float(), batch["ab"])}
        return losses | self._unlike(batch, outputs["sheets"].float()) if self.config.perceptual else losses

    def _unlike(self, batch: Batch, sheets: Tensor) -> dict[str, Tensor]:
        """Return the perceptual loss, averaged over the pictures that have colours; grey ones are shown as they are."""
        lightness, picture, known = 100 * batch["image"], batch["picture"], coloured(batch["ab"])
        ab = self.codec.answers(sheets, (picture.shape[-2], picture.shape[-1]))["ab"]
        ours = torch.where(known, srgb_of_lab(torch.cat([lightness, ab], 1)), picture)
        share = known.float().mean().clamp(min=1 / len(known))
        return {name: loss / share for name, loss in self.perceptual.of(ours, picture).items()}

    def respond(self, networks: Mapping[str, nn.Module], batch: Batch) -> dict[str, Tensor]:
        """Return `sheets` at the network's stride; the network sees the hints of the settings."""
        image = batch["image"]
        if self.config.interactive:
            image = torch.cat([image, self._given_hints(image)], 1)
        return {"sheets": networks["network"](image)}

    def _given_hints(self, image: Tensor) -> Tensor:
        """Return ab / 110 and the mask of the hints of the settings, `(B, 3, H, W)`."""
        height, width = image.shape[-2:]
        sheets = torch.zeros_like(image).repeat(1, 3, 1, 1)
        for x, y, colour in self.config.hints:
            rgb = torch.tensor(list(bytes.fromhex(colour[1:])), dtype=torch.uint8, device=image.device)
            top, left = (int(place * side - CLICK / 2) for place, side in ((y, height), (x, width)))
            rows, columns = (slice(max(0, start), max(0, start) + CLICK) for start in (top, left))
            sheets[:, :, rows, columns] = torch.cat([_ab(rgb[:, None, None]) / UNIT, image.new_ones(1, 1, 1)])
        return sheets

    def decode(self, outputs: dict[str, Tensor], samples: Sequence[Sample], frames: Sequence[Frame]) -> list[Any]:
        """Give each picture's own L its colours, band by band."""
        predictions = []
        for sample, maps, frame in zip(samples, self.codec.decode(outputs["sheets"].float().cpu()), frames, strict=True):
            to_own = frame.inverse @ scaling(self.codec.stride, self.codec.stride)
            predictions.append(self._coloured(sample, maps, to_own))
        return predictions

    def _coloured(self, sample: Sample, maps: Tensor, to_own: Matrix) -> ImagePrediction:
        """Return the picture's own L with the ab `(2, h, w)` of `maps`, which `to_own` brings to its pixels."""
        image = image_of(sample)
        height, width = image.shape[-2:]
        grey = torch.empty(1, height, width, dtype=torch.uint8)
        pixels = torch.empty(height, width, 3, dtype=depth_of(image)).permute(2, 0, 1)
        colours = False
        for place in bands(Tile(0, 0, height, width), most=BAND // 16):
            own = place.of(image)
            colours = colours or bool((own != own[:1]).any())
            lightness = lab_of_srgb(own)[:1]
            ab = warp_maps(maps, translation(-place.left, -place.top) @ to_own, (place.height, place.width))
            place.of(pixels).copy_(levels(srgb_of_lightness(torch.cat([lightness, ab])), pixels.dtype))
            place.of(grey).copy_(eight_bits(srgb_of_lightness(torch.cat([lightness, torch.zeros_like(ab)])))[:1])
        notes = ("the picture has colours: only its lightness was used",) if colours else ()
        return ImagePrediction(grey, pixels, notes=notes)

    def truth(self, sample: Sample) -> ImagePrediction:
        """Return the picture itself."""
        return ImagePrediction(self._coloured(sample, torch.zeros(2, 1, 1), np.eye(3)).image, image_of(sample))

    def metrics(self) -> ColourMetrics:
        """Distance of ab, PSNR and colourfulness; the mean of all colours does well in the first two: look at the pictures."""
        return ColourMetrics(self.config.prior)

    def score(self, metrics: ColourMetrics, prediction: ImagePrediction, sample: Sample) -> None:
        """Compare with the picture."""
        metrics.update(prediction.pixels, image_of(sample))

    def baselines(self, train: Dataset) -> dict[str, Predictor]:
        """No colour; the mean ab; the colours of a random picture, and of the most similar one, as they lie."""
        bank = Bank.of(train, "image", self.fields, lambda sample: _ab(_thinned(image_of(sample))).mean((1, 2)))
        mean = torch.stack(bank.summaries).mean(0)

        def constant(sample: Sample, ab: Tensor) -> ImagePrediction:
            return self._coloured(sample, ab[:, None, None], np.eye(3))

        def taken(sample: Sample, place: int) -> ImagePrediction:
            image, size = image_of(bank.sample(place)), sample["image"].frame.size
            ab = _ab(warp_image(image, resize((image.shape[-2], image.shape[-1]), size), size))
            return self._coloured(sample, ab, np.eye(3))

        def random(sample: Sample) -> ImagePrediction:
            return taken(sample, int(generator(0, "random colours", sample.key).integers(len(bank.indices))))

        return {
            "grey": lambda sample: constant(sample, torch.zeros(2)),
            "constant": lambda sample: constant(sample, mean),
            "random": random,
            "nearest_neighbour": lambda sample: taken(sample, bank.nearest(sample)[0]),
        }


def _ab(rgb: Tensor) -> Tensor:
    """Return the ab `(2, H, W)` of uint8 pixels."""
    return lab_of_srgb(rgb)[1:]


def _thinned(image: Tensor) -> Tensor:
    """Return every so many pixels of an image, so that about 64 x 64 are left, none of them averaged."""
    step = [max(1, side // ALONG) for side in image.shape[-2:]]
    return image[:, :: step[0], :: step[1]]


def _drawn_hints(ab: Tensor) -> Tensor:
    """Return ab / 110 and the mask of random hints, `(B, 3, H, W)`, as Zhang et al. 2017 draw them.

    A geometric number of squares of 1 to 9 pixels, normally distributed about the middle with a quarter of the picture as
    deviation; each shows the mean of the colours in it.
    """
    height, width = ab.shape[-2:]
    sheets = ab.new_zeros(len(ab), 3, height, width)
    for truth, sheet in zip(ab, sheets, strict=True):
        with unset_fake_temporarily():  # places are numbers also while a step is rehearsed on tensors without any
            places = list(_drawn_squares(height, width))
        for top, left, side in places:
            square = (slice(top, top + side), slice(left, left + side))
            sheet[:2, *square] = truth[:, *square].mean((1, 2), keepdim=True) / UNIT
            sheet[2, *square] = 1
    return sheets


def _drawn_squares(height: int, width: int) -> Iterator[tuple[int, int, int]]:
    """Yield top, left and side of a geometric number of squares."""
    for _ in range(int(torch.empty(()).geometric_(FEWER)) - 1):
        side = int(torch.randint(1, min(LARGEST, height, width) + 1, ()))
        yield _about_the_middle(height - side), _about_the_middle(width - side), side


def _about_the_middle(room: int) -> int:
    return min(max(round(float(torch.randn(()) * (room + 1) / 4 + (room + 1) / 2)), 0), room)


@recipe
def world_colorization() -> Recipe:
    """Photographs of the embedded world, 64 x 64, coloured at a quarter of the resolution by rebalanced classification.

    Not measured yet.
    """
    return Recipe(
        name="world_colorization",
        task=Config(),
        data=world.Config(scenes=512),
        view=View(size=(64, 64)),
        augment=Augment(flip=0.5),
        network=unet.Config(width=16, depth=4, output_stride=4),
        optimizer=Optimizer(kind="adamw", lr=2e-3),
        schedule=Schedule(kind="cosine", warmup_steps=20),
        steps=400,
        batch_size=16,
        evaluate_every=200,
    )


@recipe
def colorization() -> Recipe:
    """Your own folder of colour pictures: data.root=FOLDER, with train/ and val/ or parted; rebalanced classification.

    A start, not a result: seen at 128 x 128, mirrored and cropped a little, ab at 32 x 32. More pictures help most.
    """
    return photographs_colorization().model_copy(
        update={"name": "colorization", "data": image_folder.Config(root="data/colorization"), "steps": 4000}
    )


@recipe
def photographs_colorization() -> Recipe:
    """ImageNet, one photograph of each class, cats and dogs and BSDS500 train (1,443), validated on the 100 of BSDS500 val.

    After 36 minutes on one busy core with AMX: auc_rebalanced 0.754 (constant 0.720, nearest neighbour 0.726), auc_raw 0.891
    (grey 0.890, constant 0.900), colourfulness 29.1 of the truth's 35.7 (constant 7.9), psnr_rgb 22.9 (constant 23.5). Skies
    become blue and meadows green; what is seldom seen gets the colour of something else.
    """
    return Recipe(
        name="photographs_colorization",
        task=Config(),
        data=image_folder.Config(
            root="data",
            train=("imagenet_one_per_class", "cats_dogs", "bsds500/train/images"),
            val=("bsds500/val/images",),
        ),
        view=View(size=(128, 128), load_size=(144, 144)),
        augment=Augment(flip=0.5),
        network=unet.Config(width=24, depth=5, output_stride=4),
        optimizer=Optimizer(kind="adamw", lr=1e-3, weight_decay=0.01),
        schedule=Schedule(kind="cosine", warmup_steps=50),
        steps=1500,
        batch_size=16,
        evaluate_every=500,
        checkpoint_every=500,
    )
