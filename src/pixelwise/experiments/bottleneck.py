"""Should the narrowest place of a network be a small picture or a vector?

Between encoder and decoder everything the network knows has to pass a few numbers. They can be a coarse map, each
number still at its place in the picture, or a vector in which every number comes from everywhere. The vector is the
more general: fully connected layers can compute any coarse map. Generality has to be learned, though, and paid for in
weights.

The same encoder-decoder, without skips, learns to give back scenes of the embedded world (mean squared error), with
vectors of several lengths, and with coarse maps of several sizes. Steps and seeds are equal. What is compared, at equal
numbers in the narrowest place, is how much of a new scene comes through (peak signal-to-noise ratio), and whether the
network has merely learned its training scenes by heart.
"""

from __future__ import annotations

from statistics import fmean
from typing import NamedTuple

import torch
from pydantic import Field
from torch import Tensor, nn

from pixelwise.data.dataset import Dataset
from pixelwise.laboratory import Finding, Repeated, Say, Tally, spread, verdict
from pixelwise.losses.regression import l2_loss
from pixelwise.nn.networks import encoder_decoder
from pixelwise.page import captioned, gallery, line_chart, prose, section, table
from pixelwise.prediction import to_pillow
from pixelwise.recipe import Recipe, find_recipe
from pixelwise.run import Data
from pixelwise.seeds import mixed
from pixelwise.task import image_of, unit
from pixelwise.training import Optimizer, Schedule
from pixelwise.trial import batches, descend

CLAIM = (
    "With as many numbers in the narrowest place, a coarse map lets more detail of a new picture through than a "
    "vector, and it takes far fewer weights."
)
NEW, KNOWN = "new scenes, dB", "training scenes, dB"


class Settings(Repeated):
    """Settings of the experiment."""

    scenes: int = Field(512, ge=8, description="training scenes; a quarter as many are measured on")
    size: int = Field(64, ge=32, multiple_of=32, description="height and width of the scenes")
    width: int = Field(8, ge=2, description="channels of the networks at full resolution")
    steps: int = Field(300, ge=1, description="training steps of each network, of 16 scenes")
    codes: tuple[int, ...] = Field((32, 128, 512, 2048), description="lengths of the vectors")
    depths: tuple[int, ...] = Field((5, 4, 3), description="halvings before the coarse maps")


class Narrow(NamedTuple):
    """A network by its narrowest place: its name, how many numbers that holds, and its settings."""

    kind: str
    name: str
    numbers: int
    config: encoder_decoder.Config


