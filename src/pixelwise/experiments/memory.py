"""Why not simply stack convolutions at full resolution?

To see 200 pixels far takes a hundred 3x3 convolutions, and nothing forbids to stack them: no halving, no enlarging,
every answer at its pixel. What forbids it is the backward pass. The gradient of a layer's weights needs what went into
the layer, so training keeps the maps of every layer of every picture of the batch until their turn comes.

The lecture's example has 200 channels at 400 x 400, a hundred layers, and twenty pictures in a batch. We build just
that, and ask autograd which bytes it keeps, layer by layer, without computing anything (tensors without values); small
networks that do compute show that the count is right. Then we ask the same of an encoder-decoder that sees as far.
"""

from __future__ import annotations

import copy
import os
import subprocess
import sys
from typing import NamedTuple

import torch
from pydantic import Field
from torch import nn

from pixelwise.config import Overridable
from pixelwise.errors import UsageError
from pixelwise.laboratory import Finding, Say, verdict
from pixelwise.nn.memory import GIVE_BACK, predicted, saved, saved_bytes
from pixelwise.nn.network import NetworkConfig
from pixelwise.nn.networks import encoder_decoder, stack, unet
from pixelwise.nn.receptive_field import receptive_field
from pixelwise.page import bar_chart, captioned, line_chart, prose, section, table

CLAIM = (
    "A hundred full-resolution layers of 200 channels at 400 x 400 keep 122 MiB per layer and picture, 238 GiB for a batch of "
    "20. An encoder-decoder that sees as far keeps a few hundredths of it."
)
MIB, GIB = 2**20, 2**30
WIDE, NARROW, COARSE, UNET = "the lecture's stack", "a narrower stack", "encoder-decoder", "U-Net"


class Settings(Overridable):
    """Settings of the experiment."""

    size: int = Field(400, ge=16, multiple_of=16, description="height and width of the pictures")
    batch: int = Field(20, ge=1, description="pictures in a batch")
    channels: int = Field(200, ge=1, description="channels of the stack")
    layers: int = Field(100, ge=1, description="layers of the stack")
    width: int = Field(32, ge=1, description="channels of the other networks at full resolution")
    depth: int = Field(4, ge=1, description="how often the encoder-decoder and the U-Net halve their maps")
    sides: tuple[int, ...] = Field((64, 128, 256, 512, 1024, 2048), description="sizes of pictures to go through")
    measured: int = Field(192, ge=32, description="size of the pictures of which the peak is really measured")
    seed: int = Field(0, ge=0, description="seed of the weights that are really computed with")


class Kept(NamedTuple):
    """What training keeps of one batch."""

    field: int
    """Pixels across that an answer sees."""
    activations: int
    """Bytes that autograd keeps."""
    peak: int
    """Most bytes held at once in a step with Adam."""
    weights: int


def networks(settings: Settings) -> dict[str, NetworkConfig]:
    """Return what is compared."""
    return {
        WIDE: stack.Config(width=settings.channels, depth=settings.layers),
        NARROW: stack.Config(width=settings.width, depth=settings.layers),
        COARSE: encoder_decoder.Config(width=settings.width, depth=settings.depth),
        UNET: unet.Config(width=settings.width, depth=settings.depth),
    }


def kept(config: NetworkConfig, settings: Settings) -> Kept:
    """Ask what training the network would keep, without computing."""
    network, shape = config.build(3, 11), (settings.batch, 3, settings.size, settings.size)
    weights = sum(p.numel() for p in network.parameters())
    activations = sum(saved_bytes(network, shape).values())
    return Kept(receptive_field(network, 3)[0], activations, predicted(network, shape, train=True).bytes, weights)


def blocks(settings: Settings) -> dict[str, int]:
    """Return the bytes that each layer of a stack keeps per picture, by what a layer consists of."""
    width, shape = settings.channels, (1, settings.channels, settings.size, settings.size)

    def per_layer(*after: nn.Module) -> int:
        layer = nn.Sequential(nn.Conv2d(width, width, 3, padding=1), *after)
        two, three = (
            sum(saved_bytes(nn.Sequential(*[copy.deepcopy(layer) for _ in range(n)]), shape).values()) for n in (2, 3)
        )
        return three - two

    return {
        "convolution": per_layer(),
        "convolution, ReLU": per_layer(nn.ReLU()),
        "convolution, batch norm, ReLU": per_layer(nn.BatchNorm2d(width), nn.ReLU()),
        "convolution, GELU": per_layer(nn.GELU()),
    }


def checked(settings: Settings) -> bool:
    """Tell whether small networks that compute keep exactly the bytes that were counted without computing."""
    torch.manual_seed(settings.seed)
    small = [stack.Config(width=4, depth=5), encoder_decoder.Config(width=4, depth=2), unet.Config(width=4, depth=2)]
    built = [config.build(3, 2).train() for config in small]
    return all(saved(network, torch.randn(2, 3, 32, 32)) == saved_bytes(network, (2, 3, 32, 32)) for network in built)


