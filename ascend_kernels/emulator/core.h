// A vector core: its registers, its memory, its clocks and flags.
#pragma once

#include <map>
#include <string>
#include <unordered_map>
#include <vector>

#include "clocks.h"
#include "global_memory.h"
#include "local_memory.h"

namespace AscendC {
class TPipe;
}

namespace AscendC::emulator {

constexpr int EVENTS = int(HardEvent::MAX), EVENT_IDS = 8;

struct Core;
Core& core();  // the one that runs

// Part of the UB that InitBuffer gave away.
struct Buffer {
  uint32_t begin, end, generation;
  TPosition source, destination;
  bool is_queue;
  enum State : uint8_t { IDLE, ALLOCATED, QUEUED } state = IDLE;
  int8_t freed = -1, queued = -1;  // the event ids that it holds
};

// A line of GM that the scalar unit holds: its bytes as they were when it was first needed.
struct CachedLine {
  Seq since = 0;
  std::vector<Entry> unseen;  // written by then, but not known to be

  bool misses(const Entry& entry) const {
    if (entry.stamp >> PIPE_BITS > since) return true;
    for (const Entry& one : unseen)
      if (one.core == entry.core && one.stamp == entry.stamp) return true;
    return false;
  }
};

struct Core {
  // ---- registers that instructions set and read ----
  uint64_t mask[2] = {~0ull, ~0ull};
  bool counter_mode = false;
  uint64_t deq_scale = 0;
  uint64_t compare_mask[2] = {0, 0};
  uint64_t registers[4] = {0, 0, 0, 0};  // for the instruction headers' own use: sums, kept counts
  int atomic = 0;                        // what stores add as: 0 for a plain store, else 1 + a type's number

  // ---- who and where ----
  int index = 0, blocks = 1;
  LocalMemory memory;
  std::vector<Buffer> buffers;
  TPipe* pipe = nullptr;
  bool unwinding = false;  // the launch has failed: nothing is checked any more
  std::string late;        // an error found where none can be thrown
  std::unordered_map<uint64_t, CachedLine> cached;

  // ---- clocks ----
  Clock clocks[PIPES];
  Seq issued[PIPES] = {};
  std::vector<Clock> foreign;  // of the other cores; empty before the first wait for one
  int numbers[PIPES] = {};     // instructions so far
  struct Flag {
    bool is_set = false;
    Clock clock;
  };
  Flag flags[EVENTS][EVENT_IDS];
  uint8_t taken[EVENTS] = {};      // event ids, a bit each
  std::map<int, int> cross_flags;  // set for other cores and not waited for yet, by id

  Core() = default;
  Core(const Core&) = delete;

  void begin(int index, int blocks);
  void finish();

  Seq issue(Pipe pipe);
  Access access(Pipe pipe, Seq seq) const;

  // Everything that a pipe has begun, and all that it knows.
  Clock snapshot(Pipe pipe) const {
    Clock clock = clocks[int(pipe)];
    clock.join(clocks[int(Pipe::S)]);
    clock[pipe] = issued[int(pipe)];
    return clock;
  }

  void barrier(Pipe pipe) { clocks[int(pipe)][pipe] = issued[int(pipe)]; }

  void barrier_all() {
    Clock all;
    for (int p = 0; p < PIPES; p++) all[Pipe(p)] = issued[p];
    for (auto& clock : clocks) clock.join(all);
  }

  bool knows(const Entry& entry, const Access& access) const {
    if (int(entry.core) == index) return access.knows(entry.stamp);
    return entry.core < foreign.size() && entry.stamp >> PIPE_BITS <= foreign[entry.core][pipe_of(entry.stamp)];
  }

  std::string who() const;
  [[noreturn]] void fail(const std::string& what, const char* id, const std::string& rule,
                         const std::string& came) const {
    throw Fault(text(what, id, rule, came));
  }
  // Where nothing can be thrown: the core fails at its end, or at once when it next can.
  void fail_late(const std::string& what, const char* id, const std::string& rule, const std::string& came) {
    if (late.empty() && !unwinding) late = text(what, id, rule, came);
  }
  std::string text(const std::string& what, const char* id, const std::string& rule, const std::string& came) const {
    return who() + ", " + what + " [" + id + "]: " + rule + ", came " + came;
  }
  // An error if the strict switch is on, a warning of the report otherwise.
  void soft(const std::string& what, const char* id, const std::string& rule, const std::string& came) const;

  std::string describe(uint32_t address) const {
    std::string text = "UB " + hex(address);
    for (size_t i = buffers.size(); i--;)
      if (address >= buffers[i].begin && address < buffers[i].end)
        return text + " (" + describe(buffers[i]) + " + " + std::to_string(address - buffers[i].begin) + ")";
    return text;
  }

  std::string describe(const Buffer& buffer) const {
    auto position = [](TPosition at) {
      return at == TPosition::VECIN     ? "VECIN"
             : at == TPosition::VECOUT  ? "VECOUT"
             : at == TPosition::VECCALC ? "VECCALC"
             : at == TPosition::GM      ? "GM"
                                        : "other";
    };
    const char *from = position(buffer.source), *to = position(buffer.destination);
    std::string text = buffer.source == TPosition::GM ? to : from;
    if (buffer.source != TPosition::GM && buffer.destination != TPosition::GM && buffer.source != buffer.destination)
      text += std::string("-") + to;
    return text + (buffer.is_queue ? " queue's buffer " : " buffer ") + std::to_string(&buffer - buffers.data());
  }
};

}  // namespace AscendC::emulator
