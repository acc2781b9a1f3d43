"""Peer: torch as it is, with ``torch.compile``, and captured by hand in CUDA graphs. Tensors stay on the device."""

import os
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
from programs_of_peers import Builders, Inputs, NotSupported, Program

MLP = ("W1", "b1", "W2", "b2", "W3", "b3")
EAGER, DEFAULT, REDUCE = "torch", "torch.compile", "torch.compile reduce-overhead"
MODULE, GRAPH, EAGER_GRAPH = "torch.compile module", "torch.compile + CUDA graph", "torch + CUDA graph"


def setup(config: dict[str, Any]) -> dict[str, str]:
    global torch, functional, device
    os.environ["TORCHINDUCTOR_CACHE_DIR"] = os.path.join(config["cache"], "inductor")
    warnings.filterwarnings("ignore")
    import torch
    import torch.nn.functional as functional

    device = torch.device("cuda" if config["device"] == "cuda" else "cpu")
    torch.zeros(1, device=device)
    torch.set_grad_enabled(False)
    torch._dynamo.config.recompile_limit = 64
    return {"torch": torch.__version__}


def precision(tf32: bool) -> None:
    torch.set_float32_matmul_precision("high" if tf32 else "highest")
    torch.backends.cudnn.allow_tf32 = tf32


def put(array: Any) -> Any:
    return torch.tensor(array, device=device)


def take(value: Any) -> Any:
    return value.detach().cpu().numpy()


def synchronize() -> None:
    if device.type == "cuda":
        torch.cuda.synchronize()


def forget() -> None:
    torch._dynamo.reset()
    if device.type == "cuda":
        torch.cuda.empty_cache()


def compiled(f: Any, mode: str | None = None) -> Any:
    return torch.compile(f, fullgraph=True, dynamic=False, mode=mode)


def new_step() -> None:
    torch.compiler.cudagraph_mark_step_begin()


def as_tuple(values: Any) -> tuple[Any, ...]:
    return tuple(values) if isinstance(values, (list, tuple)) else (values,)


def without_state(names: str, d: Inputs, f: Any) -> Builders:
    """The three ways to run a function of the named inputs."""
    sets = [[one[name] for name in names.split()] for one in d.device]

    def eager() -> Program:
        return Program(lambda k: as_tuple(f(*sets[k])))

    def default() -> Program:
        run = compiled(f)
        return Program(lambda k: as_tuple(run(*sets[k])))

    def reduce() -> Program:
        run = compiled(f, "reduce-overhead")

        def call(k: int) -> tuple[Any, ...]:
            new_step()
            return as_tuple(run(*sets[k]))

        return Program(call)

    return {EAGER: eager, DEFAULT: default, REDUCE: reduce}


def formula(x: Any, y: Any) -> Any:
    return torch.sqrt(torch.exp(-(x**2)) + torch.tanh(y) * x + 2)


def fused(d: Inputs) -> Builders:
    return without_state("x y", d, formula)


def fused_sum(d: Inputs) -> Builders:
    return without_state("x y", d, lambda x, y: formula(x, y).sum())


def prices(d: Inputs) -> Builders:
    rate, sigma, scale = d.parameters["r"], d.parameters["sigma"], float(1 / np.sqrt(2))

    def price(spot: Any, strike: Any, time: Any) -> Any:
        spread = sigma * torch.sqrt(time)
        d1 = (torch.log(spot / strike) + (rate + 0.5 * sigma * sigma) * time) / spread
        d2 = d1 - spread
        value = spot * (0.5 + 0.5 * torch.erf(d1 * scale))
        return value - strike * torch.exp(-rate * time) * (0.5 + 0.5 * torch.erf(d2 * scale))

    return without_state("S K T", d, price)


def reduction(d: Inputs) -> Builders:
    kind, axis = d.parameters["kind"], d.parameters["axis"]
    operation = {"max": torch.amax, "sum": torch.sum, "argmax": torch.argmax, "cumsum": torch.cumsum}[kind]
    if kind == "cumsum" and axis is None:
        return without_state("x", d, lambda x: operation(x.reshape(-1), 0))
    return without_state("x", d, (lambda x: operation(x)) if axis is None else (lambda x: operation(x, axis)))


def turned(d: Inputs) -> Builders:
    return without_state("x y", d, lambda x, y: x + y.T)


def scatter(d: Inputs) -> Builders:
    def added(places: Any, values: Any) -> Any:
        zeros = torch.zeros((d.parameters["rows"], *values.shape[1:]), dtype=values.dtype, device=device)
        return zeros.index_add_(0, places, values)

    return without_state("places values", d, added)


def linear_relu(d: Inputs) -> Builders:
    return without_state("x w b", d, lambda x, w, b: torch.relu(torch.addmm(b, x, w)))


