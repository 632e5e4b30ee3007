// Checks of the operators' tensor arguments. Each error message is one sentence that names the
// expected and the given tensor.
#pragma once

#include <torch/csrc/stable/ops.h>
#include <torch/csrc/stable/tensor.h>
#include <torch/headeronly/core/ScalarType.h>
#include <torch/headeronly/util/Exception.h>

#include <algorithm>
#include <cstdint>
#include <initializer_list>
#include <string>

namespace pixelsr {

using torch::headeronly::ScalarType;
using torch::stable::Tensor;

constexpr int64_t ANY = -1;  // a size that is not checked

template <class T>
constexpr ScalarType dtype_of = torch::headeronly::CppTypeToScalarType<T>::value;

template <class Sizes>
std::string described(ScalarType dtype, const Sizes& sizes) {
  std::string text = std::string(torch::headeronly::toString(dtype)) + " [";
  for (const int64_t size : sizes) {
    if (text.back() != '[') text += ", ";
    text += size == ANY ? "any" : std::to_string(size);
  }
  return text + "]";
}

inline std::string described(const Tensor& tensor) {
  return described(tensor.scalar_type(), tensor.sizes()) +
         (tensor.is_contiguous() ? "" : ", not contiguous") +
         (tensor.is_cpu() ? "" : ", on another device");
}

// Returns true if the tensor is on the CPU and has the expected dtype and sizes.
inline bool is_like(const Tensor& tensor, ScalarType dtype, std::initializer_list<int64_t> sizes) {
  const auto own = tensor.sizes();
  return tensor.is_cpu() && tensor.scalar_type() == dtype &&
         std::equal(own.begin(), own.end(), sizes.begin(), sizes.end(),
                    [](int64_t size, int64_t wanted) { return wanted == ANY || size == wanted; });
}

inline void check_tensor(const char* op, const char* name, const Tensor& tensor, ScalarType dtype,
                         std::initializer_list<int64_t> sizes) {
  STD_TORCH_CHECK(is_like(tensor, dtype, sizes) && tensor.is_contiguous(), op, ": ", name,
                  " must be ", described(dtype, sizes), ", contiguous on the CPU, got ",
                  described(tensor));
}

inline void check_features(const char* op, const char* name, const Tensor& tensor) {
  const ScalarType dtype = tensor.scalar_type();
  STD_TORCH_CHECK(dtype == ScalarType::Float || dtype == ScalarType::Double, op, ": ", name,
                  " must be float32 or float64, got ", torch::headeronly::toString(dtype));
}

// Returns the number of threads to use: as requested, but at most as many as libtorch has.
inline int64_t checked_threads(const char* op, int64_t threads) {
  STD_TORCH_CHECK(threads >= 1, op, ": threads must be a positive int, got ", threads);
  return std::min<int64_t>(threads, torch::stable::get_num_threads());
}

}  // namespace pixelsr
