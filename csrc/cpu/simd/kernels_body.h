// The kernels, written with the compiler's vector types. avx512.cpp, avx2.cpp and plain.cpp include
// this file once each, with PIXELSR_ISA set to a namespace and VECTOR_BYTES to the register width.
// This file calls no function of the standard library: the linker could use the copy that is
// compiled for this instruction set everywhere. For the same reason it instantiates no shared
// template for scalars, and common/pointwise.h only for vectors of its own width.

#include "common/philox.h"
#include "common/pointwise.h"
#include "cpu/simd/kernels.h"

namespace pixelsr {
namespace PIXELSR_ISA {
namespace {

template <class T>
struct Vector {
  typedef T type __attribute__((vector_size(VECTOR_BYTES)));
  typedef T unaligned __attribute__((vector_size(VECTOR_BYTES), aligned(alignof(T)), may_alias));
};

template <class T>
using Vec = typename Vector<T>::type;

template <class T>
constexpr int LANES = VECTOR_BYTES / sizeof(T);

template <class T>
inline Vec<T> load(const T* from) {
  return *reinterpret_cast<const typename Vector<T>::unaligned*>(from);
}

template <class T>
inline void store(T* to, Vec<T> value) {
  *reinterpret_cast<typename Vector<T>::unaligned*>(to) = value;
}

// Loads the first `count` lanes, if a whole vector would exceed the channels.
template <class T>
inline Vec<T> load_some(const T* from, int64_t count) {
#if defined(__AVX512F__)
  if constexpr (sizeof(T) == 4) {
    return (Vec<T>)_mm512_maskz_loadu_ps(static_cast<__mmask16>((1u << count) - 1), from);
  } else {
    return (Vec<T>)_mm512_maskz_loadu_pd(static_cast<__mmask8>((1u << count) - 1), from);
  }
#else
  Vec<T> value = {};
  for (int64_t i = 0; i < count; ++i) value[i] = from[i];
  return value;
#endif
}

template <class T>
inline void store_some(T* to, Vec<T> value, int64_t count) {
#if defined(__AVX512F__)
  if constexpr (sizeof(T) == 4) {
    _mm512_mask_storeu_ps(to, static_cast<__mmask16>((1u << count) - 1), (__m512)value);
  } else {
    _mm512_mask_storeu_pd(to, static_cast<__mmask8>((1u << count) - 1), (__m512d)value);
  }
#else
  for (int64_t i = 0; i < count; ++i) to[i] = value[i];
#endif
}

struct Half {
  uint16_t bits;
};
struct BFloat {
  uint16_t bits;
};

typedef uint32_t Words32 __attribute__((vector_size(VECTOR_BYTES)));
typedef int32_t Ints32 __attribute__((vector_size(VECTOR_BYTES)));

// Loads the weights of a pair of inputs. A pair of 16-bit weights is one word, with the first
// input's weight in the low half, so that one load gets both.
inline void load_pair(const float* pair, int64_t at, Vec<float>& first, Vec<float>& second) {
  first = load(pair + at);
  second = load(pair + PANEL + at);
}

inline void load_pair(const double* pair, int64_t at, Vec<double>& first, Vec<double>& second) {
  first = load(pair + at);
  second = load(pair + PANEL + at);
}

inline Words32 load_words(const uint16_t* from) {
  return (Words32)load(reinterpret_cast<const float*>(from));
}

inline void load_pair(const BFloat* pair, int64_t at, Vec<float>& first, Vec<float>& second) {
  const Words32 words = load_words(&pair[2 * at].bits);
  first = (Vec<float>)(words << 16);
  second = (Vec<float>)(words & 0xFFFF0000u);
}

// Converts halves in the upper 16 bits of words. After the shift to the fields of a float, the
// exponent is too small by 112; the product that corrects it is exact, also for subnormals.
inline Vec<float> of_half(Words32 words) {
  const Words32 moved = (Words32)((Ints32)words >> 3) & 0x8FFFE000u;
  return (Vec<float>)moved * 0x1p112f;
}

inline void load_pair(const Half* pair, int64_t at, Vec<float>& first, Vec<float>& second) {
  const Words32 words = load_words(&pair[2 * at].bits);
  first = of_half(words << 16);
  second = of_half(words);
}

// Computes a tile of SITES x PANELS sums in registers. Each sum runs over the window in the same
// order for all tile sizes, so that a result does not depend on the number of sites.
template <class T, class W, int SITES, int PANELS>
inline void product_tile(const ProductCall<T>& call, int64_t site, int64_t panel) {
  constexpr int VECTORS = PANELS * PANEL / LANES<T>;
  constexpr int IN_PANEL = PANEL / LANES<T>;
  Vec<T> sum[SITES][VECTORS] = {};
  const int64_t stride = call.depth * PANEL;
  const W* pair = static_cast<const W*>(call.weight) + panel * stride;
  for (int64_t s = 0; s < call.segments; ++s) {
    const T* source[SITES];
    for (int m = 0; m < SITES; ++m) source[m] = call.sources[s] + call.in[site + m];
    const int64_t length = call.lengths[s];
    for (int64_t k = 0; k < length; k += 2, pair += 2 * PANEL) {
      Vec<T> rows[2][VECTORS];
      for (int v = 0; v < VECTORS; ++v) {
        load_pair(pair + v / IN_PANEL * stride, v % IN_PANEL * LANES<T>, rows[0][v], rows[1][v]);
      }
      for (int m = 0; m < SITES; ++m) {
        for (int v = 0; v < VECTORS; ++v) sum[m][v] += source[m][k] * rows[0][v];
      }
      if (k + 1 == length) continue;  // an odd length: the last input has no partner
      for (int m = 0; m < SITES; ++m) {
        for (int v = 0; v < VECTORS; ++v) sum[m][v] += source[m][k + 1] * rows[1][v];
      }
    }
  }
  const int64_t first = panel * PANEL;
  for (int m = 0; m < SITES; ++m) {
    T* out = call.out + call.out_at[site + m] + first;
    const T* add = call.add ? call.add + call.add_at[site + m] + first : nullptr;
    const T* before = call.bias ? call.bias + first : out;
    for (int v = 0; v < VECTORS; ++v) {
      const int64_t at = v * LANES<T>;
      if (first + at + LANES<T> <= call.channels) {
        Vec<T> total = load(before + at);
        if (add) total += load(add + at);
        store(out + at, total + sum[m][v]);
        continue;
      }
      const int64_t rest = call.channels - first - at;
      if (rest <= 0) continue;
      Vec<T> total = load_some(before + at, rest);
      if (add) total += load_some(add + at, rest);
      store_some(out + at, total + sum[m][v], rest);
    }
  }
}

// Returns the most panels for which the sums of a tile fit into registers.
template <class T>
constexpr int most_panels(int64_t sites) {
  const int64_t panels = SUM_REGISTERS / (sites * (PANEL / LANES<T>));
  return panels < 1 ? 1 : panels > 4 ? 4 : static_cast<int>(panels);
}

template <class T>
using Tile = void (*)(const ProductCall<T>&, int64_t, int64_t);

template <class T, class W, int SITES, int PANELS>
constexpr Tile<T> tile_that_fits() {
  if constexpr (PANELS <= most_panels<T>(SITES)) return product_tile<T, W, SITES, PANELS>;
  return nullptr;
}

template <class T, class W, int SITES>
struct TilesOf {
  static constexpr Tile<T> by_panels[4] = {
      tile_that_fits<T, W, SITES, 1>(), tile_that_fits<T, W, SITES, 2>(),
      tile_that_fits<T, W, SITES, 3>(), tile_that_fits<T, W, SITES, 4>()};
};

template <class T, class W>
Tile<T> find_tile(int64_t sites, int panels) {
  static constexpr const Tile<T>* by_sites[MOST_SITES] = {
      TilesOf<T, W, 1>::by_panels, TilesOf<T, W, 2>::by_panels, TilesOf<T, W, 3>::by_panels,
      TilesOf<T, W, 4>::by_panels, TilesOf<T, W, 5>::by_panels, TilesOf<T, W, 6>::by_panels,
#if MOST_SITES > 6
      TilesOf<T, W, 7>::by_panels, TilesOf<T, W, 8>::by_panels,
#endif
  };
  return by_sites[sites - 1][panels - 1];
}

// Loops over panels outside and sites inside, so that the weights of a tile are read only once.
template <class T, class W>
void product(const ProductCall<T>& call) {
  const int64_t strip = call.sites < MOST_SITES ? call.sites : MOST_SITES;
  const int most = most_panels<T>(strip);
  const int64_t last_site = call.first_site + call.sites;
  const int64_t last_panel = call.first_panel + call.panels;
  for (int64_t panel = call.first_panel; panel < last_panel;) {
    const int64_t left = last_panel - panel, tiles = (left + most - 1) / most;
    const int64_t width = (left + tiles - 1) / tiles;  // of tiles that are as equal as possible
    int64_t site = call.first_site;
    const Tile<T> whole = find_tile<T, W>(strip, static_cast<int>(width));
    for (; site + strip <= last_site; site += strip) whole(call, site, panel);
    if (site < last_site) {
      find_tile<T, W>(last_site - site, static_cast<int>(width))(call, site, panel);
    }
    panel += width;
  }
}

// Pointwise functions. The float functions are accurate to a few units in the last place of 1.

// Computes exp by Cody and Waite's reduction and Cephes' polynomial. The result is infinite above
// 88, and NaN for NaN.
inline Vec<float> exp_of(Vec<float> x) {
  x = x < -87.3f ? Vec<float>{} - 87.3f : x;
  const Vec<float> shifted = x * 1.44269504088896341f + 12582912.0f;  // 1.5 * 2^23: rounds
  const Vec<float> n = shifted - 12582912.0f;
  const Vec<float> r = x - n * 0.693359375f + n * 2.12194440e-4f;
  Vec<float> p = r * 1.9875691500e-4f + 1.3981999507e-3f;
  p = p * r + 8.3334519073e-3f;
  p = p * r + 4.1665795894e-2f;
  p = p * r + 1.6666665459e-1f;
  p = p * r + 5.0000001201e-1f;
  p = p * r * r + r + 1.0f;
  const Words32 exponent = ((Words32)shifted + 127u) << 23;  // n is in the low bits
  return x > 88.0f ? Vec<float>{} + __builtin_inff() : p * (Vec<float>)exponent;
}

// Doubles use the C library's functions. So do float functions that need the whole range, or that
// are rare.

template <class T, class Function, class... Vectors>
inline Vec<T> each_lane(Function function, const Vectors&... x) {
  Vec<T> result;
  for (int i = 0; i < LANES<T>; ++i) {
    result[i] = static_cast<T>(function(static_cast<double>(x[i])...));
  }
  return result;
}

inline Vec<double> exp_of(Vec<double> x) {
  return each_lane<double>([](double v) { return __builtin_exp(v); }, x);
}

template <class T>
inline Vec<T> whole_range_exp_of(Vec<T> x) {
  return each_lane<T>([](double v) { return __builtin_exp(v); }, x);
}

template <class T>
inline Vec<T> whole_range_log_of(Vec<T> x) {
  return each_lane<T>([](double v) { return __builtin_log(v); }, x);
}

// One instruction for all lanes, because setup.py compiles with -fno-math-errno. The square root of
// a float, computed in double and rounded, is the exact one rounded.
template <class T>
inline Vec<T> sqrt_of(Vec<T> x) {
  return each_lane<T>([](double v) { return __builtin_sqrt(v); }, x);
}

// The exponential for common/pointwise.h.
struct Exp {
  template <class V>
  static V of(V x) {
    return exp_of(x);
  }
};

inline Vec<float> tanh_of(Vec<float> x) { return pixelsr::tanh_of<Exp>(x); }

inline Vec<double> tanh_of(Vec<double> x) {
  return each_lane<double>([](double v) { return __builtin_tanh(v); }, x);
}

inline Vec<float> gate_of(Vec<float> a, Vec<float> b) { return pixelsr::gate_of<Exp>(a, b); }

inline Vec<double> gate_of(Vec<double> a, Vec<double> b) { return tanh_of(a) * sigmoid_of<Exp>(b); }

inline Vec<float> elu_of(Vec<float> x, Vec<float> alpha) { return pixelsr::elu_of<Exp>(x, alpha); }

inline Vec<double> elu_of(Vec<double> x, Vec<double> alpha) {
  const auto elu = [](double v, double a) { return v > 0 ? v : a * __builtin_expm1(v); };
  return each_lane<double>(elu, x, alpha);
}

template <class T>
inline Vec<T> gelu_of(Vec<T> x) {
  const auto gelu = [](double v) {
    return 0.5 * v * (1 + __builtin_erf(v * 0.70710678118654752440));
  };
  return each_lane<T>(gelu, x);
}

template <class T>
inline Vec<T> gelu_tanh_of(Vec<T> x) {
  constexpr T SLOPE = 1.59576912160573071176, CUBE = 0.044715;  // 2 sqrt(2 / pi)
  return x * sigmoid_of<Exp>(SLOPE * (x + CUBE * x * x * x));
}

template <class T>
inline Vec<T> pow_of(Vec<T> x, Vec<T> exponent) {
  return each_lane<T>([](double v, double e) { return __builtin_pow(v, e); }, x, exponent);
}

template <class T>
inline Vec<T> softplus_of(Vec<T> x, Vec<T> beta, Vec<T> threshold) {
  const auto softplus = [](double v, double b, double most) {
    return v * b > most ? v : __builtin_log1p(__builtin_exp(v * b)) / b;
  };
  return each_lane<T>(softplus, x, beta, threshold);
}

// Pointwise steps are evaluated in blocks of sites and channels. Each instruction runs over a whole
// block.
constexpr int64_t BLOCK = 128;

template <class T>
using Block = Vec<T>[BLOCK / LANES<T>];

template <class T>
inline void load_channels(Vec<T>* to, const T* from, int64_t count) {
  int64_t at = 0;
  for (; at + LANES<T> <= count; at += LANES<T>) to[at / LANES<T>] = load(from + at);
  if (at < count) to[at / LANES<T>] = load_some(from + at, count - at);
}

template <class T>
inline void store_channels(T* to, const Vec<T>* from, int64_t count) {
  int64_t at = 0;
  for (; at + LANES<T> <= count; at += LANES<T>) store(to + at, from[at / LANES<T>]);
  if (at < count) store_some(to + at, from[at / LANES<T>], count - at);
}

// Computes a = opcode(a), opcode(a, b) or opcode(a, b, c).
template <class T>
inline void run_opcode(Opcode opcode, Block<T>& a, const Block<T>& b, const Block<T>& c,
                       int64_t vectors) {
#define PIXELSR_CASE(name, value)                       \
  case Opcode::name:                                    \
    for (int64_t v = 0; v < vectors; ++v) a[v] = value; \
    return;
  switch (opcode) {
    PIXELSR_CASE(NEG, -a[v])
    PIXELSR_CASE(EXP, whole_range_exp_of<T>(a[v]))
    PIXELSR_CASE(ABS, abs_of(a[v]))
    PIXELSR_CASE(RELU, relu_of(a[v]))
    PIXELSR_CASE(TANH, tanh_of(a[v]))
    PIXELSR_CASE(SIGMOID, sigmoid_of<Exp>(a[v]))
    PIXELSR_CASE(SILU, silu_of<Exp>(a[v]))
    PIXELSR_CASE(GELU, gelu_of<T>(a[v]))
    PIXELSR_CASE(GELU_TANH, gelu_tanh_of<T>(a[v]))
    PIXELSR_CASE(LOG, whole_range_log_of<T>(a[v]))
    PIXELSR_CASE(SQRT, sqrt_of<T>(a[v]))
    PIXELSR_CASE(SQUARE, a[v] * a[v])
    PIXELSR_CASE(RECIPROCAL, 1.0f / a[v])
    PIXELSR_CASE(ADD, a[v] + b[v])
    PIXELSR_CASE(SUB, a[v] - b[v])
    PIXELSR_CASE(MUL, a[v] * b[v])
    PIXELSR_CASE(DIV, a[v] / b[v])
    PIXELSR_CASE(POW, pow_of<T>(a[v], b[v]))
    PIXELSR_CASE(MAXIMUM, maximum_of(a[v], b[v]))
    PIXELSR_CASE(MINIMUM, minimum_of(a[v], b[v]))
    PIXELSR_CASE(GATE, gate_of(a[v], b[v]))
    PIXELSR_CASE(ELU, elu_of(a[v], b[v]))
    PIXELSR_CASE(LEAKY_RELU, leaky_relu_of(a[v], b[v]))
    PIXELSR_CASE(LT, lt_of(a[v], b[v]))
    PIXELSR_CASE(LE, le_of(a[v], b[v]))
    PIXELSR_CASE(EQ, eq_of(a[v], b[v]))
    PIXELSR_CASE(CLAMP, minimum_of(maximum_of(a[v], b[v]), c[v]))
    PIXELSR_CASE(SOFTPLUS, softplus_of<T>(a[v], b[v], c[v]))
    PIXELSR_CASE(WHERE, where_of(a[v], b[v], c[v]))
    case Opcode::ARG:
    case Opcode::CONST:
    case Opcode::COUNT:
      return;  // no functions
  }
#undef PIXELSR_CASE
}

// Runs a pointwise step at some sites for `count` channels from `first` on, in `width` vectors.
template <class T>
inline void pointwise_block(const PointwiseCall<T>& call, int64_t site, int64_t sites,
                            int64_t first, int64_t count, int64_t width) {
  Block<T> stack[MAX_STACK + 2];  // each opcode is passed three elements
  const int64_t vectors = sites * width;
  int64_t top = -1;
  for (int64_t i = 0; i < call.instructions; ++i) {
    const auto [opcode, operand] = call.code[i];
    if (opcode == Opcode::ARG) {
      ++top;
      const T* from = call.args[operand] + first;
      const int64_t* at = call.args_at[operand] + site;
      for (int64_t m = 0; m < sites; ++m)
        load_channels(stack[top] + m * width, from + at[m], count);
    } else if (opcode == Opcode::CONST) {
      ++top;
      for (int64_t v = 0; v < vectors; ++v) stack[top][v] = Vec<T>{} + call.constants[operand];
    } else {
      top -= operands_of(opcode) - 1;
      run_opcode<T>(opcode, stack[top], stack[top + 1], stack[top + 2], vectors);
    }
  }
  for (int64_t m = 0; m < sites; ++m) {
    store_channels(call.out + call.out_at[site + m] + first, stack[0] + m * width, count);
  }
}

template <class T>
void pointwise(const PointwiseCall<T>& call) {
  const int64_t last_site = call.first_site + call.sites;
  const int64_t channels = call.channels < BLOCK ? call.channels : BLOCK;
  const int64_t at_once = BLOCK / LANES<T> / ((channels + LANES<T> - 1) / LANES<T>);
  for (int64_t site = call.first_site; site < last_site; site += at_once) {
    const int64_t sites = last_site - site < at_once ? last_site - site : at_once;
    for (int64_t first = 0; first < call.channels; first += BLOCK) {
      const int64_t rest = call.channels - first, count = rest < BLOCK ? rest : BLOCK;
      pointwise_block(call, site, sites, first, count, (count + LANES<T> - 1) / LANES<T>);
    }
  }
}

// The noise of common/philox.h, for all levels of a value at once.

typedef uint64_t Words64 __attribute__((vector_size(VECTOR_BYTES)));

// Returns the natural logarithm of positive normal numbers, accurate to one unit in the last place
// (fdlibm's method).
inline Vec<double> log_of(Vec<double> x) {
  const Words64 bits = (Words64)x;
  // The exponent is chosen so that the remaining factor is between sqrt(1/2) and sqrt(2).
  const Words64 shifted = bits - 0x3FE6A09E667F3BCDull;
  const Words64 exponent = shifted >> 52;  // 12 bits, with negative numbers wrapped around
  const Vec<double> n =
      (Vec<double>)((exponent ^ 0x800) | 0x4330000000000000ull) - (0x1p52 + 0x800);
  const Vec<double> f = (Vec<double>)(bits - (exponent << 52)) - 1.0;
  const Vec<double> s = f / (2.0 + f), z = s * s, w = z * z;
  const Vec<double> even = w * (3.999999999940941908e-01 +
                                w * (2.222219843214978396e-01 + w * 1.531383769920937332e-01));
  const Vec<double> odd = z * (6.666666666666735130e-01 +
                               w * (2.857142874366239149e-01 +
                                    w * (1.818357216161805012e-01 + w * 1.479819860511658591e-01)));
  const Vec<double> half = 0.5 * f * f;
  const Vec<double> rest = s * (half + (even + odd)) + n * 1.90821492927058770002e-10;
  return n * 6.93147180369123816490e-01 - ((half - rest) - f);
}

void gumbel_noise(float* out, int64_t levels, uint64_t seed, uint64_t sample, uint32_t position) {
  constexpr int BLOCKS = 16, VALUES = 4 * BLOCKS;
  for (int64_t first = 0; first < levels; first += VALUES) {
    uint32_t words[BLOCKS][4];
    for (int b = 0; b < BLOCKS; ++b) {
      const Words block = noise_words(seed, sample, position, static_cast<uint32_t>(first / 4) + b);
      for (int i = 0; i < 4; ++i) words[b][i] = block.value[i];
    }
    const uint32_t* word = &words[0][0];
    float noise[VALUES];
    for (int v = 0; v < VALUES; v += LANES<double>) {
      Vec<double> uniform;
      for (int i = 0; i < LANES<double>; ++i) uniform[i] = uniform_of_word(word[v + i]);
      const Vec<double> value = -log_of(-log_of(uniform));
      for (int i = 0; i < LANES<double>; ++i) noise[v + i] = static_cast<float>(value[i]);
    }
    const int64_t count = levels - first < VALUES ? levels - first : VALUES;
    for (int64_t i = 0; i < count; ++i) out[first + i] = noise[i];
  }
}

#include "cpu/simd/lstm_body.h"

}  // namespace

extern const Kernels<float> float_kernels = {
    {product<float, float>, product<float, Half>, product<float, BFloat>},
    pointwise<float>,
    gumbel_noise,
    lstm<float>,
    lstm_grad<float>,
    outer<float>};
extern const Kernels<double> double_kernels = {{product<double, double>, nullptr, nullptr},
                                               pointwise<double>,
                                               gumbel_noise,
                                               lstm<double>,
                                               lstm_grad<double>,
                                               outer<double>};

}  // namespace PIXELSR_ISA
}  // namespace pixelsr
