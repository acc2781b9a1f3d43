"""Test values: expressions computed while they are built (``config.compute_test_value``).

With ``x.tag.test_value`` set on the inputs, each new expression gets a ``tag.test_value`` of its own, by the
reference meaning of its operation. Sizes that do not agree are then reported on the line that is wrong, long
before anything is compiled.
"""

import warnings
from collections.abc import Iterable, Iterator, MutableMapping

from symtensor_codegen.errors import ShapeError, UserError

from .graph import Tensor
from .opdef import CONSTANT, SHARED, describe
from .reference import Array, Evaluation, MissingValueError, given
from .settings import config


class MissingTestValueError(UserError, AttributeError):
    """An expression cannot be computed yet: a variable has no test value."""


class _TaggedValues(MutableMapping[Tensor, Array]):
    """The test values of all tensors, kept on the tensors themselves."""

    def __getitem__(self, node: Tensor) -> Array:
        if node.op is CONSTANT:
            return node.data  # type: ignore[attr-defined,no-any-return]
        if node.op is SHARED:
            return node.get_value(borrow=True)  # type: ignore[attr-defined,no-any-return]
        if not hasattr(node.tag, "test_value"):
            raise KeyError(node)
        try:
            return given(node, node.tag.test_value)
        except (TypeError, ShapeError) as error:
            raise type(error)(f"test value of {error}") from None

    def __setitem__(self, node: Tensor, value: Array) -> None:
        node.tag.test_value = value

    def __delitem__(self, node: Tensor) -> None:
        del vars(node.tag)["test_value"]

    def __iter__(self) -> Iterator[Tensor]:
        raise TypeError("the tensors with a test value are not listed anywhere")

    def __len__(self) -> int:
        raise TypeError("the tensors with a test value are not listed anywhere")


_VALUES = _TaggedValues()


def compute_all(nodes: Iterable[Tensor]) -> None:
    """Give expressions their test values, if that is asked for."""
    if config.compute_test_value != "off":
        for node in nodes:
            if node.inputs:
                compute(node)


def compute(node: Tensor) -> None:
    """Give an expression its test value, computed anew from those of its inputs.

    What the inputs lack is computed too. Where a variable has no test value, ``"raise"`` is an error,
    ``"warn"`` a warning, and ``"ignore"`` leaves the expression without one.

    Raises:
        MissingTestValueError: with ``config.compute_test_value = "raise"``.
    """
    policy = config.compute_test_value
    evaluation = Evaluation({})
    evaluation.values = _VALUES
    if hasattr(node.tag, "test_value"):
        del node.tag.test_value
    try:
        evaluation.value(node)
    except MissingValueError as error:
        message = (
            f"no test value can be computed for {describe(node)}: {error}; set its tag.test_value, or "
            "config.compute_test_value = 'off'"
        )
        if policy == "raise":
            raise MissingTestValueError(message) from None
        if policy == "warn":
            warnings.warn(message, stacklevel=2)

