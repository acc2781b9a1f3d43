"""The peer that all of this is about: symtensor, each program written as its user would."""

from importlib.metadata import PackageNotFoundError, version
from typing import Any

import numpy as np
from programs import Arrays, Call, State, as_tuple, chain, minimised

MLP = ("W1", "b1", "W2", "b2", "W3", "b3")


def setup(config: dict[str, Any]) -> dict[str, str]:
    global T, function, grad, scan, shared
    import symtensor
    import symtensor.tensor as T
    from symtensor import function, grad, scan, shared

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


def W7(d: Arrays, p: Arrays) -> tuple[Call, State]:
    W, U, b = weights = [shared(d[k], name=k) for k in "WUb"]
    x = variable(d["x"], "x")
    batch, size = d["x"].shape[1], len(d["U"])
    zeros = T.zeros((batch, size))

    def step(row: Any, h: Any, c: Any, U: Any) -> Any:
        z = row + T.dot(h, U)
        i, f, g, o = (z[:, k * size : (k + 1) * size] for k in range(4))
        c = T.nnet.sigmoid(f) * c + T.nnet.sigmoid(i) * T.tanh(g)
        return T.nnet.sigmoid(o) * T.tanh(c), c

    (h, _), _ = scan(step, [T.dot(x, W) + b], [zeros, zeros], [U], strict=True)
    loss = (h[-1] ** 2).mean()
    updates = [(w, w - p["lr"] * g) for w, g in zip(weights, grad(loss, weights), strict=True)]
    train = function([x], loss, updates=updates)
    return program(train, d["x"])[0], lambda: {k: w.get_value() for k, w in zip("WUb", weights, strict=True)}


def W9(d: Arrays, p: Arrays) -> tuple[Call, None]:
    x, r, n = T.dscalar("x"), T.dscalar("r"), T.lscalar("n")
    path, _ = scan(lambda x: r * x * (1 - x), outputs_info=x, n_steps=n)
    return program(function([x, r, n], path[-1]), d["x0"], d["r"], p["n"])


def squashed(A: Any, x0: Any, B: Any) -> Any:
    states, _ = scan(lambda row, x: T.tanh(T.dot(A, x) + row), B, x0)
    loss = (states**2).mean()
    return function([A, x0, B], [loss, *grad(loss, [A, x0])])


def W9m(d: Arrays, p: Arrays) -> tuple[Call, None]:
    A, x0, B = (T.tensor("float64", shape=shape) for shape in ((3, 3), (3, 3), (None, 3, 3)))
    return program(squashed(A, x0, B), d["A"], d["x0"], d["B"])


def W9d(d: Arrays, p: Arrays) -> tuple[Call, None]:
    return program(squashed(*[variable(d[k], k) for k in ("A", "x0", "B")]), d["A"], d["x0"], d["B"])


def W9k(d: Arrays, p: Arrays) -> tuple[Call, None]:
    F, h, log_q = (T.tensor("float64", shape=shape) for shape in ((4, 4), (4,), (4,)))
    log_r, y = T.dscalar("log_r"), T.dvector("y")
    noise, r = T.diag(T.exp(log_q)), T.exp(log_r)

    def step(seen: Any, m: Any, P: Any) -> Any:
        m, P = T.dot(F, m), T.dot(T.dot(F, P), F.T) + noise
        v = T.dot(P, h)
        s, e = T.dot(h, v) + r, seen - T.dot(h, m)
        k = v / s
        return m + k * e, P - T.outer(k, v), -0.5 * (T.log(2 * np.pi * s) + e * e / s)

    (_, _, terms), _ = scan(step, y, [T.zeros(4), T.eye(4), None])
    value = terms.sum()
    compiled = function([F, log_q, log_r, h, y], [value, *grad(value, [F, log_q, log_r])])
    return program(compiled, *[d[k] for k in ("F", "log_q", "log_r", "h", "y")])


def leapfrog(potential: Any, inputs: Any, p: Arrays) -> Any:
    q, momentum = (T.tensor("float64", shape=(10,)) for _ in range(2))
    n, size = T.lscalar("n"), p["size"]

    def slope(q: Any) -> Any:
        return grad(potential(q), q)

    def leap(q: Any, momentum: Any) -> Any:
        q = q + size * momentum
        return q, momentum - size * slope(q)

    (path, momenta), _ = scan(leap, outputs_info=[q, momentum - size / 2 * slope(q)], n_steps=n)
    return function([q, momentum, *inputs, n], [path[-1], momenta[-1] + size / 2 * slope(path[-1])])


def W9h(d: Arrays, p: Arrays) -> tuple[Call, None]:
    x, y = T.tensor("float64", shape=(50, 10)), T.tensor("float64", shape=(50,))

    def potential(q: Any) -> Any:
        z = T.dot(x, q)
        return (T.nnet.softplus(z) - y * z).sum() + (q**2).sum() / 2

    return program(leapfrog(potential, [x, y], p), d["q"], d["p"], d["x"], d["y"], p["n"])


def W9g(d: Arrays, p: Arrays) -> tuple[Call, None]:
    S = T.tensor("float64", shape=(10, 10))
    return program(leapfrog(lambda q: T.dot(q, T.dot(S, q)) / 2, [S], p), d["q"], d["p"], d["S"], p["n"])


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
