"""The trained artifact: a folder that holds weights and all it takes to use them, and answers in the image's own pixels.

`config.json` names the task, network and preprocessing; `model.safetensors` holds the deployed networks; `selftest.safetensors`
holds one input and the outputs it gave when saved, checked on every load. Nothing in the folder can execute.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import torch
from PIL import Image as PillowImage
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from pixelwise.color.levels import levels, unit
from pixelwise.data.channels import ARRAY, read_pixels
from pixelwise.data.dataset import Pixels
from pixelwise.data.images import decode_image, decode_labels, image_size, pillow_pixels
from pixelwise.data.photographs import luma_of
from pixelwise.data.pictures import picture_of, read_picture, reading_bytes
from pixelwise.data.sample import Batch, Field, Image, LabelMap, Sample, collate
from pixelwise.engine.precision import autocast, resolve
from pixelwise.errors import DataError, ModelError, UsageError, did_you_mean
from pixelwise.geometry.frame import Frame
from pixelwise.geometry.homography import translation
from pixelwise.geometry.tiles import Tile, bands
from pixelwise.geometry.unknown import UNKNOWN
from pixelwise.memory import available, binary, give_back, resident
from pixelwise.nn.tiling import Plan, Tiled, Tiles, Tiling, interleaved
from pixelwise.overrides import parse_bytes
from pixelwise.prediction import Prediction
from pixelwise.predictions.image import ImagePrediction
from pixelwise.stored import COPY_HINT, Description, deployed, first_line, folder_of, restored
from pixelwise.task import BAND, PixelTask, Task

TOLERANCE = 1e-3
FROM_NOISE = "this model makes pictures from noise and reads none"
PIXELS_HINT = "pass uint8, or floats in [0, 1]"
WHOLE = 2**20
"""Pixels up to which a batch is seen whole without asking what memory it takes."""
EXAMPLE = 256
"""Longest side of the self-test's input where the network sees pictures at their own size."""
READING = 8
"""Bytes per pixel at the peak of reading a file: Pillow's four, our three, and some."""
Precision = Literal["float32", "bfloat16"]
AnyImage = str | Path | PillowImage.Image | np.ndarray[Any, Any] | Tensor


