"""Kernels on a device: each compiled once per process and architecture, and found again in the store.

A kernel is looked up by its canonical text, before any CUDA text is written: kernels that differ in names only are
one, and a warm start writes and compiles nothing.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol
from weakref import WeakKeyDictionary, WeakValueDictionary

from symtensor_codegen import cache
from symtensor_codegen.cuda.actions import Stage
from symtensor_codegen.cuda.device import Device
from symtensor_codegen.loops import Kernel
from symtensor_codegen.text import kernel_text

EMITTER_VERSION = "1"  # part of every key: change it when the same kernel text is to become other code

Shape = tuple[tuple[int, int, int], tuple[int, int, int]]


class StageShape(Protocol):
    """One launch of a kernel."""

    def shape(self, parameters: Sequence[int], multiprocessors: int) -> Shape | None:
        """Grid and block for these parameters; None where there is nothing to do."""


class KernelSchedule(Protocol):
    """The launches of a kernel, in order."""

    @property
    def stages(self) -> Sequence[StageShape]:
        """The launches."""


class Emitter(NamedTuple):
    """What turns kernels into CUDA text: the schedule, and the text for a schedule and the functions' symbol."""

    schedule: Callable[[Kernel], KernelSchedule]
    emit: Callable[[Kernel, Any, str], str]

    def text(self, kernel: Kernel, symbol: str) -> str:
        """The text of a kernel."""
        return self.emit(kernel, self.schedule(kernel), symbol)


def default_emitter() -> Emitter:
    """The generator of this package."""
    from symtensor_codegen.cuda.emit import emit_kernel
    from symtensor_codegen.cuda.schedule import schedule

    return Emitter(schedule, emit_kernel)


@dataclass(frozen=True, slots=True)
class KernelCode:
    """The machine code of a kernel for an architecture, under its key."""

    key: str
    image: bytes

    @property
    def symbol(self) -> str:
        """What its functions are called, before their number."""
        return symbol_of(self.key)


class DeviceKernel:
    """A kernel on a device, ready to be launched; ``written``: which of its buffers it writes."""

    __slots__ = ("__weakref__", "_functions", "_shapes", "code", "module", "written")

    def __init__(self, kernel: Kernel, code: KernelCode, schedule: KernelSchedule, device: Device) -> None:
        self.code = code
        self.module = device.load(code.image)
        self._shapes = tuple(schedule.stages)
        self._functions = [self.module.function(f"{code.symbol}_{k}") for k in range(len(self._shapes))]
        self.written = tuple(b in kernel.written for b in kernel.buffers)

    def stages(self, parameters: Sequence[int], multiprocessors: int) -> tuple[Stage, ...]:
        """The launches for these parameters."""
        found = []
        for function, stage in zip(self._functions, self._shapes, strict=True):
            shape = stage.shape(parameters, multiprocessors)
            if shape is not None:
                found.append(Stage(function, *shape))
        return tuple(found)


def key_of(kernel: Kernel, architecture: str) -> str:
    """What a kernel's code is stored under."""
    return cache.key("cuda kernel", kernel_text(kernel), architecture, EMITTER_VERSION)


def symbol_of(key: str) -> str:
    """What the functions of a kernel are called, before their number."""
    return f"k_{key[:16]}"


# On a device ---------------------------------------------------------------------------------------------------------

_loaded: WeakKeyDictionary[Any, WeakValueDictionary[str, DeviceKernel]] = WeakKeyDictionary()


@dataclass(frozen=True, slots=True)
class Loaded:
    """The kernels of a program on a device, how many were known, and how many were compiled now."""

    kernels: dict[Kernel, DeviceKernel]
    hits: int
    compiled: int


def load(kernels: Iterable[Kernel], device: Device, emitter: Emitter) -> Loaded:
    """The kernels on a device, compiled where they are not known."""
    table = _loaded.setdefault(device, WeakValueDictionary())
    keys = {kernel: key_of(kernel, device.architecture) for kernel in dict.fromkeys(kernels)}
    found = {key: table.get(key) for key in keys.values()}
    missing = {key: kernel for kernel, key in keys.items() if found[key] is None}
    images = {key: None if device.host else cache.get(key) for key in missing}
    texts = {key: emitter.text(missing[key], symbol_of(key)) for key, image in images.items() if image is None}
    if not device.host and len(texts) > 1:
        from symtensor_codegen.cuda.compile import cubins

        cubins([(text, symbol_of(key)) for key, text in texts.items()], device.architecture)  # side by side
    made: dict[str, DeviceKernel] = {key: known for key, known in found.items() if known is not None}
    for key, kernel in missing.items():
        image = images[key]
        if image is None:
            image = device.code(texts[key], symbol_of(key))
            if not device.host:
                cache.put(key, image)
        made[key] = table[key] = DeviceKernel(kernel, KernelCode(key, image), emitter.schedule(kernel), device)
    return Loaded({kernel: made[key] for kernel, key in keys.items()}, len(made) - len(texts), len(texts))


def compile_for(kernels: Iterable[Kernel], architecture: str, emitter: Emitter) -> dict[Kernel, KernelCode]:
    """The code of kernels for an architecture; no device is needed."""
    from symtensor_codegen.cuda.compile import cubins

    keys = {kernel: key_of(kernel, architecture) for kernel in dict.fromkeys(kernels)}
    unique = {key: kernel for kernel, key in keys.items()}
    images = {key: cache.get(key) for key in unique}
    missing = [key for key, image in images.items() if image is None]
    texts = [(emitter.text(unique[key], symbol_of(key)), symbol_of(key)) for key in missing]
    for key, image in zip(missing, cubins(texts, architecture), strict=True):
        images[key] = image
        cache.put(key, image)
    return {kernel: KernelCode(key, images[key] or b"") for kernel, key in keys.items()}
