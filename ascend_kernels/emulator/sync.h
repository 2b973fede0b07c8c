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

inline void pipe_barrier(pipe_t pipe) {
  Core& core = emulator::core();
  Machine::get().report.pipe_barriers++;
  if (pipe == PIPE_ALL) return core.barrier_all();
  if (pipe == PIPE_S || !is_pipe(pipe))
    core.fail("PipeBarrier", "scalar-barrier", "PipeBarrier must be of another pipe than the scalar unit's", "that");
  const Pipe its = pipe_named(pipe);
  core.clocks[int(its)].join(core.clocks[int(Pipe::S)]);
  core.barrier(its);
}

}  // namespace emulator

template <pipe_t pipe>
void PipeBarrier() {
  static_assert(pipe == PIPE_ALL || emulator::is_pipe(pipe), "PipeBarrier is for V, M, MTE1, MTE2, MTE3, FIX and ALL");
  emulator::pipe_barrier(pipe);
}

// ---- the scalar unit's data cache ----
namespace emulator {

inline void clean_line(const Instruction& instruction, uint64_t number, const CachedLine& line) {
  GlobalMemory& memory = Machine::get().memory;
  const Entry own{uint32_t(instruction.core_of().index), stamp_of(instruction.seq(), Pipe::S)};
  if (!memory.clean(own.core, number)) return;
  memory.writers(number * CACHE_LINE, (number + 1) * CACHE_LINE, [&](uint64_t address, const Entry& entry) {
    bool is_own = entry.core == own.core && pipe_of(entry.stamp) == Pipe::S;
    if (!is_own && (line.misses(entry) || !instruction.knows(entry)))
      instruction.fail("dcache", "a line that is written back must hold nothing that others have written since",
                       memory.describe(address));
  });
  memory.write_back(number, own);
}

}  // namespace emulator

template <class T, CacheLine lines, DcciDst destination = DcciDst::CACHELINE_ALL>
void DataCacheCleanAndInvalid(const GlobalTensor<T>& tensor) {
  using namespace emulator;
  static_assert(destination == DcciDst::CACHELINE_ALL || destination == DcciDst::CACHELINE_OUT,
                "the emulator has a data cache of GM only");
  Instruction instruction("DataCacheCleanAndInvalid", Pipe::S);
  auto& cached = instruction.core_of().cached;
  if constexpr (lines == CacheLine::ENTIRE_DATA_CACHE) {
    for (auto& [number, line] : cached) clean_line(instruction, number, line);
    cached.clear();
  } else {
    auto found = cached.find(tensor.address() / CACHE_LINE);
    if (found == cached.end()) return;
    clean_line(instruction, found->first, found->second);
    cached.erase(found);
  }
}

template <class T>
void DataCachePreload(const GlobalTensor<uint64_t>& tensor, const T byte_offset) {
  emulator::Instruction instruction("DataCachePreload", emulator::Pipe::S);
  emulator::cached_line(instruction, tensor.address() + uint64_t(byte_offset));
}
inline void ICachePreLoad(const int64_t = 1) {}  // of a cache that is not emulated

}  // namespace AscendC

// The device compiler's own names, which kernels use too.
namespace AscendC::emulator {

inline HardEvent event_named(pipe_t source, pipe_t destination) {
  const HardEvent event = event_of(pipe_named(source), pipe_named(destination));
  if (event != HardEvent::MAX) return event;
  core().fail("set_flag", "event", "there must be an event from one pipe to the other", "two that have none");
}

}  // namespace AscendC::emulator

inline void pipe_barrier(pipe_t pipe) { AscendC::emulator::pipe_barrier(pipe); }
inline void set_flag(pipe_t source, pipe_t destination, int32_t id) {
  AscendC::emulator::set_flag(AscendC::emulator::event_named(source, destination), id);
}
inline void wait_flag(pipe_t source, pipe_t destination, int32_t id) {
  AscendC::emulator::wait_flag(AscendC::emulator::event_named(source, destination), id);
}
