/* Vectors of this instruction set, and how kernel names are made.
 *
 * Vectors are GNU vector types: plain operators, any element type, lowered by the compiler where
 * the hardware lacks one. Everything a kernel file defines besides its table entry must be static, or the
 * copy of another instruction set could be linked in its place. */
#ifndef FC_VEC_H
#define FC_VEC_H

#include "../fc.h"

#if defined(FC_ISA_avx512) || defined(FC_ISA_avx2)
#include <immintrin.h>
#elif defined(__SSE2__)
#include <emmintrin.h>
#endif

#if defined(FC_ISA_avx512)
#define VEC_BYTES 64
#define VEC_REGISTERS 32
#elif defined(FC_ISA_avx2)
#define VEC_BYTES 32
#define VEC_REGISTERS 16
#elif defined(FC_ISA_neon)
#define VEC_BYTES 16
#define VEC_REGISTERS 32
#else /* baseline: whatever the compiler targets unasked */
#define VEC_BYTES 16
#define VEC_REGISTERS 16
#endif

#define FC_JOIN_(a, b) a##__##b
#define FC_JOIN(a, b) FC_JOIN_(a, b)
/* fc_tile_f32 -> fc_tile_f32__avx2 */
#define FC_NAME(name) FC_JOIN(name, FC_ISA)

/* Lanes of two vectors by an index vector, counted on in the second. Clang shuffles by constants
 * alone, which it finds in the loop. */
#ifdef __clang__
#define FC_SHUFFLE(a, b, index) __extension__({ \
    __typeof__(a) first_ = (a), second_ = (b), lanes_ = first_; \
    enum { LANES_ = sizeof first_ / sizeof first_[0] }; \
    _Pragma("unroll") for (int i_ = 0; i_ < LANES_; i_++) { \
        const int from_ = (int)(index)[i_]; \
        lanes_[i_] = from_ < LANES_ ? first_[from_] : second_[from_ - LANES_]; \
    } \
    lanes_; })
#else
#define FC_SHUFFLE(a, b, index) __builtin_shuffle(a, b, index)
#endif

/* Hides where a loop-invariant integer comes from. */
#define FC_OPAQUE(i) __asm__("" : "+r"(i))

/* Keeps a sum in one register: GCC else lets sums of unrolled loops change places, one of them through memory.
 * Code for AVX-512 that is run without it has no such register. */
#if defined(FC_STAY)
#elif defined(__x86_64__)
#define FC_STAY(v) __asm__("" : "+v"(v))
#elif defined(__aarch64__)
#define FC_STAY(v) __asm__("" : "+w"(v))
#else
#define FC_STAY(v) (void)(v)
#endif

/* A build for sanitizers inlines nothing: with their checks, depthwise.c alone took over five minutes. */
#ifndef FC_INLINE
#define FC_INLINE static inline __attribute__((always_inline))
#endif

/* Of vectors: vec_larger is max(a, abs(x)); vec_outside has a bit for each lane where
 * low < abs(x) <= high does not hold, as it does not for NaN. */
#define T float
#define BITS int32_t
#define NAME(x) x##_f32
#include "vec.inc"
#define T double
#define BITS int64_t
#define NAME(x) x##_f64
#include "vec.inc"

#if defined(FC_ISA_avx512) || defined(FC_ISA_avx2)
#include <immintrin.h>
#endif

/* A vector of floats from as many bytes; what compilers make of conversions of vectors is 5 times as slow. */
typedef float vec_floats __attribute__((vector_size(VEC_BYTES)));
FC_INLINE vec_floats vec_widen_u8(const uint8_t *x)
{
#if defined(FC_ISA_avx512)
    return (vec_floats)_mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(_mm_loadu_si128((const __m128i *)x)));
#elif defined(FC_ISA_avx2)
    return (vec_floats)_mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(_mm_loadl_epi64((const __m128i *)x)));
#else
    vec_floats y;
    for (int i = 0; i < VEC_BYTES / 4; i++) y[i] = (float)x[i];
    return y;
#endif
}

/* Bytes in lanes of 16 bits: a vector of them, two stored as the low bytes of their lanes; and the high half of a
 * product. */
