// A core's unified buffer (UB) and its shadow: of every byte, whether it was ever written, who wrote it and who read it
// last. The shadow is kept per block of 32 bytes, and per byte where the bytes of a block have different stories.
#pragma once

#include <memory>
#include <vector>

#include "clocks.h"

namespace AscendC::emulator {

constexpr uint32_t BLOCK = 32;
constexpr int64_t in_blocks(int64_t bytes) { return (bytes + BLOCK - 1) / BLOCK; }
constexpr int64_t whole_blocks(int64_t bytes) { return in_blocks(bytes) * BLOCK; }
constexpr uint32_t UB_BYTES = is_910b ? 192 << 10 : 256 << 10;
constexpr uint32_t UB_USABLE = UB_BYTES - (8 << 10);  // the API's own temporaries begin here

class LocalMemory {
 public:
  LocalMemory() : bytes_(new Bytes), blocks_(UB_BYTES / BLOCK) {}

  char* at(uint32_t address) { return bytes_->bytes + address; }

  // Nothing there is initialised any more; [begin, end) are whole blocks.
  void forget(uint32_t begin, uint32_t end) {
    for (uint32_t b = begin / BLOCK; b < end / BLOCK; b++) blocks_[b].written = 0;
  }

  // As if an access had come before all that is to come: the numbers begin anew.
  void restart() {
    std::fill(blocks_.begin(), blocks_.end(), Block{});
    details_.clear();
    unused_.clear();
  }

  Finding read(uint32_t begin, uint32_t end, const Access& access) {
    const int slot = slot_of(access.pipe());
    return walk(
        begin, end,
        [&](uint32_t first, uint32_t last) {
          uint32_t bad = 0;
          for (uint32_t b = first; b < last; b++) {
            Block& block = blocks_[b];
            bad |= (block.writer > access.limit[block.writer & 7]) | ~block.written | block.detail;
            block.read[slot] = access.stamp;
          }
          return bad;
        },
        [&](uint32_t b, uint32_t from, uint32_t to) { return read_bytes(b, from, to, access, slot); });
  }

  Finding write(uint32_t begin, uint32_t end, const Access& access) {
    return walk(
        begin, end,
        [&](uint32_t first, uint32_t last) {
          uint32_t bad = 0;
          const Stamp own = access.stamp;
          for (uint32_t b = first; b < last; b++) {
            const Block& block = blocks_[b];
            bad |= (block.writer > access.limit[block.writer & 7]) & (block.writer != own);
            for (Stamp read : block.read) bad |= (read > access.limit[read & 7]) & (read != own);
            bad |= block.detail;
          }
          if (!bad)
            for (uint32_t b = first; b < last; b++) blocks_[b] = {own, {}, ~0u, 0};
          return bad;
        },
        [&](uint32_t b, uint32_t from, uint32_t to) { return write_bytes(b, from, to, access); });
  }

  // Written, but with nothing that may be read.
  Finding spoil(uint32_t begin, uint32_t end, const Access& access) {
    Finding finding = write(begin, end, access);
    for (uint32_t i = begin; i < end && !finding; i++) blocks_[i / BLOCK].written &= ~(1u << i % BLOCK);
    return finding;
  }

 private:
  static constexpr int READERS = 3;  // S, V, MTE3: the others never read the UB

  struct Block {
    Stamp writer = 0;
    Stamp read[READERS] = {};
    uint32_t written = 0;  // a bit per byte
    uint32_t detail = 0;   // number of its detail, or 0: then all bytes are as above
  };

  struct Detail {
    Stamp writer[BLOCK];
    Stamp read[READERS][BLOCK];
  };

  static int slot_of(Pipe pipe) { return pipe == Pipe::S ? 0 : pipe == Pipe::V ? 1 : 2; }

  // Whole blocks at once; block by block where those are not all fine, and at both ends.
  template <class Whole, class Part>
  Finding walk(uint32_t begin, uint32_t end, const Whole& whole, const Part& part) {
    uint32_t first = uint32_t(in_blocks(begin)), last = end / BLOCK;
    if (first > last) return part(last, begin % BLOCK, end % BLOCK);
    if (begin % BLOCK)
      if (Finding finding = part(first - 1, begin % BLOCK, BLOCK)) return finding;
    if (whole(first, last))
      for (uint32_t b = first; b < last; b++)
        if (Finding finding = part(b, 0, BLOCK)) return finding;
    if (end % BLOCK) return part(last, 0, end % BLOCK);
    return {};
  }

  Finding read_bytes(uint32_t b, uint32_t from, uint32_t to, const Access& access, int slot) {
    Block& block = blocks_[b];
    const bool is_whole = from == 0 && to == BLOCK;
    Detail* detail = block.detail || !is_whole ? &detail_of(block) : nullptr;
    for (uint32_t i = from; i < to; i++) {
      Stamp writer = detail ? detail->writer[i] : block.writer;
      if (!(block.written >> i & 1)) return {Hazard::UNINITIALISED, b * BLOCK + i, writer};
      if (writer == access.stamp) {
        if (!access.accumulates) return {Hazard::OVERLAP, b * BLOCK + i, writer};
      } else if (!access.knows(writer)) {
        return {Hazard::RAW, b * BLOCK + i, writer};
      }
      if (detail) detail->read[slot][i] = access.stamp;
    }
    block.read[slot] = access.stamp;
    return {};
  }

  Finding write_bytes(uint32_t b, uint32_t from, uint32_t to, const Access& access) {
    Block& block = blocks_[b];
    const bool is_whole = from == 0 && to == BLOCK;
    Detail* detail = block.detail || !is_whole ? &detail_of(block) : nullptr;
    for (uint32_t i = from; i < to; i++) {
      Stamp writer = detail ? detail->writer[i] : block.writer;
      if (!access.knows(writer) && writer != access.stamp) return {Hazard::WAW, b * BLOCK + i, writer};
      for (int slot = 0; slot < READERS; slot++) {
        Stamp read = detail ? detail->read[slot][i] : block.read[slot];
        if (!access.knows(read) && read != access.stamp) return {Hazard::WAR, b * BLOCK + i, read};
      }
    }
    if (is_whole) {
      if (block.detail) unused_.push_back(block.detail);
      block = {access.stamp, {}, ~0u, 0};
      return {};
    }
    for (uint32_t i = from; i < to; i++) {
      detail->writer[i] = access.stamp;
      for (auto& read : detail->read) read[i] = 0;
      block.written |= 1u << i;
    }
    return {};
  }

  Detail& detail_of(Block& block) {
    if (!block.detail) {
      if (unused_.empty()) {
        details_.emplace_back();
        block.detail = uint32_t(details_.size());
      } else {
        block.detail = unused_.back();
        unused_.pop_back();
      }
      Detail& detail = details_[block.detail - 1];
      std::fill_n(detail.writer, BLOCK, block.writer);
      for (int slot = 0; slot < READERS; slot++) std::fill_n(detail.read[slot], BLOCK, block.read[slot]);
    }
    return details_[block.detail - 1];
  }

  struct alignas(64) Bytes {
    char bytes[UB_BYTES];
  };

  std::unique_ptr<Bytes> bytes_;
  std::vector<Block> blocks_;
  std::vector<Detail> details_;
  std::vector<uint32_t> unused_;  // details
};

}  // namespace AscendC::emulator
