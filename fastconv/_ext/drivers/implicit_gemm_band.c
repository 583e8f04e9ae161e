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

/* Samples under a block along an axis: so many, `step` apart, from place `origin`; those of [low, high) are x's. */
typedef struct {
    int64_t count, step, origin, low, high;
} window;

static window window_of(const fc_problem *p, int64_t d, int64_t o, int64_t outputs)
{
    if (d < 0) return (window){1, 1, 0, 0, 1};
    window w = {samples(p, d, outputs), p->ker[d] == 1 ? p->stride[d] : 1, o * p->stride[d] - p->pad[d], 0, 0};
    w.low = fc_min(w.count, w.origin < 0 ? fc_ceil_div(-w.origin, w.step) : 0);
    w.high = fc_max(w.low, fc_min(w.count, fc_ceil_div(fc_max(0, p->in[d] - w.origin), w.step)));
    return w;
}

/* Copies a row of a band whose ends are samples of x, too. */
static void copy_row(const job *j, const window *columns, const char *x, char *to)
{
    const geometry *s = j->s;
    const fc_problem *p = s->p;
    const int64_t last = p->dims - 1, x_s = p->x_s[last], low = columns->low, high = columns->high;
    for (int64_t i = 0; i < columns->count; i++) {
        if (i == low) i = high;
        if (i == columns->count) break;
        const int64_t at = fc_source(p, last, columns->origin + i * columns->step + p->pad[last]);
        memcpy(to + i * s->bytes, x + at * x_s * s->bytes, (size_t)s->bytes);
    }
    if (low < high)
        s->kernels->copy(x + (columns->origin + low * columns->step) * x_s * s->bytes, 0, columns->step * x_s, 1,
                         high - low, to + low * s->bytes, 0);
}

/* Copies a channel of a band from its slab of x, which is NULL where that is padding. */
static void copy_plane(const job *j, const window *rows, const window *columns, const char *x, char *to)
{
    const geometry *s = j->s;
    const fc_problem *p = s->p;
    const int64_t down = p->dims - 2, x_row = down < 0 ? 0 : p->x_s[down], x_s = p->x_s[down + 1];
    const int64_t own = x ? rows->high - rows->low : 0, wide = columns->high - columns->low;
    if (own * wide < rows->count * columns->count && p->boundary != FC_ZEROS && p->boundary != FC_CONSTANT) {
        for (int64_t i = 0; i < rows->count; i++) {
            const int64_t at = down < 0 ? 0 : fc_source(p, down, rows->origin + i * rows->step + p->pad[down]);
            copy_row(j, columns, x + at * x_row * s->bytes, to + i * s->band_row * s->bytes);
        }
        return;
    }
    if (own * wide < rows->count * columns->count) /* all at once: sooner than the ends of many short rows */
        fc_phase_fill_value(to, (rows->count - 1) * s->band_row + columns->count, j->value, s->bytes);
    if (own * wide == 0) return;
    const int64_t row = rows->origin + rows->low * rows->step, column = columns->origin + columns->low * columns->step;
    s->kernels->copy(x + (row * x_row + column * x_s) * s->bytes, rows->step * x_row, columns->step * x_s, own, wide,
                     to + (rows->low * s->band_row + columns->low) * s->bytes, s->band_row);
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
    const int64_t last = p->dims - 1, down = last - 1;
    const window rows = window_of(p, down, down < 0 ? 0 : u->o[down], u->rows);
    const window columns = window_of(p, last, u->o[last], u->columns);
    for (int64_t tap = 0; tap < fc_volume(p->ker, down); tap++) {
        int beyond;
        const int64_t slab = slab_at(s, u, tap, &beyond);
        for (int64_t c = 0; c < b->channels; c++)
            copy_plane(j, &rows, &columns,
                       beyond ? NULL : j->x + ((b->g * p->c + b->channel + c) * p->x_c + slab) * s->bytes,
                       u->panels + (tap * s->channel_block + c) * s->band_plane * s->bytes);
    }
}

