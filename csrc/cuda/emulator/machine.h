// Runs the CUDA kernels on a CPU: behind this folder g++ and clang++ compile the very same .cu files. Every thread of a
// cluster of blocks is a fiber, which runs until it waits for others, at a barrier or in a collective of its warp;
// clusters follow one another. What hardware leaves undefined is an error here: a barrier or collective that some of
// its threads do not reach, an index past the end of a shared array. Shared memory begins as NaN, and threads take turns
// in rising and in falling order, so that a missing barrier shows. Nothing here says how fast a kernel is.
#pragma once

#include <setjmp.h>
#include <sys/mman.h>
#include <ucontext.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <exception>
#include <functional>
#include <map>
#include <mutex>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

namespace pangu::emulator {

constexpr int WARP = 32;
constexpr size_t STACK_BYTES = 1 << 16, SHARED_BYTES = 48 << 10, GUARD_BYTES = 64;
constexpr int POISON = 0xff, GUARD = 0xa5;  // NaN and -1; what must not change around a shared array

struct Index {
  unsigned x = 0, y = 0, z = 0;
};

struct Geometry {
  int64_t blocks, columns;  // x and y of the grid
  int threads, cluster;     // of a block; the neighbouring blocks that run together
};

// Where a fiber waits: the name and line of a barrier or collective, and the lanes of a warp's collective.
struct Place {
  const char* name = nullptr;
  int line = 0;
  uint32_t lanes = 0;
  bool operator==(const Place& other) const {
    return std::strcmp(name, other.name) == 0 && line == other.line && lanes == other.lanes;
  }
};

struct Fiber {
  jmp_buf context;
  Index block, thread;
  int rank;  // of its block in the cluster
  enum { READY, WAITING, DONE } state;
  Place place;
  uint64_t values[2];  // what it gives to the collectives of its warp, in turns: others may still read the last one
  unsigned collectives;
};

// The threads that meet at a barrier: a block's or a cluster's.
struct Team {
  int first, size, waiting;
  unsigned phase;
  int votes[2];
};

class Machine {
 public:
  static Machine& get() {
    static Machine machine;
    return machine;
  }

  Fiber& here() { return *fiber_; }
  const Geometry& geometry() const { return geometry_; }

  void run(const char* op, const Geometry& geometry, const std::function<void()>& kernel) {
    std::lock_guard<std::mutex> lock(mutex_);
    op_ = op, geometry_ = geometry, kernel_ = &kernel;
    if (geometry.threads < 1 || geometry.threads > 1024)
      fail("a block must have 1 to 1024 threads", std::to_string(geometry.threads));
    if (geometry.blocks < 1 || geometry.blocks >> 31 || geometry.blocks % geometry.cluster)
      fail("a grid must have 1 to 2^31 - 1 blocks and whole clusters", std::to_string(geometry.blocks));
    if (geometry.columns < 1 || geometry.columns >> 16)
      fail("a grid must have 1 to 65535 columns", std::to_string(geometry.columns));
    reserve(size_t(geometry.threads) * geometry.cluster);
    try {
      for (int64_t column = 0; column < geometry.columns; column++)
        for (int64_t block = 0; block < geometry.blocks; block += geometry.cluster) run_cluster(block, column);
    } catch (...) {
      begun_ = 0;  // fibers were left in the middle of the kernel
      throw;
    }
  }

  // Wait for all threads of the block, or of the cluster; returns whether any of them gave a true vote.
  bool barrier(const char* name, int line, bool whole_cluster, bool vote) {
    Team& team = whole_cluster ? cluster_ : blocks_[fiber_->rank];
    unsigned phase = team.phase;
    team.votes[phase % 2] |= vote;
    fiber_->place = {name, line, 0};
    if (++team.waiting == team.size) {
      for (int i = team.first; i < team.first + team.size; i++)
        if (&fibers_[i] != fiber_ && !(fibers_[i].place == fiber_->place)) stuck(*fiber_, fibers_[i]);
      for (int i = team.first; i < team.first + team.size; i++) fibers_[i].state = Fiber::READY;
      team.waiting = 0;
      team.votes[++team.phase % 2] = 0;
    } else {
      wait();
    }
    return team.votes[phase % 2];
  }

