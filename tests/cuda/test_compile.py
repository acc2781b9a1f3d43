"""CUDA text to machine code, on a machine without a GPU."""

import subprocess
import sys
import time
import uuid
from pathlib import Path

import pytest

from symtensor_codegen import cache
from symtensor_codegen.cuda.compiling import compile as compiler
from symtensor_codegen.cuda.compiling import nvcc, nvrtc, sources
from symtensor_codegen.cuda.compiling.compile import ARCHITECTURES, FULL, CompilerMissingError, Resources
from symtensor_codegen.errors import InternalError, UserError

AXPY = """\
extern "C" __global__ void __launch_bounds__(256) axpy_0(
    const float* __restrict__ x, float* __restrict__ y, long long n) {
    for (long long i = (long long)blockIdx.x * 256 + threadIdx.x; i < n; i += (long long)gridDim.x * 256)
        y[i] = fmaf(2.0f, x[i], y[i]);
}
"""

TWO = """\
extern "C" __global__ void first(float* x) {
    __shared__ float row[64];
    row[threadIdx.x] = x[threadIdx.x];
    __syncthreads();
    x[threadIdx.x] = row[63 - threadIdx.x];
}
extern "C" __global__ void second(float* x, int n) {
    float local[32];
    for (int i = 0; i < 32; ++i) local[i] = x[i * n];
    x[0] = local[n] + local[n + 1];
}
"""


