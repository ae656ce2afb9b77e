#include "isa_includes.h"

#define AVIL_ISA portable
#include "vec_portable.h"
// After the vector they work on.
#include "isa_kernels.h"

namespace avil {
const Kernels kPortable = {"portable", portable::weighted_sum, portable::delta_dots, portable::capture,
                           portable::delta_gram};
}
