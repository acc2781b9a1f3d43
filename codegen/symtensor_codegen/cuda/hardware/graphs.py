"""Work that is recorded once and launched as a whole: CUDA graphs.

PyCUDA has no graphs; NVIDIA's bindings (`cuda.bindings.driver`, package cuda-bindings) have. Without them calls go on
launching kernel by kernel.

A recording runs on a stream of its own that does not wait for the legacy default stream, so that other threads may
use that one meanwhile. The finished graph is launched on the device's ordinary stream.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from symtensor_codegen.cuda import errors
from symtensor_codegen.errors import InternalError

if TYPE_CHECKING:
    from symtensor_codegen.cuda.device import Token
    from symtensor_codegen.cuda.hardware.driver import CudaDevice, CudaFunction

NON_BLOCKING = 1


class Graphs:
    """The bindings, if they are there, and what recordings on one device share."""

    def __init__(self, device: CudaDevice) -> None:
        self.device = device
        self.bindings: Any = None
        self.why_not = ""
        try:
            import cuda.bindings
            from cuda.bindings import driver
        except ImportError as cause:
            self.why_not = (
                f"CUDA graphs need NVIDIA's Python bindings, which could not be imported ({cause}): "
                "pip install 'symtensor[cuda]'"
            )
            return
        self.bindings = driver
        self.major = int(cuda.bindings.__version__.partition(".")[0])
        with device.current():
            self.stream = device.cuda.Stream(NON_BLOCKING)
            self.handle = driver.CUstream(self.stream.handle)
            self.target = driver.CUstream(device.stream)
            try:
                self.event = self.call(driver.cuEventCreate, driver.CUevent_flags.CU_EVENT_DISABLE_TIMING)
                with Capture(device, self) as recording:
                    recording.after([recording.mark()])
                recording.instantiate()
            except (RuntimeError, InternalError) as cause:  # an older driver lacks a function
                self.why_not = f"the driver cannot record graphs: {cause}"

    def call(self, function: Any, *arguments: Any) -> Any:
        """Call a function of the bindings; its result, or results."""
        error, *results = function(*arguments)
        if error:
            raise InternalError(f"{self.device.name}: {function.__name__}: {self.text(error)}")
        return results[0] if len(results) == 1 else results

    def text(self, error: Any) -> str:
        """What an error number of the driver means."""
        failed, text = self.bindings.cuGetErrorString(error)
        return str(error) if failed else text.decode()

    def dependencies(self) -> Token:
        """The nodes which the next recorded one would depend on."""
        return tuple(self.call(self.bindings.cuStreamGetCaptureInfo, self.handle)[3])

    def depend(self, nodes: Token) -> None:
        """Let the next recorded node depend on these."""
        driver = self.bindings
        how = driver.CUstreamUpdateCaptureDependencies_flags.CU_STREAM_SET_CAPTURE_DEPENDENCIES
        data = (None,) if self.major >= 13 else ()
        self.call(driver.cuStreamUpdateCaptureDependencies, self.handle, list(nodes), *data, len(nodes), how)

    def order(self, first: int, then: int) -> bool:
        """Let one stream wait for what is now on another; False where the bindings are missing."""
        if self.bindings is None or self.why_not:
            return False
        driver = self.bindings
        self.call(driver.cuEventRecord, self.event, driver.CUstream(first))
        self.call(driver.cuStreamWaitEvent, driver.CUstream(then), self.event, 0)
        return True

    def ordinal_of(self, address: int) -> int | None:
        """The number of the device where an address lies."""
        if self.bindings is None:
            return None
        driver = self.bindings
        which = driver.CUpointer_attribute.CU_POINTER_ATTRIBUTE_DEVICE_ORDINAL
        error, found = driver.cuPointerGetAttribute(which, address)
        return None if error else int(found)

    def bury(self, doomed: list[Any]) -> None:
        """Destroy graphs which nobody needs any more; those which still run, when they are done."""
        while doomed:
            self.call(self.bindings.cuGraphExecDestroy, doomed.pop())

    def held(self) -> list[Any]:
        """The objects of PyCUDA kept here."""
        return [] if self.bindings is None else [self.stream]


class Replay:
    """A recording, ready to be launched."""

    def __init__(self, graphs: Graphs, executable: Any, functions: Sequence[CudaFunction]) -> None:
        self.functions = tuple(dict.fromkeys(functions))
        self._device = graphs.device
        self._current = graphs.device.current()
        self._launch = graphs.bindings.cuGraphLaunch
        self._graphs, self._executable = graphs, executable

    def __str__(self) -> str:
        names = ", ".join(function.name for function in self.functions)
        return f"a graph of the kernels {names}" if names else "a graph without kernels"

    def launch(self) -> None:
        """Queue the recorded work on the device's stream."""
        with self._current:
            self._device.launched(self)
            (error,) = self._launch(self._executable, self._graphs.target)
            if error:
                cause = RuntimeError(f"cuGraphLaunch failed: {self._graphs.text(error)}")
                raise self._device.failure(cause, str(self))

    def __del__(self) -> None:
        # The driver must not be called here: this may be any thread, or the end of the interpreter.
        if self._device.dead is None:
            self._device.doomed.append(self._executable)


