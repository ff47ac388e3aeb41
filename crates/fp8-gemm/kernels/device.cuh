// What a GPU spells otherwise than a CPU, and the instructions of sm_80; those of Hopper are in hopper.cuh and fp8.cuh.
// host/host.h has the same functions for a CPU, so that the tests run the kernels' text without a GPU.
typedef unsigned char u8;
typedef unsigned short u16;
typedef unsigned int u32;
typedef unsigned long long u64;

#define DEVICE __device__ __forceinline__
#define KERNEL(threads) KERNEL_BESIDE(threads, 1)
#define KERNEL_BESIDE(threads, blocks) extern "C" __global__ void __launch_bounds__(threads, blocks)  // so many on a multiprocessor
#define SHARED(name) extern __shared__ __align__(1024) u8 name[]
#define SHARED_ARRAY(type, name, count) __shared__ __align__(16) type name[count]

DEVICE void named_barrier(u32 id, u32 threads) { asm volatile("bar.sync %0, %1;" ::"r"(id), "r"(threads) : "memory"); }
DEVICE float read_through(const float* p) { return __ldcg(p); }  // not from this multiprocessor's own cache
DEVICE float4 read_through(const float4* p) { return __ldcg(p); }
// Four bytes that nobody writes, from an address that came from memory.
DEVICE u32 read_global(const void* p) {
  u32 v;
  asm volatile("ld.global.u32 %0, [%1];" : "=r"(v) : "l"(__cvta_generic_to_global(p)));
  return v;
}
DEVICE u32 lane_id() { return threadIdx.x & 31; }
DEVICE float shfl_xor(float v, int mask) { return __shfl_xor_sync(0xffffffffu, v, mask); }
DEVICE u32 shfl_xor(u32 v, u32 mask) { return __shfl_xor_sync(0xffffffffu, v, mask); }
DEVICE u32 uniform(u32 v) { return __shfl_sync(0xffffffffu, v, 0); }  // a value that is one for the warp

// Two f32 to BF16, nearest even: a in the low half.
DEVICE u32 bf16x2(float a, float b) {
  u32 r;
  asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(r) : "f"(b), "f"(a));
  return r;
}
DEVICE float from_bf16(u32 bits) { return __uint_as_float(bits << 16); }

// d += a·b on tensor cores: a 16 x 16 row by row, b 16 x 8 column by column, both BF16.
DEVICE void mma_bf16(float (&d)[4], const u32 (&a)[4], const u32 (&b)[2]) {
  asm volatile(
      "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
      : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}
