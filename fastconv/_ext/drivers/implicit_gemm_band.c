/* Bands of implicit_gemm.c: copies of the windows of blocks of outputs.
 *
 *     band[tap of the axes before the last two][channel][row][column]
 *
 * Along an axis whose kernel has one tap, only the samples that outputs read are copied.
 */
#include <string.h>

#include "implicit_gemm.h"

/* Samples of an axis under the windows of `outputs` outputs, and from one output to the next. */
static int64_t samples(const fc_problem *p, int64_t d, int64_t outputs)
{
    if (d < 0 || p->ker[d] == 1) return outputs;
    return (outputs - 1) * p->stride[d] + (p->ker[d] - 1) * p->dilation[d] + 1;
}

static int64_t apart(const fc_problem *p, int64_t d) { return d < 0 || p->ker[d] == 1 ? 1 : p->stride[d]; }

/* A plane of a block, an odd number of cache lines: planes that follow each other start in all sets. */
static int64_t plane_of(const geometry *s, int64_t rows, int64_t columns)
{
    const int64_t down = s->p->dims - 2, line = FC_ALIGN / s->bytes;
    const int64_t size = samples(s->p, down, rows) * samples(s->p, down + 1, columns);
    return fc_round_up(size, line) + (fc_ceil_div(size, line) % 2 ? 0 : line);
}

void fc_pixels_plan_bands(geometry *s, int64_t target, int64_t units)
{
    const fc_problem *p = s->p;
    const int64_t down = p->dims - 2, most = s->kernels->pixels;
    const int64_t all_rows = down < 0 ? 1 : p->out[down], all_columns = p->out[down + 1];
    const int64_t planes = s->channel_block * fc_volume(p->ker, down);
    const int64_t kept = s->block_taps < s->taps ? s->padded : 2 * s->kernels->lanes;
    s->slabs = p->n * fc_volume(p->out, down);
    int64_t rows = all_rows, columns = all_columns;
    while (rows > 1 || columns > most) {
        if ((planes * plane_of(s, rows, columns) + rows * columns * kept) * s->bytes <= target) break;
        if (rows > 1)
            rows = fc_ceil_div(rows, 2);
        else
            columns = fc_round_up(fc_ceil_div(columns, 2), most);
    }
    /* only rows depend on threads: how a row is cut into tiles decides about bits of the sums */
    const int64_t column_blocks = fc_ceil_div(all_columns, columns);
    while (rows > 1 && s->slabs * fc_ceil_div(all_rows, rows) * column_blocks < units)
        rows = fc_ceil_div(rows, 2);
    s->row_blocks = fc_ceil_div(all_rows, rows);
    s->column_blocks = column_blocks;
    s->band_rows = fc_ceil_div(all_rows, s->row_blocks);
    s->band_columns = columns;
    s->row_tiles = fc_ceil_div(columns, most);
    s->tile_block = s->band_rows * s->row_tiles;
    s->blocks = s->slabs * s->row_blocks * s->column_blocks;
    s->band_step = apart(p, down + 1);
    s->band_row = samples(p, down + 1, columns);
    s->band_down = apart(p, down) * s->band_row;
    s->band_plane = plane_of(s, s->band_rows, columns);
}

void fc_pixels_band_block(const geometry *s, int64_t index, unit *u)
{
    const fc_problem *p = s->p;
    const int64_t down = p->dims - 2, last = down + 1;
    u->o[last] = index % s->column_blocks * s->band_columns;
    u->columns = fc_min(s->band_columns, p->out[last] - u->o[last]);
    index /= s->column_blocks;
    u->rows = 1;
    if (down >= 0) {
        u->o[down] = index % s->row_blocks * s->band_rows;
        u->rows = fc_min(s->band_rows, p->out[down] - u->o[down]);
    }
    index /= s->row_blocks;
    for (int64_t d = down - 1; d >= 0; d--) {
        u->o[d] = index % p->out[d];
        index /= p->out[d];
    }
    u->n = index;
    u->first = 0;
    u->end = u->rows * fc_ceil_div(u->columns, s->kernels->pixels);
}

/* Copies a row of a band, all samples of it padding when x is NULL. */
static void copy_row(const job *j, const unit *u, const char *x, char *to)
{
    const geometry *s = j->s;
    const fc_problem *p = s->p;
    const int64_t last = p->dims - 1, count = samples(p, last, u->columns);
    const int64_t step = p->ker[last] == 1 ? p->stride[last] : 1;
    const int64_t origin = u->o[last] * p->stride[last] - p->pad[last];
    const int64_t low = x ? fc_min(count, origin < 0 ? fc_ceil_div(-origin, step) : 0) : count;
    const int64_t end = fc_max(0, p->in[last] - origin);
    const int64_t high = fc_max(low, fc_min(count, fc_ceil_div(end, step)));
    for (int64_t i = 0; i < count; i++) {
        if (i == low) i = high;
        if (i == count) break;
        const int64_t at = x ? fc_source(p, last, origin + i * step + p->pad[last]) : -1;
        memcpy(to + i * s->bytes, at < 0 ? j->value : x + at * p->x_s[last] * s->bytes, (size_t)s->bytes);
    }
    if (low < high)
        s->kernels->copy(x + (origin + low * step) * p->x_s[last] * s->bytes, 0, step * p->x_s[last], 1,
                         high - low, to + low * s->bytes, 0);
}

