// The cores of a launch, as fibers: one runs at a time, until it ends or waits for others, so that a kernel does the
// same at every run. Blocks beyond the chip's cores come in a second wave.
#pragma once

#include <setjmp.h>
#include <sys/mman.h>
#include <ucontext.h>

#include <exception>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <utility>
#include <vector>

#include "core.h"
#include "report.h"

namespace AscendC::emulator {

constexpr int CORES = is_910b ? 40 : 8;  // vector cores

class Machine {
 public:
  static Machine& get() {
    static Machine machine;
    return machine;
  }

  Options options;
  GlobalMemory memory;
  Report report;
  Core* running = nullptr;

  // Run `kernel` once per block. Each tensor that it may touch is in `ranges`, once or more often.
  void launch(const char* name, int blocks, const std::vector<Range>& ranges, const std::function<void()>& kernel);

  Seq next_seq() {
    if (++seq_ > LAST_SEQ) throw Fault(report.kernel + ": a launch must have less than 2^29 instructions, came more");
    return seq_;
  }
  Seq seq() const { return seq_; }

  // Let other cores run until `ready()`; `where` is for the message if that never comes.
  void wait(const std::string& where, const std::function<bool()>& ready);

  // What cores that wait for each other share: by name, for as long as the launch.
  template <class T>
  T& shared(const std::string& key) {
    auto& place = shared_[key];
    if (!place) place = std::make_shared<T>();
    return *static_cast<T*>(place.get());
  }

  std::string take_reports() {
    std::lock_guard<std::mutex> lock(mutex_);
    std::string text = "[";
    for (auto& one : reports_) text += (text.size() > 1 ? ", " : "") + one.json();
    reports_.clear();
    return text + "]";
  }

  Options set_options(const Options& wanted) {
    std::lock_guard<std::mutex> lock(mutex_);
    return std::exchange(options, wanted);
  }

 private:
  static constexpr size_t STACK_BYTES = 256 << 10, PAGE = 4096;

  struct Fiber {
    Core core;
    jmp_buf context;
    char* stack = nullptr;
    enum { IDLE, RUNNING, WAITING } state = IDLE;
    std::string where;
    const std::function<bool()>* ready = nullptr;
    ~Fiber() {
      if (stack) munmap(stack, STACK_BYTES);
    }
  };

  Fiber& idle();
  void begin(Fiber& fiber);
  static void live();
  void resume(Fiber& fiber);
  void run_all(int blocks);
  [[noreturn]] void stuck() const;

