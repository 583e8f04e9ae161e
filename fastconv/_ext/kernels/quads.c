/* quads: the register tiles of panels.c whose elements are four bytes, of neighbouring channels.
 *
 * A product is x0*w0 + x1*w1 + x2*w2 + x3*w3, of bytes with a sign by bytes without one, in 32 bits: nothing saturates, sums
 * wrap. AVX-512 VNNI has one instruction for that and the addition, which does 64 products where the two of pairs do 32; it
 * is written as such, since the rest of this instruction set is for processors without it too: solvers/quads.py asks.
 * Where a set has no such instruction, plain C shows the same numbers, slowly.
 *
 * Intel, Software Developer's Manual, volume 2, VPDPBUSD.
 */
#include "quads.h"

typedef uint32_t vec_quads __attribute__((vector_size(VEC_BYTES), aligned(4), may_alias));
typedef uint32_t vec_quads_u __attribute__((vector_size(VEC_BYTES), aligned(4), may_alias));

FC_INLINE uint32_t product(uint32_t plain, uint32_t sign)
{
    uint32_t sum = 0;
    for (int at = 0; at < 32; at += 8) sum += (plain >> at & 255) * (uint32_t)(int8_t)(sign >> at);
    return sum;
}

#define ALL(x) ((vec_words){0} + (x))
#define T uint32_t
#define MULTIPLY(sum, weight, column) sum = add_products(sum, column, ALL(weight))
#define MULTIPLY_PIXEL(sum, x, weights) sum = add_products(sum, ALL(x), weights)
#define PRODUCT(x, weight) product(x, weight)
#define NAME(x) x##_quads
#include "panels_tile.inc"
const fc_panel_tiles FC_NAME(fc_quads_i8) = TILES;
#include "panels_done.inc"

#define T uint32_t
#define MULTIPLY(sum, weight, column) sum = add_products(sum, ALL(weight), column)
#define MULTIPLY_PIXEL(sum, x, weights) sum = add_products(sum, weights, ALL(x))
#define PRODUCT(x, weight) product(weight, x)
#define NAME(x) x##_quads_u
#include "panels_tile.inc"
const fc_panel_tiles FC_NAME(fc_quads_u8) = TILES;
#include "panels_done.inc"