  // Give `value` to the lanes of the warp and wait for theirs; returns what lane i gave.
  template <class Read>
  auto exchange(const char* name, int line, uint32_t lanes, uint64_t value, const Read& read) {
    unsigned turn = fiber_->collectives++ % 2, lane = fiber_->thread.x % WARP;
    fiber_->place = {name, line, lanes};
    if (!(lanes >> lane & 1)) fail("a collective must be called by lanes of its mask", describe(*fiber_));
    Fiber* warp = fiber_ - lane;
    int size = std::min<int64_t>(WARP, geometry_.threads - (fiber_->thread.x - lane));
    if (size < WARP && lanes >> size) fail("a collective's mask must name lanes that there are", describe(*fiber_));
    fiber_->values[turn] = value;
    fiber_->state = Fiber::WAITING;
    bool complete = true;
    for (int i = size; i-- && complete;)
      complete = !(lanes >> i & 1) || (warp[i].state == Fiber::WAITING && warp[i].place == fiber_->place);
    if (complete) {
      for (int i = 0; i < size; i++)
        if (lanes >> i & 1) warp[i].state = Fiber::READY;
    } else {
      wait();
    }
    return read([=](unsigned i) {
      return i < unsigned(size) && lanes >> i & 1 ? warp[i].values[turn] : ~uint64_t(0);  // of other lanes: undefined
    });
  }

  // This block's memory for the shared array of `key`; `rank` as in the cluster.
  char* shared(const void* key, size_t bytes) {
    size_t end = arrays_.empty() ? 0 : arrays_.back().first + arrays_.back().second;
    size_t begin = (end + GUARD_BYTES + 15) / 16 * 16;
    auto [found, is_new] = offsets_.try_emplace(key, begin);
    if (is_new) {
      if (begin + bytes + GUARD_BYTES > SHARED_BYTES)
        fail("shared memory must be at most 48 KiB", std::to_string(begin + bytes));
      arrays_.push_back({begin, bytes});
      for (auto& memory : memory_) std::memset(&memory[begin], POISON, bytes);
    }
    return &memory_[fiber_->rank][found->second];
  }

  // The place that `mine` has, in another block of the cluster.
  void* peer(void* mine, unsigned rank) {
    if (rank >= unsigned(geometry_.cluster)) fail("a rank must be one of the cluster's", std::to_string(rank));
    return &memory_[rank][static_cast<char*>(mine) - memory_[fiber_->rank].data()];
  }

  [[noreturn]] void fail(const std::string& rule, const std::string& came) const {
    throw std::runtime_error(op_ + ": " + rule + ", came " + came);
  }

 private:
  ~Machine() {
    if (stacks_) munmap(stacks_, fibers_.size() * STACK_BYTES);
  }

