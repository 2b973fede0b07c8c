// The two matrix products of the experts, shared by moge_experts and moge_ffn: work is cut into (expert, panels of
// weight rows) units that threads take one by one, so a unit's weights are read once and by one thread.
#pragma once

#include <torch/csrc/stable/ops.h>

#include <algorithm>
#include <atomic>
#include <vector>

#include "cpu/dot.h"

namespace pangu {

struct ExpertRows {
  int64_t expert, begin, end;  // this expert's rows, at least one
};

// Call unit(i) for every i in [0, count), each once, on all threads; a thread that is late takes fewer.
template <class Unit>
void for_units(int64_t count, const Unit& unit) {
  std::atomic<int64_t> next{0};
  torch::stable::parallel_for(0, std::min<int64_t>(count, torch::stable::get_num_threads()), 1, [&](int64_t, int64_t) {
    for (int64_t i = next++; i < count; i = next++) unit(i);
  });
}

// The number of units to cut one expert's panels into, when `experts` of them are shared by all threads: enough that
// no thread waits long for the last one.
inline int64_t parts_of(int64_t experts, int64_t panels, int64_t units_per_thread = 32) {
  int64_t wanted = units_per_thread * int64_t(torch::stable::get_num_threads());
  return std::clamp<int64_t>((wanted + experts - 1) / std::max<int64_t>(experts, 1), 1, std::max<int64_t>(panels, 1));
}

// store(row, n, product) for the rows [begin, end) and the weight rows [first, last) of w [.., size]: product is
// x(row) . w[n]. Weight rows past the last one are read as the last one and not stored.
template <class X, class W, class RowOf, class Store>
void multiply(const RowOf& x, int64_t begin, int64_t end, const W* w, int64_t first, int64_t last, int64_t size,
              const Store& store) {
  const X* rows[TILE];
  const W* panel[PANEL];
  float products[TILE * PANEL];
  for (int64_t n = first; n < last; n += PANEL) {
    for (int64_t i = 0; i < PANEL; i++) panel[i] = w + std::min(n + i, last - 1) * size;
    for (int64_t row = begin, m; row < end; row += m) {
      m = end - row == TILE + 1 ? 2 : std::min<int64_t>(end - row, TILE);
      for (int64_t i = 0; i < m; i++) rows[i] = x(row + i);
      dot(rows, m, panel, size, products);
      for (int64_t i = 0; i < m; i++) store(row + i, n, std::min<int64_t>(PANEL, last - n), products + i * PANEL);
    }
  }
}

// hidden[row] = silu(gate . x(row)) * (up . x(row)) for every expert's rows; gate_up is [E, 2I, H].
template <class T, class RowOf>
void gate_up_product(const std::vector<ExpertRows>& experts, const RowOf& x, const T* gate_up, int64_t hidden,
                     int64_t intermediate, float* activations) {
  constexpr int64_t HALF = PANEL / 2;  // as many rows of the gate as of the up projection in one panel
  int64_t panels = (intermediate + HALF - 1) / HALF;
  int64_t parts = parts_of(experts.size(), panels);
  for_units(experts.size() * parts, [&](int64_t unit) {
    const auto& [expert, begin, end] = experts[unit / parts];
    const T* gate = gate_up + expert * 2 * intermediate * hidden;
    const T* up = gate + intermediate * hidden;
    int64_t part = unit % parts;
    const T *rows[TILE], *panel[PANEL];
    float products[TILE * PANEL];
    for (int64_t i = panels * part / parts * HALF; i < std::min(intermediate, panels * (part + 1) / parts * HALF);
         i += HALF) {
      int64_t count = std::min(HALF, intermediate - i);
      for (int64_t j = 0; j < HALF; j++) {
        panel[j] = gate + (i + std::min(j, count - 1)) * hidden;
        panel[HALF + j] = up + (i + std::min(j, count - 1)) * hidden;
      }
      for (int64_t row = begin, m; row < end; row += m) {
        m = end - row == TILE + 1 ? 2 : std::min<int64_t>(end - row, TILE);
        for (int64_t j = 0; j < m; j++) rows[j] = x(row + j);
        dot(rows, m, panel, hidden, products);
        for (int64_t r = 0; r < m; r++) {
          const float* g = products + r * PANEL;
          float* to = activations + (row + r) * intermediate + i;
          for_vectors(count, [&](int64_t j, auto load, auto store) {
            store(to + j, silu(load(g + j)) * load(g + HALF + j));
          });
        }
      }
    }
  });
}

}  // namespace pangu