def candidates(settings: Settings) -> list[Narrow]:
    """Return vectors behind four halvings, and maps behind three to five."""
    found = []
    for code in settings.codes:
        grid = (settings.size // 16, settings.size // 16)
        config = encoder_decoder.Config(width=settings.width, depth=4, bottleneck="vector", code=code, grid=grid)
        found.append(Narrow("vector", f"vector of {code}", code, config))
    for depth in settings.depths:
        side, channels = settings.size // 2**depth, settings.width * min(2**depth, 16)
        config = encoder_decoder.Config(width=settings.width, depth=depth)
        found.append(Narrow("map", f"map of {channels} x {side} x {side}", channels * side * side, config))
    return found


def trained(narrow: Narrow, seed: int, settings: Settings, recipe: Recipe, data: Data) -> nn.Module:
    """Train the network to return its input."""
    torch.manual_seed(mixed(seed, "initialisation"))
    network, stream = narrow.config.build(3, 3), batches(recipe.override([f"seed={seed}"]), data)

    def loss(step: int) -> Tensor:
        image = unit(stream[step]["image"])
        return l2_loss(network(image), image)

    descend(loss, network.parameters(), Optimizer(lr=2e-3), Schedule(kind="cosine", warmup_steps=20), settings.steps)
    return network.eval()


@torch.no_grad()
def quality(network: nn.Module, scenes: Tensor) -> float:
    """Return the mean peak signal-to-noise ratio of scenes `(N, 3, H, W)` as they are given back, in dB."""
    error = (network(scenes).clamp(0, 1) - scenes).square().mean((1, 2, 3))
    return float(-10 * error.log10().mean())


def some(dataset: Dataset, count: int) -> Tensor:
    """Return the first pictures of a data set, `(N, 3, H, W)` in [0, 1]."""
    return torch.stack([unit(image_of(dataset.sample(i, ("image",)))) for i in range(min(count, len(dataset)))])


def run(settings: Settings, say: Say) -> Finding:
    """Train every candidate to give back its input."""
    size = f"{settings.size}x{settings.size}"
    recipe = find_recipe("world_segmentation").override(
        [f"data.scenes={settings.scenes}", f"data.size={size}", f"view.size={size}"]
    )
    data = Data.of(recipe)
    new, known = some(data.val, 128), some(data.train, 128)
    tally, weights = Tally(), {}
    shown: dict[str, nn.Module] = {}
    for narrow in candidates(settings):
        for seed in settings.seeds:
            network = trained(narrow, seed, settings, recipe, data)
            shown.setdefault(narrow.name, network)
            weights[narrow.name] = sum(p.numel() for p in network.parameters())
            tally.add(narrow.name, {NEW: quality(network, new), KNOWN: quality(network, known)})
        say(f"  {narrow.name}: {spread(tally[NEW][narrow.name], 1)} dB")
    return report(settings, tally, weights, pictures(shown, new))


def report(settings: Settings, tally: Tally, weights: dict[str, int], shown: str) -> Finding:
    """Write down what was found."""
    tried = candidates(settings)
    pairs = [(a, b) for a in tried for b in tried if (a.kind, b.kind) == ("map", "vector") and a.numbers == b.numbers]
    holding = [min(tally[NEW][a.name]) > max(tally[NEW][b.name]) for a, b in pairs]
    holding += [weights[a.name] < weights[b.name] for a, b in pairs]
    answer = " ".join(
        f"With {a.numbers} numbers, a map gives back new scenes to {spread(tally[NEW][a.name], 1)} dB with "
        f"{weights[a.name]:,} weights, a vector to {spread(tally[NEW][b.name], 1)} dB with {weights[b.name]:,}."
        for a, b in pairs
    )
    rows = [["narrowest place", "numbers", "weights", *tally]]
    rows += [[n.name, str(n.numbers), f"{weights[n.name]:,}", *[spread(of[n.name], 1) for of in tally.values()]] for n in tried]
    protocol = f"{settings.steps} steps of 16 scenes each; mean (least to largest) of {settings.repeats} seeds."
    body = [
        captioned(curves(tally[NEW], tried), "Peak signal-to-noise ratio; 6 dB more is half the error at every pixel."),
        captioned(shown, "New scenes, and what comes through each narrowest place."),
        section("The numbers", table(rows), prose(protocol)),
        section("What follows", prose(FOLLOWS)),
    ]
    return Finding(verdict(holding), answer, "\n".join(body), {"measures": tally, "weights": weights})


def curves(of: dict[str, list[float]], tried: list[Narrow]) -> str:
    """Draw the quality over the number of numbers, one line for the maps and one for the vectors."""
    lines: dict[str, list[tuple[float, float]]] = {}
    for narrow in sorted(tried, key=lambda n: n.numbers):
        lines.setdefault(narrow.kind, []).append((narrow.numbers, fmean(of[narrow.name])))
    return line_chart("new scenes given back, dB", lines, "numbers in the narrowest place", ("x",))


@torch.no_grad()
def pictures(shown: dict[str, nn.Module], scenes: Tensor) -> str:
    """Show two scenes as they come out of each network."""
    rows = []
    for scene in scenes[:2]:
        made = {name: network(scene[None])[0].clamp(0, 1) for name, network in shown.items()}
        rows.append([(to_pillow((one * 255).byte()), name) for name, one in {"the scene": scene, **made}.items()])
    return gallery(rows)


FOLLOWS = """A fully connected layer has to learn anew for every place what a convolution knows for all of them, and it
has only as many examples as there are pictures. Where the answer lies on the same grid as the question, the plane
should never be given up; a vector is for answers that belong to the picture as a whole."""
