/* col2im.c's geometry, its weights, and where the products of each phase's taps lie. */
#include <string.h>

#include "col2im.h"
#include "residue.h"

/* Register tiles that read x in place sooner than copied: that of panels.c. Elements of sums that are woven while they are in L1. */
enum { FEW = 4, SOME_SUMS = 4096 };

static void plan_axis(const fc_problem *p, int64_t d, axis *a)
{
    const int64_t e = p->input_dilation[d];
    a->window = INT64_MAX;
    for (int64_t lead = 0; lead < e; lead++) {
        const int64_t low = fc_first_sample(p, d, lead), high = fc_last_sample(p, d, lead);
        if (high - low + 1 >= a->window) continue;
        a->lead = lead, a->low = low, a->window = high - low + 1;
    }
    a->positions = fc_ceil_div(p->out[d] + a->lead, e);
    const int64_t met = a->positions + a->window - 1;
    const int64_t before = fc_max(0, -a->low), after = fc_max(0, met + a->low - p->in[d]);
    a->samples = fc_max(1, met - fc_min(fc_min(before, after), a->window - 1));
}

/* An odd number of cache lines: what lies so far apart is spread over all sets of a cache. */
static int64_t spread_out(const geometry *s, int64_t elements)
{
    return fc_round_up(elements, FC_ALIGN / s->bytes) | FC_ALIGN / s->bytes;
}

void fc_col2im_plan(const fc_problem *p, const fc_config *config, const fc_kernels *kernels, int64_t threads,
                    geometry *s)
{
    s->p = p;
    s->kernels = p->dtype == FC_F64 ? kernels->panels_f64 : kernels->panels_f32;
    s->tiles = &s->kernels->tiles;
    s->bytes = fc_dtype_bytes(p->dtype);
    s->nr = s->kernels->lanes * s->kernels->vectors;
    s->taps = fc_volume(p->ker, p->dims);
    s->phases = fc_volume(p->input_dilation, p->dims);
    s->inner = p->input_dilation[p->dims - 1];
    s->reach = 0, s->row = 1;
    for (int64_t d = p->dims - 1; d >= 0; d--) {
        plan_axis(p, d, &s->axes[d]);
        s->axes[d].pitch = s->row;
        if (d == 0) break;
        s->reach += (s->axes[d].window - 1) * s->row;
        s->row *= s->axes[d].samples;
    }
    const int64_t channels = fc_max(1, p->c), all = fc_max(1, s->axes[0].positions), filters = fc_max(1, p->k);
    s->few = filters * s->taps <= FEW * s->kernels->rows;
    s->channel_block = fc_ceil_div(channels, fc_ceil_div(channels, fc_max(1, config->v[1])));
    /* positions whose samples, unless these are read in place, and products of a filter are of v[0] bytes; what the taps of a
     * block meet beyond it is multiplied for the next as well: a quarter at most */
    const int64_t of_position = fc_max(s->few ? 1 : channels, s->taps) * s->row * s->bytes, beyond = s->axes[0].window - 1;
    const int64_t most = fc_max(config->v[0] / of_position - beyond, 4 * beyond);
    s->blocks = fc_ceil_div(all, fc_max(1, most));
    s->positions = fc_ceil_div(all, s->blocks);
    /* filters are blocked for any number of threads alike, as their weights are packed so */
    const int64_t of_filter = s->taps * fc_max(elements_of(s, s->positions), 2 * channels) * s->bytes;
    s->filter_blocks = fc_ceil_div(filters, fc_max(1, fc_min(filters, config->v[0] / of_filter)));
    s->filters = fc_ceil_div(filters, s->filter_blocks);
    s->filter_blocks = fc_ceil_div(filters, s->filters);
    s->parts = fc_min(s->filter_blocks, fc_ceil_div(4 * threads, fc_max(1, p->n * p->g * s->blocks)));
    if (threads == 1) s->parts = 1;
    const int64_t units = fc_max(1, p->n * p->g * s->parts);
    /* what blocks multiply twice is a quarter at most */
    const int64_t finest = fc_ceil_div(all, fc_max(1, 4 * beyond));
    if (threads > 1) s->blocks = fc_max(s->blocks, fc_min(finest, 4 * threads / units));
    s->positions = fc_ceil_div(all, s->blocks);
    s->blocks = fc_ceil_div(all, s->positions);

    const int64_t spilt = elements_of(s, s->positions) + s->nr;
    s->ld = spread_out(s, spilt);
    s->plane = spread_out(s, spilt);
    s->some = fc_max(1, fc_min(s->positions, SOME_SUMS / (s->inner * s->row)));
    s->sum_ld = spread_out(s, s->some * s->row + s->kernels->lanes);
    s->product_bytes = s->filters * s->taps * s->ld * s->bytes;
    s->band_bytes = channels * s->plane * s->bytes;
    s->panel_bytes = fc_round_up(s->channel_block * s->nr * s->bytes, FC_ALIGN);
    s->sum_bytes = s->inner * s->sum_ld * s->bytes;
    s->slot_bytes = s->product_bytes + s->band_bytes + s->panel_bytes + s->sum_bytes;
    s->zero_bytes = fc_round_up(s->filters * s->taps * s->bytes, FC_ALIGN);
    s->table_bytes = (3 * s->channel_block + s->taps) * 8 + s->phases * (int64_t)sizeof(fc_col2im_phase);
}

void fc_col2im_pack(const geometry *s, const char *w, int64_t index, char *packed)
{
    const fc_problem *const p = s->p;
    const int64_t g = index / s->filter_blocks, block = index % s->filter_blocks, k = g * p->k + block * s->filters;
    const tiling t = tiling_of(s, block);
    packed += k * s->taps * p->c * s->bytes;
    for (int64_t i = 0; i < t.count; i++)
        for (int64_t row = row_of(&t, i), first = row, end = row_of(&t, i + 1); row < end; row++) {
            int64_t at = (k + row / s->taps) * p->w_k;
            for (int64_t d = p->dims - 1, tap = row % s->taps; d >= 0; tap /= p->ker[d], d--)
                at += tap % p->ker[d] * p->w_s[d];
            char *to = packed + (first * p->c + row - first) * s->bytes;
            for (int64_t c = 0; c < p->c; c++, at += p->w_c, to += (end - first) * s->bytes)
                memcpy(to, w + at * s->bytes, (size_t)s->bytes);
        }
}

void fc_col2im_shifts(const geometry *s, fc_col2im_phase *phases, int64_t *shift)
{
    const fc_problem *const p = s->p;
    int64_t first = 0;
    for (int64_t i = 0; i < s->phases; i++) {
        fc_residue taps[FC_DIMS];
        phases[i] = (fc_col2im_phase){first, 1};
        for (int64_t d = p->dims - 1, rest = i; d >= 0; rest /= p->input_dilation[d], d--) {
            taps[d] = fc_residue_of(p, d, rest % p->input_dilation[d] - s->axes[d].lead);
            phases[i].count *= taps[d].count;
        }
        for (int64_t t = 0; t < phases[i].count; t++) {
            int64_t tap = 0, volume = 1, at = 0;
            for (int64_t d = p->dims - 1, rest = t; d >= 0; rest /= taps[d].count, volume *= p->ker[d], d--) {
                const int64_t n = rest % taps[d].count;
                tap += (taps[d].r + n * taps[d].step) * volume;
                at += (taps[d].at + n * taps[d].jump - s->axes[d].low) * s->axes[d].pitch;
            }
            shift[first++] = tap * s->ld + at;
        }
    }
}
