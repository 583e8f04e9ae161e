/* amx_gradient: axes, blocks and units. */
#include <string.h>

#include "amx_gradient.h"

static amx_axis axis_of(const fc_problem *p, int64_t d)
{
    amx_axis a = {.axis = d, .out = 1, .width = 1, .size = 1, .u = 1, .l = 1};
    if (d >= 0) {
        a.out = p->out[d], a.width = p->ker[d], a.size = p->in[d];
        a.u = p->stride[d], a.l = p->dilation[d], a.pad = p->pad[d];
    }
    a.phases = fc_min(a.out, a.l / fc_common_divisor(a.u, a.l));
    a.reach = (a.out - 1) * a.u / a.l;
    a.lead = a.width + a.reach;
    for (int64_t o = 0; o < a.phases; o++) {
        const int64_t first = a.pad - o * a.u % a.l; /* where x begins, in its own samples */
        a.lead = fc_min(a.lead, fc_ceil_div(fc_max(first, 0), a.l));
        a.used = fc_max(a.used, fc_ceil_div(fc_max(first + a.size, 0), a.l));
    }
    a.used = fc_min(a.used, a.width + a.reach);
    a.pitch = fc_max(fc_max(a.width, a.width + a.reach - a.lead), a.used);
    return a;
}

/* Pairs of tiles of filters and of images, shared out among threads where there are too few units. */
static void plan_units(amx_gradient *s, int64_t filters, int64_t channels, int64_t threads)
{
    const fc_problem *const p = s->p;
    const int64_t f = fc_max(1, fc_ceil_div(p->k, PAIR)), c = fc_max(1, fc_ceil_div(p->n, PAIR));
    s->f_units = fc_ceil_div(f, fc_max(1, filters / PAIR));
    s->c_units = fc_ceil_div(c, fc_max(1, channels / PAIR));
    while (p->g * s->outers * s->f_units * s->c_units < threads && (s->f_units < f || s->c_units < c)) {
        if (s->c_units < c && c * s->f_units >= f * s->c_units) s->c_units++;
        else if (s->f_units < f) s->f_units++;
        else s->c_units++;
    }
    s->f_pairs = fc_ceil_div(f, s->f_units), s->c_pairs = fc_ceil_div(c, s->c_units);
    s->f_units = fc_ceil_div(f, s->f_pairs), s->c_units = fc_ceil_div(c, s->c_pairs);
}

void fc_amx_gradient_plan(const fc_problem *p, const fc_config *config, const fc_kernels *kernels, int64_t threads,
                          amx_gradient *s)
{
    memset(s, 0, sizeof *s);
    s->p = p, s->kernels = kernels;
    s->tiles = kernels->amx_bf16, s->turns = kernels->amx_gradient_f32;
    s->columns = axis_of(p, p->dims - 1), s->rows = axis_of(p, p->dims - 2);
    s->outer = fc_max(p->dims - 2, 0);
    s->outers = fc_volume(p->out, s->outer), s->outer_taps = fc_volume(p->ker, s->outer);
    s->pictures = p->c * s->outer_taps;
    s->taps = s->rows.out * s->columns.out;
    s->planes = s->rows.phases * s->columns.phases;
    s->products = config->v[0], s->parts = s->products == 6 ? 3 : 2;
    s->most_steps = config->v[1];
    s->at_once = config->v[2], s->band = config->v[3], s->piece = config->v[4];
    s->picture_blocks = fc_ceil_div(s->pictures, s->at_once);
    s->row_blocks = fc_ceil_div(s->rows.width, s->band);
    s->column_blocks = fc_ceil_div(s->columns.width, s->piece);
    s->pitch = s->column_blocks > 1 ? s->piece + s->columns.reach : s->columns.pitch;
    plan_units(s, config->v[5], config->v[6], threads);

    amx_gradient_block b = {.pictures = s->at_once, .rows = s->band, .columns = s->piece};
    fc_amx_gradient_extent(s, &b);
    s->total_steps = b.steps * s->picture_blocks * s->row_blocks * s->column_blocks;
    s->every = s->rows.reach + s->columns.reach ? 1 : 2;
    s->step_lines = STEP / s->every;
    s->stage = ((b.groups + 1) | 1) * SIDE; /* channels lie in different sets of L1 */
    s->a_pair = b.steps * s->parts * 2 * TILE;
    s->x_part = (s->every == 2 ? b.steps : b.groups) * SIDE * 2 * LINE;
    s->x_pair = s->planes * s->parts * s->x_part;
    s->a_bytes = s->f_pairs * s->a_pair;
    s->x_bytes = s->c_pairs * s->x_pair;
    s->stage_bytes = SIDE * s->stage * (int64_t)sizeof(float);
    s->sums_bytes = (s->f_pairs * s->c_pairs * s->taps + 1) * SUMS * (int64_t)sizeof(float);
    s->seen_bytes = (s->f_pairs + s->c_pairs) * PAIR * (int64_t)sizeof(fc_amx_range);
    s->slot_bytes = s->a_bytes + s->x_bytes + s->stage_bytes + s->sums_bytes + s->seen_bytes;
    s->offset_bytes = fc_round_up(b.steps * (int64_t)sizeof(int64_t), FC_ALIGN);
}
