"""What does the way back do for translation without pairs?

A discriminator alone asks that the answer look like a picture of the other side. Any such picture will do: nothing ties the
night to the day it was made from. CycleGAN (Zhu, Park, Isola and Efros 2017) lets a second network go back, and asks that the
picture come out again; then the first has to leave what the second needs. A third term, the identity loss, asks that a
picture of the other side be left as it is, so that colours stay where they may.

The streets of the embedded world by day are translated into streets of another such world by night. No pair is
ever shown, but the world knows the night of every street, so that we can measure how near the answer is to it: a thing that
real unpaired data never tells. The same networks are trained for the same processor time with the discriminators only, with
the cycle, and with cycle and identity. Beside L1 and PSNR against the hidden truth we measure how far the way there and
back is from where it began, and how far the nights are, as a set, from true nights of other streets.
"""

from __future__ import annotations

from statistics import fmean

import torch
from pydantic import Field

from pixelwise.data.sample import collate
from pixelwise.evaluation import Predict, each, measure
from pixelwise.laboratory import Finding, Repeated, Say, Tally, spread, verdict
from pixelwise.model import Model
from pixelwise.page import bar_chart, captioned, prose, section, table
from pixelwise.recipe import Recipe, find_recipe
from pixelwise.run import Data
from pixelwise.trial import side_by_side, train

CLAIM = (
    "With the cycle the answers are nearer to the hidden truth than with discriminators alone, and the way back finds the "
    "picture again; the identity loss brings them nearer still. Each beats the picture with its colours moved by statistics."
)
ARMS = {
    "GAN only": ["task.cycle_weight=0"],
    "with cycle": ["task.identity=0"],
    "with cycle and identity": [],
}
L1, PSNR, KID, BACK = "L1", "PSNR, dB", "KID of random features", "L1 of there and back"
NAMES = {L1: "l1", PSNR: "psnr_rgb", KID: "kid_random"}
PLAIN = {"unchanged": "identity", "colour statistics": "colour_statistics"}


class Settings(Repeated):
    """Settings of the experiment."""

    repeats: int = Field(1, ge=1, description="repetitions of every training, with seeds one after the other")
    scenes: int = Field(384, ge=8, description="training scenes of each side; a quarter as many are measured on")
    size: int = Field(64, ge=32, description="height and width of the scenes")
    width: int = Field(24, ge=4, description="channels of the generators at full resolution")
    source: str = Field("image", description="field of the embedded world that is translated, such as image or aerial")
    target: str = Field("night", description="field of another embedded world that it becomes, such as night or map")
    minutes: float = Field(5.0, gt=0, description="processor time of each training")


def recipe_of(settings: Settings) -> Recipe:
    """Return the recipe that every training varies."""
    sides = [f"data.{side}.{key}" for side in ("a", "b") for key in (f"scenes={settings.scenes}", f"size={settings.size}")]
    sides = [f"{pair}x{settings.size}" if ".size=" in pair else pair for pair in sides]
    fields = [f"data.a_field={settings.source}", f"data.b_field={settings.target}", f"data.truth={settings.target}"]
    size = f"{settings.size}x{settings.size}"
    return find_recipe("world_day2night").override([*sides, *fields, f"view.size={size}", f"network.width={settings.width}"])


def run(settings: Settings, say: Say) -> Finding:
    """Train every arm with every seed, measure, and show the pictures of the first seed."""
    recipe = recipe_of(settings)
    data, found, shown = Data.of(recipe), Tally(), dict[str, Model]()
    for i in range(len(data.train)):  # rendered once: else the first training would pay for all
        data.train.sample(i, ("a", "b"))
    baselines = data.task.baselines(data.train)
    for name, key in PLAIN.items():
        found.add(name, judged(data, each(baselines[key])))
    for name, pairs in ARMS.items():
        for seed in settings.seeds:
            own = recipe.override([*pairs, f"seed={seed}"])
            place = Data(data.train, data.val, own.task.build(data.train.meta))
            model, descent = train(own, place, settings.minutes)
            found.add(name, judged(data, model.predict) | {BACK: there_and_back(model, data)})
            shown.setdefault(name, model)
            told = ", ".join(f"{measure} {of[name][-1]:.3f}" for measure, of in found.items())
            say(f"  {name}, seed {seed}: {told} ({len(descent.losses)} steps)")
    return report(settings, found, side_by_side(shown, data, 5))


def judged(data: Data, predict: Predict) -> dict[str, float]:
    """Return the distance from the hidden truth, and from the other side as a set, over the validation split."""
    found = measure(data.task, data.val, {"it": predict})["it"]
    return {name: found[key] for name, key in NAMES.items()}


@torch.inference_mode()
def there_and_back(model: Model, data: Data) -> float:
    """Return the mean absolute difference, in [0, 1], of the pictures from what comes back of them."""
    networks, apart = model.networks, []
    for i in range(len(data.val)):
        picture = model.task.encode(collate([data.val.sample(i, ("a",))]))["a"]
        back = networks["b_to_a"](networks["a_to_b"](picture))
        apart.append(float((back - picture).abs().mean()) / 2)
    return fmean(apart)


def report(settings: Settings, found: Tally, drawn: str) -> Finding:
    """Write down what was found."""
    error = {name: fmean(values) for name, values in found[L1].items()}
    back = {name: fmean(values) for name, values in found[BACK].items()}
    alone, cycle, both = ARMS
    holding = [error[cycle] < error[alone], back[cycle] < back[alone], error[both] < error[cycle]]
    holding.append(max(error[cycle], error[both]) < error["colour statistics"])
    answer = " ".join(
        f"{name}: {', '.join(f'{measure} {spread(of[name])}' for measure, of in found.items() if name in of)}."
        for name in error
    )
    body = [
        captioned(drawn, "Unseen scenes: the picture, the hidden truth, and the answers of the first seed."),
        *[captioned(bar_chart(measure, found[measure]), CAPTIONS[measure]) for measure in (L1, BACK)],
        section("The numbers", prose(NUMBERS.format(settings.repeats, settings.minutes)), table_of(found)),
        section("What follows", prose(FOLLOWS)),
    ]
    return Finding(verdict(holding), answer, "\n".join(body), dict(found))


def table_of(found: Tally) -> str:
    """Return all measures; what was not trained goes no way back."""
    back = {name: found[BACK].get(name, []) for name in found[L1]}
    rows = [[name, *(spread(found[m][name]) for m in NAMES), spread(back[name]) if back[name] else "-"] for name in found[L1]]
    return table([["", *NAMES, BACK], *rows])


CAPTIONS = {
    L1: "Mean absolute difference from the hidden truth. Less is better.",
    BACK: "Mean absolute difference of the picture from what comes back of it. Less is better, and the cycle trains for it.",
}

NUMBERS = f"""Mean (least to largest) over {{}} seed(s); {{:g}} minutes of processor time for each training. {KID}: the kernel
distance from true pictures of other scenes, about 0 for the same kind, perhaps below. A step with the cycle takes
longer, so there are fewer."""

FOLLOWS = """The way back is no proof that the answer is right: two networks can agree on a code and hide the picture in it.
It only makes it dear to throw things away. Where pairs are at hand, use them: then L1 against the truth can be trained for.

Another question is `source=aerial target=map`. In a recipe: `task.cycle_weight=0`, `task.identity=0`."""
