"""Loops on a device: a thread for each element where steps are elementwise, one block where they are small.

The cases are made from a few properties of loops. Each runs on the CPU backend and as CUDA text on the CPU, for several
sizes and numbers of steps, those known only in the call.
"""

from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import product
from typing import Any, NamedTuple

import numpy as np
import pytest

import symtensor.tensor as T
from symtensor import function, grad, scan, shared
from symtensor.lower import elements
from symtensor.lower import launched as launched_loops
from symtensor.scan_module import until
from symtensor_codegen.cuda import device as devices
from symtensor_codegen.cuda.compiling import compile
from symtensor_codegen.loops import Assign, For, Statement
from symtensor_codegen.program import Launch, Loop, walk
from tests.cuda.host import HostDevice, host_device

pytestmark = pytest.mark.cuda_host

SIZES = (0, 1, 33, 1000)
STEPS = (0, 1, 7, 21)


@pytest.fixture(params=["plain", "checked"])
def either(request: pytest.FixtureRequest) -> Iterator[HostDevice]:
    """A device that is quick, and one that finds races."""
    yield from _used(host_device(checked=request.param == "checked"))


@pytest.fixture
def quick() -> Iterator[HostDevice]:
    """A device that is quick."""
    yield from _used(host_device())


def _used(found: HostDevice) -> Iterator[HostDevice]:
    devices.use(found)
    yield found
    devices.forget("cuda:0")
    compile.cubins(list(found.texts), "sm_90")


def launched(f: Any) -> list[str]:
    """The forms of the launches that run a function's loops; none of its steps is launched by the host."""
    program = f.compilation.plan.program
    assert not any(isinstance(step, Loop) for step in walk(program.steps))
    native = f.compilation.native
    kernels = [step.kernel for step in walk(program.steps) if isinstance(step, Launch)]
    stages = [stage for kernel in kernels for stage in native.emitter.schedule(kernel, False).stages]
    return [stage.told for stage in stages if stage.told.startswith("loop")]


def compare(inputs: list[Any], outputs: list[Any], *calls: tuple[Any, ...], ) -> Any:
    """The function for the device, whose results are those of the CPU."""
    f, reference = (function(inputs, outputs, device=d, on_unused_input="ignore") for d in ("cuda", "cpu"))
    for values in calls:
        for found, wanted in zip(f(*values), reference(*values), strict=True):
            assert found.dtype == wanted.dtype
            tolerance = {"float16": 4e-3, "float64": 1e-11}.get(str(wanted.dtype), 2e-5)
            np.testing.assert_allclose(found, wanted, rtol=tolerance, atol=tolerance)
    return f


# A thread for each element ---------------------------------------------------------------------------------------


class Case(NamedTuple):
    """A loop with elementwise steps; ``kept``: its states after every step are wanted, not only the last ones."""

    states: int
    taps: tuple[int, ...]
    kept: bool
    sequences: bool
    dtype: str
    backwards: bool

    def __str__(self) -> str:
        marks = [f"{self.states} states", f"taps {self.taps}", self.dtype]
        marks += [name for name in ("kept", "sequences", "backwards") if getattr(self, name)]
        return ", ".join(marks)


DTYPES = ("float32", "float64", "int64", "float16", "complex64", "int32", "float32")
CASES = [
    Case(states, taps, kept, sequences, DTYPES[number % len(DTYPES)], sequences and number % 3 == 0)
    for number, (states, taps, kept, sequences) in enumerate(
        product((1, 2, 3), ((-1,), (-2, -1), (-3, -1)), (False, True), (False, True))
    )
]


