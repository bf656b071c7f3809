"""Key points of one object, by any of the targets that have been tried: belief maps, classes, coordinates (`codecs/`)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal, Self, get_args

import torch
from PIL import Image as PillowImage
from pydantic import Field, PositiveFloat, PositiveInt, model_validator
from torch import Tensor, nn

from pixelwise.codecs import peaks
from pixelwise.codecs.channel_softmax import ChannelSoftmaxCodec
from pixelwise.codecs.coordinates import CoordinatesCodec
from pixelwise.codecs.gaussian_heatmaps import GaussianHeatmapsCodec
from pixelwise.codecs.one_hot import OneHotCodec
from pixelwise.codecs.points import PointsCodec
from pixelwise.codecs.simcc import SimCCCodec
from pixelwise.codecs.soft_argmax import SoftArgmaxCodec
from pixelwise.data.augment import Augment, View, require_twins
from pixelwise.data.dataset import Dataset, Meta
from pixelwise.data.datasets import keypoints_frames, keypoints_json, world
from pixelwise.data.sample import Batch, Keypoints, Sample
from pixelwise.data.thumbnails import Bank, ridge, thumbnail
from pixelwise.errors import DataError, UsageError
from pixelwise.geometry.frame import Frame
from pixelwise.geometry.homography import transform_points
from pixelwise.geometry.presence import Presence
from pixelwise.metrics.keypoint_pictures import keypoint_pictures
from pixelwise.metrics.keypoints import KeypointMetrics, norms_of
from pixelwise.nn.axis_head import AxisHead
from pixelwise.nn.network import NetworkConfig, stride_of
from pixelwise.nn.networks import regressor, unet
from pixelwise.nn.stages import stages_of
from pixelwise.predictions.keypoints import KeypointsPrediction
from pixelwise.recipe import Recipe, TaskConfig, recipe
from pixelwise.task import Predictor, image_of, mirrored, unit
from pixelwise.task import Task as BaseTask
from pixelwise.training import Optimizer, Schedule

RIDGE_PENALTY = 10.0
NEIGHBOURS = 3


Target = Literal["heatmaps", "one_hot", "channels", "soft_argmax", "simcc", "coordinates"]
LOSSES: dict[Target, tuple[str, ...]] = {
    "heatmaps": ("cross_entropy", "l2"),
    "one_hot": ("cross_entropy",),
    "channels": ("cross_entropy",),
    "soft_argmax": ("euclidean", "l1"),
    "simcc": ("cross_entropy",),
    "coordinates": ("l2", "l1", "smooth_l1", "wing"),
}
"""What each target can be compared by; the first where nothing is said."""
DECODINGS: dict[Target, tuple[str, ...]] = {
    "heatmaps": get_args(peaks.Decoding),
    "one_hot": ("local_mean", "argmax"),
    "channels": get_args(peaks.Decoding),
    "soft_argmax": (),
    "simcc": ("log_taylor", "argmax"),
    "coordinates": (),
}
"""How each target's answer can be read; the first where nothing is said, and empty where there is only one way."""


