"""Several answers for every pixel from one network (Caruana 1997; Eigen and Fergus 2015: depth, normals and labels)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Annotated, Any, Literal, Self

import torch
from PIL import Image as PillowImage
from pydantic import Field, SerializeAsAny, model_validator
from torch import Tensor, nn

from pixelwise.config import Choices
from pixelwise.data.augment import Augment, View
from pixelwise.data.dataset import Dataset, Meta
from pixelwise.data.datasets import dense_folder, world
from pixelwise.data.sample import Batch, Sample
from pixelwise.errors import UsageError
from pixelwise.geometry.tiles import Tile
from pixelwise.losses.uncertainty import Uncertainty
from pixelwise.nn.heads import Heads
from pixelwise.nn.network import NetworkConfig
from pixelwise.nn.networks import unet
from pixelwise.predictions.several import SeveralPrediction
from pixelwise.recipe import TASKS, Recipe, TaskConfig, recipe
from pixelwise.task import Phase, PixelTask, Predictor, full_resolution, image_of, mirrored
from pixelwise.training import Optimizer, Schedule

Seen = Sequence[tuple[Tensor, Tensor]]
"""Images that the network was shown, and its maps of them."""


class Config(TaskConfig):
    """Settings of several answers at once."""

    kind: Literal["multitask"] = "multitask"
    parts: Annotated[dict[str, SerializeAsAny[TaskConfig]], Choices(TASKS)] = Field(
        description="the tasks by name, each with settings of its own; the first one's metric counts"
    )
    weighting: Literal["fixed", "uncertainty"] = Field(
        default="fixed", description="weights of the tasks' losses: as given, or learned (Kendall et al. 2018)"
    )
    weights: dict[str, Annotated[float, Field(gt=0)]] = Field(
        default={}, description='weights by name where they are fixed, such as {"depth": 0.5}; 1 where none is given'
    )
    features: int = Field(default=32, ge=1, description="channels that the network gives to the heads, and within each head")

    @model_validator(mode="after")
    def _named(self) -> Self:
        if not self.parts:
            raise ValueError("parts names no task")
        for name in self.parts:
            if not name.isidentifier() or name == "uncertainty":
                raise ValueError(f"parts names a task {name!r}: a name is a word of letters, digits and _, not 'uncertainty'")
        strange = sorted(self.weights.keys() - self.parts.keys())
        if strange:
            raise ValueError(f"weights names {strange[0]!r}, which is none of {', '.join(self.parts)}")
        return self

    def answers_with(self, key: str) -> bool:
        """Return whether it is such a setting of a part."""
        head, _, rest = key.partition(".")
        name, _, own = rest.partition(".")
        return head == "parts" and name in self.parts and self.parts[name].answers_with(own)

    def settled(self, train: Dataset) -> Self:
        """Return these settings with what the training data tells each part filled in."""
        return self.model_copy(update={"parts": {name: part.settled(train) for name, part in self.parts.items()}})


class Task(PixelTask):
    """Every part sees its own sheets of the one network, and does with them what it does alone."""

    def __init__(self, config: Config, meta: Meta) -> None:
        super().__init__(config, meta)
        self.parts: dict[str, PixelTask] = {name: _pixelwise(name, part, meta) for name, part in config.parts.items()}
        first, task = next(iter(self.parts.items()))
        self.primary, self.minimised = f"{first}.{task.primary}", task.minimised
        self.fields = tuple(dict.fromkeys(field for part in self.parts.values() for field in part.fields))
        self.mirrors = any(part.mirrors for part in self.parts.values())
        self.learned = config.weighting == "uncertainty"
        if self.learned:
            self.phases = (Phase("train", ("network", "uncertainty")),)

    def check(self, view: View, augment: Augment) -> None:
        """Refuse what one of the parts refuses."""
        for part in self.parts.values():
            part.check(view, augment)

    def lacking(self, field: str) -> str:
        """Return the part that reads the field, which can be left out if it is not the only one."""
        name = next(name for name, part in self.parts.items() if field in part.fields)
        return f"leave out the part that needs {field}: task.parts.{name}=null"

    def networks(self, network: NetworkConfig) -> nn.ModuleDict:
        """Build the one network with a head per part."""
        width, channels = self.config.features, [part.codec.channels for part in self.parts.values()]
        built = nn.ModuleDict({"network": Heads(full_resolution(network.build(3, width), network), width, channels)})
        if self.learned:
            built["uncertainty"] = Uncertainty(len(self.parts))
        return built

    def targets(self, batch: Batch) -> Batch:
        """Return the targets of every part, called `part.target`."""
        return {f"{name}.{key}": value for name, part in self.parts.items() for key, value in part.targets(batch).items()}

    def forward(self, networks: Mapping[str, nn.Module], batch: Batch) -> dict[str, Tensor]:
        """Return `maps`, the sheets of all parts, `(B, sum, H, W)`."""
        return {"maps": networks["network"](batch["image"])}

    def loss(
        self, phase: str, networks: Mapping[str, nn.Module], batch: Batch, outputs: dict[str, Tensor]
    ) -> dict[str, Tensor]:
        """Return the weighted losses of every part as `part.loss`, and `uncertainty` where the weights are learned."""
        losses = {name: self._loss(name, phase, networks["network"], batch, outputs["maps"]) for name in self.parts}
        if self.learned:
            sums = torch.stack([torch.stack([*terms.values()]).sum() for terms in losses.values()])
            weighted, regulariser = networks["uncertainty"](sums)
            return {**dict(zip(losses, weighted, strict=True)), "uncertainty": regulariser}
        weights = {name: self.config.weights.get(name, 1.0) for name in losses}
        return {f"{name}.{term}": weights[name] * value for name, terms in losses.items() for term, value in terms.items()}

    def _loss(self, name: str, phase: str, network: nn.Module, batch: Batch, maps: Tensor) -> dict[str, Tensor]:
        own = {key.removeprefix(f"{name}."): value for key, value in batch.items() if key.startswith(f"{name}.")}
        own["image"] = batch["image"]
        alone = {"network": self._alone(name, network, [(batch["image"], maps)])}
        return self.parts[name].loss(phase, alone, own, self.parts[name].forward(alone, own))

    def _alone(self, name: str, network: nn.Module, seen: Seen) -> nn.Module:
        """Return the network as the part called `name` would see it if there were no others."""
        ends = torch.tensor([0, *(part.codec.channels for part in self.parts.values())]).cumsum(0).tolist()
        first, last = dict(zip(self.parts, pairwise(ends), strict=True))[name]
        return _Alone(network, slice(first, last), seen)

    def respond(self, networks: Mapping[str, nn.Module], batch: Batch) -> dict[str, Tensor]:
        """Return what every part responds, one after the other; all are shown the same mirrored image."""
        network, shown = networks["network"], {"image": batch["image"]}
        if self.mirrors:
            shown["mirrored"] = mirrored(batch)
        seen = [(image, network(image)) for image in shown.values()]
        answers = [part.respond({"network": self._alone(name, network, seen)}, shown) for name, part in self.parts.items()]
        return {"maps": torch.cat([maps for answer in answers for maps in answer.values()], 1)}

    def answers(self, outputs: Mapping[str, Tensor], size: tuple[int, int]) -> dict[str, Tensor]:
        """Return the answers of every part as `part_answer`."""
        found: dict[str, Tensor] = {}
        own = torch.split(outputs["maps"], [part.painted for part in self.parts.values()], 1)
        for (name, part), maps in zip(self.parts.items(), own, strict=True):
            found |= {f"{name}_{key}": value for key, value in part.answers({"maps": maps}, size).items()}
        return found

    def units(self) -> dict[str, str]:
        """Those of every part."""
        return {f"{name}_{key}": unit for name, part in self.parts.items() for key, unit in part.units().items()}

    def blank(self, sample: Sample) -> SeveralPrediction:
        """Return every part's prediction, not yet painted."""
        return SeveralPrediction(image_of(sample), {name: part.blank(sample) for name, part in self.parts.items()})

    def paint(self, prediction: SeveralPrediction, place: Tile, maps: Tensor) -> None:
        """Let every part paint its maps."""
        own = torch.split(maps, [part.painted for part in self.parts.values()])
        for (name, part), answer in zip(self.parts.items(), own, strict=True):
            part.paint(prediction.parts[name], place, answer)

    def truth(self, sample: Sample) -> SeveralPrediction:
        """Return the truth of every part whose fields the sample has; data that is only looked at may lack some."""
        there = [name for name, part in self.parts.items() if set(part.fields) <= sample.fields.keys()]
        return SeveralPrediction(image_of(sample), {name: self.parts[name].truth(sample) for name in there})

    def metrics(self) -> SeveralMetrics:
        """Those of every part."""
        return SeveralMetrics({name: part.metrics() for name, part in self.parts.items()})

    def score(self, metrics: SeveralMetrics, prediction: SeveralPrediction, sample: Sample) -> None:
        """Score every part."""
        for name, part in self.parts.items():
            part.score(metrics.parts[name], prediction.parts[name], sample)

    def pictures(self, metrics: SeveralMetrics) -> dict[str, PillowImage.Image]:
        """Return the pictures of every part's metrics."""
        found = {name: part.pictures(metrics.parts[name]) for name, part in self.parts.items()}
        return {f"{name}: {caption}": picture for name, own in found.items() for caption, picture in own.items()}

    def baselines(self, train: Dataset) -> dict[str, Predictor]:
        """Those that every part has, such as `constant` and `nearest_neighbour`."""
        own = {name: part.baselines(train) for name, part in self.parts.items()}
        shared = [baseline for baseline in next(iter(own.values())) if all(baseline in found for found in own.values())]

        def together(baseline: str) -> Predictor:
            return lambda sample: SeveralPrediction(image_of(sample), {n: found[baseline](sample) for n, found in own.items()})

        return {baseline: together(baseline) for baseline in shared}


