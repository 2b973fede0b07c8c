// Order between cores: SyncAll, IBSet and IBWait, CrossCoreSetFlag and CrossCoreWaitFlag.
#pragma once

#include "sync.h"

namespace AscendC {

namespace emulator {

// Blocks of a later wave would never come to where the others wait.
inline void check_waves(const Core& core, const char* what) {
  if (core.blocks > CORES)
    core.fail(what, "too-many-blocks", "cores that wait for each other must be at most " + std::to_string(CORES),
              std::to_string(core.blocks) + " blocks");
}

// What a core makes known when it sets a flag for others.
struct Release {
  Clock own;
  std::vector<Clock> foreign;
};

inline void acquire(Core& core, int from, const Release& release) {
  core.foreign.resize(size_t(core.blocks));
  if (from == core.index) core.clocks[int(Pipe::S)].join(release.own);
  core.foreign[size_t(from)].join(release.own);
  for (size_t i = 0; i < release.foreign.size(); i++) core.foreign[i].join(release.foreign[i]);
}

struct Gathering {
  int arrived = 0, round = 0;
  Seq released = 0;  // when the last one came: what is done later, by those who go on first, is not known to the others
};

inline void gather_cores(Core& core, const std::string& what, Gathering& gathering, int count) {
  Machine& machine = Machine::get();
  machine.report.sync_alls++;
  core.barrier_all();
  const int round = gathering.round;
  if (++gathering.arrived == count) {
    gathering.arrived = 0;
    gathering.round++;
    gathering.released = machine.seq();
  }
  machine.wait(what, [&] { return gathering.round > round; });
  core.foreign.resize(size_t(core.blocks));
  Clock all;
  all.fill(gathering.released);
  for (int i = 0; i < count; i++) core.foreign[size_t(i)].join(all);
}

}  // namespace emulator

template <bool is_vector_only = true>
void SyncAll() {
  using namespace emulator;
  static_assert(is_vector_only, "the emulator has no cube cores, which SyncAll<false> waits for too");
  Core& core = emulator::core();
  if (!is_910b) core.fail("SyncAll", "chip", "SyncAll must be given workspaces on this chip", "none");
  check_waves(core, "SyncAll");
  gather_cores(core, "SyncAll", Machine::get().shared<Gathering>("SyncAll"), core.blocks);
}

// Through counts in GM, 32 bytes a core, which are zero before the kernel.
template <bool is_vector_only = true>
void SyncAll(const GlobalTensor<int32_t>& gm_workspace, const LocalTensor<int32_t>& ub_workspace,
             const int32_t used_cores = 0) {
  using namespace emulator;
  Core& core = emulator::core();
  check_waves(core, "SyncAll");
  const int count = used_cores ? used_cores : core.blocks;
  if (count < 1 || count > core.blocks || core.index >= count)
    core.fail("SyncAll", "workspace", "the cores that synchronise must be the first of the launch",
              "core " + std::to_string(core.index) + " of " + std::to_string(count));
  core.barrier_all();
  {
    Instruction load("SyncAll", Pipe::MTE2);
    const int64_t bytes = int64_t(count) * BLOCK;
    load.spoil(ub_workspace, 0, bytes);
    if (!Machine::get().memory.contains(gm_workspace.address(), gm_workspace.address() + uint64_t(bytes)))
      load.fail("workspace", "the GM workspace must have 32 bytes a core",
                Machine::get().memory.describe(gm_workspace.address()));
    auto* mine = reinterpret_cast<int32_t*>(gm_workspace.address()) + int64_t(core.index) * 8;
    auto& round = Machine::get().shared<std::map<std::pair<uint64_t, int>, int32_t>>(
        "SyncAll rounds")[{gm_workspace.address(), core.index}];
    if (*mine != round)
      load.fail("workspace", "the GM workspace must be zero before the kernel, and nobody else's",
                std::to_string(*mine));
    *mine = ++round;
  }
  gather_cores(core, "SyncAll", Machine::get().shared<Gathering>("SyncAll " + hex(gm_workspace.address())), count);
}

namespace emulator {

struct Semaphores {
  std::map<uint64_t, Release> released;  // by the address of the word
};

inline int32_t* semaphore(Core& core, const char* what, const GlobalTensor<int32_t>& gm, const LocalTensor<int32_t>& ub,
                          int32_t block, int32_t event) {
  check_waves(core, what);
  if (block < 0 || block >= core.blocks)
    core.fail(what, "workspace", "a block must be one of the launch's", std::to_string(block));
  core.barrier_all();
  Instruction load(what, Pipe::MTE2);
  load.spoil(ub, 0, BLOCK);
  const uint64_t begin = gm.address() + (uint64_t(core.blocks) * uint64_t(event) + uint64_t(block)) * BLOCK;
  if (event < 0 || !Machine::get().memory.contains(begin, begin + BLOCK))
    load.fail("workspace", "the GM workspace must have 32 bytes a block and event",
              Machine::get().memory.describe(begin));
  return reinterpret_cast<int32_t*>(begin);
}

}  // namespace emulator

// A word of GM per block and event, 0 or 1: IBSet waits for 0, IBWait for 1.
template <bool is_vector_only = true>
void IBSet(const GlobalTensor<int32_t>& gm, const LocalTensor<int32_t>& ub, int32_t block, int32_t event) {
  using namespace emulator;
  Core& core = emulator::core();
  int32_t* word = semaphore(core, "IBSet", gm, ub, block, event);
  Machine::get().wait("IBSet of block " + std::to_string(block) + ", event " + std::to_string(event),
                      [&] { return *word == 0; });
  *word = 1;
  Machine::get().shared<Semaphores>("IBSet").released[reinterpret_cast<uint64_t>(word)] = {core.snapshot(Pipe::MTE3),
                                                                                           core.foreign};
  core.barrier_all();
}

template <bool is_vector_only = true>
void IBWait(const GlobalTensor<int32_t>& gm, const LocalTensor<int32_t>& ub, int32_t block, int32_t event) {
  using namespace emulator;
  Core& core = emulator::core();
  int32_t* word = semaphore(core, "IBWait", gm, ub, block, event);
  Machine::get().wait("IBWait for block " + std::to_string(block) + ", event " + std::to_string(event),
                      [&] { return *word == 1; });
  *word = 0;
  acquire(core, block, Machine::get().shared<Semaphores>("IBSet").released[reinterpret_cast<uint64_t>(word)]);
  core.barrier_all();
}

namespace emulator {

// Flag `id`: what every core has released, set by set.
struct CrossFlag {
  std::map<int, std::vector<Release>> sets;
  std::map<int, int> waits;
};

}  // namespace emulator

// Mode 0: all vector cores set the flag, then each may wait for it. Mode 1: the two vector cores of a cube core.
template <uint8_t mode, pipe_t pipe>
void CrossCoreSetFlag(uint16_t id) {
  using namespace emulator;
  static_assert(mode <= 1, "the emulator has no cube cores: modes 0 and 1 only");
  Core& core = emulator::core();
  if (!is_910b) core.fail("CrossCoreSetFlag", "chip", "CrossCoreSetFlag must not be used", "a chip that has none");
  check_waves(core, "CrossCoreSetFlag");
  if (id > 10) core.soft("CrossCoreSetFlag", "flag-id", "a flag id must be 0 to 10", std::to_string(id));
  CrossFlag& flag =
      Machine::get().shared<CrossFlag>("CrossCoreFlag " + std::to_string(mode) + " " + std::to_string(id));
  auto& sets = flag.sets[core.index];
  if (++core.cross_flags[id] > 15)
    core.fail("CrossCoreSetFlag", "flag-counter", "a flag must be set at most 15 times before it is waited for",
              "once more");
  sets.push_back({core.snapshot(pipe_named(pipe)), core.foreign});
}

template <uint8_t mode = 0, pipe_t pipe = PIPE_S>
void CrossCoreWaitFlag(uint16_t id) {
  using namespace emulator;
  static_assert(mode <= 1, "the emulator has no cube cores: modes 0 and 1 only");
  Core& core = emulator::core();
  if (!is_910b) core.fail("CrossCoreWaitFlag", "chip", "CrossCoreWaitFlag must not be used", "a chip that has none");
  check_waves(core, "CrossCoreWaitFlag");
  CrossFlag& flag =
      Machine::get().shared<CrossFlag>("CrossCoreFlag " + std::to_string(mode) + " " + std::to_string(id));
  const int first = mode ? core.index / 2 * 2 : 0, last = mode ? std::min(first + 2, core.blocks) : core.blocks;
  const size_t turn = size_t(flag.waits[core.index]++);
  Machine::get().wait("CrossCoreWaitFlag of flag " + std::to_string(id), [&] {
    for (int i = first; i < last; i++)
      if (flag.sets[i].size() <= turn) return false;
    return true;
  });
  core.cross_flags[id]--;
  for (int i = first; i < last; i++) acquire(core, i, flag.sets[i][turn]);
}

}  // namespace AscendC
