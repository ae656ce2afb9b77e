// out ← base + Σ α_i δ_i, and a low-precision copy of out. Reference: ops/weighted_sum.py.

namespace avil::AVIL_ISA {

/// sum ← [sum +] Σ over R rows from `first`, one fused multiply-add per row, in the order of the rows.
template <int R, class Code>
void add_rows(float* sum, const Rows<Code>& rows, const float* alpha, int first, std::int64_t blocks) {
    for (std::int64_t b = 0; b < blocks; ++b) {
        Vec factor[R];
        for (int r = 0; r < R; ++r) factor[r] = broadcast(alpha[first + r] * scale(rows, first + r, b));
        for (std::int64_t k = b * kBlock; k < (b + 1) * kBlock; k += kLanes) {
            Vec total = first == 0 ? zero() : load(sum + k);
            for (int r = 0; r < R; ++r) total = fma(factor[r], load(rows.codes[first + r] + k), total);
            store(sum + k, total);
        }
    }
}

template <class Code>
void sum_rows(float* sum, const Rows<Code>& rows, const float* alpha, int tasks, std::int64_t blocks) {
    for_groups(tasks, [&](auto count, int first) { add_rows<count()>(sum, rows, alpha, first, blocks); });
}

/// out ← base + sum, low ← cast of out, past the caches when `Stream`.
template <class LowType, bool Stream>
void finish(float* out, const float* base, LowType* low, const float* sum, std::int64_t blocks) {
    for (std::int64_t at = 0; at < blocks * kBlock; at += kLanes) {
        const Vec result = add(load(base + at), load(sum + at));
        if constexpr (Stream) stream(out + at, result);
        else store(out + at, result);
        if constexpr (!std::is_same_v<LowType, float>) {
            if constexpr (Stream) stream(low + at, result);
            else store(low + at, result);
        }
    }
}

template <class Code, class LowType>
void weighted_sum_span(const Bank& bank, const WeightedSum& args, const Span& span, bool large) {
    const Partition& partition = bank.partitions[span.partition];
    const float* base = args.base[span.partition];
    float* out = args.out[span.partition];
    LowType* low = args.low.empty() ? nullptr : static_cast<LowType*>(args.low[span.partition]);
    const bool past = large && out != base && aligned(out, 64) && aligned(low, 64);
    alignas(64) float sum[kBurst];
    for (std::int64_t done = 0; done < span.length; done += kBurst) {
        const std::int64_t at = span.offset + done, length = smaller(kBurst, span.length - done);
        const std::int64_t whole = length / kBlock, rest = length % kBlock;
        const Rows<Code> rows(bank, partition, at);
        sum_rows(sum, rows, args.alpha.data(), bank.tasks, whole);
        if (past) finish<LowType, true>(out + at, base + at, advance(low, at), sum, whole);
        else finish<LowType, false>(out + at, base + at, advance(low, at), sum, whole);
        if (rest == 0) continue;
        const std::int64_t tail = at + whole * kBlock;
        const PaddedRows<Code> padded(Rows<Code>(bank, partition, tail), bank.tasks, rest);
        float last[kBlock] = {};
        LowType last_low[kBlock];
        std::memcpy(last, base + tail, rest * sizeof(float));
        sum_rows(sum, padded, args.alpha.data(), bank.tasks, 1);
        finish<LowType, false>(last, last, last_low, sum, 1);
        std::memcpy(out + tail, last, rest * sizeof(float));
        if (low != nullptr) std::memcpy(low + tail, last_low, rest * sizeof(LowType));
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
