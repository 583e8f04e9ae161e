/* Phases of depthwise.c: y[k][o] = bias[k] + sum over taps of w[k][r] * X[k / m][o + r - pad], X being x with e - 1 zeros
 * between neighbours: transposed depthwise layers, and gradients of strided ones by their input.
 *
 * Output o = pixel*e + phase meets the taps r = r0, r0 + e, .. with r0 = (pad - phase) mod e, in samples
 * pixel + (phase + r0 - pad) / e and those after it. A channel is copied amid zeros once. Phases of rows are calls of
 * a kernel (kernels/picture_woven.inc) with the rows of the weights that they meet; the two phases along a row
 * are made together and stored in turn:
 *
 *     3 taps, pad 1     y[2 i]      w1 x[i]                    `shift` is 0 where the taps of the first phase are
 *                       y[2 i + 1]  w0 x[i] + w2 x[i + 1]      odd, and 1 where they are even
 *
 * One or two axes; e is 2 along the last. One unit of work is (image, some channels, band of rows of pixels).
 * Settings and packed weights are depthwise's.
 *
 * Crochiere and Rabiner, Multirate Digital Signal Processing, 1983, section 3.3.
 */
#include <string.h>

#include "depthwise.h"

enum { ROW_PHASES = 16 }; /* more are not thought of: solvers/depthwise.py */

/* A phase of the rows: its first tap and how many there are, strip row of pixel 0's first sample. */
typedef struct {
    int64_t r, count, at, deep;
} row_phase;

typedef struct {
    const fc_problem *p;
    const fc_pictures *picture;
    const fc_depthwise *strips; /* what copies rows that are not dense */
    int64_t bytes, row, column; /* axes, the first -1 if there is one */
    int64_t e, r, s, pad_rows, rows, in_rows;        /* of rows; kernel columns */
    int64_t shift, first, columns, inside;           /* samples before x's, outputs, samples of x in a row */
    int64_t top, below;                              /* strip rows before pixel 0's, and beyond the last pixel's */
    int64_t band, bands, channels;
    int64_t pitch, strip_bytes, copies, scratch_bytes, slot_bytes;
    row_phase phases[ROW_PHASES];
} phases_cut;

typedef struct {
    const phases_cut *s;
    const fc_kernels *kernels;
    const char *x, *packed;
    const fc_epilogue *epilogue;
    char *y, *workspace;
} phases_job;

static int64_t even_share(int64_t count, int64_t most)
{
    return count ? fc_ceil_div(count, fc_ceil_div(count, most)) : 1;
}

static row_phase find_phase(const phases_cut *s, int64_t phase)
{
    const int64_t r = ((s->pad_rows - phase) % s->e + s->e) % s->e;
    const int64_t count = fc_ceil_div(fc_max(0, s->r - r), s->e);
    return (row_phase){r, count, (phase + r - s->pad_rows) / s->e + s->top, even_share(count, FC_WOVEN_TAPS)};
}

