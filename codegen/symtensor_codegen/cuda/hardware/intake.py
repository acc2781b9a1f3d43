"""Arguments from the host that travel while the device still works on earlier calls.

They have memory of their own, two areas in turn, since that of the call before is in use until the device has done it,
and a stream of their own, since in the device's they would come after all that is queued there. Three things are
ordered by events: what is written into an area waits for the work that read it two turns before; what is queued after
the upload waits for it; memory that the pool gives or gets back has nothing of the other stream on it.

While the device has nothing to do, an upload goes the ordinary way, into the area that was used last: a caller who
waits for each result never gets a second one.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from symtensor_codegen.cuda.errors import DeviceMemoryError
from symtensor_codegen.cuda.hardware.transfers import Uploads

if TYPE_CHECKING:
    from symtensor_codegen.cuda.device import Array
    from symtensor_codegen.cuda.hardware.memory import PooledBlock

LARGE = 1 << 16
"""Arguments of at most so many bytes in all stay out of this: ordering two streams takes longer than their transfer."""
NON_BLOCKING = 1


class Area:
    """Memory for the arguments of one call, and an event behind the work that uses it."""

    __slots__ = ("block", "used")

    def __init__(self, cuda: Any) -> None:
        self.block: PooledBlock | None = None
        self.used = cuda.Event(cuda.event_flags.DISABLE_TIMING)


class Intake:
    """The areas of one device, none before they are needed; the caller has its context current.

    Whatever raises, an interrupt too, leaves it in order: the next `take` goes on from `areas`, whose last one is in
    use, and from `coming`.
    """

    def __init__(self, cuda: Any, main: Uploads, allocate: Callable[[int], PooledBlock]) -> None:
        """``main``: uploads in the device's stream; ``allocate`` raises DeviceMemoryError."""
        self.cuda, self.main, self.allocate = cuda, main, allocate
        self.areas: list[Area] = []
        self.alone = False  # there was no memory for a second area
        self.ahead: Uploads | None = None
        self.arrived: Any = None
        self.coming = False  # the device's stream has not been told to wait for what is in the other

    def take(self, nbytes: int, arrays: Sequence[tuple[int, Array]]) -> int:
        """The address of ``nbytes`` with arrays at offsets; they are for what is queued until the next call of this.

        Raises: DeviceMemoryError.
        """
        self._join()
        ahead = not self.alone and not self.main.stream.is_done()
        if ahead and self.areas:
            self.areas[-1].used.record(self.main.stream)
            if len(self.areas) == 2:
                self.areas.reverse()
            else:
                self.areas.append(Area(self.cuda))
        area, block = self._large_enough(nbytes)
        uploads = self._other_stream(area) if ahead else self.main
        for offset, array in arrays:
            uploads.upload(block.address + offset, array)
        self._join()
        return block.address

    def _large_enough(self, nbytes: int) -> tuple[Area, PooledBlock]:
        """The area whose turn it is; the other one's turn it is for good if there is no memory for both."""
        if not self.areas:
            self.areas.append(Area(self.cuda))
        area = self.areas[-1]
        if area.block is not None and area.block.size >= nbytes:
            return area, area.block
        area.block = None
        try:
            area.block = block = self.allocate(nbytes)
        except DeviceMemoryError:
            if len(self.areas) == 1:
                raise
            self.areas.pop()
            self.alone = True
            return self._large_enough(nbytes)
        area.used.record(self.main.stream)  # behind what used this memory before
        return area, block

    def _other_stream(self, area: Area) -> Uploads:
        """Uploads beside the device's work, from now on into memory that nothing uses any more."""
        if self.ahead is None:
            self.arrived = self.cuda.Event(self.cuda.event_flags.DISABLE_TIMING)
            self.ahead = Uploads(self.cuda, self.cuda.Stream(NON_BLOCKING))
        self.ahead.stream.wait_for_event(area.used)
        self.coming = True
        return self.ahead

    def _join(self) -> None:
        """What is queued on the device from now on comes after all that was sent beside its work."""
        if self.coming and self.ahead is not None:
            self.arrived.record(self.ahead.stream)
            self.main.stream.wait_for_event(self.arrived)
            self.coming = False

    def drop(self) -> None:
        """Give the areas to the pool; nobody relies on what `take` gave last."""
        self._join()
        self.areas.clear()
        self.alone = False

    def release(self) -> None:
        """Give page-locked memory back; all transfers are done."""
        if self.ahead is not None:
            self.ahead.release()

    def held(self) -> list[Any]:
        """The objects of the driver that this consists of."""
        events = [area.used for area in self.areas]
        return events if self.ahead is None else [*events, self.arrived, self.ahead.stream, *self.ahead.held()]
