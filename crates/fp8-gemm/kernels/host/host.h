// The multiprocessors of a cluster in software, enough to run the kernels' text on a CPU: threads are fibers that are interleaved at random,
// copies of TMA arrive at random times, wgmma reads shared memory as late as it may, at the wait. Wrong phases deadlock, early
// reads and late ones give other numbers, and what nobody wrote is NaN. Orders and values only: no time, no registers.
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <map>
#include <vector>
#include <ucontext.h>

typedef unsigned char u8;
typedef unsigned short u16;
typedef unsigned int u32;
typedef unsigned long long u64;

#define DEVICE static inline
#define KERNEL(threads) static void
#define KERNEL_BESIDE(threads, blocks) static void
#define SHARED(name) u8* name = host::shared[host::current->cta]
#define SHARED_ARRAY(type, name, count) static type name[count]
#define MAP const TMap
#define LESS(n)
#define MORE(n)
#define __launch_bounds__(...)

struct TMap { u8* data; u32 bytes; u64 rows, cols, stride; u32 box_rows, box_cols, swizzled; };
struct float2 { float x, y; };
struct uint2 { u32 x, y; };
struct float4 { float x, y, z, w; };
struct uint4 { u32 x, y, z, w; };
struct Dim { u32 x, y, z; };
static inline float2 make_float2(float a, float b) { return {a, b}; }
static inline uint2 make_uint2(u32 x, u32 y) { return {x, y}; }
static inline float4 make_float4(float x, float y, float z, float w) { return {x, y, z, w}; }
static inline uint4 make_uint4(u32 x, u32 y, u32 z, u32 w) { return {x, y, z, w}; }
static inline float __uint_as_float(u32 v) { float f; memcpy(&f, &v, 4); return f; }
static inline u32 __float_as_uint(float f) { u32 v; memcpy(&v, &f, 4); return v; }
static inline float __fdiv_rn(float a, float b) { return a / b; }
template <class T> static inline T __ldg(const T* p) { return *p; }

