"""Modes: the same results from all of them, and what the checking ones find."""

import numpy as np
import pytest

import symtensor.tensor as T
from symtensor import NotFiniteError, config, function, grad, shared
from symtensor.comparison import Comparison, MismatchError, noise_of
from symtensor.compile.nanguardmode import NanGuardMode
from symtensor.modes import DebugMode, Mode, mode_of
from symtensor.opdef import OPS, OpDef
from symtensor.settings import MODES

RNG = np.random.default_rng(5)


def regression(mode: object) -> tuple[object, list[object]]:
    """One step of a saturated logistic regression on fixed data: its function and its weights."""
    x, y = T.dmatrix("x"), T.dvector("y")
    w, b = shared(np.array([300.0, -200.0, 50.0]), name="w"), shared(0.5, name="b")
    p = 1 / (1 + T.exp(-T.dot(x, w) - b))
    loss = -y * T.log(p) - (1 - y) * T.log(1 - p)
    cost = loss.mean() + 0.01 * (w**2).sum()
    gw, gb = grad(cost, [w, b])
    f = function([x, y], {"loss": loss, "class": p > 0.5}, updates=[(w, w - 0.1 * gw), (b, b - 0.1 * gb)], mode=mode)
    return f, [w, b]


@pytest.mark.parametrize("mode", MODES)
def test_every_mode_trains_the_same(mode: str) -> None:
    x = RNG.normal(size=(20, 3)).round(1)
    y = (x[:, 0] > 0).astype(float)
    found = []
    for one in ("fast_run", mode):
        f, weights = regression(one)
        results = [f(x, y) for _ in range(3)]
        found.append((results[-1]["class"], [v.get_value() for v in weights]))
    assert f.mode == mode
    np.testing.assert_array_equal(found[0][0], found[1][0])
    # What is not rewritten overflows: its gradients are NaN, and stable ones are the point of the passes.
    if mode not in ("fast_compile", "reference"):
        for a, b in zip(found[0][1], found[1][1], strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-12)


@pytest.mark.parametrize(
    ("given", "name"),
    [
        ("FAST_RUN", "fast_run"), ("FAST_COMPILE", "fast_compile"), ("DebugMode", "debug"), ("DEBUG_MODE", "debug"),
        ("NanGuardMode", "nan_guard"), ("Mode", "fast_run"), (Mode(), "fast_run"), (Mode("py"), "reference"),
        (Mode(optimizer="fast_compile"), "fast_compile"), (Mode("cvm", None), "fast_compile"),
        (DebugMode(check_isfinite=False), "debug"), (NanGuardMode(), "nan_guard"),
    ],
)  # fmt: skip
def test_modes_have_theanos_names(given: object, name: str) -> None:
    x = T.dscalar("x")
    f = function([x], x * 2, mode=given)
    assert f.mode == name
    assert f(3.0) == 6.0


def test_config_mode_takes_theanos_names() -> None:
    with config.change(mode="NanGuardMode"):
        assert config.mode == "nan_guard"
        assert function([], T.constant(1.0)).mode == "nan_guard"
    assert mode_of(config.mode).name == "fast_run"


def test_results_of_a_call_are_its_own() -> None:
    x, s = T.dvector("x"), shared(np.ones(2))
    for mode in MODES:
        s.set_value(np.ones(2))
        f = function([x], [x, s, x.reshape((2, 1))], updates={s: s + x}, mode=mode)
        given = np.zeros(2)
        results = f(given)
        for result in results:
            assert not np.shares_memory(result, given)
            assert not np.shares_memory(result, s.get_value(borrow=True))
            result[...] = 7
        np.testing.assert_array_equal(given, [0, 0])
        np.testing.assert_array_equal(s.get_value(), [1, 1])


# debug ---------------------------------------------------------------------------------------------------


def test_debug_names_the_operation_that_differs(monkeypatch: pytest.MonkeyPatch) -> None:
    x, s = T.dvector("x"), shared(1.0)
    f = function([x], T.tanh(x) + 1, updates={s: s + 1}, mode="debug", name="f")
    f([0.5])
    monkeypatch.setattr(OpDef, "__setattr__", object.__setattr__)
    monkeypatch.setattr(OPS["tanh"], "reference", lambda x: np.tanh(x) * (1 + 1e-13))
    with pytest.raises(MismatchError) as caught:
        f([0.5, 0.25])
    said = str(caught.value)
    assert said.startswith(
        "f: compiled code and reference differ for tanh: TensorType(float64, vector) (test_modes.py:"
    )
    assert "in the graph as written, computed by tanh: 2 of 2 elements; largest difference 4.6" in said
    assert " at (0,): compiled 0.46211" in said
    assert s.get_value() == 2.0


