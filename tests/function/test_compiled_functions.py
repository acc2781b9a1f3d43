"""What can be asked of compiled functions: copies, pickles, graphs, sources, reports, profiles, dumps."""

import copy
import gc
import pickle
import threading
import weakref
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import symtensor.tensor as T
from symtensor import In, config, function, grad, shared
from symtensor.functions import EVALUATIONS, _evaluations
from symtensor.settings import ConfigError
from symtensor_codegen.errors import DTypeError


def step(**options: Any) -> tuple[Any, Any]:
    """One step of a linear fit, and its weights."""
    x, w = T.dmatrix("x"), shared(np.arange(3.0), name="w")
    cost = (T.tanh(T.dot(x, w)) ** 2).sum()
    return function([x], cost, updates={w: w - 0.1 * grad(cost, w)}, name="step", **options), w


X = np.random.default_rng(3).normal(size=(7, 3))


# Copies ---------------------------------------------------------------------------------------------------


def test_a_copy_works_on_the_same_state() -> None:
    f, w = step()
    g = f.copy()
    assert g is not f
    assert g.name == "step"
    g(X)
    assert not np.array_equal(w.get_value(), np.arange(3.0))
    assert g.get_shared() == [w]


def test_a_copy_with_other_state() -> None:
    f, w = step()
    v = shared(np.arange(3.0), name="v")
    g = f.copy(swap={w: v}, name="other")
    assert repr(g) == "<function other(x): 1 output, updates v>"
    assert g.get_shared() == [v]
    first = g(X)
    np.testing.assert_array_equal(w.get_value(), np.arange(3.0))
    assert first == f(X)
    np.testing.assert_array_equal(w.get_value(), v.get_value())


def test_a_copy_without_updates() -> None:
    f, w = step()
    g = f.copy(delete_updates=True)
    assert g(X) == g(X)
    np.testing.assert_array_equal(w.get_value(), np.arange(3.0))
    assert f.updates
    assert not g.updates


@pytest.mark.parametrize("mode", ["fast_compile", "debug", "reference"])
def test_a_copy_keeps_its_mode(mode: str) -> None:
    f, _ = step(mode=mode)
    assert f.copy().mode == mode


# Pickles ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("again", [lambda f: pickle.loads(pickle.dumps(f)), copy.deepcopy], ids=["pickle", "deepcopy"])
@pytest.mark.parametrize("mode", ["fast_run", "nan_guard", "reference"])
def test_functions_are_copied_with_their_state(again: Any, mode: str) -> None:
    f, w = step(mode=mode, profile=True)
    f(X)
    g = again(f)
    assert (g.name, g.mode, repr(g)) == (f.name, f.mode, repr(f))
    (v,) = g.get_shared()
    assert v is not w
    np.testing.assert_array_equal(v.get_value(), w.get_value())
    assert g(X) == f(X)
    np.testing.assert_array_equal(v.get_value(), w.get_value())


def test_pickled_together_they_share_state() -> None:
    f, w = step()
    x = T.dmatrix("x")
    g, h, v = pickle.loads(pickle.dumps((f, function([x], T.dot(x, w)), w)))
    g(X)
    np.testing.assert_allclose(h(X), X @ v.get_value())


def test_pickles_keep_inputs_and_results() -> None:
    x, y = T.dscalar("x"), T.fscalar("y")
    f = function([x, In(y, name="z", value=2.0, allow_downcast=True)], {"sum": x + y, "x": x})
    g = pickle.loads(pickle.dumps(f))
    assert g(1.0) == {"sum": 3.0, "x": 1.0}
    assert g(1.0, z=np.float64(0.1))["sum"] == 1.0 + float(np.float32(0.1))


# Theano's attributes ----------------------------------------------------------------------------------------


def test_the_graph_of_a_function() -> None:
    f, w = step()
    graph = f.maker.fgraph
    assert graph.inputs == [f.inputs[0].variable, w]
    assert [o.type for o in graph.outputs] == [f.outputs[0].type, w.type]
    order = graph.toposort()
    assert {node.op.name for node in order} >= {"dot", "tanh", "sum"}
    assert order[-1].out in graph.outputs
    seen = {*graph.inputs}
    for node in order:
        assert all(i in seen or i.owner is None for i in node.inputs)
        seen.update(node.outputs)
    assert graph.apply_nodes == set(order)
    assert graph.variables >= seen
    assert "tanh" in f.dprint(file="str")


