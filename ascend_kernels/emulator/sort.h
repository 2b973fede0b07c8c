// Sorting on 910B: records of eight bytes, a score and its index, in falling order; of equal scores the earlier first.
// The score of a half takes the record's low two bytes, the next two hold nothing.
#pragma once

#include <vector>

#include "elementwise.h"

namespace AscendC {
namespace emulator {

constexpr int RECORD = 8, SORTED = 32;  // bytes; records that one repeat sorts

template <class T>
struct alignas(4) Record {
  T score;
  uint32_t index;
};
static_assert(sizeof(Record<half>) == RECORD && sizeof(Record<float>) == RECORD);

template <class T>
constexpr void check_sorted() {
  static_assert(is_910b && sizeof(T) > 0, "there is no such sort on this chip");
  static_assert(one_of<T, half, float>, "half and float are sorted");
}

// NaN goes before all numbers.
template <class T>
bool before(const Record<T>& a, const Record<T>& b) {
  const float x = static_cast<float>(widen(a.score)), y = static_cast<float>(widen(b.score));
  return x > y || (x != x && y == y);
}

template <class T>
std::vector<Record<T>> read_records(Instruction& instruction, const LocalTensor<T>& src, int64_t first, int64_t count) {
  std::vector<Record<T>> records(count);
  const T* from = instruction.read(src, first * RECORD, count * RECORD);
  if (count) std::memcpy(static_cast<void*>(records.data()), from, count * RECORD);
  return records;
}

template <class T>
void write_records(Instruction& instruction, const LocalTensor<T>& dst, int64_t first,
                   const std::vector<Record<T>>& records) {
  T* to = instruction.write(dst, first * RECORD, records.size() * RECORD);
  if (!records.empty()) std::memcpy(to, records.data(), records.size() * RECORD);
}

// Sorts groups of 32, or all in one if they are merged.
template <class T>
void sort_groups(Instruction& instruction, const LocalTensor<T>& dst, const LocalTensor<T>& src,
                 const LocalTensor<uint32_t>& index, int64_t repeats, bool merged) {
  check_repeats(instruction, repeats, MAX_REPEAT_TIMES);
  std::vector<Record<T>> all;
  for (int64_t repeat = 0; repeat < repeats; ++repeat) {
    instruction.repeat();
    const T* scores = instruction.read(src, repeat * SORTED * int64_t{sizeof(T)}, SORTED * sizeof(T));
    const uint32_t* indices = instruction.read(index, repeat * SORTED * 4, SORTED * 4);
    std::vector<Record<T>> records(SORTED);
    for (int i = 0; i < SORTED; ++i) {
      std::memset(static_cast<void*>(&records[i]), 0xcd, RECORD);
      std::memcpy(static_cast<void*>(&records[i].score), scores + i, sizeof(T));
      std::memcpy(&records[i].index, indices + i, 4);
    }
    std::stable_sort(records.begin(), records.end(), before<T>);
    if (merged)
      all.insert(all.end(), records.begin(), records.end());
    else
      write_records(instruction, dst, repeat * SORTED, records);
  }
  if (!merged) return;
  instruction.repeat(repeats);  // the merges pass over the records again
  std::stable_sort(all.begin(), all.end(), before<T>);
  write_records(instruction, dst, 0, all);
}

// Merges the queues into one until all, or with `suspend` one of them, are at their end.
template <class T>
std::vector<Record<T>> merge(const std::vector<Record<T>> (&queues)[4], int count, bool suspend, uint16_t (&taken)[4]) {
  std::vector<Record<T>> merged;
  std::fill_n(taken, 4, uint16_t{0});
  for (;;) {
    int best = -1;
    for (int k = 0; k < count; ++k) {
      if (taken[k] == queues[k].size()) {
        if (suspend) return merged;
        continue;
      }
      if (best < 0 || before(queues[k][taken[k]], queues[best][taken[best]])) best = k;
    }
    if (best < 0) return merged;
    merged.push_back(queues[best][taken[best]++]);
  }
}

template <class T>
void merge_sort(Instruction& instruction, const LocalTensor<T>& dst, const MrgSortSrcList<T>& src,
                const uint16_t (&lengths)[4], bool suspend, uint16_t valid, int64_t repeats) {
  check_sorted<T>();
  check_repeats(instruction, repeats, MAX_REPEAT_TIMES);
  instruction.require(valid == 3 || valid == 7 || valid == 15, "validBit must be 3, 7 or 15", std::to_string(valid));
  const LocalTensor<T> queues[4] = {src.src1, src.src2, src.src3, src.src4};
  const int count = valid == 3 ? 2 : valid == 7 ? 3 : 4;
  int64_t total = 0;
  instruction.align(dst, BLOCK, "dst");
  for (int k = 0; k < count; ++k) {
    instruction.require(lengths[k] <= 4095, "a queue must have at most 4095 records", std::to_string(lengths[k]));
    instruction.align(queues[k], RECORD, "src");
    total += lengths[k];
  }
  if (repeats > 1) {
    bool even = count == 4 && !suspend;
    for (int k = 1; even && k < 4; ++k)
      even =
          lengths[k] == lengths[0] && queues[k].place().address == queues[0].place().address + k * lengths[0] * RECORD;
    instruction.require(even, "more than one repeat needs four queues of one length, side by side, and no suspension",
                        std::to_string(repeats) + " repeats of others");
  }
  for (int k = 0; k < count; ++k)
    check_apart(instruction, "dst and src must not overlap", dst.place().address, repeats * total * RECORD,
                queues[k].place().address, ((repeats - 1) * total + lengths[k]) * RECORD);
  uint16_t taken[4] = {};
  for (int64_t repeat = 0; repeat < repeats; ++repeat) {
    instruction.repeat();
    std::vector<Record<T>> records[4];
    for (int k = 0; k < count; ++k) {
      // Further queues lie past the end of those that were given: they are read from the first.
      const LocalTensor<T>& from = repeats > 1 ? queues[0] : queues[k];
      const int64_t first = repeats > 1 ? repeat * total + k * int64_t{lengths[0]} : 0;
      records[k] = read_records(instruction, from, first, lengths[k]);
    }
    write_records(instruction, dst, repeat * total, merge(records, count, suspend, taken));
  }
  uint64_t packed = 0;
  for (int k = 0; k < 4; ++k) packed |= uint64_t{taken[k]} << 16 * k;
  core().registers[MERGED] = packed;
}

}  // namespace emulator

template <class T>
void Sort32(const LocalTensor<T>& dst, const LocalTensor<T>& src0, const LocalTensor<uint32_t>& src1,
            const int32_t repeatTime) {
  using namespace emulator;
  check_sorted<T>();
  Instruction instruction("Sort32", Pipe::V);
  instruction.align(dst, SORTED * RECORD, "dst");
  instruction.align(src0, SORTED * sizeof(T), "src0");
  instruction.align(src1, SORTED * 4, "src1");
  sort_groups(instruction, dst, src0, src1, repeatTime, false);
}

template <class T>
void MrgSort(const LocalTensor<T>& dst, const MrgSortSrcList<T>& src, const MrgSort4Info& params) {
  emulator::Instruction instruction("MrgSort", emulator::Pipe::V);
  emulator::merge_sort(instruction, dst, src, params.elementLengths, params.ifExhaustedSuspension, params.validBit,
                       params.repeatTimes);
}

// sortedNum: how many of each queue were taken when one was at its end.
template <class T, bool isExhaustedSuspension = false>
void MrgSort(const LocalTensor<T>& dst, const MrgSortSrcList<T>& sortList, const uint16_t elementCountList[4],
             uint32_t sortedNum[4], uint16_t validBit, const int32_t repeatTime) {
  using namespace emulator;
  Instruction instruction("MrgSort", Pipe::V);
  uint16_t lengths[4];
  std::copy_n(elementCountList, 4, lengths);
  merge_sort(instruction, dst, sortList, lengths, isExhaustedSuspension, validBit, repeatTime);
  if (isExhaustedSuspension)
    for (int k = 0; k < 4; ++k) sortedNum[k] = static_cast<uint32_t>(core().registers[MERGED] >> 16 * k & 0xffff);
}

inline void GetMrgSortResult(uint16_t& mrgSortList1, uint16_t& mrgSortList2, uint16_t& mrgSortList3,
                             uint16_t& mrgSortList4) {
  const uint64_t packed = emulator::core().registers[emulator::MERGED];
  uint16_t* out[] = {&mrgSortList1, &mrgSortList2, &mrgSortList3, &mrgSortList4};
  for (int k = 0; k < 4; ++k) *out[k] = static_cast<uint16_t>(packed >> 16 * k);
}

// Groups of 32, and with isFullSort all of them merged; tmp then has room for all records.
template <class T, bool isFullSort>
void Sort(const LocalTensor<T>& dst, const LocalTensor<T>& concat, const LocalTensor<uint32_t>& index,
          LocalTensor<T>& tmp, const int32_t repeatTime) {
  using namespace emulator;
  check_sorted<T>();
  Instruction instruction("Sort", Pipe::V);
  instruction.align(dst, BLOCK, "dst");
  instruction.align(concat, BLOCK, "concat");
  instruction.align(index, BLOCK, "index");
  const bool merged = isFullSort && repeatTime > 1;
  if (merged) {
    const int64_t need = repeatTime * SORTED * RECORD, have = int64_t{tmp.place().end} - tmp.place().address;
    if (have < need)
      instruction.require(false, "tmp must have " + std::to_string(need) + " bytes", std::to_string(have));
  }
  sort_groups(instruction, dst, concat, index, repeatTime, merged);
  instruction.repeat(0);
  if (merged) instruction.spoil(tmp, 0, repeatTime * SORTED * RECORD);
}

// What Sort takes: on this chip the values as they are.
template <class T>
void Concat(LocalTensor<T>& concat, const LocalTensor<T>& src, const LocalTensor<T>&, const int32_t) {
  emulator::check_sorted<T>();
  concat = src;
}

// Records apart again, 32 to a repeat.
template <class T>
void Extract(const LocalTensor<T>& dstValue, const LocalTensor<uint32_t>& dstIndex, const LocalTensor<T>& sorted,
             const int32_t repeatTime) {
  using namespace emulator;
  check_sorted<T>();
  Instruction instruction("Extract", Pipe::V);
  check_repeats(instruction, repeatTime, MAX_REPEAT_TIMES);
  instruction.align(dstValue, BLOCK, "dstValue");
  instruction.align(dstIndex, BLOCK, "dstIndex");
  instruction.align(sorted, BLOCK, "sorted");
  for (int64_t repeat = 0; repeat < repeatTime; ++repeat) {
    instruction.repeat(2);  // one for the values, one for the indices
    const auto records = read_records(instruction, sorted, repeat * SORTED, SORTED);
    T values[SORTED];
    uint32_t indices[SORTED];
    for (int i = 0; i < SORTED; ++i) values[i] = records[i].score, indices[i] = records[i].index;
    std::memcpy(instruction.write(dstValue, repeat * SORTED * int64_t{sizeof(T)}, sizeof(values)), values,
                sizeof(values));
    std::memcpy(instruction.write(dstIndex, repeat * SORTED * 4, sizeof(indices)), indices, sizeof(indices));
  }
}

// Of records, in elements of T.
template <class T>
uint32_t GetSortOffset(const uint32_t elemOffset) {
  emulator::check_sorted<T>();
  return elemOffset * emulator::RECORD / sizeof(T);
}
template <class T>
uint32_t GetSortLen(const uint32_t elemCount) {
  emulator::check_sorted<T>();
  return elemCount * emulator::RECORD / sizeof(T);
}

}  // namespace AscendC
