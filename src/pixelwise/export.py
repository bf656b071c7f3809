"""A model as one ONNX file, from the picture's bytes to the decoded answer, that runs without pixelwise and without torch.

Nothing is kept that was not compared: the graph runs in onnxruntime on the model folder's self-test and on other sizes and
batches before the file gets its name. How to use the file: `docs/onnx.md`.
"""

from __future__ import annotations

import json
import os
import re
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.overrides import TorchFunctionMode

from pixelwise import __version__
from pixelwise.color.palette import distinct_colours
from pixelwise.errors import ModelError, UsageError
from pixelwise.model import Model, load, self_test
from pixelwise.task import Task

InputType = Literal["uint8", "float32"]
OPSETS = range(18, 24)
"""Versions of ONNX's operators that torch writes and onnxruntime reads; the first is read by the most programs."""
TOLERANCE = 1e-3
"""Largest difference of a float relative to the largest answer (or to 1), and largest share of integers that differ."""
OTHERS = ((3, 13, 22), (1, -9, -4))
"""Batch, and what is added to height and width, of the other inputs that are compared."""
LARGEST = 2**16
"""Sides for which a graph must hold, at least."""
AXES = ("batch", "height", "width")
Differences = dict[str, dict[str, float]]
"""By the size of the input, of each output the largest difference from torch."""


class Graph(nn.Module):
    """What is exported: preprocessing, networks and decoding of a model, pixels in, answers out.

    `forward` takes `image`, uint8 `(B, 3, H, W)` or float32 in [0, 1], or for a model that reads a label map `labels`,
    uint8 `(B, H, W)`; it returns the values of `Task.answers`.
    """

    def __init__(self, model: Model) -> None:
        super().__init__()
        self.task: Task = model.task
        self.networks = model.networks

    def forward(self, pixels: Tensor) -> tuple[Tensor, ...]:
        """Return the answers in the order of their names."""
        return tuple(self.answers(pixels).values())

    def answers(self, pixels: Tensor) -> dict[str, Tensor]:
        """Return the answers by name."""
        if pixels.is_floating_point():  # the same rounding as where a Model is called on floats
            pixels = (pixels * 255).round().clamp(0, 255).to(torch.uint8)
        height, width = pixels.shape[-2:]
        encoded = self.task.encode({self.task.inputs[0]: pixels})
        networks: Mapping[str, nn.Module] = dict(self.networks.items())
        return self.task.answers(self.task.respond(networks, encoded), (height, width))


