// One instruction of the running core: issued on its pipe, and every access of it checked before data move.
#pragma once

#include "cores.h"

namespace AscendC {
template <class T>
class LocalTensor;
template <class T>
class GlobalTensor;
}  // namespace AscendC

namespace AscendC::emulator {

// Where a tensor lies in the UB, and until when: a freed buffer has another generation.
struct Place {
  uint32_t address = 0, end = 0, buffer = 0, generation = 0;
  TPosition position = TPosition::VECCALC;
};

class Instruction {
 public:
  Instruction(const char* name, Pipe pipe) : core_(core()), name_(name), pipe_(pipe) {
    seq_ = core_.issue(pipe);
    access_ = core_.access(pipe, seq_);
    Report& report = Machine::get().report;
    if (pipe == Pipe::V) report.vector_instructions++;
    if (pipe == Pipe::MTE2 || pipe == Pipe::MTE3) report.copies++;
  }
  Instruction(const Instruction&) = delete;

  template <class T>
  const T* read(const LocalTensor<T>& tensor, int64_t byte_offset, int64_t bytes) {
    return reinterpret_cast<const T*>(read_bytes(tensor.place(), byte_offset, bytes));
  }

  template <class T>
  T* write(const LocalTensor<T>& tensor, int64_t byte_offset, int64_t bytes) {
    return reinterpret_cast<T*>(write_bytes(tensor.place(), byte_offset, bytes, false));
  }

  // As write, but nothing that may be read: garbage beside data.
  template <class T>
  T* spoil(const LocalTensor<T>& tensor, int64_t byte_offset, int64_t bytes) {
    return reinterpret_cast<T*>(write_bytes(tensor.place(), byte_offset, bytes, true));
  }

  template <class T>
  const char* read_gm(const GlobalTensor<T>& tensor, int64_t byte_offset, int64_t bytes) {
    return gm(tensor, byte_offset, bytes, false, false);
  }

  template <class T>
  char* write_gm(const GlobalTensor<T>& tensor, int64_t byte_offset, int64_t bytes, bool atomic = false) {
    return gm(tensor, byte_offset, bytes, true, atomic);
  }

  template <class T>
  void align(const LocalTensor<T>& tensor, int bytes, const char* name) {
    if (tensor.place().address % uint32_t(bytes))
      fail("alignment", std::string(name) + " must start at a multiple of " + std::to_string(bytes) + " bytes",
           core_.describe(tensor.place().address));
  }

  // The next `count` iterations begin.
  void repeat(int64_t count = 1) {
    if (pipe_ == Pipe::V) Machine::get().report.vector_repeats += count;
    reads_ = 0;
  }

  // dst is a source of the next repeat, and may be: the sum of all repeats.
  void allow_accumulate() { access_.accumulates = true; }

  void require(bool holds, const std::string& rule, const std::string& came) const {
    if (!holds) fail("rule", rule, came);
  }
  [[noreturn]] void fail(const char* id, const std::string& rule, const std::string& came) const {
    core_.fail(what(), id, rule, came);
  }
  void soft(const char* id, const std::string& rule, const std::string& came) const {
    core_.soft(what(), id, rule, came);
  }

  bool knows(const Entry& entry) const { return core_.knows(entry, access_); }
  Core& core_of() const { return core_; }
  Seq seq() const { return seq_; }
  std::string what() const {
    return std::string(name_) + " (" + unit_of(pipe_) + " instruction " + std::to_string(core_.numbers[int(pipe_)]) +
           ")";
  }

 private:
  static constexpr int MOST_READS = 32;  // of one repeat: two operands of eight blocks, and some
  struct Span {
    uint32_t begin, end;
  };

  uint32_t locate(const Place& place, int64_t offset, int64_t bytes, const char* verb) const {
    const int64_t begin = int64_t(place.address) + offset;
    if (place.buffer >= core_.buffers.size())
      fail("not-from-a-buffer", "a local tensor must come from a buffer of InitBuffer", "one that does not");
    const Buffer& buffer = core_.buffers[place.buffer];
    if (buffer.generation != place.generation)
      fail("freed", std::string("what is ") + verb + " must not have been freed",
           "a tensor that was, " + core_.describe(place.address));
    if (offset < 0 || bytes < 0 || begin + bytes > place.end)
      fail("out-of-bounds", std::string("what is ") + verb + " must lie in the tensor",
           std::to_string(bytes) + " bytes at " + core_.describe(uint32_t(std::max<int64_t>(begin, 0))) + ", " +
               std::to_string(begin + bytes - place.end) + " past its end");
    return uint32_t(begin);
  }

  const char* read_bytes(const Place& place, int64_t offset, int64_t bytes) {
    const uint32_t begin = locate(place, offset, bytes, "read"), end = begin + uint32_t(bytes);
    if (!bytes) return core_.memory.at(begin);
    while (Finding finding = core_.memory.read(begin, end, access_))
      if (!waits_for(finding)) found(finding);
    if (reads_ < MOST_READS) spans_[reads_++] = {begin, end};
    return core_.memory.at(begin);
  }

