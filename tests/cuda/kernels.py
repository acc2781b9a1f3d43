"""Handwritten kernels in the form that the emitter gives them: one for each thing which the host must run."""

HEAD = "typedef long long i64; typedef float f32; typedef unsigned u32;\n"


def kernel(body: str, parameters: str = "const f32* __restrict__ x, f32* __restrict__ y", threads: int = 256) -> str:
    """The text of a kernel `k_0` of these buffers, a size `n`, and what all kernels take."""
    listed = f"{parameters}, const i64 n, int* status, int first"
    return f'{HEAD}extern "C" __global__ void __launch_bounds__({threads}) k_0({listed}) {{\n{body}\n}}\n'


ELEMENTWISE = kernel(
    """\
    for (i64 i = (i64)blockIdx.x * blockDim.x + threadIdx.x; i < n; i += (i64)gridDim.x * blockDim.x)
        y[i] = fmaf(x[i], 2.0f, 1.0f);"""
)

WARP_SUM = kernel(
    """\
    f32 sum = 0.0f;
    for (i64 i = threadIdx.x; i < n; i += 32) sum += x[blockIdx.x * n + i];
    for (int distance = 16; distance > 0; distance /= 2) sum += __shfl_xor_sync(0xffffffffu, sum, distance);
    if (threadIdx.x == 0) y[blockIdx.x] = sum;""",
    threads=32,
)

BLOCK_SUM_BODY = """\
    __shared__ f32 tile[256];
    f32 sum = 0.0f;
    for (i64 i = threadIdx.x; i < n; i += blockDim.x) sum += x[blockIdx.x * n + i];
    tile[threadIdx.x] = sum;
    __syncthreads();
    for (int half = blockDim.x / 2; half > 0; half /= 2) {
        if (threadIdx.x < half) tile[threadIdx.x] += tile[threadIdx.x + half];
        __syncthreads();
    }
    if (threadIdx.x == 0) y[blockIdx.x] = tile[0];"""

BLOCK_SUM = kernel(BLOCK_SUM_BODY)

LAST_BLOCK_BODY = """\
    __shared__ bool last;
    f32 sum = 0.0f;
    for (i64 i = (i64)blockIdx.x * blockDim.x + threadIdx.x; i < n; i += (i64)gridDim.x * blockDim.x) sum += x[i];
    for (int distance = 16; distance > 0; distance /= 2) sum += __shfl_down_sync(0xffffffffu, sum, distance);
    if (threadIdx.x == 0) {
        parts[blockIdx.x] = sum;
        __threadfence();
        last = atomicAdd(counter, 1u) == gridDim.x - 1;
        __threadfence();
    }
    __syncthreads();
    if (!last) return;
    f32 total = 0.0f;
    for (u32 i = threadIdx.x; i < gridDim.x; i += 32) total += parts[i];
    for (int distance = 16; distance > 0; distance /= 2) total += __shfl_down_sync(0xffffffffu, total, distance);
    if (threadIdx.x == 0) { y[0] = total; *counter = 0; }"""

LAST_BLOCK_PARAMETERS = "const f32* x, f32* parts, u32* counter, f32* y"
LAST_BLOCK = kernel(LAST_BLOCK_BODY, LAST_BLOCK_PARAMETERS, 32)

HISTOGRAM = kernel(
    """\
    for (i64 i = (i64)blockIdx.x * blockDim.x + threadIdx.x; i < n; i += (i64)gridDim.x * blockDim.x) {
        if (x[i] < 0.0f) { atomicMin(status, first + 1); continue; }
        atomicAdd(&y[(int)x[i]], 1);
    }""",
    "const f32* __restrict__ x, int* __restrict__ y",
)
