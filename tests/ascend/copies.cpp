// What copies move, and where to: the arguments are those of the instructions.
#include "kernel_operator.h"
#include "wait.h"

using namespace AscendC;

namespace {

constexpr uint32_t UB_BYTES = 16 << 10;

template <class T>
__aicore__ inline GlobalTensor<T> global(GM_ADDR address) {
  GlobalTensor<T> tensor;
  tensor.SetGlobalBuffer(reinterpret_cast<__gm__ T*>(address));
  return tensor;
}

}  // namespace

// In and out again, by one set of parameters each.
extern "C" __global__ __aicore__ void strided(GM_ADDR x, GM_ADDR y, DataCopyParams in, DataCopyParams out) {
  TPipe pipe;
  TBuf<TPosition::VECCALC> buffer;
  pipe.InitBuffer(buffer, UB_BYTES);
  auto tensor = buffer.Get<int16_t>();
  DataCopy(tensor, global<int16_t>(x), in);
  wait<HardEvent::MTE2_MTE3>();
  DataCopy(global<int16_t>(y), tensor, out);
}

extern "C" void run_strided(GM_ADDR x, GM_ADDR y, uint16_t count, uint16_t length, uint16_t src_gap, uint16_t ub_gap,
                            uint16_t dst_gap) {
  DataCopyParams out;
  out.blockCount = count, out.blockLen = length, out.srcStride = ub_gap, out.dstStride = dst_gap;
  strided<<<1, nullptr, nullptr>>>(x, y, DataCopyParams{count, length, src_gap, ub_gap}, out);
}

// Through a queue whose tensors no vector instruction sees.
template <class T>
__global__ __aicore__ void through(GM_ADDR x, GM_ADDR y, uint32_t size) {
  TPipe pipe;
  TQueBind<TPosition::VECIN, TPosition::VECOUT, 2> queue;
  pipe.InitBuffer(queue, 2, 64 * sizeof(T));
  for (uint32_t i = 0; i < size; i += 64) {
    auto tensor = queue.AllocTensor<T>();
    DataCopy(tensor, global<T>(x)[i], 64);
    queue.EnQue(tensor);
    tensor = queue.template DeQue<T>();
    DataCopy(global<T>(y)[i], tensor, 64);
    queue.FreeTensor(tensor);
  }
}

extern "C" void run_through(GM_ADDR x, GM_ADDR y, uint32_t size) {
  through<int32_t><<<1, nullptr, nullptr>>>(x, y, size);
}

// Three cores add, or keep the larger or smaller.
template <class T>
__aicore__ inline void atomics(GM_ADDR x, GM_ADDR y, int64_t op) {
  TPipe pipe;
  TBuf<TPosition::VECCALC> buffer;
  pipe.InitBuffer(buffer, 64);
  auto tensor = buffer.Get<T>(32 / sizeof(T));
  DataCopy(tensor, global<T>(x)[GetBlockIdx() * 32 / sizeof(T)], 32 / sizeof(T));
  wait<HardEvent::MTE2_MTE3>();
  if (op == 0) SetAtomicAdd<T>();
  if (op == 1) SetAtomicMax<T>();
  if (op == 2) SetAtomicMin<T>();
  DataCopy(global<T>(y), tensor, 32 / sizeof(T));
  SetAtomicNone();
}

#define ATOMICS(TYPE)                                                                                      \
  __global__ __aicore__ void atomics_##TYPE(GM_ADDR x, GM_ADDR y, int64_t op) { atomics<TYPE>(x, y, op); } \
  extern "C" void run_atomics_##TYPE(GM_ADDR x, GM_ADDR y, int64_t op) {                                   \
    atomics_##TYPE<<<3, nullptr, nullptr>>>(x, y, op);                                                     \
  }
ATOMICS(float)
ATOMICS(half)
ATOMICS(int16_t)
ATOMICS(int32_t)
ATOMICS(int8_t)
ATOMICS(bfloat16_t)

