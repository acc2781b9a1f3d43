"""A differential equation fitted to data: Runge-Kutta in a loop, differentiated with respect to its parameters.

The data are the pelts of lynx and snowshoe hare that the Hudson's Bay Company bought each year from 1900 to 1920 (in
thousands; E. P. Odum, "Fundamentals of Ecology", 1953; the numbers are those of J. M. Mahaffy and R. Howard).
The model is Lotka's and Volterra's: hares are born and eaten, lynx eat and die,

    dh/dt = (a - b l) h        dl/dt = (c h - d) l

Six numbers are learnt from the first fifteen years: the rates a, b, c, d and the state in 1900; the other six years are
held out. SciPy's `solve_ivp` checks the trajectory, and its differences the gradient.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from progress import picture_file, show_progress
from scipy.integrate import solve_ivp

import symtensor.tensor as T
from symtensor import Variable, function, grad, scan
from symtensor.gradient import hessian

PELTS = """
    1900  30.0   4.0   1907  21.4  13.0   1914  52.3  45.7
    1901  47.2   6.1   1908  22.0   8.3   1915  19.5  51.1
    1902  70.2   9.8   1909  25.4   9.1   1916  11.2  29.7
    1903  77.4  35.2   1910  27.1   7.4   1917   7.6  15.8
    1904  36.3  59.4   1911  40.3   8.0   1918  14.6   9.7
    1905  20.6  41.7   1912  57.0  12.3   1919  16.2  10.1
    1906  18.1  19.0   1913  76.6  19.5   1920  24.7   8.6
"""  # year, hares, lynx
LEARNT = 15  # years; the others are held out
STEPS_PER_YEAR = 100
ITERATIONS = 15

Array = np.ndarray


def load_data() -> tuple[Array, Array]:
    """The years, and thousands of pelts (years, 2): hares and lynx."""
    table = np.array(PELTS.split(), float).reshape(-1, 3)
    table = table[table[:, 0].argsort()]
    return table[:, 0].astype(int), table[:, 1:]


class Result(NamedTuple):
    rates: Array
    """a, b, c, d (per year; b and c per thousand pelts)"""
    losses: list[float]
    """Mean square of the logarithms' errors, after each iteration."""
    trajectory: Array
    """(years, 2): hares and lynx."""
    held_out: float
    """The loss of the years held out."""
    unchanging: float
    """That of a model that knows only the mean of the years learnt."""
    trajectory_error: float
    """The largest difference from `solve_ivp`, relative."""
    gradient_error: float
    """The difference of the gradient from central differences through `solve_ivp`, relative."""


def growth(state: Variable, rates: Variable) -> Variable:
    """The right-hand side of the equation, for the logarithms of both numbers: (a - b l, c h - d)."""
    hares, lynx = T.exp(state[0]), T.exp(state[1])
    return T.stack([rates[0] - rates[1] * lynx, rates[2] * hares - rates[3]])


def runge_kutta(state: Variable, rates: Variable, step: float) -> Variable:
    """One step of the classical method of fourth order."""
    k1 = growth(state, rates)
    k2 = growth(state + step / 2 * k1, rates)
    k3 = growth(state + step / 2 * k2, rates)
    k4 = growth(state + step * k3, rates)
    return state + step / 6 * (k1 + 2 * k2 + 2 * k3 + k4)


def compile_model(steps_per_year: int = STEPS_PER_YEAR) -> tuple[Callable, Callable, Callable]:
    """Return, as functions of the six parameters' logarithms p (rates, then the first state), and of the data:

    `solve(p, years) -> logarithms (years, 2)`, `slope(p, data) -> [loss, gradient]`, and `curvature(p, data)`, second
    derivatives. Data are logarithms of pelts (years, 2).
    """
    p = T.TensorType("float64", (6,))("p")  # of known size: small states are then kept in registers
    data, years = T.dmatrix("data"), T.lscalar("years")

    def trajectory(years: Variable) -> Variable:
        rates, first = T.exp(p[:4]), p[4:]
        states, _ = scan(
            runge_kutta,
            outputs_info=[first],
            non_sequences=[rates, 1 / steps_per_year],
            n_steps=(years - 1) * steps_per_year,
            name="Runge-Kutta",
        )
        return T.concatenate([first[None, :], states[steps_per_year - 1 :: steps_per_year]])

    loss = ((trajectory(data.shape[0]) - data) ** 2).mean()
    solve = function([p, years], trajectory(years))
    return solve, function([p, data], [loss, grad(loss, p)]), function([p, data], hessian(loss, p))


