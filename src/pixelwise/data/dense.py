"""Images in folders with maps of one value per pixel beside them: labels, depth, surface normals, boundaries."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal, NamedTuple

from pixelwise.data.boundary_files import Reading, read_boundaries
from pixelwise.data.dataset import Dataset, Meta, Source, existing_folder
from pixelwise.data.files import Files, checked, images_in, part, part_in_order, require_pairs, split_folder
from pixelwise.data.images import SUFFIXES, decode_image, image_size
from pixelwise.data.labels import LabelScheme, require_same_size
from pixelwise.data.sample import Depth, Field, Image, Sample
from pixelwise.data.surfaces import CAMERA_HINT, DEPTH_SUFFIXES, NORMALS_SUFFIXES, SurfaceScheme
from pixelwise.errors import DataError
from pixelwise.geometry.camera import Camera
from pixelwise.geometry.frame import Frame

MAPS: Mapping[str, frozenset[str]] = {
    "labels": SUFFIXES,
    "depth": DEPTH_SUFFIXES,
    "normals": NORMALS_SUFFIXES,
    "boundaries": SUFFIXES | {".mat"},
}
"""The folders beside `images`, called like the fields, and the suffixes of their files."""


class Schemes(NamedTuple):
    """What the numbers in the files mean: those of labels, of depth and normals, and of boundaries."""

    labels: LabelScheme | None
    surfaces: SurfaceScheme
    reading: Reading = "grey"


def paired(root: Path, split: str, maps: Sequence[str], fraction: float, val_from: str) -> list[tuple[str, Files]]:
    """Return the images of `split` by their paths without suffix, each with the file of every folder of `maps` that is there.

    Args:
        root: Has `<split>/images` or `images`.
        split: "train", "val" or another folder.
        maps: Names in `MAPS`; at least one folder must be there.
        fraction: Share held out where there is no folder val.
        val_from: As the setting `ValFrom`.

    Raises:
        DataError: A folder is missing or empty, or files do not pair up.
    """
    folder, parted = split_folder(root, split)
    images = images_in(existing_folder(str(folder / "images")))
    beside = {name: _maps_in(folder / name, MAPS[name]) for name in maps if (folder / name).is_dir()}
    if not beside:
        raise DataError(f"{folder} has no folder {' or '.join(maps)}", "put one beside images")
    for name, files in beside.items():
        require_pairs(folder, images, files, ("images", name))
    keys = list(images)
    if parted:
        chosen = part_in_order if val_from == "end" else part
        keys = [keys[i] for i in chosen(keys, split, fraction, where=str(root))]
    return [(key, {"image": images[key], **{name: files[key] for name, files in beside.items()}}) for key in keys]


def _maps_in(folder: Path, suffixes: frozenset[str]) -> Files:
    if any(path.suffix.lower() == ".exr" for path in folder.iterdir()):
        raise DataError(f"{folder} holds OpenEXR files, which are not read", "convert them to .npy: depth in metres, normals n")
    return images_in(folder, suffixes)


def opened(items: Sequence[tuple[str, Files]], schemes: Schemes, on_error: Literal["stop", "skip"]) -> Dataset:
    """Return the data set of what `paired` found, checked as `data.files.checked` does."""
    dataset = checked(DenseFolder(items, schemes), on_error)
    if "depth" in items[0][1]:
        dataset.sample(0, ("depth",))  # what is noted about its unit is noted even if all depth comes from the cache
    return dataset


class DenseFolder(Dataset):
    """Fields "image" and, as far as there are files, those of `MAPS`; normals follow from depth where there is a camera."""

    def __init__(self, items: Sequence[tuple[str, Files]], schemes: Schemes) -> None:
        self.items, self.schemes = list(items), schemes
        files, camera = self.items[0][1], schemes.surfaces.intrinsics
        offered = {*files, "normals"} if "depth" in files and camera else {*files}
        self.fields = ("image", *(name for name in MAPS if name in offered))
        meta = schemes.labels.meta if schemes.labels else Meta()
        self.meta = meta.model_copy(update={"camera": Camera(camera, image_size(files["image"])) if camera else None})
        self.missing = {name: f"put a folder {name} beside images" for name in MAPS if name not in offered}
        if "depth" in files and "normals" not in offered:
            self.missing["normals"] = CAMERA_HINT
        self.notes = schemes.surfaces.notes
        if schemes.labels:
            schemes.labels.notes = self.notes

    def __len__(self) -> int:
        return len(self.items)

    def key(self, index: int) -> str:
        """Return the image's path in its folder, without suffix."""
        return self.items[index][0]

    def sample(self, index: int, fields: Sequence[str]) -> Sample:
        """Return the image and what is asked of its maps.

        Raises:
            DataError: A file is damaged, what its numbers mean is not known, or a map differs in size from the image.
        """
        key, files = self.items[index]
        read = {name: self._read(name, files) for name in fields if name in files}
        if "normals" in fields and "normals" not in files:
            depth = read.get("depth") or self._read("depth", files)
            assert isinstance(depth, Depth)
            read["normals"] = self.schemes.surfaces.normals(depth, files["depth"])
        for name in (name for name in files if "image" in read and name in read):
            require_same_size({"image": read["image"], name: read[name]}, (files["image"], files[name]))
        return Sample(key, {name: read[name] for name in fields})

    def _read(self, name: str, files: Files) -> Field:
        if name == "image":
            pixels = decode_image(files["image"], self.notes)
            return Image(pixels, Frame.of(pixels.shape[1:]))
        if name == "labels":
            assert self.schemes.labels
            return self.schemes.labels.decode(files["labels"])
        if name == "boundaries":
            return read_boundaries(files["boundaries"], self.schemes.reading, self.notes)
        surfaces = self.schemes.surfaces
        return surfaces.decode_depth(files[name]) if name == "depth" else surfaces.decode_normals(files[name])

    def source(self, index: int, field: str) -> Source | None:
        """Return the file that a field comes from; maps of several annotators are quicker to decode again than to keep."""
        files, (labels, surfaces, _) = self.items[index][1], self.schemes
        if field == "image":
            return Source(files["image"], "image")
        if field == "boundaries":
            return None
        if field == "labels":
            return Source(files["labels"], labels.reading if labels else "")
        if field in files:
            return Source(files[field], f"depth {surfaces.unit}" if field == "depth" else f"normals {surfaces.axes}")
        return Source(files["depth"], f"normals from depth {surfaces.unit} {surfaces.intrinsics}")
