"""Skeletons that are well known, and those that files state: COCO categories, DeepLabCut, SLEAP, or five lines of JSON."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field as Setting
from pydantic import ValidationError

from pixelwise.data.files import MALFORMED, read_json
from pixelwise.data.hdf5 import opened, text_of
from pixelwise.errors import DataError, did_you_mean
from pixelwise.geometry.skeleton import Skeleton, swap_of

SkeletonFile = Annotated[
    str, Setting(description="names, limbs, mirror pairs and sigmas: a JSON, or a DeepLabCut config.yaml or SLEAP file")
]

COCO17 = (
    "nose",
    *(
        f"{side}_{part}"
        for part in ("eye", "ear", "shoulder", "elbow", "wrist", "hip", "knee", "ankle")
        for side in ("left", "right")
    ),
)
COCO_SIGMAS = (0.026, *(s for s in (0.025, 0.035, 0.079, 0.072, 0.062, 0.107, 0.087, 0.089) for _ in range(2)))
"""Of the 17 points of COCO's people (pycocotools, `cocoeval.py`, `kpt_oks_sigmas`)."""


def _layout(parts: dict[str, int], mirrored: Iterable[tuple[int, int]]) -> Skeleton:
    names = tuple(f"{part}_{i}" for part, count in parts.items() for i in range(count))
    swap = list(range(len(names)))
    for one, other in mirrored:
        swap[one], swap[other] = other, one
    return Skeleton(names=names, swap=tuple(swap))


IMM58 = _layout(
    {"jaw": 13, "left_eye": 8, "right_eye": 8, "left_brow": 5, "right_brow": 5, "mouth": 8, "nose": 11},
    [(i, 12 - i) for i in range(6)]
    + [(13 + i, 21 + i) for i in range(8)]
    + [(29 + i, 34 + i) for i in range(5)]
    + [(39, 43), (40, 42), (44, 46)]
    + [(47 + i, 57 - i) for i in range(5)],
)
"""The 58 points of the IMM face database (Stegmann, Ersboll & Larsen, 2003)."""

IBUG68 = _layout(
    {"jaw": 17, "right_brow": 5, "left_brow": 5, "nose": 9, "right_eye": 6, "left_eye": 6, "mouth": 20},
    [(i, 16 - i) for i in range(8)]
    + [(17 + i, 26 - i) for i in range(5)]
    + [(31, 35), (32, 34)]
    + [(36 + i, 45 - i) for i in range(4)]
    + [(40, 47), (41, 46)]
    + [(48, 54), (49, 53), (50, 52), (55, 59), (56, 58), (60, 64), (61, 63), (65, 67)],
)
"""The 68 points of iBUG 300-W (Sagonas et al. 2013), from 0; the outer corners of the eyes are 36 and 45."""

LSP14 = Skeleton(
    names=(
        *("r_ankle", "r_knee", "r_hip", "l_hip", "l_knee", "l_ankle", "r_wrist", "r_elbow", "r_shoulder"),
        *("l_shoulder", "l_elbow", "l_wrist", "neck", "head_top"),
    ),
    limbs=((0, 1), (1, 2), (3, 4), (4, 5), (6, 7), (7, 8), (8, 12), (9, 12), (9, 10), (10, 11), (12, 13), (2, 12), (3, 12)),
    swap=(5, 4, 3, 2, 1, 0, 11, 10, 9, 8, 7, 6, 12, 13),
)
"""The 14 joints of Leeds Sports Pose (Johnson & Everingham 2010), left and right the person's own."""

Layout = Literal["imm58", "ibug68", "lsp14"]
LAYOUTS: dict[str, Skeleton] = {"imm58": IMM58, "ibug68": IBUG68, "lsp14": LSP14}


def made_skeleton(stated: Mapping[str, Any], where: Path) -> Skeleton:
    """Return the skeleton of a JSON object: `names`, and if stated `limbs` (or `edges`), `swap`, `sigmas` and `category_id`.

    Limbs are pairs of names or of numbers from 0. `swap` says for every point which takes its name in a mirror, or lists
    the pairs; where it is not stated, left and right in the names tell. COCO's 17 names have COCO's sigmas.

    Raises:
        DataError: There are no names, or something does not fit them.
    """
    names = stated.get("names")
    if not isinstance(names, list | tuple) or not names or len(set(map(str, names))) < len(names):
        hint = 'expected {"names": [...], "limbs": [[0, 1], ...], "swap": [...]}'
        raise DataError(f"{where}: no list of different names", hint)
    names = tuple(map(str, names))
    try:
        return Skeleton(
            names=names,
            limbs=tuple(_pair(limb, names) for limb in stated.get("limbs") or stated.get("edges") or ()),
            swap=_swap(stated.get("swap"), names),
            sigmas=tuple(stated.get("sigmas") or (COCO_SIGMAS if names == COCO17 else ())),
            category_id=stated.get("category_id"),
        )
    except ValidationError as error:
        raise DataError(f"{where}: {error.errors()[0]['msg'].removeprefix('Value error, ')}") from None
    except MALFORMED as error:
        hint = "limbs and mirror pairs are pairs of names, or of numbers from 0"
        raise DataError(f"{where}: no skeleton ({error})", hint) from None


def _pair(ends: Sequence[Any], names: tuple[str, ...]) -> tuple[int, int]:
    strange = [end for end in ends if isinstance(end, str) and end not in names]
    if strange:
        raise ValueError(f"{strange[0]!r} is none of its names; {did_you_mean(strange[0], names) or ', '.join(names)}")
    one, other = ((names.index(end) if isinstance(end, str) else int(end)) for end in ends)
    return one, other


