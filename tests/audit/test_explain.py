"""``f.explain()`` says what each kernel computes, in the user's names and lines."""

import symtensor.tensor as T
from symtensor import function, shared


def test_kernels_tell_what_they_compute() -> None:
    x, w = T.dmatrix("x"), shared([0.5, 0.25], name="w")
    score = T.tanh(T.dot(x, w))
    score.name = "score"
    step = function([x], score, updates=[(w, w * 0.5)])
    told = step.explain()
    header = next(line for line in told.splitlines() if line.startswith("kernel"))
    assert header.split()[-1] == "computes"
    assert "score = tanh of dot (test_explain.py:9)" in told
    assert "mul (test_explain.py:11)" in told  # written in place


def test_partial_sums_are_told() -> None:
    x = T.dvector("x")
    told = function([x], (x * x).sum()).explain()
    assert told.count("sum of sqr (test_explain.py:21)") == 2
