"""SLEAP's `.slp` files: HDF5 with tables of frames, instances and points, and JSON that names skeleton and videos.

Images are taken from the file itself where they are embedded (`.pkg.slp`), from the image files it names (also beside it,
if the project moved), or, where it names a video, from that (with PyAV), or from a folder of frames extracted from it.
Instances that people labelled are taken; `predicted` also takes the others in frames that nobody labelled. Invisible points
are unknown. Since format 1.1 the first pixel's centre is 0, before its corner was (sleap-io, `read_instances` in
`io/slp.py`); the first gets half a pixel added.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from importlib.util import find_spec
from math import nan
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import torch
from pydantic import Field as Setting
from torch import Tensor

from pixelwise.data.dataset import DataConfig, Dataset, Meta, Source, existing_folder
from pixelwise.data.files import MALFORMED, ValFraction, ValFrom, checked, part, part_in_order
from pixelwise.data.hdf5 import opened, text_of, values_of
from pixelwise.data.images import decode_image
from pixelwise.data.keypoints import KeypointFiles, Record, numbered, record, require_images
from pixelwise.data.skeletons import SkeletonFile, skeleton_for, sleap_skeleton
from pixelwise.data.video_frames import extracted
from pixelwise.errors import DataError
from pixelwise.geometry.homography import Size

USER, PREDICTED = 0, 1
CENTRED = 1.1
"""The format from which on the centre of the first pixel is 0."""
MOST_FRAMES = 2**24
"""Of a video whose embedded images have no numbers."""
RGB_FORMAT = 1.4
"""The format from which on an embedded image says in which order its channels are; before it was OpenCV's."""


class Config(DataConfig):
    """Labels of SLEAP."""

    kind: Literal["keypoints_sleap"] = "keypoints_sleap"
    root: Annotated[str, Setting(description="a .slp file, or a folder with one, or with train*.slp and val*.slp")]
    frames: Annotated[str, Setting(description="folder of frames of the video, numbered from 0 (one each for several)")] = ""
    predicted: Annotated[bool, Setting(description="take predicted instances in frames that nobody labelled")] = False
    skeleton: SkeletonFile = ""
    val_from: ValFrom = "anywhere"
    val_fraction: ValFraction = 0.1

    def open(self, split: str) -> Dataset:
        """Return the labelled frames of `split`.

        Raises:
            DataError: The file is missing or damaged, or its images are.
            UsageError: h5py is not installed.
        """
        path, parted = _file(Path(self.root).expanduser(), split)
        frames = existing_folder(self.frames) if self.frames else None
        with opened(path) as file:
            try:
                own, records = _read(file, path, frames, self.predicted)
            except (*MALFORMED, OSError) as error:
                raise DataError(f"{path}: no SLEAP file ({type(error).__name__}: {error})") from None
        if not records:
            hint = "" if self.predicted else "set data.predicted=true to take what a model predicted"
            raise DataError(f"{path}: no labelled frame", hint)
        if parted:
            names = [item.name for item in records]
            chosen = part if self.val_from == "anywhere" else part_in_order
            records = [records[i] for i in chosen(names, split, self.val_fraction, where=str(path))]
        if self.on_error == "stop":
            require_images((item.path for item in records), path)
        meta = Meta(skeleton=skeleton_for(len(own.names), own, self.skeleton, path))
        return checked(SleapFiles(path.parent, records, meta), self.on_error)


class SleapFiles(KeypointFiles):
    """Labelled frames, some of whose images are in the file of labels itself."""

    def pixels(self, item: Record) -> Tensor:
        """Return the image of a record, uint8 (3, H, W)."""
        return _embedded(item) if item.path.suffix == ".slp" else super().pixels(item)

    def size(self, item: Record) -> Size:
        """Return height and width of the image of a record."""
        if item.path.suffix != ".slp":
            return super().size(item)
        pixels = _embedded(item)
        return pixels.shape[1], pixels.shape[2]

    def source(self, index: int, field: str) -> Source | None:
        """Return the image file; an embedded image has none."""
        return super().source(index, field) if self.records[index].path.suffix != ".slp" else None


def _file(root: Path, split: str) -> tuple[Path, bool]:
    """Return the file of `split`, and whether it holds train and val together."""
    if root.is_file():
        return root, True
    folder = existing_folder(str(root))
    found = sorted(folder.glob(f"{split}*.slp"))
    if len(found) == 1:
        return found[0], False
    single = sorted(folder.glob("*.slp"))
    if len(single) != 1:
        raise DataError(f"{root}: {len(single)} .slp files", "name one: data.root=FILE.slp")
    return single[0], True


