// The sampler of a tile: the visitor of `walk` that a cluster of blocks runs.
#pragma once

#include <cstdint>

#include "common/argmax.h"
#include "common/moments.h"
#include "common/philox.h"
#include "common/raster_scan.h"
#include "cuda/memory_layout.h"
#include "cuda/pixel_run.h"
#include "cuda/pointwise.h"
#include "cuda/row_product.h"

namespace pixelsr {

template <class T, int TILES>
class Sampler {
 public:
  using Tile = pixelsr::Tile<T, TILES>;
  static constexpr int SAMPLES = Tile::SAMPLES;

  PIXELSR_DEVICE Sampler(const Job& job, Control& control)
      : job_(job),
        control_(control),
        contents_(control.contents),
        tile_(job, control),
        slots_(shared_memory() + sizeof(Control)),
        first_sample_((job.first_tile + cluster()) * SAMPLES),
        leads_(cluster_rank() == 0),
        lap_(clock_now()) {}

  PIXELSR_DEVICE void begin_row(int64_t row, bool resumes) {
    sync_cluster();
    row_ = static_cast<int>(row);
    if (thread() <= MOST_TURNS) control_.row_turns[thread()] = row_ % (thread() + !thread());
    sync_block();
    if (resumes) return restore();
    if (!job_.order.row_has_unknown(row)) load_known();
    load_values();
    if (job_.draws && job_.temperature > 0) make_noise();
    sync_cluster();
    lap(BEGIN_ROW);
  }

  PIXELSR_DEVICE void run_row() {
    run_rows(ROW_LIST);
    sync_cluster();
    lap(RUN_ROW);
    if (!leads_) return;
    for (int at = thread(); at < contents_.windows_size; at += THREADS) windows()[at] = Unit{};
    if (contents_.all_count > 0) load_beside();
  }

  PIXELSR_DEVICE void run_known_row() {
    run_rows(KNOWN_ROW_LIST);
    lap(KNOWN_ROW);
  }

  PIXELSR_DEVICE void begin_pixel(int64_t col, bool resumes) {
    enter(static_cast<int>(col));
    if (resumes || !leads_) return;
    fetch_windows(contents_.fetches, contents_.fetches_count);
    lap(BEGIN_PIXEL);
  }

  PIXELSR_DEVICE void run_left(int64_t, bool with_logits) {
    run_pixel(left_list(with_logits));
    lap(RUN_LEFT);
  }

  PIXELSR_DEVICE void run_color(int64_t, int64_t color, bool with_logits) {
    run_pixel(color_list(color, with_logits));
    lap(RUN_COLOR);
  }

  // Draws a value or, if the caller draws, outputs its logits and saves the windows.
  PIXELSR_DEVICE bool draw(const Cursor& at) {
    if (!leads_) return job_.draws;
    const Column logits = tile_.near(in_table<Place>(contents_.logits)[at.color], col_, 0);
    if (job_.draws) {
      draw_samples(at, logits);
    } else {
      for_each_level([&](int own, int level) {
        const int64_t sample = first_sample_ + own;
        if (sample >= job_.samples) return;
        job_.logits[sample * job_.levels + level] = Tile::load(logits, level, own);
      });
      sync_block();  // the windows include the values that were just stored
      for (int i = thread(); i < contents_.windows_size; i += THREADS) saved()[i] = windows()[i];
    }
    return job_.draws;
  }

  // Stores the values of a position where the next stages read them.
  PIXELSR_DEVICE void load_value(const Cursor& at) {
    sync_block();
    if (!leads_ || thread() >= SAMPLES) return;
    const Column image = tile_.near(*in_table<Place>(contents_.image_window), col_, 0);
    Tile::store(image, static_cast<int>(at.color), thread(), value_at(at.color, col_, thread()));
    lap(DRAW);
  }

  PIXELSR_DEVICE void end_pixel(int64_t) {
    sync_block();
    if (!leads_) return;
    const auto* stores = in_table<Transfer>(contents_.stores);
    for (int i = 0; i < contents_.stores_count; ++i) {
      transfer(stores[i], 0, [](char* window, char* ring) {
        *reinterpret_cast<Unit*>(ring) = *reinterpret_cast<const Unit*>(window);
      });
    }
    lap(END_PIXEL);
  }

  // Runs the columns to the right of the image, where nothing is drawn. Windows there are copies of
  // the rings, which are zero where nothing is written.
  PIXELSR_DEVICE void end_row() {
    for (int number = 0; number < contents_.padding; ++number) {
      enter(static_cast<int>(job_.order.width) + number);
      if (leads_) fetch_windows(contents_.all, contents_.all_count);
      run_pixel(first_padding_list(job_.order.colors) + number);
      end_pixel(col_);
    }
  }

