"""Loops and branches of host programs.

The code of a step or of a branch is a level of its own: sizes, addresses and argument words that do not change in it
are written before it. Memory that steps and branches allocate is given back at their end.
"""

from collections.abc import Iterator, Mapping, Sequence

from symtensor_codegen import dtypes, scalar
from symtensor_codegen.errors import InternalError
from symtensor_codegen.expr import topological
from symtensor_codegen.finish import storage
from symtensor_codegen.llvm.emission import Value
from symtensor_codegen.llvm.host_code import real_product
from symtensor_codegen.llvm.matrix_products import MatrixProducts
from symtensor_codegen.llvm.types import typed
from symtensor_codegen.program import Allocate, Branch, Copy, Gemm, Launch, Loop, Row, Step, walk
from symtensor_codegen.scalar import Buffer, Dim, Scalar, as_int, const_op, symbol_op
from symtensor_codegen.substitution import product

_LONG_CALL = 1e6  # innermost iterations (about 0.3 ms) from which other Python threads may run meanwhile
_LONG_STEP = 16384.0  # iterations of a step after which Ctrl-C is looked at each time, else every 64 steps
_STEP = 16.0  # what a step costs besides its iterations
_LOOKS = 63


class ControlFlow(MatrixProducts):
    """Writes the loops and branches of a program."""

    loops = 0  # open ones

    def steps(self, steps: Sequence[Step]) -> None:
        """Write steps in order, at the innermost level."""
        raise NotImplementedError

    # Loops ------------------------------------------------------------------------------------------------------

    def loop(self, step: Loop) -> None:
        """Write a loop: a test that skips it, its body, and the jump back."""
        number, outer, count = self.number(), self.here, self.size(step.count)
        looks = self._prepare_long_run(step)
        mark = self._mark(step.steps)
        if self.loops == 0:
            self.prepare_products(step, aliases((step,), set(written_by(step))))
        pointers, known = dict(self.pointers), dict(self.known)
        carried = [b for b in dict.fromkeys(_exchanged(step)) if b in pointers]
        begin, after = f"step{number}", f"stepped{number}"
        level = self.open(begin)
        counter, following = f"%{begin}.number", f"%{begin}.following"
        self.known[step.index] = Value((counter,), False, level.depth)
        phis = {b: f"%{begin}.at{k}" for k, b in enumerate(carried)}
        for buffer, name in phis.items():
            self.place(buffer, name)
        for row in step.rows:
            self.bind_row(row)
        self.loops += 1
        self.steps(step.steps)
        self.loops -= 1
        ended = None if step.until is None else self._truth(step.until)
        for buffers in step.swaps:
            addresses = [self.address(b) for b in buffers]
            for buffer, address in zip(buffers, [*addresses[1:], addresses[0]], strict=True):
                self.pointers[storage(buffer)] = address
        self._give_back(mark)
        self._look_for_interrupt(looks, counter)
        level.do(f"{following} = add nuw nsw i64 {counter}, 1")
        again = level.put(f"icmp slt i64 {following}, {count}")
        if ended is not None:
            again = level.put(f"select i1 {ended}, i1 false, i1 {again}")
        last = {b: self.pointers[b].names[0] for b in carried}
        self.close()
        self.pointers, self.known = pointers, known

        some = outer.put(f"icmp sgt i64 {count}, 0")
        origin = outer.label
        outer.jump(f"br i1 {some}, label %{begin}, label %{after}", begin)
        outer.do(f"{counter} = phi i64 [ 0, %{origin} ], [ {following}, %{level.label} ]")
        for buffer, name in phis.items():
            first = pointers[buffer].names[0]
            outer.do(f"{name} = phi ptr [ {first}, %{origin} ], [ {last[buffer]}, %{level.label} ]")
        outer.lines += level.lines
        outer.jump(f"br i1 {again}, label %{begin}, label %{after}", after)
        for buffer in carried:
            first = pointers[buffer].names[0]
            self.place(buffer, outer.put(f"phi ptr [ {first}, %{origin} ], [ {last[buffer]}, %{level.label} ]"))
        if step.executed is not None:
            ran = outer.put(f"phi i64 [ 0, %{origin} ], [ {following}, %{level.label} ]")
            outer.do(f"store i64 {ran}, ptr {self.pointer(step.executed)}, align 8")

    def bind_row(self, row: Row) -> None:
        """Give a buffer memory inside that of another."""
        source, position = self.address(row.source), self.size_value(row.position)
        if position.names[0] == "0":
            self.pointers[storage(row.buffer)] = source
            return
        size = self.size_value(product((*row.buffer.dims, row.buffer.dtype.itemsize)))
        level = self.levels[max(source.depth, position.depth, size.depth)]
        offset = level.put(f"mul i64 {position.names[0]}, {size.names[0]}")
        at = level.put(f"getelementptr inbounds i8, ptr {source.names[0]}, i64 {offset}")
        self.pointers[storage(row.buffer)] = Value((at,), False, level.depth)

    # Branches ---------------------------------------------------------------------------------------------------

    def branch(self, step: Branch) -> None:
        """Write a branch: each side is a level of its own."""
        number, outer, condition = self.number(), self.here, step.condition
        holds = self.size(condition) if isinstance(condition, Scalar) else self._truth(condition)
        pointers, known = self.pointers, self.known
        labels, after = (f"then{number}", f"else{number}"), f"end{number}"
        sides, ends = [], []
        for label, steps in zip(labels, (step.then, step.otherwise), strict=True):
            self.pointers, self.known = dict(pointers), dict(known)
            sides.append(self.open(label))
            mark = self._mark(steps)
            self.steps(steps)
            self._give_back(mark)
            ends.append(self.pointers)
            self.close()
        self.pointers, self.known = dict(pointers), known
        then, otherwise = sides
        outer.jump(f"br i1 {holds}, label %{labels[0]}, label %{labels[1]}", labels[0])
        outer.lines += then.lines
        outer.jump(f"br label %{after}", labels[1])
        outer.lines += otherwise.lines
        outer.jump(f"br label %{after}", after)
        for buffer in pointers:
            one, other = (end[buffer].names[0] for end in ends)
            if one != other:
                self.place(buffer, outer.put(f"phi ptr [ {one}, %{then.label} ], [ {other}, %{otherwise.label} ]"))

    def _truth(self, buffer: Buffer) -> str:
        """Whether the one element of a buffer is not zero."""
        kind = buffer.dtype
        if not kind.is_integer and kind is not dtypes.bool_:
            raise InternalError(f"program {self.program.name}: a condition cannot be {kind}")
        memory = "i8" if kind is dtypes.bool_ else typed(kind, 1)
        value = self.here.put(f"load {memory}, ptr {self.pointer(buffer)}, align {kind.itemsize}")
        return self.here.put(f"icmp ne {memory} {value}, 0")

    # Memory -----------------------------------------------------------------------------------------------------

    def _mark(self, steps: Sequence[Step]) -> str | None:
        """Note the state of the scratch memory where steps allocate (loops inside look after themselves)."""
        if not _allocates(steps):
            return None
        mark = f"%mark{self.number()}"
        self.stack.append(f"  {mark} = alloca [2 x i64], align 16")
        self.declare("st_mark", "void @st_mark(ptr, ptr)")
        self.here.do(f"call void @st_mark(ptr %call, ptr {mark})")
        return mark

    def _give_back(self, mark: str | None) -> None:
        if mark is not None:
            self.declare("st_give_back", "void @st_give_back(ptr, ptr)")
            self.here.do(f"call void @st_give_back(ptr %call, ptr {mark})")

    # Long runs --------------------------------------------------------------------------------------------------

    def release_gil(self, iterations: Scalar) -> None:
        """Let other Python threads run from here on, where there is much work to come (see ``work``)."""
        large = self.size(scalar.ge(iterations, _LONG_CALL))
        if large == "false":
            return
        self.declare("st_release_gil", "void @st_release_gil(ptr)")
        number = self.number()
        long, on = f"long{number}", f"on{number}"
        self.here.jump(f"br i1 {large}, label %{long}, label %{on}", long)
        self.here.do("call void @st_release_gil(ptr %call)")
        self.here.jump(f"br label %{on}", on)

    def work(self, steps: Sequence[Step]) -> Scalar:
        """The iterations of steps, in floating point, as far as their number is known here."""
        total = scalar.const(_STEP, dtypes.float64)
        for step in steps:
            if isinstance(step, Launch):
                total = total + self._known_product((step.cost,))
            elif isinstance(step, Gemm):
                total = total + self._known_product((step.m, step.n, step.k, step.batch))
            elif isinstance(step, Loop):
                total = total + self._known_product((step.count,)) * self.work(step.steps)
            elif isinstance(step, Branch):
                total = total + scalar.maximum(self.work(step.then), self.work(step.otherwise))
        return total

    def _known_product(self, sizes: Sequence[Dim]) -> Scalar:
        return real_product([size for size in sizes if self.is_known(size)])

    def is_known(self, size: Dim) -> bool:
        """Whether a host value is known by now."""
        return all(
            node in self.known for node in topological([as_int(size)], lambda n: n.args) if node.op is symbol_op
        )

    def _prepare_long_run(self, step: Loop) -> str | None:
        """Release the GIL; the mask of step numbers at which Ctrl-C is looked at, None for never."""
        work = self.work(step.steps)
        if self.loops == 0:
            self.release_gil(work * real_product((step.count,)))
        if not self.may_stop:
            return None
        if work.op is const_op:
            return str(0 if work.param >= _LONG_STEP else _LOOKS)
        return self.here.put(f"select i1 {self.size(scalar.ge(work, _LONG_STEP))}, i64 0, i64 {_LOOKS}")

    def _look_for_interrupt(self, mask: str | None, counter: str) -> None:
        if mask is None:
            return
        number, level = self.number(), self.here
        look, on = f"look{number}", f"on{number}"
        due = level.put(f"icmp eq i64 {level.put(f'and i64 {counter}, {mask}')}, {mask}")
        level.jump(f"br i1 {due}, label %{look}, label %{on}", look)
        self.stop_if_interrupted(on)


