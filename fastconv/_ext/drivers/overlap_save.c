/* overlap_save: y[n,k,o] = sum over c, r of X[n,c, o u + r l] w[k,c,r], by Fourier transforms of
 * overlapping blocks of X, x extended by the boundary rule:
 *
 *   y = F^-1( sum over c of F(x_c) F(h_kc) ),  h the kernel reversed on a circle as long as a block
 *
 * Up to three axes are transformed, those with more than one tap. A block of the plane is transformed
 * along its columns first, where vectors hold neighbouring samples of a row, as they lie in x; then
 * transposed in registers, a vector of rows a slab, [n1 / lanes][n0][n2][2][lanes]; then along rows and
 * planes, a slab at a time, multiplied, and all the way back. A signal is the same: n = n1 n2 samples
 * are n1 rows, and each is multiplied by e^(-2 pi i i2 k1 / n) as it is turned. Frequencies stay in the
 * order that they come in. kernels/fft.c has the transforms.
 *
 * Two blocks of real data, a and b, are transformed as a + i b: h is real, so that the parts of the
 * result are their outputs. Complex data are transformed block by block.
 *
 * Or a and b are the halves of one block of N real samples: less of it overlaps. Multiplying polynomials
 * of N coefficients modulo X^N + 1 is, of real ones, multiplying a + i b modulo X^(N/2) - i; and with
 * X = theta Z, theta^(N/2) = i, that is a product on a circle of N/2 samples, sample j of each times
 * theta^j. A sum that runs past the end comes back negative, so that the kernel's taps before the first
 * one are laid on the circle negative. Of several axes the rows are halved (Nussbaumer, Fast Fourier
 * Transform and Convolution Algorithms, 2nd ed., 1982, section 7.1, on products modulo X^N + 1).
 *
 *   settings  planes, rows and columns of a block, outputs it keeps along each, whether it is guarded,
 *             whether it has twice as many rows, as two halves
 *   packed    tables, weights as they are, their spectra [g][k][c] in the order of a block
 *   threads   take a pair of blocks of a group each; pairs left over, large ones of one plane, are shared by
 *             all of them: columns, then slabs, then columns again
 *
 * The guard, docs/accuracy.md: an output of size up to 11 times the error of its pair is summed from
 * the definition until its products show that it is right, or to the end. Pairs with NaN or Inf, with very
 * large or small data, or with more of such outputs than transforming them costs, are left to
 * the caller: epilogue->left[g * pairs + pair] becomes 1.
 *
 * Stockham, High-speed convolution and correlation, 1966; Oppenheim and Schafer, Discrete-Time Signal
 * Processing, 3rd ed., section 8.7.3.
 */
#include <math.h>
#include <string.h>

#include "overlap_save.h"

typedef overlap_save_call call;

/* Products that the guard may take, a sample of the pair: about what the transforms cost. */
enum { GUARD_PRODUCTS = 16 };

/* Samples of the smallest transform that threads share: of 20 480, two took as long as one, of 40 960 0.6 to
 * 0.8 of it. */
enum { SHARED = 1 << 15 };

/* Largest exponent of data, half a quarter of the type's range: products neither overflow nor vanish. */
enum { EXPONENT_F32 = 32, EXPONENT_F64 = 256 };

/* One plane of a channel or of a filter of a pair, shared in ranges of columns. `tools` are those of the
 * thread that it falls to; those of its helpers follow. `pair` is where its rows are listed and copied. */
typedef struct {
    const call *c;
    const place *at;
    int64_t blocks, i, ranges;
    char *tools, *pair, *z;
    const int *wanted;
    double error;
} plane;

static int64_t ranges_of(const overlap_save *s, int64_t threads)
{
    return threads == 1 ? 1 : fc_min(RANGES * threads, fc_ceil_div(s->n[COLUMNS], s->fft->lanes));
}

