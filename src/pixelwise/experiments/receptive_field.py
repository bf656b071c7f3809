"""How far does a network see?

Whether a grey patch is road, wall or sky depends on what is around it, so an answer at a pixel needs to see far. A 3x3
convolution sees one pixel further than what went in, whatever it is stacked on: n of them see 2n + 1 pixels across. To
see 200 pixels takes a hundred layers, unless the maps shrink on the way.

We follow which pixels each output depends on through whole networks, exactly, and hold that against the gradients of
real ones. Then we ask how much of what a network could see it does see: the squared gradient of an output with respect
to the picture, averaged over networks with random weights, shows where an answer really comes from (Luo et al. 2016).
Last, we train.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from pydantic import Field
from torch import Tensor, nn

from pixelwise.color.heat import heat
from pixelwise.config import Overridable, config_class, kinds
from pixelwise.errors import ModelError
from pixelwise.laboratory import Finding, Say, verdict
from pixelwise.nn import sensitivity
from pixelwise.nn.networks import stack
from pixelwise.nn.receptive_field import receptive_field
from pixelwise.page import captioned, gallery, line_chart, prose, section, table
from pixelwise.prediction import to_pillow
from pixelwise.recipe import find_recipe
from pixelwise.run import Data
from pixelwise.seeds import mixed
from pixelwise.task import image_of, unit
from pixelwise.trial import train, untrained

CLAIM = (
    "n stacked 3x3 convolutions see 2n + 1 pixels across, so 200 pixels take 100 layers; halving the maps makes the view "
    "grow exponentially with depth. What really influences an answer grows with the square root of n only."
)
NETWORKS, POOLED = "pixelwise.nn.networks", "pooling after every second"
DEVIATIONS = 4
"""What is used is taken to be so many standard deviations of the squared gradient wide: 95 % of a Gaussian."""
PROBED = 10
"""Up to this many layers the fields are checked against gradients."""
Line = list[tuple[float, float]]


class Settings(Overridable):
    """Settings of the experiment."""

    seed: int = Field(0, ge=0, description="seed of the weights, pictures and training")
    depths: tuple[int, ...] = Field((1, 2, 5, 10, 20, 50, 100), description="numbers of layers n to follow")
    effective: tuple[int, ...] = Field((2, 4, 8, 16, 32), description="numbers of layers to measure the effective field of")
    samples: int = Field(20, ge=1, description="random networks, or pictures, to average the squared gradient over")
    width: int = Field(16, ge=2, description="channels of the networks that are measured")
    networks: tuple[str, ...] = Field(kinds(NETWORKS), description="kinds of networks to follow")
    steps: int = Field(200, ge=1, description="training steps of the U-Net, of 16 scenes")


def plain(layers: int, width: int = 2) -> nn.Module:
    """Return 3x3 convolutions with ReLU at full resolution."""
    return stack.Config(width=width, depth=layers).build(3, 1)


def pooled(layers: int) -> nn.Module:
    """Return 3x3 convolutions with a 2x2 max pooling after every second one, as in VGG or the encoder of a U-Net."""
    parts: list[nn.Module] = []
    for i in range(layers):
        parts += [nn.Conv2d(3, 3, 3, padding=1), *([nn.MaxPool2d(2)] if i % 2 else [])]
    return nn.Sequential(*parts)


def dilated(layers: int) -> nn.Module:
    """Return 3x3 convolutions with dilations 1, 2, 4, ... (Yu and Koltun 2016)."""
    return nn.Sequential(*[nn.Conv2d(3, 3, 3, padding=2**i, dilation=2**i) for i in range(layers)])


def growth(deepest: int) -> dict[str, Line]:
    """Return the field over the number of convolutions, for three ways to stack them."""
    ways = {"3x3 stack": plain, POOLED: pooled, "dilation 1, 2, 4, ...": dilated}
    return {name: [(n, receptive_field(way(n), 3)[0]) for n in range(1, deepest + 1)] for name, way in ways.items()}


def fields(chosen: Sequence[str]) -> list[list[str]]:
    """Return the fields of some kinds of networks, as rows of text."""
    rows = [["network, as it comes", "pixels across"]]
    for kind in chosen:
        config = config_class(NETWORKS, kind)()
        narrow = config.model_copy(update={"width": 4}) if "width" in type(config).model_fields else config
        try:
            field = f"{receptive_field(narrow.build(3, 1), 3)[0]}"  # type: ignore[attr-defined]
        except ModelError:
            field = "the whole picture"
        rows.append([kind, field])
    return rows


def squared_gradient(network: nn.Module, image: Tensor) -> Tensor:
    """Return the squared gradient `(H, W)` of the largest output at the centre with respect to an image `(3, H, W)`."""
    image = image[None].requires_grad_()
    output = network(image)[0]
    output[:, output.shape[1] // 2, output.shape[2] // 2].max().backward()
    assert image.grad is not None
    return image.grad[0].square().sum(0)


def width_of(power: Tensor) -> float:
    """Return DEVIATIONS standard deviations of `power` `(H, W)` around its mean, averaged over the two axes.

    `nn/effective_receptive_field.py` counts pixels above a threshold instead, which tells more of a network that is given.
    Here a law is tested, and the law is about the variance: it holds for two layers as for a hundred, while a count of pixels
    follows a square root only where the gradient has become a bell.
    """
    deviations = []
    for profile in (power.sum(0).double(), power.sum(1).double()):
        place, share = torch.arange(len(profile)), profile / profile.sum()
        deviations.append(float((share * (place - (share * place).sum()).square()).sum().sqrt()))
    return DEVIATIONS * sum(deviations) / 2


def effective(layers: int, settings: Settings) -> Tensor:
    """Return the mean squared gradient of random stacks for random pictures, each scaled to a sum of 1."""
    side, total = 2 * layers + 5, torch.zeros(2 * layers + 5, 2 * layers + 5)
    for sample in range(settings.samples):
        torch.manual_seed(mixed(settings.seed, "effective", layers, sample))
        power = squared_gradient(plain(layers, settings.width), torch.randn(3, side, side))
        total += power / power.sum().clamp(min=1e-30)
    return total


def slope(line: Line) -> float:
    """Return the exponent of the power law that fits the points best: the slope of a line through their logarithms."""
    points = torch.tensor(line).log()
    x, y = (points - points.mean(0)).unbind(1)
    return float((x * y).sum() / x.square().sum())


def learned(settings: Settings) -> tuple[list[Tensor], int]:
    """Return the mean squared gradients of a U-Net on new scenes before and after training, and its field."""
    pairs = ["data.scenes=128", "network.depth=2", f"network.width={settings.width}", f"steps={settings.steps}"]
    recipe = find_recipe("world_segmentation").override([*pairs, f"seed={settings.seed}"])
    data = Data.of(recipe)
    images = [unit(image_of(data.val.sample(i, ("image",)))) for i in range(min(settings.samples, len(data.val)))]
    powers = []
    for model in (untrained(recipe, data), train(recipe, data)[0]):
        network = model.networks.eval()["network"]
        each = [squared_gradient(network, image) for image in images]
        powers.append(torch.stack([power / power.sum().clamp(min=1e-30) for power in each]).sum(0))
    return powers, receptive_field(network, 3)[0]


class Seen(NamedTuple):
    """What was found about stacks of convolutions, and about a U-Net."""

    followed: Line
    """Number of layers and field, followed through the network."""
    probed: Line
    """The same from gradients."""
    powers: dict[int, Tensor]
    """Mean squared gradient by number of layers."""
    unet: list[Tensor]
    """That of a U-Net before and after training."""
    unet_field: int


def run(settings: Settings, say: Say) -> Finding:
    """Follow stacks and networks, then measure effective fields."""
    followed: Line = [(n, receptive_field(plain(n), 3)[0]) for n in settings.depths]
    probed: Line = [(n, sensitivity.receptive_field(plain(n), 3, (2 * n + 9,) * 2)[0]) for n in range(1, PROBED + 1)]
    say(f"  fields of n layers: {', '.join(f'{n}: {field}' for n, field in followed)}")
    powers = {n: effective(n, settings) for n in settings.effective}
    say(f"  effective fields: {', '.join(f'{n}: {width_of(power):.1f}' for n, power in powers.items())}")
    return report(Seen(followed, probed, powers, *learned(settings)), growth(10), settings.networks)


def report(seen: Seen, grown: dict[str, Line], networks: Sequence[str]) -> Finding:
    """Write down what was found."""
    exact = all(field == 2 * n + 1 for n, field in [*seen.followed, *seen.probed])
    needed = min((n for n, field in seen.followed if field >= 200), default=None)
    widths: Line = [(n, width_of(power)) for n, power in seen.powers.items()]
    exponent, before, after = slope(widths), *map(width_of, seen.unet)
    doubled = grown[POOLED]
    exponential = all(b[1] / a[1] > 1.5 for a, b in zip(doubled[3::2], doubled[5::2], strict=False))
    deepest, widest = widths[-1]
    answer = (
        f"2n + 1 {'holds' if exact else 'does NOT hold'} for every n that was tried, by following and, up to {PROBED} layers, "
        f"by gradients; of these, {needed or 'none'} is the first to see 200 pixels. What is used grows as n to the power "
        f"{exponent:.2f}: {deepest:.0f} layers see {2 * deepest + 1:.0f} pixels, and use about {widest:.0f}. A U-Net that "
        f"can see {seen.unet_field} pixels uses about {before:.0f} before training and {after:.0f} after."
    )
    lines = {
        "can see (2n + 1)": [(n, 2 * n + 1) for n, _ in widths],
        "uses, measured": widths,
        "uses, predicted": [(n, DEVIATIONS * math.sqrt(2 * n / 3)) for n, _ in widths],
    }
    body = [
        captioned(line_chart("receptive field, pixels", grown, "3x3 convolutions", ("y",)), GROWN),
        table([["layers n", "followed", "2n + 1"], *[[f"{n:.0f}", f"{f:.0f}", f"{2 * n + 1:.0f}"] for n, f in seen.followed]]),
        section(
            "What an output can see, and what it uses",
            prose(THEORY),
            captioned(line_chart("pixels across", lines, "layers n", ("x", "y")), USED),
            captioned(pictures(seen), GRADIENTS),
        ),
        section("Our networks", table(fields(networks))),
        section("What follows", prose(FOLLOWS)),
    ]
    data = {
        "followed": seen.followed,
        "probed": seen.probed,
        "growth": grown,
        "effective": widths,
        "exponent": exponent,
        "unet": {"field": seen.unet_field, "before": before, "after": after},
    }
    return Finding(verdict([exact, needed == 100, exponential, abs(exponent - 0.5) < 0.1]), answer, "\n".join(body), data)


def pictures(seen: Seen) -> str:
    """Show where the gradients are."""
    shown = {f"{n} layers, {len(power)} pixels": power for n, power in seen.powers.items()}
    shown |= dict(zip(("U-Net, random", "U-Net, trained"), seen.unet, strict=True))
    return gallery([[(to_pillow(heat(power.sqrt())), name) for name, power in shown.items()]])


GROWN = """How far an output sees, in whole pixels. The scale is logarithmic: what is straight on it grows
exponentially."""

USED = """Four standard deviations of the squared gradient; powers of n are straight lines."""

GRADIENTS = """Square root of the mean squared gradient of the output in the middle. The pictures of stacks show all
that they can see; most of it is dark."""

THEORY = """Take the weights of a layer at random, independent and with mean zero. Then the squared gradient spreads, on
average, like a drop of ink: every layer blurs it with a 3x3 box, whose variance is 2/3 along each axis. After n layers
the variance is 2n/3, whatever the activation throws away at random. Four standard deviations are 3.3 times the square
root of n pixels, while the view is 2n + 1 wide: the deeper a stack, the smaller the share of its view that it uses."""

FOLLOWS = """Depth alone is an expensive way to see far, and a weak one. Halving the maps is cheap and strong, since
every layer after it sees twice as far as before, which is why nearly every network here does it. What has been halved
has to be enlarged again for an answer at every pixel: see `upsampling` and `skips`.

Count on less than the receptive field. Training moves the effective one, as the U-Net shows, but an object twice as
large as what the network uses at first is seen in parts. And a stack's memory is another reason not to build one: see
`memory`."""
