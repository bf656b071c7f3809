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
from pathlib import Path
from typing import Any, NoReturn

from pixelwise import __version__
from pixelwise.errors import PixelwiseError, UsageError, as_called, did_you_mean
from pixelwise.overrides import parse_value, split_override

EPILOG = """\
first steps:
  pixelwise demo                              train three small models and write a report (about 5 minutes)
  pixelwise list                              the recipes on offer
  pixelwise train camvid data.root=FOLDER     train a recipe on your own folder
  pixelwise train runs/camvid-1               resume a run that was stopped
  pixelwise evaluate runs/camvid-1            measure it beside trivial baselines
  pixelwise predict runs/camvid-1 photo.jpg   use it
"""


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
    one = verb("train", "train a recipe, replay a recipe.json, or resume a run folder")
    one.add_argument("what", metavar="RECIPE", help="a recipe's name, a recipe.json, or a run folder to resume")
    one.add_argument("pairs", nargs="*", metavar="key=value", help="settings to change; out=DIR chooses the run folder")
    one = verb("evaluate", "measure a run beside trivial baselines", json_output=True)
    one.add_argument("run", metavar="RUN")
    one.add_argument("pairs", nargs="*", metavar="key=value", help="split=val, limit=N, data.root=FOLDER")
    one = verb("predict", "apply a model to images or folders of images", json_output=True)
    one.add_argument("model", metavar="MODEL", help="a run folder or a model folder")
    one.add_argument("images", nargs="+", metavar="IMAGE", help="images, folders, and out=DIR (default: predictions)")
    verb("demo", "train three small models on the embedded world and write a report").add_argument(
        "pairs", nargs="*", metavar="key=value", help="out=DIR, steps=N (for all three)"
    )
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
        "train": train,
        "evaluate": evaluate,
        "predict": predict,
        "demo": demo,
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
        print(f"{name.ljust(width)}  {entry['task']:<13} {entry['summary']}")
    return 0


def describe(chosen: argparse.Namespace) -> int:
    """Print a recipe's text and every setting with its value and meaning."""
    from pixelwise.index import entry

    found = entry(chosen.name)
    print(f"{chosen.name} ({found['task']})\n\n{found['doc']}\n")
    rows = [(s["key"], json.dumps(s["default"]), s["description"] + _choices(s["schemas"])) for s in found["settings"]]
    widths = [min(32, max(len(row[i]) for row in rows)) for i in (0, 1)]
    for key, value, meaning in rows:
        print(f"  {key.ljust(widths[0])}  {value.ljust(widths[1])}  {meaning}".rstrip())
    return 0


def _choices(schemas: Sequence[dict[str, Any]]) -> str:
    found = [str(choice) for schema in schemas for choice in schema.get("enum", ())]
    return f" ({' | '.join(found)})" if found else ""


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
        folder = start(made, Path(options["out"]) if "out" in options else None)
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
    result = measured(model, train_data, data, split, options.get("limit"))
    if chosen.json:
        _print_json(result)
    else:
        print(text_table(result))
    return 0


def predict(chosen: argparse.Namespace) -> int:
    """Predict for every image; report and pass over those that cannot be read."""
    pairs = [word for word in chosen.images if word.startswith("out=")]
    options, _ = _options(pairs, {"out": str})
    paths = [Path(word) for word in chosen.images if word not in pairs]
    for path in paths:
        if "=" in path.name and not path.exists():
            raise UsageError(f"predict has no setting {path.name.partition('=')[0]!r}", "it takes images, folders and out=DIR")
    if not paths:
        raise UsageError("no images to predict for", "pixelwise predict MODEL IMAGE...")
    if not Path(chosen.model).is_dir():
        hint = _nearby(Path(chosen.model)) or "pixelwise train makes one under runs/"
        raise UsageError(f"no such model folder: {chosen.model}", hint)
    from pixelwise.batch import predict_files

    outcome = predict_files(Path(chosen.model), paths, Path(options.get("out", "predictions")))
    if chosen.json:
        _print_json(outcome)
    else:
        print(f"predicted: {len(outcome['predictions'])} (in {outcome['out']})  failed: {len(outcome['failed'])}")
    return 1 if outcome["failed"] else 0


def demo(chosen: argparse.Namespace) -> int:
    """Train three small models and write one report."""
    options, left = _options(chosen.pairs, {"out": str, "steps": int})
    if left:
        raise UsageError(f"unknown setting {split_override(left[0])[0]!r}", "the demo takes out=DIR and steps=N")
    from pixelwise.demo import demonstrate

    return demonstrate(Path(options["out"]) if "out" in options else None, options.get("steps"))


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