class SeveralMetrics:
    """The metrics of every part, called `part.metric`."""

    def __init__(self, parts: Mapping[str, Any]) -> None:
        self.parts = parts

    def compute(self) -> dict[str, float]:
        """Return every metric of every part."""
        return {f"{name}.{key}": value for name, metrics in self.parts.items() for key, value in metrics.compute().items()}


class _Alone(nn.Module):
    """Some sheets of a network, which for some images have been computed already."""

    def __init__(self, network: nn.Module, sheets: slice, seen: Seen) -> None:
        super().__init__()
        self.whole = [network]  # a list, so that it is not registered, moved or put into evaluation mode here
        self.sheets, self.seen = sheets, seen

    def forward(self, image: Tensor) -> Tensor:
        """Return the sheets for `image`."""
        found = next((maps for known, maps in self.seen if known is image), None)
        maps: Tensor = self.whole[0](image) if found is None else found
        return maps[:, self.sheets]


def _pixelwise(name: str, config: TaskConfig, meta: Meta) -> PixelTask:
    """Build a part.

    Raises:
        UsageError: It is no task that answers at every pixel of the image with one network.
    """
    task = config.build(meta)
    if (
        not (isinstance(task, PixelTask) and hasattr(task, "codec"))
        or task.inputs != ("image",)
        or task.deployed != ("network",)
    ):
        what = f"task.parts.{name}.kind = {config.kind!r} is no task with one network that answers at every pixel of the image"
        raise UsageError(what, "segmentation, depth, surface_normals and boundaries are")
    return task


