// The arguments of the LSTM kernels; see cpu/lstm. The offsets `*_at` are the first channels of
// each site.
#pragma once

#include <cstdint>

namespace pixelsr {

// The rounding of hidden states, both as the operator returns them and as the next cells read them.
enum class Rounding : int64_t { NONE, FLOAT16, BFLOAT16 };

// A call that computes states from the sums of gates, at a list of sites.
template <class T>
struct LstmCall {
  int64_t sites, channels;
  Rounding rounding;
  T* gates;  // sums of the parts o, f, i, g; replaced by activations if kept_cell
  const int64_t* gates_at;
  T* state;  // written
  const int64_t* state_at;
  T* cell;  // replaced by the next cell state
  const int64_t* cell_at;
  T* hidden;
  const int64_t* hidden_at;
  T* kept_cell;  // or null, to keep nothing
  const int64_t* kept_cell_at;
};

// A call that computes gradients of the sums from gradients of hidden states, at a list of sites.
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
  const T* const* before;  // the previous cell state of each site
  T* of_cell;              // replaced by the gradient of the previous cell state
  const int64_t* of_cell_at;
  T* of_sums;  // a copy of grad_gates for the product of the previous wavefront
  const int64_t* of_sums_at;
};

// The most sites whose outer products are summed at once.
constexpr int64_t OUTER_SITES = 64;

// A call that adds the sum over sites of left[row] * right[column] to out[row][column], the
// gradient of a matrix.
template <class T>
struct OuterCall {
  int64_t sites, rows, columns;
  const T* const* left;
  const T* const* right;
  T* out;
};

}  // namespace pixelsr
