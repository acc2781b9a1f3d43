"""Expressions as text: labels, trees, formulas and Graphviz graphs.

All of them are iterative and name shared parts once, so large and deep expressions can be printed.
"""

import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, TextIO

import numpy as np

from .graph import Constant, Tensor, TensorLike, ancestors
from .opdef import SHARED
from .ops.printed import PRINT


def label(tensor: Tensor) -> str:
    """A short name: the user's, the value of a constant, or the operation (``add.0``)."""
    if isinstance(tensor, Constant):
        return tensor.name or _constant(tensor)
    if tensor.name:
        return tensor.name
    if tensor.inputs:
        return f"{operation(tensor)}.0"
    return f"<{tensor.type}>"


def _constant(tensor: Constant) -> str:
    """``TensorConstant{2}``; arrays of equal elements as ``TensorConstant{(2, 3) of 1.0}``."""
    data = tensor.data
    if data.ndim == 0:
        return f"TensorConstant{{{data.item()}}}"
    if data.size == 0:
        return f"TensorConstant{{{data.shape} empty}}"
    first = data.flat[0]
    if (data == first).all():
        return f"TensorConstant{{{data.shape} of {first.item()}}}"
    if data.size <= 8:
        return f"TensorConstant{{{_compact(data)}}}"
    return f"TensorConstant{{{data.shape} {data.dtype}}}"


def _compact(data: Any) -> str:
    return np.array2string(data, separator=" ", max_line_width=10**6).replace("\n", "")


def operation(tensor: Tensor) -> str:
    """The operation of a tensor with its parameters: ``sum{axes=(0,)}``; of a loop with its name."""
    if tensor.op.name in ("loop", "branch"):
        return _named(tensor)
    if not tensor.params:
        return tensor.op.name
    return f"{tensor.op.name}{{{', '.join(f'{key}={value}' for key, value in tensor.params.items())}}}"


# Trees ---------------------------------------------------------------------------------------------------

_IDS: dict[str, Callable[[int], str]] = {
    "CHAR": lambda k: f" [id {_letters(k)}]",
    "int": lambda k: f" [id {k}]",
    "": lambda k: "",
}


def _letters(number: int) -> str:
    """0, 1, ... 25, 26 ... as A, B, ... Z, BA ..."""
    text = ""
    while True:
        number, digit = divmod(number, 26)
        text = chr(ord("A") + digit) + text
        if not number:
            return text


def debugprint(
    obj: Any,
    depth: int = -1,
    print_type: bool = False,
    file: TextIO | str | None = None,
    ids: str = "CHAR",
    stop_on_name: bool = False,
) -> str | TextIO | None:
    """Print expressions or a compiled function as trees, one operation a line.

    A part that occurs again is not printed again: its line ends with `` ...`` and the id of the first.

    Args:
        obj: an expression, a compiled function (anything with ``outputs``), or a list of them.
        depth: print at most so many levels; -1 for all.
        print_type: show the type of every line.
        file: where to print: an open file, None for standard output, or ``"str"`` to return the text.
        ids: what identifies a line: ``"CHAR"`` letters, ``"int"`` numbers, ``""`` nothing.
        stop_on_name: do not print what named expressions are computed from.

    Returns:
        The text where ``file`` is ``"str"``, else the open file given (so that a notebook shows nothing more).
    """
    if ids not in _IDS:
        raise ValueError(f"debugprint: ids must be {' or '.join(map(repr, _IDS))}, got {ids!r}")
    lines = _tree(_roots(obj), depth, print_type, _IDS[ids], stop_on_name)
    if file == "str":
        return "\n".join(lines)
    if isinstance(file, str):
        raise ValueError(f"debugprint: file must be an open file, None or 'str', got {file!r}")
    out = sys.stdout if file is None else file
    out.writelines(f"{line}\n" for line in lines)
    return file


def _roots(obj: Any) -> list[Tensor]:
    found: list[Tensor] = []
    for part in obj if isinstance(obj, (list, tuple)) else [obj]:
        if isinstance(part, Tensor):
            found.append(part)
        elif (outputs := getattr(part, "outputs", None)) is not None:
            found += _roots(list(outputs) if isinstance(outputs, Iterable) else [outputs])
        else:
            raise TypeError(
                f"cannot print {type(part).__name__} {part!r}: it is neither an expression nor a compiled "
                "function"
            )
    return found


_DEEPEST = 200  # levels that are indented; deeper lines start with their level instead