static void cut(const fc_problem *p, const fc_config *config, const fc_kernels *kernels, int64_t threads,
                phases_cut *s)
{
    memset(s, 0, sizeof *s);
    const int f32 = p->dtype == FC_F32;
    s->p = p;
    s->picture = f32 ? kernels->picture_f32 : kernels->picture_f64;
    s->strips = f32 ? kernels->depthwise_f32 : kernels->depthwise_f64;
    s->bytes = fc_dtype_bytes(p->dtype);
    const int64_t d = s->column = p->dims - 1, lanes = s->strips->lanes;
    s->row = d - 1;
    s->e = s->r = s->rows = s->in_rows = 1;
    if (s->row >= 0) {
        s->e = p->input_dilation[d - 1], s->r = p->ker[d - 1], s->pad_rows = p->pad[d - 1];
        s->rows = p->out[d - 1], s->in_rows = p->in[d - 1];
    }
    s->s = p->ker[d], s->columns = p->out[d];
    s->shift = 1 - p->pad[d] % 2;
    s->first = p->pad[d] / 2;
    const int64_t pixels = fc_ceil_div(s->columns, 2), taps = (s->s - 1 + s->shift) / 2 + 1;
    s->inside = fc_max(0, fc_min(p->in[d], pixels + taps - 1 - s->first));
    s->pitch = fc_round_up(fc_max(pixels + taps - 1, s->first + s->inside) + lanes, lanes);

    s->top = s->pad_rows / s->e; /* phase 0's are the first */
    for (int64_t phase = 0; phase < s->e; phase++) {
        s->phases[phase] = find_phase(s, phase);
        s->below = fc_max(s->below, s->phases[phase].at + fc_max(s->phases[phase].count - 1, 0));
    }
    const int64_t all = fc_ceil_div(s->rows, s->e), row_bytes = s->pitch * s->bytes;
    int64_t band = fc_min(all, fc_max(config->v[0] / row_bytes - s->below, 8));
    const int64_t images = p->n * p->g;
    if (threads > 1 && images < 4 * threads)
        band = fc_min(band, fc_max(4, fc_ceil_div(all, fc_ceil_div(4 * threads, images))));
    s->bands = fc_ceil_div(all, band);
    s->band = fc_ceil_div(all, s->bands);
    s->bands = fc_ceil_div(all, s->band);
    s->channels = fc_max(1, p->g / (threads == 1 ? 1 : 8 * threads));
    s->strip_bytes = fc_round_up(((s->band + s->below) * s->pitch + lanes) * s->bytes, FC_ALIGN);
    /* the next channel is copied before one is read: what was just written in other pieces is read late */
    s->copies = 2 * s->strip_bytes <= config->v[0] ? 2 : 1;
    s->scratch_bytes = fc_round_up(s->band * s->columns * s->bytes, FC_ALIGN);
    s->slot_bytes = s->copies * s->strip_bytes + s->scratch_bytes;
}

int64_t fc_depthwise_phases_bytes(const fc_problem *p, const fc_config *config, const fc_kernels *kernels, int64_t threads)
{
    phases_cut s;
    cut(p, config, kernels, threads, &s);
    return threads * s.slot_bytes;
}

/* Rows of x of a channel under pixels from `pixel` on, between zeros that are there. */
static void copy(const phases_job *j, const char *x, int64_t pixel, int64_t pixels, char *strip)
{
    const phases_cut *s = j->s;
    const fc_problem *p = s->p;
    const int64_t origin = pixel - s->top; /* row of x that the strip's first is */
    const int64_t from = fc_max(0, origin), to = fc_min(s->in_rows, origin + pixels + s->below);
    if (from >= to || !s->inside) return;
    const int64_t ldx = s->row < 0 ? 0 : p->x_s[s->row], step = p->x_s[s->column];
    x += from * ldx * s->bytes;
    strip += ((from - origin) * s->pitch + s->first) * s->bytes;
    if (step == 1)
        s->picture->copy(to - from, s->inside, x, ldx, strip, s->pitch);
    else
        for (int64_t i = from; i < to; i++, x += ldx * s->bytes, strip += s->pitch * s->bytes)
            s->strips->copy(p->dtype, s->inside, x, step, strip);
}

/* Outputs under `pixels` rows of pixels from `pixel` of the band's first filter and channel: a call of the kernel a
 * phase; y[to[phase]] is the first. */
static void begin_calls(const phases_job *j, int64_t pixel, int64_t pixels, char *scratch, fc_woven *calls,
                        int64_t *to)
{
    const phases_cut *s = j->s;
    const int64_t y_row = s->row < 0 ? 0 : s->p->y_s[s->row];
    const int dense = s->p->y_s[s->column] == 1;
    for (int64_t phase = 0; phase < s->e; phase++) {
        const row_phase h = s->phases[phase];
        const int64_t rows = fc_max(0, fc_min(pixels, fc_ceil_div(s->rows - phase, s->e) - pixel));
        to[phase] = (pixel * s->e + phase) * y_row;
        calls[phase] = (fc_woven){
            .r = h.count, .s = s->s, .shift = s->shift, .rows = rows, .columns = s->columns,
            .high = even_share(rows, FC_WOVEN_ROWS), .deep = h.deep, .ldx = s->pitch,
            .ldw = s->e * s->s, .y = scratch, .ldy = dense ? s->e * y_row : s->columns,
        };
    }
}

