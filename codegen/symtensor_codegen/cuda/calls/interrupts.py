"""Ctrl-C while shared variables are written in place: it waits, so that all of them are written or none."""

import signal
import threading
from types import FrameType
from typing import Any


class Uninterrupted:
    """In a ``with`` block of the main thread an interrupt is kept for its end; other threads never get one."""

    __slots__ = ("_before", "_seen")

    def __init__(self) -> None:
        self._before: Any = None
        self._seen: tuple[int, FrameType | None] | None = None

    def __enter__(self) -> None:
        if threading.current_thread() is threading.main_thread() and callable(signal.getsignal(signal.SIGINT)):
            self._before = signal.signal(signal.SIGINT, self._keep)

    def _keep(self, number: int, frame: FrameType | None) -> None:
        self._seen = number, frame

    def __exit__(self, *failure: object) -> None:
        if self._before is not None:
            signal.signal(signal.SIGINT, self._before)
            if self._seen is not None:
                self._before(*self._seen)
