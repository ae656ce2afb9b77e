#include "isa_includes.h"

#ifdef AVIL_X86
#include <immintrin.h>

#define AVIL_ISA avx2
AVIL_TARGET_BEGIN("avx2,fma,f16c")
#include "vec_avx2.h"
// After the vector they work on.
#include "isa_kernels.h"
AVIL_TARGET_END

namespace avil {
const Kernels kAvx2 = {"avx2", avx2::weighted_sum, avx2::delta_dots, avx2::capture, avx2::delta_gram};
}
#endif