def _swap(stated: Any, names: tuple[str, ...]) -> tuple[int, ...]:
    if not stated:
        return swap_of(names)
    if all(isinstance(twin, int) for twin in stated):
        return tuple(stated)
    swap = list(range(len(names)))
    for one, other in (_pair(pair, names) for pair in stated):
        swap[one], swap[other] = other, one
    return tuple(swap)


def of_category(category: Mapping[str, Any], where: Path) -> Skeleton:
    """Return the skeleton of a COCO category: `keypoints` are names, `skeleton` holds limbs that count from 1, `id` its number.

    Raises:
        DataError: Something does not fit.
    """
    try:
        limbs = [[end - 1 for end in limb] for limb in category.get("skeleton") or ()]
    except MALFORMED as error:
        raise DataError(f"{where}: no skeleton ({error})", "limbs are pairs of numbers from 1") from None
    number = category.get("id")
    known = {"category_id": number if isinstance(number, int) else None}
    return made_skeleton({**category, "names": category["keypoints"], "limbs": limbs, **known}, where)


def of_deeplabcut(path: Path) -> tuple[Skeleton, dict[str, Any]]:
    """Return the skeleton of a DeepLabCut `config.yaml`, and everything that the file says.

    The points are `bodyparts`; in a project of several animals `multianimalbodyparts`, then the `uniquebodyparts` that only
    one has. Parts of the `skeleton` that are no points are passed over, as DeepLabCut's template names some.

    Raises:
        DataError: The file is missing or malformed.
    """
    try:
        import yaml
    except ImportError:  # pragma: no cover - comes with huggingface_hub
        raise DataError(f"{path}: reading it needs PyYAML", "pip install 'pixelwise[pose-files]'") from None
    try:
        stated = yaml.safe_load(path.read_text("utf-8"))
        several = bool(stated.get("multianimalproject"))
        parts = [*stated["multianimalbodyparts"], *(stated.get("uniquebodyparts") or ())] if several else stated["bodyparts"]
        limbs = [[_scalar(end) for end in limb] for limb in stated.get("skeleton") or ()]
        names = [_scalar(part) for part in parts]
    except OSError as error:
        raise DataError(f"{path}: {error.strerror}") from None
    except (yaml.YAMLError, *MALFORMED) as error:
        what = f"no config.yaml of DeepLabCut ({type(error).__name__})"
        raise DataError(f"{path}: {what}", "it lists bodyparts and skeleton") from None
    return made_skeleton({"names": names, "limbs": [limb for limb in limbs if set(limb) <= set(names)]}, path), stated


def _scalar(name: object) -> str:
    """Return a name as text; of a list, which YAML can nest a thousandfold in a few lines, there is none."""
    if not isinstance(name, str | int | float):
        raise TypeError(f"a {type(name).__name__} is no name")
    return str(name)


def of_sleap(path: Path) -> Skeleton:
    """Return the skeleton of a SLEAP file, from the JSON in its `metadata`.

    Links of type 1 are limbs, of type 2 mirror pairs; jsonpickle writes a type in full once, and later as `py/id`, its number
    among the types.

    Raises:
        DataError: The file is missing or malformed.
    """
    with opened(path) as file:
        try:
            return sleap_skeleton(json.loads(text_of(file["metadata"].attrs["json"])), path)
        except (*MALFORMED, OSError) as error:
            raise DataError(f"{path}: no SLEAP file ({type(error).__name__}: {error})") from None


def sleap_skeleton(metadata: Mapping[str, Any], path: Path) -> Skeleton:
    """Return the first skeleton of SLEAP's metadata.

    Raises:
        DataError: It does not fit together.
        KeyError: Something is not there.
    """
    stated = metadata["skeletons"][0]
    order = [node["id"] if isinstance(node, dict) else node for node in stated["nodes"]]
    names = [metadata["nodes"][number]["name"] for number in order]
    pairs: dict[int, list[list[int]]] = {1: [], 2: []}
    types: list[int] = []
    for link in stated["links"]:
        kind = link["type"]
        if "py/reduce" in kind:
            types.append(next(p["py/tuple"][0] for p in kind["py/reduce"] if isinstance(p, dict) and "py/tuple" in p))
        number = types[-1] if "py/reduce" in kind else types[kind["py/id"] - 1]
        pairs[number].append([order.index(link["source"]), order.index(link["target"])])
    return made_skeleton({"names": names, "limbs": pairs[1], "swap": pairs[2]}, path)


def read_skeleton(path: Path) -> Skeleton:
    """Return the skeleton in a file: our JSON, COCO's, a DeepLabCut `config.yaml` or a SLEAP file.

    Raises:
        DataError: The file is missing, malformed, or of no such kind.
    """
    if path.suffix in (".yaml", ".yml"):
        return of_deeplabcut(path)[0]
    if path.suffix == ".slp":
        return of_sleap(path)
    stated = read_json(path)
    if isinstance(stated, dict) and isinstance(stated.get("categories"), list):
        category = next((c for c in stated["categories"] if isinstance(c, dict) and c.get("keypoints")), None)
        if category is None:
            raise DataError(f"{path}: no category names keypoints")
        return of_category(category, path)
    return made_skeleton(stated if isinstance(stated, dict) else {}, path)


def skeleton_for(count: int, own: Skeleton, setting: str, where: Path) -> Skeleton:
    """Return the skeleton that the setting `skeleton` names, or else the file's own.

    Raises:
        DataError: It does not have `count` points, or not those that the file names.
    """
    if not setting:
        return own
    stated = read_skeleton(Path(setting).expanduser())
    if len(stated.names) != count:
        raise DataError(f"{setting}: {len(stated.names)} names for the {count} points of {where}")
    return stated
