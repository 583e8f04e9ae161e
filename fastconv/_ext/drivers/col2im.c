/* col2im: products of x's samples by all taps of all filters, added where the taps fall.
 *
 *     product[k][r][i] = sum over c of w[k][c][r] * x[c][i]
 *     y[k][o] = bias[k] + sum over r with i*e = o + r*l - pad of product[k][r][i]
 *
 * A matrix product whose rows are taps of filters: the tiles of panels.c are full of them where filters are few, or where
 * input dilation e (transposed convolution) leaves few taps to each output. Nothing of x is multiplied twice.
 *
 * Outputs o = q*e + phase - lead of a position q and a phase meet samples beside q, the same for all positions of a phase:
 * shifted rows of products. These lie amid zeros, as many along each axis as taps reach beyond x, at its end and its beginning
 * alike: whatever is before a row is behind the one before. So sums run on across rows, and those of the phases of a row
 * are then woven to y.
 *
 * Samples are copied so to a band of a block of positions along the first axis, [channel][sample], unless register tiles are
 * FEW and samples of a row lie side by side: these are read in place, and the last of a row from a panel.
 *
 * One unit of work is (image, group, block of positions, part of the filters), on one thread:
 *     for block of filters
 *         for block of channels, for tile of samples, for register tile of taps: product (+)= tile
 *         for filter, for some positions, for phase: sums; y = woven sums
 *
 * Settings: v[0] bytes of a band, and of products, of a block; v[1] channels of a block.
 * Packed: per group and block of filters, and register tile of its taps, weights [channel][tap].
 *
 * Vasudevan, Anderson and Gregg, Parallel Multi Channel Convolution using General Matrix Multiplication, ASAP 2017,
 * section III; Crochiere and Rabiner, Multirate Digital Signal Processing, 1983, section 3.3.
 */
#include <string.h>

#include "col2im.h"

/* How far apart channels lie at most to be asked for in time, in place: that of panels.c. */
enum { NEAR_PLANE = 32 << 10 };

static int64_t workspace_bytes(const fc_problem *p, const fc_config *config, const fc_kernels *kernels, int64_t threads)
{
    geometry s;
    fc_col2im_plan(p, config, kernels, threads, &s);
    return threads * s.slot_bytes + s.zero_bytes + s.table_bytes;
}

static int64_t packed_bytes(const fc_problem *p, const fc_config *config, const fc_kernels *kernels)
{
    (void)config, (void)kernels;
    return p->g * p->k * p->c * fc_volume(p->ker, p->dims) * fc_dtype_bytes(p->dtype);
}

typedef struct {
    const geometry *s;
    const char *w;
    char *packed;
} packing;

static void pack_block(void *context, int64_t index, int64_t slot)
{
    (void)slot;
    const packing *const a = context;
    fc_col2im_pack(a->s, a->w, index, a->packed);
}

static void pack(const fc_problem *p, const fc_config *config, const fc_kernels *kernels, const void *w, void *packed,
                 int64_t threads)
{
    geometry s;
    fc_col2im_plan(p, config, kernels, 1, &s);
    packing a = {&s, w, packed};
    fc_parallel(p->g * s.filter_blocks, fc_pack_threads(packed_bytes(p, config, kernels), threads), pack_block, &a);
}

typedef struct {
    const geometry *s;
    const fc_kernels *kernels;
    const fc_col2im *own;
    const char *x, *packed;
    const fc_epilogue *epilogue;
    const char *zeros;
    /* bytes from a sample of the first channel to that of each, in a band, in place and in a panel; elements of products from
     * a position to those of its taps, phase by phase */
    const int64_t *in_band, *in_place, *in_panel, *shift;
    const fc_col2im_phase *phases;
    char *y, *workspace;
    int64_t side_by_side, joined; /* samples along a row of x; and all of an image, with no zeros between */
} job;

/* Positions [first, end) along the first axis, and their samples [low, high) that are x's, counted from the first met. */
typedef struct {
    int64_t n, g, block, first, end, low, high;
    tiling t;
    char *products, *band, *panel, *sums;
} unit;

