"""What is measured on a GPU: inputs from a fixed seed, a float64 reference, tolerances, bytes, and targets.

Formulas and references that the benchmarks of the CPU have too are taken from there (``tests/benchmarks``).
"""

import os
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

HERE = Path(__file__).resolve().parent
sys.path.append(str(HERE.parent / "benchmarks"))

import p_numpy  # noqa: E402
from workloads import WORKLOADS  # noqa: E402

Arrays = dict[str, Any]
F32, F64 = "float32", "float64"
TORCH_COMPILE = ("torch.compile", "torch.compile reduce-overhead", "torch.compile module", "torch.compile + CUDA graph")


@dataclass(frozen=True)
class Target:
    """A bound on symtensor's figure.

    ``copy``: at least this share of the copy bandwidth. ``ratio``: at most this times the best of ``peers``.
    ``seconds``: at most this.
    """

    copy: float | None = None
    ratio: float | None = None
    peers: tuple[str, ...] = ()
    seconds: float | None = None


@dataclass(frozen=True)
class Row:
    """One row of the table: ``program`` names the peers' function, ``data`` what draws its inputs.

    ``moved`` counts the bytes that must be read and written at least. A row with ``steps`` trains: its state is
    compared after so many calls, by its change from the start. ``sets``: so many inputs in turn, where one would stay
    in the device's cache. ``host``: arguments and results are NumPy arrays.
    """

    name: str
    program: str
    title: str
    data: str
    sizes: Arrays
    small: Arrays
    tolerance: float
    dtype: str = F32
    moved: Callable[[Arrays, int], int] | None = None
    sets: int = 1
    steps: int = 0
    host: bool = False
    tf32: bool = False
    targets: tuple[Target, ...] = ()
    quick: bool = False
    parameters: Arrays = field(default_factory=dict)

    def scaled(self, small: bool) -> Arrays:
        return self.small if small else self.sizes

    def bytes(self, small: bool) -> int | None:
        return self.moved(self.scaled(small), np.dtype(self.dtype).itemsize) if self.moved else None


@dataclass
class Data:
    """Inputs of a row: ``shared`` belongs to all sets (weights, say), ``sets`` are drawn in turn."""

    shared: Arrays
    sets: list[Arrays]


# Inputs ------------------------------------------------------------------------------------------------------------


