// What is spelled otherwise on a GPU and on a CPU, before common.cuh.
#define SHARED(name) extern __shared__ __align__(1024) unsigned char name[]
#define SHARED_ARRAY(type, name, count) __shared__ __align__(16) type name[count]
__device__ __forceinline__ void named_barrier(unsigned id, unsigned threads) {
  asm volatile("bar.sync %0, %1;" ::"r"(id), "r"(threads) : "memory");
}
__device__ __forceinline__ float read_through(const float* p) { return __ldcg(p); }  // not from this SM's own cache