def peaks(settings: Settings) -> tuple[int, int]:
    """Return the predicted and the measured peak of a training step of the U-Net, in bytes; measured in its own process.

    Raises:
        UsageError: The system does not tell.
    """
    shape, made = (4, 3, settings.measured, settings.measured), f"width={settings.width}, depth={settings.depth}"
    code = (
        "from pixelwise.nn.memory import measured\nfrom pixelwise.nn.networks import unet\n"
        f"print(measured(lambda: unet.Config({made}).build(3, 11), {shape}, True))"
    )
    environment = {**os.environ, **GIVE_BACK, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise UsageError("the peak of a training step could not be measured", done.stderr.splitlines()[-1])
    return predicted(networks(settings)[UNET].build(3, 11), shape, train=True).bytes, int(done.stdout)


def run(settings: Settings, say: Say) -> Finding:
    """Count bytes, and measure one peak."""
    layers, exact = blocks(settings), checked(settings)
    say(f"  kept per layer and picture: {', '.join(f'{name} {size / MIB:.2f} MiB' for name, size in layers.items())}")
    compared = {name: kept(config, settings) for name, config in networks(settings).items()}
    for name, one in compared.items():
        say(f"  {name}: sees {one.field} pixels, keeps {one.activations / GIB:.3g} GiB")
    growth: dict[str, list[tuple[float, float]]] = {
        name: [(side, sum(saved_bytes(config.build(3, 11), (1, 3, side, side)).values()) / MIB) for side in settings.sides]
        for name, config in networks(settings).items()
    }
    return report(settings, layers, exact, compared, growth, peaks(settings))


def report(
    settings: Settings,
    layers: dict[str, int],
    exact: bool,
    compared: dict[str, Kept],
    growth: dict[str, list[tuple[float, float]]],
    peak: tuple[int, int],
) -> Finding:
    """Write down what was found."""
    wide, coarse = compared[WIDE], compared[COARSE]
    per_layer, share = layers["convolution, ReLU"], coarse.activations / wide.activations
    answer = (
        f"A layer of convolution and ReLU keeps {per_layer / MIB:.2f} MiB per picture, the stack of {settings.layers} for "
        f"{settings.batch} pictures {wide.activations / GIB:.1f} GiB; with batch norm a layer keeps "
        f"{layers['convolution, batch norm, ReLU'] / MIB:.2f} MiB. The encoder-decoder sees {coarse.field} pixels, the stack "
        f"{wide.field}, and keeps {coarse.activations / GIB:.2f} GiB: {100 * share:.2g} %."
    )
    bars = {name: [one.activations / GIB] for name, one in compared.items()}
    head = ["", "sees, pixels", "weights", "autograd keeps, GiB", "peak of a step, GiB"]
    rows = [
        [name, f"{one.field}", f"{one.weights:,}", f"{one.activations / GIB:.2f}", f"{one.peak / GIB:.2f}"]
        for name, one in compared.items()
    ]
    body = [
        captioned(
            bar_chart(f"GiB kept for {settings.batch} pictures of {settings.size} x {settings.size}", bars, logarithmic=True),
            f"All see at least {min(one.field for one in compared.values())} pixels. Mind the logarithm.",
        ),
        section("The numbers", table([head, *rows]), prose(COUNTED)),
        section(
            "What a layer keeps",
            table([["a layer of", "MiB per picture"], *[[name, f"{size / MIB:.2f}"] for name, size in layers.items()]]),
            prose(BLOCKS),
        ),
        section(
            "Is it true?",
            prose(
                f"Small networks that really computed kept {'exactly' if exact else 'NOT'} the bytes that were counted. The "
                f"peak of a training step of the U-Net on four pictures of {settings.measured} x {settings.measured}, in a "
                f"process of its own: {peak[1] / MIB:.0f} MiB measured, {peak[0] / MIB:.0f} MiB predicted."
            ),
            captioned(
                line_chart("MiB kept for one picture", growth, "side of the picture, pixels", ("x", "y")),
                "Every network's memory grows with the area of the picture; what differs is the factor.",
            ),
        ),
        section("What follows", prose(FOLLOWS)),
    ]
    data = {
        "per_layer": layers,
        "networks": {name: one._asdict() for name, one in compared.items()},
        "growth": growth,
        "counted_exactly": exact,
        "peak": {"predicted": peak[0], "measured": peak[1]},
    }
    stated = 4 * settings.channels * settings.size**2
    summed = wide.activations / (settings.layers * settings.batch * stated)
    holding = [exact and per_layer == stated, abs(summed - 1) < 0.02, coarse.field >= 0.99 * wide.field and share < 0.05]
    return Finding(verdict(holding), answer, "\n".join(body), data)


COUNTED = """Autograd keeps what it needs for the backward pass; at the peak there are weights, gradients, Adam's two
moments and the maps in the making as well."""

BLOCKS = """A convolution keeps its input. A ReLU keeps its output, which is the next convolution's input, so the two
share one map. Batch norm keeps its input too, which is a second map; so does any activation whose derivative needs what
went in."""

FOLLOWS = """Halving a map leaves a quarter of its bytes, so the deep half of an encoder-decoder costs next to nothing,
and its memory is that of its few layers at full resolution. That is where to save: fewer channels there, smaller
batches, a coarser output. `pixelwise analyse` gives these numbers for any network before it is trained."""
