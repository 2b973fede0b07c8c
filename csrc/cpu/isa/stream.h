// Moving whole rows with stores that do not pass through the cache.
#pragma once

#include <cstdint>
#include <cstring>

#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace pangu {

// Results larger than this will not be read back from cache.
constexpr int64_t STREAM_BYTES = 16 << 20;

#if defined(__x86_64__)

inline void copy_past_cache(char* to, const char* from, int64_t bytes) {
  int64_t i = -reinterpret_cast<intptr_t>(to) & 63;
  if (i > bytes) i = bytes;
  std::memcpy(to, from, i);
  for (; i + 64 <= bytes; i += 64)
    for (int64_t part = 0; part < 64; part += 16)
      _mm_stream_si128(reinterpret_cast<__m128i*>(to + i + part),
                       _mm_loadu_si128(reinterpret_cast<const __m128i*>(from + i + part)));
  std::memcpy(to + i, from + i, bytes - i);
}

// Streaming stores are not ordered with others: other threads may read the rows only after this.
inline void stream_fence() { _mm_sfence(); }

#else

inline void copy_past_cache(char* to, const char* from, int64_t bytes) { std::memcpy(to, from, bytes); }
inline void stream_fence() {}

#endif

}  // namespace pangu
