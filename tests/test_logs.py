"""What a run writes and says, and the settings it is given."""

import io
import json
import math
import sys
from pathlib import Path

import pytest
from pydantic import ValidationError
from rich.console import Console

from pixelwise.engine import logs
from pixelwise.engine.logs import Logs
from pixelwise.engine.progress import Progress
from pixelwise.errors import UsageError
from pixelwise.training import Optimizer, Schedule, Training


def test_logs_begin_at_the_first_step_and_drop_what_lies_beyond_a_resume(tmp_path):
    with Logs(tmp_path) as log:
        log.losses(1, 0.1, {"l1": 0.5})
        assert json.loads((tmp_path / "metrics.jsonl").read_text())["losses"] == {"l1": 0.5}
        log.metrics(1, {"miou": math.nan})
        log.losses(2, 0.1, {"l1": 0.25})
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write('{"step": 3, "los')  # as a kill leaves it
    Logs(tmp_path, 1).__exit__(None, None, None)
    found = list(logs.read(tmp_path / "metrics.jsonl"))
    assert [(e["step"], e.get("losses"), e.get("metrics")) for e in found] == [
        (1, {"l1": 0.5}, None),
        (1, None, {"miou": None}),
    ]


def test_quiet_logs_write_nothing(tmp_path):
    with Logs(tmp_path / "run", quiet=True) as log:
        log.losses(1, 0.1, {"l1": 0.5})
        log.to_disk()
    assert not (tmp_path / "run").exists()


def test_tensorboard_missing_is_a_clear_error(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with pytest.raises(UsageError) as caught:
        Logs(tmp_path, tensorboard=True)
    assert "pixelwise[log]" in caught.value.hint


def test_tensorboard_gets_the_same_numbers(tmp_path, monkeypatch):
    calls = []

    class Writer:
        def __init__(self, folder, purge_step):
            calls.append((Path(folder).name, purge_step))

        def add_scalar(self, name, value, step):
            calls.append((name, value, step))

        def close(self):
            calls.append("closed")

    module = type("Fake", (), {"SummaryWriter": Writer})
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", module)
    with Logs(tmp_path, 4, tensorboard=True) as log:
        log.losses(5, 0.1, {"l1": 0.5})
        log.metrics(5, {"miou": 0.75})
    assert calls == [
        ("tensorboard", 5),
        ("losses/l1", 0.5, 5),
        ("losses/lr", 0.1, 5),
        ("metrics/miou", 0.75, 5),
        "closed",
    ]


def spoken(console_arguments, steps=20):
    out = io.StringIO()
    console = Console(file=out, width=120, **console_arguments)
    with Progress("maps-1", steps, console=console) as progress:
        for step in range(1, steps + 1):
            progress.step(step, {"l1": 1 / step})
        progress.metrics(steps, {"psnr_y": 21.456})
        progress.step(steps, {"l1": 1 / steps})
        progress.event("state/000020 is damaged [really]")
    return out.getvalue()


def test_plain_progress_is_one_line_per_event():
    lines = spoken({}).splitlines()
    assert lines[0] == "maps-1  step 2/20  l1 0.5"
    assert lines[9:12] == ["maps-1  step 20/20  l1 0.05", "maps-1  step 20/20  psnr_y 21.5", "maps-1  step 20/20  l1 0.05"]
    assert lines[12] == "maps-1  state/000020 is damaged [really]"
    assert len(lines) == 13


def test_a_terminal_gets_a_bar():
    text = spoken({"force_terminal": True})
    assert "20/20" in text
    assert "━" in text
    assert "psnr_y 21.5" in text


# Settings


@pytest.mark.parametrize("config", [Optimizer, Schedule, Training])
def test_every_setting_is_described_and_has_a_default(config):
    assert config() == config.model_validate_json(config().model_dump_json())
    assert all(field.description for field in config.model_fields.values())


@pytest.mark.parametrize(
    ("config", "wrong"),
    [
        (Optimizer, {"lr": 0}),
        (Optimizer, {"kind": "rmsprop"}),
        (Optimizer, {"betas": (0.5, 1.0)}),
        (Schedule, {"hold": 1.5}),
        (Training, {"ema": 1.0}),
        (Training, {"step": 5}),
        (Training, {"precision": "float16"}),
    ],
)
def test_wrong_settings_are_refused(config, wrong):
    with pytest.raises(ValidationError):
        config(**wrong)
