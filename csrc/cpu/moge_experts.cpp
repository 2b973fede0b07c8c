// moge_experts: both products in units of (expert, panels of weight rows); each unit writes its own columns.
#include "common/moge_experts.h"

#include <torch/csrc/stable/library.h>

#include "cpu/tiles.h"

namespace pangu {
namespace {

std::vector<ExpertRows> expert_rows(const MogeExperts& op) {
  const int32_t* offsets = data<int32_t>(op.expert_offsets);
  bool rising = offsets[0] == 0 && offsets[op.num_experts] == op.num_rows;
  for (int64_t expert = 0; expert < op.num_experts; expert++) rising &= offsets[expert] <= offsets[expert + 1];
  PANGU_CHECK(rising, "moge_experts",
              "expert_offsets must rise from 0 to the number of rows, " + std::to_string(op.num_rows), "other values");
  std::vector<ExpertRows> experts;
  for (int64_t expert = 0; expert < op.num_experts; expert++)
    if (offsets[expert] < offsets[expert + 1]) experts.push_back({expert, offsets[expert], offsets[expert + 1]});
  return experts;
}

template <class T>
void run(const MogeExperts& op, const std::vector<ExpertRows>& experts) {
  const T *rows = data<T>(op.rows), *gate_up = data<T>(op.gate_up), *down = data<T>(op.down);
  T* out = mutable_data<T>(op.out);
  auto x = [&](int64_t row) { return rows + row * op.hidden; };
#ifdef PANGU_TILES
  if constexpr (std::is_same_v<T, bf16>) {
    if (use_tiles(experts, op.hidden, op.intermediate)) {
      PackedRows packed(experts);
      Tensor activations = tile_activations(packed, x, gate_up, op.hidden, op.intermediate, op.rows);
      const bf16* hidden = data<bf16>(activations);
      int64_t panels = op.hidden / TILE_K, parts = parts_of(experts.size(), panels, TILE_UNITS);
      return for_units(experts.size() * parts, [&](int64_t unit) {
        int64_t expert = unit / parts, part = unit % parts;
        tile_down(packed, expert, expert + 1, hidden, down, op.hidden, op.intermediate, panels * part / parts,
                  panels * (part + 1) / parts, [&](int64_t row, int64_t column, vf products) {
                    store(out + row * op.hidden + column, products);
                  });
      });
    }
  }
#endif
  Tensor activations = empty_of(op.rows, {op.num_rows, op.intermediate}, ScalarType::Float);
  float* hidden = mutable_data<float>(activations);
  dot_gate_up(experts, x, gate_up, op.hidden, op.intermediate, hidden);
  int64_t panels = (op.hidden + PANEL - 1) / PANEL, parts = parts_of(experts.size(), panels);
  for_units(experts.size() * parts, [&](int64_t unit) {
    int64_t part = unit % parts;
    dot_down(experts[unit / parts], hidden, down, op.hidden, op.intermediate, panels * part / parts,
             panels * (part + 1) / parts, [&](int64_t row, int64_t column, const float* products, int64_t count) {
               T* to = out + row * op.hidden + column;
               for_vectors(count, [&](int64_t i, auto load, auto store) { store(to + i, load(products + i)); });
             });
  });
}

Tensor moge_experts(const Tensor& rows, const Tensor& expert_offsets, const Tensor& gate_up, const Tensor& down) {
  MogeExperts op = moge_experts_prologue(rows, expert_offsets, gate_up, down);
  std::vector<ExpertRows> experts = expert_rows(op);
  if (op.out.numel() == 0) return op.out;
  with_dtype(op.rows.scalar_type(), [&](auto t) { run<decltype(t)>(op, experts); });
  return op.out;
}

}  // namespace

STABLE_TORCH_LIBRARY_IMPL(pangu, CPU, m) { m.impl("moge_experts", TORCH_BOX(&moge_experts)); }

}  // namespace pangu
