"""Updates of shared variables in the order in which they were made: what ``scan`` returns."""

from collections import OrderedDict
from collections.abc import Iterable, Mapping
from typing import Any

from .graph import Tensor
from .shared_variables import SharedVariable


class OrderedUpdates(OrderedDict[SharedVariable, Tensor]):
    """A mapping from shared variables to expressions for their next values; sums of two join them.

    Raises:
        TypeError: a key is no shared variable.
        KeyError: on joining, where both update a variable in different ways.
    """

    def __setitem__(self, key: SharedVariable, value: Any) -> None:
        if not isinstance(key, SharedVariable):
            raise TypeError(f"updates: keys must be shared variables, not {key!r}")
        super().__setitem__(key, value)

    def update(self, other: Any = None, **named: Any) -> None:
        """Add the updates of another mapping or list of pairs."""
        pairs: Iterable[tuple[Any, Any]] = other.items() if isinstance(other, Mapping) else other or ()
        for key, value in pairs:
            if key in self and self[key] is not value:
                raise KeyError(f"updates: {key} is updated in two different ways")
            self[key] = value

    def __add__(self, other: Any) -> "OrderedUpdates":
        joined = OrderedUpdates(self)
        joined.update(other)
        return joined

    def __radd__(self, other: Any) -> "OrderedUpdates":
        joined = OrderedUpdates(other)
        joined.update(self)
        return joined


__all__ = ["OrderedUpdates"]
