"""Loops and branches in what looks at, copies and stores expressions and functions."""

import copy
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import symtensor
import symtensor.tensor as T
from symtensor import clone, function, scan, shared
from symtensor.graph import Tensor
from symtensor.ifelse import ifelse
from symtensor.printing import debugprint, pydotprint
from symtensor.scan_module import until

X, C, S = T.dvector("x"), T.iscalar("c"), shared(2.0, name="s")
VALUE = np.arange(1.0, 7.0)


def _loop(x: Tensor = X) -> Tensor:
    out, _ = scan(lambda v, state: (T.tanh(state * v + S), until(v > 4)), x, T.constant(0.5), name="walk")
    return out.sum()


def _branch(x: Tensor = X) -> Tensor:
    def outer(v: Tensor) -> Tensor:
        inner, _ = scan(lambda w, acc: T.sin(acc) + w * v, x, T.constant(0.0))
        return ifelse(v > 2, inner[-1], v)

    return scan(outer, x)[0].sum()


PROGRAMS = pytest.mark.parametrize("program", [_loop, _branch])


@PROGRAMS
def test_expressions_are_pickled(program: Any) -> None:
    cost = program()
    x, loaded, gradient = pickle.loads(pickle.dumps((X, cost, T.grad(cost, X))))
    want = function([X], [cost, T.grad(cost, X)])(VALUE)
    got = function([x], [loaded, gradient])(VALUE)
    for g, w in zip(got, want, strict=True):
        np.testing.assert_array_equal(g, w)


@PROGRAMS
def test_functions_are_pickled_copied_and_swapped(program: Any) -> None:
    cost = program()
    f = function([X], [cost, T.grad(cost, X)], name="f")
    want = f(VALUE)
    for other in (pickle.loads(pickle.dumps(f)), copy.deepcopy(f), f.copy()):
        for g, w in zip(other(VALUE), want, strict=True):
            np.testing.assert_array_equal(g, w)
    if program is _loop:
        s = shared(-1.0)
        swapped = f.copy(swap={S: s})(VALUE)
        again = function([X], [cost, T.grad(cost, X)], givens={S: s})(VALUE)
        np.testing.assert_array_equal(swapped[1], again[1])
        assert swapped[0] != want[0]


@PROGRAMS
def test_replaced_inputs(program: Any) -> None:
    """Clone and givens reach what a step uses."""
    y = T.dvector("y")
    cost = program()
    cloned = clone(cost, {X: y * 2})
    want = function([X], cost)(VALUE * 2)
    np.testing.assert_allclose(function([y], cloned)(VALUE), want, rtol=1e-15)
    np.testing.assert_allclose(function([y], cost, givens={X: y * 2})(VALUE), want, rtol=1e-15)
    fresh = clone(cost, share_inputs=False)
    (leaf,) = [n for n in symtensor.graph.leaves([fresh]) if n.name == "x"]
    assert leaf is not X
    assert function([leaf], fresh)(VALUE) == function([X], cost)(VALUE)


def test_printed_bodies() -> None:
    text = debugprint(_loop(), file="str")
    assert isinstance(text, str)
    before, _, inner = text.partition("Inner graphs:\n")
    assert "loop{walk}" in before
    lines = inner.splitlines()
    assert lines[1].startswith("loop{walk} [id ")
    assert lines[2].startswith(" given: ")
    assert any("tanh" in line for line in lines)
    assert any("until" in line for line in lines)
    nested = debugprint(_branch(), file="str")
    assert isinstance(nested, str)
    assert nested.count("\nloop [id ") == 2  # a section for each
    compiled = debugprint(list(function([X], _branch()).maker.fgraph.outputs), file="str")
    assert isinstance(compiled, str)
    assert "branch" in compiled


def test_reports(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, device: str) -> None:
    f = function([X], [_loop(), T.grad(_loop(), X), _branch()], profile=True, name="f")
    f(VALUE)
    assert "loops" in f.explain()
    assert "bytes" in f.memory
    assert "loops" in f.stages
    assert "loop" in f.stages["loops"]
    assert "for " in f.source("program")
    assert f.source("llvm" if device == "cpu" else "cuda")
    assert f.profile is not None
    monkeypatch.setenv("SYMTENSOR_DUMP", "loops,program")
    monkeypatch.setenv("SYMTENSOR_DUMP_DIR", str(tmp_path))
    function([X], [_loop(), _branch()], name="dumped")
    assert any("loop" in path.read_text() for path in tmp_path.rglob("*") if path.is_file())
    assert "loop" in pydotprint(_loop())
