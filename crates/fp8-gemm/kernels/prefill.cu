// Y = X·Wᵀ for many tokens. A persistent grid, whose clusters each have their Work; one warp-group brings slots of 128 of k by TMA,
// MATH_GROUPS others multiply.
// wgmma's M side is X (ROWS_A tokens), its N side is W (ROWS_B rows), which divides 128, so a tile has one weight scale a block.
// The blocks of a cluster take neighbouring tiles of n and share their X.
// x: [m, k] codes, scales [k_blocks][m up to 4]; w: [n, k] codes, scales sw [n_blocks][k_blocks]; y: [m, ldy] bf16 or f32.
// With LORA: t [m, rank] and b [n, rank] BF16, `lora` slots of 64 of the rank after the last block of k.
// `cut` tiles, of which two parts a block go to `parts`; `counters`, one a block, are zero before and after.
#define ROWS_OF_GROUP (ROWS_A / MATH_GROUPS)
#define WAVES (ROWS_OF_GROUP / 64)

// X and its scales, T: this block's share of it, to every block of the cluster.
DEVICE void bring_shared(u32 to, const TMap* map, u32 bar, u32 x, u32 y, u64 policy) {
  if (CLUSTER > 1) tma_load_all(to, map, bar, x, y, ALL_BLOCKS, policy);
  else tma_load(to, map, bar, x, y, policy);
}

