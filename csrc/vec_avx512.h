// Sixteen fp32 lanes in one AVX-512 register. The three vec_*.h offer the same functions.
namespace avil::avx512 {

/// Rows read together; 16 are up to a sixth slower on two cores of Zen 4.
constexpr int kGroup = 8;

struct Vec {
    __m512 v;
};

/// Eight fp64 sums.
struct Sums {
    __m512d v;
};

inline Vec zero() { return {_mm512_setzero_ps()}; }
inline Vec broadcast(float x) { return {_mm512_set1_ps(x)}; }
inline Vec add(Vec a, Vec b) { return {_mm512_add_ps(a.v, b.v)}; }
inline Vec sub(Vec a, Vec b) { return {_mm512_sub_ps(a.v, b.v)}; }
inline Vec mul(Vec a, Vec b) { return {_mm512_mul_ps(a.v, b.v)}; }
inline Vec fma(Vec a, Vec b, Vec c) { return {_mm512_fmadd_ps(a.v, b.v, c.v)}; }

inline Vec load(const float* p) { return {_mm512_loadu_ps(p)}; }
inline Vec load(const Bf16* p) {
    const __m256i bits = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p));
    return {_mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(bits), 16))};
}
inline Vec load(const std::int8_t* p) {
    return {_mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p))))};
}

/// By way of fp16, whose bits are the same but for the exponent's bias: 15, not 7.
inline Vec load(const E4m3* p) {
    const __m256i wide = _mm256_cvtepi8_epi16(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)));
    const __m256i halves = _mm256_and_si256(_mm256_slli_epi16(wide, 7), _mm256_set1_epi16(static_cast<short>(0xBF80)));
    return {_mm512_mul_ps(_mm512_cvtph_ps(halves), _mm512_set1_ps(256.0f))};
}

inline __m256i to_bf16(Vec x) {
    const __m512i bits = _mm512_castps_si512(x.v);
    const __m512i odd = _mm512_and_si512(_mm512_srli_epi32(bits, 16), _mm512_set1_epi32(1));
    const __m512i up = _mm512_add_epi32(_mm512_add_epi32(bits, _mm512_set1_epi32(0x7FFF)), odd);
    const __mmask16 nan = _mm512_cmp_ps_mask(x.v, x.v, _CMP_UNORD_Q);
    const __m512i high = _mm512_mask_mov_epi32(_mm512_srli_epi32(up, 16), nan, _mm512_set1_epi32(0x7FC0));
    return _mm512_cvtepi32_epi16(high);
}
inline __m256i to_fp16(Vec x) { return _mm512_cvtps_ph(x.v, _MM_FROUND_TO_NEAREST_INT); }

inline void store(float* p, Vec x) { _mm512_storeu_ps(p, x.v); }
inline void store(Bf16* p, Vec x) { _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), to_bf16(x)); }
inline void store(Fp16* p, Vec x) { _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), to_fp16(x)); }

/// Past the caches; p must be aligned to the bytes of sixteen elements.
inline void stream(float* p, Vec x) { _mm512_stream_ps(p, x.v); }
inline void stream(Bf16* p, Vec x) { _mm256_stream_si256(reinterpret_cast<__m256i*>(p), to_bf16(x)); }
inline void stream(Fp16* p, Vec x) { _mm256_stream_si256(reinterpret_cast<__m256i*>(p), to_fp16(x)); }
inline void fence() { _mm_sfence(); }

/// The larger of |a| and |x| as bits: an infinity beats every number and a NaN beats an infinity.
inline Vec max_magnitude(Vec a, Vec x) {
    const __m512i bits = _mm512_and_si512(_mm512_castps_si512(x.v), _mm512_set1_epi32(0x7FFFFFFF));
    return {_mm512_castsi512_ps(_mm512_max_epi32(_mm512_castps_si512(a.v), bits))};
}
inline float max_lane(Vec a) {
    const int bits = _mm512_reduce_max_epi32(_mm512_castps_si512(a.v));
    float result;
    std::memcpy(&result, &bits, sizeof result);
    return result;
}

