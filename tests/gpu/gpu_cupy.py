"""Peer: CuPy, elementwise chains by ``cupy.fuse``. It has no gradients: they are written by hand.

On a machine without a GPU the same code runs with NumPy, to be checked, not to be measured.
"""

from typing import Any

import numpy as np
from programs_of_peers import Builders, Inputs, Program

MLP = ("W1", "b1", "W2", "b2", "W3", "b3")


def setup(config: dict[str, Any]) -> dict[str, str]:
    global cp, fuse, erf
    if config["device"] != "cuda":
        from scipy.special import erf

        cp, fuse = np, lambda name: lambda f: f
        return {"numpy, for CuPy": np.__version__}
    import cupy as cp
    from cupyx.scipy.special import erf

    fuse = lambda name: cp.fuse(kernel_name=name)  # noqa: E731
    cp.zeros(1)
    return {"cupy": cp.__version__}


def precision(tf32: bool) -> None:
    if cp is np:
        return
    from cupy._core import _routines_linalg as products  # what CUPY_TF32 sets, for whole processes, has no public name

    products.set_compute_type("float32", products.COMPUTE_TYPE_TF32 if tf32 else products.COMPUTE_TYPE_DEFAULT)


def put(array: Any) -> Any:
    return cp.asarray(array)


def take(value: Any) -> Any:
    return value if cp is np else cp.asnumpy(value)


def synchronize() -> None:
    if cp is not np:
        cp.cuda.runtime.deviceSynchronize()


def forget() -> None:
    if cp is not np:
        cp.get_default_memory_pool().free_all_blocks()


def program(names: str, d: Inputs, f: Any) -> Builders:
    def build() -> Program:
        sets = [[one[name] for name in names.split()] for one in d.device]
        return Program(lambda k: f(*sets[k]))

    return {"cupy": build}


def formula() -> Any:
    @fuse("formula")
    def fused_formula(x: Any, y: Any) -> Any:
        return cp.sqrt(cp.exp(-(x * x)) + cp.tanh(y) * x + 2)

    return fused_formula


def fused(d: Inputs) -> Builders:
    run = formula()
    return program("x y", d, lambda x, y: (run(x, y),))


def fused_sum(d: Inputs) -> Builders:
    @fuse("formula_sum")
    def run(x: Any, y: Any) -> Any:
        return cp.sum(cp.sqrt(cp.exp(-(x * x)) + cp.tanh(y) * x + 2))

    return program("x y", d, lambda x, y: (run(x, y),))


def prices(d: Inputs) -> Builders:
    rate, sigma, scale = d.parameters["r"], d.parameters["sigma"], float(1 / np.sqrt(2))
    drift = rate + 0.5 * sigma * sigma

    @fuse("prices")
    def run(spot: Any, strike: Any, time: Any) -> Any:
        spread = sigma * cp.sqrt(time)
        d1 = (cp.log(spot / strike) + drift * time) / spread
        d2 = d1 - spread
        first, second = 0.5 + 0.5 * erf(d1 * scale), 0.5 + 0.5 * erf(d2 * scale)
        return spot * first - strike * cp.exp(-rate * time) * second

    return program("S K T", d, lambda *arrays: (run(*arrays),))


def reduction(d: Inputs) -> Builders:
    kind, axis = d.parameters["kind"], d.parameters["axis"]
    return program("x", d, lambda x: (getattr(x, kind)(axis=axis),))


def turned(d: Inputs) -> Builders:
    return program("x y", d, lambda x, y: (x + y.T,))


def scatter(d: Inputs) -> Builders:
    def added(places: Any, values: Any) -> Any:
        out = cp.zeros((d.parameters["rows"], *values.shape[1:]), values.dtype)
        cp.add.at(out, places, values)
        return (out,)

    return program("places values", d, added)


def linear_relu(d: Inputs) -> Builders:
    relu = fuse("relu")(lambda z, b: cp.maximum(z + b, 0))
    return program("x w b", d, lambda x, w, b: (relu(x @ w, b),))


