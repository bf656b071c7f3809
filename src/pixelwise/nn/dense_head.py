"""The head of a classifier, from its last maps to its vector of scores, as the same work at every position of larger maps.

The classifier is traced only as deep as its head: the layers after the last maps that grow with the picture. The body
before stays as it is. In the head, pooling to a fixed size becomes pooling by a window, a fully connected layer becomes a
convolution with the same weights (Long, Shelhamer and Darrell 2015, section 3.1), and the rest stays.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor, fx, nn
from torch.nn import functional

from pixelwise.errors import UsageError
from pixelwise.nn.operations import faked
from pixelwise.nn.padding import mirror_to_multiple
from pixelwise.seeds import torch_generator

GROWTH = 161280  # 2^9 * 3^2 * 5 * 7 pixels, a multiple of every stride in use; nothing of this size is ever computed

Shape = tuple[int, ...]
_Shapes = dict[fx.Node, Shape]


def densified(classifier: nn.Module, shape: Shape) -> fx.GraphModule:
    """Return the network of which `classifier` is the restriction to one window.

    Args:
        classifier: In evaluation mode. The result shares its weights.
        shape: (B, C, H, W) of pictures that the classifier takes; a vector comes out for each.

    Raises:
        UsageError: No such network exists; names the layer that is why.
    """
    head = _find_head(classifier, shape)
    conversion = _Conversion(classifier, head)
    dense = conversion.dense()
    _check(conversion, dense)
    return dense


def blank(network: nn.Module, shape: Shape) -> Tensor:
    """Return an empty tensor of the type and on the device of the first weights of `network`."""
    weights = next((weights for weights in network.parameters() if weights.is_floating_point()), torch.empty(0))
    return weights.new_empty(shape)


def grown(shape: Shape) -> Shape:
    """Return the shape of pictures that are larger by `GROWTH` both ways."""
    return *shape[:2], shape[2] + GROWTH, shape[3] + GROWTH


# ---- find the head


class _Head(NamedTuple):
    graph: fx.Graph
    nodes: set[fx.Node]
    """What is computed after the last maps that grow with the picture; an average over all of their positions is of it."""
    shapes: _Shapes
    axes: dict[fx.Node, list[int]]
    """Of every map that grows with the picture, the axis of its rows and that of its columns."""


class _Tracer(fx.Tracer):
    """Follows the work of a network, but only into the modules named in `opened`."""

    def __init__(self, opened: set[str]) -> None:
        super().__init__(autowrap_functions=(mirror_to_multiple,))
        self.opened = opened
        self.last = ""

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        self.last = module_qualified_name
        return module_qualified_name not in self.opened


def _find_head(classifier: nn.Module, shape: Shape) -> _Head:
    """Trace deeper and deeper, until the head consists of single layers and functions."""
    opened: set[str] = set()
    with torch.no_grad(), faked(classifier) as fake:
        while True:
            graph = _trace(fake, opened)
            shapes = _node_shapes(fake, graph, shape)
            taller, wider = ((*shape[:2], shape[2] + down, shape[3] + across) for down, across in ((GROWTH, 0), (0, GROWTH)))
            axes = _growing(shapes, _node_shapes(fake, graph, taller), _node_shapes(fake, graph, wider))
            last = _last(axes, graph)
            axes = {
                node: found for node, found in axes.items() if node not in last or not _averages_all(fake, node, shapes, axes)
            }
            nodes = _between(set(axes), graph.output_node())
            closed = {str(node.target) for node in nodes if _kind(fake, node) in ("Module", "Sequential")}
            closed |= {str(node.target) for node in last if _kind(fake, node) == "Sequential"}  # may end with such an average
            if not closed:
                return _Head(graph, nodes, shapes, axes)
            opened |= closed


def _trace(network: nn.Module, opened: set[str]) -> fx.Graph:
    tracer = _Tracer(opened)
    try:
        return tracer.trace(network)
    except Exception as error:  # whatever a network does with values that are not there yet
        place = f"after layer {tracer.last!r}" if tracer.last else "at its start"
        raise UsageError(f"the work of the classifier cannot be traced {place}", str(error)) from error


def _node_shapes(network: nn.Module, graph: fx.Graph, shape: Shape) -> _Shapes:
    values = _evaluate(network, graph, {_image(graph): blank(network, shape)})
    return {node: tuple(value.shape) for node, value in values.items() if isinstance(value, Tensor)}


def _image(graph: fx.Graph) -> fx.Node:
    image: fx.Node = graph.find_nodes(op="placeholder")[0]
    return image


def _evaluate(network: nn.Module, graph: fx.Graph, given: dict[fx.Node, Tensor]) -> dict[fx.Node, Any]:
    """Return the values of what the output depends on, as far as they can be had: a head may be tied to one size."""
    run = fx.Interpreter(network, garbage_collect_values=False, graph=graph)
    run.env = dict(given)
    needed = _between(set(given), graph.output_node())
    for node in graph.nodes:
        if node in needed and all(source in run.env for source in node.all_input_nodes):
            try:
                run.env[node] = run.run_node(node)
            except Exception:  # of any kind, as it comes from the network
                continue
    return run.env


def _between(known: set[fx.Node], output: fx.Node) -> set[fx.Node]:
    """Return the nodes that `output` depends on, back to the nearest of those known."""
    found: set[fx.Node] = set()
    waiting = list(output.all_input_nodes)
    while waiting:
        node = waiting.pop()
        if node not in found and node not in known:
            found.add(node)
            waiting += node.all_input_nodes
    return found


def _growing(small: _Shapes, taller: _Shapes, wider: _Shapes) -> dict[fx.Node, list[int]]:
    """Return those of the nodes that are maps, with the axes along which they grow with the picture's height and width."""
    axes = {}
    for node in small.keys() & taller.keys() & wider.keys():
        grows = [[i for i, side in enumerate(small[node]) if side != other[node][i]] for other in (taller, wider)]
        if len(small[node]) == 4 and [len(one) for one in grows] == [1, 1] and grows[0] != grows[1]:
            axes[node] = [grows[0][0], grows[1][0]]
    return axes