class Recording:
    """What is being recorded. Without `after`, each action depends on the one before it.

    At the end nothing need be joined: a graph is done when all its nodes are.
    """

    def __init__(self, graphs: Graphs) -> None:
        self.graphs = graphs
        self.graph: Any = None
        self.functions: list[CudaFunction] = []

    def after(self, tokens: Sequence[Token]) -> None:
        """What is launched next depends on these actions alone (on none: it may begin at once)."""
        nodes = {int(node): node for token in tokens for node in token}
        self.graphs.depend(tuple(nodes.values()))

    def mark(self) -> Token:
        """What was launched since the last `after` or `mark`."""
        return self.graphs.dependencies()

    def instantiate(self) -> Replay:
        """The finished recording, once its `with` block has ended."""
        graphs = self.graphs
        if self.graph is None:
            raise InternalError("a recording is instantiated before it is finished, or twice")
        with graphs.device.current():
            try:
                executable = graphs.call(graphs.bindings.cuGraphInstantiate, self.graph, 0)
            finally:
                graphs.call(graphs.bindings.cuGraphDestroy, self.graph)
                self.graph = None
        return Replay(graphs, executable, self.functions)


class Capture:
    """Records what a `with` block launches."""

    def __init__(self, device: CudaDevice, graphs: Graphs) -> None:
        if graphs.why_not:
            raise errors.DeviceError(graphs.why_not)
        self.device, self.graphs = device, graphs
        self.recording = Recording(graphs)

    def __enter__(self) -> Recording:
        graphs, driver = self.graphs, self.graphs.bindings
        self.device.current().__enter__()
        try:
            graphs.bury(self.device.doomed)
            # Relaxed: the pool may take memory from the device meanwhile, which is no work of a stream.
            mode = driver.CUstreamCaptureMode.CU_STREAM_CAPTURE_MODE_RELAXED
            graphs.call(driver.cuStreamBeginCapture, graphs.handle, mode)
        except BaseException:
            self.device.current().__exit__()
            raise
        self._launched = self.device.redirect(self.recording, graphs.stream)
        return self.recording

    def __exit__(self, kind: object, failure: object, trace: object) -> None:
        graphs, driver = self.graphs, self.graphs.bindings
        try:
            self.recording.functions.extend(self.device.redirect(None, None))
            self.device._launched.extend(self._launched)
            error, graph = driver.cuStreamEndCapture(graphs.handle)
            if failure is None and error:
                raise InternalError(f"{self.device.name}: recording a graph: {graphs.text(error)}")
            if failure is None:
                self.recording.graph = graph
            elif not error:
                driver.cuGraphDestroy(graph)
        finally:
            self.device.current().__exit__()
