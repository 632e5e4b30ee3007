// The kernels for processors with AVX2, FMA and F16C.

#if defined(__x86_64__)

#include <immintrin.h>

#include <cstdint>

#include "common/philox.h"
#include "cpu/simd/kernels.h"

#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("avx2,fma,f16c,bmi,bmi2"))), apply_to = function)
#else
#pragma GCC push_options
#pragma GCC target("avx2,fma,f16c,bmi,bmi2")
#endif

#define PIXELSR_ISA avx2
#define VECTOR_BYTES 32
#define SUM_REGISTERS 12
#define MOST_SITES 6
#include "cpu/simd/kernels_body.h"

#if defined(__clang__)
#pragma clang attribute pop
#else
#pragma GCC pop_options
#endif

#endif  // x86-64
