/* amx_winograd: blocks, and the transformed weights. */
#include <float.h>
#include <math.h>
#include <string.h>

#include "amx_winograd.h"

static void plan_blocks(geometry *s, int64_t bytes, int64_t threads)
{
    const fc_problem *p = s->p;
    const int64_t weights = s->points * s->steps * s->filter_tiles * PARTS * TILE;
    s->at_once = weights <= bytes ? 1 : s->pairs;
    s->block = weights <= bytes ? fc_max(1, bytes / 2 / (s->points * s->u_pair)) * PAIR : LARGE;
    const int64_t groups = fc_max(1, p->g);
    if (threads > 1) s->block = fc_min(s->block, fc_max(PAIR, s->tiles * groups / threads));
    s->blocks = fc_max(1, fc_ceil_div(s->tiles, s->block));
    s->block = fc_round_up(fc_ceil_div(fc_max(1, s->tiles), s->blocks), SIDE);
    s->blocks = fc_ceil_div(s->tiles, s->block);
    s->parts = fc_max(1, fc_min(s->pairs, threads / fc_max(1, groups * s->blocks)));
    s->part = fc_ceil_div(s->pairs, s->parts);
    s->parts = fc_ceil_div(s->pairs, s->part);
}

void fc_amx_winograd_plan(const fc_problem *p, const fc_config *config, const fc_kernels *kernels, int64_t threads, geometry *s)
{
    memset(s, 0, sizeof *s);
    s->p = p, s->kernels = kernels;
    s->m = config->v[3], s->a = s->m + R - 1, s->points = s->a * s->a;
    s->line = 1;
    while (fc_lines[s->line].m != s->m || fc_lines[s->line].r != R) s->line++;
    s->transforms = kernels->amx_winograd_f32;
    for (int64_t d = 0; d < 2; d++) s->phases[d] = fc_max(1, fc_min(p->dilation[d], p->out[d]));
    s->rows = s->phases[0] * fc_ceil_div(fc_ceil_div(p->out[0], p->dilation[0]), s->m);
    s->columns = s->phases[1] * fc_ceil_div(fc_ceil_div(p->out[1], p->dilation[1]), s->m);
    s->tiles = p->n * s->rows * s->columns;
    s->steps = fc_max(1, fc_ceil_div(p->c, CHANNELS));
    s->filter_tiles = fc_max(1, fc_ceil_div(p->k, SIDE));
    s->pairs = fc_ceil_div(s->filter_tiles, 2);
    s->u_pair = s->steps * PARTS * 2 * TILE, s->v_pair = 4 * TILE;
    plan_blocks(s, config->v[0], threads);

    /* points lie an odd number of lines apart, in different sets of L1 */
    const int64_t pixel_pairs = fc_ceil_div(s->block, PAIR);
    s->u_point = pixel_pairs * s->u_pair + LINE;
    s->v_point = fc_min(s->at_once, s->part) * pixel_pairs * s->v_pair + LINE;
    const int64_t most = fc_max(1, fc_min(s->columns, s->block)), reach = p->dilation[1] * (s->a - 1);
    s->width = (s->phases[1] == 1 ? begin_of(s, 1, most - 1) : begin_of(s, 1, fc_max(1, s->columns) - 1)) + reach + 1;
    s->width = fc_round_up(s->width, SIDE) + SIDE;
    s->x_row = s->width * CHANNELS + SIDE;
    s->z_row = s->width * SIDE + SIDE;
    s->u_bytes = s->points * s->u_point;
    s->v_bytes = s->points * s->v_point;
    s->x_bytes = s->a * s->x_row * (int64_t)sizeof(float);
    s->z_bytes = s->m * s->z_row * (int64_t)sizeof(float);
    const int64_t segments = fc_min(s->block, s->block / fc_max(1, s->columns) + 2);
    s->peak_bytes = segments * s->width * (int64_t)sizeof(float);
    s->tile_peak_bytes = fc_round_up(s->block, SIDE) * (int64_t)sizeof(float);
    s->segment_bytes = fc_round_up(segments * (int64_t)sizeof(segment), FC_ALIGN);
    s->slot_bytes = s->u_bytes + s->v_bytes + s->x_bytes + s->z_bytes + s->peak_bytes + s->tile_peak_bytes + s->segment_bytes;

    s->raw_at = s->filter_tiles * (int64_t)sizeof(levels);
    s->tiles_at = fc_round_up(s->raw_at + p->k * p->c * TAPS * (int64_t)sizeof(float), FC_ALIGN);
    s->group_bytes = s->tiles_at + s->points * s->steps * s->filter_tiles * PARTS * TILE;
}

int64_t fc_amx_winograd_packed_bytes(const fc_problem *p, const fc_config *config, const fc_kernels *kernels)
{
    geometry s;
    fc_amx_winograd_plan(p, config, kernels, 1, &s);
    return p->g * s.group_bytes;
}

typedef struct {
    const geometry *s;
    const float *w;
    char *packed;
    double g[FC_LINE_POINTS * R], growth[MOST * FC_LINE_POINTS], transform_error, sum_error;
} packing;