  std::mutex mutex_;  // one launch at a time
  Seq seq_ = 0;
  std::vector<std::unique_ptr<Fiber>> fibers_;
  Fiber* fiber_ = nullptr;  // the one that runs
  jmp_buf main_;
  const std::function<void()>* kernel_ = nullptr;
  std::exception_ptr error_;
  bool failed_ = false;
  std::map<std::string, std::shared_ptr<void>> shared_;
  std::vector<Report> reports_;
};

inline Core& core() {
  Core* core = Machine::get().running;
  if (!core) throw Fault("AscendC: the API must be called in a launched kernel, came a call outside of one");
  return *core;
}

// ---- cores ----

inline void Core::begin(int its_index, int its_blocks) {
  const Seq now = Machine::get().seq();
  mask[0] = mask[1] = ~0ull;
  counter_mode = false;
  atomic = 0;
  index = its_index, blocks = its_blocks;
  buffers.clear();
  pipe = nullptr;
  unwinding = false;
  late.clear();
  cached.clear();
  for (auto& clock : clocks) clock.fill(now);
  std::fill(issued, issued + PIPES, now);
  std::fill(numbers, numbers + PIPES, 0);
  foreign.clear();
  for (auto& ids : flags)
    for (auto& flag : ids) flag.is_set = false;
  std::fill(taken, taken + EVENTS, 0);
  cross_flags.clear();
}

inline void Core::finish() {
  if (!late.empty()) throw Fault(late);
  const std::string what = "the kernel's end";
  for (int event = 0; event < EVENTS; event++)
    for (int id = 0; id < EVENT_IDS; id++)
      if (flags[event][id].is_set)
        fail(what, "unpaired-flag", "every SetFlag must have its WaitFlag",
             emulator::name_of(HardEvent(event)) + " with id " + std::to_string(id) + " still set");
  for (auto [id, count] : cross_flags)
    if (count)
      fail(what, "unpaired-flag", "every CrossCoreSetFlag must have its CrossCoreWaitFlag",
           "flag " + std::to_string(id));
  if (counter_mode) fail(what, "left-behind", "the mask mode must be Normal again", "Counter mode");
  if (atomic) fail(what, "left-behind", "stores must be plain again", "an atomic mode");
  for (auto& [line, held] : cached) {
    (void)held;
    if (Machine::get().memory.clean(uint32_t(index), line))
      soft(what, "dcache", "SetValue to GM must be followed by DataCacheCleanAndInvalid",
           "a line of the data cache that was never written back, at " +
               Machine::get().memory.describe(line * CACHE_LINE));
  }
}

inline Seq Core::issue(Pipe pipe) {
  if (pipe != Pipe::S) clocks[int(pipe)].join(clocks[int(Pipe::S)]);
  numbers[int(pipe)]++;
  return issued[int(pipe)] = Machine::get().next_seq();
}

inline Access Core::access(Pipe pipe, Seq seq) const {
  const bool auto_sync = Machine::get().options.auto_sync;
  Access access{stamp_of(seq, pipe), {}, false};
  const Clock& clock = clocks[int(pipe)];
  for (int p = 0; p < 1 << PIPE_BITS; p++) access.limit[p] = stamp_of(clock.known[p], Pipe(p));
  if (pipe == Pipe::S) access.limit[int(Pipe::S)] = UINT32_MAX;
  if (auto_sync) {
    access.limit[int(Pipe::S)] = UINT32_MAX;
    if (pipe == Pipe::V) access.limit[int(Pipe::V)] = stamp_of(seq - 1, pipe);
  }
  return access;
}

inline std::string Core::who() const { return Machine::get().report.kernel + ": core " + std::to_string(index); }

inline void Core::soft(const std::string& what, const char* id, const std::string& rule,
                       const std::string& came) const {
  Machine& machine = Machine::get();
  if (machine.options.strict) fail(what, id, rule, came);
  machine.report.warn(what + " [" + id + "]: " + rule + ", came " + came);
}

// ---- the machine ----

inline void Machine::launch(const char* name, int blocks, const std::vector<Range>& ranges,
                            const std::function<void()>& kernel) {
  std::lock_guard<std::mutex> lock(mutex_);
  report = Report();
  report.kernel = name;
  report.blocks = blocks;
  if (blocks < 1 || blocks > 65535)
    throw Fault(report.kernel + ": a launch must have 1 to 65535 blocks, came " + std::to_string(blocks));
  if (seq_ > LAST_SEQ / 2) {
    seq_ = 0;
    for (auto& fiber : fibers_) fiber->core.memory.restart();
  }
  seq_++;
  kernel_ = &kernel;
  memory.begin(ranges);
  run_all(blocks);
  memory.end();
  shared_.clear();
  if (reports_.size() == Report::MOST_REPORTS) reports_.erase(reports_.begin());
  reports_.push_back(report);
  if (error_) std::rethrow_exception(std::exchange(error_, nullptr));
}

inline void Machine::run_all(int blocks) {
  failed_ = false;
  for (int block = 0; block < blocks && !error_; block++) {
    Fiber& fiber = idle();
    fiber.state = Fiber::RUNNING;
    fiber.core.begin(block, blocks);
    resume(fiber);
  }
  for (bool moved = true; moved && !error_;) {
    moved = false;
    for (auto& fiber : fibers_) {
      if (fiber->state != Fiber::WAITING || !(*fiber->ready)()) continue;
      resume(*fiber);
      moved = true;
      if (error_) break;
    }
  }
  if (!error_) {
    try {
      stuck();
    } catch (const Fault&) {
      error_ = std::current_exception();
    } catch (const Abandoned&) {
    }
  }
  failed_ = true;  // whoever still waits is sent home
  for (auto& fiber : fibers_)
    while (fiber->state != Fiber::IDLE) {
      fiber->core.unwinding = true;
      resume(*fiber);
    }
}

inline void Machine::stuck() const {
  std::string who;
  int count = 0;
  for (auto& fiber : fibers_) {
    if (fiber->state != Fiber::WAITING || ++count > 4) continue;
    who += (count > 1 ? "; core " : "core ") + std::to_string(fiber->core.index) + " in " + fiber->where;
  }
  if (!count) throw Abandoned();
  if (count > 4) who += "; and " + std::to_string(count - 4) + " more";
  throw Fault(report.kernel + ": all cores [deadlock]: who waits must be woken, came " + who);
}

inline Machine::Fiber& Machine::idle() {
  for (auto& fiber : fibers_)
    if (fiber->state == Fiber::IDLE) return *fiber;
  fibers_.push_back(std::make_unique<Fiber>());
  begin(*fibers_.back());
  return *fibers_.back();
}

// Let a fiber come to where it waits for its first block.
inline void Machine::begin(Fiber& fiber) {
  void* stack = mmap(nullptr, STACK_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (stack == MAP_FAILED) throw std::bad_alloc();
  fiber.stack = static_cast<char*>(stack);
  mprotect(fiber.stack, PAGE, PROT_NONE);
  ucontext_t start;
  getcontext(&start);
  start.uc_stack.ss_sp = fiber.stack + PAGE;
  start.uc_stack.ss_size = STACK_BYTES - PAGE;
  start.uc_link = nullptr;
  makecontext(&start, &Machine::live, 0);
  fiber_ = &fiber;
  if (_setjmp(main_) == 0) setcontext(&start);  // contexts ask the system at every switch, jumps do not
}

inline void Machine::live() {
  Machine& machine = get();
  Fiber& fiber = *machine.fiber_;
  for (;;) {
    if (_setjmp(fiber.context) == 0) _longjmp(machine.main_, 1);
    try {
      (*machine.kernel_)();
      fiber.core.finish();
    } catch (const Abandoned&) {
    } catch (...) {
      if (!machine.error_) machine.error_ = std::current_exception();
    }
    fiber.state = Fiber::IDLE;
  }
}

inline void Machine::resume(Fiber& fiber) {
  fiber_ = &fiber;
  running = &fiber.core;
  fiber.state = Fiber::RUNNING;
  if (_setjmp(main_) == 0) _longjmp(fiber.context, 1);
  running = nullptr;
}

inline void Machine::wait(const std::string& where, const std::function<bool()>& ready) {
  Fiber& fiber = *fiber_;
  while (!ready()) {
    fiber.where = where;
    fiber.ready = &ready;
    fiber.state = Fiber::WAITING;
    if (_setjmp(fiber.context) == 0) _longjmp(main_, 1);
    if (failed_) throw Abandoned();
  }
}

inline void launch(const char* kernel, int blocks, const std::vector<Range>& ranges,
                   const std::function<void()>& function) {
  Machine::get().launch(kernel, blocks, ranges, function);
}

}  // namespace AscendC::emulator
