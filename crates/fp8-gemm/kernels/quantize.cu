// X in BF16 to codes and scales of 1 x 128, and T = s·X·Aᵀ of the adapters beside it, because X is read anyway.
// A block has 16 tokens and a part of k. blockIdx.x says which tokens: entry {first, count, adapter} of `tiles`, all of one
// adapter; blockIdx.y which part. Scale = amax / 448 or 1, code = nearest even of x / scale, as block-scale has it.
// x: [m, ldx] bf16; codes: [m, ldq] or null where only T is wanted; scales [k_blocks][scale_stride];
// adapter a: a_of[a] [rank_of[a], k] bf16, rank a multiple of 8 up to 256, 0 for none; t: [m, ldt] bf16.
#define TOKENS 16u
#define PITCH (BLOCK + 8u)
#define RANKS 4u  // groups of 8 of the rank that a warp takes: 8 warps, 256 in all
#define NONE 0xffffffffu

KERNEL(256) quantize(const u16* __restrict__ x, u8* __restrict__ codes, float* __restrict__ scales, const u32* __restrict__ tiles,
                     const u64* __restrict__ a_of, const u32* __restrict__ rank_of, const float* __restrict__ factor_of,
                     u16* __restrict__ t, float* __restrict__ parts, u32* __restrict__ counters, u32 k, u32 ldx, u32 ldq,
                     u32 scale_stride, u32 ldt) {
  SHARED_ARRAY(u16, xs, TOKENS * PITCH);
  SHARED_ARRAY(u32, flag, 4);
  const u32 warp = threadIdx.x / 32, lane = lane_id(), k_blocks = ceil_div(k, BLOCK), split = gridDim.y;
  wait_for_previous();
  let_next_start();
  const u32 first = tiles[blockIdx.x * 3], count = tiles[blockIdx.x * 3 + 1], adapter = tiles[blockIdx.x * 3 + 2];
  const u32 rank = adapter == NONE ? 0 : rank_of[adapter];
  const u16* a = adapter == NONE ? (const u16*)0 : (const u16*)a_of[adapter];
  float sum[RANKS][4] = {};
  for (u32 kb = split_cut(k_blocks, split, blockIdx.y); kb < split_cut(k_blocks, split, blockIdx.y + 1); ++kb) {
    __syncthreads();
    for (u32 row = warp; row < TOKENS; row += 8) {
      float v[4], amax = 0.f;
#pragma unroll
      for (u32 c = 0; c < 4; ++c) {
        const u32 col = kb * BLOCK + lane * 4 + c;
        const u16 bits = row < count && col < k ? x[(u64)(first + row) * ldx + col] : (u16)0;
        xs[row * PITCH + lane * 4 + c] = bits;
        v[c] = from_bf16(bits);
        amax = fmaxf(amax, fabsf(v[c]));
      }
#pragma unroll
      for (int mask = 16; mask > 0; mask /= 2) amax = fmaxf(amax, shfl_xor(amax, mask));
      if (codes == 0 || row >= count) continue;
      float scale = __fdiv_rn(amax, 448.f);
      if (scale == 0.f) scale = 1.f;
      if (lane == 0) scales[(u64)kb * scale_stride + first + row] = scale;
#pragma unroll
      for (u32 c = 0; c < 4; ++c) {
        const u32 col = kb * BLOCK + lane * 4 + c;
        if (col < k) codes[(u64)(first + row) * ldq + col] = code_of(__fdiv_rn(v[c], scale));
      }
    }
    __syncthreads();
    for (u32 step = 0; step < BLOCK; step += 16) {
      const u16* px = xs + lane / 4 * PITCH + step + lane % 4 * 2;
      const u32 rows[4] = {*(const u32*)px, *(const u32*)(px + 8 * PITCH), *(const u32*)(px + 8), *(const u32*)(px + 8 * PITCH + 8)};
#pragma unroll
      for (u32 g = 0; g < RANKS; ++g) {
        const u32 r = (g * 8 + warp) * 8 + lane / 4, col = kb * BLOCK + step + lane % 4 * 2;
        if ((g * 8 + warp) * 8 >= rank) break;  // the same for the whole warp
        u32 cols[2];
#pragma unroll
        for (u32 h = 0; h < 2; ++h) {
          const u32 at = col + h * 8;
          const u32 low = at < k ? a[(u64)r * k + at] : 0, high = at + 1 < k ? a[(u64)r * k + at + 1] : 0;
          cols[h] = low | high << 16;
        }
        mma_bf16(sum[g], rows, cols);
      }
    }
  }
  if (rank == 0) return;
  float* mine = parts + (u64)blockIdx.x * split * (RANKS * 4 * 256) + threadIdx.x;
#pragma unroll
  for (u32 c = 0; c < RANKS * 4; ++c) mine[(blockIdx.y * RANKS * 4 + c) * 256] = sum[c / 4][c % 4];
  if (!comes_last(counters + blockIdx.x, split, 1, 256, threadIdx.x, flag)) return;
#pragma unroll
  for (u32 c = 0; c < RANKS * 4; ++c) sum[c / 4][c % 4] = read_through(mine + c * 256);
#pragma unroll 1
  for (u32 s = 1; s < split; ++s)
#pragma unroll
    for (u32 c = 0; c < RANKS * 4; ++c) sum[c / 4][c % 4] += read_through(mine + (s * RANKS * 4 + c) * 256);
  const float factor = factor_of[adapter];
#pragma unroll
  for (u32 c = 0; c < RANKS * 4; ++c) {
    const u32 r = (c / 4 * 8 + warp) * 8 + lane % 4 * 2 + (c & 1), row = lane / 4 + (c & 2 ? 8 : 0);
    if (r < rank && row < count) t[(u64)(first + row) * ldt + r] = (u16)bf16x2(sum[c / 4][c % 4] * factor, 0.f);
  }
}
