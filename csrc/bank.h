// What the kernels are given: raw pointers, checked by the caller (ops/checks.py).
#pragma once

#include <cstdint>
#include <vector>

#include "codec.h"

namespace avil {

/// One partition of a bank: row i of `codes` is δ_i, `scales` holds one fp32 per block of an int8 or fp8 row.
struct Partition {
    std::int64_t numel;
    char* codes;
    std::int64_t code_stride;  // elements from one row to the next
    float* scales;
    std::int64_t scale_stride;
};

struct Bank {
    int tasks;
    Codec codec;
    std::vector<Partition> partitions;
};

/// out ← base + Σ α_i δ_i, low ← cast of out. One pointer per partition; out[p] may be base[p].
struct WeightedSum {
    std::vector<float*> out;
    std::vector<const float*> base;
    std::vector<float> alpha;
    Low low_type;
    std::vector<void*> low;
};

/// totals[i] = ⟨g, δ_i⟩.
struct DeltaDots {
    bool grad_is_bf16;
    std::vector<const void*> grad;
    double* totals;  // [tasks], written
};

/// Row `slot` ← encode(θ − base), θ ← base, low ← cast of base.
struct Capture {
    int slot;
    std::vector<float*> theta;
    std::vector<const float*> base;
    Low low_type;
    std::vector<void*> low;
    double squares;  // ‖θ − base‖², written
};

/// gram[i, j] = ⟨δ_i, δ_j⟩.
struct DeltaGram {
    double* gram;  // [tasks, tasks], written
};

}  // namespace avil
