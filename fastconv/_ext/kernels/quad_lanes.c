/* quad_lanes: y[j][o][c] = start[c] + sum over i < r, s < 4 quads of w[i][s][c] x[u j + i][v o + s][c], of `lanes` channels, exactly.
 *
 * Depthwise layers of bytes whose planes are small. Lanes are channels, so that no row is too short for a vector: planes
 * are turned, so that the bytes of a sample lie side by side, and so are results. Four samples of a row are a vector, shuffled
 * to four bytes of each channel, which meets the weights of all rows of outputs that it lies under (quads.h).
 *
 * x   sample (row, column) at row*ldx + column*lanes
 * w   [r][quads], each `lanes` times four bytes
 * y   [row][column][lanes], rows in whole tiles of ROWS
 */
#include "quads.h"
#include "turn.h"

typedef enum { LANES = VEC_BYTES / 4, ROWS = 4 } tile_sizes;

typedef uint8_t vec_bytes __attribute__((vector_size(VEC_BYTES), aligned(1), may_alias));

/* Four bytes of each channel, of four samples side by side. */
FC_INLINE vec_words quad_of(const uint8_t *x)
{
#if VEC_BYTES == 64
    const vec_words channels = {0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15};
#define PART(i) i, i + 4, i + 8, i + 12, i + 1, i + 5, i + 9, i + 13, i + 2, i + 6, i + 10, i + 14, i + 3, i + 7, i + 11, i + 15
    const vec_bytes turned = {PART(0), PART(16), PART(32), PART(48)};
    vec_words v;
    memcpy(&v, x, VEC_BYTES);
    const vec_bytes some = (vec_bytes)FC_SHUFFLE(v, v, channels);
    return (vec_words)FC_SHUFFLE(some, some, turned);
#undef PART
#else
    uint8_t quads[VEC_BYTES] __attribute__((aligned(VEC_BYTES)));
    for (int c = 0; c < LANES; c++)
        for (int s = 0; s < 4; s++) quads[4 * c + s] = x[s * LANES + c];
    return *(const vec_words *)quads;
#endif
}

FC_INLINE void rows(const int64_t r, const int64_t quads, const int64_t u, const int w_signed, const fc_quad_lanes_block *b)
{
    const vec_words *const w = (const vec_words *)b->w;
    for (int64_t o = 0; o < b->columns; o++) {
        vec_words sums[ROWS];
#pragma GCC unroll 4
        for (int j = 0; j < ROWS; j++) memcpy(&sums[j], b->start, VEC_BYTES);
        const uint8_t *x = b->x + o * b->v * LANES;
#pragma GCC unroll 16
        for (int64_t i = 0; i < (ROWS - 1) * u + r; i++, x += b->ldx)
#pragma GCC unroll 2
            for (int64_t q = 0; q < quads; q++) {
                const vec_words in = quad_of(x + q * VEC_BYTES);
#pragma GCC unroll 4
                for (int j = 0; j < ROWS; j++)
                    if (i >= j * u && i < j * u + r) {
                        vec_words weight;
                        memcpy(&weight, w + (i - j * u) * quads + q, VEC_BYTES);
                        sums[j] = w_signed ? add_products(sums[j], in, weight) : add_products(sums[j], weight, in);
                    }
            }
#pragma GCC unroll 4
        for (int j = 0; j < ROWS; j++) memcpy(b->y + (j * b->columns + o) * LANES, &sums[j], VEC_BYTES);
    }
}

FC_INLINE void any_rows(const int w_signed, const fc_quad_lanes_block *b)
{
    if (b->r == 3 && b->quads == 1 && b->u == 1) rows(3, 1, 1, w_signed, b);
    else if (b->r == 3 && b->quads == 1 && b->u == 2) rows(3, 1, 2, w_signed, b);
    else if (b->r == 5 && b->quads == 2 && b->u == 1) rows(5, 2, 1, w_signed, b);
    else if (b->r == 5 && b->quads == 2 && b->u == 2) rows(5, 2, 2, w_signed, b);
    else if (b->r == 7 && b->quads == 2 && b->u == 1) rows(7, 2, 1, w_signed, b);
    else if (b->r == 7 && b->quads == 2 && b->u == 2) rows(7, 2, 2, w_signed, b);
    else rows(b->r, b->quads, b->u, w_signed, b);
}

static void x_signed(const fc_quad_lanes_block *b) { any_rows(0, b); }
static void w_signed(const fc_quad_lanes_block *b) { any_rows(1, b); }

#if VEC_BYTES == 64
/* Byte i of vector j becomes byte j of vector i, in each quarter: each of four rounds turns the eight bits of (vector, byte)
 * by one. */
