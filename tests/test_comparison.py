"""`pixelwise compare`: pairs by name, sets by features, and what does not fit."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from pixelwise.cli import main
from pixelwise.comparison import Wanted, compare
from pixelwise.embedding import find
from pixelwise.errors import DataError, ModelError, UsageError


def picture(path: Path, seed: int, size: tuple[int, int] = (24, 30), grey: bool = False) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    shape = size if grey else (*size, 3)
    Image.fromarray(np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)).save(path)


@pytest.fixture
def sides(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, Path]:
    """Return two folders with four pairs, the last of them grey; there are no weights."""
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path / "hub"))
    monkeypatch.chdir(tmp_path)
    for name in range(4):
        picture(tmp_path / "ours" / "sub" / f"{name}.png", name, grey=name == 3)
        picture(tmp_path / "originals" / "sub" / f"{name}.bmp", name + 100 * (name != 0), grey=name == 3)
    return tmp_path / "ours", tmp_path / "originals"


def test_pairs_by_name(sides: tuple[Path, Path], capsys: pytest.CaptureFixture[str]) -> None:
    ours, originals = sides
    assert main(["compare", str(ours), str(originals), "--json", "out=found"]) == 0
    printed = json.loads(capsys.readouterr().out)
    found = json.loads(Path("found/compare.json").read_text())
    assert printed == found | {"out": "found"}
    assert found["counts"] == {"ours": 4, "originals": 4, "paired": 4, "measured": 4}
    assert found["sets"] == [] and found["failed"] == []
    first, second, third, grey = found["pictures"]
    assert first["name"] == "sub/0" and (first["l1"], first["psnr_rgb"]) == (0, 100)
    a, b = (np.asarray(Image.open(path)).astype(float) for path in (ours / "sub/1.png", originals / "sub/1.bmp"))
    assert second["psnr_rgb"] == pytest.approx(10 * np.log10(255**2 / np.mean((a - b) ** 2)), abs=1e-9)
    assert "psnr_grey" in grey and "psnr_rgb" not in grey
    mean = (first["psnr_rgb"] + second["psnr_rgb"] + third["psnr_rgb"]) / 3
    assert found["metrics"]["psnr_rgb"] == pytest.approx(mean)
    assert not any(name.startswith(("ms_ssim", "lpips")) for name in found["metrics"])
    assert "psnr_rgb is the mean over 3 of 4 pictures" in found["notes"]
    (lpips,) = (note for note in found["notes"] if "LPIPS" in note)
    assert "alexnet-owt-7be5be79.pth" in lpips
    rows = list(csv.DictReader(Path("found/pictures.csv").read_text().splitlines()))
    assert [row["name"] for row in rows] == ["sub/0", "sub/1", "sub/2", "sub/3"]
    assert float(rows[1]["psnr_rgb"]) == second["psnr_rgb"] and rows[3]["psnr_rgb"] == ""


def test_what_does_not_match(sides: tuple[Path, Path], capsys: pytest.CaptureFixture[str]) -> None:
    """Unmatched names are noted, five of each side; other sizes and broken files fail."""
    ours, originals = sides
    for name in range(7):
        picture(ours / f"more{name}.png", name)
    picture(ours / "sub" / "1.png", 1, (24, 31))
    (originals / "sub" / "2.bmp").write_bytes(b"BM no picture")
    assert main(["compare", str(ours), str(originals), "lpips=none"]) == 1
    printed = capsys.readouterr().out
    assert "2 of 4 pairs of one name measured" in printed
    assert f"note: not in {originals}: more0, more1, more2, more3, more4 and 2 more" in printed
    assert "failed: 1 pairs differ in size, so no pixel has another: sub/1 (31x24 and 30x24)" in printed
    assert "2.bmp" in printed and "LPIPS" not in printed


def test_sets_by_features(sides: tuple[Path, Path]) -> None:
    """Without pairs by what needs no weights; a distance beside itself, and how many pictures are too few for FID."""
    ours, originals = sides
    found = compare(ours, originals, Wanted(features=("statistics",), paired="false"))
    assert "measured" not in found.counts and not found.metrics
    (record,) = found.sets
    assert (record["features"], record["dimension"], record["ours"]) == ("statistics", 18, 4)
    assert set(record) >= {"kid@statistics,bicubic256,1x4", "fid@statistics,bicubic256"}
    assert not any(name.startswith("kid_std") for name in record)
    note = found.notes[-1]
    assert note.startswith("FID BY statistics IS NOT TO BE TRUSTED: 4 pictures are fewer than 18 + 1")
    some = compare(ours, originals, Wanted(("statistics",), "false", subsets=7, subset=3)).sets[0]
    assert some["kid_std@statistics,bicubic256,7x3"] > 0
    same = compare(ours, ours, Wanted(("statistics",), "false")).sets[0]
    assert same["fid@statistics,bicubic256"] == 0


def test_sets_of_other_names_are_no_pairs(sides: tuple[Path, Path], tmp_path: Path) -> None:
    ours, _ = sides
    for name in ("x", "y"):
        picture(tmp_path / "others" / f"{name}.png", 9)
    found = compare(ours, tmp_path / "others", Wanted())
    assert [record["features"] for record in found.sets] == ["random0", "statistics"]
    assert "kid@random0,bicubic256,100x2" in found.sets[0] and found.counts["paired"] == 0
    with pytest.raises(DataError, match="no picture of") as caught:
        compare(ours, tmp_path / "others", Wanted(paired="true"))
    assert "sub/0, sub/1, sub/2, sub/3 beside x, y" in caught.value.hint


def test_two_pictures_are_a_pair(sides: tuple[Path, Path]) -> None:
    ours, originals = sides
    found = compare(ours / "sub/1.png", originals / "sub/2.bmp", Wanted())
    assert found.counts["measured"] == 1 and 0.2 < found.metrics["l1"] < 0.5


def test_one_picture_is_no_set(sides: tuple[Path, Path]) -> None:
    ours, originals = sides
    found = compare(ours / "sub/1.png", originals / "sub/2.bmp", Wanted(("statistics",), "false"))
    assert found.sets == [{"features": "statistics", "dimension": 18, "ours": 1, "originals": 1}]
    assert "it takes two each" in found.notes[0]


@pytest.mark.parametrize(
    ("words", "message", "hint"),
    [
        (["nowhere", "ours"], "no such folder: nowhere", ""),
        (["ours", "original"], "no such folder: original", "did you mean 'originals'?"),
        (["ours", "originals", "paired=maybe"], "paired = 'maybe': should be one of auto, true, false", ""),
        (["ours", "originals", "feature=random"], "compare has no setting 'feature'", "did you mean 'features'?"),
        (["ours", "originals", "features=randon"], "no features 'randon'", "did you mean 'random'?"),
        (["ours", "originals", "features=inception"], "features=inception needs its weights", "inception=FILE"),
        (["ours", "originals", "features=inception=none.pth"], "no weights at none.pth", "2015-12-05"),
        (["ours", "originals", "lpips=alex"], "LPIPS (alex) needs the weights of alexnet", "trunk=FILE"),
        (["ours", "originals", "subset=0"], "subset = '0': should be a positive integer", ""),
        (["ours"], "the following arguments are required: B", ""),
    ],
)
def test_mistakes(
    sides: tuple[Path, Path], words: list[str], message: str, hint: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["compare", *words]) in (1, 2)
    printed = capsys.readouterr().err
    assert message in printed and hint in printed and "Traceback" not in printed
    assert not Path("compare").exists()


def test_features_of_a_trained_run(finished: Callable[[str], Path]) -> None:
    folder = finished("classification")
    embedding = find(str(folder))
    layer = embedding.name.partition(":")[2]
    assert embedding.name.startswith(f"{folder.name}:") and layer
    named = find(f"{folder}:{layer}")
    one = torch.randint(0, 256, (3, 40, 50), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    assert torch.equal(named.of(one), embedding.of(one)) and named.name == embedding.name
    assert embedding.of(one).shape == (embedding.dimension,)
    with pytest.raises(ModelError, match="no layer 'nothing'"):
        find(f"{folder}:nothing")


def test_features_that_are_nowhere() -> None:
    for name in ("random-1", "statistic", "runs/none:", "torchvision"):
        with pytest.raises(UsageError, match="no features"):
            find(name)
    with pytest.raises(UsageError, match="torchvision has no"):
        find("torchvision/nothing")
