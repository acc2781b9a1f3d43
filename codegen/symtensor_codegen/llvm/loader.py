"""Loads object code into memory without LLVM: ELF relocatable files for x86-64 Linux.

Loading LLVM takes 60 ms; putting a cached object where the processor can run it takes 0.1 ms. The file is
what `jit.compile_ir` writes: position-independent, small code model, no thread-local data, no unwinding
tables. Code, constants and the table of outside addresses share one read-only executable mapping; writable
globals have pages of their own.
"""

from __future__ import annotations

import ctypes
import functools
import mmap
import platform
import struct
import sys
import weakref
from collections.abc import Mapping, Sequence
from typing import Any

from symtensor_codegen.errors import InternalError

__all__ = ["load", "supported"]

_ALLOCATED, _WRITABLE = 0x2, 0x1
_SYMBOL_TABLE, _RELOCATIONS, _NO_BITS = 2, 4, 8
_UNDEFINED, _ABSOLUTE = 0, 0xFFF1
_R_64, _R_PC32, _R_PLT32, _R_GOTPCREL, _R_PC64, _R_GOTPCRELX, _R_REX_GOTPCRELX = 1, 2, 4, 9, 24, 41, 42
_GOT_KINDS = frozenset({_R_GOTPCREL, _R_GOTPCRELX, _R_REX_GOTPCRELX})
_OUTSIDE_ENTRY = struct.Struct("<6s2xQ")
"""An outside address: `jmp [rip + 2]` for calls, two bytes of padding, the address itself."""
_JUMP = b"\xff\x25\x02\x00\x00\x00"
_PAGE = mmap.PAGESIZE


@functools.cache
def supported() -> bool:
    """True where this module knows the object format: x86-64 Linux."""
    return sys.platform == "linux" and platform.machine() == "x86_64" and sys.maxsize > 2**32


class _Section:
    """One part of the file that is needed at run time, and where it goes (offset in the mapping)."""

    def __init__(self, offset: int, size: int, align: int, writable: bool, empty: bool) -> None:
        self.offset, self.size, self.align, self.writable, self.empty = offset, size, align, writable, empty
        self.place = 0


class Mapped:
    """Code in memory; unmapped when this object is garbage collected."""

    def __init__(self, address: int, size: int, exports: dict[str, int]) -> None:
        self._exports = exports
        weakref.finalize(self, _system().munmap, address, size).atexit = False

    def address(self, name: str) -> int:
        """Address of the exported symbol `name`; KeyError when it was not exported."""
        return self._exports[name]


@functools.cache
def _system() -> Any:
    library = ctypes.CDLL(None, use_errno=True)
    library.mmap.restype = ctypes.c_size_t
    library.mmap.argtypes = (
        ctypes.c_size_t,
        ctypes.c_size_t,
        ctypes.c_int,
        ctypes.c_int,
        ctypes.c_int,
        ctypes.c_long,
    )
    library.mprotect.argtypes = (ctypes.c_size_t, ctypes.c_size_t, ctypes.c_int)
    library.munmap.argtypes = (ctypes.c_size_t, ctypes.c_size_t)
    return library


@functools.cache
def c_function(name: str) -> int | None:
    """Address of a C library or maths library function that generated code may call (memcpy, fmod ...)."""
    for library in (_system(), ctypes.CDLL("libm.so.6")):
        try:
            return ctypes.cast(library[name], ctypes.c_void_p).value
        except AttributeError:
            continue
    return None


def load(object_code: bytes, symbols: Mapping[str, int], exports: Sequence[str]) -> Mapped:
    """Load `object_code`; InternalError when it is not understood or a symbol is missing."""
    if object_code[:6] != b"\x7fELF\x02\x01" or object_code[18:20] != b"\x3e\x00":
        raise InternalError("object code is not an x86-64 ELF file")
    headers = _section_headers(object_code)
    sections = _wanted_sections(object_code, headers)
    table = next((header for header in headers if header[1] == _SYMBOL_TABLE), None)
    if table is None:
        raise InternalError("object code has no symbols")
    entries = _symbols(object_code, table, headers[table[6]][4])
    outside_at, data_at, size = _place(sections, len(entries))
    base = _system().mmap(
        0, size, mmap.PROT_READ | mmap.PROT_WRITE, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS, -1, 0
    )
    if base == ctypes.c_size_t(-1).value:
        raise MemoryError(f"cannot map {size:,} bytes for generated code")
    loaded = None
    try:
        memory = (ctypes.c_char * size).from_address(base)
        view = memoryview(memory).cast("B")
        for section in sections.values():
            if not section.empty:
                view[section.place : section.place + section.size] = object_code[
                    section.offset : section.offset + section.size
                ]
        addresses = _resolve(entries, sections, base, symbols)
        outside = _Outside(view, base, outside_at)
        for header in headers:
            if header[1] == _RELOCATIONS and header[7] in sections:
                _relocate(object_code, header, sections[header[7]], view, base, addresses, outside)
        found = {name: address for (name, _, _), address in zip(entries, addresses, strict=True) if name}
        loaded = Mapped(base, size, {name: _exported(found, name) for name in exports})
        if _system().mprotect(base, data_at, mmap.PROT_READ | mmap.PROT_EXEC):
            raise InternalError("the system does not allow generated code to be executed (mprotect failed)")
        return loaded
    finally:
        if loaded is None:
            _system().munmap(base, size)


