"""Which pixels are a cat: a classifier of whole pictures, converted into a dense network, scores every window of one.

The windows are smaller than the pictures that the classifier was trained on, and of the same scale.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil
from typing import Any

import torch
from PIL import Image as PillowImage
from torch import Tensor

from pixelwise.color.heat import heat
from pixelwise.data.sample import Image, Sample, collate
from pixelwise.errors import UsageError
from pixelwise.geometry.frame import Frame
from pixelwise.geometry.homography import Matrix, Size, scaling, transform_points, translation
from pixelwise.geometry.warp import warp_maps
from pixelwise.model import AnyImage, Model
from pixelwise.nn.convolutionalize import Equivalence, FullyConvolutional, equivalence, to_fully_convolutional
from pixelwise.nn.networks.classifier import Classifier
from pixelwise.prediction import Prediction, to_pillow
from pixelwise.predictions.vectors import SHOWN, ValuePrediction, VectorPrediction, captioned
from pixelwise.tasks import classification

POSITIONS = 16
"""Scores along each side of the picture, at least, where the classifier has them to give."""


@dataclass(frozen=True)
class ScoreMaps(Prediction):
    """What a classifier says of every window of a picture.

    Attributes:
        scores: float `(N, h, w)` probabilities, or the value in its unit.
        names: What each map is of; that of the highest score for the whole picture is the first.
        unit: Of a value, maybe empty; None for probabilities.
        matrix: 3x3, from the maps' pixels to the image's own: where each window has its centre.
        window: Height and width of a window in the image's own pixels.
        equivalence: Whether each score is exactly what the classifier says of the window alone, and why.
    """

    scores: Tensor
    names: tuple[str, ...]
    unit: str | None
    matrix: Matrix
    window: tuple[float, float]
    equivalence: Equivalence

    def enlarged(self, name: str) -> Tensor:
        """Return the map of `name` at the image's own pixels, float `(H, W)`, interpolated between the windows' centres."""
        chosen = self.scores[self.names.index(name)]
        return warp_maps(chosen[None], self.matrix, (self.image.shape[-2], self.image.shape[-1]))[0]

    def centres(self) -> Tensor:
        """Return the centre of each window in the image's own pixels, float64 `(h, w, 2)` (x, y)."""
        rows, columns = (torch.arange(n, dtype=torch.float64) + 0.5 for n in self.scores.shape[1:])
        return transform_points(self.matrix, torch.stack(torch.meshgrid(columns, rows, indexing="xy"), -1))

    def render(self) -> PillowImage.Image:
        """Draw the first maps over the grey picture, side by side."""
        panels = [self._panel(name) for name in self.names[:SHOWN]]
        page = PillowImage.new("RGB", (sum(p.width for p in panels), max(p.height for p in panels)), "white")
        left = 0
        for panel in panels:
            page.paste(panel, (left, 0))
            left += panel.width
        return page

    def _panel(self, name: str) -> PillowImage.Image:
        """Return a map in colours, shining through the picture: probabilities from 0 to 1, values from least to greatest."""
        values = self.enlarged(name)
        low, high = values.min().item(), values.max().item()
        limits = (low, high) if self.unit is not None else (0.0, 1.0)
        picture = 0.4 * self.image.float().mean(0, keepdim=True) + 0.6 * heat(values, *limits)
        return captioned(to_pillow(picture.byte()), [f"{name} {low:.2f} to {high:.2f} {self.unit or ''}".rstrip()])

    def to_json(self) -> dict[str, Any]:
        """Return the grid, the window in pixels, whether it is exact, and where in the image each map is highest."""
        centres = self.centres().flatten(0, 1)
        inside = ((centres >= 0) & (centres <= torch.tensor([self.image.shape[-1], self.image.shape[-2]]))).all(1)
        best, places = self.scores.flatten(1).masked_fill(~inside, -torch.inf).max(1)
        highest = zip(self.names, best.tolist(), centres[places].tolist(), strict=True)
        return {
            "kind": "score_maps",
            **self._size(),
            "grid": list(self.scores.shape[1:]),
            "window": [round(side, 1) for side in self.window],
            "exact": self.equivalence.everywhere,
            "reason": self.equivalence.reason,
            "highest": {name: {"score": round(s, 6), "x": round(x, 1), "y": round(y, 1)} for name, s, (x, y) in highest},
        }