class Config(TaskConfig):
    """Settings of key points."""

    answering: ClassVar[tuple[str, ...]] = ("decoding", "norm", "head", "flip_test")
    kind: Literal["keypoints"] = "keypoints"
    field: str = Field(default="keypoints", description="which field of the samples holds the points")
    target: Target = Field(
        default="heatmaps",
        description="heatmaps: a Gaussian per point; one_hot: a pixel; channels: a class of every pixel; soft_argmax: the mean "
        "of a map; simcc: a column and a row; coordinates: two numbers",
    )
    loss: Literal["cross_entropy", "l2", "l1", "smooth_l1", "wing", "euclidean"] | None = Field(
        default=None,
        description="heatmaps: cross_entropy or l2; soft_argmax: euclidean or l1; coordinates: l2, l1, smooth_l1 or wing; "
        "others: cross_entropy; null: the first of them",
    )
    sigma: float = Field(
        default=4.0,
        gt=0,
        description="width of the Gaussians, in pixels of the network's input; not for one_hot and coordinates",
    )
    background: bool = Field(default=False, description="heatmaps by l2: add the sheet that says: no key point here")
    foreground: float = Field(
        default=10.0, ge=1, description="heatmaps by l2: how many times an error at a point counts, against one far from it"
    )
    decoding: peaks.Decoding | None = Field(
        default=None,
        description="how a peak is found. heatmaps, channels: log_fit, log_taylor, dark, local_mean, quarter or argmax; "
        "one_hot: local_mean or argmax; simcc: log_taylor or argmax; null: the first of them",
    )
    regulariser: Literal["js", "variance"] = Field(
        default="js", description="soft_argmax: keep maps near a Gaussian (js), or near its variance"
    )
    weight: float = Field(default=1.0, ge=0, description="soft_argmax: weight of the regulariser")
    bins: tuple[PositiveInt, PositiveInt] = Field(
        default=(256, 256), description="simcc: parts of the height and of the width; published: twice the pixels"
    )
    wing: tuple[PositiveFloat, PositiveFloat] = Field(
        default=(10.0, 2.0), description="wing loss: from where on it is linear and its sharpness at 0, in input pixels"
    )
    norm: tuple[str, str] | None = Field(
        default=None, description="two points, by name or number, by whose distance errors are divided too"
    )
    head: tuple[str, str] | None = Field(
        default=None, description="the two ends of the head, by name or number: PCKh by their distance, pck@0.5_head (<=)"
    )
    flip_test: bool = Field(default=False, description="average the answer with that of the mirrored image")

    @model_validator(mode="after")
    def _goes_together(self) -> Self:
        for name, known in (("loss", LOSSES), ("decoding", DECODINGS)):
            value, fitting = getattr(self, name), known[self.target]
            if value is not None and value not in fitting:
                offer = ", ".join(fitting) or "has none to choose"
                raise ValueError(f"{name} = {value!r} does not go with target = {self.target!r}: {offer}")
        if self.background and (self.target, self.loss) != ("heatmaps", "l2"):
            raise ValueError("background = True goes with target = 'heatmaps' and loss = 'l2' only")
        return self


