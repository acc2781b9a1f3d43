"""User settings: ``symtensor.config``.

Settings are read once from the environment variable ``SYMTENSOR_FLAGS`` (``name=value`` pairs separated by
commas, as ``THEANO_FLAGS``), can be assigned at run time, and can be changed for a while with
``config.change``. Of ``THEANO_FLAGS`` the settings that mean the same here are read first (those of
``THEANO_NAMES``, ``mode``, ``optimizer`` and ``device``); what concerns Theano's own compilers has no meaning here
and is passed over.
"""

import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from symtensor_codegen.errors import UserError


class ConfigError(UserError, ValueError):
    """A setting does not exist or does not take this value."""


class _Setting:
    """One setting: its default, how text becomes a value, the values allowed, and what it means.

    ``pattern``: what the values look like, where they are more than the ``choices`` tell.
    """

    __slots__ = ("choices", "default", "doc", "pattern", "read")

    def __init__(
        self,
        default: Any,
        doc: str,
        choices: tuple[Any, ...] = (),
        read: Callable[[str], Any] = str,
        pattern: str | None = None,
    ) -> None:
        self.default, self.doc, self.choices, self.read, self.pattern = default, doc, choices, read, pattern

    def takes(self, value: Any) -> bool:
        """Whether the setting may have this value."""
        if self.pattern is not None:
            return isinstance(value, str) and re.fullmatch(self.pattern, value) is not None
        return not self.choices or value in self.choices


def _boolean(text: str) -> Any:
    return {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}.get(
        text.lower(), text
    )


MODES = ("fast_run", "fast_compile", "debug", "nan_guard", "reference")
MODE_NAMES = {name: name for name in MODES} | {
    "mode": "fast_run", "debugmode": "debug", "debug_mode": "debug", "nanguardmode": "nan_guard"
}  # fmt: skip
"""Modes by name in lower case, Theano's names included."""


def _mode(text: str) -> str:
    return MODE_NAMES.get(text.lower(), text)


DEVICES = ("cpu", "cuda", "cuda:N", "cuda:sm_NN")
DEVICE_PATTERN = r"cpu|cuda|cuda:(\d{1,4}|sm_\d{2,3}[af]?)"


def device_name(text: str) -> str:
    """The name of a device; Theano's ``gpu``, ``gpu1``, ``cuda1`` are ``cuda`` and ``cuda:1``."""
    theano = re.fullmatch(r"(gpu|cuda)(\d{0,4})", text)
    if theano is None:
        return text
    number = int(theano[2] or 0)
    return f"cuda:{number}" if number else "cuda"


SETTINGS = {
    "floatX": _Setting(
        "float64",
        "Element type of variables made without one (T.matrix, T.zeros ...).",
        ("float16", "float32", "float64"),
    ),
    "cast_policy": _Setting(
        "numpy", "Number promotion: NumPy 2 with weak Python scalars, or Theano's rules.", ("numpy", "theano")
    ),
    "mode": _Setting("fast_run", "Default mode of function().", MODES, _mode),
    "device": _Setting(
        "cpu", "Where compiled functions run, and new shared variables live.", DEVICES, device_name, DEVICE_PATTERN
    ),
    "matmul_precision": _Setting(
        "float32",
        "What float32 matrices may be rounded to before they are multiplied on a device; sums are float32.",
        ("float32", "tf32", "bfloat16", "float16"),
    ),
    "compute_test_value": _Setting(
        "off",
        "Compute x.tag.test_value of expressions while they are built.",
        ("off", "ignore", "warn", "raise"),
    ),
    "on_unused_input": _Setting(
        "raise", "What function() does about inputs no output needs.", ("raise", "warn", "ignore")
    ),
    "exception_verbosity": _Setting("low", "How much an error message shows.", ("low", "high")),
    "profile": _Setting(False, "Profile every compiled function.", (False, True), _boolean),
    "fast_math": _Setting(
        False, "Allow rewrites that are not exact in IEEE arithmetic.", (False, True), _boolean
    ),
}


THEANO_NAMES = ("floatX", "compute_test_value", "on_unused_input", "exception_verbosity", "profile")


def _theano_settings(flags: str) -> Iterator[tuple[str, str]]:
    """What ``THEANO_FLAGS`` say about settings that exist here; Theano's ``mode=Mode`` takes that of its optimizer."""
    given = {name.strip(): text.strip() for name, _, text in (part.partition("=") for part in flags.split(","))}
    for name in THEANO_NAMES:
        if name in given:
            yield name, given[name]
    mode = given.get("mode", "Mode").lower()
    if mode == "mode" and given.get("optimizer") in ("fast_compile", "None"):
        mode = "fast_compile"
    if mode in MODE_NAMES:
        yield "mode", mode
    device = device_name(given.get("device", "cpu"))
    if re.fullmatch(DEVICE_PATTERN, device):
        yield "device", device


class Config:
    """The settings as attributes; an unknown name is an AttributeError, a bad value a ConfigError."""

    def __init__(self, flags: str = "", theano_flags: str = "") -> None:
        for name, setting in SETTINGS.items():
            object.__setattr__(self, name, setting.default)
        for name, text in _theano_settings(theano_flags):
            setattr(self, name, text)
        for flag in filter(None, (part.strip() for part in flags.split(","))):
            name, _, text = flag.partition("=")
            if name not in SETTINGS:
                raise ConfigError(
                    f"SYMTENSOR_FLAGS: there is no setting {name!r}; there are {', '.join(SETTINGS)}"
                )
            try:
                setattr(self, name, text)
            except ConfigError as error:
                raise ConfigError(f"SYMTENSOR_FLAGS: {error}") from None

    def __getattr__(self, name: str) -> Any:
        raise AttributeError(f"config has no setting {name!r}; there are {', '.join(SETTINGS)}")

    def __setattr__(self, name: str, value: Any) -> None:
        setting = SETTINGS.get(name)
        if setting is None:
            raise AttributeError(f"config has no setting {name!r}; there are {', '.join(SETTINGS)}")
        if isinstance(value, str):
            value = setting.read(value)
        if not setting.takes(value):
            raise ConfigError(f"config.{name} takes {' or '.join(map(repr, setting.choices))}, not {value!r}")
        object.__setattr__(self, name, value)

    @contextmanager
    def change(self, **settings: Any) -> Iterator[None]:
        """Other settings inside a ``with`` block."""
        before = {name: getattr(self, name) for name in settings}
        try:
            for name, value in settings.items():
                setattr(self, name, value)
            yield
        finally:
            for name, value in before.items():
                setattr(self, name, value)


config = Config(os.environ.get("SYMTENSOR_FLAGS", ""), os.environ.get("THEANO_FLAGS", ""))
