"""Arrays on a device: copies to and from the host, and exchange with other libraries.

The device is a pretended one (see pretended_cuda); the other side of DLPack is NumPy's real one, over host memory.
"""

import copy
import gc
import pickle
import weakref
from collections.abc import Iterator

import numpy as np
import pytest

from symtensor_codegen.cuda import device as devices
from symtensor_codegen.cuda.arrays import DeviceArray, empty, from_other
from symtensor_codegen.cuda.errors import DeviceError, MixedDevicesError
from symtensor_codegen.cuda.hardware import dlpack, transfers
from symtensor_codegen.cuda.hardware.driver import CudaDevice
from symtensor_codegen.errors import DTypeError, InternalError
from tests.cuda.pretended_cuda import Machine, install, new_device

DTYPES = ["bool", "int8", "uint16", "int64", "float16", "float32", "float64", "complex64", "complex128"]
SHAPES = [(), (0,), (1,), (7,), (3, 5), (2, 0, 4), (1000, 3)]


@pytest.fixture
def machine() -> Machine:
    return Machine()


@pytest.fixture
def device(monkeypatch: pytest.MonkeyPatch, machine: Machine) -> Iterator[CudaDevice]:
    # Small pieces, so that arrays of the tests take several.
    monkeypatch.setattr(transfers, "SMALL_PIECE", 64)
    monkeypatch.setattr(transfers, "PIECE", 256)
    monkeypatch.setattr(transfers, "MOST", 2)
    yield new_device(monkeypatch, machine)
    assert not any(machine.stacks.values())  # no context stays current


class HostMemory(CudaDevice):
    """A device whose memory NumPy can share."""

    host = True


@pytest.fixture
def host(monkeypatch: pytest.MonkeyPatch) -> HostMemory:
    install(monkeypatch, Machine())
    return HostMemory(0)


def values(shape: tuple[int, ...], dtype: str) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 2 if dtype == "bool" else 100, shape).astype(dtype)


class TestNumbers:
    def test_they_are_told_and_compared(self, device: CudaDevice) -> None:
        """As the results of the same program on the CPU, which are NumPy's numbers."""
        half, more = (DeviceArray.upload(device, np.array(v, "f8")) for v in (0.5, 0.75))
        assert f"{half:.3f} {half}" == "0.500 0.5"
        assert half == 0.5
        assert half != 0.25
        assert half < more
        assert half <= 0.5
        assert more > half
        assert more >= 0.75
        assert min(half, more) is half
        assert 0.75 in [half, more]
        assert len({half, more, half}) == 2
        missing = DeviceArray.upload(device, np.array(np.nan))
        assert missing != missing  # how people look for it

    def test_arrays_are_not(self, device: CudaDevice) -> None:
        array = DeviceArray.upload(device, np.arange(3.0))
        with pytest.raises(TypeError, match="not compared element by element: copy them first"):
            assert array == 1.0
        with pytest.raises(TypeError, match="not compared"):
            assert array < array.copy()
        assert array == array
        assert array in [array]
        assert f"{array}" == str(array)


