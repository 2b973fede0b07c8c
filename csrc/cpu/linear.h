// Dense layers over all tokens at once: one matrix product, and the SwiGLU feed-forward. Threads own columns of the
// result; bfloat16 goes through tiles where there are any and enough tokens.
//
// Results come as store_columns(token, column, products, count), a few columns of one token at a time.
#pragma once

#include "cpu/tiles.h"

namespace pangu {

template <class X, class T, class RowOf, class Store>
void dot_linear(const RowOf& x, int64_t num_tokens, const T* weight, int64_t columns, int64_t size,
                const Store& store_columns) {
  int64_t panels = (columns + PANEL - 1) / PANEL, parts = parts_of(1, panels);
  for_units(parts, num_tokens * columns * size, [&](int64_t part) {
    dot_columns<X, T>(x, 0, num_tokens, weight, columns, size, panels * part / parts, panels * (part + 1) / parts,
                      store_columns);
  });
}

#ifdef PANGU_TILES

template <class Store>
void tile_linear(const PackedRows& rows, const bf16* packed, const bf16* weight, int64_t columns, int64_t size,
                 const Store& store_columns) {
  int64_t panels = columns / TILE_K, parts = parts_of(1, panels, TILE_UNITS);
  for_units(parts, [&](int64_t part) {
    tile_down(rows, 0, 1, packed, weight, columns, size, panels * part / parts, panels * (part + 1) / parts,
              [&](int64_t token, int64_t column, vf products) {
                float buffer[TILE_SIDE];
                store(buffer, products);
                store_columns(token, column, buffer, TILE_SIDE);
              });
  });
}

#endif

// weight x(token) for every token; weight is [columns, size], `like` any tensor of T to allocate from.
template <class T, class RowOf, class Store>
void linear(const RowOf& x, int64_t num_tokens, const T* weight, int64_t columns, int64_t size,
            [[maybe_unused]] const Tensor& like, const Store& store_columns) {
#ifdef PANGU_TILES
  if constexpr (std::is_same_v<T, bf16>) {
    std::vector<ExpertRows> one = {{0, 0, num_tokens}};
    if (use_tiles(one, columns, size)) {
      PackedRows rows(one);
      Tensor packed = empty_of(like, {rows.num_blocks * TILE_SIDE, size});
      pack(rows, x, size, mutable_data<bf16>(packed));
      return tile_linear(rows, data<bf16>(packed), weight, columns, size, store_columns);
    }
  }
#endif
  dot_linear<T>(x, num_tokens, weight, columns, size, store_columns);
}

// The same plus bias [columns], which may be null, into out [tokens, columns].
template <class T, class RowOf>
void linear_into(const RowOf& x, int64_t num_tokens, const T* weight, const T* bias, int64_t columns, int64_t size,
                 const Tensor& like, T* out) {
  linear(x, num_tokens, weight, columns, size, like,
         [=](int64_t token, int64_t column, const float* products, int64_t count) {
           T* to = out + token * columns + column;
           for_vectors(count, [&](int64_t i, auto load, auto store) {
             store(to + i, bias ? load(products + i) + load(bias + column + i) : load(products + i));
           });
         });
}

// down (silu(gate x(token)) * (up x(token))) for every token; gate_up is [2I, H], down [H, I].
template <class T, class RowOf, class Store>
void feed_forward(const RowOf& x, int64_t num_tokens, const T* gate_up, const T* down, int64_t hidden,
                  int64_t intermediate, const Tensor& like, const Store& store_columns) {
  std::vector<ExpertRows> one = {{0, 0, num_tokens}};
#ifdef PANGU_TILES
  if constexpr (std::is_same_v<T, bf16>) {
    if (use_tiles(one, hidden, intermediate)) {
      PackedRows rows(one);
      Tensor activations = tile_activations(rows, x, gate_up, hidden, intermediate, like);
      return tile_linear(rows, data<bf16>(activations), down, hidden, intermediate, store_columns);
    }
  }
#endif
  Tensor activations = empty_of(like, {num_tokens, intermediate}, ScalarType::Float);
  float* inner = mutable_data<float>(activations);
  dot_gate_up(one, x, gate_up, hidden, intermediate, inner);
  dot_linear<float>([=](int64_t token) { return inner + token * intermediate; }, num_tokens, down, hidden, intermediate,
                    store_columns);
}

}  // namespace pangu
