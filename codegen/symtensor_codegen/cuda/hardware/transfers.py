"""Copies between host and device, by way of page-locked memory, which the device reads and writes by itself.

An upload is copied into page-locked pieces and on from there while the next piece is filled; the array is free when
the last piece is filled. A piece is used again when the event after its transfer has passed. A download does the
same in the other direction.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Any

import numpy

if TYPE_CHECKING:
    from symtensor_codegen.cuda.device import Array

SMALL_PIECE, PIECE = 1 << 14, 1 << 22
MOST_SMALL, MOST = 64, 8
"""Sizes in bytes, and how many there are at most: 1 MiB and 32 MiB, made as they are needed."""


class Piece:
    """Page-locked memory, and the event after its last transfer."""

    __slots__ = ("event", "view")

    def __init__(self, cuda: Any, size: int) -> None:
        self.view: Array = cuda.pagelocked_empty(size, numpy.uint8)
        self.event = cuda.Event(cuda.event_flags.DISABLE_TIMING)


class Pieces:
    """Pieces of one size, used in turn. Their stream is one, so they come free in the order of their use."""

    def __init__(self, cuda: Any, size: int, most: int) -> None:
        self.cuda, self.size, self.most = cuda, size, most
        self.made = 0
        self.free: list[Piece] = []
        self.moving: deque[Piece] = deque()

    def take(self) -> Piece:
        """A piece that nothing uses."""
        if self.free:
            return self.free.pop()
        if self.moving and (self.made >= self.most or self.moving[0].event.query()):
            self.moving[0].event.synchronize()
            return self.moving.popleft()
        piece = Piece(self.cuda, self.size)
        self.made += 1
        return piece

    def sent(self, piece: Piece, stream: Any) -> None:
        """The piece is free when what is queued now is done."""
        piece.event.record(stream)
        self.moving.append(piece)

    def release(self) -> None:
        """Give the memory of pieces back that nothing uses; all transfers are done."""
        self.made -= len(self.free) + len(self.moving)
        self.free.clear()
        self.moving.clear()


class Arrival:
    """A few bytes on their way to the host."""

    __slots__ = ("piece", "pieces", "size")

    def __init__(self, pieces: Pieces, piece: Piece, size: int) -> None:
        self.pieces, self.piece, self.size = pieces, piece, size

    def ready(self) -> bool:
        """Whether they are here."""
        return bool(self.piece.event.query())

    def take(self) -> bytes:
        """The bytes, when they are here; once."""
        self.piece.event.synchronize()
        found = self.piece.view[: self.size].tobytes()
        self.pieces.free.append(self.piece)
        return found


class Uploads:
    """Uploads in one stream; the caller has the context of its device current."""

    def __init__(self, cuda: Any, stream: Any) -> None:
        self.cuda, self.stream = cuda, stream
        self.small = Pieces(cuda, SMALL_PIECE, MOST_SMALL)
        self.large = Pieces(cuda, PIECE, MOST)

    def pieces(self, nbytes: int) -> Pieces:
        """Those for a transfer of this size."""
        return self.small if nbytes <= SMALL_PIECE else self.large

    def upload(self, address: int, array: Array) -> None:
        """Queue a copy to the device; the array may be changed afterwards."""
        source, pieces = as_bytes(array), self.pieces(array.nbytes)
        for begin in range(0, source.size, pieces.size):
            part = source[begin : begin + pieces.size]
            piece = pieces.take()
            staged = piece.view[: part.size]
            staged[:] = part
            self.cuda.memcpy_htod_async(address + begin, staged, self.stream)
            pieces.sent(piece, self.stream)

    def release(self) -> None:
        """Give page-locked memory back; all transfers are done."""
        self.small.release()
        self.large.release()

    def held(self) -> list[Any]:
        """The objects of the driver that the pieces consist of."""
        pieces = [*self.small.free, *self.small.moving, *self.large.free, *self.large.moving]
        return [part for piece in pieces for part in (piece.view, piece.event)]


class Transfers(Uploads):
    """Uploads, and downloads in the same stream."""

    def download(self, array: Array, address: int) -> None:
        """Fill an array from the device, when all earlier work is done."""
        target, pieces = as_bytes(array), self.pieces(array.nbytes)
        coming: deque[tuple[int, Piece]] = deque()
        for begin in range(0, target.size, pieces.size):
            piece = pieces.take()
            self.cuda.memcpy_dtoh_async(piece.view[: target.size - begin], address + begin, self.stream)
            piece.event.record(self.stream)
            coming.append((begin, piece))
            if len(coming) == 3:
                _arrive(target, pieces, *coming.popleft())
        while coming:
            _arrive(target, pieces, *coming.popleft())

    def send_home(self, address: int, nbytes: int) -> Arrival:
        """Begin to copy a few bytes to the host, after all earlier work."""
        piece = self.small.take()
        self.cuda.memcpy_dtoh_async(piece.view[:nbytes], address, self.stream)
        piece.event.record(self.stream)
        return Arrival(self.small, piece, nbytes)


def _arrive(target: Array, pieces: Pieces, begin: int, piece: Piece) -> None:
    piece.event.synchronize()
    part = target[begin : begin + pieces.size]
    part[:] = piece.view[: part.size]
    pieces.free.append(piece)


def as_bytes(array: Array) -> Array:
    """The bytes of a C-contiguous array."""
    return array.reshape(-1).view(numpy.uint8)
