// TPipe gives the UB away and takes it back.
#pragma once

#include "flags.h"
#include "tensor.h"

namespace AscendC {

template <TPosition position>
class TBuf;

namespace emulator {

constexpr size_t MOST_BUFFERS = 64;
constexpr int MOST_TENSORS = 8;  // allocated at once, of one position

// Who fills a queue's tensors, and who empties them.
constexpr Pipe producer_of(TPosition source) {
  return source == TPosition::GM || source == TPosition::VECIN ? Pipe::MTE2 : Pipe::V;
}
constexpr Pipe consumer_of(TPosition destination) {
  return destination == TPosition::VECIN || destination == TPosition::VECCALC ? Pipe::V : Pipe::MTE3;
}

constexpr bool is_vector_position(TPosition at) {
  return at == TPosition::GM || at == TPosition::VECIN || at == TPosition::VECOUT || at == TPosition::VECCALC;
}

}  // namespace emulator

class TPipe {
 public:
  TPipe() { Init(); }
  ~TPipe() {
    if (!core_ || core_->pipe != this) return;
    close([&](const char* id, const std::string& rule, const std::string& came) {
      core_->fail_late("the TPipe's end", id, rule, came);
    });
    core_->barrier_all();
    core_->pipe = nullptr;
  }
  TPipe(const TPipe&) = delete;

  void Init() {
    core_ = &emulator::core();
    if (core_->pipe && core_->pipe != this)
      core_->fail("TPipe", "two-pipes", "a core must have one TPipe at a time", "a second one");
    core_->pipe = this;
    top_ = 0;
  }

  void Destroy() {
    Reset("Destroy");
    core_->barrier_all();
    core_->pipe = nullptr;
  }

  void Reset() { Reset("Reset"); }

  template <class Queue>
  bool InitBuffer(Queue& queue, uint8_t count, uint32_t bytes) {
    queue.attach(add("InitBuffer", count, bytes, Queue::source, Queue::destination, true), count);
    return true;
  }

  template <TPosition position>
  bool InitBuffer(TBuf<position>& buffer, uint32_t bytes) {
    buffer.attach(add("InitBuffer", 1, bytes, position, position, false));
    return true;
  }

  template <HardEvent event>
  TEventID AllocEventID() {
    return TEventID(emulator::take_id(*core_, "AllocEventID", event));
  }
  template <HardEvent event>
  void ReleaseEventID(TEventID id) {
    emulator::return_id(*core_, "ReleaseEventID", event, id);
  }
  TEventID FetchEventID(HardEvent event) { return TEventID(emulator::free_id(*core_, "FetchEventID", event)); }
  template <HardEvent event>
  TEventID FetchEventID() {
    return FetchEventID(event);
  }

 private:
  void Reset(const char* what) {
    close([&](const char* id, const std::string& rule, const std::string& came) { core_->fail(what, id, rule, came); });
  }

  // Nothing is left in a queue or out of one; flags of freed buffers are waited for.
  template <class Fail>
  void close(const Fail& fail) {
    if (core_->unwinding || std::uncaught_exceptions()) return;
    for (auto& buffer : core_->buffers) {
      if (!buffer.generation) continue;
      if (buffer.state == emulator::Buffer::ALLOCATED)
        fail("leak", "a tensor must be freed in the end", "one of the " + core_->describe(buffer));
      if (buffer.state == emulator::Buffer::QUEUED)
        fail("never-dequeued", "a tensor must be dequeued in the end", "one of the " + core_->describe(buffer));
      if (buffer.freed >= 0) {
        HardEvent event =
            emulator::event_of(emulator::consumer_of(buffer.destination), emulator::producer_of(buffer.source));
        emulator::Core::Flag& flag = core_->flags[int(event)][buffer.freed];
        core_->clocks[int(emulator::destination_of(event))].join(flag.clock);
        flag.is_set = false;
        core_->taken[int(event)] &= uint8_t(~(1u << buffer.freed));
        buffer.freed = -1;
      }
      buffer.generation = 0;
      buffer.state = emulator::Buffer::IDLE;
    }
    top_ = 0;
    live_ = 0;
  }

  uint32_t add(const char* what, uint8_t count, uint32_t bytes, TPosition source, TPosition destination,
               bool is_queue) {
    using namespace emulator;
    if (core_->pipe != this) core_->fail(what, "two-pipes", "a TPipe must be alive", "one that is destroyed");
    const uint32_t first = uint32_t(core_->buffers.size());
    bytes = uint32_t(whole_blocks(bytes));
    if (!count) core_->fail(what, "buffers", "a queue must have a buffer", "none");
    if (live_ + count > MOST_BUFFERS)
      core_->fail(what, "buffers", "a TPipe must have at most 64 buffers", std::to_string(live_ + count));
    if (uint64_t(bytes) * count > UB_USABLE - top_)
      core_->fail(what, "ub-size", "buffers must fit into the UB's " + std::to_string(UB_USABLE) + " bytes",
                  std::to_string(top_ + uint64_t(bytes) * count));
    for (int i = 0; i < count; i++) {
      core_->buffers.push_back({top_, top_ + bytes, 1, source, destination, is_queue});
      core_->memory.forget(top_, top_ + bytes);
      top_ += bytes;
    }
    live_ += count;
    auto& peak = Machine::get().report.peak_ub_bytes;
    peak = std::max<int64_t>(peak, top_);
    return first;
  }

  emulator::Core* core_ = nullptr;
  uint32_t top_ = 0;
  size_t live_ = 0;
};

}  // namespace AscendC

inline AscendC::TPipe* GetTPipePtr() {  // outside of the namespace, where the API has it
  AscendC::emulator::Core& core = AscendC::emulator::core();
  if (!core.pipe) core.fail("GetTPipePtr", "two-pipes", "a TPipe must be alive", "none");
  return core.pipe;
}

namespace AscendC {

using ::GetTPipePtr;

}  // namespace AscendC
