// One kernel for each instruction of the emulator and each of its forms: three tensors in, one in and out, a workspace.
// Which one runs, and with what numbers, the test says; the instructions are in the files beside this one.
#include "scene.h"

// Tensors are whole blocks of 32 bytes; `sizes` in bytes.
__global__ __aicore__ void instruction(const char* name, GM_ADDR in0, GM_ADDR in1, GM_ADDR in2, GM_ADDR out,
                                       const int64_t* sizes, const int64_t* numbers, const double* scalars) {
  TPipe pipe;
  TBuf<TPosition::VECCALC> buffers[5];
  GM_ADDR given[4] = {in0, in1, in2, out};
  GlobalTensor<uint8_t> global[4];
  Scene scene;
  for (int i = 0; i < 5; ++i) {
    pipe.InitBuffer(buffers[i], (sizes[i] + 255) / 256 * 256);
    scene.bytes[i] = buffers[i].Get<uint8_t>(sizes[i]);
    if (i == 4 || !sizes[i]) continue;
    global[i].SetGlobalBuffer(given[i], sizes[i]);
    DataCopy(scene.bytes[i], global[i], sizes[i]);
  }
  scene.numbers = numbers, scene.scalars = scalars;
  scene.mask[0] = numbers[3], scene.mask[1] = numbers[4];
  PipeBarrier<PIPE_ALL>();
  cases().at(name)(scene);
  PipeBarrier<PIPE_ALL>();
  DataCopy(global[3], scene.bytes[3], sizes[3]);
}

extern "C" void run_instruction(const char* name, GM_ADDR in0, GM_ADDR in1, GM_ADDR in2, GM_ADDR out,
                                const int64_t* sizes, const int64_t* numbers, const double* scalars) {
  instruction<<<1, nullptr, nullptr>>>(name, in0, in1, in2, out, sizes, numbers, scalars);
}
