// Rotating one head: shared by rotary and attention_ffn. `out` may be `x`.
#pragma once

#include "cpu/isa/vec.h"

namespace pangu {

template <class T>
void rotate_head(const T* x, const float* cos, const float* sin, T* out, int64_t half) {
  for_vectors(half, [&](int64_t i, auto load, auto store) {
    vf a = load(x + i), b = load(x + half + i), c = load(cos + i), s = load(sin + i);
    store(out + i, a * c - b * s);
    store(out + half + i, b * c + a * s);
  });
}

}  // namespace pangu
