"""Kernels on a device: each compiled once per process and architecture, and found again in the store.

A kernel is looked up by its canonical text, before any CUDA text is written: kernels that differ in names only are
one, and a warm start writes and compiles nothing. A launch that gets the same memory twice, once to write into, has a
variant of its own.
"""

import re
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol
from weakref import WeakKeyDictionary, WeakValueDictionary

from symtensor_codegen import cache
from symtensor_codegen.cuda.calls.actions import Stage
from symtensor_codegen.cuda.device import Device
from symtensor_codegen.cuda.text.values import identifier
from symtensor_codegen.finish import storage
from symtensor_codegen.loops import Kernel
from symtensor_codegen.program import Launch, Program, walk
from symtensor_codegen.text import kernel_text

EMITTER_VERSION = "19"  # part of every key: change it when the same kernel text is to become other code

_SAME = b"same as:"  # in the entry of a kernel, before the key of the one that has the code of both

Shape = tuple[tuple[int, int, int], tuple[int, int, int]]


class StageShape(Protocol):
    """One launch of a kernel."""

    def shape(self, parameters: Sequence[int], multiprocessors: int) -> Shape | None:
        """Grid and block for these parameters; None where there is nothing to do."""

    @property
    def told(self) -> str:
        """How its iterations are spread, in words."""


class KernelSchedule(Protocol):
    """The launches of a kernel, in order."""

    @property
    def stages(self) -> Sequence[StageShape]:
        """The launches."""

    @property
    def spreads(self) -> bool:
        """Whether launches take scratch memory, after the buffers."""

    def scratch(self, parameters: Sequence[int], multiprocessors: int) -> int:
        """How many bytes of it for these parameters."""

    def is_better_apart(self, parameters: Sequence[int], multiprocessors: int) -> bool:
        """Whether the schedule of the kernel's ``apart`` variant should be quicker for these parameters."""


class Emitter(NamedTuple):
    """What turns kernels into CUDA text: the schedule, and the text for a schedule and the functions' symbol."""

    schedule: Callable[[Kernel, bool], KernelSchedule]
    emit: Callable[[Kernel, Any, str, bool], str]

    def text(self, variant: "Variant", symbol: str) -> str:
        """The text of a kernel."""
        return self.emit(variant.kernel, self.schedule(variant.kernel, variant.apart), symbol, variant.aliased)


class Variant(NamedTuple):
    """A kernel; ``aliased``: one that may get the same memory for several of its buffers.

    ``apart``: for few and long items, as `schedule` has it. It is made when a call has such sizes.
    """

    kernel: Kernel
    aliased: bool
    apart: bool = False

    @classmethod
    def of(cls, launch: Launch) -> "Variant":
        """The kernel of a launch."""
        memory = [storage(buffer) for buffer in launch.buffers]
        return cls(launch.kernel, len(set(memory)) < len(memory))

    @property
    def function(self) -> str:
        """What people see its functions called, before their number."""
        return identifier(self.kernel.name) + ("_apart" if self.apart else "")

    def key(self, architecture: str) -> str:
        """What the code is stored under."""
        text = kernel_text(self.kernel) + (" aliased" if self.aliased else "") + (" apart" if self.apart else "")
        return cache.key("cuda kernel", text, architecture, EMITTER_VERSION)


def variants(program: Program) -> list[Variant]:
    """The kernels of a program, each once, in the order of their first launches."""
    return list(dict.fromkeys(Variant.of(step) for step in walk(program.steps) if isinstance(step, Launch)))


def default_emitter() -> Emitter:
    """The generator of this package."""
    from symtensor_codegen.cuda.schedules.schedule import schedule
    from symtensor_codegen.cuda.text.emit import emit_kernel

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

    __slots__ = (
        "__weakref__", "_apart", "_emitter", "_functions", "_shapes", "code", "module", "schedule", "variant", "written"
    )  # fmt: skip

    def __init__(self, variant: Variant, code: KernelCode, emitter: Emitter, device: Device) -> None:
        kernel, self.variant, self.code, self._emitter = variant.kernel, variant, code, emitter
        self.schedule = emitter.schedule(kernel, variant.apart)
        self.module = device.load(code.image)
        self._shapes = tuple(self.schedule.stages)
        self._functions = [self.module.function(f"{code.symbol}_{k}") for k in range(len(self._shapes))]
        self.written = tuple(b in kernel.written for b in kernel.buffers)
        self._apart: DeviceKernel | None = None

    def stages(self, parameters: Sequence[int], multiprocessors: int) -> tuple[Stage, ...]:
        """The launches for these parameters."""
        found = []
        for function, stage in zip(self._functions, self._shapes, strict=True):
            shape = stage.shape(parameters, multiprocessors)
            if shape is not None:
                found.append(Stage(function, *shape))
        return tuple(found)

    def fitting(self, parameters: Sequence[int], device: Device) -> "DeviceKernel":
        """This kernel, or its ``apart`` variant where that is quicker for these parameters."""
        if not self.schedule.is_better_apart(parameters, device.multiprocessors):
            return self
        if self._apart is None:
            schedule, wanted = self._emitter.schedule(self.variant.kernel, True), self.variant._replace(apart=True)
            other = [s.told for s in schedule.stages] != [s.told for s in self.schedule.stages]
            self._apart = load([wanted], device, self._emitter).kernels[wanted] if other else self
        return self._apart

    @property
    def has_apart(self) -> bool:
        """Whether a call has asked for the ``apart`` variant."""
        return self._apart is not None and self._apart is not self


