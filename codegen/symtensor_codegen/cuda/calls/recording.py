"""Calls that depend on shapes alone: their actions are recorded once, and replayed at the addresses of each call.

At addresses that have been seen before the whole call is one CUDA graph, in which actions wait for those whose
results they need and for no others; elsewhere the actions are launched one by one.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from functools import partial
from itertools import accumulate
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import numpy as np

from symtensor_codegen.cuda.calls.actions import (
    CONSTANTS,
    FIRST_BASE,
    SCRATCH,
    Action,
    CopyAction,
    Operand,
    Place,
    dependencies,
)
from symtensor_codegen.cuda.calls.direct import element, read_status
from symtensor_codegen.cuda.calls.interrupts import Uninterrupted
from symtensor_codegen.cuda.calls.steps import INTACT, Prepared, Product, Results, Walk, aligned, failure
from symtensor_codegen.cuda.hardware.intake import LARGE
from symtensor_codegen.cuda.matmul.fusion import Planned, fused
from symtensor_codegen.dtypes import DType
from symtensor_codegen.program import Gemm, Step
from symtensor_codegen.scalar import Buffer

if TYPE_CHECKING:
    from symtensor_codegen.cuda.device import Device, Replay, Token

Array = np.ndarray[Any, Any]
Play = tuple[Callable[[], object], ...]

MOST_ACTIONS: Final = 50_000  # longer calls are not recorded
PIECE: Final = 2_000  # actions in one graph
SMALL: Final = 1 << 16  # bytes of inputs that are packed into one transfer
_MOST_PLAYS: Final = 8
_MOST_SEEN: Final = 64


class NotStaticError(Exception):
    """The call depends on a value that is in device memory, or is too long to record."""


class Recorder(Walk):
    """Collects the actions of a call whose inputs in ``host``, by base, are host arrays with these values."""

    def __init__(self, prepared: Prepared, shapes: Sequence[tuple[int, ...]], host: dict[int, Array]) -> None:
        super().__init__(prepared, shapes)
        self.host = host
        self.actions: list[Action | Planned] = []
        self.steps: list[Step | None] = []  # what the actions are of
        self.checks: list[int] = []  # before which actions the status must be known to be well
        self.numbers: list[int] = []
        self.outputs: dict[int, int] = {}  # base -> bytes
        self.top = self.highest = 0

    def do(self, action: "Action | Planned", step: Step | None) -> None:
        """Take note of an action."""
        if len(self.actions) >= MOST_ACTIONS:
            raise NotStaticError
        self.actions.append(action)
        self.steps.append(step)

    def multiply(self, product: Product, out: Operand, a: Operand, b: Operand, step: Gemm) -> None:
        """Take note of a product, which may become one with what follows it."""
        if step in self.prepared.finishes:
            self.do(Planned(out, a, b, product), step)
        else:
            super().multiply(product, out, a, b, step)

    def complete(self) -> tuple[list[Action], list[int]]:
        """All actions, and before which of them the status must be known to be well."""
        actions = fused(self.prepared, self.actions, self.steps)
        before = [*accumulate((action is not None for action in actions), initial=0)]
        return [action for action in actions if action is not None], [before[check] for check in self.checks]

    def allocate(self, size: int) -> Place:
        """The next bytes of scratch memory."""
        found = Place(SCRATCH, self.top, size)
        self.top += aligned(size)
        self.highest = max(self.highest, self.top)
        return found

    def output(self, position: int, buffer: Buffer) -> Place:
        """A base of its own."""
        base, size = self.prepared.first_output + position, self.bytes_of(buffer)
        self.outputs[base] = size
        return Place(base, 0, size)

    def value(self, place: Place, dtype: DType) -> Any:
        """An element of a host array; others are not known before the call."""
        array = self.host.get(place.base)
        if array is None:
            raise NotStaticError
        return element(array, place, dtype)

    def put(self, number: int, place: Place) -> None:
        """Copy the number from among the constants."""
        if number not in self.numbers:
            self.numbers.append(number)
        self.do(CopyAction(place, Place(CONSTANTS, 8 * self.numbers.index(number), 8)), None)

    def check(self) -> None:
        """Divide the actions here."""
        self.checks.append(len(self.actions))

    def mark(self) -> int:
        """The end of the scratch memory in use."""
        return self.top

    def release(self, mark: int) -> None:
        """Use the scratch memory from there on again."""
        self.top = mark


class Upload(NamedTuple):
    """A host input: its position, where in the memory for inputs it goes, and its size in bytes."""

    position: int
    offset: int
    size: int


class Recording:
    """The actions of all calls with the same shapes (and the same values that they depend on).

    ``scratch`` is the number of bytes that a call needs besides its results, of which ``sizes`` are the bytes. Its host
    inputs go there too (``uploads``: there are any), or if they are large, into ``intake`` bytes of the device's own.
    """

    def __init__(self, recorder: Recorder, results: Results, host: Mapping[int, Array]) -> None:
        """``host``: by base, the inputs that are given as host arrays."""
        self.prepared = prepared = recorder.prepared
        self.device: Device = prepared.device
        self.failures = recorder.failures
        self.actions, self.checks = recorder.complete()
        self.can_fail = recorder.first > 0
        # Whether a call may return before it is known to be well: only kernels that look at the status make updates.
        self.may_be_late = not self.checks and not results.cells
        self.sizes = [recorder.outputs[r.base] for r in results.all]
        self.results = results
        self.host = frozenset(host)
        self._place_inputs(recorder.highest, host)
        self._constants = None
        if recorder.numbers:
            numbers = np.array(recorder.numbers, np.int64)
            self._constants = self.device.allocate(numbers.nbytes)
            self.device.upload(self._constants.address, numbers)
        self._plays: dict[tuple[int, ...], Play] = {}
        self._seen: dict[tuple[int, ...], None] = {}

    # Inputs from the host -----------------------------------------------------------------------------------------

    def _place_inputs(self, scratch: int, host: Mapping[int, Array]) -> None:
        """Small arrays side by side, others behind them; all behind what the call needs in scratch memory, or apart."""
        used = {place.base for action in self.actions for place in (*action.reads, *action.writes)}
        given = [(base, array) for base, array in sorted(host.items()) if base in used and array.nbytes]
        given.sort(key=lambda item: item[1].nbytes > SMALL)
        apart = sum(array.nbytes for _, array in given) > LARGE
        at = 0 if apart else scratch
        self.small: list[Upload] = []
        self.large: list[Upload] = []
        self._staged, self._staged_at = np.empty(0, np.uint8), 0
        self._views: list[tuple[int, Array]] = []
        for base, array in given:
            small = array.nbytes <= SMALL
            (self.small if small else self.large).append(Upload(base - FIRST_BASE, at, array.nbytes))
            at += aligned(array.nbytes)
        self.uploads = bool(given) and not apart
        self.scratch, self.intake = (scratch, at) if apart else (at, 0)
        if len(self.small) > 1:
            self._staged_at, last = self.small[0].offset, self.small[-1]
            self._staged = np.zeros(last.offset + last.size - self._staged_at, np.uint8)
            for upload in self.small:
                array, start = host[FIRST_BASE + upload.position], upload.offset - self._staged_at
                view = self._staged[start : start + upload.size].view(array.dtype).reshape(array.shape)
                self._views.append((upload.position, view))
        elif self.small:
            self.large.insert(0, self.small[0])

    def upload(self, inputs: Sequence[Any], scratch: int) -> None:
        """Copy host inputs to scratch memory, in one transfer."""
        if self._views:
            for position, view in self._views:
                view[...] = inputs[position]
            self.device.upload(scratch + self._staged_at, self._staged)
        else:
            ((position, offset, _),) = self.large
            self.device.upload(scratch + offset, inputs[position])

    def take_in(self, inputs: Sequence[Any]) -> int:
        """Copy large host inputs to memory of the device's own, whose address this is."""
        arrays = [(offset, inputs[position]) for position, offset, _ in self.large]
        for position, view in self._views:
            view[...] = inputs[position]
        if self._views:
            arrays.append((self._staged_at, self._staged))
        return self.device.take_in(self.intake, arrays)

    # Playing ------------------------------------------------------------------------------------------------------

    def run(self, addresses: tuple[int, ...]) -> bool:
        """Do everything at these addresses, if that has been prepared.

        They are those of scratch memory, of the inputs on the device, of cells, of results, and of what was taken in.
        """
        play = self._plays.get(addresses)
        if play is None:
            return False
        for call in play:
            call()
        return True

    def run_first(self, addresses: tuple[int, ...], again: bool = True) -> None:
        """Do everything at addresses that nothing is prepared for; ``again``: they may well come again."""
        bases = self.bases(addresses)
        if again and addresses in self._seen:
            most = 2 * _MOST_PLAYS if self.intake else _MOST_PLAYS  # large inputs come at two addresses in turn
            _keep(self._plays, addresses, self._prepared_at(bases), most)
            self.run(addresses)
            return
        if again:
            _keep(self._seen, addresses, None, _MOST_SEEN)
        with Uninterrupted() if self.prepared.kept else nullcontext():
            for piece, checked in self._pieces():
                for action in piece:
                    action.run(self.device, bases)
                if checked:
                    self.check()

    def bases(self, addresses: Sequence[int]) -> list[int]:
        """The address of every base."""
        prepared, given = self.prepared, iter(addresses)
        scratch = next(given)
        bases = [scratch, 0 if self._constants is None else self._constants.address]
        inputs = addresses[-1] if self.intake else scratch
        places = {FIRST_BASE + u.position: inputs + u.offset for u in (*self.small, *self.large)}
        for base in range(FIRST_BASE, prepared.first_output):
            bases.append(places.get(base, scratch) if base in self.host else next(given))
        bases += [0] * len(prepared.program.outputs)
        for result in self.results.all:
            bases[result.base] = next(given)
        return bases

    def _pieces(self, longest: int = MOST_ACTIONS) -> Iterator[tuple[list[Action], bool]]:
        """The actions in pieces, and whether the status must be looked at before the next one."""
        ends = [*self.checks, len(self.actions)]
        begin = 0
        for number, end in enumerate(ends):
            for start in range(begin, end, longest):
                following = min(start + longest, end)
                yield self.actions[start:following], following == end and number < len(self.checks)
            begin = end

    def _prepared_at(self, bases: Sequence[int]) -> Play:
        """The calls that do everything at these addresses."""
        device, play = self.device, []
        for piece, checked in self._pieces(PIECE if device.can_capture else MOST_ACTIONS):
            bound = [action.bind(device, bases) for action in piece]
            calls = [call for each in bound for call in each]
            if device.can_capture and len(calls) > 1:
                busy = [action for action, own in zip(piece, bound, strict=True) if own]
                calls = [captured(device, busy, bases).launch]
            play += calls
            if checked:
                play.append(self.check)
        if len(play) > 1 and self.prepared.kept:
            return (partial(_uninterrupted, tuple(play)),)
        return tuple(play)

    def check(self) -> None:
        """Wait, and raise ProgramFailure if something has failed."""
        status = read_status(self.prepared)
        if status != INTACT:
            raise failure(self.failures, status)


def _uninterrupted(play: Play) -> None:
    """All calls, however many, or none."""
    with Uninterrupted():
        for call in play:
            call()


def captured(device: "Device", actions: Sequence[Action], bases: Sequence[int]) -> "Replay":
    """The actions at these addresses as one graph."""
    tokens: list[Token] = []
    with device.capture() as recording:
        for action, waits in zip(actions, dependencies(actions, bases), strict=True):
            recording.after([tokens[position] for position in waits])
            action.run(device, bases)
            tokens.append(recording.mark())
    return recording.instantiate()


def _keep(table: dict[tuple[int, ...], Any], addresses: tuple[int, ...], what: Any, most: int) -> None:
    """Put something into a table, in place of the oldest entry where it is full."""
    if len(table) >= most:
        del table[next(iter(table))]
    table[addresses] = what
