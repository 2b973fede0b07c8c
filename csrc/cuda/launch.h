// How a kernel is launched, and the few words in which nvcc and the emulator differ.
#pragma once

#ifdef PANGU_EMULATED
#include "cuda/emulator/builtins.h"
#else
#include <cuda_runtime.h>
#endif

#include <torch/csrc/stable/accelerator.h>
#include <torch/csrc/stable/library.h>

#include "common/dtype.h"

#ifdef PANGU_EMULATED
#define PANGU_CUDA_KEY CPU  // the key that the kernels register under
#define PANGU_SHARED(type, name, size) \
  static char name##_key;              \
  auto& name = ::pangu::emulator::shared<type, size>(&name##_key)
#else
#define PANGU_CUDA_KEY CUDA
#define PANGU_SHARED(type, name, size) __shared__ type name[size]
#endif

namespace pangu {

constexpr int WARP = 32;
constexpr unsigned ALL_LANES = 0xffffffff;

struct Grid {
  int64_t blocks;
  int threads;          // of a block
  int64_t columns = 1;  // the grid's y
  int cluster = 1;      // neighbouring blocks that run at the same time and see each other's shared memory
};

// The device of a tensor, the current one while this lives, and its current stream.
class Device {
 public:
  Device(const char* op, const Tensor& tensor);

  template <class... Parameters>
  void launch(void (*kernel)(Parameters...), const Grid& grid, const Parameters&... arguments) const;

  int multiprocessors() const;
  template <class Kernel>
  bool runs_clusters(Kernel* kernel) const;  // whether the code that is chosen for this device knows clusters

#ifdef PANGU_EMULATED
 private:
  const char* op_;
};

inline Device::Device(const char* op, const Tensor&) : op_(op) {}

template <class... Parameters>
void Device::launch(void (*kernel)(Parameters...), const Grid& grid, const Parameters&... arguments) const {
  emulator::Machine::get().run(op_, {grid.blocks, grid.columns, grid.threads, grid.cluster},
                               [&] { kernel(arguments...); });
}

inline int Device::multiprocessors() const { return 132; }  // an H100's

template <class Kernel>
bool Device::runs_clusters(Kernel*) const {
  return true;
}
#else
 private:
  void check(cudaError_t error) const {
    if (error == cudaSuccess) return;
    cudaGetLastError();  // not for the next one to find
    PANGU_CHECK(false, op_, "the kernel must be launched", cudaGetErrorString(error));
  }

  const char* op_;
  int index_;
  torch::stable::accelerator::DeviceGuard guard_;
  void* stream_ = nullptr;
};

inline Device::Device(const char* op, const Tensor& tensor) : op_(op), index_(tensor.get_device()), guard_(index_) {
  check(cudaSetDevice(index_));  // the guard's runtime is torch's, which may not be the one in this library
  PANGU_CHECK(aoti_torch_get_current_cuda_stream(index_, &stream_) == 0, op, "there must be a stream", "none");
}

template <class... Parameters>
void Device::launch(void (*kernel)(Parameters...), const Grid& grid, const Parameters&... arguments) const {
  cudaLaunchAttribute cluster;
  cluster.id = cudaLaunchAttributeClusterDimension;
  cluster.val.clusterDim = {unsigned(grid.cluster), 1, 1};
  cudaLaunchConfig_t config = {};
  config.gridDim = dim3(unsigned(grid.blocks), unsigned(grid.columns));
  config.blockDim = dim3(unsigned(grid.threads));
  config.stream = static_cast<cudaStream_t>(stream_);
  config.attrs = &cluster;
  config.numAttrs = grid.cluster > 1;
  check(cudaLaunchKernelEx(&config, kernel, arguments...));
}

inline int Device::multiprocessors() const {
  int count;
  check(cudaDeviceGetAttribute(&count, cudaDevAttrMultiProcessorCount, index_));
  return count;
}

template <class Kernel>
bool Device::runs_clusters(Kernel* kernel) const {
  cudaFuncAttributes code;
  check(cudaFuncGetAttributes(&code, kernel));
  return code.ptxVersion >= 90;
}
#endif

}  // namespace pangu
