// moge_dispatch: one thread sorts the slots (a few ids per token); then every thread owns whole tokens, reads each
// once and writes its K copies past the cache.
#include "common/moge_dispatch.h"

#include <torch/csrc/stable/library.h>

#include "cpu/isa/stream.h"
#include "cpu/route.h"

namespace pangu {
namespace {

std::tuple<Tensor, Tensor, Tensor> moge_dispatch(const Tensor& x, const Tensor& expert_ids, int64_t num_experts,
                                                 int64_t num_groups) {
  MogeDispatch op = moge_dispatch_prologue(x, expert_ids, num_experts, num_groups);
  int64_t row_bytes = op.hidden * int64_t(x.element_size());
  const char* from = data<char>(op.x);
  char* to = mutable_data<char>(op.rows);
  int32_t* slot_rows = mutable_data<int32_t>(op.slot_rows);
  route({data<int32_t>(op.expert_ids), op.num_tokens, op.num_slots, op.num_experts, op.num_groups}, slot_rows,
        mutable_data<int32_t>(op.expert_offsets),
        [&](int64_t row) {
          if (row_bytes) std::memset(to + row * row_bytes, 0, row_bytes);
        });
  if (op.rows.numel() == 0) return {op.rows, op.slot_rows, op.expert_offsets};

  bool stream = op.num_tokens * op.num_slots * row_bytes > STREAM_BYTES;
  int64_t token_bytes = op.num_slots * row_bytes;
  torch::stable::parallel_for(0, op.num_tokens, 1 + 65536 / (1 + token_bytes), [&](int64_t begin, int64_t end) {
    for (int64_t token = begin; token < end; token++)
      for (int64_t slot = 0; slot < op.num_slots; slot++) {
        int64_t row = slot_rows[token * op.num_slots + slot];
        if (row < 0) continue;
        if (stream)
          copy_past_cache(to + row * row_bytes, from + token * row_bytes, row_bytes);
        else
          std::memcpy(to + row * row_bytes, from + token * row_bytes, row_bytes);
      }
    if (stream) stream_fence();
  });
  return {op.rows, op.slot_rows, op.expert_offsets};
}

}  // namespace

STABLE_TORCH_LIBRARY_IMPL(pangu, CPU, m) { m.impl("moge_dispatch", TORCH_BOX(&moge_dispatch)); }

}  // namespace pangu