typedef uint16_t vec_shorts __attribute__((vector_size(VEC_BYTES), aligned(1), may_alias));
FC_INLINE vec_shorts vec_wide_u8(const uint8_t *x)
{
#if defined(FC_ISA_avx512)
    return (vec_shorts)_mm512_cvtepu8_epi16(_mm256_loadu_si256((const __m256i *)x));
#elif defined(FC_ISA_avx2)
    return (vec_shorts)_mm256_cvtepu8_epi16(_mm_loadu_si128((const __m128i *)x));
#else
    vec_shorts y;
    for (int i = 0; i < VEC_BYTES / 2; i++) y[i] = x[i];
    return y;
#endif
}
FC_INLINE void vec_store_u8(uint8_t *y, vec_shorts low, vec_shorts high)
{
#if defined(FC_ISA_avx512)
    _mm256_storeu_si256((__m256i *)y, _mm512_cvtepi16_epi8((__m512i)low));
    _mm256_storeu_si256((__m256i *)(y + 32), _mm512_cvtepi16_epi8((__m512i)high));
#elif defined(FC_ISA_avx2)
    const __m256i halves = _mm256_packus_epi16((__m256i)(low & 0xff), (__m256i)(high & 0xff));
    _mm256_storeu_si256((__m256i *)y, _mm256_permute4x64_epi64(halves, 0xd8));
#else
    for (int i = 0; i < VEC_BYTES / 2; i++) {
        y[i] = (uint8_t)low[i];
        y[i + VEC_BYTES / 2] = (uint8_t)high[i];
    }
#endif
}
FC_INLINE vec_shorts vec_high(vec_shorts a, vec_shorts b)
{
#if defined(FC_ISA_avx512)
    return (vec_shorts)_mm512_mulhi_epu16((__m512i)a, (__m512i)b);
#elif defined(FC_ISA_avx2)
    return (vec_shorts)_mm256_mulhi_epu16((__m256i)a, (__m256i)b);
#else
    vec_shorts y;
    for (int i = 0; i < VEC_BYTES / 2; i++) y[i] = (uint16_t)((uint32_t)a[i] * b[i] >> 16);
    return y;
#endif
}

/* Lanes of two int16: x0*y0 + x1*y1 in 32 bits. */
typedef uint32_t vec_words __attribute__((vector_size(VEC_BYTES), aligned(4), may_alias));
FC_INLINE vec_words vec_products(uint32_t x, vec_words y)
{
#if defined(FC_ISA_avx512)
    return (vec_words)_mm512_madd_epi16(_mm512_set1_epi32((int)x), (__m512i)y);
#elif defined(FC_ISA_avx2)
    return (vec_words)_mm256_madd_epi16(_mm256_set1_epi32((int)x), (__m256i)y);
#elif defined(__SSE2__)
    return (vec_words)_mm_madd_epi16(_mm_set1_epi32((int)x), (__m128i)y);
#else
    typedef int32_t ints __attribute__((vector_size(VEC_BYTES)));
    const ints low = (ints)(y << 16) >> 16, high = (ints)y >> 16;
    return (vec_words)(low * (int16_t)x) + (vec_words)(high * ((int32_t)x >> 16));
#endif
}

/* The low bytes of lanes of 32 bits, which hold less than 2^16: two vectors of them to y, two to z. */
typedef int32_t vec_ints __attribute__((vector_size(VEC_BYTES), aligned(4), may_alias));
FC_INLINE void vec_store_ints_u8(uint8_t *y, vec_ints y0, vec_ints y1, uint8_t *z, vec_ints z0, vec_ints z1)
{
#if defined(FC_ISA_avx512)
    _mm_storeu_si128((__m128i *)y, _mm512_cvtepi32_epi8((__m512i)y0));
    _mm_storeu_si128((__m128i *)(y + 16), _mm512_cvtepi32_epi8((__m512i)y1));
    _mm_storeu_si128((__m128i *)z, _mm512_cvtepi32_epi8((__m512i)z0));
    _mm_storeu_si128((__m128i *)(z + 16), _mm512_cvtepi32_epi8((__m512i)z1));
#elif defined(FC_ISA_avx2)
    const __m256i bits = _mm256_set1_epi16(255);
    const __m256i of_y = _mm256_and_si256(_mm256_packus_epi32((__m256i)y0, (__m256i)y1), bits);
    const __m256i of_z = _mm256_and_si256(_mm256_packus_epi32((__m256i)z0, (__m256i)z1), bits);
    const __m256i groups = _mm256_packus_epi16(of_y, of_z); /* of 4 bytes, low halves of vectors first */
    const __m256i both = _mm256_permutevar8x32_epi32(groups, _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7));
    _mm_storeu_si128((__m128i *)y, _mm256_castsi256_si128(both));
    _mm_storeu_si128((__m128i *)z, _mm256_extracti128_si256(both, 1));