def _section_headers(code: bytes) -> list[tuple[int, ...]]:
    """Rows of (name, type, flags, address, offset, size, link, info, align, entry size)."""
    (start,) = struct.unpack_from("<Q", code, 40)
    (count,) = struct.unpack_from("<H", code, 60)
    return list(struct.iter_unpack("<IIQQQQIIQQ", code[start : start + 64 * count]))


def _wanted_sections(code: bytes, headers: list[tuple[int, ...]]) -> dict[int, _Section]:
    """Sections needed at run time by their number; unwinding tables are not."""
    (names_section,) = struct.unpack_from("<H", code, 62)
    names = headers[names_section][4]
    wanted = {}
    for number, (name, kind, flags, _, offset, size, _, _, align, _) in enumerate(headers):
        if flags & _ALLOCATED and size and not code.startswith(b".eh_frame\0", names + name):
            wanted[number] = _Section(offset, size, max(align, 1), bool(flags & _WRITABLE), kind == _NO_BITS)
    return wanted


def _symbols(code: bytes, table: tuple[int, ...], strings: int) -> list[tuple[str, int, int]]:
    """Rows of (name, section number, value)."""
    rows = []
    for name, _, _, section, value, _ in struct.iter_unpack("<IBBHQQ", code[table[4] : table[4] + table[5]]):
        start = strings + name
        rows.append((code[start : code.index(b"\0", start)].decode(), section, value))
    return rows


def _place(sections: dict[int, _Section], outside: int) -> tuple[int, int, int]:
    """Give each section its place; where the outside table starts, where writable data starts, total size."""
    at = 0
    for section in sections.values():
        if not section.writable:
            at = -(-at // section.align) * section.align
            section.place = at
            at += section.size
    outside_at = -(-at // 16) * 16
    at = data_at = -(-(outside_at + 16 * outside) // _PAGE) * _PAGE
    for section in sections.values():
        if section.writable:
            at = -(-at // section.align) * section.align
            section.place = at
            at += section.size
    return outside_at, data_at, max(-(-at // _PAGE) * _PAGE, _PAGE)


def _resolve(
    entries: list[tuple[str, int, int]], sections: dict[int, _Section], base: int, symbols: Mapping[str, int]
) -> list[int]:
    """The address of every symbol; 0 for those of sections that were left out."""
    addresses = []
    for name, section, value in entries:
        if section in sections:
            addresses.append(base + sections[section].place + value)
        elif section == _ABSOLUTE:
            addresses.append(value)
        elif section == _UNDEFINED and name:
            address = symbols[name] if name in symbols else c_function(name)
            if not address:
                raise InternalError(f"object code needs the unknown symbol {name!r}")
            addresses.append(address)
        else:
            addresses.append(0)
    return addresses


def _exported(found: dict[str, int], name: str) -> int:
    if name not in found:
        raise InternalError(f"object code does not define {name!r}")
    return found[name]


class _Outside:
    """Addresses out of reach of 32-bit offsets, each in an entry that can be loaded from and jumped to."""

    def __init__(self, view: memoryview, base: int, start: int) -> None:
        self._view, self._base, self._next = view, base, start
        self._entries: dict[int, int] = {}

    def entry(self, address: int) -> int:
        """Address of the entry for `address`."""
        at = self._entries.get(address)
        if at is None:
            at = self._entries[address] = self._next
            _OUTSIDE_ENTRY.pack_into(self._view, at, _JUMP, address)
            self._next += _OUTSIDE_ENTRY.size
        return self._base + at


def _relocate(
    code: bytes,
    header: tuple[int, ...],
    section: _Section,
    view: memoryview,
    base: int,
    addresses: list[int],
    outside: _Outside,
) -> None:
    """Fill in the addresses that the code of `section` refers to."""
    for offset, info, addend in struct.iter_unpack("<QQq", code[header[4] : header[4] + header[5]]):
        kind, target = info & 0xFFFFFFFF, addresses[info >> 32]
        at = section.place + offset
        here = base + at
        if kind == _R_64:
            struct.pack_into("<Q", view, at, target + addend)
            continue
        if kind == _R_PC64:
            struct.pack_into("<q", view, at, target + addend - here)
            continue
        if kind in _GOT_KINDS:
            value = outside.entry(target) + 8 + addend - here
        elif kind == _R_PLT32:
            value = target + addend - here
            if not -(2**31) <= value < 2**31:
                value = outside.entry(target) + addend - here
        elif kind == _R_PC32:
            value = target + addend - here
        else:
            raise InternalError(f"object code has relocations of the unknown kind {kind}")
        if not -(2**31) <= value < 2**31:
            raise InternalError("object code refers to an address out of reach")
        struct.pack_into("<i", view, at, value)
