// Conversions of float16, rounded to nearest even; written with integers, so that they need no hardware.
#include <cstdint>
#include <cstring>

namespace {

template <class To, class From>
To bits(From from) {
  static_assert(sizeof(To) == sizeof(From));
  To to;
  std::memcpy(&to, &from, sizeof to);
  return to;
}

}  // namespace

extern "C" {

float st_half_to_float(unsigned short half) {
  const std::uint32_t sign = (half & 0x8000u) << 16, exponent = half >> 10 & 31, fraction = half & 1023;
  if (exponent == 31) return bits<float>(sign | 0x7f800000u | (fraction ? 0x400000u | fraction << 13 : 0));
  if (exponent == 0) {
    const float size = static_cast<float>(fraction) * 0x1p-24f;
    return sign ? -size : size;
  }
  return bits<float>(sign | (exponent + 112) << 23 | fraction << 13);
}

unsigned short st_double_to_half(double value) {
  const std::uint64_t image = bits<std::uint64_t>(value), size = image & ~(1ull << 63);
  const unsigned sign = static_cast<unsigned>(image >> 48 & 0x8000);
  if (size > 0x7ffull << 52) return static_cast<unsigned short>(sign | 0x7e00);
  const int exponent = static_cast<int>(size >> 52) - 1023;
  if (exponent > 15) return static_cast<unsigned short>(sign | 0x7c00);
  if (exponent < -25) return static_cast<unsigned short>(sign);
  // Units of the last place: 10 bits after the point, or 2^-24 for subnormal halves.
  const std::uint64_t significand = (size & ((1ull << 52) - 1)) | 1ull << 52;
  const int dropped = exponent >= -14 ? 42 : 42 + (-14 - exponent);
  std::uint64_t kept = significand >> dropped;
  const std::uint64_t rest = significand & ((1ull << dropped) - 1), middle = 1ull << (dropped - 1);
  if (rest > middle || (rest == middle && (kept & 1))) ++kept;
  // A carry goes into the exponent by itself; the implicit bit counts one there.
  const std::uint64_t base = exponent >= -14 ? static_cast<std::uint64_t>(exponent + 14) << 10 : 0;
  return static_cast<unsigned short>(sign | (base + kept));
}

unsigned short st_float_to_half(float value) { return st_double_to_half(static_cast<double>(value)); }

}  // extern "C"
