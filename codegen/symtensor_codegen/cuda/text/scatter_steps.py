"""What scatters are written of: steps, and the values of an item's stores."""

from collections.abc import Mapping, Sequence

from symtensor_codegen.cuda.schedules.scatters import Scatter
from symtensor_codegen.cuda.text.accesses import from_memory, to_memory
from symtensor_codegen.cuda.text.teams import TeamWriter
from symtensor_codegen.cuda.text.values import bare
from symtensor_codegen.dtypes import DType
from symtensor_codegen.loops import Check
from symtensor_codegen.scalar import COMBINES, Register, Scalar, read

EVERY = "0xffffffffu"  # lane of a warp


class StepWriter(TeamWriter):
    """Writes what steps of a scatter do."""

    failed: str | None = None  # the variable for checks that fail here, where not every one is reported
    verified: frozenset[Scalar] = frozenset()  # checked indices that are reported elsewhere

    def checked(self, node: Scalar, operands: Sequence[str]) -> str:
        """An index from data."""
        at, extent = map(bare, operands)
        if node in self.verified:
            return f"st_wrapped({at}, {extent})"
        if self.failed is not None:
            return f"st_noted({at}, {extent}, {self.failed}, {self._failure(node.param)})"
        return super().checked(node, operands)

    def _own(self, *names: str) -> list[str]:
        """Variables that every scatter has."""
        return [self.names.of((StepWriter, name), name) for name in names]

    def _step(self, scatter: Scatter, number: str) -> None:
        """Where a step is in each of the loops over steps, from its number."""
        (step,) = self._own("step")
        self.line(f"const i64 {step} = {number};")
        self.places_in(scatter.loops, [self.names.of(s.index, s.index.param.name) for s in scatter.loops], step)

    def _load(self, scatter: Scatter, at: str, place: str, terms: list[Register]) -> None:
        """What a step stores, and where: nowhere if it stores only under a condition that does not hold."""
        self.statements([s for s in self.stage.body if isinstance(s, Check)])
        for term, store in zip(terms, scatter.stores, strict=True):
            self.line(f"{self.register(term)} = {bare(self.value(store.value))};")
        where = scatter.stores[0].where
        self.line(f"{at} = {place if where is None else f'{self.value(where)} ? {place} : -1'};")

    # Values of the stores of an item ------------------------------------------------------------------------------

    def _variables(self, scatter: Scatter, role: str, kinds: Mapping[DType, str], several: int = 0) -> list[Register]:
        """A variable for each store; with ``several`` an array, for which its element ``u`` stands."""
        found: list[Register] = []
        for store in scatter.stores:
            name = self.names.fresh(f"{store.buffer.name}_{role}")
            # Without a first value it would be kept from an iteration to the next, in a register of its own.
            self.line(f"{kinds[store.buffer.dtype]} {name}{f'[{several}] = {{}}' if several else ' = 0'};")
            found.append(Register(role, store.buffer.dtype))
            self.names.give(found[-1], f"{name}[u]" if several else name)
        return found

    def _of_lane(self, scatter: Scatter, values: list[Register], kinds: Mapping[DType, str]) -> list[Register]:
        """The values that another lane has."""
        (turn,) = self._own("turn")
        found: list[Register] = []
        for value in values:
            found.append(Register(f"its_{value.name}", value.dtype))
            text = f"st_lane({EVERY}, {self.register(value)}, {turn}, 32)"
            self.line(f"{kinds[value.dtype]} {self.register(found[-1])} = {text};")
        return found

    def _get(self, scatter: Scatter, place: str, values: list[Register], condition: str) -> None:
        """Load the elements at a place, as they are in memory."""
        with self.block(f"if ({condition})"):
            for value, element in zip(values, self._elements(scatter, place), strict=True):
                self.line(f"{self.register(value)} = {element};")

    def _take(self, scatter: Scatter, elements: list[Register], values: list[Register]) -> None:
        """Go on with elements as they were in memory."""
        for element, store, value in zip(elements, scatter.stores, values, strict=True):
            self.line(f"{self.register(element)} = {bare(from_memory(store.buffer, self.register(value)))};")

    def _combine(self, scatter: Scatter, elements: list[Register], terms: list[Register]) -> None:
        """Combine elements with what a step brings."""
        for element, store, term in zip(elements, scatter.stores, terms, strict=True):
            assert store.combine is not None
            step = COMBINES[store.combine].step(read(element), read(term))
            self.line(f"{self.register(element)} = {bare(self.value(step))};")

    def _put(self, scatter: Scatter, place: str, values: list[Register]) -> None:
        """Store values at a place."""
        for element, store, value in zip(self._elements(scatter, place), scatter.stores, values, strict=True):
            self.line(f"{element} = {to_memory(store.buffer, self.register(value))};")

    def _elements(self, scatter: Scatter, place: str) -> list[str]:
        """The elements at a place."""
        beside = [f" {'+' if d > 0 else '-'} {abs(d)}" if d else "" for d in scatter.distances]
        buffers = [self.names.of(store.buffer, store.buffer.name) for store in scatter.stores]
        return [f"{buffer}[{place}{distance}]" for buffer, distance in zip(buffers, beside, strict=True)]