KERNEL(THREADS) prefill(MAP x, MAP w, MAP x_scales,
#ifdef LORA
                        MAP t, MAP b, u32 lora,
#endif
                        const float* __restrict__ sw, void* __restrict__ y, float4* __restrict__ parts, u32* __restrict__ counters,
                        u32 m, u32 n, u32 k, u32 ldy, u32 f32, u32 band, u32 cut) {
  NO_ADAPTER
  SHARED(shared);
  const u32 warp = uniform(threadIdx.x / 32), lane = lane_id(), group = warp / 4;
  const u32 rank = blockIdx.x % CLUSTER, k_blocks = ceil_div(k, BLOCK);
  const Tiling tiling = {ceil_div(m, ROWS_A), ceil_div(n, ROWS_B * CLUSTER), band, k_blocks + lora, cut, gridDim.x / CLUSTER};
  Work work = work_of(tiling, blockIdx.x / CLUSTER);
  if (threadIdx.x == 0) {
    prefetch_map(&x);
    prefetch_map(&w);
    prefetch_map(&x_scales);
  }
  Ring r = ring_of(shared);
  wait_for_previous();
  let_next_start();

  if (group == MATH_GROUPS) {
    LESS(PRODUCER_REGISTERS);
    if (warp == MATH_GROUPS * 4 && lane == 0) {
      const u64 normal = normal_policy();
      const u32 to_a = r.a + rank * SHARE_A * 128, to_s = r.s + rank * SHARE_S * 4;
      while (next_work(work, tiling)) {
        const u32 first_token = work.i * ROWS_A + rank * SHARE_A, first_row = (work.j * CLUSTER + rank) * ROWS_B;
#pragma unroll 1
        for (u32 kb = work.begin; kb < least(work.end, k_blocks); ++kb) {
          PRODUCER_BEFORE(SLOT_BYTES);
          const u32 bar = r.full + 8 * r.stage;
          bring_shared(to_a + r.stage * SLOT_A, &x, bar, kb * BLOCK, first_token, normal);
          tma_load(r.b + r.stage * SLOT_B, &w, bar, kb * BLOCK, first_row, normal);
          bring_shared(to_s + r.stage * SLOT_S, &x_scales, bar, first_token, kb, normal);
          PRODUCER_AFTER;
        }
#ifdef LORA
#pragma unroll 1
        for (u32 slot = most(work.begin, k_blocks); slot < work.end; ++slot) {
          PRODUCER_BEFORE(SLOT_BYTES_LORA);
          const u32 bar = r.full + 8 * r.stage;
          bring_shared(to_a + r.stage * SLOT_A, &t, bar, (slot - k_blocks) * 64, first_token, normal);
          tma_load(r.b + r.stage * SLOT_B, &b, bar, (slot - k_blocks) * 64, first_row, normal);
          PRODUCER_AFTER;
        }
#endif
      }
    }
  } else {
    MORE(MATH_REGISTERS);
    const u32 first = group * ROWS_OF_GROUP;             // of this group's rows in the tile
    const u32 row = first + (warp & 3) * 16 + lane / 4;  // of registers 0 and 1; 2 and 3 are eight below
    while (next_work(work, tiling)) {
      const u32 first_row = (work.j * CLUSTER + rank) * ROWS_B;  // beyond n in the last block of a cluster, maybe
      const float* scales = sw + (u64)(least(first_row, n - 1) / BLOCK) * k_blocks;
      float sum[WAVES][REGS];
#pragma unroll
      for (u32 wave = 0; wave < WAVES; ++wave)
#pragma unroll
        for (u32 c = 0; c < REGS; ++c) sum[wave][c] = 0.f;
      const u32 blocks_end = least(work.end, k_blocks);
      float scale = work.begin < blocks_end ? __ldg(scales + work.begin) : 0.f;
      for (u32 kb = work.begin; kb < blocks_end; ++kb) {
        const float next = kb + 1 < blocks_end ? __ldg(scales + kb + 1) : 0.f;
        CONSUMER_BEFORE;
        float high[WAVES], low[WAVES];  // scales of the thread's two rows; read before wgmma, so before the slot is given back
#pragma unroll
        for (u32 wave = 0; wave < WAVES; ++wave) {
          high[wave] = shared_f32(r.s + r.stage * SLOT_S + (row + wave * 64) * 4) * scale;
          low[wave] = shared_f32(r.s + r.stage * SLOT_S + (row + wave * 64 + 8) * 4) * scale;
        }
#pragma unroll
        for (u32 wave = 0; wave < WAVES; ++wave) {
          float part[REGS];
          slot_product(r, first + wave * 64, part);
          if (wave == WAVES - 1) { CONSUMER_GIVE; }
#pragma unroll
          for (u32 c = 0; c < REGS; ++c) sum[wave][c] = fmaf(c & 2 ? low[wave] : high[wave], part[c], sum[wave][c]);
        }
        CONSUMER_NEXT;
        scale = next;
      }
#ifdef LORA
#pragma unroll 1
      for (u32 slot = most(work.begin, k_blocks); slot < work.end; ++slot) {
        CONSUMER_BEFORE;
#pragma unroll
        for (u32 wave = 0; wave < WAVES; ++wave) slot_expand(r, first + wave * 64, sum[wave]);
        CONSUMER_GIVE;
        CONSUMER_NEXT;
      }
#endif
      if (work.end - work.begin < tiling.slots && !add_parts(sum, tiling, work, parts, counters, shared)) continue;
      // 32 columns of a row at a time: a lane has two of each eight, and in BF16 the quad turns them so that it has eight in a row.
#pragma unroll
      for (u32 wave = 0; wave < WAVES; ++wave)
#pragma unroll
        for (u32 half = 0; half < 2; ++half)
#pragma unroll
          for (u32 g = 0; g < ROWS_B / 32; ++g) {
            const u32 at_row = work.i * ROWS_A + row + wave * 64 + half * 8, col = first_row + g * 32;
            const float* mine = sum[wave] + g * 16 + half * 2;
            if (f32) {
#pragma unroll
              for (u32 q = 0; q < 4; ++q) {
                const u32 at_col = col + q * 8 + (lane & 3) * 2;
                if (at_row < m && at_col < n) store_pair(y, f32, (u64)at_row * ldy + at_col, mine[q * 4], mine[q * 4 + 1], n - at_col);
              }
              continue;
            }
            u32 eight[4];
#pragma unroll
            for (u32 q = 0; q < 4; ++q) eight[q] = bf16x2(mine[q * 4], mine[q * 4 + 1]);
            turn_quad(eight, lane);
            const u32 at_col = col + (lane & 3) * 8;
            if (at_row < m && at_col < n) store_eight((u16*)y + (u64)at_row * ldy + at_col, eight, n - at_col);
          }
    }
  }
  if (CLUSTER > 1) cluster_sync();  // nobody ends while another still writes to it or arrives at its barriers
}
