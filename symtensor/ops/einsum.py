"""Sums of products in Einstein's notation, contracted pair by pair in a good order."""

from collections.abc import Sequence
from typing import NamedTuple

from symtensor.graph import Tensor, TensorLike
from symtensor.opdef import describe, promoted
from symtensor_codegen import dtypes
from symtensor_codegen.errors import ShapeError

from .arguments import as_element
from .creation_diagonal import diagonal
from .linalg_products import BATCHED_DOT, dot
from .reduction import any as any_over
from .reduction import sum as sum_over
from .shaping import dimshuffle, reshape_to, sizes

EXHAUSTIVE = 5  # up to this many operands every order is tried
UNKNOWN = 64  # the size assumed for one that is not known when the order is chosen


class Operand(NamedTuple):
    """A tensor with the label of each of its axes."""

    tensor: Tensor
    labels: str


def einsum(subscripts: str, *operands: TensorLike) -> Tensor:
    """Sum of products, as ``numpy.einsum``: ``einsum("ij,jk->ik", a, b)`` is the matrix product.

    A label that is repeated within an operand takes a diagonal; one that is not in the result is summed over;
    ``...`` stands for any further axes, which broadcast. Without ``->`` the result has the labels that occur
    once, in alphabetical order. Several operands are contracted in the order that needs the fewest products
    (trying all for up to 5 operands, greedily for more), with matrix products where possible.

    Raises:
        ShapeError: subscripts and operands do not agree.
    """
    if not operands:
        raise ShapeError("einsum: there are no operands")
    tensors = promoted(operands, name="einsum")
    element = tensors[0].element
    if element is dtypes.float16:
        return as_element(einsum(subscripts, *[as_element(t, dtypes.float32) for t in tensors]), element)
    terms, result = parse(subscripts, tensors)
    parts = [_without_repeats(Operand(t, term)) for t, term in zip(tensors, terms, strict=True)]
    parts = _without_ones(parts)
    extents = _extents(subscripts, parts)
    for i, j in path(extents, [set(p.labels) for p in parts], set(result)):
        rest = [p for k, p in enumerate(parts) if k not in (i, j)]
        needed = set(result).union(*[p.labels for p in rest])
        parts = [*rest, _contract(parts[i], parts[j], needed)]
    last = _summed(parts[0], set(result))
    return _arranged(last, result)


# Notation -------------------------------------------------------------------------------------------------


def parse(subscripts: str, tensors: Sequence[Tensor]) -> tuple[list[str], str]:
    """The labels of each operand and of the result; capital Greek letters stand for the axes of ``...``."""
    text = subscripts.replace(" ", "")
    left, arrow, right = text.partition("->")
    terms = left.split(",")
    if len(terms) != len(tensors):
        raise ShapeError(f"einsum: {subscripts!r} is for {len(terms)} operands, got {len(tensors)}")
    more = 0
    for term, tensor in zip(terms, tensors, strict=True):
        named = term.replace("...", "", 1)
        if not all(c.isascii() and c.isalpha() for c in named):
            raise ShapeError(f"einsum: {subscripts!r}: {term!r} must be made of letters and one '...'")
        missing = tensor.ndim - len(named)
        if missing < 0 or (missing and "..." not in term):
            raise ShapeError(
                f"einsum: {term!r} is for {len(named)} axes, not {tensor.ndim}: {describe(tensor)}"
            )
        more = max(more, missing)
    further = "".join(chr(0x391 + k) for k in range(more))
    full = [
        term.replace("...", further[more - (tensor.ndim - len(term.replace("...", ""))) :])
        for term, tensor in zip(terms, tensors, strict=True)
    ]
    together = "".join(full)
    if not arrow:
        once = sorted(c for c in set(together) if c not in further and together.count(c) == 1)
        return full, further + "".join(once)
    result = right.replace("...", further)
    if len(set(result)) != len(result) or not set(result) <= set(together):
        raise ShapeError(
            f"einsum: {subscripts!r}: the labels of the result must be different ones of the operands"
        )
    return full, result


def _without_repeats(part: Operand) -> Operand:
    tensor, labels = part
    for label in dict.fromkeys(labels):
        while labels.count(label) > 1:
            one = labels.index(label)
            two = labels.index(label, one + 1)
            tensor = diagonal(tensor, 0, one, two)
            labels = "".join(c for k, c in enumerate(labels) if k not in (one, two)) + label
    return Operand(tensor, labels)


def _without_ones(parts: Sequence[Operand]) -> list[Operand]:
    """Axes of size 1 dropped where another operand has the label with another size (they broadcast)."""
    broad = {
        label
        for part in parts
        for label, size in zip(part.labels, part.tensor.type.shape, strict=True)
        if size != 1
    }
    kept: list[Operand] = []
    for tensor, labels in parts:
        keep = [k for k, label in enumerate(labels) if not (tensor.type.shape[k] == 1 and label in broad)]
        kept.append(Operand(dimshuffle(tensor, *keep), "".join(labels[k] for k in keep)))
    return kept


