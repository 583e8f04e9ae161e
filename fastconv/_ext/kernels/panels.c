/* panels: register tiles of filters times vectors of pixels, and the panels that they read.
 *
 * tile     y[i][j] = add[i] + sum over t < taps of w[t][i] * x[offset[t] + j] for i < rows, j < vectors;
 *          `more` adds y[i][j] instead of add[i]. w is packed [tap][row], offsets are in bytes. So are the next
 *          `tiles` of `rows` filters each, whose w lie ldw apart; or, where ldx is not 0, as many tiles of the next pixels,
 *          whose x lie so many bytes apart.
 * pixel    the same for one pixel, j = 0, whose sums are vectors of filters.
 * spread   panels of one tap: pixels t*nr ... of x, side by side, to to[t*ld ...]; zeros behind the last.
 * copy     rows of a panel, one a channel: pixel t of channel c is x[c*x_c + t*step].
 * gather   rows of a panel, one a channel: lanes [low, high) of vector v are x[from + lane*step] of each
 *          piece, 0 those of none.
 * pixels   rows of a panel, one a channel: pixel t is x[index[t]] where bit t of `live` is set and 0 <= place[t] + shift <
 *          limit, else 0. Whether it is any; nothing is written otherwise.
 * fours    pixels for four taps, the next `rows` rows each: pixel t of tap i is x[index[t] + i]; but for few pixels all
 *          four are inside. Whether that is so; nothing is written otherwise.
 * line     to[j] = x[j*step] for low <= j < high, and 0 for other j < count.
 * weave    y[i][j*step] = sums[j % phases][i][j / phases] for i < rows, begin <= j < end; `more` adds. Phases of sums
 *          are `ld` apart, their rows `row`; what is read is rounded up to whole vectors.
 *
 * 6 x 2 sums of 16 registers, 8 x 3 of 32, as in tile.c: the rest are vectors of x and a broadcast. y is
 * asked for when a tile begins: 1x1, 64 to 256 @ 56x56 stores three times what it reads. Taps go by in pairs:
 * where another thread has the other half of the core (Zen 3, SMT), a loop of single ones in L1 runs at 77 to 89
 * GFLOP/s, by where its code lies, and pairs at 88 to 91; alone both reach 103.
 *
 * Goto and van de Geijn, Anatomy of High-Performance Matrix Multiplication, ACM TOMS 34(3), 2008; Van Zee
 * and van de Geijn, BLIS, ACM TOMS 41(3), 2015.
 */
#include "apart.h"
#include "vec.h"

#define T float
#define MULTIPLY(sum, weight, column) sum += weight * column
#define PRODUCT(x, weight) ((x) * (weight))
#define BITS int32_t
#define VNNI NULL
#define NAME(x) x##_f32
#include "panels.inc"
#define T double
#define MULTIPLY(sum, weight, column) sum += weight * column
#define PRODUCT(x, weight) ((x) * (weight))
#define BITS int64_t
#define VNNI NULL
#define NAME(x) x##_f64
#include "panels.inc"

/* Two products of 16 bits at once, of neighbouring channels: integers as bits, which wrap. */
typedef uint32_t vec_pairs __attribute__((vector_size(VEC_BYTES), aligned(4), may_alias));
typedef int32_t bits_pairs __attribute__((vector_size(VEC_BYTES), aligned(4), may_alias));
static uint32_t pair_product(uint32_t x, uint32_t w)
{
    return (uint32_t)((int16_t)x * (int16_t)w) + (uint32_t)(((int32_t)x >> 16) * ((int32_t)w >> 16));
}

/* The product and the addition in one instruction. It is written as such: the rest of this instruction set is for processors
 * without it too. */
#if defined(FC_ISA_avx512)
typedef vec_pairs vec_pairs_vnni;
#define T uint32_t
#if defined(FC_LOWERED)
#define MULTIPLY(sum, weight, column) sum += (vec_pairs)vec_products(weight, (vec_words)(column))
#else
#define MULTIPLY(sum, weight, column) \
    __asm__("vpdpwssd %2, %1, %0" : "+v"(sum) : "v"((vec_words){0} + (weight)), "v"((vec_words)(column)))
#endif
#define PRODUCT(x, weight) pair_product(x, weight)
#define NAME(x) x##_pairs_vnni
#include "panels_tile.inc"
static const fc_panel_tiles tiles_vnni = TILES;
#include "panels_done.inc"
#define VNNI &tiles_vnni
#else
#define VNNI NULL
#endif

#define T uint32_t
#define BITS int32_t
#define MULTIPLY(sum, weight, column) sum += vec_products(weight, column)
#define PRODUCT(x, weight) pair_product(x, weight)
#define NAME(x) x##_pairs
#include "panels.inc"
