// Attention over a paged KV cache, shared by attention and attention_ffn. A thread takes one KV head of one sequence
// and a few of its tokens, with all the query heads that share the KV head; keys and values stream past once, in
// chunks, with a running maximum and sum (Milakov and Gimelshein, 2018).
//
// Chunks begin at fixed positions of the context and every sum has a fixed order, so a token's result depends neither
// on its batch mates nor, where all values are finite, on the tokens that come in the same call.
#pragma once

#include <limits>
#include <vector>

#include "common/attention.h"
#include "cpu/experts.h"

namespace pangu {

constexpr int64_t CHUNK = 4 * PANEL;    // keys between two looks at the maximum
constexpr int64_t ATTENTION_ROWS = 32;  // (token, query head) pairs that share the keys as they pass

template <class T>
struct PagedCache {
  T *keys, *values;
  const int32_t *table, *context_lens, *query_starts;
  int64_t num_sequences, max_blocks, kv_heads, block_size, head_dim;

  explicit PagedCache(const Paging& paging)
      : keys(mutable_data<T>(paging.key_cache)), values(mutable_data<T>(paging.value_cache)),
        table(data<int32_t>(paging.block_table)), context_lens(data<int32_t>(paging.context_lens)),
        query_starts(data<int32_t>(paging.query_starts)), num_sequences(paging.num_sequences),
        max_blocks(paging.max_blocks), kv_heads(paging.kv_heads), block_size(paging.block_size),
        head_dim(paging.head_dim) {}

  // Where the key and the value of a position lie, as an offset into keys and into values.
  int64_t offset(int64_t sequence, int64_t head, int64_t position) const {
    int64_t block = table[sequence * max_blocks + position / block_size];
    return ((block * kv_heads + head) * block_size + position % block_size) * head_dim;
  }

  // The offsets of positions [first, first + CHUNK); past `last`, its again.
  void locate(int64_t sequence, int64_t head, int64_t first, int64_t last, int64_t* offsets) const {
    int64_t at = offset(sequence, head, first);
    for (int64_t i = 0; i < CHUNK; i++) {
      offsets[i] = at;
      if (int64_t next = first + i + 1; next <= last)
        at = next % block_size ? at + head_dim : offset(sequence, head, next);
    }
  }

  int64_t new_tokens(int64_t sequence) const { return query_starts[sequence + 1] - query_starts[sequence]; }
  int64_t past(int64_t sequence) const { return context_lens[sequence] - new_tokens(sequence); }

  // Call body(token, sequence, position) for every new token, on all threads.
  template <class Body>
  void for_tokens(const Body& body) const {
    torch::stable::parallel_for(0, query_starts[num_sequences], 16, [&](int64_t begin, int64_t end) {
      int64_t sequence = std::upper_bound(query_starts, query_starts + num_sequences + 1, begin) - query_starts - 1;
      for (int64_t token = begin; token < end; token++) {
        while (token >= query_starts[sequence + 1]) sequence++;
        body(token, sequence, past(sequence) + token - query_starts[sequence]);
      }
    });
  }
};

// Ask for CHUNK rows, which a core would otherwise wait for: each block is too short to be foreseen.
template <class T>
void prefetch(const T* rows, const int64_t* offsets, int64_t size) {
  for (int64_t i = 0; i < CHUNK; i++)
    for (int64_t k = 0; k < size; k += 64 / sizeof(T)) __builtin_prefetch(rows + offsets[i] + k, 0, 2);
}

// Query heads as they lie: row(token, head).
template <class T>
struct QueryHeads {
  const T* from;
  int64_t count, token_stride, head_stride;
  const T* row(int64_t token, int64_t head) const { return from + token * token_stride + head * head_stride; }
};

// sums[m][d] = sums[m][d] * decay[m] + sum over i of weights[m][i] * values[i][d], for M rows and COUNT vectors of d.
template <int M, int COUNT, class T, class Load, class Store>
inline void add_values(const T* const* values, int64_t num_keys, const float* weights, const float* decay, float* sums,
                       int64_t head_dim, int64_t d, const Load& load, const Store& store) {
  vf total[M][COUNT];
  for (int m = 0; m < M; m++)
    for (int c = 0; c < COUNT; c++) total[m][c] = load(sums + m * head_dim + d + c * LANES) * decay[m];
  for (int64_t i = 0; i < num_keys; i++) {
    vf value[COUNT];
#pragma GCC unroll 4
    for (int c = 0; c < COUNT; c++) value[c] = load(values[i] + d + c * LANES);
#pragma GCC unroll 4
    for (int m = 0; m < M; m++)
#pragma GCC unroll 4
      for (int c = 0; c < COUNT; c++) total[m][c] += value[c] * weights[m * CHUNK + i];
  }
  for (int m = 0; m < M; m++)
    for (int c = 0; c < COUNT; c++) store(sums + m * head_dim + d + c * LANES, total[m][c]);
}

template <int M, class T>
void add_values(const T* const* values, int64_t num_keys, const float* weights, const float* decay, float* sums,
                int64_t head_dim) {
  auto whole = [](auto* p) { return load(p); };
  auto keep = [](float* p, vf v) { store(p, v); };
  int64_t d = 0;
  for (; d + 4 * LANES <= head_dim; d += 4 * LANES)
    add_values<M, 4>(values, num_keys, weights, decay, sums, head_dim, d, whole, keep);
  for (; d + LANES <= head_dim; d += LANES)
    add_values<M, 1>(values, num_keys, weights, decay, sums, head_dim, d, whole, keep);
  if (int64_t rest = head_dim - d)
    add_values<M, 1>(values, num_keys, weights, decay, sums, head_dim, d, [=](auto* p) { return load_first(p, rest); },
                     [=](float* p, vf v) { store_first(p, v, rest); });
}

// The running softmax of one (token, query head).
struct SoftmaxRow {
  float largest = std::numeric_limits<float>::lowest(), sum = 0;  // finite: scores may all be -inf