/* Where, from a channel, the samples of a tap of the axes before the last two are. */
static int64_t slab_at(const geometry *s, const unit *u, int64_t tap, int *outside)
{
    const fc_problem *p = s->p;
    int64_t at = u->n * p->x_n;
    *outside = 0;
    for (int64_t d = p->dims - 3; d >= 0; d--) {
        const int64_t r = tap % p->ker[d] * p->dilation[d];
        const int64_t place = fc_source(p, d, u->o[d] * p->stride[d] + r);
        tap /= p->ker[d];
        *outside |= place < 0;
        at += place * p->x_s[d];
    }
    return at;
}

static void copy_band(const job *j, const unit *u, const tap_block *b)
{
    const geometry *s = j->s;
    const fc_problem *p = s->p;
    const int64_t down = p->dims - 2, rows = samples(p, down, u->rows);
    const int64_t step = down < 0 || p->ker[down] > 1 ? 1 : p->stride[down];
    for (int64_t tap = 0; tap < fc_volume(p->ker, down); tap++) {
        int beyond;
        const int64_t slab = slab_at(s, u, tap, &beyond);
        for (int64_t c = 0; c < b->channels; c++) {
            const char *const x = j->x + ((b->g * p->c + b->channel + c) * p->x_c + slab) * s->bytes;
            char *const to = u->panels + (tap * s->channel_block + c) * s->band_plane * s->bytes;
            for (int64_t i = 0; i < rows; i++) {
                const int64_t at = down < 0 ? 0 : fc_source(p, down, u->o[down] * p->stride[down] + i * step);
                const int outside = beyond || at < 0;
                copy_row(j, u, outside ? NULL : x + (down < 0 ? 0 : at * p->x_s[down] * s->bytes),
                         to + i * s->band_row * s->bytes);
            }
        }
    }
}

/* Whether outputs [o, o + count) along an axis read nothing but zeros under tap r. */
static int is_padding(const fc_problem *p, int64_t d, int64_t o, int64_t count, int64_t r)
{
    const int64_t at = o * p->stride[d] + r * p->dilation[d] - p->pad[d];
    return at >= p->in[d] || at + (count - 1) * p->stride[d] < 0;
}

/* The taps of a tile that are not all padding. */
static int64_t find_spans(const geometry *s, const tap_block *b, const int64_t *o, int64_t count, span *spans)
{
    const fc_problem *p = s->p;
    const int64_t last = p->dims - 1;
    int64_t found = 0, r[FC_DIMS] = {0};
    for (int64_t tap = 0; tap < b->taps; tap++) {
        int outside = 0;
        for (int64_t d = 0; d <= last; d++) outside |= is_padding(p, d, o[d], d == last ? count : 1, r[d]);
        if (!outside) {
            if (!found || (tap * b->channels) - spans[found - 1].first - spans[found - 1].count > BRIDGE)
                spans[found++] = (span){tap * b->channels, 0};
            spans[found - 1].count = (tap + 1) * b->channels - spans[found - 1].first;
        }
        for (int64_t d = last; d >= 0 && ++r[d] == p->ker[d]; d--) r[d] = 0;
    }
    return found;
}

void fc_pixels_prepare_band(const job *j, const unit *u, const tap_block *b)
{
    const geometry *s = j->s;
    const fc_problem *p = s->p;
    const int64_t last = p->dims - 1, down = last - 1, tiles = fc_ceil_div(u->columns, s->kernels->pixels);
    copy_band(j, u, b);
    for (int64_t tap = 0; tap < b->taps; tap++) {
        const int64_t across = tap % p->ker[last] * p->dilation[last], rest = tap / p->ker[last];
        const int64_t along = down < 0 ? 0 : rest % p->ker[down] * p->dilation[down];
        const int64_t outer = down < 0 ? 0 : rest / p->ker[down];
        for (int64_t c = 0; c < b->channels; c++)
            u->in_x[tap * b->channels + c] =
                ((outer * s->channel_block + c) * s->band_plane + along * s->band_row + across) * s->bytes;
    }
    int64_t o[FC_DIMS];
    memcpy(o, u->o, sizeof o);
    for (int64_t i = 0; i < u->end; i++) {
        const int64_t row = i / tiles, from = u->columns * (i % tiles) / tiles;
        const tile t = {row * u->columns + from, u->columns * (i % tiles + 1) / tiles - from, 0};
        span *const spans = u->spans + i * s->most_spans;
        if (down >= 0) o[down] = u->o[down] + row;
        o[last] = u->o[last] + from;
        spans[0] = (span){0, b->channels * b->taps};
        const int64_t found = p->boundary == FC_ZEROS ? find_spans(s, b, o, t.count, spans) : 1;
        const char *const x = u->panels + (row * s->band_down + from * s->band_step) * s->bytes;
        u->places[i] = (place){t, x, u->in_x, s->band_step, found};
    }
}
