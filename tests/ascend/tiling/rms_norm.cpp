#include "tiling/rms_norm.h"

#include "ascend/norm.h"

namespace pangu::ascend {

extern "C" const char* check_rms_norm(uint64_t seed, int count) { return check_norm(seed, count, 1, rms_norm_tiling); }

}  // namespace pangu::ascend
