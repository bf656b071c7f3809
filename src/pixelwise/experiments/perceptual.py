"""Does a loss on features make sharper pictures than a loss on pixels?

Four times fewer pixels across and down leave many pictures possible. The one that is nearest to all of them, pixel by
pixel, is their mean, and the mean of sharp edges in many places is a soft one. A pixel loss asks for exactly that. A loss
on features asks for a picture that looks alike to a network, which an edge a pixel away does and a blur does not. Papers
use a network trained on a million photographs for it; here it has random weights, drawn anew in every step, so that the
experiment needs no download.

The same network enlarges pictures four times, trained for the same time of one processor with each loss from the same
seeds. We measure what the pixel loss is best at, the PSNR, and what the eye complains of: how much gradient there is
compared with the truth, how much of the truth's gradient is found again in its place, and HaarPSI, an index of similarity
that is not trained with, except where its own row says so.
"""

from __future__ import annotations

from statistics import fmean

import torch
from PIL import Image as PillowImage
from pydantic import Field
from torch import Tensor

from pixelwise.data.sample import FineImage
from pixelwise.laboratory import Finding, Repeated, Say, Tally, spread, verdict
from pixelwise.losses.wavelets import haarpsi_loss
from pixelwise.metrics.image import luma
from pixelwise.metrics.super_resolution import names
from pixelwise.page import bar_chart, captioned, gallery, prose, section
from pixelwise.prediction import Prediction, to_pillow
from pixelwise.recipe import Recipe, find_recipe
from pixelwise.run import Data
from pixelwise.task import Predictor
from pixelwise.trial import train

CLAIM = (
    "A loss on features lowers the PSNR, which a loss on pixels is made for, and brings back gradient that the pixel loss "
    "averages away: its pictures are sharper, and nearer to the truth for an index of what the eye sees."
)
SCALE = 4
PSNR, GRADIENT, PLACED, HAARPSI = names(SCALE)[0], "gradient energy / truth's", "gradient in its place", "HaarPSI"
PIXELS, FEATURES, GRAMS, WAVELETS = "pixels", "features", "features and Gram matrices", "HaarPSI"
LOSSES: dict[str, tuple[str, ...]] = {
    PIXELS: (),
    FEATURES: ("task.pixel_weight=0.1", "task.perceptual=features", "task.perceptual.weight=0.1"),
    GRAMS: (
        "task.pixel_weight=0.1",
        "task.perceptual=features",
        "task.perceptual.weight=0.1",
        "task.perceptual.style=100",
        "task.perceptual.style_levels=1,2",
    ),
    WAVELETS: ("task.perceptual=haarpsi", "task.perceptual.weight=0.1"),
}


class Settings(Repeated):
    """Settings of the experiment."""

    root: str = Field("", description="folder of photographs (train/, val/, or parted); without one, the embedded world")
    scenes: int = Field(128, ge=4, description="training scenes of the embedded world; a quarter as many are measured on")
    size: int = Field(128, ge=32, description="height and width of the scenes; a multiple of 4")
    width: int = Field(32, ge=4, description="channels of the network that enlarges")
    blocks: int = Field(4, ge=1, description="residual blocks of that network")
    look: int = Field(16, ge=4, description="channels of the first level of the random features")
    minutes: float = Field(1.0, gt=0, description="processor time of each training")


