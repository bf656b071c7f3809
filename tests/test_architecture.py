"""The shape of the code: imports go down the layers, files stay short, names say what things are."""

from __future__ import annotations

import ast
import io
import re
import tokenize
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "src" / "pixelwise"

# Files of these folders are found by their names and know nothing of each other; what they share lies outside.
KINDS = ("tasks", "recipes", "data/datasets", "nn/networks", "experiments", "features", "perceptual")
LONGEST = 400
NO_NAMES = re.compile(r"(^|_)(utils?|helpers?|managers?|misc|common)($|_)|(Utils?|Helper|Manager)$", re.IGNORECASE)


def ranks(document: str) -> dict[str, float]:
    """Return the rank of each name in the first code block under `## The layers`: a name imports only what ranks lower."""
    block = re.search(r"^## The layers\n.*?^```\n(.*?)^```", document, re.MULTILINE | re.DOTALL)
    assert block, "there is no code block under `## The layers`"
    lines = [re.split(r"\s{3,}", line)[0].replace("/", "").split() for line in block[1].splitlines()]
    ranked: dict[str, float] = {name: rank for rank, names in enumerate(lines) for name in names}
    return ranked | {"__init__": len(lines) - 1.5, "__main__": len(lines)}


RANK = ranks((ROOT / "ARCHITECTURE.md").read_text())


def modules(package: Path) -> dict[str, Path]:
    """Return every file of the package by its dotted name; that of the package itself is `pixelwise`."""
    named = {}
    for file in sorted(package.rglob("*.py")):
        parts = file.relative_to(package).with_suffix("").parts
        named[".".join((package.name, *parts)).removesuffix(".__init__")] = file
    return named


def imports(file: Path, known: dict[str, Path]) -> Iterator[tuple[int, str]]:
    """Yield line and dotted name of every import at any depth, of the module itself where one is named in a `from`."""
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            source = "." * node.level + (node.module or "")
            for alias in node.names:
                full = f"{source}.{alias.name}"
                yield node.lineno, full if full in known or full == "pixelwise.__version__" else source


def layer(module: str) -> str:
    """Return the name that ARCHITECTURE.md ranks for a dotted name."""
    return [*module.split("."), "__init__"][1]


def folder_of_kinds(module: str) -> str:
    """Return which folder of KINDS a module is a file of, if it is of one."""
    folder = "/".join(module.split(".")[1:-1])
    return folder if folder in KINDS else ""


def complaint(here: str, there: str) -> str:
    """Say what is wrong with the import of module `there` in module `here`; empty if nothing is."""
    if there.startswith("."):
        return f"relative import of {there}"
    if there.partition(".")[0] != "pixelwise" or there == "pixelwise.__version__":
        return ""
    low, high = layer(there), layer(here)
    unranked = [name for name in (low, high) if name not in RANK]
    if unranked:
        return f"{unranked[0]} is in no layer"
    if low != high and RANK[low] == RANK[high]:
        return f"sideways import of {there}"
    if RANK[low] > RANK[high]:
        return f"upward import of {there}"
    if folder_of_kinds(there) and folder_of_kinds(there) == folder_of_kinds(here):
        return f"{there} is another file that is found by its name"
    if folder_of_kinds(there) and low == high:
        return f"{there} is found by its name, not imported"
    return ""


def problems(package: Path) -> list[str]:
    """Return `file:line: what is wrong` for every import that breaks the layers, and any cycle of files."""
    known, found, graph = modules(package), [], {}
    for here, file in known.items():
        reached = list(dict.fromkeys(imports(file, known)))
        graph[here] = {there for _, there in reached if there in known} - {here}
        for line, there in reached:
            wrong = complaint(here, there)
            if wrong:
                found.append(f"{file.relative_to(package.parent.parent)}:{line}: {wrong}")
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        found.append("import cycle: " + " < ".join(error.args[1]))
    return found


def code_lines(text: str) -> int:
    """Count the lines that are neither blank nor comment nor docstring."""
    blank = {tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT, tokenize.ENDMARKER}
    lines = set()
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type not in blank:
            lines.update(range(token.start[0], token.end[0] + 1))
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str):
            lines -= set(range(node.lineno, (node.end_lineno or 0) + 1))
    return len(lines)


def definitions(file: Path) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef]:
    """Yield every function, method and class of a file."""
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            yield node


def where(file: Path, node: ast.stmt) -> str:
    return f"{file.relative_to(ROOT)}:{node.lineno}"


def test_imports_go_down() -> None:
    found = problems(PACKAGE)
    assert not found, "\n".join(found)


def test_the_layers_are_what_there_is() -> None:
    there = {path.stem for path in PACKAGE.iterdir() if path.is_dir() or path.suffix == ".py"} - {"__pycache__"}
    assert set(RANK) == there


def test_ranks() -> None:
    document = "# X\n```\nno  layer\n```\n## The layers\nWhy.\n```\na  b/      what they are\nc\n```\n```\nd\n```\n"
    assert ranks(document) == {"a": 0, "b": 0, "c": 1, "__init__": 0.5, "__main__": 2}


def test_no_file_is_long() -> None:
    counts = {str(f.relative_to(ROOT)): code_lines(f.read_text()) for f in PACKAGE.rglob("*.py")}
    assert {file: count for file, count in counts.items() if count > LONGEST} == {}


