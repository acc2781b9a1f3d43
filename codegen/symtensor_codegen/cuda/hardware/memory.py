"""Device memory that is used again: blocks of dropped arrays are kept and given to new ones of about the same size.

All work of a device is in one stream, so a block may be used again at once: what its last user queued comes before
what the next one queues. Nothing is taken in advance.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable
from typing import Any

from symtensor_codegen.cuda.errors import DeviceMemoryError

SMALLEST = 256
"""Blocks are multiples of this many bytes, which is also their alignment."""
SMALL = 1 << 20
"""Up to this size a block may be used for half of it, above for three quarters."""


def rounded(nbytes: int) -> int:
    """The size of the block for a request: at most an eighth more above 2 KiB, so that similar sizes share blocks.

    >>> rounded(0), rounded(1000), rounded(5000), rounded(1 << 20), rounded((1 << 20) + 1)
    (256, 1024, 5120, 1048576, 1179648)
    """
    if nbytes <= SMALLEST:
        return SMALLEST
    step = max(SMALLEST, 1 << ((nbytes - 1).bit_length() - 4))
    return -(-nbytes // step) * step


class PooledBlock:
    """A block of a pool, which takes it back when the object is dropped."""

    __slots__ = ("address", "size", "_shelf", "_shelf_of_shared")

    def __init__(self, address: int, size: int, shelf: list[int], shared: list[int]) -> None:
        self.address, self.size, self._shelf, self._shelf_of_shared = address, size, shelf, shared

    def share(self) -> None:
        """Other libraries use it on streams of their own: it is used again only after all work of the device."""
        self._shelf = self._shelf_of_shared

    def __del__(self) -> None:
        # Runs in any thread and at any point of other code, the pool's too: appending to a list is one step.
        self._shelf.append(self.address)


class Pool:
    """Memory of one device.

    `reserve` takes memory from the device and returns an object with its address as `int()` and a method `free`;
    where there is none left it raises MemoryError or `out_of_memory`. `settle` waits for all work of the device.
    """

    def __init__(
        self,
        reserve: Callable[[int], Any],
        settle: Callable[[], None],
        complain: Callable[[int, int], DeviceMemoryError],
        out_of_memory: type[Exception] = MemoryError,
    ) -> None:
        self._reserve, self._settle, self._complain = reserve, settle, complain
        self._out_of_memory = (MemoryError, out_of_memory)
        self._shelves: dict[int, list[int]] = {}  # addresses of free blocks by size; a list is never replaced
        self._sizes: list[int] = []  # those sizes, ascending
        self._shared: list[int] = []  # addresses of free blocks that other streams may still use
        self._reserved: dict[int, tuple[int, Any]] = {}  # size and reservation by address

    @property
    def reserved(self) -> int:
        """Bytes taken from the device."""
        return sum(size for size, _ in self._reserved.values())

    @property
    def cached(self) -> int:
        """Those of them which no array uses."""
        free = sum(size * len(self._shelves[size]) for size in self._sizes)
        return free + sum(self._reserved[address][0] for address in list(self._shared))

    @property
    def reservations(self) -> list[Any]:
        """What `reserve` returned and was not freed."""
        return [reservation for _, reservation in self._reserved.values()]

    def allocate(self, nbytes: int) -> PooledBlock | None:
        """A free block of the right size, if there is one; `obtain` goes further. Needs no lock."""
        size = rounded(nbytes)
        shelf = self._shelves.get(size)
        if not shelf:
            return None
        try:
            return PooledBlock(shelf.pop(), size, shelf, self._shared)
        except IndexError:  # another thread was faster
            return None

    def obtain(self, nbytes: int) -> PooledBlock:
        """A block; the caller has the device to itself.

        Raises: DeviceMemoryError.
        """
        size = rounded(nbytes)
        found = self.allocate(nbytes) or self._larger(size)
        if found is None and self._shared:
            self._settle()
            self._take_back_shared()
            found = self.allocate(nbytes) or self._larger(size)
        return found or self._fresh(size, nbytes)

    def release(self) -> None:
        """Give free blocks back to the device; the caller has the device to itself."""
        if not any(self._shelves.values()) and not self._shared:
            return
        self._settle()
        self._take_back_shared()
        for size in self._sizes:
            shelf = self._shelves[size]
            while shelf:
                _, reservation = self._reserved.pop(shelf.pop())
                reservation.free()

    def _larger(self, size: int) -> PooledBlock | None:
        limit = size * 2 if size <= SMALL else size + size // 3
        for position in range(bisect_right(self._sizes, size), len(self._sizes)):
            larger = self._sizes[position]
            if larger > limit:
                return None
            found = self.allocate(larger)
            if found is not None:
                return found
        return None

    def _fresh(self, size: int, nbytes: int) -> PooledBlock:
        try:
            reservation = self._reserve(size)
        except self._out_of_memory:
            self.release()
            try:
                reservation = self._reserve(size)
            except self._out_of_memory:
                raise self._complain(nbytes, self.reserved - self.cached) from None
        address = int(reservation)
        self._reserved[address] = size, reservation
        if size not in self._shelves:
            self._shelves[size] = []
            self._sizes.insert(bisect_right(self._sizes, size), size)
        return PooledBlock(address, size, self._shelves[size], self._shared)

    def _take_back_shared(self) -> None:
        for _ in range(len(self._shared)):
            address = self._shared.pop()
            self._shelves[self._reserved[address][0]].append(address)
