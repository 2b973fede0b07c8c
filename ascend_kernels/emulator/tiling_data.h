// What kernels of the op-def route read their sizes with: a struct behind a GM pointer, and a key that chooses the
// code.
#pragma once

#include <cstdint>
#include <cstring>

namespace AscendC::emulator {

inline uint64_t tiling_key = 0;

}  // namespace AscendC::emulator

#define REGISTER_TILING_DEFAULT(Struct) using PanguDefaultTiling = Struct
#define GET_TILING_DATA_WITH_STRUCT(Struct, name, address) \
  Struct name;                                             \
  std::memcpy(static_cast<void*>(&name), address, sizeof(Struct))
#define GET_TILING_DATA(name, address) GET_TILING_DATA_WITH_STRUCT(PanguDefaultTiling, name, address)
#define TILING_KEY_IS(key) (AscendC::emulator::tiling_key == uint64_t(key))
