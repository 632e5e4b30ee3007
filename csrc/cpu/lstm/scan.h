// The parts of forward.cpp and backward.cpp: cells and wavefronts, maps and their formats, threads.
#pragma once

#include <torch/csrc/stable/tensor.h>
#include <torch/headeronly/util/Exception.h>

#include <algorithm>
#include <cstring>
#include <type_traits>
#include <vector>

#include "cpu/checks.h"
#include "cpu/simd/kernels.h"
#include "cpu/thread_team.h"

namespace pixelsr {

// The order of a recurrence: the cells of each wavefront, and the index of each cell's state.
struct Scan {
  bool diagonal, reverse;
  int64_t height, width, taps;

  int64_t wavefronts() const { return diagonal ? height + width - 1 : height; }
  int64_t states() const { return diagonal ? height : width; }
  // The zeros before the states; others follow. Tap k of state p reads state p + k - before().
  int64_t before() const { return taps / 2; }
  int64_t padded() const { return states() + taps - 1; }
  int64_t first(int64_t wavefront) const {
    return diagonal ? std::max<int64_t>(0, wavefront - width + 1) : 0;
  }
  int64_t last(int64_t wavefront) const {
    return diagonal ? std::min(wavefront + 1, height) : width;
  }
  int64_t row(int64_t wavefront, int64_t state) const { return diagonal ? state : wavefront; }
  int64_t column(int64_t wavefront, int64_t state) const {
    if (!diagonal) return state;
    return reverse ? width - 1 - (wavefront - state) : wavefront - state;
  }
  bool begins(int64_t wavefront, int64_t state) const {
    return wavefront == (diagonal ? state : 0);
  }
};

// A feature map of a chunk's samples, with the channels of a cell contiguous.
template <class T>
struct Map {
  T* data;
  int64_t sample, row, column;  // strides

  int64_t at(int64_t n, int64_t r, int64_t c) const { return n * sample + r * row + c * column; }
  int64_t at(const Scan& scan, int64_t n, int64_t wavefront, int64_t state) const {
    return at(n, scan.row(wavefront, state), scan.column(wavefront, state));
  }
  Map<const T> read() const { return {data, sample, row, column}; }
};

// A thread's part of the cells of a wavefront and a chunk.
struct Part {
  int64_t begin, end;
  Part(int64_t count, int64_t member, int64_t members)
      : begin(count * member / members), end(count * (member + 1) / members) {}
  int64_t size() const { return end - begin; }
};

// Some samples, and one of the threads of the group that processes them.
struct Chunk {
  int64_t first, count;
  int64_t rank, group, member, members;
  Barrier* barrier;

  void wait() const { barrier->wait(members); }
  Part part(int64_t of) const { return {of, member, members}; }
};

// Transposes planes [channels, pixels] to [pixels, channels], or back, for the pixels from `begin`
// to `end`. It works in blocks of a cache line, which are read and written as a whole.
constexpr int64_t LINE = 16;

template <class T>
void to_pixels(const T* planes, int64_t plane, int64_t channels, int64_t begin, int64_t end,
               T* pixels, int64_t pixel) {
  T block[LINE][LINE];
  for (int64_t p = begin; p < end; p += LINE) {
    const int64_t wide = std::min(LINE, end - p);
    for (int64_t c = 0; c < channels; c += LINE) {
      const int64_t high = std::min(LINE, channels - c);
      for (int64_t i = 0; i < high; ++i) {
        std::memcpy(block[i], planes + (c + i) * plane + p, wide * sizeof(T));
      }
      for (int64_t j = 0; j < wide; ++j) {
        T* to = pixels + (p + j) * pixel + c;
        for (int64_t i = 0; i < high; ++i) to[i] = block[i][j];
      }
    }
  }
}

template <class T>
void to_planes(const T* pixels, int64_t pixel, int64_t channels, int64_t begin, int64_t end,
               T* planes, int64_t plane) {
  T block[LINE][LINE];
  for (int64_t p = begin; p < end; p += LINE) {
    const int64_t wide = std::min(LINE, end - p);
    for (int64_t c = 0; c < channels; c += LINE) {
      const int64_t high = std::min(LINE, channels - c);
      for (int64_t j = 0; j < wide; ++j) {
        const T* from = pixels + (p + j) * pixel + c;
        for (int64_t i = 0; i < high; ++i) block[i][j] = from[i];
      }
      for (int64_t i = 0; i < high; ++i) {
        std::memcpy(planes + (c + i) * plane + p, block[i], wide * sizeof(T));
      }
    }
  }
}

// A tensor [N, channels, H, W] of the caller. Either its channels are contiguous and its cells have
// any strides, or it has dense planes, which a group copies first.
template <class T>
struct Given {
  T* data;
  int64_t channels, height, width;
  int64_t sample, channel, row, column;

