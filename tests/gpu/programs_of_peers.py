"""What a peer gets and gives: a module with ``setup``, ``precision``, ``put``, ``take``, ``synchronize``, ``forget``,
and one function for each program of ``rows.py``, which makes a builder for every way to run it.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any


class NotSupported(Exception):
    """The peer cannot state this row; the message says why."""


@dataclass
class Program:
    """``call(k)`` runs with the inputs of set k and returns the results, still on the device; ``state()`` copies the
    state to the host. ``function`` is what was compiled, where there is more to ask of it."""

    call: Callable[[int], tuple[Any, ...]]
    state: Callable[[], dict[str, Any]] | None = None
    function: Any = None


Builders = dict[str, Callable[[], Program]]


@dataclass
class Inputs:
    """What a peer builds from: ``host`` and ``device`` copies of each set, and the shared arrays on the host.

    In a row about NumPy arrays there are no device copies.
    """

    shared: dict[str, Any]
    host: list[dict[str, Any]]
    device: list[dict[str, Any]]
    parameters: dict[str, Any]

    @property
    def given(self) -> list[dict[str, Any]]:
        """The arguments of calls: the copies on the device, where there are any."""
        return self.device if any(self.device) else self.host