/// Codes of x / scale, rounded half to even and clamped to ±127; x / scale must not be NaN.
inline void store_quotient(std::int8_t* p, Vec x, Vec scale) {
    const __m512i codes = _mm512_cvtps_epi32(_mm512_div_ps(x.v, scale.v));
    const __m512i clamped =
        _mm512_max_epi32(_mm512_min_epi32(codes, _mm512_set1_epi32(127)), _mm512_set1_epi32(-127));
    _mm_storeu_si128(reinterpret_cast<__m128i*>(p), _mm512_cvtepi32_epi8(clamped));
}

/// Codes of x / scale, rounded half to even and clamped to ±448; x / scale must not be NaN.
inline void store_quotient(E4m3* p, Vec x, Vec scale) {
    const __m512 quotient = _mm512_div_ps(x.v, scale.v);
    const __m512 magnitude = _mm512_min_ps(_mm512_abs_ps(quotient), _mm512_set1_ps(448.0f));
    const __m512i bits = _mm512_castps_si512(magnitude);
    // Below 2⁻⁶: adding 2¹⁴ makes the fp32 unit round to 2⁻⁹.
    const __m512 far = _mm512_set1_ps(0x1p14f);
    const __m512i small = _mm512_sub_epi32(_mm512_castps_si512(_mm512_add_ps(magnitude, far)), _mm512_castps_si512(far));
    const __m512i odd = _mm512_and_si512(_mm512_srli_epi32(bits, 20), _mm512_set1_epi32(1));
    const __m512i up = _mm512_add_epi32(_mm512_add_epi32(bits, _mm512_set1_epi32(0x7FFFF - (120 << 23))), odd);
    const __mmask16 is_small = _mm512_cmplt_epi32_mask(bits, _mm512_set1_epi32(0x3C800000));
    const __m512i code = _mm512_mask_mov_epi32(_mm512_srli_epi32(up, 20), is_small, small);
    const __m512i sign = _mm512_and_si512(_mm512_srli_epi32(_mm512_castps_si512(quotient), 24), _mm512_set1_epi32(0x80));
    _mm_storeu_si128(reinterpret_cast<__m128i*>(p), _mm512_cvtepi32_epi8(_mm512_or_si512(code, sign)));
}

/// The sum of the lanes in fp32, halves added to halves: one order on every instruction set.
inline float lane_sum(Vec x) {
    const __m256 eight = _mm256_add_ps(_mm512_castps512_ps256(x.v), _mm512_extractf32x8_ps(x.v, 1));
    const __m128 four = _mm_add_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps(eight, 1));
    const __m128 two = _mm_add_ps(four, _mm_movehl_ps(four, four));
    return _mm_cvtss_f32(_mm_add_ss(two, _mm_movehdup_ps(two)));
}

/// The upper eight lanes added to the lower in fp32, as fp64: half the work of adding sixteen.
inline __m512d halved(Vec x) {
    return _mm512_cvtps_pd(_mm256_add_ps(_mm512_castps512_ps256(x.v), _mm512_extractf32x8_ps(x.v, 1)));
}

inline Sums zero_sums() { return {_mm512_setzero_pd()}; }
inline Sums add(Sums s, Vec x) { return {_mm512_add_pd(s.v, halved(x))}; }
inline Sums add_scaled(Sums s, Vec x, float scale) {
    return {_mm512_fmadd_pd(halved(x), _mm512_set1_pd(scale), s.v)};
}
inline Sums add_square(Sums s, Vec x) {
    const __m512d lo = _mm512_cvtps_pd(_mm512_castps512_ps256(x.v));
    const __m512d hi = _mm512_cvtps_pd(_mm512_extractf32x8_ps(x.v, 1));
    return {_mm512_fmadd_pd(hi, hi, _mm512_fmadd_pd(lo, lo, s.v))};
}
inline void store(double* p, Sums s) { _mm512_storeu_pd(p, s.v); }

}  // namespace avil::avx512
