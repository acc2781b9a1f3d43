"""Work that need not be done step by step: moved in front of a loop or behind it, over all steps at once.

- Products of rows of sequences with what is constant become one product in front of the loop (``ahead``).
- A state that only adds up a product, or a sum of what is stored anyway, becomes one product or sum behind the loop
  (``sums``): so the gradient of a weight is one large product instead of one for each step.
- A matrix with short rows that multiplies a vector in every step is transposed once (``turned``).
- What no later step needs is computed behind the loop where that takes a product out of it, or costs no memory
  (``behind``); a loop without states disappears.
"""

from collections.abc import Callable, Mapping, Sequence
from math import prod

from symtensor.graph import Tensor, ancestors, constant, replace, variable
from symtensor.opdef import CONSTANT, OPS
from symtensor.ops.loop_body import Body, has_wide_products
from symtensor.types import TensorType
from symtensor.vectorize import VectorizeError, vectorize

PRODUCTS = frozenset(("dot", "batched_dot"))
SHORT = 32  # elements of a row; longer ones are summed along the row as fast as side by side
SMALL = 256  # elements of all states: such loops stay as they are, with their states in registers

AllSteps = Callable[[Tensor], Tensor]  # the values of an inner expression over all steps, outside


def is_small(body: Body, outputs: Sequence[Tensor]) -> bool:
    """Whether a loop's values are so few, and their sizes known, that it is kept whole."""
    if not body.carries:
        return False
    for node in ancestors(outputs):
        if any(size is None for size in node.type.shape) or prod(s or 0 for s in node.type.shape) > SMALL:
            return False
    return not has_wide_products(ancestors(outputs), lambda node: [s or 0 for s in node.type.shape])


def depends_on(outputs: Sequence[Tensor], sources: Sequence[Tensor]) -> set[Tensor]:
    """The nodes that depend on some of ``sources``, those included."""
    found: set[Tensor] = set()
    for node in ancestors(outputs):
        if node in sources or any(i in found for i in node.inputs):
            found.add(node)
    return found


def ahead(body: Body, outputs: list[Tensor], outer: dict[Tensor, Tensor], rows: AllSteps) -> list[Tensor]:
    """The outputs with products of sequence rows read from new sequences, which are added to ``outer``."""
    late = depends_on(outputs, [body.index, *body.carries])
    early = depends_on(outputs, body.sequences)
    order = ancestors(outputs)
    found: dict[Tensor, Tensor] = {}
    inside: set[Tensor] = set()  # what only products need
    for node in reversed(order):
        if node.op.name in PRODUCTS and node in early and node not in late and node not in inside:
            made = over_steps(node, body, outer, rows)
            if made is not None:
                found[node] = row = variable(node.type, node.name)
                outer[row] = made
                inside.update(ancestors([node]))
    return replace(outputs, found) if found else outputs


def turned(body: Body, outputs: Sequence[Tensor]) -> tuple[list[Tensor], dict[Tensor, Tensor]]:
    """The outputs with products ``matrix @ vector`` of constants with short rows as ``vector @ transposed``.

    Then many elements of the product are computed side by side from neighbouring elements of memory. Also returns,
    for each matrix, the variable that its transpose has become.
    """
    varying = depends_on(outputs, [body.index, *body.carries, *body.sequences])
    matrices: dict[Tensor, Tensor] = {}
    found: dict[Tensor, Tensor] = {}
    for node in ancestors(outputs):
        if node.op.name != "dot" or node.inputs[0] not in body.constants or node.inputs[1] not in varying:
            continue
        matrix, vector = node.inputs
        if matrix.ndim != 2 or vector.ndim != 1:
            continue
        rows, columns = matrix.type.shape
        if columns is not None and columns <= SHORT and (rows is None or rows >= columns):
            if matrix not in matrices:
                matrices[matrix] = variable(TensorType(matrix.element, (columns, rows)), matrix.name)
            found[node] = OPS["dot"](vector, matrices[matrix])
    # A product may be computed from another one: innermost first, each with those before it in place.
    done: dict[Tensor, Tensor] = {}
    for node, made in found.items():
        (done[node],) = replace([made], done) if done else [made]
    return (replace(outputs, done) if done else list(outputs)), matrices


def over_steps(
    node: Tensor, body: Body, outer: Mapping[Tensor, Tensor], rows: AllSteps, cut: Sequence[Tensor] = ()
) -> Tensor | None:
    """``node`` over all steps, from the values over all steps of ``cut`` and of sequences; None if that cannot be."""
    own = [v for v in (*body.sequences, body.index) if v not in cut]
    batches = {v: rows(v) for v in ancestors([node], stop=cut) if v in own or v in cut}
    if not batches:
        return None
    fixed = {v: outer[v] for v in body.constants if v in outer}
    (made,) = replace([node], {v: x for v, x in fixed.items() if v not in cut}) if fixed else [node]
    try:
        (done,) = vectorize([made], _through(batches, node, made, fixed))
    except VectorizeError:
        return None
    return done


def _through(
    batches: Mapping[Tensor, Tensor], node: Tensor, made: Tensor, fixed: Mapping[Tensor, Tensor]
) -> dict[Tensor, Tensor]:
    """The nodes to be replaced by batches, after constants have been replaced in them."""
    if node is made:
        return dict(batches)
    keys = list(batches)
    moved = replace(keys, fixed)
    return {new: batches[old] for old, new in zip(keys, moved, strict=True)}