def solve_by_scipy(p: Array, years: int) -> Array:
    """The logarithms of the trajectory, by an adaptive method of eighth order."""
    a, b, c, d = np.exp(p[:4])
    solution = solve_ivp(
        lambda t, y: [a - b * np.exp(y[1]), c * np.exp(y[0]) - d],
        (0, years - 1),
        p[4:],
        method="DOP853",
        t_eval=np.arange(years),
        rtol=1e-11,
        atol=1e-11,
    )
    return solution.y.T


def scipys_slope(p: Array, data: Array, width: float = 1e-4) -> Array:
    """The gradient of the loss by central differences of SciPy's trajectories."""

    def loss(p: Array) -> float:
        return ((solve_by_scipy(p, len(data)) - data) ** 2).mean()

    return np.array([(loss(p + e) - loss(p - e)) / (2 * width) for e in width * np.eye(len(p))])


def main(iterations: int = ITERATIONS, steps_per_year: int = STEPS_PER_YEAR, picture: str | None = None) -> Result:
    pelts = np.log(load_data()[1])
    data, held = pelts[:LEARNT], pelts[LEARNT:]
    print(f"data       {len(data)} years to learn from, {len(held)} held out; hares and lynx")

    start = time.perf_counter()
    solve, slope, curvature = compile_model(steps_per_year)
    print(f"compiled   the solution and its first and second derivatives in {time.perf_counter() - start:.3f} s")

    # Levenberg's method: Newton's steps, with as much of the gradient's direction as it takes to go down.
    p = np.concatenate([np.log([0.5, 0.02, 0.02, 0.8]), data[0]])
    damping, losses, seconds, calls = 1.0, [], 0.0, 0
    loss, gradient = slope(p, data)
    for iteration in range(1, iterations + 1):
        second = curvature(p, data)
        bend = np.abs(np.linalg.eigvalsh(second)).max()
        while True:
            lowest = np.linalg.eigvalsh(second)[0]
            shift = damping * bend + max(0.0, -lowest)
            trial = p - np.linalg.solve(second + shift * np.eye(6), gradient)
            start = time.perf_counter()
            tried, tried_gradient = slope(trial, data)
            seconds, calls = seconds + time.perf_counter() - start, calls + 1
            if tried <= loss or damping > 1e8:
                break
            damping *= 4
        if tried <= loss:
            p, loss, gradient, damping = trial, tried, tried_gradient, damping / 4
        losses.append(float(loss))
        show_progress(iteration, iterations, f"loss {loss:.4f}", "fitting")

    solved, checked = solve(p, len(pelts)), solve_by_scipy(p, len(pelts))
    off = p + 0.02  # away from the minimum, where the gradient is not zero
    ours, theirs = slope(off, data)[1], scipys_slope(off, data)
    result = Result(
        np.exp(p[:4]),
        losses,
        np.exp(solved),
        float(((solved[LEARNT:] - held) ** 2).mean()),
        float(((data.mean(axis=0) - held) ** 2).mean()),
        float(np.abs(np.exp(solved - checked) - 1).max()),
        float(np.abs(ours - theirs).max() / np.abs(theirs).max()),
    )
    print("rates      " + ", ".join(f"{name} {rate:.4f}" for name, rate in zip("abcd", result.rates, strict=True)))
    print(f"held out   loss {result.held_out:.3f} (of the mean alone: {result.unchanging:.3f})")
    print(f"SciPy      trajectory within {result.trajectory_error:.1e}, gradient within {result.gradient_error:.1e}")
    steps = (LEARNT - 1) * steps_per_year
    print(f"speed      {seconds / calls * 1e6:.0f} us for {steps} steps and the gradient")
    if picture:
        draw(result, picture)
    return result


def draw(result: Result, file: str) -> None:
    from matplotlib import pyplot as plt

    years, pelts = load_data()
    figure, axes = plt.subplots(figsize=(7, 3.5), layout="constrained")
    for column, name in enumerate(("hares", "lynx")):
        axes.plot(years, result.trajectory[:, column], color=f"C{column}", label=f"{name}, fitted")
        axes.plot(years, pelts[:, column], "o", color=f"C{column}", label=f"{name}, pelts")
    axes.axvspan(years[LEARNT] - 0.5, years[-1] + 0.5, color="0.93", label="held out")
    axes.set(ylabel="thousands", xlim=(years[0] - 0.5, years[-1] + 0.5), ylim=(0, 100), xticks=years[::4])
    axes.legend(ncols=3, fontsize="small", loc="upper center")
    figure.savefig(file, dpi=150)


if __name__ == "__main__":
    main(picture=picture_file(__doc__))