 private:
  // Adds the time since the last event to the ticks of this event, if they are requested.
  PIXELSR_DEVICE void lap(Event event) {
    if (job_.ticks == nullptr || !leads_ || thread() != 0) return;
    const int64_t now = clock_now();
    job_.ticks[(job_.first_tile + cluster()) * EVENTS + event] += now - lap_;
    lap_ = now;
  }

  struct alignas(UNIT) Unit {
    int32_t part[4];
  };

  template <class Record>
  PIXELSR_DEVICE const Record* in_table(int32_t place) const {
    return reinterpret_cast<const Record*>(job_.table + place);
  }

  PIXELSR_DEVICE Unit* windows() const { return reinterpret_cast<Unit*>(tile_.windows()); }
  PIXELSR_DEVICE Unit* saved() const {
    return reinterpret_cast<Unit*>(tile_.storage(contents_.saved));
  }

  PIXELSR_DEVICE void restore() {
    if (leads_) {
      for (int i = thread(); i < contents_.windows_size; i += THREADS) windows()[i] = saved()[i];
    }
    sync_cluster();
  }

  // Makes a column the current one.
  PIXELSR_DEVICE void enter(int col) {
    sync_block();
    col_ = col;
    if (thread() <= MOST_TURNS) control_.col_turns[thread()] = col % (thread() + !thread());
    sync_block();
  }

  // Fetches windows at the current column.
  PIXELSR_DEVICE void fetch_windows(int32_t transfers, int count) const {
    const auto* whats = in_table<Transfer>(transfers);
    for (int i = 0; i < count; ++i) fetch_window(whats[i], 0);
    end_group_of_copies();
    wait_for_copies<0>();
    sync_block();
  }

  PIXELSR_DEVICE void fetch_window(const Transfer& what, int dc) const {
    transfer(what, dc, [](char* window, const char* ring) { copy_16_bytes(window, ring); });
  }

  // Fetches the windows to the left of the image. The first pixel waits for these copies.
  PIXELSR_DEVICE void load_beside() {
    enter(static_cast<int>(job_.order.first_col));
    const auto* all = in_table<Transfer>(contents_.all);
    for (int i = 0; i < contents_.all_count; ++i) {
      for (int dc = 1 - all[i].window.turn; dc < 0; ++dc) fetch_window(all[i], dc);
    }
  }

  // Moves all channels of some blocks, in the column `dc` columns from the current one.
  template <class Move>
  PIXELSR_DEVICE void transfer(const Transfer& what, int dc, Move move) const {
    const Column window = tile_.window(what.window, dc);
    const Column ring = tile_.ring(what.ring, 0, col_ + dc);
    const int units = Tile::column_size(window.operand) / UNIT;
    for (int i = thread(); i < what.blocks * units; i += THREADS) {
      const int block = what.first_block + i / units, at = i % units * UNIT;
      move(window.base + block * window.block + at, ring.base + block * ring.block + at);
    }
  }

  // Lists of tasks.

  PIXELSR_DEVICE List list(int number) const {
    return in_table<List>(contents_.lists)[number * cluster_size() + cluster_rank()];
  }

  // Returns the first column of a block's share. The last block also has the padding on the right.
  PIXELSR_DEVICE int first_col(int number) const {
    return static_cast<int>(job_.order.first_col + job_.order.cols * number / cluster_size());
  }

  // Copies a run to shared memory, after all threads have finished the run before.
  PIXELSR_DEVICE const RowRun& load_run(const RowRun& run) {
    const int ints = sizeof(RowRun) / sizeof(int32_t);
    sync_block();
    for (int i = thread(); i < ints; i += THREADS) {
      reinterpret_cast<int32_t*>(&control_.run)[i] = reinterpret_cast<const int32_t*>(&run)[i];
    }
    sync_block();
    return control_.run;
  }

