/* depthwise: y[k][o] = bias[k] + sum over taps of w[k][tap] * x[k / m][o u + tap l - pad].
 *
 * One input channel a filter (m filters a channel): images, signals, depthwise layers. Rows of
 * outputs along the last axes are register-blocked (kernels/depthwise.c): `column` is the axis that
 * vectors lie along, `row` the one before it, `taps` are those of the axes before that. Trailing
 * axes without a kernel are part of the column axis: each of its positions is `unit` elements; where
 * that is wide enough by itself, it is the whole column axis.
 *
 * Sums of doubles that y holds as integers are cut to these while they are in cache.
 *
 * Rows of x are read in place where they are dense and of the dtype computed in. What is not is copied into strips:
 * padded rows, taken apart by column stride so that tap s is a constant offset, converted on the way.
 *
 *     FC_EDGES     [ masked | ......................... | masked ]  zeros beyond, short kernel rows
 *     FC_BETWEEN   [ strip  | ........ interior ....... | strip  ]  wide rows, whatever is beyond; short ends of
 *                                                                   signals are made output by output instead
 *     FC_PADDED    [ zeros  | copy ...................  | zeros  ]  zeros beyond, other short rows
 *     FC_STRIPS    [ strip  | strip ...                 | strip  ]  all else
 *
 * Of a volume, all planes of a band are copied amid zeros, once for all taps of the axes before that meet them.
 *
 * Strips of a band of rows take v[0] bytes. A channel that is copied amid zeros is one call (kernels/picture.c), where
 * sums are floats and y is dense. Transposed layers of stride 2 have a file of their own, depthwise_phases.c, and so have
 * those of 16-bit floats, depthwise_halves.c.
 *
 * One unit of work is (image, channel, position along the axes before, band of rows, and, where there
 * are few of these, piece of the columns), on one thread. With dilated rows, every l-th row of a
 * band makes a block, in which neighbours are again one input row apart.
 * Settings: v[0] bytes of strips aimed at. Packed: the weights, dense.
 */
#include <string.h>

#include "depthwise.h"
#include "phase.h"

static int is_half(const fc_problem *p) { return p->x_dtype == FC_F16 || p->x_dtype == FC_BF16; }

static int64_t workspace_bytes(const fc_problem *p, const fc_config *config,
                               const fc_kernels *kernels, int64_t threads)
{
    if (is_half(p)) return fc_depthwise_halves_bytes(p, config, kernels, threads);
    if (p->input_dilation[p->dims - 1] > 1) return fc_depthwise_phases_bytes(p, config, kernels, threads);
    /* which of these a call uses depends on its strides */
    int64_t most = 0;
    for (int64_t merged = fc_depthwise_mergeable(p); merged >= 0; merged--)
        for (fc_depthwise_source source = FC_STRIPS; source <= FC_EDGES; source++) {
            fc_depthwise_cut s;
            fc_depthwise_plan(p, config, kernels, threads, merged, source, &s);
            most = fc_max(most, threads * s.slot_bytes + s.table_bytes + s.constant_bytes);
        }
    return most;
}

/* Packed: filters in C order, which is what naive packs. */
static int64_t packed_bytes(const fc_problem *p, const fc_config *config, const fc_kernels *kernels)
{
    return fc_driver_naive.packed_bytes(p, config, kernels);
}

static void pack(const fc_problem *p, const fc_config *config, const fc_kernels *kernels,
                 const void *w, void *packed, int64_t threads)
{
    fc_driver_naive.pack(p, config, kernels, w, packed, threads);
}

/* fc_finish for `count` units, `step` apart. */
static void finish(const fc_depthwise_job *j, int64_t at, int64_t count, int64_t step)
{
    const int64_t unit = j->s->unit;
    if (unit == 1)
        fc_finish(j->s->p, j->kernels, j->epilogue, j->y, at, count, step);
    else if (step == unit)
        fc_finish(j->s->p, j->kernels, j->epilogue, j->y, at, count * unit, 1);
    else
        for (int64_t o = 0; o < count; o++)
            fc_finish(j->s->p, j->kernels, j->epilogue, j->y, at + o * step, unit, 1);
}

