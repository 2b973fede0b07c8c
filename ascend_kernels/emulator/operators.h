// dst = a + b and its like between local tensors: the instruction of that name, on as many elements as dst has.
#pragma once

#include "tensor.h"
#include "vector.h"

namespace AscendC {

#define PANGU_TENSOR_OPERATOR(symbol, Instruction) \
  template <class T> \
  auto operator symbol(const LocalTensor<T>& a, const LocalTensor<T>& b) { \
    auto run = [a, b](const LocalTensor<T>& dst) { Instruction(dst, a, b, static_cast<int32_t>(dst.GetSize())); }; \
    return emulator::Expression<decltype(run)>{run}; \
  }
PANGU_TENSOR_OPERATOR(+, Add)
PANGU_TENSOR_OPERATOR(-, Sub)
PANGU_TENSOR_OPERATOR(*, Mul)
PANGU_TENSOR_OPERATOR(/, Div)
PANGU_TENSOR_OPERATOR(&, And)
PANGU_TENSOR_OPERATOR(|, Or)
#undef PANGU_TENSOR_OPERATOR

}  // namespace AscendC