  PIXELSR_DEVICE void run_rows(int number) {
    const List runs = list(number);
    for (int i = 0; i < runs.count; ++i) {
      const RowRun& run = load_run(in_table<RowRun>(contents_.row_runs)[runs.first + i]);
      if (row_ < run.first_row) continue;
      if (run.header.task.flags & WAITS) sync_cluster();
      const int first = first_col(cluster_rank());
      const int last =
          first_col(cluster_rank() + 1) + (cluster_rank() + 1 == cluster_size() ? run.padding : 0);
      if (run.header.task.kind == SCAN) {
        run_scan(run);
        continue;
      }
      if (run.header.task.kind == PRODUCT) {
        RowProduct<T, TILES>(tile_, run, job_.program, slots_, contents_.row_slot * UNIT)
            .run(first, last);
      } else {
        for (int col = first; col < last; ++col) {
          run_pointwise<Tile>(run.header.task, job_.program + int64_t{run.offset} * UNIT,
                              [&](const Place& place) { return tile_.ring(place, 0, col); });
        }
      }
    }
  }

  // Runs a scan pixel by pixel, in the rings. The blocks of the cluster share the steps of a pixel,
  // as they do outside of scans.
  PIXELSR_DEVICE void run_scan(const RowRun& run) {
    const int first = first_col(0), cols = first_col(cluster_size()) - first + run.padding;
    const bool reverse = run.header.task.flags & REVERSE;
    sync_cluster();
    for (int i = 0; i < cols; ++i) {
      col_ = first + (reverse ? cols - 1 - i : i);
      run_pixel(run.offset);
    }
    sync_cluster();
  }

  PIXELSR_DEVICE void run_pixel(int number) {
    const List runs = list(number);
    if (runs.count == 0) return;
    run_packets<T, TILES>(in_table<PixelRun>(contents_.pixel_runs)[runs.first], job_.program,
                          {slots_, contents_.pixel_slot * UNIT}, tile_, col_);
  }

  // The beginning of a row. The threads of all blocks of the cluster share it.

  template <class Body>
  PIXELSR_DEVICE void for_each(int64_t count, Body body) const {
    const int64_t step = int64_t{THREADS} * cluster_size();
    for (int64_t i = cluster_rank() * THREADS + thread(); i < count; i += step) body(i);
  }

  PIXELSR_DEVICE void load_known() const {
    const Place& image = *in_table<Place>(contents_.image_ring);
    const Order& order = job_.order;
    for_each(order.cols * order.colors * SAMPLES, [&](int64_t i) {
      const int col = static_cast<int>(order.first_col + i % order.cols);
      const int sample = static_cast<int>(i / order.cols % SAMPLES);
      const int color = static_cast<int>(i / order.cols / SAMPLES);
      Tile::store(tile_.ring(image, 0, col), color, sample, value_at(color, col, sample));
    });
  }

  PIXELSR_DEVICE void load_values() const {
    const Order& order = job_.order;
    for (int number = 0; number < contents_.values_count; ++number) {
      const Values& values = in_table<Values>(contents_.values)[number];
      const int64_t cols = order.cols + values.padding;
      for_each(cols * values.channels * SAMPLES, [&](int64_t i) {
        const int channel = static_cast<int>(i % values.channels);
        const int col = static_cast<int>(order.first_col + i / values.channels % cols);
        const int sample = static_cast<int>(i / values.channels / cols);
        const int64_t last = job_.samples - 1, there = first_sample_ + sample;
        const int64_t input = (there < last ? there : last) / job_.samples_per_input;
        const int64_t pixel = row_ * (order.width + values.padding) + col;
        const float value = job_.values[input * job_.values_size + values.offset +
                                        pixel * values.channels + channel];
        Tile::store(tile_.ring(values.ring, 0, col), channel, sample, value);
      });
    }
  }

  // [column][color][level][sample]
  PIXELSR_DEVICE float* noise_of(int64_t col, int64_t color) const {
    const int64_t position = (col - job_.order.first_col) * job_.order.colors + color;
    return reinterpret_cast<float*>(tile_.storage(contents_.noise)) +
           position * SAMPLES * job_.levels;
  }

  // Makes the noise of a row. One counter gives a thread the noise of four levels.
  PIXELSR_DEVICE void make_noise() const {
    const Order& order = job_.order;
    const int blocks = static_cast<int>(job_.levels + 3) / 4;
    for_each(order.cols * order.colors * blocks * SAMPLES, [&](int64_t i) {
      const int sample = static_cast<int>(i % SAMPLES);
      const int rest = static_cast<int>(i / SAMPLES), block = rest % blocks, value = rest / blocks;
      const int colors = static_cast<int>(order.colors), color = value % colors;
      const int64_t col = order.first_col + value / colors;
      const int64_t position = (row_ * order.width + col) * colors + color;
      if (first_sample_ + sample >= job_.samples || !order.unknown[position]) return;
      const Words words = noise_words(job_.seed, job_.first_index + first_sample_ + sample,
                                      static_cast<uint32_t>(position), block);
      float* to = noise_of(col, color) + 4 * block * SAMPLES + sample;
      for (int k = 0; k < 4 && 4 * block + k < job_.levels; ++k) {
        to[k * SAMPLES] = gumbel_of_word(words.value[k]);
      }
    });
  }

