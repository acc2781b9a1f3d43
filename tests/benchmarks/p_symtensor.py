"""The peer that all of this is about: symtensor, each program written as its user would."""

from importlib.metadata import PackageNotFoundError, version
from typing import Any

import numpy as np
from programs import Arrays, Call, State, as_tuple, chain, minimised

MLP = ("W1", "b1", "W2", "b2", "W3", "b3")


def setup(config: dict[str, Any]) -> dict[str, str]:
    global T, function, grad, shared
    import symtensor
    import symtensor.tensor as T
    from symtensor import function, grad, shared

    symtensor.config.floatX = config["dtype"]
    try:
        return {"symtensor": version("symtensor"), "llvmlite": version("llvmlite")}
    except PackageNotFoundError:
        return {"symtensor": symtensor.__version__, "llvmlite": version("llvmlite")}


def variable(array: Any, name: str | None = None) -> Any:
    """A variable of the array's element type and rank, of any size."""
    return T.TensorType(str(array.dtype), (None,) * array.ndim)(name)


def program(compiled: Any, *arguments: Any) -> tuple[Call, None]:
    return lambda: as_tuple(compiled(*arguments)), None


def W1(d: Arrays, p: Arrays) -> tuple[Call, None]:
    x, y = variable(d["x"]), variable(d["y"])
    compiled = function([x, y], x * y + x)
    a, b = d["x"], d["y"]
    return lambda: (compiled(a, b),), None


W1n = W1  # a call takes and gives NumPy arrays; there is no faster way in


def W2(d: Arrays, p: Arrays) -> tuple[Call, State]:
    x, y = variable(d["x"], "x"), variable(d["y"], "y")
    w, b = shared(d["w"], name="w"), shared(d["b"], name="b")
    p_1 = 1 / (1 + T.exp(-T.dot(x, w) - b))
    xent = -y * T.log(p_1) - (1 - y) * T.log(1 - p_1)
    cost = xent.mean() + 0.01 * (w**2).sum()
    gw, gb = grad(cost, [w, b])
    step = function([x, y], [p_1 > 0.5, xent], updates={w: w - 0.1 * gw, b: b - 0.1 * gb})
    return program(step, d["x"], d["y"])[0], lambda: {"w": w.get_value(), "b": b.get_value()}


def fused(x: Any, y: Any) -> Any:
    return T.sqrt(T.exp(-(x**2)) + T.tanh(y) * x + 2)


def W3a(d: Arrays, p: Arrays) -> tuple[Call, None]:
    x, y = variable(d["x"]), variable(d["y"])
    return program(function([x, y], fused(x, y)), d["x"], d["y"])


def W3b(d: Arrays, p: Arrays) -> tuple[Call, None]:
    spot, strike, time = variable(d["S"]), variable(d["K"]), variable(d["T"])
    rate, sigma = p["r"], p["sigma"]
    spread = sigma * T.sqrt(time)
    d1 = (T.log(spot / strike) + (rate + 0.5 * sigma * sigma) * time) / spread
    d2 = d1 - spread

    def normal(z: Any) -> Any:
        return 0.5 + 0.5 * T.erf(z * float(1 / np.sqrt(2)))

    price = spot * normal(d1) - strike * T.exp(-rate * time) * normal(d2)
    return program(function([spot, strike, time], price), d["S"], d["K"], d["T"])


def W3c(d: Arrays, p: Arrays) -> tuple[Call, None]:
    x, y = variable(d["x"]), variable(d["y"])
    return program(function([x, y], fused(x, y).sum()), d["x"], d["y"])


def cross_entropy(logits: Any, labels: Any) -> Any:
    return T.nnet.categorical_crossentropy(T.nnet.softmax(logits), labels).mean()


def W4(d: Arrays, p: Arrays) -> tuple[Call, None]:
    z, labels = variable(d["z"], "z"), T.lvector("labels")
    loss = cross_entropy(z, labels)
    return program(function([z, labels], [loss, grad(loss, z)]), d["z"], d["lab"])


def W5(d: Arrays, p: Arrays) -> tuple[Call, State]:
    weights = w1, b1, w2, b2, w3, b3 = [shared(d[k], name=k) for k in MLP]
    speeds = [shared(d[k] * 0) for k in MLP]
    x, labels = variable(d["x"], "x"), T.lvector("labels")
    h1 = T.nnet.relu(T.dot(x, w1) + b1)
    h2 = T.nnet.relu(T.dot(h1, w2) + b2)
    loss = cross_entropy(T.dot(h2, w3) + b3, labels)
    updates = []
    for weight, speed, gradient in zip(weights, speeds, grad(loss, weights), strict=True):
        faster = p["mom"] * speed - p["lr"] * gradient
        updates += [(speed, faster), (weight, weight + faster)]
    step = function([x, labels], loss, updates=updates)
    return program(step, d["x"], d["lab"])[0], lambda: {k: w.get_value() for k, w in zip(MLP, weights, strict=True)}


def W10(d: Arrays, p: Arrays) -> tuple[Call, None]:
    x = variable(d["x"], "x")
    y = chain(x, d["c"].tolist(), T).sum()
    return program(function([x], [y, grad(y, x)]), d["x"])


def rosenbrock(d: Arrays) -> Any:
    x = variable(d["x0"], "x")
    left, right = x[:-1], x[1:]
    y = (100 * (right - left * left) ** 2 + (1 - left) ** 2).sum()
    return function([x], [y, grad(y, x)])


def W11(d: Arrays, p: Arrays) -> tuple[Call, None]:
    return minimised(rosenbrock(d), d["x0"]), None


def W11p(d: Arrays, p: Arrays) -> tuple[Call, None]:
    compiled, x = rosenbrock(d), d["x0"]
    return lambda: compiled(x), None


def W14(d: Arrays, p: Arrays) -> tuple[Call, None]:
    x = variable(d["X"], "X")
    z = (x - x.mean(0)) / x.std(0)
    return program(function([x], [z, T.argmax(z, axis=1)]), d["X"])
