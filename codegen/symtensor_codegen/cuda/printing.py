"""The code of a program as text, for people."""

import struct
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from symtensor_codegen.cuda.compiling.kernels import Emitter, Variant, symbol_of
from symtensor_codegen.cuda.text import prelude
from symtensor_codegen.cuda.text.emit import NO_FAILURE
from symtensor_codegen.errors import UserError
from symtensor_codegen.loops import Kernel, scalars
from symtensor_codegen.program import Program
from symtensor_codegen.program_text import program_names, program_text
from symtensor_codegen.scalar import bitcast_op, symbol_op
from symtensor_codegen.text import Names, kernel_text, scalar_text

if TYPE_CHECKING:
    from symtensor_codegen.cuda.compiling.compile import Resources
    from symtensor_codegen.cuda.matmul.products import Chosen

LANGUAGES = ("loops", "program", "cuda", "ptx", "sass")
_ARGUMENTS = f"""\
// A kernel takes its arrays, scratch memory if blocks share its work, sizes and numbers (p0, p1 ...), and
//   status: where a failed check leaves its number; {NO_FAILURE} while none has failed
//   first: the number of this launch's first check; -1 - first if nothing may be written once a check has failed
"""


def source(
    program: Program,
    language: str,
    architecture: str,
    emitter: Emitter,
    wanted: Sequence[Variant],
    notes: Mapping[Kernel, str],
    products: "Sequence[Chosen]" = (),
) -> str:
    """The code of a program as text.

    ``loops``: the loop nests; ``program``: the steps of the host; ``cuda``: the kernels in CUDA C; ``ptx`` and
    ``sass``: the kernels in NVIDIA's portable and actual assembly. ``wanted``: the variants of kernels; ``notes``: what
    kernels compute; ``products``: those whose kernels are wanted too.
    """
    names = program_names(program)
    if language == "loops":
        return "\n\n".join(kernel_text(k, names) for k in dict.fromkeys(program.kernels()))
    if language == "program":
        return program_text(program)
    if language not in LANGUAGES:
        raise UserError(f"source() takes {', '.join(map(repr, LANGUAGES[:-1]))} or 'sass', not {language!r}")
    texts = _texts(wanted, emitter)
    if language == "cuda":
        heads = [_head(variant, notes.get(variant.kernel, ""), names) for variant in texts]
        kernels = [head + text for head, (text, _) in zip(heads, texts.values(), strict=True)]
        return _ARGUMENTS + "\n" + "\n\n".join([*_once(kernels), *_products(program, products)])
    from symtensor_codegen.cuda.compiling import compile as compiler

    every = [*texts.values(), *{product.text: product.description for product in products}.items()]
    if language == "ptx":
        return "\n\n".join(compiler.ptx(text, architecture, name) for text, name in every)
    from symtensor_codegen.cuda.compiling.sources import sass

    return "\n\n".join(sass(compiler.cubin(text, architecture, name)) for text, name in every)


def resources(wanted: Sequence[Variant], architecture: str, emitter: Emitter) -> "dict[Variant, dict[str, Resources]]":
    """The registers, spills and shared memory of every kernel's functions, by kernel and function.

    They were noted when the kernels were compiled, under the names that these have then.
    """
    from symtensor_codegen.cuda.compiling import compile as compiler

    found: dict[Variant, dict[str, Resources]] = {}
    for variant in wanted:
        symbol = symbol_of(variant.key(architecture))
        used = compiler.resources(emitter.text(variant, symbol), architecture, symbol)
        found[variant] = {variant.function + name.removeprefix(symbol): numbers for name, numbers in used.items()}
    return found


def _texts(wanted: Sequence[Variant], emitter: Emitter) -> dict[Variant, tuple[str, str]]:
    """The CUDA text of kernels, with names for people, and the name of their functions."""
    return {v: (emitter.text(v, v.function), v.function) for v in wanted}


def _head(variant: Variant, note: str, names: Names) -> str:
    """What a kernel computes, and what its numbers are."""
    kernel = variant.kernel
    bits = {n.args[0].param[1] for n in scalars(kernel.body) if n.op is bitcast_op and _is_parameter(n.args[0])}
    told = []
    for position, value in enumerate(kernel.parameters):
        text = scalar_text(value, names)
        if position in bits and text.lstrip("-").isdigit():
            text = f"{_shortest(*struct.unpack('d', struct.pack('q', int(text))))}, as bits"
        told.append(f"//   p{position} = {text}\n")
    return f"// {variant.function}" + (f": {note}" if note else "") + "\n" + "".join(told)


def _shortest(number: float) -> str:
    """A number as the user may have written it: in float32 if it is one."""
    short = np.float32(number)
    return str(short if short == number else number)


def _is_parameter(node: object) -> bool:
    return getattr(node, "op", None) is symbol_op and node.param[0] == "parameter"  # type: ignore[attr-defined]


def _once(texts: Sequence[str]) -> list[str]:
    """Texts without what the first of them declares for all."""
    return [text if k == 0 else text.replace(prelude.TYPES, "", 1) for k, text in enumerate(texts)]


def _products(program: Program, products: "Sequence[Chosen]") -> list[str]:
    """The kernels of matrix products, with their sizes; before they are chosen, what they may end with."""
    from symtensor_codegen.cuda.matmul.fusion import finish_texts

    sizes: dict[str, list[str]] = {}
    for product in products:
        sizes.setdefault(product.text, []).append(product.told)
    return [f"// matrix product: {'; '.join(told)}\n{text}" for text, told in sizes.items()] or finish_texts(program)
