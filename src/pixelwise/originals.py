"""Checkpoints of pytorch-CycleGAN-and-pix2pix (Isola et al. 2017; Zhu et al. 2017), read as tensors and named as ours are.

Their files say nothing about the architecture: it is inferred from names and shapes. Batch norm has norm weights; instance
norm, which has none, comes with biases in the convolutions before it; without a norm there are neither.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal, NamedTuple

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from pixelwise.data.augment import View
from pixelwise.data.dataset import Meta, Pixels
from pixelwise.data.sample import Image, Sample
from pixelwise.errors import ModelError
from pixelwise.geometry.frame import Frame
from pixelwise.model import Model
from pixelwise.nn.blocks import Statistics
from pixelwise.nn.network import NetworkConfig
from pixelwise.nn.networks import patchgan, pix2pix_unet, residual
from pixelwise.nn.weight_files import read
from pixelwise.stored import NETWORK_ALONE, Description
from pixelwise.tasks import translation

KNOWN = "known are U-Net and ResNet generators and PatchGAN discriminators of pytorch-CycleGAN-and-pix2pix"
SIZE = (256, 256)
MOST_BLOCKS = 64
"""The original offers 6 and 9."""
Weights = Mapping[str, Tensor]


class Original(NamedTuple):
    """A network of the original repository.

    Attributes:
        config: The same architecture here.
        channels: Channels of its input and of its output.
        network: It, with the checkpoint's weights.
    """

    config: NetworkConfig
    channels: tuple[int, int]
    network: nn.Module


class Shape(NamedTuple):
    """What the tensors say: our settings, channels in and out, and the beginning of each module's name, theirs to ours."""

    config: NetworkConfig
    channels: tuple[int, int]
    names: dict[str, str]


def original(path: Path, statistics: Statistics = "picture") -> Original:
    """Read a checkpoint.

    Args:
        path: A state dictionary in a file of `torch.save`; keys may begin with `module.`.
        statistics: What batch norm uses in evaluation: each picture's own, as the original's test does unless told `--eval`,
            or the running ones.

    Raises:
        ModelError: It cannot be read, wants to run code, or is of another architecture (the first differing tensors are named).
    """
    weights = {name.removeprefix("module."): tensor for name, tensor in read(path, KNOWN).items()}
    if empty := [name for name, tensor in weights.items() if tensor.numel() == 0]:
        raise ModelError(f"{path} has tensors without numbers: {_listed(weights, empty)}", KNOWN)
    shape = _shape(path, weights, statistics)
    with torch.device("meta"):  # nothing is taken for what the names promise before every tensor is seen to be there
        wanted = shape.config.build(*shape.channels).state_dict()
    renamed = _renamed(path, shape, weights, wanted)
    network = shape.config.build(*shape.channels)
    network.load_state_dict(renamed)
    return Original(shape.config, shape.channels, network.eval())


def _shape(path: Path, weights: Weights, statistics: Statistics) -> Shape:
    for pattern, found in (("model.model.0.weight", _unet), ("model.1.weight", _resnet), (r"model.0.weight", _patches)):
        if pattern in weights and weights[pattern].dim() == 4:
            if len({name.split(".")[1] for name in weights if ".conv_block." in name}) > MOST_BLOCKS:
                raise ModelError(f"{path} has more blocks than any generator of the original", KNOWN)
            return found(weights, statistics)
    if "net.0.weight" in weights and weights["net.0.weight"].dim() == 4:
        return _patches(weights, statistics)
    raise ModelError(f"{path} holds no known network; its first tensors are {_listed(weights, list(weights))}", KNOWN)


