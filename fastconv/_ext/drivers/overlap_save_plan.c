/* overlap_save: how a problem is cut, tables of factors, and the spectra of weights. */
#include <math.h>
#include <string.h>

#include "overlap_save.h"

static int64_t place_of(int64_t *end, int64_t bytes)
{
    const int64_t at = *end;
    *end = fc_round_up(at + bytes, FC_ALIGN);
    return at;
}

/* Radices of n, and how many factors its stages have. Fours first: they are the cheapest. */
static void stages_of(int64_t n, fc_fft_line *line)
{
    memset(line, 0, sizeof *line);
    line->n = n;
    static const int32_t radices[] = {4, 2, 3, 5};
    int64_t m = n;
    for (int64_t i = 0; i < 4; i++)
        for (; m % radices[i] == 0; m /= radices[i]) {
            line->radix[line->stages++] = radices[i];
            line->factor_count += (m / radices[i] - 1) * (radices[i] - 1);
        }
}

/* The frequency that ends up at position i. */
static int64_t frequency(const fc_fft_line *line, int64_t i)
{
    int64_t k = 0, weight = 1, m = line->n;
    for (int64_t s = 0; s < line->stages; s++) {
        m /= line->radix[s];
        k += i / m * weight;
        i %= m;
        weight *= line->radix[s];
    }
    return k;
}

/* Long doubles whose products are all roots e^(-2 pi i j / n). */
typedef struct {
    int64_t n, step;
    long double *near, *far;
} roots;

static int64_t root_step(int64_t n) { return (int64_t)ceil(sqrt((double)n)) + 1; }

static int64_t roots_bytes(int64_t n) { return 4 * root_step(n) * (int64_t)sizeof(long double); }

static roots roots_of(int64_t n, void *scratch)
{
    const int64_t step = root_step(n);
    roots r = {n, step, scratch, (long double *)scratch + 2 * step};
    const long double turn = 6.283185307179586476925286766559005768L;
    for (int64_t i = 0; i < step; i++) {
        const long double a = turn * (long double)i / (long double)n;
        const long double b = turn * (long double)(i * step % n) / (long double)n;
        r.near[2 * i] = cosl(a), r.near[2 * i + 1] = -sinl(a);
        r.far[2 * i] = cosl(b), r.far[2 * i + 1] = -sinl(b);
    }
    return r;
}

static void set(int64_t size, void *to, int64_t i, long double value)
{
    if (size == 4) ((float *)to)[i] = (float)value;
    else ((double *)to)[i] = (double)value;
}

/* Writes root j, rounded once, as elements i and i + apart. */
static void set_root(const roots *r, int64_t j, int64_t size, void *to, int64_t i, int64_t apart)
{
    j %= r->n;
    const long double *const a = r->near + 2 * (j % r->step), *const b = r->far + 2 * (j / r->step);
    set(size, to, i, a[0] * b[0] - a[1] * b[1]);
    set(size, to, i + apart, a[0] * b[1] + a[1] * b[0]);
}

/* Roots that tables are made of, a sample of a circle: theta, of halves, is the last of four times as many. */
static int64_t turns(const overlap_save *s) { return s->half ? 4 : 1; }

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
        stages_of(s->n[i], &line);
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
                                            roots_bytes(turns(s) * s->n[ROWS] * s->n[COLUMNS] + s->n[PLANES])),
                                     FC_ALIGN);
    s->packers = fc_max(1, fc_min(p->g * p->k * p->c / 8, 16));
    s->packed_bytes = end + s->packers * s->scratch_bytes;

    end = 0;
    s->buffer = place_of(&end, (s->n[ROWS] + 2) * 2 * lanes * s->size);
    s->across = place_of(&end, s->n[PLANES] > 1 ? s->n[PLANES] * 2 * lanes * s->size : 0);
    s->edges = place_of(&end, (is_complex ? 1 : 2) * s->n[ROWS] * s->row_bytes);
    s->beyond = place_of(&end, s->row_bytes);
    s->inputs = place_of(&end, 2 * s->n[ROWS] * (int64_t)sizeof(void *));
    s->outputs = place_of(&end, 2 * s->n[ROWS] * (int64_t)sizeof(void *));
    s->counts = place_of(&end, 2 * s->n[ROWS] * (int64_t)sizeof(int64_t));
    s->suspects = place_of(&end, 2 * SUSPECTS * (int64_t)sizeof(int32_t));
    s->blocks_at = place_of(&end, (p->c + (p->c * p->k > 1)) * s->block * s->size);
    s->slot_bytes = end;
}

void fc_overlap_save_line(const overlap_save *s, int axis, const void *packed, fc_fft_line *line)
{
    stages_of(s->n[axis], line);
    line->factors = (const char *)packed + s->factors[axis];
}

