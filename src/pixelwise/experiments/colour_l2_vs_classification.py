"""Which colour does a network give to what may have several?

A grey car was red, blue or white, and nothing in the picture says which. The squared error of a and b, the two numbers of
a colour without its lightness, is smallest at their mean over all cars, and that is nearly grey. Asked for a belief over
313 colours instead, a network can keep all of them, and how to choose is decided afterwards (Zhang, Isola and Efros 2016).

The same network is trained on the same pictures for the same number of steps with each question: ab by the squared error;
its class; and its class where rare colours count more, because sky, walls and roads outnumber everything that is
colourful. Both beliefs answer by the annealed mean at T = 0.38. We measure how colourful the answers are, beside the
truth, and what that costs in decibels and in the distance of ab. Then the temperature is moved from the mean (T = 1) to the
likeliest colour. The streets of the embedded world are painted at random; where a folder of photographs is given, they are
measured too.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from statistics import fmean
from typing import NamedTuple

from pydantic import Field

from pixelwise.evaluation import measure
from pixelwise.laboratory import Finding, Repeated, Say, Tally, spread, verdict
from pixelwise.model import Model
from pixelwise.page import bar_chart, captioned, line_chart, prose, section
from pixelwise.recipe import find_recipe
from pixelwise.run import Data
from pixelwise.trial import side_by_side, train

CLAIM = (
    "Regression of the colour by the squared error answers a mean that is nearly grey; classification decides for a colour; "
    "rebalancing brings the colourfulness nearer to that of the truth, and pays for it in decibels."
)
REPRESENTATIONS = {"L2": "l2", "classification": "classification", "rebalanced": "rebalanced"}
TRUTH, COLOURFUL, PSNR = "truth", "colourfulness", "psnr_rgb"
MEASURES = (COLOURFUL, PSNR, "auc_raw", "auc_rebalanced")


class Settings(Repeated):
    """Settings of the experiment."""

    scenes: int = Field(512, ge=8, description="scenes of the embedded world to train on")
    size: int = Field(64, ge=32, multiple_of=16, description="height and width of the scenes")
    width: int = Field(16, ge=2, description="channels of the first level of the U-Net")
    steps: int = Field(400, ge=1, description="training steps of each network")
    temperatures: tuple[float, ...] = Field((1.0, 0.6, 0.38, 0.2, 0.1), description="of the annealed mean, from the mean on")
    root: str = Field(
        "", description="folder of photographs as the recipe photographs_colorization wants them; none: not measured"
    )
    photograph_steps: int = Field(600, ge=1, description="training steps of each network on photographs")


class Place(NamedTuple):
    """Pictures to colour."""

    title: str
    recipe: str
    pairs: tuple[str, ...]


class Measured(NamedTuple):
    """What was measured on one kind of pictures."""

    title: str
    tally: Tally
    annealed: list[tuple[float, float]]
    """Temperature and colourfulness of the first rebalanced network."""
    pictures: str


def run(settings: Settings, say: Say) -> Finding:
    """Train every representation on every kind of pictures."""
    return report([coloured(place, settings, say) for place in places(settings)], settings)


def places(settings: Settings) -> list[Place]:
    """Return what there is to colour."""
    size = f"{settings.size}x{settings.size}"
    pairs = (f"data.scenes={settings.scenes}", f"data.size={size}", f"view.size={size}", f"steps={settings.steps}")
    found = [Place("The embedded world", "world_colorization", (*pairs, f"network.width={settings.width}"))]
    if settings.root:
        own = (f"data.root={settings.root}", f"steps={settings.photograph_steps}")
        found.append(Place("Photographs", "photographs_colorization", own))
    return found


def coloured(place: Place, settings: Settings, say: Say) -> Measured:
    """Train and measure every representation, and the temperatures of the first rebalanced one."""
    recipe = find_recipe(place.recipe).override(place.pairs)
    data = Data.of(recipe)
    base = data.settled(recipe)
    tally, models = Tally(), dict[str, Model]()
    for seed in settings.seeds:
        for name, representation in REPRESENTATIONS.items():
            own = base.override([f"task.representation={representation}", f"seed={seed}"])
            model, _ = train(own, replace(data, task=own.task.build(data.train.meta)))
            found = told(model, data)
            tally.add(name, {key: found[key] for key in MEASURES})
            models.setdefault(name, model)
            say(f"  {place.title}, seed {seed}, {name}: colourfulness {found[COLOURFUL]:.1f}, {found[PSNR]:.2f} dB")
    truth = data.task.truth
    found = measure(data.task, data.val, {TRUTH: lambda samples: [truth(sample) for sample in samples]})[TRUTH]
    tally[COLOURFUL][TRUTH] = [found[COLOURFUL]]
    annealed = [(t, at_temperature(models["rebalanced"], t, data)) for t in sorted(settings.temperatures)]
    return Measured(place.title, tally, annealed, side_by_side(models, data, 4))


def told(model: Model, data: Data) -> dict[str, float]:
    """Return the metrics of a model on the validation split."""
    found: dict[str, float] = measure(model.task, data.val, {"ours": model.predict})["ours"]
    return found


def at_temperature(model: Model, temperature: float, data: Data) -> float:
    """Return how colourful a belief's answers are at another temperature of the annealed mean."""
    other = Model(model.description, model.task, dict(model.networks.items()))
    other.answer_with([f"task.temperature={temperature}"])
    return told(other, data)[COLOURFUL]


