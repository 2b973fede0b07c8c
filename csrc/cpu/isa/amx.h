// tile_product on AMX tiles: 16 rows of 64 bytes.
#pragma once

#include "cpu/isa/tile.h"

namespace pangu {

constexpr int64_t TILE_ROWS = 4;  // from which tiles are faster than dot products

// All eight tile registers whole, for the life of the object.
struct Tiles {
  Tiles() {
    alignas(64) struct {
      uint8_t palette = 1, start_row = 0, reserved[14] = {};
      uint16_t bytes_per_row[16] = {64, 64, 64, 64, 64, 64, 64, 64};
      uint8_t rows[16] = {16, 16, 16, 16, 16, 16, 16, 16};
    } config;
    asm volatile("" ::"r"(&config) : "memory");  // gcc 12 believes that only the first 8 bytes are read
    _tile_loadconfig(&config);
  }
  ~Tiles() { _tile_release(); }
};

template <int BLOCKS>
void tile_product(const bf16* w0, const bf16* w1, int64_t stride, const bf16* tokens, int64_t steps, const bf16* next0,
                  const bf16* next1, float (*out)[2][TILE_SIDE * TILE_SIDE]) {
  _tile_zero(0);
  _tile_zero(1);
  if (BLOCKS == 2) {
    _tile_zero(2);
    _tile_zero(3);
  }
  const bf16* second = tokens + steps * TILE_SIZE;
  for (int64_t step = 0; step < steps; step++) {
    if (next0) {
      for (int64_t line = 0; line < TILE_SIZE; line += 32) {
        _mm_prefetch(reinterpret_cast<const char*>(next0 + step * TILE_SIZE + line), _MM_HINT_T1);
        _mm_prefetch(reinterpret_cast<const char*>(next1 + step * TILE_SIZE + line), _MM_HINT_T1);
      }
    }
    _tile_loadd(4, w0 + step * TILE_K, stride);
    _tile_loadd(6, tokens + step * TILE_SIZE, 64);
    _tile_dpbf16ps(0, 4, 6);
    _tile_loadd(5, w1 + step * TILE_K, stride);
    _tile_dpbf16ps(1, 5, 6);
    if (BLOCKS == 2) {
      _tile_loadd(7, second + step * TILE_SIZE, 64);
      _tile_dpbf16ps(2, 4, 7);
      _tile_dpbf16ps(3, 5, 7);
    }
  }
  _tile_stored(0, out[0][0], 64);
  _tile_stored(1, out[1][0], 64);
  if (BLOCKS == 2) {
    _tile_stored(2, out[0][1], 64);
    _tile_stored(3, out[1][1], 64);
  }
}

}  // namespace pangu
