// What the kernels of the recurrences are given; see lstm.cpp. Offsets `*_at` say where the
// channels of a site begin.
#pragma once

#include <cstdint>

namespace pixelsr {

// What a hidden state is rounded to, as the operator returns it and as the next cells read it.
enum class Rounding : int64_t { NONE, FLOAT16, BFLOAT16 };

// From sums to states, at a list of sites.
template <class T>
struct LstmCall {
  int64_t sites, channels;
  Rounding rounding;
  T* gates;  // parts o, f, i, g: sums, which are replaced by the activations
  const int64_t* gates_at;
  T* state;  // written
  const int64_t* state_at;
  T* cell;  // replaced by what comes after it
  const int64_t* cell_at;
  T* hidden;
  const int64_t* hidden_at;
  T* kept_cell;  // null where nothing is kept
  const int64_t* kept_cell_at;
};

// From the gradient of the hidden states to that of the sums, at a list of sites.
template <class T>
struct LstmGradCall {
  int64_t sites, channels;
  const T* of_hidden;
  const int64_t* of_hidden_at;
  const T* activations;
  const int64_t* activations_at;
  T* grad_gates;
  const int64_t* grad_gates_at;
  const T* cell;
  const int64_t* cell_at;
  const T* const* before;  // for each site, the cell state that it was carried on from
  T* of_cell;              // carried: replaced by the gradient of the cell state before
  const int64_t* of_cell_at;
  T* of_sums;  // as grad_gates, where the product of the wavefront before reads it
  const int64_t* of_sums_at;
};

// Sites whose outer products are summed at once, at most.
constexpr int64_t OUTER_SITES = 64;

// The gradient of a matrix: out[row][column] += the sum over sites of left[row] * right[column].
template <class T>
struct OuterCall {
  int64_t sites, rows, columns;
  const T* const* left;
  const T* const* right;
  T* out;
};

}  // namespace pixelsr
