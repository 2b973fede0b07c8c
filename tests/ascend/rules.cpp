// A kernel per rule of the emulator: right as it stands, and with `wrong` breaking that rule and no other.
#include "kernel_operator.h"
#include "wait.h"

using namespace AscendC;

namespace {

constexpr int32_t N = 64;  // floats: a repeat

using InQueue = TQue<TPosition::VECIN, 2>;
using OutQueue = TQue<TPosition::VECOUT, 2>;

// Two tensors in GM and two in the UB.
struct Scene {
  TPipe pipe;
  TBuf<TPosition::VECCALC> first, second;
  LocalTensor<float> a, b;
  GlobalTensor<float> x, y;

  __aicore__ inline Scene(GM_ADDR x_address, GM_ADDR y_address) {
    x.SetGlobalBuffer(reinterpret_cast<__gm__ float*>(x_address), 4 * N);
    y.SetGlobalBuffer(reinterpret_cast<__gm__ float*>(y_address), 4 * N);
    pipe.InitBuffer(first, 2 * N * sizeof(float));
    pipe.InitBuffer(second, 2 * N * sizeof(float));
    a = first.Get<float>();
    b = second.Get<float>();
  }
};

}  // namespace

// RULE(name, blocks): the kernel `name` and the function that launches it, run_name(x, y, wrong).
#define RULE(name, blocks)                                                                  \
  __global__ __aicore__ void name(GM_ADDR x_address, GM_ADDR y_address, int64_t wrong);     \
  extern "C" void run_##name(GM_ADDR x_address, GM_ADDR y_address, int64_t wrong) {         \
    name<<<blocks, nullptr, nullptr>>>(x_address, y_address, wrong);                        \
  }                                                                                         \
  __global__ __aicore__ void name(GM_ADDR x_address, GM_ADDR y_address, int64_t wrong)
#define SCENE                    \
  Scene s(x_address, y_address); \
  auto &a = s.a, &b = s.b;       \
  auto &x = s.x, &y = s.y;       \
  (void)a, (void)b, (void)x, (void)y, (void)wrong

// ---- the pipes of a core ----

RULE(vector_reads_what_a_copy_brings, 1) {
  SCENE;
  DataCopy(a, x, N);
  if (!wrong) wait<HardEvent::MTE2_V>();
  Adds(b, a, 1.0f, N);
}

RULE(copy_overwrites_what_the_vector_unit_reads, 1) {
  SCENE;
  DataCopy(a, x, N);
  wait<HardEvent::MTE2_V>();
  Adds(b, a, 1.0f, N);
  if (!wrong) wait<HardEvent::V_MTE2>();
  PipeBarrier<PIPE_MTE2>();
  DataCopy(a, x, N);
}

RULE(copy_overwrites_what_the_vector_unit_writes, 1) {
  SCENE;
  Duplicate(a, 1.0f, N);
  if (!wrong) wait<HardEvent::V_MTE2>();
  DataCopy(a, x, N);
}

RULE(copy_takes_what_the_vector_unit_writes, 1) {
  SCENE;
  Duplicate(a, 1.0f, N);
  if (!wrong) wait<HardEvent::V_MTE3>();
  DataCopy(y, a, N);
}

RULE(vector_overwrites_what_a_copy_takes, 1) {
  SCENE;
  Duplicate(a, 1.0f, N);
  wait<HardEvent::V_MTE3>();
  DataCopy(y, a, N);
  if (!wrong) wait<HardEvent::MTE3_V>();
  PipeBarrier<PIPE_V>();
  Duplicate(a, 2.0f, N);
}

RULE(copies_overlap, 1) {
  SCENE;
  DataCopy(a, x, N);
  if (!wrong) PipeBarrier<PIPE_MTE2>();
  DataCopy(a[N / 2], x, N);
}