static void tables(const overlap_save *s, char *packed, void *scratch)
{
    const int64_t lanes = s->fft->lanes, size = s->size;
    fc_fft_line line;
    for (int axis = 0; axis < AXES; axis++) {
        fc_overlap_save_line(s, axis, packed, &line);
        const roots r = roots_of(line.n, scratch);
        int64_t at = 0, m = line.n;
        for (int64_t t = 0; t < line.stages; t++) {
            const int64_t radix = line.radix[t], q = m / radix;
            for (int64_t j = 1; j < q; j++)
                for (int64_t i = 1; i < radix; i++, at += 2)
                    set_root(&r, i * j * (line.n / m), size, packed + s->factors[axis], at, 1);
            m = q;
        }
    }
    fc_overlap_save_line(s, ROWS, packed, &line);
    if (!s->one_axis && !s->half) return;
    /* theta^(j1 n2 + j2): powers by rows are weights, those by columns part of what rows are turned by */
    const int64_t row = s->one_axis ? s->n[COLUMNS] : 1;
    const roots r = roots_of(turns(s) * s->n[ROWS] * row, scratch);
    for (int64_t i = 0; s->half && i < line.n; i++)
        set_root(&r, r.n - i * row, size, packed + s->weights, 2 * i, 1);
    for (int64_t i = 0; s->one_axis && i < line.n; i++) {
        const int64_t k = turns(s) * frequency(&line, i) + (s->half ? r.n - 1 : 0);
        for (int64_t l = 0; l < lanes; l++)
            set_root(&r, k * l, size, packed + s->near, i * 2 * lanes + l, lanes);
        for (int64_t b = 0; b < s->n[COLUMNS] / lanes; b++)
            set_root(&r, k * b * lanes, size, packed + s->far, 2 * (b * line.n + i), 1);
    }
}

static void copy(int64_t size, int64_t parts, int negative, const void *from, void *to)
{
    memcpy(to, from, (size_t)(parts * size));
    if (!negative) return; /* of reals alone */
    if (size == 4) *(float *)to = -*(float *)to;
    else *(double *)to = -*(double *)to;
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
        for (int64_t r1 = 0; r1 < ker[ROWS]; r1++)
            for (int64_t r2 = 0; r2 < ker[COLUMNS]; r2++) {
                const int64_t row = s->one_axis ? 0 : (length[ROWS] - r1 * step[ROWS]) % length[ROWS];
                const int64_t column = (length[COLUMNS] - r2 * step[COLUMNS]) % length[COLUMNS];
                const int negative = (halved == ROWS && r1 > 0) || (halved == COLUMNS && r2 > 0);
                copy(s->size, s->parts, negative, w + ((r0 * ker[ROWS] + r1) * ker[COLUMNS] + r2) * item,
                     rows + row * s->row_bytes + column * item);
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
static double scale(const fc_problem *p, const overlap_save *s, char *h)
{
    const double one = 1.0 / (double)(s->n[PLANES] * s->n[ROWS] * s->n[COLUMNS]);
    const int64_t lanes = s->fft->lanes;
    double largest = 0;
    const int64_t samples = s->n[PLANES] * s->n[COLUMNS] * 2 * lanes;
    for (int64_t i = 0; i < s->block; i += 2 * lanes)
        for (int64_t l = 0; l < lanes && i % s->slab < samples; l++) {
            double sum = 0;
            for (int64_t c = 0; c < p->c; c++) {
                const int64_t at = c * s->block + i + l;
                double re, im;
                if (s->size == 4) {
                    float *const f = (float *)h;
                    re = f[at], im = f[at + lanes];
                    f[at] = (float)(re * one), f[at + lanes] = (float)(im * one);
                } else {
                    double *const f = (double *)h;
                    re = f[at], im = f[at + lanes];
                    f[at] = re * one, f[at + lanes] = im * one;
                }
                sum += p->c == 1 ? re * re + im * im : sqrt(re * re + im * im);
            }
            if (sum > largest) largest = sum;
        }
    return p->c == 1 ? sqrt(largest) : largest;
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
    const double samples = (double)(turns(s) * s->n[PLANES] * s->n[ROWS] * s->n[COLUMNS] * p->c);
    const double unit = (s->size == 4 ? 0x1p-23 : 0x1p-52) * sqrt(2)
                        * (log2(2 + samples) + (double)p->c / 16);
    double largest = -1;
    char *const h = c->packed + s->spectra + k * p->c * s->block * s->size;
    for (int64_t i = 0; i < p->c; i++) {
        char *const plain = c->packed + s->w + (k * p->c + i) * s->taps * item;
        for (int64_t t = 0; t < s->taps; t++) {
            int64_t from = k * p->w_k + i * p->w_c, rest = t;
            for (int64_t d = p->dims - 1; d >= 0; d--) {
                from += rest % p->ker[d] * p->w_s[d];
                rest /= p->ker[d];
            }
            memcpy(plain + t * item, c->w + from * item, (size_t)item);
            const double v = fabs(s->size == 4 ? (double)((float *)plain)[t * s->parts]
                                               : ((double *)plain)[t * s->parts]);
            if (v > largest) {
                largest = v;
                ((int64_t *)(c->packed + s->start))[k] = i * s->taps + t;
            }
        }
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
    tables(&c.s, packed, c.packed + c.s.scratch);
    fc_parallel(p->g * p->k, fc_min(c.s.packers, fc_pack_threads(c.s.packed_bytes, threads)), pack_filter,
                &c);
}
