"""What should a network be asked for when there are two right answers?

A photograph seldom settles everything: a knee behind a bush, a left hand or a right one, grey paint that was red or
blue. A loss decides what the network says then. The squared error is smallest at the mean of all that is possible, and
the mean of two places is a third one, where the thing never is. A belief map, one number for every pixel, can keep
both.

Each picture shows a bar with one marked end. The point to be found sits at the marked end with a probability that the
colour of the bar tells (blue 0, red 1), else at the other end; nothing else in the picture says which. The same
pictures, in the same order and for the same number of steps, train a network for every target that key points are given
in practice: two coordinates; a map with a Gaussian or with one pixel at the point; a class for every pixel; the mean of a
map; a column and a row. On new pictures we look where each answer lies along the bar.

Then nothing is ambiguous, and what counts is how soon a network learns to point: by the same targets, each for the same
time, at people of the embedded world, or where their folders are given at IMM faces and LSP bodies.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import NamedTuple

import torch
from PIL import Image as PillowImage
from pydantic import Field
from torch import Tensor, nn

from pixelwise.codecs.channel_softmax import ChannelSoftmaxCodec
from pixelwise.codecs.coordinates import CoordinatesCodec
from pixelwise.codecs.gaussian_heatmaps import GaussianHeatmapsCodec
from pixelwise.codecs.one_hot import OneHotCodec
from pixelwise.codecs.points import PointsCodec
from pixelwise.codecs.simcc import SimCCCodec
from pixelwise.codecs.soft_argmax import SoftArgmaxCodec
from pixelwise.color.heat import heat
from pixelwise.geometry.presence import Presence
from pixelwise.laboratory import Finding, Repeated, Say, Tally, spread, verdict
from pixelwise.nn.axis_head import AxisHead
from pixelwise.nn.networks import regressor, unet
from pixelwise.page import bar_chart, captioned, gallery, line_chart, prose, section
from pixelwise.pointing import (
    AXES,
    BELIEF,
    CLASSES,
    L1,
    L2,
    LOG,
    MEAN,
    MEDIAN_PX,
    PIXEL,
    TARGETS,
    WING,
    Place,
    Pointed,
    pointed,
)
from pixelwise.prediction import to_pillow
from pixelwise.seeds import mixed, torch_generator
from pixelwise.training import Optimizer, Schedule
from pixelwise.trial import descend

CLAIM = (
    "Where two answers are equally likely, regression by the squared error lands between them, where neither is; a belief "
    "map trained by the log loss keeps both, each with its probability. On real key points, every target that asks for places "
    "points better than coordinates do after the same time."
)
SIGMA, NEAR = 1.5, 3.0
"""Width of the Gaussians, and within what distance an answer or belief counts as at an end of the bar; pixels."""
CODECS: dict[str, PointsCodec] = {
    L2: CoordinatesCodec(1, loss="l2"),
    L1: CoordinatesCodec(1, loss="l1"),
    WING: CoordinatesCodec(1, loss="wing"),
    BELIEF: GaussianHeatmapsCodec(1, sigma=SIGMA, loss="l2"),
    LOG: GaussianHeatmapsCodec(1, sigma=SIGMA, loss="cross_entropy"),
    PIXEL: OneHotCodec(1),
    CLASSES: ChannelSoftmaxCodec(1, sigma=SIGMA),
    MEAN: SoftArgmaxCodec(1, sigma=SIGMA),
    AXES: SimCCCodec(1, bins=(64, 64), sigma=SIGMA),
}
SMALL = ("network.width=16",)
"""A U-Net that gets anywhere within a minute, on pictures of a size to go with it."""
ASTRAY, ERROR = "pixels to the nearest possible place", "root mean squared error, px"


class Settings(Repeated):
    """Settings of the experiment."""

    size: int = Field(32, ge=32, multiple_of=8, description="height and width of the pictures of bars")
    steps: int = Field(600, ge=1, description="training steps of each network on the bars, of 32 pictures")
    width: int = Field(8, ge=4, description="channels of the first layer of the networks for the bars")
    tested: int = Field(512, ge=16, description="new pictures on which the answers about bars are measured")
    seconds: float = Field(20, gt=0, description="training time of each network on key points, of the processor")
    scenes: int = Field(256, ge=8, description="scenes of the embedded world to train on")
    imm: str = Field("", description="folder of the IMM faces with keypoints.json; none: they are not measured")
    lspet: str = Field("", description="folder of LSP bodies with keypoints.json; none: they are not measured")


class Bars(NamedTuple):
    """Pictures of bars, and where the point is."""

    image: Tensor
    """`(N, 3, S, S)` in [0, 1]."""
    ends: Tensor
    """`(N, 2, 2)`, the marked end and the other, (x, y) in pixels."""
    chance: Tensor
    """`(N,)`, that the point is at the marked end."""
    point: Tensor
    """`(N, 2)`, where it is."""


def draw(count: int, size: int, generator: torch.Generator) -> Bars:
    """Draw bars a quarter of the picture to either side of their middle, with a little noise."""
    angle, chance, coin = torch.rand(3, count, generator=generator).unbind()
    middle = size / 2 + (torch.rand(count, 2, generator=generator) - 0.5) * size / 4
    arm = torch.polar(torch.full_like(angle, size / 4), 2 * torch.pi * angle)
    arm = torch.view_as_real(arm)
    ends = torch.stack([middle + arm, middle - arm], 1)
    pixel = pixels(size)[:, :, None]  # (S, S, 1, 2)
    along = ((pixel - middle) * arm).sum(-1) / arm.square().sum(-1)
    nearest = middle + along.clamp(-1, 1)[..., None] * arm
    bar = (2 - (pixel - nearest).norm(dim=-1)).clamp(0, 1).permute(2, 0, 1)[:, None]
    dot = (3.5 - (pixel - ends[:, 0]).norm(dim=-1)).clamp(0, 1).permute(2, 0, 1)[:, None]
    colour = torch.stack([chance, torch.full_like(chance, 0.2), 1 - chance], -1)[:, :, None, None]
    image = torch.lerp(torch.lerp(torch.full((count, 3, size, size), 0.45), colour, bar), torch.ones(1), dot)
    noise = 0.03 * torch.randn(image.shape, generator=generator)
    return Bars((image + noise).clamp(0, 1), ends, chance, torch.where((coin < chance)[:, None], ends[:, 0], ends[:, 1]))


def pixels(size: int) -> Tensor:
    """Return the centres (x, y) of all pixels, `(size, size, 2)`."""
    axis = torch.arange(size) + 0.5
    return torch.stack(torch.meshgrid(axis, axis, indexing="xy"), -1)


def trained(codec: PointsCodec, settings: Settings, seed: int) -> nn.Module:
    """Train a regressor or a U-Net, as the codec wants it, on fresh bars in every step."""
    torch.manual_seed(mixed(seed, "initialisation"))
    width = settings.width
    numbers = regressor.Config(channels=(width, 2 * width, 4 * width, 4 * width), grid=(3, 3), hidden=8 * width)
    maps = unet.Config(width=width, depth=3)
    if isinstance(codec, SimCCCodec):
        network: nn.Module = AxisHead(maps.build(3, 1), (codec.rows, codec.columns)).train()
    else:
        network = (numbers if isinstance(codec, CoordinatesCodec) else maps).build(3, codec.channels).train()
    seen = torch.full((32, 1, 1), Presence.VISIBLE, dtype=torch.uint8)

    def loss(step: int) -> Tensor:
        bars = draw(32, settings.size, torch_generator(seed, "bars", step))
        targets = codec.encode(bars.point[:, None, None], seen, (settings.size, settings.size))
        return codec.loss(network(bars.image), targets)

    descend(loss, network.parameters(), Optimizer(lr=2e-3), Schedule(kind="cosine", warmup_steps=20), settings.steps)
    return network.eval()


def answers(codec: PointsCodec, outputs: Tensor, size: int) -> Tensor:
    """Return the answered points `(N, 2)`."""
    points: Tensor = codec.decode(outputs, (size, size)).points[:, 0]
    return points


def along(points: Tensor, bars: Bars) -> Tensor:
    """Return where points `(N, 2)` lie along their bars: 1 at the marked end, 0 at the other."""
    axis = bars.ends[:, 0] - bars.ends[:, 1]
    place: Tensor = ((points - bars.ends[:, 1]) * axis).sum(-1) / axis.square().sum(-1)
    return place


def share_of_belief(outputs: Tensor, bars: Bars) -> Tensor:
    """Return the belief at the marked end, relative to that at both ends, `(N,)`."""
    belief = outputs[:, 0].flatten(1).softmax(1)
    near = (pixels(outputs.shape[-1]).flatten(0, 1) - bars.ends[:, :, None]).norm(dim=-1) < NEAR  # (N, 2, S S)
    mass: Tensor = (belief[:, None] * near).sum(-1)
    return mass[:, 0] / mass.sum(1)


def measured(codec: PointsCodec, outputs: Tensor, bars: Bars) -> dict[str, float]:
    """Return where the answers lie; the first two where neither end has a chance above 0.6."""
    points = answers(codec, outputs, bars.image.shape[-1])
    astray = (points[:, None] - bars.ends).norm(dim=-1).amin(1)[(bars.chance - 0.5).abs() < 0.1]
    return {
        ASTRAY: float(astray.mean()),
        f"answers within {NEAR:g} px of a possible place": float((astray < NEAR).float().mean()),
        ERROR: float((points - bars.point).square().sum(-1).mean().sqrt()),
    }


def curve(values: Tensor, chance: Tensor, bins: int = 8) -> list[tuple[float, float]]:
    """Return the mean of `values` over equal steps of the chance."""
    step = (chance * bins).long().clamp(max=bins - 1)
    found = [values[step == i] for i in range(bins)]
    return [((i + 0.5) / bins, float(of.mean())) for i, of in enumerate(found) if len(of)]


def run(settings: Settings, say: Say) -> Finding:
    """Train every target on the bars, then on the key points there are."""
    bars = draw(settings.tested, settings.size, torch_generator(settings.seed, "tested bars"))
    tally, shares = Tally(), []
    shown: dict[str, Tensor] = {}
    for name, codec in CODECS.items():
        for seed in settings.seeds:
            network = trained(codec, settings, seed)
            with torch.no_grad():
                outputs = network(bars.image)
            tally.add(name, measured(codec, outputs, bars))
            shown.setdefault(name, outputs)
            if name == LOG:
                shares.append(share_of_belief(outputs, bars))
        say(f"  {name}: {spread(tally[ASTRAY][name], 1)} px from the nearest possible place")
    return report(
        settings,
        bars,
        tally,
        shown,
        shares,
        [pointed(place, settings.seconds, settings.seeds, say) for place in places(settings)],
    )


def places(settings: Settings) -> list[Place]:
    """Return what there is to point at."""
    found = []
    if settings.imm:
        found.append(Place("IMM faces", "imm_faces", (f"data.root={settings.imm}", "view.size=96x128", *SMALL)))
    if settings.lspet:
        pairs = (f"data.root={settings.lspet}", "view.size=128x96", "task.sigma=3", *SMALL)
        found.append(Place("LSP bodies", "keypoints", pairs))
    return found or [Place("People of the embedded world", "world_keypoints", (f"data.scenes={settings.scenes}",))]


def report(
    settings: Settings,
    bars: Bars,
    tally: Tally,
    shown: Mapping[str, Tensor],
    shares: list[Tensor],
    measured_places: Sequence[Pointed],
) -> Finding:
    """Write down what was found."""
    lines = {name: curve(along(answers(CODECS[name], of, settings.size), bars), bars.chance) for name, of in shown.items()}
    lines["log loss: share of the belief"] = curve(shares[0], bars.chance)
    regressed, believed = fmean(tally[ASTRAY][L2]), fmean(tally[ASTRAY][LOG])
    calibration = [float((share - bars.chance).abs().mean()) for share in shares]
    answer = (
        f"With both ends about equally likely, the answers of L2 regression are {regressed:.1f} pixels from the nearest place "
        f"where the point can be (the ends are {settings.size / 2:.0f} apart), the peaks of the belief map {believed:.1f}, the "
        f"mean of a map {fmean(tally[ASTRAY][MEAN]):.1f}, column and row {fmean(tally[ASTRAY][AXES]):.1f}. The "
        f"belief at the marked end differs from the true chance by {spread(calibration)} on average. By its own measure the "
        f"mean is right: its root mean squared error is {fmean(tally[ERROR][L2]):.1f} px, that of the peaks "
        f"{fmean(tally[ERROR][LOG]):.1f}."
    )
    parts = [
        captioned(pictures(shown, bars), ANSWERS),
        captioned(line_chart("where the answer lies (1: marked end)", lines, "chance of the marked end"), CURVES),
        section("The numbers", tally.table(2), prose(NUMBERS.format(settings.repeats, settings.tested))),
    ]
    holding = [regressed > 2 * NEAR, believed < NEAR / 2, fmean(calibration) < 0.1]
    for one in measured_places:
        errors = one.tally[MEDIAN_PX]
        holding.append(max(fmean(errors[n]) for n in TARGETS if n not in (L1, L2, WING)) < best(errors, (L1, L2, WING)))
        answer += f" {one.title}, after {settings.seconds:g} s each, median error: " + told(errors) + "."
        parts.append(section(one.title, *on_points(one, settings)))
    parts.append(section("What follows", prose(FOLLOWS)))
    measures = {one.title: {"measures": one.tally, "curves": one.curves} for one in measured_places}
    data = {"bars": tally, "calibration": calibration, "curves": lines, "points": measures}
    return Finding(verdict(holding), answer, "\n".join(parts), data)


def best(errors: Mapping[str, Sequence[float]], names: Sequence[str]) -> float:
    """Return the least mean error of the named targets."""
    return min(fmean(errors[name]) for name in names)


def told(errors: Mapping[str, Sequence[float]]) -> str:
    """Return the mean error of every target, the smallest first."""
    return "; ".join(f"{name} {fmean(errors[name]):.1f} px" for name in sorted(errors, key=lambda name: fmean(errors[name])))


def on_points(one: Pointed, settings: Settings) -> list[str]:
    """Return what the page says of one kind of key points."""
    curves = {name: one.curves[name] for name in (L2, WING, LOG, PIXEL, CLASSES, MEAN, AXES, "ridge")}
    chart = line_chart("share of the points that are found", curves, "error / longer side of the box")
    bars = bar_chart("median error in the pictures' own pixels", one.tally[MEDIAN_PX])
    return [
        prose(ON_POINTS.format(settings.seconds)),
        captioned(bars, "A dot for each seed; the last three are the baselines."),
        captioned(chart, "Cumulative distribution of the errors over all points of unseen pictures and all seeds."),
        one.tally.table(3),
        one.pictures,
    ]


def pictures(shown: Mapping[str, Tensor], bars: Bars) -> str:
    """Show three bars with little, even and large chance of the marked end, with the answers and beliefs."""
    rows = []
    for wanted in (0.15, 0.5, 0.85):
        i = int((bars.chance - wanted).abs().argmin())
        image = (bars.image[i] * 255).to(torch.uint8)
        made = {name: picture(CODECS[name], outputs[i], image) for name, outputs in shown.items()}
        rows.append([(enlarged(image), f"marked end: {bars.chance[i]:.0%}"), *[(one, name) for name, one in made.items()]])
    return gallery(rows)


def picture(codec: PointsCodec, outputs: Tensor, image: Tensor) -> PillowImage.Image:
    """Return the picture with a green cross at the answer, or the belief in every place."""
    belief = belief_of(codec, outputs)
    if belief is not None:
        return enlarged(heat(belief, low=0))
    size, crossed = image.shape[-1], image.clone()
    x, y = answers(codec, outputs[None], size)[0].clamp(1, size - 2).long().tolist()
    for dx, dy in ((0, 0), (1, 0), (-1, 0), (0, 1), (0, -1)):
        crossed[:, y + dy, x + dx] = torch.tensor([0, 255, 60])
    return enlarged(crossed)


def belief_of(codec: PointsCodec, outputs: Tensor) -> Tensor | None:
    """Return the belief in every place `(S, S)` of outputs `(C, h, w)` for one point; None of coordinates."""
    if isinstance(codec, CoordinatesCodec):
        return None
    if isinstance(codec, SimCCCodec):
        columns, rows = (axis.softmax(0) for axis in outputs.flatten().split([codec.columns, codec.rows]))  # type: ignore[no-untyped-call]
        return torch.outer(rows, columns)[::2, ::2]
    if isinstance(codec, ChannelSoftmaxCodec):
        return outputs.softmax(0)[0]
    return outputs[0] if codec.kind == "l2" else outputs[0].flatten().softmax(0).view_as(outputs[0])


def enlarged(image: Tensor) -> PillowImage.Image:
    """Return every pixel three times as large."""
    return to_pillow(image.repeat_interleave(3, 1).repeat_interleave(3, 2))


ANSWERS = """Three pictures. The green cross is the answer of a network that regresses two numbers; the maps are the
answers of those that believe. In the middle row both ends are as likely."""

CURVES = """L2 regression answers the mean: a straight line from end to end. Those that pick one of the two jump at one
half. The belief follows the chance, and stays at the ends."""

NUMBERS = """Mean (least to largest) of {} trainings. The first two columns are of the pictures in which neither end has
a chance above 0.6, the last of all {}."""

ON_POINTS = """Unseen pictures, {:g} seconds of training each. Nothing is ambiguous here; what counts is how soon a network
learns to point. Coordinates come from convolutions, pooling and two fully connected layers; all others from the same U-Net,
column and row through a linear layer behind it. So systems are compared, not losses alone. The mean may be carried by few
gross errors: look at the median and at the curve."""

FOLLOWS = """The squared error is not wrong: it answers another question, namely for the mean. Ask it only where the
mean of all possible answers is an answer. Colours, positions, depths at an edge and whole pictures are not like that,
and this one figure is why L2 makes grey paint, blurred photographs and hands in mid-air.

The absolute error asks for the median. Here it picks the likelier end, and is undecided exactly where it matters.

A map of beliefs costs more numbers per answer, and in exchange says how sure it is and what else it could be. Under the
squared error the map is a mean as well, but a mean of maps: two peaks, each as high as it is likely. The log loss makes
it a probability."""
