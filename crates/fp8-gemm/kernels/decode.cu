// Y = X·Wᵀ for few tokens. wgmma's M side is W (ROWS_A = 128 rows), its N side the tokens (ROWS_B of them), so that no row of
// the tensor core is wasted on tokens that are not there. A persistent grid, whose blocks each have their Work, with all tiles of the
// same rows of W behind each other: every multiprocessor reads as much of W as any other, and its ring runs through from its first
// slot to its last. Operands as in prefill.cu.
KERNEL(THREADS) decode(MAP w, MAP x, MAP x_scales,
#ifdef LORA
                       MAP b, MAP t, u32 lora,
#endif
                       const float* __restrict__ sw, void* __restrict__ y, float4* __restrict__ parts, u32* __restrict__ counters,
                       u32 m, u32 n, u32 k, u32 ldy, u32 f32, u32 band, u32 cut) {
  NO_ADAPTER
  SHARED(shared);
  const u32 warp = uniform(threadIdx.x / 32), lane = lane_id(), group = warp / 4;
  const u32 k_blocks = ceil_div(k, BLOCK);
  const Tiling tiling = {ceil_div(m, ROWS_B), ceil_div(n, ROWS_A), band, k_blocks + lora, cut, gridDim.x};
  Work work = work_of(tiling, blockIdx.x);
  if (threadIdx.x == 0) {
    prefetch_map(&w);
    prefetch_map(&x);
    prefetch_map(&x_scales);
  }
  Ring r = ring_of(shared);

  if (group == MATH_GROUPS) {
    LESS(PRODUCER_REGISTERS);
    if (warp == MATH_GROUPS * 4 && lane == 0) {
      const u64 weights = tiling.m == 1 ? stream_policy() : normal_policy(), tokens = stay_policy();
      // Where this block begins before the kernel in front has ended, a full ring of W, which that one does not write, is on its way
      // until it has; the tokens follow.
      Work behind = work;
      u32 ahead = 0, stage = 0;  // slots that have their W and not their tokens, and the place of the first of them
      bool waited = false, more = next_work(work, tiling);
      next_work(behind, tiling);
      while (more) {
        PRODUCER_BEFORE(work.begin < k_blocks ? SLOT_BYTES : SLOT_BYTES_LORA);
        const u32 bar = r.full + 8 * r.stage;
        if (work.begin < k_blocks) tma_load(r.a + r.stage * SLOT_A, &w, bar, work.begin * BLOCK, work.j * ROWS_A, weights);
#ifdef LORA
        else tma_load(r.a + r.stage * SLOT_A, &b, bar, (work.begin - k_blocks) * 64, work.j * ROWS_A, weights);
#endif
        PRODUCER_AFTER;
        ++ahead;
        if (++work.begin == work.end) more = next_work(work, tiling);
        if (!waited && more && ahead < EARLY) continue;
        if (!waited) {
          wait_for_previous();
          let_next_start();
          waited = true;
        }
        for (; ahead > 0; --ahead) {
          const u32 bar = r.full + 8 * stage;
          if (behind.begin < k_blocks) {
            tma_load(r.b + stage * SLOT_B, &x, bar, behind.begin * BLOCK, behind.i * ROWS_B, tokens);
            tma_load(r.s + stage * SLOT_S, &x_scales, bar, behind.i * ROWS_B, behind.begin, tokens);
          }
#ifdef LORA
          else tma_load(r.b + stage * SLOT_B, &t, bar, (behind.begin - k_blocks) * 64, behind.i * ROWS_B, tokens);
#endif
          if (++stage == STAGES) stage = 0;
          if (++behind.begin == behind.end) next_work(behind, tiling);
        }
      }
    }
  } else {
    MORE(MATH_REGISTERS);
    // Whatever is written below is written after a slot was full, so after the kernel in front has ended.
    while (next_work(work, tiling)) {
      const u32 first_row = work.j * ROWS_A, first_token = work.i * ROWS_B;
      const float* scales = sw + (u64)(first_row / BLOCK) * k_blocks;
      float sum[1][REGS];
#pragma unroll
      for (u32 c = 0; c < REGS; ++c) sum[0][c] = 0.f;
      const u32 blocks_end = least(work.end, k_blocks);
      float scale = work.begin < blocks_end ? __ldg(scales + work.begin) : 0.f;
      for (u32 kb = work.begin; kb < blocks_end; ++kb) {
        const float next = kb + 1 < blocks_end ? __ldg(scales + kb + 1) : 0.f;
        CONSUMER_BEFORE;
        float both[REGS / 2];  // weight times token scale; registers c and c + 2 are of one token
#pragma unroll
        for (u32 c = 0; c < REGS / 2; ++c) {
          const u32 token = c / 2 * 8 + (lane & 3) * 2 + (c & 1);
          both[c] = shared_f32(r.s + r.stage * SLOT_S + token * 4) * scale;
        }
        float product[REGS];
        slot_product(r, group * 64, product);
        CONSUMER_GIVE;
#pragma unroll
        for (u32 c = 0; c < REGS; ++c) sum[0][c] = fmaf(both[c / 4 * 2 + (c & 1)], product[c], sum[0][c]);
        CONSUMER_NEXT;
        scale = next;
      }
#ifdef LORA
#pragma unroll 1
      for (u32 slot = most(work.begin, k_blocks); slot < work.end; ++slot) {
        CONSUMER_BEFORE;
        slot_expand(r, group * 64, sum[0]);
        CONSUMER_GIVE;
        CONSUMER_NEXT;
      }
#endif
      if (work.end - work.begin < tiling.slots && !add_parts(sum, tiling, work, parts, counters, shared)) continue;
      const u32 row = first_row + group * 64 + (warp & 3) * 16 + lane / 4;
#pragma unroll
      for (u32 c = 0; c < REGS; ++c) {
        const u32 token = first_token + c / 4 * 8 + (lane & 3) * 2 + (c & 1), at_row = row + (c & 2 ? 8 : 0);
        if (token < m && at_row < n) store_one(y, f32, (u64)token * ldy + at_row, sum[0][c]);
      }
    }
  }
}
