// TQue and TQueBind hand tensors from pipe to pipe, with the flags in between; TBuf is scratch.
#pragma once

#include "pipe.h"

namespace AscendC {

template <TPosition source_, TPosition destination_, int32_t depth, auto mask = 0>
class TQueBind {
 public:
  static constexpr TPosition source = source_, destination = destination_;
  static_assert(emulator::is_vector_position(source) && emulator::is_vector_position(destination),
                "the emulator has queues between GM, VECIN, VECOUT and VECCALC");

  template <class T>
  LocalTensor<T> AllocTensor() {
    using namespace emulator;
    Core& core = ready("AllocTensor");
    int taken = 0;
    for (auto& buffer : core.buffers)
      if (buffer.generation && buffer.is_queue && position_of(buffer) == position())
        taken += buffer.state != Buffer::IDLE;
    if (taken >= MOST_TENSORS)
      core.fail("AllocTensor", "tensors", "at most 8 tensors of a position must be allocated", "a ninth");
    for (uint32_t i = 0; i < count_; i++) {
      const uint32_t number = first_ + (next_ + i) % count_;
      Buffer& buffer = core.buffers[number];
      if (buffer.state != Buffer::IDLE) continue;
      next_ = (next_ + i + 1) % count_;
      buffer.state = Buffer::ALLOCATED;
      wait_until_free(core, "AllocTensor", buffer);
      if (FREED == HardEvent::V_V) core.barrier(Pipe::V);
      core.memory.forget(buffer.begin, buffer.end);
      return tensor<T>(core, number);
    }
    core.fail("AllocTensor", "no-idle-buffer", "a queue's buffer must be free",
              "all " + std::to_string(count_) + " in use");
  }
  template <class T>
  void AllocTensor(LocalTensor<T>& tensor) {
    tensor = AllocTensor<T>();
  }

  template <class T>
  void FreeTensor(const LocalTensor<T>& tensor) {
    using namespace emulator;
    Core& core = ready("FreeTensor");
    Buffer& buffer = own(core, "FreeTensor", tensor);
    if (buffer.state != Buffer::ALLOCATED)
      core.fail("FreeTensor", "double-free", "a tensor must be freed once, and not while it is in a queue",
                core.describe(buffer));
    buffer.state = Buffer::IDLE;
    buffer.generation++;
    if constexpr (FREED != HardEvent::V_V) {
      buffer.freed = int8_t(take_id(core, "FreeTensor", FREED));
      set_flag(FREED, buffer.freed);
    }
  }

  template <class T>
  bool EnQue(const LocalTensor<T>& tensor) {
    return enqueue(tensor, FILLED);
  }
  template <TPosition from, TPosition to, class T>
  bool EnQue(const LocalTensor<T>& tensor) {
    return enqueue(tensor, emulator::event_of(emulator::producer_of(from), emulator::consumer_of(to)));
  }

  template <class T>
  LocalTensor<T> DeQue() {
    return dequeue<T>(FILLED);
  }
  template <TPosition from, TPosition to, class T>
  LocalTensor<T> DeQue() {
    return dequeue<T>(emulator::event_of(emulator::producer_of(from), emulator::consumer_of(to)));
  }
  template <class T>
  void DeQue(LocalTensor<T>& tensor) {
    tensor = DeQue<T>();
  }

  bool VacantInQue() const { return queued_ < capacity(); }
  bool HasTensorInQue() const { return queued_ > 0; }
  int32_t GetTensorCountInQue() const { return queued_; }
  bool HasIdleBuffer() {
    emulator::Core& core = ready("HasIdleBuffer");
    for (uint32_t i = 0; i < count_; i++)
      if (core.buffers[first_ + i].state == emulator::Buffer::IDLE) return true;
    return false;
  }
  void FreeAllEvent() {
    emulator::Core& core = ready("FreeAllEvent");
    for (uint32_t i = 0; i < count_; i++) wait_until_free(core, "FreeAllEvent", core.buffers[first_ + i]);
  }

  void attach(uint32_t first, uint8_t count) {
    first_ = first;
    count_ = count;
    next_ = 0;
    queued_ = oldest_ = 0;
  }

 private:
  static constexpr HardEvent FILLED =
      emulator::event_of(emulator::producer_of(source), emulator::consumer_of(destination));
  static constexpr HardEvent FREED =
      emulator::event_of(emulator::consumer_of(destination), emulator::producer_of(source));
  static_assert(FILLED != HardEvent::MAX && FREED != HardEvent::MAX,
                "no event leads from one of these pipes to the other");

  static constexpr TPosition position() { return source == TPosition::GM ? destination : source; }
  static TPosition position_of(const emulator::Buffer& buffer) {
    return buffer.source == TPosition::GM ? buffer.destination : buffer.source;
  }
  static constexpr int32_t capacity() { return depth > 0 ? depth : 1; }

  emulator::Core& ready(const char* what) const {
    emulator::Core& core = emulator::core();
    if (!count_ || first_ >= core.buffers.size() || !core.buffers[first_].generation)
      core.fail(what, "not-from-a-buffer", "a queue must have buffers of InitBuffer", "none");
    return core;
  }

  static void wait_until_free(emulator::Core& core, const char* what, emulator::Buffer& buffer) {
    if (buffer.freed < 0) return;
    emulator::wait_flag(FREED, buffer.freed);
    emulator::return_id(core, what, FREED, buffer.freed);
    buffer.freed = -1;
  }