def _last(axes: dict[fx.Node, list[int]], graph: fx.Graph) -> set[fx.Node]:
    """Return the maps from which the head starts."""
    output = graph.output_node()
    return {source for node in {output, *_between(set(axes), output)} for source in node.all_input_nodes if source in axes}


def _averages_all(network: nn.Module, node: fx.Node, shapes: _Shapes, axes: dict[fx.Node, list[int]]) -> bool:
    """Tell whether `node` averages over a window that is as large as its maps, though it would grow with them."""
    kind = _kind(network, node)
    window: Any
    if kind == "AvgPool2d":
        window = network.get_submodule(str(node.target)).kernel_size
    elif kind == "avg_pool2d":
        window = node.kwargs.get("kernel_size") or node.args[1]
    else:
        return False
    maps = node.all_input_nodes[0]
    grid = [shapes[maps][axis] for axis in axes[maps]]
    return grid == ([window, window] if isinstance(window, int) else list(window)) and shapes[node][2:] == (1, 1)


def _kind(network: nn.Module, node: fx.Node) -> str:
    """Return the name of the function, or of the class of torch.nn that the layer is or descends from."""
    if node.op != "call_module":
        return str(getattr(node.target, "__name__", node.target))
    classes = type(network.get_submodule(str(node.target))).__mro__
    return next(one.__name__ for one in classes if one.__module__.startswith("torch.nn.modules"))


# ---- convert it


