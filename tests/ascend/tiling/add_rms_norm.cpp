#include "tiling/add_rms_norm.h"

#include "ascend/norm.h"

namespace pangu::ascend {

extern "C" const char* check_add_rms_norm(uint64_t seed, int count) {
  return check_norm(seed, count, 2, add_rms_norm_tiling);
}

}  // namespace pangu::ascend
