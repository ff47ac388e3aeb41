// Y += T·Bᵀ for tokens of different adapters. A block has up to 16 tokens of one adapter (entry {first, count, adapter} of
// `tiles`) and 64 columns of Y. t: [m, ldt] bf16; adapter b: b_of[a] [n, rank_of[a]] bf16, rank a multiple of 8; y: [m, ldy].
// Nothing is `__restrict__`, as in quantize.cu.
KERNEL(128) expand(const u16* t, const u32* tiles, const u64* b_of, const u32* rank_of, void* y, u32 n, u32 ldt, u32 ldy, u32 f32) {
  const u32 warp = threadIdx.x / 32, lane = lane_id();
  wait_for_previous();
  let_next_start();
  const u32 first = tiles[blockIdx.y * 3], count = tiles[blockIdx.y * 3 + 1], adapter = tiles[blockIdx.y * 3 + 2];
  const u32 rank = rank_of[adapter];
  const u16* b = (const u16*)b_of[adapter];
  float sum[2][4] = {};
  for (u32 step = 0; step < rank; step += 16) {
    const u32 r = step + lane % 4 * 2;
    u32 rows[4];
#pragma unroll
    for (u32 q = 0; q < 4; ++q) {  // rows lane/4 and eight below; ranks r and eight beyond
      const u32 row = lane / 4 + (q & 1) * 8, at = r + q / 2 * 8;
      rows[q] = row < count && at < rank ? *(const u32*)(t + (u64)(first + row) * ldt + at) : 0;
    }
#pragma unroll
    for (u32 j = 0; j < 2; ++j) {
      const u32 col = blockIdx.x * 64 + warp * 16 + j * 8 + lane / 4;
      u32 cols[2];
#pragma unroll
      for (u32 h = 0; h < 2; ++h) cols[h] = col < n && r + h * 8 < rank ? *(const u32*)(b + (u64)col * rank + r + h * 8) : 0;
      mma_bf16(sum[j], rows, cols);
    }
  }
#pragma unroll
  for (u32 j = 0; j < 2; ++j)
#pragma unroll
    for (u32 c = 0; c < 4; ++c) {
      const u32 row = lane / 4 + (c & 2 ? 8 : 0), col = blockIdx.x * 64 + warp * 16 + j * 8 + lane % 4 * 2 + (c & 1);
      if (row >= count || col >= n) continue;
      const u64 at = (u64)(first + row) * ldy + col;
      const float before = f32 ? ((float*)y)[at] : from_bf16(((u16*)y)[at]);
      store_one(y, f32, at, before + sum[j][c]);
    }
}