class _Field(NamedTuple):
    """What a value of the head is in the dense network: `node`, (B, channels, h, w)."""

    node: fx.Node
    shape: Shape
    """What it was for one window: (channels, *grid), or that flattened."""
    grid: tuple[int, int] = (1, 1)
    step: tuple[int, int] = (1, 1)
    """How many positions the cells of the grid lie apart."""

    @property
    def channels(self) -> int:
        return math.prod(self.shape) // math.prod(self.grid)


class AtEveryPosition(nn.Module):
    """(B, C, h, w) -> (B, C', h, w) by a layer (B, C) -> (B, C'), such as a normalisation of vectors."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, maps: Tensor) -> Tensor:
        """Return the layer's answer at every position."""
        positions = maps.permute(0, 2, 3, 1)
        answers: Tensor = self.layer(positions.flatten(0, 2))
        return answers.reshape(*positions.shape[:3], -1).permute(0, 3, 1, 2)


POSSIBLE = "a head may pool over all positions, flatten (B, C, H, W), connect fully and do what treats all positions alike"


class _Conversion:
    """Builds the dense network node by node; a layer that changed lies where the layer lay that it replaces."""

    def __init__(self, classifier: nn.Module, head: _Head) -> None:
        self.classifier = classifier
        self.head = head
        self.graph = fx.Graph()
        self.copies: dict[fx.Node, fx.Node] = {}
        self.fields: dict[fx.Node, _Field] = {}
        self.layers: dict[str, nn.Module] = {}

    def dense(self) -> fx.GraphModule:
        """Return the dense network."""
        for node in self.head.graph.nodes:
            sources = [self.fields[source] for source in node.all_input_nodes if source in self.fields]
            if node.op == "output":
                self._finish(node, sources)
            elif node in self.head.nodes and node in self.head.shapes and sources:
                field = self.fields[node] = RULES.get(_kind(self.classifier, node), _kept)(self, node, sources[0])
                self.copies[node] = field.node  # of which sizes may be asked
            else:
                self._copy(node)
        dense = fx.GraphModule(self.classifier, self.graph)
        for path, layer in self.layers.items():
            dense.add_submodule(path, layer)
        self.graph.eliminate_dead_code()
        dense.recompile()
        return dense.eval()

    def _copy(self, node: fx.Node) -> None:
        if node.op == "get_attr" and not hasattr(self.classifier, str(node.target).split(".")[0]):
            raise UsageError("the head of the classifier makes a tensor while it runs", "register it as a buffer")
        copy = self.copies[node] = self.graph.node_copy(node, self.copies.__getitem__)
        if node in self.head.axes:
            batch, channels = (axis for axis in range(4) if axis not in self.head.axes[node])
            order = (batch, channels, *self.head.axes[node])
            if order != (0, 1, 2, 3):
                copy = self.graph.call_method("permute", (copy, order))
            _, depth, height, width = (self.head.shapes[node][axis] for axis in order)
            self.fields[node] = _Field(copy, (depth, height, width), (height, width))

    def _finish(self, output: fx.Node, sources: list[_Field]) -> None:
        answer = output.args[0]
        if not isinstance(answer, fx.Node):
            raise UsageError("the classifier's answer is not one vector of scores", "give one tensor (B, K)")
        if not sources:
            raise self.refusal(answer, "what it takes is not one tensor")
        if sources[0].grid != (1, 1):
            rows, columns = sources[0].grid
            raise UsageError(f"the classifier's answer is not a vector, but maps of {rows}x{columns} positions", POSSIBLE)
        self.graph.output(sources[0].node)

    def shape(self, node: fx.Node) -> Shape:
        """Return the shape of a value of the classifier, for one window."""
        return self.head.shapes[node][1:]

    def layer(self, node: fx.Node) -> nn.Module:
        """Return the layer of the classifier that `node` calls."""
        return self.classifier.get_submodule(str(node.target))

    def replaced(self, node: fx.Node, layer: nn.Module, field: _Field) -> fx.Node:
        """Let `layer` do in the dense network what the layer of `node` did."""
        path = str(node.target)
        self.layers[path] = layer
        return self.graph.call_module(path, (field.node,))

    def name(self, node: fx.Node) -> str:
        """Return what an error calls an operation."""
        layer = next(reversed(node.meta.get("nn_module_stack", {})), "")
        return f"{_kind(self.classifier, node)!r}" + (f" of layer {layer!r}" if layer else "")

    def refusal(self, node: fx.Node, why: str, hint: str = POSSIBLE) -> UsageError:
        """Return the error that says at which operation the conversion ends."""
        return UsageError(f"{self.name(node)} has no dense equivalent: {why}", hint)


