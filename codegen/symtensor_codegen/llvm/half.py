"""Conversions between float16 and float32 for x86 processors without instructions for them (before AVX2).

LLVM calls these two functions by name where it needs a conversion; elsewhere they come with a compiler's
run-time library, which is not there for code compiled at run time.
"""

HALF_CONVERSIONS = """
define internal float @__extendhfsf2(half %x) nounwind {
  %h = bitcast half %x to i16
  %b = zext i16 %h to i32
  %magnitude = and i32 %b, 32767
  %sign = and i32 %b, 32768
  %sign.high = shl i32 %sign, 16
  %shifted = shl i32 %magnitude, 13
  %normal = add i32 %shifted, 939524096 ; the exponent's bias is 112 larger in float32
  %special = or i32 %shifted, 2139095040 ; infinity and NaN
  %is.special = icmp uge i32 %magnitude, 31744
  %is.small = icmp ult i32 %magnitude, 1024
  %count = uitofp i32 %magnitude to float ; subnormal: that many times 2**-24
  %small = fmul float %count, 0x3E70000000000000
  %small.bits = bitcast float %small to i32
  %a = select i1 %is.special, i32 %special, i32 %normal
  %c = select i1 %is.small, i32 %small.bits, i32 %a
  %d = or i32 %c, %sign.high
  %r = bitcast i32 %d to float
  ret float %r
}

define internal half @__truncsfhf2(float %x) nounwind {
  %b = bitcast float %x to i32
  %magnitude = and i32 %b, 2147483647
  %sign = lshr i32 %b, 16
  %sign.bit = and i32 %sign, 32768
  %rebiased = sub i32 %magnitude, 939524096
  %cut = lshr i32 %rebiased, 13
  %odd = and i32 %cut, 1
  %half.up = add i32 %rebiased, 4095
  %to.even = add i32 %half.up, %odd
  %normal = lshr i32 %to.even, 13
  %size = bitcast i32 %magnitude to float
  %sum = fadd float %size, 5.000000e-01 ; rounds to a multiple of 2**-24, the unit of 0.5
  %sum.bits = bitcast float %sum to i32
  %small = sub i32 %sum.bits, 1056964608
  %payload = lshr i32 %magnitude, 13
  %payload.bits = and i32 %payload, 1023
  %nan = or i32 %payload.bits, 32256
  %is.small = icmp ult i32 %magnitude, 947912704
  %is.large = icmp uge i32 %magnitude, 1199566848
  %is.nan = icmp ugt i32 %magnitude, 2139095040
  %a = select i1 %is.small, i32 %small, i32 %normal
  %c = select i1 %is.large, i32 31744, i32 %a
  %d = select i1 %is.nan, i32 %nan, i32 %c
  %e = or i32 %d, %sign.bit
  %h = trunc i32 %e to i16
  %r = bitcast i16 %h to half
  ret half %r
}
"""
