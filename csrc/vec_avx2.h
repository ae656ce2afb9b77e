// Sixteen fp32 lanes in two AVX2 registers. The three vec_*.h offer the same functions.
namespace avil::avx2 {

/// Rows read together: each needs a register for its products.
constexpr int kGroup = 4;

struct Vec {
    __m256 lo, hi;
};

/// Eight fp64 sums.
struct Sums {
    __m256d lo, hi;
};

inline Vec zero() { return {_mm256_setzero_ps(), _mm256_setzero_ps()}; }
inline Vec broadcast(float x) { return {_mm256_set1_ps(x), _mm256_set1_ps(x)}; }
inline Vec add(Vec a, Vec b) { return {_mm256_add_ps(a.lo, b.lo), _mm256_add_ps(a.hi, b.hi)}; }
inline Vec sub(Vec a, Vec b) { return {_mm256_sub_ps(a.lo, b.lo), _mm256_sub_ps(a.hi, b.hi)}; }
inline Vec mul(Vec a, Vec b) { return {_mm256_mul_ps(a.lo, b.lo), _mm256_mul_ps(a.hi, b.hi)}; }
inline Vec fma(Vec a, Vec b, Vec c) {
    return {_mm256_fmadd_ps(a.lo, b.lo, c.lo), _mm256_fmadd_ps(a.hi, b.hi, c.hi)};
}

inline __m128i bytes(const void* p) { return _mm_loadu_si128(static_cast<const __m128i*>(p)); }

inline Vec load(const float* p) { return {_mm256_loadu_ps(p), _mm256_loadu_ps(p + 8)}; }
inline Vec load(const Bf16* p) {
    return {_mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(bytes(p)), 16)),
            _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(bytes(p + 8)), 16))};
}
inline Vec load(const std::int8_t* p) {
    const __m128i codes = bytes(p);
    return {_mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(codes)),
            _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_srli_si128(codes, 8)))};
}

/// By way of fp16, whose bits are the same but for the exponent's bias: 15, not 7.
inline Vec load(const E4m3* p) {
    const __m256i wide = _mm256_cvtepi8_epi16(bytes(p));
    const __m256i halves = _mm256_and_si256(_mm256_slli_epi16(wide, 7), _mm256_set1_epi16(static_cast<short>(0xBF80)));
    const __m256 by = _mm256_set1_ps(256.0f);
    return {_mm256_mul_ps(_mm256_cvtph_ps(_mm256_castsi256_si128(halves)), by),
            _mm256_mul_ps(_mm256_cvtph_ps(_mm256_extracti128_si256(halves, 1)), by)};
}

inline __m256i bf16_bits(__m256 x) {
    const __m256i bits = _mm256_castps_si256(x);
    const __m256i odd = _mm256_and_si256(_mm256_srli_epi32(bits, 16), _mm256_set1_epi32(1));
    const __m256i up = _mm256_add_epi32(_mm256_add_epi32(bits, _mm256_set1_epi32(0x7FFF)), odd);
    const __m256i nan = _mm256_castps_si256(_mm256_cmp_ps(x, x, _CMP_UNORD_Q));
    return _mm256_srli_epi32(_mm256_blendv_epi8(up, _mm256_set1_epi32(0x7FC00000), nan), 16);
}
inline __m256i to_bf16(Vec x) {
    // The pack works within 128-bit halves: 0xD8 puts their quarters back in order.
    const __m256i packed = _mm256_packus_epi32(bf16_bits(x.lo), bf16_bits(x.hi));
    return _mm256_permute4x64_epi64(packed, 0xD8);
}
inline __m256i to_fp16(Vec x) {
    return _mm256_set_m128i(_mm256_cvtps_ph(x.hi, _MM_FROUND_TO_NEAREST_INT),
                            _mm256_cvtps_ph(x.lo, _MM_FROUND_TO_NEAREST_INT));
}

inline void store(float* p, Vec x) {
    _mm256_storeu_ps(p, x.lo);
    _mm256_storeu_ps(p + 8, x.hi);
}
inline void store(Bf16* p, Vec x) { _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), to_bf16(x)); }
inline void store(Fp16* p, Vec x) { _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), to_fp16(x)); }

/// Past the caches; p must be aligned to the bytes of sixteen elements.
inline void stream(float* p, Vec x) {
    _mm256_stream_ps(p, x.lo);
    _mm256_stream_ps(p + 8, x.hi);
}
inline void stream(Bf16* p, Vec x) { _mm256_stream_si256(reinterpret_cast<__m256i*>(p), to_bf16(x)); }
inline void stream(Fp16* p, Vec x) { _mm256_stream_si256(reinterpret_cast<__m256i*>(p), to_fp16(x)); }
inline void fence() { _mm_sfence(); }

/// The larger of |a| and |x| as bits: an infinity beats every number and a NaN beats an infinity.
inline __m256 max_magnitude(__m256 a, __m256 x) {
    const __m256i bits = _mm256_and_si256(_mm256_castps_si256(x), _mm256_set1_epi32(0x7FFFFFFF));
    return _mm256_castsi256_ps(_mm256_max_epi32(_mm256_castps_si256(a), bits));
}
inline Vec max_magnitude(Vec a, Vec x) { return {max_magnitude(a.lo, x.lo), max_magnitude(a.hi, x.hi)}; }
inline float max_lane(Vec a) {
    alignas(32) std::int32_t lanes[8];
    const __m256i both = _mm256_max_epi32(_mm256_castps_si256(a.lo), _mm256_castps_si256(a.hi));
    _mm256_store_si256(reinterpret_cast<__m256i*>(lanes), both);
    std::int32_t bits = lanes[0];
    for (const std::int32_t lane : lanes) bits = lane > bits ? lane : bits;
    float result;
    std::memcpy(&result, &bits, sizeof result);
    return result;
}

