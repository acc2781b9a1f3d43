"""User settings: ``symtensor.config``.

Settings are read once from the environment variable ``SYMTENSOR_FLAGS`` (``name=value`` pairs separated by
commas, as ``THEANO_FLAGS``), can be assigned at run time, and can be changed for a while with
``config.change``. Of ``THEANO_FLAGS`` the settings that mean the same here are read first (those of
``THEANO_NAMES``, ``mode`` and ``optimizer``); what concerns Theano's own compilers has no meaning here and is passed
over.
"""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from symtensor_codegen.errors import UserError


class ConfigError(UserError, ValueError):
    """A setting does not exist or does not take this value."""


class _Setting:
    """One setting: its default, how text becomes a value, the values allowed, and what it means."""

    __slots__ = ("choices", "default", "doc", "read")

    def __init__(
        self, default: Any, doc: str, choices: tuple[Any, ...] = (), read: Callable[[str], Any] = str
    ) -> None:
        self.default, self.doc, self.choices, self.read = default, doc, choices, read


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
    "device": _Setting("cpu", "Where compiled functions run.", ("cpu",)),
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
        if setting.choices and value not in setting.choices:
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