/* Outputs of filter k and a phase, y[at] the first. */
static void compute(const phases_job *j, fc_woven *call, int64_t k, int64_t at, const row_phase *h)
{
    const phases_cut *s = j->s;
    const fc_problem *p = s->p;
    const int64_t step = s->e * (s->row < 0 ? 0 : p->y_s[s->row]), y_step = p->y_s[s->column];
    const int finished = !j->epilogue->residual && !j->epilogue->activation;
    const char *const bias = j->epilogue->bias, *const sums = call->y;
    call->w = j->packed + (k * s->r + h->r) * s->s * s->bytes;
    call->bias = bias ? bias + k * s->bytes : NULL;
    if (y_step == 1) call->y = j->y + at * s->bytes;
    s->picture->weave(call);
    for (int64_t i = 0; i < call->rows && (y_step != 1 || !finished); i++, at += step) {
        const char *const from = sums + i * s->columns * s->bytes;
        for (int64_t o = 0; o < s->columns && y_step != 1; o++)
            memcpy(j->y + (at + o * y_step) * s->bytes, from + o * s->bytes, (size_t)s->bytes);
        if (!finished) fc_finish(p, j->kernels, j->epilogue, j->y, at, s->columns, y_step);
    }
}

static void run_unit(void *context, int64_t index, int64_t slot)
{
    const phases_job *j = context;
    const phases_cut *s = j->s;
    const fc_problem *p = s->p;
    char *const strips = j->workspace + slot * s->slot_bytes, *const scratch = strips + s->copies * s->strip_bytes;
    const int64_t parts = fc_ceil_div(p->g, s->channels);
    const int64_t pixel = index % s->bands * s->band, pixels = fc_min(s->band, fc_ceil_div(s->rows, s->e) - pixel);
    const int64_t n = index / s->bands / parts, begin = index / s->bands % parts * s->channels;
    const int64_t end = fc_min(p->g, begin + s->channels);
    fc_woven calls[ROW_PHASES];
    int64_t to[ROW_PHASES];
    begin_calls(j, pixel, pixels, scratch, calls, to);
    memset(strips, 0, (size_t)(s->copies * s->strip_bytes));
    const char *x = j->x + (n * p->x_n + begin * p->x_c) * s->bytes;
    for (int64_t c = begin, copied = begin; c < end; c++) {
        for (; copied < fc_min(end, c + s->copies); copied++, x += p->x_c * s->bytes)
            copy(j, x, pixel, pixels, strips + (s->copies == 2 ? copied % 2 * s->strip_bytes : 0));
        const char *const strip = strips + (s->copies == 2 ? c % 2 * s->strip_bytes : 0);
        for (int64_t k = c * p->k; k < (c + 1) * p->k; k++)
            for (int64_t phase = 0; phase < s->e; phase++) {
                const row_phase *const h = &s->phases[phase];
                calls[phase].x = strip + h->at * s->pitch * s->bytes;
                if (calls[phase].rows) compute(j, &calls[phase], k, n * p->y_n + k * p->y_k + to[phase], h);
            }
    }
}

void fc_depthwise_phases_run(const fc_problem *p, const fc_config *config, const fc_kernels *kernels, const void *x,
                             const void *packed, const fc_epilogue *epilogue, void *y, void *workspace, int64_t threads)
{
    phases_cut s;
    cut(p, config, kernels, threads, &s);
    phases_job j = {&s, kernels, x, packed, epilogue, y, workspace};
    fc_parallel(p->n * fc_ceil_div(p->g, s.channels) * s.bands, threads, run_unit, &j);
}
