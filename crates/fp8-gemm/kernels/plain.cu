// Y = X·Wᵀ by one tile of 64 x 64 a block, for any n and k and for every GPU from sm_80 on: the kernel to read first.
// Codes are decoded to BF16 in shared memory, multiplied by mma.sync, and promoted to f32 every 128 of k.
// x: [m, k] codes, row stride ldx, scales sx [k_blocks][scale_stride]; w: [n, k], scales sw [n_blocks][k_blocks]; y: [m, ldy].
#define TILE 64u
#define STEP 32u            // of k at a time in shared memory
#define PITCH (STEP + 8u)   // BF16 from one row to the next, so that rows lie in different banks

// E4M3 to BF16, exactly. Exponent and mantissa in BF16's place stand for 2^-120 times the value, subnormals too.
DEVICE u16 bf16_of_code(u8 code) {
  if ((code & 0x7f) == 0x7f) return 0x7fc0;
  const float small = __uint_as_float((u32)(code & 0x7f) << 20);
  const float value = small * __uint_as_float((127u + 120u) << 23);
  return (u16)(__float_as_uint(value) >> 16) | (u16)((code & 0x80) << 8);
}

// Rows first.. of a matrix of codes, STEP columns from `col` on, as BF16; zero where there are none.
DEVICE void load_tile(u16* tile, const u8* codes, u64 ld, u32 first, u32 rows, u32 col, u32 cols) {
  for (u32 at = threadIdx.x; at < TILE * STEP; at += 128) {
    const u32 r = at / STEP, c = at % STEP;
    const bool inside = first + r < rows && col + c < cols;
    tile[r * PITCH + c] = inside ? bf16_of_code(codes[(u64)(first + r) * ld + col + c]) : (u16)0;
  }
}

KERNEL(128) plain(const u8* __restrict__ x, const float* __restrict__ sx, const u8* __restrict__ w, const float* __restrict__ sw,
                  void* __restrict__ y, u32 m, u32 n, u32 k, u32 ldx, u32 scale_stride, u32 ldy, u32 f32) {
  SHARED_ARRAY(u16, xs, TILE * PITCH);
  SHARED_ARRAY(u16, ws, TILE * PITCH);
  const u32 warp = threadIdx.x / 32, lane = lane_id(), k_blocks = ceil_div(k, BLOCK);
  const u32 i0 = blockIdx.y * TILE, j0 = blockIdx.x * TILE;
  const u32 wi = warp / 2 * 32, wj = warp % 2 * 32;  // each warp has 32 x 32 of the tile
  float sum[2][4][4] = {};
  for (u32 kb = 0; kb < k_blocks; ++kb) {
    float part[2][4][4] = {};
    for (u32 col = kb * BLOCK; col < least(k, (kb + 1) * BLOCK); col += STEP) {
      __syncthreads();
      load_tile(xs, x, ldx, i0, m, col, k);
      load_tile(ws, w, k, j0, n, col, k);
      __syncthreads();
#pragma unroll
      for (u32 step = 0; step < STEP; step += 16)
#pragma unroll
        for (u32 i = 0; i < 2; ++i) {
          const u16* px = xs + (wi + i * 16 + lane / 4) * PITCH + step + lane % 4 * 2;
          const u32 a[4] = {*(const u32*)px, *(const u32*)(px + 8 * PITCH), *(const u32*)(px + 8), *(const u32*)(px + 8 * PITCH + 8)};
#pragma unroll
          for (u32 j = 0; j < 4; ++j) {
            const u16* pw = ws + (wj + j * 8 + lane / 4) * PITCH + step + lane % 4 * 2;
            const u32 b[2] = {*(const u32*)pw, *(const u32*)(pw + 8)};
            mma_bf16(part[i][j], a, b);
          }
        }
    }
    const float scale = sw[(u64)(j0 / BLOCK) * k_blocks + kb];
#pragma unroll
    for (u32 i = 0; i < 2; ++i)
#pragma unroll
      for (u32 c = 0; c < 4; ++c) {
        const u32 row = i0 + wi + i * 16 + lane / 4 + (c & 2 ? 8 : 0);
        const float both = (row < m ? sx[(u64)kb * scale_stride + row] : 0.f) * scale;
#pragma unroll
        for (u32 j = 0; j < 4; ++j) sum[i][j][c] = fmaf(both, part[i][j][c], sum[i][j][c]);
      }
  }
#pragma unroll
  for (u32 i = 0; i < 2; ++i)
#pragma unroll
    for (u32 j = 0; j < 4; ++j)
#pragma unroll
      for (u32 c = 0; c < 4; c += 2) {
        const u32 row = i0 + wi + i * 16 + lane / 4 + (c & 2 ? 8 : 0), col = j0 + wj + j * 8 + lane % 4 * 2;
        if (row < m && col < n) store_pair(y, f32, (u64)row * ldy + col, sum[i][j][c], sum[i][j][c + 1], n - col);
      }
}
