"""Tables of bad programs, and exactly what they are told.

A row is a small program, the class of its error, and its message, in which ``HERE`` stands for a line of the
program. Shared variables made by ``state`` must keep their values through the error.
"""

import re
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import pytest

from symtensor import shared
from symtensor.shared_variables import SharedVariable

Program = Callable[[], Any]


class Row(NamedTuple):
    """A bad program and what must come of it."""

    program: Program
    error: type[Exception]
    message: str

    def __str__(self) -> str:
        return self.program.__name__


class Table(list[Row]):
    """Rows, added by decorating programs with their error and its message."""

    def __call__(self, error: type[Exception], message: str) -> Callable[[Program], Program]:
        """The decorated program fails with this error and message."""

        def add(program: Program) -> Program:
            self.append(Row(program, error, message))
            return program

        return add


_states: list[tuple[SharedVariable, Any]] = []


def state(value: Any, name: str = "s") -> SharedVariable:
    """A shared variable that must not change."""
    made = shared(value, name=name)
    _states.append((made, made.get_value()))
    return made


def check(row: Row, exactly: bool = True) -> None:
    """Run a row; ``exactly``: compare the message."""
    _states.clear()
    with pytest.raises(row.error) as caught:
        row.program()
    assert type(caught.value) is row.error
    if exactly:
        assert re.sub(r"test_\w+\.py:\d+", "HERE", caught.value.args[0]) == row.message
    for variable, before in _states:
        np.testing.assert_array_equal(variable.get_value(), before)
