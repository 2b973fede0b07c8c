// spec_verify: a core, or a team of cores, walks the tree of a sequence; where a verdict takes a whole row of the
// vocabulary (what is left of the target's mass, its entropy, its likeliest token) each reads its span of it. A token
// is drawn by the core whose span holds it. No error can be raised from here: a sequence whose parents are no earlier
// nodes, or for block verification no chain, is flagged as one without probabilities is.
#include "kernel/spec_verify_greedy.h"
#include "kernel/spec_verify_sampling.h"

using pangu::ascend::SpecVerifyTiling;  // see PANGU_ENTRIES

#define ENTRY(suffix, Kernel)                                                                                       \
  extern "C" __global__ __aicore__ void spec_verify_##suffix(                                                       \
      GM_ADDR draft_ids, GM_ADDR parents, GM_ADDR target, GM_ADDR draft_probs, GM_ADDR uniforms, GM_ADDR token_ids, \
      GM_ADDR num_accepted, GM_ADDR accepted_nodes, GM_ADDR workspace, SpecVerifyTiling tiling) {                   \
    PANGU_KERNEL_TYPE(KERNEL_TYPE_MIX_AIV_1_0);                                                                     \
    AscendC::TPipe pipe;                                                                                            \
    pangu::ascend::Kernel kernel;                                                                                   \
    pangu::ascend::SpecVerifyMemory memory{draft_ids, parents,   target,       draft_probs,                         \
                                           uniforms,  token_ids, num_accepted, accepted_nodes};                     \
    kernel.Init(&pipe, memory, workspace, tiling);                                                                  \
    kernel.Process();                                                                                               \
  }
#define GREEDY_ENTRY(suffix, T) ENTRY(greedy_##suffix, GreedyVerifyKernel<T>)
PANGU_ENTRIES(GREEDY_ENTRY)
ENTRY(sampling, SamplingVerifyKernel)
#undef GREEDY_ENTRY
#undef ENTRY
