// out ← base + Σ α_i δ_i, and a low-precision copy of out. Reference: ops/weighted_sum.py.

namespace avil::AVIL_ISA {

/// α · scale of R rows from `first` in block b.
template <int R, class Code>
inline void load_factors(Vec (&factor)[R], const Rows<Code>& rows, const float* alpha, int first, std::int64_t b) {
    for (int r = 0; r < R; ++r) factor[r] = broadcast(alpha[first + r] * scale(rows, first + r, b));
}

/// [sum +] Σ over R rows from `first` for the lanes at k: one fused multiply-add per row, in the order of the rows.
template <int R, class Code>
inline Vec total_at(std::int64_t k, const float* sum, const Rows<Code>& rows, const Vec (&factor)[R], int first) {
    Vec total = first == 0 ? zero() : load(sum + k);
    for (int r = 0; r < R; ++r) total = fma(factor[r], load(rows.codes[first + r] + k), total);
    return total;
}

/// sum ← [sum +] Σ over R rows from `first`.
template <int R, class Code>
void add_rows(float* sum, const Rows<Code>& rows, const float* alpha, int first, std::int64_t blocks) {
    for (std::int64_t b = 0; b < blocks; ++b) {
        Vec factor[R];
        load_factors(factor, rows, alpha, first, b);
        for (std::int64_t k = b * kBlock; k < (b + 1) * kBlock; k += kLanes)
            store(sum + k, total_at(k, sum, rows, factor, first));
    }
}

/// Where a sum goes: out ← base + sum, low ← cast of out.
template <class LowType>
struct Target {
    float* out;
    const float* base;
    LowType* low;

    Target at(std::int64_t offset) const { return {out + offset, base + offset, advance(low, offset)}; }
};

/// As add_rows, for the last rows: out ← base + sum, past the caches when `Stream`.
template <int R, bool Stream, class Code, class LowType>
void finish_rows(const Target<LowType>& to, const float* sum, const Rows<Code>& rows, const float* alpha, int first,
                 std::int64_t blocks) {
    for (std::int64_t b = 0; b < blocks; ++b) {
        Vec factor[R];
        load_factors(factor, rows, alpha, first, b);
        for (std::int64_t k = b * kBlock; k < (b + 1) * kBlock; k += kLanes) {
            const Vec result = add(load(to.base + k), total_at(k, sum, rows, factor, first));
            if constexpr (Stream) stream(to.out + k, result);
            else store(to.out + k, result);
            if constexpr (!std::is_same_v<LowType, float>) {
                if constexpr (Stream) stream(to.low + k, result);
                else store(to.low + k, result);
            }
        }
    }
}

template <bool Stream, class Code, class LowType>
void sum_rows(const Target<LowType>& to, float* sum, const Rows<Code>& rows, const float* alpha, int tasks,
              std::int64_t blocks) {
    for_groups(tasks, [&](auto count, int first) {
        if (first + count < tasks) add_rows<count()>(sum, rows, alpha, first, blocks);
        else finish_rows<count(), Stream>(to, sum, rows, alpha, first, blocks);
    });
}

template <class Code, class LowType>
void weighted_sum_span(const Bank& bank, const WeightedSum& args, const Span& span, bool large) {
    const Partition& partition = bank.partitions[span.partition];
    const Target<LowType> target{args.out[span.partition], args.base[span.partition],
                                 args.low.empty() ? nullptr : static_cast<LowType*>(args.low[span.partition])};
    const bool past = large && target.out != target.base && aligned(target.out, 64) && aligned(target.low, 64);
    const float* alpha = args.alpha.data();
    alignas(64) float sum[kBurst];
    for (std::int64_t done = 0; done < span.length; done += kBurst) {
        const std::int64_t at = span.offset + done, length = smaller(kBurst, span.length - done);
        const std::int64_t whole = length / kBlock, rest = length % kBlock;
        const Rows<Code> rows(bank, partition, at);
        if (past) sum_rows<true>(target.at(at), sum, rows, alpha, bank.tasks, whole);
        else sum_rows<false>(target.at(at), sum, rows, alpha, bank.tasks, whole);
        if (rest == 0) continue;
        const Target<LowType> tail = target.at(at + whole * kBlock);
        const PaddedRows<Code> padded(Rows<Code>(bank, partition, at + whole * kBlock), bank.tasks, rest);
        float last[kBlock] = {};
        LowType last_low[kBlock];
        std::memcpy(last, tail.base, rest * sizeof(float));
        sum_rows<false, Code>(Target<LowType>{last, last, last_low}, sum, padded, alpha, bank.tasks, 1);
        std::memcpy(tail.out, last, rest * sizeof(float));
        if (tail.low != nullptr) std::memcpy(tail.low, last_low, rest * sizeof(LowType));
    }
    if (past) fence();
}

inline void weighted_sum(const Bank& bank, const WeightedSum& args, int threads) {
    const Segments segments(bank.partitions, kMaxSegments);
    with_codec(bank.codec, [&](auto code) {
        with_low(args.low_type, [&](auto low) {
            parallel_for(segments.count(), segments.threads(threads, bank.tasks + 2), [&](std::int64_t s) {
                for (Span span = segments.first(s); span.length > 0; span = segments.next(s, span))
                    weighted_sum_span<decltype(code), decltype(low)>(bank, args, span, segments.beyond_caches());
            });
        });
    });
}

}  // namespace avil::AVIL_ISA
