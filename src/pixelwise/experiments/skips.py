"""What do the skip connections of a U-Net carry?

An encoder gives up places for meaning: after four halvings one number stands for 16 x 16 pixels. A decoder has to say
where things end, and the numbers it starts from no longer know. U-Net hands it the encoder's maps of every resolution,
and that is said to be what draws its outlines.

The same U-Net is trained with its skips concatenated, with them added, and without them, in equal steps from equal
seeds. Added skips have no weights of their own, so the last two networks are equally large: what differs is what the
decoder sees. We measure the outlines, the thin classes, and the large ones, on scenes of the embedded world, and on
CamVid where it is at hand.
"""

from __future__ import annotations

from collections.abc import Iterator
from statistics import fmean
from typing import NamedTuple

from pydantic import Field

from pixelwise.laboratory import Finding, Repeated, Say, Tally, spread, verdict
from pixelwise.model import Model
from pixelwise.page import bar_chart, captioned, prose, section
from pixelwise.recipe import Recipe, find_recipe
from pixelwise.run import Data
from pixelwise.trial import metrics, outline_metrics, side_by_side, train

CLAIM = (
    "Skip connections carry the detail: with them a U-Net gets outlines and thin things right that the same network "
    "without them does not, and it hardly matters whether they are concatenated or added."
)
WAYS = ("concatenate", "add", "none")
THIN = ("pole", "sign", "sign_symbol", "person", "pedestrian", "bicyclist", "animal")
"""Classes whose things are a few pixels wide."""
FINE, LARGE = "IoU of thin classes", "IoU of the others"


class Settings(Repeated):
    """Settings of the experiment."""

    scenes: int = Field(256, ge=8, description="training scenes of the embedded world; a quarter as many are measured on")
    size: int = Field(64, ge=32, description="height and width of the scenes")
    width: int = Field(16, ge=4, description="channels of the network at full resolution")
    steps: int = Field(300, ge=1, description="training steps of each network, of 16 scenes")
    camvid: str = Field("", description="folder of CamVid, laid out as a segmentation folder; none: only the world is measured")
    camvid_steps: int = Field(300, ge=1, description="training steps of each network on CamVid, of 8 pictures")


class Ground(NamedTuple):
    """What the networks are compared on."""

    name: str
    recipe: Recipe
    data: Data
    tolerance: int

    @property
    def thin(self) -> list[str]:
        """The thin classes there are."""
        return [name for name in self.data.train.meta.classes if name in THIN]


def grounds(settings: Settings) -> Iterator[Ground]:
    """Yield the embedded world, and CamVid if there is a folder of it."""
    size = f"{settings.size}x{settings.size}"
    pairs = [f"data.scenes={settings.scenes}", f"data.size={size}", f"view.size={size}", "data.unknown=0"]
    recipe = find_recipe("world_segmentation").override([*pairs, f"steps={settings.steps}", f"network.width={settings.width}"])
    yield Ground("the embedded world", recipe, Data.of(recipe), 1)
    if settings.camvid:
        pairs = [f"data.root={settings.camvid}", f"steps={settings.camvid_steps}", f"network.width={settings.width}"]
        recipe = find_recipe("camvid").override(pairs)
        yield Ground("CamVid", recipe, Data.of(recipe), 3)


def run(settings: Settings, say: Say) -> Finding:
    """Train the U-Net with and without skips on each ground."""
    answers, parts, data = [], [], {}
    holding: list[bool] = []
    for ground in grounds(settings):
        say(f"  on {ground.name}:")
        tally, models = compared(ground, settings, say)
        outlines = next(iter(tally.values()))
        holding += [min(*of["concatenate"], *of["add"]) > max(of["none"]) for of in (outlines, tally[FINE])]
        added, joined, none = (fmean(outlines[way]) for way in ("add", "concatenate", "none"))
        holding.append(abs(added - joined) < 0.5 * (added - none))
        said = [f"{measure} " + ", ".join(spread(of[way]) for way in WAYS) for measure, of in tally.items()]
        answers.append(f"On {ground.name}, concatenated, added and no skips: {'; '.join(said)}.")
        parts.append(section(f"On {ground.name}", evidence(ground, tally, models)))
        data[ground.name] = tally
    return Finding(verdict(holding), " ".join(answers), "\n".join([*parts, section("What follows", prose(FOLLOWS))]), data)


def compared(ground: Ground, settings: Settings, say: Say) -> tuple[Tally, dict[str, Model]]:
    """Train each way with each seed; return the measures, and the first model of each way."""
    tally = Tally()
    models: dict[str, Model] = {}
    for way in WAYS:
        for seed in settings.seeds:
            model, _ = train(ground.recipe.override([f"network.skips={way}", f"seed={seed}"]), ground.data)
            models.setdefault(way, model)
            measures = measured(model, ground)
            tally.add(way, measures)
            say(f"  {way}, seed {seed}: " + ", ".join(f"{name} {value:.3f}" for name, value in measures.items()))
    return tally, models


def measured(model: Model, ground: Ground) -> dict[str, float]:
    """Return the boundary F-score, and the mean IoU of the thin and of the other classes in truth or prediction."""
    iou = {name[4:]: value for name, value in metrics(model, ground.data).items() if name.startswith("iou/")}
    score = outline_metrics(model, ground.data, ground.tolerance)[f"boundary_f@{ground.tolerance}px"]
    return {
        f"boundary F at {ground.tolerance} px": score,
        FINE: fmean(iou.get(name, 0.0) for name in ground.thin),
        LARGE: fmean(value for name, value in iou.items() if name not in ground.thin),
    }


def evidence(ground: Ground, tally: Tally, models: dict[str, Model]) -> str:
    """Return pictures, charts and numbers of one ground."""
    charts = [captioned(bar_chart(measure, of), f"Unseen pictures of {ground.name}.") for measure, of in tally.items()]
    weights = [f"{sum(p.numel() for p in model.networks.parameters()):,} with {way}" for way, model in models.items()]
    view = ground.recipe.view.size
    protocol = (
        f"{ground.recipe.steps} steps each, of {ground.recipe.batch_size} pictures at {view[1]} x {view[0]}; measured on "
        f"{len(ground.data.val)} pictures at their own size, a dot for each seed. An outline pixel counts as found if one of "
        f"its class lies at most {ground.tolerance} rows and columns away. Thin classes: {', '.join(ground.thin)}. "
        f"Weights: {'; '.join(weights)}."
    )
    shown = captioned(side_by_side(models, ground.data, 3), f"Unseen pictures of {ground.name}.")
    return "\n".join([shown, *charts, tally.table(), prose(protocol)])


FOLLOWS = """What a thing is can be said at a coarse resolution, where it ends cannot: without skips the large classes
lose least, outlines and thin things most. The network without skips is no smaller than the one that adds them, so this
is not a matter of weights but of what reaches the decoder.

For a task whose output does not share its outlines with the input (a caption, a pose, an abstract map) skips promise
less. Where it does, as in segmentation, depth, restoration or translation, they are the cheapest improvement there is."""
