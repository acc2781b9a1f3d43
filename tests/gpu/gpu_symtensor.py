"""What all of this is about: symtensor, its arguments and results on the device."""

from typing import Any

import numpy as np
from programs_of_peers import Builders, Inputs, Program

MLP = ("W1", "b1", "W2", "b2", "W3", "b3")


def setup(config: dict[str, Any]) -> dict[str, str]:
    """``device`` is cpu or cuda; shim, a CUDA device that this machine's processor plays; or an architecture, such as
    cuda:sm_90, for which functions are compiled but not called.
    """
    global T, function, grad, scan, shared, symtensor, device, place
    import symtensor
    import symtensor.tensor as T
    from symtensor import function, grad, scan, shared

    symtensor.config.floatX = "float32"
    place, device = config["device"], None
    if place == "shim":
        from symtensor_codegen.cuda import device as devices_of_cuda
        from tests.cuda.host import host_device

        devices_of_cuda.use(host_device())
        place = "cuda"
    if place == "cuda":
        from symtensor import devices

        device = devices.opened("cuda:0")
    return {"symtensor": symtensor.__version__}


def precision(tf32: bool) -> None:
    if place != "cpu":
        symtensor.config.matmul_precision = "tf32" if tf32 else "float32"


def put(array: Any) -> Any:
    if device is None:
        return array
    from symtensor import devices

    return devices.uploaded(device, np.ascontiguousarray(array))


def take(value: Any) -> Any:
    return np.asarray(value)


def synchronize() -> None:
    if device is not None:
        device.synchronize()


def forget() -> None:
    pass


def variable(array: Any, name: str | None = None) -> Any:
    """A variable of the array's element type and rank, of any size."""
    return T.TensorType(str(array.dtype), (None,) * array.ndim)(name)


def compiled(inputs: Any, outputs: Any, **options: Any) -> Any:
    return function(inputs, outputs, device=place, **options)


def resident(inputs: Any, outputs: Any, **options: Any) -> Any:
    """A function whose results stay where they are computed."""
    return compiled(inputs, outputs, **options, **({} if place == "cpu" else {"results": "device"}))


def program(names: str, d: Inputs, express: Any) -> Builders:
    """``express`` makes the results from variables for the named inputs."""

    def build() -> Program:
        inputs = [variable(d.host[0][name], name) for name in names.split()]
        run = resident(inputs, list(express(*inputs)))
        sets = [[one[name] for name in names.split()] for one in d.device]
        return Program(lambda k: tuple(run(*sets[k])), function=run)

    return {"symtensor": build}


def formula(x: Any, y: Any) -> Any:
    return T.sqrt(T.exp(-(x**2)) + T.tanh(y) * x + 2)


def fused(d: Inputs) -> Builders:
    return program("x y", d, lambda x, y: [formula(x, y)])


def fused_sum(d: Inputs) -> Builders:
    return program("x y", d, lambda x, y: [formula(x, y).sum()])


def prices(d: Inputs) -> Builders:
    rate, sigma = d.parameters["r"], d.parameters["sigma"]

    def express(spot: Any, strike: Any, time: Any) -> Any:
        spread = sigma * T.sqrt(time)
        d1 = (T.log(spot / strike) + (rate + 0.5 * sigma * sigma) * time) / spread

        def normal(z: Any) -> Any:
            return 0.5 + 0.5 * T.erf(z * float(1 / np.sqrt(2)))

        return [spot * normal(d1) - strike * T.exp(-rate * time) * normal(d1 - spread)]

    return program("S K T", d, express)


def reduction(d: Inputs) -> Builders:
    kind, axis = d.parameters["kind"], d.parameters["axis"]
    return program("x", d, lambda x: [getattr(x, kind)(axis)])


def turned(d: Inputs) -> Builders:
    return program("x y", d, lambda x, y: [x + y.T])


def scatter(d: Inputs) -> Builders:
    def added(places: Any, values: Any) -> Any:
        zeros = T.zeros((d.parameters["rows"], *[values.shape[k] for k in range(1, values.ndim)]), values.dtype)
        return [T.inc_subtensor(zeros[places], values)]

    return program("places values", d, added)


def linear_relu(d: Inputs) -> Builders:
    return program("x w b", d, lambda x, w, b: [T.nnet.relu(T.dot(x, w) + b)])


