/* overlap_save: how a problem is cut, and the spectra of weights. */
#include <math.h>
#include <string.h>

#include "overlap_save.h"

static int64_t place_of(int64_t *end, int64_t bytes)
{
    const int64_t at = *end;
    *end = fc_round_up(at + bytes, FC_ALIGN);
    return at;
}

/* Of one plane of a filter's channel on its circles: its rows, or those of both halves, and one of zeros. */
static int64_t laid_bytes(const overlap_save *s)
{
    return fc_round_up(((s->half ? 2 : 1) * s->n[ROWS] + 1) * s->row_bytes, FC_ALIGN);
}

/* Settings: planes, rows and columns of a block, outputs that it keeps along each of its axes, whether
 * small outputs are looked at, and whether a block has twice as many rows, as two halves. */
void fc_overlap_save_layout(const fc_problem *p, const fc_config *config, const fc_kernels *kernels,
                            overlap_save *s)
{
    memset(s, 0, sizeof *s);
    const int is_complex = p->dtype == FC_C64 || p->dtype == FC_C128;
    s->parts = is_complex ? 2 : 1;
    s->size = fc_dtype_bytes(p->dtype) / s->parts;
    s->fft = s->size == 4 ? kernels->fft_f32 : kernels->fft_f64;
    int64_t left = AXES, transformed = 0;
    for (int64_t i = 0; i < AXES; i++) s->axis[i] = -1, s->n[i] = config->v[i];
    for (int64_t d = p->dims - 1; d >= 0; d--) {
        s->kept[d] = 1;
        if (p->ker[d] > 1) {
            s->axis[--left] = d;
            s->kept[d] = config->v[AXES + left];
            transformed++;
        }
    }
    s->one_axis = transformed == 1;
    s->guard = config->v[2 * AXES];
    s->taps = fc_volume(p->ker, p->dims);
    s->blocks = p->n;
    for (int64_t d = 0; d < p->dims; d++) {
        s->count[d] = fc_ceil_div(p->out[d], s->kept[d]);
        s->blocks *= s->count[d];
    }
    s->halved = -1;
    if (config->v[2 * AXES + 1]) {
        s->halved = s->axis[s->one_axis ? COLUMNS : ROWS];
        s->half = s->n[ROWS] * (s->one_axis ? s->n[COLUMNS] : 1) / p->stride[s->halved];
    }
    s->pairs = is_complex || s->half ? s->blocks : fc_ceil_div(s->blocks, 2);

    const int64_t lanes = s->fft->lanes, item = s->parts * s->size;
    s->slabs = fc_ceil_div(s->n[ROWS], lanes);
    s->slab = s->n[PLANES] * s->n[COLUMNS] * 2 * lanes;
    /* slabs a multiple of a page apart share few lines of L1: 1280 x 1600 doubles took 197 ms, 57 apart */
    if (s->slab * s->size % 4096 == 0) s->slab += 2 * lanes * lanes;
    s->block = s->slabs * s->slab;
    s->row_bytes = s->n[COLUMNS] * item;

    fc_fft_line line;
    int64_t end = 0;
    s->start = place_of(&end, p->g * p->k * (int64_t)sizeof(int64_t));
    s->bound = place_of(&end, p->g * p->k * (int64_t)sizeof(double));
    s->w = place_of(&end, p->g * p->k * p->c * s->taps * item);
    for (int64_t i = 0; i < AXES; i++) {
        fc_overlap_save_stages(s->n[i], &line);
        s->factors[i] = place_of(&end, 2 * line.factor_count * s->size);
    }
    s->weights = place_of(&end, s->half ? s->n[ROWS] * 2 * s->size : 0);
    s->near = place_of(&end, s->n[ROWS] * 2 * lanes * s->size);
    s->far = place_of(&end, s->one_axis ? s->n[ROWS] * s->n[COLUMNS] / lanes * 2 * s->size : 0);
    s->spectra = place_of(&end, p->g * p->k * p->c * s->block * s->size);
    /* what packing itself needs: rows of a plane, columns in flight, tables of roots and rows */
    s->scratch = end;
    const int64_t rows = fc_max(s->n[ROWS], s->n[PLANES]);
    s->scratch_bytes = laid_bytes(s)
                       + (rows + 1) * 2 * lanes * s->size
                       + fc_round_up(fc_max(s->n[ROWS] * 2 * (int64_t)sizeof(void *),
                                            fc_overlap_save_tables_bytes(s)),
                                     FC_ALIGN);
    s->packers = fc_max(1, fc_min(p->g * p->k * p->c / 8, 16));
    s->packed_bytes = end + s->packers * s->scratch_bytes;

    end = 0;
    s->buffer = place_of(&end, s->n[ROWS] * 2 * lanes * s->size);
    s->peak = place_of(&end, 2 * lanes * s->size);
    s->across = place_of(&end, s->n[PLANES] > 1 ? s->n[PLANES] * 2 * lanes * s->size : 0);
    s->suspects = place_of(&end, RANGES * (int64_t)sizeof(suspects));
    s->tools_bytes = end;

    end = 0;
    s->edges = place_of(&end, (is_complex ? 1 : 2) * s->n[ROWS] * s->row_bytes);
    s->beyond = place_of(&end, s->row_bytes);
    s->inputs = place_of(&end, 2 * s->n[ROWS] * (int64_t)sizeof(void *));
    s->outputs = place_of(&end, 2 * s->n[ROWS] * (int64_t)sizeof(void *));
    s->counts = place_of(&end, 2 * s->n[ROWS] * (int64_t)sizeof(int64_t));
    s->blocks_at = place_of(&end, (p->c + (p->c * p->k > 1)) * s->block * s->size);
    s->pair_bytes = end;
}

