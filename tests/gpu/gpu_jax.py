"""Peer: ``jax.jit``. Arrays stay on the device; a state is donated, so that it may be written in place."""

import os
from typing import Any

import numpy as np
from programs_of_peers import Builders, Inputs, Program

MLP = ("W1", "b1", "W2", "b2", "W3", "b3")


def setup(config: dict[str, Any]) -> dict[str, str]:
    global jax, jnp
    if config["device"] != "cuda":
        os.environ["JAX_PLATFORMS"] = "cpu"
    os.environ["JAX_ENABLE_X64"] = "1"
    os.environ["XLA_PYTHON_CLIENT_PREALLOCATE"] = "false"
    import jax
    import jax.numpy as jnp

    found = jax.devices()[0].platform
    if config["device"] == "cuda" and found not in ("gpu", "cuda"):
        raise RuntimeError(f"JAX has no GPU here: its first device is {found}")
    return {"jax": jax.__version__}


def precision(tf32: bool) -> None:
    jax.config.update("jax_default_matmul_precision", "tensorfloat32" if tf32 else "highest")


def put(array: Any) -> Any:
    return jax.device_put(np.asarray(array, "int32" if array.dtype == "int64" else array.dtype)).block_until_ready()


def take(value: Any) -> Any:
    return np.asarray(value)


def synchronize() -> None:
    """Wait for the last call: programs run one after the other."""
    if _last:
        jax.block_until_ready(_last)


def forget() -> None:
    _last.clear()
    jax.clear_caches()


_last: list[Any] = []


def noted(results: Any) -> tuple[Any, ...]:
    values = tuple(results) if isinstance(results, (list, tuple)) else (results,)
    _last[:] = values
    return values


def program(names: str, d: Inputs, f: Any) -> Builders:
    def build() -> Program:
        run = jax.jit(f)
        sets = [[one[name] for name in names.split()] for one in d.device]
        return Program(lambda k: noted(run(*sets[k])))

    return {"jax": build}


def formula(x: Any, y: Any) -> Any:
    return jnp.sqrt(jnp.exp(-(x**2)) + jnp.tanh(y) * x + 2)


def fused(d: Inputs) -> Builders:
    return program("x y", d, formula)


def fused_sum(d: Inputs) -> Builders:
    return program("x y", d, lambda x, y: formula(x, y).sum())


def prices(d: Inputs) -> Builders:
    rate, sigma = d.parameters["r"], d.parameters["sigma"]

    def price(spot: Any, strike: Any, time: Any) -> Any:
        spread = sigma * jnp.sqrt(time)
        d1 = (jnp.log(spot / strike) + (rate + 0.5 * sigma * sigma) * time) / spread

        def normal(z: Any) -> Any:
            return 0.5 + 0.5 * jax.lax.erf(z * float(1 / np.sqrt(2)))

        return spot * normal(d1) - strike * jnp.exp(-rate * time) * normal(d1 - spread)

    return program("S K T", d, price)


def reduction(d: Inputs) -> Builders:
    kind, axis = d.parameters["kind"], d.parameters["axis"]
    return program("x", d, lambda x: getattr(x, kind)(axis))


def turned(d: Inputs) -> Builders:
    return program("x y", d, lambda x, y: x + y.T)


def scatter(d: Inputs) -> Builders:
    def added(places: Any, values: Any) -> Any:
        return jnp.zeros((d.parameters["rows"], *values.shape[1:]), values.dtype).at[places].add(values)

    return program("places values", d, added)


def loss_of(logits: Any, labels: Any) -> Any:
    return -jnp.take_along_axis(jax.nn.log_softmax(logits), labels[:, None], 1).mean()


def cross_entropy(d: Inputs) -> Builders:
    return program("z lab", d, jax.value_and_grad(loss_of))