RULE(stores_overlap, 1) {
  SCENE;
  Duplicate(a, 1.0f, N);
  wait<HardEvent::V_MTE3>();
  DataCopy(y, a, N);
  if (!wrong) PipeBarrier<PIPE_MTE3>();
  DataCopy(y[N / 2], a, N);
}

RULE(load_of_what_was_stored, 1) {
  SCENE;
  Duplicate(a, 1.0f, N);
  wait<HardEvent::V_MTE3>();
  DataCopy(y, a, N);
  if (!wrong) wait<HardEvent::MTE3_MTE2>();
  DataCopy(b, y, N);
}

RULE(store_over_what_is_loaded, 1) {
  SCENE;
  Duplicate(a, 1.0f, N);
  wait<HardEvent::V_MTE3>();
  DataCopy(b, y, N);
  if (!wrong) wait<HardEvent::MTE2_MTE3>();
  DataCopy(y, a, N);
}

RULE(order_passes_from_pipe_to_pipe, 1) {
  SCENE;
  DataCopy(a, x, N);
  wait<HardEvent::MTE2_V>();
  if (!wrong) wait<HardEvent::V_MTE3>(1);  // what V has waited for, MTE3 need not wait for
  DataCopy(y, a, N);
}

RULE(vector_after_vector, 1) {
  SCENE;
  Duplicate(a, 1.0f, N);
  if (!wrong) PipeBarrier<PIPE_V>();
  Adds(b, a, 1.0f, N);
}

RULE(vector_reads_what_the_scalar_unit_writes, 1) {
  SCENE;
  Duplicate(a, 1.0f, N);
  wait<HardEvent::V_S>();
  a.SetValue(0, 5.0f);
  if (!wrong) wait<HardEvent::S_V>();
  Adds(b, a, 1.0f, N);
}

RULE(scalar_reads_what_the_vector_unit_writes, 1) {
  SCENE;
  Duplicate(a, 1.0f, N);
  if (!wrong) wait<HardEvent::V_S>();
  (void)a.GetValue(0);
}

RULE(queue_of_scratch, 1) {
  SCENE;
  TQue<TPosition::VECCALC, 1> queue;
  s.pipe.InitBuffer(queue, 1, N * sizeof(float));
  LocalTensor<float> t, same;
  queue.AllocTensor(t);
  Duplicate(t, 1.0f, N);
  queue.EnQue(t);
  if (!wrong) queue.DeQue(same);
  b.SetSize(N);
  b = t + t;
  if (wrong) queue.DeQue<float>(same);
  queue.FreeTensor(same);
}

RULE(bytes_of_a_block_apart, 1) {
  SCENE;
  Duplicate(a, 1.0f, N);
  wait<HardEvent::V_S>();
  float value = a.GetValue(2);
  Duplicate(b, value, 1);
  if (wrong) Adds(b, b, value, 1);  // with no automatic sync the unit must wait for itself
  Duplicate(b[8], value, 1);
}

// ---- what is read and written ----

RULE(read_of_what_nobody_wrote, 1) {
  SCENE;
  Duplicate(a, 1.0f, N);
  PipeBarrier<PIPE_V>();
  Adds(b, a, 1.0f, wrong ? N + 1 : N);
}

RULE(read_past_the_end, 1) {
  SCENE;
  Duplicate(a, 1.0f, 2 * N);
  PipeBarrier<PIPE_V>();
  Adds(b, a[N], 1.0f, wrong ? N + 1 : N);
}

RULE(write_past_the_end, 1) {
  SCENE;
  Duplicate(b, 1.0f, wrong ? 2 * N + 1 : 2 * N);
}

RULE(scalar_past_the_end, 1) {
  SCENE;
  a.SetValue(wrong ? 2 * N : 2 * N - 1, 1.0f);
}

RULE(load_past_the_tensor, 1) {
  SCENE;
  DataCopy(a, x[wrong ? 7 * N / 2 + 8 : 7 * N / 2], N / 2);
}

