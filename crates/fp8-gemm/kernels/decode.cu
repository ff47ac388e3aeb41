// Y = X·Wᵀ for few tokens. wgmma's M side is W (ROWS_A = 128 rows), its N side the tokens (ROWS_B of them), so that no row of
// the tensor core is wasted on tokens that are not there. Stream-K: the slots of all tiles stand in a row, tiles of m first, and
// each block of the grid takes a range as long as everybody's; schedule::StreamK. So every multiprocessor reads as much of W, and
// its ring runs through from its first slot to its last. A tile that several blocks have a part of is added up in their order by
// the block that comes last: no atomics on numbers.
// Operands as in prefill.cu; the adapter's slots come after the last block of k, and are cut like those.
#ifndef LORA
#define NO_ADAPTER const u32 lora = 0;
#else
#define NO_ADAPTER
#endif

// A slot of a tile.
struct Place {
  u32 tile, slot;
};

DEVICE Place place_at(u64 at, u32 slots) { return {(u32)(at / slots), (u32)(at % slots)}; }
DEVICE Place after(Place p, u32 slots) { return p.slot + 1 < slots ? Place{p.tile, p.slot + 1} : Place{p.tile + 1, 0}; }

KERNEL(THREADS) decode(MAP w, MAP x, MAP x_scales,
#ifdef LORA
                       MAP b, MAP t, u32 lora,
#endif
                       const float* __restrict__ sw, void* __restrict__ y, float* __restrict__ parts, u32* __restrict__ counters,
                       u32 m, u32 n, u32 k, u32 ldy, u32 f32) {
  NO_ADAPTER
  SHARED(shared);
  const u32 warp = uniform(threadIdx.x / 32), lane = lane_id(), group = warp / 4;
  const u32 k_blocks = ceil_div(k, BLOCK), slots = k_blocks + lora, m_tiles = ceil_div(m, ROWS_B);
  const u64 total = (u64)m_tiles * ceil_div(n, ROWS_A) * slots;
  const u64 from = stream_cut(total, gridDim.x, blockIdx.x), to = stream_cut(total, gridDim.x, blockIdx.x + 1);
  Ring r = ring_of(shared);

  if (group == MATH_GROUPS) {
    LESS(PRODUCER_REGISTERS);
    if (warp == MATH_GROUPS * 4 && lane == 0) {
      const u64 weights = m_tiles == 1 ? stream_policy() : normal_policy(), tokens = stay_policy();
      // A full ring of W, which the kernel in front does not write, is on its way before that kernel has ended.
      const u64 early = to - from < STAGES ? to : from + STAGES;
      Place head = place_at(from, slots), tail = head;
      u64 behind = from;  // the first slot without its tokens
      for (u64 at = from; at < to; ++at) {
        PRODUCER_BEFORE(head.slot < k_blocks ? SLOT_BYTES : SLOT_BYTES_LORA);
        const u32 bar = r.full + 8 * r.stage, first_row = head.tile / m_tiles * ROWS_A;
        if (head.slot < k_blocks) tma_load(r.a + r.stage * SLOT_A, &w, bar, head.slot * BLOCK, first_row, weights);
#ifdef LORA
        else tma_load(r.a + r.stage * SLOT_A, &b, bar, (head.slot - k_blocks) * 64, first_row, weights);
#endif
        PRODUCER_AFTER;
        head = after(head, slots);
        if (at + 1 < early) continue;
        if (at + 1 == early) {
          wait_for_previous();
          let_next_start();
        }
        for (; behind <= at; ++behind) {
          const u32 stage = (u32)(behind - from) % STAGES, bar = r.full + 8 * stage, first_token = tail.tile % m_tiles * ROWS_B;
          if (tail.slot < k_blocks) {
            tma_load(r.b + stage * SLOT_B, &x, bar, tail.slot * BLOCK, first_token, tokens);
            tma_load(r.s + stage * SLOT_S, &x_scales, bar, first_token, tail.slot, tokens);
          }
#ifdef LORA
          else tma_load(r.b + stage * SLOT_B, &t, bar, (tail.slot - k_blocks) * 64, first_token, tokens);
#endif
          tail = after(tail, slots);
        }
      }
    }
  } else {
    MORE(MATH_REGISTERS);
    // Whatever is written below is written after a slot was full, so after the kernel in front has ended.
    for (u64 at = from; at < to;) {
      const Place start = place_at(at, slots);
      const u32 end = to - at < slots - start.slot ? start.slot + (u32)(to - at) : slots;
      const u32 first_row = start.tile / m_tiles * ROWS_A, first_token = start.tile % m_tiles * ROWS_B;
      const float* scales = sw + (u64)(first_row / BLOCK) * k_blocks;
      float sum[REGS];
#pragma unroll
      for (u32 c = 0; c < REGS; ++c) sum[c] = 0.f;
      const u32 blocks_end = least(end, k_blocks);
      float scale = start.slot < blocks_end ? __ldg(scales + start.slot) : 0.f;
      for (u32 kb = start.slot; kb < blocks_end; ++kb) {
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
        for (u32 c = 0; c < REGS; ++c) sum[c] = fmaf(both[c / 4 * 2 + (c & 1)], product[c], sum[c]);
        CONSUMER_NEXT;
        scale = next;
      }
#ifdef LORA
      for (u32 slot = start.slot < k_blocks ? k_blocks : start.slot; slot < end; ++slot) {
        CONSUMER_BEFORE;
        slot_expand(r, group * 64, sum);
        CONSUMER_GIVE;
        CONSUMER_NEXT;
      }
#endif
      at += end - start.slot;
      if (end - start.slot < slots) {
        // Others have the rest. A block has at most two such parts: of its first tile, and of a later one.
        // Register c of thread t at c * MATH_THREADS + t of its part: the same thread reads it back, whatever it stands for.
        const u64 begin = (u64)start.tile * slots;
        const u32 first = stream_block(total, gridDim.x, begin), last = stream_block(total, gridDim.x, begin + slots - 1);
        const u32 later = stream_cut(total, gridDim.x, first) < begin;  // the first one's part is not of its first tile
        float* of_tile = parts + threadIdx.x;
        const u32 mine = blockIdx.x * 2 + (blockIdx.x == first ? later : 0);
#pragma unroll
        for (u32 c = 0; c < REGS; ++c) of_tile[((u64)mine * REGS + c) * MATH_THREADS] = sum[c];
        u32* flag = (u32*)(shared + FLAG_AT);
        if (!comes_last(counters + first, last - first + 1, 1, MATH_THREADS, threadIdx.x, flag)) continue;
#pragma unroll
        for (u32 c = 0; c < REGS; ++c) sum[c] = read_through(of_tile + ((u64)(first * 2 + later) * REGS + c) * MATH_THREADS);
#pragma unroll 1
        for (u32 s = first + 1; s <= last; ++s)
#pragma unroll
          for (u32 c = 0; c < REGS; ++c) sum[c] += read_through(of_tile + ((u64)s * 2 * REGS + c) * MATH_THREADS);
      }
      const u32 row = first_row + group * 64 + (warp & 3) * 16 + lane / 4;
#pragma unroll
      for (u32 c = 0; c < REGS; ++c) {
        const u32 token = first_token + c / 4 * 8 + (lane & 3) * 2 + (c & 1), at_row = row + (c & 2 ? 8 : 0);
        if (token < m && at_row < n) store_one(y, f32, (u64)token * ldy + at_row, sum[c]);
      }
    }
  }
}