/* Transforms of a channel of 16 filters, and what they add to the sums of their sizes. */
static void transform(const packing *a, const double taps[TAPS][SIDE], float to[POINTS][SIDE], double sizes[POINTS][SIDE])
{
    const int64_t points = a->s->a;
    double half[FC_LINE_POINTS][R][SIDE];
    for (int64_t i = 0; i < points; i++)
        for (int64_t c = 0; c < R; c++)
            for (int64_t k = 0; k < SIDE; k++)
                half[i][c][k] = a->g[i * R] * taps[c][k] + a->g[i * R + 1] * taps[R + c][k] + a->g[i * R + 2] * taps[2 * R + c][k];
    for (int64_t i = 0; i < points; i++)
        for (int64_t j = 0; j < points; j++)
            for (int64_t k = 0; k < SIDE; k++) {
                const double *const g = a->g + j * R;
                const double v = g[0] * half[i][0][k] + g[1] * half[i][1][k] + g[2] * half[i][2][k];
                to[i * points + j][k] = (float)v;
                sizes[i * points + j][k] += fabs(v);
            }
}

/* error_level of winograd_plan.c, of filter k, and what may be flushed. */
static void find_level(const packing *a, const double sizes[POINTS][SIDE], double total, int64_t k, levels *to)
{
    const geometry *const s = a->s;
    double largest = 0, gain = 0, size = 0;
    for (int64_t point = 0; point < s->points; point++) size = fmax(size, sizes[point][k]);
    for (int64_t p = 0; p < s->m; p++)
        for (int64_t q = 0; q < s->m; q++) {
            double sum = 0, sum_of_growth = 0;
            for (int64_t point = 0; point < s->points; point++) {
                const double grown = a->growth[p * s->a + point / s->a] * a->growth[q * s->a + point % s->a];
                sum += grown * sizes[point][k];
                sum_of_growth += grown;
            }
            largest = fmax(largest, sum);
            gain = fmax(gain, sum_of_growth);
        }
    to->scale[k] = 0, to->limit[k] = -1; /* of zeros alone nothing is suspect */
    if (!(total > 0)) return;
    /* an operand has three parts, a tile 34 operations */
    const double lost = ldexp(PARTS * gain, 24 - 126);
    const double level = a->transform_error * largest + a->sum_error * total;
    to->scale[k] = (float)(11 * FLT_EPSILON * level + lost * (double)s->p->c);
    to->limit[k] = (float)(lost * (size + (CHANNELS + 2) * 6 * (double)s->steps));
    if (total < FLT_MIN / FLT_EPSILON) to->limit[k] = INFINITY;
}

/* A tile of filters, 0 where there are no filters or channels. */
static void pack_unit(void *context, int64_t index, int64_t slot)
{
    (void)slot;
    const packing *const a = context;
    const geometry *const s = a->s;
    const fc_problem *const p = s->p;
    const int64_t g = index / s->filter_tiles, tile = index % s->filter_tiles, first = tile * SIDE;
    const int64_t count = fc_min(SIDE, p->k - first), beside = fc_min(2, s->filter_tiles - tile / 2 * 2);
    char *const group = a->packed + g * s->group_bytes;
    float *const raw = (float *)(group + s->raw_at) + first * p->c * TAPS;
    double sizes[POINTS][SIDE] = {{0}}, total[SIDE] = {0};
    for (int64_t c = 0; c < s->steps * CHANNELS; c += c % SIDE == SIDE - 1 ? SIDE + 1 : 1) { /* and the channel 16 on */
        float values[2][POINTS][SIDE];
        for (int64_t half = 0; half < 2; half++) {
            double taps[TAPS][SIDE] = {{0}};
            const int64_t channel = c + half * SIDE;
            for (int64_t k = 0; k < count && channel < p->c; k++)
                for (int64_t t = 0; t < TAPS; t++) {
                    const float v = a->w[(g * p->k + first + k) * p->w_k + channel * p->w_c + t / R * p->w_s[0] + t % R * p->w_s[1]];
                    raw[(k * p->c + channel) * TAPS + t] = v;
                    taps[t][k] = v;
                    total[k] += fabs((double)v);
                }
            transform(a, taps, values[half], sizes);
        }
        for (int64_t point = 0; point < s->points; point++)
            s->kernels->amx_bf16->split_pairs(
                values[0][point], values[1][point], PARTS,
                group + place_of(s, tile / 2, point) + (c / CHANNELS * PARTS * beside + tile % 2) * TILE + c % CHANNELS * LINE,
                beside * TILE);
    }
    levels *const of = (levels *)group + tile;
    for (int64_t k = 0; k < SIDE; k++) find_level(a, sizes, total[k], k, of);
}

void fc_amx_winograd_pack(const fc_problem *p, const fc_config *config, const fc_kernels *kernels, const void *w, void *packed,
                          int64_t threads)
{
    geometry s;
    fc_amx_winograd_plan(p, config, kernels, 1, &s);
    packing a = {.s = &s, .w = w, .packed = packed, .transform_error = 1e-3 * (double)config->v[1],
                 .sum_error = 1e-3 * (double)config->v[2]};
    fc_winograd_matrices(s.line, a.g, a.growth);
    fc_parallel(p->g * s.filter_tiles, fc_pack_threads(p->g * s.group_bytes, threads), pack_unit, &a);
}
