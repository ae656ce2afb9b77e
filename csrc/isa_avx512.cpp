#include "isa_includes.h"

#ifdef AVIL_X86
#include <immintrin.h>

#if !defined(__clang__)
// GCC's own AVX-512 intrinsics leave "undefined" operands uninitialised on purpose (GCC bug 105593).
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#pragma GCC diagnostic ignored "-Wuninitialized"
#endif

#define AVIL_ISA avx512
AVIL_TARGET_BEGIN("avx512f,avx512bw,avx512vl,avx512dq,avx2,fma,f16c")
#include "vec_avx512.h"
// After the vector they work on.
#include "isa_kernels.h"
AVIL_TARGET_END

namespace avil {
const Kernels kAvx512 = {"avx512", avx512::weighted_sum, avx512::delta_dots, avx512::capture, avx512::delta_gram};
}
#endif
