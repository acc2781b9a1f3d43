"""The gradient of picking one element of each row: a comparison instead of a scatter.

``d/dx logp[arange(n), labels]`` adds into zeros at (i, label_i). As ``switch(column == label_i, g_i, 0)`` it
is computed where it is read, so the whole gradient of a softmax cross-entropy is one loop over the logits.
"""

from symtensor.graph import Tensor, constant
from symtensor.opdef import OPS
from symtensor.rewrite.conditions import uniform
from symtensor.rewrite.fold import conform
from symtensor.rewrite.rules import RuleSet
from symtensor.rewrite.sizes import sizes_as_tensors
from symtensor_codegen.scalar import Dim

crossentropy = RuleSet("crossentropy", "Scatters of one element a row become comparisons.")
_ROWS_AND_LABELS = (("array", 0), ("array", 1))
_PICK = (("array", 0),)
_ALL = ("slice", None, None, 1)


def _count(size: Dim) -> Tensor:
    (length,) = sizes_as_tensors([size])
    return OPS["arange"].make(constant(length, "int64") if isinstance(length, int) else length)


@crossentropy.procedure("inc_at", "set_at", name="scatter_of_labels", inputs=("arange",))
def _scatter_of_labels(node: Tensor) -> Tensor | None:
    """Values added to zeros at (i, label_i) for each row i become a comparison with the label."""
    zeros, values, *others = node.inputs
    if node.params["items"] != _ROWS_AND_LABELS or uniform(zeros) != 0:
        return None
    rows, labels = others
    if rows.op.name != "arange" or labels.ndim != 1:
        return None
    if values.op.name == "broadcast_to":
        values = values.inputs[0]
    if values.ndim:
        values = OPS["dimshuffle"].make(values, order=(0, "x"))
    columns = _count(node.dims[1])
    # Picked from the columns, a label is counted from the end where negative, and an error out of range.
    checked = OPS["advanced_subtensor"].make(columns, labels, items=_PICK)
    wanted = OPS["dimshuffle"].make(checked, order=(0, "x"))
    zero = constant(0, node.element)
    placed = OPS["switch"].make(OPS["eq"].make(wanted, columns), values, zero)
    return placed if rows.dims[0] == node.dims[0] else _first_rows(zeros, placed, rows.dims[0])


def _first_rows(zeros: Tensor, placed: Tensor, count: Dim) -> Tensor:
    """Zeros whose first rows are ``placed``: as many as there are labels (a guard checks that they fit)."""
    (stop,) = sizes_as_tensors([count])
    if isinstance(stop, int):
        return OPS["set_part"].make(zeros, placed, items=(("slice", None, stop, 1), _ALL))
    return OPS["set_part"].make(zeros, placed, stop, items=(("slice", None, ("in", 0), 1), _ALL))


@crossentropy.procedure("sum", name="sum_of_part", inputs=("set_part",))
def _sum_of_part(node: Tensor) -> Tensor | None:
    """Of zeros in which some rows are set, the sum over columns is zeros in which the sums are set."""
    part = node.inputs[0]
    zeros, values, *bounds = part.inputs
    items = part.params["items"]
    if node.params["axes"] != (1,) or len(items) != 2 or items[1] != _ALL or items[0][0] != "slice":
        return None
    if uniform(zeros) != 0 or values.ndim != 2 or values.dims[1] != part.dims[1]:
        return None
    sums = OPS["sum"].make(values, axes=(1,))
    nothing = conform(constant(0, node.element), node)
    return None if nothing is None else OPS["set_part"].make(nothing, sums, *bounds, items=items[:1])


@crossentropy.procedure("sum", name="sum_of_labels", inputs=("switch",))
def _sum_of_labels(node: Tensor) -> Tensor | None:
    """The sum over columns of values that stand in one column of each row is those values."""
    condition, values, other = node.inputs[0].inputs
    if node.params["axes"] != (1,) or condition.op.name != "eq" or uniform(other) != 0:
        return None
    if values.ndim == 2 and values.type.shape[1] != 1:
        return None
    for wanted, columns in (condition.inputs, condition.inputs[::-1]):
        if wanted.op.name == "dimshuffle" and wanted.params["order"] == (0, "x") and columns.op.name == "arange":
            picked = wanted.inputs[0]
            if picked.op.name == "advanced_subtensor" and picked.inputs[0] is columns and picked.ndim == 1:
                return OPS["dimshuffle"].make(values, order=(0,)) if values.ndim == 2 else values
    return None
