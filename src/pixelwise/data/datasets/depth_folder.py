"""Depth or surface normals as folders: `<split>/images` with `<split>/depth`, `<split>/normals` or both, or to be parted.

Depth is PNG (or TIFF, PGM) of 16 bits, 0 for no reading, or `.npy` in metres; normals are PNG or `.npy`. `meta.json` at the
root states the unit, the camera and the axes (see `pixelwise.data.surfaces`). Where there is a camera and no folder of
normals, they are fitted to the depth. OpenEXR is not read: it would take a library of its own; convert it to `.npy`.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field as Setting

from pixelwise.data.dataset import DataConfig, Dataset, Meta, Source, existing_folder
from pixelwise.data.files import ValFraction, ValFrom, checked, images_in, part, part_in_order, require_pairs, split_folder
from pixelwise.data.images import decode_image, image_size
from pixelwise.data.labels import require_same_size
from pixelwise.data.sample import Field, Image, Sample
from pixelwise.data.surfaces import CAMERA_HINT, DEPTH_SUFFIXES, NORMALS_SUFFIXES, SurfaceScheme
from pixelwise.errors import DataError
from pixelwise.geometry.camera import Camera, Intrinsics
from pixelwise.geometry.frame import Frame

TRUTHS = {"depth": DEPTH_SUFFIXES, "normals": NORMALS_SUFFIXES}
Files = dict[str, Path]


class Config(DataConfig):
    """Images with maps of depth or of surface normals in folders."""

    kind: Literal["depth_folder"] = "depth_folder"
    root: Annotated[str, Setting(description="folder with meta.json and train/{images,depth}, or {images,depth}")]
    depth_unit: Annotated[
        float | None, Setting(gt=0, description="metres per count of an integer file; meta.json's depth_unit if null")
    ] = None
    intrinsics: Annotated[
        tuple[float, float, float, float] | None,
        Setting(description="fx, fy, cx, cy in pixels of the stored pictures; those of meta.json if null"),
    ] = None
    val_fraction: ValFraction = 0.1
    val_from: ValFrom = "anywhere"

    def open(self, split: str) -> Dataset:
        """Return the images of `split` with their depth, their normals, or both.

        Raises:
            DataError: A folder is missing or empty, files do not pair up, or meta.json means nothing.
        """
        root = existing_folder(self.root)
        scheme = SurfaceScheme.read(root, self.depth_unit, self.intrinsics and Intrinsics(*self.intrinsics))
        folder, parted = split_folder(root, split)
        images = images_in(existing_folder(str(folder / "images")))
        truths = {name: _maps_in(folder / name, suffixes) for name, suffixes in TRUTHS.items() if (folder / name).is_dir()}
        if not truths:
            raise DataError(f"{folder} has neither a folder depth nor a folder normals", "put one beside images")
        for name, maps in truths.items():
            require_pairs(folder, images, maps, ("images", name))
        keys, fraction = list(images), self.val_fraction
        if parted:
            chosen = part_in_order if self.val_from == "end" else part
            keys = [keys[i] for i in chosen(keys, split, fraction, where=str(root))]
        items = [(key, {"image": images[key], **{name: maps[key] for name, maps in truths.items()}}) for key in keys]
        dataset = checked(DepthFolder(items, scheme), self.on_error)
        if "depth" in truths:
            dataset.sample(0, ("depth",))  # what is noted about its unit is noted even if all depth comes from the cache
        return dataset


def _maps_in(folder: Path, suffixes: frozenset[str]) -> Files:
    if any(path.suffix.lower() == ".exr" for path in folder.iterdir()):
        raise DataError(f"{folder} holds OpenEXR files, which are not read", "convert them to .npy: depth in metres, normals n")
    return images_in(folder, suffixes)


class DepthFolder(Dataset):
    """Fields "image", and "depth" and "normals" as far as there are files or they follow from them."""

    def __init__(self, items: Sequence[tuple[str, Files]], scheme: SurfaceScheme) -> None:
        self.items, self.scheme = list(items), scheme
        files, camera = self.items[0][1], scheme.intrinsics
        self.computed = "normals" not in files and camera is not None
        self.fields = (*files, "normals") if self.computed else tuple(files)
        self.meta = Meta(camera=Camera(camera, image_size(files["image"])) if camera else None)
        self.missing = {} if "normals" in self.fields else {"normals": CAMERA_HINT}
        self.notes = scheme.notes

    def __len__(self) -> int:
        return len(self.items)

    def key(self, index: int) -> str:
        """Return the image's path in its folder, without suffix."""
        return self.items[index][0]

    def sample(self, index: int, fields: Sequence[str]) -> Sample:
        """Return the image and what is asked of its maps.

        Raises:
            DataError: A file is damaged, the unit, the axes or the camera is missing, or the maps differ in size.
        """
        key, files = self.items[index]
        read: dict[str, Field] = {}
        if "image" in fields:
            pixels = decode_image(files["image"], self.notes)
            read["image"] = Image(pixels, Frame.of(pixels.shape[1:]))
        if "depth" in fields or ("normals" in fields and "normals" not in files):
            depth = self.scheme.decode_depth(files["depth"])
            read["depth"] = depth
            if "normals" in fields and "normals" not in files:
                read["normals"] = self.scheme.normals(depth, files["depth"])
        if "normals" in fields and "normals" in files:
            read["normals"] = self.scheme.decode_normals(files["normals"])
        for name in ("depth", "normals"):
            if "image" in read and name in read and name in files:
                require_same_size({n: read[n] for n in ("image", name)}, (files["image"], files[name]))
        return Sample(key, {name: read[name] for name in fields})

    def source(self, index: int, field: str) -> Source | None:
        """Return the file that a field comes from."""
        files, scheme = self.items[index][1], self.scheme
        if field == "image":
            return Source(files["image"], "image")
        if field in files:
            return Source(files[field], f"depth {scheme.unit}" if field == "depth" else f"normals {scheme.axes}")
        return Source(files["depth"], f"normals from depth {scheme.unit} {scheme.intrinsics}")
