"""Random streams: sources of random variables, under the names of Theano and of PyTensor.

Each random variable has a stream of its own: number i of ``RandomStreams(seed)`` is what
``numpy.random.Philox(seed).jumped(i)`` gives. Streams are independent, whatever is drawn from the others.
"""

from typing import Any

import numpy as np

from symtensor.graph import Tensor, TensorLike, as_tensor
from symtensor.opdef import describe
from symtensor.ops.indexing import getitem, take_along_axis
from symtensor.ops.shaping import dim
from symtensor_codegen.errors import ShapeError

from . import distributions as draw
from .state import RandomStateVariable, Seed, random_state, words_of

Update = tuple[RandomStateVariable, Tensor]


class Streams:
    """A seed, and the streams of all random variables made from it."""

    def __init__(self, seed: Seed = None) -> None:
        self._sequence = np.random.SeedSequence(seed)
        self.state_updates: list[Update] = []

    @property
    def default_instance_seed(self) -> Any:
        """The seed, or what was chosen where none was given."""
        return self._sequence.entropy

    def updates(self) -> list[Update]:
        """Pairs (state, state after the draw) of every random variable, for the ``updates`` of a function."""
        return list(self.state_updates)

    def seed(self, seed: Seed = None) -> None:
        """Begin all streams again, with another seed (None: the one they had)."""
        if seed is not None:
            self._sequence = np.random.SeedSequence(seed)
        for number, (state, _) in enumerate(self.state_updates):
            state.set_value(words_of(self._sequence, number))

    def _next_state(self) -> RandomStateVariable:
        return random_state(self._sequence, len(self.state_updates), f"stream {len(self.state_updates)}")

    def _variable(self, state: RandomStateVariable, drawn: draw.Draw) -> Tensor:
        """The random variable of a draw; functions that use it move its stream on."""
        value, after = drawn
        state.default_update = after
        self.state_updates.append((state, after))
        value.rng = state  # type: ignore[attr-defined]
        value.update = (state, after)  # type: ignore[attr-defined]
        return value

    # What both APIs draw in the same way --------------------------------------------------------------------

    def _uniform(self, low: TensorLike, high: TensorLike, size: Any, ndim: int | None, dtype: object) -> Tensor:
        sizes, state = draw.sizes_or_none("uniform", size, ndim), self._next_state()
        return self._variable(state, draw.uniform(state, low, high, sizes, dtype))

    def _normal(self, loc: TensorLike, scale: TensorLike, size: Any, ndim: int | None, dtype: object) -> Tensor:
        sizes, state = draw.sizes_or_none("normal", size, ndim), self._next_state()
        return self._variable(state, draw.normal(state, loc, scale, sizes, dtype))

    def _integers(
        self, low: TensorLike, high: TensorLike, size: Any, ndim: int | None, dtype: object, closed: bool
    ) -> Tensor:
        sizes, state = draw.sizes_or_none("integers", size, ndim), self._next_state()
        return self._variable(state, draw.integers(state, low, high, sizes, dtype, closed=closed))

    def _binomial(self, n: TensorLike, p: TensorLike, size: Any, ndim: int | None, dtype: object) -> Tensor:
        sizes, state = draw.sizes_or_none("binomial", size, ndim), self._next_state()
        return self._variable(state, draw.binomial(state, n, p, sizes, dtype))

    def _multinomial(self, n: TensorLike, p: TensorLike, size: Any, ndim: int | None, dtype: object) -> Tensor:
        sizes, state = draw.sizes_or_none("multinomial", size, ndim), self._next_state()
        return self._variable(state, draw.multinomial(state, n, p, sizes, dtype))

    def _categorical(self, p: TensorLike, size: Any, ndim: int | None, dtype: object) -> Tensor:
        sizes, state = draw.sizes_or_none("categorical", size, ndim), self._next_state()
        return self._variable(state, draw.categorical(state, p, sizes, dtype))

    def _permutation(self, length: TensorLike, size: Any, ndim: int | None, dtype: object) -> Tensor:
        sizes, state = draw.sizes_or_none("permutation", size, ndim) or [], self._next_state()
        return self._variable(
            state, draw.permutation(state, draw.length_of("permutation", length), sizes, dtype)
        )

    def _choice(
        self, a: TensorLike, size: Any, replace: bool, p: TensorLike | None, ndim: int | None, dtype: object
    ) -> Tensor:
        """Positions below ``a``, or the elements of the vector ``a`` at such positions."""
        values = as_tensor(a)
        if values.ndim > 1:
            raise ShapeError(f"choice takes a number or a vector, got {describe(values)}")
        count = a if values.ndim == 0 else dim(values, 0)
        kind = dtype if values.ndim == 0 else "int64"
        size = () if size is None else size
        if p is None and replace:
            chosen = self._integers(0, count, size, ndim, kind, False)
        elif p is None:
            order = self._permutation(count, None, None, kind)
            sizes = draw.sizes_or_none("choice", size, ndim) or []
            chosen = _as_drawn(draw.leading("choice", order, sizes), order)
        elif replace:
            chances = draw.matching("choice", p, count)
            if chances.ndim > 1 and isinstance(size, int):
                size = [dim(chances, axis) for axis in range(chances.ndim - 1)]
            chosen = self._categorical(chances, size, ndim, kind)
        else:
            sizes, state = draw.sizes_or_none("choice", size, ndim) or [], self._next_state()
            chosen = self._variable(state, draw.distinct(state, draw.matching("choice", p, count), sizes, kind))
        return chosen if values.ndim == 0 else _as_drawn(getitem(values, chosen), chosen)

    def shuffle_row_elements(self, input: TensorLike) -> Tensor:
        """A matrix whose every row is shuffled by itself (a vector is one row)."""
        rows = as_tensor(input)
        if rows.ndim not in (1, 2):
            raise ShapeError(f"shuffle_row_elements takes a matrix or vector, got {describe(rows)}")
        size = [dim(rows, 0)] if rows.ndim == 2 else None
        order = self._permutation(dim(rows, rows.ndim - 1), size, None, "int64")
        return _as_drawn(take_along_axis(rows, order, axis=rows.ndim - 1), order)


