"""What the verbs of the command line take and say: read without torch, so that help and usage errors come at once."""

from __future__ import annotations

import argparse
from typing import NoReturn

from pixelwise import __version__
from pixelwise.asked import GENERATE_TAKES, TAKES
from pixelwise.errors import UsageError, as_called
from pixelwise.instructions import EPILOG

CHECK_TAKES = "a recipe, data.kind=KIND data.root=FOLDER, or both; out=DIR (default: check)"
ANALYSE_TAKES = "size=HxW, batch=N, channels=C, outputs=K, detail=N, out=DIR, and settings of our networks"
EVALUATE_TAKES = (
    "split=val, limit=N, data.root=FOLDER; where the answers are pictures also segmenter=SEGMENTATION_RUN for the FCN-score, "
    "features=NAME,... as for compare, and of recoloured pictures classifier=CLASSIFICATION_RUN"
)
GALLERY_TAKES = "split=val, limit=N (default: 200), data.root=FOLDER"
PIXELS = ("uint8", "float32")
COMPARE_TAKES = (
    "features=NAME,... (random, statistics, RUN, RUN:LAYER, inception=FILE, torchvision/NAME, timm/NAME), "
    "paired=auto|true|false, lpips=auto|alex|vgg|none, trunk=FILE, heads=FILE, subsets=N, subset=N, out=DIR (default: compare)"
)
STATISTICS = ("picture", "running")
PAIRED = ("auto", "true", "false")
LPIPS = ("auto", "alex", "vgg", "none")
OPSETS = range(18, 24)
EXPORT_TAKES = f"opset={OPSETS[0]}...{OPSETS[-1]} (default: {OPSETS[0]}), input=" + "|".join(PIXELS)
EXPORT_NEEDS = ("onnx", "onnxscript", "onnxruntime")


class Parser(argparse.ArgumentParser):
    """An argument parser whose errors are UsageErrors."""

    def error(self, message: str) -> NoReturn:
        """Raise instead of printing the whole usage."""
        raise UsageError(message, f"see: {self.prog} --help")


def parser() -> Parser:
    """Return the parser of all verbs."""
    top = Parser(
        prog="pixelwise",
        description="Images to images, and to anything that lives on the pixel grid.",
        epilog=as_called(EPILOG),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    top.add_argument("--version", action="version", version=f"pixelwise {__version__}")
    top.add_argument("--debug", action="store_true", help="show the traceback of an error")
    verbs = top.add_subparsers(dest="verb", metavar="VERB", parser_class=Parser, required=True)

    def verb(name: str, text: str, json_output: bool = False) -> argparse.ArgumentParser:
        made = verbs.add_parser(name, help=text, description=text[0].upper() + text[1:] + ".")
        made.add_argument("--debug", action="store_true", default=argparse.SUPPRESS, help=argparse.SUPPRESS)
        if json_output:
            made.add_argument("--json", action="store_true", help="print one JSON object on standard output, nothing else")
        return made

    verb("list", "list the recipes", json_output=True)
    verb("describe", "print every setting of a recipe with its meaning").add_argument("name", metavar="RECIPE")
    one = verb("check", "look at data and labels, and list what is suspicious", json_output=True)
    one.add_argument("words", nargs="*", metavar="DATA", help=CHECK_TAKES)
    one = verb("train", "train a recipe, replay a recipe.json, or resume a run folder")
    one.add_argument("what", metavar="RECIPE", help="a recipe's name, a recipe.json, or a run folder to resume")
    one.add_argument(
        "pairs", nargs="*", default=[], metavar="key=value", help="settings to change; out=DIR chooses the run folder"
    )
    one = verb("evaluate", "measure a run beside trivial baselines", json_output=True)
    one.add_argument("run", metavar="RUN")
    one.add_argument("pairs", nargs="*", default=[], metavar="key=value", help=EVALUATE_TAKES)
    one = verb("gallery", "show what a run answers to every sample, sorted by its error", json_output=True)
    one.add_argument("run", metavar="RUN")
    one.add_argument("out", metavar="OUT", help="the folder to be made; open its index.html")
    one.add_argument("pairs", nargs="*", default=[], metavar="key=value", help=GALLERY_TAKES)
    one = verb("predict", "apply a model to images, folders of images, and videos", json_output=True)
    one.add_argument("model", metavar="MODEL", help="a run folder or a model folder")
    one.add_argument("images", nargs="+", metavar="IMAGE", help=f"images, folders, videos; {TAKES}")
    one.add_argument("--maps", action="store_true", help="of a classifier: also draw what it says of every part of an image")
    one = verb("generate", "make pictures from noise with a trained generator", json_output=True)
    one.add_argument("model", metavar="MODEL", help="a run folder or a model folder")
    one.add_argument("out", metavar="OUT", help="the folder to be made")
    one.add_argument("pairs", nargs="*", default=[], metavar="key=value", help=GENERATE_TAKES)
    one = verb("compare", "hold pictures against originals, pair by pair, or as two sets", json_output=True)
    one.add_argument("ours", metavar="A", help="a folder of pictures, or a picture")
    one.add_argument("originals", metavar="B", help="what they are held against: pairs have the same name")
    one.add_argument("pairs", nargs="*", default=[], metavar="key=value", help=COMPARE_TAKES)
    one = verb("import", "read a checkpoint of pytorch-CycleGAN-and-pix2pix, and write a model folder", json_output=True)
    one.add_argument("checkpoint", metavar="CHECKPOINT.pth", help="a generator, or a discriminator, which cannot predict")
    one.add_argument("out", metavar="OUT", help="the folder to be made")
    one.add_argument(
        "pairs", nargs="*", default=[], metavar="key=value", help=f"what batch norm uses: statistics={'|'.join(STATISTICS)}"
    )
    one = verb("export", "write a model as one ONNX file, decoding included, and check it", json_output=True)
    one.add_argument("model", metavar="RUN", help="a run folder or a model folder")
    one.add_argument("out", metavar="FILE.onnx")
    one.add_argument("pairs", nargs="*", default=[], metavar="key=value", help=EXPORT_TAKES)
    verb("demo", "train three small models on the embedded world and write a report").add_argument(
        "pairs", nargs="*", default=[], metavar="key=value", help="out=DIR, steps=N (for all three)"
    )
    one = verb("lab", "list the experiments of the laboratory, or run one, or all", json_output=True)
    one.add_argument("name", nargs="?", metavar="NAME", help="an experiment, or `all`")
    one.add_argument("pairs", nargs="*", default=[], metavar="key=value", help="its settings; out=DIR (default: lab)")
    one = verb("analyse", "say what a network costs, sees and takes in memory, before it is trained", json_output=True)
    one.add_argument("network", nargs="?", metavar="NETWORK", help="see: pixelwise analyse")
    one.add_argument("pairs", nargs="*", default=[], metavar="key=value", help=ANALYSE_TAKES)
    one.add_argument("--train", action="store_true", help="also predict the memory of a training step with Adam")
    one.add_argument("--measure", action="store_true", help="also run it, and measure the memory")
    verb("doctor", "say what this machine can do, measured", json_output=True)
    return top


def flags_first(words: list[str]) -> list[str]:
    """Put the flags right after the verb: argparse takes no optional positionals after them."""
    if "--" in words:
        return words
    verb = next((i for i, word in enumerate(words) if not word.startswith("-")), 0) + 1
    return words[:verb] + sorted(words[verb:], key=lambda word: not word.startswith("-"))
