"""The workloads: inputs from a fixed seed, a float64 reference, tolerances, and what symtensor must reach."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import p_numpy
from programs import Arrays

Generator = np.random.Generator
MANY = 10_000_000
MEGABYTE = 1 << 20


@dataclass(frozen=True)
class Target:
    """A bound on symtensor's figure: ``ratio`` times that of a peer (by default the best), or a fixed value.

    ``figure`` is ``call`` or ``compile`` or ``warm`` (seconds), or ``memory`` (bytes).
    """

    figure: str
    ratio: float | None = None
    peer: str = "best"
    value: float | None = None
    threads: tuple[int, ...] = (1,)


@dataclass(frozen=True)
class Workload:
    """One row: ``program`` names the peers' function, ``draw(rng, parameters)`` makes the float64 inputs."""

    name: str
    program: str
    title: str
    dtype: str
    draw: Callable[[Generator, Arrays], Arrays]
    tolerance: float
    parameters: Arrays = field(default_factory=dict)
    targets: tuple[Target, ...] = ()
    deep: bool = False  # peers that recurse over the graph need a large stack
    floor: float = 0.0  # differences are relative to the largest expected value, or to this if it is more
    alone: bool = False  # only symtensor runs it, unless peers are named


def _pair(rng: Generator, p: Arrays) -> Arrays:
    return {"x": rng.normal(size=10), "y": rng.normal(size=10)}


def _logistic(rng: Generator, p: Arrays) -> Arrays:
    return {
        "x": rng.normal(size=(50, 100)),
        "y": rng.integers(0, 2, 50).astype(float),
        "w": 0.1 * rng.normal(size=100),
        "b": np.array(0.0),
    }


def _fused(rng: Generator, p: Arrays) -> Arrays:
    return {"x": rng.uniform(-1.5, 1.5, p["N"]), "y": rng.normal(size=p["N"])}


def _options(rng: Generator, p: Arrays) -> Arrays:
    return {k: rng.uniform(low, high, p["N"]) for k, low, high in (("S", 50, 150), ("K", 50, 150), ("T", 0.1, 2))}


def _logits(rng: Generator, p: Arrays) -> Arrays:
    return {"z": 3 * rng.normal(size=(4096, 1000)), "lab": rng.integers(0, 1000, 4096)}


def _perceptron(rng: Generator, p: Arrays) -> Arrays:
    drawn: Arrays = {"x": rng.uniform(0, 1, (128, 784)), "lab": rng.integers(0, 10, 128)}
    for layer, (rows, columns) in enumerate(((784, 512), (512, 512), (512, 10)), 1):
        drawn[f"W{layer}"] = rng.normal(size=(rows, columns)) * np.sqrt(2 / rows)
        drawn[f"b{layer}"] = np.zeros(columns)
    return drawn


def _chain(rng: Generator, p: Arrays) -> Arrays:
    return {"x": rng.uniform(0.1, 1, 100), "c": rng.uniform(0.9, 1.4, p["n"])}


def _start(rng: Generator, p: Arrays) -> Arrays:
    return {"x0": np.tile([-1.2, 1.0], 50) + 0.01 * rng.normal(size=100)}


def _table(rng: Generator, p: Arrays) -> Arrays:
    return {"X": 2 * rng.normal(size=(20000, 500)) + 1}


def _lstm(rng: Generator, p: Arrays) -> Arrays:
    k = 1 / np.sqrt(256)
    return {
        "x": rng.normal(size=(50, 32, 64)),
        "W": rng.uniform(-k, k, (64, 1024)),
        "U": rng.uniform(-k, k, (256, 1024)),
        "b": rng.uniform(-k, k, 1024),
    }


def _logistic_map(rng: Generator, p: Arrays) -> Arrays:
    return {"x0": np.array(0.37), "r": np.array(3.5)}


def _matrices(rng: Generator, p: Arrays) -> Arrays:
    return {"A": 0.5 * rng.normal(size=(3, 3)), "x0": rng.normal(size=(3, 3)), "B": rng.normal(size=(1000, 3, 3))}