class Task(BaseTask):
    """K sheets of belief (and a background sheet), 2K numbers, or a score for every bin."""

    codec: PointsCodec
    primary = "mean_error_px"
    minimised = True
    stages = 1

    def __init__(self, config: Config, meta: Meta) -> None:
        super().__init__(config, meta)
        if not meta.skeleton.names:
            raise DataError("key points need names", 'give the names of the points in the JSON: {"names": [...]}')
        self.fields = ("image", config.field)
        self.points = len(meta.skeleton.names)
        self.norms = norms_of(meta.skeleton.names, config.norm, config.head)
        self.codec = self._codec(stride=1)

    def check(self, view: View, augment: Augment) -> None:
        """Refuse mirrored pictures of points that have a side and no twin."""
        require_twins(self.meta.skeleton, augment, self.config.flip_test)

    def _codec(self, stride: int) -> PointsCodec:
        """Return the codec that the settings describe, for a network of `stride`."""
        c, count, swap = self.config, self.points, self.meta.skeleton.swap
        loss: Any = c.loss or LOSSES[c.target][0]
        decoding: Any = c.decoding or next(iter(DECODINGS[c.target]), None)
        if c.target == "coordinates":
            return CoordinatesCodec(count, swap=swap, loss=loss, wing=c.wing)
        if c.target == "simcc":
            return SimCCCodec(count, swap=swap, bins=c.bins, sigma=c.sigma, decoding=decoding)
        if c.target == "one_hot":
            return OneHotCodec(count, swap=swap, stride=stride, decoding=decoding)
        drawn: dict[str, Any] = {"swap": swap, "sigma": c.sigma, "stride": stride}
        if c.target == "channels":
            return ChannelSoftmaxCodec(count, **drawn, decoding=decoding)
        if c.target == "soft_argmax":
            return SoftArgmaxCodec(count, **drawn, loss=loss, regulariser=c.regulariser, weight=c.weight)
        return GaussianHeatmapsCodec(
            count, **drawn, background=c.background, foreground=c.foreground, loss=loss, decoding=decoding
        )

    def networks(self, network: NetworkConfig) -> nn.ModuleDict:
        """Build the one network: RGB in; maps out, or numbers, or, through a head, the scores of bins."""
        maps = self.config.target != "coordinates"
        simcc = isinstance(self.codec, SimCCCodec)
        built = network.build(3, self.points if simcc else self.codec.channels)
        stride = stride_of(built, network)
        if maps != (stride > 0):
            raise UsageError(
                f"task.target = {self.config.target!r} does not go with network.kind = {network.kind!r}",
                f"set network.kind={'unet' if maps else 'regressor'}",
            )
        if simcc:
            built = AxisHead(built, self.config.bins)
        elif maps:
            self.codec = self._codec(stride)
        self.stages = stages_of(built)
        return nn.ModuleDict({"network": built})

    def encode(self, batch: Batch) -> Batch:
        """Bring the image to [0, 1]; turn points into targets."""
        encoded = {"image": unit(batch["image"])}
        if self.config.field in batch:
            points, presence = batch[self.config.field], batch[f"{self.config.field}.presence"]
            self._one(points.shape[1])
            if points.shape[2] != self.points:
                raise DataError(f"{points.shape[2]} points in {self.config.field!r} where {self.points} have names")
            height, width = batch["image"].shape[-2:]
            encoded |= self.codec.encode(points, presence, (height, width))
        return encoded

    def forward(self, networks: Mapping[str, nn.Module], batch: Batch) -> dict[str, Tensor]:
        """Return `beliefs`: maps `(B, C, H, W)` or numbers `(B, C, 1, 1)`; of S stages `(B, S, C, ...)`."""
        network = networks["network"]
        return {"beliefs": network(batch["image"], every=True) if self.stages > 1 else network(batch["image"])}

    def loss(
        self, phase: str, networks: Mapping[str, nn.Module], batch: Batch, outputs: dict[str, Tensor]
    ) -> dict[str, Tensor]:
        """The codec's loss over the labelled points, summed over the stages (Wei et al. 2016, the overall objective)."""
        beliefs = outputs["beliefs"].float()
        stages = beliefs.unbind(1) if self.stages > 1 else (beliefs,)
        return {self.codec.kind: torch.stack([self.codec.loss(stage, batch) for stage in stages]).sum()}

    def respond(self, networks: Mapping[str, nn.Module], batch: Batch) -> dict[str, Tensor]:
        """Return the last stage's beliefs, averaged with the mirrored image's if asked for."""
        beliefs = networks["network"](batch["image"]).float()
        if self.config.flip_test:
            other = networks["network"](mirrored(batch)).float()
            beliefs = (beliefs + self.codec.flip(other)) / 2
        return {"beliefs": beliefs}

    def decode(
        self, outputs: dict[str, Tensor], samples: Sequence[Sample], frames: Sequence[Frame]
    ) -> list[KeypointsPrediction]:
        """Find the points in the network's pixels, then move them to each image's own."""
        points, confidence = self.answers({"beliefs": outputs["beliefs"].cpu()}, frames[0].size).values()
        return [
            self._prediction(sample, transform_points(frame.inverse, own), sure)
            for own, sure, sample, frame in zip(points, confidence, samples, frames, strict=True)
        ]

    def _prediction(self, sample: Sample, points: Tensor, confidence: Tensor | None = None) -> KeypointsPrediction:
        """Wrap one object's points `(K, 2)`."""
        sure = torch.ones(len(points)) if confidence is None else confidence
        return KeypointsPrediction(image_of(sample), points[None], sure[None], self.meta.skeleton)

    def truth(self, sample: Sample) -> KeypointsPrediction:
        """Return the labelled points; NaN where none is present."""
        points, presence = self._first(sample)
        return self._prediction(sample, points.masked_fill((presence < Presence.HIDDEN)[:, None], torch.nan))

    def _first(self, sample: Sample) -> tuple[Tensor, Tensor]:
        field = sample[self.config.field]
        assert isinstance(field, Keypoints)
        self._one(len(field.points))
        return field.points[0], field.presence[0]

    def _one(self, count: int) -> None:
        if count != 1:
            what = f"{count} objects in the field {self.config.field!r} of one image; this task finds the points of one"
            raise DataError(what, "crop the images around one object each, or name another field with task.field")

    def metrics(self) -> KeypointMetrics:
        """Distances in the image's own pixels."""
        return KeypointMetrics(self.norms, names=self.meta.skeleton.names)

    def score(self, metrics: KeypointMetrics, prediction: KeypointsPrediction, sample: Sample) -> None:
        """Measure the labelled points."""
        points, presence = self._first(sample)
        metrics.update(prediction.points, points[None], presence[None], prediction.confidence)

    def pictures(self, metrics: KeypointMetrics) -> dict[str, PillowImage.Image]:
        """Draw how the errors are distributed, and what the confidence is worth."""
        return keypoint_pictures(metrics)

    def baselines(self, train: Dataset) -> dict[str, Predictor]:
        """The mean shape; the mean of the 3 most similar images; ridge regression from a 24 x 32 grey thumbnail."""
        bank = Bank.of(train, "image", self.fields, self._relative)
        truths = torch.stack(bank.summaries)
        mean = truths.nanmean(0).nan_to_num(0.5)
        filled = torch.where(truths.isnan(), mean, truths)
        weight = ridge(bank.features, filled.flatten(1), RIDGE_PENALTY)

        def stretched(relative: Tensor, sample: Sample) -> KeypointsPrediction:
            height, width = image_of(sample).shape[-2:]
            return self._prediction(sample, relative.float() * torch.tensor([width, height]))

        def linear(sample: Sample) -> KeypointsPrediction:
            features = torch.cat([thumbnail(sample, "image"), torch.ones(1)]).double()
            return stretched((features @ weight).view(-1, 2), sample)

        return {
            "constant": lambda sample: stretched(mean, sample),
            "nearest_neighbours_3": lambda sample: stretched(filled[bank.nearest(sample, 3)].mean(0), sample),
            "ridge": linear,
        }

    def _relative(self, sample: Sample) -> Tensor:
        """Return the present points relative to the image's size, NaN elsewhere."""
        height, width = image_of(sample).shape[-2:]
        return self.truth(sample).points[0] / torch.tensor([width, height])