Rule = Callable[[_Conversion, fx.Node, _Field], _Field]


def _pooled(pooling: Callable[..., Tensor], conversion: _Conversion, node: fx.Node, field: _Field) -> _Field:
    """Pool by windows everywhere, instead of to a grid."""
    shape = conversion.shape(node)
    grid = shape[1:] or (1, 1)
    if len(grid) != 2:
        raise conversion.refusal(node, f"it takes {field.shape} to {shape}", "pool over both axes at once: x.mean((2, 3))")
    rows, columns = grid
    spread = field.step != (1, 1) and grid != field.grid
    if len(field.shape) == 1 or spread or shape[0] != field.channels:
        raise conversion.refusal(node, f"it takes {field.shape} to {shape}")
    if field.grid[0] % rows or field.grid[1] % columns:
        why = "it pools {}x{} positions to {}x{}, by windows of several sizes".format(*field.grid, *grid)
        raise conversion.refusal(node, why, "choose a size with which the one is a multiple of the other")
    window = field.grid[0] // rows, field.grid[1] // columns
    dense = field.node if window == (1, 1) else conversion.graph.call_function(pooling, (field.node, window, 1))
    return _Field(dense, shape, (rows, columns), window)


def _reshaped(conversion: _Conversion, node: fx.Node, field: _Field) -> _Field:
    """Leave out what only flattens or unflattens."""
    shape, positions = conversion.shape(node), math.prod(field.grid)
    if shape not in ((field.channels, *field.grid), (field.channels, positions), (field.channels * positions,)):
        raise conversion.refusal(node, f"it takes {field.shape} to {shape}")
    return field._replace(shape=shape)


def _connected(conversion: _Conversion, node: fx.Node, field: _Field) -> _Field:
    """Let a convolution as large as the grid do the work of a fully connected layer."""
    linear = conversion.layer(node)
    assert isinstance(linear, nn.Linear)
    if len(field.shape) != 1:
        raise conversion.refusal(node, f"it takes {field.shape}, not a vector")
    weight = linear.weight.reshape(linear.out_features, field.channels, *field.grid).detach()
    # on "meta", no weights are drawn only to be replaced
    layer = nn.Conv2d(field.channels, linear.out_features, field.grid, dilation=field.step, device="meta")
    layer.weight, layer.bias = nn.Parameter(weight), linear.bias
    return _Field(conversion.replaced(node, layer, field), (linear.out_features,))


def _positionwise(conversion: _Conversion, node: fx.Node, field: _Field) -> _Field:
    """Let a layer that takes vectors take that of each position."""
    if len(field.shape) > 1:
        return _kept(conversion, node, field)
    if field.grid != (1, 1):
        raise conversion.refusal(node, "it does not treat the positions of a window alike")
    return field._replace(node=conversion.replaced(node, AtEveryPosition(conversion.layer(node)), field))


def _softmax(function: Callable[..., Tensor], conversion: _Conversion, node: fx.Node, field: _Field) -> _Field:
    """Compare the scores of each position."""
    if len(field.shape) > 1:
        return _kept(conversion, node, field)
    if field.grid != (1, 1):
        raise conversion.refusal(node, "it compares the positions of a window")
    return field._replace(node=conversion.graph.call_function(function, (field.node, 1)))