class AveragesAsProducts(TorchFunctionMode):
    """While a graph is made, averages over a grid of parts are products: the exporter would settle the parts for one size."""

    def __torch_function__(
        self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        """Replace adaptive average pooling `(B, C, H, W)` to a grid `(h, w)`."""
        if func is functional.adaptive_avg_pool2d and isinstance(args[1], tuple) and args[1] != (1, 1):
            maps, (rows, columns) = args
            return parts(maps.shape[-2], rows).to(maps) @ maps @ parts(maps.shape[-1], columns).to(maps).T
        return func(*args, **(kwargs or {}))


def parts(size: int, count: int) -> Tensor:
    """Return `(count, size)`: row k averages the pixels from floor(k size / count) to ceil((k + 1) size / count)."""
    part, pixel = torch.arange(count)[:, None], torch.arange(size)
    start, end = part * size // count, ((part + 1) * size + count - 1) // count
    return ((pixel >= start) & (pixel < end)) / (end - start)


def export(folder: Path, out: Path, opset: int = OPSETS[0], input_type: InputType = "uint8") -> dict[str, Any]:
    """Write the model of a run or model folder as an ONNX file of dynamic batch, height and width.

    Args:
        folder: The run or model folder.
        out: The file; replaced only by one that was found to give the same answers.
        opset: Version of ONNX's operators, one of `OPSETS`.
        input_type: Of the pixels: uint8, or float32 in [0, 1].

    Returns:
        `file`, `bytes`, `opset`, `input` and `outputs` with their axes, and `differences`: by the size of the input, the
        largest difference from torch of each output.

    Raises:
        ModelError: The folder is no model; its graph depends on the size, or gives other answers.
        UsageError: A package is missing, or the model reads several pictures.
    """
    model = load(folder)
    task = model.task
    golden = self_test(folder)
    if task.config.from_noise:
        return _generator(model, golden, out, opset)
    if len(task.inputs) != 1:
        raise UsageError(f"{folder} reads {' and '.join(task.inputs)}; only what reads one picture can be exported")
    if task.inputs[0] in model.description.meta.pictures:
        raise UsageError(f"{folder} reads pictures that are not RGB of 8 bits, and only such can be exported")
    pixels = golden[f"input.{task.inputs[0]}"]
    if task.inputs[0] in model.description.labels_in:
        name, input_type = "labels", "uint8"
    else:
        name, pixels = "image", pixels if input_type == "uint8" else pixels.float() / 255
    graph = Graph(model).eval()
    with torch.inference_mode():
        outputs = {k.removeprefix("output."): tensor for k, tensor in golden.items() if k.startswith("output.")}
        height, width = pixels.shape[-2:]
        expected = task.answers(outputs, (height, width))
    made, least = _onnx(graph, name, list(expected), pixels, opset)
    reach = "0 to 255" if input_type == "uint8" else "0 to 1"
    _describe(made, {**about(model), "input": input_type, "range": reach, "size_least": least})
    differences = _kept(made, out, lambda path: _checked(path, graph, name, pixels, expected))
    sides = {value.name: _axes(value) for value in (*made.graph.input, *made.graph.output)}
    return {
        "file": str(out),
        "bytes": out.stat().st_size,
        "opset": opset,
        "input": {name: sides[name], "type": input_type},
        "outputs": {output: sides[output] for output in expected},
        "differences": differences,
    }


def _kept(made: Any, out: Path, check: Callable[[Path], Differences]) -> Differences:
    """Write the graph; the file gets its name only after `check` has found nothing wrong with it."""
    out.parent.mkdir(parents=True, exist_ok=True)
    temporary = out.with_name(f".{out.name}.{os.getpid()}")
    try:
        temporary.write_bytes(made.SerializeToString())
        differences = check(temporary)
        temporary.replace(out)
    finally:
        temporary.unlink(missing_ok=True)
    return differences


class CodesGraph(nn.Module):
    """What is exported of a model that makes pictures from noise: `noise` float32 `(B, N)`, maybe the class int64 `(B,)`."""

    def __init__(self, model: Model) -> None:
        super().__init__()
        self.task: Task = model.task
        self.networks, self.size = model.networks, model.description.view.size

    def forward(self, *codes: Tensor) -> tuple[Tensor, ...]:
        """Return the answers in the order of their names."""
        encoded = self.task.encode(dict(zip(self.task.inputs, codes, strict=True)))
        return tuple(self.task.answers(self.task.respond(dict(self.networks.items()), encoded), self.size).values())


def _generator(model: Model, golden: Mapping[str, Tensor], out: Path, opset: int) -> dict[str, Any]:
    """Write a model that makes pictures from noise; as `export`, but only the batch is dynamic."""
    task, graph = model.task, CodesGraph(model).eval()
    names, one = list(task.inputs), [golden[f"input.{name}"] for name in task.inputs]
    several = [torch.cat([code, code.flip(-1), code]) for code in one]
    sides = tuple({0: torch.export.Dim.DYNAMIC} for _ in one)
    outputs = list(task.units())
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch's own code uses what torch has deprecated
        program = torch.export.export(graph, tuple(several), dynamic_shapes=(sides,), strict=False)
        written = torch.onnx.export(
            program, input_names=names, output_names=outputs, opset_version=opset, dynamo=True, verbose=False
        )
    assert written is not None
    made = written.model_proto
    _name_axes(made.graph, AXES[:1])
    _describe(made, {**about(model), "input": "float32", "range": "N(0, 1)"})
    with torch.inference_mode():
        cases = {
            f"batch {len(codes[0])}": (dict(zip(names, codes, strict=True)), dict(zip(outputs, graph(*codes), strict=True)))
            for codes in (one, several)
        }
    differences = _kept(made, out, lambda path: _compared(path, cases))
    shapes = {value.name: _axes(value) for value in (*made.graph.input, *made.graph.output)}
    return {
        "file": str(out),
        "bytes": out.stat().st_size,
        "opset": opset,
        "input": {**{name: shapes[name] for name in names}, "type": "float32"},
        "outputs": {name: shapes[name] for name in outputs},
        "differences": differences,
    }


def _onnx(graph: nn.Module, name: str, outputs: list[str], pixels: Tensor, opset: int) -> tuple[Any, list[int]]:
    """Return the graph as ONNX's ModelProto, and the least height and width for which it was followed.

    It is followed at a size that no network takes without padding, and with two pictures: what is 1 while it is followed
    stays 1.
    """
    sides = dict.fromkeys((0, pixels.dim() - 2, pixels.dim() - 1), torch.export.Dim.DYNAMIC)
    example = _varied(pixels, 2, pixels.shape[-2] + 1, pixels.shape[-1] + 3)
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch's own code uses what torch has deprecated
        try:
            with AveragesAsProducts():
                program = torch.export.export(graph, (example,), dynamic_shapes=(sides,), strict=False)
            least = _least(program)
            made = torch.onnx.export(
                program, input_names=[name], output_names=outputs, opset_version=opset, dynamo=True, verbose=False
            )
        except Exception as error:  # of many kinds, all but ours are torch's
            raise ModelError(f"this network cannot be exported for any size: {_reason(error)}") from error
    assert made is not None
    proto = made.model_proto
    _name_axes(proto.graph, AXES)
    return proto, least


def _least(program: torch.export.ExportedProgram) -> list[int]:
    """Return the least height and width that the program was followed for; it saw no size of 1.

    Raises:
        ModelError: It answers otherwise beyond some size.
    """
    seen = program.graph_signature.user_inputs
    (pixels,) = (node.meta["val"] for node in program.graph.nodes if node.op == "placeholder" and node.name in seen)
    ranges = [program.range_constraints[side.node.expr] for side in pixels.shape if isinstance(side, torch.SymInt)]
    for axis, reach in zip(AXES, ranges, strict=True):
        if reach.upper < LARGEST:
            raise ModelError(f"it answers otherwise where the {axis} is above {reach.upper}")
    return [1 if reach.lower <= 2 else int(reach.lower) for reach in ranges[1:]]


def _reason(error: Exception) -> str:
    """Return the innermost error's own first lines, which says more than the exporter's advice."""
    while error.__cause__ is not None and isinstance(error.__cause__, Exception):
        error = error.__cause__
    return " ".join(re.sub(r"\x1b\[\d+m", "", str(error)).split())[:300] or type(error).__name__


def _name_axes(graph: Any, names: Sequence[str]) -> None:
    """Call the symbols of the input's dynamic axes by their names wherever they occur."""
    found = [side.dim_param for side in graph.input[0].type.tensor_type.shape.dim if side.dim_param]
    if len(found) != len(names):
        raise ModelError("this network cannot be exported for any size: a side of its input became a constant")
    named = dict(zip(found, names, strict=True))
    symbols = re.compile(r"\b(" + "|".join(map(re.escape, found)) + r")\b")
    for value in (*graph.input, *graph.output, *graph.value_info):
        for side in value.type.tensor_type.shape.dim:
            if side.dim_param:
                side.dim_param = symbols.sub(lambda match: named[match[1]], side.dim_param)


def _axes(value: Any) -> list[int | str]:
    return [side.dim_param or side.dim_value for side in value.type.tensor_type.shape.dim]


def about(model: Model) -> dict[str, Any]:
    """Return what a user of the file must know: what goes in, and what the numbers mean that come out."""
    described, task = model.description, model.task
    meta = {name: value for name, value in described.meta.model_dump(mode="json").items() if value}
    if described.meta.classes:
        meta["palette"] = described.meta.palette or distinct_colours(len(described.meta.classes))
    multiples = [_multiple(name, network) for name, network in model.networks.items()]
    return {
        "pixelwise": __version__,
        "recipe": described.recipe,
        "task": described.task.kind,
        "network": described.network.kind,
        "channels": "class index" if task.inputs[0] in described.labels_in else "RGB",
        "fit": described.view.fit,
        "size": "any" if described.view.fit == "native" else described.view.size,
        "size_multiple": max(multiples),
        "units": task.units(),
        **meta,
    }


def _multiple(name: str, network: nn.Module) -> int:
    """Return what a network continues the sides of its input to a multiple of."""
    multiple = getattr(network, "multiple", None)
    if not isinstance(multiple, int):
        hint = "set self.multiple to what it continues sides to a multiple of, 1 where it continues nothing"
        raise ModelError(f"{name}, a {type(network).__name__}, has no whole number `multiple`", hint)
    return multiple


def _describe(made: Any, known: Mapping[str, Any]) -> None:
    """Write `known` into the file: texts as they are, all else as JSON."""
    for key, value in known.items():
        made.metadata_props.add(key=key, value=value if isinstance(value, str) else json.dumps(value))


def _checked(path: Path, graph: Graph, name: str, pixels: Tensor, expected: Mapping[str, Tensor]) -> Differences:
    """Compare onnxruntime with the self-test's answers, and with torch at other sizes and batches."""
    height, width = pixels.shape[-2:]
    cases = [(pixels, expected)]
    with torch.inference_mode():
        for batch, down, right in OTHERS:
            other = _varied(pixels, batch, max(height + down, 5), max(width + right, 5))
            cases.append((other, graph.answers(other)))
    return _compared(path, {"x".join(map(str, (len(p), *p.shape[-2:]))): ({name: p}, wanted) for p, wanted in cases})


def _compared(path: Path, cases: Mapping[str, tuple[Mapping[str, Tensor], Mapping[str, Tensor]]]) -> Differences:
    """Compare onnxruntime's answers with torch's.

    Args:
        path: The ONNX file.
        cases: By their size, what goes in and what should come out, both by name.

    Raises:
        ModelError: They differ, or onnxruntime cannot run the file.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    differences: Differences = {}
    try:
        session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        for size, (seen, wanted) in cases.items():
            found = session.run(list(wanted), {name: tensor.numpy() for name, tensor in seen.items()})
            differences[size] = {k: difference(a, b) for a, (k, b) in zip(found, wanted.items(), strict=True)}
    except Exception as error:  # onnxruntime has a class for every kind of failure
        raise ModelError(f"onnxruntime cannot run the exported graph: {_reason(error)}") from error
    for size, by_name in differences.items():
        for output, apart in by_name.items():
            if not apart <= TOLERANCE:
                raise ModelError(f"the exported graph gives another {output} than torch for input {size}, by {apart:.3g}")
    return differences


def difference(found: np.ndarray[Any, Any], expected: Tensor) -> float:
    """Return how far an output is from what was expected.

    Returns:
        Of floats the largest difference relative to the largest value, or to 1 if that is more; of integers the share that
        differs; infinite where shapes or types differ.
    """
    wanted = expected.numpy()
    if found.shape != wanted.shape or found.dtype != wanted.dtype:
        return float("inf")
    if not np.issubdtype(wanted.dtype, np.floating):
        return float((found != wanted).mean())
    return float(np.abs(found - wanted).max() / max(1.0, np.abs(wanted).max()))


def _varied(pixels: Tensor, batch: int, height: int, width: int) -> Tensor:
    """Return `batch` pictures of another size made of the first: continued by mirroring or cropped, each moved on a little."""
    rows, columns = (_mirrored(size, old) for size, old in zip((height, width), pixels.shape[-2:], strict=True))
    first = pixels[0][..., rows[:, None], columns]
    return torch.stack([first.roll(7 * n, -1).flip(-1) if n % 2 else first.roll(7 * n, -2) for n in range(batch)])


def _mirrored(size: int, old: int) -> Tensor:
    position = torch.arange(size) % (2 * old)
    return torch.minimum(position, 2 * old - 1 - position)