def test_debug_checks_what_rewriting_made(monkeypatch: pytest.MonkeyPatch) -> None:
    x = T.dvector("x")
    f = function([x], T.log(1 + x), mode="debug")
    assert "log1p" in str(f.maker.fgraph.toposort())
    monkeypatch.setattr(OpDef, "__setattr__", object.__setattr__)
    monkeypatch.setattr(OPS["log1p"], "reference", lambda x: np.log1p(x) + 1)
    with pytest.raises(
        MismatchError, match=r"in the graph after rewriting, computed by log1p: .* largest difference 1 "
    ):
        f([1.0])


def test_debug_checks_the_fused_program(monkeypatch: pytest.MonkeyPatch) -> None:
    x = T.dvector("x")
    f = function([x], (x * 3).sum(), mode="debug")
    f([1.0, 2.0])
    right = f._fused
    f._fused = lambda *arrays: [value * 2 for value in right(*arrays)]
    with pytest.raises(MismatchError, match=r"computed by the fused program: .* compiled 18\.0, reference 9\.0"):
        f([1.0, 2.0])


def test_debug_allows_what_rounding_explains() -> None:
    x = T.fvector("x")
    f = function([x], [x.sum(), (x - x.mean()).sum(), T.log(1 - 1 / (1 + T.exp(-x)))], mode="debug")
    values = np.concatenate([np.full(500, 1e6), RNG.normal(size=500), np.full(500, -1e6), [80.0]]).astype("float32")
    assert f(values)[2][-1] == -80.0  # the graph as written overflows there


@pytest.mark.parametrize(
    ("got", "want", "fault"),
    [
        (np.zeros(2), np.zeros(2), None),
        (np.array([1 + 4e-16]), np.ones(1), None),
        (np.array([np.nan, np.inf]), np.array([np.nan, np.inf]), None),
        (np.zeros(2, "float32"), np.zeros(2), "the element type is float32, expected float64"),
        (np.zeros(2), np.zeros((1, 2)), "the shape is (2,), expected (1, 2)"),
        (np.array([1, 2]), np.array([1, 3]), "largest difference 1 at (1,): compiled 2, reference 3, allowed 0"),
        (
            np.array([1.0, np.nan]),
            np.ones(2),
            "largest difference inf at (1,): compiled nan, reference 1.0, allowed 8.88e-16",
        ),
        (np.array(np.inf), np.array(-np.inf), "largest difference inf: compiled inf, reference -inf, allowed 0"),
    ],
)  # fmt: skip
def test_comparison(got: np.ndarray, want: np.ndarray, fault: str | None) -> None:
    found = Comparison(got, want, tolerance=4).fault()
    assert (found if found is None else found.removeprefix(f"1 of {got.size} elements; ")) == fault


def test_noise_shows_cancellation() -> None:
    x = T.dvector("x")
    values = {x: np.array([1.0, 1e-8, 0.5])}
    smooth, cancelled, chosen = noise_of([x * 2, 1 - T.cos(x), T.argmax(x)], values)
    assert (smooth <= 2e-14).all()
    assert cancelled[1] > 1e-17  # the value is 5e-17
    assert chosen == 0


# nan_guard -----------------------------------------------------------------------------------------------


def test_nan_guard_names_the_first_expression() -> None:
    x, s = T.dmatrix("x"), shared(1.0, "s")
    root = T.sqrt(x)
    f = function([x], (root * 2).sum(), updates={s: s + root.sum()}, mode="nan_guard", name="f")
    assert f(np.ones((2, 2))) == 8.0
    with pytest.raises(NotFiniteError, match=r"^f: NaN in sqrt: .* \(test_modes.py:\d+\), .* first at \(1, 0\)"):
        f([[1.0, 1.0], [-1.0, 1.0]])
    assert s.get_value() == 5.0


def test_nan_guard_refuses_what_it_is_asked_to() -> None:
    x = T.dvector("x")
    assert np.isinf(function([x], 1 / x, mode=NanGuardMode(inf_is_error=False))([0.0]))
    assert np.isnan(function([x], T.log(x), mode=NanGuardMode(nan_is_error=False))([-1.0]))
    with pytest.raises(NotFiniteError, match=r"numbers beyond 1e\+10 in mul"):
        function([x], x * 1e6, mode=NanGuardMode())([1e6])
    assert function([x], x * 1e6, mode="nan_guard")([1e6]) == 1e12