def cross_entropy(d: Inputs) -> Builders:
    """Forward and backward in one graph (``torch.func``), and the forward pass compiled alone, with autograd."""
    loss = functional.cross_entropy

    def both(z: Any, labels: Any) -> Any:
        gradient, value = torch.func.grad_and_value(loss)(z, labels)
        return value, gradient

    def by_autograd(run: Any) -> Callable[[], Program]:
        def build() -> Program:
            leaves = [one["z"].detach().requires_grad_() for one in d.device]

            def call(k: int) -> tuple[Any, ...]:
                with torch.enable_grad():
                    value = run(leaves[k], d.device[k]["lab"])
                    (gradient,) = torch.autograd.grad(value, (leaves[k],))
                return value, gradient

            return Program(call)

        return build

    variants = without_state("z lab", d, both)
    return variants | {EAGER: by_autograd(loss), MODULE: by_autograd(compiled(loss))}


# Steps that keep a state --------------------------------------------------------------------------------------------


def tensors(arrays: dict[str, Any], names: Any) -> list[Any]:
    return [put(arrays[name]) for name in names]


def host_state(names: Any, weights: Any) -> Callable[[], dict[str, Any]]:
    return lambda: {k: take(w) for k, w in zip(names, weights, strict=True)}


def captured(step: Callable[..., Any], state: list[Any], inputs: list[Any]) -> Callable[[list[Any]], Any]:
    """A step captured as one CUDA graph: its inputs are copied to where the graph reads them, then it is replayed."""
    if device.type != "cuda":
        raise NotSupported("CUDA graphs need a device")
    before = [tensor.clone() for tensor in state]
    fixed = [tensor.clone() for tensor in inputs]
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(3):
            step(*fixed)
    torch.cuda.current_stream().wait_stream(side)
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        result = step(*fixed)
    for tensor, value in zip(state, before, strict=True):
        tensor.copy_(value)

    def call(given: list[Any]) -> Any:
        for target, value in zip(fixed, given, strict=True):
            target.copy_(value)
        graph.replay()
        return result

    return call


class Sets:
    """The tensors of a set by its number; those that are NumPy's are page-locked, and copied at each call."""

    def __init__(self, names: str, d: Inputs) -> None:
        self.tensors = [[torch.as_tensor(one[name]) for name in names.split()] for one in d.given]
        if device.type == "cuda":
            self.tensors = [[t if t.is_cuda else t.pin_memory() for t in one] for one in self.tensors]

    def __getitem__(self, k: int) -> list[Any]:
        return [tensor.to(device, non_blocking=True) for tensor in self.tensors[k]]


def in_place(
    names: Any, inputs: str, d: Inputs, step: Callable[..., Any], extra: Callable[[list[Any]], list[Any]]
) -> Builders:
    """``step(weights, others, *inputs)`` changes weights and others in place and returns the loss (or None)."""
    sets = Sets(inputs, d)

    def start() -> tuple[list[Any], list[Any]]:
        weights = tensors(d.shared, names)
        return weights, extra(weights)

    def plain(run: Any, fixed: bool) -> Callable[[], Program]:
        def build() -> Program:
            weights, others = start()
            if fixed:
                for tensor in (*weights, *others):
                    torch._dynamo.mark_static_address(tensor)

            def call(k: int) -> tuple[Any, ...]:
                if fixed:
                    new_step()
                value = run(weights, others, *sets[k])
                return () if value is None else (value,)

            return Program(call, host_state(names, weights))

        return build

    def graph(run: Any) -> Callable[[], Program]:
        def build() -> Program:
            weights, others = start()
            replay = captured(lambda *given: run(weights, others, *given), [*weights, *others], sets[0])

            def call(k: int) -> tuple[Any, ...]:
                value = replay(sets[k])
                return () if value is None else (value,)

            return Program(call, host_state(names, weights))

        return build

    default = compiled(step)
    return {
        EAGER: plain(step, False),
        DEFAULT: plain(default, False),
        REDUCE: plain(compiled(step, "reduce-overhead"), True),
        GRAPH: graph(default),
        EAGER_GRAPH: graph(step),
    }


def overhead(d: Inputs) -> Builders:
    def step(weights: Any, others: Any) -> None:
        weights[0].mul_(0.5).add_(1)

    return in_place(["s"], "", d, step, lambda weights: [])


def network(weights: Any, x: Any, labels: Any) -> Any:
    w1, b1, w2, b2, w3, b3 = weights
    h1 = torch.relu(torch.addmm(b1, x, w1))
    h2 = torch.relu(torch.addmm(b2, h1, w2))
    return functional.cross_entropy(torch.addmm(b3, h2, w3), labels)


