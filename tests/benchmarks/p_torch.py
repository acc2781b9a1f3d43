"""Peer: torch on the CPU, eager or (variant ``compile``) ``torch.compile``. NumPy in and out, no copies."""

import os
from typing import Any

import numpy as np
from programs import Arrays, Call, NotSupported, State, as_tuple, chain, minimised

MLP = ("W1", "b1", "W2", "b2", "W3", "b3")


def setup(config: dict[str, Any]) -> dict[str, str]:
    global torch, functional, compiled
    if config["variant"] == "compile":
        os.environ["TORCHINDUCTOR_CACHE_DIR"] = os.path.join(config["cache"], "inductor")
        os.environ["TORCHINDUCTOR_COMPILE_THREADS"] = str(config["threads"])
    import torch
    import torch.nn.functional as functional

    torch.set_num_threads(config["threads"])

    def compiled(f: Any) -> Any:
        return torch.compile(f, fullgraph=True, dynamic=False) if config["variant"] == "compile" else f

    return {"torch": torch.__version__}


def leaf(array: Any) -> Any:
    return torch.tensor(array).requires_grad_()


def program(f: Any, *arguments: Any) -> tuple[Call, None]:
    run = compiled(f)

    def call() -> tuple[Any, ...]:
        with torch.no_grad():
            results = as_tuple(run(*[torch.from_numpy(a) for a in arguments]))
        return tuple(r.numpy() for r in results)

    return call, None


def value_and_gradient(f: Any, array: Any, *others: Any) -> Call:
    run = compiled(f)

    def call() -> tuple[Any, ...]:
        x = torch.from_numpy(array).requires_grad_()
        value = run(x, *[torch.from_numpy(a) for a in others])
        (gradient,) = torch.autograd.grad(value, (x,))
        return value.detach().numpy(), gradient.numpy()

    return call


def W1(d: Arrays, p: Arrays) -> tuple[Call, None]:
    return program(lambda x, y: x * y + x, d["x"], d["y"])


def W1n(d: Arrays, p: Arrays) -> tuple[Call, None]:
    run = compiled(lambda x, y: x * y + x)
    x, y = torch.from_numpy(d["x"]), torch.from_numpy(d["y"])
    return lambda: (run(x, y),), None


def W2(d: Arrays, p: Arrays) -> tuple[Call, State]:
    w, b = leaf(d["w"]), leaf(d["b"])

    def loss(w: Any, b: Any, x: Any, y: Any) -> Any:
        p_1 = 1 / (1 + torch.exp(-(x @ w) - b))
        xent = -y * torch.log(p_1) - (1 - y) * torch.log(1 - p_1)
        return xent.mean() + 0.01 * (w**2).sum(), p_1 > 0.5, xent

    run = compiled(loss)

    def call() -> tuple[Any, ...]:
        cost, prediction, xent = run(w, b, torch.from_numpy(d["x"]), torch.from_numpy(d["y"]))
        gw, gb = torch.autograd.grad(cost, (w, b))
        with torch.no_grad():
            w.sub_(gw, alpha=0.1)
            b.sub_(gb, alpha=0.1)
        return prediction.numpy(), xent.detach().numpy()

    return call, lambda: {"w": w.detach().numpy(), "b": b.detach().numpy()}


def fused(x: Any, y: Any) -> Any:
    return torch.sqrt(torch.exp(-(x**2)) + torch.tanh(y) * x + 2)


def W3a(d: Arrays, p: Arrays) -> tuple[Call, None]:
    return program(fused, d["x"], d["y"])


def W3b(d: Arrays, p: Arrays) -> tuple[Call, None]:
    rate, sigma, scale = p["r"], p["sigma"], float(1 / np.sqrt(2))

    def price(spot: Any, strike: Any, time: Any) -> Any:
        spread = sigma * torch.sqrt(time)
        d1 = (torch.log(spot / strike) + (rate + 0.5 * sigma * sigma) * time) / spread
        d2 = d1 - spread
        value = spot * (0.5 + 0.5 * torch.erf(d1 * scale))
        return value - strike * torch.exp(-rate * time) * (0.5 + 0.5 * torch.erf(d2 * scale))

    return program(price, d["S"], d["K"], d["T"])


def W3c(d: Arrays, p: Arrays) -> tuple[Call, None]:
    return program(lambda x, y: fused(x, y).sum(), d["x"], d["y"])


def W4(d: Arrays, p: Arrays) -> tuple[Call, None]:
    return value_and_gradient(lambda z, labels: functional.cross_entropy(z, labels), d["z"], d["lab"]), None


def W5(d: Arrays, p: Arrays) -> tuple[Call, State]:
    weights = [leaf(d[k]) for k in MLP]
    optimiser = torch.optim.SGD(weights, lr=p["lr"], momentum=p["mom"])

    def loss(weights: Any, x: Any, labels: Any) -> Any:
        w1, b1, w2, b2, w3, b3 = weights
        h1 = torch.relu(torch.addmm(b1, x, w1))
        h2 = torch.relu(torch.addmm(b2, h1, w2))
        return functional.cross_entropy(torch.addmm(b3, h2, w3), labels)

    run = compiled(loss)

    def call() -> tuple[Any, ...]:
        value = run(weights, torch.from_numpy(d["x"]), torch.from_numpy(d["lab"]))
        optimiser.zero_grad()
        value.backward()
        optimiser.step()
        return (value.detach().numpy(),)

    return call, lambda: {k: w.detach().numpy() for k, w in zip(MLP, weights, strict=True)}