/* The first column of a range, and the last one's end. */
static int64_t column_of(const overlap_save *s, int64_t range, int64_t ranges)
{
    return fc_ceil_div(s->n[COLUMNS], s->fft->lanes) * range / ranges * s->fft->lanes;
}

static suspects *suspects_of(const overlap_save *s, char *tools, int64_t range)
{
    return (suspects *)(tools + range / RANGES * s->tools_bytes + s->suspects) + range % RANGES;
}

static const char *far_of(const call *c, int64_t column)
{
    const overlap_save *const s = &c->s;
    if (!s->one_axis) return NULL;
    return c->packed + s->far + column / s->fft->lanes * s->n[ROWS] * 2 * s->size;
}

static void columns_in(void *context, int64_t range, int64_t helper)
{
    const plane *const t = context;
    const call *const c = t->c;
    const overlap_save *const s = &c->s;
    const int64_t lanes = s->fft->lanes, vectors = 2 * lanes * s->size;
    const void **const rows = (const void **)(t->pair + s->inputs);
    char *const own = t->tools + helper * s->tools_bytes;
    const int64_t end = column_of(s, range + 1, t->ranges);
    for (int64_t column = column_of(s, range, t->ranges); column < end; column += lanes) {
        s->fft->load(s->n[ROWS], rows, s->parts == 2 ? NULL : rows + s->n[ROWS],
                     s->half ? c->packed + s->weights : NULL, column, own + s->buffer, own + s->peak);
        s->fft->forward(&c->line[ROWS], own + s->buffer);
        s->fft->turn(s->n[ROWS], own + s->buffer, c->packed + s->near, far_of(c, column),
                     t->z + (t->i * s->n[COLUMNS] + column) * vectors, s->slab);
    }
}

/* The spectrum of a channel of the blocks at[..], but for its slabs' own transforms. */
static void into_slabs(const call *c, const place *at, int64_t blocks, int64_t channel, char *tools, char *pair,
                       char *z, int64_t threads)
{
    const overlap_save *const s = &c->s;
    const void **const rows = (const void **)(pair + s->inputs);
    plane t = {.c = c, .ranges = ranges_of(s, threads), .tools = tools, .pair = pair, .z = z};
    for (t.i = 0; t.i < s->n[PLANES]; t.i++) {
        for (int64_t b = 0; b < blocks; b++)
            fc_overlap_save_rows_in(c, &at[b], channel, t.i, pair + s->edges + b * s->n[ROWS] * s->row_bytes,
                                    pair + s->beyond, rows + b * s->n[ROWS]);
        if (blocks < 2)
            for (int64_t j = 0; j < s->n[ROWS]; j++) rows[s->n[ROWS] + j] = pair + s->beyond;
        fc_parallel(t.ranges, threads, columns_in, &t);
    }
}

static void slab_forward(const call *c, char *tools, char *slab)
{
    const overlap_save *const s = &c->s;
    const int64_t pitch = s->n[COLUMNS] * 2 * s->fft->lanes;
    for (int64_t i = 0; i < s->n[PLANES]; i++)
        s->fft->forward(&c->line[COLUMNS], slab + i * pitch * s->size);
    if (s->n[PLANES] > 1)
        s->fft->across(&c->line[PLANES], slab, pitch, s->n[COLUMNS], tools + s->across);
}

static void slab_inverse(const call *c, char *tools, char *slab)
{
    const overlap_save *const s = &c->s;
    const int64_t pitch = s->n[COLUMNS] * 2 * s->fft->lanes;
    if (s->n[PLANES] > 1)
        s->fft->across_back(&c->line[PLANES], slab, pitch, s->n[COLUMNS], tools + s->across);
    for (int64_t i = 0; i < s->n[PLANES]; i++)
        s->fft->inverse(&c->line[COLUMNS], slab + i * pitch * s->size);
}

/* What the slabs of one filter share: its channels' spectra in z, the kernel's, and where they are summed. */
typedef struct {
    const call *c;
    char *tools, *z, *sum;
    const char *h;
    int64_t k;
} product;