  // Values of pixels.

  PIXELSR_DEVICE int64_t place_in_image(int64_t color, int64_t col) const {
    return (color * job_.order.height + row_) * job_.order.width + col;
  }

  PIXELSR_DEVICE uint8_t* image_at(int64_t color, int64_t col, int64_t sample) const {
    const int64_t image = job_.order.colors * job_.order.height * job_.order.width;
    return job_.images + (first_sample_ + sample) * image + place_in_image(color, col);
  }

  PIXELSR_DEVICE float value_at(int64_t color, int64_t col, int64_t sample) const {
    return first_sample_ + sample < job_.samples ? *image_at(color, col, sample) : 0;
  }

  // Calls body(sample of the tile, level). Adjacent lanes have adjacent samples, as in the layout
  // of logits and noise.
  template <class Body>
  PIXELSR_DEVICE void for_each_level(Body body) const {
    for (int level = thread() / SAMPLES; level < job_.levels; level += THREADS / SAMPLES) {
      body(thread() % SAMPLES, level);
    }
  }

  // Draws values: finds the best of each thread's levels, then of each warp's, then of each
  // sample's.
  PIXELSR_DEVICE void draw_samples(const Cursor& at, const Column& logits) const {
    const float* noise = noise_of(at.col, at.color);
    Best<float> best{0, -1};
    int kind = FORBIDDEN;
    for_each_level([&](int own, int level) {
      const float gumbel = job_.temperature > 0 ? noise[level * SAMPLES + own] : 0;
      const float logit = Tile::load(logits, level, own);
      kind = kind > kind_of(logit) ? kind : kind_of(logit);
      if (logit == -INFINITY) return;
      consider(best, score_of(logit, job_.temperature, gumbel), level);
    });
#pragma unroll
    for (int mask = SAMPLES; mask < LANES; mask *= 2) {
      const int level = shuffle_xor(static_cast<int>(best.level), mask);
      best = better(best, Best<float>{shuffle_xor(best.score, mask), level});
      const int other = shuffle_xor(kind, mask);
      kind = kind > other ? kind : other;
    }
    auto* of_warps = reinterpret_cast<Best<float>*>(slots_);  // no packet is being copied
    auto* kinds = reinterpret_cast<int*>(of_warps + WARPS * SAMPLES);
    const int warp = thread() / LANES, lane = thread() % LANES;
    if (lane < SAMPLES) {
      of_warps[warp * SAMPLES + lane] = best;
      kinds[warp * SAMPLES + lane] = kind;
    }
    sync_block();
    if (thread() >= SAMPLES || first_sample_ + thread() >= job_.samples) return;
    for (int other = 1; other < WARPS; ++other) {
      const int at_other = other * SAMPLES + thread();
      best = better(best, of_warps[at_other]);
      kind = kind > kinds[at_other] ? kind : kinds[at_other];
    }
    const int64_t place = place_in_image(at.color, col_), sample = first_sample_ + thread();
    if (job_.known[sample * job_.known_stride + place]) return;
    *image_at(at.color, at.col, thread()) = static_cast<uint8_t>(best.level < 0 ? 0 : best.level);
    const int64_t pixel = at.row * job_.order.width + at.col;
    record_fault(job_.faults[sample], pixel * job_.order.colors + at.color, kind);
  }

  const Job& job_;
  Control& control_;
  const Contents& contents_;
  const Tile tile_;
  char* slots_;
  const int64_t first_sample_;
  const bool leads_;
  int64_t lap_;
  int row_ = 0, col_ = 0;
};

// The kernel of each block of a grid. There is one cluster of blocks for each tile of samples.
template <class T, int TILES>
PIXELSR_DEVICE void sample_tile(const Job& job) {
  Control& control = *reinterpret_cast<Control*>(shared_memory());
  const int ints = sizeof(Contents) / sizeof(int32_t);
  for (int i = thread(); i < ints; i += THREADS) {
    reinterpret_cast<int32_t*>(&control.contents)[i] = job.table[i];
  }
  sync_block();
  walk(job.order, job.from, Sampler<T, TILES>(job, control));
  sync_cluster();  // no block may exit while another one reads its memory
}

}  // namespace pixelsr
