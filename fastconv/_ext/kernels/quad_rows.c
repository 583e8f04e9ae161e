/* quad_rows: y[j][o] = start + sum over t < planes, i < r, s < 4 quads of w[t][i][s] x[t][down j + i][stride o + s], exactly.
 *
 * Bytes, those of one operand with a sign. Lane l of a vector is four neighbours of a row, at o + 4 l: vectors that begin at
 * o, o + 1, o + 2 and o + 3 have all windows of 4 lanes, and the outputs of each are four apart until they are stored; of
 * stride 2 those at o and o + 2. A vector of x meets the weights of ROWS rows, which lie one above the other in w; rows of
 * zeros before and after these are what outputs above and below it take. A tile of 4 x 4 vectors, 8 loads (x in halves of two
 * lines) and 4 weights for 16 products.
 *
 * x   plane t, row i begins at t*plane + i*ldx
 * w   [planes][r + 2 down (ROWS - 1)][quads], four bytes each
 */
#include "quads.h"

#define ROWS 4
#define PHASES 4
#define LANES ((int)(VEC_BYTES / 4))

FC_INLINE void tile(const int stride, const int w_signed, const fc_quad_rows_block *b)
{
    typedef int32_t index __attribute__((vector_size(VEC_BYTES)));
    vec_words sums[ROWS][PHASES];
#pragma GCC unroll 4
    for (int j = 0; j < ROWS; j++)
#pragma GCC unroll 4
        for (int f = 0; f < PHASES; f += stride) sums[j][f] = (vec_words){0} + b->start;
    const int64_t quads = b->quads, down = b->down;
    const uint32_t *w = b->w;
    for (int64_t t = 0; t < b->planes; t++, w += (ROWS - 1) * down * quads) {
        const uint8_t *row = b->x + t * b->plane;
        for (int64_t i = 0; i < b->r + (ROWS - 1) * down; i++, row += b->ldx, w += quads)
            for (int64_t q = 0; q < quads; q++) {
                vec_words x[PHASES];
#pragma GCC unroll 4
                for (int f = 0; f < PHASES; f += stride) __builtin_memcpy(&x[f], row + 4 * q + f, VEC_BYTES);
#pragma GCC unroll 4
                for (int j = 0; j < ROWS; j++) {
                    const vec_words weight = (vec_words){0} + w[(ROWS - 1 - j) * down * quads + q];
#pragma GCC unroll 4
                    for (int f = 0; f < PHASES; f += stride) {
                        sums[j][f] = w_signed ? add_products(sums[j][f], x[f], weight)
                                              : add_products(sums[j][f], weight, x[f]);
                        FC_STAY(sums[j][f]);
                    }
                }
            }
    }
    index low, high;
    for (int i = 0; i < LANES; i++) {
        low[i] = i / 2 + (i & 1) * LANES;
        high[i] = i / 2 + LANES / 2 + (i & 1) * LANES;
    }
#pragma GCC unroll 4
    for (int j = 0; j < ROWS; j++) {
        vec_words *const y = (vec_words *)(b->y + j * PHASES / stride * LANES);
        if (stride == 2) {
            y[0] = FC_SHUFFLE(sums[j][0], sums[j][2], low), y[1] = FC_SHUFFLE(sums[j][0], sums[j][2], high);
            continue;
        }
        const vec_words even_0 = FC_SHUFFLE(sums[j][0], sums[j][2], low), odd_0 = FC_SHUFFLE(sums[j][1], sums[j][3], low);
        const vec_words even_1 = FC_SHUFFLE(sums[j][0], sums[j][2], high), odd_1 = FC_SHUFFLE(sums[j][1], sums[j][3], high);
        y[0] = FC_SHUFFLE(even_0, odd_0, low), y[1] = FC_SHUFFLE(even_0, odd_0, high);
        y[2] = FC_SHUFFLE(even_1, odd_1, low), y[3] = FC_SHUFFLE(even_1, odd_1, high);
    }
}

static void x_signed(const fc_quad_rows_block *b) { tile(1, 0, b); }
static void w_signed(const fc_quad_rows_block *b) { tile(1, 1, b); }
static void x_signed_2(const fc_quad_rows_block *b) { tile(2, 0, b); }
static void w_signed_2(const fc_quad_rows_block *b) { tile(2, 1, b); }

const fc_quad_rows FC_NAME(fc_quad_rows_i32) = {
    ROWS, PHASES * LANES, {{x_signed, w_signed}, {x_signed_2, w_signed_2}},
};
