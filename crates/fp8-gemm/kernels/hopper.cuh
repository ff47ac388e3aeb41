// Hopper's instructions, one function each: mbarriers, TMA, wgmma, register pools.

struct __align__(64) TMap { u64 v[16]; };
#define MAP const __grid_constant__ TMap

DEVICE u32 shared_address(const void* p) { return (u32)__cvta_generic_to_shared(p); }
DEVICE float shared_f32(u32 at) {
  float v;
  asm volatile("ld.shared.f32 %0, [%1];" : "=f"(v) : "r"(at));
  return v;
}

DEVICE void mb_init(u32 bar, u32 arrivals) {
  asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" ::"r"(bar), "r"(arrivals));
}
DEVICE void mb_init_done() { asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory"); }
DEVICE void mb_expect(u32 bar, u32 bytes) {
  asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(bar), "r"(bytes) : "memory");
}
DEVICE void mb_arrive(u32 bar) { asm volatile("mbarrier.arrive.shared::cta.b64 _, [%0];" ::"r"(bar) : "memory"); }
// At the barrier in the same place of another block of the cluster.
DEVICE void mb_arrive_at(u32 bar, u32 block) {
  asm volatile(
      "{\n.reg .b32 there;\nmapa.shared::cluster.u32 there, %0, %1;\nmbarrier.arrive.shared::cluster.b64 _, [there];\n}\n" ::"r"(bar),
      "r"(block) : "memory");
}
// All threads of all blocks of the cluster.
DEVICE void cluster_sync() {
  __syncwarp();
  asm volatile("barrier.cluster.arrive.release;\nbarrier.cluster.wait.acquire;" ::: "memory");
}
// Returns when the phase of that parity has ended.
DEVICE void mb_wait(u32 bar, u32 parity) {
  asm volatile(
      "{\n.reg .pred done;\nagain:\nmbarrier.try_wait.parity.shared::cta.b64 done, [%0], %1;\n@done bra ended;\nbra again;\n"
      "ended:\n}\n" ::"r"(bar), "r"(parity) : "memory");
}

DEVICE u64 stream_policy() {  // read once: leave the second-level cache first
  u64 p;
  asm volatile("createpolicy.fractional.L2::evict_first.b64 %0;" : "=l"(p));
  return p;
}
DEVICE u64 stay_policy() {  // read by every block
  u64 p;
  asm volatile("createpolicy.fractional.L2::evict_last.b64 %0;" : "=l"(p));
  return p;
}
DEVICE u64 normal_policy() {
  u64 p;
  asm volatile("createpolicy.fractional.L2::evict_normal.b64 %0;" : "=l"(p));
  return p;
}
// The map itself, before it is needed.
DEVICE void prefetch_map(const TMap* map) { asm volatile("prefetch.tensormap [%0];" ::"l"(map) : "memory"); }
// The box of a map at column x and row y; what lies outside the matrix becomes zero and counts as bytes.
DEVICE void tma_load(u32 to, const TMap* map, u32 bar, u32 x, u32 y, u64 policy) {
  asm volatile(
      "cp.async.bulk.tensor.2d.shared::cluster.global.mbarrier::complete_tx::bytes.L2::cache_hint [%0], [%1, {%3, %4}], [%2], "
      "%5;" ::"r"(to), "l"(map), "r"(bar), "r"(x), "r"(y), "l"(policy) : "memory");
}

// The same to the same place of every block of `blocks`, a bit each; the bytes count at each one's own barrier.
DEVICE void tma_load_all(u32 to, const TMap* map, u32 bar, u32 x, u32 y, u16 blocks, u64 policy) {
  asm volatile(
      "cp.async.bulk.tensor.2d.shared::cluster.global.mbarrier::complete_tx::bytes.multicast::cluster.L2::cache_hint [%0], [%1, {%3, "
      "%4}], [%2], %5, %6;" ::"r"(to), "l"(map), "r"(bar), "r"(x), "r"(y), "h"(blocks), "l"(policy) : "memory");
}

// An operand of wgmma; layout::Descriptor. DESCRIPTOR is all but the address.
DEVICE u64 operand(u32 at) { return DESCRIPTOR | (u64)((at & 0x3ffff) >> 4); }
DEVICE void wgmma_fence() { asm volatile("wgmma.fence.sync.aligned;" ::: "memory"); }
DEVICE void wgmma_commit() { asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory"); }
DEVICE void wgmma_wait() { asm volatile("wgmma.wait_group.sync.aligned 0;" ::: "memory"); }
// The compiler must not move these registers across.
template <int N>
DEVICE void pin(float (&d)[N]) {
#pragma unroll
  for (int i = 0; i < N; ++i) asm volatile("" : "+f"(d[i])::"memory");
}

#define REGISTERS_LESS(n) asm volatile("setmaxnreg.dec.sync.aligned.u32 " #n ";")
#define REGISTERS_MORE(n) asm volatile("setmaxnreg.inc.sync.aligned.u32 " #n ";")
#define LESS(n) REGISTERS_LESS(n)
#define MORE(n) REGISTERS_MORE(n)

// Under programmatic launch: wait until the kernel in front has ended; let the next one's blocks begin where there is room, as soon
// as every block has said so. Nothing otherwise.
DEVICE void wait_for_previous() { asm volatile("griddepcontrol.wait;" ::: "memory"); }
DEVICE void let_next_start() { asm volatile("griddepcontrol.launch_dependents;" ::: "memory"); }
