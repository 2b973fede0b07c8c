// What the kernels of the tests share.
#pragma once

#include "kernel_operator.h"

// One pipe waits for all that another has begun.
template <AscendC::HardEvent event>
__aicore__ inline void wait(int32_t id = 0) {
  AscendC::SetFlag<event>(id);
  AscendC::WaitFlag<event>(id);
}
