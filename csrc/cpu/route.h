// Where every slot's row goes: a counting sort of the slots by expert, stable in token order.
#pragma once

#include <cstdint>
#include <vector>

namespace pangu {

struct Slots {
  const int32_t* expert_ids;  // [T, K]
  int64_t num_tokens, num_slots, num_experts, num_groups;

  // A slot's expert, or -1 where its id lies outside the slot's group.
  int64_t expert(int64_t token, int64_t slot) const {
    int64_t id = expert_ids[token * num_slots + slot], group_size = num_experts / num_groups;
    int64_t first = slot / (num_slots / num_groups) * group_size;
    return first <= id && id < first + group_size ? id : -1;
  }
};

// slot_rows [T, K] and expert_offsets [E+1]. Group g owns the rows [g*T*k, (g+1)*T*k) whatever the data; masked slots
// get slot_rows -1, and masked_row(row) is called for each of the rows that they leave at the end of their group.
template <class Masked>
void route(const Slots& slots, int32_t* slot_rows, int32_t* expert_offsets, const Masked& masked_row) {
  int64_t group_rows = slots.num_tokens * (slots.num_slots / slots.num_groups);
  int64_t group_size = slots.num_experts / slots.num_groups;
  std::vector<int64_t> next(slots.num_experts);
  for (int64_t token = 0; token < slots.num_tokens; token++)
    for (int64_t slot = 0; slot < slots.num_slots; slot++)
      if (int64_t expert = slots.expert(token, slot); expert >= 0) next[expert]++;
  for (int64_t group = 0; group < slots.num_groups; group++) {
    int64_t row = group * group_rows;
    for (int64_t expert = group * group_size; expert < (group + 1) * group_size; expert++) {
      expert_offsets[expert] = int32_t(row);
      row += next[expert];
      next[expert] = expert_offsets[expert];
    }
    for (; row < (group + 1) * group_rows; row++) masked_row(row);
  }
  expert_offsets[slots.num_experts] = int32_t(slots.num_groups * group_rows);
  for (int64_t token = 0; token < slots.num_tokens; token++)
    for (int64_t slot = 0; slot < slots.num_slots; slot++) {
      int64_t expert = slots.expert(token, slot);
      slot_rows[token * slots.num_slots + slot] = expert < 0 ? -1 : int32_t(next[expert]++);
    }
}

}  // namespace pangu