def test_attributes_programs_set() -> None:
    f, _ = step()
    f.trust_input = True
    f.name = "renamed"
    assert repr(f).startswith("<function renamed(x)")
    assert f.free() is None
    assert f(X) > 0


def test_a_function_goes_away() -> None:
    f, w = step(mode="fast_run")
    f(X)
    gone = weakref.ref(f)
    del f
    gc.collect()
    assert gone() is None
    assert w.get_value().shape == (3,)


# Inspection -------------------------------------------------------------------------------------------------


def test_stages_read_well() -> None:
    x = T.dvector("x")
    f = function([x], T.log(1 + x))
    assert list(f.stages) == ["graph", "canonical", "shapes", "stability", "specialise"]
    assert "log1p" in f.stages["stability"]
    assert "log1p" not in f.stages["graph"]
    assert repr(f.stages).startswith("<stages: graph (4 nodes), canonical (")
    assert f.stages.get("loops") is None


def test_sources() -> None:
    x = T.dvector("x")
    f = function([x], x * 2, name="twice")
    assert f.source() == f.source("loops")
    assert f.source("loops").startswith("kernel k0_mul:\n")
    assert f.source("program").startswith("program twice:\n  input x: float64[x.shape[0]]\n")
    assert "define i64 @k0_mul(" in f.source("llvm")
    assert "k0_mul:" in f.source("asm")


def test_memory_is_told_in_sizes_of_inputs() -> None:
    x, w = T.dmatrix("x"), shared(np.ones((3, 2)), name="w")
    h = T.dot(x, w)
    products = T.dot(h, h.T)
    h.name, products.name = "h", "products"
    f = function([x], products, updates={w: w * 2})
    assert f.memory.splitlines() == [
        "arena: 1 temporary buffer in 1 place",
        "",
        "buffer    dtype    bytes                          where",
        "--------  -------  -----------------------------  ----------------",
        "h         float64  (x.shape[0] * w.shape[1]) * 8  arena, place 1",
        "products  float64  (x.shape[0] * x.shape[0]) * 8  returned",
        "w         float64  (w.shape[0] * w.shape[1]) * 8  updated in place",
    ]


def test_explain_has_a_row_per_pass_and_kernel() -> None:
    f, _ = step()
    lines = f.explain().splitlines()
    assert [line.split()[0] for line in lines[2:9]] == [
        "graph", "canonical", "shapes", "stability", "specialise", "lower", "native"
    ]  # fmt: skip
    assert lines[10].split()[:2] == ["kernel", "iterations"]
    assert all(line.startswith("k") for line in lines[12:])


# Profiles ---------------------------------------------------------------------------------------------------


def test_profile_counts_calls_time_and_work() -> None:
    x, w = T.dmatrix("x"), shared(np.ones((40, 30)), name="w")
    f = function([x], T.exp(T.dot(x, w)).sum(), profile=True, name="f")
    assert f.profile.calls == 0
    assert "f: 0 calls" in str(f.profile)
    for rows in (10, 20):
        f(np.zeros((rows, 40)))
    product = next(s for s in f.profile.steps if s.is_product)
    assert (product.calls, product.elements) == (2, (10 + 20) * 40 * 30)
    assert product.bytes == 8 * ((10 + 20) * (40 + 30) + 2 * 40 * 30)
    assert product.speed.endswith(" GFLOP/s")
    loops = [s for s in f.profile.steps if not s.is_product]
    assert loops
    assert loops[0].elements == (10 + 20) * 30
    assert loops[0].speed.endswith(" Gelements/s")
    assert 0 < sum(s.seconds for s in f.profile.steps) <= f.profile.seconds < 1
    assert "f: 2 calls" in str(f.profile)
    f.profile.reset()
    assert f.profile.calls == 0
    assert f.profile.seconds == 0


def test_profile_agrees_with_the_clock() -> None:
    from time import perf_counter

    x = T.dvector("x")
    f = function([x], T.tanh(x).sum(), profile=True)
    values = np.zeros(1 << 21)
    f(values)
    f.profile.reset()
    start = perf_counter()
    for _ in range(5):
        f(values)
    elapsed = perf_counter() - start
    assert 0.5 * elapsed < f.profile.seconds <= 1.02 * elapsed


