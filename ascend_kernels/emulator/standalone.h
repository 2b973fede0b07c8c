// For kernels that are compiled by themselves and called from Python (pangu_ops/testing/ascendc.py): what stands for
// kernel<<<blocks, l2, stream>>>(arguments...), the tensors of the next call, and the error of the last one.
#pragma once

#include <string>
#include <utility>
#include <vector>

#include "kernel_operator.h"
#include "tiling_data.h"

// The text of a kernel's name, put together first where a macro does so.
#define ASCENDC_TEXT(...) ASCENDC_TEXT_OF(__VA_ARGS__)
#define ASCENDC_TEXT_OF(...) #__VA_ARGS__

namespace AscendC::emulator {

struct Standalone {
  std::vector<Range> ranges;
  std::string error;

  static Standalone& get() {
    static Standalone standalone;
    return standalone;
  }
};

// An error is kept: it could not pass through the caller, who is Python.
template <class Kernel, class L2, class Stream>
auto launched(Kernel kernel, const char* name, int64_t blocks, const L2&, const Stream&) {
  return [=](auto... arguments) {
    Standalone& standalone = Standalone::get();
    if (!standalone.error.empty()) return;
    try {
      launch(name, int(blocks), standalone.ranges, [&] { kernel(arguments...); });
    } catch (const std::exception& error) {
      standalone.error = error.what();
    }
  };
}

}  // namespace AscendC::emulator

extern "C" {
__attribute__((used, visibility("default"))) inline void pangu_ascend_tensor(void* begin, int64_t bytes,
                                                                             const char* name, int is_new) {
  AscendC::emulator::Standalone::get().ranges.push_back({begin, bytes, name, is_new != 0});
}

__attribute__((used, visibility("default"))) inline void pangu_ascend_tiling_key(uint64_t key) {
  AscendC::emulator::tiling_key = key;
}

__attribute__((used, visibility("default"))) inline const char* pangu_ascend_finish() {
  static std::string error;
  auto& standalone = AscendC::emulator::Standalone::get();
  standalone.ranges.clear();
  error = std::exchange(standalone.error, "");
  return error.c_str();
}
}