def _as_drawn(value: Tensor, drawn: Tensor) -> Tensor:
    """``value`` with the ``rng`` and ``update`` of the random variable that it is computed from."""
    value.rng, value.update = drawn.rng, drawn.update  # type: ignore[attr-defined]
    return value


class RandomStreams(Streams):
    """Theano's random streams (``shared_randomstreams``): sizes come first.

    Every method makes a random variable. Its stream is a shared variable, ``v.rng``, that every call of a function
    with ``v`` moves on (its default update; ``v.update`` is the pair for ``updates``). In one function ``v`` is one
    draw, however often it is used. ``size`` may hold expressions; ``ndim`` is needed only where it is a vector of
    unknown length.
    """

    def uniform(
        self,
        size: Any = None,
        low: TensorLike = 0.0,
        high: TensorLike = 1.0,
        ndim: int | None = None,
        dtype: object = None,
        nstreams: int | None = None,
    ) -> Tensor:
        """Uniformly distributed numbers in [low, high); for 0 and 1 those of NumPy's ``Generator(Philox).random``."""
        return self._uniform(low, high, size, ndim, dtype)

    def normal(
        self,
        size: Any = None,
        avg: TensorLike = 0.0,
        std: TensorLike = 1.0,
        ndim: int | None = None,
        dtype: object = None,
        nstreams: int | None = None,
    ) -> Tensor:
        """Normally distributed numbers with mean ``avg`` and standard deviation ``std``."""
        return self._normal(avg, std, size, ndim, dtype)

    def binomial(
        self,
        size: Any = None,
        n: TensorLike = 1,
        p: TensorLike = 0.5,
        ndim: int | None = None,
        dtype: object = "int64",
        nstreams: int | None = None,
        prob: TensorLike | None = None,
    ) -> Tensor:
        """How many of ``n`` trials succeed, each with probability ``p``; with n = 1 a mask of zeros and ones."""
        return self._binomial(n, p if prob is None else prob, size, ndim, dtype)

    def multinomial(
        self,
        size: Any = None,
        n: TensorLike = 1,
        pvals: TensorLike = (0.5, 0.5),
        ndim: int | None = None,
        dtype: object = "int64",
        nstreams: int | None = None,
    ) -> Tensor:
        """How often each category occurs in ``n`` draws, for each row of ``pvals``; with n = 1 one-hot rows."""
        return self._multinomial(n, pvals, size, ndim, dtype)

    def random_integers(
        self,
        size: Any = None,
        low: TensorLike = 0,
        high: TensorLike = 1,
        ndim: int | None = None,
        dtype: object = "int64",
    ) -> Tensor:
        """Integers from ``low`` to ``high``, both included, all equally likely."""
        return self._integers(low, high, size, ndim, dtype, True)

    def randint(
        self,
        size: Any = None,
        low: TensorLike = 0,
        high: TensorLike | None = None,
        ndim: int | None = None,
        dtype: object = "int64",
    ) -> Tensor:
        """Integers from ``low`` to ``high - 1`` (with one bound: from 0), all equally likely."""
        return self._integers(0 if high is None else low, low if high is None else high, size, ndim, dtype, False)

    def choice(
        self,
        size: Any = None,
        a: TensorLike = 2,
        replace: bool = True,
        p: TensorLike | None = None,
        ndim: int | None = None,
        dtype: object = "int64",
        nstreams: int | None = None,
    ) -> Tensor:
        """Elements of the vector ``a`` (of 0 to ``a - 1``), with probabilities ``p``, each at most once without
        ``replace``.
        """
        return self._choice(a, size, replace, p, ndim, dtype)

    def permutation(
        self, size: Any = None, n: TensorLike = 1, ndim: int | None = None, dtype: object = "int64"
    ) -> Tensor:
        """The numbers 0 to ``n - 1`` in random order along the last axis, for each element of ``size``."""
        return self._permutation(n, size, ndim, dtype)


