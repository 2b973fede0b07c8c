// What moves elements inside the UB: by offsets, by a pattern of bits, and a value to a block.
#pragma once

#include <vector>

#include "elementwise.h"

namespace AscendC {
namespace emulator {

using Moved = std::conditional_t<is_910b, Types<int16_t, uint16_t, half, bfloat16_t, int32_t, uint32_t, float>,
                                 Types<int16_t, uint16_t, half, int32_t, uint32_t, float>>;

// The byte offsets of one repeat's lanes; they lie side by side, whatever the strides of the data.
template <class T>
void read_offsets(Instruction& instruction, const Lanes& lanes, const LocalTensor<uint32_t>& offsets, int64_t repeat,
                  Gathered<uint32_t> (&out)[lanes_of<T> / lanes_of<uint32_t>]) {
  Piece pieces[MAX_PIECES];
  const int found = lanes.pieces(repeat, lanes_of<uint32_t>, pieces);
  for (auto& part : out) std::fill_n(part.present, lanes_of<uint32_t>, false);
  for (int i = 0; i < found; ++i) {
    auto& part = out[pieces[i].begin / lanes_of<uint32_t>];
    const int begin = pieces[i].begin % lanes_of<uint32_t>, count = pieces[i].count;
    const int64_t at = (repeat * lanes.per_repeat + pieces[i].begin) * int64_t{sizeof(uint32_t)};
    std::memcpy(part.values + begin, instruction.read(offsets, at, count * sizeof(uint32_t)), count * sizeof(uint32_t));
    std::fill_n(part.present + begin, count, true);
  }
}

// An offset as the address of an element, from the start of the tensor.
template <class T>
int64_t element_at(Instruction& instruction, uint64_t base, uint32_t offset) {
  const uint64_t byte = base + offset;
  if (byte % sizeof(T))
    instruction.require(false, "an offset must be a multiple of " + std::to_string(sizeof(T)) + " bytes",
                        std::to_string(byte));
  return static_cast<int64_t>(byte);
}

// Neighbours are read at once.
template <class T>
void gather_elements(Instruction& instruction, const Lanes& lanes, const LocalTensor<T>& dst, const LocalTensor<T>& src,
                     const LocalTensor<uint32_t>& offsets, uint32_t base, int64_t dst_repeat) {
  check_type<T>(Moved{});
  instruction.align(dst, BLOCK, "dst");
  instruction.align(src, BLOCK, "src");
  instruction.align(offsets, BLOCK, "srcOffset");
  Gathered<uint32_t> where[lanes_of<T> / lanes_of<uint32_t>];
  const auto lane = [&](int i) { return where[i / lanes_of<uint32_t>].values[i % lanes_of<uint32_t>]; };
  const Operand to = operand(dst, "dst", 1, dst_repeat);
  Piece pieces[MAX_PIECES];
  T values[lanes_of<T>];
  for (int64_t repeat = 0; repeat < lanes.repeats; ++repeat) {
    instruction.repeat();
    read_offsets<T>(instruction, lanes, offsets, repeat, where);
    const int found = lanes.pieces(repeat, lanes.per_repeat, pieces);
    const int64_t begin = to.address() + repeat * to.repeat * BLOCK;
    for (int i = 0; i < found; ++i)
      for (int k = pieces[i].begin, end = k + pieces[i].count; k < end;) {
        const int64_t from = element_at<T>(instruction, base, lane(k));
        int run = 1;
        while (k + run < end && lane(k + run) == lane(k) + run * sizeof(T)) ++run;
        check_apart(instruction, "dst and src must not overlap", begin, REPEAT, src.place().address + from,
                    run * int64_t{sizeof(T)});
        std::memcpy(values + k, instruction.read(src, from, run * sizeof(T)), run * sizeof(T));
        k += run;
      }
    for (int i = 0; i < found; ++i) {
      const Piece& piece = pieces[i];
      std::memcpy(instruction.write(to.bytes, to.offset(repeat, piece.begin), piece.count * sizeof(T)),
                  values + piece.begin, piece.count * sizeof(T));
    }
  }
}

template <class T>
void scatter_elements(Instruction& instruction, const Lanes& lanes, const LocalTensor<T>& dst,
                      const LocalTensor<T>& src, const LocalTensor<uint32_t>& offsets, uint32_t base,
                      int64_t src_repeat) {
  static_assert(is_310p && sizeof(T) > 0, "there is no Scatter on this chip");
  check_type<T>(Types<uint16_t, half, uint32_t, float>{});
  instruction.align(dst, BLOCK, "dst");
  instruction.align(src, BLOCK, "src");
  instruction.align(offsets, BLOCK, "dstOffset");
  Gathered<uint32_t> where[lanes_of<T> / lanes_of<uint32_t>];
  Gathered<T> values;
  std::vector<int64_t> taken;
  for (int64_t repeat = 0; repeat < lanes.repeats; ++repeat) {
    instruction.repeat();
    read_offsets<T>(instruction, lanes, offsets, repeat, where);
    gather(instruction, lanes, operand(src, "src", 1, src_repeat), repeat, values);
    for (int i = 0; i < lanes_of<T>; ++i) {
      if (!values.present[i]) continue;
      const uint32_t offset = where[i / lanes_of<uint32_t>].values[i % lanes_of<uint32_t>];
      const int64_t to = element_at<T>(instruction, base, offset);
      std::memcpy(instruction.write(dst, to, sizeof(T)), values.values + i, sizeof(T));
      taken.push_back(to);
    }
  }
  std::sort(taken.begin(), taken.end());
  instruction.require(std::adjacent_find(taken.begin(), taken.end()) == taken.end(), "offsets must differ",
                      "two the same");
}

// The bits of a built-in pattern, the same for every four elements.
inline int pattern_bits(Instruction& instruction, int pattern) {
  constexpr int bits[] = {0, 0b0101, 0b1010, 0b0001, 0b0010, 0b0100, 0b1000, 0b1111};
  constexpr int last = is_910b ? 7 : 6;
  if (pattern < 1 || pattern > last)
    instruction.require(false, "src1Pattern must be from 1 to " + std::to_string(last), std::to_string(pattern));
  return bits[pattern];
}

// Keeps those whose bit is set, packed. In Counter mode a repeat has `mask` elements on 910B, where that may be more
// than 256 bytes; on 310P all repeats together have.
template <class T, class F>
void gather_mask(Instruction& instruction, const LocalTensor<T>& dst, const LocalTensor<T>& src, bool counted,
                 uint32_t mask, const GatherMaskParams& by, uint64_t& kept, F bits_of_chunk) {
  check_type<T>(Moved{});
  instruction.align(dst, BLOCK, "dst");
  instruction.align(src, BLOCK, "src0");
  constexpr int lanes = lanes_of<T>;
  instruction.require(!counted || mask > 0, "in Counter mode mask must be positive", "0");
  int64_t repeats = by.repeatTimes, each = lanes, total = repeats * lanes;
  if (counted && is_910b) each = mask, total = repeats * each;
  if (counted && !is_910b) repeats = (int64_t{mask} + lanes - 1) / lanes, total = mask;
  core().counter_mode = false, core().mask[0] = core().mask[1] = FULL_MASK;
  kept = 0;
  Gathered<T> values;
  T chosen[lanes];
  for (int64_t repeat = 0; repeat < repeats; ++repeat) {
    const int64_t count = std::min(each, total - repeat * each);
    for (int64_t begin = 0; begin < count; begin += lanes) {  // 256 bytes at a time
      instruction.repeat();
      const Lanes now = Lanes::first(std::min<int64_t>(lanes, count - begin), lanes);
      const int64_t blocks = repeat * by.src0RepeatStride + begin / lanes * (REPEAT / BLOCK) * by.src0BlockStride;
      // The walk counts from the tensor's start: one repeat, `blocks` further on.
      const Operand from = operand(src, "src0", by.src0BlockStride, blocks);
      const Lanes shifted{lanes, 2, true, lanes + now.total, {0, 0}};
      gather(instruction, shifted, from, 1, values);
      const auto bit = bits_of_chunk(repeat, begin, now.total);
      int found = 0;
      for (int i = 0; i < now.total; ++i)
        if (bit(i)) chosen[found++] = values.values[i];
      std::memcpy(instruction.write(dst, static_cast<int64_t>(kept * sizeof(T)), found * sizeof(T)), chosen,
                  found * sizeof(T));
      kept += static_cast<uint64_t>(found);
    }
  }
}

}  // namespace emulator

// ---- by byte offsets ----
template <class T, emulator::AnyMask Mask>
void Gather(const LocalTensor<T>& dst, const LocalTensor<T>& src, const LocalTensor<uint32_t>& srcOffset,
            const uint32_t srcBaseOffset, const Mask mask, const int64_t repeatTime, const uint16_t dstRepStride) {
  using namespace emulator;
  Instruction instruction("Gather", Pipe::V);
  const Lanes lanes = mask_lanes<true>(instruction, mask, repeatTime, lanes_of<T>);
  gather_elements(instruction, lanes, dst, src, srcOffset, srcBaseOffset, dstRepStride);
}
template <class T>
void Gather(const LocalTensor<T>& dst, const LocalTensor<T>& src, const LocalTensor<uint32_t>& srcOffset,
            const uint32_t srcBaseOffset, const uint32_t count) {
  using namespace emulator;
  Instruction instruction("Gather", Pipe::V);
  const Lanes lanes = count_lanes(instruction, count, lanes_of<T>);
  gather_elements(instruction, lanes, dst, src, srcOffset, srcBaseOffset, REPEAT / BLOCK);
}

template <class T, emulator::AnyMask Mask>
void Scatter(const LocalTensor<T>& dst, const LocalTensor<T>& src, const LocalTensor<uint32_t>& dstOffset,
             const uint32_t dstBaseAddr, const Mask mask, const int64_t repeatTime, const uint8_t srcRepStride) {
  using namespace emulator;
  Instruction instruction("Scatter", Pipe::V);
  const Lanes lanes = mask_lanes<true>(instruction, mask, repeatTime, lanes_of<T>);
  scatter_elements(instruction, lanes, dst, src, dstOffset, dstBaseAddr, srcRepStride);
}
template <class T>
void Scatter(const LocalTensor<T>& dst, const LocalTensor<T>& src, const LocalTensor<uint32_t>& dstOffset,
             const uint32_t dstBaseAddr, const uint32_t count) {
  using namespace emulator;
  Instruction instruction("Scatter", Pipe::V);
  const Lanes lanes = count_lanes(instruction, count, lanes_of<T>);
  scatter_elements(instruction, lanes, dst, src, dstOffset, dstBaseAddr, REPEAT / BLOCK);
}

// Whole blocks of 32 bytes, eight to a repeat.
template <class T>
void Gatherb(const LocalTensor<T>& dst, const LocalTensor<T>& src, const LocalTensor<uint32_t>& offset,
             const int64_t repeatTime, const GatherRepeatParams& repeatParams) {
  using namespace emulator;
  static_assert(is_910b && one_of<T, uint16_t, uint32_t>, "Gatherb is of uint16 and uint32, on 910B only");
  Instruction instruction("Gatherb", Pipe::V);
  check_repeats(instruction, repeatTime, MAX_REPEAT_TIMES);
  instruction.align(dst, BLOCK, "dst");
  instruction.align(src, BLOCK, "src");
  instruction.align(offset, BLOCK, "offset");
  const int64_t step = repeatParams.dstBlkStride ? repeatParams.dstBlkStride : 1;
  for (int64_t repeat = 0; repeat < repeatTime; ++repeat) {
    instruction.repeat();
    uint32_t from[8];
    uint8_t blocks[8][BLOCK];
    std::memcpy(from, instruction.read(offset, repeat * BLOCK, BLOCK), BLOCK);
    for (int i = 0; i < 8; ++i) {
      instruction.require((src.place().address + from[i]) % BLOCK == 0, "a block must be at a multiple of 32 bytes",
                          std::to_string(from[i]));
      check_apart(instruction, "dst and src must not overlap",
                  dst.place().address + repeat * repeatParams.dstRepStride * BLOCK, 7 * step * BLOCK + BLOCK,
                  int64_t{src.place().address} + from[i], BLOCK);
      std::memcpy(blocks[i], instruction.read(src, from[i], BLOCK), BLOCK);
    }
    for (int i = 0; i < 8; ++i)
      std::memcpy(instruction.write(dst, (repeat * repeatParams.dstRepStride + i * step) * BLOCK, BLOCK), blocks[i],
                  BLOCK);
  }
}

// ---- by a pattern ----
template <class T, GatherMaskMode mode = defaultGatherMaskMode>
void GatherMask(const LocalTensor<T>& dst, const LocalTensor<T>& src0, const uint8_t src1Pattern, const bool reduceMode,
                const uint32_t mask, const GatherMaskParams& gatherMaskParams, uint64_t& rsvdCnt) {
  using namespace emulator;
  Instruction instruction("GatherMask", Pipe::V);
  const int bits = pattern_bits(instruction, src1Pattern);
  gather_mask(instruction, dst, src0, reduceMode, mask, gatherMaskParams, rsvdCnt, [=](int64_t, int64_t, int64_t) {
    return [=](int i) { return bits >> i % 4 & 1; };  // every chunk begins at a multiple of four
  });
}
template <class T, class U, GatherMaskMode mode = defaultGatherMaskMode>
void GatherMask(const LocalTensor<T>& dst, const LocalTensor<T>& src0, const LocalTensor<U>& src1Pattern,
                const bool reduceMode, const uint32_t mask, const GatherMaskParams& gatherMaskParams,
                uint64_t& rsvdCnt) {
  using namespace emulator;
  static_assert(std::is_unsigned_v<U> && sizeof(U) == sizeof(T),
                "src1Pattern is uint16 or uint32, as wide as the data");
  Instruction instruction("GatherMask", Pipe::V);
  instruction.align(src1Pattern, BLOCK, "src1Pattern");
  gather_mask(instruction, dst, src0, reduceMode, mask, gatherMaskParams, rsvdCnt,
              [&](int64_t repeat, int64_t begin, int64_t count) {
                const int64_t at = repeat * gatherMaskParams.src1RepeatStride * BLOCK + begin / 8;
                const auto* bytes =
                    reinterpret_cast<const uint8_t*>(instruction.read(src1Pattern, at, (count + 7) / 8));
                return [=](int i) { return bytes[i / 8] >> i % 8 & 1; };
              });
}

// ---- each value to a block; 310P needs the API's 8 KiB for it ----
template <class T>
void Brcb(const LocalTensor<T>& dst, const LocalTensor<T>& src, const int64_t repeatTime,
          const BrcbRepeatParams& repeatParams) {
  using namespace emulator;
  check_type<T>(Moved{});
  Instruction instruction("Brcb", Pipe::V);
  check_repeats(instruction, repeatTime, MAX_REPEAT_TIMES);
  instruction.align(dst, BLOCK, "dst");
  instruction.align(src, BLOCK, "src");
  instruction.require(repeatParams.dstBlkStride > 0, "dstBlkStride must not be 0", "0");
  constexpr int each = BLOCK / sizeof(T);
  const int64_t source_bytes = repeatTime * 8 * int64_t{sizeof(T)};
  for (int64_t repeat = 0; repeat < repeatTime; ++repeat) {
    instruction.repeat();
    T values[8], block[each];
    std::memcpy(values, instruction.read(src, repeat * 8 * int64_t{sizeof(T)}, 8 * sizeof(T)), 8 * sizeof(T));
    for (int i = 0; i < 8; ++i) {
      const int64_t at = (repeat * repeatParams.dstRepStride + i * repeatParams.dstBlkStride) * int64_t{BLOCK};
      check_apart(instruction, "dst and src must not overlap", dst.place().address + at, BLOCK, src.place().address,
                  source_bytes);
      std::fill_n(block, each, values[i]);
      std::memcpy(instruction.write(dst, at, BLOCK), block, BLOCK);
    }
  }
}

// ---- 16 x 16 elements of two bytes ----
template <class T>
void Transpose(const LocalTensor<T>& dst, const LocalTensor<T>& src) {
  using namespace emulator;
  check_type<T>(Types<int16_t, uint16_t, half>{});
  Instruction instruction("Transpose", Pipe::V);
  instruction.align(dst, BLOCK, "dst");
  instruction.align(src, BLOCK, "src");
  instruction.repeat();
  T values[16][16], turned[16][16];
  std::memcpy(values, instruction.read(src, 0, sizeof(values)), sizeof(values));
  for (int i = 0; i < 16; ++i)
    for (int j = 0; j < 16; ++j) turned[j][i] = values[i][j];
  std::memcpy(instruction.write(dst, 0, sizeof(turned)), turned, sizeof(turned));
}

}  // namespace AscendC
