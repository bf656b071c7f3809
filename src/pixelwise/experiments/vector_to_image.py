"""Does a network that was only told what is in a picture know where it is?

Labels for whole pictures are cheap, labels for pixels are not. A classifier computes maps of features up to its last
layer, then averages them over the picture and weighs the averages. Weigh first and average afterwards, and nothing
changes but that every place has a score of its own: the fully connected layer has become a 1x1 convolution.

We train a classifier on whole scenes of the embedded world to say which of seven things are there, and turn it into a
network from images to images of scores. Sliding it in single pixels gives every pixel the score of the window around
it. Labels that no training has used then say whether the highest score lies on the thing (the pointing game), and how
well the scores rank all pixels (average precision), beside guessing at random, and beside always guessing the middle.
"""

from __future__ import annotations

from collections.abc import Mapping
from statistics import fmean

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional

from pixelwise.color.heat import heat
from pixelwise.data.world.answers import SHOWS, SURE
from pixelwise.data.world.objects import CLASSES
from pixelwise.laboratory import Finding, Repeated, Say, Tally, spread, verdict
from pixelwise.metrics.classification import average_precision
from pixelwise.nn.convolutionalize import FullyConvolutional, to_fully_convolutional
from pixelwise.page import bar_chart, captioned, gallery, prose, section, table
from pixelwise.prediction import to_pillow
from pixelwise.recipe import find_recipe
from pixelwise.run import Data
from pixelwise.seeds import torch_generator
from pixelwise.task import image_of, unit
from pixelwise.trial import metrics, train

CLAIM = (
    "A classifier trained on whole pictures becomes a network of score maps without any change of its weights: the mean of "
    "its map is the classifier's score, and its maps are high where the thing is, though no training ever said where."
)
MAPS, RULERS = "the score maps", ("chance", "the middle")
MEASURES = ("pointing game", "average precision")


class Settings(Repeated):
    """Settings of the experiment."""

    scenes: int = Field(1024, ge=8, description="training scenes; a quarter as many are measured on")
    size: int = Field(64, ge=48, description="height and width of the scenes")
    channels: tuple[int, ...] = Field((16, 32, 64), description="channels of the classifier's convolutions")
    steps: int = Field(500, ge=1, description="training steps, of 32 scenes")


def run(settings: Settings, say: Say) -> Finding:
    """Train classifiers, convert them, and hold their score maps against the labels."""
    size = f"{settings.size}x{settings.size}"
    pairs = [f"data.scenes={settings.scenes}", f"data.size={size}", f"view.size={size}", f"steps={settings.steps}"]
    network = [f"network.channels={list(settings.channels)}", "network.padding=none"]
    recipe = find_recipe("world_labels").override([*pairs, *network, "data.unknown=0"])
    data = Data.of(recipe)
    samples = [data.val.sample(i, ("image", "labels")) for i in range(len(data.val))]
    images = torch.stack([unit(image_of(sample)) for sample in samples])
    labels = torch.stack([sample["labels"].labels for sample in samples])  # type: ignore[attr-defined]
    found: dict[str, Tally] = {ruler: Tally() for ruler in (MAPS, *RULERS)}
    apart, recognised, shown = 0.0, [], torch.empty(0)
    for seed in settings.seeds:
        model, _ = train(recipe.override([f"seed={seed}"]), data)
        classifier = model.networks["network"]
        dense = to_fully_convolutional(classifier, classifier.least)  # type: ignore[arg-type]
        apart = max(apart, difference(classifier, dense, images))
        recognised.append(metrics(model, data)["average_precision_macro"])
        maps = stitched(dense, images)
        shown = maps if seed == settings.seed else shown
        for ruler, scores in {MAPS: maps, **baselines(maps, seed)}.items():
            for thing, measures in localised(scores, labels).items():
                found[ruler].add(thing, measures)
        say(f"  seed {seed}: average precision of the classifier {recognised[-1]:.3f}; mean of the maps to {apart:.0e}")
    return report(settings, found, apart, recognised, pictures(images, labels, shown))


@torch.no_grad()
def difference(classifier: nn.Module, dense: FullyConvolutional, images: Tensor) -> float:
    """Return how far the means of the score maps are from the classifier's scores, at most, where nothing is cut off."""
    rest = (images.shape[-1] - dense.native[1]) % dense.stride
    whole = images[..., : images.shape[-2] - rest, : images.shape[-1] - rest]
    return float((dense(whole).mean((2, 3)) - classifier(whole)[..., 0, 0]).abs().max())