def looped(case: Case, make: Callable[..., Any] = scan) -> tuple[list[Any], list[Any]]:
    """The inputs and results of a loop in which every state depends on another one before the step."""
    rank, depth = (2, -case.taps[0]) if len(case.taps) > 1 else (1, 1)
    begin = [T.TensorType(case.dtype, (None,) * rank)(f"s{k}") for k in range(case.states)]
    x, a = T.matrix("x", dtype=case.dtype), T.vector("a", dtype=case.dtype)
    steps = T.lscalar("steps")

    def step(*given: Any) -> list[Any]:
        row = given[0] if case.sequences else 1
        values = given[1 if case.sequences else 0 : -1]
        taps = [values[k * len(case.taps) : (k + 1) * len(case.taps)] for k in range(case.states)]
        whole = "int" in case.dtype
        made = []
        for k in range(case.states):
            own, other = taps[k], taps[(k + 1) % case.states]
            a, b = (k + 2, 3) if whole else (np.dtype(case.dtype).type(c) for c in (0.3 + 0.1 * k, 0.4))
            made.append((b * other[0] - a * own[-1] + row * given[-1]).astype(case.dtype))
        return made

    info = [{"initial": s, "taps": list(case.taps)} if depth > 1 else s for s in begin]
    results, _ = make(
        step, sequences=[x] if case.sequences else None, outputs_info=info, non_sequences=a, n_steps=steps,
        go_backwards=case.backwards, name="steps", return_list=True,
    )  # fmt: skip
    return [*begin, x, a, steps], results if case.kept else [r[-1] for r in results]


def values_of(case: Case, size: int, steps: int) -> tuple[Any, ...]:
    rng = np.random.default_rng(size + steps)
    depth = -case.taps[0]

    def made(*shape: int) -> Any:
        values = rng.integers(-2, 3, shape) if "int" in case.dtype else rng.normal(size=shape) / 2
        if "complex" in case.dtype:
            values = values + 1j * rng.normal(size=shape) / 2
        return values.astype(case.dtype)

    begin = [made(depth, size) if depth > 1 else made(size) for _ in range(case.states)]
    return (*begin, made(steps + 1, size), made(size), steps)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_elementwise_steps_are_one_launch(quick: HostDevice, case: Case) -> None:
    inputs, outputs = looped(case)
    f = compare(inputs, outputs, *[values_of(case, size, steps) for size in SIZES for steps in STEPS])
    assert launched(f) == ["loop, a thread an element"]


@pytest.mark.parametrize("case", [case for case in CASES if case.dtype in ("float64", "float32")], ids=str)
def test_their_gradients_are_launches_too(quick: HostDevice, case: Case) -> None:
    case = case._replace(dtype="float64")
    inputs, outputs = looped(case)
    cost = sum((r**2).sum() for r in outputs)
    wrt = inputs[:-1] if case.sequences else [*inputs[: case.states], inputs[-2]]
    calls = [values_of(case, size, steps) for size in (0, 1, 33) for steps in (1, 7, 21)]
    f = compare(inputs, grad(cost, wrt), *calls)
    assert set(launched(f)) == {"loop, a thread an element"}
    assert len(launched(f)) == 2


def test_no_race(checked_host: HostDevice) -> None:
    for host in _used(checked_host):
        case = Case(2, (-2, -1), True, True, "float32", True)
        inputs, outputs = looped(case)
        compare(inputs, outputs, *[values_of(case, size, steps) for size in SIZES for steps in STEPS])
        assert host.launches


def test_states_change_all_at_once(quick: HostDevice, monkeypatch: pytest.MonkeyPatch) -> None:
    """The cases find out when one state is changed before another one has read it."""
    statements = elements._Kernel.statements

    def one_by_one(body: tuple[Statement, ...]) -> tuple[Statement, ...]:
        made: list[Statement] = []
        for statement in body:
            if isinstance(statement, For):
                statement = replace(statement, body=one_by_one(statement.body))
            if isinstance(statement, Assign):
                pairs = zip(statement.registers, statement.values, strict=True)
                made += [Assign((register,), (value,)) for register, value in pairs]
            else:
                made.append(statement)
        return tuple(made)

    monkeypatch.setattr(elements._Kernel, "statements", lambda *args: one_by_one(statements(*args)))
    for states, taps in ((2, (-1,)), (1, (-2, -1)), (3, (-3, -1))):
        case = Case(states, taps, False, True, "float64", False)
        with pytest.raises(AssertionError, match="Not equal to tolerance"):
            compare(*looped(case), values_of(case, 33, 7))


def oscillator(s: Any) -> Any:
    """Two coupled rows in one array: each element needs both."""
    x, v = s[0], s[1]
    v = v + 0.1 * ((1 - x * x) * v - x)
    return T.stack([x + 0.1 * v, v])