/* Rows of one filter's outputs, block after block: `rows` of them with `count` units from y[at]. */
static void sweep(const fc_depthwise_job *j, fc_depthwise_block *block, const char *const *x, int64_t at,
                  int64_t rows, int64_t count, char *scratch)
{
    const fc_depthwise_cut *s = j->s;
    const int64_t y_row = s->row < 0 ? 0 : s->p->y_s[s->row], y_step = j->y_step;
    const int line = s->taps == 1 && s->r == 1 && s->v == 1 && s->column >= 0 && s->s > 1 &&
                     block->columns >= s->kernel->lanes &&
                     s->kernel->lanes % (s->step * s->unit) == 0;
    const int finished = !j->epilogue->residual && !j->epilogue->activation;
    const int64_t most = line ? 1 : scratch || !finished ? FC_DEPTHWISE_ROWS : rows;
    for (int64_t phase = 0; phase < fc_min(s->l, rows); phase++)
        for (int64_t o = phase; o < rows; o += block->rows * s->l) {
            char *const y = j->y + (at + o * y_row) * s->y_bytes;
            block->rows = fc_min(most, fc_ceil_div(rows - o, s->l));
            block->x = (const void *const *)(x + o * s->u);
            block->y = scratch ? scratch : y;
            block->ldy = scratch ? block->columns : s->l * y_row;
            if (line)
                s->kernel->line(block, s->step * s->unit);
            else
                s->kernel->rows(block);
            if (scratch) fc_depthwise_spread(s, block, y, count, s->l * y_row, y_step);
            for (int64_t r = 0; !finished && r < block->rows; r++)
                finish(j, at + (o + r * s->l) * y_row, count, y_step);
        }
}

static void set_filter(const fc_depthwise_job *j, int64_t k, fc_depthwise_block *block)
{
    const fc_depthwise_cut *s = j->s;
    const char *const bias = j->epilogue->bias;
    block->w = j->packed + k * s->taps * s->r * s->s * s->bytes;
    block->bias = bias ? bias + k * s->bytes : NULL;
}

/* Outputs [first, first + count) of each row of a band, of one filter. */
static void compute(const fc_depthwise_job *j, const fc_depthwise_band *b, int64_t k, int64_t first, int64_t count)
{
    const fc_depthwise_cut *s = j->s;
    const fc_problem *p = s->p;
    const int64_t y_row = s->row < 0 ? 0 : p->y_s[s->row];
    int64_t at = b->n * p->y_n + k * p->y_k + b->row * y_row + first * j->y_step;
    for (int64_t d = 0; d < s->outer; d++) at += b->outer[d] * p->y_s[d];
    const int64_t columns = count * s->unit;
    const int direct = !s->to && columns >= s->kernel->least && (j->y_step == s->unit || count == 1);
    fc_depthwise_block block = {
        .taps = s->taps, .r = s->r, .s = s->s, .u = s->u, .ldx = b->in_rows, .step = s->l,
        .columns = fc_max(columns, s->kernel->least), .offset = j->offset,
    };
    set_filter(j, k, &block);
    sweep(j, &block, b->pointers, at, b->rows, count, direct ? NULL : b->scratch);
}

/* Of channel c, input rows [from, to) of a band are x's, `plane` elements on: copied between zeros that are there, if
 * kernel rows lie on them. */
static void copy_rows(const fc_depthwise_job *j, const fc_depthwise_band *b, int64_t c, int64_t plane, int64_t from,
                      int64_t to, char *copy)
{
    const fc_depthwise_cut *s = j->s;
    const fc_problem *p = s->p;
    const int64_t ldx = p->x_s[s->row], at = b->n * p->x_n + c * p->x_c + plane;
    const char *const x = j->x + (at + (j->source[b->row * s->u + from] - from) * ldx) * s->bytes;
    const int64_t count = fc_min(s->in, (s->out + s->extra) * s->v - s->pad);
    for (int64_t end, phase; from < to && count > 0; from = end + 1) {
        for (end = s->gaps ? from : to, phase = end % s->u; end < to && s->row_phases >> phase % 64 & 1; end++)
            phase = phase + 1 < s->u ? phase + 1 : 0;
        if (end == from) continue;
        char *const row = copy + from * s->strip * s->bytes;
        const char *const own = x + from * ldx * s->bytes;
        void *rows[FC_DEPTHWISE_APART];
        for (int64_t h = 0; h < s->v; h++) rows[h] = s->apart[h] < 0 ? NULL : row + s->apart[h] * s->bytes;
        if (s->picture && s->v == 1)
            s->picture->copy(end - from, count * s->unit, own, ldx, row + s->apart[0] * s->bytes, s->strip);
        else
            s->kernel->pad(end - from, count * s->unit, s->v, own, ldx, rows, s->strip);
    }
}