def _unet(weights: Weights, statistics: Statistics) -> Shape:
    depth, prefix = 1, "model.model.1.model."
    while f"{prefix}1.weight" in weights:
        depth, prefix = depth + 1, prefix + "3.model."
    first, last = weights["model.model.0.weight"], weights.get("model.model.3.weight")
    config = pix2pix_unet.Config(
        width=len(first), depth=min(max(depth, 2), 10), norm=_norm(weights, r"\.model\.1$"), test_statistics=statistics
    )
    names = {"model.model.0": "down.0", "model.model.3": f"up.{config.depth - 1}"}
    prefix = "model.model.1.model."
    for level in range(1, config.depth):
        innermost, up = level == config.depth - 1, config.depth - 1 - level
        names[f"{prefix}1"] = f"down.{level}.0"
        if not innermost:
            names[f"{prefix}2"] = f"down.{level}.1"
        names[f"{prefix}{3 if innermost else 5}"] = f"up.{up}.0"
        names[f"{prefix}{4 if innermost else 6}"] = f"up.{up}.1"
        prefix += "3.model."
    return Shape(config, (first.shape[1], 1 if last is None else last.shape[1]), names)


def _resnet(weights: Weights, statistics: Statistics) -> Shape:
    blocks = len({name.split(".")[1] for name in weights if ".conv_block." in name})
    dropped = any(re.fullmatch(r"model\.\d+\.conv_block\.6\.weight", name) and weights[name].dim() == 4 for name in weights)
    first, last = weights["model.1.weight"], weights.get(f"model.{17 + blocks}.weight")
    config = residual.Config(
        width=len(first),
        blocks=blocks,
        norm=_norm(weights, r"^model\.4$"),
        dropout=0.5 if dropped else 0.0,
        test_statistics=statistics,
        activation="tanh",
    )
    names = {f"model.{1 + i}": f"layers.{i}" for i in (0, 1, 3, 4, 6, 7)}
    for block in range(blocks):
        for theirs, ours in ((1, 0), (2, 1), (5 + dropped, 3), (6 + dropped, 4)):
            names[f"model.{10 + block}.conv_block.{theirs}"] = f"layers.{9 + block}.branch.{ours}"
    names |= {f"model.{10 + blocks + i}": f"layers.{9 + blocks + i}" for i in (0, 1, 3, 4)}
    names[f"model.{17 + blocks}"] = f"layers.{15 + blocks}"
    return Shape(config, (first.shape[1], 1 if last is None else len(last)), names)


def _patches(weights: Weights, statistics: Statistics) -> Shape:
    stem = "net" if "net.0.weight" in weights else "model"
    convolutions = [name for name, tensor in weights.items() if tensor.dim() == 4]
    layers = 0 if stem == "net" else min(max(len(convolutions) - 2, 1), 6)
    first, last = weights[f"{stem}.0.weight"], weights[convolutions[-1]]
    config = patchgan.Config(width=len(first), layers=layers, norm=_norm(weights, rf"^{stem}\.2$"))
    return Shape(config, (first.shape[1], len(last)), {f"{stem}.{i}": f"layers.{i}" for i in range(3 * max(layers, 1) + 3)})


def _norm(weights: Weights, inner: str) -> Literal["batch", "instance", "none"]:
    """Tell the norm by its weights, and by the biases of the convolutions that `inner` matches, which have one behind them."""
    if any(name.endswith(".weight") and tensor.dim() == 1 for name, tensor in weights.items()):
        return "batch"
    biased = any(name.endswith(".bias") and re.search(inner, name.removesuffix(".bias")) for name in weights)
    return "instance" if biased else "none"


def _renamed(path: Path, shape: Shape, weights: Weights, wanted: Weights) -> dict[str, Tensor]:
    """Return the checkpoint under our names, or say which of its tensors do not fit."""
    theirs = {name: tensor for name, tensor in weights.items() if not _forgotten(name, weights)}
    expected = {f"{there}.{kind}": f"{here}.{kind}" for there, here, kind in _parts(shape, wanted)}
    filled = {name for name, ours in expected.items() if name not in theirs and _may_lack(shape, name, ours)}
    differing = [name for name, ours in expected.items() if name not in filled and _differs(theirs.get(name), wanted[ours])]
    differing += [name for name in theirs if name not in expected]
    if differing:
        what = f"{path} is no {shape.config.kind} of the original, {len(differing)} tensors differ"
        first = expected.get(differing[0])
        needed = f"; {differing[0]} should have {tuple(wanted[first].shape)}" if first else ""
        raise ModelError(f"{what}: {_listed(theirs, differing)}{needed}", KNOWN)
    lacking = {ours: torch.zeros_like(wanted[ours], device="cpu") for name, ours in expected.items() if name in filled}
    return lacking | {ours: theirs[name] for name, ours in expected.items() if name not in filled}


