// What libpangu_ascend.so calls in CANN, and what the emulated kernels are given as a stream: the device's memory.
#include <acl/acl.h>

#include <cstdlib>
#include <vector>

#include "device.h"
#include "emulator/global_memory.h"

void* mock_stream(const mock::Blocks& blocks) {
  static std::vector<AscendC::emulator::Range> ranges;
  ranges.clear();
  for (auto [begin, bytes] : blocks) ranges.push_back({begin, int64_t(bytes), "the device's memory"});
  return &ranges;
}

const char* aclrtGetSocName() { return std::getenv("MOCK_SOC"); }

aclError aclGetDeviceCapability(uint32_t, aclDeviceInfo info, int64_t* cores) {
  *cores = info == ACL_DEVICE_INFO_AI_CORE_NUM ? 20 : 40;
  return ACL_SUCCESS;
}