RULE(store_past_the_tensor, 1) {
  SCENE;
  Duplicate(a, 1.0f, N);
  wait<HardEvent::V_MTE3>();
  DataCopy(x[wrong ? 7 * N / 2 + 1 : 7 * N / 2], a, N / 2);
}

RULE(load_past_the_window, 1) {  // which hardware never sees
  SCENE;
  x.SetGlobalBuffer(reinterpret_cast<__gm__ float*>(x_address), wrong ? N - 1 : N);
  DataCopy(a, x, N);
}

RULE(unaligned_load, 1) {
  SCENE;
  DataCopy(a[wrong ? 1 : 8], x, 8);
}

RULE(unaligned_vector, 1) {
  SCENE;
  Duplicate(a[wrong ? 4 : 8], 1.0f, 8);
}

RULE(unaligned_scalar, 1) {
  SCENE;
  Duplicate(a, 1.0f, N);
  wait<HardEvent::V_S>();
  (void)a.ReinterpretCast<half>()[wrong ? 1 : 2].ReinterpretCast<float>().GetValue(0);
}

RULE(unaligned_scalar_of_gm, 1) {
  SCENE;
  GlobalTensor<float> part;
  part.SetGlobalBuffer(reinterpret_cast<__gm__ float*>(y_address + (wrong ? 2 : 4)));
  (void)part.GetValue(0);
}

RULE(count_of_half_blocks, 1) {
  SCENE;
  DataCopy(a, x, wrong ? 9 : 8);
}

RULE(copy_of_nothing, 1) {
  SCENE;
  DataCopy(a, x, DataCopyParams(uint16_t(wrong ? 0 : 1), 1, 0, 0));
}

RULE(sources_of_a_later_repeat, 1) {
  SCENE;
  Duplicate(a, 1.0f, 2 * N);
  PipeBarrier<PIPE_V>();
  Adds(wrong ? a[N] : b, a, 1.0f, N, uint8_t(wrong ? 2 : 1), {1, 1, 8, 8});
}

RULE(partial_overlap, 1) {
  SCENE;
  Duplicate(a, 1.0f, 2 * N);
  PipeBarrier<PIPE_V>();
  Adds(a[wrong ? 8 : 0], a, 1.0f, N);
}

// ---- flags ----

RULE(flag_set_twice, 1) {
  SCENE;
  SetFlag<HardEvent::MTE2_V>(0);
  if (wrong) SetFlag<HardEvent::MTE2_V>(0);
  WaitFlag<HardEvent::MTE2_V>(0);
}

RULE(flag_never_set, 1) {
  SCENE;
  if (!wrong) SetFlag<HardEvent::MTE2_V>(3);
  WaitFlag<HardEvent::MTE2_V>(3);
}

RULE(flag_by_the_compilers_names, 1) {
  SCENE;
  set_flag(PIPE_MTE2, PIPE_V, 3);
  pipe_barrier(PIPE_ALL);
  if (wrong)
    wait_flag(PIPE_MTE2, PIPE_V, 2);
  else
    WaitFlag<HardEvent::MTE2_V>(3);
}

RULE(flag_never_waited_for, 1) {
  SCENE;
  SetFlag<HardEvent::V_MTE3>(1);
  if (!wrong) WaitFlag<HardEvent::V_MTE3>(1);
}

RULE(flag_id_too_high, 1) {
  SCENE;
  wait<HardEvent::V_MTE3>(wrong ? 8 : 7);
}

RULE(flag_id_of_a_queue, 1) {
  SCENE;
  InQueue queue;
  s.pipe.InitBuffer(queue, 1, N * sizeof(float));
  auto t = queue.AllocTensor<float>();
  DataCopy(t, x, N);
  queue.EnQue(t);  // holds id 0
  wait<HardEvent::MTE2_V>(wrong ? 0 : 1);
  queue.FreeTensor(queue.DeQue<float>());
}