def report(measured: Sequence[Measured], settings: Settings) -> Finding:
    """Write down what was found."""
    holding, answers, parts = list[bool](), list[str](), list[str]()
    for one in measured:
        means = {name: fmean(values) for name, values in one.tally[COLOURFUL].items()}
        l2, plain, rebalanced = (means[name] for name in REPRESENTATIONS)
        decibels = {name: fmean(values) for name, values in one.tally[PSNR].items()}
        holding += [l2 < means[TRUTH] / 2, l2 < plain, abs(rebalanced - means[TRUTH]) < abs(plain - means[TRUTH])]
        holding += [decibels["rebalanced"] < decibels["L2"]]
        answers.append(
            f"{one.title}: the truth has a colourfulness of {means[TRUTH]:.1f}; L2 {spread(one.tally[COLOURFUL]['L2'], 1)}, "
            f"classification {spread(one.tally[COLOURFUL]['classification'], 1)}, rebalanced "
            f"{spread(one.tally[COLOURFUL]['rebalanced'], 1)}. In decibels: L2 {decibels['L2']:.2f}, classification "
            f"{decibels['classification']:.2f}, rebalanced {decibels['rebalanced']:.2f}."
        )
        parts += on(one, settings)
    parts.append(section("What follows", prose(FOLLOWS)))
    data = {one.title: {"measures": one.tally, "annealed": one.annealed} for one in measured}
    return Finding(verdict(holding), " ".join(answers), "\n".join(parts), data)


def on(one: Measured, settings: Settings) -> list[str]:
    """Return what the page says of one kind of pictures."""
    bars = bar_chart(f"colourfulness, {one.title.lower()}", one.tally[COLOURFUL])
    line = line_chart(f"colourfulness by temperature, {one.title.lower()}", {"rebalanced": one.annealed}, "T")
    table = Tally({measure: {n: one.tally[measure][n] for n in REPRESENTATIONS} for measure in MEASURES}).table(3)
    return [
        captioned(bars, f"Mean over unseen pictures (Hasler and Suesstrunk 2003); a dot for each of {settings.repeats} seeds."),
        captioned(one.pictures, "What the network sees, the truth, and the answers of the first seed."),
        section(one.title, table, captioned(line, "One rebalanced network, answering at several temperatures.")),
    ]


FOLLOWS = """The numbers that are easy to compute, decibels and the distance of ab, prefer the answer that never commits:
grey. No one of them alone says whether a picture could be true. Look at the pictures, and at two figures that pull apart.

A network that believes need not be trained again to be bolder: the temperature moves its answers from the mean of what may
be to the likeliest, after training. What it cannot do is agree with itself: every pixel chooses on its own, so one thing
may get two colours.

Rebalancing is a matter of how the prior is counted, nothing else. It repairs what a loss that averages over pixels does to
everything small and colourful."""
