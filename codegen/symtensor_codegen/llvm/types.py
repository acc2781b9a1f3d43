"""LLVM's spelling of element types and constants.

A bool is one byte 0 or 1 in memory and ``i1`` in registers; every other type has one spelling.
"""

import struct
from functools import cache

from symtensor_codegen.dtypes import DType
from symtensor_codegen.errors import BackendError
from symtensor_codegen.scalar import Number

_FLOATS = {2: "half", 4: "float", 8: "double"}


@cache
def element(dtype: DType) -> str:
    """The type of one value in a register."""
    if dtype.kind == "f":
        return _FLOATS[dtype.itemsize]
    if dtype.kind == "b":
        return "i1"
    if dtype.is_integer:
        return f"i{dtype.bits}"
    raise BackendError(
        f"LLVM backend: {dtype} values must be split into real and imaginary parts before emission"
    )


@cache
def memory(dtype: DType) -> str:
    """The type of one element in memory."""
    return "i8" if dtype.kind == "b" else element(dtype)


@cache
def typed(dtype: DType, lanes: int) -> str:
    """The type of a register of ``lanes`` values; one lane is a plain scalar."""
    return element(dtype) if lanes == 1 else f"<{lanes} x {element(dtype)}>"


@cache
def stored(dtype: DType, lanes: int) -> str:
    """The type of ``lanes`` neighbouring elements in memory."""
    return memory(dtype) if lanes == 1 else f"<{lanes} x {memory(dtype)}>"


@cache
def suffix(type_text: str) -> str:
    """How an intrinsic's name spells an operand type: ``<8 x double>`` is ``v8f64``."""
    if type_text.startswith("<"):
        lanes, _, inner = type_text[1:-1].partition(" x ")
        return f"v{lanes}{suffix(inner)}"
    return {"half": "f16", "float": "f32", "double": "f64", "ptr": "p0"}.get(type_text, type_text)


def literal(value: Number, dtype: DType) -> str:
    """A constant as an operand (without its type)."""
    if dtype.kind == "f":
        if dtype.itemsize == 2:
            return f"0xH{struct.unpack('<H', struct.pack('<e', value))[0]:04X}"
        return f"0x{struct.unpack('<Q', struct.pack('<d', value))[0]:016X}"
    if dtype.kind == "b":
        return "true" if value else "false"
    element(dtype)
    return str(value)


def splat(text: str, dtype: DType) -> str:
    """A vector operand that repeats the constant ``text``."""
    return f"splat ({element(dtype)} {text})"


@cache
def iota(lanes: int, bits: int, first: int = 0) -> str:
    """The constant vector ``first``, ``first + 1``, ..."""
    return "<" + ", ".join(f"i{bits} {first + lane}" for lane in range(lanes)) + ">"


@cache
def shuffle_indices(indices: range) -> str:
    """The index operand of a shufflevector, with its type."""
    return f"<{len(indices)} x i32> <" + ", ".join(f"i32 {i}" for i in indices) + ">"
