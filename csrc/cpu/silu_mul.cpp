// silu_mul: every thread owns whole rows, reading the gate's half and the up projection's half side by side.
#include "common/silu_mul.h"

#include <torch/csrc/stable/library.h>

#include "cpu/isa/vec.h"

namespace pangu {
namespace {

template <class T>
void silu_mul_row(const T* gate, const T* up, T* out, int64_t intermediate) {
  for_vectors(intermediate, [&](int64_t i, auto load, auto store) {
    store(out + i, silu(load(gate + i)) * load(up + i));
  });
}

Tensor silu_mul(const Tensor& gate_up) {
  SiluMul op = silu_mul_prologue(gate_up);
  if (op.num_rows == 0) return op.out;
  with_dtype(op.gate_up.scalar_type(), [&](auto t) {
    using T = decltype(t);
    const T* gate_up = data<T>(op.gate_up);
    T* out = mutable_data<T>(op.out);
    torch::stable::parallel_for(0, op.num_rows, 1 + 4096 / op.intermediate, [&](int64_t begin, int64_t end) {
      for (int64_t row = begin; row < end; row++) {
        const T* gate = gate_up + row * 2 * op.intermediate;
        silu_mul_row(gate, gate + op.intermediate, out + row * op.intermediate, op.intermediate);
      }
    });
  });
  return op.out;
}

}  // namespace

STABLE_TORCH_LIBRARY_IMPL(pangu, CPU, m) { m.impl("silu_mul", TORCH_BOX(&silu_mul)); }

}  // namespace pangu
