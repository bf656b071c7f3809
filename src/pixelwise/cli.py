"""The command line: `pixelwise VERB ... key=value`. Torch is imported only by the verbs that compute.

Exit codes: 0 done, 1 failure, 2 usage, 130 stopped by Ctrl-C after saving. Tracebacks appear with --debug only.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import traceback
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NoReturn

from pixelwise import __version__
from pixelwise.errors import PixelwiseError, UsageError, as_called, did_you_mean
from pixelwise.instructions import EPILOG, LABORATORY, NETWORKS
from pixelwise.overrides import parse_bytes, parse_size, parse_value, split_override

CHECK_TAKES = "a recipe, data.kind=KIND data.root=FOLDER, or both; out=DIR (default: check)"
ANALYSE_TAKES = "size=HxW, batch=N, channels=C, outputs=K, detail=N, out=DIR, and settings of our networks"
TILES = ("auto", "exact", "blended")
PRECISIONS = ("float32", "bfloat16")
PREDICT_TAKES = f"out=DIR (default: predictions), memory=4GiB, tiles={'|'.join(TILES)}, precision={'|'.join(PRECISIONS)}"
PIXELS = ("uint8", "float32")
OPSETS = range(18, 24)
EXPORT_TAKES = f"opset={OPSETS[0]}...{OPSETS[-1]} (default: {OPSETS[0]}), input=" + "|".join(PIXELS)
EXPORT_NEEDS = ("onnx", "onnxscript", "onnxruntime")
STOPPED = 130


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
    one.add_argument("pairs", nargs="*", metavar="key=value", help="settings to change; out=DIR chooses the run folder")
    one = verb("evaluate", "measure a run beside trivial baselines", json_output=True)
    one.add_argument("run", metavar="RUN")
    one.add_argument("pairs", nargs="*", metavar="key=value", help="split=val, limit=N, data.root=FOLDER")
    one = verb("predict", "apply a model to images or folders of images", json_output=True)
    one.add_argument("model", metavar="MODEL", help="a run folder or a model folder")
    one.add_argument("images", nargs="+", metavar="IMAGE", help=f"images and folders; {PREDICT_TAKES}")
    one.add_argument("--maps", action="store_true", help="of a classifier: also draw what it says of every part of an image")
    one = verb("export", "write a model as one ONNX file, decoding included, and check it", json_output=True)
    one.add_argument("model", metavar="RUN", help="a run folder or a model folder")
    one.add_argument("out", metavar="FILE.onnx")
    one.add_argument("pairs", nargs="*", metavar="key=value", help=EXPORT_TAKES)
    verb("demo", "train three small models on the embedded world and write a report").add_argument(
        "pairs", nargs="*", metavar="key=value", help="out=DIR, steps=N (for all three)"
    )
    one = verb("lab", "list the experiments of the laboratory, or run one, or all", json_output=True)
    one.add_argument("name", nargs="?", metavar="NAME", help="an experiment, or `all`")
    one.add_argument("pairs", nargs="*", metavar="key=value", help="its settings; out=DIR (default: lab)")
    one = verb("analyse", "say what a network costs, sees and takes in memory, before it is trained", json_output=True)
    one.add_argument("network", nargs="?", metavar="NETWORK", help="see: pixelwise analyse")
    one.add_argument("pairs", nargs="*", metavar="key=value", help=ANALYSE_TAKES)
    one.add_argument("--train", action="store_true", help="also predict the memory of a training step with Adam")
    one.add_argument("--measure", action="store_true", help="also run it, and measure the memory")
    verb("doctor", "say what this machine can do, measured", json_output=True)
    return top


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    debug = "--debug" in words
    try:
        code = run(words)
        sys.stdout.flush()  # here a closed pipe can still be met in silence
        return code
    except PixelwiseError as error:
        if debug:
            traceback.print_exc()
        print(f"error: {error}" if error.exit_code != STOPPED else str(error), file=sys.stderr)
        if error.hint:
            print(as_called(f"hint: {error.hint}"), file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        print("stopped", file=sys.stderr)
        return STOPPED
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except OSError as error:
        if debug:
            traceback.print_exc()
        where = f"{error.filename}: " if error.filename else ""
        print(f"error: {where}{error.strerror or error}", file=sys.stderr)
        return 1
    except Exception as error:
        if debug:
            traceback.print_exc()
        print(f"error: unexpected {type(error).__name__}: {error}", file=sys.stderr)
        print("hint: run again with --debug and report the traceback", file=sys.stderr)
        return 1


def run(words: list[str]) -> int:
    """Parse the words and call the verb."""
    verbs = {
        "list": list_recipes,
        "describe": describe,
        "check": check_data,
        "train": train,
        "evaluate": evaluate,
        "predict": predict,
        "export": export,
        "demo": demo,
        "lab": lab,
        "analyse": analyse,
        "doctor": doctor,
    }
    first = next((word for word in words if not word.startswith("-")), None)
    if first is not None and first not in verbs:
        raise UsageError(f"no verb {first!r}", did_you_mean(first, verbs) or "verbs: " + ", ".join(verbs))
    if not words:
        parser().print_help()
        return 0
    chosen = parser().parse_args(_flags_first(words))
    return verbs[chosen.verb](chosen)


def _flags_first(words: list[str]) -> list[str]:
    """Put the flags right after the verb: argparse takes no optional positionals after them."""
    if "--" in words:
        return words
    verb = next((i for i, word in enumerate(words) if not word.startswith("-")), 0) + 1
    return words[:verb] + sorted(words[verb:], key=lambda word: not word.startswith("-"))


def _options(pairs: Sequence[str], allowed: dict[str, type]) -> tuple[dict[str, Any], list[str]]:
    """Take the verb's own options out of the pairs; what is left are settings."""
    options: dict[str, Any] = {}
    left = []
    for pair in pairs:
        key, text = split_override(pair)
        if key not in allowed:
            left.append(pair)
            continue
        number = allowed[key] is int
        value = parse_value(text) if number else text
        if (type(value) is not int or value < 1) if number else not text:
            wanted, example = ("positive integer", 10) if number else ("name", "NAME")
            raise UsageError(f"{key} = {text!r}: should be a {wanted}", f"for example {key}={example}")
        options[key] = value
    return options, left