/* Rows of x in a band: [*from, *to). */
static void own_rows(const fc_depthwise_job *j, const fc_depthwise_band *b, int64_t *from, int64_t *to)
{
    *from = b->in_rows, *to = 0;
    for (int64_t i = 0; i < b->in_rows; i++)
        if (j->source[b->row * j->s->u + i] >= 0) *from = fc_min(*from, i), *to = i + 1;
}

/* A band of some channels, whose rows lie amid zeros in a copy. */
static void run_pictures(const fc_depthwise_job *j, const fc_depthwise_band *b, int64_t channels)
{
    const fc_depthwise_cut *s = j->s;
    const fc_problem *p = s->p;
    const int64_t y_row = p->y_s[s->row];
    const int finished = !j->epilogue->residual && !j->epilogue->activation;
    fc_picture picture = {
        .t = 1, .r = s->r, .s = s->s, .u = s->u, .l = s->l, .rows = b->rows, .columns = s->out * s->unit,
        .ldx = s->strip, .offset = j->offset, .ldy = y_row,
        .next_w = p->k * s->r * s->s, .next_bias = p->k, .next_y = p->k * p->y_k,
    };
    int64_t from, to, copied = b->c;
    own_rows(j, b, &from, &to);
    memset(b->strips, 0, (size_t)s->strip_bytes);
    const int64_t first = b->n * p->y_n + b->row * y_row, end = b->c + channels;
    const int64_t two = s->beside > 0, turns = s->copies - 1;
    for (int64_t c = b->c; c < end; c += 1 + two) {
        const int64_t filters = fc_min(1 + two, end - c) * p->k;
        for (; from < to && copied < fc_min(end, c + (1 + two) * s->copies); copied++) {
            const int64_t i = copied - b->c;
            copy_rows(j, b, copied, 0, from, to, b->strips + (i >> two & turns) * s->copy_bytes +
                                                     (i & two) * s->beside * s->unit * s->bytes);
        }
        picture.x = b->strips + ((c - b->c) >> two & turns) * s->copy_bytes;
        picture.beside = filters > p->k ? s->beside * s->unit : 0;
        for (int64_t k = c * p->k; k < (c + 1) * p->k; k++) {
            picture.w = j->packed + k * s->r * s->s * s->bytes;
            picture.bias = j->epilogue->bias ? (const char *)j->epilogue->bias + k * s->bytes : NULL;
            picture.y = j->y + (first + k * p->y_k) * s->bytes;
            s->picture->run(&picture);
        }
        for (int64_t k = c * p->k; k < c * p->k + filters && !finished; k++)
            for (int64_t o = 0; o < b->rows; o++) finish(j, first + k * p->y_k + o * y_row, s->out, j->y_step);
    }
}

/* A band of some channels, whose rows are read in place and cut off at their edges, or from a copy. */
static void run_channels(const fc_depthwise_job *j, fc_depthwise_band *b, int64_t channels)
{
    const fc_depthwise_cut *s = j->s;
    const fc_problem *p = s->p;
    const int padded = s->source == FC_PADDED;
    const int64_t columns = s->out * s->unit;
    if (padded && s->picture && (j->y_step == s->unit || s->out == 1)) {
        run_pictures(j, b, channels);
        return;
    }
    fc_depthwise_block block = {
        .taps = 1, .r = s->r, .s = s->s, .u = s->u, .step = s->l, .columns = columns,
        .offset = j->offset, .edges = !padded, .stride = s->v, .low = s->pad * s->unit,
        .high = (s->pad + s->in) * s->unit,
    };
    const int direct = !padded || (columns >= s->kernel->least && (j->y_step == s->unit || s->out == 1));
    if (padded) {
        block.columns = fc_max(columns, s->kernel->least);
        memset(b->strips, 0, (size_t)s->strip_bytes);
    }
    int64_t from, to;
    own_rows(j, b, &from, &to);
    for (int64_t i = 0; i < b->in_rows; i++) {
        const int64_t source = j->source[b->row * s->u + i];
        b->pointers[i] = NULL;
        if (source < 0) continue;
        b->pointers[i] = padded ? b->strips + i * s->strip * s->bytes
                                : j->x + (b->n * p->x_n + b->c * p->x_c + source * p->x_s[s->row] -
                                          s->pad * s->unit) * s->bytes;
    }
    int64_t at = b->n * p->y_n + b->c * p->k * p->y_k + b->row * p->y_s[s->row];
    for (int64_t c = b->c; c < b->c + channels; c++) {
        if (padded && from < to) copy_rows(j, b, c, 0, from, to, b->strips);
        for (int64_t k = 0; k < p->k; k++, at += p->y_k) {
            set_filter(j, c * p->k + k, &block);
            sweep(j, &block, b->pointers, at, b->rows, s->out, direct ? NULL : b->scratch);
        }
        for (int64_t i = 0; i < b->in_rows && !padded; i++)
            if (b->pointers[i]) b->pointers[i] += p->x_c * s->bytes;
    }
}