class CrossEntropy:
    """The mean loss and its gradient: three passes, the exponentials kept in between."""

    def __init__(self) -> None:
        self.exponential = fuse("exponential")(lambda z, top: cp.exp(z - top))
        self.share = fuse("share")(lambda e, total, rows: e / (total * rows))

    def __call__(self, z: Any, labels: Any) -> tuple[Any, Any]:
        rows = cp.arange(len(z))
        top = z.max(axis=1, keepdims=True)
        gradient = self.exponential(z, top)
        total = gradient.sum(axis=1, keepdims=True)
        loss = (cp.log(total[:, 0]) + top[:, 0] - z[rows, labels]).mean()
        count = z.dtype.type(len(z))
        gradient = self.share(gradient, total, count)
        gradient[rows, labels] -= 1 / count
        return loss, gradient


def cross_entropy(d: Inputs) -> Builders:
    return program("z lab", d, CrossEntropy())


def perceptron(d: Inputs) -> Builders:
    def build() -> Program:
        weights = [cp.array(d.shared[k]) for k in MLP]
        speeds = [cp.zeros_like(w) for w in weights]
        rate, momentum = (np.float32(d.parameters[k]) for k in ("lr", "mom"))
        loss_and_slope = CrossEntropy()
        relu = fuse("relu")(lambda z, b: cp.maximum(z + b, 0))
        masked = fuse("masked")(lambda g, h: cp.where(h > 0, g, 0))
        faster = fuse("faster")(lambda v, g, momentum, rate: momentum * v - rate * g)

        def call(k: int) -> tuple[Any, ...]:
            x, labels = cp.asarray(d.given[k]["x"]), cp.asarray(d.given[k]["lab"])
            w1, b1, w2, b2, w3, b3 = weights
            h1 = relu(x @ w1, b1)
            h2 = relu(h1 @ w2, b2)
            loss, g3 = loss_and_slope(h2 @ w3 + b3, labels)
            g2 = masked(g3 @ w3.T, h2)
            g1 = masked(g2 @ w2.T, h1)
            gradients = (x.T @ g1, g1.sum(axis=0), h1.T @ g2, g2.sum(axis=0), h2.T @ g3, g3.sum(axis=0))
            for i, gradient in enumerate(gradients):
                speeds[i] = faster(speeds[i], gradient, momentum, rate)
                weights[i] += speeds[i]
            return (loss,)

        return Program(call, lambda: {k: take(w) for k, w in zip(MLP, weights, strict=True)})

    return {"cupy": build}


def overhead(d: Inputs) -> Builders:
    def build() -> Program:
        state = cp.array(d.shared["s"])
        step = fuse("step")(lambda s: s * 0.5 + 1)

        def call(_: int) -> tuple[Any, ...]:
            nonlocal state
            state = step(state)
            return ()

        return Program(call, lambda: {"s": take(state)})

    return {"cupy": build}


def host_small(d: Inputs) -> Builders:
    def build() -> Program:
        run = fuse("run")(lambda x, y: x * y + x)
        a, b = d.host[0]["x"], d.host[0]["y"]
        return Program(lambda _: (take(run(cp.asarray(a), cp.asarray(b))),))

    return {"cupy": build}


def host_logistic(d: Inputs) -> Builders:
    def build() -> Program:
        w, b = cp.array(d.shared["w"]), cp.array(d.shared["b"])
        probability = fuse("probability")(lambda z, b: 1 / (1 + cp.exp(-z - b)))
        entropy = fuse("entropy")(lambda p, y: -y * cp.log(p) - (1 - y) * cp.log(1 - p))

        def call(_: int) -> tuple[Any, ...]:
            nonlocal w, b
            x, y = cp.asarray(d.host[0]["x"]), cp.asarray(d.host[0]["y"])
            p_1 = probability(x @ w, b)
            xent = entropy(p_1, y)
            error = (p_1 - y) / np.float32(len(y))
            w = w - np.float32(0.1) * (x.T @ error + np.float32(0.02) * w)
            b = b - np.float32(0.1) * error.sum()
            return take(p_1 > 0.5), take(xent)

        return Program(call, lambda: {"w": take(w), "b": take(b)})

    return {"cupy": build}
