"""Functions for random words as `mathlib.philox` defines them: a block of four, a word, half a word, and rows of them.

A row comes from as few blocks as it can. Where it begins inside a block, one block more may be needed, and all that
there is moves down. As a rule a thread has whole blocks, so all threads find that alike, and seldom: the code of that
block is small rather than quick. How often the rounds are unrolled is an argument for this reason.
"""

from typing import Final

from symtensor_codegen.mathlib.philox import MULTIPLIERS, ROUNDS, WEYL

_INLINE: Final = "static __device__ __forceinline__"

WORDS: Final = f"""\
template <int UNROLLED>
{_INLINE} void st_philox_block(u64 first, u64 second, u64 counter, u64 stream, u64 extra, u64 (&words)[4]) {{
    u64 a = counter, b = 0, c = stream, d = extra;
    #pragma unroll UNROLLED
    for (int turn = 0; turn < {ROUNDS}; ++turn) {{
        const u64 x = __umul64hi(c, {MULTIPLIERS[1]}ULL) ^ b ^ first;
        const u64 y = __umul64hi(a, {MULTIPLIERS[0]}ULL) ^ d ^ second;
        b = c * {MULTIPLIERS[1]}ULL;
        d = a * {MULTIPLIERS[0]}ULL;
        a = x;
        c = y;
        first += {WEYL[0]}ULL;
        second += {WEYL[1]}ULL;
    }}
    words[0] = a;
    words[1] = b;
    words[2] = c;
    words[3] = d;
}}
template <int UNROLLED>
{_INLINE} u64 st_philox64(u64 first, u64 second, u64 stream, u64 extra, u64 start, i64 offset) {{
    const u64 number = start + (u64)offset;
    u64 words[4];
    st_philox_block<UNROLLED>(first, second, (number >> 2) + 1, stream, extra, words);
    const u32 place = (u32)number & 3;
    return place < 2 ? (place < 1 ? words[0] : words[1]) : (place < 3 ? words[2] : words[3]);
}}
template <int UNROLLED>
{_INLINE} u32 st_philox32(u64 first, u64 second, u64 stream, u64 extra, u64 start, i64 offset) {{
    const u64 word = st_philox64<UNROLLED>(first, second, stream, extra, start, offset >> 1);
    return (u32)((offset & 1) != 0 ? word >> 32 : word);
}}
template <int UNROLLED, class T>
{_INLINE} void st_philox_parts(u64 first, u64 second, u64 number, u64 stream, u64 extra, T* parts) {{
    u64 words[4];
    st_philox_block<UNROLLED>(first, second, (number >> 2) + 1, stream, extra, words);
    #pragma unroll
    for (int k = 0; k < 32 / (int)sizeof(T); ++k) {{
        const int each = 8 / sizeof(T);
        parts[k] = (T)(words[k / each] >> (k % each * 32));
    }}
}}
template <int STEP, class T, int N> {_INLINE} void st_move_down(T (&parts)[N], int steps) {{
    if ((steps & STEP) == 0) return;
    #pragma unroll
    for (int k = 0; k < N - STEP; ++k) parts[k] = parts[k + STEP];
}}
template <class T, int N>
{_INLINE} void st_philox_row(u64 first, u64 second, u64 stream, u64 extra, u64 start, i64 offset, T (&row)[N]) {{
    const int each = 8 / sizeof(T), block = 4 * each, whole = (N + block - 1) / block * block;
    const u64 number = start + (u64)(each == 2 ? offset >> 1 : offset);
    const int rest = each * (int)(number & 3) + (each == 2 ? (int)(offset & 1) : 0);
    T parts[whole + block] = {{}};
    #pragma unroll
    for (int k = 0; k < whole; k += block) {{
        st_philox_parts<{ROUNDS}>(first, second, number + k / each, stream, extra, parts + k);
    }}
    if (rest != 0) {{
        if (rest + N > whole) st_philox_parts<1>(first, second, number + whole / each, stream, extra, parts + whole);
        st_move_down<1>(parts, rest);
        st_move_down<2>(parts, rest);
        st_move_down<4>(parts, rest);
    }}
    #pragma unroll
    for (int k = 0; k < N; ++k) row[k] = parts[k];
}}
"""
