"""Random loops, compiled and in the reference interpreter: values, updates and gradients.

A program is a scan with sequences (with taps, backwards), states (with taps), outputs that are not fed back, a shared
variable that is updated, an early end, a lazy branch or a loop inside a step, or none of these.
"""

from typing import Any

import numpy as np
from hypothesis import Phase, assume, example, given, settings
from hypothesis import strategies as st

import symtensor
import symtensor.tensor as T
from symtensor import function, scan, shared
from symtensor.graph import Tensor
from symtensor.ifelse import ifelse
from symtensor.scan_module import until
from symtensor_codegen.errors import ShapeError

WIDTH = 3
# What is taken out of a loop that was made for a batch was not stored.
FOUND: dict[str, Any] = {
    "sequences": [[2, 0]], "states": [([-3], False), ([-2, -3], False)], "extra": 0,
    "numbers": [280, 412, 112, 45, 124, 221, 643, 431, 374, 188, 380, 0], "known": False, "backwards": False,
    "until": True, "update": False, "inside": "fori", "steps": None, "rows": 5, "truncate": -1, "last": True,
}  # fmt: skip
# Loops inside steps that are written out share a body, and were merged as if they were one.
SHARED_BODY: dict[str, Any] = {
    "sequences": [], "states": [([-3], False), ([-3, -1], True), ([-3, -1], False)], "extra": 0,
    "numbers": [645, 3, 628, 191, 0, 457, 381, 516, 44, 5, 238, 119], "known": False, "backwards": False,
    "until": False, "update": True, "inside": "loop", "steps": 3, "rows": 9, "truncate": -1, "last": True,
}  # fmt: skip
# The next state has a size that the step computes until it is checked: its memory was asked for before the loop.
LATE_SIZE: dict[str, Any] = {
    "sequences": [[-2]], "states": [([-3], True)], "extra": 1,
    "numbers": [35, 83, 218, 584, 839, 138, 0, 5, 349, 354, 74, 791], "known": False, "backwards": True,
    "until": False, "update": False, "inside": "branch", "steps": 2, "rows": 5, "truncate": -1, "last": True,
}  # fmt: skip
# A size that is a row of a loop was taken for one known before the loop.
ROW_AS_SIZE: dict[str, Any] = {
    "sequences": [[0, 1]], "states": [], "extra": 1,
    "numbers": [244, 741, 932, 818, 58, 215, 824, 226, 760, 308, 260, 398], "known": False, "backwards": False,
    "until": True, "update": True, "inside": "branch", "steps": 3, "rows": 6, "truncate": -1, "last": True,
}  # fmt: skip
PHASES = [Phase.explicit, Phase.generate]  # shrinking would compile hundreds of programs
UNARY = [T.tanh, T.sin, T.nnet.sigmoid, lambda v: v * 0.5, lambda v: v**2 * 0.3, T.sqr, abs]


@st.composite
def programs(draw: Any) -> dict[str, Any]:
    """The choices of a program."""
    taps = st.lists(st.integers(-2, 2), min_size=1, max_size=2, unique=True)
    back = st.lists(st.integers(-3, -1), min_size=1, max_size=2, unique=True)
    return {
        "sequences": draw(st.lists(taps, max_size=2)),
        "states": draw(st.lists(st.tuples(back, st.booleans()), max_size=3)),
        "extra": draw(st.integers(0, 2)),
        "numbers": draw(st.lists(st.integers(0, 1000), min_size=12, max_size=12)),
        "known": draw(st.booleans()),
        "backwards": draw(st.booleans()),
        "until": draw(st.booleans()),
        "update": draw(st.booleans()),
        "inside": draw(st.sampled_from(["nothing", "branch", "loop", "fori"])),
        "steps": draw(st.sampled_from([None, 0, 1, 2, 3, 6])),
        "rows": draw(st.sampled_from([5, 6, 9])),
        "truncate": draw(st.sampled_from([-1, -1, -1, 0, 2])),
        "last": draw(st.booleans()),
    }


