"""Theano's module of ``_asarray``."""

from typing import Any

import numpy as np
import numpy.typing as npt

from symtensor.settings import config


def _asarray(value: Any, dtype: Any = None, order: Any = None) -> npt.NDArray[Any]:
    """NumPy's asarray, which also knows the type ``"floatX"``."""
    return np.asarray(value, config.floatX if isinstance(dtype, str) and dtype == "floatX" else dtype, order)


__all__ = ["_asarray"]