static void slab(void *context, int64_t b, int64_t helper)
{
    const product *const t = context;
    const overlap_save *const s = &t->c->s;
    char *const own = t->tools + helper * s->tools_bytes, *const to = t->sum + b * s->slab * s->size;
    for (int64_t i = 0; i < t->c->p->c; i++) {
        const int64_t at = (i * s->block + b * s->slab) * s->size;
        if (t->k == 0) slab_forward(t->c, own, t->z + at);
        s->fft->multiply(s->n[PLANES] * s->n[COLUMNS], t->z + at, t->h + at, i > 0, to);
    }
    slab_inverse(t->c, own, to);
}

static void columns_out(void *context, int64_t range, int64_t helper)
{
    const plane *const t = context;
    const call *const c = t->c;
    const overlap_save *const s = &c->s;
    const int64_t lanes = s->fft->lanes, vectors = 2 * lanes * s->size;
    void **const rows = (void **)(t->pair + s->outputs);
    const int64_t *const counts = (const int64_t *)(t->pair + s->counts);
    char *const buffer = t->tools + helper * s->tools_bytes + s->buffer;
    suspects *const all = suspects_of(s, t->tools, range);
    all->found[0] = all->found[1] = 0;
    const int64_t end = column_of(s, range + 1, t->ranges);
    for (int64_t column = column_of(s, range, t->ranges); column < end; column += lanes) {
        s->fft->turn_back(s->n[ROWS], t->z + (t->i * s->n[COLUMNS] + column) * vectors, s->slab,
                          c->packed + s->near, far_of(c, column), buffer);
        s->fft->inverse(&c->line[ROWS], buffer);
        for (int64_t b = 0; b < t->blocks; b++)
            if (t->wanted[b])
                all->found[b] = s->fft->store(s->n[ROWS], buffer, s->half ? c->packed + s->weights : NULL,
                                              s->parts == 2 ? 2 : b, rows + b * s->n[ROWS],
                                              counts + b * s->n[ROWS], column, 11 * t->error,
                                              s->n[COLUMNS], all->at[b], all->found[b], SUSPECTS);
    }
}

/* Settles suspects of block b of a plane; whether the budget lasted. */
static int settle(const plane *t, int64_t b, int64_t g, int64_t k, void *const *rows, int64_t *budget)
{
    const call *const c = t->c;
    const fc_problem *const p = c->p;
    const overlap_save *const s = &c->s;
    int64_t found = 0;
    for (int64_t range = 0; range < t->ranges; range++) found += suspects_of(s, t->tools, range)->found[b];
    if (found > SUSPECTS) return 0;
    for (int64_t range = 0, m = 0; range < t->ranges; m++) {
        const suspects *const list = suspects_of(s, t->tools, range);
        if (m == list->found[b]) {
            range++, m = -1;
            continue;
        }
        const int64_t row = list->at[b][m] / s->n[COLUMNS], column = list->at[b][m] % s->n[COLUMNS];
        const int64_t position[AXES] = {t->i, row, s->one_axis ? list->at[b][m] : column};
        int64_t o[FC_DIMS];
        int kept = 1;
        for (int64_t d = 0; d < p->dims; d++) o[d] = t->at[b].first[d];
        for (int a = 0; a < AXES; a++) {
            const int64_t d = s->axis[a];
            if (d < 0) continue;
            kept &= position[a] % p->stride[d] == 0;
            o[d] += position[a] / p->stride[d];
        }
        if (!kept) continue;
        if (*budget <= 0) return 0;
        fc_overlap_save_settle(p, s, c->x, t->at[b].image, g, k, o, t->error, c->packed, budget,
                               (char *)rows[row] + column * s->parts * s->size);
    }
    return 1;
}