/* Output plane `outer` of filter k of a volume of three axes: the taps of the first that meet x are one range. */
static void compute_plane(const fc_depthwise_job *j, const fc_depthwise_band *b, int64_t outer, int64_t k, int64_t at)
{
    const fc_depthwise_cut *s = j->s;
    const fc_problem *p = s->p;
    const int64_t l = p->dilation[0], origin = outer * p->stride[0] - p->pad[0], plane = s->in_rows * s->strip;
    const int64_t first = origin < 0 ? fc_ceil_div(-origin, l) : 0;
    const int64_t end = fc_min(s->taps, origin < p->in[0] ? fc_ceil_div(p->in[0] - origin, l) : 0);
    const char *const bias = j->epilogue->bias;
    const fc_picture picture = {
        .t = fc_max(0, end - first), .plane = l * plane, .r = s->r, .s = s->s, .u = s->u, .l = s->l,
        .rows = b->rows, .columns = s->out * s->unit, .x = b->strips + (origin + first * l) * plane * s->bytes,
        .ldx = s->strip, .offset = j->offset, .w = j->packed + (k * s->taps + first) * s->r * s->s * s->bytes,
        .bias = bias ? bias + k * s->bytes : NULL, .y = j->y + at * s->bytes, .ldy = p->y_s[s->row],
    };
    s->picture->run(&picture);
    for (int64_t o = 0; o < b->rows && (j->epilogue->residual || j->epilogue->activation); o++)
        finish(j, at + o * p->y_s[s->row], s->out, j->y_step);
}

/* A band of some channels of volumes, all of whose planes are copied amid zeros. */
static void run_volumes(const fc_depthwise_job *j, fc_depthwise_band *b, int64_t channels)
{
    const fc_depthwise_cut *s = j->s;
    const fc_problem *p = s->p;
    const int64_t columns = s->out * s->unit;
    fc_depthwise_block block = {
        .taps = s->taps, .r = s->r, .s = s->s, .u = s->u, .ldx = b->in_rows, .step = s->l,
        .columns = fc_max(columns, s->kernel->least), .offset = j->offset,
    };
    const int direct = columns >= s->kernel->least && (j->y_step == s->unit || s->out == 1);
    const int pictures = s->picture && s->outer == 1 && (j->y_step == s->unit || s->out == 1);
    int64_t from, to;
    own_rows(j, b, &from, &to);
    memset(b->strips, 0, (size_t)s->strip_bytes);
    for (int64_t c = b->c; c < b->c + channels; c++) {
        for (int64_t plane = 0; plane < s->stacked && from < to; plane++) {
            int64_t at = 0;
            for (int64_t d = s->outer - 1, rest = plane; d >= 0; rest /= p->in[d], d--)
                at += rest % p->in[d] * p->x_s[d];
            copy_rows(j, b, c, at, from, to, b->strips + plane * s->in_rows * s->strip * s->bytes);
        }
        for (int64_t outer = 0; outer < s->outers; outer++) {
            const int64_t first = b->n * p->y_n + b->row * p->y_s[s->row];
            for (int64_t k = c * p->k; pictures && k < (c + 1) * p->k; k++)
                compute_plane(j, b, outer, k, first + k * p->y_k + outer * p->y_s[0]);
            if (pictures) continue;
            const int64_t at = first + fc_depthwise_point_volume(j, b, outer, from, to);
            for (int64_t k = c * p->k; k < (c + 1) * p->k; k++) {
                set_filter(j, k, &block);
                sweep(j, &block, b->pointers, at + k * p->y_k, b->rows, s->out, direct ? NULL : b->scratch);
            }
        }
    }
}