def loss_of(logits: Any, labels: Any) -> Any:
    return T.nnet.categorical_crossentropy(T.nnet.softmax(logits), labels).mean()


def cross_entropy(d: Inputs) -> Builders:
    def express(z: Any, labels: Any) -> Any:
        loss = loss_of(z, labels)
        return [loss, grad(loss, z)]

    return program("z lab", d, express)


def trainer(names: str, d: Inputs, step: Any) -> Builders:
    """``step(weights, *inputs)`` gives the loss and the updates."""

    def build() -> Program:
        weights = {k: shared(v, name=k) for k, v in d.shared.items()}
        inputs = [variable(d.host[0][name], name) for name in names.split()]
        loss, updates = step(weights, *inputs)
        train = resident(inputs, loss, updates=updates)
        sets = [[one[name] for name in names.split()] for one in d.given]
        return Program(lambda k: (train(*sets[k]),), lambda: {k: w.get_value() for k, w in weights.items()}, train)

    return {"symtensor": build}


def perceptron(d: Inputs) -> Builders:
    def step(by_name: Any, x: Any, labels: Any) -> Any:
        weights = w1, b1, w2, b2, w3, b3 = [by_name[k] for k in MLP]
        speeds = [shared(d.shared[k] * 0) for k in MLP]
        h1 = T.nnet.relu(T.dot(x, w1) + b1)
        h2 = T.nnet.relu(T.dot(h1, w2) + b2)
        loss = loss_of(T.dot(h2, w3) + b3, labels)
        updates = []
        for weight, speed, gradient in zip(weights, speeds, grad(loss, weights), strict=True):
            faster = d.parameters["mom"] * speed - d.parameters["lr"] * gradient
            updates += [(speed, faster), (weight, weight + faster)]
        return loss, updates

    return trainer("x lab", d, step)


def lstm(d: Inputs) -> Builders:
    batch, size = d.host[0]["x"].shape[1], len(d.shared["U"])

    def step(weights: Any, x: Any) -> Any:
        W, U, b = (weights[k] for k in "WUb")
        zeros = T.zeros((batch, size))

        def cell(row: Any, h: Any, c: Any, U: Any) -> Any:
            z = row + T.dot(h, U)
            i, f, g, o = (z[:, k * size : (k + 1) * size] for k in range(4))
            c = T.nnet.sigmoid(f) * c + T.nnet.sigmoid(i) * T.tanh(g)
            return T.nnet.sigmoid(o) * T.tanh(c), c

        (h, _), _ = scan(cell, [T.dot(x, W) + b], [zeros, zeros], [U], strict=True)
        loss = (h[-1] ** 2).mean()
        return loss, [(w, w - d.parameters["lr"] * g) for w, g in zip((W, U, b), grad(loss, [W, U, b]), strict=True)]

    return trainer("x", d, step)


def overhead(d: Inputs) -> Builders:
    def build() -> Program:
        s = shared(d.shared["s"], name="s")
        step = compiled([], [], updates={s: s * 0.5 + 1})

        def call(_: int) -> tuple[Any, ...]:
            step()
            return ()

        return Program(call, lambda: {"s": s.get_value()}, step)

    return {"symtensor": build}


def host_small(d: Inputs) -> Builders:
    def build() -> Program:
        x, y = variable(d.host[0]["x"]), variable(d.host[0]["y"])
        run = compiled([x, y], x * y + x)
        a, b = d.host[0]["x"], d.host[0]["y"]
        return Program(lambda _: (run(a, b),), function=run)

    return {"symtensor": build}


def host_logistic(d: Inputs) -> Builders:
    def build() -> Program:
        x, y = variable(d.host[0]["x"], "x"), variable(d.host[0]["y"], "y")
        w, b = shared(d.shared["w"], name="w"), shared(d.shared["b"], name="b")
        p_1 = 1 / (1 + T.exp(-T.dot(x, w) - b))
        xent = -y * T.log(p_1) - (1 - y) * T.log(1 - p_1)
        gw, gb = grad(xent.mean() + 0.01 * (w**2).sum(), [w, b])
        step = compiled([x, y], [p_1 > 0.5, xent], updates={w: w - 0.1 * gw, b: b - 0.1 * gb})
        data = d.host[0]["x"], d.host[0]["y"]
        return Program(lambda _: tuple(step(*data)), lambda: {"w": w.get_value(), "b": b.get_value()}, step)

    return {"symtensor": build}
