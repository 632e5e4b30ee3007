// The numbers of the lists of steps that run at each moment of a draw, as
// pixelsr/sampling/plan/moments.py orders them: rows; known rows; left and each color, each without
// and then with its logits-only steps; the columns to the right of the image.
#pragma once

#include <cstdint>

#include "common/host_device.h"

namespace pixelsr {

constexpr int ROW_LIST = 0, KNOWN_ROW_LIST = 1;

PIXELSR_HOST_DEVICE int left_list(bool with_logits) { return 2 + with_logits; }

PIXELSR_HOST_DEVICE int color_list(int64_t color, bool with_logits) {
  return 4 + 2 * static_cast<int>(color) + with_logits;
}

PIXELSR_HOST_DEVICE int first_padding_list(int64_t colors) { return color_list(colors + 1, false); }

}  // namespace pixelsr
