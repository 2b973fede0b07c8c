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

// So many multiply-adds take one thread less time than waking the others takes.
constexpr int64_t FEW = 1 << 17;

// Call unit(i) for every i in [0, count), each once, on all threads; a thread that is late takes fewer. `work` is the
// number of multiply-adds in all of them.
template <class Unit>
void for_units(int64_t count, int64_t work, const Unit& unit) {
  int64_t threads = work < FEW ? 1 : torch::stable::get_num_threads();
  std::atomic<int64_t> next{0};
  torch::stable::parallel_for(0, std::min(count, threads), 1, [&](int64_t, int64_t) {
    for (int64_t i = next++; i < count; i = next++) unit(i);
  });
}

template <class Unit>
void for_units(int64_t count, const Unit& unit) {
  for_units(count, FEW, unit);
}

inline int64_t count_rows(const std::vector<ExpertRows>& experts) {
  int64_t rows = 0;
  for (const auto& [expert, begin, end] : experts) rows += end - begin;
  return rows;
}

// The number of units to cut one expert's panels into, when `experts` of them are shared by all threads: enough that
// no thread waits long for the last one.
inline int64_t parts_of(int64_t experts, int64_t panels, int64_t units_per_thread = 32) {
  int64_t wanted = units_per_thread * int64_t(torch::stable::get_num_threads());
  return std::clamp<int64_t>((wanted + experts - 1) / std::max<int64_t>(experts, 1), 1, std::max<int64_t>(panels, 1));
}

// For the rows [begin, end) and the panels [first, last) of weight rows, w(panel, i) the i-th row of a panel:
// store(row, panel, products), the PANEL products of x(row) with the panel's rows.
template <class X, class W, class RowOf, class WeightOf, class Store>
void dot_panels(const RowOf& x, int64_t begin, int64_t end, const WeightOf& w, int64_t first, int64_t last,
                int64_t size, const Store& store) {
  const X* rows[TILE];
  const W* weights[PANEL];
  float products[TILE * PANEL];
  for (int64_t panel = first; panel < last; panel++) {
    for (int64_t i = 0; i < PANEL; i++) weights[i] = w(panel, i);
    for (int64_t row = begin, m; row < end; row += m) {
      m = end - row == TILE + 1 ? 2 : std::min<int64_t>(end - row, TILE);
      for (int64_t i = 0; i < m; i++) rows[i] = x(row + i);
      dot(rows, m, weights, size, products);
      for (int64_t i = 0; i < m; i++) store(row + i, panel, products + i * PANEL);
    }
  }
}

// The first product: activations[row] = silu(gate . x(row)) * (up . x(row)) for every expert's rows; gate_up is
// [E, 2I, H]. A panel holds as many rows of the gate as of the up projection.
template <class T, class RowOf>
void dot_gate_up(const std::vector<ExpertRows>& experts, const RowOf& x, const T* gate_up, int64_t hidden,
                 int64_t intermediate, float* activations) {
  constexpr int64_t HALF = PANEL / 2;
  int64_t panels = (intermediate + HALF - 1) / HALF;
  int64_t parts = parts_of(experts.size(), panels);
  int64_t work = count_rows(experts) * 2 * intermediate * hidden;
  for_units(experts.size() * parts, work, [&](int64_t unit) {
    const auto& [expert, begin, end] = experts[unit / parts];
    int64_t part = unit % parts;
    const T* gate = gate_up + expert * 2 * intermediate * hidden;
    auto weights = [=](int64_t panel, int64_t i) {  // past the last one, the last one again
      int64_t row = std::min(panel * HALF + i % HALF, intermediate - 1);
      return gate + (i / HALF * intermediate + row) * hidden;
    };
    dot_panels<T, T>(x, begin, end, weights, panels * part / parts, panels * (part + 1) / parts, hidden,
                     [&](int64_t row, int64_t panel, const float* products) {
                       float* to = activations + row * intermediate + panel * HALF;
                       for_vectors(std::min(HALF, intermediate - panel * HALF), [&](int64_t i, auto load, auto store) {
                         store(to + i, silu(load(products + i)) * load(products + HALF + i));
                       });
                     });
  });
}

// y(row) = matrix x(row) for the rows [begin, end) and the panels [first, last) of its columns, matrix being
// [columns, size]: store_columns(row, column, products, count).
template <class X, class W, class RowOf, class Store>
void dot_columns(const RowOf& x, int64_t begin, int64_t end, const W* matrix, int64_t columns, int64_t size,
                 int64_t first, int64_t last, const Store& store_columns) {
  auto weights = [=](int64_t panel, int64_t i) {  // past the last one, the last one again
    return matrix + std::min(panel * PANEL + i, columns - 1) * size;
  };
  dot_panels<X, W>(x, begin, end, weights, first, last, size, [&](int64_t row, int64_t panel, const float* products) {
    int64_t column = panel * PANEL;
    store_columns(row, column, products, std::min<int64_t>(PANEL, columns - column));
  });
}

// The second product, for one expert's rows; down is [E, H, I].
template <class T, class Store>
void dot_down(const ExpertRows& rows, const float* activations, const T* down, int64_t hidden, int64_t intermediate,
              int64_t first, int64_t last, const Store& store_columns) {
  dot_columns<float, T>([=](int64_t row) { return activations + row * intermediate; }, rows.begin, rows.end,
                        down + rows.expert * hidden * intermediate, hidden, intermediate, first, last, store_columns);
}

}  // namespace pangu
