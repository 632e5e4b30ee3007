// The kernels for any processor, with registers of 16 bytes (SSE2, NEON).

#include <cstdint>

#include "common/philox.h"
#include "cpu/simd/kernels.h"

#define PIXELSR_ISA plain
#define VECTOR_BYTES 16
#define SUM_REGISTERS 12
#define MOST_SITES 6
#include "cpu/simd/kernels_body.h"
