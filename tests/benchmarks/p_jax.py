"""Peer: ``jax.jit`` on the CPU. NumPy arrays in and out (``np.asarray`` of a result copies nothing)."""

import os
from typing import Any

import numpy as np
from programs import Arrays, Call, State, as_tuple, chain, minimised

MLP = ("W1", "b1", "W2", "b2", "W3", "b3")


def setup(config: dict[str, Any]) -> dict[str, str]:
    global jax, jnp
    os.environ["JAX_PLATFORMS"] = "cpu"
    os.environ["JAX_ENABLE_X64"] = "1" if config["dtype"] == "float64" else "0"
    os.environ["JAX_ENABLE_COMPILATION_CACHE"] = "true"
    os.environ["JAX_COMPILATION_CACHE_DIR"] = config["cache"]
    os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0"
    os.environ["JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES"] = "-1"
    import jax
    import jax.numpy as jnp

    jax.devices()
    return {"jax": jax.__version__}


def program(compiled: Any, *arguments: Any) -> tuple[Call, None]:
    return lambda: tuple(np.asarray(r) for r in as_tuple(compiled(*arguments))), None


def W1(d: Arrays, p: Arrays) -> tuple[Call, None]:
    return program(jax.jit(lambda x, y: x * y + x), d["x"], d["y"])


def W1n(d: Arrays, p: Arrays) -> tuple[Call, None]:
    compiled = jax.jit(lambda x, y: x * y + x)
    x, y = jnp.asarray(d["x"]), jnp.asarray(d["y"])
    return lambda: (compiled(x, y).block_until_ready(),), None


def W2(d: Arrays, p: Arrays) -> tuple[Call, State]:
    def loss(state: Any, x: Any, y: Any) -> Any:
        w, b = state
        p_1 = 1 / (1 + jnp.exp(-jnp.dot(x, w) - b))
        xent = -y * jnp.log(p_1) - (1 - y) * jnp.log(1 - p_1)
        return xent.mean() + 0.01 * (w**2).sum(), (p_1 > 0.5, xent)

    def step(state: Any, x: Any, y: Any) -> Any:
        gradients, results = jax.grad(loss, has_aux=True)(state, x, y)
        return jax.tree.map(lambda a, g: a - 0.1 * g, state, gradients), results

    compiled = jax.jit(step, donate_argnums=0)
    state = (jnp.array(d["w"]), jnp.array(d["b"]))

    def call() -> tuple[Any, ...]:
        nonlocal state
        state, (prediction, xent) = compiled(state, d["x"], d["y"])
        return np.asarray(prediction), np.asarray(xent)

    return call, lambda: dict(zip("wb", state, strict=True))


def fused(x: Any, y: Any) -> Any:
    return jnp.sqrt(jnp.exp(-(x**2)) + jnp.tanh(y) * x + 2)


def W3a(d: Arrays, p: Arrays) -> tuple[Call, None]:
    return program(jax.jit(fused), d["x"], d["y"])


def W3b(d: Arrays, p: Arrays) -> tuple[Call, None]:
    rate, sigma = p["r"], p["sigma"]

    def price(spot: Any, strike: Any, time: Any) -> Any:
        spread = sigma * jnp.sqrt(time)
        d1 = (jnp.log(spot / strike) + (rate + 0.5 * sigma * sigma) * time) / spread
        d2 = d1 - spread

        def normal(z: Any) -> Any:
            return 0.5 + 0.5 * jax.lax.erf(z * (1 / np.sqrt(2)))

        return spot * normal(d1) - strike * jnp.exp(-rate * time) * normal(d2)

    return program(jax.jit(price), d["S"], d["K"], d["T"])


def W3c(d: Arrays, p: Arrays) -> tuple[Call, None]:
    return program(jax.jit(lambda x, y: fused(x, y).sum()), d["x"], d["y"])


def cross_entropy(logits: Any, labels: Any) -> Any:
    return -jnp.take_along_axis(jax.nn.log_softmax(logits), labels[:, None], 1).mean()


def W4(d: Arrays, p: Arrays) -> tuple[Call, None]:
    return program(jax.jit(jax.value_and_grad(cross_entropy)), d["z"], d["lab"].astype("int32"))


def W5(d: Arrays, p: Arrays) -> tuple[Call, State]:
    def loss(weights: Any, x: Any, labels: Any) -> Any:
        w1, b1, w2, b2, w3, b3 = weights
        h1 = jax.nn.relu(x @ w1 + b1)
        h2 = jax.nn.relu(h1 @ w2 + b2)
        return cross_entropy(h2 @ w3 + b3, labels)

    def step(weights: Any, speeds: Any, x: Any, labels: Any) -> Any:
        value, gradients = jax.value_and_grad(loss)(weights, x, labels)
        speeds = [p["mom"] * v - p["lr"] * g for v, g in zip(speeds, gradients, strict=True)]
        return [w + v for w, v in zip(weights, speeds, strict=True)], speeds, value

    compiled = jax.jit(step, donate_argnums=(0, 1))
    x, labels = d["x"], d["lab"].astype("int32")
    weights = [jnp.array(d[k]) for k in MLP]
    speeds = [jnp.zeros_like(w) for w in weights]

    def call() -> tuple[Any, ...]:
        nonlocal weights, speeds
        weights, speeds, value = compiled(weights, speeds, x, labels)
        return (np.asarray(value),)

    return call, lambda: dict(zip(MLP, weights, strict=True))


