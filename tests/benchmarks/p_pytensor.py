"""PyTensor, variant ``numba`` (its default) or ``c`` (its C linker: needs g++, uses OpenBLAS if found)."""

import os
import sys
from ctypes.util import find_library
from typing import Any

import numpy as np
from programs import Arrays, Call, State, as_tuple, chain, minimised

MLP = ("W1", "b1", "W2", "b2", "W3", "b3")


def setup(config: dict[str, Any]) -> dict[str, str]:
    global T, function, In, Out, grad, scan, shared
    flags = {
        "floatX": config["dtype"],
        "base_compiledir": config["cache"],
        "openmp": str(config["threads"] > 1),
    }
    if find_library("openblas"):
        flags["blas__ldflags"] = "-lopenblas"
    os.environ["PYTENSOR_FLAGS"] = ",".join(f"{k}={v}" for k, v in flags.items())
    sys.setrecursionlimit(200_000)
    import pytensor
    import pytensor.tensor as T
    from pytensor import In, Out, grad, scan, shared

    mode = "CVM" if config["variant"] == "c" else "NUMBA"

    def function(*arguments: Any, **options: Any) -> Any:
        return pytensor.function(*arguments, mode=mode, **options)

    return {"pytensor": pytensor.__version__, "mode": mode}


def variable(array: Any, name: str | None = None) -> Any:
    return T.tensor(name, dtype=str(array.dtype), shape=(None,) * array.ndim)


def weak(value: float, like: Any) -> Any:
    """A constant that does not widen ``like``."""
    return np.asarray(value, like.dtype)


def program(compiled: Any, *arguments: Any) -> tuple[Call, None]:
    return lambda: as_tuple(compiled(*arguments)), None


def W1(d: Arrays, p: Arrays) -> tuple[Call, None]:
    x, y = variable(d["x"]), variable(d["y"])
    return program(function([x, y], x * y + x), d["x"], d["y"])


def W1n(d: Arrays, p: Arrays) -> tuple[Call, None]:
    x, y = variable(d["x"]), variable(d["y"])
    inputs = [In(x, borrow=True), In(y, borrow=True)]
    return program(function(inputs, Out(x * y + x, borrow=True), trust_input=True), d["x"], d["y"])


def W2(d: Arrays, p: Arrays) -> tuple[Call, State]:
    x, y = variable(d["x"], "x"), variable(d["y"], "y")
    w, b = shared(d["w"].copy()), shared(d["b"].copy())
    half, decay, rate = weak(0.5, x), weak(0.01, x), weak(0.1, x)
    p_1 = 1 / (1 + T.exp(-T.dot(x, w) - b))
    xent = -y * T.log(p_1) - (1 - y) * T.log(1 - p_1)
    gw, gb = grad(xent.mean() + decay * (w**2).sum(), [w, b])
    step = function([x, y], [p_1 > half, xent], updates=[(w, w - rate * gw), (b, b - rate * gb)])
    return program(step, d["x"], d["y"])[0], lambda: {"w": w.get_value(), "b": b.get_value()}


def fused(x: Any, y: Any) -> Any:
    return T.sqrt(T.exp(-(x**2)) + T.tanh(y) * x + 2)


def W3a(d: Arrays, p: Arrays) -> tuple[Call, None]:
    x, y = variable(d["x"]), variable(d["y"])
    return program(function([x, y], fused(x, y)), d["x"], d["y"])


def W3b(d: Arrays, p: Arrays) -> tuple[Call, None]:
    spot, strike, time = variable(d["S"]), variable(d["K"]), variable(d["T"])
    rate, sigma, half, scale = (weak(v, spot) for v in (p["r"], p["sigma"], 0.5, 1 / np.sqrt(2)))
    spread = sigma * T.sqrt(time)
    d1 = (T.log(spot / strike) + (rate + half * sigma * sigma) * time) / spread
    d2 = d1 - spread

    def normal(z: Any) -> Any:
        return half + half * T.erf(z * scale)

    price = spot * normal(d1) - strike * T.exp(-rate * time) * normal(d2)
    return program(function([spot, strike, time], price), d["S"], d["K"], d["T"])