RULE(event_ids_run_out, 1) {
  SCENE;
  TEventID ids[9];
  for (int i = 0; i < (wrong ? 9 : 8); i++) ids[i] = s.pipe.AllocEventID<HardEvent::V_MTE3>();
  for (int i = 0; i < 8; i++) s.pipe.ReleaseEventID<HardEvent::V_MTE3>(ids[i]);
}

RULE(event_id_given_back_twice, 1) {
  SCENE;
  auto id = s.pipe.AllocEventID<HardEvent::V_MTE3>();
  GetTPipePtr()->ReleaseEventID<HardEvent::V_MTE3>(id);
  if (wrong) s.pipe.ReleaseEventID<HardEvent::V_MTE3>(id);
}

RULE(barrier_of_the_scalar_unit, 1) {  // which hardware answers with an error
  SCENE;
  PipeBarrier<PIPE_ALL>();
  if (wrong) PipeBarrier<PIPE_S>();
}

RULE(queues_events_are_freed, 1) {
  SCENE;
  OutQueue queue;
  s.pipe.InitBuffer(queue, 2, N * sizeof(float));
  auto tensor = queue.AllocTensor<float>();
  Duplicate(tensor, 1.0f, N);
  queue.EnQue(tensor);
  tensor = queue.DeQue<float>();
  DataCopy(y, tensor, N);
  queue.FreeTensor(tensor);
  if (!wrong) queue.FreeAllEvent();
  SetFlag<HardEvent::MTE3_V>(0);
  WaitFlag<HardEvent::MTE3_V>(0);
}

RULE(fetching_takes_no_id, 1) {
  SCENE;
  auto first = s.pipe.FetchEventID(HardEvent::V_MTE3);
  auto second = s.pipe.FetchEventID<HardEvent::V_MTE3>();
  SetFlag<HardEvent::V_MTE3>(first);
  if (wrong) SetFlag<HardEvent::V_MTE3>(second);
  WaitFlag<HardEvent::V_MTE3>(first);
}

// ---- queues and buffers ----

#define QUEUES(depth)                                \
  SCENE;                                             \
  TQue<TPosition::VECIN, depth> in;                  \
  TQue<TPosition::VECOUT, depth> out;                \
  s.pipe.InitBuffer(in, 2, N * sizeof(float));       \
  s.pipe.InitBuffer(out, 2, N * sizeof(float));      \
  auto load = [&] {                                  \
    auto t = in.template AllocTensor<float>();       \
    DataCopy(t, x, N);                               \
    in.EnQue(t);                                     \
  };                                                 \
  (void)load

RULE(queues_order_the_pipes, 1) {
  QUEUES(2);
  for (int i = 0; i < 4; i++) {
    load();
    auto from = in.DeQue<float>(), to = out.AllocTensor<float>();
    Adds(to, from, 1.0f, N);
    if (wrong) DataCopy(y[i * N], to, N);  // before its queue has waited for the vector unit
    out.EnQue<float>(to);
    in.FreeTensor(from);
    to = out.DeQue<float>();
    DataCopy(y[i * N], to, N);
    out.FreeTensor(to);
  }
}

RULE(use_after_free, 1) {
  QUEUES(2);
  load();
  auto t = in.DeQue<float>();
  if (wrong) in.FreeTensor(t);
  Adds(b, t, 1.0f, N);
  if (!wrong) in.FreeTensor(t);
}

RULE(double_free, 1) {
  QUEUES(2);
  load();
  auto t = in.DeQue<float>();
  in.FreeTensor(t);
  if (wrong) in.FreeTensor(t);
}

RULE(never_freed, 1) {
  QUEUES(2);
  load();
  auto t = in.DeQue<float>();
  if (!wrong) in.FreeTensor(t);
}

RULE(never_dequeued, 1) {
  QUEUES(2);
  load();
  if (!wrong) in.FreeTensor(in.DeQue<float>());
}