/* Writes n elements of `parts` reals each, read from w forwards, backwards from `to` on. */
#define LAY_BACKWARDS(T)                                                          \
    for (int64_t r = 0; r < n; r++, to -= step)                                   \
        for (int64_t i = 0; i < parts; i++) ((T *)to)[i] = sign * ((const T *)w)[r * parts + i];

static void lay_backwards(int64_t size, int64_t parts, int negative, int64_t n, const char *w, int64_t step,
                          char *to)
{
    if (size == 4) {
        const float sign = negative ? -1 : 1;
        LAY_BACKWARDS(float)
    } else {
        const double sign = negative ? -1 : 1;
        LAY_BACKWARDS(double)
    }
}

/* Plane i of one filter's channel, laid on its circles backwards: y[o] is then sample o u. */
static void lay(const fc_problem *p, const overlap_save *s, const char *w, int64_t i, char *rows)
{
    const int64_t item = s->parts * s->size;
    int64_t ker[AXES], step[AXES], length[AXES];
    for (int a = 0; a < AXES; a++) {
        const int64_t d = s->axis[a];
        ker[a] = d < 0 ? 1 : p->ker[d];
        step[a] = d < 0 ? 1 : p->dilation[d];
        length[a] = s->one_axis && a == COLUMNS ? s->n[ROWS] * s->n[COLUMNS] : s->n[a];
    }
    const int halved = s->half ? s->one_axis ? COLUMNS : ROWS : -1;
    if (s->half) length[halved] *= 2;
    memset(rows, 0, (size_t)((s->half ? 2 : 1) * s->n[ROWS] * s->row_bytes));
    for (int64_t r0 = 0; r0 < ker[PLANES]; r0++) {
        if ((length[PLANES] - r0 * step[PLANES] % length[PLANES]) % length[PLANES] != i) continue;
        for (int64_t r1 = 0; r1 < ker[ROWS]; r1++) {
            const int64_t row = s->one_axis || r1 == 0 ? 0 : length[ROWS] - r1 * step[ROWS];
            const char *const line = w + (r0 * ker[ROWS] + r1) * ker[COLUMNS] * item;
            char *const to = rows + row * s->row_bytes;
            const int negative = halved == ROWS && r1 > 0;
            lay_backwards(s->size, s->parts, negative, 1, line, 0, to);
            lay_backwards(s->size, s->parts, negative || halved == COLUMNS, ker[COLUMNS] - 1, line + item,
                          step[COLUMNS] * item, to + (length[COLUMNS] - step[COLUMNS]) * item);
        }
    }
}

