"""How much faster our ResNet-18 U-Net segments 512x512 pixels in bfloat16 than a peer's of the same widths in plain float32.

    pip install --target PEER --no-deps segmentation-models-pytorch
    PYTHONPATH=src:PEER python benchmarks/inference.py [--threads 1 2] [--rounds 7] [--json figures.json]

Claim. Weights and maps with channels last and products in bfloat16 (`precision=bfloat16` of predict) make the forward pass at
least 2.5 times faster than `segmentation_models_pytorch.Unet("resnet18")` as its authors run it: eager, float32, channels
first. Needs hardware that multiplies bfloat16 (AVX512-BF16, AMX); elsewhere bfloat16 is slower.

The same mathematics? Both are a ResNet-18 and a decoder of 256, 128, 64, 32 and 16 channels, two 3x3 convolutions a level, 11
classes. Ours enlarges bilinearly after a 1x1 convolution, the peer repeats pixels without one; ours has fewer parameters per
level as the small map is projected first. The script prints the parameters of both. Random weights: nothing here depends on
them. The answers of our variants are compared with our float32 before the timing.

Protocol. Every round times all variants in turn, once each, in CPU seconds of the process and in wall seconds; a ratio is taken
within a round; the figure is the median over the rounds with quartiles. Inside the timed region: the forward pass of one
picture that lies in memory, without reading and without decoding. Without the peer, all else is compared with our float32.
"""

from __future__ import annotations

import argparse
import copy
import importlib.util
import json
import platform
import statistics
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from pixelwise import __version__, doctor
from pixelwise.nn.networks import unet

CLASSES, WIDTH = 11, 16
GOAL = 2.5
PEER = "segmentation_models_pytorch"
Variant = Callable[[], Tensor]


def peer() -> nn.Module | None:
    """Return the peer's network, or None where it is not installed."""
    if importlib.util.find_spec(PEER) is None:
        print("the peer is not installed: pip install --target PEER --no-deps segmentation-models-pytorch")
        return None
    made: nn.Module = importlib.import_module(PEER).Unet("resnet18", encoder_weights=None, classes=CLASSES)
    return made.eval()