def _choice(key: str, options: dict[str, Any], choices: Sequence[str]) -> Any:
    """Return the chosen one of `choices`, by default the first."""
    value = options.get(key, choices[0])
    if value not in choices:
        raise UsageError(f"{key} = {value!r}: should be one of {', '.join(choices)}", did_you_mean(value, choices))
    return value


def _nearby(missing: Path) -> str:
    """Return a hint that names the nearest folder beside a missing one."""
    parent = missing.parent
    return "" if missing.exists() or not parent.is_dir() else did_you_mean(missing.name, (p.name for p in parent.iterdir()))


def _print_json(value: Any) -> None:
    print(json.dumps(value, indent=2))


def list_recipes(chosen: argparse.Namespace) -> int:
    """Print each recipe with its task and first sentence."""
    from pixelwise.index import index

    found = index()
    if chosen.json:
        _print_json({"recipes": [{"name": name, "task": e["task"], "summary": e["summary"]} for name, e in found.items()]})
        return 0
    width = max(map(len, found))
    for name, entry in found.items():
        print(f"{name.ljust(width)}  {entry['task']:<14} {entry['summary']}")
    return 0


def describe(chosen: argparse.Namespace) -> int:
    """Print the text of a recipe or experiment, and every setting with its value and meaning."""
    from pixelwise.index import entry, experiments, index

    found = entry(chosen.name) if chosen.name in index() else experiments().get(chosen.name) or entry(chosen.name)
    print(f"{chosen.name} ({found['task']})\n\n{found['doc']}\n")
    rows = [(s["key"], json.dumps(s["default"]), s["description"] + _choices(s["schemas"])) for s in found["settings"]]
    widths = [min(32, max(len(row[i]) for row in rows)) for i in (0, 1)]
    for key, value, meaning in rows:
        print(f"  {key.ljust(widths[0])}  {value.ljust(widths[1])}  {meaning}".rstrip())
    return 0


def _choices(schemas: Sequence[dict[str, Any]]) -> str:
    found = [str(choice) for schema in schemas for choice in schema.get("enum", ())]
    return f" ({' | '.join(found)})" if found else ""


def check_data(chosen: argparse.Namespace) -> int:
    """Draw samples with their labels, and list those that are suspicious and the files that cannot be read."""
    from pixelwise.index import check, check_saved, index, recipe_for

    named = [word for word in chosen.words if "=" not in word or Path(word).exists()]
    if len(named) > 1:
        raise UsageError(f"check takes one recipe, not {' and '.join(named)}", "settings are written key=value")
    options, pairs = _options([word for word in chosen.words if word not in named], {"out": str})
    what = named[0] if named else recipe_for(pairs)
    if what in index() or not Path(what).exists():
        check(what, pairs)
    elif Path(what).suffix == ".json":
        check_saved(Path(what), pairs)
    from pixelwise.checking import as_text, write
    from pixelwise.checking import check_data as checked
    from pixelwise.recipe import find_recipe

    found, out = checked(find_recipe(what).override(pairs)), Path(options.get("out", "check"))
    write(found, out)
    if chosen.json:
        _print_json(found.to_json() | {"out": str(out)})
    else:
        print(f"{as_text(found)}\nSaved  {out}/ (index.html, sheet.png, check.json)")
    return 1 if found.broken else 0


