"""Code that several kernels share: stored once, loaded once; products that are made ready before they are recorded."""

import gc
import uuid
from collections.abc import Callable

import pytest

from symtensor_codegen import cache
from symtensor_codegen.cuda.calls.actions import FIRST_BASE, Operand, Place, ProductAction
from symtensor_codegen.cuda.compiling import compile as compiler
from symtensor_codegen.cuda.compiling import kernels
from symtensor_codegen.cuda.compiling.kernels import compile_for, variants
from tests.cuda.numpy_device import NumpyDevice
from tests.cuda.pretended_cuda import Machine, new_device
from tests.cuda.program_cases import network


def test_stored_once(monkeypatch: pytest.MonkeyPatch) -> None:
    image = b"\x7fELF" + bytes(range(256)) * 8
    compiled: list[int] = []

    def cubins(texts: list[tuple[str, str]], architecture: str) -> list[bytes]:
        compiled.append(len(texts))
        return [image] * len(texts)

    monkeypatch.setattr(compiler, "cubins", cubins)
    wanted = variants(network().program)
    emitter = NumpyDevice().emitter()
    monkeypatch.setattr(kernels, "EMITTER_VERSION", uuid.uuid4().hex)  # another run may have stored the same
    first = compile_for(wanted, "sm_00", emitter)
    keys = [code.key for code in first.values()]
    entries = {key: cache.get(key) or b"" for key in keys}
    assert len(entries) > 1
    assert all(len(entry) < 100 for entry in entries.values())  # what they share lies elsewhere, once
    assert compile_for(wanted, "sm_00", emitter) == first
    assert compiled == [len(entries)]


def test_stored_in_other_company(monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that compiles some of the same kernels does not take away the code of the others."""

    def cubins(texts: list[tuple[str, str]], architecture: str) -> list[bytes]:
        return [" ".join(sorted(symbol for _, symbol in texts)).encode()] * len(texts)

    monkeypatch.setattr(compiler, "cubins", cubins)
    wanted = variants(network().program)
    emitter = NumpyDevice().emitter()
    first = compile_for(wanted, "sm_01", emitter)
    some = {code.key: variant for variant, code in list(first.items())[:2]}
    kernels._compiled(some, "sm_01", emitter)  # as a process does that began at the same time
    for code in compile_for(wanted, "sm_01", emitter).values():
        assert code.symbol.encode() in code.image


def test_loaded_once(monkeypatch: pytest.MonkeyPatch) -> None:
    machine = Machine()
    machine.kernels = {"a": lambda arguments: None, "b": lambda arguments: None}
    device = new_device(monkeypatch, machine)
    first, again = device.load(b"image"), device.load(b"image")
    assert first is again
    assert first.function("a").module is again.function("b").module
    assert sum(event == ("unload", True) for event in machine.log) == 0
    del first, again
    gc.collect()
    assert device.load(b"image").function("a")  # loaded anew


def test_products_are_ready_before_they_are_recorded() -> None:
    calls: list[tuple[str, tuple[int, ...]]] = []

    class Multiply:
        uses_scratch = False

        def bind(self, *addresses: int) -> Callable[[], None]:
            calls.append(("ready", addresses))
            return lambda: calls.append(("queued", addresses))

        def __call__(self, *addresses: int) -> None:
            raise AssertionError

    operands = [Operand(Place(FIRST_BASE, 64 * number, 64), 4, 1, 16) for number in range(3)]
    (call,) = ProductAction(*operands, Multiply()).bind(NumpyDevice(), [0, 0, 1000])
    assert calls == [("ready", (1000, 1064, 1128))]
    call()
    assert calls[1:] == [("queued", (1000, 1064, 1128))]
