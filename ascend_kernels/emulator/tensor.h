// LocalTensor and GlobalTensor: addresses with a type. A local tensor has no pointer of its own; what reads or writes
// it is an instruction, which checks.
#pragma once

#include <cstdint>
#include <type_traits>

#include "machine.h"
#include "types.h"

namespace AscendC {

template <class T>
class GlobalTensor;

enum class CacheMode : uint8_t { CACHE_MODE_DISABLE = 0, CACHE_MODE_NORMAL, CACHE_MODE_LAST, CACHE_MODE_PERSISTENT };
enum class CacheRwMode : uint8_t { READ = 1, WRITE = 2, RW = 3 };

namespace emulator {

// What a + b is until a tensor is assigned from it.
template <class Run>
struct Expression {
  Run run;
};

}  // namespace emulator

// What tensor(i) gives: a value of the scalar unit's, to read or to set.
template <class Tensor, class T>
class Element {
 public:
  Element(const Tensor& tensor, uint64_t index) : tensor_(tensor), index_(index) {}
  operator T() const { return tensor_.GetValue(uint32_t(index_)); }
  void operator=(const T& value) { tensor_.SetValue(uint32_t(index_), value); }
  void operator=(const Element& other) { *this = T(other); }

 private:
  Tensor tensor_;
  uint64_t index_;
};

template <class T>
class LocalTensor {
 public:
  using PrimType = T;

  LocalTensor() = default;
  LocalTensor(const emulator::Place& place, uint32_t size) : place_(place), size_(size) {}

  template <class Run>
  void operator=(const emulator::Expression<Run>& expression) {
    expression.run(*this);
  }

  T GetValue(uint32_t index) const {
    emulator::Instruction instruction("GetValue", emulator::Pipe::S);
    instruction.align(*this, sizeof(T), "a scalar");
    emulator::Machine::get().report.scalar_reads++;
    return *instruction.read(*this, int64_t(index) * int64_t(sizeof(T)), sizeof(T));
  }

  template <class U>
  void SetValue(uint32_t index, U value) const {
    emulator::Instruction instruction("SetValue", emulator::Pipe::S);
    instruction.align(*this, sizeof(T), "a scalar");
    emulator::Machine::get().report.scalar_writes++;
    *instruction.write(*this, int64_t(index) * int64_t(sizeof(T)), sizeof(T)) = static_cast<T>(value);
  }

  Element<LocalTensor, T> operator()(uint32_t index) const { return {*this, index}; }

  LocalTensor operator[](uint32_t offset) const {
    LocalTensor part = *this;
    const int64_t address = int64_t(place_.address) + int64_t(offset) * int64_t(sizeof(T));
    if (address > place_.end)
      emulator::core().fail("operator[]", "out-of-bounds", "an offset must lie in the tensor",
                            std::to_string(offset) + " of " + std::to_string(size_));
    part.place_.address = uint32_t(address);
    part.size_ = offset < size_ ? size_ - offset : 0;
    return part;
  }

  template <class U>
  LocalTensor<U> ReinterpretCast() const {
    return LocalTensor<U>(place_, uint32_t(uint64_t(size_) * sizeof(T) / sizeof(U)));
  }

  uint32_t GetSize() const { return size_; }
  uint32_t GetLength() const { return size_ * uint32_t(sizeof(T)); }
  void SetSize(uint32_t size) { size_ = size; }
  void SetBufferLen(uint32_t size) { size_ = size; }
  TPosition GetPosition() const { return place_.position; }
  void SetUserTag(int32_t tag) { tag_ = tag; }
  int32_t GetUserTag() const { return tag_; }
  // Whoever uses the pointer is not seen.
  __ubuf__ T* GetPhyAddr(uint32_t offset = 0) const {
    return reinterpret_cast<T*>(emulator::core().memory.at(place_.address)) + offset;
  }
  template <class Shape>
  void SetShapeInfo(const Shape&) {}

  const emulator::Place& place() const { return place_; }