#else
    enum { LANES = VEC_BYTES / 4 };
    for (int i = 0; i < LANES; i++) {
        y[i] = (uint8_t)y0[i], y[LANES + i] = (uint8_t)y1[i];
        z[i] = (uint8_t)z0[i], z[LANES + i] = (uint8_t)z1[i];
    }
#endif
}

/* Eight groups of four floats taken apart, d[j] their elements j, for j < 2 or all, and put together
 * again. Where shuffles across the halves of a vector take longer than those within them, halves are loaded
 * and stored: four of the groups in each lie four groups apart. */
#if defined(FC_ISA_avx2)
#define VEC_SPLIT 1
FC_INLINE void vec_apart_4(int64_t count, const float *x, vec_f32 *d)
{
    __m256 groups[4];
    for (int i = 0; i < 4; i++)
        groups[i] = _mm256_insertf128_ps(_mm256_castps128_ps256(_mm_loadu_ps(x + 4 * i)),
                                         _mm_loadu_ps(x + 4 * i + 16), 1);
    const __m256 low_0 = _mm256_unpacklo_ps(groups[0], groups[1]), low_2 = _mm256_unpacklo_ps(groups[2], groups[3]);
    d[0] = (vec_f32)_mm256_shuffle_ps(low_0, low_2, 0x44);
    d[1] = (vec_f32)_mm256_shuffle_ps(low_0, low_2, 0xee);
    if (count <= 2) return;
    const __m256 high_0 = _mm256_unpackhi_ps(groups[0], groups[1]), high_2 = _mm256_unpackhi_ps(groups[2], groups[3]);
    d[2] = (vec_f32)_mm256_shuffle_ps(high_0, high_2, 0x44);
    d[3] = (vec_f32)_mm256_shuffle_ps(high_0, high_2, 0xee);
}
FC_INLINE void vec_together_4(const vec_f32 *d, float *z)
{
    const __m256 d0 = (__m256)d[0], d1 = (__m256)d[1], d2 = (__m256)d[2], d3 = (__m256)d[3];
    const __m256 low_0 = _mm256_unpacklo_ps(d0, d1), high_0 = _mm256_unpackhi_ps(d0, d1);
    const __m256 low_2 = _mm256_unpacklo_ps(d2, d3), high_2 = _mm256_unpackhi_ps(d2, d3);
    const __m256 groups[4] = {_mm256_shuffle_ps(low_0, low_2, 0x44), _mm256_shuffle_ps(low_0, low_2, 0xee),
                              _mm256_shuffle_ps(high_0, high_2, 0x44), _mm256_shuffle_ps(high_0, high_2, 0xee)};
    for (int i = 0; i < 4; i++) {
        _mm_storeu_ps(z + 4 * i, _mm256_castps256_ps128(groups[i]));
        _mm_storeu_ps(z + 4 * i + 16, _mm256_extractf128_ps(groups[i], 1));
    }
}
#else
#define VEC_SPLIT 0
#define vec_apart_4(count, x, d) (void)0
#define vec_together_4(d, z) (void)0
#endif

/* Whether all bits of a vector are set, at any address. */
FC_INLINE int fc_all(const void *vector)
{
#if defined(FC_ISA_avx512)
    return _mm512_cmpneq_epi64_mask(_mm512_loadu_si512(vector), _mm512_set1_epi64(-1)) == 0;
#elif defined(FC_ISA_avx2)
    return _mm256_movemask_epi8(_mm256_loadu_si256((const __m256i *)vector)) == -1;
#else
    uint64_t bits[VEC_BYTES / 8], all = ~(uint64_t)0;
    __builtin_memcpy(bits, vector, VEC_BYTES);
    for (int i = 0; i < VEC_BYTES / 8; i++) all &= bits[i];
    return all == ~(uint64_t)0;
#endif
}

