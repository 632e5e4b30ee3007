// The LSTM kernels, a part of kernels_body.h.

// Rounds numbers of magnitude below 1 to the nearest 16-bit number, ties to even.
inline Vec<float> rounded(Vec<float> x, Rounding rounding) {
  if (rounding == Rounding::NONE) return x;
  const int bits = rounding == Rounding::BFLOAT16 ? 16 : 13;  // the number of bits to cut off
  const Words32 word = (Words32)x;
  const Words32 even = (word >> bits) & 1u;
  const Words32 cut = (word + ((1u << (bits - 1)) - 1) + even) & ~((1u << bits) - 1);
  // NaN is kept as it is.
  const Vec<float> near = x == x ? (Vec<float>)cut : x;
  if (rounding == Rounding::BFLOAT16) return near;
  const Vec<float> magnitude = (Vec<float>)(word & 0x7FFFFFFFu);
  const Vec<float> subnormal = x + 0.75f - 0.75f;  // floats from 1/2 to 1 are multiples of 2^-24
  return magnitude < 0x1p-14f ? subnormal : near;
}

inline Vec<double> rounded(Vec<double> x, Rounding) { return x; }

template <class T>
inline Vec<T> load_part(const T* from, int64_t count) {
  return count >= LANES<T> ? load(from) : load_some(from, count);
}

template <class T>
inline void store_part(T* to, Vec<T> value, int64_t count) {
  if (count >= LANES<T>) {
    store(to, value);
  } else {
    store_some(to, value, count);
  }
}

template <class T>
void lstm(const LstmCall<T>& call) {
  const int64_t h = call.channels;
  for (int64_t site = 0; site < call.sites; ++site) {
    T* gates = call.gates + call.gates_at[site];
    T* cell = call.cell + call.cell_at[site];
    T* state = call.state + call.state_at[site];
    T* hidden = call.hidden + call.hidden_at[site];
    T* kept = call.kept_cell ? call.kept_cell + call.kept_cell_at[site] : nullptr;
    for (int64_t at = 0; at < h; at += LANES<T>) {
      const int64_t count = h - at;
      const Vec<T> o = sigmoid_of<Exp>(load_part(gates + at, count));
      const Vec<T> f = sigmoid_of<Exp>(load_part(gates + h + at, count));
      const Vec<T> i = sigmoid_of<Exp>(load_part(gates + 2 * h + at, count));
      const Vec<T> g = tanh_of(load_part(gates + 3 * h + at, count));
      const Vec<T> now = f * load_part(cell + at, count) + i * g;
      const Vec<T> out = rounded(o * tanh_of(now), call.rounding);
      store_part(cell + at, now, count);
      store_part(state + at, out, count);
      store_part(hidden + at, out, count);
      if (!kept) continue;
      store_part(kept + at, now, count);
      store_part(gates + at, o, count);
      store_part(gates + h + at, f, count);
      store_part(gates + 2 * h + at, i, count);
      store_part(gates + 3 * h + at, g, count);
    }
  }
}

template <class T>
void lstm_grad(const LstmGradCall<T>& call) {
  const int64_t h = call.channels;
  for (int64_t site = 0; site < call.sites; ++site) {
    const T* of_hidden = call.of_hidden + call.of_hidden_at[site];
    const T* gates = call.activations + call.activations_at[site];
    const T* cell = call.cell + call.cell_at[site];
    T* of_cell = call.of_cell + call.of_cell_at[site];
    T* outs[2] = {call.grad_gates + call.grad_gates_at[site], call.of_sums + call.of_sums_at[site]};
    for (int64_t at = 0; at < h; at += LANES<T>) {
      const int64_t count = h - at;
      const Vec<T> o = load_part(gates + at, count), f = load_part(gates + h + at, count);
      const Vec<T> i = load_part(gates + 2 * h + at, count);
      const Vec<T> g = load_part(gates + 3 * h + at, count);
      const Vec<T> tanh = tanh_of(load_part(cell + at, count));
      const Vec<T> of_out = load_part(of_hidden + at, count);
      const Vec<T> of_now = load_part(of_cell + at, count) + of_out * o * ((T)1 - tanh * tanh);
      const Vec<T> before = load_part(call.before[site] + at, count);
      store_part(of_cell + at, of_now * f, count);
      const Vec<T> of_sums[4] = {of_out * tanh * o * ((T)1 - o), of_now * before * f * ((T)1 - f),
                                 of_now * g * i * ((T)1 - i), of_now * i * ((T)1 - g * g)};
      for (T* out : outs) {
        for (int part = 0; part < 4; ++part) store_part(out + part * h + at, of_sums[part], count);
      }
    }
  }
}

// Computes ROWS x PANELS sums over all sites in registers. `right` is a contiguous copy, because
// cache lines at distances of a power of two evict each other.
template <class T, int ROWS, int PANELS>
inline void outer_tile(const OuterCall<T>& call, const Vec<T>* right, int64_t row, int64_t column) {
  constexpr int VECTORS = PANELS * PANEL / LANES<T>;
  Vec<T> sum[ROWS][VECTORS] = {};
  for (int64_t site = 0; site < call.sites; ++site, right += VECTORS) {
    const T* left = call.left[site] + row;
    for (int m = 0; m < ROWS; ++m) {
      for (int v = 0; v < VECTORS; ++v) sum[m][v] += left[m] * right[v];
    }
  }
  for (int m = 0; m < ROWS; ++m) {
    T* out = call.out + (row + m) * call.columns + column;
    for (int v = 0; v < VECTORS; ++v, out += LANES<T>) {
      const int64_t rest = call.columns - column - v * LANES<T>;
      if (rest > 0) store_part(out, load_part(out, rest) + sum[m][v], rest);
    }
  }
}

template <class T, int PANELS>
void outer_panels(const OuterCall<T>& call, int64_t column) {
  constexpr int VECTORS = PANELS * PANEL / LANES<T>;
  Vec<T> right[OUTER_SITES * VECTORS];
  for (int64_t site = 0; site < call.sites; ++site) {
    for (int v = 0; v < VECTORS; ++v) {
      const int64_t at = column + v * LANES<T>, rest = call.columns - at;
      right[site * VECTORS + v] = rest > 0 ? load_part(call.right[site] + at, rest) : Vec<T>{};
    }
  }
  int64_t row = 0;
  for (; row + MOST_SITES <= call.rows; row += MOST_SITES) {
    outer_tile<T, MOST_SITES, PANELS>(call, right, row, column);
  }
  for (; row < call.rows; ++row) outer_tile<T, 1, PANELS>(call, right, row, column);
}

template <class T>
void outer(const OuterCall<T>& call) {
  constexpr int MOST = most_panels<T>(MOST_SITES);
  int64_t column = 0;
  for (; column + MOST * PANEL <= call.columns; column += MOST * PANEL) {
    outer_panels<T, MOST>(call, column);
  }
  for (; column < call.columns; column += PANEL) outer_panels<T, 1>(call, column);
}