def train(chosen: argparse.Namespace) -> int:
    """Train, replay or resume."""
    from pixelwise.index import check, check_saved, index

    options, pairs = _options(chosen.pairs, {"out": str})
    what = Path(chosen.what)
    if (what / "recipe.json").is_file():
        if options or pairs:
            raise UsageError(
                f"{what} is resumed as it was begun; {' '.join(chosen.pairs)} cannot change it",
                f"to begin anew: pixelwise train {what}/recipe.json {' '.join(chosen.pairs)}",
            )
        folder, data = what, None
    elif what.is_dir() and chosen.what not in index():
        raise UsageError(f"no run in {what}: it holds no recipe.json", "name a recipe (see: pixelwise list)")
    else:
        if what.suffix != ".json":
            check(chosen.what, pairs)
        elif not what.is_file():
            raise UsageError(f"no such file: {what}", _nearby(what) or "every run folder holds its recipe.json")
        else:
            check_saved(what, pairs)
        from pixelwise.recipe import find_recipe
        from pixelwise.run import Data, start

        made = find_recipe(chosen.what).override(pairs)
        data = Data.of(made)  # so that a mistake in the data leaves no folder behind
        folder = start(data.settled(made), Path(options["out"]) if "out" in options else None)
    from pixelwise.run import proceed, summary

    proceed(folder, data)
    if os.environ.get("RANK", "0") == "0":
        print(as_called(summary(folder)))
    return 0


def evaluate(chosen: argparse.Namespace) -> int:
    """Print the metrics of a run beside the baselines."""
    options, pairs = _options(chosen.pairs, {"split": str, "limit": int})
    if not (Path(chosen.run) / "recipe.json").is_file():
        hint = _nearby(Path(chosen.run)) or "pixelwise train makes one"
        raise UsageError(f"no run in {chosen.run}: it holds no recipe.json", hint)
    for key, _ in map(split_override, pairs):
        if key.partition(".")[0] != "data":
            raise UsageError(f"evaluate cannot change {key!r}: the model is trained", "it takes split, limit and data.*")
    from pixelwise.index import check_saved

    check_saved(Path(chosen.run) / "recipe.json", pairs)
    from pixelwise.evaluation import evaluate as measured
    from pixelwise.evaluation import text_table
    from pixelwise.run import open_run

    split = options.get("split", "val")
    model, train_data, data = open_run(Path(chosen.run), split, pairs)
    result, _ = measured(model, train_data, data, split, options.get("limit"))
    if chosen.json:
        _print_json(result)
    else:
        print(text_table(result))
    return 0


def predict(chosen: argparse.Namespace) -> int:
    """Predict for every image; report and pass over those that cannot be read."""
    pairs = [word for word in chosen.images if word.startswith(("out=", "memory=", "tiles=", "precision="))]
    options, _ = _options(pairs, dict.fromkeys(("out", "memory", "tiles", "precision"), str))
    memory = parse_bytes(options["memory"]) if "memory" in options else None
    tiles = _choice("tiles", options, TILES)
    precision = _choice("precision", options, PRECISIONS)
    paths = [Path(word) for word in chosen.images if word not in pairs]
    for path in paths:
        if "=" in path.name and not path.exists():
            raise UsageError(f"predict has no setting {path.name.partition('=')[0]!r}", f"it takes {PREDICT_TAKES}")
    if not paths:
        raise UsageError("no images to predict for", "pixelwise predict MODEL IMAGE...")
    folder = _model_folder(chosen.model)
    from pixelwise.batch import predict_files

    outcome = predict_files(folder, paths, Path(options.get("out", "predictions")), memory, tiles, chosen.maps, precision)
    if chosen.json:
        _print_json(outcome)
    else:
        for done in outcome["predictions"]:
            if "says" in done:
                print(f"{done['file']}  {done['says']}")
        print(f"predicted: {len(outcome['predictions'])} (in {outcome['out']})  failed: {len(outcome['failed'])}")
    return 1 if outcome["failed"] else 0


def _model_folder(named: str) -> Path:
    folder = Path(named)
    if not folder.is_dir():
        raise UsageError(f"no such model folder: {named}", _nearby(folder) or "pixelwise train makes one under runs/")
    return folder


