"""Functions that are slower and tell more: the modes ``reference``, ``nan_guard`` and ``debug``.

All of them compute outputs and new values first, check them, and only then change shared variables. They run
one at a time.
"""

from collections.abc import Callable, Mapping, Sequence
from threading import RLock
from typing import Any

import numpy as np
import numpy.typing as npt

from symtensor_codegen import dtypes
from symtensor_codegen.expr import topological

from .arguments import In
from .comparison import Comparison, MismatchError, noise_of
from .compiled_function import Function, arrays_copied
from .devices import CPU, copied_home
from .failures import NotFiniteError
from .graph import Constant, Tensor
from .loops.branches import deepened
from .loops.watch import BIG, INFINITE, NAN, Watch, undefined_rows, watches
from .lower.plan import Result
from .opdef import describe
from .ops.branch_records import IFELSE
from .ops.loop_records import LOOP, body_of
from .reference import Evaluation, evaluate
from .shared_variables import converted

Array = npt.NDArray[Any]
LIMIT = 1e10  # beyond this ``NanGuardMode(big_is_error=True)`` refuses a number, as Theano does
_KINDS = ((NAN, "NaN"), (INFINITE, "infinity"), (BIG, f"numbers beyond {LIMIT:.0e}"))

_LOCK = RLock()


class _CheckedFunction(Function):
    """A function whose calls run in Python: compute, check, then commit."""

    def __call__(self, *args: Any, **named: Any) -> Any:
        """Outputs for these arguments; the updates are applied last."""
        arrays = self._arguments(*args, **named)
        with _LOCK:
            values = self._values(arrays)
            count = len(values) - len(self.updates)
            for (variable, _), value in zip(self.updates, values[count:], strict=True):
                variable.cell.set(value)
        return self._finished(values[:count])

    def _values(self, arrays: Sequence[Array]) -> list[Array]:
        """Outputs, what is printed and new values, checked, in memory of their own."""
        raise NotImplementedError

    def _leaves(self, arrays: Sequence[Array]) -> dict[Tensor, Array]:
        """The values of inputs and shared variables."""
        known = {i.variable: array for i, array in zip(self.inputs, arrays, strict=True)}
        return known | {cell: cell.cell.get() for cell in self._cells}

    def _native(self, nodes: Sequence[Tensor]) -> Callable[..., list[Array]]:
        """A compiled function that returns the values of these expressions as they are written."""
        return self._callable(self._compiled_to([Result(node) for node in nodes], ()))

    def _received(self, value: Any, given: In, what: str) -> Any:
        """Values are looked at on this machine; only a function that runs on the device takes them from there."""
        if self.device == CPU and self.mode != "reference":
            return super()._received(value, given, what)
        kind = given.variable.type
        return converted(copied_home(value), kind, what, given.allow_downcast, strict=given.strict)

    def _rewritten(self) -> tuple[Tensor, ...]:
        return self.compilation.stages[-1].outputs


class ReferenceFunction(_CheckedFunction):
    """Mode ``reference``: NumPy, operation by operation."""

    def _prepare(self) -> None:
        self._expressions = deepened(self.definition.computed)

    def _values(self, arrays: Sequence[Array]) -> list[Array]:
        return arrays_copied(evaluate(self._expressions, self._leaves(arrays)))


class NanGuardFunction(_CheckedFunction):
    """Mode ``nan_guard``: every value of the rewritten graph is looked at."""

    def _prepare(self) -> None:
        made = self.definition
        self._compilation = self._compiled_to([Result(o) for o in made.computed], made.passes)
        mode = made.mode
        self._refused = NAN * mode.nan | INFINITE * mode.inf | BIG * mode.big
        self._nodes = _operations(self._rewritten())
        self._undefined = undefined_rows(self._rewritten())
        self._watches = watches(self._rewritten(), LIMIT)
        shown = [t for watch in self._watches for t in (watch.codes, watch.steps)]
        self._run = self._native([*self._nodes, *shown, *self._rewritten()])

    def _values(self, arrays: Sequence[Array]) -> list[Array]:
        for leaf, array in self._leaves(arrays).items():
            self._check(leaf, array)
        values = self._run(*arrays)
        found = dict(zip(self._nodes, values, strict=False))
        rest = values[len(self._nodes) :]
        codes, steps = rest[: 2 * len(self._watches) : 2], rest[1 : 2 * len(self._watches) : 2]
        for node in self._nodes:
            if node.inputs and node.inputs[0].element is dtypes.results:
                self._check_steps(node.inputs[0], codes, steps)
            if node not in self._undefined:
                self._check(node, found[node])
        return rest[2 * len(self._watches) :]

    def _check_steps(self, loop: Tensor, codes: Sequence[Array], steps: Sequence[Array]) -> None:
        """Look at what a loop computed, step by step."""
        found: list[tuple[tuple[int, ...], tuple[int, ...], Watch, int]] = []
        for watch, code, count in zip(self._watches, codes, steps, strict=True):
            first = watch.first(code, int(count), self._refused) if watch.loops[0] is loop else None
            if first is not None:
                found.append((watch.moment(first[0]), first[0], watch, first[1]))
        if not found:
            return
        _, place, watch, kinds = min(found, key=lambda entry: entry[0])
        what = next(name for kind, name in _KINDS if kinds & kind)
        raise NotFiniteError(
            f"{self.name}: {what} in {describe(watch.node)}, computed by {watch.node.op.name} from "
            f"{'; '.join(describe(i) for i in watch.node.inputs)}, {', '.join(f'in step {k}' for k in place)} of "
            f"{body_of(loop).name or 'a loop'}; no shared variable was changed"
        )

    def _check(self, node: Tensor, array: Array) -> None:
        if array.dtype.kind not in "fc":
            return
        kinds: list[tuple[int, Array]] = []
        with np.errstate(all="ignore"):
            kinds.append((NAN, np.isnan(array)))
            kinds.append((INFINITE, np.isinf(array)))
            kinds.append((BIG, np.isfinite(array) & (np.abs(array) > LIMIT)))
        for (what, bad), (_, name) in zip(kinds, _KINDS, strict=True):
            if what & self._refused and bad.any():
                first = tuple(int(i) for i in np.argwhere(bad)[0])
                operands = "; ".join(describe(i) for i in node.inputs)
                computed = f", computed by {node.op.name} from {operands}" if operands else ""
                if operands and node.inputs[0].element is dtypes.results:
                    computed = ", computed by a loop" if node.inputs[0].op is LOOP else ", computed by a lazy branch"
                place = f", first at {first}" if array.ndim else ""
                raise NotFiniteError(
                    f"{self.name}: {name} in {describe(node)}{computed}: "
                    f"{np.count_nonzero(bad)} of {array.size} elements{place}; no shared variable was changed"
                )


