"""How far must a network see to find a joint?

An elbow is a bent piece of cloth. What makes it an elbow, and the left one, is a shoulder above it and a hand not far away,
so a network that sees only the cloth can but guess. Wei et al. (2016) plot the accuracy of their pose machine over its
receptive field: it grows until the field covers the person, and then it stays.

We train small pose machines whose answers see from a patch up to the whole picture. In one series the convolutions on the
beliefs look further and further apart, so that all networks have the same weights and the same cost, and differ in nothing
but their field. In the other their kernels grow, as in the paper, and the network is made narrower until it has as many
weights again. Each is trained in equal steps from several seeds, on persons of the embedded world, and on people in
photographs where there is a folder of them. Fields are followed exactly; what each network uses of its field is measured
by gradients, after training.
"""

from __future__ import annotations

from collections.abc import Iterator
from statistics import fmean, median
from typing import NamedTuple

import torch
from pydantic import Field

from pixelwise.data.augment import View
from pixelwise.data.sample import Keypoints
from pixelwise.geometry.presence import Presence
from pixelwise.laboratory import Finding, Repeated, Say, Tally, spread, verdict
from pixelwise.metrics.keypoints import box_side
from pixelwise.model import Model
from pixelwise.nn.cost import Cost, cost
from pixelwise.nn.effective_receptive_field import influence_on, width
from pixelwise.nn.networks import cpm
from pixelwise.nn.receptive_field import receptive_field
from pixelwise.page import captioned, line_chart, prose, section, table
from pixelwise.recipe import Recipe, find_recipe
from pixelwise.run import Data
from pixelwise.task import image_of, unit
from pixelwise.trial import metrics, side_by_side, train

CLAIM = (
    "Of networks of equal size, those that see further find more of a person's joints, until from every joint they see the "
    "whole person, which takes a field twice as large; what they see beyond that hardly matters."
)
PCK, ERROR, USED = "pck@0.1_bbox", "median_error_px", "pixels across that it uses"
APART, LARGER = "look further apart", "have larger kernels"
PROBED = 8
"""Pictures over which gradients are averaged."""


class Settings(Repeated):
    """Settings of the experiment."""

    scenes: int = Field(512, ge=8, description="training scenes of the embedded world; a quarter as many are measured on")
    size: int = Field(64, ge=32, description="height and width of what the networks see")
    width: int = Field(24, ge=4, multiple_of=4, description="channels of the networks that look further apart")
    dilations: tuple[int, ...] = Field((1, 2, 4, 8), description="how far apart the convolutions on beliefs look")
    kernels: tuple[int, ...] = Field((1, 5, 7), description="sides of the convolutions on beliefs, each odd")
    steps: int = Field(200, ge=1, description="training steps of each network, of 16 pictures")
    lspet: str = Field("", description="folder of people with keypoints.json, such as lspet; none: only the world is measured")
    lspet_steps: int = Field(400, ge=1, description="training steps of each network on these people")


class Form(NamedTuple):
    """One of the networks that are compared, as it sees and costs."""

    series: str
    name: str
    config: cpm.Config
    field: int
    cost: Cost


class Ground(NamedTuple):
    """What the networks are compared on."""

    name: str
    recipe: Recipe
    data: Data
    person: float
    """The longer side of a person's box, in the pixels the networks see; the median."""


def forms(settings: Settings) -> Iterator[Form]:
    """Yield the networks of both series, each by its field."""
    plain = cpm.Config(width=settings.width, stages=2, kernel=3, stage_kernel=3, norm="batch", output_stride=2)
    for dilation in settings.dilations:
        config = plain.model_copy(update={"stage_dilation": dilation})
        yield _form(APART, f"3x3, {dilation} apart", config, settings.size)
    for kernel in settings.kernels:
        config = as_large(plain.model_copy(update={"stage_kernel": kernel}), weights(plain))
        yield _form(LARGER, f"{kernel}x{kernel}, width {config.width}", config, settings.size)


