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
