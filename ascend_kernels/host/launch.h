// How the host launches an AscendC kernel, on an NPU or in emulation, and lays tensors out so that its chip can move
// them.
#pragma once

#ifdef PANGU_EMULATED
#include "emulator/kernel_operator.h"
#else
#include "host/npu.h"
#endif

#include <torch/csrc/stable/library.h>

#include <functional>
#include <utility>
#include <vector>

#include "common/dtype.h"
#include "tiling/tiling.h"

namespace pangu::ascend {

// A tensor that a kernel reads or writes, and how it is named when the kernel goes astray.
struct Named {
  const char* name;
  Tensor tensor;
  bool is_new = false;  // with nothing in it yet that the kernel may read
};

// Elements from a tensor's first to its last, with what lies between.
inline int64_t extent(const Tensor& tensor) {
  int64_t last = 0;
  for (int64_t i = 0; i < tensor.dim(); i++) last += (tensor.size(i) - 1) * tensor.stride(i);
  return tensor.numel() == 0 ? 0 : last + 1;
}

// A kernel's entries, as a host file declares and launches them: PANGU_KERNEL(entry, parameters...), the tiling being
// Passed<Tiling>, and PANGU_LAUNCH(entry, cores, stream, arguments...) with passed(tiling), which gives 0 when it went
// well; PANGU_KERNELS and PANGU_LAUNCH_DTYPE are the same for an op with an entry for each element type. CANN's build
// makes a function of each entry, which takes the tiling's address; in emulation the stream is the list of the memory
// that the kernel may touch.
#ifdef PANGU_EMULATED
#define PANGU_ASCEND_KEY CPU

template <class Tiling>
using Passed = Tiling;
template <class Tiling>
inline const Tiling& passed(const Tiling& tiling) {
  return tiling;
}

#define PANGU_KERNEL(entry, ...) extern "C" void entry(__VA_ARGS__)
#define PANGU_LAUNCH(entry, cores, stream, ...)                                                                       \
  (AscendC::emulator::launch(#entry, cores, *static_cast<const std::vector<AscendC::emulator::Range>*>(stream),    \
                             [&] { entry(__VA_ARGS__); }),                                                            \
   0)

inline const Chip& chip(const Tensor&) {
  return PANGU_EMULATED == 910 ? ASCEND_910B : ASCEND_310P;
}

// Calls `call(stream)`, which launches kernels on these tensors and is 0 when that went well.
inline void launch(const char*, const std::vector<Named>& tensors, const std::function<int(void*)>& call) {
  std::vector<AscendC::emulator::Range> ranges;
  for (const Named& each : tensors) {
    const Tensor& tensor = each.tensor;
    int64_t bytes = extent(tensor) * int64_t(tensor.element_size());
    ranges.push_back({const_cast<void*>(tensor.const_data_ptr()), bytes, each.name, each.is_new});
  }
  call(&ranges);
}
#else
#define PANGU_ASCEND_KEY PrivateUse1

template <class Tiling>
using Passed = const Tiling*;
template <class Tiling>
inline const Tiling* passed(const Tiling& tiling) {
  return &tiling;
}

#define PANGU_KERNEL(entry, ...) extern "C" uint32_t aclrtlaunch_##entry(uint32_t cores, void* stream, __VA_ARGS__)
#define PANGU_LAUNCH(entry, cores, stream, ...) int(aclrtlaunch_##entry(uint32_t(cores), stream, __VA_ARGS__))

inline const Chip& chip(const Tensor& tensor) { return chip_of(tensor); }

inline void launch(const char* op, const std::vector<Named>& tensors, const std::function<int(void*)>& call) {
  enqueue(op, tensors.front().tensor, call);
}
#endif

#if defined(PANGU_310P) || (defined(PANGU_EMULATED) && PANGU_EMULATED == 310)  // which has no bfloat16
#define PANGU_KERNELS(op, ...)           \
  PANGU_KERNEL(op##_float, __VA_ARGS__); \
  PANGU_KERNEL(op##_half, __VA_ARGS__)
#define PANGU_LAUNCH_DTYPE(op, dtype, ...) \
  (dtype == Dtype::FLOAT ? PANGU_LAUNCH(op##_float, __VA_ARGS__) : PANGU_LAUNCH(op##_half, __VA_ARGS__))
#else
#define PANGU_KERNELS(op, ...)           \
  PANGU_KERNEL(op##_float, __VA_ARGS__); \
  PANGU_KERNEL(op##_half, __VA_ARGS__);  \
  PANGU_KERNEL(op##_bfloat16, __VA_ARGS__)
#define PANGU_LAUNCH_DTYPE(op, dtype, ...)                                                          \
  (dtype == Dtype::FLOAT  ? PANGU_LAUNCH(op##_float, __VA_ARGS__)                                   \
   : dtype == Dtype::HALF ? PANGU_LAUNCH(op##_half, __VA_ARGS__)                                    \
                          : PANGU_LAUNCH(op##_bfloat16, __VA_ARGS__))
#endif

inline uint8_t* address(const Tensor& tensor) {
  return static_cast<uint8_t*>(const_cast<void*>(tensor.const_data_ptr()));
}

// The element type of a tensor that the prologue has found to be of floats.
inline Dtype dtype_of(const char* op, const char* name, const Tensor& tensor) {
  ScalarType dtype = tensor.scalar_type();
  PANGU_CHECK(dtype != ScalarType::BFloat16 || chip(tensor).has_bfloat16, op,
              std::string(name) + " must be float32 or float16 on this chip", dtype);
  return dtype == ScalarType::Float ? Dtype::FLOAT : dtype == ScalarType::Half ? Dtype::HALF : Dtype::BFLOAT16;
}

// A dense tensor as rows of `columns`, in whole blocks where the chip moves nothing less: then with zeros behind each.
struct Rows {
  Tensor tensor;
  int64_t stride;  // elements from row to row

  // `block`: elements, where other tensors decide on it
  Rows(const Tensor& dense, int64_t columns, int64_t block = 0) : tensor(dense), stride(columns) {
    if (block == 0) block = BLOCK_BYTES / dense.element_size();
    if (chip(dense).moves_bytes || columns % block == 0) return;
    stride = round_up(columns, block);
    tensor = torch::stable::pad(torch::stable::view(dense, {dense.numel() / columns, columns}), {0, stride - columns});
  }
};

// Where a kernel writes rows of `columns`: into the tensor itself, or where the chip writes whole blocks only into
// rows of such, which finish() copies from.
struct OutRows {
  Tensor out, tensor;
  int64_t columns, stride;

  OutRows(const Tensor& dense, int64_t columns) : out(dense), tensor(dense), columns(columns), stride(columns) {
    int64_t block = BLOCK_BYTES / dense.element_size();
    if (chip(dense).moves_bytes || columns % block == 0) return;
    stride = round_up(columns, block);
    tensor = torch::stable::new_empty(dense, {dense.numel() / columns, stride});
  }

  void finish() const {
    if (stride == columns) return;
    Tensor rows = torch::stable::view(out, {out.numel() / columns, columns});
    torch::stable::copy_(rows, torch::stable::narrow(const_cast<Tensor&>(tensor), 1, 0, columns));
  }
};

}  // namespace pangu::ascend
