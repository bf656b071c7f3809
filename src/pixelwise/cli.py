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
from typing import Any

from pixelwise.asked import asked, wished
from pixelwise.errors import PixelwiseError, UsageError, as_called, did_you_mean
from pixelwise.instructions import LABORATORY, NETWORKS
from pixelwise.overrides import choice, options, parse_size, split_override
from pixelwise.verbs import (
    COMPARE_TAKES,
    EXPORT_NEEDS,
    EXPORT_TAKES,
    LPIPS,
    OPSETS,
    PAIRED,
    PIXELS,
    STATISTICS,
    flags_first,
    parser,
)

STOPPED = 130


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
        "gallery": gallery,
        "predict": predict,
        "generate": generate,
        "compare": compare,
        "import": import_original,
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
    chosen = parser().parse_args(flags_first(words))
    return verbs[chosen.verb](chosen)


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
    rows = [(s["key"], _brief(s["default"]), s["description"] + _choices(s["schemas"])) for s in found["settings"]]
    widths = [min(32, max(len(row[i]) for row in rows)) for i in (0, 1)]
    for key, value, meaning in rows:
        print(f"  {key.ljust(widths[0])}  {value.ljust(widths[1])}  {meaning}".rstrip())
    return 0


def _brief(value: Any) -> str:
    """Write a value as JSON; of settings within settings, which are listed by themselves, only their names."""
    text = json.dumps(value)
    return text if len(text) <= 60 or not isinstance(value, dict) else f"{{{', '.join(value)}}}"


def _choices(schemas: Sequence[dict[str, Any]]) -> str:
    found = [str(choice) for schema in schemas for choice in schema.get("enum", ())]
    return f" ({' | '.join(found)})" if found else ""


def check_data(chosen: argparse.Namespace) -> int:
    """Draw samples with their labels, and list those that are suspicious and the files that cannot be read."""
    from pixelwise.index import check, check_saved, index, recipe_for

    named = [word for word in chosen.words if "=" not in word or Path(word).exists()]
    if len(named) > 1:
        raise UsageError(f"check takes one recipe, not {' and '.join(named)}", "settings are written key=value")
    taken, pairs = options([word for word in chosen.words if word not in named], {"out": str})
    what = named[0] if named else recipe_for(pairs)
    if what not in index() and Path(what).is_dir() and not (Path(what) / "recipe.json").exists():
        raise UsageError(f"how is {what} to be read?", f"pixelwise check data.kind=keypoints_json data.root={what}")
    if what in index() or not Path(what).exists():
        check(what, pairs)
    elif Path(what).suffix == ".json":
        check_saved(Path(what), pairs)
    from pixelwise.checking import check_data as checked
    from pixelwise.checking_report import as_text, write
    from pixelwise.recipe import find_recipe

    found, out = checked(find_recipe(what).override(pairs)), Path(taken.get("out", "check"))
    write(found, out)
    if chosen.json:
        _print_json(found.to_json() | {"out": str(out)})
    else:
        print(f"{as_text(found)}\nSaved  {out}/ (index.html, sheet.png, check.json)")
    return 1 if found.broken else 0


def train(chosen: argparse.Namespace) -> int:
    """Train, replay or resume."""
    from pixelwise.index import check, check_saved, index

    taken, pairs = options(chosen.pairs, {"out": str})
    what = Path(chosen.what)
    if (what / "recipe.json").is_file():
        if taken or pairs:
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
        folder = start(data.settled(made), Path(taken["out"]) if "out" in taken else None)
    from pixelwise.run import proceed, summary

    proceed(folder, data)
    if os.environ.get("RANK", "0") == "0":
        print(as_called(summary(folder)))
    return 0


