"""Ctrl-C and SIGTERM end a run between two steps, after its state is saved; a second Ctrl-C ends it at once."""

from __future__ import annotations

import signal
import threading
from types import FrameType, TracebackType
from typing import Self

from pixelwise.errors import TrainingError


class Interrupted(TrainingError):
    """The user, or the machine, asked the run to stop; its state is saved."""

    exit_code = 130


class Interrupt:
    """While open, remembers in `requested` that SIGINT or SIGTERM has come, instead of dying of it."""

    def __init__(self) -> None:
        self.requested = False
        # Python handles signals in the main thread alone.
        main = threading.current_thread() is threading.main_thread()
        self._signals = (signal.SIGINT, signal.SIGTERM) if main else ()

    def __enter__(self) -> Self:
        self._before = {number: signal.signal(number, self._note) for number in self._signals}
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _note(self, number: int, frame: FrameType | None) -> None:
        if self.requested and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.requested = True