  Given(const Tensor& x, T* from)
      : data(from),
        channels(x.size(1)),
        height(x.size(2)),
        width(x.size(3)),
        sample(x.stride(0)),
        channel(x.stride(1)),
        row(x.stride(2)),
        column(x.stride(3)) {}
  int64_t area() const { return height * width; }
  bool in_planes() const { return channels > 1 && channel != 1; }
  // Returns true if the tensor has one of the two formats.
  bool sound() const {
    return !in_planes() || ((width == 1 || column == 1) && (height == 1 || row == width));
  }
  // Returns the number of elements of a chunk's copy.
  int64_t copied(int64_t samples) const { return in_planes() ? samples * channels * area() : 0; }
  // Returns the map of a chunk: `copy`, or the tensor itself.
  Map<T> map(const Chunk& chunk, std::vector<std::remove_const_t<T>>& copy) const {
    if (in_planes()) return {copy.data(), channels * area(), width * channels, channels};
    return {data + chunk.first * sample, sample, row, column};
  }
  Map<T> load(const Chunk& chunk, std::vector<std::remove_const_t<T>>& copy) const {
    if (!in_planes()) return map(chunk, copy);
    each_stretch(chunk, [&](int64_t n, int64_t begin, int64_t end) {
      to_pixels(data + (chunk.first + n) * sample, channel, channels, begin, end,
                copy.data() + n * channels * area(), channels);
    });
    return map(chunk, copy);
  }
  void store(const Chunk& chunk, const std::vector<T>& copy) const {
    if (!in_planes()) return;
    each_stretch(chunk, [&](int64_t n, int64_t begin, int64_t end) {
      to_planes(copy.data() + n * channels * area(), channels, channels, begin, end,
                data + (chunk.first + n) * sample, channel);
    });
  }

 private:
  template <class Work>
  void each_stretch(const Chunk& chunk, const Work& work) const {
    const Part part = chunk.part(area());
    for (int64_t n = 0; n < chunk.count; ++n) work(n, part.begin, part.end);
  }
};

// Returns a chunk of a dense channels-last tensor [N, channels, H, W].
template <class T>
Map<T> dense_map(T* data, const Chunk& chunk, const Scan& scan, int64_t channels) {
  const int64_t row = scan.width * channels, sample = scan.height * row;
  return {data + chunk.first * sample, sample, row, channels};
}

// A matrix [inputs, outputs], packed in panels of outputs.
template <class T>
struct Packed {
  int64_t depth, panels;
  std::vector<T> values, zeros;

  explicit Packed(const Tensor& matrix) {
    const int64_t inputs = matrix.size(0), outputs = matrix.size(1);
    const T* from = matrix.const_data_ptr<T>();
    depth = inputs + inputs % 2;
    panels = (outputs + PANEL - 1) / PANEL;
    values.resize(panels * depth * PANEL);
    zeros.resize(panels * PANEL);
    for (int64_t panel = 0; panel < panels; ++panel) {
      const int64_t first = panel * PANEL, count = std::min(PANEL, outputs - first);
      T* to = values.data() + panel * depth * PANEL;
      for (int64_t k = 0; k < inputs; ++k, to += PANEL) {
        std::memcpy(to, from + k * outputs + first, count * sizeof(T));
      }
    }
  }

