// What the emitted kernels use of CUDA, for g++: put before a kernel's text, compiled thousands of times.
// Hence no header is included, and whatever is not a line or two lives in the run time (runtime.h).
#pragma once
#define ST_HOST 1

#define __global__ __attribute__((noinline))
#define __device__
#define __host__
#define __constant__
#define __forceinline__ inline __attribute__((always_inline))
#define __noinline__ __attribute__((noinline))
#define __align__(n) __attribute__((aligned(n)))
#define __launch_bounds__(...)

#define SHIM_UNTRACKED __attribute__((no_sanitize("thread")))

struct shim_index { unsigned x, y, z; };

extern "C" {
// The run time sets these for the thread that runs: from inside a kernel they are constant.
extern const shim_index threadIdx, blockIdx, blockDim, gridDim;

void shim_barrier(int line);
void shim_fence(void);
unsigned long long shim_warp(int kind, int line, unsigned mask, unsigned long long value, int operand, int width);
void* shim_shared(const void* key, const char* name, unsigned long size, unsigned long element);
void shim_atomic(const void* address, unsigned size);
[[noreturn]] void shim_trap(int line);

float st_half_to_float(unsigned short half);
unsigned short st_float_to_half(float value);
unsigned short st_double_to_half(double value);
}

// ---- threads ----
#define __syncthreads() shim_barrier(__LINE__)
#define __threadfence() shim_fence()
#define __threadfence_block() ((void)0)
#define __trap() shim_trap(__LINE__)