/* Outputs of one filter from its slabs; whether they could be guarded. */
static int from_slabs(const call *c, const place *at, int64_t blocks, int64_t g, int64_t k, double error,
                      char *tools, char *pair, char *z, int64_t threads, int64_t *budget)
{
    const fc_problem *const p = c->p;
    const overlap_save *const s = &c->s;
    const int64_t filter = g * p->k + k, across = s->axis[PLANES];
    void **const rows = (void **)(pair + s->outputs);
    int64_t *const counts = (int64_t *)(pair + s->counts);
    int wanted[2];
    plane t = {.c = c, .at = at, .blocks = blocks, .ranges = ranges_of(s, threads), .tools = tools,
               .pair = pair, .z = z, .wanted = wanted, .error = error};
    for (t.i = 0; t.i < s->n[PLANES]; t.i++) {
        if (across >= 0 && (t.i % p->stride[across] || t.i / p->stride[across] >= s->kept[across])) continue;
        for (int64_t b = 0; b < blocks; b++) {
            wanted[b] = across < 0 || t.i / p->stride[across] < at[b].kept[across];
            if (wanted[b])
                fc_overlap_save_rows_out(c, &at[b], filter, t.i,
                                         pair + s->edges + b * s->n[ROWS] * s->row_bytes,
                                         rows + b * s->n[ROWS], counts + b * s->n[ROWS]);
        }
        fc_parallel(t.ranges, threads, columns_out, &t);
        for (int64_t b = 0; b < blocks; b++) {
            if (!wanted[b]) continue;
            if (!settle(&t, b, g, k, rows + b * s->n[ROWS], budget)) return 0;
            fc_overlap_save_finish(c, &at[b], filter, t.i, pair + s->edges + b * s->n[ROWS] * s->row_bytes,
                                   counts + b * s->n[ROWS]);
        }
    }
    return 1;
}

/* Largest part of what was loaded; NaN or Inf when there is one, or when it is out of range. */
static double largest(const overlap_save *s, const char *tools, int64_t threads)
{
    double top = 0;
    for (int64_t i = 0; i < threads * s->fft->lanes; i++) {
        const char *const peak = tools + i / s->fft->lanes * s->tools_bytes + s->peak;
        const int64_t l = i % s->fft->lanes, check = l + s->fft->lanes;
        const double v = s->size == 4 ? ((const float *)peak)[l] : ((const double *)peak)[l];
        const double bad = s->size == 4 ? ((const float *)peak)[check] : ((const double *)peak)[check];
        if (isnan(bad)) return NAN;
        if (v > top) top = v;
    }
    const int limit = s->size == 4 ? EXPONENT_F32 : EXPONENT_F64;
    int exponent;
    frexp(top, &exponent);
    return exponent > limit || exponent < -limit ? NAN : top;
}

/* One pair, by `threads` that share its columns and slabs; whether it was not left. */
static int one_pair(const call *c, int64_t g, int64_t i, char *tools, char *pair, int64_t threads)
{
    const fc_problem *const p = c->p;
    const overlap_save *const s = &c->s;
    const int64_t together = s->parts == 2 || s->half ? 1 : 2, block_bytes = s->block * s->size;
    int64_t blocks = fc_min(together, s->blocks - i * together);
    place at[2];
    for (int64_t b = 0; b < blocks; b++) at[b] = fc_overlap_save_block(p, s, i * together + b);
    if (s->half) fc_overlap_save_split(s, at), blocks = 2;
    memset(pair + s->beyond, 0, (size_t)s->row_bytes);
    char *const z = pair + s->blocks_at;
    for (int64_t slot = 0; slot < threads; slot++)
        memset(tools + slot * s->tools_bytes + s->peak, 0, (size_t)(2 * s->fft->lanes * s->size));
    for (int64_t channel = 0; channel < p->c; channel++)
        into_slabs(c, at, blocks, g * p->c + channel, tools, pair, z + channel * block_bytes, threads);
    const double top = largest(s, tools, threads);
    if (isnan(top)) return 0;
    product t = {.c = c, .tools = tools, .z = z, .sum = p->c * p->k == 1 ? z : z + p->c * block_bytes};
    int64_t budget = GUARD_PRODUCTS * s->n[PLANES] * s->n[COLUMNS] * s->n[ROWS] * (p->c + p->k);
    for (t.k = 0; t.k < p->k; t.k++) {
        t.h = c->packed + s->spectra + (g * p->k + t.k) * p->c * block_bytes;
        fc_parallel(s->slabs, threads, slab, &t);
        const double bound = ((const double *)(c->packed + s->bound))[g * p->k + t.k];
        /* data of zeros give outputs of 0, which are right */
        const double error = s->guard && top > 0 ? bound * top : -1;
        if (!from_slabs(c, at, blocks, g, t.k, error, tools, pair, t.sum, threads, &budget)) return 0;
    }
    return 1;
}