def recipe_of(settings: Settings, loss: tuple[str, ...], seed: int) -> Recipe:
    """Return the recipe that trains with `loss`."""
    source = ["data.source.kind=image_folder", f"data.source.root={settings.root}"] if settings.root else []
    source = source or [f"data.source.scenes={settings.scenes}", f"data.source.size={settings.size}x{settings.size}"]
    side = 24 if settings.root else min(24, settings.size // SCALE)
    looks = [f"task.perceptual.features.width={settings.look}"] if "task.perceptual=features" in loss else []
    return find_recipe("world_super_resolution").override(
        [
            *source,
            f"data.scale={SCALE}",
            f"task.scale={SCALE}",
            f"view.size={side}x{side}",
            f"network.width={settings.width}",
            f"network.blocks={settings.blocks}",
            f"seed={seed}",
            *loss,
            *looks,
        ]
    )


def gradients(ours: Tensor, theirs: Tensor) -> tuple[float, float, float]:
    """Return the gradient energy of two pictures and how much their gradients have together, of the luma.

    The energy is the mean square of the differences of neighbours, across plus down; together, the mean of the products.

    Args:
        ours: uint8 `(3, H, W)`.
        theirs: The same.
    """
    a, b = luma(ours.float() / 255), luma(theirs.float() / 255)

    def product(one: Tensor, other: Tensor) -> float:
        return sum(float((one.diff(dim=side) * other.diff(dim=side)).mean()) for side in (-1, -2))

    return product(a, a), product(b, b), product(a, b)


def measures(data: Data, predict: Predictor) -> dict[str, float]:
    """Return the means over the validation split."""
    score, alike, energies = data.task.metrics(), [], []
    for i in range(len(data.val)):
        sample = data.val.sample(i, data.task.fields)
        answer, fine = predict(sample), sample["fine"]
        assert isinstance(fine, FineImage)
        data.task.score(score, answer, sample)
        pixels = answer.pixels  # type: ignore[attr-defined]
        energies.append(gradients(pixels, fine.pixels))
        alike.append(1 - float(haarpsi_loss(pixels[None].float() / 255, fine.pixels[None].float() / 255)))
    ours, theirs, both = (fmean(column) for column in zip(*energies, strict=True))
    return {PSNR: score.compute()[PSNR], GRADIENT: ours / theirs, PLACED: both / theirs, HAARPSI: fmean(alike)}


def run(settings: Settings, say: Say) -> Finding:
    """Train with every loss and every seed, measure, and show the pictures of the first seed."""
    found, shown = Tally(), dict[str, Predictor]()
    data = Data.of(recipe_of(settings, (), settings.seed))
    bicubic = data.task.baselines(data.train)["bicubic"]
    found.add("bicubic", measures(data, bicubic))
    for name, loss in LOSSES.items():
        for seed in settings.seeds:
            recipe = recipe_of(settings, loss, seed)
            own = Data(data.train, data.val, recipe.task.build(data.train.meta))
            model, descent = train(recipe, own, settings.minutes)
            measured = measures(data, lambda sample, one=model: one.predict([sample])[0])  # type: ignore[misc]
            found.add(name, measured)
            shown.setdefault(name, lambda sample, one=model: one.predict([sample])[0])  # type: ignore[misc]
            told = ", ".join(f"{key} {value:.3f}" for key, value in measured.items())
            say(f"  {name}, seed {seed}: {told} ({len(descent.losses)} steps)")
    return report(settings, found, pictures(data, {"bicubic": bicubic, **shown}))


def report(settings: Settings, found: Tally, drawn: str) -> Finding:
    """Write down what was found."""
    decibels, energy = found[PSNR], found[GRADIENT]
    lower = fmean(decibels[FEATURES]) < fmean(decibels[PIXELS])
    sharper = abs(fmean(energy[FEATURES]) - 1) < abs(fmean(energy[PIXELS]) - 1)
    nearer = fmean(found[HAARPSI][FEATURES]) > fmean(found[HAARPSI][PIXELS])
    answer = " ".join(
        f"With {name}: {spread(decibels[name], 2)} dB, {spread(energy[name], 2)} of the truth's gradient energy, "
        f"{spread(found[PLACED][name], 2)} of its gradient in its place, HaarPSI {spread(found[HAARPSI][name])}."
        for name in decibels
    )
    body = [
        captioned(drawn, "The middle of three unseen pictures: bicubic, one column for each loss, and the truth."),
        captioned(bar_chart("PSNR of the luma, dB", decibels), "What the loss on pixels is made for. More is better."),
        captioned(
            bar_chart(GRADIENT, energy),
            "1 is as much as in the truth. Noise and grids count as well as edges do: see the pictures.",
        ),
        section("The numbers", found.table(3), prose(NUMBERS.format(settings.repeats, settings.minutes))),
        section("What follows", prose(FOLLOWS)),
    ]
    return Finding(verdict([lower, sharper, nearer]), answer, "\n".join(body), dict(found))


def pictures(data: Data, shown: dict[str, Predictor]) -> str:
    """Show the middle of three pictures, as each predictor answers."""
    rows = []
    for i in range(min(3, len(data.val))):
        sample = data.val.sample(i, data.task.fields)
        answers = [(middle(predict(sample)), name) for name, predict in shown.items()]
        rows.append([*answers, (middle(data.task.truth(sample)), "truth")])
    return gallery(rows)


def middle(answer: Prediction, side: int = 80, times: int = 2) -> PillowImage.Image:
    """Return the central `side` pixels, every pixel `times` as large."""
    pixels: Tensor = answer.pixels  # type: ignore[attr-defined]
    top, left = (max(0, (length - side) // 2) for length in pixels.shape[-2:])
    part = pixels[:, top : top + side, left : left + side]
    return to_pillow(torch.repeat_interleave(torch.repeat_interleave(part, times, 1), times, 2))


NUMBERS = """Mean (least to largest) of {} trainings of {:g} minutes of processor time each; bicubic is not trained. PSNR is
of the luma without a border of four pixels, and SSIM-like indices are of the whole picture."""

FOLLOWS = """A loss says which of all possible pictures to prefer. The pixel loss prefers the one between them, and PSNR, its
own measure, agrees: so two methods are to be compared by it only if both were after it. Features and Gram matrices prefer
pictures whose edges and textures occur, at the price of pixels that are wrong. Where wrong pixels matter, as in measuring,
take the pixel loss and live with the blur; where people look, mix the two.

Gradient energy cannot tell an edge from a grid. What of it lies in the right place tells how much is known; the rest was
invented, as texture if training was long enough, and as a pattern that repeats with every pixel of the small picture if not.

The weights here were set once and not searched. Try a trained network instead of a random one:
`task.perceptual.features.kind=run` in any recipe of super-resolution."""