  // Turn CHUNK scores, of which the first num_keys count, into weights; by how much earlier sums shrink.
  float weigh(float* scores, int64_t num_keys, float scale) {
    vf top = splat(-std::numeric_limits<float>::infinity());
    for (int64_t i = 0; i < CHUNK; i += LANES) {
      vf score = keep_first(load(scores + i) * scale, num_keys - i, -std::numeric_limits<float>::infinity());
      store(scores + i, score);
      top = max(top, score);
    }
    float before = largest;
    largest = std::max(before, max(top));
    vf total = {};
    for (int64_t i = 0; i < CHUNK; i += LANES) {
      vf weight = keep_first(exp(load(scores + i) - largest), num_keys - i, 0.0f);
      store(scores + i, weight);
      total += weight;
    }
    float decay = std::exp(before - largest);
    sum = sum * decay + pangu::sum(total);
    return decay;
  }
};

// Tokens [first, last) of a sequence with the query heads of one KV head; out is [T, Hq, D].
template <class T>
void attend_tile(const PagedCache<T>& cache, const QueryHeads<T>& q, int64_t sequence, int64_t head, int64_t first,
                 int64_t last, float scale, T* out) {
  int64_t group = q.count / cache.kv_heads, num_rows = (last - first) * group, size = cache.head_dim;
  int64_t past = cache.past(sequence), start = cache.query_starts[sequence];
  auto token = [&](int64_t row) { return first + row / group; };
  auto query = [&](int64_t row) { return q.row(start + token(row), head * group + row % group); };
  auto num_keys = [&](int64_t row) { return past + token(row) + 1; };  // those it may see
  int64_t all_keys = num_keys(num_rows - 1);

  std::vector<SoftmaxRow> softmax(num_rows);
  std::vector<float> sums(num_rows * size), scores(num_rows * CHUNK), decay(num_rows);
  const T *keys[CHUNK], *values[CHUNK];
  int64_t offsets[CHUNK];
  float products[TILE * PANEL];
  cache.locate(sequence, head, 0, all_keys - 1, offsets);
  for (int64_t chunk = 0; chunk < all_keys; chunk += CHUNK) {
    int64_t count = std::min(CHUNK, all_keys - chunk);
    for (int64_t i = 0; i < CHUNK; i++) {
      keys[i] = cache.keys + offsets[i];
      values[i] = cache.values + offsets[i];
    }
    prefetch(cache.values, offsets, size);
    for (int64_t row = 0, m; row < num_rows; row += m) {
      m = num_rows - row == TILE + 1 ? 2 : std::min<int64_t>(num_rows - row, TILE);
      const T* rows[TILE];
      for (int64_t i = 0; i < m; i++) rows[i] = query(row + i);
      for (int64_t key = 0; key < count; key += PANEL) {
        dot(rows, m, keys + key, size, products);
        for (int64_t i = 0; i < m; i++)
          std::copy_n(products + i * PANEL, PANEL, scores.data() + (row + i) * CHUNK + key);
      }
    }
    if (chunk + CHUNK < all_keys) {
      cache.locate(sequence, head, chunk + CHUNK, all_keys - 1, offsets);
      prefetch(cache.keys, offsets, size);
    }
    for (int64_t row = 0; row < num_rows; row++)
      decay[row] = softmax[row].weigh(scores.data() + row * CHUNK,
                                      std::min(count, std::max<int64_t>(num_keys(row) - chunk, 0)), scale);
    for (int64_t row = 0, m; row < num_rows; row += m) {
      m = num_rows - row == 5 ? 3 : std::min<int64_t>(num_rows - row, 4);
      auto add = m == 4 ? add_values<4, T> : m == 3 ? add_values<3, T> : m == 2 ? add_values<2, T> : add_values<1, T>;
      add(values, count, scores.data() + row * CHUNK, decay.data() + row, sums.data() + row * size, size);
    }
  }
  for (int64_t row = 0; row < num_rows; row++) {
    const float* from = sums.data() + row * size;
    T* to = out + ((start + token(row)) * q.count + head * group + row % group) * size;
    for_vectors(size, [&](int64_t i, auto load, auto store) { store(to + i, load(from + i) / softmax[row].sum); });
  }
}

// All new tokens of all sequences, whose keys and values are in the cache already.
template <class T>
void attend(const PagedCache<T>& cache, const QueryHeads<T>& q, float scale, T* out) {
  struct Unit {
    int64_t sequence, head, first, last;
  };
  int64_t tokens_per_unit = std::max<int64_t>(1, ATTENTION_ROWS / (q.count / cache.kv_heads));
  std::vector<Unit> units;
  int64_t work = 0;
  for (int64_t sequence = 0; sequence < cache.num_sequences; sequence++) {
    work += 2 * cache.new_tokens(sequence) * cache.context_lens[sequence] * q.count * cache.head_dim;
    for (int64_t last = cache.new_tokens(sequence); last > 0; last -= tokens_per_unit)  // the longest first
      for (int64_t head = 0; head < cache.kv_heads; head++)
        units.push_back({sequence, head, std::max<int64_t>(0, last - tokens_per_unit), last});
  }
  for_units(units.size(), work, [&](int64_t i) {
    const auto& [sequence, head, first, last] = units[i];
    attend_tile(cache, q, sequence, head, first, last, scale, out);
  });
}

}  // namespace pangu
