/* The intrinsics of AVX-512 that kernels use, lane by lane: their code for it then runs where the
 * hardware has none. Included before a kernel file that is compiled for AVX2. */
#define FC_LOWERED
#define FC_STAY(v) (void)(v)
#include <immintrin.h>
#include <stdint.h>

#define LANES_OF(type, count, v) type v##_[count]; __builtin_memcpy(v##_, &v, 64)
#define FROM_LANES(result, lanes) result vector_; __builtin_memcpy(&vector_, lanes, 64); return vector_

#define LOWERED(bits, mask, count) \
    static inline __m512i lowered_maskz_loadu_epi##bits(mask m, const void *from) \
    { \
        int##bits##_t lanes[count] = {0}; \
        for (int i = 0; i < count; i++) \
            if (m >> i & 1) __builtin_memcpy(lanes + i, (const char *)from + i * bits / 8, bits / 8); \
        FROM_LANES(__m512i, lanes); \
    } \
    static inline void lowered_mask_storeu_epi##bits(void *to, mask m, __m512i v) \
    { \
        LANES_OF(int##bits##_t, count, v); \
        for (int i = 0; i < count; i++) \
            if (m >> i & 1) __builtin_memcpy((char *)to + i * bits / 8, v_ + i, bits / 8); \
    }
LOWERED(32, __mmask16, 16)
LOWERED(64, __mmask8, 8)

#define COMPARED(suffix, vector, type, mask, count) \
    static inline vector lowered_max_##suffix(vector a, vector b) \
    { \
        LANES_OF(type, count, a); \
        LANES_OF(type, count, b); \
        for (int i = 0; i < count; i++) a_[i] = a_[i] > b_[i] ? a_[i] : b_[i]; \
        FROM_LANES(vector, a_); \
    } \
    static inline mask lowered_mask_cmp_##suffix##_mask(mask m, vector a, vector b, int how) \
    { \
        LANES_OF(type, count, a); \
        LANES_OF(type, count, b); \
        mask met = 0; \
        for (int i = 0; i < count; i++) \
            if (how == _CMP_GT_OQ ? a_[i] > b_[i] : how == _CMP_LE_OQ ? a_[i] <= b_[i] : (__builtin_trap(), 0)) \
                met |= (mask)(1 << i); \
        return m & met; \
    }
COMPARED(ps, __m512, float, __mmask16, 16)
COMPARED(pd, __m512d, double, __mmask8, 8)

static inline __m512i lowered_loadu_si512(const void *from) { FROM_LANES(__m512i, from); }
static inline __m512i lowered_set1_epi64(long long x)
{
    const long long lanes[8] = {x, x, x, x, x, x, x, x};
    FROM_LANES(__m512i, lanes);
}
static inline __mmask8 lowered_cmpneq_epi64_mask(__m512i a, __m512i b)
{
    LANES_OF(int64_t, 8, a);
    LANES_OF(int64_t, 8, b);
    __mmask8 met = 0;
    for (int i = 0; i < 8; i++) met |= (__mmask8)((a_[i] != b_[i]) << i);
    return met;
}
#define WIDENED(name, from_vector, from_type, to_type, count) \
    static inline __m512i lowered_##name(from_vector x) \
    { \
        from_type narrow[count]; \
        to_type lanes[count]; \
        __builtin_memcpy(narrow, &x, sizeof narrow); \
        for (int i = 0; i < count; i++) lanes[i] = narrow[i]; \
        FROM_LANES(__m512i, lanes); \
    }
WIDENED(cvtepu8_epi32, __m128i, uint8_t, int32_t, 16)
WIDENED(cvtepi8_epi32, __m128i, int8_t, int32_t, 16)
WIDENED(cvtepu16_epi32, __m256i, uint16_t, int32_t, 16)
WIDENED(cvtepi16_epi32, __m256i, int16_t, int32_t, 16)
WIDENED(cvtepu8_epi16, __m256i, uint8_t, uint16_t, 32)

#define NARROWED(name, to_vector, from_type, to_type, count) \
    static inline to_vector lowered_##name(__m512i a) \
    { \
        LANES_OF(from_type, count, a); \
        to_type narrow[count]; \
        for (int i = 0; i < count; i++) narrow[i] = (to_type)a_[i]; \
        to_vector result; \
        __builtin_memcpy(&result, narrow, sizeof narrow); \
        return result; \
    }
NARROWED(cvtepi16_epi8, __m256i, uint16_t, uint8_t, 32)
NARROWED(cvtepi32_epi8, __m128i, int32_t, uint8_t, 16)
NARROWED(cvtepi32_epi16, __m256i, int32_t, uint16_t, 16)

static inline __m512i lowered_mulhi_epu16(__m512i a, __m512i b)
{
    LANES_OF(uint16_t, 32, a);
    LANES_OF(uint16_t, 32, b);
    for (int i = 0; i < 32; i++) a_[i] = (uint16_t)((uint32_t)a_[i] * b_[i] >> 16);
    FROM_LANES(__m512i, a_);
}
static inline __m512 lowered_cvtepi32_ps(__m512i a)
{
    LANES_OF(int32_t, 16, a);
    float lanes[16];
    for (int i = 0; i < 16; i++) lanes[i] = (float)a_[i];
    FROM_LANES(__m512, lanes);
}
static inline __m512i lowered_set1_epi32(int x)
{
    int32_t lanes[16];
    for (int i = 0; i < 16; i++) lanes[i] = x;
    FROM_LANES(__m512i, lanes);
}
static inline __m512i lowered_madd_epi16(__m512i a, __m512i b)
{
    LANES_OF(int16_t, 32, a);
    LANES_OF(int16_t, 32, b);
    uint32_t lanes[16];
    for (int i = 0; i < 16; i++)
        lanes[i] = (uint32_t)(a_[2 * i] * b_[2 * i]) + (uint32_t)(a_[2 * i + 1] * b_[2 * i + 1]);
    FROM_LANES(__m512i, lanes);
}
static inline __m512 lowered_loadu_ps(const void *from) { FROM_LANES(__m512, from); }
static inline void lowered_storeu_ps(void *to, __m512 v) { __builtin_memcpy(to, &v, 64); }
static inline __m512 lowered_cvtph_ps(__m256i x)
{
    float lanes[16];
    _mm256_storeu_ps(lanes, _mm256_cvtph_ps(_mm256_castsi256_si128(x)));
    _mm256_storeu_ps(lanes + 8, _mm256_cvtph_ps(_mm256_extracti128_si256(x, 1)));
    FROM_LANES(__m512, lanes);
}
static inline __m256i lowered_cvtps_ph(__m512 x)
{
    LANES_OF(float, 16, x);
    const __m128i low = _mm256_cvtps_ph(_mm256_loadu_ps(x_), _MM_FROUND_TO_NEAREST_INT);
    const __m128i high = _mm256_cvtps_ph(_mm256_loadu_ps(x_ + 8), _MM_FROUND_TO_NEAREST_INT);
    return _mm256_set_m128i(high, low);
}

#define _mm512_set1_epi32 lowered_set1_epi32
#define _mm512_madd_epi16 lowered_madd_epi16
#define _mm512_loadu_ps lowered_loadu_ps
#define _mm512_storeu_ps lowered_storeu_ps
#define _mm512_cvtph_ps lowered_cvtph_ps
#undef _mm512_cvtps_ph
#define _mm512_cvtps_ph(x, how) lowered_cvtps_ph(x)
#define _mm512_maskz_loadu_epi32 lowered_maskz_loadu_epi32
#define _mm512_maskz_loadu_epi64 lowered_maskz_loadu_epi64
#define _mm512_mask_storeu_epi32 lowered_mask_storeu_epi32
#define _mm512_mask_storeu_epi64 lowered_mask_storeu_epi64
#define _mm512_max_ps lowered_max_ps
#define _mm512_max_pd lowered_max_pd
#undef _mm512_cmp_ps_mask
#undef _mm512_cmp_pd_mask
#undef _mm512_mask_cmp_ps_mask
#undef _mm512_mask_cmp_pd_mask
#define _mm512_cmp_ps_mask(a, b, how) lowered_mask_cmp_ps_mask(0xffff, a, b, how)
#define _mm512_cmp_pd_mask(a, b, how) lowered_mask_cmp_pd_mask(0xff, a, b, how)
#define _mm512_mask_cmp_ps_mask lowered_mask_cmp_ps_mask
#define _mm512_mask_cmp_pd_mask lowered_mask_cmp_pd_mask
#define _mm512_loadu_si512 lowered_loadu_si512
#define _mm512_set1_epi64 lowered_set1_epi64
#define _mm512_cmpneq_epi64_mask lowered_cmpneq_epi64_mask
#define _mm512_cvtepu8_epi32 lowered_cvtepu8_epi32
#define _mm512_cvtepu8_epi16 lowered_cvtepu8_epi16
#define _mm512_cvtepi8_epi32 lowered_cvtepi8_epi32
#define _mm512_cvtepu16_epi32 lowered_cvtepu16_epi32
#define _mm512_cvtepi16_epi32 lowered_cvtepi16_epi32
#define _mm512_cvtepi32_epi16 lowered_cvtepi32_epi16
#define _mm512_cvtepi16_epi8 lowered_cvtepi16_epi8
#define _mm512_cvtepi32_epi8 lowered_cvtepi32_epi8
#define _mm512_mulhi_epu16 lowered_mulhi_epu16
/* Parts of vectors in their place, with lanes beyond masks 0. */
#define PLACED(name, part, bytes) \
    static inline __m512i lowered_insert_##name(__m512i v, part x, int at) \
    { \
        LANES_OF(char, 64, v); \
        __builtin_memcpy(v_ + at * bytes, &x, bytes); \
        FROM_LANES(__m512i, v_); \
    }
PLACED(64x4, __m256i, 32)
PLACED(32x4, __m128i, 16)
static inline __m512i lowered_castsi256_si512(__m256i x) { return lowered_insert_64x4((__m512i){0}, x, 0); }
static inline __m512i lowered_castsi128_si512(__m128i x) { return lowered_insert_32x4((__m512i){0}, x, 0); }
static inline __m512i lowered_broadcast_i32x4(__m128i x)
{
    char lanes[64];
    for (int i = 0; i < 64; i += 16) __builtin_memcpy(lanes + i, &x, 16);
    FROM_LANES(__m512i, lanes);
}
#define LOADED(name, vector, type, count, mask) \
    static inline vector lowered_##name(mask m, const void *from) \
    { \
        type lanes[count] = {0}; \
        for (int i = 0; i < count; i++) \
            if (m >> i & 1) lanes[i] = ((const type *)from)[i]; \
        FROM_LANES(vector, lanes); \
    }
LOADED(maskz_loadu_epi8, __m512i, uint8_t, 64, __mmask64)
LOADED(maskz_loadu_epi16, __m512i, uint16_t, 32, __mmask32)
LOADED(maskz_loadu_half, __m256i, uint16_t, 16, __mmask16)
#define STORED(name, vector, type, count, mask) \
    static inline void lowered_##name(void *to, mask m, vector v) \
    { \
        type v_[count]; \
        __builtin_memcpy(v_, &v, sizeof v_); \
        for (int i = 0; i < count; i++) \
            if (m >> i & 1) ((type *)to)[i] = v_[i]; \
    }
STORED(mask_storeu_half, __m256i, uint16_t, 16, __mmask16)
STORED(mask_storeu_bytes, __m128i, uint8_t, 16, __mmask16)
static inline void lowered_storeu_si512(void *to, __m512i v) { __builtin_memcpy(to, &v, 64); }
static inline __m512i lowered_max_epu16(__m512i a, __m512i b)
{
    LANES_OF(uint16_t, 32, a);
    LANES_OF(uint16_t, 32, b);
    for (int i = 0; i < 32; i++) a_[i] = a_[i] > b_[i] ? a_[i] : b_[i];
    FROM_LANES(__m512i, a_);
}
static inline __m512i lowered_permutexvar_epi32(__m512i index, __m512i a)
{
    LANES_OF(uint32_t, 16, index);
    LANES_OF(uint32_t, 16, a);
    for (int i = 0; i < 16; i++) index_[i] = a_[index_[i] & 15];
    FROM_LANES(__m512i, index_);
}
/* Lanes of 16 bytes each: shuffled by the low bits of an index without a sign; two woven. */
static inline __m512i lowered_shuffle_epi8(__m512i a, __m512i index)
{
    LANES_OF(uint8_t, 64, index);
    LANES_OF(uint8_t, 64, a);
    for (int i = 0; i < 64; i++) index_[i] = index_[i] & 128 ? 0 : a_[(i & 48) + (index_[i] & 15)];
    FROM_LANES(__m512i, index_);
}
#define WOVEN(name, type, count, first) \
    static inline __m512i lowered_##name(__m512i a, __m512i b) \
    { \
        LANES_OF(type, count, a); \
        LANES_OF(type, count, b); \
        type lanes[count]; \
        for (int i = 0; i < count; i++) { \
            const int from = i / (count / 4) * (count / 4) + first * (count / 8) + i % (count / 4) / 2; \
            lanes[i] = i % 2 ? b_[from] : a_[from]; \
        } \
        FROM_LANES(__m512i, lanes); \
    }
WOVEN(unpacklo_epi8, uint8_t, 64, 0)
WOVEN(unpackhi_epi8, uint8_t, 64, 1)
WOVEN(unpacklo_epi16, uint16_t, 32, 0)
WOVEN(unpackhi_epi16, uint16_t, 32, 1)
#define COMPUTED(name, vector, type, count, expression) \
    static inline vector lowered_##name(vector a, vector b) \
    { \
        LANES_OF(type, count, a); \
        LANES_OF(type, count, b); \
        for (int i = 0; i < count; i++) { \
            const type x = a_[i], y = b_[i]; \
            a_[i] = expression; \
        } \
        FROM_LANES(vector, a_); \
    }
COMPUTED(xor_si512, __m512i, uint64_t, 8, x ^ y)
COMPUTED(sub_epi32, __m512i, uint32_t, 16, x - y)
COMPUTED(add_ps, __m512, float, 16, x + y)
COMPUTED(mul_ps, __m512, float, 16, x * y)
COMPUTED(min_ps, __m512, float, 16, x < y ? x : y)
static inline __m512 lowered_set1_ps(float x)
{
    float lanes[16];
    for (int i = 0; i < 16; i++) lanes[i] = x;
    FROM_LANES(__m512, lanes);
}

#define _mm512_inserti64x4(v, x, at) lowered_insert_64x4(v, x, at)
#define _mm512_inserti32x4(v, x, at) lowered_insert_32x4(v, x, at)
#define _mm512_castsi256_si512 lowered_castsi256_si512
#define _mm512_castsi128_si512 lowered_castsi128_si512
#define _mm512_broadcast_i32x4 lowered_broadcast_i32x4
#define _mm512_maskz_loadu_epi8 lowered_maskz_loadu_epi8
#define _mm512_maskz_loadu_epi16 lowered_maskz_loadu_epi16
#define _mm256_maskz_loadu_epi16 lowered_maskz_loadu_half
#define _mm256_mask_storeu_epi16 lowered_mask_storeu_half
#define _mm_mask_storeu_epi8 lowered_mask_storeu_bytes
#define _mm512_storeu_si512 lowered_storeu_si512
#define _mm512_max_epu16 lowered_max_epu16
#define _mm512_permutexvar_epi32 lowered_permutexvar_epi32
#define _mm512_shuffle_epi8 lowered_shuffle_epi8
#define _mm512_unpacklo_epi8 lowered_unpacklo_epi8
#define _mm512_unpackhi_epi8 lowered_unpackhi_epi8
#define _mm512_unpacklo_epi16 lowered_unpacklo_epi16
#define _mm512_unpackhi_epi16 lowered_unpackhi_epi16
#define _mm512_xor_si512 lowered_xor_si512
#define _mm512_sub_epi32 lowered_sub_epi32
#define _mm512_add_ps lowered_add_ps
#define _mm512_mul_ps lowered_mul_ps
#define _mm512_min_ps lowered_min_ps
#define _mm512_set1_ps lowered_set1_ps
#undef _mm512_setr_epi32
#define _mm512_setr_epi32(...) \
    __extension__({ const int32_t lanes_[16] = {__VA_ARGS__}; __m512i v_; __builtin_memcpy(&v_, lanes_, 64); v_; })
#define _mm512_castps_si512(v) ((__m512i)(v))
#define _mm512_cvtepi32_ps lowered_cvtepi32_ps
