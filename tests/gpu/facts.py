"""What machine this is, and what its memory can do: the bandwidth of copies from device to device.

Bytes are counted as read and as written. The copy is the driver's own, through whichever library is there.
"""

import argparse
import importlib
import json
import os
import platform
import statistics
import subprocess
import time
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

PACKAGES = (
    "numpy", "llvmlite", "pycuda", "cuda-bindings", "nvmath-python", "nvidia-cuda-nvrtc", "torch", "triton", "jax",
    "jaxlib", "cupy-cuda13x", "cupy-cuda12x", "pytest",
)  # fmt: skip
SIZES = (256 << 20, 1 << 30, 4 << 30)
QUERY = "name,driver_version,memory.total,clocks.max.sm,clocks.max.memory,clocks.sm,power.limit"


def packages() -> dict[str, str]:
    found = {}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def asked() -> dict[str, str]:
    """What nvidia-smi says, if it is there."""
    command = ["nvidia-smi", f"--query-gpu={QUERY}", "--format=csv,noheader"]
    try:
        said = subprocess.run(command, capture_output=True, text=True, timeout=20).stdout
    except (OSError, subprocess.TimeoutExpired):
        return {}
    values = [value.strip() for value in said.split("\n")[0].split(",")]
    return dict(zip(QUERY.split(","), values, strict=False)) if len(values) > 1 else {}


Copier = tuple[Callable[[int, int], Any], Callable[[], Any], dict[str, Any], Callable[[], Any]]
"""What copies (bytes, how often), what waits, what the device is, and what ends it all."""


def through_pycuda() -> Copier:
    driver: Any = importlib.import_module("pycuda.driver")
    driver.init()
    device = driver.Device(0)
    context = device.retain_primary_context()
    context.push()
    buffers: dict[int, Any] = {}

    def copies(size: int, count: int) -> None:
        if size not in buffers:
            buffers.clear()
            buffers[size] = (driver.mem_alloc(size), driver.mem_alloc(size))
            for number, buffer in enumerate(buffers[size]):
                driver.memset_d32(buffer, 0x3F800000 + number, size // 4)
        source, target = buffers[size]
        for _ in range(count):
            driver.memcpy_dtod_async(target, source, size)

    attribute = driver.device_attribute
    about = {
        "device": device.name(),
        "capability": list(device.compute_capability()),
        "multiprocessors": device.get_attribute(attribute.MULTIPROCESSOR_COUNT),
        "memory": device.total_memory(),
        "L2 bytes": device.get_attribute(attribute.L2_CACHE_SIZE),
        "driver": driver.get_driver_version(),
    }

    def close() -> None:
        buffers.clear()
        context.pop()  # PyCUDA aborts a process that ends with a context

    return copies, context.synchronize, about, close


def through_torch() -> Copier:
    torch: Any = importlib.import_module("torch")
    about = torch.cuda.get_device_properties(0)
    buffers: dict[int, Any] = {}

    def copies(size: int, count: int) -> None:
        if size not in buffers:
            buffers.clear()
            buffers[size] = (torch.ones(size // 4, device="cuda"), torch.zeros(size // 4, device="cuda"))
        source, target = buffers[size]
        for _ in range(count):
            target.copy_(source)

    described = {
        "device": about.name,
        "capability": [about.major, about.minor],
        "multiprocessors": about.multi_processor_count,
        "memory": about.total_memory,
    }
    return copies, torch.cuda.synchronize, described, buffers.clear


def through_cupy() -> Copier:
    cupy: Any = importlib.import_module("cupy")
    about = cupy.cuda.runtime.getDeviceProperties(0)
    buffers: dict[int, Any] = {}

    def copies(size: int, count: int) -> None:
        if size not in buffers:
            buffers.clear()
            buffers[size] = (cupy.ones(size // 4, "float32"), cupy.zeros(size // 4, "float32"))
        source, target = buffers[size]
        for _ in range(count):
            cupy.cuda.runtime.memcpyAsync(target.data.ptr, source.data.ptr, size, 3, 0)

    described = {
        "device": about["name"].decode(),
        "capability": [about["major"], about["minor"]],
        "multiprocessors": about["multiProcessorCount"],
        "memory": about["totalGlobalMem"],
    }
    return copies, cupy.cuda.runtime.deviceSynchronize, described, buffers.clear


def bandwidth(copies: Callable[[int, int], Any], synchronize: Callable[[], Any], size: int) -> dict[str, float]:
    """Bytes per second, read and written, of copies of one size: the median of many groups."""
    count = max(2, (8 << 30) // size)
    copies(size, count)
    synchronize()
    rates = []
    for _ in range(15):
        start = time.perf_counter()
        copies(size, count)
        synchronize()
        rates.append(2 * size * count / (time.perf_counter() - start))
    return {"median": statistics.median(rates), "best": max(rates)}


def measure(facts: dict[str, Any], write: Callable[[], None]) -> None:
    reasons = []
    for name, make in (("pycuda", through_pycuda), ("torch", through_torch), ("cupy", through_cupy)):
        try:
            copies, synchronize, about, close = make()
        except Exception as error:  # not installed, no driver, no device
            reasons.append(f"{name}: {type(error).__name__}: {error}"[:300])
            continue
        facts |= about
        write()
        try:
            rates = {str(size): bandwidth(copies, synchronize, size) for size in SIZES if 4 * size < about["memory"]}
        except Exception as error:  # the next library may do
            reasons.append(f"{name}: {type(error).__name__}: {error}"[:300])
            continue
        finally:
            close()
        facts["copies through"] = name
        facts["copies"] = rates
        facts["copy"] = max(rate["median"] for rate in rates.values())
        break
    facts["not usable"] = reasons


def main() -> None:
    parser = argparse.ArgumentParser(description="Describe the machine and measure its copy bandwidth.")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--no-device", action="store_true", help="leave out what needs a device")
    options = parser.parse_args()
    facts: dict[str, Any] = {
        "python": platform.python_version(),
        "processors": len(os.sched_getaffinity(0)),
        "kernel": platform.release(),
        "packages": packages(),
        "nvidia-smi": asked(),
    }

    def write() -> None:
        options.out.write_text(json.dumps(facts, indent=1))

    write()
    if not options.no_device:
        measure(facts, write)
    write()
    print(json.dumps(facts, indent=1))
    if not options.no_device and "copy" not in facts:
        raise SystemExit("no device could be measured: " + "; ".join(facts["not usable"]))


if __name__ == "__main__":
    main()