@recipe
def world_keypoints() -> Recipe:
    """The nearest person of each scene of the embedded world, 14 points at 64 x 64, belief maps; part of the demo.

    Expect a mean error of 3.6 px, median 1.9 px, on 256 unseen scenes (ridge 12.3, mean shape 13.1) after one minute on
    2 cores with AMX.
    """
    return Recipe(
        name="world_keypoints",
        task=Config(field="person", sigma=2.0),
        data=world.Config(scenes=1024, people=(1, 1)),
        view=View(size=(64, 64)),
        augment=Augment(flip=0.5, rotate=10, scale=(0.9, 1.2), translate=0.05, brightness=0.2, contrast=0.2),
        network=unet.Config(width=24, depth=4, output_stride=2),
        optimizer=Optimizer(kind="adamw", lr=2e-3),
        schedule=Schedule(kind="cosine", warmup_steps=20),
        steps=500,
        batch_size=16,
        evaluate_every=100,
    )


@recipe
def keypoints() -> Recipe:
    """Your own key points, one object per image: data.root=FOLDER, and data.kind=keypoints_csv or another format.

    A start, not a result: seen at 192 x 192, turned, zoomed and moved a little. Left and right swap in a mirror by their names.
    """
    return imm_faces().model_copy(
        update={
            "name": "keypoints",
            "data": keypoints_json.Config(root="data/keypoints"),
            "view": View(size=(192, 192), fit="letterbox"),
            "task": Config(sigma=4.0),
        }
    )


