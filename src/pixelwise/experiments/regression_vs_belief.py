"""What should a network be asked for when there are two right answers?

A photograph seldom settles everything: a knee behind a bush, a left hand or a right one, grey paint that was red or
blue. A loss decides what the network says then. The squared error is smallest at the mean of all that is possible, and
the mean of two places is a third one, where the thing never is. A belief map, one number for every pixel, can keep
both.

Each picture shows a bar with one marked end. The point to be found sits at the marked end with a probability that the
colour of the bar tells (blue 0, red 1), else at the other end; nothing else in the picture says which. The same
pictures, in the same order and for the same number of steps, train a network that answers with two coordinates, by the
squared (L2) or by the absolute error (L1), and one that answers with a map, by the squared error to a Gaussian (L2) or
by the log loss of a softmax over all places. On new pictures we look where each answer lies along the bar.
"""

from __future__ import annotations

from collections.abc import Mapping
from statistics import fmean
from typing import NamedTuple

import torch
from PIL import Image as PillowImage
from pydantic import Field
from torch import Tensor, nn

from pixelwise.codecs.coordinates import CoordinatesCodec
from pixelwise.codecs.gaussian_heatmaps import GaussianHeatmapsCodec
from pixelwise.color.heat import heat
from pixelwise.geometry.presence import Presence
from pixelwise.laboratory import Finding, Repeated, Say, Tally, spread, verdict
from pixelwise.nn.networks import regressor, unet
from pixelwise.page import bar_chart, captioned, gallery, line_chart, prose, section
from pixelwise.prediction import to_pillow
from pixelwise.recipe import find_recipe
from pixelwise.run import Data
from pixelwise.seeds import mixed, torch_generator
from pixelwise.training import Optimizer, Schedule
from pixelwise.trial import descend, metrics, train

CLAIM = (
    "Where two answers are equally likely, regression by the squared error lands between them, where neither is; a belief "
    "map trained by the log loss keeps both, each with its probability. On real key points, belief maps need less time."
)
SIGMA, NEAR = 1.5, 3.0
"""Width of the Gaussians, and within what distance an answer or belief counts as at an end of the bar; pixels."""
Codec = CoordinatesCodec | GaussianHeatmapsCodec
L2, LOG = "coordinates, L2", "belief map, log loss"
CODECS: dict[str, Codec] = {
    L2: CoordinatesCodec(1, loss="l2"),
    "coordinates, L1": CoordinatesCodec(1, loss="l1"),
    "belief map, L2": GaussianHeatmapsCodec(1, sigma=SIGMA, loss="l2"),
    LOG: GaussianHeatmapsCodec(1, sigma=SIGMA, loss="cross_entropy"),
}
FACES = {
    L2: ("imm_faces_coordinates", []),
    "belief map, L2": ("imm_faces", ["task.loss=l2"]),
    LOG: ("imm_faces", []),
}
ASTRAY, ERROR = "pixels to the nearest possible place", "root mean squared error, px"


class Settings(Repeated):
    """Settings of the experiment."""

    size: int = Field(32, ge=32, multiple_of=8, description="height and width of the pictures")
    steps: int = Field(600, ge=1, description="training steps of each network, of 32 pictures")
    width: int = Field(8, ge=4, description="channels of the networks' first layer")
    tested: int = Field(512, ge=16, description="new pictures on which the answers are measured")
    imm: str = Field("", description="folder of the IMM faces with keypoints.json; none: only the bars are measured")
    minutes: float = Field(3, gt=0, description="training time of each network on the faces, of the processor")


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


def trained(codec: Codec, settings: Settings, seed: int) -> nn.Module:
    """Train a regressor or a U-Net, as the codec wants it, on fresh bars in every step."""
    torch.manual_seed(mixed(seed, "initialisation"))
    width = settings.width
    numbers = regressor.Config(channels=(width, 2 * width, 4 * width, 4 * width), grid=(3, 3), hidden=8 * width)
    maps = unet.Config(width=width, depth=3)
    network = (numbers if isinstance(codec, CoordinatesCodec) else maps).build(3, codec.channels).train()
    seen = torch.full((32, 1, 1), Presence.VISIBLE, dtype=torch.uint8)

    def loss(step: int) -> Tensor:
        bars = draw(32, settings.size, torch_generator(seed, "bars", step))
        targets = codec.encode(bars.point[:, None, None], seen, (settings.size, settings.size))
        return codec.loss(network(bars.image), targets)

    descend(loss, network.parameters(), Optimizer(lr=2e-3), Schedule(kind="cosine", warmup_steps=20), settings.steps)
    return network.eval()


def answers(codec: Codec, outputs: Tensor, size: int) -> Tensor:
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


def measured(codec: Codec, outputs: Tensor, bars: Bars) -> dict[str, float]:
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
    """Train all four on the bars, and three on the faces where there are any."""
    bars = draw(settings.tested, settings.size, torch_generator(settings.seed, "tested bars"))
    tally, faces, shares = Tally(), Tally(), []
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
    if settings.imm:
        on_faces(settings, faces, say)
    return report(settings, bars, tally, shown, shares, faces)


