"""Targets that very many steps of a scatter have: a block's threads share these steps, instead of one warp.

Steps of one target are a chain: each combines with what those before it left. A block therefore has one *frequent*
target at a time, whose steps its threads combine side by side, each for itself. When another target's turn comes, or
at the end, what the threads have is put together in a fixed order, and goes to the element as one more step of the warp
that owns it. Which target is frequent depends on indices and on the launch, so a call always gives the same bits; sums
of floats may be rounded otherwise than in order.
"""

from symtensor_codegen.cuda.schedules.dependence import nodes_in
from symtensor_codegen.cuda.schedules.scatters import MOST_WARPS, OFTEN, ROUNDS, Scatter
from symtensor_codegen.cuda.text.accesses import from_memory
from symtensor_codegen.cuda.text.operations import REGISTER, literal
from symtensor_codegen.cuda.text.scatter_steps import EVERY, StepWriter
from symtensor_codegen.cuda.text.values import bare
from symtensor_codegen.loops import Store
from symtensor_codegen.scalar import COMBINES, Number, Register, checked_op

PAGES = 8  # of marks, for one of which parts are counted
AT_ONCE = 8  # words of values that are on their way to a thread


class FrequentWriter(StepWriter):
    """Writes what is done with a block's frequent target.

    In every eighth page of marks, the first one included, each warp counts the steps of its part, and keeps one of the
    last as a sample. Where a part has far more steps than others, and more than the target that is frequent already,
    its sample's target becomes frequent. Steps of that one are no longer marked for their part. Without columns a
    thread combines those that it looked at itself; with columns they have a row of marks of their own, and warps above
    each other take its words in turn.
    """

    def _counts(self) -> None:
        """Numbers of a page: the steps of parts, the frequent ones that warps saw, and a step of each part."""
        counts, samples, chosen = self._own("counts", "samples", "chosen")
        self.definitions[counts] = f"__shared__ u32 {counts}[{2 * MOST_WARPS}];"
        self.definitions[samples] = f"__shared__ i64 {samples}[{MOST_WARPS}];"
        self.definitions[chosen] = f"__shared__ i64 {chosen}[{3 * MOST_WARPS}];"

    def _none_frequent(self, scatter: Scatter) -> None:
        """There is no frequent target yet. What a thread combines for it waits in shared memory for the next page."""
        (lane,) = self._own("lane")
        self.line("__syncwarp();")
        self.line(f"if ({lane} == 0) {self._chosen(2)} = 0;")
        self.line("__syncwarp();")
        for partial, store in zip(self._partials(scatter), scatter.stores, strict=True):
            self.line(f"{partial} = {_neutral(store)};")

    def _partials(self, scatter: Scatter) -> list[str]:
        """What this thread combined for the frequent target."""
        kinds = [REGISTER[store.buffer.dtype] for store in scatter.stores]
        (thread,) = self._own("thread")
        return [f"{self.shared_array(kind, f'partial_{k}')}[{thread}]" for k, kind in enumerate(kinds)]

    def _mark_frequent(self, target: str, mine: str, word: str) -> None:
        """Take a step out of those to be marked if it has the frequent target."""
        frequent, hits, seen, lane = self._own("frequent", "hits", "seen", "lane")
        marks, page, pitch, same = self._own("marks", "page", "pitch", "same")
        self.line(f"const u32 {same} = __ballot_sync({EVERY}, {mine} && {target} == {frequent});")
        if self.stage.chain:
            self.line(f"if ({lane} == 0) {marks}[{page} + blockDim.y * {pitch} + {word}] = {same};")
        else:
            self.line(f"{hits} |= ({same} >> {lane} & 1) << u;")
        self.line(f"{seen} += __popc({same});")
        self.line(f"{mine} = {mine} && {target} != {frequent};")

    def _walk_frequent(self, scatter: Scatter) -> None:
        """Combine the steps that have the frequent target."""
        seen, lane, thread, counts = self._own("seen", "lane", "thread", "counts")
        often, looks = self._own("often", "looks")
        with self.block(f"if ({often})"):
            self.line(f"if ({looks} && {lane} == 0) {counts}[{MOST_WARPS} + ({thread} >> 5)] = {seen};")
            partial: list[Register] = []
            for kept, store in zip(self._partials(scatter), scatter.stores, strict=True):
                partial.append(Register(f"{store.buffer.name}_often", store.buffer.dtype))
                self.line(f"{REGISTER[store.buffer.dtype]} {self.register(partial[-1])} = {kept};")
            (self._frequent_of_items if self.stage.chain else self._frequent_of_one)(scatter, partial)
            for kept, own in zip(self._partials(scatter), partial, strict=True):
                self.line(f"{kept} = {self.register(own)};")

    def _frequent_of_one(self, scatter: Scatter, partial: list[Register]) -> None:
        hits, begin, threads, thread, at = self._own("hits", "begin", "threads", "thread", "at")
        (sooner,) = self._own("sooner")
        several = self._several(scatter)
        each = f"for (int u = 0; u < {several}; ++u)"
        self.line("#pragma unroll 1")
        with self.block(f"for (int {sooner} = 0; {sooner} < {ROUNDS}; {sooner} += {several})"):
            terms = self._variables(scatter, "term", REGISTER, several)
            self.line(f"int {at}[{several}];")
            self.line("#pragma unroll")
            with self.block(each):
                self.line(f"{at}[u] = -1;")
                with self.block(f"if ({hits} >> ({sooner} + u) & 1)"):
                    self._step(scatter, f"{begin} + (({sooner} + u) * {threads} + {thread})")
                    self._load(scatter, f"{at}[u]", "0", terms)
            self.line("#pragma unroll")
            with self.block(each), self.block(f"if ({at}[u] == 0)"):
                self._combine(scatter, partial, terms)

    def _frequent_of_items(self, scatter: Scatter, partial: list[Register]) -> None:
        begin, warps, marks, page, pitch = self._own("begin", "warps", "marks", "page", "pitch")
        word, bits, bit, at = self._own("word", "bits", "bit", "at")
        several = self._several(scatter)
        each = f"for (int u = 0; u < {several}; ++u)"
        self.line("#pragma unroll 1")
        with self.block(f"for (int {word} = threadIdx.y; {word} < {ROUNDS} * {warps}; {word} += blockDim.y)"):
            self.line(f"u32 {bits} = {marks}[{page} + blockDim.y * {pitch} + {word}];")
            self.line("#pragma unroll 1")
            with self.block(f"while ({bits} != 0)"):
                terms = self._variables(scatter, "term", REGISTER, several)
                self.line(f"int {at}[{several}];")
                self.line("#pragma unroll")
                with self.block(each):
                    self.line(f"const int {bit} = __ffs({bits}) - 1;")
                    self.line(f"{at}[u] = -1;")
                    with self.block(f"if ({bits} != 0 && active)"):
                        self._step(scatter, f"{begin} + (32 * {word} + {bit})")
                        self._load(scatter, f"{at}[u]", "0", terms)
                    self.line(f"{bits} &= {bits} - 1;")
                self.line("#pragma unroll")
                with self.block(each), self.block(f"if ({at}[u] == 0)"):
                    self._combine(scatter, partial, terms)

    def _several(self, scatter: Scatter) -> int:
        """The steps whose values are on their way together: fewer where it takes divisions to find them."""
        words = sum(max(store.buffer.dtype.itemsize // 4, 1) for store in scatter.stores) * len(scatter.loops)
        return max(AT_ONCE // words, 1)

    def _choose(self, scatter: Scatter, elements: list[Register], offset: str) -> None:
        """Choose the target that is frequent from now on."""
        threads, lane, warps, counts, samples = self._own("threads", "lane", "warps", "counts", "samples")
        formerly, steps, over, distance = self._own("formerly", "its_steps", "over", "distance")
        least, already = self._own("least", "already")
        self.line("__syncthreads();")
        self.line(f"const bool {formerly} = {self._chosen(2)} != 0;")
        self.line(f"const u32 {steps} = {lane} < blockDim.y ? {counts}[{lane}] : 0;")
        self.line(f"u32 {least} = {OFTEN};")
        with self.block(f"if ({formerly})"):
            self.line(f"u32 {already} = {lane} < {warps} ? {counts}[{MOST_WARPS} + {lane}] : 0;")
            self.line("#pragma unroll")
            self.line(f"for (int {distance} = 16; {distance} > 0; {distance} /= 2)")
            self.line(f"    {already} += __shfl_xor_sync({EVERY}, {already}, {distance});")
            self.line(f"if ({already} > {least}) {least} = {already};")
        more = f"{steps} > {least} && {steps} * (gridDim.y * blockDim.y) > {4 * ROUNDS} * {threads}"
        self.line(f"const u32 {over} = __ballot_sync({EVERY}, {more});")
        with self.block(f"if ({over} != 0)"):
            with self.block(f"if ({formerly})"):
                self._settle(scatter, elements, offset)
            self._step(scatter, f"{samples}[__ffs({over}) - 1]")
            self.verified = frozenset(n for n in nodes_in(scatter.target) if n.op is checked_op)
            values = [bare(self.value(value)) for value in (scatter.target, scatter.base)]
            self.verified = frozenset()
            self.line("__syncwarp();")
            with self.block(f"if ({lane} == 0)"):
                for position, value in enumerate([*values, "1"]):
                    self.line(f"{self._chosen(position)} = {value};")
            self.line("__syncwarp();")

    def _settle(self, scatter: Scatter, elements: list[Register], offset: str) -> None:
        """Put together what the threads have of the frequent target: one more step of the warp that owns it."""
        lane, place = self._own("lane", "place")
        owned, distance = self._own("owned", "distance")
        totals: list[Register] = []
        for kept, store in zip(self._partials(scatter), scatter.stores, strict=True):
            assert store.combine is not None
            totals.append(Register(f"{store.buffer.name}_total", store.buffer.dtype))
            kind, name = REGISTER[store.buffer.dtype], self.register(totals[-1])
            step = self._lambda(totals[-1], store.combine)
            self.line(f"{kind} {name} = st_reduce_column(({kind}){kept}, {self._scratch(totals[-1])}, {step});")
            self.line(f"{kept} = {_neutral(store)};")
            if not self.stage.chain:
                self.line(f"for (int {distance} = 16; {distance} > 0; {distance} /= 2)")
                self.line(f"    {name} = ({step})({name}, st_lane_xor({EVERY}, {name}, {distance}));")
        target, base = self._chosen(0), self._chosen(1)
        with self.block(f"if (threadIdx.y == st_part({target}, gridDim.y * blockDim.y) - blockIdx.y * blockDim.y)"):
            self.line(f"const i64 {owned} = {f'{base} + {offset}' if self.stage.chain else base};")
            with self.block(f"if ({owned} != {place}{' && active' if self.stage.chain else ''})"):
                if self.stage.chain:
                    self._turn_to(scatter, elements, owned)
                else:
                    with self.block(f"if ({lane} == 0)"):
                        self._turn_to(scatter, elements, owned)
                self.line(f"{place} = {owned};")
            self._combine(scatter, elements, totals)

    def _turn_to(self, scatter: Scatter, elements: list[Register], owned: str) -> None:
        """Store the element that a warp has, and go on with another one."""
        (place,) = self._own("place")
        with self.block(f"if ({place} >= 0)"):
            self._put(scatter, place, elements)
        for element, store, text in zip(elements, scatter.stores, self._elements(scatter, owned), strict=True):
            self.line(f"{self.register(element)} = {bare(from_memory(store.buffer, text))};")

    def _chosen(self, position: int) -> str:
        """What a warp knows of the frequent target: its number, what its places begin with, whether there is one."""
        chosen, thread = self._own("chosen", "thread")
        return f"{chosen}[({thread} >> 5){f' + {position * MOST_WARPS}' if position else ''}]"


def _neutral(store: Store) -> str:
    """What changes no element, zeros of floats and their signs included."""
    assert store.combine is not None
    value: Number = COMBINES[store.combine].neutral(store.buffer.dtype)
    return literal(-0.0 if store.combine == "add" and store.buffer.dtype.is_float else value, store.buffer.dtype)