RULE(dequeue_of_nothing, 1) {
  QUEUES(2);
  if (!wrong) load();
  auto t = in.DeQue<float>();
  in.FreeTensor(t);
}

RULE(enqueued_twice, 1) {
  QUEUES(2);
  auto t = in.AllocTensor<float>();
  in.EnQue(t);
  if (wrong) in.EnQue(t);
  in.FreeTensor(in.DeQue<float>());
}

RULE(more_than_the_depth, 1) {
  QUEUES(1);
  load();
  if (wrong) load();
  in.FreeTensor(in.DeQue<float>());
}

RULE(no_idle_buffer, 1) {
  QUEUES(2);
  LocalTensor<float> tensors[3];
  for (int i = 0; i < (wrong ? 3 : 2); i++) tensors[i] = in.AllocTensor<float>();
  for (int i = 0; i < 2; i++) in.FreeTensor(tensors[i]);
}

RULE(tensor_of_another_queue, 1) {
  QUEUES(2);
  auto t = in.AllocTensor<float>();
  if (wrong) {
    out.EnQue(t);
  } else {
    in.EnQue(t);
  }
  in.FreeTensor(in.DeQue<float>());
}

RULE(scratch_in_a_queue, 1) {
  QUEUES(2);
  auto t = in.AllocTensor<float>();
  in.FreeTensor(wrong ? a : t);
}

RULE(load_into_vecout, 1) {
  QUEUES(2);
  auto t = out.AllocTensor<float>();
  DataCopy(wrong ? t : a, x, N);
  out.FreeTensor(t);
}

RULE(store_from_vecin, 1) {
  QUEUES(2);
  load();
  auto t = in.DeQue<float>();
  wait<HardEvent::MTE2_MTE3>();
  if (wrong) DataCopy(y, t, N);
  in.FreeTensor(t);
}

RULE(nine_tensors, 1) {
  SCENE;
  InQueue first, second;
  s.pipe.InitBuffer(first, 8, 32);
  s.pipe.InitBuffer(second, 1, 32);
  LocalTensor<float> tensors[8];
  for (auto& tensor : tensors) tensor = first.AllocTensor<float>();
  if (wrong) second.AllocTensor<float>();
  if (!wrong)
    for (auto& tensor : tensors) first.FreeTensor(tensor);
}

RULE(queue_without_a_buffer, 1) {
  SCENE;
  InQueue queue;
  if (!wrong) s.pipe.InitBuffer(queue, 1, 32);
  queue.FreeTensor(queue.AllocTensor<float>());
}

RULE(tensor_of_no_buffer, 1) {
  SCENE;
  LocalTensor<float> nothing;
  Duplicate(wrong ? nothing : a, 1.0f, 8);
}

RULE(scratch_past_its_end, 1) {
  SCENE;
  s.first.Get<float>(wrong ? 2 * N + 1 : 2 * N);
}

RULE(too_many_buffers, 1) {
  SCENE;  // has two
  InQueue queue;
  s.pipe.InitBuffer(queue, wrong ? 63 : 62, 32);
}

RULE(too_much_memory, 1) {
  SCENE;
  TBuf<> rest;
  constexpr uint32_t usable = (__NPU_ARCH__ == 2201 ? 184 : 248) << 10;
  s.pipe.InitBuffer(rest, usable - 4 * N * sizeof(float) + (wrong ? 1 : 0));
}

RULE(two_pipes, 1) {
  SCENE;
  if (!wrong) s.pipe.Destroy();
  TPipe other;
}

RULE(reset_frees_all, 1) {
  QUEUES(2);
  load();
  in.FreeTensor(in.DeQue<float>());
  s.pipe.Reset();
  if (!wrong) s.pipe.InitBuffer(in, 2, N * sizeof(float));
  load();
  in.FreeTensor(in.DeQue<float>());
}

