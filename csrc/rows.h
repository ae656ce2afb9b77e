// The rows of a bank as a kernel walks them. Included by the instruction sets' units alone.

namespace avil::AVIL_ISA {

constexpr std::int64_t smaller(std::int64_t a, std::int64_t b) { return a < b ? a : b; }

/// p + elements; what is absent stays so.
template <class T>
inline T* advance(T* p, std::int64_t elements) {
    return p == nullptr ? nullptr : p + elements;
}

/// Where every row of a partition stands at one offset, a multiple of kBlock.
template <class Code>
struct Rows {
    const Code* codes[kMaxTasks];
    const float* scales[kMaxTasks];

    Rows() = default;
    Rows(const Bank& bank, const Partition& partition, std::int64_t offset) {
        for (int i = 0; i < bank.tasks; ++i) {
            codes[i] = reinterpret_cast<const Code*>(partition.codes) + i * partition.code_stride + offset;
            scales[i] = advance(partition.scales, i * partition.scale_stride + offset / kBlock);
        }
    }
};

/// A copy of the last, shorter block of every row, filled up with zeros: kernels see whole blocks only.
template <class Code>
struct PaddedRows : Rows<Code> {
    Code block[kMaxTasks][kBlock];

    PaddedRows(const Rows<Code>& rows, int tasks, std::int64_t length) {
        for (int i = 0; i < tasks; ++i) {
            std::memset(block[i], 0, sizeof block[i]);
            std::memcpy(block[i], rows.codes[i], length * sizeof(Code));
            this->codes[i] = block[i];
            this->scales[i] = rows.scales[i];
        }
    }
};

/// The factor between codes and deltas in block `b` of row `i`.
template <class Code>
inline float scale(const Rows<Code>& rows, int i, std::int64_t b) {
    if constexpr (kScaled<Code>) return rows.scales[i][b];
    else return 1.0f;
}

/// Calls kernel(R) with the constant that `rows`, at most `Most`, is; not at all for 0.
template <int Most, class Kernel>
void for_rest(int rows, const Kernel& kernel) {
    if constexpr (Most > 0) {
        if (rows == Most) kernel(std::integral_constant<int, Most>{});
        else for_rest<Most - 1>(rows, kernel);
    }
}

/// Elements of each row before the next group's turn; the sums over them, 128 KiB, stay in the L2 cache. A
/// group's turn begins slowly, before the hardware's prefetcher follows: with an eighth of it, 32 rows of bf16
/// or int8 are read at nine tenths of the speed.
constexpr std::int64_t kBurst = 128 * kBlock;

/// Calls kernel(R, first) for R rows from `first` on, as many as are read together, till all have had a turn.
///
/// Rows side by side, in long bursts, with no prefetch by hand: on two cores of Zen 4 the hardware follows eight
/// streams as well as one. One row after the other, or with prefetches, reads at four fifths of the speed.
template <class Kernel>
void for_groups(int tasks, const Kernel& kernel) {
    int first = 0;
    for (; first + kGroup <= tasks; first += kGroup) kernel(std::integral_constant<int, kGroup>{}, first);
    for_rest<kGroup - 1>(tasks - first, [&](auto rows) { kernel(rows, first); });
}

/// Calls kernel(Code{}) with the type that a bank's codec stores.
template <class Kernel>
void with_codec(Codec codec, const Kernel& kernel) {
    switch (codec) {
        case Codec::fp32: return kernel(float{});
        case Codec::bf16: return kernel(Bf16{});
        case Codec::int8: return kernel(std::int8_t{});
        case Codec::fp8: return kernel(E4m3{});
    }
}

/// Calls kernel(Type{}) with the type of the low-precision copies; float stands for none.
template <class Kernel>
void with_low(Low low, const Kernel& kernel) {
    switch (low) {
        case Low::none: return kernel(float{});
        case Low::bf16: return kernel(Bf16{});
        case Low::fp16: return kernel(Fp16{});
    }
}

inline bool aligned(const void* p, std::size_t bytes) { return reinterpret_cast<std::uintptr_t>(p) % bytes == 0; }

}  // namespace avil::AVIL_ISA
