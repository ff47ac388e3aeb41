// What GPUs before sm_89 have no instruction for.
// E4M3: nearest even, magnitudes above 448 become 448, and NaN is 0x7f.
DEVICE u8 code_of(float v) {
  const float size = fminf(fabsf(v), 448.f);
  const u8 sign = __float_as_uint(v) >> 24 & 0x80;
  if (v != v) return 0x7f;
  // Below 2^-6 codes are 2^-9 apart, as floats beside 2^14 are; above, all but three bits of the mantissa are rounded away.
  if (size < 0.015625f) return sign | (u8)(__float_as_uint(size + 16384.f) - __float_as_uint(16384.f));
  const u32 bits = __float_as_uint(size);
  return sign | (u8)((bits + 0x7ffff + (bits >> 20 & 1) >> 20) - (120u << 3));
}
