"""Why is a network run over a picture once, and not once for each of its pixels?

A bank of Gabor filters answers at every pixel which strokes of which direction are there. Nobody would cut a patch out
around each pixel, filter all of it, keep one answer and throw the rest away: neighbouring patches share nearly all of
their pixels, and the same products would be computed again and again. Yet the obvious way to label pixels does just
that: a classifier of patches, slid over the picture.

A stack of n 3x3 convolutions without padding turns a patch of 2n + 1 pixels across into one vector of scores; its first
layer is a bank of Gabor filters here. We slide it over a picture patch by patch, then many patches at a time, and then
run the same weights once over the whole picture. We compare the answers, count the multiplications, and take the time.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from typing import NamedTuple

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from pixelwise.color.heat import heat
from pixelwise.config import Overridable
from pixelwise.data.datasets import world
from pixelwise.laboratory import Finding, Say, verdict
from pixelwise.nn.sliding import patch_classifier, refiltering, slide, slide_densely
from pixelwise.page import captioned, gallery, line_chart, number, prose, section, table
from pixelwise.prediction import to_pillow
from pixelwise.task import image_of, unit

CLAIM = (
    "A patch classifier of n 3x3 convolutions slid over a picture computes every value of its first layer (2n - 1)^2 times. "
    "Run once over the whole picture, the same weights give the same answers, and the deeper the network, the more is saved."
)
NAIVE, BATCHED, WHOLE = "patch by patch", "many patches at a time", "whole picture"
BATCH = 256
HEAD = ["n", "patch", "first layer", "all products", "naive, s", "batched, s", "whole, s", "naive / whole", "batched / whole"]


class Settings(Overridable):
    """Settings of the experiment."""

    seed: int = Field(0, ge=0, description="seed of the weights and of the scene")
    size: int = Field(48, ge=32, description="height and width of the picture")
    width: int = Field(16, ge=4, description="filters of every layer")
    depths: tuple[int, ...] = Field((1, 2, 4, 8, 16), description="numbers of layers n to try")


def gabor_bank(count: int) -> Tensor:
    """Return `count` 3x3 filters `(count, 3, 3, 3)`: waves of several directions and two phases under a Gaussian."""
    y, x = torch.meshgrid(torch.arange(-1.0, 2), torch.arange(-1.0, 2), indexing="ij")
    bank = []
    for i in range(count):
        angle, phase = math.pi * (i // 2) / (count / 2), math.pi / 2 * (i % 2)
        wave = torch.cos(math.pi / 1.5 * (x * math.cos(angle) + y * math.sin(angle)) + phase)
        filtered = wave * torch.exp(-(x**2 + y**2) / 2)
        bank.append((filtered - filtered.mean()) / 3)
    return torch.stack(bank)[:, None].expand(-1, 3, -1, -1).clone()


def build(depth: int, width: int) -> nn.Sequential:
    """Return the patch classifier, its first layer the Gabor filters."""
    classifier = patch_classifier(depth, 3, width, width)
    with torch.no_grad():
        first = classifier[0]
        assert isinstance(first, nn.Conv2d)
        first.weight.copy_(gabor_bank(width))
    return classifier.eval()


class Work(NamedTuple):
    """What one way of computing the scores gave, and what it took."""

    scores: Tensor
    multiplications: int
    seconds: float


def measured(work: Callable[[], Tensor]) -> Work:
    """Return the scores, the multiply-accumulates they took, and the processor time of a second run, without counting."""
    with FlopCounterMode(display=False) as counter:
        work()
    began = time.process_time()
    scores = work()
    return Work(scores, counter.get_total_flops() // 2, time.process_time() - began)


def three_ways(classifier: nn.Module, image: Tensor, patch: int) -> dict[str, Work]:
    """Return the work of sliding the classifier patch by patch, in batches, and of running it once over the picture."""
    return {
        NAIVE: measured(lambda: slide(classifier, image, patch)),
        BATCHED: measured(lambda: slide(classifier, image, patch, BATCH)),
        WHOLE: measured(lambda: slide_densely(classifier, image, patch)),
    }


def counted(classifier: nn.Sequential, image: Tensor, patch: int) -> int:
    """Return how many positions of the first layer sliding computes, counted while it happens."""
    counts: list[int] = []
    with classifier[0].register_forward_hook(lambda _, __, maps: counts.append(maps[:, 0].numel())):
        slide(classifier, image, patch, BATCH)
    return sum(counts)


@torch.no_grad()
def run(settings: Settings, say: Say) -> Finding:
    """Slide and run densely, for networks of several depths."""
    torch.manual_seed(settings.seed)
    data = world.Config(scenes=1, size=(settings.size, settings.size), seed=settings.seed).open("train")
    image = unit(image_of(data.sample(0, ("image",))))[None]
    works: dict[int, dict[str, Work]] = {}
    agreed = True
    for depth in settings.depths:
        classifier, patch = build(depth, settings.width), 2 * depth + 1
        works[depth] = three_ways(classifier, image, patch)
        agreed &= counted(classifier, image, patch) == settings.size**2 * refiltering(depth)
        say(f"  n = {depth}: " + ", ".join(f"{way} {work.seconds:.3g} s" for way, work in works[depth].items()))
    return report(settings, image, works, agreed)


def report(settings: Settings, image: Tensor, works: dict[int, dict[str, Work]], agreed: bool) -> Finding:
    """Write down what was found."""
    apart = max(difference(ways[WHOLE].scores, ways[way].scores) for ways in works.values() for way in (NAIVE, BATCHED))
    gains = {n: {way: ways[way].seconds / ways[WHOLE].seconds for way in (NAIVE, BATCHED)} for n, ways in works.items()}
    deepest = gains[max(gains)]
    first = gains[min(gains)]
    answer = (
        f"The answers agree to {apart:.0e}. At n = {max(gains)} sliding computes each value of the first layer "
        f"{refiltering(max(gains))} times, and takes {number(deepest[NAIVE])} times as long patch by patch, "
        f"{number(deepest[BATCHED])} times with {BATCH} patches at a time; at n = {min(gains)}, {number(first[NAIVE])} and "
        f"{number(first[BATCHED])} times."
    )
    times = {way: [(n, ways[way].seconds) for n, ways in works.items()] for way in (NAIVE, BATCHED, WHOLE)}
    products = {way: [(n, ways[way].multiplications) for n, ways in works.items()] for way in (NAIVE, BATCHED, WHOLE)}
    predicted = "as predicted, pixels times (2n - 1)^2, at every n" if agreed else "NOT as predicted, pixels times (2n - 1)^2"
    body = [
        captioned(
            line_chart("processor time, seconds", times, "layers n", ("x", "y")),
            f"A picture of {settings.size} x {settings.size} pixels. Batches help with the cost of calling, not with "
            "computing everything again.",
        ),
        captioned(
            responses(image, settings.width),
            "The picture, and some of its Gabor responses: computed once, each of these values serves every patch around it.",
        ),
        section(
            "The numbers",
            table([HEAD, *[row(n, works[n], gains[n]) for n in works]]),
            captioned(
                line_chart("multiply-accumulates", products, "layers n", ("x", "y")),
                "Counted while running. Both ways of sliding do the same work, so that their lines lie on each other.",
            ),
            prose(f"The number of first-layer values computed was {predicted}. {LATER}"),
        ),
        section("What follows", prose(FOLLOWS)),
    ]
    counted = [way[NAIVE].multiplications / way[WHOLE].multiplications for way in works.values()]
    deeper = counted == sorted(counted) and deepest[BATCHED] > first[BATCHED] > 1
    data = {"seconds": times, "multiply_accumulates": products, "relative_difference": apart, "gains": gains}
    return Finding(verdict([agreed, apart < 1e-5, deeper]), answer, "\n".join(body), data)


def difference(exact: Tensor, other: Tensor) -> float:
    """Return the largest difference, relative to the largest score."""
    return float((other - exact).abs().max() / exact.abs().max())


def row(n: int, ways: dict[str, Work], gain: dict[str, float]) -> list[str]:
    """Return one row of the table."""
    products = ways[NAIVE].multiplications / ways[WHOLE].multiplications
    seconds = [f"{way.seconds:.3g}" for way in ways.values()]
    return [f"{n}", f"{2 * n + 1}", f"{refiltering(n)}", f"{products:.0f}", *seconds, *[number(g) for g in gain.values()]]


def responses(image: Tensor, width: int) -> str:
    """Show the picture and the responses to some of the filters."""
    maps = nn.functional.conv2d(image, gabor_bank(width), padding=1)[0]
    shown = [(to_pillow(heat(maps[i].abs())), f"filter {i + 1}") for i in range(0, min(width, 10), 2)]
    return gallery([[(to_pillow((image[0] * 255).byte()), "the picture"), *shown]])


LATER = """The table has it as `first layer`, how often each value is computed, beside the same for `all products`: the
whole network repeats itself less than its first layer, since later layers have smaller maps in a patch."""

FOLLOWS = """A network of convolutions already is its own sliding window: nothing has to be cut out, only the padding to
be agreed upon. The work saved grows with the depth, since the deeper the network, the larger the patches and the more they
overlap. The time saved follows where patches come in batches; patch by patch, a shallow network spends its time on being
called, which is why one layer can gain more than two.

The same holds for a trained classifier with fully connected layers, once these are written as convolutions: see the
experiment `vector-to-image`. It holds as long as no layer looks at the whole patch at once, as a normalisation over the
patch would."""