def export(chosen: argparse.Namespace) -> int:
    """Write the ONNX file and say how far its answers are from torch's."""
    options, left = _options(chosen.pairs, {"opset": int, "input": str})
    opset, pixels, out = options.get("opset", OPSETS[0]), _choice("input", options, PIXELS), Path(chosen.out)
    if left:
        raise UsageError(f"export has no setting {split_override(left[0])[0]!r}", f"it takes {EXPORT_TAKES}")
    if opset not in OPSETS:
        raise UsageError(f"opset = {opset}: should be {OPSETS[0]} to {OPSETS[-1]}", "the lowest is read by the most programs")
    if out.suffix != ".onnx" or out.is_dir():
        raise UsageError(f"cannot write {out}: the file should end in .onnx", "pixelwise export RUN FILE.onnx")
    folder = _model_folder(chosen.model)
    missing = [name for name in EXPORT_NEEDS if find_spec(name) is None]
    if missing:
        raise UsageError(f"export needs {' and '.join(missing)}", "pip install 'pixelwise[export]'")
    from pixelwise.export import export as exported

    made = exported(folder, out, opset, pixels)
    if chosen.json:
        _print_json(made)
    else:
        outputs = "\n".join(f"  {name:<14} {' x '.join(map(str, axes))}" for name, axes in made["outputs"].items())
        apart = max(apart for by_name in made["differences"].values() for apart in by_name.values())
        print(f"Saved  {out} ({made['bytes'] / 1e6:.1f} MB, opset {opset})\n{outputs}")
        print(f"onnxruntime and torch differ by at most {apart:.1g} at {', '.join(made['differences'])}")
    return 0


def demo(chosen: argparse.Namespace) -> int:
    """Train three small models and write one report."""
    options, left = _options(chosen.pairs, {"out": str, "steps": int})
    if left:
        raise UsageError(f"unknown setting {split_override(left[0])[0]!r}", "the demo takes out=DIR and steps=N")
    from pixelwise.demo import demonstrate

    return demonstrate(Path(options["out"]) if "out" in options else None, options.get("steps"))


def lab(chosen: argparse.Namespace) -> int:
    """List the experiments, or run one or all of them and write their pages."""
    from pixelwise.index import check_settings, experiment, experiments, shared_settings

    if chosen.name is None:
        return _list_experiments(experiments(), chosen.json)
    options, pairs = _options(chosen.pairs, {"out": str})
    taken = shared_settings(pairs, experiments()) if chosen.name == "all" else {chosen.name: pairs}
    for name, own in taken.items():
        check_settings(name, experiment(name)["settings"], own)
    from pixelwise.laboratory import perform

    def say(text: str) -> None:
        print(text, file=sys.stderr if chosen.json else sys.stdout, flush=True)

    out = Path(options.get("out", "lab"))
    records = [perform(name, own, out, say) for name, own in taken.items()]
    if chosen.json:
        _print_json({"out": str(out), "experiments": records})
    else:
        print(f"Saved  {out}/ (index.html ties the pages together)")
    return 0


def _list_experiments(known: dict[str, Any], json_output: bool) -> int:
    listed = [{"name": name, "question": e["summary"], "claim": e["claim"]} for name, e in known.items()]
    if json_output:
        _print_json({"experiments": listed})
        return 0
    for one in listed:
        print(f"{one['name']}\n  {one['question']}\n  Claim: {one['claim']}\n")
    print(as_called(LABORATORY))
    return 0


def analyse(chosen: argparse.Namespace) -> int:
    """Print what a network costs, sees and takes in memory."""
    if chosen.network is None:
        return _list_networks(chosen.json)
    if "=" in chosen.network:
        raise UsageError("analyse needs the name of a network first", "pixelwise analyse lists them")
    numbers = dict.fromkeys(("batch", "channels", "outputs", "detail"), int)
    options, pairs = _options(chosen.pairs, {**numbers, "size": str, "out": str})
    size = parse_size(options["size"]) if "size" in options else None
    if options.get("out", "").endswith(".html"):
        raise UsageError(f"out={options['out']} should be a folder", f"out={options['out'].removesuffix('.html')}")
    from pixelwise.analysis import Request, answer
    from pixelwise.analysis_report import as_json, as_text, write
    from pixelwise.catalogue import Wanted

    wanted = Wanted(options.get("channels"), options.get("outputs"), pairs)
    batch = options.get("batch", 1)
    found = answer(Request(chosen.network, wanted, size, batch, chosen.train, chosen.measure, influence="out" in options))
    if "out" in options:
        write(found, Path(options["out"]))
    if chosen.json:
        _print_json(as_json(found))
    else:
        print(as_text(found, options.get("detail")))
    return 0


def _list_networks(json_output: bool) -> int:
    from pixelwise.index import networks

    found = networks()
    if json_output:
        _print_json({"networks": [{"name": name, "summary": summary} for name, summary in found.items()]})
        return 0
    for name, summary in found.items():
        print(f"  {name:<30}  {summary}")
    print(as_called(NETWORKS))
    return 0


def doctor(chosen: argparse.Namespace) -> int:
    """Print what this machine can do."""
    from pixelwise.doctor import examine, render

    found = examine()
    if chosen.json:
        _print_json(found)
    else:
        print(render(found))
    return 0


if __name__ == "__main__":
    sys.exit(main())
