"""Peer: numba, loops written by hand (``fastmath``; ``prange`` with more than one thread)."""

import math
from typing import Any

import numpy as np
from programs import Arrays, Call, minimised


def setup(config: dict[str, Any]) -> dict[str, str]:
    global numba, parallel
    import numba

    parallel = config["threads"] > 1
    numba.set_num_threads(config["threads"])
    return {"numba": numba.__version__}


def W1(d: Arrays, p: Arrays) -> tuple[Call, None]:
    @numba.njit(fastmath=True)
    def compiled(x, y):
        out = np.empty_like(x)
        for i in range(x.size):
            out[i] = x[i] * y[i] + x[i]
        return out

    x, y = d["x"], d["y"]
    return lambda: (compiled(x, y),), None


W1n = W1


def W3a(d: Arrays, p: Arrays) -> tuple[Call, None]:
    two = d["x"].dtype.type(2)

    @numba.njit(fastmath=True, parallel=parallel)
    def compiled(x, y):
        out = np.empty_like(x)
        for i in numba.prange(x.size):
            out[i] = math.sqrt(math.exp(-x[i] * x[i]) + math.tanh(y[i]) * x[i] + two)
        return out

    return lambda: (compiled(d["x"], d["y"]),), None


def W3b(d: Arrays, p: Arrays) -> tuple[Call, None]:
    element = d["S"].dtype.type
    rate, sigma, half, scale = element(p["r"]), element(p["sigma"]), element(0.5), element(1 / np.sqrt(2))

    @numba.njit(fastmath=True, parallel=parallel)
    def compiled(spot, strike, time):
        out = np.empty_like(spot)
        for i in numba.prange(spot.size):
            spread = sigma * math.sqrt(time[i])
            d1 = (math.log(spot[i] / strike[i]) + (rate + half * sigma * sigma) * time[i]) / spread
            d2 = d1 - spread
            value = spot[i] * (half + half * math.erf(d1 * scale))
            out[i] = value - strike[i] * math.exp(-rate * time[i]) * (half + half * math.erf(d2 * scale))
        return out

    return lambda: (compiled(d["S"], d["K"], d["T"]),), None


def W3c(d: Arrays, p: Arrays) -> tuple[Call, None]:
    two = d["x"].dtype.type(2)

    @numba.njit(fastmath=True, parallel=parallel)
    def compiled(x, y):
        total = 0.0
        for i in numba.prange(x.size):
            total += math.sqrt(math.exp(-x[i] * x[i]) + math.tanh(y[i]) * x[i] + two)
        return total

    return lambda: (np.asarray(compiled(d["x"], d["y"])),), None


def W9(d: Arrays, p: Arrays) -> tuple[Call, None]:
    @numba.njit
    def compiled(x, r, n):
        for _ in range(n):
            x = r * x * (1 - x)
        return x

    x, r, n = float(d["x0"]), float(d["r"]), p["n"]
    return lambda: (np.float64(compiled(x, r, n)),), None


def W9m(d: Arrays, p: Arrays) -> tuple[Call, None]:
    """With its gradient, written by hand."""

    @numba.njit(fastmath=True)
    def compiled(A, x0, B):
        steps = len(B)
        states = np.empty((steps + 1, 3, 3))
        states[0] = x0
        value = 0.0
        for t in range(steps):
            for i in range(3):
                for j in range(3):
                    total = B[t, i, j]
                    for k in range(3):
                        total += A[i, k] * states[t, k, j]
                    total = math.tanh(total)
                    states[t + 1, i, j] = total
                    value += total * total
        scale = 2 / (steps * 9)
        dx, dA, dz = np.zeros((3, 3)), np.zeros((3, 3)), np.empty((3, 3))
        for t in range(steps, 0, -1):
            for i in range(3):
                for j in range(3):
                    x = states[t, i, j]
                    dz[i, j] = (dx[i, j] + scale * x) * (1 - x * x)
            for i in range(3):
                for j in range(3):
                    total = 0.0
                    for k in range(3):
                        dA[i, j] += dz[i, k] * states[t - 1, j, k]
                        total += A[k, i] * dz[k, j]
                    dx[i, j] = total
        return value / (steps * 9), dA, dx

    return lambda: compiled(d["A"], d["x0"], d["B"]), None


W9d = W9m


def W9h(d: Arrays, p: Arrays) -> tuple[Call, None]:
    @numba.njit(fastmath=True)
    def push(q, momentum, x, y, size):
        for j in range(q.size):
            momentum[j] -= size * q[j]
        for i in range(len(x)):
            z = 0.0
            for j in range(q.size):
                z += x[i, j] * q[j]
            error = size * (1 / (1 + math.exp(-z)) - y[i])
            for j in range(q.size):
                momentum[j] -= error * x[i, j]

    return leapfrog(push, d, p, d["x"], d["y"])


def W9g(d: Arrays, p: Arrays) -> tuple[Call, None]:
    @numba.njit(fastmath=True)
    def push(q, momentum, S, size):
        for i in range(q.size):
            total = 0.0
            for j in range(q.size):
                total += S[i, j] * q[j]
            momentum[i] -= size * total

    return leapfrog(push, d, p, d["S"])


def leapfrog(push: Any, d: Arrays, p: Arrays, *data: Any) -> tuple[Call, None]:
    """``push(q, momentum, *data, size)`` changes the momentum by ``-size`` times the potential's gradient."""

    @numba.njit(fastmath=True)
    def compiled(q, momentum, size, n, *data):
        q, momentum = q.copy(), momentum.copy()
        push(q, momentum, *data, size / 2)
        for _ in range(n):
            for j in range(q.size):
                q[j] += size * momentum[j]
            push(q, momentum, *data, size)
        push(q, momentum, *data, -size / 2)
        return q, momentum

    return lambda: compiled(d["q"], d["p"], p["size"], p["n"], *data), None


def rosenbrock() -> Any:
    @numba.njit
    def compiled(x):
        gradient = np.zeros(x.size)
        value = 0.0
        for i in range(x.size - 1):
            bend = x[i + 1] - x[i] * x[i]
            gap = 1 - x[i]
            value += 100 * bend * bend + gap * gap
            gradient[i] += -400 * x[i] * bend - 2 * gap
            gradient[i + 1] += 200 * bend
        return value, gradient

    return compiled


def W11(d: Arrays, p: Arrays) -> tuple[Call, None]:
    return minimised(rosenbrock(), d["x0"]), None


def W11p(d: Arrays, p: Arrays) -> tuple[Call, None]:
    compiled, x = rosenbrock(), d["x0"]
    return lambda: compiled(x), None
