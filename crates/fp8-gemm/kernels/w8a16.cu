// Y = X·Wᵀ for very few tokens with X in BF16, not quantized: a warp has one row of W, and reads it once for TOKENS tokens.
// x: [m, ldx] bf16 with ldx a multiple of 8; w: [n, k] codes with k a multiple of 16, scales sw [n_blocks][k_blocks].
#define TOKENS 4u

// x is not `__restrict__`: the compiler could read it before the kernel in front, which writes it, has ended.
KERNEL(256) w8a16(const u16* x, const u8* __restrict__ w, const float* __restrict__ sw, void* __restrict__ y, u32 m,
                  u32 n, u32 k, u32 ldx, u32 ldy, u32 f32) {
  const u32 row = blockIdx.x * 8 + threadIdx.x / 32, lane = lane_id(), first = blockIdx.y * TOKENS;
  const u32 k_blocks = ceil_div(k, BLOCK);
  if (row >= n) return;
  const float* scales = sw + (u64)(row / BLOCK) * k_blocks;
  float sum[TOKENS] = {};
  wait_for_previous();
#pragma unroll 2
  for (u32 col = lane * 16; col < k; col += 32 * 16) {  // 16 codes a lane: within one block of 128
    const uint4 codes = *(const uint4*)(w + (u64)row * k + col);
    const u32 words[4] = {codes.x, codes.y, codes.z, codes.w};
    float v[16];
#pragma unroll
    for (u32 c = 0; c < 16; c += 2) pair_of_codes((u16)(words[c / 4] >> c % 4 * 8), &v[c], &v[c + 1]);
    const float scale = __ldg(scales + col / BLOCK);
#pragma unroll
    for (u32 token = 0; token < TOKENS; ++token) {
      if (first + token >= m) break;
      const uint4* px = (const uint4*)(x + (u64)(first + token) * ldx + col);
      const uint4 a = px[0], b = px[1];
      const u32 xs[8] = {a.x, a.y, a.z, a.w, b.x, b.y, b.z, b.w};
      float part = 0.f;
#pragma unroll
      for (u32 c = 0; c < 16; ++c) part = fmaf(v[c], from_bf16(xs[c / 2] >> (c & 1) * 16 & 0xffff), part);
      sum[token] = fmaf(scale, part, sum[token]);
    }
  }
  let_next_start();
#pragma unroll
  for (u32 token = 0; token < TOKENS; ++token) {
    for (int mask = 16; mask > 0; mask /= 2) sum[token] += shfl_xor(sum[token], mask);
    if (lane == 0 && first + token < m) store_one(y, f32, (u64)(first + token) * ldy + row, sum[token]);
  }
}