/* Products of a block of `channels` from c on, of `count` samples at x, or in a panel: elements of rows of products from `at` on. */
static void multiply_tile(const job *j, const unit *u, const char *x, const int64_t *offset, int near, int64_t c,
                          int64_t channels, int64_t count, int64_t at)
{
    const geometry *const s = j->s;
    const fc_problem *const p = s->p;
    const int64_t vectors = fc_ceil_div(count, s->kernels->lanes);
    const char *const w = j->packed + (u->g * p->k + u->block * s->filters) * s->taps * p->c * s->bytes;
    for (int64_t i = 0, next; i < u->t.count; i = next) {
        next = i < u->t.larger ? u->t.larger : u->t.count;
        const int64_t row = row_of(&u->t, i), rows = row_of(&u->t, i + 1) - row;
        const char *const own = w + (row * p->c + c * rows) * s->bytes;
        char *const to = u->products + (row * s->ld + at) * s->bytes;
        if (near)
            s->tiles->near[rows - 1](channels, x, p->x_c, own, j->zeros, c > 0, to, s->ld, next - i, rows * p->c, 0);
        else
            s->tiles->tile[vectors - 1][rows - 1](channels, x, offset, own, j->zeros, c > 0, to, s->ld, next - i,
                                                  rows * p->c, 0);
    }
}

/* `count` samples in place, side by side from x on: whole tiles, and the rest, which overlaps them where that is no harm, or is
 * copied to a panel that ends in zeros. */
static void multiply_run(const job *j, const unit *u, const char *x, int64_t c, int64_t channels, int64_t count, int64_t at)
{
    const geometry *const s = j->s;
    const int64_t lanes = s->kernels->lanes, whole = count / s->nr * s->nr, left = count - whole;
    const int64_t near = s->p->x_c * s->bytes <= NEAR_PLANE, wide = fc_round_up(left, lanes);
    for (int64_t i = 0; i < whole; i += s->nr)
        multiply_tile(j, u, x + i * s->bytes, j->in_place, near, c, channels, s->nr, at + i);
    if (!left) return;
    if (wide == left || (wide <= count && channels == s->p->c)) {
        multiply_tile(j, u, x + (count - wide) * s->bytes, j->in_place, 0, c, channels, wide, at + count - wide);
        return;
    }
    for (int64_t i = 0; i < channels; i++)
        s->kernels->spread(x + whole * s->bytes + j->in_place[i], left, u->panel + j->in_panel[i], s->nr);
    multiply_tile(j, u, u->panel, j->in_panel, 0, c, channels, left, at + whole);
}

/* Element of a channel of x that row `row` of a block's samples, of all axes but the last, begins with, or NO_ROW. */
#define NO_ROW INT64_MIN
static int64_t find_row(const geometry *s, const unit *u, int64_t row)
{
    const fc_problem *const p = s->p;
    int64_t at = 0;
    for (int64_t d = p->dims - 2; d >= 0; row /= s->axes[d].samples, d--) {
        const int64_t sample = s->axes[d].low + (d ? row % s->axes[d].samples : u->first + row);
        if (sample < 0 || sample >= p->in[d]) return NO_ROW;
        at += sample * p->x_s[d];
    }
    return at;
}

/* Along the last axis, what is x's of the samples of a row: from here, and to there. */
static int64_t row_begin(const geometry *s) { return fc_max(0, -s->axes[s->p->dims - 1].low); }

static int64_t row_end(const geometry *s)
{
    const axis *const last = &s->axes[s->p->dims - 1];
    return fc_min(last->samples, s->p->in[s->p->dims - 1] - last->low);
}

/* Copies a block's samples to the band. */
static void fill_band(const job *j, const unit *u)
{
    const geometry *const s = j->s;
    const fc_problem *const p = s->p;
    const int64_t last = p->dims - 1, step = p->x_s[last], width = s->axes[last].samples, rows = s->row / width;
    const int64_t begin = row_begin(s), end = row_end(s);
    for (int64_t c = 0; c < p->c; c++) {
        const char *const x = j->x + (u->n * p->x_n + (u->g * p->c + c) * p->x_c) * s->bytes;
        char *const band = u->band + c * s->plane * s->bytes;
        memset(band + u->high * s->row * s->bytes, 0, (size_t)(s->nr * s->bytes));
        if (last == 0) {
            const int64_t from = (u->first + s->axes[0].low + u->low) * step;
            s->kernels->line(x + from * s->bytes, step, 0, u->high - u->low, u->high - u->low, band + u->low * s->bytes);
            continue;
        }
        for (int64_t row = u->low * rows; row < u->high * rows; row++) {
            const int64_t at = find_row(s, u, row);
            const char *const from = at == NO_ROW ? x : x + (at + s->axes[last].low * step) * s->bytes;
            s->kernels->line(from, step, begin, at == NO_ROW ? begin : end, width, band + row * width * s->bytes);
        }
    }
}

