"""Peer: NumPy, with SciPy for erf. In float64 the same code is the reference for every peer."""

from typing import Any

import numpy as np
from programs import Arrays, Call, State, minimised

MLP = ("W1", "b1", "W2", "b2", "W3", "b3")


def setup(config: dict[str, Any]) -> dict[str, str]:
    return {"numpy": np.__version__}


def W1(d: Arrays, p: Arrays) -> tuple[Call, None]:
    x, y = d["x"], d["y"]
    return lambda: (x * y + x,), None


W1n = W1


def W2(d: Arrays, p: Arrays) -> tuple[Call, State]:
    x, y, w, b = d["x"], d["y"], d["w"].copy(), d["b"].copy()
    element = x.dtype.type
    one, rate, decay, rows = element(1), element(0.1), element(0.02), element(len(x))

    def call() -> tuple[Any, ...]:
        nonlocal w, b
        p_1 = one / (one + np.exp(-(x @ w) - b))
        xent = -y * np.log(p_1) - (one - y) * np.log(one - p_1)
        error = (p_1 - y) / rows
        w, b = w - rate * (x.T @ error + decay * w), b - rate * error.sum()
        return p_1 > 0.5, xent

    return call, lambda: {"w": w, "b": b}


def fused(x: Any, y: Any) -> Any:
    return np.sqrt(np.exp(-(x**2)) + np.tanh(y) * x + x.dtype.type(2))


def W3a(d: Arrays, p: Arrays) -> tuple[Call, None]:
    return lambda: (fused(d["x"], d["y"]),), None


def W3b(d: Arrays, p: Arrays) -> tuple[Call, None]:
    from scipy.special import erf

    spot, strike, time = d["S"], d["K"], d["T"]
    element = spot.dtype.type
    rate, sigma, half, scale = element(p["r"]), element(p["sigma"]), element(0.5), element(1 / np.sqrt(2))

    def call() -> tuple[Any, ...]:
        spread = sigma * np.sqrt(time)
        d1 = (np.log(spot / strike) + (rate + half * sigma * sigma) * time) / spread
        d2 = d1 - spread
        value = spot * (half + half * erf(d1 * scale))
        return (value - strike * np.exp(-rate * time) * (half + half * erf(d2 * scale)),)

    return call, None


def W3c(d: Arrays, p: Arrays) -> tuple[Call, None]:
    return lambda: (fused(d["x"], d["y"]).sum(),), None


def cross_entropy(logits: Any, labels: Any) -> tuple[Any, Any]:
    """The mean loss, and its gradient with respect to the logits."""
    rows = np.arange(len(logits))
    top = logits.max(1, keepdims=True)
    gradient = np.exp(logits - top)
    total = gradient.sum(1, keepdims=True)
    loss = -(logits[rows, labels] - top[:, 0] - np.log(total[:, 0])).mean()
    gradient /= total
    gradient[rows, labels] -= 1
    gradient /= logits.dtype.type(len(logits))
    return loss, gradient


def W4(d: Arrays, p: Arrays) -> tuple[Call, None]:
    return lambda: cross_entropy(d["z"], d["lab"]), None


def W5(d: Arrays, p: Arrays) -> tuple[Call, State]:
    x, labels = d["x"], d["lab"]
    weights = [d[k].copy() for k in MLP]
    speeds = [np.zeros_like(w) for w in weights]
    rate, momentum = x.dtype.type(p["lr"]), x.dtype.type(p["mom"])

    def call() -> tuple[Any, ...]:
        w1, b1, w2, b2, w3, b3 = weights
        h1 = np.maximum(x @ w1 + b1, 0)
        h2 = np.maximum(h1 @ w2 + b2, 0)
        loss, g3 = cross_entropy(h2 @ w3 + b3, labels)
        g2 = (g3 @ w3.T) * (h2 > 0)
        g1 = (g2 @ w2.T) * (h1 > 0)
        gradients = (x.T @ g1, g1.sum(0), h1.T @ g2, g2.sum(0), h2.T @ g3, g3.sum(0))
        for weight, speed, gradient in zip(weights, speeds, gradients, strict=True):
            speed *= momentum
            speed -= rate * gradient
            weight += speed
        return (loss,)

    return call, lambda: dict(zip(MLP, weights, strict=True))


def sigmoid(z: Any) -> Any:
    return 1 / (1 + np.exp(-z))


def W7(d: Arrays, p: Arrays) -> tuple[Call, State]:
    x = d["x"]
    steps, batch, width = x.shape
    W, U, b = weights = [d[k].copy() for k in "WUb"]
    size = len(U)
    rate = x.dtype.type(p["lr"])

    def call() -> tuple[Any, ...]:
        ahead = (x.reshape(-1, width) @ W + b).reshape(steps, batch, 4 * size)
        h, c = np.zeros((2, batch, size), x.dtype)
        tape = []
        for row in ahead:
            z = row + h @ U
            i, f, o = sigmoid(z[:, :size]), sigmoid(z[:, size : 2 * size]), sigmoid(z[:, 3 * size :])
            g = np.tanh(z[:, 2 * size : 3 * size])
            after = f * c + i * g
            squashed = np.tanh(after)
            tape.append((h, c, i, f, g, o, squashed))
            h, c = o * squashed, after
        loss = (h * h).mean()
        dh, dc = h * x.dtype.type(2 / h.size), np.zeros_like(c)
        dz = np.empty_like(ahead)
        dU = np.zeros_like(U)
        for t in range(steps - 1, -1, -1):
            before, c, i, f, g, o, squashed = tape[t]
            dc = dc + dh * o * (1 - squashed * squashed)
            dz[t, :, :size] = dc * g * i * (1 - i)
            dz[t, :, size : 2 * size] = dc * c * f * (1 - f)
            dz[t, :, 2 * size : 3 * size] = dc * i * (1 - g * g)
            dz[t, :, 3 * size :] = dh * squashed * o * (1 - o)
            dU += before.T @ dz[t]
            dh = dz[t] @ U.T
            dc = dc * f
        flat = dz.reshape(-1, 4 * size)
        for weight, gradient in zip(weights, (x.reshape(-1, width).T @ flat, dU, flat.sum(0)), strict=True):
            weight -= rate * gradient
        return (loss,)

    return call, lambda: {"W": W, "U": U, "b": b}


