/* amx_gradient: samples in a row become rows and lines of tiles, and sums of tiles are added; ../amx_gradient.h says how. */
#include <string.h>

#include "../amx_gradient.h"
#include "amx.h"

typedef struct {
    uint32_t least[SIDE], most[SIDE];
} ranges;

static const ranges none = {{UINT32_MAX, UINT32_MAX, UINT32_MAX, UINT32_MAX, UINT32_MAX, UINT32_MAX, UINT32_MAX, UINT32_MAX,
                             UINT32_MAX, UINT32_MAX, UINT32_MAX, UINT32_MAX, UINT32_MAX, UINT32_MAX, UINT32_MAX, UINT32_MAX},
                            {0}};

static void take_in(const ranges *r, fc_amx_range *seen)
{
    for (int i = 0; i < SIDE; i++) {
        seen->least = seen->least < r->least[i] ? seen->least : r->least[i];
        seen->most = seen->most > r->most[i] ? seen->most : r->most[i];
    }
}

/* Parts of 16 samples, each in the upper half of a word, rounded as in amx.c. */
FC_INLINE void part_words(const float *x, int64_t parts, line *of, ranges *seen)
{
    for (int i = 0; i < SIDE; i++) {
        float rest = x[i];
        uint32_t bits;
        memcpy(&bits, &rest, sizeof bits);
        const uint32_t size = bits & INT32_MAX;
        seen->most[i] = seen->most[i] > size ? seen->most[i] : size;
        seen->least[i] = seen->least[i] < size - 1 ? seen->least[i] : size - 1;
        for (int64_t part = 0; part < parts; part++) {
            float rounded;
            memcpy(&bits, &rest, sizeof bits);
            bits = (bits + 0x8000) & 0xffff0000;
            memcpy(&rounded, &bits, sizeof rounded);
            of[part][i] = bits;
            rest -= rounded;
        }
    }
}

FC_INLINE void rows_of(int64_t steps, const float *x, int64_t parts, char *y, int64_t y_step, int64_t y_part, fc_amx_range *seen)
{
    ranges of_lanes = none;
    for (int64_t s = 0; s < steps; s++) {
        line low[FC_AMX_PARTS] ALIGNED, high[FC_AMX_PARTS] ALIGNED;
        part_words(x + 2 * SIDE * s, parts, low, &of_lanes);
        part_words(x + 2 * SIDE * s + SIDE, parts, high, &of_lanes);
        for (int64_t part = 0; part < parts; part++) *(line *)(y + s * y_step + part * y_part) = low[part] >> 16 | high[part];
    }
    take_in(&of_lanes, seen);
}

static void rows(int64_t steps, const float *x, int64_t parts, char *y, int64_t y_step, int64_t y_part, fc_amx_range *seen)
{
    if (parts == 3) rows_of(steps, x, 3, y, y_step, y_part, seen);
    else rows_of(steps, x, 2, y, y_step, y_part, seen);
}

/* Samples are turned before they are split: once, and lanes are channels. */
FC_INLINE void lines_of(int64_t groups, const float *x, int64_t x_c, int64_t every, int64_t parts, char *y, int64_t y_line,
                        int64_t y_part, fc_amx_range *seen)
{
    line words[2][SIDE][FC_AMX_PARTS] ALIGNED;
    ranges of_channels = none;
    for (int64_t g = 0; g <= groups; g++) {
        float rows[SIDE][SIDE] ALIGNED, turned[SIDE][SIDE] ALIGNED;
        line r[SIDE];
        for (int c = 0; c < SIDE; c++) memcpy(rows[c], x + c * x_c + g * SIDE, ROW);
        turn(rows, r);
        memcpy(turned, r, sizeof r);
        line(*const before)[FC_AMX_PARTS] = words[(g + 1) % 2], (*const now)[FC_AMX_PARTS] = words[g % 2];
        for (int i = 0; i < SIDE; i++) part_words(turned[i], parts, now[i], &of_channels);
        if (g == 0 || (g - 1) % every) continue;
        char *const to = y + (g - 1) / every * SIDE * y_line;
        for (int64_t part = 0; part < parts; part++)
            for (int i = 0; i < SIDE; i++) *(line *)(to + i * y_line + part * y_part) = before[i][part] >> 16 | now[i][part];
    }
    for (int c = 0; c < SIDE; c++) {
        seen[c].least = seen[c].least < of_channels.least[c] ? seen[c].least : of_channels.least[c];
        seen[c].most = seen[c].most > of_channels.most[c] ? seen[c].most : of_channels.most[c];
    }
}

static void lines(int64_t groups, const float *x, int64_t x_c, int64_t every, int64_t parts, char *y, int64_t y_line,
                  int64_t y_part, fc_amx_range *seen)
{
    if (parts == 3) lines_of(groups, x, x_c, every, 3, y, y_line, y_part, seen);
    else lines_of(groups, x, x_c, every, 2, y, y_line, y_part, seen);
}

static void add(const float *sums, float *to)
{
    for (int i = 0; i < 4 * SIDE * SIDE; i++) to[i] += sums[i];
}

typedef float vec_row __attribute__((vector_size(ROW), aligned(4), may_alias));

static int outputs(const float *sums, int64_t taps, int64_t count, float bias, float *y, int64_t y_n)
{
    line bad = {0};
    for (int64_t first = 0; first < taps; first += SIDE) {
        const int64_t some = fc_min(SIDE, taps - first);
        float rows[SIDE][SIDE] ALIGNED = {{0}};
        line r[SIDE];
        for (int64_t o = 0; o < some; o++) {
            const line sum = *(const line *)(sums + (first + o) * 4 * SIDE * SIDE);
            bad |= (line)((sum & 0x7f800000) == 0x7f800000);
            *(line *)rows[o] = sum;
        }
        turn(rows, r);
        for (int n = 0; n < SIDE; n++) r[n] = (line)((vec_row)r[n] + bias);
        for (int64_t v = 0; v < VECTORS; v++) {
            const fc_mask mask = fc_lanes(4, 0, some - v * LANES);
            for (int64_t n = 0; n < count; n++) {
                float *const to = y + n * y_n + first + v * LANES;
                __typeof__(fc_load_part(4, mask, to)) part;
                memcpy(&part, (const char *)(r + n) + v * VEC_BYTES, VEC_BYTES);
                fc_store_part(4, mask, to, part);
            }
        }
    }
    uint32_t any = 0;
    for (int64_t n = 0; n < count; n++) any |= bad[n];
    return !any;
}

const struct fc_amx_gradient FC_NAME(fc_amx_gradient_f32) = {rows, lines, add, outputs};