static void multiply(const job *j, const unit *u)
{
    const geometry *const s = j->s;
    const fc_problem *const p = s->p;
    const int64_t begin = u->low * s->row, end = fc_max(begin, u->high * s->row);
    const int64_t all = elements_of(s, u->end - u->first) + s->kernels->lanes, apart = j->side_by_side && !j->joined;
    for (int64_t i = 0; i < u->t.rows; i++) {
        char *const row = u->products + i * s->ld * s->bytes;
        memset(row, 0, (size_t)((apart ? all : begin) * s->bytes));
        if (!apart) memset(row + end * s->bytes, 0, (size_t)((all - end) * s->bytes));
    }
    for (int64_t c = 0; c < p->c; c += s->channel_block) {
        const int64_t channels = fc_min(s->channel_block, p->c - c), last = p->dims - 1;
        const char *const x = j->x + (u->n * p->x_n + (u->g * p->c + c) * p->x_c) * s->bytes;
        if (!j->side_by_side) {
            for (int64_t at = begin; at < end; at += s->nr)
                multiply_tile(j, u, u->band + (c * s->plane + at) * s->bytes, j->in_band, 0, c, channels,
                              fc_min(s->nr, end - at), at);
            continue;
        }
        if (j->joined) {
            multiply_run(j, u, x + (u->first + s->axes[0].low + u->low) * s->row * s->bytes, c, channels, end - begin, begin);
            continue;
        }
        const int64_t width = s->axes[last].samples, first = row_begin(s);
        for (int64_t row = begin / width; row < end / width; row++) {
            const int64_t from = find_row(s, u, row);
            if (from != NO_ROW)
                multiply_run(j, u, x + (from + s->axes[last].low + first) * s->bytes, c, channels, row_end(s) - first,
                             row * width + first);
        }
    }
}

/* Outputs of the rows that `count` positions of the first axis from q on have at an outer phase: woven, and finished. */
static void store(const job *j, const unit *u, int64_t filter, int64_t outer, int64_t q, int64_t count)
{
    const geometry *const s = j->s;
    const fc_problem *const p = s->p;
    const int64_t last = p->dims - 1, step = p->y_s[last], e = s->inner;
    const int64_t column = (last ? 0 : q * e) - s->axes[last].lead, begin = fc_max(0, -column);
    const int64_t end = fc_min((last ? s->axes[last].positions : count) * e, p->out[last] - column);
    int64_t lines = last ? count : 1; /* all axes before the last */
    for (int64_t d = 1; d < last; d++) lines *= s->axes[d].positions;
    for (int64_t line = 0, rows; line < lines && begin < end; line += rows) {
        /* a row, and those that follow it along the axis before the last */
        int64_t y = u->n * p->y_n + (u->g * p->k + filter) * p->y_k + column * step, ldy = 0, sums = 0;
        rows = 1;
        for (int64_t d = last - 1, rest = line, f = outer; d >= 0; d--) {
            const axis *const a = &s->axes[d];
            const int64_t ed = p->input_dilation[d], positions = d ? a->positions : count, at = rest % positions;
            const int64_t o = (at + (d ? 0 : q)) * ed + f % ed - a->lead;
            if (d == last - 1) {
                rows = positions - at;
                ldy = ed * p->y_s[d];
                if (o < 0)
                    rows = fc_min(rows, fc_ceil_div(-o, ed)), y = INT64_MIN;
                else
                    rows = o < p->out[d] ? fc_min(rows, fc_ceil_div(p->out[d] - o, ed)) : rows;
            }
            if (o < 0 || o >= p->out[d]) y = INT64_MIN;
            if (y != INT64_MIN) y += o * p->y_s[d];
            sums += at * a->pitch;
            rest /= positions, f /= ed;
        }
        if (y == INT64_MIN) continue;
        s->kernels->weave(e, rows, u->sums + sums * s->bytes, s->sum_ld, last ? s->axes[last - (last > 0)].pitch : 0, begin,
                          end, 0, j->y + y * s->bytes, step, ldy);
        for (int64_t i = 0; i < rows; i++)
            fc_finish(p, j->kernels, j->epilogue, j->y, y + i * ldy + begin * step, end - begin, step);
    }
}

