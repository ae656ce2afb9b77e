// Row `slot` ← encode(θ − base), θ ← base, ‖θ − base‖². Reference: ops/capture.py, ops/encoding.py.

namespace avil::AVIL_ISA {

/// codes ← δ / scale of one block, and its scale.
template <class Code>
void encode_scaled(Code* codes, float* scale, const float* delta) {
    Vec magnitude = zero();
    for (int k = 0; k < kBlock; k += kLanes) magnitude = max_magnitude(magnitude, load(delta + k));
    *scale = max_lane(magnitude) / kLargest<Code>;
    // Not finite: the codes are 0 and the scale makes NaN of them. Zero: every δ of the block is.
    if (!(*scale > 0.0f && *scale - *scale == 0.0f)) {
        std::memset(codes, 0, kBlock);
        return;
    }
    const Vec by = broadcast(*scale);
    for (int k = 0; k < kBlock; k += kLanes) store_quotient(codes + k, load(delta + k), by);
}

/// codes ← delta, one block.
template <class Code>
void encode(Code* codes, float* scale, const float* delta) {
    if constexpr (kScaled<Code>) {
        encode_scaled(codes, scale, delta);
    } else {
        for (int k = 0; k < kBlock; k += kLanes) store(codes + k, load(delta + k));
    }
}

/// delta ← θ − base, θ ← base, low ← cast of base, squares += δ²: one block.
template <class LowType>
Sums collect(float* delta, float* theta, const float* base, LowType* low, Sums squares) {
    for (int k = 0; k < kBlock; k += kLanes) {
        const Vec start = load(base + k), difference = sub(load(theta + k), start);
        store(delta + k, difference);
        store(theta + k, start);
        if constexpr (!std::is_same_v<LowType, float>) store(low + k, start);
        squares = add_square(squares, difference);
    }
    return squares;
}

template <class Code, class LowType>
Sums capture_span(const Bank& bank, const Capture& args, const Span& span, Sums squares) {
    const Partition& partition = bank.partitions[span.partition];
    Code* codes = reinterpret_cast<Code*>(partition.codes) + args.slot * partition.code_stride;
    float* scales = advance(partition.scales, args.slot * partition.scale_stride);
    float* theta = args.theta[span.partition];
    const float* base = args.base[span.partition];
    LowType* low = args.low.empty() ? nullptr : static_cast<LowType*>(args.low[span.partition]);
    alignas(64) float delta[kBlock];
    for (std::int64_t at = span.offset; at < span.offset + span.length; at += kBlock) {
        const std::int64_t length = smaller(kBlock, span.offset + span.length - at);
        float* scale = advance(scales, at / kBlock);
        if (length == kBlock) {
            squares = collect(delta, theta + at, base + at, advance(low, at), squares);
            encode(codes + at, scale, delta);
            continue;
        }
        float last[kBlock] = {}, last_base[kBlock] = {};
        LowType last_low[kBlock];
        Code last_codes[kBlock];
        std::memcpy(last, theta + at, length * sizeof(float));
        std::memcpy(last_base, base + at, length * sizeof(float));
        squares = collect(delta, last, last_base, last_low, squares);
        encode(last_codes, scale, delta);
        std::memcpy(theta + at, last, length * sizeof(float));
        std::memcpy(codes + at, last_codes, length * sizeof(Code));
        if (low != nullptr) std::memcpy(low + at, last_low, length * sizeof(LowType));
    }
    return squares;
}

inline void capture(const Bank& bank, Capture& args, int threads) {
    const Segments segments(bank.partitions, kMaxSegments);
    std::vector<double> partial(segments.count());
    with_codec(bank.codec, [&](auto code) {
        with_low(args.low_type, [&](auto low) {
            parallel_for(segments.count(), segments.threads(threads, 4), [&](std::int64_t s) {
                Sums squares = zero_sums();
                for (Span span = segments.first(s); span.length > 0; span = segments.next(s, span))
                    squares = capture_span<decltype(code), decltype(low)>(bank, args, span, squares);
                partial[s] = total(squares);
            });
        });
    });
    args.squares = 0;
    for (const double part : partial) args.squares += part;
}

}  // namespace avil::AVIL_ISA
