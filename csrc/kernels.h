// The kernels of one instruction set, and the choice among those this machine can run.
#pragma once

#include "bank.h"

namespace avil {

struct Kernels {
    const char* isa;
    void (*weighted_sum)(const Bank&, const WeightedSum&, int threads);
    void (*delta_dots)(const Bank&, const DeltaDots&, int threads);
    void (*capture)(const Bank&, Capture&, int threads);
    void (*delta_gram)(const Bank&, const DeltaGram&, int threads);
};

extern const Kernels kPortable;
#ifdef AVIL_X86
extern const Kernels kAvx2;
extern const Kernels kAvx512;
#endif

/// The best kernels this processor runs, or those that AVIL_ISA names (portable, avx2, avx512).
/// Throws std::invalid_argument for a name that is unknown or that the processor lacks.
const Kernels& kernels();

}  // namespace avil
