// Y = X·Wᵀ for few tokens. wgmma's M side is W (ROWS_A = 128 rows), its N side the tokens (ROWS_B of them), so that no row of
// the tensor core is wasted on tokens that are not there. gridDim.x tiles of n, gridDim.y parts of k, gridDim.z tiles of m.
// Parts are written to `parts` and added in their order by the block of a tile that comes last: no atomics on numbers.
// Operands as in prefill.cu; the adapter's slots come after the last part's last block.
KERNEL(THREADS) decode(MAP w, MAP x, MAP x_scales,
#ifdef LORA
                       MAP b, MAP t, u32 lora,
#endif
                       const float* __restrict__ sw, void* __restrict__ y, float* __restrict__ parts, u32* __restrict__ counters,
                       u32 m, u32 n, u32 k, u32 ldy, u32 f32) {
  SHARED(shared);
  const u32 warp = uniform(threadIdx.x / 32), lane = lane_id(), group = warp / 4;
  const u32 k_blocks = ceil_div(k, BLOCK), split = gridDim.y, part = blockIdx.y;
  const u32 from = split_cut(k_blocks, split, part), to = split_cut(k_blocks, split, part + 1);
  const u32 first_row = blockIdx.x * ROWS_A, first_token = blockIdx.z * ROWS_B;
  Ring r = ring_of(shared);

  if (group == MATH_GROUPS) {
    LESS(PRODUCER_REGISTERS);
    if (warp == MATH_GROUPS * 4 && lane == 0) {
      const u64 stream = stream_policy(), stay = stay_policy();
      wait_for_previous();
      for (u32 kb = from; kb < to; ++kb) {
        PRODUCER_BEFORE(SLOT_BYTES);
        const u32 bar = r.full + 8 * r.stage;
        tma_load(r.a + r.stage * SLOT_A, &w, bar, kb * BLOCK, first_row, stream);
        tma_load(r.b + r.stage * SLOT_B, &x, bar, kb * BLOCK, first_token, stay);
        tma_load(r.s + r.stage * SLOT_S, &x_scales, bar, first_token, kb, stay);
        PRODUCER_AFTER;
      }
#ifdef LORA
      for (u32 slot = 0; part == split - 1 && slot < lora; ++slot) {
        PRODUCER_BEFORE(SLOT_BYTES_LORA);
        const u32 bar = r.full + 8 * r.stage;
        tma_load(r.a + r.stage * SLOT_A, &b, bar, slot * 64, first_row, stream);
        tma_load(r.b + r.stage * SLOT_B, &t, bar, slot * 64, first_token, stay);
        PRODUCER_AFTER;
      }
#endif
      let_next_start();
    }
  } else {
    MORE(MATH_REGISTERS);
    wait_for_previous();  // what it wrote to `parts` may still be read by the kernel in front
    const float* scales = sw + (u64)(first_row / BLOCK) * k_blocks;
    float sum[REGS];
#pragma unroll
    for (u32 c = 0; c < REGS; ++c) sum[c] = 0.f;
    float scale = from < to ? __ldg(scales + from) : 0.f;
    for (u32 kb = from; kb < to; ++kb) {
      const float next = kb + 1 < to ? __ldg(scales + kb + 1) : 0.f;
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
      for (u32 c = 0; c < REGS; ++c) sum[c] = fmaf(both[c / 4 * 2 + (c & 1)], product[c], sum[c]);
      CONSUMER_NEXT;
      scale = next;
    }
#ifdef LORA
    for (u32 slot = 0; part == split - 1 && slot < lora; ++slot) {
      CONSUMER_BEFORE;
      slot_expand(r, group * 64, sum);
      CONSUMER_GIVE;
      CONSUMER_NEXT;
    }
#endif
    if (split > 1) {
      // Register c of thread t at c * MATH_THREADS + t of its part: the same thread reads it back, whatever it stands for.
      const u32 tile = blockIdx.z * gridDim.x + blockIdx.x;
      float* mine = parts + (u64)tile * split * (REGS * MATH_THREADS) + threadIdx.x;
#pragma unroll
      for (u32 c = 0; c < REGS; ++c) mine[(part * REGS + c) * MATH_THREADS] = sum[c];
      u32* flag = (u32*)(shared + FLAG_AT);
      if (!comes_last(counters + tile, split, 1, MATH_THREADS, threadIdx.x, flag)) return;
#pragma unroll
      for (u32 c = 0; c < REGS; ++c) sum[c] = read_through(mine + c * MATH_THREADS);
#pragma unroll 1
      for (u32 s = 1; s < split; ++s)
#pragma unroll
        for (u32 c = 0; c < REGS; ++c) sum[c] += read_through(mine + (s * REGS + c) * MATH_THREADS);
    }
    const u32 row = first_row + group * 64 + (warp & 3) * 16 + lane / 4;
#pragma unroll
    for (u32 c = 0; c < REGS; ++c) {
      const u32 token = first_token + c / 4 * 8 + (lane & 3) * 2 + (c & 1), at_row = row + (c & 2 ? 8 : 0);
      if (token < m && at_row < n) store_one(y, f32, (u64)token * ldy + at_row, sum[c]);
    }
  }
}
