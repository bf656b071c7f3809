"""What the documents point at exists, and no file names a machine or a package index."""

from __future__ import annotations

import re
import subprocess
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
DOCUMENTS = (
    "README.md",
    "ARCHITECTURE.md",
    "CONVENTIONS.md",
    "CONTRIBUTING.md",
    "CHANGELOG.md",
    "benchmarks/README.md",
    "docs/protocols.md",
    "docs/image-metrics.md",
    "docs/onnx.md",
    "docs/pose-networks.md",
    "docs/video.md",
    "docs/keypoint-codecs.md",
    "docs/pose.md",
    "docs/pictures.md",
    "docs/super-resolution.md",
    "docs/perceptual-losses.md",
    "docs/colour.md",
    "docs/gan-experiments.md",
    "docs/originals.md",
    "docs/translation.md",
)
LINK = re.compile(r"\]\(([^()\s]+)\)")
PATH = re.compile(r"`([\w./-]+(?:\.py|/))`")
MADE_BY_RUNS = ("model/", "runs/", "state/")
FENCE = re.compile(r"^```.*?^```$", re.MULTILINE | re.DOTALL)
MACHINE = re.compile(r"(?<![\w.~/-])/(home|root|Users|work|opt|tmp|mnt|workspace)/\w")
INDEX = re.compile(r"(p[y]pi|p[y]pi\.python|pythonh[o]sted|download\.p[y]torch)\.org|--(extra-)?index-url")
TEXT = {"", ".md", ".py", ".toml", ".lock", ".json", ".cfg", ".txt", ".cff", ".sh", ".yml", ".yaml", ".html", ".css", ".js"}


def tracked() -> list[Path]:
    """Return the text files that git tracks or would track."""
    command = ["git", "-c", "safe.directory=*", "ls-files", "--cached", "--others", "--exclude-standard"]
    try:
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("this is no git checkout, so it is not known which files belong to the project")
    return [ROOT / name for name in done.stdout.splitlines() if Path(name).suffix in TEXT and (ROOT / name).is_file()]


def found_in(pattern: re.Pattern[str], files: list[Path]) -> list[str]:
    """Return `file:line: text` of every line in which the pattern is found."""
    return [
        f"{file.relative_to(ROOT)}:{number}: {line.strip()}"
        for file in files
        for number, line in enumerate(file.read_text(encoding="utf-8").splitlines(), 1)
        if pattern.search(line)
    ]


def anchors(text: str) -> set[str]:
    """Return the names under which the headings of a document can be linked to, as GitHub makes them."""
    headings = re.findall(r"^#+ +(.*?)\s*$", FENCE.sub("", text), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def broken_links(document: Path) -> list[str]:
    """Return the links of a document to files or headings that do not exist."""
    text = document.read_text(encoding="utf-8")
    broken = []
    for link in LINK.findall(FENCE.sub("", text)):
        if re.match(r"[a-z]+:", link):
            continue
        name, _, anchor = link.partition("#")
        target = document.parent / name if name else document
        headed = target.suffix != ".md" or not anchor
        if not target.exists() or not (headed or anchor in anchors(target.read_text(encoding="utf-8"))):
            broken.append(link)
    return broken


def missing_paths(document: Path) -> list[str]:
    """Return the files and folders that a document names in backticks and that do not exist."""
    named = PATH.findall(FENCE.sub("", document.read_text(encoding="utf-8")))
    bases = (document.parent, ROOT, ROOT / "src" / "pixelwise")
    return [path for path in named if path not in MADE_BY_RUNS and not any((base / path).exists() for base in bases)]


@pytest.mark.parametrize("name", DOCUMENTS)
def test_links_lead_somewhere(name: str) -> None:
    assert broken_links(ROOT / name) == []


@pytest.mark.parametrize("name", DOCUMENTS)
def test_paths_exist(name: str) -> None:
    assert missing_paths(ROOT / name) == []


def test_no_file_names_a_machine() -> None:
    assert found_in(MACHINE, tracked()) == []


def test_no_file_names_a_package_index() -> None:
    assert found_in(INDEX, tracked()) == []


def test_the_lock_is_names_and_versions() -> None:
    lines = (ROOT / "requirements.lock").read_text().splitlines()
    assert [line for line in lines if not re.fullmatch(r"[a-z0-9-]+==[\w.]+( ; .+)?", line)] == []
    assert len(lines) > 50


def test_the_lock_holds_what_the_project_asks_for() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    wanted = project["dependencies"] + [one for extra in project["optional-dependencies"].values() for one in extra]
    locked = {line.partition("==")[0] for line in (ROOT / "requirements.lock").read_text().splitlines()}
    assert {re.split(r"[<>=\[ ;]", one)[0] for one in wanted} - locked == set()


def test_broken_links(tmp_path: Path) -> None:
    (tmp_path / "other.md").write_text("# A b: *c*\n```\n# no heading\n```\n")
    text = "[a](other.md) [b](none.md) [c](https://x.y/z) [d](other.md#a-b-c) [e](other.md#no-heading) [f](#me)\n## Me\n"
    (tmp_path / "one.md").write_text(text + "```\n[g](gone.md)\n```\n")
    assert broken_links(tmp_path / "one.md") == ["none.md", "other.md#no-heading"]


def test_missing_paths(tmp_path: Path) -> None:
    text = "`data/sample.py` `nn/` `tests/test_documents.py` `model/` `one.md` `width` `gone.py` `tasks/gone/`"
    (tmp_path / "one.md").write_text(text + "\n```\n`gone/too.py`\n```\n")
    assert missing_paths(tmp_path / "one.md") == ["gone.py", "tasks/gone/"]


@pytest.mark.parametrize("line", ["see " + "/ro" + "ot/x", "`" + "/wo" + "rk/main/x`", '"' + "/ho" + "me/me/data" + '"'])
def test_machine_paths_are_found(line: str) -> None:
    assert MACHINE.search(line)


@pytest.mark.parametrize("line", ["src/tmp/x", "../tmp/x", "~/tmp/x", "data.root=FOLDER", "/dev/null", "https://x.org/home/x"])
def test_other_paths_are_not(line: str) -> None:
    assert not MACHINE.search(line)


@pytest.mark.parametrize(
    "line", ["https://py" + "pi.org/simple", "files.python" + "hosted.org", "pip install --index" + "-url X"]
)
def test_package_indexes_are_found(line: str) -> None:
    assert INDEX.search(line)
