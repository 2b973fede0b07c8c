// Global memory: the ranges that a launch may touch, and their shadow, which knows of every byte who wrote it last and
// who read it since, of all cores. Blocks of 32 bytes, and bytes where a block's differ, name a set of accesses; equal
// sets are one set, so that a row that many cores read costs little.
#pragma once

#include <cstdlib>
#include <memory>
#include <string>
#include <unordered_map>
#include <unordered_set>
#include <vector>

#include "clocks.h"
#include "local_memory.h"

namespace AscendC::emulator {

constexpr uint64_t CACHE_LINE = 64;

struct Range {
  const void* begin = nullptr;
  int64_t bytes = 0;
  std::string name;
  bool is_new = false;  // nothing was written there yet that may be read
};

struct Entry {
  uint32_t core;
  Stamp stamp;
};

class GlobalMemory {
 public:
  void begin(const std::vector<Range>& ranges) {
    end();
    std::vector<Range> sorted;
    for (auto& range : ranges)
      if (range.bytes > 0) sorted.push_back(range);
    std::sort(sorted.begin(), sorted.end(), [](auto& a, auto& b) { return a.begin < b.begin; });
    for (auto& range : sorted) {
      uint64_t begin = uint64_t(range.begin), end = begin + uint64_t(range.bytes);
      if (!regions_.empty() && begin < regions_.back().end) {  // two views of one tensor
        Region& last = regions_.back();
        if (range.name != last.name) last.name += "/" + range.name;
        last.is_new &= range.is_new;
        last.end = std::max(last.end, end);
      } else {
        regions_.push_back({begin, end, range.name, range.is_new, nullptr});
      }
    }
    for (auto& region : regions_) {
      size_t blocks = size_t(in_blocks(int64_t(region.end))) - region.begin / BLOCK;
      region.blocks.reset(static_cast<Block*>(std::calloc(blocks, sizeof(Block))));
      if (!region.blocks) throw std::bad_alloc();
    }
    sets_.assign(1, {});
  }

  void end() {
    regions_.clear();
    details_.clear();
    entries_.clear();
    sets_.clear();
    joined_.clear();
    joiner_ = {};
    dirty_.clear();
    written_back_.clear();
    last_ = 0;
  }

  // Whether [begin, end) lies in one tensor of the launch.
  bool contains(uint64_t begin, uint64_t end) { return find(begin, end) != nullptr; }

  std::string describe(uint64_t address) const {
    const Region* nearest = nullptr;  // the one that holds it, or ends before it by not much
    for (auto& region : regions_)
      if (address >= region.begin && address < region.end + 4096) nearest = &region;
    if (nearest)
      return "GM " + (nearest->name.empty() ? "tensor" : nearest->name) + " + " + hex(address - nearest->begin);
    return "GM " + hex(address);
  }

  struct Found {
    Hazard hazard = Hazard::NONE;
    uint64_t address = 0;
    Entry other{};
    bool dirty = false;  // in the other core's data cache only
    explicit operator bool() const { return hazard != Hazard::NONE; }
  };

  // `knows(entry)`: whether the access that comes now is ordered after that one.
  template <class Knows>
  Found read(uint64_t begin, uint64_t end, const Entry& own, const Knows& knows) {
    uint32_t checked = 0, before = 0, after = 0;
    const bool is_new = find(begin, end)->is_new;
    return walk(begin, end, [&](uint32_t& writers, uint32_t& readers, uint64_t address) -> Found {
      if (is_new && !writers) return {Hazard::UNINITIALISED, address, {}, false};
      if (writers != checked) {
        if (Found found = check(writers, Hazard::RAW, address, own, knows)) return found;
        checked = writers;
      }
      if (readers != before || !after) {
        before = readers;
        after = join(readers, own, false, knows);
      }
      readers = after;
      return {};
    });
  }

  template <class Knows>
  Found write(uint64_t begin, uint64_t end, const Entry& own, bool atomic, const Knows& knows) {
    for (uint64_t line = begin / CACHE_LINE; !written_back_.empty() && line * CACHE_LINE < end; line++)
      if (auto lines = written_back_.find(line); lines != written_back_.end())
        for (const Entry& entry : lines->second)
          if (entry.core != own.core && !knows(entry))
            return {Hazard::WAW, std::max(begin, line * CACHE_LINE), entry, false};
    uint32_t checked = 0, checked_readers = 0, before = 0, after = 0;
    return walk(begin, end, [&](uint32_t& writers, uint32_t& readers, uint64_t address) -> Found {
      const bool both_atomic = atomic && sets_[writers].atomic;
      if (writers != checked && !both_atomic) {
        if (Found found = check(writers, Hazard::WAW, address, own, knows)) return found;
        checked = writers;
      }
      if (readers != checked_readers) {
        if (Found found = check(readers, Hazard::WAR, address, own, knows)) return found;
        checked_readers = readers;
      }
      const uint32_t base = both_atomic ? writers : 0;
      if (!after || base != before) {
        before = base;
        after = join(base, own, atomic, knows);
      }
      writers = after;
      readers = 0;
      return {};
    });
  }

  // The scalar unit's data cache: what a core wrote there and others cannot see yet.
  void soil(uint32_t core, uint64_t address) { dirty_.insert(address / CACHE_LINE << 16 | core); }
  bool clean(uint32_t core, uint64_t line) { return dirty_.erase(line << 16 | core) != 0; }
  bool is_dirty(uint32_t core, uint64_t address) const {
    return !dirty_.empty() && dirty_.count(address / CACHE_LINE << 16 | core);
  }

