// The element types of the kernels. Arithmetic is fp32; these are how numbers lie in memory.
#pragma once

#include <cstdint>

#include "common/check.h"

namespace pangu {

struct bf16 {
  uint16_t bits;
};

struct f16 {
  uint16_t bits;
};

// Call body(T{}) with the element type of dtype, which the prologue has checked.
template <class Body>
void with_dtype(ScalarType dtype, const Body& body) {
  if (dtype == ScalarType::Float) return body(float{});
  if (dtype == ScalarType::BFloat16) return body(bf16{});
  return body(f16{});
}

// Each call goes through the ABI: take pointers once, outside the loops.
template <class T>
const T* data(const Tensor& tensor) {
  return static_cast<const T*>(tensor.const_data_ptr());
}

template <class T>
T* mutable_data(const Tensor& tensor) {
  return static_cast<T*>(tensor.mutable_data_ptr());
}

}  // namespace pangu
