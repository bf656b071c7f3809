"""What a task is: the meaning of a network's answer, from samples to loss and from outputs to predictions."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, Protocol

from PIL import Image as PillowImage
from torch import Tensor, nn

from pixelwise.color.levels import unit as unit
from pixelwise.data.augment import Augment, View
from pixelwise.data.carried import Part
from pixelwise.data.dataset import Dataset, Meta
from pixelwise.data.sample import Batch, Image, Sample
from pixelwise.errors import UsageError
from pixelwise.geometry.frame import Frame
from pixelwise.geometry.homography import translation
from pixelwise.geometry.tiles import Tile, bands
from pixelwise.geometry.warp import warp_maps
from pixelwise.nn.network import NetworkConfig, stride_of
from pixelwise.prediction import Prediction

Predictor = Callable[[Sample], Prediction]
BAND = 2**24
"""Values of the maps that are decoded at a time."""


def mirrored(batch: Batch) -> Tensor:
    """Return the mirrored image of a batch; tasks that share a network are given the same one, so that it is seen once."""
    return batch["mirrored"] if "mirrored" in batch else batch["image"].flip(-1)


def full_resolution(built: nn.Module, network: NetworkConfig) -> nn.Module:
    """Return the built network if it answers at every input pixel.

    Raises:
        UsageError: It does not.
    """
    if stride_of(built, network) != 1:
        hint = "output_stride=1" if "output_stride" in type(network).model_fields else "kind=unet"
        raise UsageError(f"network.kind = {network.kind!r} as it is set does not answer at every pixel", f"try network.{hint}")
    return built


def image_of(sample: Sample, name: str = "image") -> Tensor:
    """Return the pixels of an Image field, uint8 `(C, H, W)`; floating only for a task that keeps "bits"."""
    field = sample[name]
    assert isinstance(field, Image)
    return field.pixels


class Phase(NamedTuple):
    """One optimizer turn within a training step: its name and the networks it updates."""

    name: str
    networks: tuple[str, ...]


class Metrics(Protocol):
    """Gathers predictions and truths by `Task.score`, and says how well they fit."""

    def compute(self) -> dict[str, float]:
        """Return every metric by a name that states its convention."""


class Task(ABC):
    """The meaning of a network's answer. One file per task; the class is called `Task` there.

    Attributes:
        codec: How the answer becomes sheets of numbers and back.
        phases: The optimizer turns of one training step, in order.
        deployed: The networks that make predictions, the one that answers first; only these go into the model folder.
        fields: The sample fields needed for training and evaluation.
        inputs: Those of `fields` that exist at prediction time.
        sheets: Channels of what the deployed network sees.
        primary: The metric that is held against the baselines, and tells which saved state is kept as the best.
        minimised: Whether a smaller `primary` is better.
        references: Those of `baselines` that show what is possible, and need not be beaten.
        pads: Whether training may show the networks fill around a picture that is smaller than the crop.
        game: The kind of adversarial loss, where two players have one, for warnings.
        simultaneous: Whether all phases take their gradients before any of them updates its networks.
        encoding: Bytes that `encode` and `respond` hold for each pixel beside the network's input and maps, where the whole
            picture is encoded at once; of a `PixelTask` it never is.
        keeps: What the answer, an `ImagePrediction`, keeps of what came with the picture. With "alpha" the network sees the
            colours of a transparent picture, else the picture laid on white; with "bits" it sees a picture of 16 bits as
            floating pixels in [0, 1].
    """

    codec: Any
    phases: tuple[Phase, ...] = (Phase("train", ("network",)),)
    deployed: tuple[str, ...] = ("network",)
    fields: tuple[str, ...]
    inputs: tuple[str, ...] = ("image",)
    sheets: int = 3
    primary: str
    minimised: bool = False
    references: tuple[str, ...] = ()
    pads: bool = True
    game: str = ""
    simultaneous: bool = False
    encoding: int = 0
    keeps: tuple[Part, ...] = ()

    def __init__(self, config: Any, meta: Meta) -> None:
        self.config = config
        self.meta = meta

    def check(self, view: View, augment: Augment) -> None:  # noqa: B027 (a hook)
        """Raise a UsageError if the task cannot be trained with these; by default every task can."""

    def lacking(self, field: str) -> str:
        """Return what to set where the data has no such field."""
        named = next((f"task.{name}" for name, value in self.config if value == field), "")
        return (
            f"choose another data.kind, or name a field that is there with {named}=NAME"
            if named
            else "choose another data.kind"
        )

    @abstractmethod
    def networks(self, network: NetworkConfig) -> nn.ModuleDict:
        """Build the networks by name; `network` configures what is deployed. What steps remember is one too."""

    @abstractmethod
    def encode(self, batch: Batch) -> Batch:
        """Turn a batch of collated fields into float inputs `(B, C, H, W)` and, where truth is there, targets."""

    @abstractmethod
    def forward(self, networks: Mapping[str, nn.Module], batch: Batch) -> dict[str, Tensor]:
        """Run the networks once; every phase of the step shares the outputs. Also used for prediction."""

    @abstractmethod
    def loss(
        self, phase: str, networks: Mapping[str, nn.Module], batch: Batch, outputs: dict[str, Tensor]
    ) -> dict[str, Tensor]:
        """Return the phase's losses by name; their sum is minimised."""

    def respond(self, networks: Mapping[str, nn.Module], batch: Batch) -> dict[str, Tensor]:
        """Return the outputs that `decode` reads; a task may average several forward passes here."""
        return self.forward(networks, batch)

    def answers(self, outputs: Mapping[str, Tensor], size: tuple[int, int]) -> dict[str, Tensor]:
        """Return the tensor part of `decode` by name, in the network's pixels: what an exported graph puts out.

        A task whose networks give several outputs overrides this. Here sizes may be symbols: no choice may depend on them.

        Args:
            outputs: What `respond` returned.
            size: Height and width of what the network saw.
        """
        (maps,) = outputs.values()
        answers: dict[str, Tensor] = self.codec.answers(maps.float(), size)
        return answers

    def units(self) -> dict[str, str]:
        """Return what the numbers of each of `answers` mean."""
        return dict(self.codec.units)

    @abstractmethod
    def decode(self, outputs: dict[str, Tensor], samples: Sequence[Sample], frames: Sequence[Frame]) -> list[Any]:
        """Turn outputs into predictions in each image's own pixels.

        Args:
            outputs: What `forward` returned.
            samples: The original samples, uncropped, at their own size.
            frames: From each original image to the pixels the network saw.
        """

    def acquaint(self, train: Dataset) -> None:  # noqa: B027 (a hook)
        """Take in what the metrics of a final evaluation need to know of the training data; by default nothing."""

    @abstractmethod
    def metrics(self) -> Metrics:
        """Return an empty accumulator of this task's metrics."""

    @abstractmethod
    def score(self, metrics: Any, prediction: Any, sample: Sample) -> None:
        """Take a prediction and the sample's truth, both in the image's own pixels, into `metrics`."""

    def pictures(self, metrics: Any) -> dict[str, PillowImage.Image]:
        """Return what the report shows of our `metrics` beside the numbers: pictures by caption."""
        return {}

    @abstractmethod
    def baselines(self, train: Dataset) -> dict[str, Predictor]:
        """Return trivial predictors fitted to `train`: what the network has to beat."""

    @abstractmethod
    def truth(self, sample: Sample) -> Prediction:
        """Return the sample's truth as a prediction, to be drawn beside ours."""