namespace host {
static const u32 SHARED_BYTES = 232448, MOST_BLOCKS = 8;
static const u32 OF_BLOCK = 1 << 20;  // from one block's barriers and gates to the next one's
alignas(1024) static u8 shared[MOST_BLOCKS][SHARED_BYTES / 1024 * 1024];

[[noreturn]] static void fail(const char* what) {
  fprintf(stderr, "%s\n", what);
  exit(3);
}

// Everything random comes from here.
static u64 random_state;
static u32 random_below(u32 n) {
  random_state ^= random_state << 13;
  random_state ^= random_state >> 7;
  random_state ^= random_state << 17;
  return (u32)(random_state >> 11) % n;
}

struct Wgmma { float* d; u64 a, b; int add; u32 n; bool bf16; };
enum Waits { NOTHING, ROUND, PARITY, PREVIOUS };
struct Fiber { ucontext_t context; Dim thread, block; u32 cta; bool ended; std::vector<Wgmma> queued; Waits waits; u32 key, value; };
struct Copy { TMap map; u32 cta, to, bar; int x, y; };
struct Mbarrier { u32 parity, count, pending; long long bytes; };
struct Gate { u32 here, round; };

static std::vector<Fiber> fibers;
static Fiber* current;
static ucontext_t scheduler;
static Dim grid;
static u32 cluster_blocks, block_threads;
static std::vector<u32> alive;     // threads of each block that have not ended
static bool previous_done = false;  // whether the kernel in front has ended; its results are there from then on
static std::vector<Copy> copies;
static std::map<u32, Mbarrier> barriers;
static std::map<u32, Gate> gates;
static u64 progress;

// Lets others run until a gate has another round, or a barrier another parity.
static void sleep_while(Waits waits, u32 key, u32 value) {
  Fiber* me = current;
  me->waits = waits;
  me->key = key;
  me->value = value;
  swapcontext(&me->context, &scheduler);
  me->waits = NOTHING;
  ++progress;
}
static bool ready(const Fiber& f) {
  if (f.waits == ROUND) return gates[f.key].round != f.value;
  if (f.waits == PARITY) return barriers[f.key].parity != f.value;
  if (f.waits == PREVIOUS) return previous_done;
  return true;
}

// Waits until `threads` threads have come to the gate.
static void gate(u32 id, u32 threads) {
  Gate& g = gates[id];
  const u32 round = g.round;
  ++progress;
  if (++g.here == threads) {
    g.here = 0;
    ++g.round;
    return;
  }
  sleep_while(ROUND, id, round);
}
static u32 here() { return current->cta * OF_BLOCK; }
static u32 warp() { return (current->cta * block_threads + current->thread.x) / 32; }  // of the cluster
static void warp_gate() { gate(1000 + warp(), 32); }

static Mbarrier& barrier(u32 cta, u32 at) {
  auto found = barriers.find(cta * OF_BLOCK + at);
  if (found == barriers.end() || at % 8) fail("a barrier that was not made");
  return found->second;
}
static void end_phase(Mbarrier& b) {
  ++progress;
  if (b.pending == 0 && b.bytes == 0) {
    b.parity ^= 1;
    b.pending = b.count;
  }
}
static void arrive(u32 cta, u32 at, u32 bytes) {
  if (alive[cta] == 0) fail("an arrival at a block that has ended");
  Mbarrier& b = barrier(cta, at);
  if (b.pending == 0) fail("more arrivals than a phase has");
  b.bytes += bytes;
  --b.pending;
  end_phase(b);
}

static u32 swizzle(u32 at) { return at ^ ((at >> 7 & 7) << 4); }

// The box of a copy into shared memory, zeros where the matrix ends.
static void bring(const Copy& c) {
  const TMap& m = c.map;
  const u32 wide = m.box_cols * m.bytes;
  if (c.to % (m.swizzled ? 1024 : 128) || wide % 16 || (m.swizzled && wide != 128)) fail("a box that TMA cannot bring");
  if (c.to + m.box_rows * wide > SHARED_BYTES) fail("a box beyond shared memory");
  if (alive[c.cta] == 0) fail("a copy to a block that has ended");
  for (u32 r = 0; r < m.box_rows; ++r)
    for (u32 i = 0; i < wide; ++i) {
      const long long row = (long long)c.y + r, col = (long long)c.x + i / m.bytes;
      const bool inside = row >= 0 && row < (long long)m.rows && col >= 0 && col < (long long)m.cols;
      const u32 to = c.to + r * wide + i;
      shared[c.cta][m.swizzled ? swizzle(to) : to] = inside ? m.data[(row * m.stride + col) * m.bytes + i % m.bytes] : 0;
    }
  Mbarrier& b = barrier(c.cta, c.bar);
  b.bytes -= (long long)m.box_rows * wide;
  end_phase(b);
}

// A byte of an operand, by its descriptor.
static u8 operand_byte(u32 cta, u64 d, u32 row, u32 byte) {
  if (d >> 62 != 1) fail("a descriptor without the 128-byte swizzle");
  const u32 start = (d & 0x3fff) << 4, group = (d >> 32 & 0x3fff) << 4;
  return shared[cta][swizzle(start + row / 8 * group + row % 8 * 128 + byte)];
}

// x = significand * 2^exponent.
struct Term { long long significand; int exponent, written; };  // written: the exponent that it is aligned by
static Term term_of_code(u8 c) {
  const int e = c >> 3 & 15, m = c & 7;
  const long long s = e ? 8 + m : m;
  return {c & 128 ? -s : s, (e ? e : 1) - 10, (e ? e : 1) - 7};
}
static Term term_of_float(float f, int drop) {
  const u32 v = __float_as_uint(f);
  const int e = v >> 23 & 255;
  const long long s = ((v & 0x7fffff) | (e ? 0x800000 : 0)) >> drop;
  return {v >> 31 ? -s : s, (e ? e : 1) - 150 + drop, (e ? e : 1) - 127};
}
// v * 2^by, truncated towards zero.
static long long scaled(long long v, int by) {
  if (by >= 0 || v == 0) return v << (v == 0 ? 0 : by);
  if (by <= -63) return 0;
  return v < 0 ? -(-v >> -by) : v >> -by;
}
// The fused sum of the published model: aligned to the largest exponent with `keep` bits, truncated to `mantissa` bits.
static float fused(const Term* terms, u32 count, int keep, int mantissa) {
  int top = -100000;
  for (u32 i = 0; i < count; ++i) if (terms[i].significand) top = std::max(top, terms[i].written);
  if (top == -100000) return 0.f;
  long long sum = 0;
  for (u32 i = 0; i < count; ++i) sum += scaled(terms[i].significand, terms[i].exponent - top + keep);
  if (sum == 0) return 0.f;
  const int cut = 63 - __builtin_clzll(sum < 0 ? -sum : sum) - mantissa;
  const long long kept = cut > 0 ? scaled(scaled(sum, -cut), cut) : sum;
  return (float)std::ldexp((double)kept, top - keep);
}
static float dot(const Wgmma& op, const u8* a, const u8* b, float c) {
  Term terms[33];
  u32 count = 1;
  const float nan = __uint_as_float(0x7fffffff);
  if (c != c) return nan;
  terms[0] = term_of_float(c, 0);
  for (u32 k = 0; k < 32; k += op.bf16 ? 2 : 1) {
    Term x, y;
    if (op.bf16) {
      const u32 va = a[k] | a[k + 1] << 8, vb = b[k] | b[k + 1] << 8;
      if ((va & 0x7f80) == 0x7f80 || (vb & 0x7f80) == 0x7f80) return nan;
      x = term_of_float(__uint_as_float(va << 16), 16);
      y = term_of_float(__uint_as_float(vb << 16), 16);
    } else {
      if ((a[k] & 127) == 127 || (b[k] & 127) == 127) return nan;
      x = term_of_code(a[k]);
      y = term_of_code(b[k]);
    }
    terms[count++] = {x.significand * y.significand, x.exponent + y.exponent, x.written + y.written};
  }
  return op.bf16 ? fused(terms, count, 25, 23) : fused(terms, count, 13, 13);
}

// All that a warp-group of the running thread's block has queued, when its last thread waits for it.
static void multiply(u32 group) {
  const u32 cta = current->cta;
  Fiber* threads = &fibers[cta * block_threads + group * 128];
  for (size_t q = 0; q < threads[0].queued.size(); ++q) {
    const Wgmma op = threads[0].queued[q];
    static u8 as[64][32], bs[256][32];
    for (u32 byte = 0; byte < 32; ++byte) {
      for (u32 row = 0; row < 64; ++row) as[row][byte] = operand_byte(cta, op.a, row, byte);
      for (u32 col = 0; col < op.n; ++col) bs[col][byte] = operand_byte(cta, op.b, col, byte);
    }
    for (u32 t = 0; t < 128; ++t) {
      if (threads[t].queued.size() <= q) fail("a wgmma that not all threads came to");
      const Wgmma& o = threads[t].queued[q];
      if (o.a != op.a || o.b != op.b || o.add != op.add) fail("a wgmma whose threads disagree");
    }
    for (u32 t = 0; t < 128; ++t)
      for (u32 i = 0; i < op.n / 2; ++i) {
        const u32 row = t / 32 * 16 + t % 32 / 4 + i / 2 % 2 * 8, col = i / 4 * 8 + t % 4 * 2 + i % 2;
        float& r = threads[t].queued[q].d[i];
        r = dot(op, as[row], bs[col], op.add ? r : 0.f);
      }
  }
  for (u32 t = 0; t < 128; ++t) threads[t].queued.clear();
}
}  // namespace host

