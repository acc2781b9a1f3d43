// What the code of -fsanitize=undefined calls: an error of the launch instead of the end of the process.
#include "runtime.h"

namespace {

struct Place {  // the first member of all that the compiler passes
  const char* file;
  std::uint32_t line, column;
};

[[noreturn]] void report(const char* what, const void* place) {
  const Place& at = *static_cast<const Place*>(place);
  st::fail("undefined behaviour in %s, line %u, column %u: %s", at.file ? at.file : "?", at.line, at.column, what);
}

}  // namespace

#define REPORT(NAME, WHAT) \
  extern "C" [[noreturn]] void __ubsan_handle_##NAME##_abort(void* place) { report(WHAT, place); }

REPORT(add_overflow, "a signed sum overflows")
REPORT(sub_overflow, "a signed difference overflows")
REPORT(mul_overflow, "a signed product overflows")
REPORT(negate_overflow, "a signed negation overflows")
REPORT(divrem_overflow, "an integer division by zero, or one that overflows")
REPORT(shift_out_of_bounds, "a shift by more bits than there are, or of a negative number")
REPORT(out_of_bounds, "an index outside of its array")
REPORT(type_mismatch_v1, "a pointer that is not aligned")
REPORT(alignment_assumption, "a pointer that is not aligned as promised")
REPORT(load_invalid_value, "a value that its type does not have (bool, enum)")
REPORT(float_cast_overflow, "a number too large for the integer type")
REPORT(vla_bound_not_positive, "an array of no elements")
REPORT(nonnull_arg, "a null argument")
REPORT(invalid_builtin, "a bit count of zero")

extern "C" [[noreturn]] void __ubsan_handle_builtin_unreachable(void* place) {
  report("code that cannot be reached was", place);
}

extern "C" [[noreturn]] void __ubsan_handle_missing_return(void* place) { report("a function without a result", place); }