def _tree(
    roots: Sequence[Tensor], depth: int, print_type: bool, identify: Callable[[int], str], stop_on_name: bool
) -> list[str]:
    lines: list[str] = []
    numbers: dict[Tensor, int] = {}
    bodies: list[Tensor] = []
    stored: dict[Tensor, list[Tensor]] = {}
    inside = False
    # A level's bars are those of its parent's level; each is made once, so deep trees do not cost a square.
    stack: list[tuple[Tensor, int, str, str]] = [(root, 0, "", "") for root in reversed(roots)]
    while stack or bodies:
        if not stack:  # a body is printed after the graph around it
            if not inside:
                lines += ["", "Inner graphs:"]
            inside = True
            loop = bodies.pop(0)
            stack = _inner(loop, stored.get(loop, ()), lines, numbers, identify)
            continue
        node, level, lead, below = stack.pop()
        seen = node in numbers
        number = numbers.setdefault(node, len(numbers))
        text = operation(node) if node.inputs else label(node)
        if node.inputs and node.name:
            text += f" '{node.name}'"
        if print_type:
            text += f" <{node.type}>"
        text = lead + text + identify(number)
        stops = level + 1 == depth or (stop_on_name and node.name is not None)
        if seen and node.inputs and not stops:
            text += " ..."
        lines.append(text)
        if seen or stops:
            continue
        if node.op.name in ("loop", "branch"):
            bodies.append(node)
        elif node.op.name == "trace":
            stored.setdefault(node.inputs[0], []).append(node.params["node"])
        children = []
        for k, i in enumerate(node.inputs):
            last = k == len(node.inputs) - 1
            if level < _DEEPEST:
                children.append(
                    (i, level + 1, below + (" └─ " if last else " ├─ "), below + ("    " if last else " │  "))
                )
            else:
                children.append((i, level + 1, f"({level + 1}) ", ""))
        stack.extend(reversed(children))
    return lines


def _named(tensor: Tensor) -> str:
    """A loop or branch with the name of its body."""
    bodies = tensor.params.get("bodies") or (tensor.params["body"],)
    name = bodies[0].name
    return f"{tensor.op.name}{{{name}}}" if name else tensor.op.name


def _inner(
    node: Tensor,
    stored: Sequence[Tensor],
    lines: list[str],
    numbers: dict[Tensor, int],
    identify: Callable[[int], str],
) -> list[tuple[Tensor, int, str, str]]:
    """Begin a section about the body of a loop, or both of a branch; what is to be printed in it, last first."""
    lines += ["", f"{_named(node)}{identify(numbers[node])}"]
    wanted: list[tuple[Tensor, int, str, str]] = []
    for what, value in _results(node, stored):
        lead = f" {what}: "
        wanted.append((value, 1, lead, " " * len(lead)))
    for body in node.params.get("bodies") or (node.params["body"],):
        given = [
            f"{label(v)}{identify(numbers.setdefault(v, len(numbers)))}" for v in body.variables if v is not body.index
        ]
        if given:
            lines.append(f" given: {', '.join(given)}")
    return wanted[::-1]


def _results(node: Tensor, stored: Sequence[Tensor]) -> list[tuple[str, Tensor]]:
    """What the bodies of a loop or branch compute, and what it is."""
    if node.op.name == "branch":
        sides = zip(("then", "else"), node.params["bodies"], strict=True)
        return [(side, value) for side, body in sides for value in body.nexts]
    body = node.params["body"]
    found = [(f"next {label(v)}", after) for v, after in zip(body.carries, body.nexts, strict=True)]
    found += [("until", body.until)] if body.until is not None else []
    return found + [("stored", value) for value in stored]


# Formulas ------------------------------------------------------------------------------------------------

# Binding strength of an operator and its sign; stronger binds first.
_INFIX = {
    "or_": (1, "|"), "xor": (2, "^"), "and_": (3, "&"),
    "eq": (4, "=="), "neq": (4, "!="), "lt": (4, "<"), "le": (4, "<="), "gt": (4, ">"), "ge": (4, ">="),
    "add": (5, "+"), "sub": (5, "-"), "mul": (6, "*"), "true_div": (6, "/"), "int_div": (6, "//"),
    "mod": (6, "%"), "dot": (6, "@"), "matmul": (6, "@"), "pow": (9, "**"),
}  # fmt: skip
_PREFIX = {"neg": (7, "-"), "invert": (7, "~")}
_STRONGEST = 10


def pp(*expressions: Any) -> str:
    """Expressions as formulas: ``((x * 2) + y)`` without needless brackets, e.g. ``x * 2 + y``.

    Parts that are used several times and are not small are named once, below: ``where t0 = ...``.
    """
    roots = _roots(list(expressions))
    order = ancestors(roots)
    uses: dict[Tensor, int] = {}
    for node in order:
        for i in node.inputs:
            uses[i] = uses.get(i, 0) + 1
    texts: dict[Tensor, tuple[int, str]] = {}
    named: list[str] = []
    for node in order:
        strength, text = _formula(node, texts)
        if node.inputs and len(text) > _LONG and (uses.get(node, 0) > 1 or len(text) > _TOO_LONG):
            named.append(f"t{len(named)} = {text}")
            strength, text = _STRONGEST, f"t{len(named) - 1}"
        texts[node] = strength, text
    result = ", ".join(texts[root][1] for root in roots)
    return result + ("\nwhere " + "\n      ".join(named) if named else "")


