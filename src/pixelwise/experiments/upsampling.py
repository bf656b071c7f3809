"""Which way of enlarging a map should a decoder use?

A decoder has to make maps larger, and there are six usual ways. Two of them repeat or interpolate values. The other
four treat the four pixels of a cell differently, with zeros for some of them or weights of their own for each. What
then differs at every second pixel is a checkerboard, unless the convolutions that follow learn to remove it.

The same encoder-decoder, without skips, is trained on scenes of the embedded world with each of the six, in equal steps
from equal seeds. Then we show it pictures without any edge, smooth colours only. Whatever its logits have at every
second pixel there, the network has made up. We also measure how well it finds the outlines of things, and what a step
costs.
"""

from __future__ import annotations

import time
from statistics import fmean, median
from typing import get_args

import torch
from pydantic import Field
from torch import Tensor
from torch.nn import functional

from pixelwise.color.heat import heat
from pixelwise.laboratory import Finding, Repeated, Say, Tally, spread, verdict
from pixelwise.model import Model
from pixelwise.nn.upsample import Upsample
from pixelwise.page import bar_chart, captioned, gallery, prose, section, table
from pixelwise.prediction import to_pillow
from pixelwise.recipe import Recipe, find_recipe
from pixelwise.run import Data
from pixelwise.seeds import torch_generator
from pixelwise.trial import batches, metrics, outline_metrics, side_by_side, train, untrained

CLAIM = (
    "Ways of enlarging that treat the pixels of a cell differently (bed of nails, unpooling, transposed convolution, pixel "
    "shuffle) leave a checkerboard where the picture is smooth; nearest and bilinear interpolation do not, and are no worse "
    "at boundaries."
)
KINDS: tuple[Upsample, ...] = get_args(Upsample)
EVEN = ("nearest", "bilinear")
BEFORE, AFTER = "checkerboard before training", "checkerboard after training"
TOLERANCE = 1
WINDOW = 64
"""Side of the part of the output that is looked at: its middle, where no border is near."""
AROUND = 1 / 16
"""Half the width of the band around every second pixel's frequency, in cycles per pixel."""


class Settings(Repeated):
    """Settings of the experiment."""

    repeats: int = Field(3, ge=1, description="repetitions of every training, with seeds one after the other")
    scenes: int = Field(256, ge=8, description="training scenes; a quarter as many are measured on")
    size: int = Field(64, ge=32, description="height and width of the scenes")
    width: int = Field(16, ge=4, description="channels of the network at full resolution")
    steps: int = Field(300, ge=1, description="training steps of each network, of 16 scenes")


def checkerboard(outputs: Tensor, signal: Tensor) -> float:
    """Return the power of the outputs for smooth pictures at every second pixel, relative to their power on real pictures.

    The power is that of the middle of each map, under a Hann window, summed over the frequencies at most AROUND away from
    (1/2, 0), (0, 1/2) or (1/2, 1/2) cycles per pixel.

    Args:
        outputs: `(B, C, H, W)`, of smooth pictures; H and W at least WINDOW.
        signal: `(B, C, H, W)`, of real pictures: the denominator is their variance over the picture.
    """
    frequency = torch.fft.fftfreq(WINDOW).abs()
    second, still = frequency >= 0.5 - AROUND, frequency <= AROUND
    band = second[:, None] & second | second[:, None] & still | still[:, None] & second
    hann = torch.hann_window(WINDOW, periodic=True)
    hann = hann[:, None] * hann
    power = torch.fft.fft2(middle(outputs) * hann).abs().square()[..., band].sum(-1).mean() / hann.square().sum()
    return float(power / WINDOW**2 / signal.var((2, 3)).mean())


