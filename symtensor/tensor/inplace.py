"""Theano's ``tensor.inplace``: the operations themselves. What is computed in place is decided by the compiler."""

from symtensor import tensor

lt_inplace = tensor.lt
gt_inplace = tensor.gt
le_inplace = tensor.le
ge_inplace = tensor.ge
eq_inplace = tensor.eq
neq_inplace = tensor.neq
isnan_inplace = tensor.isnan
isinf_inplace = tensor.isinf
switch_inplace = tensor.switch
or__inplace = tensor.or_
and__inplace = tensor.and_
xor_inplace = tensor.xor
invert_inplace = tensor.invert
abs__inplace = tensor.abs_
exp_inplace = tensor.exp
exp2_inplace = tensor.exp2
expm1_inplace = tensor.expm1
neg_inplace = tensor.neg
inv_inplace = tensor.inv
log_inplace = tensor.log
log1p_inplace = tensor.log1p
log2_inplace = tensor.log2
log10_inplace = tensor.log10
sgn_inplace = tensor.sgn
ceil_inplace = tensor.ceil
floor_inplace = tensor.floor
trunc_inplace = tensor.trunc
round_half_to_even_inplace = tensor.round_half_to_even
round_half_away_from_zero_inplace = tensor.round_half_away_from_zero
sqr_inplace = tensor.sqr
sqrt_inplace = tensor.sqrt
deg2rad_inplace = tensor.deg2rad
rad2deg_inplace = tensor.rad2deg
cos_inplace = tensor.cos
arccos_inplace = tensor.arccos
sin_inplace = tensor.sin
arcsin_inplace = tensor.arcsin
tan_inplace = tensor.tan
arctan_inplace = tensor.arctan
arctan2_inplace = tensor.arctan2
cosh_inplace = tensor.cosh
arccosh_inplace = tensor.arccosh
sinh_inplace = tensor.sinh
arcsinh_inplace = tensor.arcsinh
tanh_inplace = tensor.tanh
arctanh_inplace = tensor.arctanh
erf_inplace = tensor.erf
erfc_inplace = tensor.erfc
real_inplace = tensor.real
imag_inplace = tensor.imag
angle_inplace = tensor.angle
conj_inplace = tensor.conj
complex_from_polar_inplace = tensor.complex_from_polar
fill_inplace = tensor.fill
second_inplace = tensor.second
maximum_inplace = tensor.maximum
minimum_inplace = tensor.minimum
add_inplace = tensor.add
sub_inplace = tensor.sub
mul_inplace = tensor.mul
true_div_inplace = tensor.true_div
int_div_inplace = tensor.int_div
mod_inplace = tensor.mod
pow_inplace = tensor.pow
transpose_inplace = tensor.transpose

__all__ = [
    "lt_inplace", "gt_inplace", "le_inplace", "ge_inplace", "eq_inplace", "neq_inplace", "isnan_inplace",
    "isinf_inplace", "switch_inplace", "or__inplace", "and__inplace", "xor_inplace", "invert_inplace",
    "abs__inplace", "exp_inplace", "exp2_inplace", "expm1_inplace", "neg_inplace", "inv_inplace", "log_inplace",
    "log1p_inplace", "log2_inplace", "log10_inplace", "sgn_inplace", "ceil_inplace", "floor_inplace",
    "trunc_inplace", "round_half_to_even_inplace", "round_half_away_from_zero_inplace", "sqr_inplace",
    "sqrt_inplace", "deg2rad_inplace", "rad2deg_inplace", "cos_inplace", "arccos_inplace", "sin_inplace",
    "arcsin_inplace", "tan_inplace", "arctan_inplace", "arctan2_inplace", "cosh_inplace", "arccosh_inplace",
    "sinh_inplace", "arcsinh_inplace", "tanh_inplace", "arctanh_inplace", "erf_inplace", "erfc_inplace",
    "real_inplace", "imag_inplace", "angle_inplace", "conj_inplace", "complex_from_polar_inplace", "fill_inplace",
    "second_inplace", "maximum_inplace", "minimum_inplace", "add_inplace", "sub_inplace", "mul_inplace",
    "true_div_inplace", "int_div_inplace", "mod_inplace", "pow_inplace", "transpose_inplace",
]  # fmt: skip
