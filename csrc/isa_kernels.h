// All kernels for the instruction set AVIL_ISA, whose vec_*.h came before.

namespace avil::AVIL_ISA {

/// The sum of eight lanes, pairwise: one order on every instruction set.
inline double total(const Sums& sums) {
    double lanes[kSums];
    store(lanes, sums);
    for (int width = kSums / 2; width > 0; width /= 2)
        for (int i = 0; i < width; ++i) lanes[i] += lanes[i + width];
    return lanes[0];
}

}  // namespace avil::AVIL_ISA

#include "rows.h"
#include "weighted_sum.h"
#include "delta_dots.h"
#include "capture.h"
#include "delta_gram.h"