static void run_unit(void *context, int64_t index, int64_t slot)
{
    const fc_depthwise_job *j = context;
    const fc_depthwise_cut *s = j->s;
    const fc_problem *p = s->p;
    int64_t unit = index % s->piece_units, rest = index / s->piece_units;
    char *const workspace = j->workspace + slot * s->slot_bytes;
    fc_depthwise_band b = {.row = rest % s->bands * s->band};
    b.rows = fc_min(s->band, s->rows - b.row);
    b.in_rows = (b.rows - 1) * s->u + (s->r - 1) * s->l + 1;
    b.strips = workspace;
    b.pointers = (const char **)(workspace + s->strip_bytes);
    b.border = (int64_t *)(workspace + s->strip_bytes + s->pointer_bytes);
    b.scratch = workspace + s->strip_bytes + s->pointer_bytes + s->border_bytes;
    rest /= s->bands;
    for (int64_t d = s->outer - 1; d >= 0 && !s->stacked; rest /= p->out[d], d--) b.outer[d] = rest % p->out[d];
    const int64_t parts = fc_ceil_div(p->g, s->channels);
    b.c = rest % parts * s->channels;
    b.n = rest / parts;
    if (s->source >= FC_PADDED) {
        (s->stacked ? run_volumes : run_channels)(j, &b, fc_min(s->channels, p->g - b.c));
        return;
    }
    const int64_t end = s->piece_units == 1 ? s->pieces : unit + 1;
    for (; unit < end; unit++) {
        int64_t first, stop;
        const int64_t piece = unit - (s->left > 0), last = s->pieces - (s->right > 0);
        if (piece < 0)
            first = 0, stop = s->left;
        else if (unit == last)
            first = s->out - s->right, stop = s->out;
        else {
            first = s->left + piece * s->width;
            stop = unit + 1 == last ? s->out - s->right : first + s->width;
        }
        const int in_place = s->source == FC_BETWEEN && piece >= 0 && unit < last;
        for (int64_t k = b.c * p->k; k < (b.c + 1) * p->k && s->ends && !in_place; k++) {
            const int64_t at = fc_depthwise_end(j, b.n, k, first, stop);
            if (j->epilogue->residual || j->epilogue->activation) finish(j, at, stop - first, j->y_step);
        }
        if (s->ends && !in_place) continue;
        fc_depthwise_point(j, &b, first, stop - first, in_place);
        for (int64_t k = 0; k < p->k; k++) compute(j, &b, b.c * p->k + k, first, stop - first);
    }
}

static void run(const fc_problem *p, const fc_config *config, const fc_kernels *kernels,
                const void *x, const void *packed, const fc_epilogue *epilogue, void *y,
                void *workspace, int64_t threads)
{
    if (is_half(p)) {
        fc_depthwise_halves_run(p, config, kernels, x, packed, epilogue, y, workspace, threads);
        return;
    }
    if (p->input_dilation[p->dims - 1] > 1) {
        fc_depthwise_phases_run(p, config, kernels, x, packed, epilogue, y, workspace, threads);
        return;
    }
    const int64_t merged = fc_depthwise_dense(p);
    fc_depthwise_cut s;
    fc_depthwise_plan(p, config, kernels, threads, merged, FC_EDGES, &s);
    const int64_t x_step = s.column < 0 ? 1 : p->x_s[s.column];
    const int64_t y_step = s.column < 0 ? 1 : p->y_s[s.column];
    if (p->x_dtype != p->dtype || x_step != s.unit)
        fc_depthwise_plan(p, config, kernels, threads, merged, FC_STRIPS, &s);
    else if (s.to || y_step != s.unit)
        fc_depthwise_plan(p, config, kernels, threads, merged, FC_BETWEEN, &s);

    char *const shared = (char *)workspace + threads * s.slot_bytes;
    fc_depthwise_job j = {.s = &s, .kernels = kernels, .x = x, .packed = packed, .epilogue = epilogue, .y = y,
             .workspace = workspace, .y_step = y_step};
    int64_t *const offset = (int64_t *)shared, *const source = offset + s.s;
    fc_phase_value(p, 0, s.bytes, &j.value);
    for (int64_t i = 0; i < s.s; i++)
        offset[i] = s.source == FC_EDGES
                        ? i * s.step * s.unit
                        : i * s.step % s.v * s.plane + i * s.step / s.v * s.unit;
    for (int64_t i = 0; s.row >= 0 && i < (s.rows - 1) * s.u + (s.r - 1) * s.l + 1; i++)
        source[i] = fc_source(p, s.row, i);
    fc_depthwise_put(shared + s.table_bytes, s.constant_bytes / s.bytes, j.value, s.bytes);
    j.offset = offset;
    j.source = source;
    j.constant = shared + s.table_bytes;
    const int64_t parts = p->n * fc_ceil_div(p->g, s.channels);
    fc_parallel(parts * (s.stacked ? 1 : s.outers) * s.bands * s.piece_units, threads, run_unit, &j);
}

const fc_driver fc_driver_depthwise = {"depthwise", workspace_bytes, packed_bytes, pack, run};