def _parts(shape: Shape, wanted: Weights) -> Iterator[tuple[str, str, str]]:
    for there, here in shape.names.items():
        yield from ((there, here, name.removeprefix(f"{here}.")) for name in wanted if name.rpartition(".")[0] == here)


def _forgotten(name: str, weights: Weights) -> bool:
    """Tell whether a tensor is one of the statistics that instance norm kept before torch 0.4 and never used."""
    stem, _, kind = name.rpartition(".")
    return kind in ("running_mean", "running_var", "num_batches_tracked") and f"{stem}.weight" not in weights


def _may_lack(shape: Shape, name: str, ours: str) -> bool:
    """Counts came with torch 0.4.1; without a norm the original has no biases, which are zeros here."""
    return name.endswith("num_batches_tracked") or (getattr(shape.config, "norm", "") == "none" and ours.endswith(".bias"))


def _differs(found: Tensor | None, wanted: Tensor) -> bool:
    return found is None or found.shape != wanted.shape


def _listed(weights: Weights, names: list[str]) -> str:
    shown = [f"{name} {tuple(weights[name].shape) if name in weights else 'missing'}" for name in names[:3]]
    return ", ".join(shown) or "none"


def bring(path: Path, out: Path, statistics: Statistics = "picture") -> dict[str, Any]:
    """Write a folder: a model of a generator, of a discriminator `network.json` and `network.safetensors`.

    Args:
        path: The checkpoint.
        out: The folder, made here.
        statistics: As for `original`.

    Returns:
        `network` (its settings), `channels`, `predicts` and a sentence `says`.

    Raises:
        ModelError: As `original`.
    """
    found = original(path, statistics)
    settings, (before, after) = found.config.model_dump(mode="json"), found.channels
    predicts = found.config.kind != "patchgan"
    use = f"pixelwise predict {out} IMAGE..." if predicts else "it judges pictures and makes none"
    chosen = ", ".join(f"{key} {settings[key]}" for key in ("width", "depth", "blocks", "layers", "norm") if key in settings)
    says = f"{found.config.kind} ({chosen}), {before} to {after} channels; {use}"
    if predicts:
        _model(found).save(out, _example(before), _card(path, found))
    else:
        out.mkdir(parents=True)
        (out / NETWORK_ALONE).write_text(
            json.dumps({"says": says, "channels": found.channels, "network": settings}, indent=2) + "\n"
        )
        save_file(
            {name: tensor.contiguous() for name, tensor in found.network.state_dict().items()}, out / "network.safetensors"
        )
    return {"network": settings, "channels": [before, after], "predicts": predicts, "says": says, "out": str(out)}


def _model(found: Original) -> Model:
    meta = Meta(pictures={side: Pixels(channels=count) for side, count in zip("ab", found.channels, strict=True) if count != 3})
    description = Description(
        recipe="import", task=translation.Config(), network=found.config, meta=meta, view=View(size=SIZE, fit="native")
    )
    task = description.task.build(description.meta)
    return Model(description, task, {"generator": found.network})


def _example(channels: int) -> Sample:
    pixels = torch.randint(0, 256, (channels, *SIZE), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    return Sample("noise", {"a": Image(pixels, Frame.of(SIZE))})


def _card(path: Path, found: Original) -> str:
    return (
        f"# {path.stem}\n\nA {found.config.kind} generator that pytorch-CycleGAN-and-pix2pix trained, read from {path.name}.\n"
    )
