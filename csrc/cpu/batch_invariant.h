// Whether a token's result must be the same bits whatever the number of tokens in the call: pangu_ops.batch_invariant.
// All kernels but the tiles (cpu/tiles.h) see to that anyway.
#pragma once

#include <atomic>

namespace pangu {

inline std::atomic<bool> batch_invariant{false};

}  // namespace pangu
