"""README's two command lines are what the checks run, and its program does what README says."""

import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

ROOT = Path(__file__).parents[2]
SCRIPT = ROOT / "notebooks" / "logistic_regression.py"


def command_lines() -> list[str]:
    blocks = re.findall(r"```sh\n(.*?)```", (ROOT / "README.md").read_text(encoding="utf-8"), re.DOTALL)
    return [line for block in blocks for line in block.splitlines()]


@pytest.fixture(scope="module")
def program() -> ModuleType:
    spec = importlib.util.spec_from_file_location("logistic_regression", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_check_script_runs_both_command_lines_word_for_word() -> None:
    main_job, all_tests = command_lines()
    script = (ROOT / ".ci" / "run").read_text(encoding="utf-8").splitlines()
    assert script.count(main_job) == 1
    assert script.count(all_tests) == 1
    assert script.index(main_job) < script.index(all_tests)


def test_the_main_job_prints_data_falling_loss_accuracy_and_times() -> None:
    run = subprocess.run([sys.executable, SCRIPT], capture_output=True, text=True, check=True, timeout=120)
    assert "569 tumours, 30 measurements each" in run.stdout
    assert "357 benign, 212 malignant" in run.stdout
    losses = [float(loss) for loss in re.findall(r"loss ([0-9.]+)", run.stdout)]
    assert len(losses) == 11
    assert losses == sorted(losses, reverse=True)
    assert losses[-1] < losses[0] / 5
    (accuracy,) = re.findall(r"accuracy +([0-9.]+)%", run.stdout)
    assert float(accuracy) > 95
    assert re.search(r"compiled +two functions in [0-9.]+ s", run.stdout)
    assert re.search(r"speed +[0-9.]+ us per step", run.stdout)


def test_later_processes_find_everything_in_the_cache(tmp_path: Path) -> None:
    """Three of them: a program whose text depended on addresses would miss now and then, and load LLVM."""
    code = "import sys, logistic_regression as job; job.main(10); print('llvmlite.binding' in sys.modules)"
    environment = {**os.environ, "SYMTENSOR_CACHE_DIR": str(tmp_path)}
    loaded = []
    for _ in range(4):
        run = subprocess.run(
            [sys.executable, "-c", code],
            cwd=SCRIPT.parent, env=environment, capture_output=True, text=True, check=True, timeout=120,
        )  # fmt: skip
        loaded.append(run.stdout.split()[-1])
    assert loaded == ["True", "False", "False", "False"]


def test_the_main_job_learns_the_weights_that_numpy_learns(program: ModuleType) -> None:
    data = program.load_data(np.random.RandomState(1))
    train, predict = program.compile_model(data.x.shape[1], np.random.RandomState(2))
    w, b = np.random.RandomState(2).randn(data.x.shape[1]), 0.0
    for _ in range(100):
        p = 1 / (1 + np.exp(-(data.x @ w) - b))
        prediction, xent = train(data.x, data.y)
        np.testing.assert_array_equal(prediction, p > 0.5)
        expected = np.logaddexp(0, -(data.x @ w) - b) + (1 - data.y) * (data.x @ w + b)
        np.testing.assert_allclose(xent, expected, rtol=1e-9, atol=1e-12)
        error = (p - data.y) / len(data.y)
        w, b = w - 0.1 * (data.x.T @ error + 0.02 * w), b - 0.1 * error.sum()
    held_out = 1 / (1 + np.exp(-(data.x_held @ w) - b)) > 0.5
    np.testing.assert_array_equal(predict(data.x_held), held_out)