RULE(reset_with_a_tensor_out, 1) {
  QUEUES(2);
  auto t = in.AllocTensor<float>();
  if (!wrong) in.FreeTensor(t);
  s.pipe.Reset();
}

// ---- what a kernel leaves behind ----

RULE(assertion, 1) {
  SCENE;
  ASCENDC_ASSERT(wrong == 0, { KERNEL_LOG(KERNEL_ERROR, "wrong is %ld, not 0", wrong); });
}

RULE(atomic_left_on, 1) {
  SCENE;
  SetAtomicAdd<float>();
  if (!wrong) SetAtomicNone();
}

RULE(counter_mode_left_on, 1) {
  SCENE;
  SetMaskCount();
  if (!wrong) SetMaskNorm();
}

RULE(atomic_of_another_type, 1) {
  SCENE;
  Duplicate(a, 1.0f, N);
  wait<HardEvent::V_MTE3>();
  if (wrong) {
    SetAtomicAdd<half>();
  } else {
    SetAtomicAdd<float>();
  }
  DataCopy(y, a, N);
  DisableDmaAtomic();
}

// ---- the cores ----

RULE(cores_write_one_place, 2) {
  SCENE;
  Duplicate(a, 1.0f, N);
  wait<HardEvent::V_MTE3>();
  DataCopy(y[wrong ? 0 : GetBlockIdx() * N], a, N);
}

RULE(cores_write_side_by_side, 2) {  // in one block of 32 bytes
  SCENE;
  Duplicate(a, 1.0f, N);
  wait<HardEvent::V_MTE3>();
  if (GetBlockIdx() == 0) DataCopy(y, a, 8);
  if (GetBlockIdx() == 1) DataCopy(y[wrong ? 7 : 8], a, 8);
}

RULE(core_reads_what_another_writes, 2) {
  SCENE;
  Duplicate(a, 1.0f, N);
  wait<HardEvent::V_MTE3>();
  if (GetBlockIdx() == 0) DataCopy(y, a, N);
  if (GetBlockIdx() == 1) DataCopy(b, y[wrong ? 0 : N], N);
}

RULE(core_overwrites_what_another_reads, 2) {
  SCENE;
  Duplicate(a, 1.0f, N);
  wait<HardEvent::V_MTE3>();
  if (GetBlockIdx() == 0) DataCopy(b, y, N);
  if (GetBlockIdx() == 1) DataCopy(y[wrong ? 0 : N], a, N);
}

RULE(cores_add_to_one_place, 2) {
  SCENE;
  Duplicate(a, 1.0f, N);
  wait<HardEvent::V_MTE3>();
  if (!wrong || GetBlockIdx() == 0) SetAtomicAdd<float>();
  DataCopy(y, a, N);
  SetAtomicNone();
}

// Every core stores a row, and reads the next one's after the wait.
#define EXCHANGE(...)                                                 \
  SCENE;                                                              \
  const int64_t me = GetBlockIdx(), next = (me + 1) % GetBlockNum();  \
  Duplicate(a, float(me + 1), N);                                     \
  wait<HardEvent::V_MTE3>();                                          \
  DataCopy(x[me * N], a, N);                                          \
  __VA_ARGS__;                                                        \
  DataCopy(b, x[next * N], N);                                        \
  wait<HardEvent::MTE2_MTE3>();                                       \
  DataCopy(y[me * N], b, N)

#define WORKSPACES                                                                          \
  TBuf<> workspace;                                                                         \
  s.pipe.InitBuffer(workspace, 4 * 32);                                                     \
  GlobalTensor<int32_t> counts;                                                             \
  counts.SetGlobalBuffer(reinterpret_cast<__gm__ int32_t*>(y_address) + 4 * N, 4 * N)

RULE(soft_sync, 4) {
  EXCHANGE({
    WORKSPACES;
    if (!wrong) SyncAll(counts, workspace.Get<int32_t>());
    if (!wrong) SyncAll(counts, workspace.Get<int32_t>(), 4);
  });
}