def _filter(rng: Generator, p: Arrays) -> Arrays:
    rotation, _ = np.linalg.qr(rng.normal(size=(4, 4)))
    return {
        "F": 0.9 * rotation,
        "h": rng.normal(size=4),
        "log_q": np.log(0.1) + 0.3 * rng.normal(size=4),
        "log_r": np.array(np.log(0.2)),
        "y": rng.normal(size=1000),
    }


def _leaps(rng: Generator, p: Arrays) -> Arrays:
    return {
        "x": rng.normal(size=(50, 10)),
        "y": rng.integers(0, 2, 50).astype(float),
        "q": 0.3 * rng.normal(size=10),
        "p": rng.normal(size=10),
    }


def _leaps_normal(rng: Generator, p: Arrays) -> Arrays:
    root = rng.normal(size=(10, 10))
    return {"S": root @ root.T / 10 + np.eye(10), "q": rng.normal(size=10), "p": rng.normal(size=10)}


F32, F64 = "float32", "float64"
BOTH = (1, 2)
PRICE = {"N": MANY, "r": 0.02, "sigma": 0.3}
W2_TARGETS = (
    Target("call", 0.4),
    Target("compile", value=0.15),
    Target("warm", value=0.03),
    Target("memory", value=130 * MEGABYTE),
)

_ROWS = (
    Workload("W1_f64", "W1", "call overhead, x*y+x on 10 numbers", F64, _pair, 1e-14,
             targets=(Target("call", 0.3, "numpy"),)),
    Workload("W1_f32", "W1", "call overhead, x*y+x on 10 numbers", F32, _pair, 1e-6,
             targets=(Target("call", 0.3, "numpy"),)),
    Workload("W1n_f64", "W1n", "W1 with each peer's fastest calling convention", F64, _pair, 1e-14),
    Workload("W2_f64", "W2", "logistic-regression step, 50 x 100", F64, _logistic, 1e-10, targets=W2_TARGETS),
    Workload("W2_f32", "W2", "logistic-regression step, 50 x 100", F32, _logistic, 2e-4, targets=W2_TARGETS),
    Workload("W3a_f32", "W3a", "fused elementwise, 10 M", F32, _fused, 2e-4, {"N": MANY},
             (Target("call", 0.6, threads=BOTH),)),
    Workload("W3a_f64", "W3a", "fused elementwise, 10 M", F64, _fused, 1e-10, {"N": MANY},
             (Target("call", 0.6, threads=BOTH),)),
    Workload("W3b_f32", "W3b", "Black-Scholes, 10 M", F32, _options, 2e-4, PRICE,
             (Target("call", 0.6, threads=BOTH),)),
    Workload("W3b_f64", "W3b", "Black-Scholes, 10 M", F64, _options, 1e-10, PRICE,
             (Target("call", 0.3, threads=BOTH),)),
    Workload("W3c_f32", "W3c", "W3a summed, no array in between", F32, _fused, 2e-4, {"N": MANY},
             (Target("call", 0.6, threads=BOTH),)),
    Workload("W3c_f64", "W3c", "W3a summed, no array in between", F64, _fused, 1e-10, {"N": MANY},
             (Target("call", 0.6, threads=BOTH),)),
    Workload("W4", "W4", "softmax cross-entropy and gradient, 4096 x 1000", F32, _logits, 2e-4,
             targets=(Target("call", 0.6, threads=BOTH),)),
    Workload("W5", "W5", "MLP 784-512-512-10, batch 128, momentum step", F32, _perceptron, 1e-3,
             {"lr": 0.01, "mom": 0.9}, (Target("call", 1.0, threads=BOTH), Target("compile", value=0.3))),
    Workload("W7", "W7", "LSTM, 50 steps, batch 32, 64 -> 256, gradient and update", F32, _lstm, 1e-3, {"lr": 1.0},
             (Target("call", 1.0, threads=BOTH), Target("compile", value=0.6))),
    Workload("W9", "W9", "logistic map, 1,000,000 steps", F64, _logistic_map, 1e-9, {"n": 1_000_000},
             (Target("call", 1.1, "numba"),)),
    Workload("W9m", "W9m", "3 x 3 state, 1,000 steps, gradient", F64, _matrices, 1e-9,
             targets=(Target("call", 0.2, "jax"),)),
    Workload("W9d", "W9d", "W9m with sizes that are not declared", F64, _matrices, 1e-9,
             targets=(Target("call", 0.2, "jax"),)),
    Workload("W9k", "W9k", "Kalman filter's likelihood, 4 states, 1,000 steps, gradient", F64, _filter, 1e-8,
             targets=(Target("call", 0.3),)),
    Workload("W9h", "W9h", "10,000 leapfrog steps, logistic regression 50 x 10", F64, _leaps, 1e-7,
             {"n": 10_000, "size": 0.05}, (Target("call", 0.5),)),
    Workload("W9g", "W9g", "10,000 leapfrog steps, 10 correlated normals", F64, _leaps_normal, 1e-7,
             {"n": 10_000, "size": 0.05}, (Target("call", 0.5),)),
    Workload("W10", "W10", "2,000-op chain with gradient", F64, _chain, 1e-7, {"n": 2000},
             (Target("compile", 0.15, "jax"),), deep=True),
    Workload("W10_200", "W10", "200-op chain with gradient", F64, _chain, 1e-7, {"n": 200}, deep=True,
             alone=True),
    Workload("W10_10000", "W10", "10,000-op chain with gradient", F64, _chain, 1e-7, {"n": 10000}, deep=True,
             alone=True),
    Workload("W10_50000", "W10", "50,000-op chain with gradient", F64, _chain, 1e-7, {"n": 50000}, deep=True,
             alone=True),
    Workload("W11", "W11", "Rosenbrock n=100, a whole L-BFGS-B run", F64, _start, 1e-3, floor=1.0),
    Workload("W11p", "W11p", "Rosenbrock n=100, one value and gradient", F64, _start, 1e-10,
             targets=(Target("call", 1.0, "numba"),)),
    Workload("W14", "W14", "standardise 20000 x 500, argmax of rows", F32, _table, 1e-3,
             targets=(Target("call", 0.5),)),
)  # fmt: skip
WORKLOADS = {row.name: row for row in _ROWS}
SHARED_INPUTS = {"W1n": "W1", "W9d": "W9m", "W11p": "W11"}