// Scalars, one by one, and tensors as parts and as other types.
__global__ __aicore__ void scalars(GM_ADDR x, GM_ADDR y) {
  TPipe pipe;
  TBuf<> buffer;
  pipe.InitBuffer(buffer, 256);
  auto words = buffer.GetWithOffset<int32_t>(16, 128);
  auto in = global<int32_t>(x), out = global<int32_t>(y);
  for (int i = 0; i < 16; i++) words(i) = in.GetValue(i) + 1;
  auto halves = words[8].ReinterpretCast<int16_t>();
  halves.SetValue(2, int16_t(halves.GetValue(0)));  // the low half of word 8 into that of word 9
  for (int i = 0; i < 16; i++) out(i) = words(i);
  out.SetValue(16, int32_t(words.GetSize() * 100 + halves.GetSize()));
  DataCacheCleanAndInvalid<int32_t, CacheLine::ENTIRE_DATA_CACHE>(out);
}

extern "C" void run_scalars(GM_ADDR x, GM_ADDR y) { scalars<<<1, nullptr, nullptr>>>(x, y); }

#if __NPU_ARCH__ == 2201
__global__ __aicore__ void padded(GM_ADDR x, GM_ADDR y, DataCopyExtParams in, DataCopyPadExtParams<int16_t> padding,
                                  DataCopyExtParams out, bool old_form) {
  TPipe pipe;
  TBuf<TPosition::VECCALC> buffer;
  pipe.InitBuffer(buffer, UB_BYTES);
  auto tensor = buffer.Get<int16_t>();
  if (old_form) {
    DataCopyPad(tensor, global<int16_t>(x),
                {in.blockCount, uint16_t(in.blockLen), uint16_t(in.srcStride), uint16_t(in.dstStride)},
                {padding.isPad, padding.leftPadding, padding.rightPadding, uint64_t(padding.paddingValue)});
  } else {
    DataCopyPad(tensor, global<int16_t>(x), in, padding);
  }
  wait<HardEvent::MTE2_MTE3>();
  DataCopyPad(global<int16_t>(y), tensor, out);
}

// The rows as they came, then once more with their padding.
extern "C" void run_padded(GM_ADDR x, GM_ADDR y, uint16_t count, uint32_t length, uint32_t gap, uint32_t ub_gap,
                           uint8_t left, uint8_t right, int64_t value, int64_t old_form) {
  const uint32_t whole = left * 2 + length + right * 2;
  padded<<<1, nullptr, nullptr>>>(x, y, DataCopyExtParams{count, length, gap, ub_gap, 0},
                                  DataCopyPadExtParams<int16_t>{true, left, right, int16_t(value)},
                                  DataCopyExtParams{count, whole, ub_gap, 2, 0}, old_form != 0);
}

__global__ __aicore__ void copies(GM_ADDR x, GM_ADDR y, int64_t form) {
  TPipe pipe;
  TBuf<TPosition::VECCALC> buffer;
  pipe.InitBuffer(buffer, 2048);
  auto from = buffer.Get<float>(256), to = buffer.GetWithOffset<float>(256, 1024);
  DataCopy(from, global<float>(x), 256);
  wait<HardEvent::MTE2_V>();
  Duplicate(to, 0.0f, 256);
  PipeBarrier<PIPE_V>();
  uint64_t bits[2] = {0x5, 0};
  if (form == 0) Copy(to, from, 64, 4, {1, 1, 8, 8});
  if (form == 1) Copy(to, from, 3, 2, {1, 1, 16, 8});
  if (form == 2) Copy(to, from, bits, 4, {1, 1, 8, 8});
  if (form == 3) Copy(to, from, 8, 2, CopyRepeatParams());  // both strides between blocks are 0 here
  wait<HardEvent::V_MTE3>();
  DataCopy(global<float>(y), to, 256);
}

extern "C" void run_copies(GM_ADDR x, GM_ADDR y, int64_t form) { copies<<<1, nullptr, nullptr>>>(x, y, form); }
#endif