class Sum:
    """A state that is the sum of ``term(all_steps)`` over the steps, added to its initial value."""

    def __init__(self, needs: Sequence[Tensor], total: Callable[[AllSteps], Tensor]) -> None:
        self.needs, self.total = needs, total


def sums(body: Body, candidates: Sequence[int], outputs: Sequence[Tensor], stored: Sequence[Tensor]) -> dict[int, Sum]:
    """The states among ``candidates`` that need not be states: what their sum is computed from, and how."""
    users: dict[Tensor, int] = {}
    for node in ancestors(outputs):
        for i in node.inputs:
            users[i] = users.get(i, 0) + 1
    for node in outputs:
        users[node] = users.get(node, 0) + 1
    terms: dict[int, Tensor] = {}
    for k in candidates:
        total, after = body.carries[k], body.nexts[k]
        if after.op.name == "add" and total in after.inputs and users.get(total) == 1 and users.get(after) == 1:
            a, b = after.inputs
            terms[k] = b if a is total else a
    found: dict[int, Sum] = {}
    for k, term in terms.items():
        made = _product(term)
        if made is not None:
            found[k] = made
    available = {*stored, *body.sequences, *(n for s in found.values() for n in s.needs)}
    for k, term in terms.items():
        if k not in found:
            source = term
            axes: tuple[int, ...] = ()
            if term.op.name == "sum" and not term.params.get("keepdims") and term.inputs[0].element is term.element:
                source, axes = term.inputs[0], term.params["axes"]
            if source in available:
                found[k] = Sum([source], _summed(source, axes))
    return found


def _summed(source: Tensor, axes: tuple[int, ...]) -> Callable[[AllSteps], Tensor]:
    from symtensor.ops.reduction import sum as sum_

    def total(rows: AllSteps) -> Tensor:
        made: Tensor = sum_(rows(source), axis=(0, *[a + 1 for a in axes]))
        return made

    return total


def _product(term: Tensor) -> Sum | None:
    """A product of two matrices, or an outer product of two vectors, as one product over all steps."""
    if term.op.name == "dot" and all(i.ndim == 2 for i in term.inputs):
        left, right = term.inputs
        return Sum([_plain(left)[0], _plain(right)[0]], lambda rows: _joined(rows, left, right))
    if term.op.name == "mul" and term.ndim == 2:
        a, b = term.inputs
        if _order(a) == ("x", 0):
            a, b = b, a
        if _order(a) == (0, "x") and _order(b) == ("x", 0):
            x, y = a.inputs[0], b.inputs[0]
            return Sum([x, y], lambda rows: OPS["dot"](OPS["dimshuffle"].make(rows(x), order=(1, 0)), rows(y)))
    return None


def _order(node: Tensor) -> tuple[object, ...] | None:
    return tuple(node.params["order"]) if node.op.name == "dimshuffle" else None


def _plain(matrix: Tensor) -> tuple[Tensor, bool]:
    """A matrix, or what it is the transpose of."""
    return (matrix.inputs[0], True) if _order(matrix) == (1, 0) else (matrix, False)


def _joined(rows: AllSteps, left: Tensor, right: Tensor) -> Tensor:
    """The sum over steps of ``left @ right``: the steps continue the summed axis."""
    (a, turned), (b, other) = _plain(left), _plain(right)
    first = _stacked(rows(a), 0 if turned else 1)  # (steps * k, m)
    second = _stacked(rows(b), 1 if other else 0)  # (steps * k, n)
    return OPS["dot"](OPS["dimshuffle"].make(first, order=(1, 0)), second)


def _stacked(x: Tensor, axis: int) -> Tensor:
    """Steps of matrices as one matrix: the steps of ``axis`` of each below those of the one before."""
    from symtensor.ops.shaping_axes import sizes
    from symtensor.ops.shaping_reshape import reshape_to

    if axis == 1:
        x = OPS["dimshuffle"].make(x, order=(0, 2, 1))
    return reshape_to(x, [constant(-1, "int64"), sizes(x)[2]])


def behind(body: Body, shown: Sequence[Tensor], recurrent: set[Tensor]) -> dict[Tensor, list[Tensor]]:
    """Which of ``shown`` are computed behind the loop, and from which values over all steps."""
    found: dict[Tensor, list[Tensor]] = {}
    free = {*body.sequences, *body.carries, *body.nexts, *body.constants, body.index}
    kept = {v for v in shown if v in recurrent}
    for node in shown:
        if node in recurrent or node in free or node.op is CONSTANT:
            continue
        above = [n for n in ancestors([node], stop=recurrent) if n not in recurrent and n not in free]
        own = {n for n in above if n.op is not CONSTANT and n.inputs}
        cut = dict.fromkeys(i for n in own for i in n.inputs if i not in own and i.op is not CONSTANT)
        edge = [i for i in cut if i not in body.constants]
        if not edge:
            continue
        costs = [i for i in edge if i not in free and i not in kept]
        if not costs or any(n.op.name in PRODUCTS for n in own):
            found[node] = edge
    return found