def test_profile_counts_calls_of_all_threads() -> None:
    x = T.dvector("x")
    f = function([x], x + 1, profile=True)
    threads = [threading.Thread(target=lambda: [f(np.ones(50_000)) for _ in range(200)]) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert f.profile.calls == 800
    assert f.profile.steps[0].elements == 800 * 50_000


def test_profile_only_when_asked_for() -> None:
    x = T.dvector("x")
    assert function([x], x + 1).profile is None
    with config.change(profile=True):
        assert function([x], x + 1).profile is not None
        assert function([x], x + 1, profile=False).profile is None


def test_strict_inputs() -> None:
    """Theano's word for arguments that are taken as they are or not at all."""
    x = T.dvector("x")
    for mode in ("fast_run", "debug"):
        double = function([In(x, strict=True)], x * 2, mode=mode)
        np.testing.assert_array_equal(double(np.ones(2)), [2, 2])
        for wrong, got in (([1.0, 1.0], "list"), (np.ones(2, "f4"), "float32"), (np.ones(2, "i8"), "int64")):
            with pytest.raises(DTypeError, match=f"a strict input takes NumPy arrays of float64 only, not {got}"):
                double(wrong)
    with pytest.raises(DTypeError, match="default value"):
        function([In(x, strict=True, value=[1.0])], x)


def test_none_is_not_a_missing_argument() -> None:
    x = T.dvector("x")
    with pytest.raises(TypeError, match=r"input x .* got None: pass a value of type"):
        function([x], x)(None)
    with pytest.raises(TypeError, match=r"input x .* is missing"):
        function([x], x)()


# SYMTENSOR_DUMP ---------------------------------------------------------------------------------------------


def test_dump_to_standard_error(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("SYMTENSOR_DUMP", "stability, program")
    x = T.dvector("x")
    function([x], T.log(1 + x), name="f")
    told = capsys.readouterr().err
    assert told.startswith("=== f: stability\nlog1p")
    assert "=== f: program\nprogram f:\n" in told


def test_dump_to_a_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    names = "graph,canonical,shapes,stability,specialise,fast_math,loops,program,llvm,asm,explain,memory"
    monkeypatch.setenv("SYMTENSOR_DUMP", names)
    monkeypatch.setenv("SYMTENSOR_DUMP_DIR", str(tmp_path / "new"))
    x = T.dvector("x")
    f = function([x], x * 2, name="f")
    files = sorted((tmp_path / "new").iterdir())
    assert {file.suffix[1:] for file in files} == set(names.split(","))
    loops = next(file for file in files if file.suffix == ".loops")
    assert loops.read_text() == f.source("loops") + "\n"
    assert function([x], x, mode="reference")([1.0]) == 1.0


def test_dump_of_nothing_known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SYMTENSOR_DUMP", "stability,kernels")
    with pytest.raises(ConfigError, match="SYMTENSOR_DUMP: there is no 'kernels'; there are graph, canonical"):
        function([], T.constant(1.0))


# eval -------------------------------------------------------------------------------------------------------


def test_eval_compiles_once() -> None:
    x, y = T.dscalar("x"), T.dscalar("y")
    z = x * 2 + y
    assert z.eval({x: 2, y: 1}) == 5
    (key,) = [k for k in _evaluations if k[0] is z]
    compiled = _evaluations[key]
    assert z.eval({x: 3, y: 1}) == 7
    assert _evaluations[key] is compiled
    assert z.eval({"x": 1, "y": 1}) == 3
    assert len([k for k in _evaluations if k[0] is z]) == 1
    assert z.eval({y: 1, x: 0.5}) == 2


def test_eval_forgets_the_oldest() -> None:
    x = T.dscalar("x")
    for k in range(EVALUATIONS + 5):
        assert (x + k).eval({x: 1}) == 1 + k
    assert len(_evaluations) <= EVALUATIONS


def test_eval_reads_shared_variables() -> None:
    w = shared(1.0)
    y = w * 2
    assert y.eval() == 2
    w.set_value(5.0)
    assert y.eval() == 10