RULE(race_after_a_sync, 4) {  // what the cores do then is as unordered as before
  SCENE;
  WORKSPACES;
  Duplicate(a, 1.0f, N);
  wait<HardEvent::V_MTE3>();
  SyncAll(counts, workspace.Get<int32_t>());
  const int64_t me = GetBlockIdx();
  if (me < 3 || !wrong) DataCopy(y[me * N], a, N);
  if (me == 3 && wrong) DataCopy(b, y, N);
}

RULE(soft_sync_of_a_dirty_workspace, 1) {
  SCENE;
  WORKSPACES;
  if (wrong) {
    Duplicate(a, 1.0f, N);
    wait<HardEvent::V_MTE3>();
    DataCopy(y[4 * N], a, N);
  }
  SyncAll(counts, workspace.Get<int32_t>());
}

RULE(baton, 3) {  // each core waits for the one before it
  SCENE;
  WORKSPACES;
  const int32_t me = GetBlockIdx();
  auto words = workspace.Get<int32_t>();
  if (me > 0 && !wrong) IBWait(counts, words, me - 1, 0);
  DataCopy(a, y, N);
  wait<HardEvent::MTE2_V>();
  Adds(b, a, 1.0f, N);
  wait<HardEvent::V_MTE3>();
  DataCopy(y, b, N);
  if (me < 2 && !wrong) IBSet(counts, words, me, 0);
}

RULE(waits_in_vain, 2) {
  SCENE;
  WORKSPACES;
  if (GetBlockIdx() == 0 || !wrong) SyncAll(counts, workspace.Get<int32_t>());
}

RULE(more_blocks_than_cores, wrong ? 41 : 8) {
  SCENE;
  TBuf<> workspace;
  s.pipe.InitBuffer(workspace, 64 * 32);
  GlobalTensor<int32_t> counts;
  counts.SetGlobalBuffer(reinterpret_cast<__gm__ int32_t*>(y_address), 64 * 8);
  SyncAll(counts, workspace.Get<int32_t>());
}

RULE(waves, 200) {
  SCENE;
  if (wrong) y.SetValue(0, 1.0f);
  if (wrong) DataCacheCleanAndInvalid<float, CacheLine::SINGLE_CACHE_LINE>(y);
}

// ---- the scalar unit's cache ----

RULE(cached_store, 1) {
  SCENE;
  y.SetValue(3, 1.0f);
  if (!wrong) DataCacheCleanAndInvalid<float, CacheLine::SINGLE_CACHE_LINE>(y);
}

RULE(load_of_a_cached_store, 1) {
  SCENE;
  y.SetValue(3, 1.0f);
  if (!wrong) DataCacheCleanAndInvalid<float, CacheLine::ENTIRE_DATA_CACHE>(y);
  wait<HardEvent::S_MTE2>();
  DataCopy(a, y, 8);
  if (wrong) DataCacheCleanAndInvalid<float, CacheLine::ENTIRE_DATA_CACHE>(y);
}

RULE(stale_line, 1) {
  SCENE;
  (void)y.GetValue(0);
  Duplicate(a, 1.0f, N);
  wait<HardEvent::V_MTE3>();
  wait<HardEvent::S_MTE3>();
  DataCopy(y, a, N);
  wait<HardEvent::MTE3_S>();
  if (!wrong) DataCacheCleanAndInvalid<float, CacheLine::SINGLE_CACHE_LINE>(y);
  (void)y.GetValue(0);
}

RULE(line_of_two_writers, 1) {
  SCENE;
  Duplicate(a, 1.0f, N);
  wait<HardEvent::V_MTE3>();
  y.SetValue(0, 2.0f);
  wait<HardEvent::S_MTE3>();
  DataCopy(y[wrong ? 8 : 16], a, 8);
  DataCacheCleanAndInvalid<float, CacheLine::SINGLE_CACHE_LINE>(y);
}

