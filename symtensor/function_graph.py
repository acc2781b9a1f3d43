"""Theano's view of a compiled function: ``f.maker.fgraph``, for programs that look at what was compiled."""

from collections.abc import Sequence
from dataclasses import dataclass

from .apply import Apply, io_toposort
from .arguments import In
from .graph import Tensor, ancestors
from .modes import ModeRecord
from .shared_variables import SharedVariable


@dataclass(frozen=True, slots=True)
class FunctionGraph:
    """The rewritten graph: ``inputs`` (arguments, shared variables) and ``outputs`` (results, new values)."""

    inputs: list[Tensor]
    outputs: list[Tensor]

    def toposort(self) -> list[Apply]:
        """The operations, each after those it depends on."""
        return io_toposort(self.inputs, self.outputs)

    @property
    def apply_nodes(self) -> set[Apply]:
        """The operations."""
        return set(self.toposort())

    @property
    def variables(self) -> set[Tensor]:
        """Everything in the graph: inputs, constants and results."""
        return {*self.inputs, *ancestors(self.outputs)}


class Maker:
    """What made a function: its ``inputs``, ``outputs``, ``mode`` and graph ``fgraph``."""

    def __init__(
        self,
        inputs: Sequence[In],
        cells: Sequence[SharedVariable],
        outputs: Sequence[Tensor],
        mode: ModeRecord,
    ) -> None:
        self.inputs = list(inputs)
        self.mode = mode
        self.fgraph = FunctionGraph([*[i.variable for i in inputs], *cells], list(outputs))

    @property
    def outputs(self) -> list[Tensor]:
        """The expressions that are computed."""
        return list(self.fgraph.outputs)
