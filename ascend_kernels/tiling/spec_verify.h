// spec_verify: a sequence to a core, or, where there are more cores than sequences, to a team of them: its members own
// neighbouring spans of the vocabulary, and walk the sequence's tree together.
#pragma once

#include "tiling/tiling.h"

namespace pangu::ascend {

constexpr int32_t KNOWN_NODES = 64;  // of a sequence, that are looked up at once

// How tensors lie: the int32 words or floats from row to row, and the words of an id.
struct SpecVerifyLayout {
  int64_t ids, parents, uniforms, target, draft_probs, tokens, nodes, counts;
  int32_t id_words, target_words;  // target_words: 0 for logits and probabilities
};

struct SpecVerifyTensors {
  uint8_t *draft_ids, *parents, *target, *draft_probs, *uniforms, *token_ids, *num_accepted, *accepted_nodes;
};

struct SpecVerifyTiling {
  SpecVerifyLayout layout;
  int64_t num_nodes, vocabulary;
  Split sequences;     // over the cores, where each has its own
  int32_t team;        // cores of a sequence
  int32_t cores;
  int32_t tile;        // elements
  int32_t num_tiles;   // of a row
  int32_t span;        // tiles of a member
  int32_t values;      // that a member tells the others at once
  int32_t record;      // int64 of a member's values and what it says about itself: whole blocks
  int32_t method;      // a Verification
  bool has_draft_probs;
  bool reads_ahead;    // greedy: all rows' likeliest ids are found before the walk
  float typical_threshold, typical_alpha;
};

// Bytes of the unified buffer beside the tiles: a window of nodes, what members tell each other; and for each node.
constexpr int64_t SPEC_VERIFY_BYTES = 24 << 10, SPEC_VERIFY_NODE_BYTES = 32;
constexpr int64_t SPEC_VERIFY_ELEMENT_BYTES = 4 * 4 + 8 * 4;
constexpr int64_t LARGEST_TILE = 3840;  // keeps sums of its elements in 31 bits
constexpr int64_t LEAST_SPAN = 1024;
constexpr int64_t MOST_READ_AHEAD = 16 << 20;  // bytes that are read sooner than the cores wait for each other

inline int64_t spec_verify_most_nodes(const Chip& chip) {
  return (chip.ub_bytes - SPEC_VERIFY_BYTES - SPEC_VERIFY_ELEMENT_BYTES * LEAST_SPAN) / SPEC_VERIFY_NODE_BYTES;
}

inline SpecVerifyTiling spec_verify_tiling(int64_t batch, int64_t num_nodes, int64_t vocabulary, bool greedy,
                                           Dtype dtype, const Chip& chip) {
  SpecVerifyTiling tiling{};
  tiling.num_nodes = num_nodes;
  tiling.vocabulary = vocabulary;
  int64_t team = std::min(chip.cores / batch, ceil_div(vocabulary, LEAST_SPAN));
  tiling.team = int32_t(std::max<int64_t>(team, 1));
  tiling.sequences = split(batch, chip);
  tiling.cores = tiling.team > 1 ? int32_t(batch) * tiling.team : tiling.sequences.cores;
  // Four parts of rows and eight of fp32 work; of logits less, so that its tiles may be twice as large.
  int64_t bytes = chip.ub_bytes - SPEC_VERIFY_BYTES - SPEC_VERIFY_NODE_BYTES * num_nodes;
  int64_t most = round_down(std::min(bytes / SPEC_VERIFY_ELEMENT_BYTES, LARGEST_TILE), 128) * (greedy ? 2 : 1);
  int64_t share = std::max<int64_t>(ceil_div(vocabulary, tiling.team), 1);
  tiling.tile = int32_t(round_up(ceil_div(share, ceil_div(share, most)), 128));
  tiling.num_tiles = int32_t(ceil_div(vocabulary, tiling.tile));
  tiling.span = int32_t(ceil_div(tiling.num_tiles, tiling.team));
  tiling.values = greedy ? 1 : 1 + tiling.span;
  bool is_little = batch * (num_nodes + 1) * vocabulary * bytes_of(dtype) <= MOST_READ_AHEAD;
  if (greedy && tiling.team > 1 && is_little && tiling.team * (num_nodes + 2) * 8 <= SPEC_VERIFY_BYTES / 2) {
    tiling.reads_ahead = true;
    tiling.values = int32_t(num_nodes + 1);
  }
  tiling.record = int32_t(round_up(tiling.values + 1, 4));
  return tiling;
}

// Of the memory that members exchange records in, twice, behind a block per core that SyncAll may count in.
inline int64_t spec_verify_workspace_bytes(const SpecVerifyTiling& tiling) {
  return tiling.team == 1 ? 0 : tiling.cores * (BLOCK_BYTES + 2 * 8 * int64_t(tiling.record));
}

}  // namespace pangu::ascend