class MRG_RandomStreams(RandomStreams):
    """Theano's ``MRG_RandomStreams``. The numbers are those of ``RandomStreams`` here, not those of MRG31k3p."""

    def __init__(self, seed: Seed = 12345, use_cuda: bool | None = None) -> None:
        super().__init__(seed)

    def set_rstate(self, seed: Seed) -> None:
        """Begin all streams again, with another seed."""
        self.seed(seed)

    def choice(
        self,
        size: Any = 1,
        a: TensorLike | None = None,
        replace: bool = True,
        p: TensorLike | None = None,
        ndim: int | None = None,
        dtype: object = "int64",
        nstreams: int | None = None,
    ) -> Tensor:
        """As ``RandomStreams.choice``; without ``a`` positions in ``p``, for each row where it is a matrix."""
        if a is None:
            if p is None:
                raise TypeError("choice: neither a nor p is given")
            chances = as_tensor(p)
            a = dim(chances, chances.ndim - 1)
        return self._choice(a, size, replace, p, ndim, dtype)

    def multinomial_wo_replacement(
        self,
        size: Any = None,
        n: TensorLike = 1,
        pvals: TensorLike | None = None,
        ndim: int | None = None,
        dtype: object = "int64",
        nstreams: int | None = None,
    ) -> Tensor:
        """For each row of ``pvals`` the positions of ``n`` different categories."""
        if pvals is None:
            raise TypeError("multinomial_wo_replacement: pvals is not given")
        return self.choice(n, None, False, pvals, ndim, dtype)


class RandomStream(Streams):
    """PyTensor's random streams: parameters come first, as in NumPy's ``Generator``."""

    def uniform(
        self, low: TensorLike = 0.0, high: TensorLike = 1.0, *, size: Any = None, ndim: int | None = None,
        dtype: object = None,
    ) -> Tensor:  # fmt: skip
        """Uniformly distributed numbers in [low, high)."""
        return self._uniform(low, high, size, ndim, dtype)

    def random(self, size: Any = None, dtype: object = None) -> Tensor:
        """Uniformly distributed numbers in [0, 1)."""
        return self._uniform(0.0, 1.0, size, None, dtype)

    def normal(
        self, loc: TensorLike = 0.0, scale: TensorLike = 1.0, *, size: Any = None, ndim: int | None = None,
        dtype: object = None,
    ) -> Tensor:  # fmt: skip
        """Normally distributed numbers."""
        return self._normal(loc, scale, size, ndim, dtype)

    def standard_normal(self, *, size: Any = None, dtype: object = None) -> Tensor:
        """Normally distributed numbers with mean 0 and standard deviation 1."""
        return self._normal(0.0, 1.0, size, None, dtype)

    def bernoulli(self, p: TensorLike = 0.5, *, size: Any = None, dtype: object = "int64") -> Tensor:
        """1 with probability p, else 0."""
        return self._binomial(1, p, size, None, dtype)

    def binomial(self, n: TensorLike, p: TensorLike, *, size: Any = None, dtype: object = "int64") -> Tensor:
        """How many of n trials succeed, each with probability p."""
        return self._binomial(n, p, size, None, dtype)

    def multinomial(self, n: TensorLike, p: TensorLike, *, size: Any = None, dtype: object = "int64") -> Tensor:
        """How often each category occurs in n draws."""
        return self._multinomial(n, p, size, None, dtype)

    def categorical(self, p: TensorLike, *, size: Any = None, dtype: object = "int64") -> Tensor:
        """A position with the probabilities along the last axis of p."""
        return self._categorical(p, size, None, dtype)

    def integers(
        self, low: TensorLike, high: TensorLike | None = None, *, size: Any = None, dtype: object = "int64",
        endpoint: bool = False,
    ) -> Tensor:  # fmt: skip
        """Integers from ``low`` to ``high - 1`` (with one bound: from 0; with ``endpoint`` up to ``high``)."""
        bottom, top = (0, low) if high is None else (low, high)
        return self._integers(bottom, top, size, None, dtype, endpoint)

    def choice(
        self, a: TensorLike, size: Any = None, replace: bool = True, p: TensorLike | None = None,
        *, dtype: object = "int64",
    ) -> Tensor:  # fmt: skip
        """Elements of the vector ``a`` (or of 0 to ``a - 1``)."""
        return self._choice(a, size, replace, p, None, dtype)

    def permutation(self, x: TensorLike, *, dtype: object = "int64") -> Tensor:
        """The numbers below ``x``, or the elements along the first axis of ``x``, in random order."""
        values = as_tensor(x)
        if values.ndim == 0:
            return self._permutation(x, None, None, dtype)
        order = self._permutation(dim(values, 0), None, None, "int64")
        return _as_drawn(getitem(values, order), order)
