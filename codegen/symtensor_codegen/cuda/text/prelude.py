"""The functions that emitted kernels call: each is put in front of a kernel that uses it, with what it needs itself."""

from collections.abc import Iterable
from typing import Final

from symtensor_codegen.cuda.text.random_words import WORDS

TYPES: Final = """\
typedef signed char i8; typedef short i16; typedef int i32; typedef long long i64;
typedef unsigned char u8; typedef unsigned short u16; typedef unsigned int u32; typedef unsigned long long u64;
typedef float f32; typedef double f64;
"""

_INLINE: Final = "static __device__ __forceinline__"

FUNCTIONS: Final[dict[str, str]] = {
    "st_half_to_float": """\
#ifndef ST_HOST
static __device__ __forceinline__ f32 st_half_to_float(u16 x) {
    f32 y;
    asm("cvt.f32.f16 %0, %1;" : "=f"(y) : "h"(x));
    return y;
}
#endif
""",
    "st_float_to_half": """\
#ifndef ST_HOST
static __device__ __forceinline__ u16 st_float_to_half(f32 x) {
    u16 y;
    asm("cvt.rn.f16.f32 %0, %1;" : "=h"(y) : "f"(x));
    return y;
}
#endif
""",
    "st_double_to_half": """\
#ifndef ST_HOST
static __device__ __forceinline__ u16 st_double_to_half(f64 x) {
    u16 y;
    asm("cvt.rn.f16.f64 %0, %1;" : "=h"(y) : "d"(x));
    return y;
}
#endif
""",
    "st_round_half": f"""\
{_INLINE} f32 st_round_half(f32 x) {{ return st_half_to_float(st_float_to_half(x)); }}
""",
    "st_absolute": f"""\
template <class T> {_INLINE} T st_absolute(T x) {{ return x < 0 ? (T)(0 - (u64)x) : x; }}
""",
    "st_sign": f"""\
template <class T> {_INLINE} T st_sign(T x) {{ return x > 0 ? (T)1 : x < 0 ? (T)-1 : x == 0 ? (T)0 : x; }}
""",
    "st_minimum": f"""\
template <class T> {_INLINE} T st_minimum(T a, T b) {{ return a < b || a != a ? a : b; }}
#if !defined(ST_HOST) && __CUDA_ARCH__ >= 800
{_INLINE} f32 st_minimum(f32 a, f32 b) {{
    f32 c;
    asm("min.NaN.f32 %0, %1, %2;" : "=f"(c) : "f"(a), "f"(b));
    return c;
}}
#endif
""",
    "st_maximum": f"""\
template <class T> {_INLINE} T st_maximum(T a, T b) {{ return a > b || a != a ? a : b; }}
#if !defined(ST_HOST) && __CUDA_ARCH__ >= 800
{_INLINE} f32 st_maximum(f32 a, f32 b) {{
    f32 c;
    asm("max.NaN.f32 %0, %1, %2;" : "=f"(c) : "f"(a), "f"(b));
    return c;
}}
#endif
""",
    "st_fmin": f"""\
template <class T> {_INLINE} T st_fmin(T a, T b) {{ return a < b || b != b ? a : b; }}
""",
    "st_fmax": f"""\
template <class T> {_INLINE} T st_fmax(T a, T b) {{ return a > b || b != b ? a : b; }}
""",
    # The quotient is rounded down and has the remainder's sign with the divisor's; -1 is apart, since the least
    # integer has no positive counterpart.
    "st_floordiv": f"""\
template <class T> {_INLINE} T st_floordiv(T a, T b) {{
    if (b == 0) return 0;
    if ((T)-1 < 0 && b == (T)-1) return (T)(0 - (u64)a);
    const T q = a / b;
    return (T)(a % b) != 0 && ((a < 0) != (b < 0)) ? (T)(q - 1) : q;
}}
""",
    "st_mod": f"""\
template <class T> {_INLINE} T st_mod(T a, T b) {{
    if (b == 0 || ((T)-1 < 0 && b == (T)-1)) return 0;
    const T r = a % b;
    return r != 0 && ((a < 0) != (b < 0)) ? (T)(r + b) : r;
}}
""",
    # Of numbers that are not negative: a division of 64 bits takes several times as long as one of 32.
    "st_quotient": f"""\
{_INLINE} i64 st_quotient(i64 a, i64 b) {{ return (u64)(a | b) >> 32 == 0 ? (i64)((u32)a / (u32)b) : a / b; }}
""",
    "st_shift_left": f"""\
template <class T> {_INLINE} T st_shift_left(T a, T b) {{
    return (u64)b < 8 * sizeof(T) ? (T)((u64)a << (u64)b) : (T)0;
}}
""",
    "st_shift_right": f"""\
template <class T> {_INLINE} T st_shift_right(T a, T b) {{
    const u64 bits = 8 * sizeof(T);
    return (u64)b < bits ? (T)(a >> b) : a < 0 ? (T)-1 : (T)0;
}}
""",
    "st_to_int": f"""\
// What is beyond the integers, or no number, becomes the least of them, as on the processors of PCs.
template <class I, class T> {_INLINE} I st_to_int(T x) {{
    const T limit = (T)((u64)1 << (8 * sizeof(I) - 1));
    return x >= -limit && x < limit ? (I)x : (I)((u64)1 << (8 * sizeof(I) - 1));
}}
""",
    "st_to_u64": f"""\
template <class T> {_INLINE} u64 st_to_u64(T x) {{
    const T half = (T)9223372036854775808.0;
    return x >= half ? (u64)st_to_int<i64>(x - half) ^ 0x8000000000000000ULL : (u64)st_to_int<i64>(x);
}}
""",
    "st_fail": f"""\
{_INLINE} void st_fail(int* status, int number) {{ atomicMin(status, number); }}
""",
    "st_checked": f"""\
{_INLINE} i64 st_checked(i64 at, i64 extent, int* status, int number) {{
    if (at < 0) at += extent;
    if ((u64)at < (u64)extent) return at;
    st_fail(status, number);
    return 0;
}}
""",
    # The same in code that is repeated: it leaves the smallest number of its failures for one report at the end.
    "st_noted": f"""\
{_INLINE} i64 st_noted(i64 at, i64 extent, int& failed, int number) {{
    if (at < 0) at += extent;
    const bool inside = (u64)at < (u64)extent;
    failed = inside || failed < number ? failed : number;
    return inside ? at : 0;
}}
""",
    # The same for an index that somebody else checks too.
    "st_wrapped": f"""\
{_INLINE} i64 st_wrapped(i64 at, i64 extent) {{
    if (at < 0) at += extent;
    return (u64)at < (u64)extent ? at : 0;
}}
""",
    # Which of so many parts has a target: targets that follow each other are dealt out evenly (Fibonacci hashing).
    "st_part": f"""\
{_INLINE} u32 st_part(i64 target, u32 parts) {{ return __umulhi((u32)target * 2654435769u, parts); }}
""",
    # Marks in the words of a warp's lanes: how many there are up to the end of each lane's word, and where each is.
    "st_marks": f"""\
{_INLINE} int st_marks_until(u32 marks, int lane) {{
    int until = __popc(marks);
    #pragma unroll
    for (int distance = 1; distance < 32; distance *= 2) {{
        const int before = __shfl_up_sync(0xffffffffu, until, distance);
        if (lane >= distance) until += before;
    }}
    return until;
}}
{_INLINE} int st_mark(u32 marks, int until, int number) {{
    int word = 0, bit = 0;
    #pragma unroll
    for (int half = 16; half > 0; half >>= 1) {{
        if (__shfl_sync(0xffffffffu, until, word + half - 1) <= number) word += half;
    }}
    u32 bits = __shfl_sync(0xffffffffu, marks, word);
    number -= __shfl_sync(0xffffffffu, until, word) - __popc(bits);
    #pragma unroll
    for (int half = 16; half > 0; half >>= 1) {{
        const int low = __popc(bits & ((1u << half) - 1));
        if (number >= low) {{ number -= low; bits >>= half; bit += half; }}
    }}
    return 32 * word + bit;
}}
""",
    "st_pack": """\
template <class T, int N> struct __align__(N * sizeof(T) < 16 ? N * sizeof(T) : 16) st_pack { T v[N]; };
#ifndef ST_HOST
template <int bytes> struct st_words;
template <> struct st_words<2> { typedef u16 type; };
template <> struct st_words<4> { typedef u32 type; };
template <> struct st_words<8> { typedef uint2 type; };
template <> struct st_words<16> { typedef uint4 type; };
template <> struct st_words<32> { struct type { uint4 low, high; }; };
template <class P, class T> static __device__ __forceinline__ P st_load_pack(const T* p, i64 at) {
    typedef typename st_words<sizeof(P)>::type words;
    union both { words in; P out; __device__ both() {} } x;
    x.in = *reinterpret_cast<const words*>(p + at);
    return x.out;
}
template <class P, class T> static __device__ __forceinline__ void st_store_pack(T* p, i64 at, const P& pack) {
    typedef typename st_words<sizeof(P)>::type words;
    union both { words out; P in; __device__ both() {} } x;
    x.in = pack;
    *reinterpret_cast<words*>(p + at) = x.out;
}
#endif
""",
    # A pack stored in accesses of 16 bytes even if the compiler, with every optimisation, would rather have two of 8.
    "st_put_pack": f"""\
#ifdef ST_HOST
template <class P, class T> {_INLINE} void st_put_pack(T* p, i64 at, const P& pack) {{ st_store_pack(p, at, pack); }}
#else
{_INLINE} void st_put_words(void* p, const u32& w) {{ *(u32*)p = w; }}
{_INLINE} void st_put_words(void* p, const uint2& w) {{ *(uint2*)p = w; }}
{_INLINE} void st_put_words(void* p, const uint4& w) {{
    asm volatile("st.global.v4.b32 [%0], {{%1, %2, %3, %4}};"
                 :: "l"(p), "r"(w.x), "r"(w.y), "r"(w.z), "r"(w.w) : "memory");
}}
{_INLINE} void st_put_words(void* p, const st_words<32>::type& w) {{
    st_put_words(p, w.low);
    st_put_words((char*)p + 16, w.high);
}}
template <class P, class T> {_INLINE} void st_put_pack(T* p, i64 at, const P& pack) {{
    union both {{ typename st_words<sizeof(P)>::type out; P in; __device__ both() {{}} }} x;
    x.in = pack;
    st_put_words(p + at, x.out);
}}
#endif
""",
    "st_philox": WORDS,
    # Teams: blockDim.x threads beside each other (a power of two, at most 32 or the whole block).
    "st_team_mask": f"""\
{_INLINE} unsigned st_team_mask() {{
    const unsigned lane = (threadIdx.y * blockDim.x + threadIdx.x) & 31u;
    return blockDim.x >= 32 ? 0xffffffffu : ((1u << blockDim.x) - 1u) << (lane & ~(blockDim.x - 1u));
}}
""",
    "st_team_sync": f"""\
{_INLINE} void st_team_sync() {{
    if (blockDim.x > 32) __syncthreads(); else __syncwarp(st_team_mask());
}}
""",
    "st_lanes": f"""\
template <class T> {_INLINE} T st_lane_xor(unsigned mask, T x, int distance) {{
    if constexpr (sizeof(T) < 4) return (T)__shfl_xor_sync(mask, (int)x, distance);
    else return __shfl_xor_sync(mask, x, distance);
}}
template <class T> {_INLINE} T st_lane_up(unsigned mask, T x, int distance, int width) {{
    if constexpr (sizeof(T) < 4) return (T)__shfl_up_sync(mask, (int)x, distance, width);
    else return __shfl_up_sync(mask, x, distance, width);
}}
template <class T> {_INLINE} T st_lane(unsigned mask, T x, int lane, int width) {{
    if constexpr (sizeof(T) < 4) return (T)__shfl_sync(mask, (int)x, lane, width);
    else return __shfl_sync(mask, x, lane, width);
}}
""",
    # A reduction over the threads of a team, which all get the result. Its order is that of a tree: always the same.
    "st_reduce_row": f"""\
template <class T, class Scratch, class Combine>
{_INLINE} T st_reduce_row(T x, Scratch& scratch, Combine combine) {{
    const unsigned mask = st_team_mask();
    const int width = blockDim.x < 32 ? blockDim.x : 32;
    for (int distance = width / 2; distance > 0; distance /= 2) x = combine(x, st_lane_xor(mask, x, distance));
    if (blockDim.x > 32) {{
        if (threadIdx.x % 32 == 0) scratch[threadIdx.x / 32] = x;
        __syncthreads();
        x = scratch[0];
        for (unsigned warp = 1; warp < blockDim.x / 32; ++warp) x = combine(x, (T)scratch[warp]);
        __syncthreads();
    }}
    return x;
}}
""",
    # The same where a team is a column of a block: blockDim.y threads, the items beside each other.
    "st_reduce_column": f"""\
template <class T, class Scratch, class Combine>
{_INLINE} T st_reduce_column(T x, Scratch& scratch, Combine combine) {{
    if (blockDim.y == 1) return x;
    const unsigned own = threadIdx.y * blockDim.x + threadIdx.x;
    scratch[own] = x;
    __syncthreads();
    for (unsigned half = blockDim.y / 2; half > 0; half /= 2) {{
        if (threadIdx.y < half) scratch[own] = combine((T)scratch[own], (T)scratch[own + half * blockDim.x]);
        __syncthreads();
    }}
    x = scratch[threadIdx.x];
    __syncthreads();
    return x;
}}
""",
    # The better of two extremes with their positions: NaN first, of equal ones the earlier.
    "st_better": f"""\
template <class T> {_INLINE} bool st_above(T a, i64 at, T b, i64 bt) {{
    const bool nan_a = a != a, nan_b = b != b;
    if (nan_a || nan_b) return nan_a && (!nan_b || at < bt);
    return a > b || (a == b && at < bt);
}}
template <class T> {_INLINE} bool st_below(T a, i64 at, T b, i64 bt) {{
    const bool nan_a = a != a, nan_b = b != b;
    if (nan_a || nan_b) return nan_a && (!nan_b || at < bt);
    return a < b || (a == b && at < bt);
}}
""",
    "st_extreme_row": f"""\
template <class T, class Scratch, class Places, class Wins>
{_INLINE} void st_extreme_row(T& x, i64& at, Scratch& scratch, Places& places, Wins wins) {{
    const unsigned mask = st_team_mask();
    const int width = blockDim.x < 32 ? blockDim.x : 32;
    for (int distance = width / 2; distance > 0; distance /= 2) {{
        const T y = st_lane_xor(mask, x, distance);
        const i64 there = st_lane_xor(mask, at, distance);
        if (wins(y, there, x, at)) {{ x = y; at = there; }}
    }}
    if (blockDim.x > 32) {{
        if (threadIdx.x % 32 == 0) {{ scratch[threadIdx.x / 32] = x; places[threadIdx.x / 32] = at; }}
        __syncthreads();
        x = scratch[0]; at = places[0];
        for (unsigned warp = 1; warp < blockDim.x / 32; ++warp) {{
            const T y = scratch[warp];
            const i64 there = places[warp];
            if (wins(y, there, x, at)) {{ x = y; at = there; }}
        }}
        __syncthreads();
    }}
}}
""",
    "st_extreme_column": f"""\
template <class T, class Scratch, class Places, class Wins>
{_INLINE} void st_extreme_column(T& x, i64& at, Scratch& scratch, Places& places, Wins wins) {{
    if (blockDim.y == 1) return;
    const unsigned own = threadIdx.y * blockDim.x + threadIdx.x;
    scratch[own] = x; places[own] = at;
    __syncthreads();
    for (unsigned half = blockDim.y / 2; half > 0; half /= 2) {{
        if (threadIdx.y < half) {{
            const T y = scratch[own + half * blockDim.x];
            const i64 there = places[own + half * blockDim.x];
            if (wins(y, there, (T)scratch[own], (i64)places[own])) {{ scratch[own] = y; places[own] = there; }}
        }}
        __syncthreads();
    }}
    x = scratch[threadIdx.x]; at = places[threadIdx.x];
    __syncthreads();
}}
""",
    # Running combinations over the threads of a team. ``x`` is what a thread combined: it becomes what the whole team
    # combined before that. The result is what the team combined in all. In a row a thread has several values: the
    # first ones of a warp come before its second ones.
    "st_scan_row": f"""\
template <int N, class T, class Scratch, class Combine>
{_INLINE} T st_scan_row(T (&x)[N], T neutral, Scratch& scratch, Combine combine) {{
    const unsigned mask = st_team_mask();
    const int width = blockDim.x < 32 ? blockDim.x : 32;
    const int lane = threadIdx.x & (width - 1);
#pragma unroll
    for (int distance = 1; distance < 32; distance *= 2) {{
#pragma unroll
        for (int u = 0; u < N; ++u) {{
            const T y = st_lane_up(mask, x[u], distance, width);
            if (lane >= distance) x[u] = combine(y, x[u]);
        }}
    }}
    T total = neutral;
#pragma unroll
    for (int u = 0; u < N; ++u) {{
        const T all = st_lane(mask, x[u], width - 1, width), y = st_lane_up(mask, x[u], 1, width);
        x[u] = lane > 0 ? combine(total, y) : total;
        total = combine(total, all);
    }}
    if (blockDim.x > 32) {{
        const int warp = threadIdx.x / 32, warps = blockDim.x / 32;
        if (lane == 31) scratch[warp] = total;
        __syncthreads();
        T all = lane < warps ? (T)scratch[lane] : neutral;
#pragma unroll
        for (int distance = 1; distance < 32; distance *= 2) {{
            const T y = st_lane_up(mask, all, distance, 32);
            if (lane >= distance) all = combine(y, all);
        }}
        total = st_lane(mask, all, warps - 1, 32);
        const T before = st_lane(mask, all, warp > 0 ? warp - 1 : 0, 32);
        if (warp > 0) {{
#pragma unroll
            for (int u = 0; u < N; ++u) x[u] = combine(before, x[u]);
        }}
        __syncthreads();
    }}
    return total;
}}
""",
    "st_scan_column": f"""\
template <class T, class Scratch, class Combine>
{_INLINE} T st_scan_column(T& x, T neutral, Scratch& scratch, Combine combine) {{
    T total = x;
    x = neutral;
    if (blockDim.y == 1) return total;
    scratch[threadIdx.y * blockDim.x + threadIdx.x] = total;
    __syncthreads();
    total = neutral;
    for (unsigned row = 0; row < blockDim.y; ++row) {{
        if (row == threadIdx.y) x = total;
        total = combine(total, (T)scratch[row * blockDim.x + threadIdx.x]);
    }}
    __syncthreads();
    return total;
}}
""",
}
NEEDS: Final[dict[str, tuple[str, ...]]] = {
    "st_round_half": ("st_half_to_float", "st_float_to_half"),
    "st_checked": ("st_fail",),
    "st_put_pack": ("st_pack",),
    "st_team_sync": ("st_team_mask",),
    "st_to_u64": ("st_to_int",),
    "st_reduce_row": ("st_team_mask", "st_lanes"),
    "st_extreme_row": ("st_team_mask", "st_lanes"),
    "st_scan_row": ("st_team_mask", "st_lanes"),
}
NAMES: Final = {
    "st_load_pack": "st_pack", "st_store_pack": "st_pack", "st_above": "st_better", "st_below": "st_better",
    "st_lane": "st_lanes", "st_lane_xor": "st_lanes", "st_mark": "st_marks", "st_marks_until": "st_marks",
    "st_philox64": "st_philox", "st_philox32": "st_philox", "st_philox_row": "st_philox",
    "st_move_down": "st_philox",
}  # fmt: skip
"""Functions that stand in the text of another one."""


def functions(used: Iterable[str]) -> str:
    """The text of the functions used, each after those that it needs itself."""
    wanted: list[str] = []

    def want(name: str) -> None:
        name = NAMES.get(name, name)
        if name not in wanted:
            for needed in NEEDS.get(name, ()):
                want(needed)
            wanted.append(name)

    for name in used:
        want(name)
    return "".join(FUNCTIONS[name] for name in wanted)
