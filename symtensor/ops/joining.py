"""Joining, splitting, repeating, moving and padding."""

from .joining_moves import flip, fliplr, flipud, repeat, roll, rot90, tile
from .joining_pad_modes import pad
from .joining_pieces import (
    array_split,
    at_least,
    concatenate,
    dstack,
    horizontal_stack,
    hstack,
    join,
    split,
    stack,
    vertical_stack,
    vstack,
)

__all__ = [
    "array_split",
    "at_least",
    "concatenate",
    "dstack",
    "flip",
    "fliplr",
    "flipud",
    "horizontal_stack",
    "hstack",
    "join",
    "pad",
    "repeat",
    "roll",
    "rot90",
    "split",
    "stack",
    "tile",
    "vertical_stack",
    "vstack",
]
