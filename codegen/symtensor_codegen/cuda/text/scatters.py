"""Scatters: a block finds out which steps are those of its parts, then each part runs its own in order."""

from collections.abc import Mapping

from symtensor_codegen.cuda.schedules.dependence import nodes_in
from symtensor_codegen.cuda.schedules.scatters import MARKS, ROUNDS, Scatter
from symtensor_codegen.cuda.text.frequent_targets import PAGES, FrequentWriter
from symtensor_codegen.cuda.text.operations import MEMORY, REGISTER, literal
from symtensor_codegen.cuda.text.scatter_steps import EVERY
from symtensor_codegen.cuda.text.values import bare
from symtensor_codegen.expr import topological
from symtensor_codegen.loops import For
from symtensor_codegen.scalar import (
    Buffer,
    Register,
    Scalar,
    as_int,
    checked_op,
    guarded_op,
    load_op,
    rarely_op,
)

AT_ONCE = 4  # values of steps that are on their way to a thread before the first is stored
FINE = 0x7FFFFFFF  # no check has failed

Load = tuple[Buffer, Scalar]


class ScatterWriter(FrequentWriter):
    """Writes scatters.

    A block looks at ``ROUNDS`` targets a thread and marks the steps of its parts: a bit for each part and step, in
    shared memory. Then each warp runs the steps of its part, 32 at a time: lane 0 finds out where the first of them
    stores, lane 1 the second, and so on. There are two pages of marks, so that a block waits once for each: what a warp
    marks next is not what others still read.
    """

    def _scatter(self, scatter: Scatter) -> None:
        chain, marks, lane, thread, threads = self.stage.chain, *self._own("marks", "lane", "thread", "threads")
        warps, pitch, page = self._own("warps", "pitch", "page")
        self.definitions[marks] = f"__shared__ u32 {marks}[{2 * MARKS}];"
        self.line(f"const int {lane} = threadIdx.x & 31, {thread} = threadIdx.y * blockDim.x + threadIdx.x;")
        self.line(f"const int {threads} = blockDim.x * blockDim.y, {warps} = {threads} >> 5;")
        self.line(f"const int {pitch} = {ROUNDS} * {warps} + 1;  // words of a part: odd, against conflicts of banks")
        self.line(f"int {page} = 0;")
        if scatter.frequent:
            self._counts()
        if not chain:
            self._steps(scatter)
            return
        total = self.held(as_int(self.stage.items))
        head = f"for (i64 tile = (i64)blockIdx.x * blockDim.x; tile < {total}; tile += (i64)gridDim.x * blockDim.x)"
        with self.block(head):
            self.line(f"const bool active = tile + threadIdx.x < {total};")
            self.line(f"const i64 item = active ? tile + threadIdx.x : {total} - 1;")
            self._places_in_chain()
            self._steps(scatter)

    def _steps(self, scatter: Scatter) -> None:
        """The steps of an item. The element of the last one stays in a register until another one's turn comes."""
        page, begin, threads, place, looks = self._own("page", "begin", "threads", "place", "looks")
        body = self.stage.body
        for loop in reversed(scatter.loops[1:]):
            body = (For(loop.index, loop.extent, body),)
        steps = self.held(as_int(scatter.steps))
        elements = [Register(f"{store.buffer.name}_element", store.buffer.dtype) for store in scatter.stores]
        if scatter.is_chain:
            self.line(f"i64 {place} = -1;")
            for element in elements:
                self.line(f"{REGISTER[element.dtype]} {self.register(element)} = {literal(0, element.dtype)};")
        if scatter.frequent:
            self._none_frequent(scatter)
        with self._hoisted(scatter.loops[0], body, f"0 < {steps}"):
            offset = self.held(scatter.offset)
            self.line("#pragma unroll 1")
            with self.block(f"for (i64 {begin} = 0; {begin} < {steps}; {begin} += {ROUNDS} * {threads})"):
                self._mark(scatter, steps)
                self.line("__syncthreads();")
                if scatter.frequent:
                    now = f"({begin} & ({PAGES * ROUNDS} * {threads} - 1)) == 0"  # a power of two
                    self.line(f"const bool {looks} = {now} && {steps} - {begin} > {ROUNDS} * {threads};")
                    self._walk_frequent(scatter)
                self._walk(scatter, elements, offset)
                if scatter.frequent:
                    with self.block(f"if ({looks})"):
                        self._choose(scatter, elements, offset)
                self.line(f"{page} = {MARKS} - {page};")
            if scatter.frequent:
                with self.block(f"if ({self._chosen(2)} != 0)"):
                    self._settle(scatter, elements, offset)
        if scatter.is_chain:
            mine = "" if self.stage.chain else f" && {self._own('lane')[0]} == 0"
            with self.block(f"if ({place} >= 0{mine})"):
                self._put(scatter, place, elements)

    # Whose steps --------------------------------------------------------------------------------------------------

    def _mark(self, scatter: Scatter, steps: str) -> None:
        """Mark the steps of the block's parts. Behind the last step that one is looked at again, and not marked."""
        marks, page, lane, thread, threads = self._own("marks", "page", "lane", "thread", "threads")
        warps, pitch, begin, count = self._own("warps", "pitch", "begin", "count")
        failed, seen, hits, often, frequent = self._own("failed", "seen", "hits", "often", "frequent")
        each, word = f"for (int u = 0; u < {ROUNDS}; ++u)", f"u * {warps} + ({thread} >> 5)"
        whole = f"{ROUNDS} * {threads}"
        self.line(f"const int {count} = {steps} - {begin} < {whole} ? {steps} - {begin} : {whole};")
        self.line("#pragma unroll")
        self.line(f"{each} if ({lane} <= blockDim.y) {marks}[{page} + {lane} * {pitch} + {word}] = 0;")
        self.line("__syncwarp();")
        ahead = {load: self.names.fresh(f"{load[0].name}_ahead") for load in self._first_loads(scatter)}
        for (buffer, _), name in ahead.items():
            self.line(f"{MEMORY[buffer.dtype]} {name}[{ROUNDS}];")
        if ahead:
            self.line("#pragma unroll")
            with self.block(each):
                self._look(scatter)
                for (buffer, place), name in ahead.items():
                    self.line(f"{name}[u] = {self.names.of(buffer, buffer.name)}[{bare(self.value(place))}];")
        fails = any(node.op is checked_op for node in topological([scatter.target], self._parts))
        if fails:
            self.line(f"int {failed} = {FINE};")
        if not scatter.frequent:
            self._mark_each(scatter, ahead, word, False)
        else:
            self.line(f"int {seen} = 0;" if self.stage.chain else f"int {seen} = 0, {hits} = 0;")
            self.line(f"const bool {often} = {self._chosen(2)} != 0;")
            with self.block(f"if (!{often})"):
                self._mark_each(scatter, ahead, word, False)
            with self.block("else"):
                self.line(f"const i64 {frequent} = {self._chosen(0)};")
                self._mark_each(scatter, ahead, word, True)
        if fails:
            self.line(f"if ({failed} != {FINE}) st_fail(status, {failed});")

    def _mark_each(self, scatter: Scatter, ahead: Mapping[Load, str], word: str, often: bool) -> None:
        """Mark steps one by one; ``often``: a target is frequent, whose steps are not marked for their part."""
        marks, page, pitch, lane = self._own("marks", "page", "pitch", "lane")
        here, part, count, failed, mine = self._own("here", "part", "count", "failed", "is_mine")
        self.line("#pragma unroll")
        with self.block(f"for (int u = 0; u < {ROUNDS}; ++u)"):
            self._look(scatter)
            self.elements, self.failed = {load: f"{name}[u]" for load, name in ahead.items()}, failed
            target = self.held(scatter.target) if often else bare(self.value(scatter.target))
            self.elements, self.failed = {}, None
            parts = "gridDim.y * blockDim.y"
            self.line(f"const u32 {part} = st_part({target}, {parts}) - blockIdx.y * blockDim.y;")
            condition = f"{part} < blockDim.y && {here} < {count}"
            if often:
                self.line(f"bool {mine} = {condition};")
                self._mark_frequent(target, mine, word)
                condition = mine
            self.line(f"if ({condition}) atomicOr(&{marks}[{page} + {part} * {pitch} + {word}], 1u << {lane});")

    def _look(self, scatter: Scatter) -> None:
        """The step that a thread looks at in a round."""
        here, begin, count, thread, threads = self._own("here", "begin", "count", "thread", "threads")
        self.line(f"const int {here} = u * {threads} + {thread};")
        self._step(scatter, f"{begin} + ({here} < {count} ? {here} : {count} - 1)")

    def _first_loads(self, scatter: Scatter) -> list[Load]:
        """What every target reads first: elements at places that depend on nothing in memory."""
        varying = {loop.index for loop in scatter.loops}
        found: dict[Load, None] = {}
        for node in topological([scatter.target], self._parts):
            if node.op is load_op and not varying.isdisjoint(node.free) and self.lookup(node) is None:
                inside = topological(node.args, lambda n: n.args)
                if not any(n.op in (load_op, checked_op, guarded_op, rarely_op) for n in inside):
                    found[node.param, node.args[0]] = None
        return list(found)

    # A part's own steps -------------------------------------------------------------------------------------------

    def _walk(self, scatter: Scatter, elements: list[Register], offset: str) -> None:
        """Run the steps of the warp's part, in order."""
        marks, page, lane, warps, pitch = self._own("marks", "page", "lane", "warps", "pitch")
        word, mine, until, total, done = self._own("word", "mine", "until", "total", "done")
        number, near, these = self._own("number", "near", "these")
        begin, counts, samples, looks = self._own("begin", "counts", "samples", "looks")
        nodes = nodes_in(scatter.target)
        self.verified = frozenset(n for n in nodes if n.op is checked_op)
        if scatter.frequent:
            self.line(f"if ({looks} && threadIdx.x == 0) {counts}[threadIdx.y] = 0;")
        self.line("#pragma unroll 1")
        with self.block(f"for (int {word} = 0; {word} < {ROUNDS} * {warps}; {word} += 32)"):
            at = f"{page} + threadIdx.y * {pitch} + {word} + {lane}"
            self.line(f"const u32 {mine} = {word} + {lane} < {ROUNDS} * {warps} ? {marks}[{at}] : 0;")
            self.line(f"if (__ballot_sync({EVERY}, {mine} != 0) == 0) continue;")
            self.line(f"const int {until} = st_marks_until({mine}, {lane});")
            self.line(f"const int {total} = __shfl_sync({EVERY}, {until}, 31);")
            if scatter.frequent:
                self.line(f"if ({looks} && threadIdx.x == 0) {counts}[threadIdx.y] += {total};")
            self.line("#pragma unroll 1")
            with self.block(f"for (int {done} = 0; {done} < {total}; {done} += 32)"):
                self.line(f"const int {number} = {done} + {lane};")
                self.line(f"const int {near} = 32 * {word} + st_mark({mine}, {until}, {number});")
                self.line(f"const int {these} = {total} - {done} < 32 ? {total} - {done} : 32;")
                if scatter.frequent:
                    self.line(f"if ({looks} && threadIdx.x == 0) {samples}[threadIdx.y] = {begin} + {near};")
                if self.stage.chain:
                    self._of_items(scatter, elements, offset)
                else:
                    self._of_one(scatter, elements)
        self.verified = frozenset()

    def _of_items(self, scatter: Scatter, elements: list[Register], offset: str) -> None:
        """Up to 32 steps, where lanes have items: the values of a few are loaded, then they are done one by one."""
        lane, begin, near, these, base = self._own("lane", "begin", "near", "these", "base")
        several = max(AT_ONCE // len(scatter.stores), 1)
        each = f"for (int u = 0; u < {several}; ++u)"
        sooner, turn, its_step, its_base, at = self._own("sooner", "turn", "its_step", "its_base", "at")
        self.line(f"i64 {base} = 0;")
        with self.block(f"if ({lane} < {these})"):
            self._step(scatter, f"{begin} + {near}")
            self.line(f"{base} = {bare(self.value(scatter.base))};")
        self.line("#pragma unroll 1")
        with self.block(f"for (int {sooner} = 0; {sooner} < {these}; {sooner} += {several})"):
            terms = self._variables(scatter, "term", REGISTER, several)
            self.line(f"i64 {at}[{several}];")
            self.line("#pragma unroll")
            with self.block(each):
                self.line(f"const int {turn} = {sooner} + u;")
                self.line(f"const int {its_step} = __shfl_sync({EVERY}, {near}, {turn});")
                self.line(f"const i64 {its_base} = __shfl_sync({EVERY}, {base}, {turn});")
                self.line(f"{at}[u] = -1;")
                with self.block(f"if ({turn} < {these} && active)"):
                    self._step(scatter, f"{begin} + {its_step}")
                    self._load(scatter, f"{at}[u]", f"{its_base} + {offset}", terms)
            if scatter.is_chain:
                self._combine_items(scatter, elements, terms, several)
                return
            self.line("#pragma unroll")
            with self.block(each), self.block(f"if ({at}[u] >= 0)"):
                self._put(scatter, f"{at}[u]", terms)

    def _combine_items(self, scatter: Scatter, elements: list[Register], terms: list[Register], several: int) -> None:
        """Combine what a few steps bring with their elements. Those of earlier steps may have changed since."""
        at, place, fresh = self._own("at", "place", "fresh")
        each = f"for (int u = 0; u < {several}; ++u)"
        olds = self._variables(scatter, "old", MEMORY, several)
        self.line(f"bool {fresh}[{several}];")
        self.line("#pragma unroll")
        with self.block(each):
            self.line(f"{fresh}[u] = {at}[u] >= 0 && {at}[u] != {place};")
            self.line("#pragma unroll")
            self.line(f"for (int v = 0; v < {several}; ++v) if (v < u && {at}[v] == {at}[u]) {fresh}[u] = false;")
            self._get(scatter, f"{at}[u]", olds, f"{fresh}[u]")
        self.line("#pragma unroll")
        with self.block(each), self.block(f"if ({at}[u] >= 0)"):
            with self.block(f"if ({at}[u] != {place})"):
                with self.block(f"if ({place} >= 0)"):
                    self._put(scatter, place, elements)
                self.line(f"{place} = {at}[u];")
                self._get(scatter, place, olds, f"!{fresh}[u]")
                self._take(scatter, elements, olds)
            self._combine(scatter, elements, terms)

    def _of_one(self, scatter: Scatter, elements: list[Register]) -> None:
        """Up to 32 steps of the only item: each lane loads what one needs, then lane 0 does them one by one."""
        lane, begin, near, these, at = self._own("lane", "begin", "near", "these", "at")
        place, same, fresh = self._own("place", "same", "fresh")
        terms = self._variables(scatter, "term", REGISTER)
        self.line(f"i64 {at} = -1;")
        with self.block(f"if ({lane} < {these})"):
            self._step(scatter, f"{begin} + {near}")
            self._load(scatter, at, bare(self.value(scatter.base)), terms)
        self.line("__syncwarp();")
        self.line(f"const u32 {same} = __match_any_sync({EVERY}, {at});")
        if not scatter.is_chain:  # of several to one place the last
            with self.block(f"if ({at} >= 0 && {same} >> {lane} == 1)"):
                self._put(scatter, at, terms)
            return
        self.line(f"const bool {fresh} = {at} >= 0 && {at} != {place} && ({same} & ((1u << {lane}) - 1)) == 0;")
        olds = self._variables(scatter, "old", MEMORY)
        self._get(scatter, at, olds, fresh)
        self.line("__syncwarp();")
        self._combine_one(scatter, elements, terms, olds)

    def _combine_one(
        self, scatter: Scatter, elements: list[Register], terms: list[Register], olds: list[Register]
    ) -> None:
        """Combine what lanes have, in order, where lane 0 has the element. Where all go to the same, that is short."""
        lane, these, at, turn, place = self._own("lane", "these", "at", "turn", "place")
        fresh, ready, its_place = self._own("fresh", "ready", "its_place")
        each = f"for (int {turn} = 0; {turn} < {these}; ++{turn})"
        self.line(f"const u32 {ready} = __ballot_sync({EVERY}, {fresh});")
        with self.block(f"if (__all_sync({EVERY}, {at} == {place} || {lane} >= {these}))"):
            self.line("#pragma unroll 8")
            with self.block(each):
                self._combine(scatter, elements, self._of_lane(scatter, terms, REGISTER))
            self.line("continue;")
        self.line("#pragma unroll 1")
        with self.block(each):
            self.line(f"const i64 {its_place} = __shfl_sync({EVERY}, {at}, {turn});")
            self.line(f"if ({its_place} < 0) continue;")
            with self.block(f"if ({its_place} != {place})"):
                now = self._of_lane(scatter, olds, MEMORY)
                with self.block(f"if ({lane} == 0)"):
                    with self.block(f"if ({place} >= 0)"):
                        self._put(scatter, place, elements)
                    self._get(scatter, its_place, now, f"({ready} >> {turn} & 1) == 0")
                    self._take(scatter, elements, now)
                self.line(f"{place} = {its_place};")
            self._combine(scatter, elements, self._of_lane(scatter, terms, REGISTER))