#define threadIdx (host::current->thread)
#define blockIdx (host::current->block)
#define gridDim (host::grid)

DEVICE void named_barrier(u32 id, u32 threads) { host::gate(host::here() + id, threads); }
DEVICE void __syncthreads() { host::gate(host::here() + 99, host::block_threads); }
DEVICE void cluster_sync() { host::gate(98, host::block_threads * host::cluster_blocks); }
DEVICE void __syncwarp() { host::warp_gate(); }
DEVICE void __threadfence() {}
DEVICE u32 atomicAdd(u32* p, u32 v) { const u32 before = *p; *p += v; return before; }
DEVICE float read_through(const float* p) { return *p; }
DEVICE float4 read_through(const float4* p) { return *p; }
DEVICE u32 read_global(const void* p) { u32 v; memcpy(&v, p, 4); return v; }
DEVICE u32 lane_id() { return threadIdx.x & 31; }
DEVICE u32 uniform(u32 v) { return v; }
template <class T> DEVICE T shfl_xor(T v, u32 mask) {
  static T values[256][32];
  values[host::warp()][lane_id()] = v;
  host::warp_gate();
  const T other = values[host::warp()][lane_id() ^ mask];
  host::warp_gate();
  return other;
}

DEVICE u32 bf16_bits(float f) {
  const u32 v = __float_as_uint(f);
  if (f != f) return 0x7fff;
  return (v + 0x7fff + (v >> 16 & 1)) >> 16;
}
DEVICE u32 bf16x2(float a, float b) { return bf16_bits(a) | bf16_bits(b) << 16; }
DEVICE float from_bf16(u32 bits) { return __uint_as_float(bits << 16); }