inline __m256i quotient(__m256 x, __m256 scale) {
    const __m256i codes = _mm256_cvtps_epi32(_mm256_div_ps(x, scale));
    return _mm256_max_epi32(_mm256_min_epi32(codes, _mm256_set1_epi32(127)), _mm256_set1_epi32(-127));
}
/// The sixteen integers of lo and hi, in their order, as 16 bits.
inline __m256i packed(__m256i lo, __m256i hi) { return _mm256_permute4x64_epi64(_mm256_packs_epi32(lo, hi), 0xD8); }
/// Codes of x / scale, rounded half to even and clamped to ±127; x / scale must not be NaN.
inline void store_quotient(std::int8_t* p, Vec x, Vec scale) {
    const __m256i codes = packed(quotient(x.lo, scale.lo), quotient(x.hi, scale.hi));
    const __m128i narrow = _mm_packs_epi16(_mm256_castsi256_si128(codes), _mm256_extracti128_si256(codes, 1));
    _mm_storeu_si128(reinterpret_cast<__m128i*>(p), narrow);
}

inline __m256i e4m3_bits(__m256 x) {
    const __m256 magnitude = _mm256_min_ps(_mm256_andnot_ps(_mm256_set1_ps(-0.0f), x), _mm256_set1_ps(448.0f));
    const __m256i bits = _mm256_castps_si256(magnitude);
    // Below 2⁻⁶: adding 2¹⁴ makes the fp32 unit round to 2⁻⁹.
    const __m256 far = _mm256_set1_ps(0x1p14f);
    const __m256i small = _mm256_sub_epi32(_mm256_castps_si256(_mm256_add_ps(magnitude, far)), _mm256_castps_si256(far));
    const __m256i odd = _mm256_and_si256(_mm256_srli_epi32(bits, 20), _mm256_set1_epi32(1));
    const __m256i up = _mm256_add_epi32(_mm256_add_epi32(bits, _mm256_set1_epi32(0x7FFFF - (120 << 23))), odd);
    const __m256i is_small = _mm256_cmpgt_epi32(_mm256_set1_epi32(0x3C800000), bits);
    const __m256i sign = _mm256_and_si256(_mm256_srli_epi32(_mm256_castps_si256(x), 24), _mm256_set1_epi32(0x80));
    return _mm256_or_si256(sign, _mm256_blendv_epi8(_mm256_srli_epi32(up, 20), small, is_small));
}
/// Codes of x / scale, rounded half to even and clamped to ±448; x / scale must not be NaN.
inline void store_quotient(E4m3* p, Vec x, Vec scale) {
    const __m256i codes = packed(e4m3_bits(_mm256_div_ps(x.lo, scale.lo)), e4m3_bits(_mm256_div_ps(x.hi, scale.hi)));
    const __m128i narrow = _mm_packus_epi16(_mm256_castsi256_si128(codes), _mm256_extracti128_si256(codes, 1));
    _mm_storeu_si128(reinterpret_cast<__m128i*>(p), narrow);
}

/// The sum of the lanes in fp32, halves added to halves: one order on every instruction set.
inline float lane_sum(Vec x) {
    const __m256 eight = _mm256_add_ps(x.lo, x.hi);
    const __m128 four = _mm_add_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps(eight, 1));
    const __m128 two = _mm_add_ps(four, _mm_movehl_ps(four, four));
    return _mm_cvtss_f32(_mm_add_ss(two, _mm_movehdup_ps(two)));
}

inline __m256d low_half(__m256 x) { return _mm256_cvtps_pd(_mm256_castps256_ps128(x)); }
inline __m256d high_half(__m256 x) { return _mm256_cvtps_pd(_mm256_extractf128_ps(x, 1)); }

inline Sums zero_sums() { return {_mm256_setzero_pd(), _mm256_setzero_pd()}; }
/// The upper eight lanes are added to the lower in fp32 first: half the work of adding sixteen in fp64.
inline Sums add(Sums s, Vec x) {
    const __m256 halved = _mm256_add_ps(x.lo, x.hi);
    return {_mm256_add_pd(s.lo, low_half(halved)), _mm256_add_pd(s.hi, high_half(halved))};
}
inline Sums add_scaled(Sums s, Vec x, float scale) {
    const __m256 halved = _mm256_add_ps(x.lo, x.hi);
    const __m256d by = _mm256_set1_pd(scale);
    return {_mm256_fmadd_pd(low_half(halved), by, s.lo), _mm256_fmadd_pd(high_half(halved), by, s.hi)};
}
inline Sums add_square(Sums s, Vec x) {
    for (const __m256 half : {x.lo, x.hi}) {
        const __m256d lo = low_half(half), hi = high_half(half);
        s = {_mm256_fmadd_pd(lo, lo, s.lo), _mm256_fmadd_pd(hi, hi, s.hi)};
    }
    return s;
}
inline void store(double* p, Sums s) {
    _mm256_storeu_pd(p, s.lo);
    _mm256_storeu_pd(p + 4, s.hi);
}

}  // namespace avil::avx2
