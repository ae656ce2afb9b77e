// The rows of a bank as a kernel walks them. Included by the instruction sets' units alone.

namespace avil::AVIL_ISA {

constexpr std::int64_t smaller(std::int64_t a, std::int64_t b) { return a < b ? a : b; }

/// Where every row of a partition stands at one offset, a multiple of kBlock.
template <class Code>
struct Rows {
    const Code* codes[kMaxTasks];
    const float* scales[kMaxTasks];

    Rows() = default;
    Rows(const Bank& bank, const Partition& partition, std::int64_t offset) {
        for (int i = 0; i < bank.tasks; ++i) {
            codes[i] = reinterpret_cast<const Code*>(partition.codes) + i * partition.code_stride + offset;
            scales[i] = partition.scales + i * partition.scale_stride + offset / kBlock;
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
inline float scale(const Rows<std::int8_t>& rows, int i, std::int64_t b) { return rows.scales[i][b]; }
template <class Code>
inline float scale(const Rows<Code>&, int, std::int64_t) {
    return 1.0f;
}

/// Rows taken together: enough loads in flight, few enough pointers and sums for 16 registers.
constexpr int kGroup = 4;

/// Row i's codes kGroup rows further in the walk over rows, then tiles: other pages, which no hardware
/// prefetcher foresees.
template <class Code>
inline const Code* upcoming(const Rows<Code>& rows, int tasks, int i) {
    const int row = i + kGroup;
    return row < tasks ? rows.codes[row] : rows.codes[row % tasks] + kTile;
}

/// True at the first element of each cache line of a row that is read from element 0.
template <class Code>
constexpr bool starts_line(int k) {
    return k % (64 / static_cast<int>(sizeof(Code))) == 0;
}

/// Calls kernel(Code{}) with the type that a bank's codec stores.
template <class Kernel>
void with_codec(Codec codec, const Kernel& kernel) {
    switch (codec) {
        case Codec::fp32: return kernel(float{});
        case Codec::bf16: return kernel(Bf16{});
        case Codec::int8: return kernel(std::int8_t{});
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
