// X in BF16 to codes and scales of 1 x 128, and T = s·X·Aᵀ of the adapters beside it, because X is read anyway.
// A block has 16 tokens and a part of k. blockIdx.x says which tokens: entry {first, count, adapter} of `tiles`, all of one
// adapter; blockIdx.y which part. Scale = amax / 448 or 1, code = nearest even of x / scale, as block-scale has it.
// x: [m, ldx] bf16; codes: [m, ldq] or null where only T is wanted; scales [k_blocks][scale_stride];
// adapter a: a_of[a] [rank_of[a], k] bf16, rank a multiple of 8 up to 256, 0 for none; t: [m, ldt] bf16.
#define TOKENS 16u
#define PITCH (BLOCK + 8u)
#define STEPS (BLOCK / 16u)
#define RANKS 4u  // groups of 8 of the rank that a warp takes: 8 warps, 256 in all
#define NONE 0xffffffffu

// Nothing is `__restrict__`: it would let the compiler read what the kernel in front writes before that has ended.
KERNEL_BESIDE(256, 2) quantize(const u16* x, u8* codes, float* scales, const u32* tiles, const u64* a_of, const u32* rank_of,
                     const float* factor_of, u16* t, float* parts, u32* counters, u32 k, u32 ldx, u32 ldq,
                     u32 scale_stride, u32 ldt) {
  SHARED_ARRAY(u16, xs, TOKENS * PITCH);
  SHARED_ARRAY(u32, flag, 4);
  const u32 warp = threadIdx.x / 32, lane = lane_id(), k_blocks = ceil_div(k, BLOCK), split = gridDim.y;
  wait_for_previous();
  let_next_start();
  const u32 first = tiles[blockIdx.x * 3], count = tiles[blockIdx.x * 3 + 1], adapter = tiles[blockIdx.x * 3 + 2];
  const u32 rank = adapter == NONE ? 0 : rank_of[adapter];
  const u16* a = adapter == NONE ? (const u16*)0 : (const u16*)a_of[adapter];
  const bool in_fours = k % 4 == 0 && ldx % 4 == 0 && ldq % 4 == 0;  // rows of whole 8 bytes of X and 4 of codes
  float sum[RANKS][4] = {};
  for (u32 kb = split_cut(k_blocks, split, blockIdx.y); kb < split_cut(k_blocks, split, blockIdx.y + 1); ++kb) {
    __syncthreads();
    for (u32 row = warp; row < TOKENS; row += 8) {
      const u32 col = kb * BLOCK + lane * 4;
      u32 four[2] = {0, 0};  // BF16, two in each
      if (row < count) {
        const u16* px = x + (u64)(first + row) * ldx + col;
        if (in_fours && col < k) {
          const uint2 words = *(const uint2*)px;
          four[0] = words.x;
          four[1] = words.y;
        } else {
#pragma unroll
          for (u32 c = 0; c < 4; ++c)
            if (col + c < k) four[c / 2] |= (u32)px[c] << c % 2 * 16;
        }
      }
      *(uint2*)(xs + row * PITCH + lane * 4) = make_uint2(four[0], four[1]);
      float v[4], amax = 0.f;
#pragma unroll
      for (u32 c = 0; c < 4; ++c) {
        v[c] = from_bf16(four[c / 2] >> c % 2 * 16 & 0xffff);
        amax = fmaxf(amax, fabsf(v[c]));
      }
#pragma unroll
      for (int mask = 16; mask > 0; mask /= 2) amax = fmaxf(amax, shfl_xor(amax, mask));
      if (codes == 0 || row >= count) continue;
      float scale = __fdiv_rn(amax, 448.f);
      if (scale == 0.f) scale = 1.f;
      if (lane == 0) scales[(u64)kb * scale_stride + first + row] = scale;
      u32 word = 0;
#pragma unroll
      for (u32 c = 0; c < 4; ++c) word |= (u32)code_of(__fdiv_rn(v[c], scale)) << c * 8;
      u8* to = codes + (u64)(first + row) * ldq + col;
      if (in_fours && col < k) {
        *(u32*)to = word;
      } else {
#pragma unroll
        for (u32 c = 0; c < 4; ++c)
          if (col + c < k) to[c] = (u8)(word >> c * 8);
      }
    }
    __syncthreads();
#pragma unroll
    for (u32 g = 0; g < RANKS; ++g) {
      const u32 r = (g * 8 + warp) * 8 + lane / 4;
      if ((g * 8 + warp) * 8 >= rank) break;  // the same for the whole warp
      // All of A that this block of k takes is on its way before the first of it is multiplied.
      u32 cols[STEPS][2];
#pragma unroll
      for (u32 h = 0; h < STEPS * 2; ++h) {
        const u32 at = kb * BLOCK + h * 8 + lane % 4 * 2;
        const u16* pa = a + (u64)r * k + at;
        if (k % 2 == 0) cols[h / 2][h % 2] = at < k ? read_global(pa) : 0;
        else cols[h / 2][h % 2] = (at < k ? pa[0] : 0) | (u32)(at + 1 < k ? pa[1] : 0) << 16;
      }
#pragma unroll
      for (u32 step = 0; step < STEPS; ++step) {
        const u16* px = xs + lane / 4 * PITCH + step * 16 + lane % 4 * 2;
        const u32 rows[4] = {*(const u32*)px, *(const u32*)(px + 8 * PITCH), *(const u32*)(px + 8), *(const u32*)(px + 8 * PITCH + 8)};
        mma_bf16(sum[g], rows, cols[step]);
      }
    }
  }
  if (rank == 0) return;
  const u32 groups = ceil_div(rank, 64);  // of 64 of the rank: the others are nobody's
  float* mine = parts + (u64)blockIdx.x * split * (RANKS * 4 * 256) + threadIdx.x;
#pragma unroll
  for (u32 c = 0; c < RANKS * 4; ++c)
    if (c / 4 < groups) mine[(blockIdx.y * RANKS * 4 + c) * 256] = sum[c / 4][c % 4];
  if (!comes_last(counters + blockIdx.x, split, 1, 256, threadIdx.x, flag)) return;
#pragma unroll
  for (u32 c = 0; c < RANKS * 4; ++c) sum[c / 4][c % 4] = c / 4 < groups ? read_through(mine + c * 256) : 0.f;
#pragma unroll 4
  for (u32 s = 1; s < split; ++s)
#pragma unroll
    for (u32 c = 0; c < RANKS * 4; ++c)
      if (c / 4 < groups) sum[c / 4][c % 4] += read_through(mine + (s * RANKS * 4 + c) * 256);
  const float factor = factor_of[adapter];
#pragma unroll
  for (u32 c = 0; c < RANKS * 4; ++c) {
    const u32 r = (c / 4 * 8 + warp) * 8 + lane % 4 * 2 + (c & 1), row = lane / 4 + (c & 2 ? 8 : 0);
    if (r < rank && row < count) t[(u64)(first + row) * ldt + r] = (u16)bf16x2(sum[c / 4][c % 4] * factor, 0.f);
  }
}