def perceptron(d: Inputs) -> Builders:
    rate, momentum = d.parameters["lr"], d.parameters["mom"]

    def step(weights: Any, speeds: Any, x: Any, labels: Any) -> Any:
        gradients, value = torch.func.grad_and_value(network)(weights, x, labels)
        for weight, speed, gradient in zip(weights, speeds, gradients, strict=True):
            speed.mul_(momentum).sub_(gradient, alpha=rate)
            weight.add_(speed)
        return value

    def module(mode: str | None) -> Callable[[], Program]:
        """The usual training loop: a compiled loss, autograd, a compiled optimiser."""
        sets = Sets("x lab", d)

        def build() -> Program:
            weights = [torch.nn.Parameter(w) for w in tensors(d.shared, MLP)]
            optimiser = torch.optim.SGD(weights, lr=rate, momentum=momentum)
            loss = network if mode is None else torch.compile(network, fullgraph=True, dynamic=False, mode=mode)
            update = optimiser.step if mode is None else torch.compile(optimiser.step)

            def call(k: int) -> tuple[Any, ...]:
                if mode is not None:
                    new_step()
                optimiser.zero_grad(set_to_none=True)
                with torch.enable_grad():
                    value = loss(weights, *sets[k])
                    value.backward()
                update()
                return (value,)

            return Program(call, host_state(MLP, weights))

        return build

    variants = in_place(MLP, "x lab", d, step, lambda weights: [torch.zeros_like(w) for w in weights])
    return variants | {EAGER: module(None), MODULE: module("reduce-overhead")}


def lstm(d: Inputs) -> Builders:
    """The layer that torch has, which is cuDNN's on the device; ``W``, ``U``, ``b`` are its weights, transposed."""

    def build(graph: bool) -> Callable[[], Program]:
        def start() -> Program:
            size = len(d.shared["U"])
            model = torch.nn.LSTM(d.host[0]["x"].shape[2], size).to(device)
            weights = [model.weight_ih_l0, model.weight_hh_l0, model.bias_ih_l0]
            for weight, name in zip(weights, "WUb", strict=True):
                weight.copy_(put(d.shared[name].T.copy()))
            model.bias_hh_l0.zero_()
            model.bias_hh_l0.requires_grad_(False)
            optimiser = torch.optim.SGD(weights, lr=d.parameters["lr"])

            def step(x: Any) -> Any:
                with torch.enable_grad():
                    optimiser.zero_grad(set_to_none=True)
                    value = (model(x)[1][0] ** 2).mean()
                    value.backward()
                optimiser.step()
                return value

            sets = [[one["x"]] for one in d.device]
            run = captured(step, weights, sets[0]) if graph else lambda given: step(*given)
            return Program(
                lambda k: (run(sets[k]),), lambda: {k: take(w).T for k, w in zip("WUb", weights, strict=True)}
            )

        return start

    return {EAGER: build(False), EAGER_GRAPH: build(True)}


# NumPy in and out ---------------------------------------------------------------------------------------------------


def host_small(d: Inputs) -> Builders:
    a, b = torch.from_numpy(d.host[0]["x"]), torch.from_numpy(d.host[0]["y"])

    def program(make: Any) -> Callable[[], Program]:
        def build() -> Program:
            run = make(lambda x, y: x * y + x)
            return Program(lambda _: (run(a.to(device), b.to(device)).cpu(),))

        return build

    return {EAGER: program(lambda f: f), DEFAULT: program(compiled)}


def host_logistic(d: Inputs) -> Builders:
    def loss(weights: Any, x: Any, y: Any) -> Any:
        w, b = weights
        p_1 = 1 / (1 + torch.exp(-(x @ w) - b))
        xent = -y * torch.log(p_1) - (1 - y) * torch.log(1 - p_1)
        return xent.mean() + 0.01 * (w**2).sum(), (p_1 > 0.5, xent)

    def step(weights: Any, x: Any, y: Any) -> Any:
        gradients, (_, results) = torch.func.grad_and_value(loss, has_aux=True)(weights, x, y)
        for weight, gradient in zip(weights, gradients, strict=True):
            weight.sub_(gradient, alpha=0.1)
        return results

    def program(make: Any) -> Callable[[], Program]:
        def build() -> Program:
            weights = tensors(d.shared, "wb")
            run = make(step)
            x, y = torch.from_numpy(d.host[0]["x"]), torch.from_numpy(d.host[0]["y"])
            return Program(
                lambda _: tuple(r.cpu() for r in run(weights, x.to(device), y.to(device))), host_state("wb", weights)
            )

        return build

    return {EAGER: program(lambda f: f), DEFAULT: program(compiled)}
