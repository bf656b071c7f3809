"""The laboratory: each file of `experiments/` asks one question of the field, measures the answer, and becomes a page."""

from __future__ import annotations

import html
import importlib
import inspect
import json
import re
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any, Literal, NamedTuple

import torch
from pydantic import Field

from pixelwise.config import Overridable, kinds
from pixelwise.errors import as_called
from pixelwise.page import document, prose
from pixelwise.page import table as html_table
from pixelwise.run import environment

PACKAGE = "pixelwise.experiments"
Verdict = Literal["holds", "holds in part", "does not hold"]
Say = Callable[[str], None]
MARKS: dict[str, str] = {"holds": "", "holds in part": " part", "does not hold": " not"}

PREFACE = """A convolutional network for pixels is an argument: what an answer at a pixel may depend on, how it gets back to
the size of the picture, what its loss asks of it. Lectures and papers make such arguments in a sentence each. Here every
sentence is an experiment of a few minutes on two processor cores, with a fixed seed, a claim stated beforehand, and the number
that was measured, whether it agrees or not.

Each section opens with the question and why it matters, shows one picture and the answer, and leads to a page with everything
else: what exactly was done, the other figures, what follows, the file to read and the command to run. Most files are
one or two hundred lines. Change a setting, and see what the claim is made of."""

CHAPTERS: dict[str, tuple[str, tuple[str, ...]]] = {
    "What a pixel sees, and what it costs": (
        """The class of a pixel depends on pixels far away: a grey patch is road, wall or sky by what surrounds it. So we first
ask how far a network looks, what it takes to keep so many maps in memory, and why a network is run over a picture once and
not once for each of its pixels.""",
        ("receptive-field", "receptive-field-pose", "memory", "gabor"),
    ),
    "Down, and up again": (
        """Looking far is cheap at a low resolution, so networks shrink their maps and enlarge them again. What is lost on the
way down, what the ways up invent, and how much comes back through a side door?""",
        ("upsampling", "skips", "bottleneck"),
    ),
    "From vectors to images": (
        """A network that says what is in a picture knows more than it says: slide it over the picture, without computing
anything twice, and it says where.""",
        ("vector-to-image",),
    ),
    "What to ask for": (
        """A loss is a question. Ask for a number where two answers are possible, and the best answer is wrong; ask for a
belief, and both are there.""",
        ("regression-vs-belief", "colour-l2-vs-classification", "perceptual"),
    ),
    "Two players": (
        """Where nobody can write down what makes a picture right, a second network can learn to tell, and the first to
please it. What does such a judge add to a loss on pixels, how much should it see at once, and what ties the answer to the
question if there are no pairs?""",
        ("gan-objectives", "patch-size", "cycle"),
    ),
}
"""The order in which the experiments tell their story: chapters with their opening words; others come at the end."""


class Repeated(Overridable):
    """Settings of an experiment that trains: every training is repeated with several seeds."""

    seed: int = Field(0, ge=0, description="seed of the first repetition")
    repeats: int = Field(2, ge=1, description="repetitions of every training, with seeds one after the other")

    @property
    def seeds(self) -> range:
        """The seeds of the repetitions."""
        return range(self.seed, self.seed + self.repeats)


class Tally(dict[str, dict[str, list[float]]]):
    """What was measured: by measure, then by what was tried, one value for each repetition."""

    def add(self, tried: str, measures: Mapping[str, float]) -> None:
        """Take in the measures of one repetition."""
        for measure, value in measures.items():
            self.setdefault(measure, {}).setdefault(tried, []).append(value)

    def table(self, digits: int = 3) -> str:
        """Return a row for everything tried, with the mean and range of each measure."""
        tried = next(iter(self.values()))
        rows = [[name, *[spread(of[name], digits) for of in self.values()]] for name in tried]
        return html_table([["", *self], *rows])


@dataclass(frozen=True)
class Finding:
    """What an experiment found.

    Attributes:
        verdict: Whether the claim holds.
        answer: The measured answer in a few sentences of plain text.
        body: The evidence: HTML made with `page`.
        data: The numbers behind it, ready for JSON.
    """

    verdict: Verdict
    answer: str
    body: str
    data: dict[str, Any]


class Experiment(NamedTuple):
    """A file of `experiments/`: its docstring (the question, then the story), and what it defines."""

    name: str
    question: str
    story: str
    claim: str
    settings: type[Overridable]
    run: Callable[[Any, Say], Finding]
    source: Path


def experiments() -> dict[str, Experiment]:
    """Return every experiment by its name on the command line, in the order of the chapters."""
    found = {kind.replace("_", "-"): kind for kind in kinds(PACKAGE)}
    told = [name for _, names in CHAPTERS.values() for name in names]
    order = sorted(found, key=lambda name: (told.index(name) if name in told else len(told), name))
    return {name: _experiment(name, importlib.import_module(f"{PACKAGE}.{found[name]}")) for name in order}


def _experiment(name: str, module: Any) -> Experiment:
    question, _, story = (inspect.getdoc(module) or "").partition("\n\n")
    return Experiment(name, question, story, module.CLAIM, module.Settings, module.run, Path(module.__file__))