@recipe
def world_multitask() -> Recipe:
    """Labels, depth, surface normals and boundaries of the embedded world's streets from one network, 64 x 64.

    Expect on 128 unseen scenes mIoU 0.39, AbsRel 0.33, 25.5 degrees and ODS 0.69 (at 0.02 diagonals), after 8 minutes on
    one busy core; labels, depth, normals and boundaries of the most similar scene have 0.15, 0.59, 37.7 and 0.45.
    """
    parts = {
        "labels": {"kind": "segmentation"},
        "depth": {"kind": "depth", "range": (1.5, 80.0), "loss": {"l1": 1.0, "gradient": 0.5}},
        "normals": {"kind": "surface_normals"},
        "boundaries": {"kind": "boundaries", "tolerance": 0.02, "thresholds": 33, "length": 6},
    }
    return Recipe(
        name="world_multitask",
        task=Config.model_validate({"parts": parts}),
        data=world.Config(scenes=512),
        view=View(size=(64, 64)),
        augment=Augment(flip=0.5, brightness=0.2, contrast=0.2, saturation=0.2),
        network=unet.Config(width=24, depth=4),
        optimizer=Optimizer(kind="adamw", lr=2e-3),
        schedule=Schedule(kind="cosine", warmup_steps=20),
        steps=400,
        batch_size=16,
        evaluate_every=100,
    )


@recipe
def multitask() -> Recipe:
    """Your own folder of images with labels, depth, normals and boundaries beside them: data.root=FOLDER.

    A start, not a result: seen at 240 x 320, mirrored and recoloured a little. task.parts.NAME=null leaves out what you do not
    have. Set task.parts.depth.range to the metres of your scenes, and view.size and steps to your data.
    """
    base = world_multitask()
    parts = {
        "labels": {"kind": "segmentation"},
        "depth": {"kind": "depth", "loss": {"l1": 1.0, "gradient": 0.5}},
        "normals": {"kind": "surface_normals"},
        "boundaries": {"kind": "boundaries", "thresholds": 33},
    }
    return base.model_copy(
        update={
            "name": "multitask",
            "task": Config.model_validate({"parts": parts}),
            "data": dense_folder.Config(root="data/dense"),
            "view": View(size=(240, 320)),
            "steps": 2000,
            "batch_size": 8,
            "evaluate_every": 500,
        }
    )