def evaluate(chosen: argparse.Namespace) -> int:
    """Print the metrics of a run beside the baselines, and what else is asked of its pictures."""
    taken, pairs = options(chosen.pairs, {"split": str, "limit": int, "segmenter": str, "features": str, "classifier": str})
    _require_run(chosen.verb, chosen.run, pairs)
    from pixelwise.evaluation import evaluate as measured
    from pixelwise.evaluation import text_table
    from pixelwise.judges import as_text, judges
    from pixelwise.run import open_run

    split, limit = taken.get("split", "val"), taken.get("limit")
    model, train_data, data = open_run(Path(chosen.run), split, pairs)
    asked_for = judges(model, data, limit, *map(taken.get, ("segmenter", "features", "classifier")))
    result, _ = measured(model, train_data, data, split, limit)
    for name, judge in asked_for.items():
        result[name] = judge.scores(model, train_data, data, split, limit)
    if chosen.json:
        _print_json(result)
    else:
        print("\n\n".join([text_table(result), *(as_text(name, result[name]) for name in asked_for)]))
    return 0


def gallery(chosen: argparse.Namespace) -> int:
    """Write a page of what a run answers to the samples of a split."""
    taken, pairs = options(chosen.pairs, {"split": str, "limit": int})
    _require_run(chosen.verb, chosen.run, pairs)
    from pixelwise.gallery import make
    from pixelwise.run import open_run

    split = taken.get("split", "val")
    model, _, data = open_run(Path(chosen.run), split, pairs)
    made = make(model, data, f"{model.description.recipe}, {split}", Path(chosen.out), taken.get("limit"))
    if chosen.json:
        _print_json(made)
    else:
        print(f"{made['samples']} of {made['of']} samples\nSaved  {chosen.out}/ (index.html)")
    return 0


def _require_run(verb: str, run: str, pairs: Sequence[str]) -> None:
    """Check that there is a run and that the settings are those that can change after training."""
    if not (Path(run) / "recipe.json").is_file():
        hint = _nearby(Path(run)) or "pixelwise train makes one"
        raise UsageError(f"no run in {run}: it holds no recipe.json", hint)
    for key, _ in map(split_override, pairs):
        if key.partition(".")[0] not in ("data", "task"):
            what = f"{verb} cannot change {key!r}: the model is trained"
            raise UsageError(what, "it takes split, limit, data.*, and of task.* what says how to answer")
    from pixelwise.index import check_saved

    check_saved(Path(run) / "recipe.json", pairs)


def predict(chosen: argparse.Namespace) -> int:
    """Predict for every image and video; report and pass over those that cannot be read."""
    request = asked(chosen.images)
    folder = _model_folder(chosen.model)
    from pixelwise.batch import predict_files

    paths, out, memory, tiles, precision, changes, footage = request
    outcome = predict_files(folder, paths, out, memory, tiles, chosen.maps, precision, changes, footage)
    flawed = sum(bool(video["flaws"]) for video in outcome["videos"])
    if chosen.json:
        _print_json(outcome)
    else:
        for done in outcome["predictions"]:
            if "says" in done:
                print(f"{done['file']}  {done['says']}")
        for video in outcome["videos"]:
            print(f"{video['file']}  {video['frames']} frames: {', '.join(video['saved'])}")
        done = len(outcome["predictions"]) + len(outcome["videos"])
        in_part = f"  in part: {flawed}" if flawed else ""
        print(f"predicted: {done} (in {outcome['out']}){in_part}  failed: {len(outcome['failed'])}")
    return 1 if outcome["failed"] or flawed else 0


def generate(chosen: argparse.Namespace) -> int:
    """Write pictures from noise."""
    wishes = wished(chosen.pairs)
    folder = _model_folder(chosen.model)
    from pixelwise.generating import generate_files

    made = generate_files(folder, Path(chosen.out), wishes)
    if chosen.json:
        _print_json(made)
    else:
        print(f"made: {made['count']} pictures\nSaved  {made['out']}/ (grid.png, generated.json)")
    return 0


def compare(chosen: argparse.Namespace) -> int:
    """Measure pictures against their originals; fail if some cannot be read or are of another size."""
    keys = dict.fromkeys(("features", "paired", "lpips", "trunk", "heads", "out"), str)
    taken, left = options(chosen.pairs, {**keys, "subsets": int, "subset": int})
    if left:
        key = split_override(left[0])[0]
        raise UsageError(f"compare has no setting {key!r}", did_you_mean(key, keys) or f"it takes {COMPARE_TAKES}")
    paired, lpips, out = choice("paired", taken, PAIRED), choice("lpips", taken, LPIPS), Path(taken.get("out", "compare"))
    from pixelwise.comparison import Wanted, as_text, write
    from pixelwise.comparison import compare as compared

    features = tuple(taken.get("features", "").split(",")) if "features" in taken else ()
    trunk, heads = (Path(taken[key]) if key in taken else None for key in ("trunk", "heads"))
    wanted = Wanted(features, paired, lpips, trunk, heads, taken.get("subsets", 100), taken.get("subset", 1000))
    found = compared(Path(chosen.ours), Path(chosen.originals), wanted)
    write(found, out)
    if chosen.json:
        _print_json(found.to_json() | {"out": str(out)})
    else:
        files = "compare.json, pictures.csv" if found.pictures else "compare.json"
        print(f"{as_text(found)}\nSaved  {out}/ ({files})")
    return 1 if found.failed else 0