def symbol_of(key: str) -> str:
    """What the functions of a kernel are called, before their number."""
    return f"k_{key[:16]}"


# On a device ---------------------------------------------------------------------------------------------------------

_loaded: WeakKeyDictionary[Any, WeakValueDictionary[str, DeviceKernel]] = WeakKeyDictionary()


@dataclass(frozen=True, slots=True)
class Loaded:
    """The kernels of a program on a device, how many were known, and how many were compiled now."""

    kernels: dict[Variant, DeviceKernel]
    hits: int
    compiled: int


def load(wanted: Sequence[Variant], device: Device, emitter: Emitter) -> Loaded:
    """The kernels on a device, compiled where they are not known."""
    table = _loaded.setdefault(device, WeakValueDictionary())
    keys = {variant: variant.key(device.architecture) for variant in wanted}
    made = {key: known for key in keys.values() if (known := table.get(key)) is not None}
    missing: dict[str, Variant] = {}
    for variant, key in keys.items():
        if key not in made:
            missing.setdefault(key, variant)  # of equal kernels the first
    images = {} if device.host else _stored(missing)
    new = {key: variant for key, variant in missing.items() if key not in images}
    images |= _compiled_by(device, new, emitter) if device.host else _compiled(new, device.architecture, emitter)
    for key, variant in missing.items():
        code = KernelCode(key, images[key])
        made[key] = table[key] = DeviceKernel(variant, code, emitter, device)
        names[code.symbol] = variant.kernel.name
    hits = len(made) - len(new)
    return Loaded({variant: made[key] for variant, key in keys.items()}, hits, len(new))


def compile_for(wanted: Sequence[Variant], architecture: str, emitter: Emitter) -> dict[Variant, KernelCode]:
    """The code of kernels for an architecture; no device is needed."""
    keys = {variant: variant.key(architecture) for variant in wanted}
    unique = {key: variant for variant, key in keys.items()}
    images = _stored(unique)
    images |= _compiled({k: v for k, v in unique.items() if k not in images}, architecture, emitter)
    return {variant: KernelCode(key, images[key]) for variant, key in keys.items()}


def _stored(wanted: Iterable[str]) -> dict[str, bytes]:
    """The code that the store has, by key."""
    found = {}
    for key in wanted:
        image = cache.get(key)
        if image is not None and image.startswith(_SAME):
            image = cache.get(image.removeprefix(_SAME).decode())
        if image is not None:
            found[key] = image
    return found


def _compiled(wanted: dict[str, Variant], architecture: str, emitter: Emitter) -> dict[str, bytes]:
    """Code compiled now, several kernels side by side, and stored: once where they share it.

    What is shared has a key of its own, by content: other processes may compile the same kernels in other company.
    """
    if not wanted:
        return {}
    from symtensor_codegen.cuda.compiling.compile import cubins

    texts = [(emitter.text(variant, symbol_of(key)), symbol_of(key)) for key, variant in wanted.items()]
    images = dict(zip(wanted, cubins(texts, architecture), strict=True))
    shared = {image: cache.key("cuda image", image) for image, users in Counter(images.values()).items() if users > 1}
    for image, name in shared.items():
        cache.put(name, image)
    for key, image in images.items():
        cache.put(key, _SAME + shared[image].encode() if image in shared else image)
    return images


def _compiled_by(device: Device, wanted: dict[str, Variant], emitter: Emitter) -> dict[str, bytes]:
    """Code that a device of the host makes of the texts in its own way, all at once if it can."""
    texts = {key: (emitter.text(variant, symbol_of(key)), symbol_of(key)) for key, variant in wanted.items()}
    several = getattr(device, "code_many", None)
    if several is not None and len(texts) > 1:
        several(list(texts.values()))  # ``code`` knows them then
    return {key: device.code(*text) for key, text in texts.items()}


names: dict[str, str] = {}
"""What people call the kernels that are loaded, by the symbol of their functions."""


def readable(text: str) -> str:
    """A text in which kernels have the names that people know."""
    return re.sub(r"\b(k_[0-9a-f]{16})_(\d+)\b", lambda found: names.get(found[1], found[0]), text)