  // All of a line went back to GM, with what others may write beside it.
  void write_back(uint64_t line, const Entry& own) { written_back_[line].push_back(own); }

  // Who wrote a byte last; a later write of another than the core's own scalar unit makes its cached copy old.
  template <class Each>
  void writers(uint64_t begin, uint64_t end, const Each& each) {
    for (auto& region : regions_) {
      uint64_t from = std::max(begin, region.begin), to = std::min(end, region.end);
      for (uint64_t address = from; address < to; address++) {
        const Block& block = region.blocks.get()[address / BLOCK - region.begin / BLOCK];
        uint32_t set = block.detail ? details_[block.detail - 1].writers[address % BLOCK] : block.writers;
        for (uint32_t i = 0; i < sets_[set].count; i++) each(address, entries_[sets_[set].first + i]);
        if (!block.detail) address |= BLOCK - 1;
      }
    }
  }

 private:
  struct Block {
    uint32_t writers, readers, detail;
  };
  struct Detail {
    uint32_t writers[BLOCK], readers[BLOCK];
  };
  struct Free {
    void operator()(Block* blocks) const { std::free(blocks); }
  };
  struct Region {
    uint64_t begin, end;
    std::string name;
    bool is_new;
    std::unique_ptr<Block, Free> blocks;  // of zeros, which the system gives page by page as they are touched
  };
  struct Set {
    uint32_t first = 0, count = 0;
    bool atomic = false;
  };

  Region* find(uint64_t begin, uint64_t end) {
    auto holds = [&](const Region& region) { return begin >= region.begin && end <= region.end; };
    if (last_ < regions_.size() && holds(regions_[last_])) return &regions_[last_];
    for (last_ = 0; last_ < regions_.size(); last_++)
      if (holds(regions_[last_])) return &regions_[last_];
    return nullptr;
  }

  template <class Visit>
  Found walk(uint64_t begin, uint64_t end, const Visit& visit) {
    Region* region = find(begin, end);
    Block* blocks = region->blocks.get();
    const uint64_t origin = region->begin / BLOCK;
    while (begin < end) {
      uint64_t next = std::min(end, (begin / BLOCK + 1) * BLOCK);
      Block& block = blocks[begin / BLOCK - origin];
      if (!block.detail && next - begin == BLOCK) {
        if (Found found = visit(block.writers, block.readers, begin)) return found;
      } else {
        Detail& detail = detail_of(block);
        for (uint64_t i = begin; i < next; i++)
          if (Found found = visit(detail.writers[i % BLOCK], detail.readers[i % BLOCK], i)) return found;
      }
      begin = next;
    }
    return {};
  }

  template <class Knows>
  Found check(uint32_t set, Hazard hazard, uint64_t address, const Entry& own, const Knows& knows) const {
    for (uint32_t i = 0; i < sets_[set].count; i++) {
      const Entry& entry = entries_[sets_[set].first + i];
      if (entry.core == own.core && entry.stamp == own.stamp) continue;
      if (!knows(entry)) return {hazard, address, entry, false};
      bool is_other = entry.core != own.core || pipe_of(own.stamp) != Pipe::S;
      if (hazard != Hazard::WAR && pipe_of(entry.stamp) == Pipe::S && is_other && is_dirty(entry.core, address))
        return {hazard, address, entry, true};
    }
    return {};
  }

  // The set and one more access; those that it is ordered after are no longer of interest.
  template <class Knows>
  uint32_t join(uint32_t set, const Entry& own, bool atomic, const Knows& knows) {
    if (own.core != joiner_.core || own.stamp != joiner_.stamp) joined_.clear();
    joiner_ = own;
    for (auto& [before, after] : joined_)
      if (before == set) return after;
    joined_.push_back({set, uint32_t(sets_.size())});
    Set joined{uint32_t(entries_.size()), 0, atomic};
    for (uint32_t i = 0; i < sets_[set].count; i++) {
      Entry entry = entries_[sets_[set].first + i];
      bool replaced = entry.core == own.core && pipe_of(entry.stamp) == pipe_of(own.stamp);
      if (!replaced && (atomic || !knows(entry))) entries_.push_back(entry);
    }
    entries_.push_back(own);
    joined.count = uint32_t(entries_.size()) - joined.first;
    sets_.push_back(joined);
    return joined_.back().second;
  }

  Detail& detail_of(Block& block) {
    if (!block.detail) {
      details_.emplace_back();
      block.detail = uint32_t(details_.size());
      std::fill_n(details_.back().writers, BLOCK, block.writers);
      std::fill_n(details_.back().readers, BLOCK, block.readers);
    }
    return details_[block.detail - 1];
  }

  std::vector<Region> regions_;
  std::vector<Detail> details_;
  std::vector<Entry> entries_;
  std::vector<Set> sets_;
  Entry joiner_{};  // whose unions these are: (set, set with it)
  std::vector<std::pair<uint32_t, uint32_t>> joined_;
  std::unordered_set<uint64_t> dirty_;
  std::unordered_map<uint64_t, std::vector<Entry>> written_back_;  // by whom
  size_t last_ = 0;
};

}  // namespace AscendC::emulator