FC_INLINE void turn_quarters(vec_bytes r[16])
{
#define PART(i) i, i + 64, i + 1, i + 65, i + 2, i + 66, i + 3, i + 67, i + 4, i + 68, i + 5, i + 69, i + 6, i + 70, i + 7, i + 71
    const vec_bytes low = {PART(0), PART(16), PART(32), PART(48)}, high = {PART(8), PART(24), PART(40), PART(56)};
#undef PART
#pragma GCC unroll 4
    for (int round = 0; round < 4; round++) {
        vec_bytes t[16];
#pragma GCC unroll 8
        for (int i = 0; i < 8; i++) {
            t[2 * i] = FC_SHUFFLE(r[i], r[i + 8], low);
            t[2 * i + 1] = FC_SHUFFLE(r[i], r[i + 8], high);
        }
#pragma GCC unroll 16
        for (int i = 0; i < 16; i++) r[i] = t[i];
    }
}

FC_INLINE vec_bytes take(int64_t count, const uint8_t *x)
{
#if defined(FC_ISA_avx512) && !defined(FC_LOWERED)
    return (vec_bytes)_mm512_maskz_loadu_epi8(UINT64_MAX >> (VEC_BYTES - count), x);
#else
    vec_bytes v = {0};
    memcpy(&v, x, (size_t)count);
    return v;
#endif
}

FC_INLINE void put(int64_t count, vec_bytes v, uint8_t *y)
{
#if defined(FC_ISA_avx512) && !defined(FC_LOWERED)
    _mm512_mask_storeu_epi8(y, UINT64_MAX >> (VEC_BYTES - count), (__m512i)v);
#else
    memcpy(y, &v, (size_t)count);
#endif
}
#endif

static void turn_in(int64_t channels, int64_t count, const uint8_t *x, int64_t x_c, uint8_t flip, const int32_t *place,
                    uint8_t *to)
{
#if VEC_BYTES == 64
    for (int64_t at = 0; at < count; at += VEC_BYTES) {
        const int64_t some = fc_min(VEC_BYTES, count - at);
        vec_bytes r[LANES];
        for (int c = 0; c < LANES; c++) r[c] = (c < channels ? take(some, x + c * x_c + at) : (vec_bytes){0}) ^ flip;
        turn_quarters(r);
        for (int64_t i = 0; i < some; i++) memcpy(to + place[at + i], (const char *)&r[i % LANES] + i / LANES * LANES, LANES);
    }
#else
    for (int64_t i = 0; i < count; i++)
        for (int c = 0; c < LANES; c++) to[place[i] + c] = (c < channels ? x[c * x_c + i] : 0) ^ flip;
#endif
}

#if VEC_BYTES == 64
static void turn_bytes(int64_t channels, int64_t count, const uint8_t *x, uint8_t *y, int64_t y_k)
{
    for (int64_t at = 0; at < count; at += VEC_BYTES) {
        vec_bytes r[LANES];
        for (int i = 0; i < VEC_BYTES; i++) memcpy((char *)&r[i % LANES] + i / LANES * LANES, x + (at + i) * LANES, LANES);
        turn_quarters(r);
        for (int c = 0; c < channels; c++) put(fc_min(VEC_BYTES, count - at), r[c], y + c * y_k + at);
    }
}

static void turn_words(int64_t channels, int64_t count, const uint32_t *x, uint32_t *y, int64_t y_k)
{
    for (int64_t at = 0; at < count; at += SIDE) {
        line r[SIDE];
        turn(x + at * LANES, r);
        const fc_mask mask = fc_lanes(4, 0, count - at);
        for (int c = 0; c < channels; c++) fc_store_part(4, mask, y + c * y_k + at, (fc_raw)r[c]);
    }
}
#else
static void turn_bytes(int64_t channels, int64_t count, const uint8_t *x, uint8_t *y, int64_t y_k)
{
    for (int64_t c = 0; c < channels; c++)
        for (int64_t i = 0; i < count; i++) y[c * y_k + i] = x[i * LANES + c];
}

static void turn_words(int64_t channels, int64_t count, const uint32_t *x, uint32_t *y, int64_t y_k)
{
    for (int64_t c = 0; c < channels; c++)
        for (int64_t i = 0; i < count; i++) y[c * y_k + i] = x[i * LANES + c];
}
#endif

static void turn_out(int64_t bytes, int64_t channels, int64_t count, const void *x, void *y, int64_t y_k)
{
    const uint16_t *const from = x;
    uint16_t *const to = y;
    if (bytes == 1) turn_bytes(channels, count, x, y, y_k);
    else if (bytes == 4) turn_words(channels, count, x, y, y_k);
    else
        for (int64_t c = 0; c < channels; c++)
            for (int64_t i = 0; i < count; i++) to[c * y_k + i] = from[i * LANES + c];
}

const fc_quad_lanes FC_NAME(fc_quad_lanes_i32) = {LANES, ROWS, turn_in, {x_signed, w_signed}, turn_out};