class Model:
    """A task, its deployed networks and their preprocessing: call it on an image and get a Prediction.

    Attributes:
        memory: Bytes that the process may hold while it predicts; None leaves half of the available memory free.
        tiles: How pictures are seen that do not fit: `exact` or `blended`, or by `auto` exactly wherever that is possible.
        precision: Of products and convolutions, set by `computing_in`; in bfloat16 scores differ by about 1 %.
        changes: Settings of the task that were changed after training, by `answer_with`.
    """

    memory: int | None = None
    tiles: Tiles = "auto"
    precision: Precision = "float32"
    changes: tuple[str, ...] = ()

    def __init__(self, description: Description, task: Task, networks: Mapping[str, nn.Module]) -> None:
        self.description = description
        self.task = task
        self.networks = nn.ModuleDict({name: networks[name] for name in task.deployed})
        self.device = next(self.networks.parameters()).device

    def __call__(self, image: AnyImage) -> Prediction:
        """Predict for one image of any size.

        Args:
            image: A path, a Pillow image, an array `(H, W)` or `(H, W, 3)`, or a tensor `(3, H, W)`; uint8, or floats in
                [0, 1]. For a task that reads a label map: a path to an index or palette image, or `(H, W)` indices. What
                comes with a path or a Pillow image, such as transparency, goes with the answer if the task `keeps` it.

        Raises:
            DataError: The image cannot be read or is not RGB or grey.
            UsageError: It does not fit into `memory`, or the model makes pictures from noise.
        """
        if self.task.config.from_noise:
            raise UsageError(FROM_NOISE, "pixelwise generate RUN OUT")
        name = self.task.inputs[0]
        coloured = name not in self.description.labels_in and self._pixels(name).channels == 3
        if self.task.keeps and coloured and isinstance(image, str | Path | PillowImage.Image) and not _is_array(image):
            return self._keeping(name, image)
        field = self._field(name, image)
        key = str(image) if isinstance(image, str | Path) else "image"
        return self.predict([Sample(key, {name: field})])[0]

    def _field(self, name: str, image: AnyImage) -> Field:
        if isinstance(image, str | Path) and _is_array(image):
            return self._array(name, Path(image))
        limit = self._readable(Path(image)) if isinstance(image, str | Path) else 0
        if name in self.description.labels_in:
            meta = self.description.meta
            labels = (
                decode_labels(Path(image), len(meta.classes), meta.ignore, meta.palette, pixel_limit=limit)
                if isinstance(image, str | Path)
                else to_labels(image, len(meta.classes))
            )
            return LabelMap(labels, Frame.of(labels.shape))
        if isinstance(image, str | Path):
            pixels = decode_image(Path(image), pixel_limit=limit)
            pixels = luma_of(pixels).round() / 255 if self._pixels(name).channels == 1 else pixels
        else:
            pixels = to_pixels(image, self._pixels(name))
        return Image(_of_channels(pixels, self._pixels(name), image), Frame.of(pixels.shape[-2:]))

    def _array(self, name: str, path: Path) -> Field:
        expected = self._pixels(name)
        pixels = read_pixels(path, [], pixel_limit=max(0, self._room()) // (READING * expected.channels))
        pixels = levels(pixels, torch.uint8) if expected == Pixels() else pixels
        return Image(_of_channels(pixels, expected, path), Frame.of(pixels.shape[-2:]))

    def _pixels(self, name: str) -> Pixels:
        """Return what the pictures were like that the networks learned from."""
        return self.description.meta.pictures.get(name, Pixels())

    def _keeping(self, name: str, image: str | Path | PillowImage.Image) -> Prediction:
        """Predict for a picture whose answer, a picture too, goes on with what came with it."""
        keeps = self.task.keeps
        if isinstance(image, PillowImage.Image):
            key, picture = "image", picture_of(image, keeps)
        else:
            key, path = str(image), Path(image)
            picture = read_picture(path, keeps, pixel_limit=self._readable(path, reading_bytes(path, keeps)))
        field = Image(picture.pixels, Frame.of(picture.pixels.shape[-2:]))
        (answer,) = self.predict([Sample(key, {name: field})])
        assert isinstance(answer, ImagePrediction)
        return replace(answer, carried=picture.carried, notes=(*picture.notes, *answer.notes))

    def _readable(self, path: Path, each: int = READING) -> int:
        """Return how many pixels can be read, each taking so many bytes, having looked at the header of `path`."""
        limit = max(0, self._room()) // each
        height, width = image_size(path, pixel_limit=2**62)
        if height * width > limit:
            what = f"reading {width}x{height} pixels takes {binary(height * width * each)}"
            hint = "shrink the image" if self.memory is None else "raise memory"
            raise DataError(f"{path}: {what}, and {binary(limit * each)} of the memory are left", hint)
        return limit

    def _room(self) -> int:
        """Return the bytes that a prediction may still take; a little of `memory` is left to what nobody foresees."""
        return available() // 2 if self.memory is None else int(0.95 * self.memory) - resident()

    @torch.inference_mode()
    def predict(self, samples: Sequence[Sample]) -> list[Prediction]:
        """Predict for samples at their original size, of which only the task's inputs are read.

        Raises:
            UsageError: A picture that the network sees at its own size does not fit into `memory`.
        """
        self.networks.eval()
        seen = [self._framed(sample) for sample in samples]
        frames = [sample[self.task.inputs[0]].frame for sample in seen]
        groups: dict[tuple[int, int], list[int]] = {}
        for i, frame in enumerate(frames):
            groups.setdefault(frame.size, []).append(i)
        predictions: dict[int, Prediction] = {}
        for size, group in groups.items():
            if self._large(len(group) * size[0] * size[1]):
                predictions |= {i: self._by_plan(samples[i], seen[i]) for i in group}
                continue
            outputs = self.outputs(collate([seen[i] for i in group]))
            decoded = self.task.decode(outputs, [samples[i] for i in group], [frames[i] for i in group])
            predictions |= dict(zip(group, decoded, strict=True))
        return [predictions[i] for i in range(len(samples))]

    def _framed(self, sample: Sample) -> Sample:
        return self.description.view.fitted(Sample(sample.key, {n: sample[n] for n in self.task.inputs}))

    def _large(self, pixels: int) -> bool:
        """Return whether the networks may need more memory for so many pixels than there is."""
        return self.description.view.fit == "native" and (self.memory is not None or pixels > WHOLE)

    def _by_plan(self, sample: Sample, seen: Sample) -> Prediction:
        """Predict for one picture in parts that fit into the memory."""
        frame = seen[self.task.inputs[0]].frame
        give_back()
        if not isinstance(self.task, PixelTask):
            held = self._tiling.assembled(frame.size) + self.task.encoding * math.prod(frame.size)
            plan = self._plan(frame.size, held)
            (decoded,) = self.task.decode(self.outputs(collate([seen]), plan), [sample], [frame])
            whole: Prediction = replace(decoded, notes=(*decoded.notes, *plan.notes))
            return whole
        prediction: Prediction = self.task.blank(sample)
        plan = self._plan(frame.size, prediction.nbytes, self.task.mirrors, self.task.turns)

        def see(tile: Tile) -> Tensor:
            if self._room() < plan.takes:
                give_back()
            part = collate([seen.warp(translation(-tile.left, -tile.top), (tile.height, tile.width))])
            (maps,) = self.outputs({name: interleaved(tensor) for name, tensor in part.items()}).values()
            return maps[0].float().cpu()

        for place, maps in plan.parts(see):
            for band in bands(place, most=BAND // len(maps)):
                self.task.paint(prediction, band, band.within(place).of(maps))
        return replace(prediction, notes=(*prediction.notes, *plan.notes))

    @cached_property
    def _tiling(self) -> Tiling:
        tiling = Tiling(self.networks[self.task.deployed[0]], self.task.sheets)
        if isinstance(self.task, PixelTask):
            tiling.inexact = tiling.inexact or self.task.inexact
        return tiling

    def _plan(self, size: tuple[int, int], held: int, mirrored: bool = False, turned: bool = False) -> Plan:
        """Plan for a picture of `size` beside `held` bytes that its answer takes; a GPU has its own memory."""
        tiling = self._tiling  # finding out about the network takes memory too
        on_gpu = self.device.type == "cuda"
        room = torch.cuda.mem_get_info(self.device)[0] * 9 // 10 if on_gpu else self._room() - held
        return tiling.plan(size, room, self.tiles, mirrored, turned)

    def outputs(self, batch: Batch, plan: Plan | None = None) -> dict[str, Tensor]:
        """Return the networks' raw outputs for a batch of collated fields in network pixels, seen whole or by a plan."""
        on_device = {name: tensor.to(self.device) for name, tensor in batch.items()}
        networks: dict[str, nn.Module] = {name: self.networks[name] for name in self.task.deployed}
        if plan:
            networks = {name: Tiled(network, plan) for name, network in networks.items()}
        encoded = self.task.encode(on_device)
        if self.precision == "float32":
            return self.task.respond(networks, encoded)
        with autocast(resolve(self.precision, self.device), self.device):
            outputs = self.task.respond(networks, {name: _channels_last(tensor) for name, tensor in encoded.items()})
        return {name: tensor.float().contiguous() for name, tensor in outputs.items()}

    def computing_in(self, precision: Precision) -> Model:
        """Choose the precision of products and convolutions; bfloat16 wants hardware that multiplies it.

        Raises:
            UsageError: There is no such precision.
        """
        if precision not in get_args(Precision):
            known = get_args(Precision)
            what = f"precision = {precision!r}: should be one of {', '.join(known)}"
            raise UsageError(what, did_you_mean(precision, known))
        self.precision = precision
        layout = torch.contiguous_format if precision == "float32" else torch.channels_last
        self.networks.to(memory_format=layout)
        return self

    def to(self, device: str) -> Model:
        """Move the networks to `device`."""
        self.networks.to(device)
        self.device = torch.device(device)
        return self

    def save(self, folder: Path, example: Sample, card: str) -> None:
        """Write the model folder.

        Args:
            folder: Made if it is not there.
            example: A sample whose input and outputs become the self-test.
            card: The text of its README.md.
        """
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "config.json").write_text(self.description.model_dump_json(indent=2) + "\n")
        weights = {name: tensor.contiguous().cpu() for name, tensor in self.networks.state_dict().items()}
        save_file(weights, folder / "model.safetensors")
        height, width = example[self.task.inputs[0]].frame.size
        corner = example.warp(np.eye(3), (min(height, EXAMPLE), min(width, EXAMPLE)))
        batch = collate([self._framed(corner if self.description.view.fit == "native" else example)])
        self.networks.eval()
        with torch.inference_mode():
            golden = {f"output.{k}": v.float().cpu().clone() for k, v in self.outputs(batch).items()}
        golden |= {f"input.{k}": v.contiguous() for k, v in batch.items()}
        save_file(golden, folder / "selftest.safetensors")
        (folder / "README.md").write_text(card)

    def answer_with(self, changes: Sequence[str]) -> None:
        """Change settings of the task that bear on no weight; raises what `Description.answering` does."""
        self.description, self.changes = self.description.answering(changes), tuple(changes)
        self.task = self.description.task.build(self.description.meta)
        with torch.device("meta"):
            deployed(self.description, self.task)  # the codec follows from the network

    def verify(self, folder: Path) -> None:
        """Run the self-test sample through the networks.

        Raises:
            ModelError: The outputs differ from those saved with the model.
        """
        golden = self_test(folder)
        batch = {k.removeprefix("input."): v for k, v in golden.items() if k.startswith("input.")}
        try:
            with torch.inference_mode():
                self.networks.eval()
                outputs = self.outputs(batch)
        except (KeyError, RuntimeError) as error:
            raise ModelError(f"{folder}: the self-test cannot be run: {first_line(error)}", COPY_HINT) from None
        for name in self.task.inputs:
            if name in batch and (batch[name].dim() == 3) != (name in self.description.labels_in):
                raise ModelError(f"{folder}: labels_in of config.json does not fit the self-test's {name!r}", COPY_HINT)
        for name, output in outputs.items():
            expected = golden.get(f"output.{name}")
            if expected is None or expected.shape != output.shape:
                raise ModelError(f"{folder}: the self-test holds no output {name!r} of shape {tuple(output.shape)}", COPY_HINT)
            difference = float((output.float().cpu() - expected).abs().max())
            if not difference <= TOLERANCE * min(max(1.0, float(expected.abs().max())), 1e6):
                what = f"the self-test gives other outputs than when it was saved (by {difference:.3g})"
                raise ModelError(f"{folder}: {what}", COPY_HINT)


def load(
    path: str | Path,
    *,
    verify: bool = True,
    device: str = "cpu",
    memory: int | str | None = None,
    tiles: Tiles = "auto",
    precision: Precision = "float32",
    changes: Sequence[str] = (),
) -> Model:
    """Load a model folder, or the model of a run folder.

    Args:
        path: `runs/x` or `runs/x/model`.
        verify: Check the self-test sample.
        device: Where the networks go.
        memory: What the process may hold while it predicts, in bytes or such as "4GiB"; see `Model`.
        tiles: How pictures are seen that do not fit into it; see `Model`.
        precision: Of products and convolutions, `float32` or `bfloat16`; the self-test is always in float32.
        changes: Settings of the task that say how to answer, such as "task.flip_test=true"; see `TaskConfig.answering`.

    Raises:
        ModelError: The folder is no model, is damaged, or was saved by a newer version.
        UsageError: `memory`, `tiles`, `precision` or `changes` means nothing.
    """
    if tiles not in get_args(Tiles):
        known = get_args(Tiles)
        raise UsageError(f"tiles = {tiles!r}: should be one of {', '.join(known)}", did_you_mean(tiles, known))
    folder = folder_of(path)
    description, task, networks = restored(folder)
    model = Model(description, task, dict(networks.items()))
    model.memory, model.tiles = parse_bytes(memory) if isinstance(memory, str) else memory, tiles
    if verify:
        model.verify(folder)
    if changes:
        model.answer_with(changes)
    return model.to(device).computing_in(precision)


def _channels_last(tensor: Tensor) -> Tensor:
    return tensor.contiguous(memory_format=torch.channels_last) if tensor.dim() == 4 else tensor


def self_test(folder: Path) -> dict[str, Tensor]:
    """Return the golden sample of a run or model folder: the tensors `input.NAME` and `output.NAME`.

    Raises:
        ModelError: The file is missing or damaged.
    """
    path = folder_of(folder) / "selftest.safetensors"
    try:
        return load_file(path)
    except (SafetensorError, OSError) as error:
        raise ModelError(f"{path} is damaged: {error}", COPY_HINT) from None


def _is_array(image: str | Path | PillowImage.Image) -> bool:
    return isinstance(image, str | Path) and Path(image).suffix.lower() == ARRAY


def _of_channels(pixels: Tensor, expected: Pixels, image: AnyImage) -> Tensor:
    if len(pixels) != expected.channels:
        where = str(image) if isinstance(image, str | Path) else "the image"
        raise DataError(f"{where} has {len(pixels)} channels, and the model expects {expected.channels}", "see its config.json")
    return pixels


def to_pixels(image: PillowImage.Image | np.ndarray[Any, Any] | Tensor, kind: Pixels = Pixels()) -> Tensor:  # noqa: B008
    """Bring a Pillow image, array or tensor to uint8 RGB `(3, H, W)`, or of another `kind` to floats in [0, 1], `(C, H, W)`.

    Raises:
        DataError: It has neither 1 nor 3 channels (or as many as the kind), no pixels, or floats beyond [0, 1].
    """
    if isinstance(image, PillowImage.Image):
        return pillow_pixels(image)
    plain = kind == Pixels()
    tensor = _tensor(image)
    if tensor.dim() == 2:
        tensor = tensor[None]
    elif isinstance(image, np.ndarray) and tensor.dim() == 3:
        tensor = tensor.permute(2, 0, 1)
    if tensor.dim() != 3 or tensor.shape[0] not in (1, 3, kind.channels) or tensor.numel() == 0:
        raise _not_rgb(image.shape)
    if tensor.is_floating_point():
        high, low = float(tensor.max()), float(tensor.min())
        if not (low >= 0 and high <= 1):
            raise DataError(
                f"image values reach from {low:g} to {high:g} but dtype is {str(tensor.dtype).removeprefix('torch.')}",
                PIXELS_HINT,
            )
        tensor = (tensor * 255).round() if plain else tensor.float()
    elif not plain and tensor.dtype in (torch.uint8, torch.uint16):
        tensor = unit(tensor)
    elif tensor.dtype != torch.uint8:
        raise DataError(f"image dtype is {str(tensor.dtype).removeprefix('torch.')}", PIXELS_HINT)
    if not plain:
        return tensor.cpu().expand(3 if kind.channels == 3 else -1, -1, -1).contiguous()
    return tensor.to("cpu", torch.uint8).expand(3, -1, -1).contiguous()


def _tensor(image: Any) -> Tensor:
    """Return an array or tensor as a tensor, a copy where it is an array, which may be read-only or of another layout."""
    if isinstance(image, Tensor):
        return image
    if not isinstance(image, np.ndarray):
        raise DataError(f"a {type(image).__name__} is no image", "pass a path, a Pillow image, an array or a tensor")
    try:
        return torch.from_numpy(np.array(image, order="C"))
    except (TypeError, ValueError):
        raise DataError(f"image dtype is {image.dtype}", PIXELS_HINT) from None


def _not_rgb(shape: Sequence[int]) -> DataError:
    return DataError(
        f"the model expects RGB (3 channels) or grey, got an array of shape {tuple(shape)}",
        "arrays are (height, width, 3), tensors (3, height, width)",
    )


def to_labels(image: PillowImage.Image | np.ndarray[Any, Any] | Tensor, classes: int) -> Tensor:
    """Bring `(H, W)` class indices below `classes`, or 255 for unknown, to a uint8 tensor.

    Raises:
        DataError: It is not two-dimensional, not of integers, or has an index out of range.
    """
    labels = _tensor(np.asarray(image) if isinstance(image, PillowImage.Image) else image)
    if labels.dim() != 2 or labels.is_floating_point() or labels.numel() == 0:
        kind = str(labels.dtype).removeprefix("torch.")
        raise DataError(f"the model expects a label map of integers (H, W), got {kind} of shape {tuple(labels.shape)}")
    labels = labels.long()
    wrong = ((labels < 0) | (labels >= classes)) & (labels != UNKNOWN)
    if wrong.any():
        y, x = wrong.nonzero()[0].tolist()
        what = f"class {int(labels[y, x])} at (x={x}, y={y})"
        raise DataError(f"{what}, but the model knows 0..{classes - 1} and {UNKNOWN} for unknown")
    return labels.to(torch.uint8)