def pieces(size: int) -> Iterator[slice]:
    """A range in at most 64 pieces, for threads."""
    step = max(1 << 16, -(-size // 64))
    return (slice(start, min(start + step, size)) for start in range(0, size, step))


def threaded(work: Callable[[Any], Any], parts: Any) -> list[Any]:
    with ThreadPoolExecutor(min(16, len(os.sched_getaffinity(0)))) as threads:
        return list(threads.map(work, parts))


def filled(seed: int, size: int, dtype: str, kind: str, low: float = 0.0, high: float = 1.0) -> Any:
    """Many random numbers, ``normal`` or ``uniform``; the same for any number of threads."""
    out = np.empty(size, dtype)

    def fill(part: slice) -> None:
        rng = np.random.default_rng((seed, part.start))
        if kind == "normal":
            rng.standard_normal(dtype=out.dtype.type, out=out[part])
        else:
            rng.random(dtype=out.dtype.type, out=out[part])
            out[part] *= high - low
            out[part] += low

    threaded(fill, pieces(size))
    return out


def _pair(s: Arrays, dtype: str, seed: int) -> Data:
    n = s["N"]
    return Data({}, [{"x": filled(seed, n, dtype, "uniform", -1.5, 1.5), "y": filled(seed + 1, n, dtype, "normal")}])


def _options(s: Arrays, dtype: str, seed: int) -> Data:
    bounds = (("S", 50, 150), ("K", 50, 150), ("T", 0.1, 2))
    return Data({}, [{k: filled(seed + i, s["N"], dtype, "uniform", a, b) for i, (k, a, b) in enumerate(bounds)}])


def _matrix(s: Arrays, dtype: str, seed: int) -> Data:
    values = filled(seed, s["rows"] * s["columns"], dtype, "uniform", -0.5, 1.5)
    return Data({}, [{"x": values.reshape(s["rows"], s["columns"])}])


def _matrices(s: Arrays, dtype: str, seed: int) -> Data:
    rows, columns = s["rows"], s["columns"]
    x, y = (filled(seed + k, rows * columns, dtype, "normal") for k in range(2))
    return Data({}, [{"x": x.reshape(rows, columns), "y": y.reshape(columns, rows)}])


def _layer(s: Arrays, dtype: str, seed: int) -> Data:
    """Batch, weights scaled so that sums stay about 1, and a bias."""
    m, k, n = s["rows"], s["inputs"], s["outputs"]
    x, w, b = (filled(seed + i, size, dtype, "normal") for i, size in enumerate((m * k, k * n, n)))
    w *= k**-0.5
    return Data({}, [{"x": x.reshape(m, k), "w": w.reshape(k, n), "b": b}])


def _logits(s: Arrays, dtype: str, seed: int) -> Data:
    rows, columns = s["rows"], s["columns"]
    sets = []
    for k in range(s.get("sets", 1)):
        z = 3 * filled(seed + k, rows * columns, dtype, "normal").reshape(rows, columns)
        labels = np.random.default_rng(seed + k).integers(0, columns, rows)
        sets.append({"z": z.astype(dtype), "lab": labels})
    return Data({}, sets)


def _perceptron(s: Arrays, dtype: str, seed: int) -> Data:
    rng = np.random.default_rng(seed)
    drawn = WORKLOADS["W5"].draw(rng, {})
    weights = {k: v.astype(dtype) for k, v in drawn.items() if k not in ("x", "lab")}
    sets = [{"x": drawn["x"].astype(dtype), "lab": drawn["lab"]}]
    for _ in range(1, s["sets"]):
        sets.append({"x": rng.uniform(0, 1, (128, 784)).astype(dtype), "lab": rng.integers(0, 10, 128)})
    return Data(weights, sets)


def _lstm(s: Arrays, dtype: str, seed: int) -> Data:
    drawn = WORKLOADS["W7"].draw(np.random.default_rng(seed), {})
    x = drawn.pop("x")[: s["steps"]]
    return Data({k: v.astype(dtype) for k, v in drawn.items()}, [{"x": x.astype(dtype)}])


def _small(workload: str, shared: tuple[str, ...] = ()) -> Callable[[Arrays, str, int], Data]:
    def draw(s: Arrays, dtype: str, seed: int) -> Data:
        drawn = {k: v.astype(dtype) for k, v in WORKLOADS[workload].draw(np.random.default_rng(seed), {}).items()}
        return Data({k: drawn.pop(k) for k in shared}, [drawn])

    return draw


def _places(s: Arrays, dtype: str, seed: int) -> Data:
    """Values, and for each a place among ``rows``; few places are frequent, as words are."""
    rng = np.random.default_rng(seed)
    places = (s["rows"] * rng.random(s["N"]) ** 3).astype("int64")
    columns = s.get("columns", 0)
    values = filled(seed, s["N"] * max(columns, 1), dtype, "normal")
    return Data({}, [{"places": places, "values": values.reshape(s["N"], columns) if columns else values}])


def _ten(s: Arrays, dtype: str, seed: int) -> Data:
    return Data({"s": np.random.default_rng(seed).normal(size=10).astype(dtype)}, [{}])


DRAWS: dict[str, Callable[[Arrays, str, int], Data]] = {
    "pair": _pair,
    "options": _options,
    "matrix": _matrix,
    "matrices": _matrices,
    "layer": _layer,
    "logits": _logits,
    "places": _places,
    "perceptron": _perceptron,
    "lstm": _lstm,
    "W1": _small("W1_f32"),
    "W2": _small("W2_f32", ("w", "b")),
    "ten": _ten,
}


# References: float64 results of each set, or of each step, and the state after the steps ---------------------------


def wide(arrays: Arrays) -> Arrays:
    return {k: v.astype(F64) if v.dtype.kind == "f" else v for k, v in arrays.items()}


def by_element(f: Callable[..., Any], *arrays: Any) -> Any:
    out = np.empty(arrays[0].shape, F64)

    def work(part: slice) -> None:
        out[part] = f(*[a[part].astype(F64) for a in arrays])

    threaded(work, pieces(len(out)))
    return out


def _fused(row: Row, data: Data) -> list[Any]:
    return [by_element(p_numpy.fused, data.sets[0]["x"], data.sets[0]["y"])]


def _fused_sum(row: Row, data: Data) -> list[Any]:
    return [_fused(row, data)[0].sum()]


def _prices(row: Row, data: Data) -> list[Any]:
    def price(spot: Any, strike: Any, time: Any) -> Any:
        return p_numpy.W3b({"S": spot, "K": strike, "T": time}, row.parameters)[0]()[0]

    return [by_element(price, *[data.sets[0][k] for k in "SKT"])]


def _reduction(row: Row, data: Data) -> list[Any]:
    x, axis = data.sets[0]["x"], row.parameters["axis"]
    match row.parameters["kind"]:
        case "max":
            return [x.max(axis).astype(F64)]
        case "argmax":
            return [x.argmax(axis)]
        case kind:
            return [getattr(x, kind)(axis, dtype=F64)]


def _scatter(row: Row, data: Data) -> list[Any]:
    places, values = data.sets[0]["places"], data.sets[0]["values"]
    out = np.zeros((row.parameters["rows"], *values.shape[1:]))
    np.add.at(out, places, values)
    return [out]


def _linear_relu(one: Arrays) -> list[Any]:
    out = one["x"].astype(F64) @ one["w"].astype(F64)
    out += one["b"]
    return [np.maximum(out, 0, out=out)]


def _cross_entropy(one: Arrays) -> list[Any]:
    z, labels = one["z"], one["lab"]
    blocks = max(1, len(z) // 1024)
    size = len(z) // blocks
    gradient, losses = np.empty(z.shape, F64), np.empty(blocks)

    def work(block: int) -> None:
        part = slice(block * size, (block + 1) * size)
        losses[block], gradient[part] = p_numpy.cross_entropy(z[part].astype(F64), labels[part])
        gradient[part] /= blocks

    assert blocks * size == len(z)
    threaded(work, range(blocks))
    return [losses.mean(), gradient]


def trained(program: str, row: Row, data: Data) -> tuple[list[list[Any]], Arrays]:
    """The outputs of each step and the last state, by NumPy; the batch changes from step to step."""
    batch = {k: v.copy() for k, v in wide(data.sets[0]).items()}
    call, state = getattr(p_numpy, program)(wide(data.shared) | batch, row.parameters)
    outputs = []
    for step in range(row.steps):
        for key, value in data.sets[step % len(data.sets)].items():
            batch[key][...] = value
        outputs.append([np.array(v) for v in call()])
    return outputs, {k: np.array(v) for k, v in state().items()}


def _ten_steps(row: Row, data: Data) -> tuple[list[list[Any]], Arrays]:
    state = data.shared["s"].astype(F64)
    for _ in range(row.steps):
        state = state * 0.5 + 1
    return [[] for _ in range(row.steps)], {"s": state}


def reference(row: Row, data: Data) -> tuple[list[list[Any]], Arrays]:
    """What a row must give: a list of results for each set (or step), and the state after the steps."""
    match row.program:
        case "fused":
            return [_fused(row, data)], {}
        case "fused_sum":
            return [_fused_sum(row, data)], {}
        case "prices":
            return [_prices(row, data)], {}
        case "reduction":
            return [_reduction(row, data)], {}
        case "turned":
            return [[data.sets[0]["x"].astype(F64) + data.sets[0]["y"].T]], {}
        case "scatter":
            return [_scatter(row, data)], {}
        case "linear_relu":
            return [_linear_relu(one) for one in data.sets], {}
        case "cross_entropy":
            return [_cross_entropy(one) for one in data.sets], {}
        case "perceptron":
            return trained("W5", row, data)
        case "lstm":
            return trained("W7", row, data)
        case "host_small":
            return [[data.sets[0]["x"].astype(F64) * data.sets[0]["y"] + data.sets[0]["x"]]], {}
        case "host_logistic":
            return trained("W2", row, data)
        case "overhead":
            return _ten_steps(row, data)
    raise ValueError(row.program)


# The rows, the most important first --------------------------------------------------------------------------------

MANY = {"N": 100_000_000}
FEW = {"N": 20_000}
TALL, WIDE = {"rows": 100_000, "columns": 1000}, {"rows": 1000, "columns": 100_000}
COPY = Target(copy=0.9)
SLOPE = Target(ratio=0.9, peers=TORCH_COMPILE)
STEP = Target(ratio=0.6, peers=TORCH_COMPILE)
CUDNN = Target(ratio=1.0, peers=("torch",))
BLACK_SCHOLES = {"r": 0.02, "sigma": 0.3}
MOMENTUM = {"lr": 0.01, "mom": 0.9}


def _arrays(count: int) -> Callable[[Arrays, int], int]:
    return lambda s, size: count * s["N"] * size


def _read(s: Arrays, size: int) -> int:
    return s["rows"] * s["columns"] * size


def _read_and_write(s: Arrays, size: int) -> int:
    return 2 * s["rows"] * s["columns"] * size + 8 * s["rows"]


def _reductions() -> Iterator[Row]:
    """Those of one matrix follow each other, so that it is drawn once."""
    tall, wide = {"rows": 40, "columns": 70}, {"rows": 7, "columns": 3000}
    for shape, sizes, small in (("tall", TALL, tall), ("wide", WIDE, wide)):
        text = f"{sizes['rows']:,} x {sizes['columns']:,}"
        for kind in ("sum", "max"):
            yield Row(f"row_{kind}_{shape}", "reduction", f"{kind} of rows, {text}", "matrix", sizes, small, 1e-5,
                      moved=_read, targets=(COPY,), parameters={"kind": kind, "axis": 1},
                      quick=(kind, shape) == ("sum", "tall"))  # fmt: skip
        yield Row(f"column_sum_{shape}", "reduction", f"sum of columns, {text}", "matrix", sizes, small, 1e-5,
                  moved=_read, parameters={"kind": "sum", "axis": 0})  # fmt: skip
    yield Row("full_sum", "reduction", "sum of 100 M", "matrix", WIDE, wide, 1e-5, moved=_read,
              parameters={"kind": "sum", "axis": None})  # fmt: skip


def _others() -> Iterator[Row]:
    """Running sums, places of extremes, a transposition, sums by index."""
    for axis, name, sizes, small in ((None, "all", WIDE, {"rows": 7, "columns": 900}),
                                     (1, "rows", WIDE, {"rows": 7, "columns": 3000}),
                                     (0, "columns", WIDE, {"rows": 300, "columns": 70})):  # fmt: skip
        text = "100 M" if axis is None else f"{name}, 1,000 x 100,000"
        yield Row(f"cumsum_{name}", "reduction", f"running sums, {text}", "matrix", sizes, small, 1e-4,
                  moved=lambda s, size: 2 * _read(s, size), parameters={"kind": "cumsum", "axis": axis})  # fmt: skip
    yield Row("argmax_long", "reduction", "argmax of rows, 10 x 10,000,000", "matrix",
              {"rows": 10, "columns": 10_000_000}, {"rows": 3, "columns": 9000}, 0.0, moved=_read,
              parameters={"kind": "argmax", "axis": 1})  # fmt: skip
    yield Row("turned", "turned", "x + y.T, 12,000 x 8,000", "matrices", {"rows": 12_000, "columns": 8000},
              {"rows": 70, "columns": 45}, 1e-6, moved=lambda s, size: 3 * _read(s, size))  # fmt: skip
    for name, rows, count, columns in (("embedding", 50_000, 4096, 512), ("scatter_1M", 1_000_000, 1_000_000, 0)):
        sizes = {"rows": rows, "N": count, "columns": columns}
        small = {"rows": rows, "N": 300, "columns": min(columns, 12)}
        text = f"{count:,} rows of {columns}" if columns else f"{count:,} numbers"
        yield Row(name, "scatter", f"{text} added at places among {rows:,}", "places", sizes, small, 1e-5,
                  moved=lambda s, size: size * (s["N"] + s["rows"]) * max(s["columns"], 1),
                  parameters={"rows": rows})  # fmt: skip


ROWS = (
    Row("overhead", "overhead", "update of 10 numbers, nothing else", "ten", {}, {}, 1e-5, steps=6,
        targets=(Target(seconds=15e-6),), quick=True),
    Row("G3_f32", "fused", "fused elementwise, 100 M", "pair", MANY, FEW, 2e-6, moved=_arrays(3), targets=(COPY,),
        quick=True),
    Row("G4", "cross_entropy", "softmax cross-entropy and gradient, 4096 x 1000", "logits",
        {"rows": 4096, "columns": 1000, "sets": 6}, {"rows": 64, "columns": 100, "sets": 2}, 1e-5, sets=6,
        moved=_read_and_write, targets=(SLOPE,), quick=True),
    Row("G5", "perceptron", "MLP 784-512-512-10, batch 128, momentum step", "perceptron", {"sets": 4}, {"sets": 2},
        5e-3, sets=4, steps=6, targets=(STEP,), quick=True, parameters=MOMENTUM),
    Row("G7", "lstm", "LSTM, 50 steps, batch 32, 64 -> 256, gradient and update", "lstm", {"steps": 50}, {"steps": 5},
        5e-3, steps=5, targets=(CUDNN,), parameters={"lr": 1.0}),
    *_reductions(),
    Row("G4_large", "cross_entropy", "softmax cross-entropy and gradient, 16384 x 8192", "logits",
        {"rows": 16384, "columns": 8192}, {"rows": 32, "columns": 3000}, 1e-5, moved=_read_and_write,
        targets=(SLOPE,)),
    Row("G4_long", "cross_entropy", "softmax cross-entropy and gradient, 8 x 1,000,000", "logits",
        {"rows": 8, "columns": 1_000_000}, {"rows": 1, "columns": 70_000}, 1e-5, moved=_read_and_write,
        targets=(SLOPE,)),
    Row("G5_tf32", "perceptron", "the MLP's step in TF32", "perceptron", {"sets": 4}, {"sets": 2}, 5e-2, sets=4,
        steps=6, tf32=True, targets=(STEP,), parameters=MOMENTUM),
    Row("linear_relu_tf32", "linear_relu", "relu(x @ W + b) in TF32, 8192 x 4096 x 4096", "layer",
        {"rows": 8192, "inputs": 4096, "outputs": 4096}, {"rows": 48, "inputs": 40, "outputs": 36}, 5e-3, tf32=True,
        targets=(Target(ratio=1.0, peers=TORCH_COMPILE),)),
    Row("G7_tf32", "lstm", "the LSTM's step in TF32", "lstm", {"steps": 50}, {"steps": 5}, 5e-2, steps=5, tf32=True,
        targets=(CUDNN,), parameters={"lr": 1.0}),
    Row("G3_sum", "fused_sum", "fused elementwise, summed, 100 M", "pair", MANY, FEW, 1e-5, moved=_arrays(2),
        targets=(COPY,)),
    Row("G3_f64", "fused", "fused elementwise, 100 M", "pair", MANY, FEW, 1e-14, F64, moved=_arrays(3),
        targets=(COPY,)),
    Row("G3_prices", "prices", "Black-Scholes, 100 M", "options", MANY, FEW, 2e-5, moved=_arrays(4), targets=(COPY,),
        parameters=BLACK_SCHOLES),
    *_others(),
    Row("G5_host", "perceptron", "the MLP's step, batches from NumPy", "perceptron", {"sets": 4}, {"sets": 2}, 5e-3,
        sets=4, steps=6, host=True, parameters=MOMENTUM),
    Row("W1_host", "host_small", "x*y+x on 10 numbers, NumPy in and out", "W1", {}, {}, 1e-6, host=True),
    Row("W2_host", "host_logistic", "logistic-regression step 50 x 100, NumPy in and out", "W2", {}, {}, 1e-3,
        host=True, steps=5),
)  # fmt: skip


def selected(names: list[str], quick: bool) -> list[Row]:
    """The rows of these names (or programs); by default all, or those of a quick run."""
    known = {row.name for row in ROWS} | {row.program for row in ROWS}
    if unknown := [name for name in names if name not in known]:
        raise SystemExit(f"no such row: {', '.join(unknown)}; there are {', '.join(row.name for row in ROWS)}")
    if names:
        return [row for row in ROWS if row.name in names or row.program in names]
    return [row for row in ROWS if row.quick or not quick]


class Files:
    """Inputs and references in a folder; what rows share is drawn once."""

    def __init__(self, folder: Path, small: bool) -> None:
        self.folder, self.small = folder, small
        self.drawn: dict[str, Data] = {}

    def prepare(self, row: Row) -> Arrays:
        """Write what a row needs; returns the description that a peer's process reads."""
        sizes = row.scaled(self.small)
        key = "-".join([row.data, row.dtype, *[f"{k}{v}" for k, v in sorted(sizes.items())]])
        if key not in self.drawn:
            self.clear()
            self.drawn[key] = DRAWS[row.data](sizes, row.dtype, sum(map(ord, row.data)) * 7 + 1)
        data = self.drawn[key]
        results, state = reference(row, data)
        return {
            "name": row.name,
            "program": row.program,
            "dtype": row.dtype,
            "parameters": row.parameters,
            "tolerance": row.tolerance,
            "steps": row.steps,
            "host": row.host,
            "tf32": row.tf32,
            "shared": {k: self._saved(f"{key}.{k}", v) for k, v in data.shared.items()},
            "sets": [{k: self._saved(f"{key}.{i}.{k}", v) for k, v in one.items()} for i, one in enumerate(data.sets)],
            "results": [
                [self._saved(f"{row.name}.result.{i}.{j}", v, True) for j, v in enumerate(one)]
                for i, one in enumerate(results)
            ],
            "state": {k: self._saved(f"{row.name}.state.{k}", v, True) for k, v in state.items()},
        }

    def _saved(self, name: str, array: Any, again: bool = False) -> str:
        path = self.folder / f"{name}.npy"
        if again or not path.exists():
            np.save(path, array)
        return str(path)

    def forget(self, row: Row) -> None:
        """Remove the references of a row."""
        for path in self.folder.glob(f"{row.name}.*.npy"):
            path.unlink()

    def clear(self) -> None:
        """Remove all that is there: memory and disks are finite."""
        self.drawn.clear()
        for path in self.folder.glob("*.npy"):
            path.unlink()