// mma.sync m16n8k16 with sums in f64: near what a GPU gives, not bit for bit.
DEVICE void mma_bf16(float (&d)[4], const u32 (&a)[4], const u32 (&b)[2]) {
  static u32 as[256][32][4], bs[256][32][2];
  const u32 warp = host::warp(), lane = lane_id();
  memcpy(as[warp][lane], a, sizeof a);
  memcpy(bs[warp][lane], b, sizeof b);
  host::warp_gate();
  for (u32 c = 0; c < 4; ++c) {
    const u32 row = lane / 4 + c / 2 * 8, col = lane % 4 * 2 + c % 2;
    double sum = d[c];
    for (u32 k = 0; k < 16; ++k) {
      const u32 x = as[warp][row % 8 * 4 + k % 8 / 2][row / 8 + k / 8 * 2], y = bs[warp][col * 4 + k % 8 / 2][k / 8];
      sum += (double)from_bf16(x >> k % 2 * 16 & 0xffff) * from_bf16(y >> k % 2 * 16 & 0xffff);
    }
    d[c] = (float)sum;
  }
  host::warp_gate();
}

// By search among all codes: nearest, and the even one of two that are as near.
DEVICE float value_of_code(u32 c) {
  if ((c & 127) == 127) return NAN;
  const host::Term t = host::term_of_code((u8)c);
  return std::ldexp((float)t.significand, t.exponent);
}
#ifndef CODES_OF_KERNEL
DEVICE u8 code_of(float v) {
  if (v != v) return 0x7f;
  const float size = std::fabs(v);
  u32 best = 0x7e;
  for (u32 c = 0; c < 0x7e; ++c) {
    const double here = size - (double)value_of_code(c), next = (double)value_of_code(c + 1) - size;
    if (here < next || (here == next && c % 2 == 0)) { best = c; break; }
  }
  return (u8)(best | (std::signbit(v) ? 0x80 : 0));
}
#endif
DEVICE void pair_of_codes(u16 codes, float* a, float* b) {
  *a = value_of_code(codes & 255);
  *b = value_of_code(codes >> 8);
}

DEVICE u32 shared_address(const void* p) { return (u32)((const u8*)p - host::shared[host::current->cta]); }
DEVICE float shared_f32(u32 at) { float v; memcpy(&v, host::shared[host::current->cta] + at, 4); return v; }
DEVICE void mb_init(u32 bar, u32 arrivals) { host::barriers[host::here() + bar] = {0, arrivals, arrivals, 0}; }
DEVICE void mb_init_done() {}
DEVICE void mb_expect(u32 bar, u32 bytes) { host::arrive(host::current->cta, bar, bytes); }
DEVICE void mb_arrive(u32 bar) { host::arrive(host::current->cta, bar, 0); }
DEVICE void mb_arrive_at(u32 bar, u32 block) { host::arrive(block, bar, 0); }
DEVICE void mb_wait(u32 bar, u32 parity) {
  if (host::barrier(host::current->cta, bar).parity == parity) host::sleep_while(host::PARITY, host::here() + bar, parity);
}
DEVICE void prefetch_map(const TMap*) {}
DEVICE u64 stream_policy() { return 0; }
DEVICE u64 stay_policy() { return 0; }
DEVICE u64 normal_policy() { return 0; }
DEVICE void tma_load(u32 to, const TMap* map, u32 bar, u32 x, u32 y, u64) {
  host::copies.push_back({*map, host::current->cta, to, bar, (int)x, (int)y});
}
DEVICE void tma_load_all(u32 to, const TMap* map, u32 bar, u32 x, u32 y, u16 blocks, u64) {
  for (u32 cta = 0; cta < 16; ++cta)
    if (blocks >> cta & 1) host::copies.push_back({*map, cta, to, bar, (int)x, (int)y});
}
DEVICE u64 operand(u32 at) { return 1ull << 62 | 64ull << 32 | 1ull << 16 | (at & 0x3ffff) >> 4; }
DEVICE void wgmma_fence() {}
DEVICE void wgmma_commit() {}
DEVICE void wgmma_wait() {
  const u32 group = threadIdx.x / 128;
  const u32 id = host::here() + 2000 + group;
  if (host::gates[id].here == 127) host::multiply(group);
  host::gate(id, 128);
}
template <int N> DEVICE void pin(float (&)[N]) {}
template <int N> DEVICE void wgmma_e4m3(float (&d)[N], u64 a, u64 b, int add) {
  host::current->queued.push_back({d, a, b, add, N * 2, false});
}
template <int N> DEVICE void wgmma_bf16(float (&d)[N], u64 a, u64 b, int add) {
  host::current->queued.push_back({d, a, b, add, N * 2, true});
}
DEVICE void wait_for_previous() {
  if (!host::previous_done) host::sleep_while(host::PREVIOUS, 0, 0);
}
DEVICE void let_next_start() {}
