"""What the kernels of matrix products call: arithmetic of their element types, and copies in the background."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

__all__ = ["CLUSTERS", "COPIES", "ELEMENTS", "Element", "arithmetic"]


@dataclass(frozen=True, slots=True)
class Element:
    """An element type: its spelling, bytes, letter in names, and whether it is a pair of real numbers."""

    spelling: str
    size: int
    letter: str
    is_complex: bool

    @property
    def lanes(self) -> int:
        """Elements in the 16 bytes that a thread copies or reads at once."""
        return 16 // self.size

    @property
    def real(self) -> str:
        """The spelling of a real number of this precision."""
        return "f32" if self.letter in "sc" else "f64"


ELEMENTS: Final = {
    "float32": Element("f32", 4, "s", False),
    "float64": Element("f64", 8, "d", False),
    "complex64": Element("c64", 8, "c", True),
    "complex128": Element("c128", 16, "z", True),
}


def arithmetic(element: Element) -> str:
    """The element type and what is done with it."""
    spelling, lanes, real = element.spelling, element.lanes, element.real
    fma = "fmaf" if real == "f32" else "fma"
    inline = "static __device__ __forceinline__"
    if element.is_complex:
        text = f"""\
struct __align__({element.size}) {spelling} {{ {real} re, im; }};
{inline} {spelling} operator+({spelling} x, {spelling} y) {{ return {spelling}{{x.re + y.re, x.im + y.im}}; }}
{inline} {spelling} st_scale(f64 factor, {spelling} x) {{
    return {spelling}{{({real})factor * x.re, ({real})factor * x.im}};
}}
{inline} void st_multiply({spelling}& sum, {spelling} x, {spelling} y) {{
    sum.re = {fma}(x.re, y.re, sum.re); sum.re = {fma}(-x.im, y.im, sum.re);
    sum.im = {fma}(x.re, y.im, sum.im); sum.im = {fma}(x.im, y.re, sum.im);
}}
"""
    else:
        text = f"""\
{inline} {spelling} st_scale(f64 factor, {spelling} x) {{ return ({spelling})factor * x; }}
{inline} void st_multiply({spelling}& sum, {spelling} x, {spelling} y) {{ sum = {fma}(x, y, sum); }}
"""
    return f"""\
{text}struct __align__(16) st_pack {{ {spelling} at[{lanes}]; }};
{inline} void st_read({spelling} (&to)[{lanes}], const {spelling}* from) {{
    const st_pack pack = *(const st_pack*)from;
    #pragma unroll
    for (int i = 0; i < {lanes}; ++i) to[i] = pack.at[i];
}}
template <int N>
{inline} void st_read_lines({spelling} (&to)[N][{lanes}], int line, int term, const {spelling}* from) {{
    const st_pack pack = *(const st_pack*)from;
    #pragma unroll
    for (int i = 0; i < {lanes}; ++i) to[line + i][term] = pack.at[i];
}}
{inline} bool st_present(f64 factor) {{ return (u64)__double_as_longlong(factor) << 1 != 0; }}
{inline} int st_clamp(i64 count, int most) {{ return count < 0 ? 0 : count < most ? (int)count : most; }}
"""


COPIES: Final = """\
// st_fetch copies N elements to shared memory; where only `count` of them exist, the others become zero. Devices
// from sm_80 on do it in the background: st_commit ends a stage, and st_wait<K> waits until all but the last K stages
// have arrived.
#if !defined(ST_HOST) && __CUDA_ARCH__ >= 800
template <class T> struct st_target { u32 address; };
template <class T> static __device__ __forceinline__ st_target<T> st_place(T* shared, int element) {
    st_target<T> to;
    asm("{ .reg .u64 t; cvta.to.shared.u64 t, %1; cvt.u32.u64 %0, t; }" : "=r"(to.address) : "l"(shared));
    to.address += element * (int)sizeof(T);
    return to;
}
template <class T> static __device__ __forceinline__ st_target<T> st_place(st_target<T> to, int element) {
    to.address += element * (int)sizeof(T);
    return to;
}
template <int N, class T> static __device__ __forceinline__ void st_fetch(st_target<T> to, const T* from, int count) {
    constexpr int size = N * (int)sizeof(T);
    const int bytes = count * (int)sizeof(T);
    if constexpr (size == 16)
        asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;"
                     :: "r"(to.address), "l"(from), "r"(bytes) : "memory");
    else
        asm volatile("cp.async.ca.shared.global [%0], [%1], %3, %2;"
                     :: "r"(to.address), "l"(from), "r"(bytes), "n"(size) : "memory");
}
template <int N, class T> static __device__ __forceinline__ void st_fetch(st_target<T> to, const T* from) {
    constexpr int size = N * (int)sizeof(T);
    if constexpr (size == 16)
        asm volatile("cp.async.cg.shared.global [%0], [%1], 16;" :: "r"(to.address), "l"(from) : "memory");
    else
        asm volatile("cp.async.ca.shared.global [%0], [%1], %2;" :: "r"(to.address), "l"(from), "n"(size) : "memory");
}
static __device__ __forceinline__ void st_commit() { asm volatile("cp.async.commit_group;" ::: "memory"); }
template <int K> static __device__ __forceinline__ void st_wait() {
    asm volatile("cp.async.wait_group %0;" :: "n"(K) : "memory");
}
#else
template <class T> static __device__ __forceinline__ T* st_place(T* shared, int element) { return shared + element; }
template <int N, class T> static __device__ __forceinline__ void st_fetch(T* to, const T* from, int count = N) {
    #pragma unroll
    for (int i = 0; i < N; ++i) to[i] = i < count ? from[i] : T{};
}
static __device__ __forceinline__ void st_commit() {}
template <int K> static __device__ __forceinline__ void st_wait() {}
#endif
"""


CLUSTERS: Final = """\
// Blocks of a cluster: each tells the others that it has begun; and what they wrote to each other's memory before
// st_exchange is there after it. On the host they are one block.
#ifndef ST_HOST
static __device__ __forceinline__ void st_begin() { asm volatile("barrier.cluster.arrive.relaxed;" ::: "memory"); }
static __device__ __forceinline__ void st_wait_for_begin() { asm volatile("barrier.cluster.wait;" ::: "memory"); }
static __device__ __forceinline__ void st_exchange() {
    asm volatile("barrier.cluster.arrive.release;" ::: "memory");
    asm volatile("barrier.cluster.wait.acquire;" ::: "memory");
}
template <class T> static __device__ __forceinline__ T* st_of_block(T* shared, int rank) {
    T* there;
    asm("mapa.u64 %0, %1, %2;" : "=l"(there) : "l"(shared), "r"(rank));
    return there;
}
#else
static void st_begin() {}
#define st_wait_for_begin() __syncthreads()
#define st_exchange() __syncthreads()
#endif
"""
