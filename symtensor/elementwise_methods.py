"""Elementary functions as methods of tensors: ``x.exp()`` is ``exp(x)``.

Theano's variables have them, and NumPy calls them for ``np.exp`` of an array of objects.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .graph import Tensor


def _op(name: str, x: object) -> "Tensor":
    from .opdef import OPS

    return OPS[name](x)


class ElementwiseMethods:
    """One method for each elementary function of one argument."""

    def exp(self) -> "Tensor":
        """The number e to the power of the values."""
        return _op("exp", self)

    def exp2(self) -> "Tensor":
        """2 to the power of the values."""
        return _op("exp2", self)

    def expm1(self) -> "Tensor":
        """exp(x) - 1, accurate near zero."""
        return _op("expm1", self)

    def log(self) -> "Tensor":
        """Natural logarithm."""
        return _op("log", self)

    def log1p(self) -> "Tensor":
        """log(1 + x), accurate near zero."""
        return _op("log1p", self)

    def log2(self) -> "Tensor":
        """Logarithm to base 2."""
        return _op("log2", self)

    def log10(self) -> "Tensor":
        """Logarithm to base 10."""
        return _op("log10", self)

    def sqrt(self) -> "Tensor":
        """Square root."""
        return _op("sqrt", self)

    def sin(self) -> "Tensor":
        """Sine."""
        return _op("sin", self)

    def cos(self) -> "Tensor":
        """Cosine."""
        return _op("cos", self)

    def tan(self) -> "Tensor":
        """Tangent."""
        return _op("tan", self)

    def arcsin(self) -> "Tensor":
        """Inverse sine."""
        return _op("arcsin", self)

    def arccos(self) -> "Tensor":
        """Inverse cosine."""
        return _op("arccos", self)

    def arctan(self) -> "Tensor":
        """Inverse tangent."""
        return _op("arctan", self)

    def sinh(self) -> "Tensor":
        """Hyperbolic sine."""
        return _op("sinh", self)

    def cosh(self) -> "Tensor":
        """Hyperbolic cosine."""
        return _op("cosh", self)

    def tanh(self) -> "Tensor":
        """Hyperbolic tangent."""
        return _op("tanh", self)

    def arcsinh(self) -> "Tensor":
        """Inverse hyperbolic sine."""
        return _op("arcsinh", self)

    def arccosh(self) -> "Tensor":
        """Inverse hyperbolic cosine."""
        return _op("arccosh", self)

    def arctanh(self) -> "Tensor":
        """Inverse hyperbolic tangent."""
        return _op("arctanh", self)

    def deg2rad(self) -> "Tensor":
        """Degrees as radians."""
        return _op("deg2rad", self)

    def rad2deg(self) -> "Tensor":
        """Radians as degrees."""
        return _op("rad2deg", self)

    def ceil(self) -> "Tensor":
        """The smallest whole number that is not below each value."""
        return _op("ceil", self)

    def floor(self) -> "Tensor":
        """The largest whole number that is not above each value."""
        return _op("floor", self)

    def trunc(self) -> "Tensor":
        """The values without their fractional part."""
        return _op("trunc", self)

    # For the functions of Python's ``math`` module.
    __ceil__ = ceil
    __floor__ = floor
    __trunc__ = trunc
