"""Small pieces that gradients are written with."""

from symtensor.graph import Tensor, constant


def zeros(g: Tensor) -> Tensor:
    """A zero gradient: of the size and element type of ``g``."""
    from .creation import zeros_like

    return zeros_like(g)


def typed(value: complex, like: Tensor) -> Tensor:
    """The number as a constant of the element type of ``like``, so that it never widens a gradient."""
    return constant(value, like.element)
