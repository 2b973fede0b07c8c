// Clusters: neighbouring blocks that run at the same time and see each other's shared memory. Code for devices before
// sm_90 knows only clusters of one block.
#pragma once

#include "cuda/warp.h"

namespace pangu {

#ifdef PANGU_EMULATED

inline unsigned cluster_size() { return unsigned(emulator::Machine::get().geometry().cluster); }
inline unsigned cluster_rank() { return unsigned(emulator::Machine::get().here().rank); }
inline void cluster_sync(int line = __builtin_LINE()) {
  emulator::Machine::get().barrier("cluster_sync", line, true, false);
}
template <class T>
T* peer(T* mine, unsigned rank) {
  return static_cast<T*>(emulator::Machine::get().peer(mine, rank));
}

#elif defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900

__device__ __forceinline__ unsigned cluster_size() {
  unsigned size;
  asm("mov.u32 %0, %%cluster_nctarank;" : "=r"(size));
  return size;
}
__device__ __forceinline__ unsigned cluster_rank() {
  unsigned rank;
  asm("mov.u32 %0, %%cluster_ctarank;" : "=r"(rank));
  return rank;
}
// All threads of the cluster wait for one another, and then see what they have written.
__device__ __forceinline__ void cluster_sync() {
  asm volatile("barrier.cluster.arrive.release;\n\tbarrier.cluster.wait.acquire;" ::: "memory");
}
// The place that a shared variable has in another block of the cluster.
template <class T>
__device__ __forceinline__ T* peer(T* mine, unsigned rank) {
  T* its;
  asm("mapa.u64 %0, %1, %2;" : "=l"(its) : "l"(mine), "r"(rank));
  return its;
}

#else

__device__ __forceinline__ unsigned cluster_size() { return 1; }
__device__ __forceinline__ unsigned cluster_rank() { return 0; }
__device__ __forceinline__ void cluster_sync() { __syncthreads(); }
template <class T>
__device__ __forceinline__ T* peer(T* mine, unsigned) {
  return mine;
}

#endif

}  // namespace pangu