def selected(names: str) -> list[Workload]:
    """The rows whose name or program is in the comma-separated ``names``; by default all shared by peers."""
    if not names:
        return [row for row in _ROWS if not row.alone]
    wanted = names.split(",")
    known = {*WORKLOADS, *(row.program for row in _ROWS)}
    if unknown := [name for name in wanted if name not in known]:
        raise SystemExit(f"no such workload: {', '.join(unknown)}; there are {', '.join(sorted(known))}")
    return [row for row in _ROWS if row.name in wanted or (row.program in wanted and not row.alone)]


def prepare(row: Workload, folder: Path) -> tuple[Path, Path]:
    """Write the inputs and the reference of a row to ``folder``; returns both paths.

    The reference holds ``out0``, ``out1`` ... of the first call and ``state_<name>`` after three calls.
    """
    inputs, reference = folder / f"{row.name}.npz", folder / f"{row.name}.reference.npz"
    program = SHARED_INPUTS.get(row.program, row.program)
    rng = np.random.default_rng(sum(map(ord, program)) * 7 + 1)
    drawn = {
        k: v.astype(row.dtype) if v.dtype.kind == "f" else v.astype("int64")
        for k, v in row.draw(rng, row.parameters).items()
    }
    np.savez(inputs, allow_pickle=False, **drawn)
    wide = {k: v.astype(F64) if v.dtype.kind == "f" else v for k, v in drawn.items()}
    call, state = getattr(p_numpy, row.program)(wide, row.parameters)
    expected = {f"out{k}": np.asarray(value) for k, value in enumerate(call())}
    if state is not None:
        call()
        call()
        expected |= {f"state_{k}": np.asarray(v) for k, v in state().items()}
    np.savez(reference, allow_pickle=False, **expected)
    return inputs, reference
