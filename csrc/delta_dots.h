// ⟨g, δ_i⟩ for every i. Reference: ops/delta_dots.py.

namespace avil::AVIL_ISA {

inline Sums add_block(Sums sums, Vec products, const Rows<std::int8_t>& rows, int i, std::int64_t b) {
    return add_scaled(sums, products, rows.scales[i][b]);
}
template <class Code>
inline Sums add_block(Sums sums, Vec products, const Rows<Code>&, int, std::int64_t) {
    return add(sums, products);
}

/// sums[r] += lane-wise products of g with R rows from `first`: in fp32 within a block, then in fp64.
template <int R, class Code>
void dot_rows(Sums* sums, const float* grad, const Rows<Code>& rows, int tasks, int first, std::int64_t blocks) {
    const Group<R, Code> group(rows, tasks, first, blocks * kBlock);
    for (std::int64_t b = 0; b < blocks; ++b) {
        const std::int64_t block = b * kBlock;
        Vec even[R], odd[R];  // two sums per row, so that an addition need not wait for the one before
        const Code* due[R];
        for (int r = 0; r < R; ++r) {
            even[r] = odd[r] = zero();
            due[r] = group.due(r, block);
        }
        for (int step = 0; step < kBlock; step += kStep<Code>) {
            for (int line = step; line < step + kStep<Code>; line += kLine<Code>)
                for (int r = 0; r < R; ++r) prefetch(due[r] + line);
            for (int k = step; k < step + kStep<Code>; k += 2 * kLanes) {
                const Vec g = load(grad + block + k), h = load(grad + block + k + kLanes);
                for (int r = 0; r < R; ++r) {
                    even[r] = fma(g, load(group.codes[r] + block + k), even[r]);
                    odd[r] = fma(h, load(group.codes[r] + block + k + kLanes), odd[r]);
                }
            }
        }
        for (int r = 0; r < R; ++r)
            sums[first + r] = add_block(sums[first + r], add(even[r], odd[r]), rows, first + r, b);
    }
}

template <class Code>
void dot_all(Sums* sums, const float* grad, const Rows<Code>& rows, int tasks, std::int64_t blocks) {
    int first = 0;
    for (; first + kGroup <= tasks; first += kGroup) dot_rows<kGroup>(sums, grad, rows, tasks, first, blocks);
    switch (tasks - first) {
        case 1: return dot_rows<1>(sums, grad, rows, tasks, first, blocks);
        case 2: return dot_rows<2>(sums, grad, rows, tasks, first, blocks);
        case 3: return dot_rows<3>(sums, grad, rows, tasks, first, blocks);
    }
}

/// g as fp32 near the core. A pass of its own, for the hardware's prefetcher follows one stream best: read
/// along with the rows, g cost int8 deltas a third of the speed.
template <class Grad>
void widen(float* to, const Grad* from, std::int64_t length) {
    for (std::int64_t at = 0; at < length; at += kLanes) store(to + at, load(from + at));
}

/// Elements per tile of rows that are all read together: g's share of it still fits the L1 cache.
constexpr std::int64_t kNearDots = 32 * kBlock;

template <class Grad, class Code>
void dot_span(Sums* sums, const Bank& bank, const Grad* grad, const Span& span) {
    const Partition& partition = bank.partitions[span.partition];
    const std::int64_t tile = bank.tasks <= kGroup ? kNearDots : kTileOf<Code>;
    alignas(64) float wide[kTileOf<Code>];
    for (std::int64_t done = 0; done < span.length; done += tile) {
        const std::int64_t at = span.offset + done, length = smaller(tile, span.length - done);
        const std::int64_t whole = length / kBlock, rest = length % kBlock;
        widen(wide, grad + at, whole * kBlock);
        dot_all(sums, wide, Rows<Code>(bank, partition, at), bank.tasks, whole);
        if (rest == 0) continue;
        const std::int64_t tail = at + whole * kBlock;
        const PaddedRows<Code> padded(Rows<Code>(bank, partition, tail), bank.tasks, rest);
        Grad last[kBlock] = {};
        std::memcpy(last, grad + tail, rest * sizeof(Grad));
        widen(wide, last, kBlock);
        dot_all(sums, wide, padded, bank.tasks, 1);
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
