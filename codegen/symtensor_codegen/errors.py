"""Errors of the compiler: what a user can mend, and what is our own fault."""


class UserError(Exception):
    """Something in the user's program is wrong; the message says what, where and what to do."""


class ShapeError(UserError, ValueError):
    """Sizes of operands do not agree."""


class DTypeError(UserError, TypeError):
    """An element type is not accepted here."""


class OutOfRangeError(UserError, IndexError):
    """An index points outside of what it indexes."""


class MixedDevicesError(UserError, ValueError):
    """Things that live on different devices are used together."""


class BackendError(UserError, NotImplementedError):
    """A backend cannot do what was asked; the message names the operation and the backend."""


class InternalError(Exception):
    """The compiler broke one of its own rules; please report it."""