@pytest.fixture
def no_nvrtc(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine without NVRTC."""
    monkeypatch.setattr(nvrtc, "find", lambda: None)
    monkeypatch.setattr(compiler, "_compiler", compiler._compiler.__wrapped__)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_every_architecture(architecture: str) -> None:
    code = compiler.cubin(AXPY, architecture, "axpy")
    assert code.startswith(b"\x7fELF")
    used = compiler.resources(AXPY, architecture, "axpy")["axpy_0"]
    assert 0 < used.registers < 64
    assert used.spill_bytes == used.local_bytes == used.shared_bytes == 0


def test_resources_of_each_kernel() -> None:
    used = compiler.resources(TWO, "sm_90")
    assert used.keys() == {"first", "second"}
    assert used["first"].shared_bytes == 256
    assert used["second"].local_bytes >= 128
    assert used["second"].shared_bytes == 0


def test_spills_are_counted() -> None:
    """A block of 1,024 threads leaves 64 registers to each: more sums than that do not fit."""
    text = """\
extern "C" __global__ void __launch_bounds__(1024) full(const float* x, float* y, int n) {
    float sum[96];
    #pragma unroll
    for (int i = 0; i < 96; ++i) sum[i] = x[i];
    for (int k = 0; k < n; ++k)
        #pragma unroll
        for (int i = 0; i < 96; ++i) sum[i] = fmaf(sum[i], x[k], sum[(i + 1) % 96]);
    #pragma unroll
    for (int i = 0; i < 96; ++i) y[threadIdx.x * 96 + i] = sum[i];
}
"""
    used = compiler.resources(text, "sm_90")["full"]
    assert used.registers <= 64
    assert used.spill_bytes > 0


def test_compiled_once(monkeypatch: pytest.MonkeyPatch) -> None:
    text = AXPY.replace("axpy", "once")
    first = compiler.cubin(text, "sm_90")
    monkeypatch.setattr(nvrtc, "compile_text", None)  # a second compilation would fail
    assert compiler.cubin(text, "sm_90") == first
    assert compiler.resources(text, "sm_90")["once_0"].registers > 0
    assert compiler.cubins([(text, "once"), (text, "again")], "sm_90") == [first, first]


def test_stored_code_loads_no_compiler(tmp_path: Path) -> None:
    """A process that finds its code in the store is quick: it never loads 100 MB of library."""
    code = (
        "from symtensor_codegen.cuda.compiling import compile, nvrtc\n"
        "import time\n"
        f"text = {AXPY!r}\n"
        "start = time.perf_counter()\n"
        "compile.cubin(text, 'sm_90')\n"
        "print(nvrtc._load.cache_info().currsize, time.perf_counter() - start)"
    )
    environment = {"SYMTENSOR_CACHE_DIR": str(tmp_path), "PYTHONPATH": ":".join(sys.path)}
    runs = [
        subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
        for _ in range(2)
    ]
    (loaded, cold), (kept, stored) = (run.stdout.split() for run in runs)
    assert (loaded, kept) == ("1", "0")
    assert float(stored) < 0.2 * float(cold)


def test_architecture_and_options_are_part_of_the_key() -> None:
    keys = {compiler._key(text, at) for text in (AXPY, FULL + AXPY) for at in ("sm_80", "sm_90")}
    assert len(keys) == 4


def test_together() -> None:
    """New texts share a cubin, eight at most; what each one uses is still known, in later processes too."""
    helper = "static __device__ float twice(float x) { return 2 * x; }\n"
    texts = [
        (helper + AXPY.replace("axpy", f"many{k}").replace("x[i], ", "twice(x[i]), "), f"many{k}") for k in range(9)
    ]
    codes = compiler.cubins([*texts, texts[0]], "sm_90")
    assert codes[9] == codes[0] == codes[7] != codes[8]
    for text, symbol in texts:
        assert compiler.resources(text, "sm_90").keys() == {f"{symbol}_0"}
        assert compiler.cubin(text, "sm_90") in codes
    listing = sources.sass(codes[0])
    assert all(f".text.many{k}_0" in listing for k in range(8))


def test_kernels_of_one_name_are_apart() -> None:
    texts = [(AXPY.replace("axpy", "same").replace("2.0f", f"{k}.0f"), "same") for k in (3, 4)]
    codes = compiler.cubins([*texts, (FULL + texts[0][0], "same")], "sm_90")
    assert len(set(codes)) == 3


def test_shared_cubin_lost() -> None:
    """The store may drop it before what refers to it."""
    unique = uuid.uuid4().hex  # another run may have lost the same
    texts = [(AXPY.replace("axpy", f"{name}_{unique}"), f"{name}_{unique}") for name in ("lost", "found")]
    compiler.cubins(texts, "sm_90")
    key = compiler._key(texts[0][0], "sm_90")
    entry = cache.get(key)
    assert entry is not None
    whole = cache.get(entry.rpartition(b"in:")[2].decode())
    cache.put(key, entry[:-40] + b"0" * 40)
    alone = compiler.cubin(texts[0][0], "sm_90")
    assert alone.startswith(b"\x7fELF")
    assert alone != whole


def test_loops_are_unrolled_only_where_they_ask() -> None:
    """What the compiler's level "min" means, which the emitted text relies on."""
    text = AXPY.replace("y[i] = fmaf(2.0f, x[i], y[i])", "y[0] += x[i]")
    asking = text.replace("    for (", "    #pragma unroll 4\n    for (", 1)
    counts = [sources.sass(compiler.cubin(t, "sm_90")).count("LDG.") for t in (text, asking)]
    assert counts[0] < counts[1]


def test_ptx_and_sass() -> None:
    text = compiler.ptx(AXPY, "sm_90", "axpy")
    assert ".visible .entry axpy_0(" in text
    assert "fma.rn.f32" in text
    assert "FFMA" in sources.sass(compiler.cubin(AXPY, "sm_90", "axpy"))


def test_wrong_text() -> None:
    with pytest.raises(InternalError) as caught:
        compiler.cubin(AXPY.replace("fmaf(2.0f", "madd(two"), "sm_90", "axpy")
    message = str(caught.value)
    assert "refuses the text of axpy for sm_90" in message
    assert 'axpy.cu(4): error: identifier "madd" is undefined' in message
    assert "    4 |         y[i] = madd(two, x[i], y[i]);" in message
    assert not isinstance(caught.value, UserError)


def test_unknown_architecture() -> None:
    with pytest.raises(CompilerMissingError, match=r"does not know sm_999; it knows sm_75, .*pip install -U nvidia-"):
        compiler.cubin(AXPY, "sm_999")
    with pytest.raises(CompilerMissingError, match=r"does not know sm_35; it knows sm_75, .* old as that .* not sup"):
        compiler.cubin(AXPY, "sm_35")


@pytest.mark.usefixtures("no_nvrtc")
def test_no_compiler(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nvcc, "find", lambda: None)
    with pytest.raises(CompilerMissingError, match=r"neither NVRTC nor nvcc.*pip install nvidia-cuda-nvrtc"):
        compiler.cubin(AXPY, "sm_90")
    with pytest.raises(CompilerMissingError, match="CUDA_HOME"):
        compiler.ptx(AXPY, "sm_90")


FAKE_NVCC = """\
#!/bin/sh
case "$1" in --version) echo "Cuda compilation tools, release 99.1, V99.1.2"; exit 0;; esac
for word; do last=$word; [ "$previous" = -o ] && out=$word; previous=$word; done
grep -q broken "$last" && { echo "$last(2): error: broken" >&2; exit 1; }
echo "ptxas info    : Compiling entry function 'axpy_0' for 'sm_90'" >&2
echo "ptxas info    : Used 17 registers, 8 bytes smem" >&2
echo code of $2 > "$out"
"""


@pytest.mark.usefixtures("no_nvrtc")
def test_nvcc_instead(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """What is asked of nvcc, and how its answers are read (tests need no toolkit)."""
    (tmp_path / "bin").mkdir()
    program = tmp_path / "bin" / "nvcc"
    program.write_text(FAKE_NVCC)
    program.chmod(0o755)
    monkeypatch.setenv("CUDA_HOME", str(tmp_path))
    nvcc.find.cache_clear()
    try:
        assert compiler.cubin(AXPY, "sm_90") == b"code of -arch=sm_90\n"
        assert compiler.resources(AXPY, "sm_90") == {"axpy_0": Resources(17, 0, 0, 8)}
        with pytest.raises(
            InternalError, match=r"nvcc 99.1, V99.1.2\) refuses the text of axpy[^/]*axpy.cu\(2\): error"
        ):
            compiler.cubin(AXPY.replace("fmaf", "broken"), "sm_90", "axpy")
    finally:
        nvcc.find.cache_clear()


def test_no_disassembler(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sources, "disassembler", lambda: None)
    with pytest.raises(CompilerMissingError, match="pip install nvidia-cuda-nvdisasm"):
        sources.sass(b"")


def test_damaged_cubin() -> None:
    with pytest.raises(InternalError, match="cannot read the cubin"):
        sources.sass(b"not a cubin")


def test_quick() -> None:
    """Within a few times of what is aimed at (60 ms a kernel, 2 ms from the store): processors differ."""
    compiler.cubin(AXPY.replace("axpy", "warm"), "sm_90")
    start = time.perf_counter()
    compiler.cubin(AXPY.replace("axpy", "timed"), "sm_90")
    middle = time.perf_counter()
    compiler.cubin(AXPY.replace("axpy", "timed"), "sm_90")
    assert middle - start < 1.0
    assert time.perf_counter() - middle < 0.02
    assert cache.info().memory_entries > 0


def test_one_wrong_text_among_many() -> None:
    texts = [(AXPY.replace("axpy", name), name) for name in ("good", "bad")]
    texts[1] = (texts[1][0].replace("fmaf", "madd"), "bad")
    with pytest.raises(InternalError, match="refuses the text of bad for sm_90"):
        compiler.cubins(texts, "sm_90")
    assert compiler.cubin(texts[0][0], "sm_90").startswith(b"\x7fELF")
