// Sixteen fp32 lanes in plain C++, for compilers to vectorise. The three vec_*.h offer the same functions.
namespace avil::portable {

/// Rows read together: each needs a register for its products.
constexpr int kGroup = 4;

struct Vec {
    float v[kLanes];
};

/// Eight fp64 sums.
struct Sums {
    double v[kSums];
};

template <class Function>
inline Vec each(Function lane) {
    Vec result;
    for (int i = 0; i < kLanes; ++i) result.v[i] = lane(i);
    return result;
}

inline std::uint32_t to_bits(float x) {
    std::uint32_t bits;
    std::memcpy(&bits, &x, sizeof bits);
    return bits;
}
inline float from_bits(std::uint32_t bits) {
    float x;
    std::memcpy(&x, &bits, sizeof x);
    return x;
}

inline Vec zero() { return {}; }
inline Vec broadcast(float x) {
    return each([&](int) { return x; });
}
inline Vec add(const Vec& a, const Vec& b) {
    return each([&](int i) { return a.v[i] + b.v[i]; });
}
inline Vec sub(const Vec& a, const Vec& b) {
    return each([&](int i) { return a.v[i] - b.v[i]; });
}
inline Vec mul(const Vec& a, const Vec& b) {
    return each([&](int i) { return a.v[i] * b.v[i]; });
}
inline Vec fma(const Vec& a, const Vec& b, const Vec& c) {  // fused where the processor has it
    return each([&](int i) { return a.v[i] * b.v[i] + c.v[i]; });
}

inline Vec load(const float* p) {
    return each([&](int i) { return p[i]; });
}
inline Vec load(const Bf16* p) {
    return each([&](int i) { return from_bits(static_cast<std::uint32_t>(p[i].bits) << 16); });
}
inline Vec load(const std::int8_t* p) {
    return each([&](int i) { return static_cast<float>(p[i]); });
}

/// Without numbers below 2⁻¹²⁶ on the way, which a thread may be told to flush.
inline float from_e4m3(std::uint8_t code) {
    const std::uint32_t sign = (code & 0x80u) << 24, magnitude = code & 0x7Fu;
    const float value = magnitude < 8 ? from_bits((magnitude << 20) + (121u << 23)) - 0x1p-6f
                                      : from_bits((magnitude << 20) + (120u << 23));
    return from_bits(sign | to_bits(value));
}
inline Vec load(const E4m3* p) {
    return each([&](int i) { return from_e4m3(p[i].bits); });
}

inline Bf16 to_bf16(float x) {
    const std::uint32_t bits = to_bits(x);
    const bool nan = (bits & 0x7FFFFFFF) > 0x7F800000;
    return {static_cast<std::uint16_t>(nan ? 0x7FC0 : (bits + 0x7FFF + (bits >> 16 & 1)) >> 16)};
}

inline Fp16 to_fp16(float x) {
    const std::uint32_t bits = to_bits(x), sign = bits >> 16 & 0x8000, magnitude = bits & 0x7FFFFFFF;
    std::uint32_t half;
    if (magnitude > 0x7F800000) {  // NaN
        half = 0x7E00;
    } else if (magnitude >= 0x477FF000) {  // 65520 and more round to infinity
        half = 0x7C00;
    } else if (magnitude < 0x38800000) {  // below 2⁻¹⁴: adding ½ makes the fp32 unit round to 2⁻²⁴
        half = to_bits(from_bits(magnitude) + 0.5f) - to_bits(0.5f);
    } else {  // normal: rebias the exponent from 127 to 15 and round to 10 bits of mantissa
        half = (magnitude - (112u << 23) + 0xFFF + (magnitude >> 13 & 1)) >> 13;
    }
    return {static_cast<std::uint16_t>(sign | half)};
}

inline void store(float* p, const Vec& x) { std::memcpy(p, x.v, sizeof x.v); }
inline void store(Bf16* p, const Vec& x) {
    for (int i = 0; i < kLanes; ++i) p[i] = to_bf16(x.v[i]);
}
inline void store(Fp16* p, const Vec& x) {
    for (int i = 0; i < kLanes; ++i) p[i] = to_fp16(x.v[i]);
}

template <class T>
inline void stream(T* p, const Vec& x) {
    store(p, x);
}
inline void fence() {}

/// The larger of |a| and |x| as bits: an infinity beats every number and a NaN beats an infinity.
inline Vec max_magnitude(const Vec& a, const Vec& x) {
    return each([&](int i) {
        const std::uint32_t bits = to_bits(x.v[i]) & 0x7FFFFFFF;
        return bits > to_bits(a.v[i]) ? from_bits(bits) : a.v[i];
    });
}
inline float max_lane(const Vec& a) {
    std::uint32_t bits = 0;
    for (const float lane : a.v) bits = to_bits(lane) > bits ? to_bits(lane) : bits;
    return from_bits(bits);
}

/// Codes of x / scale, rounded half to even and clamped to ±127; x / scale must not be NaN.
inline void store_quotient(std::int8_t* p, const Vec& x, const Vec& scale) {
    constexpr float kRounds = 12582912.0f;  // 1.5 · 2²³: adding it leaves no bits after the point
    for (int i = 0; i < kLanes; ++i) {
        float code = x.v[i] / scale.v[i];
        code = code > 127.0f ? 127.0f : code < -127.0f ? -127.0f : code;
        p[i] = static_cast<std::int8_t>((code + kRounds) - kRounds);
    }
}

/// x, within ±448 and no NaN, rounded half to even.
inline E4m3 to_e4m3(float x) {
    const std::uint32_t bits = to_bits(x), sign = bits >> 24 & 0x80, magnitude = bits & 0x7FFFFFFF;
    const std::uint32_t code =
        magnitude < 0x3C800000  // below 2⁻⁶: adding 2¹⁴ makes the fp32 unit round to 2⁻⁹
            ? to_bits(from_bits(magnitude) + 0x1p14f) - to_bits(0x1p14f)
            : (magnitude - (120u << 23) + 0x7FFFF + (magnitude >> 20 & 1)) >> 20;
    return {static_cast<std::uint8_t>(sign | code)};
}
/// Codes of x / scale, clamped to ±448; x / scale must not be NaN.
inline void store_quotient(E4m3* p, const Vec& x, const Vec& scale) {
    for (int i = 0; i < kLanes; ++i) {
        const float code = x.v[i] / scale.v[i];
        p[i] = to_e4m3(code > 448.0f ? 448.0f : code < -448.0f ? -448.0f : code);
    }
}

/// The sum of the lanes in fp32, halves added to halves: one order on every instruction set.
inline float lane_sum(Vec x) {
    for (int width = kLanes / 2; width > 0; width /= 2)
        for (int i = 0; i < width; ++i) x.v[i] += x.v[i + width];
    return x.v[0];
}

inline Sums zero_sums() { return {}; }
/// The upper eight lanes are added to the lower in fp32 first: half the work of adding sixteen in fp64.
inline Sums add(Sums s, const Vec& x) {
    for (int i = 0; i < kSums; ++i) s.v[i] += x.v[i] + x.v[i + kSums];
    return s;
}
inline Sums add_scaled(Sums s, const Vec& x, float scale) {
    for (int i = 0; i < kSums; ++i) s.v[i] += static_cast<double>(x.v[i] + x.v[i + kSums]) * scale;
    return s;
}
inline Sums add_square(Sums s, const Vec& x) {
    for (int i = 0; i < kLanes; ++i) s.v[i % kSums] += static_cast<double>(x.v[i]) * x.v[i];
    return s;
}
inline void store(double* p, const Sums& s) { std::memcpy(p, s.v, sizeof s.v); }

}  // namespace avil::portable