def W7(d: Arrays, p: Arrays) -> tuple[Call, State]:
    batch, size = d["x"].shape[1], len(d["U"])

    def loss(weights: Any, x: Any) -> Any:
        W, U, b = weights

        def step(state: Any, row: Any) -> Any:
            h, c = state
            i, f, g, o = jnp.split(row + h @ U, 4, 1)
            c = jax.nn.sigmoid(f) * c + jax.nn.sigmoid(i) * jnp.tanh(g)
            return (jax.nn.sigmoid(o) * jnp.tanh(c), c), None

        zeros = jnp.zeros((batch, size), x.dtype)
        (h, _), _ = jax.lax.scan(step, (zeros, zeros), x @ W + b)
        return (h**2).mean()

    def step(weights: Any, x: Any) -> Any:
        value, gradients = jax.value_and_grad(loss)(weights, x)
        return [w - p["lr"] * g for w, g in zip(weights, gradients, strict=True)], value

    compiled = jax.jit(step, donate_argnums=0)
    weights = [jnp.array(d[k]) for k in "WUb"]

    def call() -> tuple[Any, ...]:
        nonlocal weights
        weights, value = compiled(weights, d["x"])
        return (np.asarray(value),)

    return call, lambda: dict(zip("WUb", weights, strict=True))


def W9(d: Arrays, p: Arrays) -> tuple[Call, None]:
    compiled = jax.jit(lambda x, r: jax.lax.fori_loop(0, p["n"], lambda i, x: r * x * (1 - x), x))
    return program(compiled, d["x0"], d["r"])


def W9m(d: Arrays, p: Arrays) -> tuple[Call, None]:
    def loss(A: Any, x0: Any, B: Any) -> Any:
        def step(x: Any, row: Any) -> Any:
            x = jnp.tanh(A @ x + row)
            return x, x

        return (jax.lax.scan(step, x0, B)[1] ** 2).mean()

    def value_and_gradients(A: Any, x0: Any, B: Any) -> Any:
        value, gradients = jax.value_and_grad(loss, (0, 1))(A, x0, B)
        return value, *gradients

    return program(jax.jit(value_and_gradients), d["A"], d["x0"], d["B"])


W9d = W9m


def W9k(d: Arrays, p: Arrays) -> tuple[Call, None]:
    def likelihood(F: Any, log_q: Any, log_r: Any, h: Any, y: Any) -> Any:
        noise, r = jnp.diag(jnp.exp(log_q)), jnp.exp(log_r)

        def step(state: Any, seen: Any) -> Any:
            m, P = state
            m, P = F @ m, F @ P @ F.T + noise
            v = P @ h
            s, e = h @ v + r, seen - h @ m
            k = v / s
            return (m + k * e, P - jnp.outer(k, v)), -0.5 * (jnp.log(2 * jnp.pi * s) + e * e / s)

        return jax.lax.scan(step, (jnp.zeros(4), jnp.eye(4)), y)[1].sum()

    def value_and_gradients(*arguments: Any) -> Any:
        value, gradients = jax.value_and_grad(likelihood, (0, 1, 2))(*arguments)
        return value, *gradients

    return program(jax.jit(value_and_gradients), *[d[k] for k in ("F", "log_q", "log_r", "h", "y")])


def leapfrog(potential: Any, p: Arrays, *arguments: Any) -> tuple[Call, None]:
    slope, size = jax.grad(potential), p["size"]

    def path(q: Any, momentum: Any, *data: Any) -> Any:
        def leap(_: Any, state: Any) -> Any:
            q, momentum = state
            q = q + size * momentum
            return q, momentum - size * slope(q, *data)

        q, momentum = jax.lax.fori_loop(0, p["n"], leap, (q, momentum - size / 2 * slope(q, *data)))
        return q, momentum + size / 2 * slope(q, *data)

    return program(jax.jit(path), *arguments)


def W9h(d: Arrays, p: Arrays) -> tuple[Call, None]:
    def potential(q: Any, x: Any, y: Any) -> Any:
        z = x @ q
        return (jax.nn.softplus(z) - y * z).sum() + (q**2).sum() / 2

    return leapfrog(potential, p, d["q"], d["p"], d["x"], d["y"])


def W9g(d: Arrays, p: Arrays) -> tuple[Call, None]:
    return leapfrog(lambda q, S: q @ S @ q / 2, p, d["q"], d["p"], d["S"])


def W10(d: Arrays, p: Arrays) -> tuple[Call, None]:
    factors = d["c"].tolist()
    return program(jax.jit(jax.value_and_grad(lambda x: chain(x, factors, jnp).sum())), d["x"])


def rosenbrock() -> Any:
    def value(x: Any) -> Any:
        left, right = x[:-1], x[1:]
        return (100 * (right - left * left) ** 2 + (1 - left) ** 2).sum()

    return jax.jit(jax.value_and_grad(value))


def W11(d: Arrays, p: Arrays) -> tuple[Call, None]:
    compiled = rosenbrock()

    def value_and_gradient(x: Any) -> tuple[float, Any]:
        value, gradient = compiled(x)
        return float(value), np.asarray(gradient)

    return minimised(value_and_gradient, d["x0"]), None


def W11p(d: Arrays, p: Arrays) -> tuple[Call, None]:
    return program(rosenbrock(), d["x0"])


def W14(d: Arrays, p: Arrays) -> tuple[Call, None]:
    def standardised(x: Any) -> Any:
        z = (x - x.mean(0)) / x.std(0)
        return z, z.argmax(1)

    return program(jax.jit(standardised), d["X"])