def _kept(conversion: _Conversion, node: fx.Node, field: _Field) -> _Field:
    """Leave what treats every position alike, or seems to: `_check` finds out."""
    sources = {source: conversion.fields[source] for source in node.all_input_nodes if source in conversion.fields}
    shape = conversion.shape(node)
    alike = all((other.grid, other.step) == (field.grid, field.step) for other in sources.values())
    flattened = len(field.shape) == 1 and field.grid != (1, 1)
    if not alike or shape[1:] != field.shape[1:] or (flattened and shape != field.shape):
        raise conversion.refusal(node, f"it takes {field.shape} to {shape}")
    dense = {**conversion.copies, **{source: other.node for source, other in sources.items()}}
    return field._replace(node=conversion.graph.node_copy(node, dense.__getitem__), shape=shape)


AVERAGES = ("AdaptiveAvgPool2d", "adaptive_avg_pool2d", "AvgPool2d", "avg_pool2d", "mean")
MAXIMA = ("AdaptiveMaxPool2d", "adaptive_max_pool2d", "MaxPool2d", "max_pool2d", "amax")
RULES: dict[str, Rule] = {
    **dict.fromkeys(AVERAGES, partial(_pooled, functional.avg_pool2d)),
    **dict.fromkeys(MAXIMA, partial(_pooled, functional.max_pool2d)),
    **dict.fromkeys(("Flatten", "flatten", "view", "reshape", "squeeze", "unsqueeze", "getitem"), _reshaped),
    **dict.fromkeys(("BatchNorm1d", "LayerNorm", "GroupNorm", "Softmax", "LogSoftmax"), _positionwise),
    "Linear": _connected,
    "softmax": partial(_softmax, torch.softmax),
    "log_softmax": partial(_softmax, torch.log_softmax),
}


# ---- and check it


def _check(conversion: _Conversion, dense: fx.GraphModule) -> None:
    """Compare both heads on random maps of two windows: the dense one sees them side by side and one above the other."""
    head = conversion.head
    image, maps = _image(head.graph), _last(head.axes, head.graph)
    drawn = {node: _random(conversion.classifier, head.shapes[node]) for node in {image, *maps}}
    tiled = {conversion.copies[node]: _tiled(drawn[node], *head.axes[node]) for node in maps}
    with torch.no_grad():
        alone = _answer(conversion.classifier, head.graph, drawn)
        together = _answer(dense, dense.graph, {conversion.copies[image]: drawn[image], **tiled})
    if together is None or not _alike(together[0, :, (0, 0, -1, -1), (0, -1, 0, -1)].T, alone.flatten(1)[[0, 1, 1, 0]]):
        others = [node for node in head.nodes if node.op != "get_attr" and _kind(conversion.classifier, node) not in RULES]
        hint = "one of " + ", ".join(sorted(map(conversion.name, others))) if others else POSSIBLE
        raise UsageError("the head of the classifier mixes positions or is tied to their number", hint)


def _random(network: nn.Module, shape: Shape) -> Tensor:
    like = blank(network, (0,))
    generator = torch_generator(0, "dense head", device=str(like.device))
    return torch.rand(shape, generator=generator, dtype=like.dtype, device=like.device)


def _tiled(maps: Tensor, rows: int, columns: int) -> Tensor:
    first, second = maps[:1], maps[1:]
    return torch.cat([torch.cat([first, second], columns), torch.cat([second, first], columns)], rows)


def _answer(network: nn.Module, graph: fx.Graph, given: dict[fx.Node, Tensor]) -> Any:
    (last,) = graph.output_node().all_input_nodes
    return _evaluate(network, graph, given).get(last)


def _alike(found: Tensor, expected: Tensor) -> bool:
    tolerance = torch.finfo(expected.dtype).eps ** 0.5 * expected.abs().max()
    return bool((found - expected).abs().max() <= tolerance)
