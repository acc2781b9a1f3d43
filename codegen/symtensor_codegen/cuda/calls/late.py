"""Failures of calls that nobody waited for: the next call or read that finds one tells it.

A call whose results stay on the device returns before the device has run it. What it leaves in its program's status
word is on its way to the host then. Until somebody has looked, the program's kernels that would write into shared
variables do nothing: neither the call that failed nor those after it change anything.
"""

import atexit
import sys
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from threading import RLock
from typing import Any, Protocol
from weakref import WeakKeyDictionary

MOST = 64  # calls of a device whose end nobody has looked for


class Arrival(Protocol):
    """Bytes on their way from the device."""

    def ready(self) -> bool:
        """Whether they are here."""

    def take(self) -> bytes:
        """The bytes, when they are here; once."""


Problem = Callable[[bytes], Callable[[], BaseException] | None]
"""Of what arrives, what makes the exception; None where all is well."""


class Fate:
    """What became of the call that made an array, if somebody knows: all who read what failed are told.

    ``after``: the fates of arrays that were given to it, which nobody knew then.
    """

    __slots__ = ("after", "known", "make")

    def __init__(self, after: tuple["Fate", ...] = (), known: bool = False) -> None:
        self.after, self.known = after, known
        self.make: Callable[[], BaseException] | None = None

    def end(self, make: Callable[[], BaseException] | None) -> None:
        """The call has ended; ``make`` makes its exception, if it failed."""
        self.known, self.make = True, make

    @property
    def problem(self) -> Callable[[], BaseException] | None:
        """What makes the exception, where it is known that the call, or one whose results it used, failed."""
        if self.make is None and self.after:
            self.make = next((p for fate in self.after if (p := fate.problem) is not None), None)
            self.after = () if self.make is not None else tuple(fate for fate in self.after if not fate.is_well)
        return self.make

    @property
    def is_well(self) -> bool:
        """Whether nothing failed, as far as `problem` has found out."""
        return self.known and self.make is None and not self.after


@dataclass(frozen=True, slots=True)
class _Call:
    arrival: Arrival
    program: object
    problem: Problem
    fate: Fate


class Late:
    """The calls of one device whose end nobody has looked for, oldest first."""

    def __init__(self) -> None:
        self.calls: deque[_Call] = deque()
        self.lock = RLock()

    def add(self, arrival: Arrival, program: object, problem: Problem, fate: Fate) -> None:
        """Something of a call of ``program`` is on its way, which will tell its fate."""
        with self.lock:
            self.calls.append(_Call(arrival, program, problem, fate))

    def settle(self, wait: bool = False) -> None:
        """Look at the calls that have ended, or (``wait``) at all; raises for the first that failed."""
        while self.calls:
            with self.lock:
                if not self.calls or not (wait or len(self.calls) > MOST or self.calls[0].arrival.ready()):
                    return
                call = self.calls.popleft()
                problem = call.problem(call.arrival.take())
                call.fate.end(problem)
                if problem is not None:  # what was called after it did nothing, and says the same
                    for other in self.calls:
                        if other.program is call.program:
                            other.fate.end(problem)
                    self.calls = deque(other for other in self.calls if other.program is not call.program)
                    raise problem()


_late: WeakKeyDictionary[Any, Late] = WeakKeyDictionary()


def late_of(device: Any) -> Late:
    """The calls of a device."""
    found = _late.get(device)
    if found is None:
        if not _late:
            atexit.register(_tell_the_rest)
        found = _late.setdefault(device, Late())
    return found


def settle(device: Any) -> None:
    """Tell of a failure among the calls of a device, all of which have ended."""
    found = _late.get(device)
    if found is not None and found.calls:
        with device.current():
            found.settle(wait=True)


def _tell_the_rest() -> None:
    """At the end of the process, what nobody asked for."""
    for device in list(_late):
        try:
            settle(device)
        except Exception as problem:
            sys.stderr.write(f"symtensor: a call on a device had failed: {problem}\n")
