// Who knows of whom: every instruction has a number, and each pipe of a core a clock, the numbers up to which it knows
// the other pipes' instructions to be complete. All instructions run at once and in program order; only the clocks are
// concurrent. An access is in order when what it depends on is known complete.
#pragma once

#include <algorithm>
#include <array>
#include <cstdint>
#include <stdexcept>
#include <string>

#include "types.h"

namespace AscendC::emulator {

enum class Pipe : uint8_t { S, V, M, MTE1, MTE2, MTE3, FIX };
constexpr int PIPES = 7, PIPE_BITS = 3;

inline const char* name_of(Pipe pipe) {
  constexpr const char* names[] = {"S", "V", "M", "MTE1", "MTE2", "MTE3", "FIX"};
  return names[int(pipe)];
}

inline const char* unit_of(Pipe pipe) {
  constexpr const char* names[] = {"scalar", "vector", "cube", "MTE1", "MTE2", "MTE3", "fixpipe"};
  return names[int(pipe)];
}

using Seq = uint32_t;    // an instruction's number; they grow over all launches, so that no shadow needs clearing
using Stamp = uint32_t;  // of an access: the instruction's number and, in the low bits, its pipe
constexpr Seq LAST_SEQ = UINT32_MAX >> PIPE_BITS;

constexpr Stamp stamp_of(Seq seq, Pipe pipe) { return seq << PIPE_BITS | Stamp(pipe); }
constexpr Pipe pipe_of(Stamp stamp) { return Pipe(stamp & ((1u << PIPE_BITS) - 1)); }

struct Clock {
  Seq known[1 << PIPE_BITS] = {};

  Seq& operator[](Pipe pipe) { return known[int(pipe)]; }
  Seq operator[](Pipe pipe) const { return known[int(pipe)]; }
  void join(const Clock& other) {
    for (int i = 0; i < 1 << PIPE_BITS; i++) known[i] = std::max(known[i], other.known[i]);
  }
  void fill(Seq seq) { std::fill(known, known + (1 << PIPE_BITS), seq); }
};

// What an instruction may touch: the highest stamp of each pipe that it knows complete.
struct Access {
  Stamp stamp;
  Stamp limit[1 << PIPE_BITS];
  bool accumulates = false;  // what an earlier repeat of the same instruction wrote may be read

  Pipe pipe() const { return pipe_of(stamp); }
  bool knows(Stamp other) const { return other <= limit[int(pipe_of(other))]; }
};

enum class Hazard : uint8_t { NONE, UNINITIALISED, RAW, WAW, WAR, OVERLAP };

struct Finding {
  Hazard hazard = Hazard::NONE;
  uint64_t address = 0;
  Stamp other = 0;
  explicit operator bool() const { return hazard != Hazard::NONE; }
};

// An error of a kernel. Its text ends as all others do, in "what must hold, came what".
struct Fault : std::runtime_error {
  using std::runtime_error::runtime_error;
};

struct Abandoned {};  // unwinds the fibers that a failed launch leaves waiting

inline std::string hex(uint64_t value, int digits = 5) {
  std::string text;
  for (int i = 0; i < digits || value >> 4 * i; i++) text.insert(text.begin(), "0123456789abcdef"[value >> 4 * i & 15]);
  return "0x" + text;
}

// The pipes of each event, source first, in the order of the enum.
struct EventPipes {
  Pipe source, destination;
};
inline constexpr auto EVENT_PIPES = [] {
  constexpr Pipe S = Pipe::S, V = Pipe::V, M = Pipe::M, MTE1 = Pipe::MTE1, MTE2 = Pipe::MTE2, MTE3 = Pipe::MTE3,
                 FIX = Pipe::FIX;
  return std::to_array<EventPipes>({
      {MTE2, MTE1}, {MTE1, MTE2}, {MTE1, M}, {M, MTE1}, {MTE2, V}, {V, MTE2}, {MTE3, V}, {V, MTE3}, {M, V}, {V, M},
      {V, V}, {MTE3, MTE1}, {MTE1, MTE3}, {MTE1, V}, {MTE2, M}, {M, MTE2}, {V, MTE1}, {M, FIX}, {FIX, M}, {MTE3,
      MTE2}, {MTE2, MTE3}, {S, V}, {V, S}, {S, MTE2}, {MTE2, S}, {S, MTE3}, {MTE3, S}, {MTE2, FIX}, {FIX, MTE2}, {FIX,
      S}, {M, S}, {FIX, MTE3}, {MTE1, FIX}, {FIX, MTE1}, {FIX, FIX}
  });
}();
static_assert(EVENT_PIPES.size() == size_t(HardEvent::MAX));

constexpr Pipe source_of(HardEvent event) { return EVENT_PIPES[size_t(event)].source; }
constexpr Pipe destination_of(HardEvent event) { return EVENT_PIPES[size_t(event)].destination; }
static_assert(source_of(HardEvent::S_MTE3) == Pipe::S && destination_of(HardEvent::FIX_MTE1) == Pipe::MTE1);

// MAX where no event leads from one to the other.
constexpr HardEvent event_of(Pipe from, Pipe to) {
  for (int event = 0; event < int(HardEvent::MAX); event++)
    if (source_of(HardEvent(event)) == from && destination_of(HardEvent(event)) == to) return HardEvent(event);
  return HardEvent::MAX;
}

inline std::string name_of(HardEvent event) {
  return std::string(name_of(source_of(event))) + "_" + name_of(destination_of(event));
}

}  // namespace AscendC::emulator