  char* write_bytes(const Place& place, int64_t offset, int64_t bytes, bool garbage) {
    const uint32_t begin = locate(place, offset, bytes, "written"), end = begin + uint32_t(bytes);
    if (!bytes) return core_.memory.at(begin);
    if (pipe_ == Pipe::V && !access_.accumulates)
      for (int i = 0; i < reads_; i++) {
        const Span& read = spans_[i];
        if (begin >= read.end || end <= read.begin) continue;
        if (begin != read.begin || (end > read.end && bytes > 256))
          fail("overlap", "a destination must be a source itself, or apart from it",
               core_.describe(begin) + " upon " + core_.describe(read.begin));
      }
    while (Finding finding =
               garbage ? core_.memory.spoil(begin, end, access_) : core_.memory.write(begin, end, access_))
      if (!waits_for(finding)) found(finding);
    return core_.memory.at(begin);
  }

  template <class T>
  char* gm(const GlobalTensor<T>& tensor, int64_t offset, int64_t bytes, bool writes, bool atomic);

  // With automatic sync, the scalar unit waits for whom it depends on.
  bool waits_for(const Finding& finding) {
    if (finding.hazard == Hazard::UNINITIALISED || finding.hazard == Hazard::OVERLAP) return false;
    return waits_for(pipe_of(finding.other));
  }
  bool waits_for(Pipe other) {
    if (pipe_ != Pipe::S || !Machine::get().options.auto_sync) return false;
    if (other != Pipe::V && other != Pipe::MTE2 && other != Pipe::MTE3) return false;
    core_.clocks[int(Pipe::S)].join(core_.snapshot(other));
    access_ = core_.access(pipe_, seq_);
    return true;
  }

  [[noreturn]] void found(const Finding& finding) const {
    const std::string at = core_.describe(uint32_t(finding.address));
    hazard(finding.hazard, pipe_of(finding.other), at);
  }

  [[noreturn]] void hazard(Hazard kind, Pipe other, const std::string& at) const {
    const std::string unit = std::string(unit_of(other)) + " unit";
    switch (kind) {
      case Hazard::UNINITIALISED: fail("uninitialised", "what is read must have been written", at + ", never written");
      case Hazard::OVERLAP: fail("overlap", "a repeat must not read what an earlier one wrote", at);
      case Hazard::RAW:
        fail("read-before-write", "a read must wait for the write before it",
             at + ", written by the " + unit + ", " + wait(other));
      case Hazard::WAW:
        fail("write-before-write", "a write must wait for the write before it",
             at + ", written by the " + unit + ", " + wait(other));
      default:
        fail("write-before-read", "a write must wait for the read before it",
             at + ", read by the " + unit + ", " + wait(other));
    }
  }

  std::string wait(Pipe other) const {
    if (other == pipe_) return std::string("with no PipeBarrier<PIPE_") + name_of(pipe_) + "> between";
    return std::string("with no ") + name_of(other) + "_" + name_of(pipe_) + " event between";
  }

  Core& core_;
  const char* name_;
  Pipe pipe_;
  Seq seq_;
  Access access_;
  int reads_ = 0;
  Span spans_[MOST_READS];
};

template <class T>
char* Instruction::gm(const GlobalTensor<T>& tensor, int64_t offset, int64_t bytes, bool writes, bool atomic) {
  Machine& machine = Machine::get();
  const char* verb = writes ? "written" : "read";
  const uint64_t begin = tensor.address() + uint64_t(offset), end = begin + uint64_t(bytes);
  if (bytes < 0 || !machine.memory.contains(begin, end))
    fail("gm-out-of-bounds", std::string("what is ") + verb + " must lie in a tensor of the launch",
         std::to_string(bytes) + " bytes at " + machine.memory.describe(begin));
  if (tensor.window() && offset + bytes > int64_t(tensor.window()))
    machine.report.warn(std::string(name_) + " [gm-window]: what is " + verb +
                        " must lie within the size given to SetGlobalBuffer, came " +
                        std::to_string(offset + bytes - int64_t(tensor.window())) + " bytes past it");
  char* place = reinterpret_cast<char*>(begin);
  if (!bytes) return place;
  const Entry own{uint32_t(core_.index), access_.stamp};
  auto knows = [&](const Entry& entry) { return this->knows(entry); };
  for (;;) {
    auto found =
        writes ? machine.memory.write(begin, end, own, atomic, knows) : machine.memory.read(begin, end, own, knows);
    if (!found) break;
    if (found.hazard == Hazard::UNINITIALISED) hazard(found.hazard, pipe_, machine.memory.describe(found.address));
    const Pipe other = pipe_of(found.other.stamp);
    const bool is_own = int(found.other.core) == core_.index;
    const std::string at = machine.memory.describe(found.address);
    if (found.dirty)
      fail("dcache", "SetValue to GM must be followed by DataCacheCleanAndInvalid before others use it",
           at + ", in the data cache of core " + std::to_string(found.other.core));
    if (is_own && waits_for(other)) continue;
    if (is_own) hazard(found.hazard, other, at);
    fail("race",
         std::string("what another core ") + (found.hazard == Hazard::WAR ? "reads" : "writes") + " must be waited for",
         at + " of the " + unit_of(other) + " unit of core " + std::to_string(found.other.core));
  }
  if (!writes && pipe_ == Pipe::MTE2) machine.report.mte2_bytes += bytes;
  if (writes && pipe_ == Pipe::MTE3) machine.report.mte3_bytes += bytes;
  return place;
}

}  // namespace AscendC::emulator