class TestHost:
    @pytest.mark.parametrize("dtype", DTYPES)
    @pytest.mark.parametrize("shape", SHAPES)
    def test_round_trip(self, device: CudaDevice, shape: tuple[int, ...], dtype: str) -> None:
        expected = values(shape, dtype)
        array = DeviceArray.upload(device, expected)
        assert (array.shape, array.dtype, array.nbytes, array.ndim) == (shape, dtype, expected.nbytes, len(shape))
        for found in (array.numpy(), np.asarray(array), array.copy().numpy()):
            assert found.dtype == expected.dtype
            np.testing.assert_array_equal(found, expected)

    def test_the_source_may_change_after_an_upload(self, device: CudaDevice) -> None:
        source = values((1000,), "float64")
        expected = source.copy()
        array = DeviceArray.upload(device, source)
        source[:] = -1
        np.testing.assert_array_equal(array.numpy(), expected)

    def test_many_small_uploads_share_pinned_memory(self, device: CudaDevice) -> None:
        arrays = [DeviceArray.upload(device, np.array([k])) for k in range(200)]
        assert [array.item() for array in arrays] == list(range(200))
        assert device._transfers.small.made <= transfers.MOST_SMALL

    def test_unusual_sources(self, device: CudaDevice) -> None:
        for source in (np.arange(12.0).reshape(3, 4).T, np.arange(5.0)[::-1], np.arange(3, dtype=">f8")):
            np.testing.assert_array_equal(DeviceArray.upload(device, source).numpy(), source)
        with pytest.raises(DTypeError, match=r"arrays of <U1 cannot be on cuda:0"):
            DeviceArray.upload(device, np.array(["a"]))

    def test_a_download_needs_contiguous_memory(self, device: CudaDevice) -> None:
        with pytest.raises(InternalError, match="C-contiguous"):
            device.download(np.empty((4, 4)).T[:2], 0)

    def test_as_numpy_sees_it(self, device: CudaDevice) -> None:
        array = DeviceArray.upload(device, np.arange(3, dtype="float32"))
        assert np.asarray(array, dtype="int64").dtype == "int64"
        with pytest.raises(ValueError, match="without a copy"):
            np.array(array, copy=False)
        assert len(array) == 3
        assert repr(array) == "DeviceArray(shape=(3,), dtype=float32, device='cuda:0')"

    def test_single_elements_are_numbers(self, device: CudaDevice) -> None:
        array = DeviceArray.upload(device, np.array(2.5))
        assert (array.item(), float(array), int(array), bool(array)) == (2.5, 2.5, 2, True)
        with pytest.raises(TypeError, match="without axes"):
            len(array)

    def test_copies_are_independent(self, device: CudaDevice) -> None:
        array = DeviceArray.upload(device, np.zeros(4))
        other, deep = array.copy(), copy.deepcopy(array)
        device.fill(array.address, array.nbytes, 0xFF)
        assert np.isnan(array.numpy()).all()
        assert not other.numpy().any()
        assert not deep.numpy().any()

    def test_pickling(self, device: CudaDevice, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(devices, "_devices", {"cuda:0": device})
        found = pickle.loads(pickle.dumps(DeviceArray.upload(device, np.arange(3))))
        assert found.device is device
        np.testing.assert_array_equal(found.numpy(), np.arange(3))


class Foreign:
    """An array of another library, with an interface as it is given."""

    def __init__(self, interface: dict[str, object], **attributes: object) -> None:
        self.__cuda_array_interface__ = interface
        self.__dict__.update(attributes)


def interface_of(array: DeviceArray, **changes: object) -> dict[str, object]:
    return {**array.__cuda_array_interface__, **changes}


class TestCudaArrayInterface:
    def test_offered(self, device: CudaDevice) -> None:
        array = DeviceArray.upload(device, np.ones((2, 3), "float32"))
        assert array.__cuda_array_interface__ == {
            "shape": (2, 3),
            "typestr": "<f4",
            "data": (array.address, False),
            "strides": None,
            "version": 3,
            "stream": device.stream,
        }
        assert empty(device, (0,), np.dtype("f4")).__cuda_array_interface__["data"][0] == 0

    def test_taken_without_a_copy(self, device: CudaDevice) -> None:
        array = DeviceArray.upload(device, np.ones((2, 3)))
        for strides in (None, (24, 8)):
            taken = from_other(Foreign(interface_of(array, strides=strides)), device)
            assert (taken.address, taken.shape, taken.dtype) == (array.address, (2, 3), "float64")
            assert not taken.read_only
        assert from_other(Foreign(interface_of(array, data=(array.address, True))), device).read_only
        assert from_other(array, device) is array

    def test_the_producer_lives_until_the_work_is_done(self, device: CudaDevice) -> None:
        producer = Foreign(interface_of(DeviceArray.upload(device, np.ones(3))))
        alive = weakref.ref(producer)
        taken = from_other(producer, device)
        out = empty(device, (3,), np.dtype("f8"))
        del producer
        assert alive() is not None
        device.copy(out.address, taken.address, taken.nbytes)
        del taken
        gc.collect()
        assert alive() is not None
        device.synchronize()
        assert alive() is None

    def test_producers_go_without_waiting_in_the_end(self, device: CudaDevice) -> None:
        array = DeviceArray.upload(device, np.ones(3))
        alive = []
        for _ in range(60):
            producer = Foreign(interface_of(array))
            alive.append(weakref.ref(producer))
            from_other(producer, device)
            device.fill(array.address, 8, 0)
            device._stream.run_until(len(device._stream.queue))  # the device is quick
        assert sum(reference() is not None for reference in alive) < 40

    def test_waits_for_the_producers_stream(self, device: CudaDevice, machine: Machine) -> None:
        array = DeviceArray.upload(device, np.ones(3))
        device.can_capture  # finds the bindings
        for stream, waits in ((1, False), (None, False), (device.stream, False), (2, True), (12345, True)):
            machine.log.clear()
            from_other(Foreign(interface_of(array, stream=stream)), device)
            expected = [("cuEventRecord", "event", stream), ("cuStreamWaitEvent", device.stream, "event", 0)]
            assert machine.log == (expected if waits else [])

    def test_without_bindings_the_device_is_waited_for(self, monkeypatch: pytest.MonkeyPatch) -> None:
        machine = Machine()
        install(monkeypatch, machine, bindings=False)
        device = CudaDevice(0)
        array = DeviceArray.upload(device, np.ones(3))
        from_other(Foreign(interface_of(array, stream=2)), device)
        assert ("settle",) in machine.log

    def test_strided_arrays_are_copied_by_their_library(self, device: CudaDevice) -> None:
        whole = DeviceArray.upload(device, np.arange(6.0))
        contiguous = Foreign(interface_of(whole, shape=(3,)))
        strided = interface_of(whole, shape=(3,), strides=(16,))
        for method in ("contiguous", "copy"):
            taken = from_other(Foreign(strided, **{method: lambda: contiguous}), device)
            assert taken.address == whole.address
        with pytest.raises(DeviceError, match=r"tests\.Foreign\) is not C-contiguous, or not aligned .* Make a"):
            from_other(Foreign(strided), device)
        stubborn = Foreign(strided)
        stubborn.copy = lambda: stubborn  # type: ignore[attr-defined]
        with pytest.raises(DeviceError, match="made no contiguous copy"):
            from_other(stubborn, device)

    def test_strides_of_single_elements_do_not_matter(self, device: CudaDevice) -> None:
        array = DeviceArray.upload(device, np.arange(6.0))
        taken = from_other(Foreign(interface_of(array, shape=(1, 6), strides=(4096, 8))), device)
        assert taken.address == array.address

    def test_unaligned_arrays_are_copied(self, device: CudaDevice) -> None:
        array = DeviceArray.upload(device, np.arange(6.0))
        unaligned = interface_of(array, data=(array.address + 4, False), shape=(5,))
        with pytest.raises(DeviceError, match="not aligned"):
            from_other(Foreign(unaligned), device)

    def test_empty_arrays_have_no_address(self, device: CudaDevice) -> None:
        array = DeviceArray.upload(device, np.ones(3))
        taken = from_other(Foreign(interface_of(array, shape=(0, 3), data=(0, False))), device)
        assert taken.shape == (0, 3)
        assert taken.address

    def test_refused(self, device: CudaDevice) -> None:
        array = DeviceArray.upload(device, np.ones(3))
        with pytest.raises(DTypeError, match=r"elements of .*V2"):
            from_other(Foreign(interface_of(array, typestr="|V2")), device)
        with pytest.raises(DeviceError, match="has a mask"):
            from_other(Foreign(interface_of(array, mask=array)), device)
        with pytest.raises(DeviceError, match="neither __cuda_array_interface__ nor __dlpack__"):
            from_other([1, 2], device)


class TestDlpack:
    def test_numpy_takes_ours(self, host: HostMemory) -> None:
        array = DeviceArray.upload(host, np.arange(6, dtype="float32").reshape(2, 3))
        found = np.from_dlpack(array)
        np.testing.assert_array_equal(found, array.numpy())
        assert found.ctypes.data == array.address
        block = weakref.ref(array)
        del array
        gc.collect()
        assert block() is not None
        del found
        gc.collect()
        assert block() is None

    @pytest.mark.parametrize("version", [None, (1, 0)])
    def test_unused_capsules_end_the_loan(self, host: HostMemory, version: tuple[int, int] | None) -> None:
        array = DeviceArray.upload(host, np.arange(3.0))
        before = len(dlpack._lent)
        capsule = array.__dlpack__(max_version=version)
        assert len(dlpack._lent) == before + 1
        dlpack.collect()
        assert len(dlpack._lent) == before + 1
        del capsule
        dlpack.collect()
        assert len(dlpack._lent) == before

    def test_capsules_may_be_dropped_while_an_exception_is_set(
        self, host: HostMemory, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        array = DeviceArray.upload(host, np.arange(3.0))
        alive, before = weakref.ref(array), len(dlpack._lent)
        monkeypatch.setattr(DeviceArray, "__dlpack_device__", lambda self: (dlpack.CUDA, 0))
        for _ in range(3):
            with pytest.raises((RuntimeError, BufferError), match=r"[Uu]nsupported device"):  # NumPy's own message
                np.from_dlpack(array)
        del array
        gc.collect()
        dlpack.collect()
        assert len(dlpack._lent) == before
        assert alive() is None

    def test_a_capsule_that_is_taken_is_forgotten_not_ended(self, host: HostMemory) -> None:
        array = DeviceArray.upload(host, np.arange(3.0))
        capsule = array.__dlpack__(max_version=(1, 0))
        loan = dlpack.Loan(capsule)
        dlpack.collect()
        assert all(one is not capsule for one, _ in dlpack._offered)
        lent = len(dlpack._lent)
        del loan
        assert len(dlpack._lent) == lent - 1

    @pytest.mark.parametrize("dtype", DTYPES)
    @pytest.mark.parametrize("version", [None, (1, 0)])
    def test_we_take_numpys(self, dtype: str, version: tuple[int, int] | None) -> None:
        source = values((3, 4), dtype)
        alive = weakref.ref(source)
        loan = dlpack.Loan(source.__dlpack__(max_version=version))
        assert (loan.address, loan.shape, loan.steps) == (source.ctypes.data, (3, 4), (4, 1))
        assert (loan.dtype, loan.device, loan.read_only) == (dtype, (dlpack.CPU, 0), False)
        del source
        assert alive() is not None
        del loan
        assert alive() is None

    def test_numpys_arrays_on_a_host_device(self, host: HostMemory) -> None:
        source = np.arange(6.0)
        taken = from_other(source, host)
        assert taken.address == source.ctypes.data
        np.testing.assert_array_equal(from_other(source[::2], host).numpy(), source[::2])
        source.flags.writeable = False
        assert from_other(source, host).read_only

    def test_capsules_are_for_one_use(self) -> None:
        capsule = np.arange(3.0).__dlpack__()
        dlpack.Loan(capsule)
        with pytest.raises(ValueError, match="for one use"):
            dlpack.Loan(capsule)

    def test_other_elements_are_refused_and_the_loan_ends(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setitem(dlpack._KINDS, "f", 4)
        source = np.zeros(3, "float16")
        capsule = dlpack.lend(source, source.ctypes.data, (3,), source.dtype, (1, 0), versioned=True)
        with pytest.raises(DTypeError, match="arrays of bfloat16, 16 bits x 1, are not supported"):
            dlpack.Loan(capsule)
        before = len(dlpack._lent)
        del capsule
        dlpack.collect()
        assert len(dlpack._lent) == before - 1

    def test_borrowers_streams_wait(self, device: CudaDevice, machine: Machine) -> None:
        array = DeviceArray.upload(device, np.ones(3))
        device.can_capture  # finds the bindings
        for stream, waits in ((None, False), (1, False), (-1, False), (2, True), (777, True)):
            machine.log.clear()
            array.__dlpack__(stream=stream)
            expected = [("cuEventRecord", "event", device.stream), ("cuStreamWaitEvent", stream, "event", 0)]
            assert machine.log == (expected if waits else [])
        with pytest.raises(BufferError, match="no stream 0"):
            array.__dlpack__(stream=0)

    def test_we_ask_producers_to_let_the_legacy_stream_wait(self, device: CudaDevice) -> None:
        array = DeviceArray.upload(device, np.ones(3))
        asked = []

        class Producer:
            def __dlpack_device__(self) -> tuple[int, int]:
                return (dlpack.CUDA, 0)

            def __dlpack__(self, *, stream: int) -> object:  # the form from before 2024
                asked.append(stream)
                return array.__dlpack__(stream=stream)

        assert from_other(Producer(), device).address == array.address
        assert asked == [1]  # for which our stream waits by itself

    def test_copies_and_other_devices(self, device: CudaDevice) -> None:
        array = DeviceArray.upload(device, np.arange(3.0))
        assert array.__dlpack_device__() == (dlpack.CUDA, 0)
        assert dlpack.Loan(array.__dlpack__(copy=True)).address != array.address
        home = dlpack.Loan(array.__dlpack__(dl_device=(dlpack.CPU, 0)))
        assert home.device == (dlpack.CPU, 0)
        for place, copied in (((dlpack.CUDA, 1), None), ((dlpack.CPU, 0), False)):
            with pytest.raises(BufferError, match="cannot be exported"):
                array.__dlpack__(dl_device=place, copy=copied)

    def test_read_only_needs_the_versioned_form(self, device: CudaDevice) -> None:
        array = DeviceArray.upload(device, np.arange(3.0))
        array.read_only = True
        assert dlpack.Loan(array.__dlpack__(max_version=(1, 1))).read_only
        with pytest.raises(BufferError, match="versioned"):
            array.__dlpack__()


class TestPlaces:
    def test_arrays_of_the_host(self, device: CudaDevice) -> None:
        with pytest.raises(MixedDevicesError, match=r"\(numpy.ndarray of shape \(3,\)\) is on the host, but cuda:0"):
            from_other(np.zeros(3), device)

    def test_another_device(self, device: CudaDevice) -> None:
        other = CudaDevice(1)
        array = DeviceArray.upload(other, np.ones(3))
        with pytest.raises(MixedDevicesError, match="is on cuda:1, but cuda:0 is used here"):
            from_other(array, device)
        with pytest.raises(MixedDevicesError, match="is on cuda:1, but cuda:0"):
            from_other(Foreign({}, __dlpack_device__=lambda: (dlpack.CUDA, 1)), device)
        with pytest.raises(MixedDevicesError, match="is on cuda:1, but cuda:0"):  # as the driver says of its address
            from_other(Foreign(interface_of(array)), device)

    def test_arrays_stay_where_they_are(self, device: CudaDevice, monkeypatch: pytest.MonkeyPatch) -> None:
        other = CudaDevice(1)
        monkeypatch.setattr(devices, "_devices", {"cuda:0": device, "cuda:1": other})
        array = DeviceArray.upload(other, np.ones(3))
        assert from_other(array) is array
        foreign = Foreign(interface_of(array), __dlpack_device__=lambda: (dlpack.CUDA, 1))
        assert from_other(foreign).device is other

    def test_dlpack_is_preferred(self, device: CudaDevice) -> None:
        class Torch:  # whose interface is of version 2, and raises for tensors with gradients
            @property
            def __cuda_array_interface__(self) -> None:
                raise RuntimeError

            def __dlpack_device__(self) -> tuple[int, int]:
                return (dlpack.CUDA, 0)

            def __dlpack__(self, **options: object) -> object:
                raise BufferError("Can't export tensors that require gradient, use tensor.detach()")

        with pytest.raises(BufferError, match=r"use tensor\.detach"):
            from_other(Torch(), device)
