// How a delta is stored, and the element types of the tensors the kernels see.
#pragma once

#include <cstdint>

namespace avil {

/// Elements that share one scale, and the unit every kernel works in. ops/encoding.py: BLOCK.
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

/// Four bits of exponent, three of mantissa, no infinity. 0x7F, its NaN, is never stored: a scale tells of one.
struct E4m3 {
    std::uint8_t bits;
};

enum class Codec { fp32, bf16, int8, fp8 };
enum class Low { none, bf16, fp16 };

/// The largest code; 0 for codecs without a scale per block.
template <class Code>
constexpr float kLargest = 0.0f;
template <>
inline constexpr float kLargest<std::int8_t> = 127.0f;
template <>
inline constexpr float kLargest<E4m3> = 448.0f;

template <class Code>
constexpr bool kScaled = kLargest<Code> > 0.0f;

constexpr std::int64_t blocks(std::int64_t numel) { return (numel + kBlock - 1) / kBlock; }

}  // namespace avil
