"""Mathematical functions that CUDA does not have, written from ``mathlib``'s decompositions: one function each."""

from functools import cache

from symtensor_codegen import mathlib, scalar
from symtensor_codegen.cuda.text.operations import REGISTER
from symtensor_codegen.cuda.text.values import Values, bare, function_name
from symtensor_codegen.dtypes import DType
from symtensor_codegen.errors import BackendError, InternalError
from symtensor_codegen.scalar import Register, ScalarOp


class _FunctionWriter(Values):
    exact = True  # the decompositions count on their arithmetic as written


@cache
def function_text(op: ScalarOp, types: tuple[DType, ...]) -> dict[str, str]:
    """The function for an operation on arguments of these types, after those that it calls: texts by name.

    Raises:
        BackendError: the operation has no decomposition for these types.
    """
    writer = _FunctionWriter()
    arguments = [Register(f"x{k}", dtype) for k, dtype in enumerate(types)]
    node = scalar.apply(op, *[scalar.read(a) for a in arguments])
    try:
        expanded = mathlib.expand(node)
    except InternalError as error:
        raise BackendError(f"cuda backend: {op.name} of {types[0]} is not implemented") from error
    listed = ", ".join(f"{REGISTER[a.dtype]} {writer.names.of(a, a.name)}" for a in arguments)
    writer.line(f"return {bare(writer.value(expanded))};")
    name = function_name(node)
    body = "\n".join(writer.lines)
    text = f"static __device__ __forceinline__ {REGISTER[node.dtype]} {name}({listed}) {{\n{body}\n}}\n"
    return {**writer.functions, name: text}
