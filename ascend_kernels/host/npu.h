// An NPU as torch_npu drives it: what chip it is, and its queue of tasks.
#pragma once

#include <acl/acl.h>
#include <c10/core/DeviceGuard.h>
#include <torch_npu/csrc/core/npu/NPUStream.h>
#include <torch_npu/csrc/framework/OpCommand.h>

#include <functional>
#include <string>

#include "common/check.h"
#include "tiling/tiling.h"

// The chip that the build compiled the kernels for.
#ifndef PANGU_SOC_VERSION
#define PANGU_SOC_VERSION "Ascend910B1"
#endif

namespace pangu::ascend {

// What the kernels know of a chip by its name; null where they do not know it. Ascend910B without a number is of the
// first 910s, and Ascend910_93.. are the 910Cs: two 910Bs each.
inline const Chip* family_of(const std::string& soc) {
  auto begins = [&](const std::string& with) { return soc.compare(0, with.size(), with) == 0; };
  if (begins("Ascend910_93") || (begins("Ascend910B") && soc.size() > 10)) return &ASCEND_910B;
  return begins("Ascend310P") ? &ASCEND_310P : nullptr;
}

inline Chip find_chip(int32_t device) {
  const char* name = aclrtGetSocName();
  std::string soc = name ? name : "none";
  const Chip* family = family_of(soc);
  PANGU_CHECK(family, "ascend", "the chip must be an Ascend 910B, 910C or 310P", soc);
  PANGU_CHECK(family == family_of(PANGU_SOC_VERSION), "ascend",
              "the kernels, built for " PANGU_SOC_VERSION ", must run on a chip of that family", soc);
  // A 310P's kernels run on its AI cores; what it calls vector cores are others beside them.
  aclDeviceInfo which = family == &ASCEND_310P ? ACL_DEVICE_INFO_AI_CORE_NUM : ACL_DEVICE_INFO_VECTOR_CORE_NUM;
  int64_t cores = 0;
  aclError error = aclGetDeviceCapability(uint32_t(device), which, &cores);
  PANGU_CHECK(error == ACL_SUCCESS && cores > 0, "ascend", "the chip must say how many cores it has",
              "error " + std::to_string(error));
  Chip chip = *family;
  chip.cores = int32_t(cores);
  return chip;
}

// The chip of a tensor's device; all devices of a process are of one kind.
inline const Chip& chip_of(const Tensor& tensor) {
  static const Chip chip = find_chip(tensor.get_device_index());
  return chip;
}

// Puts `call`, which launches kernels on the stream that it is given, into the queue of the current stream of a
// tensor's device. It runs later, in another thread: it must hold addresses and values, no references. Nothing has to
// be kept alive for it, since freed memory is given only to what comes later on the same stream.
inline void enqueue(const char* op, const Tensor& tensor, const std::function<int(void*)>& call) {
  c10::DeviceGuard guard(c10::Device(c10::kPrivateUse1, c10::DeviceIndex(tensor.get_device_index())));
  aclrtStream stream = c10_npu::getCurrentNPUStream().stream(false);  // without waiting until the queue is empty
  at_npu::native::OpCommand::RunOpApi(op, [call, stream] { return call(stream); });
}

}  // namespace pangu::ascend