def _form(series: str, name: str, config: cpm.Config, size: int) -> Form:
    network = config.build(3, 1)
    return Form(series, name, config, receptive_field(network, 3)[0], cost(network, 3, (size, size)))


def weights(config: cpm.Config) -> int:
    """Return how many weights a network has that answers with one sheet."""
    with torch.device("meta"):
        return sum(parameter.numel() for parameter in config.build(3, 1).parameters())


def as_large(config: cpm.Config, wanted: int) -> cpm.Config:
    """Return the network at the width at which it has most nearly as many weights as `wanted`."""
    widths = [config.model_copy(update={"width": channels}) for channels in range(4, 4 * config.width + 1, 4)]
    return min(widths, key=lambda one: abs(weights(one) - wanted))


def grounds(settings: Settings) -> Iterator[Ground]:
    """Yield the embedded world, and the people in photographs if there is a folder of them."""
    size = f"{settings.size}x{settings.size}"
    pairs = [f"data.scenes={settings.scenes}", f"view.size={size}", f"steps={settings.steps}"]
    yield _ground("the embedded world", find_recipe("world_keypoints").override(pairs))
    if settings.lspet:
        pairs = [f"data.root={settings.lspet}", f"view.size={size}", f"steps={settings.lspet_steps}", "task.sigma=2"]
        yield _ground("people in photographs", find_recipe("keypoints").override([*pairs, "batch_size=16"]))


def _ground(name: str, recipe: Recipe) -> Ground:
    data = Data.of(recipe)
    sides = [_side(data, i, recipe.view) for i in range(min(100, len(data.val)))]
    return Ground(name, recipe, data, median(sides))


def _side(data: Data, i: int, view: View) -> float:
    """Return the longer side of the box around a person's points, in the pixels the network sees."""
    field = view.fitted(data.val.sample(i, data.task.fields))[data.task.fields[1]]
    assert isinstance(field, Keypoints)
    present = (field.presence >= Presence.HIDDEN)[..., None]
    return float(box_side(field.points.masked_fill(~present, torch.nan))[0])


def run(settings: Settings, say: Say) -> Finding:
    """Train every network on each ground."""
    tried = [*forms(settings)]
    answers, parts, data, holding = [], [], {}, []
    for ground in grounds(settings):
        say(f"  on {ground.name}, persons of {ground.person:.0f} pixels:")
        tally, models = compared(tried, ground, settings, say)
        said, holds = judged(tried, ground, tally)
        answers.append(said)
        holding += holds
        parts.append(section(f"On {ground.name}", evidence(tried, ground, tally, models)))
        data[ground.name] = {"person": ground.person, **tally}
    data["networks"] = {form.name: [form.field, form.cost.parameters, form.cost.multiply_accumulates] for form in tried}
    parts = [*parts, section("The networks", costs(tried)), section("What follows", prose(FOLLOWS))]
    return Finding(verdict(holding), " ".join(answers), "\n".join(parts), data)


def compared(tried: list[Form], ground: Ground, settings: Settings, say: Say) -> tuple[Tally, dict[str, Model]]:
    """Train each network with each seed; return the measures, and the first model of each."""
    tally = Tally()
    models: dict[str, Model] = {}
    for form in tried:
        for seed in settings.seeds:
            recipe = ground.recipe.model_copy(update={"network": form.config, "seed": seed})
            model, descent = train(recipe, ground.data)
            models.setdefault(form.name, model)
            found = metrics(model, ground.data)
            measures = {PCK: found[PCK], ERROR: found[ERROR], USED: used(model, ground.data)}
            tally.add(form.name, measures)
            numbers = ", ".join(f"{name} {value:.3f}" for name, value in measures.items())
            say(f"  {form.name}, sees {form.field}, seed {seed}: {numbers} ({descent.seconds:.0f} s)")
    return tally, models


