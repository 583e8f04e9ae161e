/* amx_winograd: the transforms of winograd.c with channels as lanes, from samples to parts of bfloat16 that tiles of AMX
 * multiply (amx.c), and with filters as lanes, from their sums to outputs. */
#include <float.h>

#include "amx.h"

#define T float
#define NAME(x) x##_wide
typedef float vec_wide __attribute__((vector_size(ROW), aligned(4), may_alias));
#include "winograd_points.inc"
#undef T
#undef NAME

typedef enum { MOST = 4 } amx_outputs; /* of a line */

static void lift(int64_t count, const float *x, int64_t step, int64_t channels, int64_t x_c, float *to, float *peak)
{
    for (int64_t at = 0; at < count; at += SIDE) {
        const int64_t some = fc_min(SIDE, count - at);
        int32_t *const seen = (int32_t *)(peak + at);
        int32_t most[SIDE];
        memcpy(most, seen, sizeof most);
        for (int64_t first = 0; first < FC_AMX_CHANNELS; first += SIDE) {
            line rows[SIDE] ALIGNED, turned[SIDE] ALIGNED;
            for (int64_t c = first; c < first + SIDE; c++) {
                const float *const from = x + c * x_c + at * step;
                __builtin_prefetch(from + AHEAD * step);
                if (c < channels) take_floats(some, from, step, (float *)(rows + c - first));
                else rows[c - first] = (line){0};
                for (int i = 0; i < SIDE; i++) {
                    const int32_t size = (int32_t)rows[c - first][i] & INT32_MAX;
                    most[i] = most[i] > size ? most[i] : size;
                }
            }
            turn(rows, turned);
            for (int64_t i = 0; i < some; i++) memcpy(to + (at + i) * FC_AMX_CHANNELS + first, turned + i, ROW);
        }
        memcpy(seen, most, sizeof most);
    }
}

/* The parts of two vectors of channels, in pairs: each is the rest rounded to nearest, as amx.c has them. */
FC_INLINE void split(vec_wide a, vec_wide b, char *to, int64_t part)
{
    for (int i = 0; i < FC_AMX_PARTS; i++) {
        const line near_a = ((line)a + 0x8000) & 0xffff0000, near_b = ((line)b + 0x8000) & 0xffff0000;
        *(line *)(to + i * part) = near_a >> 16 | near_b;
        a -= (vec_wide)near_a, b -= (vec_wide)near_b;
    }
}

FC_INLINE void input(const int line_of, const float *x, int64_t x_row, int64_t x_column, char *u, int64_t u_point, int64_t u_part)
{
    const int a = (int)(fc_lines[line_of].m + fc_lines[line_of].r - 1);
    vec_wide half[2][FC_LINE_POINTS * FC_LINE_POINTS] ALIGNED;
    for (int h = 0; h < 2; h++)
        for (int j = 0; j < a; j++) {
            vec_wide d[FC_LINE_POINTS], to[FC_LINE_POINTS];
#pragma GCC unroll 6
            for (int i = 0; i < a; i++) d[i] = *(const vec_wide *)(x + i * x_row + j * x_column + h * SIDE);
            input_line_wide(line_of, d, to);
#pragma GCC unroll 6
            for (int i = 0; i < a; i++) half[h][i * a + j] = to[i];
        }
    for (int i = 0; i < a; i++) {
        vec_wide even[FC_LINE_POINTS], odd[FC_LINE_POINTS];
        input_line_wide(line_of, half[0] + i * a, even);
        input_line_wide(line_of, half[1] + i * a, odd);
#pragma GCC unroll 6
        for (int j = 0; j < a; j++) {
            char *const to = u + (i * a + j) * u_point;
            split(even[j], odd[j], to, u_part);
            /* the next tile's: lines so far apart come from L3 one by one, 256 @ 56x56 3.1 instead of 1.2 ms */
            for (int64_t part = 0; part < FC_AMX_PARTS; part++) __builtin_prefetch(to + part * u_part + ROW, 1, 2);
        }
    }
}

FC_INLINE int output(const int line_of, const float *v, int64_t v_point, const float *scale, const float *limit, float peak,
                     float *z, int64_t z_row, int64_t z_column, uint16_t *suspect)
{
    const int m = (int)fc_lines[line_of].m, a = (int)(m + fc_lines[line_of].r - 1);
    vec_wide half[MOST * FC_LINE_POINTS] ALIGNED;
    for (int j = 0; j < a; j++) {
        vec_wide d[FC_LINE_POINTS], to[MOST];
#pragma GCC unroll 6
        for (int i = 0; i < a; i++) d[i] = *(const vec_wide *)(v + (i * a + j) * v_point);
        output_line_wide(line_of, d, to);
#pragma GCC unroll 4
        for (int i = 0; i < m; i++) half[i * a + j] = to[i];
    }
    const vec_wide floor = *(const vec_wide *)scale * peak + *(const vec_wide *)limit;
    uint32_t any = 0;
    for (int i = 0; i < m; i++) {
        vec_wide to[MOST];
        output_line_wide(line_of, half + i * a, to);
#pragma GCC unroll 4
        for (int j = 0; j < m; j++) {
            uint32_t of = 0;
            for (int64_t l = 0; l < VECTORS; l++) {
                vec_f32 part, low;
                memcpy(&part, (const char *)(to + j) + l * VEC_BYTES, VEC_BYTES);
                memcpy(&low, (const char *)&floor + l * VEC_BYTES, VEC_BYTES);
                of |= vec_outside_f32(part, low, FLT_MAX) << l * LANES;
            }
            suspect[i * m + j] = (uint16_t)of;
            any |= of;
            *(vec_wide *)(z + i * z_row + j * z_column) = to[j];
        }
    }
    return any != 0;
}

/* Of lines 6 and 2: F(3, 3) and F(4, 3). */
static void input_3(const float *x, int64_t x_row, int64_t x_column, char *u, int64_t u_point, int64_t u_part)
{
    input(6, x, x_row, x_column, u, u_point, u_part);
}

static void input_4(const float *x, int64_t x_row, int64_t x_column, char *u, int64_t u_point, int64_t u_part)
{
    input(2, x, x_row, x_column, u, u_point, u_part);
}

static int output_3(const float *v, int64_t v_point, const float *scale, const float *limit, float peak, float *z, int64_t z_row,
                    int64_t z_column, uint16_t *suspect)
{
    return output(6, v, v_point, scale, limit, peak, z, z_row, z_column, suspect);
}

static int output_4(const float *v, int64_t v_point, const float *scale, const float *limit, float peak, float *z, int64_t z_row,
                    int64_t z_column, uint16_t *suspect)
{
    return output(2, v, v_point, scale, limit, peak, z, z_row, z_column, suspect);
}

const fc_amx_winograd FC_NAME(fc_amx_winograd_f32) = {lift, {input_3, input_4}, {output_3, output_4}};
