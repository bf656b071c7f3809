"""How much of a picture should a discriminator see at once?

A discriminator that judges single pixels can only ask for the right colours. One that judges the whole picture has far more
to learn, from as many pictures. In between, a verdict on every patch asks for texture and edges, and leaves what is far
apart to L1. Isola et al. (2017, table 2) find patches of 70 x 70 of 256 x 256 pixels to be the best, and those of 16 x 16 to
be nearly as good.

The same generator paints streets of the embedded world from label maps, with L1 and the conditional GAN, against PatchGANs of
0, 1, 2, 3 ... halvings, which see patches of 1, 16, 34, 70 ... pixels. At 64 x 64, 16 is a quarter of the side, 34 half, and 70
the whole picture; larger ones would see nothing more. Each has the same processor time. We measure the FCN-score by
a segmenter trained on the real pictures, how colourful the pictures are, and how far they are as a set from the real ones.
"""

from __future__ import annotations

from statistics import fmean

from pydantic import Field

from pixelwise import streets
from pixelwise.evaluation import REAL, each
from pixelwise.laboratory import Finding, Say, Tally, spread, verdict
from pixelwise.model import Model
from pixelwise.nn.networks import patchgan
from pixelwise.nn.receptive_field import receptive_field
from pixelwise.page import bar_chart, captioned, prose, section
from pixelwise.streets import COLOUR, IOU, KID, PIXEL
from pixelwise.trial import side_by_side

CLAIM = (
    "Patches of a part of the picture are best by the FCN-score: single pixels and the whole picture are both worse. Even "
    "single pixels bring more colour than L1 alone."
)
ALONE = "L1 alone"


class Settings(streets.Settings):
    """Settings of the experiment."""

    layers: tuple[int, ...] = Field((0, 1, 2, 3), description="halvings of each discriminator, at most 6")


def run(settings: Settings, say: Say) -> Finding:
    """Train L1 alone and against every discriminator, measure, and show the pictures of the first seed."""
    ground, found, shown = streets.streets(settings, say), Tally(), dict[str, Model]()
    found.add(REAL, ground.measured(each(ground.data.task.truth)))
    arms = {ALONE: ["task.objective=l1"]}
    arms |= {f"patches of {patch(layers)}": [f"task.discriminator.layers={layers}"] for layers in settings.layers}
    for name, pairs in arms.items():
        for seed in settings.seeds:
            model, steps = ground.painter(pairs, seed)
            found.add(name, ground.measured(model.predict))
            shown.setdefault(name, model)
            told = ", ".join(f"{measure} {of[name][-1]:.3f}" for measure, of in found.items())
            say(f"  {name}, seed {seed}: {told} ({steps} steps)")
    return report(settings, found, side_by_side(shown, ground.data, 4))


def patch(layers: int) -> int:
    """Return how many pixels a verdict of the discriminator sees across, as our analysis finds."""
    return receptive_field(patchgan.Config(width=1, layers=layers).build(1), 1)[0]


def report(settings: Settings, found: Tally, drawn: str) -> Finding:
    """Write down what was found."""
    means = {measure: {name: fmean(values) for name, values in of.items()} for measure, of in found.items()}
    patches = {f"patches of {patch(layers)}": patch(layers) for layers in settings.layers}
    inside = [name for name, side in patches.items() if 1 < side < settings.size]
    outside = [name for name in patches if name not in inside]
    holding = [
        max(means[measure][name] for name in inside) > max(means[measure][name] for name in outside)
        for measure in (PIXEL, IOU)
        if inside and outside
    ]
    if patches:
        least = min(patches, key=lambda name: patches[name])
        holding.append(means[COLOUR][least] > means[COLOUR][ALONE])
    answer = " ".join(
        f"{name}: {PIXEL} {spread(found[PIXEL][name], 2)}, {IOU} {spread(found[IOU][name], 2)}, {COLOUR} "
        f"{spread(found[COLOUR][name], 1)}, KID {spread(found[KID][name], 2)}."
        for name in (ALONE, *patches, REAL)
    )
    body = [
        captioned(drawn, "Unseen scenes: the label map, the true picture, and the answer of the first seed of each."),
        *[captioned(bar_chart(measure, found[measure]), CAPTIONS[measure]) for measure in (PIXEL, IOU, COLOUR)],
        section("The numbers", found.table(), prose(NUMBERS.format(settings.repeats, settings.minutes))),
        section("What follows", prose(FOLLOWS)),
    ]
    return Finding(verdict(holding), answer, "\n".join(body), dict(found))


CAPTIONS = {
    PIXEL: "Share of the pixels in which the segmenter sees the class that was to be painted.",
    IOU: "Mean intersection over union of the classes, in which small ones count as much as large ones.",
    COLOUR: "Hasler and Suesstrunk 2003. Near that of the real pictures is better, not more.",
}

NUMBERS = f"""Mean (least to largest) over {{}} seed(s); {{:g}} minutes of processor time for each training. {KID}: the
kernel distance over all pictures of the validation split. It has no bias: of two draws of the same kind of pictures 0 is
expected, and it may be below."""

FOLLOWS = """The paper's table 2, at 256 x 256: 1 x 1 0.39 per pixel and 0.10 class IoU, 16 x 16 0.65 and 0.17, 70 x 70 0.66 and
0.17, the whole picture 0.42 and 0.11. A patch is large or small by what it shows: 16 pixels of 64 hold about what 70
of 256 do. Whichever wins here, do not take the number over, but the share of the picture.

In a recipe: `task.discriminator.layers=2`; `pixelwise analyse patchgan layers=2` says what it sees."""