def test_names_say_what_things_are() -> None:
    named = [(str(path.relative_to(ROOT)), path.stem) for path in PACKAGE.rglob("*") if path.suffix in ("", ".py")]
    for file in PACKAGE.rglob("*.py"):
        named += [(where(file, node), node.name) for node in definitions(file)]
    assert len(named) > 100
    assert [f"{place}: {name}" for place, name in named if NO_NAMES.search(name)] == []


def test_every_file_opens_with_its_purpose() -> None:
    assert [str(f) for f in PACKAGE.rglob("*.py") if not ast.get_docstring(ast.parse(f.read_text()))] == []


def test_long_public_definitions_are_documented() -> None:
    undocumented = [
        f"{where(file, node)}: {node.name}"
        for file in PACKAGE.rglob("*.py")
        for node in definitions(file)
        if not node.name.startswith("_") and (node.end_lineno or 0) - node.lineno >= 12 and not ast.get_docstring(node)
    ]
    assert undocumented == []


# The tests of the test: each file breaks one rule, or none.
CASES = {
    "ground": ({"errors.py": "import os", "config.py": "from pixelwise.errors import X"}, ""),
    "upward": ({"errors.py": "\nfrom pixelwise.config import X", "config.py": ""}, "errors.py:2: upward import of"),
    "upward, plain": ({"errors.py": "import pixelwise.config", "config.py": ""}, "errors.py:1: upward import of"),
    "upward, by name": ({"errors.py": "from pixelwise import config", "config.py": ""}, "errors.py:1: upward import of"),
    "inside a function": ({"errors.py": "def f():\n    import pixelwise.cli"}, "errors.py:2: upward import of pixelwise.cli"),
    "inside TYPE_CHECKING": ({"errors.py": "if X:\n    import pixelwise.cli"}, "errors.py:2: upward import of"),
    "sideways": ({"seeds.py": "import pixelwise.errors"}, "seeds.py:1: sideways import of pixelwise.errors"),
    "sideways folders": ({"nn/a.py": "from pixelwise.codecs.b import X"}, "nn/a.py:1: sideways import of pixelwise.codecs"),
    "relative": ({"nn/a.py": "from .b import X"}, "nn/a.py:1: relative import of .b"),
    "relative parent": ({"nn/a.py": "from ..errors import X"}, "nn/a.py:1: relative import of ..errors"),
    "the whole package": ({"errors.py": "import pixelwise"}, "errors.py:1: upward import of pixelwise"),
    "the version": ({"model.py": "from pixelwise import __version__"}, ""),
    "unknown": ({"stray.py": "import pixelwise.errors"}, "stray.py:1: stray is in no layer"),
    "within a folder": ({"nn/a.py": "import pixelwise.nn.b", "nn/b.py": ""}, ""),
    "cycle": ({"nn/a.py": "import pixelwise.nn.b", "nn/b.py": "from pixelwise.nn import a"}, "import cycle: "),
    "longer cycle": (
        {"nn/a.py": "import pixelwise.nn.b", "nn/b.py": "import pixelwise.nn.c", "nn/c.py": "import pixelwise.nn.a"},
        "import cycle: ",
    ),
    "kinds": ({"tasks/a.py": "from pixelwise.tasks.b import X"}, "tasks/a.py:1: pixelwise.tasks.b is another file"),
    "kinds, by name": (
        {"data/datasets/a.py": "from pixelwise.data.datasets import b", "data/datasets/b.py": ""},
        "data/datasets/a.py:1: pixelwise.data.datasets.b is another file",
    ),
    "what kinds share": ({"tasks/a.py": "from pixelwise.task import X", "task.py": ""}, ""),
    "kinds' folder": ({"data/datasets/a.py": "from pixelwise.data.sample import X", "data/sample.py": ""}, ""),
    "folder's kinds": ({"data/sample.py": "import pixelwise.data.datasets.a"}, "data/sample.py:1: pixelwise.data.datasets.a"),
    "kinds from above": ({"tasks/a.py": "import pixelwise.nn.networks.unet", "nn/networks/unet.py": ""}, ""),
    "importlib": ({"errors.py": "import importlib\nimportlib.import_module('pixelwise.cli')"}, ""),
    "another package": ({"errors.py": "import pixelwise_extra.cli, cli"}, ""),
}


@pytest.mark.parametrize(("files", "expected"), CASES.values(), ids=CASES)
def test_problems(tmp_path: Path, files: dict[str, str], expected: str) -> None:
    package = tmp_path / "src" / "pixelwise"
    for name, text in files.items():
        (package / name).parent.mkdir(parents=True, exist_ok=True)
        (package / name).write_text(text)
    found = problems(package)
    assert [line.removeprefix("src/pixelwise/")[: len(expected)] for line in found] == ([expected] if expected else [])


def test_code_lines_count_code() -> None:
    text = '"""Doc."""\n\n# comment\nx = 1  # why\n\n\ndef f():\n    """One.\n\n    Two.\n    """\n    return """a\n\nb"""\n'
    assert code_lines(text) == 5  # x, def, and the three lines of the returned text


@pytest.mark.parametrize("name", ["utils", "io_utils", "helper", "RunManager", "misc", "CommonUtil", "common"])
def test_names_that_say_nothing(name: str) -> None:
    assert NO_NAMES.search(name)


@pytest.mark.parametrize("name", ["matrix_free", "futility", "commonness", "mischief", "Manage"])
def test_names_that_say_something(name: str) -> None:
    assert not NO_NAMES.search(name)
