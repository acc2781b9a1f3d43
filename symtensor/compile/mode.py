"""Theano's names for modes."""

from symtensor.modes import Mode, ModeRecord
from symtensor.modes import mode_of as get_mode
from symtensor.settings import MODES, config

FAST_RUN, FAST_COMPILE = get_mode("fast_run"), get_mode("fast_compile")
predefined_modes = {name: get_mode(name) for name in MODES}


def get_default_mode() -> ModeRecord:
    """The mode of ``config.mode``."""
    return get_mode(config.mode)


__all__ = ["FAST_COMPILE", "FAST_RUN", "Mode", "get_default_mode", "get_mode", "predefined_modes"]
