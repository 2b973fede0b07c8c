// moge_ffn: the first product gathers its rows from x; the second one's threads own columns of the result, walk the
// experts in order and add into their columns, so nothing is copied between the steps and no two threads add to one
// number.
#include "common/moge_ffn.h"

#include <torch/csrc/stable/library.h>

#include "cpu/route.h"
#include "cpu/tiles.h"

namespace pangu {
namespace {

struct Routing {
  std::vector<int32_t> row_slots;  // the slot, token * K + slot, of every row
  std::vector<ExpertRows> experts;
};

Routing route_ffn(const MogeFfn& op) {
  int64_t num_rows = op.num_tokens * op.num_slots;
  std::vector<int32_t> slot_rows(num_rows), offsets(op.num_experts + 1);
  Routing routing{std::vector<int32_t>(num_rows, -1), {}};
  route({data<int32_t>(op.expert_ids), op.num_tokens, op.num_slots, op.num_experts, op.num_groups}, slot_rows.data(),
        offsets.data(), [](int64_t) {});
  for (int64_t slot = 0; slot < num_rows; slot++)
    if (slot_rows[slot] >= 0) routing.row_slots[slot_rows[slot]] = int32_t(slot);
  for (int64_t expert = 0; expert < op.num_experts; expert++) {
    int64_t begin = offsets[expert], end = offsets[expert + 1];
    while (end > begin && routing.row_slots[end - 1] < 0) end--;  // masked rows lie at the end of their group
    if (begin < end) routing.experts.push_back({expert, begin, end});
  }
  return routing;
}

// Cut the result's columns into `parts` pieces of whole panels; in each, add_products(first panel, last panel, sums)
// adds every expert's weighted products to sums [T, H], then the addend and the rounding follow.
template <class T, class Add>
void sum_columns(const MogeFfn& op, int64_t panel, int64_t parts, const Add& add_products) {
  Tensor sums = empty_of(op.x, {op.num_tokens, op.hidden}, ScalarType::Float);
  float* total = mutable_data<float>(sums);
  const T* addend = op.addend ? data<T>(*op.addend) : nullptr;
  T* out = mutable_data<T>(op.out);
  int64_t panels = (op.hidden + panel - 1) / panel;
  int64_t work = op.num_tokens * op.num_slots * op.hidden * op.intermediate;
  for_units(parts, work, [&](int64_t part) {
    int64_t first_panel = panels * part / parts, last_panel = panels * (part + 1) / parts;
    int64_t first = first_panel * panel, last = std::min(op.hidden, last_panel * panel);
    for (int64_t token = 0; token < op.num_tokens; token++)
      std::fill(total + token * op.hidden + first, total + token * op.hidden + last, 0.0f);
    add_products(first_panel, last_panel, total);
    for (int64_t token = 0; token < op.num_tokens; token++) {
      int64_t at = token * op.hidden + first;
      for_vectors(last - first, [&](int64_t i, auto load, auto store) {
        vf sum = load(total + at + i);
        store(out + at + i, addend ? sum + load(addend + at + i) : sum);
      });
    }
  });
}

template <class T>
void run(const MogeFfn& op) {
  Routing routing = route_ffn(op);
  const T *tokens = data<T>(op.x), *gate_up = data<T>(op.gate_up), *down = data<T>(op.down);
  const float* weights = data<float>(op.weights);
  auto token_of = [&](int64_t row) { return routing.row_slots[row] / op.num_slots; };
  auto weight_of = [&](int64_t row) { return weights[routing.row_slots[row]]; };
  auto x = [&](int64_t row) { return tokens + token_of(row) * op.hidden; };
#ifdef PANGU_TILES
  if constexpr (std::is_same_v<T, bf16>) {
    if (use_tiles(routing.experts, op.hidden, op.intermediate)) {
      PackedRows rows(routing.experts);
      Tensor activations = tile_activations(rows, x, gate_up, op.hidden, op.intermediate, op.x);
      const bf16* hidden = data<bf16>(activations);
      int64_t parts = parts_of(1, op.hidden / TILE_K, TILE_UNITS);
      return sum_columns<T>(op, TILE_K, parts, [&](int64_t first, int64_t last, float* total) {
        tile_down(rows, 0, rows.experts.size(), hidden, down, op.hidden, op.intermediate, first, last,
                  [&](int64_t row, int64_t column, vf products) {
                    float* sum = total + token_of(row) * op.hidden + column;
                    store(sum, load(sum) + products * weight_of(row));
                  });
      });
    }
  }
#endif
  Tensor activations = empty_of(op.x, {op.num_tokens * op.num_slots, op.intermediate}, ScalarType::Float);
  float* hidden = mutable_data<float>(activations);
  dot_gate_up(routing.experts, x, gate_up, op.hidden, op.intermediate, hidden);
  int64_t parts = parts_of(1, (op.hidden + PANEL - 1) / PANEL);
  sum_columns<T>(op, PANEL, parts, [&](int64_t first, int64_t last, float* total) {
    for (const ExpertRows& rows : routing.experts)
      dot_down(rows, hidden, down, op.hidden, op.intermediate, first, last,
               [&](int64_t row, int64_t column, const float* products, int64_t count) {
                 float* sum = total + token_of(row) * op.hidden + column;
                 float weight = weight_of(row);
                 for (int64_t i = 0; i < count; i++) sum[i] += products[i] * weight;
               });
  });
}

Tensor moge_ffn(const Tensor& x, const Tensor& weights, const Tensor& expert_ids, const Tensor& gate_up,
                const Tensor& down, int64_t num_groups, std::optional<Tensor> addend) {
  MogeFfn op = moge_ffn_prologue(x, weights, expert_ids, gate_up, down, num_groups, addend);
  if (op.out.numel() == 0) return op.out;
  with_dtype(op.x.scalar_type(), [&](auto t) { run<decltype(t)>(op); });
  return op.out;
}

}  // namespace

STABLE_TORCH_LIBRARY_IMPL(pangu, CPU, m) { m.impl("moge_ffn", TORCH_BOX(&moge_ffn)); }

}  // namespace pangu
