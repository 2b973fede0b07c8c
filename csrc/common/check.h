// The one error form of every op: "op: what must hold, came what". The texts are those of pangu_ops/registry.py.
#pragma once

#include <torch/csrc/stable/ops.h>
#include <torch/csrc/stable/tensor.h>
#include <torch/headeronly/core/ScalarType.h>

#include <initializer_list>
#include <optional>
#include <stdexcept>
#include <string>

namespace pangu {

using torch::headeronly::ScalarType;
using torch::stable::Tensor;

// STD_TORCH_CHECK would put this file's name and line before the text.
#define PANGU_CHECK(condition, op, rule, came)                                                          \
  do {                                                                                                  \
    if (!(condition))                                                                                   \
      throw std::runtime_error(std::string(op) + ": " + (rule) + ", came " + ::pangu::describe(came));  \
  } while (0)

template <class Sizes>
std::string list(const Sizes& sizes) {
  std::string text = "[";
  for (auto size : sizes) text += (text.size() > 1 ? ", " : "") + std::to_string(size);
  return text + "]";
}

inline std::string describe(const Tensor& tensor) { return list(tensor.sizes()); }
inline std::string describe(const std::string& text) { return text; }
inline std::string describe(const char* text) { return text; }
inline std::string describe(int64_t value) { return std::to_string(value); }

inline std::string describe(ScalarType dtype) {
  switch (dtype) {
    case ScalarType::Float: return "float32";
    case ScalarType::Double: return "float64";
    case ScalarType::Half: return "float16";
    case ScalarType::BFloat16: return "bfloat16";
    case ScalarType::Byte: return "uint8";
    case ScalarType::Char: return "int8";
    case ScalarType::Short: return "int16";
    case ScalarType::Int: return "int32";
    case ScalarType::Long: return "int64";
    case ScalarType::Bool: return "bool";
    default: return "another dtype";
  }
}

inline void check_float(const char* op, const char* name, const Tensor& tensor) {
  auto dtype = tensor.scalar_type();
  PANGU_CHECK(dtype == ScalarType::Float || dtype == ScalarType::BFloat16 || dtype == ScalarType::Half, op,
              std::string(name) + " must be float32, bfloat16 or float16", dtype);
}

inline void check_dtype(const char* op, const char* name, const Tensor& tensor, ScalarType dtype) {
  PANGU_CHECK(tensor.scalar_type() == dtype, op, std::string(name) + " must be " + describe(dtype),
              tensor.scalar_type());
}

inline void check_dtype_of(const char* op, const char* name, const Tensor& tensor, const char* other_name,
                           const Tensor& other) {
  PANGU_CHECK(tensor.scalar_type() == other.scalar_type(), op,
              std::string(name) + " must have the dtype of " + other_name, tensor.scalar_type());
}

struct Place {  // a device
  int32_t type, index;
};

inline Place place_of(const Tensor& tensor) {
  Place place{};
  aoti_torch_get_device_type(tensor.get(), &place.type);
  if (place.type != aoti_torch_device_type_cpu()) aoti_torch_get_device_index(tensor.get(), &place.index);
  return place;
}

inline std::string describe(const Place& place) {
  if (place.type == aoti_torch_device_type_cpu()) return "cpu";
  return (place.type == aoti_torch_device_type_cuda() ? "cuda:" : "device ") + std::to_string(place.index);
}

// A kernel takes pointers as they are: one of another device would end the process.
inline void check_device_of(const char* op, const char* name, const Tensor& tensor, const char* other_name,
                            const Tensor& other) {
  Place place = place_of(tensor), wanted = place_of(other);
  PANGU_CHECK(place.type == wanted.type && place.index == wanted.index, op,
              std::string(name) + " must be on the device of " + other_name, place);
}

inline bool same_shape(const Tensor& a, const Tensor& b) { return list(a.sizes()) == list(b.sizes()); }

// A contiguous tensor, the same one where it is contiguous already.
inline Tensor dense(const Tensor& tensor) {
  return tensor.is_contiguous() ? tensor : torch::stable::contiguous(tensor);
}

inline Tensor empty_of(const Tensor& like, std::initializer_list<int64_t> sizes, ScalarType dtype) {
  return torch::stable::new_empty(like, sizes, dtype);
}

inline Tensor empty_of(const Tensor& like, std::initializer_list<int64_t> sizes) {
  return empty_of(like, sizes, like.scalar_type());
}

}  // namespace pangu
