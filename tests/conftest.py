"""Settings for every test: a kernel cache of the run's own, and random examples that repeat."""

import os
import shutil
import tempfile

import pytest
from hypothesis import settings

CACHE_VARIABLE = "SYMTENSOR_CACHE_DIR"
OWN_CACHE = pytest.StashKey[str]()

# The same examples in every run, so that a failure can be seen again; no deadline: some compile.
settings.register_profile("symtensor", deadline=None, derandomize=True, max_examples=50)
settings.load_profile("symtensor")


def pytest_configure(config: pytest.Config) -> None:
    """Keep the user's cache out of the tests; a cache named in the environment is used as it is."""
    if CACHE_VARIABLE not in os.environ:
        config.stash[OWN_CACHE] = os.environ[CACHE_VARIABLE] = tempfile.mkdtemp(prefix="symtensor-tests-")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Tests that run on every device leave out what is about the CPU alone."""
    if any("device" in getattr(item, "fixturenames", ()) for item in items):
        from tests.cuda.devices import deselect

        deselect(config, items)


def pytest_unconfigure(config: pytest.Config) -> None:
    """Remove the run's cache. Workers of a distributed run inherit the variable and own nothing."""
    if folder := config.stash.get(OWN_CACHE, None):
        del os.environ[CACHE_VARIABLE]
        shutil.rmtree(folder, ignore_errors=True)