SHAPES: dict[str, tuple[Callable[..., Any], tuple[tuple[int | None, ...], ...], tuple[tuple[int, ...], ...]]] = {
    "a matrix, and a row that all of it reads": (
        lambda s, a: T.tanh(s * 0.5 + a), ((None, None), (None,)), ((5, 33), (33,)),
    ),
    "a matrix, and a column": (lambda s, a: T.tanh(s * 0.5 + a), ((None, None), (None, 1)), ((5, 33), (5, 1))),
    "three axes": (lambda s, a: s * a - 0.5, ((None, None, None), (None, None)), ((2, 3, 5), (3, 5))),
    "one axis of size one": (lambda s, a: s * a, ((None, 1), (1, 1)), ((7, 1), (1, 1))),
    "no axes": (lambda s, a: s * a + T.exp(-s), ((), ()), ((), ())),
    "rows that need each other": (lambda s, a: oscillator(s) * a, ((2, None), (None,)), ((2, 33), (33,))),
    "a part of what stays the same": (lambda s, a: s * a[1:, ::-1], ((None, None), (None, None)), ((4, 9), (5, 9))),
    "reshaped": (lambda s, a: s + a.reshape((3, 4)), ((3, 4), (12,)), ((3, 4), (12,))),
}  # fmt: skip


@pytest.mark.parametrize("name", SHAPES)
def test_shapes(either: HostDevice, name: str) -> None:
    step, kinds, shapes = SHAPES[name]
    s, a = (T.TensorType("float64", kind)(label) for kind, label in zip(kinds, "sa", strict=True))
    steps = T.lscalar("steps")
    path, _ = scan(step, outputs_info=s, non_sequences=a, n_steps=steps)
    rng = np.random.default_rng(1)
    values = [rng.normal(size=shape) * 0.5 for shape in shapes]
    f = compare([s, a, steps], [path[-1]], *[(*values, count) for count in STEPS])
    assert launched(f) == ["loop, one thread" if name == "no axes" else "loop, a thread an element"]
    f = compare([s, a, steps], [path, path.sum()], *[(*values, count) for count in STEPS])
    assert len(launched(f)) == 1


def test_results_of_other_shapes_are_launches_of_their_own(either: HostDevice) -> None:
    """A count and a vector: the vector needs the count, which one thread stores even where the vector is empty."""
    s, steps = T.dvector("s"), T.lscalar("steps")
    (path, counts), _ = scan(lambda s, n: (s / (n + 1) + 1, n + 2), outputs_info=[s, T.constant(0.0)], n_steps=steps)
    f = compare([s, steps], [path, counts[-1]], *[(np.ones(size), count) for size in SIZES for count in STEPS])
    assert sorted(launched(f)) == ["loop, a thread an element", "loop, one thread"]