@recipe
def imm_faces() -> Recipe:
    """58 points on the IMM faces by belief maps; persons 1-28 train, 29-32 validate (24 images).

    Expect a mean error of 2.7 px at 320 x 240 (median 2.1; mean shape 18.5, 3 neighbours 13.3, ridge 11.8) after 19 minutes
    on one busy CPU core with AMX.
    """
    return Recipe(
        name="imm_faces",
        task=Config(sigma=3.0),
        data=keypoints_json.Config(root="data/imm_faces", layout="imm58", group="person", val_groups=(29, 30, 31, 32)),
        view=View(size=(144, 192)),
        augment=Augment(flip=0.5, rotate=15, scale=(0.85, 1.15), translate=0.1, brightness=0.3, contrast=0.3, saturation=0.5),
        network=unet.Config(width=24, depth=5, output_stride=2),
        optimizer=Optimizer(kind="adamw", lr=2e-3),
        schedule=Schedule(kind="cosine", warmup_steps=50),
        steps=1200,
        batch_size=8,
        evaluate_every=200,
    )


@recipe
def lspet() -> Recipe:
    """14 joints of one person in photographs of sport, as Leeds Sports Pose Extended labels them, at 128 x 128.

    With steps=600, 35 minutes of a fraction of a core: on 100 unseen photographs a mean error of 44.3 px, median 31.1,
    pck@0.2_torso 0.14, pck@0.5_head 0.17 (mean shape 54.1, 47.9, 0.03, 0.04; ridge 58.7, 51.0, 0.03, 0.05). By then it finds
    the person, and draws limbs together. One of the 100 is nearly one of training. All 1200 steps are not measured.
    """
    return Recipe(
        name="lspet",
        task=Config(sigma=4.0, head=("head_top", "neck")),
        data=keypoints_json.Config(root="data/lspet", layout="lsp14"),
        view=View(size=(128, 128), fit="letterbox"),
        augment=Augment(flip=0.5, rotate=40, scale=(0.75, 1.25), translate=0.05, brightness=0.3, contrast=0.3, saturation=0.5),
        network=unet.Config(width=24, depth=5, output_stride=4),
        optimizer=Optimizer(kind="adamw", lr=2e-3),
        schedule=Schedule(kind="cosine", warmup_steps=50),
        steps=1200,
        batch_size=16,
        evaluate_every=200,
    )


@recipe
def youtube_faces68() -> Recipe:
    """68 points on faces in the wild, in the order of iBUG's, at 128 x 128.

    A start, not a result.
    """
    return lspet().model_copy(
        update={
            "name": "youtube_faces68",
            "data": keypoints_json.Config(root="data/youtube_faces68", layout="ibug68"),
            "task": Config(sigma=2.5, norm=("right_eye_0", "left_eye_3")),
            "augment": imm_faces().augment,
        }
    )


@recipe
def dance_video() -> Recipe:
    """17 points of one dancer before a camera that stands still; the last fifth of the time validates.

    A start, not a result.
    """
    return lspet().model_copy(
        update={
            "name": "dance_video",
            "data": keypoints_frames.Config(root="data/dance_video"),
            "task": Config(sigma=3.0),
            "view": View(size=(192, 112), fit="letterbox"),
            "augment": Augment(flip=0.5, rotate=10, scale=(0.85, 1.15), translate=0.05, brightness=0.2, contrast=0.2),
            "steps": 800,
        }
    )


@recipe
def imm_faces_coordinates() -> Recipe:
    """The same faces by plain L2 regression of 116 coordinates, as the lecture warns against: compare with `imm_faces`.

    Expect a mean error of 4.8 px (median 4.3) after 27 minutes on one busy CPU core: 1.8 times that of the belief maps,
    which need 18. After 4000 of the 8000 steps it is 7.0 px, where the belief maps have 3.1 px after 400.
    """
    base = imm_faces()
    return base.model_copy(
        update={
            "name": "imm_faces_coordinates",
            "task": Config(target="coordinates", loss="l2"),
            "view": View(size=(96, 128)),
            "network": regressor.Config(),
            "optimizer": Optimizer(kind="adam", lr=1e-3),
            "steps": 8000,
            "batch_size": 16,
            "evaluate_every": 1000,
        }
    )