/* Whether outputs [o, o + count) along an axis read nothing but zeros under tap r. */
static int is_padding(const fc_problem *p, int64_t d, int64_t o, int64_t count, int64_t r)
{
    const int64_t at = o * p->stride[d] + r * p->dilation[d] - p->pad[d];
    return at >= p->in[d] || at + (count - 1) * p->stride[d] < 0;
}

/* The taps of a tile that are not all padding, [rows of the kernel][those along the last axis][channel]; where none
 * of a row is that other rows have, `narrow` is 0. */
static int64_t find_spans(const geometry *s, const tap_block *b, const int64_t *o, int64_t count, int narrow, span *spans)
{
    const fc_problem *p = s->p;
    const int64_t last = p->dims - 1, some = narrow ? 1 : p->ker[last], channels = some * b->channels;
    int64_t found = 0, r[FC_DIMS] = {0};
    for (int64_t tap = 0; tap < b->taps; tap += some) {
        int outside = narrow && is_padding(p, last, o[last], count, r[last]);
        for (int64_t d = 0; d < last; d++) outside |= is_padding(p, d, o[d], 1, r[d]);
        if (!outside) {
            if (!found || tap * b->channels - spans[found - 1].first - spans[found - 1].count > BRIDGE)
                spans[found++] = (span){tap * b->channels, 0};
            spans[found - 1].count = tap * b->channels + channels - spans[found - 1].first;
        }
        r[last] += some;
        for (int64_t d = last; d > 0 && r[d] == p->ker[d]; d--) r[d] = 0, r[d - 1]++;
    }
    return found;
}

/* Bytes from a tile's first sample in a band to that under each tap of a block. */
static void find_band_offsets(const geometry *s, const tap_block *b, int64_t *offset)
{
    const fc_problem *p = s->p;
    const int64_t last = p->dims - 1, down = last - 1, rows = down < 0 ? 1 : p->ker[down];
    for (int64_t line = 0; line < b->taps / p->ker[last]; line++) {
        const int64_t along = rows == 1 ? 0 : line % rows * p->dilation[down];
        int64_t at = line / rows * s->channel_block * s->band_plane + along * s->band_row;
        for (int64_t r = 0; r < p->ker[last]; r++, at += p->dilation[last])
            for (int64_t c = 0; c < b->channels; c++) *offset++ = (at + c * s->band_plane) * s->bytes;
    }
}

void fc_pixels_prepare_band(const job *j, const unit *u, const tap_block *b)
{
    const geometry *s = j->s;
    const fc_problem *p = s->p;
    const int64_t last = p->dims - 1, down = last - 1, tiles = fc_ceil_div(u->columns, s->kernels->pixels);
    int64_t o[FC_DIMS];
    memcpy(o, u->o, sizeof o);
    copy_band(j, u, b);
    find_band_offsets(s, b, u->in_x);
    for (int64_t i = 0; i < tiles; i++) { /* of a row */
        const int64_t from = u->columns * i / tiles, count = u->columns * (i + 1) / tiles - from;
        o[last] = u->o[last] + from;
        const int narrow = is_padding(p, last, o[last], count, 0) || is_padding(p, last, o[last], count, p->ker[last] - 1);
        for (int64_t row = 0; row < u->rows; row++) {
            const int64_t at = row * tiles + i;
            span *const spans = u->spans + at * s->most_spans;
            if (down >= 0) o[down] = u->o[down] + row;
            spans[0] = (span){0, b->channels * b->taps};
            const int64_t found = p->boundary == FC_ZEROS ? find_spans(s, b, o, count, narrow, spans) : 1;
            const char *const x = u->panels + (row * s->band_down + from * s->band_step) * s->bytes;
            u->places[at] = (place){{row * u->columns + from, count, 0}, x, u->in_x, s->band_step, found};
        }
    }
}