def used(model: Model, data: Data) -> float:
    """Return the width of the effective receptive field on unseen pictures (Luo et al. 2016)."""
    samples = [data.val.sample(i, ("image",)) for i in range(min(PROBED, len(data.val)))]
    images = torch.stack([unit(image_of(model.description.view.fitted(sample))) for sample in samples])
    return width(influence_on(model.networks["network"], images))


def judged(tried: list[Form], ground: Ground, tally: Tally) -> tuple[str, list[bool]]:
    """Return what was found on one ground, and which parts of the claim hold there."""
    said, holding = [], []
    for series in (APART, LARGER):
        own = sorted((form for form in tried if form.series == series), key=lambda form: form.field)
        found = {form.field: tally[PCK][form.name] for form in own}
        narrowest, widest = own[0].field, own[-1].field
        holding.append(min(found[widest]) > max(found[narrowest]))
        values = ", ".join(f"{spread(values)} with {field} pixels" for field, values in found.items())
        said.append(f"networks that {series} find {values}")
        covering = next((field for field in found if field >= 2 * ground.person), None)
        if series == APART and covering is not None:
            rise, beyond = (fmean(found[b]) - fmean(found[a]) for a, b in ((narrowest, covering), (covering, widest)))
            holding.append(rise > 0 and beyond < rise / 2)
    return f"On {ground.name}, whose persons are {ground.person:.0f} pixels large: {'; '.join(said)} ({PCK}).", holding


def evidence(tried: list[Form], ground: Ground, tally: Tally, models: dict[str, Model]) -> str:
    """Return the curves, pictures and numbers of one ground."""
    seen: dict[str, list[tuple[float, float]]] = {APART: [], LARGER: []}
    listened: dict[str, list[tuple[float, float]]] = {APART: [], LARGER: []}
    for form in tried:
        accuracy = fmean(tally[PCK][form.name])
        seen[form.series].append((form.field, accuracy))
        listened[form.series].append((fmean(tally[USED][form.name]), accuracy))
    where, ordered = f"on {ground.name}", sorted((form.field, form.name) for form in tried if form.series == APART)
    shown = {f"sees {field}": models[name] for field, name in (ordered[0], ordered[-1])}
    across = {name: sorted(line) for name, line in listened.items()}
    return "\n".join(
        [
            captioned(line_chart(f"{PCK} {where}", seen, "pixels across that an answer can see"), CAN),
            captioned(side_by_side(shown, ground.data, 4), "Unseen pictures: the narrowest and the widest field."),
            captioned(line_chart(f"{PCK} by what is used {where}", across, USED), USES),
            tally.table(),
            prose(PROTOCOL.format(ground.recipe.steps, ground.recipe.batch_size, len(ground.data.val))),
        ]
    )


def costs(tried: list[Form]) -> str:
    """Return what each network sees and costs."""
    rows = [["pose machine of two stages", "sees, pixels", "weights", "multiply-accumulates per picture"]]
    for form in tried:
        rows.append([form.name, f"{form.field}", f"{form.cost.parameters:,}", f"{form.cost.multiply_accumulates:,}"])
    return table(rows)


CAN = """The share of joints found within a tenth of the longer side of the person's box, over the exact receptive field; the
mean of all seeds."""

USES = """The same over the field that is used: the side of a square of as many pixels as have more than 4.55 % of the
largest influence on an answer in the middle, by the gradients of the trained network."""

PROTOCOL = """{} steps each, of {} pictures; measured on {} unseen ones. Mean of the seeds, and in brackets the least and the
largest."""

FOLLOWS = """Before the layers of a network for poses are counted, its field should be: against the size of the person in
the pictures that it will be given. `pixelwise analyse cpm` says how far a network sees; the published pose machine sees
160 pixels after its first stage, 400 after the second and 240 more with each that follows.

Looking further apart costs nothing, but it looks through a grid, and cells between the points are not seen by a single
layer: far enough apart it finds less again. Large kernels see everything and are paid for by the width of the network.
Halving the maps does both, at the price of exact places. What follows for small pictures is the same as for large ones: it is
the ratio to the person that counts."""
