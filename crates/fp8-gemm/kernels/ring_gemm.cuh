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

// Slots of an adapter where a kernel has none.
#ifdef LORA
#define NO_ADAPTER
#else
#define NO_ADAPTER const u32 lora = 0;
#endif

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

// Adds up a tile that several workers have a part of: mine goes to `parts`; the block that comes last gets true, and the sum of all
// in the order of the workers. A worker has at most two such parts: of its first tile, and of one that it begins and others end,
// so a block has two places, and a counter for the second.
// Registers 4q to 4q + 3 of thread t at q * MATH_THREADS + t of a part: the same thread reads them back, whatever they stand for.
template <u32 W, u32 N>
DEVICE bool add_parts(float (&sum)[W][N], const Tiling& t, const Work& w, float4* parts, u32* counters, u8* shared) {
  const u32 rank = blockIdx.x % CLUSTER, worker = blockIdx.x / CLUSTER;
  const u64 total = (u64)t.cut * t.slots, begin = (u64)w.tile * t.slots;
  const u32 first = stream_worker(total, t.workers, begin), last = stream_worker(total, t.workers, begin + t.slots - 1);
  const u32 later = stream_cut(total, t.workers, first) < begin;  // the first one's part is not of its first tile
  const u64 place = W * N / 4 * MATH_THREADS, step = 2 * CLUSTER * place;  // of a part, and from one worker's to the next one's
  float4* of_others = parts + ((u64)first * CLUSTER + rank) * 2 * place + threadIdx.x;
  float4* of_first = of_others + later * place;
  float4* mine = worker == first ? of_first : of_others + (worker - first) * step;
#pragma unroll
  for (u32 q = 0; q < W * N / 4; ++q) {
    const float* four = sum[q * 4 / N] + q * 4 % N;
    mine[q * MATH_THREADS] = make_float4(four[0], four[1], four[2], four[3]);
  }
  u32* counter = counters + first * CLUSTER + rank;
  if (!comes_last(counter, last - first + 1, 1, MATH_THREADS, threadIdx.x, (u32*)(shared + FLAG_AT))) return false;
#pragma unroll
  for (u32 q = 0; q < W * N; ++q) sum[q / N][q % N] = 0.f;
#pragma unroll(W * N > 16 ? 1 : 4)  // few numbers a part: several parts are on their way at once
  for (u32 s = 0; s <= last - first; ++s) {
    const float4* next = s == 0 ? of_first : of_others + s * step;
#pragma unroll
    for (u32 q = 0; q < W * N / 4; ++q) {
      const float4 four = read_through(next + q * MATH_THREADS);
      float* to = sum[q * 4 / N] + q * 4 % N;
      to[0] += four.x;
      to[1] += four.y;
      to[2] += four.z;
      to[3] += four.w;
    }
  }
  return true;
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