  template <class T>
  emulator::Buffer& own(emulator::Core& core, const char* what, const LocalTensor<T>& tensor) const {
    const emulator::Place& place = tensor.place();
    if (place.buffer < first_ || place.buffer >= first_ + count_)
      core.fail(what, "wrong-queue", "a tensor must be one of this queue's",
                place.buffer < core.buffers.size() ? "one of the " + core.describe(core.buffers[place.buffer])
                                                   : "no queue's");
    emulator::Buffer& buffer = core.buffers[place.buffer];
    if (buffer.generation != place.generation)
      core.fail(what, "double-free", "a tensor must not have been freed",
                "one that was, of the " + core.describe(buffer));
    return buffer;
  }

  template <class T>
  LocalTensor<T> tensor(emulator::Core& core, uint32_t number) const {
    const emulator::Buffer& buffer = core.buffers[number];
    return LocalTensor<T>({buffer.begin, buffer.end, number, buffer.generation, position()},
                          uint32_t((buffer.end - buffer.begin) / sizeof(T)));
  }

  template <class T>
  bool enqueue(const LocalTensor<T>& tensor, HardEvent event) {
    using namespace emulator;
    Core& core = ready("EnQue");
    Buffer& buffer = own(core, "EnQue", tensor);
    if (buffer.state != Buffer::ALLOCATED)
      core.fail("EnQue", "enqueued-twice", "a tensor must be enqueued once", core.describe(buffer));
    if (!VacantInQue())
      core.fail("EnQue", "queue-full", "a queue must hold at most its depth, " + std::to_string(depth),
                "one more tensor");
    buffer.state = Buffer::QUEUED;
    if (event != HardEvent::V_V) {
      buffer.queued = int8_t(take_id(core, "EnQue", event));
      set_flag(event, buffer.queued);
    }
    ring_[(oldest_ + queued_++) % MOST_BUFFERS] = uint8_t(tensor.place().buffer - first_);
    return true;
  }

  template <class T>
  LocalTensor<T> dequeue(HardEvent event) {
    using namespace emulator;
    Core& core = ready("DeQue");
    if (!queued_) core.fail("DeQue", "empty-queue", "a queue must hold a tensor", "an empty one");
    const uint32_t number = first_ + ring_[oldest_];
    oldest_ = (oldest_ + 1) % MOST_BUFFERS;
    queued_--;
    Buffer& buffer = core.buffers[number];
    buffer.state = Buffer::ALLOCATED;
    if (event != HardEvent::V_V) {
      wait_flag(event, buffer.queued);
      return_id(core, "DeQue", event, buffer.queued);
      buffer.queued = -1;
    } else {
      core.barrier(Pipe::V);
    }
    return tensor<T>(core, number);
  }

  uint32_t first_ = 0, count_ = 0, next_ = 0;
  int32_t queued_ = 0;
  uint32_t oldest_ = 0;
  uint8_t ring_[emulator::MOST_BUFFERS] = {};  // the queued ones' numbers, from the oldest on
};

namespace emulator {
constexpr TPosition source_of_queue(TPosition at) { return at == TPosition::VECIN ? TPosition::GM : at; }
constexpr TPosition destination_of_queue(TPosition at) { return at == TPosition::VECOUT ? TPosition::GM : at; }
}  // namespace emulator

template <TPosition position, int32_t depth, auto mask = 0>
class TQue
    : public TQueBind<emulator::source_of_queue(position), emulator::destination_of_queue(position), depth, mask> {};

template <TPosition position = TPosition::LCM>
class TBuf {
 public:
  template <class T>
  LocalTensor<T> Get() {
    return GetWithOffset<T>(bytes() / sizeof(T), 0);
  }
  template <class T>
  LocalTensor<T> Get(uint32_t length) {
    return GetWithOffset<T>(length, 0);
  }
  template <class T>
  LocalTensor<T> GetWithOffset(uint32_t length, uint32_t byte_offset) {
    const uint32_t whole = bytes();
    emulator::Core& core = emulator::core();
    const emulator::Buffer& buffer = core.buffers[number_];
    const auto end = uint64_t(emulator::whole_blocks(int64_t(byte_offset) + int64_t(length) * int64_t(sizeof(T))));
    if (end > whole)
      core.fail("TBuf::Get", "out-of-bounds",
                "a tensor must fit into its buffer of " + std::to_string(whole) + " bytes", std::to_string(end));
    return LocalTensor<T>(
        {buffer.begin + byte_offset, buffer.begin + uint32_t(end), number_, buffer.generation, position}, length);
  }
  uint32_t GetBufLen() const { return bytes(); }

  void attach(uint32_t number) {
    number_ = number;
    is_attached_ = true;
  }

 private:
  uint32_t bytes() const {
    emulator::Core& core = emulator::core();
    if (!is_attached_ || number_ >= core.buffers.size() || !core.buffers[number_].generation)
      core.fail("TBuf::Get", "not-from-a-buffer", "a TBuf must have its buffer of InitBuffer", "none");
    return core.buffers[number_].end - core.buffers[number_].begin;
  }

  uint32_t number_ = 0;
  bool is_attached_ = false;
};

}  // namespace AscendC
