"""What the command line must know at once (recipes, experiments, their settings), so that it answers without importing torch.

The index is written on first use and whenever a file of the package changes; reading it takes milliseconds.
"""

from __future__ import annotations

import ast
import hashlib
import json
import os
import re
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from pixelwise.errors import UsageError, did_you_mean
from pixelwise.folders import cache_folder
from pixelwise.overrides import parse_value, split_override

PACKAGE = Path(__file__).parent
TYPES: dict[str, type | tuple[type, ...]] = {
    "integer": int,
    "number": (int, float),
    "boolean": bool,
    "string": str,
    "array": list,
    "object": dict,
    "null": type(None),
}


def index() -> dict[str, Any]:
    """Return `{recipe: {summary, doc, task, settings: [{key, default, description, schemas}]}}` for every recipe."""
    return _kept("index", build)


def experiments() -> dict[str, Any]:
    """Return the same for every experiment of the laboratory, with its `claim`; its task is "experiment"."""
    return _kept("experiments", build_experiments)


def _kept(name: str, make: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    path = cache_folder() / f"{name}-{_stamp()}.json"
    try:
        found: dict[str, Any] = json.loads(path.read_text())
        return found
    except (OSError, ValueError):
        built = make()
    _write(path, built)
    return built


def build() -> dict[str, Any]:
    """Import every task and describe every recipe."""
    import inspect

    from pixelwise.config import settings
    from pixelwise.recipe import recipes

    entries = {}
    for name, function in recipes().items():
        made, doc = function(), inspect.getdoc(function) or ""
        entries[name] = {
            "summary": doc.split("\n")[0],
            "doc": doc,
            "task": made.task.kind,
            "settings": [s.model_dump(mode="json") for s in settings(made)],
        }
    return entries


def build_experiments() -> dict[str, Any]:
    """Import every experiment and describe it."""
    from pixelwise.config import settings
    from pixelwise.laboratory import experiments

    return {
        name: {
            "summary": experiment.question,
            "doc": f"{experiment.question}\n\n{experiment.story}",
            "task": "experiment",
            "claim": experiment.claim,
            "settings": [s.model_dump(mode="json") for s in settings(experiment.settings())],
        }
        for name, experiment in experiments().items()
    }


def networks() -> dict[str, str]:
    """Return what each kind of our networks is: the first line of its file."""
    files = sorted((PACKAGE / "nn" / "networks").glob("[!_]*.py"))
    return {file.stem: (ast.get_docstring(ast.parse(file.read_text())) or "").split("\n")[0] for file in files}


def _stamp() -> str:
    digest = hashlib.blake2b(digest_size=8)
    for folder, _, names in sorted(os.walk(PACKAGE)):
        for path in sorted(os.path.join(folder, name) for name in names if name.endswith(".py")):  # noqa: PTH118
            found = os.stat(path)  # noqa: PTH116
            digest.update(f"{path}:{found.st_size}:{found.st_mtime_ns};".encode())
    return digest.hexdigest()


def _write(path: Path, entries: dict[str, Any]) -> None:
    """Write by renaming, and forget older indices; a folder that cannot be written costs only time."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        for old in path.parent.glob(path.name.partition("-")[0] + "-*.json"):
            old.unlink(missing_ok=True)
        temporary = path.with_suffix(f".{os.getpid()}")
        temporary.write_text(json.dumps(entries))
        temporary.replace(path)
    except OSError:
        return


def entry(name: str) -> dict[str, Any]:
    """Return the index entry of recipe `name`.

    Raises:
        UsageError: There is no such recipe.
    """
    return _entry("recipe", name, index())


def experiment(name: str) -> dict[str, Any]:
    """Return the index entry of experiment `name`.

    Raises:
        UsageError: There is no such experiment.
    """
    return _entry("experiment", name, experiments())


def _entry(what: str, name: str, known: dict[str, Any]) -> dict[str, Any]:
    if name not in known:
        raise UsageError(f"no {what} {name!r}", did_you_mean(name, known) or f"{what}s: " + ", ".join(known))
    found: dict[str, Any] = known[name]
    return found


def check(name: str, pairs: Sequence[str]) -> None:
    """Check `key=value` overrides of recipe `name` as far as the index can; as `check_settings`."""
    check_settings(name, entry(name)["settings"], pairs)


def check_settings(name: str, settings: Sequence[dict[str, Any]], pairs: Sequence[str]) -> None:
    """Check `key=value` pairs against the `settings` of recipe or experiment `name`: keys, types, choices, limits.

    Settings of a `kind` that the overrides change are left to the full validation.

    Raises:
        UsageError: Something is wrong with a pair.
    """
    known = {s["key"]: s["schemas"] for s in settings}
    split = [split_override(pair) for pair in pairs]
    # What is chosen among files may be named without `.kind`, and brings settings of its own.
    chosen = {key.removesuffix(".kind") for key in known if key.endswith(".kind") and "type" not in known[key][0]}
    changed = [f"{key.removesuffix('.kind')}." for key, _ in split if key.removesuffix(".kind") in chosen]
    named = [f"{key}." for key, schemas in known.items() if schemas[0].get("type") == "object"]
    for key, text in split:
        schemas = known.get(f"{key}.kind" if key in chosen else key)
        if schemas is None:
            if key.startswith((*changed, *named)):
                continue
            hint = did_you_mean(key, known) or _by_last_word(key, known) or f"see them all: pixelwise describe {name}"
            raise UsageError(f"unknown setting {key!r}", hint)
        if text == "null" and key in chosen and key.startswith(tuple(named)):
            continue  # leaves out one of several that are chosen by name
        problem = _problem(parse_value(text, _wanted(schemas)), schemas)
        if problem:
            raise UsageError(f"{key} = {text!r}: {problem}", f"see: pixelwise describe {name}")


def _wanted(schemas: Sequence[dict[str, Any]]) -> Any:
    """Return the type that says how the text of a setting is read."""
    kinds = [part for schema in schemas for part in schema.get("anyOf", [schema])]
    array = next((kind for kind in kinds if kind.get("type") == "array"), None)
    if array is None:
        return str if [kind.get("type") for kind in kinds] == ["string"] else None
    held: Any = str if array.get("items", {}).get("type") == "string" else Any
    listed: Any = tuple[Any, Any] if "prefixItems" in array else tuple[held, ...]
    return listed if len(kinds) == 1 else listed | None


def shared_settings(pairs: Sequence[str], known: dict[str, Any]) -> dict[str, list[str]]:
    """Return for each experiment those of the pairs that it has a setting for.

    Raises:
        UsageError: None has.
    """
    keys = {name: [s["key"] for s in entry["settings"]] for name, entry in known.items()}
    for key, _ in map(split_override, pairs):
        if not any(key in own for own in keys.values()):
            everything = sorted({key for own in keys.values() for key in own})
            raise UsageError(f"no experiment has a setting {key!r}", did_you_mean(key, everything))
    return {name: [pair for pair in pairs if split_override(pair)[0] in own] for name, own in keys.items()}


def recipe_for(pairs: Sequence[str]) -> str:
    """Return a recipe for data that only pairs such as `data.kind=keypoints_csv` describe: one that reads this kind.

    The one called as the kind begins or as its own task comes first, since it is for a folder of the user's own.

    Raises:
        UsageError: No pair says of which kind the data is, or no recipe reads it.
    """
    kind = next((text for key, text in map(split_override, pairs) if key in ("data", "data.kind")), "")
    if not kind:
        raise UsageError("name a recipe, or the kind of your data", "data.kind=KIND data.root=FOLDER")
    defaults = {name: {one["key"]: one["default"] for one in entry["settings"]} for name, entry in index().items()}
    kinds = {name: settings["data.kind"] for name, settings in defaults.items()}
    own = kind.partition("_")[0]
    if own in kinds and kinds[own].partition("_")[0] == own:
        return own
    found = sorted((name != defaults[name]["task.kind"], name) for name, other in kinds.items() if other == kind)
    if not found:
        raise UsageError(f"no recipe reads data of kind {kind!r}", did_you_mean(kind, kinds.values()) or "name a recipe first")
    return found[0][1]


def check_saved(path: Path, pairs: Sequence[str]) -> None:
    """Check overrides of a saved recipe, if it has the kinds of the recipe that it is named after.

    What is wrong with the file itself is left to the full validation.
    """
    try:
        saved = json.loads(path.read_text())
        known = index()[saved["name"]]["settings"]
        same = all(_at(saved, s["key"]) == s["default"] for s in known if s["key"].endswith(".kind"))
    except (OSError, ValueError, KeyError, TypeError):
        return
    if same:
        check(saved["name"], pairs)


def _at(saved: Any, key: str) -> Any:
    for part in key.split("."):
        saved = saved[part]
    return saved


def _by_last_word(key: str, known: Iterable[str]) -> str:
    same = [name for name in known if name.rpartition(".")[2] == key.rpartition(".")[2]]
    return f"did you mean {same[0]!r}?" if same else ""


def _problem(value: Any, schemas: Sequence[dict[str, Any]]) -> str:
    """Say why `value` fits none of the schemas; empty if one of them may accept it."""
    problems = [_mismatch(value, schema) for schema in schemas]
    return "" if not problems or "" in problems else problems[0]


def _mismatch(value: Any, schema: dict[str, Any]) -> str:
    if "anyOf" in schema:
        return _problem(value, schema["anyOf"])
    choices = schema.get("enum") or ([schema["const"]] if "const" in schema else None)
    if choices and value not in choices:
        return "should be " + " or ".join(map(repr, choices)) + _closer(value, choices)
    wanted = schema.get("type")
    if wanted == "integer" and isinstance(value, float) and value.is_integer():
        value = int(value)
    if wanted and (not isinstance(value, TYPES[wanted]) or (isinstance(value, bool) and wanted in ("integer", "number"))):
        return (
            "should be a list, such as 3,5"
            if wanted == "array"
            else f"should be {'an' if wanted[0] in 'aeio' else 'a'} {wanted}"
        )
    if wanted == "array":
        return _unfit(value, schema)
    if "pattern" in schema and not re.search(schema["pattern"], value):
        return f"should match {schema['pattern']}"
    limits: tuple[tuple[str, str, Callable[[Any, Any], bool]], ...] = (
        ("minimum", "at least", lambda a, b: a >= b),
        ("exclusiveMinimum", "greater than", lambda a, b: a > b),
        ("maximum", "at most", lambda a, b: a <= b),
        ("exclusiveMaximum", "less than", lambda a, b: a < b),
    )
    return next((f"should be {w} {schema[k]}" for k, w, holds in limits if k in schema and not holds(value, schema[k])), "")


def _unfit(values: Sequence[Any], schema: dict[str, Any]) -> str:
    """Say what is wrong with the length of a list or with one of its values."""
    fewest, most = schema.get("minItems", 0), schema.get("maxItems", len(values))
    if not fewest <= len(values) <= most:
        return f"should hold {'' if fewest == most else 'at least '}{fewest} values"
    each = schema.get("prefixItems") or [schema.get("items", {})] * len(values)
    return next(filter(None, map(_mismatch, values, each)), "")


def _closer(value: Any, choices: Sequence[Any]) -> str:
    near = did_you_mean(str(value), [str(c) for c in choices])
    return f"; {near}" if near else ""
