// The raster scan: the order in which a plan's steps run for the rows, pixels and colors of images.
#pragma once

#include <cstdint>

#include "common/host_device.h"

namespace pixelsr {

// The current position in raster order. The color is ROW_BEGINS before the row is begun.
struct Cursor {
  int64_t row, col, color;
};
constexpr int64_t ROW_BEGINS = -1;

// The parts of the images that have to be computed, from pixelsr/sampling/plan/schedule.py.
struct Order {
  int64_t height, width, colors;
  int64_t first_col, cols;      // the columns that are computed
  int64_t rows;                 // how many to run before returning
  const bool* unknown;          // [H, W, C], true if unknown in any sample
  const int64_t* last_unknown;  // [H, W], the last unknown color, or -1
  const int64_t* stop;          // [H, W], how many stages of a pixel are run

  PIXELSR_HOST_DEVICE bool row_has_unknown(int64_t row) const {
    for (int64_t col = 0; col < width; ++col) {
      if (last_unknown[row * width + col] >= 0) return true;
    }
    return false;
  }
};

// Runs from a cursor until the rows are done, or until `visit.draw` returns false. In the second
// case, the logits of the value at the returned cursor have been computed; the caller must choose
// this value before the next run begins at that cursor.
//
// The visitor has: begin_row(row, resumes), run_known_row(), run_row(), begin_pixel(col, resumes),
// run_left(col, with_logits), run_color(col, color, with_logits), draw(cursor) -> bool,
// load_value(cursor), end_pixel(col), end_row().
template <class Visitor>
PIXELSR_HOST_DEVICE Cursor walk(const Order& order, Cursor at, Visitor&& visit) {
  bool resumes = at.color != ROW_BEGINS;
  const int64_t last_row = at.row + order.rows;
  const int64_t end = last_row < order.height ? last_row : order.height;
  if (!resumes) at.col = order.first_col;
  for (; at.row < end; ++at.row, at.col = order.first_col) {
    visit.begin_row(at.row, resumes);
    if (!order.row_has_unknown(at.row)) {
      visit.run_known_row();
      continue;
    }
    if (!resumes) visit.run_row();
    for (; at.col < order.first_col + order.cols; ++at.col) {
      const int64_t pixel = at.row * order.width + at.col;
      const int64_t last = order.last_unknown[pixel], stop = order.stop[pixel];
      visit.begin_pixel(at.col, resumes);
      if (!resumes) visit.run_left(at.col, last >= 0);
      for (at.color = resumes ? at.color : 0; at.color < stop; ++at.color) {
        if (!resumes) visit.run_color(at.col, at.color, at.color <= last);
        if (at.color == order.colors) continue;
        const bool unknown = order.unknown[pixel * order.colors + at.color];
        if (unknown && !resumes && !visit.draw(at)) return at;
        resumes = false;
        visit.load_value(at);
      }
      if (stop <= order.colors) return {order.height, 0, ROW_BEGINS};  // the last unknown value
      visit.end_pixel(at.col);
    }
    visit.end_row();
  }
  return {end, 0, ROW_BEGINS};
}

}  // namespace pixelsr
