// What a kernel includes: AscendC for a CPU, strict where hardware is silent. A kernel that runs here was verified in
// CPU emulation, and no more than that: nothing here says how fast it is, nor that this reading of the documents is the
// chip's.
//
// Left out, so that kernels that use it do not compile or stop with an error that names it:
//   the cube side (L1, L0, Mmad, Fixpipe, Matmul, Nd2Nz copies, modes 2 and up of CrossCoreSetFlag), TBufPool, SPM,
//   LocalMemAllocator, comparisons as operators, DataCopy of slices and with DataCopyEnhancedParams, int4, variables of
//   a block, high-level libraries; a 310P's sorts (RpSort16, MrgSort4, proposals), casts beside arithmetic (CastDeq,
//   MulCast, AddDeqRelu and the like), TransDataTo5HD, Select by register for more than one repeat, CANN 9's names of
//   reductions.
// Not seen: what goes through raw pointers (__gm__ T*, GetPhyAddr), bank conflicts, the instruction cache, time.
// Without effect: what is printed or dumped, hints (to the L2 and instruction caches, of shapes), kinds of tasks.
#pragma once

#include "cast.h"
#include "compare.h"
#include "copy.h"
#include "cross_core.h"
#include "gather.h"
#include "machine.h"
#include "operators.h"
#include "pipe.h"
#include "queue.h"
#include "reduce.h"
#include "sort.h"
#include "sync.h"
#include "tensor.h"
#include "types.h"
#include "vector.h"

// The device compiler's own, of numbers.
template <class A, class B, class C = std::common_type_t<A, B>>
  requires(std::is_arithmetic_v<A> && std::is_arithmetic_v<B>)
constexpr C min(A a, B b) {
  return C(b) < C(a) ? C(b) : C(a);
}
template <class A, class B, class C = std::common_type_t<A, B>>
  requires(std::is_arithmetic_v<A> && std::is_arithmetic_v<B>)
constexpr C max(A a, B b) {
  return C(a) < C(b) ? C(b) : C(a);
}

namespace AscendC {

template <class... Arguments>
void PRINTF(const Arguments&...) {}
template <class... Arguments>
void printf(const Arguments&...) {}
template <class... Arguments>
void DumpTensor(const Arguments&...) {}

inline void Trap() { emulator::core().fail("Trap", "trap", "a kernel must not stop itself", "a call of Trap"); }
namespace emulator {
[[noreturn]] inline void assertion(const char* condition) {
  core().fail("ASCENDC_ASSERT", "assertion", std::string(condition) + " must hold", "false");
}
}  // namespace emulator
inline void SetSysWorkspace(__gm__ uint8_t*) {}
inline __gm__ uint8_t* GetUserWorkspace(__gm__ uint8_t* workspace) { return workspace; }

}  // namespace AscendC

// For the one who loads the library: the reports of all launches since the last call, as JSON; the switches, which
// returns those before, in two bits.
extern "C" {
__attribute__((used, visibility("default"))) inline const char* pangu_ascend_report() {
  static std::string text;
  text = AscendC::emulator::Machine::get().take_reports();
  return text.c_str();
}
__attribute__((used, visibility("default"))) inline int pangu_ascend_options(int auto_sync, int strict) {
  auto before = AscendC::emulator::Machine::get().set_options({auto_sync != 0, strict != 0});
  return int(before.auto_sync) + 2 * int(before.strict);
}
}
