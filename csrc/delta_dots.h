// ⟨g, δ_i⟩ for every i. Reference: ops/delta_dots.py.

namespace avil::AVIL_ISA {

template <class Code>
inline Sums add_block(Sums sums, Vec products, const Rows<Code>& rows, int i, std::int64_t b) {
    if constexpr (kScaled<Code>) return add_scaled(sums, products, rows.scales[i][b]);
    else return add(sums, products);
}

/// sums[r] += lane-wise products of g with R rows from `first`: in fp32 within a block, then in fp64.
template <int R, class Grad, class Code>
void dot_rows(Sums* sums, const Grad* grad, const Rows<Code>& rows, int first, std::int64_t blocks) {
    for (std::int64_t b = 0; b < blocks; ++b) {
        Vec products[R];
        for (int r = 0; r < R; ++r) products[r] = zero();
        for (std::int64_t k = b * kBlock; k < (b + 1) * kBlock; k += kLanes) {
            const Vec g = load(grad + k);
            for (int r = 0; r < R; ++r) products[r] = fma(g, load(rows.codes[first + r] + k), products[r]);
        }
        for (int r = 0; r < R; ++r)
            sums[first + r] = add_block(sums[first + r], products[r], rows, first + r, b);
    }
}

template <class Grad, class Code>
void dot_all(Sums* sums, const Grad* grad, const Rows<Code>& rows, int tasks, std::int64_t blocks) {
    for_groups(tasks, [&](auto count, int first) { dot_rows<count()>(sums, grad, rows, first, blocks); });
}

template <class Grad, class Code>
void dot_span(Sums* sums, const Bank& bank, const Grad* grad, const Span& span) {
    const Partition& partition = bank.partitions[span.partition];
    for (std::int64_t done = 0; done < span.length; done += kBurst) {
        const std::int64_t at = span.offset + done, length = smaller(kBurst, span.length - done);
        const std::int64_t whole = length / kBlock, rest = length % kBlock;
        dot_all(sums, grad + at, Rows<Code>(bank, partition, at), bank.tasks, whole);
        if (rest == 0) continue;
        const std::int64_t tail = at + whole * kBlock;
        const PaddedRows<Code> padded(Rows<Code>(bank, partition, tail), bank.tasks, rest);
        Grad last[kBlock] = {};
        std::memcpy(last, grad + tail, rest * sizeof(Grad));
        dot_all(sums, last, padded, bank.tasks, 1);
    }
}

inline void delta_dots(const Bank& bank, const DeltaDots& args, int threads) {
    const Segments segments(bank.partitions, kMaxSegments);
    std::vector<double> partial(segments.count() * bank.tasks);
    const auto run = [&](auto grad, auto code) {
        using Grad = decltype(grad);
        parallel_for(segments.count(), segments.threads(threads, bank.tasks + 1), [&](std::int64_t s) {
            Sums sums[kMaxTasks];
            for (int i = 0; i < bank.tasks; ++i) sums[i] = zero_sums();
            for (Span span = segments.first(s); span.length > 0; span = segments.next(s, span))
                dot_span<Grad, decltype(code)>(sums, bank, static_cast<const Grad*>(args.grad[span.partition]), span);
            for (int i = 0; i < bank.tasks; ++i) partial[s * bank.tasks + i] = total(sums[i]);
        });
    };
    with_codec(bank.codec, [&](auto code) {
        if (args.grad_is_bf16) run(Bf16{}, code);
        else run(float{}, code);
    });
    for (int i = 0; i < bank.tasks; ++i) args.totals[i] = 0;
    for (std::size_t k = 0; k < partial.size(); ++k) args.totals[k % bank.tasks] += partial[k];
}

}  // namespace avil::AVIL_ISA