class DebugFunction(_CheckedFunction):
    """Mode ``debug``: the values that native code gives, at every stage, against the reference.

    Each operation of the user's graph and of the rewritten graph is computed by native code and by the
    reference from the same operands. The fused program is compared with both graphs as a whole; from the
    user's graph it may differ where rounding alone could explain it, or where that graph overflows.
    """

    def _prepare(self) -> None:
        made = self.definition
        written = deepened(made.computed)
        self._compilation = self._compiled_to([Result(o) for o in written], made.passes)
        rewritten = self._rewritten()
        self._fused = self._callable(self._compilation)
        self._graphs = [("as written", written, _operations(written), True)]
        if tuple(written) != rewritten:
            self._graphs.append(("after rewriting", list(rewritten), _operations(rewritten), False))
        self._single = [self._native(nodes) for _, _, nodes, _ in self._graphs]

    def _values(self, arrays: Sequence[Array]) -> list[Array]:
        leaves = self._leaves(arrays)
        fused: list[Array] = self._fused(*arrays)
        for (stage, outputs, nodes, unstable), run in zip(self._graphs, self._single, strict=True):
            evaluation = Evaluation(leaves)
            undefined = undefined_rows(outputs)
            for node, value in zip(nodes, run(*arrays), strict=True):
                if node in undefined:
                    evaluation.values[node] = value
                else:
                    self._compare_one(node, value, evaluation, stage)
            self._compare_fused(outputs, fused, leaves, stage, unstable)
        return fused

    def _compare_one(self, node: Tensor, got: Array, evaluation: Evaluation, stage: str) -> None:
        """One operation on the operands that native code gave."""
        want = evaluation.value(node)
        operands = {n: value for n, value in evaluation.values.items() if n in _arrays(node) or not n.inputs}
        # On a device a product that is computed beside its user may reach it without being rounded.
        exact = node.op.is_elementwise and self.device == "cpu"
        noise = None if exact else noise_of([node], operands)[0]
        self._raise_unless(Comparison(got, want, node.op.tolerance, noise), node, stage, node.op.name)
        evaluation.values[node] = got  # the operand of what comes next

    def _compare_fused(
        self,
        outputs: Sequence[Tensor],
        fused: Sequence[Array],
        leaves: Mapping[Tensor, Array],
        stage: str,
        unstable: bool,
    ) -> None:
        noises = noise_of(outputs, leaves)
        for node, got, want, noise in zip(outputs, fused, evaluate(outputs, leaves), noises, strict=True):
            comparison = Comparison(got, want, node.op.tolerance, noise, may_overflow=unstable)
            self._raise_unless(comparison, node, stage, "the fused program")

    def _raise_unless(self, comparison: Comparison, node: Tensor, stage: str, what: str) -> None:
        fault = comparison.fault()
        if fault is not None:
            raise MismatchError(
                f"{self.name}: compiled code and reference differ for {describe(node)}, in the graph "
                f"{stage}, computed by {what}: {fault}; no shared variable was changed. This is an error "
                "of the compiler: please report it"
            )


def _operations(outputs: Sequence[Tensor]) -> list[Tensor]:
    """What the outputs are computed by, inputs first; and those outputs that are constants.

    Of loops and branches that is what is taken out of them, and of what only one branch needs, nothing: it may not
    be possible to compute it.
    """
    order = topological(outputs, lambda node: node.inputs[:1] if node.op is IFELSE else node.inputs)
    return [
        n for n in order
        if (n.inputs or (n in outputs and isinstance(n, Constant))) and n.element is not dtypes.results
    ]  # fmt: skip


def _arrays(node: Tensor) -> Sequence[Tensor]:
    """The arrays a value is computed from; of something taken out of a loop those that the loop is given."""
    return node.inputs[0].inputs if node.inputs and node.inputs[0].element is dtypes.results else node.inputs


CLASSES: dict[str, type[_CheckedFunction]] = {
    "reference": ReferenceFunction,
    "nan_guard": NanGuardFunction,
    "debug": DebugFunction,
}
