"""Tables of vectors of which each step touches a few rows, as in word2vec and matrix factorisation."""

import numpy as np
import pytest

import symtensor.tensor as T
from symtensor import function, shared
from symtensor.graph import Tensor


def skip_gram(inner: Tensor, outer: Tensor, others: Tensor) -> Tensor:
    """The cost of pairs of words, with vectors of other words as negative examples: (n,d), (n,d), (n,k,d)."""
    near = T.log(T.nnet.sigmoid((inner * outer).sum(axis=1)))
    far = T.log(T.nnet.sigmoid(-(inner.dimshuffle(0, "x", 1) * others).sum(axis=2)))
    return -(near + far.sum(axis=1)).sum()


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_rows_are_updated_where_they_are(dtype: str) -> None:
    """Gradients with respect to the rows picked, added with ``inc_subtensor``; repeated rows add up."""
    rng = np.random.default_rng(0)
    tables = [rng.normal(size=(50, 8)).astype(dtype) for _ in range(2)]
    V, U = shared(tables[0], "V"), shared(tables[1], "U")
    words, context, negative = T.lvector("words"), T.lvector("context"), T.lmatrix("negative")
    rows = [V[words], U[context], U[negative]]
    cost = skip_gram(*rows)
    step = np.asarray(0.1, dtype)
    dV, dU, dN = T.grad(cost, rows)
    updates = [(V, T.inc_subtensor(rows[0], -step * dV))]
    updates.append((U, T.inc_subtensor(T.inc_subtensor(rows[1], -step * dU)[negative], -step * dN)))
    train = function([words, context, negative], cost, updates=updates)
    whole = T.grad(cost, [V, U])
    reference = function([words, context, negative], [V - step * whole[0], U - step * whole[1]])
    w, c, n = rng.integers(0, 9, 20), rng.integers(-50, 50, 20), rng.integers(0, 50, (20, 3))
    losses = []
    for _ in range(20):
        wanted = reference(w, c, n)
        losses.append(float(train(w, c, n)))
        for table, expected in zip((V, U), wanted, strict=True):
            close = 1e-4 if dtype == "float32" else 1e-12
            np.testing.assert_allclose(table.get_value(), expected, rtol=close, atol=close)
    assert losses[-1] < 0.5 * losses[0]
    with pytest.raises(IndexError, match="out of range on axis 0, of size 50"):
        train(w, np.where(c == c[0], 50, c), n)


def test_matrix_factorisation() -> None:
    """A matrix of rank 2, of which a third of the elements is seen, is found again."""
    rng = np.random.default_rng(1)
    wanted = rng.normal(size=(30, 2)) @ rng.normal(size=(2, 20))
    seen = np.argwhere(rng.random(wanted.shape) < 0.4)
    rows, columns = seen.T
    P, Q = shared(rng.normal(size=(30, 2)), "P"), shared(rng.normal(size=(20, 2)), "Q")
    i, j, r = T.lvector("i"), T.lvector("j"), T.dvector("r")
    cost = ((r - (P[i] * Q[j]).sum(axis=1)) ** 2).sum() + 1e-3 * ((P**2).sum() + (Q**2).sum())
    train = function([i, j, r], cost, updates=[(t, t - 0.01 * T.grad(cost, t)) for t in (P, Q)])
    for _ in range(1500):
        loss = train(rows, columns, wanted[rows, columns])
    assert loss < 0.2
    np.testing.assert_allclose(P.get_value() @ Q.get_value().T, wanted, atol=0.3)