def W3c(d: Arrays, p: Arrays) -> tuple[Call, None]:
    x, y = variable(d["x"]), variable(d["y"])
    return program(function([x, y], fused(x, y).sum()), d["x"], d["y"])


def cross_entropy(logits: Any, labels: Any) -> Any:
    from pytensor.tensor.special import log_softmax

    return -log_softmax(logits, axis=1)[T.arange(logits.shape[0]), labels].mean()


def W4(d: Arrays, p: Arrays) -> tuple[Call, None]:
    z, labels = variable(d["z"]), T.lvector()
    loss = cross_entropy(z, labels)
    return program(function([z, labels], [loss, grad(loss, z)]), d["z"], d["lab"])


def W5(d: Arrays, p: Arrays) -> tuple[Call, State]:
    weights = w1, b1, w2, b2, w3, b3 = [shared(d[k].copy()) for k in MLP]
    speeds = [shared(d[k] * 0) for k in MLP]
    x, labels = variable(d["x"]), T.lvector()
    zero, rate, momentum = weak(0, x), weak(p["lr"], x), weak(p["mom"], x)
    h1 = T.maximum(T.dot(x, w1) + b1, zero)
    h2 = T.maximum(T.dot(h1, w2) + b2, zero)
    loss = cross_entropy(T.dot(h2, w3) + b3, labels)
    updates = []
    for weight, speed, gradient in zip(weights, speeds, grad(loss, weights), strict=True):
        faster = momentum * speed - rate * gradient
        updates += [(speed, faster), (weight, weight + faster)]
    step = function([x, labels], loss, updates=updates)
    return program(step, d["x"], d["lab"])[0], lambda: {k: w.get_value() for k, w in zip(MLP, weights, strict=True)}


def W7(d: Arrays, p: Arrays) -> tuple[Call, State]:
    W, U, b = weights = [shared(d[k].copy()) for k in "WUb"]
    x = variable(d["x"])
    batch, size = d["x"].shape[1], len(d["U"])
    zeros = T.zeros((batch, size), dtype=x.dtype)

    def step(row: Any, h: Any, c: Any, U: Any) -> Any:
        z = row + T.dot(h, U)
        i, f, g, o = (z[:, k * size : (k + 1) * size] for k in range(4))
        c = T.sigmoid(f) * c + T.sigmoid(i) * T.tanh(g)
        return T.sigmoid(o) * T.tanh(c), c

    h, _ = scan(step, [T.dot(x, W) + b], [zeros, zeros], [U], strict=True, return_updates=False)
    loss = (h[-1] ** 2).mean()
    rate = weak(p["lr"], x)
    updates = [(w, w - rate * g) for w, g in zip(weights, grad(loss, weights), strict=True)]
    train = function([x], loss, updates=updates)
    return program(train, d["x"])[0], lambda: {k: w.get_value() for k, w in zip("WUb", weights, strict=True)}


def W9(d: Arrays, p: Arrays) -> tuple[Call, None]:
    x, r, n = T.dscalar(), T.dscalar(), T.lscalar()
    path = scan(lambda x, r: r * x * (1 - x), None, [x], [r], n_steps=n, return_updates=False)
    return program(function([x, r, n], path[-1]), d["x0"], d["r"], np.int64(p["n"]))


def W10(d: Arrays, p: Arrays) -> tuple[Call, None]:
    x = T.dvector()
    y = chain(x, d["c"].tolist(), T).sum()
    return program(function([x], [y, grad(y, x)]), d["x"])


def rosenbrock() -> Any:
    x = T.dvector()
    left, right = x[:-1], x[1:]
    y = (100 * (right - left * left) ** 2 + (1 - left) ** 2).sum()
    return function([x], [y, grad(y, x)])


def W11(d: Arrays, p: Arrays) -> tuple[Call, None]:
    return minimised(rosenbrock(), d["x0"]), None


def W11p(d: Arrays, p: Arrays) -> tuple[Call, None]:
    return program(rosenbrock(), d["x0"])


def W14(d: Arrays, p: Arrays) -> tuple[Call, None]:
    x = variable(d["X"])
    z = (x - x.mean(0)) / x.std(0)
    return program(function([x], [z, T.argmax(z, axis=1)]), d["X"])