_LONG, _TOO_LONG = 12, 2000  # characters of a formula worth a name: where repeated, and in any case


def _formula(node: Tensor, texts: dict[Tensor, tuple[int, str]]) -> tuple[int, str]:
    """Binding strength and text of one operation."""
    if isinstance(node, Constant) and not node.name:
        text = str(node.data.item()) if node.data.ndim == 0 else _constant(node)
        return (7 if text.startswith("-") else _STRONGEST), text
    if not node.inputs:
        return _STRONGEST, label(node)
    parts = [texts[i] for i in node.inputs]
    if node.op.name in _INFIX and len(parts) == 2:
        strength, sign = _INFIX[node.op.name]
        right = strength + (0 if sign == "**" else 1)
        left = strength + (1 if sign == "**" else 0)
        return strength, f"{_bracketed(parts[0], left)} {sign} {_bracketed(parts[1], right)}"
    if node.op.name in _PREFIX:
        strength, sign = _PREFIX[node.op.name]
        return strength, sign + _bracketed(parts[0], strength)
    return _STRONGEST, f"{operation(node)}({', '.join(text for _, text in parts)})"


def _bracketed(part: tuple[int, str], least: int) -> str:
    strength, text = part
    return text if strength >= least else f"({text})"


pprint = pp


# Values as they are computed -------------------------------------------------------------------------------


class Print:
    """Makes expressions that print themselves: ``y = Print("y")(y)`` is ``y``, and shows it in every call.

    After a call has computed everything, each Print among it writes its message and, line by line, the
    attributes and methods of the array named in ``attrs``, to the standard output. A call that fails prints
    nothing. What no output or update depends on is not computed, so it is not printed either.

    >>> T.exp(Print("x", attrs=["shape", "min", "max"])(x))
    """

    def __init__(self, message: str = "", attrs: Sequence[str] = ("__str__",)) -> None:
        self.message, self.attrs = message, tuple(attrs)
        for name in self.attrs:
            if not hasattr(np.ndarray, name):
                raise AttributeError(f"Print: arrays have no attribute {name!r}")

    def __call__(self, x: TensorLike) -> Tensor:
        """``x``, printed in every call that computes it."""
        return PRINT(x, message=self.message, attrs=self.attrs)


def show(printed: Tensor, value: Any) -> None:
    """Write what a Print operation says about a value; one made without parameters shows the value."""
    message = printed.params.get("message", "")
    for name in printed.params.get("attrs", ("__str__",)):
        found = getattr(value, name)
        sys.stdout.write(f"{message} {name} = {found() if callable(found) else found}\n")


# Graphviz ------------------------------------------------------------------------------------------------

_COLOURS = {"input": "#d5e8d4", "shared": "#dae8fc", "constant": "#f5f5f5", "output": "#ffe6cc"}


def dot_text(obj: Any, with_types: bool = True) -> str:
    """The graph of expressions in Graphviz's language: a box per operation, an ellipse per leaf."""
    roots = _roots(obj)
    order = ancestors(roots)
    number = {node: k for k, node in enumerate(order)}
    outputs = frozenset(roots)
    lines = ["digraph expression {", '  node [fontname="sans-serif", style=filled, fillcolor=white];']
    for node, k in number.items():
        text = operation(node) if node.inputs else label(node)
        if node.inputs and node.name:
            text = f"{node.name} = {text}"
        if with_types:
            text += f"\\n{node.type}"
        kind = "output" if node in outputs else None if node.inputs else _kind(node)
        colour = f', fillcolor="{_COLOURS[kind]}"' if kind else ""
        shape = "box" if node.inputs else "ellipse"
        quoted = text.replace('"', '\\"')
        lines.append(f'  n{k} [label="{quoted}", shape={shape}{colour}];')
        for position, i in enumerate(node.inputs):
            where = f' [label="{position}"]' if len(node.inputs) > 1 else ""
            lines.append(f"  n{number[i]} -> n{k}{where};")
    return "\n".join([*lines, "}"]) + "\n"


def _kind(leaf: Tensor) -> str:
    if isinstance(leaf, Constant):
        return "constant"
    return "shared" if leaf.op is SHARED else "input"


def pydotprint(obj: Any, outfile: str | Path | None = None, with_types: bool = True) -> str:
    """Write the graph as a ``.dot`` file for Graphviz (``dot -Tsvg file.dot``); returns its text.

    Theano's function of this name made pictures itself; here no other program is needed, and none is run.

    Raises:
        ValueError: the file name does not end in ``.dot`` or ``.gv``.
    """
    text = dot_text(obj, with_types)
    if outfile is not None:
        path = Path(outfile)
        if path.suffix not in (".dot", ".gv"):
            raise ValueError(
                "pydotprint: writes Graphviz text, so the file must end in .dot or .gv, not "
                f"{path.suffix!r}; "
                "make a picture of it with `dot -Tsvg`"
            )
        path.write_text(text, encoding="utf-8")
    return text