def W9(d: Arrays, p: Arrays) -> tuple[Call, None]:
    def call() -> tuple[Any, ...]:
        x, r = float(d["x0"]), float(d["r"])
        for _ in range(p["n"]):
            x = r * x * (1 - x)
        return (np.float64(x),)

    return call, None


def W9m(d: Arrays, p: Arrays) -> tuple[Call, None]:
    A, x0, B = d["A"], d["x0"], d["B"]

    def call() -> tuple[Any, ...]:
        states = np.empty((len(B) + 1, *x0.shape))
        states[0] = x = x0
        for t, row in enumerate(B):
            states[t + 1] = x = np.tanh(A @ x + row)
        scale = 2 / (len(B) * x0.size)
        dx, dA = np.zeros_like(x0), np.zeros_like(A)
        for t in range(len(B), 0, -1):
            dz = (dx + scale * states[t]) * (1 - states[t] ** 2)
            dA += dz @ states[t - 1].T
            dx = A.T @ dz
        return (states[1:] ** 2).mean(), dA, dx

    return call, None


W9d = W9m


def W9k(d: Arrays, p: Arrays) -> tuple[Call, None]:
    """The filter, and its derivatives by going through its steps in reverse."""
    F, h, log_q, log_r, y = (d[k] for k in ("F", "h", "log_q", "log_r", "y"))

    def call() -> tuple[Any, ...]:
        q, r = np.exp(log_q), np.exp(log_r)
        noise = np.diag(q)
        m, P = np.zeros(4), np.eye(4)
        total = 0.0
        tape = []
        for seen in y:
            ahead, spread = F @ m, F @ P @ F.T + noise
            v = spread @ h
            s, e = h @ v + r, seen - h @ ahead
            k = v / s
            tape.append((m, P, v, s, e, k))
            total -= 0.5 * (np.log(2 * np.pi * s) + e * e / s)
            m, P = ahead + k * e, spread - np.outer(k, v)
        dm, dP, dF, dq, dr = np.zeros(4), np.zeros((4, 4)), np.zeros((4, 4)), np.zeros(4), 0.0
        for m, P, v, s, e, k in reversed(tape):
            dk = dm * e - dP @ v
            de = dm @ k - e / s
            ds = -0.5 / s + 0.5 * (e / s) ** 2 - dk @ v / s**2
            dv = dk / s - dP.T @ k + ds * h
            dm = dm - de * h
            dP = dP + np.outer(dv, h)
            dr += ds
            dq += np.diag(dP)
            dF += dP @ F @ P.T + dP.T @ F @ P + np.outer(dm, m)
            dm, dP = F.T @ dm, F.T @ dP @ F
        return total, dF, dq * q, dr * r

    return call, None


def leapfrog(slope: Any, d: Arrays, p: Arrays) -> tuple[Call, None]:
    """Hamiltonian dynamics from position ``q`` and momentum ``p`` in the potential whose gradient is ``slope``."""

    def call() -> tuple[Any, ...]:
        size, q = p["size"], d["q"]
        momentum = d["p"] - size / 2 * slope(q)
        for _ in range(p["n"]):
            q = q + size * momentum
            momentum = momentum - size * slope(q)
        return q, momentum + size / 2 * slope(q)

    return call, None


def W9h(d: Arrays, p: Arrays) -> tuple[Call, None]:
    x, y = d["x"], d["y"]
    return leapfrog(lambda q: (sigmoid(x @ q) - y) @ x + q, d, p)


def W9g(d: Arrays, p: Arrays) -> tuple[Call, None]:
    return leapfrog(lambda q: d["S"] @ q, d, p)


def W10(d: Arrays, p: Arrays) -> tuple[Call, None]:
    """The chain of ``programs.chain``, and its derivative carried along by hand."""
    factors = d["c"]

    def call() -> tuple[Any, ...]:
        x = d["x"]
        slope = np.ones_like(x)
        for position, factor in enumerate(factors):
            match position % 5:
                case 0:
                    x, slope = x * factor, slope * factor
                case 1:
                    x, slope = np.sin(x), slope * np.cos(x)
                case 2:
                    x = x + factor
                case 3:
                    x = np.tanh(x)
                    slope = slope * (1 - x * x)
                case _:
                    x = np.exp(-x)
                    slope = -slope * x
        return x.sum(), slope

    return call, None


def rosenbrock(x: Any) -> tuple[Any, Any]:
    left, right = x[:-1], x[1:]
    bend, gap = right - left * left, 1 - left
    gradient = np.zeros_like(x)
    gradient[:-1] = -400 * left * bend - 2 * gap
    gradient[1:] += 200 * bend
    return (100 * bend * bend + gap * gap).sum(), gradient


def W11(d: Arrays, p: Arrays) -> tuple[Call, None]:
    return minimised(rosenbrock, d["x0"]), None


def W11p(d: Arrays, p: Arrays) -> tuple[Call, None]:
    return lambda: rosenbrock(d["x0"]), None


def W14(d: Arrays, p: Arrays) -> tuple[Call, None]:
    x = d["X"]

    def call() -> tuple[Any, ...]:
        z = (x - x.mean(0)) / x.std(0)
        return z, z.argmax(1)

    return call, None
