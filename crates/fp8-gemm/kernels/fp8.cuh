// E4M3 by the conversions of sm_89 and later.
// Nearest even, magnitudes above 448 become 448, NaN stays NaN.
DEVICE u8 code_of(float v) {
  u16 r;
  asm("cvt.rn.satfinite.e4m3x2.f32 %0, %1, %2;" : "=h"(r) : "f"(0.f), "f"(v));
  return (u8)r;
}
// Two codes to f32, exactly: the low byte first.
DEVICE void pair_of_codes(u16 codes, float* a, float* b) {
  u32 halves;
  asm("cvt.rn.f16x2.e4m3x2 %0, %1;" : "=r"(halves) : "h"(codes));
  asm("{\n.reg .b16 l, h;\nmov.b32 {l, h}, %2;\ncvt.f32.f16 %0, l;\ncvt.f32.f16 %1, h;\n}" : "=f"(*a), "=f"(*b) : "r"(halves));
}