@pytest.mark.parametrize("bounded", [True, False])
def test_a_condition_that_all_elements_share(
    either: HostDevice, bounded: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(launched_loops, "CHUNK", 5)  # steps until the host looks whether it is to go on
    s, limit, steps = T.dvector("s"), T.dscalar("limit"), T.lscalar("steps")
    (path, counts), _ = scan(
        lambda s, n, limit: ([s * 0.5 + n, n + 1], until(n > limit)),
        outputs_info=[s, T.constant(0.0)], non_sequences=limit, n_steps=4 if bounded else steps,
    )  # fmt: skip
    calls = [(np.ones(size), limit, count) for size in (0, 1, 33) for limit in (-1.0, 2.5, 13.0) for count in STEPS]
    f = compare([s, limit, steps], [path, path[-1:], counts], *calls)
    loops = [step for step in walk(f.compilation.plan.program.steps) if isinstance(step, Loop)]
    assert [type(step) for loop in loops for step in loop.steps] == ([] if bounded else [Launch, Launch])


def test_gradients_that_end_early(quick: HostDevice) -> None:
    s, x, steps = T.dvector("s"), T.dmatrix("x"), T.lscalar("steps")
    path, _ = scan(lambda x, s: T.tanh(s + x), sequences=x, outputs_info=s, n_steps=steps, truncate_gradient=3)
    values = np.random.default_rng(2).normal(size=(21, 9))
    f = compare([s, x, steps], grad(path[-1].sum(), [s, x]), *[(values[0], values, count) for count in (1, 2, 7, 21)])
    assert set(launched(f)) == {"loop, a thread an element"}


def test_a_loop_updates_the_variable_that_it_begins_with(either: HostDevice) -> None:
    variables = [shared(np.arange(5.0), target=target) for target in ("cuda", "cpu")]
    calls = []
    for variable, device in zip(variables, ("cuda", "cpu"), strict=True):
        last, _ = scan(lambda s, n: s * 0.5 + n, outputs_info=variable, non_sequences=variable.sum(), n_steps=7)
        calls.append(function([], last[-1].sum(), updates={variable: last[-1]}, device=device))
    for _ in range(3):
        np.testing.assert_allclose(calls[0](), calls[1]())
    np.testing.assert_allclose(*[variable.get_value() for variable in variables])


# One block ---------------------------------------------------------------------------------------------------------


def filtered(z: Any, m: Any, p: Any, a: Any) -> list[Any]:
    """A Kalman filter that sees one number."""
    m, p = T.dot(a, m), T.dot(T.dot(a, p), a.T) + 0.1 * T.eye(a.shape[0])
    gain = p[:, 0] / (p[0, 0] + 0.2)
    return [m + gain * (z[0] - m[0]), p - T.outer(gain, p[0])]


DENSE: dict[str, tuple[Callable[..., Any], tuple[int, ...]]] = {
    "recurrent": (lambda x, s, a: T.tanh(x + T.dot(s, a)), (1,)),
    "recurrent, the other way": (lambda x, s, a: T.tanh(x + T.dot(a, s)), (1,)),
    "a batch": (lambda x, s, a: T.tanh(x + T.dot(s, a)), (2,)),
    "shares": (lambda x, s, a: T.exp(s) / T.exp(s).sum() + x, (1,)),
    "states that trade places": (lambda x, s, r, a: [r, T.dot(a, s) * 0.2 + x], (1, 1)),
    "a filter": (filtered, (1, 2)),
    "neighbours": (lambda x, s, a: T.concatenate([s[1:], s[:1]]) * 0.9 + x, (1,)),
    "a sum and a vector": (lambda x, s, n, a: [T.tanh(T.dot(a, s) + n), n * 0.5 + (s * x).mean()], (1, 0)),
}


def dense(name: str, n: int | None, dtype: str = "float64") -> tuple[list[Any], list[Any]]:
    """The inputs and results of a loop whose steps need all of the states; sizes are known if ``n`` is given."""
    step, ranks = DENSE[name]
    begin = [T.TensorType(dtype, (n,) * rank)(f"s{k}") for k, rank in enumerate(ranks)]
    x, a = T.TensorType(dtype, (None, n))("x"), T.TensorType(dtype, (n, n))("a")
    paths, _ = scan(step, sequences=x, outputs_info=begin, non_sequences=a, name="steps", return_list=True)
    return [*begin, x, a], paths


def dense_values(name: str, n: int, steps: int) -> tuple[Any, ...]:
    rng = np.random.default_rng(n)
    begin = [rng.normal(size=(n,) * rank) if rank != 2 else np.eye(n) for rank in DENSE[name][1]]
    return (*begin, rng.normal(size=(steps, n)), rng.normal(size=(n, n)) / (n + 1))


@pytest.mark.parametrize("n", [1, 3, 13, 25])
@pytest.mark.parametrize("name", DENSE)
def test_small_states_that_need_each_other(either: HostDevice, name: str, n: int) -> None:
    inputs, paths = dense(name, n)
    f = compare(inputs, paths, *[dense_values(name, n, steps) for steps in STEPS])
    assert set(launched(f)) <= {"loop, one block", "loop, one thread"}
    assert len(launched(f)) == 1
    f = compare(inputs, [path[-1] for path in paths], *[dense_values(name, n, steps) for steps in STEPS[1:]])
    assert len(launched(f)) == 1


@pytest.mark.parametrize("name", DENSE)
def test_their_gradients(either: HostDevice, name: str) -> None:
    inputs, paths = dense(name, 9)
    gradients = grad(sum((path**2).sum() for path in paths), inputs, disconnected_inputs="ignore")
    compare(inputs, gradients, *[dense_values(name, 9, steps) for steps in STEPS])


def test_sizes_that_a_call_shows(quick: HostDevice) -> None:
    """The first call makes a launch for its sizes; others run the general way."""
    inputs, paths = dense("recurrent", None)
    f = compare(inputs, paths, *[dense_values("recurrent", n, steps) for n in (9, 4, 9, 65) for steps in STEPS])
    forms = [line for line in f.explain().splitlines() if "loop, one block" in line]
    assert len(forms) == 1


@pytest.mark.parametrize(
    ("name", "n", "form"),
    [("recurrent", 3, "loop, one thread"), ("recurrent", 64, "loop, one block"), ("a batch", 32, "loop, one block"),
     ("recurrent", 2000, ""), ("a batch", 200, "")],
)  # fmt: skip
def test_who_runs_what(name: str, n: int, form: str) -> None:
    inputs, paths = dense(name, n, "float32")
    f = function(inputs, paths[-1], device="cuda:sm_90", on_unused_input="ignore")
    loops = [step for step in walk(f.compilation.plan.program.steps) if isinstance(step, Loop)]
    assert (launched(f) == [form]) if form else len(loops) == 1


def test_a_step_has_two_barriers() -> None:
    inputs, paths = dense("recurrent", 64, "float32")
    text = function(inputs, paths[-1][-1], device="cuda:sm_90").source("cuda")
    step = text.split("for (i64 t = 0")[1].split("\n    }\n")[0]
    assert step.count("st_team_sync();") == 2
    assert len(text) < 4000


@pytest.mark.parametrize("bounded", [True, False])
def test_one_block_ends_where_a_condition_holds(
    either: HostDevice, bounded: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(launched_loops, "CHUNK", 20 if bounded else 3)
    s, a, limit = T.TensorType("float64", (9,))("s"), T.TensorType("float64", (9, 9))("a"), T.dscalar("limit")
    path, _ = scan(
        lambda s, a, limit: (T.dot(a, s), until(abs(s).max() < limit)),
        outputs_info=s, non_sequences=[a, limit], n_steps=20,
    )  # fmt: skip
    matrix = np.random.default_rng(3).normal(size=(9, 9)) / 5
    f = compare([s, a, limit], [path, path[-1]], *[(np.ones(9), matrix, limit) for limit in (9.0, 0.3, 1e-3, 0.0)])
    loops = [step for step in walk(f.compilation.plan.program.steps) if isinstance(step, Loop)]
    assert (launched(f) == ["loop, one block"]) if bounded else [type(step) for step in loops[0].steps] == [Launch]


@pytest.mark.parametrize(("name", "n", "copied"), [
    ("recurrent", 64, False), ("recurrent, the other way", 64, True), ("recurrent, the other way", 100, False),
])  # fmt: skip
def test_matrices_that_are_read_across_are_copied_if_there_is_room(name: str, n: int, copied: bool) -> None:
    inputs, paths = dense(name, n, "float32")
    f = function(inputs, paths[-1], device="cuda:sm_90")
    assert launched(f) == ["loop, one block"]
    assert ("a_turned" in f.source("cuda")) is copied


def test_where_one_step_can_fail_the_host_runs_the_steps(quick: HostDevice) -> None:
    """An index that a state decides: the first step that fails is the one that is reported."""
    s, table = T.lvector("s"), T.lvector("table")
    path, _ = scan(lambda s, table: table[s] + 1, outputs_info=s, non_sequences=table, n_steps=5)
    f, reference = (function([s, table], path, device=d) for d in ("cuda", "cpu"))
    good, bad = (np.arange(3), np.zeros(3, int)), (np.arange(3), np.array([0, 1, 2]))
    assert f(*good).tolist() == reference(*good).tolist()
    messages = []
    for one in (f, reference):
        with pytest.raises(IndexError) as raised:
            one(*bad)
        messages.append(str(raised.value))
    assert messages[0] == messages[1]