@torch.no_grad()
def stitched(dense: FullyConvolutional, images: Tensor) -> Tensor:
    """Return the score of the window around every pixel, `(B, K, H, W)`: the network on pictures shifted pixel by pixel.

    The pictures are continued by mirroring. Long, Shelhamer and Darrell 2015, section 3.2, call this shift-and-stitch.
    """
    height, width = images.shape[-2:]
    window, stride = dense.native[0], dense.stride
    before, after = window // 2, (window - 1) // 2 + stride
    padded = functional.pad(images, (before, after, before, after), mode="reflect")
    scores: list[Tensor] = []
    for start in range(0, len(padded), 32):
        image = padded[start : start + 32]
        rows = []
        for y in range(stride):
            shifts = [dense(image[..., y:, x:])[..., : -(-height // stride), : -(-width // stride)] for x in range(stride)]
            rows.append(torch.stack(shifts, -1).flatten(-2))
        scores.append(torch.stack(rows, -2).flatten(2, 3)[..., :height, :width])
    return torch.cat(scores)


def baselines(maps: Tensor, seed: int) -> dict[str, Tensor]:
    """Return scores that look at nothing: noise, and how near a pixel is to the middle."""
    height, width = maps.shape[-2:]
    y, x = torch.meshgrid(torch.arange(height) - (height - 1) / 2, torch.arange(width) - (width - 1) / 2, indexing="ij")
    noise = torch.rand(maps.shape, generator=torch_generator(seed, "chance"))
    return dict(zip(RULERS, (noise, -(x**2 + y**2).expand_as(maps)), strict=True))


def localised(scores: Tensor, labels: Tensor) -> dict[str, dict[str, float]]:
    """Return for each thing how often the highest score of a scene that shows it lies on it, and the average precision.

    Args:
        scores: `(B, K, H, W)`.
        labels: `(B, H, W)`.
    """
    found = {}
    for k, name in enumerate(SHOWS):
        on = (labels == CLASSES.index(name)).flatten(1)
        there = on.float().mean(1) > SURE
        if not there.any():
            continue
        flat = scores[there, k].flatten(1)
        hits = on[there].gather(1, flat.argmax(1, keepdim=True)).float().mean()
        precision = [average_precision(one, truth) for one, truth in zip(flat, on[there], strict=True)]
        found[name] = dict(zip(MEASURES, (float(hits), fmean(map(float, precision))), strict=True))
    return found


def report(settings: Settings, found: dict[str, Tally], apart: float, recognised: list[float], shown: str) -> Finding:
    """Write down what was found."""
    points, ranks = ({ruler: over_things(tally[measure]) for ruler, tally in found.items()} for measure in MEASURES)
    things = found[MAPS][MEASURES[0]]
    better = [name for name in things if fmean(things[name]) > max(fmean(found[r][MEASURES[0]][name]) for r in RULERS)]
    beaten = [min(of[MAPS]) > max(max(of[ruler]) for ruler in RULERS) for of in (points, ranks)]
    answer = (
        f"The mean of the maps equals the classifier's score to {apart:.0e}. The highest score lies on the thing in "
        f"{100 * fmean(points[MAPS]):.0f} % of the scenes, against "
        + " and ".join(f"{100 * fmean(points[ruler]):.0f} % for {ruler}" for ruler in RULERS)
        + f"; it beats both for {', '.join(better) or 'nothing'}. The average precision of pixels is "
        + ", ".join(f"{spread(values)} for {ruler}" for ruler, values in ranks.items())
        + f". As a classifier it has an average precision of {spread(recognised)}."
    )
    head = ["", *[f"{measure}, {ruler}" for measure in MEASURES for ruler in found]]
    rows = [[name, *[f"{fmean(of[m][name]):.2f}" for m in MEASURES for of in found.values()]] for name in things]
    body = [
        captioned(shown, "New scenes with the score map of one thing each, and where it truly is."),
        captioned(
            bar_chart("highest score on the thing, share of scenes", points), "Mean over the things; a dot for each seed."
        ),
        captioned(bar_chart("average precision of pixels", ranks), "Mean over the things; a dot for each seed."),
        section("Thing by thing", table([head, *rows]), prose(PROTOCOL.format(settings.repeats, SURE))),
        section("What follows", prose(FOLLOWS)),
    ]
    data = {"measures": found, "difference": apart, "classifier": recognised}
    return Finding(verdict([apart < 1e-4, *beaten, len(better) == len(things)]), answer, "\n".join(body), data)


def over_things(of: Mapping[str, list[float]]) -> list[float]:
    """Return the mean over the things, for each seed."""
    return [fmean(values) for values in zip(*of.values(), strict=True)]


def pictures(images: Tensor, labels: Tensor, maps: Tensor) -> str:
    """Show for four things the scene with most of it: the scene, the score map, the truth."""
    cells = []
    for name in ("person", "car", "tree", "building"):
        truth = labels == CLASSES.index(name)
        i = int(truth.sum((1, 2)).argmax())
        pixels = (images[i] * 255).byte()
        score, mask = heat(maps[i, SHOWS.index(name)]), heat(truth[i])
        cells.append([(to_pillow(pixels), "scene"), (to_pillow(score), f"score: {name}"), (to_pillow(mask), f"truth: {name}")])
    return gallery([cells[0] + cells[1], cells[2] + cells[3]])


PROTOCOL = """Means over {} seeds, on the scenes of which the thing takes more than {:.1%}: those in which it counts as
there."""

FOLLOWS = """Turning a vector into an image costs nothing: the weights stay, the averaging goes. So any classifier, also
a pretrained one, is a first, coarse answer to the dense question, and `to_fully_convolutional` makes it.

It was rewarded for telling pictures apart, not for finding things. Whatever goes along with a thing serves as well as
the thing itself, and what fills half the picture is told by any part of it. Where the maps point beside it, that is the
reason, and only labels for pixels, as in segmentation, ask the other question."""
