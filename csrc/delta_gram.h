// ⟨δ_i, δ_j⟩ for all pairs. Reference: ops/delta_gram.py.

namespace avil::AVIL_ISA {

/// Elements per thread of decoded rows: half of a usual L2 cache at most, and within the L1 for few tasks.
constexpr std::int64_t kDecoded = 64 * kBlock;

/// Rows per tile of the product. 4 × 4 sums and one operand fill 32 registers by half; 2 would be load-bound.
constexpr int kSide = 4;

constexpr int padded(int tasks) { return (tasks + kSide - 1) / kSide * kSide; }
constexpr std::int64_t gram_tile(int tasks) { return smaller(4 * kBlock, kDecoded / padded(tasks) / kBlock * kBlock); }

template <class Code>
void decode(float* to, const Code* codes, const Rows<Code>& rows, int i, std::int64_t length) {
    for (std::int64_t at = 0; at < length; at += kLanes) {
        const Vec by = broadcast(scale(rows, i, at / kBlock));
        store(to + at, kScaled<Code> ? mul(by, load(codes + at)) : load(codes + at));
    }
}

/// gram[i, j] += ⟨a_i, b_j⟩ for kSide rows a and kSide rows b that lie `stride` apart.
inline void multiply(double* gram, int side, const float* a, const float* b, std::int64_t stride, std::int64_t length) {
    Vec sums[kSide][kSide];
    for (auto& row : sums)
        for (Vec& sum : row) sum = zero();
    for (std::int64_t at = 0; at < length; at += kLanes) {
        Vec right[kSide];
        for (int j = 0; j < kSide; ++j) right[j] = load(b + j * stride + at);
        for (int i = 0; i < kSide; ++i) {
            const Vec left = load(a + i * stride + at);
            for (int j = 0; j < kSide; ++j) sums[i][j] = fma(left, right[j], sums[i][j]);
        }
    }
    for (int i = 0; i < kSide; ++i)
        for (int j = 0; j < kSide; ++j) gram[i * side + j] += lane_sum(sums[i][j]);
}

/// gram [padded, padded] += the products of all pairs of rows over one tile; the upper triangle only.
template <class Code>
void gram_tile_of(double* gram, float* decoded, const Rows<Code>& rows, int tasks, std::int64_t length) {
    const std::int64_t stride = gram_tile(tasks);
    const int side = padded(tasks);
    for (int i = 0; i < tasks; ++i) decode(decoded + i * stride, rows.codes[i], rows, i, length);
    for (int i = 0; i < side; i += kSide) {
        for (int j = i; j < side; j += kSide)
            multiply(gram + i * side + j, side, decoded + i * stride, decoded + j * stride, stride, length);
    }
}

template <class Code>
void gram_span(double* gram, float* decoded, const Bank& bank, const Span& span) {
    const Partition& partition = bank.partitions[span.partition];
    const std::int64_t tile = gram_tile(bank.tasks);
    for (std::int64_t done = 0; done < span.length; done += tile) {
        const std::int64_t at = span.offset + done, length = smaller(tile, span.length - done);
        const std::int64_t whole = length / kBlock * kBlock, rest = length % kBlock;
        if (whole > 0) gram_tile_of(gram, decoded, Rows<Code>(bank, partition, at), bank.tasks, whole);
        if (rest == 0) continue;
        const PaddedRows<Code> last(Rows<Code>(bank, partition, at + whole), bank.tasks, rest);
        gram_tile_of<Code>(gram, decoded, last, bank.tasks, kBlock);
    }
}

inline void delta_gram(const Bank& bank, const DeltaGram& args, int threads) {
    const int n = bank.tasks, side = padded(n);
    const std::int64_t cells = static_cast<std::int64_t>(side) * side;
    const Segments segments(bank.partitions, smaller(kMaxSegments, kMaxPartialSums / cells));
    std::vector<double> partial(segments.count() * cells);
    with_codec(bank.codec, [&](auto code) {
        parallel_for(segments.count(), segments.threads(threads, bank.tasks * bank.tasks), [&](std::int64_t s) {
            alignas(64) float decoded[kDecoded] = {};
            for (Span span = segments.first(s); span.length > 0; span = segments.next(s, span))
                gram_span<decltype(code)>(&partial[s * cells], decoded, bank, span);
        });
    });
    for (int i = 0; i < n; ++i)
        for (int j = i; j < n; ++j) {
            double sum = 0;
            for (std::int64_t s = 0; s < segments.count(); ++s) sum += partial[s * cells + i * side + j];
            args.gram[i * n + j] = args.gram[j * n + i] = sum;
        }
}

}  // namespace avil::AVIL_ISA
