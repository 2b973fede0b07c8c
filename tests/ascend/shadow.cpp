// The shadows of both memories against byte by byte ones of a few lines: the same accesses are in order, and the same
// are not.
#include <random>

#include "standalone.h"

using namespace AscendC::emulator;

namespace {

constexpr int BYTES = 160, PIPES_USED = 3;
constexpr Pipe READING[] = {Pipe::S, Pipe::V, Pipe::MTE3}, WRITING[] = {Pipe::S, Pipe::V, Pipe::MTE2};

struct Byte {
  bool written = false;
  Stamp writer = 0, read[1 << PIPE_BITS] = {};
};

// Mostly whole blocks, sometimes parts of them.
void draw_range(std::mt19937_64& random, uint32_t& begin, uint32_t& end) {
  const uint32_t step = random() % 3 ? 32 : 1, count = BYTES / step;
  const uint32_t a = random() % count, b = random() % count;
  begin = std::min(a, b) * step, end = (std::max(a, b) + 1) * step;
}

std::string local(std::mt19937_64& random) {
  LocalMemory memory;
  Byte bytes[BYTES];
  for (Seq seq = 1; seq < 120; seq++) {
    const bool writes = seq == 1 || random() % 2;
    const Pipe pipe = (writes ? WRITING : READING)[random() % PIPES_USED];
    Access access{stamp_of(seq, pipe), {}, false};
    for (int p = 0; p < 1 << PIPE_BITS; p++)
      access.limit[p] = stamp_of(random() % 64 ? seq - 1 : seq - 1 - random() % std::min<Seq>(seq, 8), Pipe(p));
    uint32_t begin, end;
    draw_range(random, begin, end);
    if (seq == 1) begin = 0, end = BYTES;
    if (random() % 64 == 0) {
      begin = begin / 32 * 32, end = (end + 31) / 32 * 32;
      memory.forget(begin, end);
      for (uint32_t i = begin; i < end; i++) bytes[i].written = false;
      continue;
    }
    const bool spoils = writes && random() % 32 == 0;
    bool wanted = true;
    for (uint32_t i = begin; i < end; i++) {
      wanted = wanted && access.knows(bytes[i].writer) && (writes || bytes[i].written);
      if (writes)
        for (Stamp read : bytes[i].read) wanted = wanted && access.knows(read);
    }
    Finding finding = !writes  ? memory.read(begin, end, access)
                      : spoils ? memory.spoil(begin, end, access)
                               : memory.write(begin, end, access);
    if (wanted == bool(finding))
      return "local: access " + std::to_string(seq) + " of [" + std::to_string(begin) + ", " + std::to_string(end) +
             ") must be " + (wanted ? "in" : "out of") + " order";
    if (!wanted) return "";  // an error ends a launch
    for (uint32_t i = begin; i < end; i++) {
      if (writes) bytes[i] = {!spoils, access.stamp, {}};
      if (!writes) bytes[i].read[int(pipe)] = access.stamp;
    }
  }
  return "";
}

struct GlobalByte {
  std::vector<Entry> writers, readers;
  bool atomic = false;
};

// Three cores; who knows whom is drawn anew for each access. In the naive shadow no access is ever forgotten but by a
// write that is ordered after it.
std::string global(std::mt19937_64& random) {
  static char place[BYTES + 64];
  const uint64_t base = (reinterpret_cast<uint64_t>(place) + 63) / 64 * 64;
  GlobalMemory memory;
  memory.begin({{reinterpret_cast<void*>(base), BYTES, "x"}});
  GlobalByte bytes[BYTES];
  Seq known[3][3] = {};  // known[a][b]: up to where core a knows core b; it only grows
  for (Seq seq = 1; seq < 80; seq++) {
    const uint32_t core = random() % 3;
    const bool writes = random() % 2, atomic = writes && random() % 2;
    const Entry own{core, stamp_of(seq, writes ? Pipe::MTE3 : Pipe::MTE2)};
    for (int i = 0; i < 5; i++) {
      const uint32_t other = random() % 3;  // and what that one knows
      for (int third = 0; third < 3; third++) known[core][third] = std::max(known[core][third], known[other][third]);
      known[core][other] = seq - 1;
    }
    auto knows = [&](const Entry& entry) { return entry.stamp >> PIPE_BITS <= known[core][entry.core]; };
    uint32_t begin, end;
    draw_range(random, begin, end);
    bool wanted = true;
    for (uint32_t i = begin; i < end; i++) {
      const GlobalByte& byte = bytes[i];
      if (!(atomic && byte.atomic))
        for (auto& entry : byte.writers) wanted = wanted && knows(entry);
      if (writes)
        for (auto& entry : byte.readers) wanted = wanted && knows(entry);
    }
    auto found = writes ? memory.write(base + begin, base + end, own, atomic, knows)
                        : memory.read(base + begin, base + end, own, knows);
    if (wanted == bool(found))
      return "global: access " + std::to_string(seq) + " of [" + std::to_string(begin) + ", " + std::to_string(end) +
             ") must be " + (wanted ? "in" : "out of") + " order";
    if (!wanted) return "";  // an error ends a launch
    for (uint32_t i = begin; i < end; i++) {
      GlobalByte& byte = bytes[i];
      if (!writes) {
        byte.readers.push_back(own);
        continue;
      }
      if (!(atomic && byte.atomic)) byte.writers.clear();
      byte.writers.push_back(own);
      byte.readers.clear();
      byte.atomic = atomic;
    }
  }
  return "";
}

}  // namespace

extern "C" void shadows(uint64_t seed, int64_t count) {
  std::mt19937_64 random(seed);
  std::string& error = Standalone::get().error;
  for (int64_t i = 0; i < count && error.empty(); i++) error = i % 2 ? local(random) : global(random);
}
