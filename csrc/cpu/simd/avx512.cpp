// The kernels for processors with AVX-512.

#if defined(__x86_64__)

#include <immintrin.h>

#include <cstdint>

#include "common/philox.h"
#include "cpu/simd/kernels.h"

#if defined(__clang__)
#pragma clang attribute push(                                                             \
    __attribute__((target("avx512f,avx512bw,avx512vl,avx512dq,avx2,fma,f16c,bmi,bmi2"))), \
    apply_to = function)
#else
#pragma GCC push_options
#pragma GCC target("avx512f,avx512bw,avx512vl,avx512dq,avx2,fma,f16c,bmi,bmi2")
#endif

#define PIXELSR_ISA avx512
#define VECTOR_BYTES 64
#define SUM_REGISTERS 24
#define MOST_SITES 8
#include "cpu/simd/kernels_body.h"

#if defined(__clang__)
#pragma clang attribute pop
#else
#pragma GCC pop_options
#endif

#endif  // x86-64
