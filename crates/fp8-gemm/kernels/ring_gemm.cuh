// What both ring kernels share: the ring in shared memory, and a 64-row product of one slot.
// A slot is ROWS_A rows of 128 bytes, ROWS_B rows of 128 bytes, and the scales of SCALES tokens. With an adapter the same
// 128 bytes of a row are 64 BF16 of the rank, and there are no scales.
#define SLOT_A (ROWS_A * 128u)
#define SLOT_B (ROWS_B * 128u)
#define SLOT_S (SCALES * 4u < 128u ? 128u : SCALES * 4u)  // TMA writes to multiples of 128
#define SLOT_BYTES (SLOT_A + SLOT_B + SCALES * 4u)        // what TMA brings
#define SLOT_BYTES_LORA (SLOT_A + SLOT_B)
#define FLAG_AT (STAGES * (SLOT_A + SLOT_B + SLOT_S + 16))  // 16 bytes behind the barriers
#define REGS (ROWS_B / 2)  // registers of a thread for 64 x ROWS_B
#define MATH_THREADS (MATH_GROUPS * 128)
#define THREADS (MATH_THREADS + 128)
// Blocks of a cluster have the same tokens and neighbouring rows of W. Each brings its own W, and its share of X to all of them.
#define SHARE_A (ROWS_A / CLUSTER)
#define SHARE_S (SCALES / CLUSTER)
#define ALL_BLOCKS ((1 << CLUSTER) - 1)

struct Ring {
  u32 a, b, s, full, empty;  // of the first slot
  u32 stage, phase;
};

// All threads whose barriers meet: those of the block, or of the cluster.
DEVICE void sync_blocks() {
  if (CLUSTER > 1) cluster_sync();
  else __syncthreads();
}

DEVICE Ring ring_of(const void* shared) {
  Ring r;
  r.a = shared_address(shared);
  r.b = r.a + STAGES * SLOT_A;
  r.s = r.b + STAGES * SLOT_B;
  r.full = r.s + STAGES * SLOT_S;
  r.empty = r.full + STAGES * 8;
  r.stage = 0;
  r.phase = 0;
  if (threadIdx.x == 0) {
    for (u32 i = 0; i < STAGES; ++i) {
      mb_init(r.full + 8 * i, FULL_ARRIVALS);
      mb_init(r.empty + 8 * i, EMPTY_ARRIVALS);
    }
    mb_init_done();
  }
  sync_blocks();
  return r;
}

// out = rows `first`.. of the slot's A times its B, 128 of k, from zero.
DEVICE void slot_product(const Ring& r, u32 first, float (&out)[REGS]) {
  const u64 a = operand(r.a + r.stage * SLOT_A + first * 128), b = operand(r.b + r.stage * SLOT_B);
  pin(out);
  wgmma_fence();
#pragma unroll
  for (u32 step = 0; step < 4; ++step) wgmma_e4m3(out, a + 2 * step, b + 2 * step, step != 0);
  wgmma_commit();
  pin(out);
  wgmma_wait();
  pin(out);  // nothing is computed of it before the wait
}

#ifdef LORA
// sum += rows `first`.. of the slot's T or B times the other, 64 of the rank.
DEVICE void slot_expand(const Ring& r, u32 first, float (&sum)[REGS]) {
  const u64 a = operand(r.a + r.stage * SLOT_A + first * 128), b = operand(r.b + r.stage * SLOT_B);
  pin(sum);
  wgmma_fence();
#pragma unroll
  for (u32 step = 0; step < 4; ++step) wgmma_bf16(sum, a + 2 * step, b + 2 * step, 1);
  wgmma_commit();
  pin(sum);
  wgmma_wait();
  pin(sum);
}
#endif