/* The spectrum of one filter's channel, divided by the samples of a block; sums[i] grows by moduli. */
static void spectrum(const fc_problem *p, const overlap_save *s, const char *w, const char *packed,
                     char *scratch, char *h)
{
    const fc_fft *const fft = s->fft;
    const int64_t lanes = fft->lanes, vectors = 2 * lanes * s->size;
    fc_fft_line line[AXES];
    for (int a = 0; a < AXES; a++) fc_overlap_save_line(s, a, packed, &line[a]);
    char *const rows = scratch, *const other = rows + s->n[ROWS] * s->row_bytes;
    char *const buffer = rows + laid_bytes(s), *const nothing = s->half ? other + s->n[ROWS] * s->row_bytes : other;
    char *const peak = buffer + fc_max(s->n[ROWS], s->n[PLANES]) * vectors;
    const void **const a = (const void **)(peak + vectors), **const b = a + s->n[ROWS];
    memset(nothing, 0, (size_t)s->row_bytes);
    for (int64_t i = 0; i < s->n[ROWS]; i++)
        a[i] = rows + i * s->row_bytes, b[i] = s->half ? other + i * s->row_bytes : nothing;
    memset(peak, 0, (size_t)vectors);
    for (int64_t i = 0; i < s->n[PLANES]; i++) {
        lay(p, s, w, i, rows);
        for (int64_t at = 0; at < s->n[COLUMNS]; at += lanes) {
            fft->load(s->n[ROWS], a, s->parts == 2 ? NULL : b, s->half ? packed + s->weights : NULL, at,
                      buffer, peak);
            fft->forward(&line[ROWS], buffer);
            fft->turn(s->n[ROWS], buffer, packed + s->near,
                      s->one_axis ? packed + s->far + at / lanes * s->n[ROWS] * 2 * s->size : NULL,
                      h + (i * s->n[COLUMNS] + at) * vectors, s->slab);
        }
    }
    for (int64_t b0 = 0; b0 < s->slabs; b0++) {
        char *const slab = h + b0 * s->slab * s->size;
        for (int64_t i = 0; i < s->n[PLANES]; i++)
            fft->forward(&line[COLUMNS], slab + i * s->n[COLUMNS] * vectors);
        if (s->n[PLANES] > 1)
            fft->across(&line[PLANES], slab, s->n[COLUMNS] * 2 * lanes, s->n[COLUMNS], buffer);
    }
}

/* Divides h by the block's samples; the largest modulus of it, summed over channels. */
#define SCALE(T)                                                                                      \
    for (int64_t slab = 0; slab < s->slabs; slab++)                                                   \
        for (int64_t i = slab * s->slab; i < slab * s->slab + samples; i += 2 * lanes) {              \
            double sum[FC_ALIGN / sizeof(float)] = {0};                                               \
            for (int64_t c = 0; c < p->c; c++) {                                                      \
                T *const re = (T *)h + c * s->block + i, *const im = re + lanes;                      \
                for (int64_t l = 0; l < lanes; l++) {                                                 \
                    const double size = (double)re[l] * re[l] + (double)im[l] * im[l];                \
                    sum[l] += p->c == 1 ? size : sqrt(size);                                          \
                    re[l] = (T)(re[l] * one), im[l] = (T)(im[l] * one);                               \
                }                                                                                     \
            }                                                                                         \
            for (int64_t l = 0; l < lanes; l++) top[l] = sum[l] > top[l] ? sum[l] : top[l];           \
        }

static double scale(const fc_problem *p, const overlap_save *s, char *h)
{
    const double one = 1.0 / (double)(s->n[PLANES] * s->n[ROWS] * s->n[COLUMNS]);
    const int64_t lanes = s->fft->lanes, samples = s->n[PLANES] * s->n[COLUMNS] * 2 * lanes;
    double top[FC_ALIGN / sizeof(float)] = {0}, largest = 0;
    if (s->size == 4) SCALE(float)
    else SCALE(double)
    for (int64_t l = 0; l < lanes; l++)
        if (top[l] > largest) largest = top[l];
    return p->c == 1 ? sqrt(largest) : largest;
}

