"""Expressions as text."""

import io

import numpy as np
import pytest

import symtensor.tensor as T
from symtensor import shared
from symtensor.graph import constant
from symtensor.printing import debugprint, dot_text, label, pp, pydotprint


def test_labels() -> None:
    x = T.dmatrix("x")
    named = T.exp(x)
    named.name = "powers"
    assert label(x) == repr(x) == str(x) == "x"
    assert label(x + x) == "add.0"
    assert label(x.sum(axis=0)) == "sum{axes=(0,)}.0"
    assert label(named) == "powers"
    assert label(T.dmatrix()) == "<TensorType(float64, matrix)>"
    assert label(shared(np.zeros(3), name="w")) == "w"


def test_labels_of_constants() -> None:
    assert str(constant(2)) == "TensorConstant{2}"
    assert str(constant(2.5)) == "TensorConstant{2.5}"
    assert str(constant(np.ones((2, 3)))) == "TensorConstant{(2, 3) of 1.0}"
    assert str(constant([1, 2, 3])) == "TensorConstant{[1 2 3]}"
    assert str(constant(np.arange(10))) == "TensorConstant{(10,) int64}"
    assert str(constant(np.zeros((0, 2)))) == "TensorConstant{(0, 2) empty}"
    assert str(constant(np.array([np.nan, np.nan]))) == "TensorConstant{[nan nan]}"


def test_types() -> None:
    assert str(T.fmatrix().type) == "TensorType(float32, matrix)"
    assert str(T.TensorType("int64", (1, 3)).__class__.__name__) == "TensorType"


def test_debugprint() -> None:
    x, y = T.dvector("x"), T.dvector("y")
    z = T.exp(x)
    z.name = "z"
    assert debugprint(z * y + z, file="str") == "\n".join(
        [
            "add [id A]",
            " ├─ mul [id B]",
            " │   ├─ exp 'z' [id C]",
            " │   │   └─ x [id D]",
            " │   └─ y [id E]",
            " └─ exp 'z' [id C] ...",
        ]
    )


def test_debugprint_options() -> None:
    x = T.dvector("x")
    y = T.exp(x)
    y.name = "y"
    z = T.sin(y)
    assert debugprint(z, file="str", depth=2, ids="") == "sin\n └─ exp 'y'"
    assert debugprint(z, file="str", stop_on_name=True, ids="") == "sin\n └─ exp 'y'"
    assert debugprint(z, file="str", ids="int").splitlines()[2] == "     └─ x [id 2]"
    assert debugprint(x, file="str", print_type=True) == "x <TensorType(float64, vector)> [id A]"
    assert debugprint([y, y], file="str", ids="").splitlines() == ["exp 'y'", " └─ x", "exp 'y' ..."]


def test_debugprint_names_after_z() -> None:
    x = T.dvector("x")
    y = x
    for _ in range(27):
        y = T.sin(y)
    lines = debugprint(y, file="str").splitlines()
    assert [line.split("[id ")[1] for line in lines[24:]] == ["Y]", "Z]", "BA]", "BB]"]


def test_debugprint_to_files(capsys: pytest.CaptureFixture[str]) -> None:
    x = T.dvector("x")
    file = io.StringIO()
    assert debugprint(x, file=file) is file
    assert file.getvalue() == "x [id A]\n"
    debugprint(x)
    assert capsys.readouterr().out == "x [id A]\n"


def test_debugprint_of_what_has_outputs() -> None:
    class Compiled:
        outputs = (T.exp(T.dscalar("x")),)

    assert debugprint(Compiled(), file="str", ids="") == "exp\n └─ x"


def test_bad_arguments() -> None:
    x = T.dvector("x")
    with pytest.raises(ValueError, match="ids must be 'CHAR' or 'int' or ''"):
        debugprint(x, ids="hex")
    with pytest.raises(ValueError, match="file must be an open file, None or 'str'"):
        debugprint(x, file="out.txt")
    with pytest.raises(
        TypeError, match="cannot print int 3: it is neither an expression nor a compiled function"
    ):
        debugprint(3)
    with pytest.raises(ValueError, match=r"must end in \.dot or \.gv, not '\.png'"):
        pydotprint(x, "picture.png")


@pytest.mark.parametrize(
    ("build", "text"),
    [
        (lambda x, y: x * 2 + y, "x * 2.0 + y"),
        (lambda x, y: x * (2 + y), "x * (2.0 + y)"),
        (lambda x, y: x - (y - x), "x - (y - x)"),
        (lambda x, y: (x - y) - x, "x - y - x"),
        (lambda x, y: x / (y * x), "x / (y * x)"),
        (lambda x, y: -(x + y), "-(x + y)"),
        (lambda x, y: (-x) ** y, "(-x) ** y"),
        (lambda x, y: x ** (y**x), "x ** y ** x"),
        (lambda x, y: (x**y) ** x, "(x ** y) ** x"),
        (lambda x, y: T.exp(x + y), "exp(x + y)"),
        (lambda x, y: T.switch(x > y, x, -1.5), "switch(x > y, x, -1.5)"),
        (lambda x, y: x.sum(axis=0) * 3, "sum{axes=(0,)}(x) * 3.0"),
        (lambda x, y: T.dot(x, y), "x @ y"),
    ],
)
def test_formulas(build: object, text: str) -> None:
    assert pp(build(T.dvector("x"), T.dvector("y"))) == text  # type: ignore[operator]


def test_formulas_name_repeated_parts() -> None:
    x = T.dvector("x")
    big = T.exp(x + x * x) + T.sin(x)
    assert pp(big / big) == "t0 / t0\nwhere t0 = exp(x + x * x) + sin(x)"


def test_graphviz() -> None:
    x = T.dvector('the "x"')
    w = shared(np.zeros(3), name="w")
    y = x * w + 1.0
    text = dot_text(y)
    assert text.startswith("digraph expression {")
    assert text.rstrip().endswith("}")
    assert r"the \"x\"\nTensorType(float64, vector)" in text
    assert text.count("->") == 4
    assert text.count("shape=box") == 2


def test_pydotprint(tmp_path: object) -> None:
    file = tmp_path / "graph.dot"  # type: ignore[operator]
    assert pydotprint(T.exp(T.dvector("x")), file) == file.read_text(encoding="utf-8")