def trainer(names: Any, inputs: str, d: Inputs, step: Any, extra: Any) -> Builders:
    """``step(weights, others, *inputs)`` gives the next weights, the next others and the results."""

    def build() -> Program:
        run = jax.jit(step, donate_argnums=(0, 1))
        weights = [jnp.array(d.shared[k]) for k in names]
        others = extra(weights)
        sets = [[one[name] for name in inputs.split()] for one in d.given]

        def call(k: int) -> tuple[Any, ...]:
            nonlocal weights, others
            weights, others, results = run(weights, others, *sets[k])
            _last[:] = weights
            return tuple(results)

        return Program(call, lambda: {k: np.asarray(w) for k, w in zip(names, weights, strict=True)})

    return {"jax": build}


def linear_relu(d: Inputs) -> Builders:
    return program("x w b", d, lambda x, w, b: jax.nn.relu(x @ w + b))


def overhead(d: Inputs) -> Builders:
    return trainer(["s"], "", d, lambda weights, others: ([weights[0] * 0.5 + 1], others, ()), lambda weights: [])


def perceptron(d: Inputs) -> Builders:
    def loss(weights: Any, x: Any, labels: Any) -> Any:
        w1, b1, w2, b2, w3, b3 = weights
        h1 = jax.nn.relu(x @ w1 + b1)
        h2 = jax.nn.relu(h1 @ w2 + b2)
        return loss_of(h2 @ w3 + b3, labels)

    def step(weights: Any, speeds: Any, x: Any, labels: Any) -> Any:
        value, gradients = jax.value_and_grad(loss)(weights, x, labels)
        rate, momentum = d.parameters["lr"], d.parameters["mom"]
        speeds = [momentum * v - rate * g for v, g in zip(speeds, gradients, strict=True)]
        return [w + v for w, v in zip(weights, speeds, strict=True)], speeds, (value,)

    return trainer(MLP, "x lab", d, step, lambda weights: [jnp.zeros_like(w) for w in weights])


def lstm(d: Inputs) -> Builders:
    batch, size = d.host[0]["x"].shape[1], len(d.shared["U"])

    def loss(weights: Any, x: Any) -> Any:
        W, U, b = weights

        def cell(state: Any, row: Any) -> Any:
            h, c = state
            i, f, g, o = jnp.split(row + h @ U, 4, 1)
            c = jax.nn.sigmoid(f) * c + jax.nn.sigmoid(i) * jnp.tanh(g)
            return (jax.nn.sigmoid(o) * jnp.tanh(c), c), None

        zeros = jnp.zeros((batch, size), x.dtype)
        (h, _), _ = jax.lax.scan(cell, (zeros, zeros), x @ W + b)
        return (h**2).mean()

    def step(weights: Any, others: Any, x: Any) -> Any:
        value, gradients = jax.value_and_grad(loss)(weights, x)
        rate = d.parameters["lr"]
        return [w - rate * g for w, g in zip(weights, gradients, strict=True)], others, (value,)

    return trainer("WUb", "x", d, step, lambda weights: [])


def host_small(d: Inputs) -> Builders:
    def build() -> Program:
        run = jax.jit(lambda x, y: x * y + x)
        a, b = d.host[0]["x"], d.host[0]["y"]
        return Program(lambda _: (np.asarray(run(a, b)),))

    return {"jax": build}


def host_logistic(d: Inputs) -> Builders:
    def loss(state: Any, x: Any, y: Any) -> Any:
        w, b = state
        p_1 = 1 / (1 + jnp.exp(-jnp.dot(x, w) - b))
        xent = -y * jnp.log(p_1) - (1 - y) * jnp.log(1 - p_1)
        return xent.mean() + 0.01 * (w**2).sum(), (p_1 > 0.5, xent)

    def step(state: Any, x: Any, y: Any) -> Any:
        gradients, results = jax.grad(loss, has_aux=True)(state, x, y)
        return [a - 0.1 * g for a, g in zip(state, gradients, strict=True)], results

    def build() -> Program:
        run = jax.jit(step, donate_argnums=0)
        state = [jnp.array(d.shared[k]) for k in "wb"]
        x, y = d.host[0]["x"], d.host[0]["y"]

        def call(_: int) -> tuple[Any, ...]:
            nonlocal state
            state, results = run(state, x, y)
            return tuple(np.asarray(r) for r in results)

        return Program(call, lambda: {k: np.asarray(v) for k, v in zip("wb", state, strict=True)})

    return {"jax": build}