 private:
  emulator::Place place_{0, 0, UINT32_MAX, 0, TPosition::VECCALC};
  uint32_t size_ = 0;
  int32_t tag_ = 0;
};

template <class T>
class GlobalTensor {
 public:
  using PrimType = T;

  void SetGlobalBuffer(__gm__ T* buffer, uint64_t size) {
    address_ = buffer;
    size_ = size;
  }
  void SetGlobalBuffer(__gm__ T* buffer) { SetGlobalBuffer(buffer, 0); }

  T GetValue(uint64_t index) const;
  void SetValue(uint64_t index, T value) const;
  Element<GlobalTensor, T> operator()(uint64_t index) const { return {*this, index}; }

  GlobalTensor operator[](uint64_t offset) const {
    GlobalTensor part = *this;
    part.address_ += offset;
    part.size_ = size_ > offset ? size_ - offset : 0;
    return part;
  }

  uint64_t GetSize() const { return size_; }
  const __gm__ T* GetPhyAddr() const { return address_; }
  __gm__ T* GetPhyAddr(uint64_t offset) const { return address_ + offset; }
  template <CacheRwMode = CacheRwMode::RW>
  void SetL2CacheHint(CacheMode) {}
  template <class Shape>
  void SetShapeInfo(const Shape&) {}

  uint64_t address() const { return reinterpret_cast<uint64_t>(address_); }
  uint64_t window() const { return size_ * sizeof(T); }  // in bytes; 0 if no size was given

 private:
  __gm__ T* address_ = nullptr;
  uint64_t size_ = 0;
};

namespace emulator {

template <class T>
void check_gm(const Instruction& instruction, const GlobalTensor<T>& tensor) {
  if (tensor.address() % sizeof(T))
    instruction.fail("alignment", "GM must be at a multiple of the element's size",
                     Machine::get().memory.describe(tensor.address()));
}

// The scalar unit reads and writes GM through a data cache of its own, by lines.
inline CachedLine& cached_line(const Instruction& instruction, uint64_t address) {
  const uint64_t number = address / CACHE_LINE, begin = number * CACHE_LINE;
  auto [found, is_new] = instruction.core_of().cached.try_emplace(number);
  CachedLine& line = found->second;
  if (!is_new) return line;
  line.since = instruction.seq();
  Machine::get().memory.writers(begin, begin + CACHE_LINE, [&](uint64_t, const Entry& entry) {
    if (!instruction.knows(entry)) line.unseen.push_back(entry);
  });
  return line;
}

}  // namespace emulator

template <class T>
T GlobalTensor<T>::GetValue(uint64_t index) const {
  using namespace emulator;
  Instruction instruction("GetValue", Pipe::S);
  Machine& machine = Machine::get();
  machine.report.scalar_reads++;
  check_gm(instruction, *this);
  Core& core = instruction.core_of();
  const char* place = instruction.read_gm(*this, int64_t(index * sizeof(T)), sizeof(T));
  const uint64_t begin = reinterpret_cast<uint64_t>(place);
  const CachedLine& line = cached_line(instruction, begin);
  machine.memory.writers(begin, begin + sizeof(T), [&](uint64_t address, const Entry& entry) {
    bool is_own = int(entry.core) == core.index && pipe_of(entry.stamp) == Pipe::S;
    if (!is_own && line.misses(entry))
      instruction.fail("dcache-stale", "a cached line must be invalidated before what others wrote is read",
                       machine.memory.describe(address));
  });
  T value;
  std::memcpy(&value, place, sizeof(T));
  return value;
}

template <class T>
void GlobalTensor<T>::SetValue(uint64_t index, T value) const {
  using namespace emulator;
  Instruction instruction("SetValue", Pipe::S);
  Machine& machine = Machine::get();
  machine.report.scalar_writes++;
  check_gm(instruction, *this);
  char* place = instruction.write_gm(*this, int64_t(index * sizeof(T)), sizeof(T));
  const uint64_t begin = reinterpret_cast<uint64_t>(place);
  cached_line(instruction, begin);
  machine.memory.soil(uint32_t(instruction.core_of().index), begin);
  std::memcpy(place, &value, sizeof(T));
}

}  // namespace AscendC