static void run_unit(void *context, int64_t index, int64_t slot)
{
    const job *const j = context;
    const geometry *const s = j->s;
    const fc_problem *const p = s->p;
    const axis *const first = &s->axes[0];
    const int64_t part = index % s->parts, block = index / s->parts % s->blocks, image = index / s->parts / s->blocks;
    char *const workspace = j->workspace + slot * s->slot_bytes;
    unit u = {.n = image / p->g, .g = image % p->g, .first = block * s->positions, .products = workspace};
    u.band = u.products + s->product_bytes;
    u.panel = u.band + s->band_bytes;
    u.sums = u.panel + s->panel_bytes;
    u.end = fc_min(first->positions, u.first + s->positions);
    const int64_t met = u.end - u.first + first->window - 1, at = u.first + first->low;
    u.low = fc_min(met, fc_max(0, -at));
    u.high = fc_max(u.low, fc_min(met, p->in[0] - at));
    if (!j->side_by_side) fill_band(j, &u);
    for (u.block = part * s->filter_blocks / s->parts; u.block < (part + 1) * s->filter_blocks / s->parts; u.block++) {
        u.t = tiling_of(s, u.block);
        multiply(j, &u);
        const int64_t from = u.block * s->filters, filters = u.t.rows / s->taps;
        for (int64_t k = 0; k < filters; k++)
            for (int64_t q = u.first, count; q < u.end; q += count) {
                count = fc_min(s->some, u.end - q);
                const char *const products = u.products + (k * s->taps * s->ld + (q - u.first) * s->row) * s->bytes;
                const char *const bias = j->epilogue->bias;
                for (int64_t outer = 0; outer < s->phases / s->inner; outer++) {
                    for (int64_t f = 0; f < s->inner; f++) {
                        const fc_col2im_phase *const h = &j->phases[outer * s->inner + f];
                        j->own->sum(h->count, j->shift + h->first, products,
                                    bias ? bias + (u.g * p->k + from + k) * s->bytes : j->zeros, count * s->row,
                                    u.sums + f * s->sum_ld * s->bytes);
                    }
                    store(j, &u, from + k, outer, q, count);
                }
            }
    }
}

static void run(const fc_problem *p, const fc_config *config, const fc_kernels *kernels, const void *x,
                const void *packed, const fc_epilogue *epilogue, void *y, void *workspace, int64_t threads)
{
    geometry s;
    fc_col2im_plan(p, config, kernels, threads, &s);
    char *const zeros = (char *)workspace + threads * s.slot_bytes;
    int64_t *const offset = (int64_t *)(zeros + s.zero_bytes), *const shift = offset + 3 * s.channel_block;
    fc_col2im_phase *const phases = (fc_col2im_phase *)(shift + s.taps);
    memset(zeros, 0, (size_t)s.zero_bytes);
    for (int64_t c = 0; c < s.channel_block; c++) {
        offset[c] = c * s.plane * s.bytes;
        offset[s.channel_block + c] = c * p->x_c * s.bytes;
        offset[2 * s.channel_block + c] = c * s.nr * s.bytes;
    }
    fc_col2im_shifts(&s, phases, shift);
    const int64_t last = p->dims - 1;
    int joined = 1;
    for (int64_t d = 0; d <= last; d++) joined &= p->in[d] == 1 || p->x_s[d] == s.axes[d].pitch;
    for (int64_t d = 1; d <= last; d++) joined &= s.axes[d].low == 0 && s.axes[d].samples == p->in[d];
    const int side_by_side = s.few && (joined || (last > 0 && p->x_s[last] == 1 && p->in[last] >= s.nr));
    const fc_col2im *const own = p->dtype == FC_F64 ? kernels->col2im_f64 : kernels->col2im_f32;
    job j = {&s, kernels, own, x, packed, epilogue, zeros, offset, offset + s.channel_block, offset + 2 * s.channel_block,
             shift, phases, y, workspace, side_by_side, joined};
    fc_parallel(p->n * p->g * s.blocks * s.parts, threads, run_unit, &j);
}

const fc_driver fc_driver_col2im = {"col2im", workspace_bytes, packed_bytes, pack, run};