class DenseClassifier:
    """The dense counterpart of a trained classifier: call it on an image and get its score maps.

    The picture is seen at the scale that the classifier was trained at. At its borders the windows see its mirror image. Where
    the stride of the classifier is coarse, the dense network sees the picture several times, shifted, and the scores are
    interleaved (shift and stitch; Long, Shelhamer and Darrell 2015, section 3.2): they are those of more windows, not
    interpolated. `task.flip_test` has no part in it.
    """

    def __init__(self, model: Model, window: float = 0.5) -> None:
        """Convert the model's network.

        Args:
            model: Of the task classification with network.kind=classifier.
            window: Height and width of a window as a share of the view's. A network with a `grid` keeps the whole view.

        Raises:
            UsageError: The model is no such classifier, or has no dense counterpart; says why.
        """
        description = model.description
        if not isinstance(model.task, classification.Task):
            what = f"score maps are made of classifiers; this model's task is {description.task.kind}"
            raise UsageError(what, "its own answer lies on the picture's pixels")
        network = model.networks["network"]
        if not isinstance(network, Classifier):
            raise UsageError(f"network.kind = {description.network.kind!r} has no score maps", "train network.kind=classifier")
        self.model, self.task = model, model.task
        self.network = to_fully_convolutional(network, _window(network, description.view.size, window)).to(model.device)
        self.equivalence = equivalence(self.network)

    @torch.inference_mode()
    def __call__(self, image: AnyImage) -> ScoreMaps:
        """Return the score maps of an image of any size, in the order of the classifier's answer for the whole of it."""
        answer = self.model(image)
        assert isinstance(answer, VectorPrediction)
        sample = Sample("image", {"image": Image(answer.image, Frame.of(answer.image.shape[-2:]))})
        seen = self.model.description.view.fitted(sample)
        pixels = collate([seen])["image"].to(self.model.device)
        maps, step = _stitched(self.network, self.task.encode({"image": pixels})["image"])
        scores = self.task.codec.decode(maps.flatten(1).T[..., None, None]).T.reshape(maps.shape).float().cpu()
        frame, (rows, columns) = seen["image"].frame, self.network.native
        centre = translation(columns / 2 - columns // 2, rows / 2 - rows // 2)
        matrix = frame.inverse @ centre @ scaling(step, step) @ translation(-0.5, -0.5)
        window = (rows / float(frame.matrix[1, 1]), columns / float(frame.matrix[0, 0]))
        order = answer.numbers.argsort(descending=True).tolist()
        names = tuple(answer.names[i] for i in order)
        unit = answer.unit if isinstance(answer, ValuePrediction) else None
        return ScoreMaps(answer.image, scores[order], names, unit, matrix, window, self.equivalence)


def _window(network: Classifier, size: Size, share: float) -> Size:
    """Return the window in the network's pixels: whole positions of its last map, and no fewer than it takes."""
    if network.pool.output_size != (1, 1):
        share = 1.0
    unit = network.reduction
    height, width = (max(ceil(share * side / unit), ceil(network.least / unit)) * unit for side in size)
    return height, width


def _stitched(dense: FullyConvolutional, image: Tensor) -> tuple[Tensor, int]:
    """Return the scores `(N, h, w)` of windows from border to border of `image` (1, C, H, W), and the pixels between them.

    Their centres lie at whole multiples of that step, so that the first and the last lie on the border or nearly so.
    """
    (height, width), stride = image.shape[-2:], dense.stride
    step = next(s for s in range(stride, 0, -1) if stride % s == 0 and (s * POSITIONS <= min(height, width) or s == 1))
    for axis, size in ((-2, dense.native[0]), (-1, dense.native[1])):
        image = _mirrored(image, axis, size // 2, size // 2 + stride)
    shifts = [(y, x) for y in range(0, stride, step) for x in range(0, stride, step)]
    parts = [dense(image[..., y:, x:])[0] for y, x in shifts]
    maps = parts[0].new_empty(len(parts[0]), height // step + 1, width // step + 1)
    for part, (y, x) in zip(parts, shifts, strict=True):
        target = maps[:, y // step :: stride // step, x // step :: stride // step]
        target.copy_(part[:, : target.shape[1], : target.shape[2]])
    return maps, step


def _mirrored(image: Tensor, axis: int, before: int, after: int) -> Tensor:
    """Continue an image on both sides of an axis by mirroring, as often as it takes."""
    size = image.shape[axis]
    places = torch.arange(-before, size + after, device=image.device) % (2 * size)
    return image.index_select(axis, torch.minimum(places, 2 * size - 1 - places))