RULE(line_of_two_cores, 2) {
  SCENE;
  const int64_t me = GetBlockIdx();
  y.SetValue(wrong ? me : me * 16, 1.0f);
  DataCacheCleanAndInvalid<float, CacheLine::ENTIRE_DATA_CACHE>(y);
}

RULE(line_of_two_cores_at_once, 2) {  // neither core's copy has what the other has written
  SCENE;
  WORKSPACES;
  const int64_t me = GetBlockIdx();
  y.SetValue(wrong ? me : me * 16, 1.0f);
  SyncAll(counts, workspace.Get<int32_t>());
  DataCacheCleanAndInvalid<float, CacheLine::ENTIRE_DATA_CACHE>(y);
}

RULE(store_beside_a_line_written_back, 2) {
  SCENE;
  Duplicate(a, 1.0f, N);
  wait<HardEvent::V_MTE3>();
  if (GetBlockIdx() == 0) y.SetValue(0, 1.0f);
  if (GetBlockIdx() == 0) DataCacheCleanAndInvalid<float, CacheLine::ENTIRE_DATA_CACHE>(y);
  if (GetBlockIdx() == 1) DataCopy(y[wrong ? 8 : 16], a, 8);
}

RULE(line_cached_while_another_core_stores, 2) {
  SCENE;
  WORKSPACES;
  Duplicate(a, 1.0f, N);
  wait<HardEvent::V_MTE3>();
  if (GetBlockIdx() == 0) DataCopy(y, a, 8);
  if (GetBlockIdx() == 1) (void)y.GetValue(wrong ? 8 : 16);
  SyncAll(counts, workspace.Get<int32_t>());
  if (GetBlockIdx() == 1) (void)y.GetValue(0);
}

RULE(line_cached_ahead, 1) {
  SCENE;
  GlobalTensor<uint64_t> words;
  words.SetGlobalBuffer(reinterpret_cast<__gm__ uint64_t*>(y_address));
  DataCachePreload(words, wrong ? 0 : 64);
  Duplicate(a, 1.0f, N);
  wait<HardEvent::V_MTE3>();
  DataCopy(y, a, 8);
  wait<HardEvent::MTE3_S>();
  (void)y.GetValue(0);
}

#if __NPU_ARCH__ == 2201
RULE(sync_all, 4) {
  EXCHANGE({
    if (!wrong) SyncAll();
    if (!wrong) SyncAll<true>();
  });
}

RULE(cross_core_flags, 4) {
  EXCHANGE({
    if (wrong) CrossCoreSetFlag<0, PIPE_V>(3);  // says nothing of what MTE3 has begun
    if (!wrong) CrossCoreSetFlag<0x0, PIPE_MTE3>(3);
    CrossCoreWaitFlag(3);
  });
}

RULE(cross_core_flag_never_waited_for, 2) {
  SCENE;
  CrossCoreSetFlag<0, PIPE_MTE3>(5);
  if (!wrong) CrossCoreWaitFlag<0, PIPE_S>(5);
}

RULE(padding_left_as_garbage, 1) {
  SCENE;
  DataCopyPad(a, x, {1, 3 * sizeof(float), 0, 0, 0}, {!wrong, 0, 5, 0});
  wait<HardEvent::MTE2_V>();
  Adds(b, a, 1.0f, 8);
}

RULE(padding_too_long, 1) {
  SCENE;
  DataCopyPad(a, x, {1, 8 * sizeof(float), 0, 0, 0}, {true, 0, uint8_t(wrong ? 9 : 8), 0});
}
#else
RULE(no_padded_copies, 1) {
  SCENE;
  if (wrong) DataCopyPad(a, x, {1, 32, 0, 0}, {false, 0, 0, 0});
}

RULE(no_hard_sync, 1) {
  SCENE;
  if (wrong) SyncAll();
}
#endif