// A block's array: its memory comes from the run time, filled with 0xA5 for every block. The declarations
// `__shared__ T name[N];` of a kernel's text are rewritten into this before it is compiled.
#define SHIM_SHARED(TYPE, NAME, ...) \
  typedef TYPE shim_element_##NAME; \
  typedef shim_element_##NAME shim_array_##NAME __VA_ARGS__; \
  static const char shim_key_##NAME = 0; \
  shim_array_##NAME& NAME = *static_cast<shim_array_##NAME*>( \
      shim_shared(&shim_key_##NAME, #NAME, sizeof(shim_array_##NAME), sizeof(shim_element_##NAME)))

// ---- warps ----
enum { SHIM_SYNC, SHIM_BALLOT, SHIM_INDEX, SHIM_UP, SHIM_DOWN, SHIM_XOR };

template <class T>
static inline T shim_shuffle(int kind, int line, unsigned mask, T value, int operand, int width = 32) {
  static_assert(sizeof(T) == 4 || sizeof(T) == 8, "a shuffle exchanges values of four or eight bytes");
  unsigned long long bits = 0;
  __builtin_memcpy(&bits, &value, sizeof(T));
  bits = shim_warp(kind, line, mask, bits, operand, width);
  __builtin_memcpy(&value, &bits, sizeof(T));
  return value;
}
static inline void shim_sync_warp(int line, unsigned mask = 0xffffffffu) { shim_warp(SHIM_SYNC, line, mask, 0, 0, 32); }
static inline unsigned shim_ballot(int line, unsigned mask, int predicate) {
  return static_cast<unsigned>(shim_warp(SHIM_BALLOT, line, mask, predicate != 0, 0, 32));
}
template <class T>
static inline unsigned shim_match(int line, unsigned mask, T value) {
  unsigned found = 0;
  for (int lane = 0; lane < 32; ++lane) {
    if ((mask >> lane & 1) != 0 && shim_shuffle(SHIM_INDEX, line, mask, value, lane) == value) found |= 1u << lane;
  }
  return found;
}
#define __shfl_sync(...) shim_shuffle(SHIM_INDEX, __LINE__, __VA_ARGS__)
#define __shfl_up_sync(...) shim_shuffle(SHIM_UP, __LINE__, __VA_ARGS__)
#define __shfl_down_sync(...) shim_shuffle(SHIM_DOWN, __LINE__, __VA_ARGS__)
#define __shfl_xor_sync(...) shim_shuffle(SHIM_XOR, __LINE__, __VA_ARGS__)
#define __syncwarp(...) shim_sync_warp(__LINE__ __VA_OPT__(, ) __VA_ARGS__)
#define __ballot_sync(mask, predicate) shim_ballot(__LINE__, mask, predicate)
#define __match_any_sync(mask, value) shim_match(__LINE__, mask, value)
#define __any_sync(mask, predicate) (shim_ballot(__LINE__, mask, predicate) != 0)
#define __all_sync(mask, predicate) (shim_ballot(__LINE__, mask, !(predicate)) == 0)

// ---- atomics: one thread runs at a time, so plain accesses will do; the run time is told of them ----
#define SHIM_ATOMIC(NAME, TYPE, RESULT) \
  SHIM_UNTRACKED static inline TYPE NAME(TYPE* address, TYPE value) { \
    shim_atomic(address, sizeof(TYPE)); \
    TYPE old = *address; \
    *address = (RESULT); \
    return old; \
  }
#define SHIM_INTEGER_ATOMICS(TYPE) \
  SHIM_ATOMIC(atomicMin, TYPE, old < value ? old : value) \
  SHIM_ATOMIC(atomicMax, TYPE, old > value ? old : value) \
  SHIM_ATOMIC(atomicExch, TYPE, value) \
  SHIM_ATOMIC(atomicAnd, TYPE, old & value) \
  SHIM_ATOMIC(atomicOr, TYPE, old | value) \
  SHIM_ATOMIC(atomicXor, TYPE, old ^ value) \
  SHIM_UNTRACKED static inline TYPE atomicCAS(TYPE* address, TYPE seen, TYPE value) { \
    shim_atomic(address, sizeof(TYPE)); \
    TYPE old = *address; \
    if (old == seen) *address = value; \
    return old; \
  }
SHIM_INTEGER_ATOMICS(int)
SHIM_INTEGER_ATOMICS(unsigned)
SHIM_INTEGER_ATOMICS(unsigned long long)
SHIM_ATOMIC(atomicAdd, int, static_cast<int>(static_cast<unsigned>(old) + static_cast<unsigned>(value)))
SHIM_ATOMIC(atomicAdd, unsigned, old + value)
SHIM_ATOMIC(atomicAdd, unsigned long long, old + value)
SHIM_ATOMIC(atomicAdd, float, old + value)
SHIM_ATOMIC(atomicAdd, double, old + value)
SHIM_ATOMIC(atomicInc, unsigned, old >= value ? 0u : old + 1u)

// ---- mathematical functions: the C library's ----
#define SHIM_MATH1(NAME) extern "C" double NAME(double) noexcept; extern "C" float NAME##f(float) noexcept;
#define SHIM_MATH2(NAME) \
  extern "C" double NAME(double, double) noexcept; \
  extern "C" float NAME##f(float, float) noexcept;
SHIM_MATH1(acos) SHIM_MATH1(acosh) SHIM_MATH1(asin) SHIM_MATH1(asinh) SHIM_MATH1(atan) SHIM_MATH1(atanh) SHIM_MATH1(cbrt)
SHIM_MATH1(ceil) SHIM_MATH1(cos) SHIM_MATH1(cosh) SHIM_MATH1(erf) SHIM_MATH1(erfc) SHIM_MATH1(exp) SHIM_MATH1(exp2) SHIM_MATH1(expm1)
SHIM_MATH1(fabs) SHIM_MATH1(floor) SHIM_MATH1(lgamma) SHIM_MATH1(log) SHIM_MATH1(log10) SHIM_MATH1(log1p) SHIM_MATH1(log2)
SHIM_MATH1(logb) SHIM_MATH1(nearbyint) SHIM_MATH1(rint) SHIM_MATH1(round) SHIM_MATH1(sin) SHIM_MATH1(sinh) SHIM_MATH1(sqrt)
SHIM_MATH1(tan) SHIM_MATH1(tanh) SHIM_MATH1(tgamma) SHIM_MATH1(trunc) SHIM_MATH1(j0) SHIM_MATH1(j1) SHIM_MATH1(y0) SHIM_MATH1(y1)
SHIM_MATH2(atan2) SHIM_MATH2(copysign) SHIM_MATH2(fdim) SHIM_MATH2(fmax) SHIM_MATH2(fmin) SHIM_MATH2(fmod) SHIM_MATH2(hypot)
SHIM_MATH2(nextafter) SHIM_MATH2(pow) SHIM_MATH2(remainder)
extern "C" {
double fma(double, double, double) noexcept;
float fmaf(float, float, float) noexcept;
double ldexp(double, int) noexcept;
float ldexpf(float, int) noexcept;
double scalbn(double, int) noexcept;
float scalbnf(float, int) noexcept;
double frexp(double, int*) noexcept;
float frexpf(float, int*) noexcept;
double modf(double, double*) noexcept;
float modff(float, float*) noexcept;
}
static inline double rsqrt(double x) { return 1.0 / sqrt(x); }
static inline float rsqrtf(float x) { return static_cast<float>(1.0 / sqrt(static_cast<double>(x))); }

// ---- arithmetic that is rounded once (-ffp-contract=off), and bits ----
static inline float __fadd_rn(float a, float b) { return a + b; }
static inline float __fsub_rn(float a, float b) { return a - b; }
static inline float __fmul_rn(float a, float b) { return a * b; }
static inline float __fdiv_rn(float a, float b) { return a / b; }
static inline float __fsqrt_rn(float a) { return sqrtf(a); }
static inline float __fmaf_rn(float a, float b, float c) { return fmaf(a, b, c); }
static inline double __dadd_rn(double a, double b) { return a + b; }
static inline double __dsub_rn(double a, double b) { return a - b; }
static inline double __dmul_rn(double a, double b) { return a * b; }
static inline double __ddiv_rn(double a, double b) { return a / b; }
static inline double __dsqrt_rn(double a) { return sqrt(a); }
static inline double __fma_rn(double a, double b, double c) { return fma(a, b, c); }

template <class To, class From>
static inline To shim_bits(From from) {
  static_assert(sizeof(To) == sizeof(From), "bits of another size");
  To to;
  __builtin_memcpy(&to, &from, sizeof(To));
  return to;
}
static inline float __int_as_float(int bits) { return shim_bits<float>(bits); }
static inline float __uint_as_float(unsigned bits) { return shim_bits<float>(bits); }
static inline int __float_as_int(float value) { return shim_bits<int>(value); }
static inline unsigned __float_as_uint(float value) { return shim_bits<unsigned>(value); }
static inline double __longlong_as_double(long long bits) { return shim_bits<double>(bits); }
static inline long long __double_as_longlong(double value) { return shim_bits<long long>(value); }

static inline unsigned __umulhi(unsigned a, unsigned b) {
  return static_cast<unsigned>((static_cast<unsigned long long>(a) * b) >> 32);
}
static inline unsigned long long __umul64hi(unsigned long long a, unsigned long long b) {
  return static_cast<unsigned long long>((static_cast<unsigned __int128>(a) * b) >> 64);
}
static inline long long __mul64hi(long long a, long long b) {
  return static_cast<long long>((static_cast<__int128>(a) * b) >> 64);
}
static inline int __popc(unsigned x) { return __builtin_popcount(x); }
static inline int __popcll(unsigned long long x) { return __builtin_popcountll(x); }
static inline int __clz(int x) { return x == 0 ? 32 : __builtin_clz(static_cast<unsigned>(x)); }
static inline int __clzll(long long x) { return x == 0 ? 64 : __builtin_clzll(static_cast<unsigned long long>(x)); }
static inline int __ffs(int x) { return __builtin_ffs(x); }
static inline int __ffsll(long long x) { return __builtin_ffsll(x); }
template <class T>
static inline T __ldg(const T* address) { return *address; }

#define SHIM_ORDERED(TYPE) \
  static inline TYPE min(TYPE a, TYPE b) { return b < a ? b : a; } \
  static inline TYPE max(TYPE a, TYPE b) { return a < b ? b : a; }
SHIM_ORDERED(int) SHIM_ORDERED(unsigned) SHIM_ORDERED(long long) SHIM_ORDERED(unsigned long long)

// ---- vector accesses of the emitted kernels ----
template <class P, class T>
static inline P st_load_pack(const T* address, long long at) { return *reinterpret_cast<const P*>(address + at); }
template <class P, class T>
static inline void st_store_pack(T* address, long long at, const P& pack) {
  *reinterpret_cast<P*>(address + at) = pack;
}

// ---- what the run time must know of a kernel (text.py writes one of these after each) ----
struct shim_parameter { int size, pointer, constant, element; };
struct shim_kernel {
  const char* name;
  const char* parameter_names;  // separated by commas
  const shim_parameter* parameters;
  int parameter_count;
  int most_threads;             // of __launch_bounds__; 0: not given
  unsigned long long restricted;  // bit k: parameter k is a __restrict__ pointer
  void (*run)(const char* arguments);
};
// Where an argument of this type lies that follows one which ends there.
#define SHIM_PLACE(END, ...) (((END) + sizeof(__VA_ARGS__) - 1) / sizeof(__VA_ARGS__) * sizeof(__VA_ARGS__))