def W7(d: Arrays, p: Arrays) -> tuple[Call, State]:
    size, _ = d["U"].shape
    model = torch.nn.LSTM(d["x"].shape[2], size)
    with torch.no_grad():
        model.weight_ih_l0.copy_(torch.from_numpy(d["W"]).t())
        model.weight_hh_l0.copy_(torch.from_numpy(d["U"]).t())
        model.bias_ih_l0.copy_(torch.from_numpy(d["b"]))
        model.bias_hh_l0.zero_()
    model.bias_hh_l0.requires_grad_(False)
    optimiser = torch.optim.SGD([w for w in model.parameters() if w.requires_grad], lr=p["lr"])
    run = compiled(lambda x: (model(x)[1][0] ** 2).mean())

    def call() -> tuple[Any, ...]:
        value = run(torch.from_numpy(d["x"]))
        optimiser.zero_grad()
        value.backward()
        optimiser.step()
        return (value.detach().numpy(),)

    weights = {"W": model.weight_ih_l0, "U": model.weight_hh_l0, "b": model.bias_ih_l0}
    return call, lambda: {k: w.detach().numpy().T for k, w in weights.items()}


def W9(d: Arrays, p: Arrays) -> tuple[Call, None]:
    not_unrolled()

    def run(x: Any, r: Any) -> Any:
        for _ in range(p["n"]):
            x = r * x * (1 - x)
        return x

    return program(run, d["x0"], d["r"])


def not_unrolled() -> None:
    """Loops are run by Python; torch.compile would write each of their steps out."""
    if compiled(max) is not max:
        raise NotSupported("torch.compile unrolls loops")


def value_and_gradients(f: Any, wanted: Any, *others: Any) -> tuple[Call, None]:
    not_unrolled()

    def call() -> tuple[Any, ...]:
        leaves = [torch.from_numpy(a).requires_grad_() for a in wanted]
        value = f(*leaves, *[torch.from_numpy(a) for a in others])
        gradients = torch.autograd.grad(value, leaves)
        return value.detach().numpy(), *[g.numpy() for g in gradients]

    return call, None


def W9m(d: Arrays, p: Arrays) -> tuple[Call, None]:
    def loss(A: Any, x: Any, B: Any) -> Any:
        states = []
        for row in B:
            x = torch.tanh(torch.addmm(row, A, x))
            states.append(x)
        return (torch.stack(states) ** 2).mean()

    return value_and_gradients(loss, (d["A"], d["x0"]), d["B"])


W9d = W9m


def W9k(d: Arrays, p: Arrays) -> tuple[Call, None]:
    def likelihood(F: Any, log_q: Any, log_r: Any, h: Any, y: Any) -> Any:
        noise, r = torch.diag(torch.exp(log_q)), torch.exp(log_r)
        m, P = torch.zeros(4, dtype=F.dtype), torch.eye(4, dtype=F.dtype)
        spreads, errors = [], []
        for seen in y:
            m, P = F @ m, F @ P @ F.T + noise
            v = P @ h
            s, e = h @ v + r, seen - h @ m
            k = v / s
            m, P = m + k * e, P - torch.outer(k, v)
            spreads.append(s)
            errors.append(e)
        s, e = torch.stack(spreads), torch.stack(errors)
        return (-0.5 * (torch.log(2 * torch.pi * s) + e * e / s)).sum()

    return value_and_gradients(likelihood, (d["F"], d["log_q"], d["log_r"]), d["h"], d["y"])


def leapfrog(slope: Any, d: Arrays, p: Arrays) -> tuple[Call, None]:
    """The gradient is written by hand: autograd would make every step several times slower."""
    not_unrolled()
    size = p["size"]

    def path(q: Any, momentum: Any) -> Any:
        momentum = momentum - size / 2 * slope(q)
        for _ in range(p["n"]):
            q = q + size * momentum
            momentum = momentum - size * slope(q)
        return q, momentum + size / 2 * slope(q)

    return program(path, d["q"], d["p"])


def W9h(d: Arrays, p: Arrays) -> tuple[Call, None]:
    x, y = torch.from_numpy(d["x"]), torch.from_numpy(d["y"])
    turned = x.T.contiguous()
    return leapfrog(lambda q: torch.addmv(q, turned, torch.sigmoid(torch.mv(x, q)) - y), d, p)


def W9g(d: Arrays, p: Arrays) -> tuple[Call, None]:
    S = torch.from_numpy(d["S"])
    return leapfrog(lambda q: torch.mv(S, q), d, p)


def W10(d: Arrays, p: Arrays) -> tuple[Call, None]:
    factors = d["c"].tolist()
    return value_and_gradient(lambda x: chain(x, factors, torch).sum(), d["x"]), None


def rosenbrock(x: Any) -> Any:
    left, right = x[:-1], x[1:]
    return (100 * (right - left * left) ** 2 + (1 - left) ** 2).sum()


def W11(d: Arrays, p: Arrays) -> tuple[Call, None]:
    run = compiled(rosenbrock)

    def value_and_slope(array: Any) -> tuple[float, Any]:
        x = torch.tensor(array).requires_grad_()
        value = run(x)
        (gradient,) = torch.autograd.grad(value, (x,))
        return float(value.detach()), gradient.numpy()

    return minimised(value_and_slope, d["x0"]), None


def W11p(d: Arrays, p: Arrays) -> tuple[Call, None]:
    return value_and_gradient(rosenbrock, d["x0"]), None


def W14(d: Arrays, p: Arrays) -> tuple[Call, None]:
    def standardised(x: Any) -> Any:
        z = (x - x.mean(0)) / x.std(0, correction=0)
        return z, z.argmax(1)

    return program(standardised, d["X"])