def _extents(subscripts: str, parts: Sequence[Operand]) -> dict[str, int]:
    """The size of each label; UNKNOWN where it is only known when the program runs."""
    found: dict[str, tuple[int, Tensor]] = {}
    for tensor, labels in parts:
        for label, size in zip(labels, tensor.type.shape, strict=True):
            if size is None:
                continue
            known, other = found.setdefault(label, (size, tensor))
            if known != size:
                raise ShapeError(
                    f"einsum: {subscripts!r}: {label!r} has size {known} and size {size}: "
                    f"{describe(other)}; {describe(tensor)}"
                )
    every = {label for _, labels in parts for label in labels}
    return {label: found[label][0] if label in found else UNKNOWN for label in every}


# Order ----------------------------------------------------------------------------------------------------


def path(extents: dict[str, int], terms: Sequence[set[str]], result: set[str]) -> list[tuple[int, int]]:
    """Which two operands to contract in each step; the product is appended to those that remain."""
    if len(terms) <= EXHAUSTIVE:
        return _best(extents, list(terms), result)[1]
    steps: list[tuple[int, int]] = []
    left = list(terms)
    while len(left) > 1:
        pairs = [(i, j) for i in range(len(left)) for j in range(i + 1, len(left))]
        linked = [(i, j) for i, j in pairs if left[i] & left[j]] or pairs
        i, j = min(linked, key=lambda pair: _growth(extents, left, result, *pair))
        steps.append((i, j))
        left = _after(left, result, i, j)
    return steps


def _after(terms: list[set[str]], result: set[str], i: int, j: int) -> list[set[str]]:
    rest = [t for k, t in enumerate(terms) if k not in (i, j)]
    return [*rest, (terms[i] | terms[j]) & result.union(*rest)]


def _volume(extents: dict[str, int], labels: set[str]) -> int:
    total = 1
    for label in labels:
        total *= max(extents[label], 1)
    return total


def _growth(
    extents: dict[str, int], terms: list[set[str]], result: set[str], i: int, j: int
) -> tuple[int, int]:
    """How much memory a step needs more than it frees; then its multiplications."""
    made = _after(terms, result, i, j)[-1]
    before = _volume(extents, terms[i]) + _volume(extents, terms[j])
    return _volume(extents, made) - before, _volume(extents, terms[i] | terms[j])


def _best(
    extents: dict[str, int], terms: list[set[str]], result: set[str]
) -> tuple[int, list[tuple[int, int]]]:
    if len(terms) == 1:
        return 0, []
    found: tuple[int, list[tuple[int, int]]] | None = None
    for i in range(len(terms)):
        for j in range(i + 1, len(terms)):
            cost, steps = _best(extents, _after(terms, result, i, j), result)
            cost += _volume(extents, terms[i] | terms[j])
            if found is None or cost < found[0]:
                found = cost, [(i, j), *steps]
    assert found is not None
    return found


# Contraction ----------------------------------------------------------------------------------------------


def _summed(part: Operand, needed: set[str]) -> Operand:
    """Without the labels that nothing else needs."""
    axes = tuple([k for k, label in enumerate(part.labels) if label not in needed])
    if not axes:
        return part
    total = any_over if part.tensor.element is dtypes.bool_ else sum_over
    summed = total(part.tensor, axes)
    summed = as_element(summed, part.tensor.element)  # integers keep their width, as in NumPy
    return Operand(summed, "".join(label for label in part.labels if label in needed))


def _arranged(part: Operand, order: str) -> Tensor:
    return dimshuffle(part.tensor, *[part.labels.index(label) for label in order])


def _contract(a: Operand, b: Operand, needed: set[str]) -> Operand:
    a, b = _summed(a, needed | set(b.labels)), _summed(b, needed | set(a.labels))
    shared = [label for label in a.labels if label in b.labels]
    inner = "".join(label for label in shared if label not in needed)
    batch = "".join(label for label in shared if label in needed)
    rows = "".join(label for label in a.labels if label not in shared)
    columns = "".join(label for label in b.labels if label not in shared)
    if not inner or (batch and not (rows and columns)):
        return _summed(_multiplied(a, b, batch + rows + columns + inner), needed)
    if not batch:
        product = dot(_grouped(a, [rows, inner]), _grouped(b, [inner, columns]))
    else:
        left, right = _grouped(a, [batch, rows, inner]), _grouped(b, [batch, inner, columns])
        product = BATCHED_DOT.make(left, right)
    extent = dict(zip(b.labels + a.labels, sizes(b.tensor) + sizes(a.tensor), strict=True))
    labels = batch + rows + columns
    return Operand(reshape_to(product, [extent[label] for label in labels]), labels)


def _multiplied(a: Operand, b: Operand, labels: str) -> Operand:
    """The elementwise product with the axes in this order."""
    sides = [
        dimshuffle(tensor, *[own.index(label) if label in own else "x" for label in labels])
        for tensor, own in (a, b)
    ]
    return Operand(sides[0] * sides[1], labels)


def _grouped(part: Operand, groups: Sequence[str]) -> Tensor:
    """The axes in the order of the groups, each group joined into one axis; empty groups are left out."""
    tensor = _arranged(part, "".join(groups))
    extents = sizes(tensor)
    joined: list[int | Tensor] = []
    start = 0
    for group in groups:
        if not group:
            continue
        total: int | Tensor = 1
        for extent in extents[start : start + len(group)]:
            total = extent if isinstance(total, int) and total == 1 else total * extent
        joined.append(total)
        start += len(group)
    return reshape_to(tensor, joined)
