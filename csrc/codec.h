// How a delta is stored, and the element types of the tensors the kernels see.
#pragma once

#include <cstdint>

namespace avil {

/// Elements that share one int8 scale, and the unit every kernel works in. ops/encoding.py: BLOCK.
constexpr int kBlock = 256;

/// Lanes of the kernels' vector on every instruction set, so that sums run in one order on all of them.
constexpr int kLanes = 16;

/// Lanes of the fp64 sums into which vectors are added.
constexpr int kSums = kLanes / 2;

/// Most deltas in a bank. ops/checks.py: MAX_TASKS.
constexpr int kMaxTasks = 64;

struct Bf16 {
    std::uint16_t bits;
};

struct Fp16 {
    std::uint16_t bits;
};

enum class Codec { fp32, bf16, int8 };
enum class Low { none, bf16, fp16 };

constexpr std::int64_t blocks(std::int64_t numel) { return (numel + kBlock - 1) / kBlock; }

}  // namespace avil
