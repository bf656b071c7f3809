"""What a run says while it trains: a live bar on a terminal, one plain line per event anywhere else."""

from __future__ import annotations

from collections.abc import Mapping
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.progress import Progress as Bar


class Progress:
    """Shows the steps of one run under `title`; silent where `quiet` (all processes but the first)."""

    def __init__(self, title: str, steps: int, *, console: Console | None = None, quiet: bool = False) -> None:
        self.title, self.steps = title, steps
        self.console = console or Console(stderr=True, quiet=quiet, highlight=False, soft_wrap=True)
        self._metrics = ""
        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[now]}"),
        )
        self._live = self.console.is_terminal
        self._bar = Bar(*columns, TimeElapsedColumn(), TimeRemainingColumn(), console=self.console, disable=not self._live)
        self._task = self._bar.add_task(escape(title), total=steps, now="")

    def step(self, step: int, losses: Mapping[str, float]) -> None:
        """Show that `step` steps are done; without a terminal, at each tenth of the run."""
        if self._live:
            self._bar.update(self._task, completed=step, now=f"{numbers(losses)}  {self._metrics}")
        elif step * 10 // self.steps > (step - 1) * 10 // self.steps:
            self.event(f"step {step}/{self.steps}  {numbers(losses)}")

    def metrics(self, step: int, metrics: Mapping[str, float]) -> None:
        """Show an evaluation."""
        self._metrics = numbers(metrics)
        if not self._live:
            self.event(f"step {step}/{self.steps}  {self._metrics}")

    def event(self, text: str) -> None:
        """Print one line, above the bar if there is one."""
        self.console.print(f"{self.title}  {text}", markup=False)

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._bar.stop()


def numbers(values: Mapping[str, float]) -> str:
    """Write named numbers in a line, with three significant digits."""
    return "  ".join(f"{name} {value:.3g}" for name, value in values.items())