def onnx_session(network: nn.Module, picture: Tensor, threads: int) -> Variant | None:
    """Return our network in onnxruntime, or None where that is not installed."""
    if any(importlib.util.find_spec(name) is None for name in ("onnx", "onnxscript", "onnxruntime")):
        print("without onnxruntime: pip install 'pixelwise[export]'")
        return None
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = threads, 3
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(network, (picture,), Path(folder) / "x.onnx", dynamo=True, verbose=False, external_data=False)
        session = onnxruntime.InferenceSession(Path(folder) / "x.onnx", options, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    return lambda: torch.from_numpy(session.run(None, {name: picture.numpy()})[0])


def compiled(network: nn.Module, picture: Tensor) -> Variant | None:
    """Return our network compiled in bfloat16 with channels last, or None where the compiler fails."""
    began = time.perf_counter()
    try:
        made = torch.compile(network)
        made(picture)
    except Exception as error:  # no compiler for C++, or one that is too old
        print(f"without torch.compile: {str(error).splitlines()[0]}")
        return None
    print(f"compiled in {time.perf_counter() - began:.0f} s")
    return lambda: made(picture)


def variants(settings: argparse.Namespace, threads: int) -> dict[str, Variant]:
    """Return the ways of answering by name; the first is what the others are compared with."""
    torch.manual_seed(0)
    ours = unet.Config(encoder="resnet18", width=WIDTH).build(3, CLASSES).eval()
    picture = torch.rand(1, 3, settings.side, settings.side)
    last = picture.contiguous(memory_format=torch.channels_last)
    arranged = copy.deepcopy(ours).to(memory_format=torch.channels_last)
    halved, small = copy.deepcopy(arranged).to(torch.bfloat16), last.to(torch.bfloat16)

    def automatic(network: nn.Module, seen: Tensor) -> Tensor:
        with torch.autocast("cpu", torch.bfloat16):
            answer: Tensor = network(seen)
        return answer

    made: dict[str, Variant | None] = {}
    if theirs := peer():
        print(f"parameters: peer {sum(p.numel() for p in theirs.parameters()):,}")
        made["peer, float32"] = lambda: theirs(picture)
    print(f"parameters: ours {sum(p.numel() for p in ours.parameters()):,}")
    made["ours, float32"] = lambda: ours(picture)
    made["ours, float32, channels last"] = lambda: arranged(last)
    made["ours, bfloat16 (autocast)"] = lambda: automatic(ours, picture)
    made["ours, bfloat16 (autocast), channels last"] = lambda: automatic(arranged, last)
    made["ours, bfloat16 weights, channels last"] = lambda: halved(small)
    if not settings.plain:
        made["ours, bfloat16 weights, channels last, compiled"] = compiled(halved, small)
    made["ours, onnxruntime, float32"] = onnx_session(ours, picture, threads)
    return {name: variant for name, variant in made.items() if variant}


def timed(variant: Variant) -> dict[str, float]:
    """Return the CPU and wall seconds of one pass."""
    cpu, wall = time.process_time(), time.perf_counter()
    variant()
    return {"cpu": time.process_time() - cpu, "wall": time.perf_counter() - wall}


@torch.inference_mode()
def measure(settings: argparse.Namespace, threads: int) -> dict[str, Any]:
    """Return every variant's seconds, its ratios to the first, and how far its answer is from our float32."""
    torch.set_num_threads(threads)
    ways = variants(settings, threads)
    answers = {name: way().float() for name, way in ways.items()}  # the warm-up as well
    truth = answers["ours, float32"]
    rounds = [{name: timed(way) for name, way in ways.items()} for _ in range(settings.rounds)]
    first, results = next(iter(ways)), {}
    for name in ways:
        results[name] = {"difference": float((answers[name] - truth).abs().max() / truth.std())}
        for clock in ("cpu", "wall"):
            ratios = [one[first][clock] / one[name][clock] for one in rounds]
            low, middle, high = statistics.quantiles(ratios, n=4)
            seconds = statistics.median(one[name][clock] for one in rounds)
            results[name][clock] = {"seconds": seconds, "ratio": {"median": middle, "quartiles": [low, high]}}
    return {"against": first, "variants": results, "rounds": rounds}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--side", type=int, default=512, help="height and width of the picture")
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--plain", action="store_true", help="without torch.compile")
    parser.add_argument("--json", type=Path, help="write the figures here too")
    settings = parser.parse_args()
    results = {}
    for threads in settings.threads:
        results[f"{threads} threads"] = found = measure(settings, threads)
        print(f"\n{threads} threads against {found['against']}, goal {GOAL}; difference in standard deviations of the scores")
        title = "ms, ratio, quartiles"
        print(f"{'':50}{title + ' (CPU time)':>35}{title + ' (wall time)':>35}{'difference':>16}")
        for name, result in found["variants"].items():
            line = f"{name:50}"
            for clock in ("cpu", "wall"):
                ratio, (low, high) = result[clock]["ratio"]["median"], result[clock]["ratio"]["quartiles"]
                line += f"{1000 * result[clock]['seconds']:12.0f}{ratio:8.2f}  {low:5.2f} - {high:5.2f}"
            print(f"{line}{result['difference'] if 'peer' not in name else float('nan'):16.1e}", flush=True)
    if settings.json:
        machine, options = doctor.examine(), {key: str(value) for key, value in vars(settings).items()}
        versions = {"pixelwise": __version__, "torch": torch.__version__, "python": platform.python_version()}
        claim = {"claim": __doc__.splitlines()[0], "machine": machine, "versions": versions, "settings": options}
        settings.json.write_text(json.dumps(claim | {"results": results}, indent=2) + "\n")


if __name__ == "__main__":
    main()