class _Build:
    def __init__(self, p: dict[str, Any]) -> None:
        self.p = p
        self.numbers = iter(p["numbers"] * 50)
        self.rng = np.random.default_rng(p["numbers"])
        self.inputs: list[Tensor] = []
        self.values: list[Any] = []
        self.total = shared(0.25, name="total")
        self.weight = self.input((WIDTH, WIDTH), "w")

    def input(self, shape: tuple[int, ...], name: str) -> Tensor:
        """A new input, of known or unknown sizes."""
        kind = T.TensorType("float64", shape=shape if self.p["known"] else (None,) * len(shape))
        made = kind(name)
        self.inputs.append(made)
        self.values.append(self.rng.normal(size=shape) * 0.7)
        return made

    def step(self, *args: Tensor) -> Any:
        """A step that uses everything it is given."""
        p, pool = self.p, list(args[:-1])
        vectors = [a for a in pool if a.ndim == 1] or [args[-1][0]]
        scalars = [a for a in pool if a.ndim == 0]

        def mixed() -> Tensor:
            made = UNARY[next(self.numbers) % len(UNARY)](vectors[next(self.numbers) % len(vectors)])
            for a in vectors:
                if next(self.numbers) % 3 == 0:
                    made = made + a * 0.3
            if next(self.numbers) % 3 == 0:
                made = T.dot(made, args[-1])
            for a in scalars:
                made = made * T.cos(a)
            return T.tanh(made)

        if p["inside"] == "branch":
            vectors.append(ifelse(vectors[0].sum() > 0, T.exp(mixed()), mixed() * 2))
        elif p["inside"] == "loop":
            inner, _ = scan(lambda row, s: T.tanh(s + T.dot(row, vectors[0])), args[-1], T.constant(0.1))
            scalars.append(inner[-1])
            vectors.append(inner)
        elif p["inside"] == "fori":
            vectors.append(symtensor.fori_loop(0, 5, lambda i, s: T.sin(s + i * 0.1), vectors[0]))
        outputs: list[Tensor] = [mixed() if is_vector else mixed().sum() for _, is_vector in p["states"]]
        outputs += [mixed() if k else mixed().mean() for k in range(p["extra"])]
        if not outputs:
            outputs = [mixed()]
        returned: list[Any] = [outputs]
        if p["update"]:
            outputs[0] = outputs[0] * self.total
            returned.append({self.total: T.sin(self.total + outputs[0].sum())})
        if p["until"]:
            returned.append(until(outputs[-1].sum() > 0.8))
        return tuple(returned) if len(returned) > 1 else outputs

    def program(self) -> tuple[list[Tensor], Any]:
        """The outputs and updates of the program."""
        p = self.p
        sequences = [
            {"input": self.input((p["rows"], WIDTH) if k == 0 else (p["rows"] + 1,), f"x{k}"), "taps": taps}
            for k, taps in enumerate(p["sequences"])
        ]
        infos: list[Any] = []
        for k, (taps, is_vector) in enumerate(p["states"]):
            inner = (WIDTH,) if is_vector else ()
            depth = () if taps == [-1] else (max(-t for t in taps),)
            infos.append({"initial": self.input((*depth, *inner), f"s{k}"), "taps": taps})
        infos += [None] * (p["extra"] or not infos)
        steps = p["steps"] if p["steps"] is not None or sequences else 4
        if steps is not None and sequences:
            steps = min(steps, 1)
        return scan(
            self.step, sequences, infos, self.weight, steps, p["truncate"], p["backwards"], return_list=True
        )


@example(FOUND)
@example(SHARED_BODY)
@example(LATE_SIZE)
@example(ROW_AS_SIZE)
@settings(max_examples=40, phases=PHASES)
@given(programs())
def test_compiled_loops_agree_with_the_reference(p: dict[str, Any]) -> None:
    build = _Build(p)
    try:
        outputs, updates = build.program()
    except ShapeError as error:  # the sides of a branch may have sizes that only a step knows
        assume("a size is computed inside the loop" not in str(error))
        raise
    shown = [out[-1] if p["last"] and p["steps"] != 0 else out for out in outputs]
    cost = sum(T.sum(T.sin(out)) for out in shown)
    gradients = T.grad(cost, build.inputs, disconnected_inputs="ignore")
    results = []
    for mode in ("fast_run", "reference"):
        build.total.set_value(0.25)
        f = function(build.inputs, [*shown, *gradients], updates=updates, mode=mode, on_unused_input="ignore")
        try:
            found = f(*build.values)
        except IndexError:  # the last of no rows
            found = [np.nan]
        results.append([*found, build.total.get_value()])
    for got, want in zip(*results, strict=True):
        assert np.shape(got) == np.shape(want)
        np.testing.assert_allclose(got, want, rtol=1e-8, atol=1e-10)
