"""What does each part of the pix2pix objective buy?

A pixel loss cannot ask for a picture that looks real, because it only knows one right answer; a discriminator can, but one
that sees only the answer never asks whether it belongs to the question. Isola et al. (2017) compare L1 alone, a GAN that
sees the answer alone (equation 2), one that sees question and answer (the conditional GAN of equation 1), and L1 with
either. Their table 1 ranks them on Cityscapes by the FCN-score: how much of the label map a segmenter finds again in the
picture that was painted from it.

We paint streets of the embedded world from their label maps. Each objective has the same processor time, generator, seeds
and pictures, so that the ones without a discriminator take more steps. The segmenter is trained before, on the real
pictures of the training scenes; its score on the real pictures of the other scenes stands beside the others. We also measure
L1, how colourful the pictures are, and how far they are as a set from the real ones.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import fmean

from pixelwise import streets
from pixelwise.evaluation import REAL, each
from pixelwise.laboratory import Finding, Say, Tally, spread, verdict
from pixelwise.model import Model
from pixelwise.page import bar_chart, captioned, prose, section, table
from pixelwise.streets import CLASS, COLOUR, IOU, KID, L1, PIXEL
from pixelwise.trial import side_by_side

CLAIM = (
    "The objectives rank as in the paper's table 1, by per-pixel accuracy GAN < L1 < cGAN < L1+GAN < L1+cGAN and by class "
    "IoU GAN < L1 < L1+GAN < cGAN < L1+cGAN: the condition is worth most, and both losses together are best."
)
OBJECTIVES = {"L1": "l1", "GAN": "gan", "cGAN": "cgan", "L1+GAN": "l1+gan", "L1+cGAN": "l1+cgan"}
PAPER = {
    "L1": (0.42, 0.15, 0.11),
    "GAN": (0.22, 0.05, 0.01),
    "cGAN": (0.57, 0.22, 0.16),
    "L1+GAN": (0.64, 0.20, 0.15),
    "L1+cGAN": (0.66, 0.23, 0.17),
    REAL: (0.80, 0.26, 0.21),
}
"""Table 1 of Isola et al. 2017, Cityscapes labels to photographs: per-pixel accuracy, per-class accuracy, class IoU."""


class Settings(streets.Settings):
    """Settings of the experiment."""


def run(settings: Settings, say: Say) -> Finding:
    """Train with every objective and seed, measure, and show the pictures of the first seed."""
    ground, found, shown = streets.streets(settings, say), Tally(), dict[str, Model]()
    found.add(REAL, ground.measured(each(ground.data.task.truth)))
    say(f"  {REAL}: {told(found, REAL)}")
    for name, objective in OBJECTIVES.items():
        for seed in settings.seeds:
            model, steps = ground.painter([f"task.objective={objective}"], seed)
            found.add(name, ground.measured(model.predict))
            shown.setdefault(name, model)
            say(f"  {name}, seed {seed}: {told(found, name)} ({steps} steps)")
    return report(settings, found, side_by_side(shown, ground.data, 4))


def told(found: Tally, name: str) -> str:
    """Return the newest measures in a line."""
    return ", ".join(f"{measure} {of[name][-1]:.3f}" for measure, of in found.items())


def order(values: Mapping[str, float]) -> list[str]:
    """Return the objectives from the worst to the best."""
    return sorted(OBJECTIVES, key=lambda name: values[name])


def report(settings: Settings, found: Tally, drawn: str) -> Finding:
    """Write down what was found, and whether the paper's order was."""
    holding, answers = [], []
    for column, measure in enumerate((PIXEL, CLASS, IOU)):
        ours = order({name: fmean(found[measure][name]) for name in OBJECTIVES})
        theirs = order({name: PAPER[name][column] for name in OBJECTIVES})
        same = ours == theirs
        holding.append(same)
        values = ", ".join(f"{name} {spread(found[measure][name], 2)}" for name in (*ours, REAL))
        said = "the paper's order" if same else f"not the paper's order, {' < '.join(theirs)}"
        answers.append(f"By {measure}: {values}: {said}.")
    body = [
        captioned(drawn, "Unseen scenes: the label map, the true picture, and the answer of the first seed of each objective."),
        *[captioned(bar_chart(measure, found[measure]), CAPTIONS[measure]) for measure in (PIXEL, IOU, L1, COLOUR)],
        section("The numbers", found.table(), prose(NUMBERS.format(settings.repeats, settings.minutes))),
        section("The paper's", table(paper()), prose(THEIRS)),
        section("What follows", prose(FOLLOWS)),
    ]
    return Finding(verdict(holding), " ".join(answers), "\n".join(body), dict(found))


def paper() -> Sequence[Sequence[str]]:
    """Return the paper's table."""
    return [["", PIXEL, CLASS, IOU], *[[name, *(f"{value:.2f}" for value in row)] for name, row in PAPER.items()]]


CAPTIONS = {
    PIXEL: "Share of the pixels in which the segmenter sees the class that was to be painted.",
    IOU: "Mean intersection over union of the classes, in which small ones count as much as large ones.",
    L1: "Mean absolute difference from the one true picture, which L1 is trained for. Less is better.",
    COLOUR: "Hasler and Suesstrunk 2003. Near that of the real pictures is better, not more.",
}

NUMBERS = f"""Mean (least to largest) over {{}} seed(s); {{:g}} minutes of processor time for each training. {KID}: the
kernel distance over all pictures of the validation split. It has no bias: of two draws of the same kind of pictures 0 is
expected, and it may be below."""

THEIRS = """Cityscapes, 256 x 256, 200 epochs on a GPU, an FCN-8s as the segmenter, 19 classes: other pictures and another
length than here. Only the order can be compared."""

FOLLOWS = """The FCN-score asks whether a picture shows what it should, as a network sees it, not whether it looks real: flat
colours that never vary may be read more easily than true streets. So look at the pictures and at the distance of the sets as
well. A discriminator that does not see the question is content with any street; the L1 term is then all that ties the
answer to its label map.

The order depends on the time: L1 is there after seconds, the discriminators are not. Try `minutes=10`."""