static void work(void *context, int64_t i, int64_t slot)
{
    const call *const c = context;
    char *const tools = c->workspace + slot * c->s.tools_bytes, *const pair = c->pairs + slot * c->s.pair_bytes;
    if (!one_pair(c, i / c->s.pairs, i % c->s.pairs, tools, pair, 1)) c->epilogue->left[i] = 1;
}

/* Pairs that threads have one each of; those left over are shared by all, where that is worth it. */
static int64_t alone(const fc_problem *p, const overlap_save *s, int64_t threads)
{
    const int64_t pairs = p->g * s->pairs;
    const int shared = s->n[PLANES] == 1 && s->n[ROWS] * s->n[COLUMNS] >= SHARED;
    return shared ? pairs - pairs % threads : pairs;
}

/* How many threads have tools, and how many pairs are in work at once. */
static int64_t tools_of(const fc_problem *p, const overlap_save *s, int64_t threads)
{
    return alone(p, s, threads) < p->g * s->pairs ? threads : fc_min(threads, fc_max(1, p->g * s->pairs));
}

static int64_t at_once(const fc_problem *p, const overlap_save *s, int64_t threads)
{
    return fc_min(threads, fc_max(1, alone(p, s, threads)));
}

static void run(const fc_problem *p, const fc_config *config, const fc_kernels *kernels, const void *x,
                const void *packed, const fc_epilogue *epilogue, void *y, void *workspace, int64_t threads)
{
    call c = {.p = p, .kernels = kernels, .x = x, .packed = packed, .epilogue = epilogue, .y = y,
              .workspace = workspace};
    fc_overlap_save_layout(p, config, kernels, &c.s);
    c.pairs = c.workspace + tools_of(p, &c.s, threads) * c.s.tools_bytes;
    for (int a = 0; a < AXES; a++) fc_overlap_save_line(&c.s, a, packed, &c.line[a]);
    const int64_t first = alone(p, &c.s, threads);
    fc_parallel(first, threads, work, &c);
    for (int64_t i = first; i < p->g * c.s.pairs; i++)
        if (!one_pair(&c, i / c.s.pairs, i % c.s.pairs, c.workspace, c.pairs, threads)) epilogue->left[i] = 1;
}

static int64_t packed_bytes(const fc_problem *p, const fc_config *config, const fc_kernels *kernels)
{
    overlap_save s;
    fc_overlap_save_layout(p, config, kernels, &s);
    return s.packed_bytes;
}

static int64_t workspace_bytes(const fc_problem *p, const fc_config *config, const fc_kernels *kernels,
                               int64_t threads)
{
    overlap_save s;
    fc_overlap_save_layout(p, config, kernels, &s);
    return s.tools_bytes * tools_of(p, &s, threads) + s.pair_bytes * at_once(p, &s, threads);
}

const fc_driver fc_driver_overlap_save = {
    .name = "overlap_save", .workspace_bytes = workspace_bytes, .packed_bytes = packed_bytes,
    .pack = fc_overlap_save_pack, .run = run,
};
