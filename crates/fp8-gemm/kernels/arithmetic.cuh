// Arithmetic that every kernel uses, without an instruction of its own: the same text on a GPU and on a CPU.
#define BLOCK 128u  // elements that share a scale

DEVICE u32 ceil_div(u32 a, u32 b) { return (a + b - 1) / b; }
DEVICE u32 least(u32 a, u32 b) { return a < b ? a : b; }
DEVICE u32 most(u32 a, u32 b) { return a < b ? b : a; }

// Stream-K: the slots of tiles in a row, cut into one range a worker; schedule::StreamK. Where a worker's range begins, and whose
// range has a slot.
DEVICE u64 stream_cut(u64 total, u32 workers, u32 worker) { return (u64)worker * total / workers; }
DEVICE u32 stream_worker(u64 total, u32 workers, u64 at) { return (u32)(((at + 1) * workers - 1) / total); }

// The first block of k of a part of a split; schedule::split_range.
DEVICE u32 split_cut(u32 k_blocks, u32 split, u32 part) { return (u32)((u64)part * k_blocks / split); }

// Where a tile lies along m and n; schedule::Tiles::at.
DEVICE void tile_at(u32 tile, u32 m_tiles, u32 n_tiles, u32 band, u32* i, u32* j) {
  const u32 in_band = band * n_tiles, first = tile / in_band * band;
  const u32 high = least(m_tiles - first, band), t = tile % in_band;
  *i = first + t % high;
  *j = t / high;
}

// The tiles of a product, and who computes them: blocks or clusters.
struct Tiling {
  u32 m, n, band;  // tiles along m and n, and of m in a band
  u32 slots, cut;  // of a tile; tiles that are cut
  u32 workers;
};

// What a worker computes: a range of the tiles that are cut, and then whole ones in turn; schedule::Work.
struct Work {
  u64 from, to;           // what is left of its range
  u32 whole;              // its next whole tile
  u32 tile, begin, end;   // the slots of a tile that are to be computed now
  u32 i, j;               // where it lies along m and n
};
DEVICE Work work_of(const Tiling& t, u32 worker) {
  const u64 total = (u64)t.cut * t.slots;
  Work w = {stream_cut(total, t.workers, worker), stream_cut(total, t.workers, worker + 1), t.cut + worker, 0, 0, 0, 0, 0};
  return w;
}
DEVICE bool next_work(Work& w, const Tiling& t) {
  if (w.from < w.to) {
    w.tile = (u32)(w.from / t.slots);
    w.begin = (u32)(w.from % t.slots);
    w.end = w.to - w.from < t.slots - w.begin ? w.begin + (u32)(w.to - w.from) : t.slots;
    w.from += w.end - w.begin;
  } else {
    if (w.whole >= t.m * t.n) return false;
    w.tile = w.whole;
    w.begin = 0;
    w.end = t.slots;
    w.whole += t.workers;
  }
  tile_at(w.tile, t.m, t.n, t.band, &w.i, &w.j);
  return true;
}

// One number of Y, in either type.
DEVICE void store_one(void* y, u32 f32, u64 at, float v) {
  if (f32) ((float*)y)[at] = v;
  else ((u16*)y)[at] = (u16)bf16x2(v, 0.f);
}

// Two neighbours of Y of which `cols` exist; one store where their address allows it.
DEVICE void store_pair(void* y, u32 f32, u64 at, float a, float b, u32 cols) {
  if (cols >= 2 && (at & 1) == 0) {
    if (f32) *(float2*)((float*)y + at) = make_float2(a, b);
    else *(u32*)((u16*)y + at) = bf16x2(a, b);
    return;
  }
  if (cols >= 1) store_one(y, f32, at, a);
  if (cols >= 2) store_one(y, f32, at + 1, b);
}

// Eight neighbours of a row of Y in BF16, two in each word, of which `cols` exist; one store where the address allows it.
DEVICE void store_eight(u16* y, const u32 (&v)[4], u32 cols) {
  if (cols >= 8 && ((u64)y & 15) == 0) {
    *(uint4*)y = make_uint4(v[0], v[1], v[2], v[3]);
    return;
  }
#pragma unroll
  for (u32 c = 0; c < 8; ++c)
    if (c < cols) y[c] = (u16)(v[c / 2] >> c % 2 * 16);
}

// A 4 x 4 of words, turned over among the four lanes of a quad: word w of lane l goes to word l of lane w.
DEVICE void turn_quad(u32 (&v)[4], u32 lane) {
#pragma unroll
  for (u32 apart = 1; apart <= 2; apart *= 2)
#pragma unroll
    for (u32 c = 0; c < 4; ++c) {
      if (c & apart) continue;
      const bool high = lane & apart;
      const u32 got = shfl_xor(high ? v[c] : v[c + apart], apart);
      if (high) v[c] = got;
      else v[c + apart] = got;
    }
}

// Parts of a sum that several blocks make, added in their order by whoever comes last: everybody writes its part and calls
// this; the one that gets true may read them all. The counter is zero before and after.
DEVICE bool comes_last(u32* counter, u32 parts, u32 barrier, u32 threads, u32 thread, u32* shared_flag) {
  named_barrier(barrier, threads);
  if (thread == 0) {
    __threadfence();  // the block's part, which the barrier orders before this, is seen before its arrival is
    const bool last = atomicAdd(counter, 1u) == parts - 1;
    __threadfence();  // the others' parts are read after their arrival was
    if (last) *counter = 0;
    *shared_flag = last;
  }
  named_barrier(barrier, threads);
  return *shared_flag;
}
