"""The pool of device memory: what is used again, what is asked of the device, and what is given back."""

import gc
import threading
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from symtensor_codegen.cuda.arrays import DeviceArray
from symtensor_codegen.cuda.errors import DeviceMemoryError
from symtensor_codegen.cuda.hardware.driver import CudaDevice
from symtensor_codegen.cuda.hardware.memory import SMALLEST, Pool, rounded
from tests.cuda.pretended_cuda import Machine, new_device

MEBI = 1 << 20


class Store:
    """Memory to be had, and what was asked of it."""

    def __init__(self, size: int) -> None:
        self.size, self.used, self.asked, self.settled, self.next = size, 0, [], 0, 0

    def reserve(self, nbytes: int) -> "Reservation":
        if self.used + nbytes > self.size:
            raise MemoryError
        self.used += nbytes
        self.asked.append(nbytes)
        self.next += nbytes
        return Reservation(self, self.next - nbytes, nbytes)

    def settle(self) -> None:
        self.settled += 1


class Reservation:
    def __init__(self, store: Store, address: int, size: int) -> None:
        self.store, self.address, self.size = store, address, size

    def __int__(self) -> int:
        return self.address

    def free(self) -> None:
        self.store.used -= self.size


def new_pool(size: int = 1 << 40) -> tuple[Store, Pool]:
    store = Store(size)
    complain = lambda nbytes, used: DeviceMemoryError(f"{nbytes} asked, {used} used")  # noqa: E731
    return store, Pool(store.reserve, store.settle, complain)


@given(st.integers(0, 1 << 40))
def test_sizes_are_rounded_up_a_little(nbytes: int) -> None:
    size = rounded(nbytes)
    assert size >= max(nbytes, SMALLEST)
    assert size % SMALLEST == 0
    assert size <= max(nbytes * 9 / 8, nbytes + SMALLEST)
    assert rounded(size) == size


@given(st.integers(0, 1 << 30), st.integers(0, 1 << 30))
def test_rounding_keeps_the_order(a: int, b: int) -> None:
    assert (rounded(a) <= rounded(b)) == (a <= b) or rounded(a) == rounded(b)


def test_dropped_blocks_are_used_again_latest_first() -> None:
    store, pool = new_pool()
    blocks = [pool.obtain(1000) for _ in range(3)]
    addresses = [block.address for block in blocks]
    while blocks:
        del blocks[0]
    again = [pool.obtain(900).address for _ in range(1)]
    assert again == addresses[-1:]
    assert store.asked == [1024] * 3


def test_somewhat_larger_blocks_serve() -> None:
    store, pool = new_pool()
    for size, served in ((600, 512), (4 * MEBI, 3 * MEBI)):
        address = pool.obtain(size).address
        assert pool.obtain(served).address == address
    assert len(store.asked) == 2
    pool.obtain(2 * MEBI)  # half of a large block would be wasted
    assert len(store.asked) == 3


def test_nothing_is_taken_in_advance_and_all_goes_back() -> None:
    store, pool = new_pool()
    assert store.used == pool.reserved == 0
    kept, dropped = pool.obtain(5000), pool.obtain(3 * MEBI)
    assert (pool.reserved, pool.cached) == (store.used, 0)
    del dropped
    assert pool.cached == rounded(3 * MEBI)
    pool.release()
    assert store.used == pool.reserved == rounded(5000) == kept.size
    assert store.settled == 1
    pool.release()
    assert store.settled == 1  # nothing to do


def test_cached_memory_is_given_back_before_it_is_short() -> None:
    store, pool = new_pool(10 * MEBI)
    del [pool.obtain(size * MEBI) for size in (1, 2, 3)][:]
    gc.collect()
    kept = pool.obtain(9 * MEBI)
    assert store.used == kept.size == 9 * MEBI
    with pytest.raises(DeviceMemoryError, match=f"{2 * MEBI} asked, {9 * MEBI} used"):
        pool.obtain(2 * MEBI)


def test_shared_blocks_wait_for_the_whole_device() -> None:
    store, pool = new_pool()
    block = pool.obtain(1000)
    address = block.address
    block.share()
    del block
    assert pool.cached == 1024
    assert pool.allocate(1000) is None
    assert pool.obtain(1000).address == address
    assert (store.settled, store.asked) == (1, [1024])


def test_threads_never_get_the_same_block() -> None:
    _, pool = new_pool()
    lock, seen, problems = threading.Lock(), set(), []

    def work(seed: int) -> None:
        generator = np.random.default_rng(seed)
        mine: list = []
        for _ in range(2000):
            size = int(generator.integers(1, 3000))
            block = pool.allocate(size)
            if block is None:
                with lock:
                    block = pool.obtain(size)
            if block.address in seen:
                problems.append(block.address)
            seen.add(block.address)
            mine.append(block)
            if len(mine) > 5:
                gone = mine.pop(int(generator.integers(len(mine))))
                seen.discard(gone.address)
                del gone, block
        for block in mine:
            seen.discard(block.address)

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not problems
    blocks = sorted((address, address + size) for address, (size, _) in pool._reserved.items())
    assert all(end <= begin for (_, end), (begin, _) in pairwise(blocks))


class TestDevice:
    @pytest.fixture
    def machine(self) -> Machine:
        return Machine()

    @pytest.fixture
    def device(self, monkeypatch: pytest.MonkeyPatch, machine: Machine) -> CudaDevice:
        return new_device(monkeypatch, machine)

    def test_alignment(self, device: CudaDevice) -> None:
        blocks = [device.allocate(size) for size in (0, 1, 255, 257, 10_000)]
        assert all(block.address % 256 == 0 and block.size >= 16 for block in blocks)

    def test_too_much(self, device: CudaDevice, machine: Machine) -> None:
        held = DeviceArray.upload(device, np.zeros(1 << 20))
        pattern = (
            r"^cuda:0 is out of memory: 5\.00 GiB asked, [\d.,]+ MiB of 1\.00 GiB free; arrays and functions of "
            r"symtensor hold 8\.0 MiB\. Use smaller batches"
        )
        with pytest.raises(DeviceMemoryError, match=pattern):
            device.allocate(5 << 30)
        with pytest.raises(MemoryError):
            device.allocate(5 << 30)
        assert not held.numpy().any()

    def test_release(self, device: CudaDevice, machine: Machine) -> None:
        del [DeviceArray.upload(device, np.zeros(1 << size)) for size in range(10, 20)][:]
        assert machine.used
        device.release()
        assert machine.used == 0
        assert device.memory_info() == (machine.memory, machine.memory)
        assert device._transfers.large.made == device._transfers.small.made == 0

    def test_arrays_may_be_dropped_in_other_threads(self, device: CudaDevice, machine: Machine) -> None:
        arrays = [DeviceArray.upload(device, np.zeros(100))]
        module = [device.load(b"image")]
        used, address = machine.used, arrays[0].address

        def drop() -> None:
            arrays.clear()
            module.clear()
            gc.collect()

        thread = threading.Thread(target=drop)
        thread.start()
        thread.join()
        assert not any(entry[0] == "unload" for entry in machine.log)
        assert DeviceArray.upload(device, np.zeros(100)).address == address
        assert machine.used == used
        assert ("unload", True) in machine.log  # with the context current