def middle(maps: Tensor) -> Tensor:
    """Return the central WINDOW x WINDOW pixels."""
    top, left = ((side - WINDOW) // 2 for side in maps.shape[-2:])
    return maps[..., top : top + WINDOW, left : left + WINDOW]


def smooth_pictures(seed: int) -> Tensor:
    """Return four pictures `(4, 3, 192, 192)` in [0, 1] whose colours change over about a hundred pixels."""
    coarse = torch.rand(4, 3, 4, 4, generator=torch_generator(seed, "smooth"))
    return functional.interpolate(coarse, (192, 192), mode="bicubic").clamp(0, 1)


@torch.no_grad()
def logits(model: Model, images: Tensor) -> Tensor:
    """Return what the network says of pictures in [0, 1]."""
    network = model.networks.eval()["network"]
    found: Tensor = network(images)
    return found


@torch.no_grad()
def calibrated(model: Model, recipe: Recipe, data: Data) -> Model:
    """Let the batch norms of an untrained network see some pictures, so that its maps have their usual size."""
    network, stream = model.networks.train()["network"], batches(recipe, data)
    for step in range(10):
        network(data.task.encode(stream[step])["image"])
    return model


def milliseconds(model: Model, image: Tensor) -> float:
    """Return the time of one forward and backward pass, the median of five."""
    network, taken = model.networks.train()["network"], []
    for _ in range(6):
        began = time.process_time()
        network(image).square().mean().backward()
        taken.append(1000 * (time.process_time() - began))
    model.networks.eval()
    return median(taken[1:])


def run(settings: Settings, say: Say) -> Finding:
    """Train the network with each way of enlarging."""
    pairs = [f"data.scenes={settings.scenes}", f"data.size={settings.size}x{settings.size}", "data.unknown=0"]
    pairs += [f"view.size={settings.size}x{settings.size}", f"steps={settings.steps}"]
    pairs += ["network.kind=encoder_decoder", f"network.width={settings.width}", "network.depth=3"]
    base = find_recipe("world_segmentation").override(pairs)
    data = Data.of(base)
    real = data.task.encode(batches(base, data)[0])["image"]
    smooth = smooth_pictures(settings.seed)
    found = Tally()
    shown: dict[str, Model] = {}
    for kind in KINDS:
        for seed in settings.seeds:
            recipe = base.override([f"network.upsample={kind}", f"seed={seed}"])
            before = calibrated(untrained(recipe, data), recipe, data)
            model, _ = train(recipe, data)
            shown.setdefault(kind, model)
            measures = {
                BEFORE: checkerboard(logits(before, smooth), logits(before, real)),
                AFTER: checkerboard(logits(model, smooth), logits(model, real)),
                "boundary F": outline_metrics(model, data, TOLERANCE)[f"boundary_f@{TOLERANCE}px"],
                "mIoU": metrics(model, data)["miou_present"],
                "milliseconds per step": milliseconds(before, real),
                "weights": sum(p.numel() for p in model.networks.parameters()),
            }
            found.add(kind, measures)
            say(f"  {kind}, seed {seed}: " + ", ".join(f"{name} {value:.3g}" for name, value in measures.items()))
    return report(settings, data, found, shown, smooth)


def report(settings: Settings, data: Data, found: Tally, shown: dict[str, Model], smooth: Tensor) -> Finding:
    """Write down what was found."""
    boards, outlines = found[AFTER], found["boundary F"]
    even = max(max(boards[kind]) for kind in EVEN)
    uneven = {kind: min(values) for kind, values in boards.items() if kind not in EVEN}
    best = max(KINDS, key=lambda kind: fmean(outlines[kind]))
    level = max(max(outlines[kind]) for kind in EVEN) >= fmean(outlines[best])
    answer = (
        f"After training, the power at every second pixel is at most {even:.1e} of the signal's for nearest and bilinear, and "
        + ", ".join(f"{fmean(boards[kind]):.1e} for {kind}" for kind in uneven)
        + f". The best boundary F-score is that of {best}, {spread(outlines[best])}; nearest has "
        f"{spread(outlines['nearest'])}, bilinear {spread(outlines['bilinear'])}."
    )
    body = [
        captioned(bar_chart(AFTER, boards, logarithmic=True), POWER),
        captioned(artefacts(shown, smooth), MAGNIFIED),
        captioned(
            bar_chart(BEFORE, found[BEFORE], logarithmic=True), "The same with random weights: what each way does alone."
        ),
        section(
            "Boundaries and time",
            captioned(
                bar_chart(f"boundary F-score, within {TOLERANCE} pixel", outlines), "On scenes that were not trained on."
            ),
            captioned(side_by_side(shown, data, 2), "Two of these scenes, their labels, and what each network says."),
            table([["", *found], *[[kind, *[cell(name, of[kind]) for name, of in found.items()]] for kind in boards]]),
            prose(f"Means over {settings.repeats} seeds. Time is the processor's for 16 scenes, forward and backward."),
        ),
        section("What follows", prose(FOLLOWS)),
    ]
    return Finding(verdict([all(value > even for value in uneven.values()), level]), answer, "\n".join(body), found)


def cell(name: str, values: list[float]) -> str:
    """Return one cell of the table."""
    if name == "weights":
        return f"{values[0]:,}"
    return f"{fmean(values):.1e}" if name in (BEFORE, AFTER) else f"{fmean(values):.3g}"


def artefacts(shown: dict[str, Model], smooth: Tensor) -> str:
    """Show the middle of one sheet of logits of each network."""
    part = slice(WINDOW // 4, 3 * WINDOW // 4)
    pictures = [(to_pillow((middle(smooth)[0, :, part, part] * 255).byte()), "the picture")]
    for kind, model in shown.items():
        sheet = middle(logits(model, smooth[:1]))[0, :, part, part]
        rough = sheet[:, 1:, 1:] - sheet[:, :-1, 1:] - sheet[:, 1:, :-1] + sheet[:, :-1, :-1]
        chosen = sheet[int(rough.abs().mean((1, 2)).argmax())]
        pictures.append((to_pillow(heat(chosen)).resize((128, 128), 0), kind))
    return gallery([pictures])


POWER = """Power of the logits at every second pixel for smooth pictures, relative to their variance on real ones; a dot
for each seed. Mind the logarithm: an amplitude of a tenth of the signal's is a power of 0.01."""

MAGNIFIED = """The same smooth picture, and one class's logits for its middle, magnified: what is seen at the scale of
single pixels is invented."""

FOLLOWS = """With random weights the uneven ways are nearly all checkerboard. Training removes most of it, but not all:
compare the two charts. For labels the rest hardly matters, since only the largest logit counts. Where the output is a
picture, as in restoration or translation, it is seen: there, interpolate and then convolve, or start pixel shuffle as
nearest (ICNR), as it does here.

For accuracy the weights count as well. Transposed convolution and pixel shuffle have more of them than the others (see
the table), so a comparison at equal width flatters them. Unpooling is a case of its own: its zeros lie where the maxima
were not, so it carries the encoder's positions past the bottleneck, a skip connection that costs no channels."""