def verdict(holding: Sequence[bool]) -> Verdict:
    """Return the verdict on a claim from whether each of its parts holds."""
    return "holds" if all(holding) else "holds in part" if any(holding) else "does not hold"


def spread(values: Sequence[float], digits: int = 3) -> str:
    """Return "mean (least to largest)" of a measure over seeds; the mean alone if there is one."""
    mean = f"{fmean(values):.{digits}f}"
    return mean if len(values) == 1 else f"{mean} ({min(values):.{digits}f} to {max(values):.{digits}f})"


def perform(name: str, pairs: Sequence[str], folder: Path, say: Say) -> dict[str, Any]:
    """Run an experiment, and write `<name>.html`, `<name>.json` and `index.html`.

    Args:
        name: As on the command line.
        pairs: Settings to change, `key=value`.
        folder: Where the pages are; made if it is not there.
        say: Told what is going on.

    Returns:
        The contents of `<name>.json`.

    Raises:
        PixelwiseError: A setting or data is wrong.
    """
    experiment = experiments()[name]
    settings = experiment.settings().override(pairs)
    say(f"{name}: {experiment.question}\nClaim: {experiment.claim}")
    began = time.perf_counter()
    with torch.random.fork_rng(devices=[]):
        finding = experiment.run(settings, say)
    record: dict[str, Any] = {
        "experiment": name,
        "question": experiment.question,
        "claim": experiment.claim,
        "verdict": finding.verdict,
        "answer": finding.answer,
        "settings": settings.model_dump(mode="json"),
        "data": finding.data,
        "seconds": round(time.perf_counter() - began, 1),
        "command": " ".join(["pixelwise lab", name, *pairs]),
        "environment": environment(),
    }
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{name}.json").write_text(json.dumps(record, indent=2) + "\n")
    (folder / f"{name}.html").write_text(page(experiment, record, finding.body))
    (folder / "index.html").write_text(index_page(folder))
    say(f"The claim {finding.verdict}. {finding.answer}\n({record['seconds']:.0f} s; {folder / name}.html)\n")
    return record


def page(experiment: Experiment, record: Mapping[str, Any], body: str) -> str:
    """Return the page of one experiment."""
    machine, name = record["environment"], experiment.name
    settings = [["setting", "value"], *[[key, json.dumps(value)] for key, value in record["settings"].items()]]
    return document(
        experiment.question,
        f"""<p class="note">The experiment <code>{name}</code> of the <a href="index.html">laboratory</a></p>
{prose(experiment.story)}
{_claim(record)}
{body}
<h2>Do it yourself</h2>
<pre>{html.escape(as_called(record["command"]))}</pre>
<p>It took {record["seconds"]:.0f} seconds on the CPU ({machine["threads"]} threads, {html.escape(machine["machine"])}, torch
{html.escape(machine["torch"])}). The code is <code>src/pixelwise/experiments/{experiment.source.name}</code>; the numbers
are in <a href="{name}.json">{name}.json</a>.</p>
<details><summary>the settings</summary>{html_table(settings)}</details>""",
    )


def _claim(record: Mapping[str, Any]) -> str:
    return f"""<div class="finding{MARKS[record["verdict"]]}"><p><b>Claim.</b> {html.escape(record["claim"])}</p>
<p><b>Measured: it {record["verdict"]}.</b> {html.escape(record["answer"])}</p></div>"""


def index_page(folder: Path) -> str:
    """Return the page that ties together the experiments, with what has been found in `folder` so far."""
    known = experiments()
    told = [name for _, names in CHAPTERS.values() for name in names]
    chapters = {**CHAPTERS, "Further experiments": ("", tuple(name for name in known if name not in told))}
    parts = [prose(PREFACE)]
    for title, (opening, names) in chapters.items():
        sections = [_section(known[name], folder) for name in names if name in known]
        if sections:
            parts += [f"<h2>{html.escape(title)}</h2>", prose(opening), *sections]
    return document("The laboratory", "\n".join(parts))


def _section(experiment: Experiment, folder: Path) -> str:
    """Return an experiment's part of the index: the question, why it matters, one picture and the answer."""
    name, why = experiment.name, prose(experiment.story.partition("\n\n")[0])
    record, command = folder / f"{name}.json", as_called(f"pixelwise lab {name}")
    if not record.exists():
        note = f'<p class="note">Claim: {html.escape(experiment.claim)} Not measured here yet: <code>{command}</code></p>'
        return f"<section><h3>{html.escape(experiment.question)}</h3>{why}{note}</section>"
    picture = re.search(r"<figure>.*?</figure>", (folder / f"{name}.html").read_text(), re.DOTALL)
    return f"""<section><h3><a href="{name}.html">{html.escape(experiment.question)}</a></h3>{why}
{picture[0] if picture else ""}
{_claim(json.loads(record.read_text()))}
<p class="note"><a href="{name}.html">The whole experiment</a>: <code>{command}</code></p></section>"""