/* n elements `step` elements apart, side by side. */
static void line_of(int64_t item, int64_t n, const char *from, int64_t step, char *to)
{
    if (step == 1) memcpy(to, from, (size_t)(n * item));
    else if (item == 4)
        for (int64_t r = 0; r < n; r++) memcpy(to + r * 4, from + r * step * 4, 4);
    else if (item == 8)
        for (int64_t r = 0; r < n; r++) memcpy(to + r * 8, from + r * step * 8, 8);
    else
        for (int64_t r = 0; r < n; r++) memcpy(to + r * item, from + r * step * item, (size_t)item);
}

/* The largest size of every `step`-th of n reals, and the first place of it. */
#define LARGEST(T, ABS)                                                                            \
    const T *const x = v;                                                                          \
    T top[8] = {0}, largest = 0;                                                                   \
    for (int64_t i = 0; i + 8 <= n; i += 8)                                                        \
        for (int64_t l = 0; l < 8; l++) {                                                          \
            const T size = ABS(x[(i + l) * step]);                                                 \
            top[l] = size > top[l] ? size : top[l];                                                \
        }                                                                                          \
    for (int64_t l = 0; l < 8; l++) largest = top[l] > largest ? top[l] : largest;                 \
    for (int64_t i = n / 8 * 8; i < n; i++) largest = ABS(x[i * step]) > largest ? ABS(x[i * step]) : largest; \
    for (*at = 0; ABS(x[*at * step]) < largest;) ++*at;                                            \
    return (double)largest;

static double largest_part(int64_t size, int64_t n, int64_t step, const void *v, int64_t *at)
{
    if (size == 4) {
        LARGEST(float, fabsf)
    }
    LARGEST(double, fabs)
}

typedef struct {
    const fc_problem *p;
    overlap_save s;
    const char *w;
    char *packed;
} packing;

static void pack_filter(void *context, int64_t k, int64_t slot)
{
    const packing *const c = context;
    const fc_problem *const p = c->p;
    const overlap_save *const s = &c->s;
    const int64_t item = s->parts * s->size;
    /* eps log2 of the samples of a group, and a little for each channel; a pair's moduli are at most
     * sqrt 2 times the largest part, weights as good as two stages more: docs/accuracy.md */
    const double samples = (double)(fc_overlap_save_turns(s) * s->n[PLANES] * s->n[ROWS] * s->n[COLUMNS] * p->c);
    const double unit = (s->size == 4 ? 0x1p-23 : 0x1p-52) * sqrt(2)
                        * (log2(2 + samples) + (double)p->c / 16);
    double largest = -1;
    int64_t at = 0;
    char *const h = c->packed + s->spectra + k * p->c * s->block * s->size;
    for (int64_t i = 0; i < p->c; i++) {
        char *const plain = c->packed + s->w + (k * p->c + i) * s->taps * item;
        const int64_t last = p->dims - 1, along = p->ker[last];
        for (int64_t t = 0; t < s->taps; t += along) {
            int64_t from = k * p->w_k + i * p->w_c, rest = t / along;
            for (int64_t d = last - 1; d >= 0; d--) {
                from += rest % p->ker[d] * p->w_s[d];
                rest /= p->ker[d];
            }
            line_of(item, along, c->w + from * item, p->w_s[last], plain + t * item);
        }
        const double v = largest_part(s->size, s->taps, s->parts, plain, &at);
        if (v > largest) largest = v, ((int64_t *)(c->packed + s->start))[k] = i * s->taps + at;
        spectrum(p, s, plain, c->packed, c->packed + s->scratch + slot * s->scratch_bytes,
                 h + i * s->block * s->size);
    }
    ((double *)(c->packed + s->bound))[k] = unit * scale(p, s, h);
}

void fc_overlap_save_pack(const fc_problem *p, const fc_config *config, const fc_kernels *kernels,
                          const void *w, void *packed, int64_t threads)
{
    packing c = {.p = p, .w = w, .packed = packed};
    fc_overlap_save_layout(p, config, kernels, &c.s);
    fc_overlap_save_tables(&c.s, packed, c.packed + c.s.scratch);
    fc_parallel(p->g * p->k, fc_min(c.s.packers, fc_pack_threads(c.s.packed_bytes, threads)), pack_filter,
                &c);
}