class PixelTask(Task):
    """A task whose answer is painted pixel by pixel from one output, so that a huge picture's can be painted part by part.

    Attributes:
        mirrors: Whether `respond` also shows the networks the mirrored picture.
        turns: Whether it also shows them the picture in quarter turns, and those mirrored.
        scale: Pixels of the answer per pixel of the picture, across and down.
        inexact: Why tiles, each answered by itself, can never give the answer to the whole picture; nothing if they can.
    """

    mirrors: bool = False
    turns: bool = False
    scale: int = 1
    inexact: str = ""

    def networks(self, network: NetworkConfig) -> nn.ModuleDict:
        """Build the one network: RGB in, the codec's sheets out at every pixel."""
        return nn.ModuleDict({"network": full_resolution(network.build(3, self.codec.channels), network)})

    def encode(self, batch: Batch) -> Batch:
        """Bring the image to [0, 1]; turn the truth into targets."""
        return {"image": unit(batch["image"]), **self.targets(batch)}

    def targets(self, batch: Batch) -> Batch:
        """Return the targets that `loss` needs beside the image, where truth is there; by default there are none."""
        return {}

    @property
    def painted(self) -> int:
        """Channels of the maps that `respond` returns and `paint` takes."""
        channels: int = self.codec.channels
        return channels

    @abstractmethod
    def blank(self, sample: Sample) -> Any:
        """Return the prediction for a sample, its answer not yet painted."""

    @abstractmethod
    def paint(self, prediction: Any, place: Tile, maps: Tensor) -> None:
        """Write the answer into the pixels of `place`, those of the picture, from their maps `(C, height, width)`."""

    def decode(self, outputs: dict[str, Tensor], samples: Sequence[Sample], frames: Sequence[Frame]) -> list[Any]:
        """Interpolate the maps to each image's own pixels, then paint the answer, in bands that fit into the memory."""
        (batch,) = outputs.values()
        predictions = [self.blank(sample) for sample in samples]
        for prediction, maps, frame in zip(predictions, batch.float().cpu(), frames, strict=True):
            for place in bands(Tile(0, 0, *frame.original_size), most=BAND // len(maps)):
                to_place = translation(-place.left, -place.top) @ frame.inverse
                self.paint(prediction, place, warp_maps(maps, to_place, (place.height, place.width)))
        return predictions
