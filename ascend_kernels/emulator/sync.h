// Order between the pipes of a core, and between its scalar unit's data cache and others.
#pragma once

#include "flags.h"
#include "tensor.h"

namespace AscendC {

// ---- who runs ----
inline int64_t GetBlockIdx() { return emulator::core().index; }
inline int64_t GetBlockNum() { return emulator::core().blocks; }
inline int64_t GetSubBlockIdx() { return 0; }
inline int64_t GetSubBlockNum() { return 1; }
inline int64_t GetTaskRation() { return 1; }
inline int64_t GetTaskRatio() { return 1; }
inline int64_t GetSystemCycle() { return emulator::Machine::get().seq(); }  // rises, and says no more

// ---- between the pipes of a core ----
template <HardEvent event>
void SetFlag(int32_t id) {
  emulator::set_flag(event, id);
}

template <HardEvent event>
void WaitFlag(int32_t id) {
  emulator::wait_flag(event, id);
}

namespace emulator {

constexpr bool is_pipe(pipe_t pipe) {
  return pipe == PIPE_S || pipe == PIPE_V || pipe == PIPE_M || pipe == PIPE_MTE1 || pipe == PIPE_MTE2 ||
         pipe == PIPE_MTE3 || pipe == PIPE_FIX;
}

constexpr Pipe pipe_named(pipe_t pipe) { return pipe == PIPE_FIX ? Pipe::FIX : Pipe(uint8_t(pipe)); }

}  // namespace emulator

template <pipe_t pipe>
void PipeBarrier() {
  emulator::Core& core = emulator::core();
  emulator::Machine::get().report.pipe_barriers++;
  if (pipe == PIPE_S) core.fail("PipeBarrier", "scalar-barrier", "PipeBarrier must not be of PIPE_S", "that");
  if constexpr (pipe == PIPE_ALL) {
    core.barrier_all();
  } else {
    static_assert(emulator::is_pipe(pipe), "PipeBarrier is for S, V, M, MTE1, MTE2, MTE3, FIX and ALL");
    const emulator::Pipe its = emulator::pipe_named(pipe);
    core.clocks[int(its)].join(core.clocks[int(emulator::Pipe::S)]);
    core.barrier(its);
  }
}

// ---- the scalar unit's data cache ----
namespace emulator {

inline void clean_line(Core& core, uint64_t line, Seq since) {
  GlobalMemory& memory = Machine::get().memory;
  if (!memory.clean(uint32_t(core.index), line)) return;
  memory.writers(line * CACHE_LINE, (line + 1) * CACHE_LINE, [&](uint64_t address, const Entry& entry) {
    bool is_own = int(entry.core) == core.index && pipe_of(entry.stamp) == Pipe::S;
    if (!is_own && entry.stamp >> PIPE_BITS > since)
      core.fail("DataCacheCleanAndInvalid", "dcache",
                "a line that is written back must hold nothing that others have written since",
                memory.describe(address));
  });
}

}  // namespace emulator

template <class T, CacheLine lines, DcciDst destination = DcciDst::CACHELINE_ALL>
void DataCacheCleanAndInvalid(const GlobalTensor<T>& tensor) {
  using namespace emulator;
  Core& core = emulator::core();
  if constexpr (lines == CacheLine::ENTIRE_DATA_CACHE) {
    for (auto& [line, since] : core.cached) clean_line(core, line, since);
    core.cached.clear();
  } else {
    auto found = core.cached.find(tensor.address() / CACHE_LINE);
    if (found == core.cached.end()) return;
    clean_line(core, found->first, found->second);
    core.cached.erase(found);
  }
}

template <class T>
void DataCachePreload(const GlobalTensor<uint64_t>&, const T) {}
inline void ICachePreLoad(const int64_t = 1) {}

}  // namespace AscendC
