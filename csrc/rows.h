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
inline float scale(const Rows<std::int8_t>& rows, int i, std::int64_t b) { return rows.scales[i][b]; }
template <class Code>
inline float scale(const Rows<Code>&, int, std::int64_t) {
    return 1.0f;
}

/// Rows read together, bytes of each before the next rows' turn, and bytes to prefetch ahead of the reads.
/// The walk over rows jumps between pages where no hardware prefetcher follows. Measured on one core of
/// Zen 5, n of 2, 8 and 32, as parts of the rate of one plain stream: bursts of 32 KiB reach 0.83 to 1.0, of
/// 8 KiB 0.78 to 0.93 (a longer one would push the running sum of int8 tiles out of the L2 cache); groups of
/// 1, 2 and 8 rows are slower, and so are 1 and 4 KiB ahead, and no prefetch at all (0.5 for int8).
constexpr int kGroup = 4;
constexpr int kBurst = 32768;
constexpr int kAhead = 2048;

template <class Code>
constexpr std::int64_t kTileOf = kBurst / static_cast<int>(sizeof(Code));

/// Elements in a cache line.
template <class Code>
constexpr int kLine = 64 / static_cast<int>(sizeof(Code));

/// Elements of one turn of an inner loop: whole lines, and two vectors at least.
template <class Code>
constexpr int kStep = kLine<Code> > 2 * kLanes ? kLine<Code> : 2 * kLanes;

/// R rows read together, a tile of them, and what to prefetch meanwhile.
template <int R, class Code>
struct Group {
    const Code* codes[R];
    const Code* after[R];  // what is read once these rows are done: kGroup rows further, then the next tile
    std::int64_t length;

    Group(const Rows<Code>& rows, int tasks, int first, std::int64_t elements) : length(elements) {
        for (int r = 0; r < R; ++r) {
            const int next = first + r + kGroup;
            codes[r] = rows.codes[first + r];
            after[r] = next < tasks ? rows.codes[next] : rows.codes[next % tasks] + length;
        }
    }

    /// What to fetch while the block at element `at` of row r is read.
    const Code* due(int r, std::int64_t at) const {
        const std::int64_t ahead = at + kAhead / static_cast<int>(sizeof(Code));
        return ahead < length ? codes[r] + ahead : after[r] + (ahead - length);
    }
};

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
