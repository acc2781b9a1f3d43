"""Mathematical functions as functions of the module, for kernels with too many of them to expand each in
place.
"""

from symtensor_codegen.dtypes import DType
from symtensor_codegen.errors import InternalError
from symtensor_codegen.llvm.emission import Functions, Lanes, Value
from symtensor_codegen.llvm.target import Target
from symtensor_codegen.llvm.types import suffix, typed
from symtensor_codegen.llvm.values import Evaluator
from symtensor_codegen.scalar import Scalar, index, symbol
from symtensor_codegen.substitution import rebuild


class _Body(Evaluator):
    """The straight-line body of a function of scalars or vectors."""

    def __init__(self, kinds: tuple[DType, ...], lanes: int, target: Target) -> None:
        super().__init__(target)
        self.parameters = tuple(symbol(("argument", k), kind) for k, kind in enumerate(kinds))
        if lanes > 1:
            along = index("lane", lanes)
            self.lanes = Lanes(along, along, lanes, 1)

    def symbol(self, node: Scalar) -> Value:
        if node not in self.parameters:
            raise InternalError(f"{node!r} is not an argument of this function")
        return Value((f"%a{self.parameters.index(node)}",), self.lanes is not None, 0)


def function_symbol(node: Scalar, lanes: int, target: Target, functions: Functions) -> str:
    """The name of the module's function for the operation of ``node`` on ``lanes`` values, written on first
    use.

    ``functions`` keeps the text. The function is internal to the module: each module has its own.
    """
    kinds = tuple(argument.dtype for argument in node.args)
    result = typed(node.dtype, lanes)
    name = ".".join([node.op.name, *dict.fromkeys(suffix(typed(kind, lanes)) for kind in kinds)])
    name = f"math.{name}"
    if name not in functions.texts:
        functions.texts[name] = ""  # reserved: the order of texts does not matter to LLVM
        body = _Body(kinds, lanes, target)
        value = body.value(rebuild(node, body.parameters))
        answer = (body.vector_names(value, node.dtype) if lanes > 1 else value.names)[0]
        listed = ", ".join(f"{typed(kind, lanes)} %a{k}" for k, kind in enumerate(kinds))
        lines = "\n".join(body.levels[0].lines)
        functions.texts[name] = (
            f"define internal {result} @{name}({listed}) nounwind noinline {{\nentry:\n{lines}\n"
            f"  ret {result} {answer}\n}}\n"
        )
    return name