def _exchanged(loop: Loop) -> Iterator[Buffer]:
    """The buffers whose memory is another one after a step: those of its swaps and of loops inside."""
    for step in walk((loop,)):
        if isinstance(step, Loop):
            for buffers in step.swaps:
                yield from map(storage, buffers)


def _allocates(steps: Sequence[Step]) -> bool:
    return any(isinstance(step, Allocate) for step in steps)


def aliases(steps: Sequence[Step], buffers: set[Buffer]) -> set[Buffer]:
    """All buffers that rows and swaps may give the memory of some of ``buffers``, or of which these may be rows."""
    found = {storage(b) for b in buffers}
    loops = [step for step in walk(tuple(steps)) if isinstance(step, Loop)]
    rows = [step for step in walk(tuple(steps)) if isinstance(step, Row)]
    rows += [row for loop in loops for row in loop.rows]
    while True:
        more = {storage(r.buffer) for r in rows if storage(r.source) in found}
        more |= {storage(r.source) for r in rows if storage(r.buffer) in found}
        groups = [{storage(b) for b in group} for loop in loops for group in loop.swaps]
        more.update(*(group for group in groups if group & found))
        if more <= found:
            return found
        found |= more


def written_by(step: Step) -> Mapping[Buffer, None]:
    """The buffers that a step, and steps inside it, write; the order is that of the steps."""
    found: dict[Buffer, None] = {}
    for each in walk((step,)):
        match each:
            case Launch(kernel=kernel, buffers=buffers):
                pairs = zip(kernel.buffers, buffers, strict=True)
                found.update((storage(actual), None) for own, actual in pairs if own in kernel.written)
            case Gemm(out=out):
                found[storage(out.buffer)] = None
            case Loop(executed=Buffer() as number):
                found[storage(number)] = None
            case Copy(target=target):
                found[storage(target)] = None
    return found