def _read(file: Any, path: Path, folder: Path | None, predicted: bool) -> tuple[Any, list[Record]]:
    """Return the skeleton and the frames with instances, in the order of the file."""
    attributes = file["metadata"].attrs
    skeleton = sleap_skeleton(json.loads(text_of(attributes["json"])), path)
    corner = -0.5 if float(attributes["format_id"]) >= CENTRED else 0.0
    points = {USER: values_of(file, "points"), PREDICTED: values_of(file, "pred_points")}
    instances = values_of(file, "instances")
    found, wanted = [], defaultdict[int, list[int]](list)
    for frame in values_of(file, "frames"):
        of_frame = instances[int(frame["instance_id_start"]) : int(frame["instance_id_end"])]
        labelled = of_frame[of_frame["instance_type"] == USER]
        chosen = labelled if len(labelled) or not predicted else of_frame
        rows = [_rows(points[int(one["instance_type"])], one, len(skeleton.names), path) for one in chosen]
        if rows:
            video, number = int(frame["video"]), int(frame["frame_idx"])
            found.append((video, number, rows))
            wanted[video].append(number)
    stated = [json.loads(text_of(one)) for one in values_of(file, "videos_json")]
    videos = {video: _video(file, stated[video], path, folder, numbers) for video, numbers in wanted.items()}
    records = []
    for video, number, rows in found:
        made = record(videos[video].get(number, path.parent / f"frame {number} of video {video}"), rows, corner=corner)
        source = videos[video]
        name = f"{source.embedded}#{number}" if isinstance(source, Embedded) else f"video{video}/{number:06d}"
        records.append(replace(made, name=name))
    return skeleton, records


class Embedded(dict[int, Path]):
    """The frames of a video that are in the file of labels, as the data set of this name."""

    embedded = ""


def _video(file: Any, stated: Mapping[str, Any], path: Path, folder: Path | None, wanted: Sequence[int]) -> Mapping[int, Path]:
    """Return where the frames of a video are, by their number; of a video file only the wanted ones."""
    backend = stated.get("backend") or stated
    dataset = backend.get("dataset") or ""
    if dataset in file:
        found = Embedded(dict.fromkeys(_numbers(file, dataset), path))
        found.embedded = dataset
        return found
    named = backend.get("filenames") or stated.get("filename") or backend.get("filename") or ""
    if folder is not None:
        own = folder / Path(str(named).replace("\\", "/")).stem
        return numbered(own if own.is_dir() else folder)
    if isinstance(named, list):
        return {number: _image(str(name), path) for number, name in enumerate(named)}
    video = _image(str(named), path)
    if video.is_file() and find_spec("av"):
        return extracted(video, wanted)
    hint = f"ffmpeg -i {video.name} -start_number 0 frames/%06d.png, then data.frames=frames"
    if video.is_file():
        raise DataError(f"{path}: its images are in the video {named}", f"pip install 'pixelwise[video]'; or {hint}")
    raise DataError(f"{path}: its images are in the video {named}, which is not there", f"put it beside the labels; or {hint}")


def _numbers(file: Any, dataset: str) -> Sequence[int]:
    """Return which frame of its video each embedded image is."""
    stated = f"{dataset.rpartition('/')[0]}/frame_numbers"
    if stated in file:
        return [*map(int, values_of(file, stated))]
    return range(min(len(file[dataset]), MOST_FRAMES))


def _image(named: str, path: Path) -> Path:
    """Return the image of this name, or the one beside the labels, in the nearest folder of the same name."""
    parts = named.replace("\\", "/").split("/")
    places = [Path(named), *(path.parent.joinpath(*parts[-depth:]) for depth in (2, 1))]
    return next((place for place in places if place.is_file()), places[-1])


def _rows(points: Any, one: Any, count: int, path: Path) -> list[list[float]]:
    rows = points[int(one["point_id_start"]) : int(one["point_id_end"])]
    if len(rows) != count:
        what = f"an instance has {len(rows)} points, expected {count}"
        raise DataError(f"{path}: {what}", "files of several skeletons are not read")
    return [[float(row["x"]), float(row["y"])] if row["visible"] else [nan, nan] for row in rows]


def _embedded(item: Record) -> Tensor:
    """Decode an image in the file of labels; the record's name says which.

    Raises:
        DataError: It is not there or damaged.
    """
    dataset, _, number = item.name.rpartition("#")
    with opened(item.path) as file:
        try:
            values = values_of(file, dataset, _numbers(file, dataset).index(int(number)))
            stated = file[dataset].attrs
            kind = text_of(stated.get("format", "hdf5"))
            older = float(file["metadata"].attrs["format_id"]) < RGB_FORMAT
            swapped = text_of(stated.get("channel_order", "BGR" if older else "RGB")) == "BGR"
        except (*MALFORMED, OSError) as error:
            raise DataError(f"{item.path}: frame {number} of {dataset} cannot be read ({error})") from None
    return _pixels(values, kind, swapped, f"{item.path}, frame {number} of {dataset}")


def _pixels(values: Any, kind: str, swapped: bool, where: str) -> Tensor:
    if kind == "hdf5":
        array = np.asarray(values)
        if array.ndim != 3 or array.dtype != np.uint8:
            what = f"raw pixels of {array.dtype} and shape {array.shape}"
            raise DataError(f"{where}: {what}", "expected uint8 (height, width, channels)")
        channels = array.shape[-1]
        rgb = np.repeat(array, 3, -1) if channels == 1 else array[..., :3].copy()
        return torch.from_numpy(rgb).permute(2, 0, 1)
    try:
        pixels = decode_image(np.asarray(values).tobytes())
    except DataError as error:
        raise DataError(f"{where}: {error}", error.hint) from None
    return pixels.flip(0) if swapped else pixels