  // Multiplies windows by the matrix. A window is one contiguous range of `source`.
  void multiply(const T* source, int64_t length, const int64_t* in, T* out, const int64_t* out_at,
                const T* add, const int64_t* add_at, int64_t sites, int64_t channels) const {
    if (sites == 0) return;
    ProductCall<T> call = {};
    call.weight = values.data();
    call.bias = zeros.data();
    call.depth = depth;
    call.segments = 1;
    call.sources = &source;
    call.lengths = &length;
    call.in = in;
    call.out = out;
    call.out_at = out_at;
    call.add = add;
    call.add_at = add_at;
    call.sites = sites;
    call.panels = panels;
    call.channels = channels;
    kernels<T>().product[0](call);
  }
};

// The number of cells that are processed together: few enough for the caches, enough to fill tiles.
constexpr int64_t CELLS_AT_ONCE = 64;

inline int64_t samples_at_once(const Scan& scan, int64_t samples, int64_t threads) {
  const int64_t own = std::max<int64_t>(1, samples / threads);
  return std::min(own, std::max<int64_t>(1, CELLS_AT_ONCE / scan.states()));
}

// Calls `work(chunk)` for all samples on a thread team. The distribution over threads is
// deterministic.
template <class Work>
void share(int64_t samples, int64_t at_once, int64_t threads, const Work& work) {
  std::vector<Barrier> barriers(std::min(threads, samples));
  run_team(threads, [&](int64_t rank, int64_t came) noexcept {
    const int64_t groups = std::min(came, samples);
    const int64_t group = rank * groups / came;
    const auto begin = [&](int64_t g) { return (came * g + groups - 1) / groups; };
    const int64_t member = rank - begin(group), members = begin(group + 1) - begin(group);
    const int64_t first = samples * group / groups, last = samples * (group + 1) / groups;
    for (int64_t n = first; n < last; n += at_once) {
      const int64_t count = std::min(at_once, last - n);
      work(Chunk{n, count, rank, group, member, members, &barriers[group]});
    }
  });
}

// The offsets in each map of a thread's cells of a wavefront.
struct Sites {
  std::vector<int64_t> given, hidden, cell, parts, window, own, carried;

  explicit Sites(int64_t most) {
    for (auto* offsets : {&given, &hidden, &cell, &parts, &window, &own, &carried}) {
      offsets->resize(most);
    }
  }
};

// Returns the order of a recurrence over a checked `map` [N, channels, H, W], and checks its matrix
// and initial state.
inline Scan checked_scan(const char* op, const Tensor& map, const Tensor& matrix,
                         const Tensor& initial, int64_t h, int64_t inputs, int64_t outputs,
                         bool diagonal, bool reverse) {
  STD_TORCH_CHECK(h >= 1 && map.numel() >= 1, op, ": it takes at least one cell, got ",
                  described(map));
  const ScalarType dtype = map.scalar_type();
  check_tensor(op, "matrix", matrix, dtype, {ANY, outputs});
  check_tensor(op, "initial", initial, dtype, {2, h});
  const int64_t rows = matrix.size(0), taps = rows / inputs;
  STD_TORCH_CHECK(rows % inputs == 0 && (diagonal ? taps == 2 : taps % 2 == 1), op,
                  ": matrix must have ", inputs, " rows for each of ",
                  diagonal ? "2" : "an odd number of", " taps, got ", rows);
  return {diagonal, reverse, map.size(2), map.size(3), taps};
}

inline void check_map(const char* op, const char* name, const Tensor& x, const Tensor& map,
                      int64_t channels) {
  const ScalarType dtype = map.scalar_type();
  const auto sizes = {map.size(0), channels, map.size(2), map.size(3)};
  STD_TORCH_CHECK(is_like(x, dtype, sizes), op, ": ", name, " must be ", described(dtype, sizes),
                  " on the CPU, got ", described(x));
}

// Checks that `x` is a dense channels-last tensor [N, channels, H, W] of the size of `map`.
inline void check_dense(const char* op, const char* name, const Tensor& x, const Tensor& map,
                        int64_t channels) {
  check_map(op, name, x, map, channels);
  const bool is_dense = (channels == 1 || x.stride(1) == 1) &&
                        (x.size(3) == 1 || x.stride(3) == channels) &&
                        (x.size(2) == 1 || x.stride(2) == x.size(3) * channels) &&
                        (x.size(0) == 1 || x.stride(0) == x.size(2) * x.size(3) * channels);
  STD_TORCH_CHECK(is_dense, op, ": ", name, " must be dense, channels last");
}

// Checks that `x` is [N, channels, H, W] of the size of `map`, in either format.
inline void check_given(const char* op, const char* name, const Tensor& x, const Tensor& map,
                        int64_t channels) {
  check_map(op, name, x, map, channels);
  STD_TORCH_CHECK(Given<const char>(x, nullptr).sound(), op, ": ", name,
                  " must be channels last or in dense planes");
}

// Checks the map from which the shape of a recurrence is taken.
inline void check_first_map(const char* op, const char* name, const Tensor& x) {
  check_features(op, name, x);
  STD_TORCH_CHECK(x.dim() == 4, op, ": ", name, " must have 4 dimensions, got ", described(x));
}

}  // namespace pixelsr