def on_faces(settings: Settings, faces: Tally, say: Say) -> None:
    """Train on the IMM faces, each for the same time, and take the errors in."""
    for name, (recipe_name, pairs) in FACES.items():
        recipe = find_recipe(recipe_name).override([f"data.root={settings.imm}", *pairs])
        data = Data.of(recipe)
        for seed in settings.seeds:
            model, descent = train(recipe.override([f"seed={seed}"]), data, settings.minutes)
            errors = metrics(model, data)
            found = {name: errors[name] for name in ("mean_error_px", "median_error_px")} | {"steps": len(descent.losses)}
            faces.add(name, found)
            say(f"  faces, {name}, seed {seed}: " + ", ".join(f"{key} {value:.4g}" for key, value in found.items()))


def report(
    settings: Settings, bars: Bars, tally: Tally, shown: Mapping[str, Tensor], shares: list[Tensor], faces: Tally
) -> Finding:
    """Write down what was found."""
    lines = {name: curve(along(answers(CODECS[name], of, settings.size), bars), bars.chance) for name, of in shown.items()}
    lines["log loss: share of the belief"] = curve(shares[0], bars.chance)
    regressed, believed = fmean(tally[ASTRAY][L2]), fmean(tally[ASTRAY][LOG])
    calibration = [float((share - bars.chance).abs().mean()) for share in shares]
    answer = (
        f"With both ends about equally likely, the answers of L2 regression are {regressed:.1f} pixels from the nearest place "
        f"where the point can be (the ends are {settings.size / 2:.0f} apart), the peaks of the belief map {believed:.1f}. The "
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
    if faces:
        errors = faces["mean_error_px"]
        holding.append(max(errors[LOG]) < min(errors[L2]))
        said = "; ".join(f"{name} {spread(values, 1)} px" for name, values in errors.items())
        answer += f" On the faces, after {settings.minutes:g} minutes each, the mean error is: {said}."
        chart = captioned(bar_chart("mean error in pixels of 320 x 240", errors), "A dot for each seed.")
        parts.append(section("Faces", prose(ON_FACES.format(settings.minutes)), chart, faces.table(1)))
    else:
        answer += " Real key points were not measured this time: that needs imm=FOLDER."
    parts.append(section("What follows", prose(FOLLOWS)))
    data = {"bars": tally, "calibration": calibration, "curves": lines, "faces": faces}
    return Finding(verdict(holding), answer, "\n".join(parts), data)


def pictures(shown: Mapping[str, Tensor], bars: Bars) -> str:
    """Show three bars with little, even and large chance of the marked end, with the answers and beliefs."""
    rows = []
    for wanted in (0.15, 0.5, 0.85):
        i = int((bars.chance - wanted).abs().argmin())
        image = (bars.image[i] * 255).to(torch.uint8)
        made = {name: picture(CODECS[name], outputs[i], image) for name, outputs in shown.items()}
        rows.append([(enlarged(image), f"marked end: {bars.chance[i]:.0%}"), *[(one, name) for name, one in made.items()]])
    return gallery(rows)


def picture(codec: Codec, outputs: Tensor, image: Tensor) -> PillowImage.Image:
    """Return the picture with a green cross at the answer, or the map."""
    if isinstance(codec, GaussianHeatmapsCodec):
        sheet = outputs[0] if codec.kind == "l2" else outputs[0].flatten().softmax(0).view_as(outputs[0])
        return enlarged(heat(sheet, low=0))
    size, crossed = image.shape[-1], image.clone()
    x, y = answers(codec, outputs[None], size)[0].clamp(1, size - 2).long().tolist()
    for dx, dy in ((0, 0), (1, 0), (-1, 0), (0, 1), (0, -1)):
        crossed[:, y + dy, x + dx] = torch.tensor([0, 255, 60])
    return enlarged(crossed)


def enlarged(image: Tensor) -> PillowImage.Image:
    """Return every pixel three times as large."""
    return to_pillow(image.repeat_interleave(3, 1).repeat_interleave(3, 2))


ANSWERS = """Three pictures. The green cross is the answer of a network that regresses two numbers; the maps are the
answers of those that believe. In the middle row both ends are as likely."""

CURVES = """L2 regression answers the mean: a straight line from end to end. Those that pick one of the two jump at one
half. The belief follows the chance, and stays at the ends."""

NUMBERS = """Mean (least to largest) of {} trainings. The first two columns are of the pictures in which neither end has
a chance above 0.6, the last of all {}."""

ON_FACES = """58 points on unseen persons of the IMM faces, {:g} minutes of training each. Nothing is ambiguous here;
what counts is how soon a network learns to point."""

FOLLOWS = """The squared error is not wrong: it answers another question, namely for the mean. Ask it only where the
mean of all possible answers is an answer. Colours, positions, depths at an edge and whole pictures are not like that,
and this one figure is why L2 makes grey paint, blurred photographs and hands in mid-air.

The absolute error asks for the median. Here it picks the likelier end, and is undecided exactly where it matters.

A map of beliefs costs more numbers per answer, and in exchange says how sure it is and what else it could be. Under the
squared error the map is a mean as well, but a mean of maps: two peaks, each as high as it is likely. The log loss makes
it a probability."""