/* Whether any bit of a vector is set, at any address. */
FC_INLINE int fc_any(const void *vector)
{
#if defined(FC_ISA_avx512)
    return _mm512_cmpneq_epi64_mask(_mm512_loadu_si512(vector), _mm512_set1_epi64(0)) != 0;
#elif defined(FC_ISA_avx2)
    return _mm256_movemask_epi8(_mm256_loadu_si256((const __m256i *)vector)) != 0;
#else
    uint64_t bits[VEC_BYTES / 8], some = 0;
    __builtin_memcpy(bits, vector, VEC_BYTES);
    for (int i = 0; i < VEC_BYTES / 8; i++) some |= bits[i];
    return some != 0;
#endif
}

/* Parts of vectors: lanes low <= i < high of a 4- or 8-byte type, which is all that is read or
 * written; other lanes read as 0. FC_MASKS is 0 where there is no instruction for that. */
typedef long long fc_raw __attribute__((vector_size(VEC_BYTES)));
#if defined(FC_ISA_avx512)
#define FC_MASKS 1
typedef __mmask16 fc_mask;
FC_INLINE fc_mask fc_lanes(int64_t bytes, int64_t low, int64_t high)
{
    const int64_t lanes = VEC_BYTES / bytes;
    low = fc_max(low, 0), high = fc_min(high, lanes);
    return high > low ? (fc_mask)((1u << high) - (1u << low)) : 0;
}
FC_INLINE __m512i fc_load_part(int64_t bytes, fc_mask mask, const void *from)
{
    return bytes == 4 ? _mm512_maskz_loadu_epi32(mask, from)
                      : _mm512_maskz_loadu_epi64((__mmask8)mask, from);
}
FC_INLINE void fc_store_part(int64_t bytes, fc_mask mask, void *to, __m512i v)
{
    if (bytes == 4)
        _mm512_mask_storeu_epi32(to, mask, v);
    else
        _mm512_mask_storeu_epi64(to, (__mmask8)mask, v);
}
#elif defined(FC_ISA_avx2)
#define FC_MASKS 1
typedef __m256i fc_mask;
FC_INLINE fc_mask fc_lanes(int64_t bytes, int64_t low, int64_t high)
{
    low = fc_min(fc_max(low, 0), 8), high = fc_min(fc_max(high, 0), 8);
    if (bytes == 8) {
        const __m256i lane = _mm256_setr_epi64x(0, 1, 2, 3);
        return _mm256_andnot_si256(_mm256_cmpgt_epi64(_mm256_set1_epi64x(low), lane),
                                   _mm256_cmpgt_epi64(_mm256_set1_epi64x(high), lane));
    }
    const __m256i lane = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
    return _mm256_andnot_si256(_mm256_cmpgt_epi32(_mm256_set1_epi32((int)low), lane),
                               _mm256_cmpgt_epi32(_mm256_set1_epi32((int)high), lane));
}
FC_INLINE __m256i fc_load_part(int64_t bytes, fc_mask mask, const void *from)
{
    return bytes == 4 ? _mm256_maskload_epi32(from, mask) : _mm256_maskload_epi64(from, mask);
}
FC_INLINE void fc_store_part(int64_t bytes, fc_mask mask, void *to, __m256i v)
{
    if (bytes == 4)
        _mm256_maskstore_epi32(to, mask, v);
    else
        _mm256_maskstore_epi64(to, mask, v);
}
#else
#define FC_MASKS 0
typedef struct {
    int64_t low, high;
} fc_mask;
FC_INLINE fc_mask fc_lanes(int64_t bytes, int64_t low, int64_t high)
{
    low = fc_max(low, 0);
    return (fc_mask){low, fc_max(low, fc_min(high, VEC_BYTES / bytes))};
}
FC_INLINE fc_raw fc_load_part(int64_t bytes, fc_mask mask, const void *from)
{
    char lanes[VEC_BYTES] = {0};
    const int64_t at = mask.low * bytes;
    __builtin_memcpy(lanes + at, (const char *)from + at, (size_t)(mask.high * bytes - at));
    fc_raw v;
    __builtin_memcpy(&v, lanes, VEC_BYTES);
    return v;
}
FC_INLINE void fc_store_part(int64_t bytes, fc_mask mask, void *to, fc_raw v)
{
    char lanes[VEC_BYTES];
    const int64_t at = mask.low * bytes;
    __builtin_memcpy(lanes, &v, VEC_BYTES);
    __builtin_memcpy((char *)to + at, lanes + at, (size_t)(mask.high * bytes - at));
}
#endif

#endif