  void reserve(size_t count) {
    if (count <= fibers_.size()) return;
    if (stacks_) munmap(stacks_, fibers_.size() * STACK_BYTES);
    stacks_ = nullptr;
    fibers_.clear();
    void* stacks = mmap(nullptr, count * STACK_BYTES, PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (stacks == MAP_FAILED) fail("there must be memory for the threads' stacks", std::to_string(count) + " threads");
    stacks_ = static_cast<char*>(stacks);
    fibers_.resize(count);
    begun_ = 0;
  }

  void run_cluster(int64_t first_block, int64_t column) {
    int count = geometry_.threads * geometry_.cluster;
    offsets_.clear();
    arrays_.clear();
    memory_.assign(geometry_.cluster, std::vector<char>(SHARED_BYTES, char(GUARD)));
    cluster_ = {0, count, 0, 0, {}};
    blocks_.clear();
    for (int rank = 0; rank < geometry_.cluster; rank++)
      blocks_.push_back({rank * geometry_.threads, geometry_.threads, 0, 0, {}});
    for (; begun_ < count; begun_++) begin(fibers_[begun_], stacks_ + begun_ * STACK_BYTES);
    for (int i = 0; i < count; i++) {
      Fiber& fiber = fibers_[i];
      fiber.rank = i / geometry_.threads;
      fiber.block = {unsigned(first_block + fiber.rank), unsigned(column)};
      fiber.thread = {unsigned(i % geometry_.threads)};
      fiber.state = Fiber::READY;
      fiber.collectives = 0;
    }
    bool moved = true, rising = true;
    for (; moved; rising = !rising) {
      moved = false;
      for (int i = 0; i < count; i++) {
        Fiber& fiber = fibers_[rising ? i : count - 1 - i];
        if (fiber.state != Fiber::READY) continue;
        resume(fiber);
        if (error_) std::rethrow_exception(std::exchange(error_, nullptr));
        moved = true;
      }
    }
    for (int i = 0; i < count; i++)
      if (fibers_[i].state == Fiber::WAITING) stuck(fibers_[i], absent(fibers_[i]));
    check_guards();
  }

  // Let a fiber come to where it waits for its first launch.
  void begin(Fiber& fiber, char* stack) {
    ucontext_t start;
    getcontext(&start);
    start.uc_stack.ss_sp = stack;
    start.uc_stack.ss_size = STACK_BYTES;
    start.uc_link = nullptr;
    makecontext(&start, &Machine::live, 0);
    fiber_ = &fiber;
    if (_setjmp(main_) == 0) setcontext(&start);  // contexts ask the system at every switch, jumps do not
  }

  static void live() {
    Machine& machine = get();
    Fiber& fiber = *machine.fiber_;
    for (;;) {
      machine.suspend(fiber);
      try {
        (*machine.kernel_)();
      } catch (...) {
        machine.error_ = std::current_exception();
      }
      fiber.state = Fiber::DONE;
    }
  }

  void resume(Fiber& fiber) {
    fiber_ = &fiber;
    if (_setjmp(main_) == 0) _longjmp(fiber.context, 1);
  }

  void suspend(Fiber& fiber) {
    if (_setjmp(fiber.context) == 0) _longjmp(main_, 1);
  }

  void wait() {
    fiber_->state = Fiber::WAITING;
    suspend(*fiber_);
  }

  // One of those that the fiber waits for in vain.
  const Fiber& absent(const Fiber& fiber) const {
    bool in_warp = fiber.place.lanes, in_block = std::strcmp(fiber.place.name, "cluster_sync") != 0;
    int number = int(&fiber - fibers_.data()), warp = number - int(fiber.thread.x % WARP);
    int first = in_warp ? warp : in_block ? blocks_[fiber.rank].first : 0;
    int size = in_warp ? WARP : in_block ? geometry_.threads : cluster_.size;
    for (int i = 0; i < size; i++) {
      if (in_warp && !(fiber.place.lanes >> i & 1)) continue;
      const Fiber& other = fibers_[first + i];
      if (other.state == Fiber::DONE || !(other.place == fiber.place)) return other;
    }
    return fiber;
  }

  [[noreturn]] void stuck(const Fiber& fiber, const Fiber& other) const {
    fail("threads that wait for each other must be at the same place", describe(fiber) + " and " + describe(other));
  }

  std::string describe(const Fiber& fiber) const {
    std::string name = "thread " + std::to_string(fiber.thread.x) + " of block " + std::to_string(fiber.block.x);
    if (fiber.state == Fiber::DONE) return name + " at its end";
    return name + " at " + fiber.place.name + " in line " + std::to_string(fiber.place.line);
  }

  void check_guards() const {
    for (auto& memory : memory_) {
      size_t end = 0;
      auto check_until = [&](size_t begin) {
        bool intact = std::all_of(&memory[end], &memory[begin], [](char c) { return c == char(GUARD); });
        if (!intact) fail("nothing must be written outside the shared arrays", "other bytes beside one");
      };
      for (auto [begin, bytes] : arrays_) {
        check_until(begin);
        end = begin + bytes;
      }
      check_until(end + GUARD_BYTES);
    }
  }

  std::mutex mutex_;  // one launch at a time
  std::string op_;
  Geometry geometry_;
  const std::function<void()>* kernel_ = nullptr;
  std::vector<Fiber> fibers_;
  int begun_ = 0;
  char* stacks_ = nullptr;
  Fiber* fiber_ = nullptr;  // the one that runs
  jmp_buf main_;
  std::exception_ptr error_;
  Team cluster_;
  std::vector<Team> blocks_;
  std::vector<std::vector<char>> memory_;  // shared memory of each block of the cluster
  std::map<const void*, size_t> offsets_;          // of the shared arrays
  std::vector<std::pair<size_t, size_t>> arrays_;  // their offsets and sizes, in rising order
};

// A shared array that looks at its indices.
template <class T, int SIZE>
struct Array {
  T items[SIZE];
  T& operator[](int64_t i) {
    if (i < 0 || i >= SIZE)
      Machine::get().fail("an index of a shared array must be below " + std::to_string(SIZE), std::to_string(i));
    return items[i];
  }
  operator T*() { return items; }
};

}  // namespace pangu::emulator
