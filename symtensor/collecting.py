"""Keeping Python's garbage collector out of the way while many nodes are made."""

import gc
from types import TracebackType


class no_collection:
    """Inside this block the cyclic garbage collector does not run.

    Nodes form no cycles, so it would find nothing; but it looks through all of them whenever their number has
    grown by some, which nearly doubles the time of building a large graph.
    """

    def __enter__(self) -> None:
        self._enabled = gc.isenabled()
        gc.disable()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._enabled:
            gc.enable()