def import_original(chosen: argparse.Namespace) -> int:
    """Write a checkpoint of others as a folder of ours."""
    taken, left = options(chosen.pairs, {"statistics": str})
    if left:
        raise UsageError(f"import has no setting {split_override(left[0])[0]!r}", f"it takes statistics={'|'.join(STATISTICS)}")
    statistics, out = choice("statistics", taken, STATISTICS), Path(chosen.out)
    if out.exists():
        raise UsageError(f"{out} exists already", "import makes a folder of its own")
    from pixelwise.originals import bring

    made = bring(Path(chosen.checkpoint), out, statistics)
    if chosen.json:
        _print_json(made)
    else:
        print(f"{made['says']}\nSaved  {out}/")
    return 0


def _model_folder(named: str) -> Path:
    folder = Path(named)
    if not folder.is_dir():
        raise UsageError(f"no such model folder: {named}", _nearby(folder) or "pixelwise train makes one under runs/")
    return folder


def export(chosen: argparse.Namespace) -> int:
    """Write the ONNX file and say how far its answers are from torch's."""
    taken, left = options(chosen.pairs, {"opset": int, "input": str})
    opset, pixels, out = taken.get("opset", OPSETS[0]), choice("input", taken, PIXELS), Path(chosen.out)
    changes = [pair for pair in left if pair.startswith("task.")]
    left = [pair for pair in left if pair not in changes]
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

    made = exported(folder, out, opset, pixels, changes)
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
    taken, left = options(chosen.pairs, {"out": str, "steps": int})
    if left:
        raise UsageError(f"unknown setting {split_override(left[0])[0]!r}", "the demo takes out=DIR and steps=N")
    from pixelwise.demo import demonstrate

    return demonstrate(Path(taken["out"]) if "out" in taken else None, taken.get("steps"))


def lab(chosen: argparse.Namespace) -> int:
    """List the experiments, or run one or all of them and write their pages."""
    from pixelwise.index import check_settings, experiment, experiments, shared_settings

    if chosen.name is None:
        return _list_experiments(experiments(), chosen.json)
    taken, pairs = options(chosen.pairs, {"out": str})
    settings = shared_settings(pairs, experiments()) if chosen.name == "all" else {chosen.name: pairs}
    for name, own in settings.items():
        check_settings(name, experiment(name)["settings"], own)
    from pixelwise.laboratory import perform

    def say(text: str) -> None:
        print(text, file=sys.stderr if chosen.json else sys.stdout, flush=True)

    out = Path(taken.get("out", "lab"))
    records = [perform(name, own, out, say) for name, own in settings.items()]
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
    taken, pairs = options(chosen.pairs, {**numbers, "size": str, "out": str})
    size = parse_size(taken["size"]) if "size" in taken else None
    if taken.get("out", "").endswith(".html"):
        raise UsageError(f"out={taken['out']} should be a folder", f"out={taken['out'].removesuffix('.html')}")
    from pixelwise.analysis import Request, answer
    from pixelwise.analysis_report import as_json, as_text, write
    from pixelwise.catalogue import Wanted

    wanted = Wanted(taken.get("channels"), taken.get("outputs"), pairs)
    batch = taken.get("batch", 1)
    found = answer(Request(chosen.network, wanted, size, batch, chosen.train, chosen.measure, influence="out" in taken))
    if "out" in taken:
        write(found, Path(taken["out"]))
    if chosen.json:
        _print_json(as_json(found))
    else:
        print(as_text(found, taken.get("detail")))
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
