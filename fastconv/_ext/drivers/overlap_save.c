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
 *   threads   share pairs of blocks of a group
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

/* Products that the guard may take, a sample of the pair: about what the transforms cost. */
enum { GUARD_PRODUCTS = 16 };

/* Largest exponent of data, half a quarter of the type's range: products neither overflow nor vanish. */
enum { EXPONENT_F32 = 32, EXPONENT_F64 = 256 };

typedef struct {
    const fc_problem *p;
    const fc_kernels *kernels;
    overlap_save s;
    fc_fft_line line[AXES];
    const char *x, *packed;
    const fc_epilogue *epilogue;
    char *y, *workspace;
} call;

static place find_block(const fc_problem *p, const overlap_save *s, int64_t i)
{
    place at;
    for (int64_t d = p->dims - 1; d >= 0; d--) {
        at.first[d] = i % s->count[d] * s->kept[d];
        at.kept[d] = fc_min(s->kept[d], p->out[d] - at.first[d]);
        i /= s->count[d];
    }
    at.image = i;
    return at;
}

/* The halves of a block: those of outputs lie as far apart as those of samples. */
static void split(const overlap_save *s, place *at)
{
    const int64_t d = s->halved;
    at[1] = at[0];
    at[1].first[d] += s->half;
    at[1].kept[d] = fc_max(0, at[0].kept[d] - s->half);
    at[0].kept[d] -= at[1].kept[d];
}

/* Rows of plane i of a block: where they are, in x or, at its ends, in copies. */
static void rows_in(const call *c, const place *at, int64_t channel, int64_t i, char *copies,
                    const char *beyond, const void **rows)
{
    const fc_problem *const p = c->p;
    const overlap_save *const s = &c->s;
    const int64_t item = s->parts * s->size, last = s->axis[COLUMNS];
    for (int64_t j = 0; j < s->n[ROWS]; j++) {
        const char *row = c->x + (at->image * p->x_n + channel * p->x_c) * item;
        int64_t t = at->first[last] * p->stride[last];
        int outside = 0;
        for (int64_t d = 0; d < p->dims; d++) {
            if (d == last) continue;
            const int64_t td = at->first[d] * p->stride[d]
                               + (d == s->axis[ROWS] ? j : d == s->axis[PLANES] ? i : 0);
            outside |= td >= fc_overlap_save_padded(p, d);
            const int64_t source = outside || !row ? -1 : fc_source(p, d, td);
            row = source < 0 ? NULL : row + source * p->x_s[d] * item;
        }
        if (s->one_axis) t += j * s->n[COLUMNS];
        outside |= t >= fc_overlap_save_padded(p, last);
        const int64_t from = t - p->pad[last];
        const int inside = from >= 0 && from + s->n[COLUMNS] <= p->in[last];
        if (outside || (!row && p->boundary == FC_ZEROS))
            rows[j] = beyond;
        else if (row && inside && p->x_s[last] == 1)
            rows[j] = row + from * item;
        else {
            fc_overlap_save_fill(p, last, item, row, t, s->n[COLUMNS], copies + j * s->row_bytes);
            rows[j] = copies + j * s->row_bytes;
        }
    }
}

/* Where rows of outputs of plane i go, in y or in copies, and how many samples of each are wanted. */
static void rows_out(const call *c, const place *at, int64_t filter, int64_t i, char *copies, void **rows,
                     int64_t *counts)
{
    const fc_problem *const p = c->p;
    const overlap_save *const s = &c->s;
    const int64_t item = s->parts * s->size, last = s->axis[COLUMNS];
    const int direct = p->stride[last] == 1 && p->y_s[last] == 1;
    int64_t y = at->image * p->y_n + filter * p->y_k;
    for (int64_t d = 0; d < p->dims; d++) y += at->first[d] * p->y_s[d];
    const int64_t plane = s->axis[PLANES], across = s->axis[ROWS];
    if (plane >= 0) y += i / p->stride[plane] * p->y_s[plane];
    const int64_t reach = (at->kept[last] - 1) * p->stride[last] + 1;
    for (int64_t j = 0; j < s->n[ROWS]; j++) {
        int64_t at_row = y;
        if (s->one_axis) {
            counts[j] = fc_max(0, fc_min(s->n[COLUMNS], reach - j * s->n[COLUMNS]));
            at_row += j * s->n[COLUMNS];
        } else {
            const int64_t u = p->stride[across];
            counts[j] = j % u || j / u >= at->kept[across] ? 0 : reach;
            at_row += j / u * p->y_s[across];
        }
        rows[j] = direct ? c->y + at_row * item : copies + j * s->row_bytes;
    }
}

/* Bias, residual and activation of a plane's rows, which are moved to y where they are copies. */
static void finish_rows(const call *c, const place *at, int64_t filter, int64_t i, char *copies,
                        const int64_t *counts)
{
    const fc_problem *const p = c->p;
    const overlap_save *const s = &c->s;
    const int64_t item = s->parts * s->size, last = s->axis[COLUMNS], u = p->stride[last];
    const int direct = u == 1 && p->y_s[last] == 1;
    const fc_epilogue *const e = c->epilogue;
    if (direct && !e->bias && !e->residual && !e->activation) return;
    int64_t y = at->image * p->y_n + filter * p->y_k;
    for (int64_t d = 0; d < p->dims; d++) y += at->first[d] * p->y_s[d];
    if (s->axis[PLANES] >= 0) y += i / p->stride[s->axis[PLANES]] * p->y_s[s->axis[PLANES]];
    for (int64_t j = 0; j < s->n[ROWS]; j++) {
        if (!counts[j]) continue;
        /* the first sample of the row that is an output, and which it is */
        const int64_t before = s->one_axis ? j * s->n[COLUMNS] : 0, skip = (u - before % u) % u;
        const int64_t count = fc_ceil_div(counts[j] - skip, u);
        if (count <= 0) continue;
        int64_t to = y + fc_ceil_div(before, u) * p->y_s[last];
        if (!s->one_axis) to += j / p->stride[s->axis[ROWS]] * p->y_s[s->axis[ROWS]];
        if (!direct)
            for (int64_t o = 0; o < count; o++)
                memcpy(c->y + (to + o * p->y_s[last]) * item,
                       copies + j * s->row_bytes + (skip + o * u) * item, (size_t)item);
        if (e->bias)
            for (int64_t o = 0; o < count; o++)
                for (int64_t b = 0; b < s->parts; b++) {
                    const int64_t v = (to + o * p->y_s[last]) * s->parts + b, w = filter * s->parts + b;
                    if (s->size == 4) ((float *)c->y)[v] += ((const float *)e->bias)[w];
                    else ((double *)c->y)[v] += ((const double *)e->bias)[w];
                }
        for (int64_t b = 0; b < s->parts; b++)
            fc_finish(p, c->kernels, e, c->y, to * s->parts + b, count, p->y_s[last] * s->parts);
    }
}

/* Settles suspects of one plane; whether the budget lasted. */
static int settle(const call *c, const place *at, int64_t g, int64_t k, int64_t i, double error,
                  int64_t found, const int32_t *suspects, void *const *rows, int64_t *budget)
{
    const fc_problem *const p = c->p;
    const overlap_save *const s = &c->s;
    if (found > SUSPECTS) return 0;
    for (int64_t m = 0; m < found; m++) {
        const int64_t row = suspects[m] / s->n[COLUMNS], column = suspects[m] % s->n[COLUMNS];
        const int64_t position[AXES] = {i, row, s->one_axis ? suspects[m] : column};
        int64_t o[FC_DIMS];
        int kept = 1;
        for (int64_t d = 0; d < p->dims; d++) o[d] = at->first[d];
        for (int a = 0; a < AXES; a++) {
            const int64_t d = s->axis[a];
            if (d < 0) continue;
            kept &= position[a] % p->stride[d] == 0;
            o[d] += position[a] / p->stride[d];
        }
        if (!kept) continue;
        if (*budget <= 0) return 0;
        fc_overlap_save_settle(p, s, c->x, at->image, g, k, o, error, c->packed, budget,
                               (char *)rows[row] + column * s->parts * s->size);
    }
    return 1;
}

/* The spectrum of a channel of the blocks at[..], but for its slabs' own transforms. */
static void into_slabs(const call *c, const place *at, int64_t blocks, int64_t channel, char *slot, char *z)
{
    const overlap_save *const s = &c->s;
    const int64_t lanes = s->fft->lanes, vectors = 2 * lanes * s->size;
    const void **const rows = (const void **)(slot + s->inputs);
    char *const buffer = slot + s->buffer, *const peak = buffer + s->n[ROWS] * vectors;
    char *const copies = slot + s->edges;
    for (int64_t i = 0; i < s->n[PLANES]; i++) {
        for (int64_t b = 0; b < blocks; b++)
            rows_in(c, &at[b], channel, i, copies + b * s->n[ROWS] * s->row_bytes, slot + s->beyond,
                    rows + b * s->n[ROWS]);
        if (blocks < 2)
            for (int64_t j = 0; j < s->n[ROWS]; j++) rows[s->n[ROWS] + j] = slot + s->beyond;
        for (int64_t column = 0; column < s->n[COLUMNS]; column += lanes) {
            s->fft->load(s->n[ROWS], rows, s->parts == 2 ? NULL : rows + s->n[ROWS],
                         s->half ? c->packed + s->weights : NULL, column, buffer, peak);
            s->fft->forward(&c->line[ROWS], buffer);
            s->fft->turn(s->n[ROWS], buffer, c->packed + s->near,
                         s->one_axis ? c->packed + s->far + column / lanes * s->n[ROWS] * 2 * s->size : NULL,
                         z + (i * s->n[COLUMNS] + column) * vectors, s->slab);
        }
    }
}

static void slab_forward(const call *c, char *slot, char *slab)
{
    const overlap_save *const s = &c->s;
    const int64_t pitch = s->n[COLUMNS] * 2 * s->fft->lanes;
    for (int64_t i = 0; i < s->n[PLANES]; i++)
        s->fft->forward(&c->line[COLUMNS], slab + i * pitch * s->size);
    if (s->n[PLANES] > 1)
        s->fft->across(&c->line[PLANES], slab, pitch, s->n[COLUMNS], slot + s->across);
}

static void slab_inverse(const call *c, char *slot, char *slab)
{
    const overlap_save *const s = &c->s;
    const int64_t pitch = s->n[COLUMNS] * 2 * s->fft->lanes;
    if (s->n[PLANES] > 1)
        s->fft->across_back(&c->line[PLANES], slab, pitch, s->n[COLUMNS], slot + s->across);
    for (int64_t i = 0; i < s->n[PLANES]; i++)
        s->fft->inverse(&c->line[COLUMNS], slab + i * pitch * s->size);
}

/* Outputs of one filter from its slabs; whether they could be guarded. */
static int from_slabs(const call *c, const place *at, int64_t blocks, int64_t g, int64_t k, double error,
                      char *slot, const char *z, int64_t *budget)
{
    const fc_problem *const p = c->p;
    const overlap_save *const s = &c->s;
    const int64_t lanes = s->fft->lanes, vectors = 2 * lanes * s->size, filter = g * p->k + k;
    void **const rows = (void **)(slot + s->outputs);
    int64_t *const counts = (int64_t *)(slot + s->counts);
    int32_t *const suspects = (int32_t *)(slot + s->suspects);
    for (int64_t i = 0; i < s->n[PLANES]; i++) {
        const int64_t plane = s->axis[PLANES];
        if (plane >= 0 && (i % p->stride[plane] || i / p->stride[plane] >= s->kept[plane])) continue;
        int64_t found[2] = {0, 0};
        int wanted[2];
        for (int64_t b = 0; b < blocks; b++) {
            wanted[b] = plane < 0 || i / p->stride[plane] < at[b].kept[plane];
            if (wanted[b])
                rows_out(c, &at[b], filter, i, slot + s->edges + b * s->n[ROWS] * s->row_bytes,
                         rows + b * s->n[ROWS], counts + b * s->n[ROWS]);
        }
        for (int64_t column = 0; column < s->n[COLUMNS]; column += lanes) {
            s->fft->turn_back(s->n[ROWS], z + (i * s->n[COLUMNS] + column) * vectors, s->slab,
                              c->packed + s->near,
                              s->one_axis ? c->packed + s->far + column / lanes * s->n[ROWS] * 2 * s->size
                                          : NULL,
                              slot + s->buffer);
            s->fft->inverse(&c->line[ROWS], slot + s->buffer);
            for (int64_t b = 0; b < blocks; b++)
                if (wanted[b])
                    found[b] = s->fft->store(s->n[ROWS], slot + s->buffer,
                                             s->half ? c->packed + s->weights : NULL,
                                             s->parts == 2 ? 2 : b, rows + b * s->n[ROWS],
                                             counts + b * s->n[ROWS], column, 11 * error, s->n[COLUMNS],
                                             suspects + b * SUSPECTS, found[b], SUSPECTS);
        }
        for (int64_t b = 0; b < blocks; b++) {
            if (!wanted[b]) continue;
            if (!settle(c, &at[b], g, k, i, error, found[b], suspects + b * SUSPECTS,
                        rows + b * s->n[ROWS], budget))
                return 0;
            finish_rows(c, &at[b], filter, i, slot + s->edges + b * s->n[ROWS] * s->row_bytes,
                        counts + b * s->n[ROWS]);
        }
    }
    return 1;
}

/* Largest part of what was loaded; NaN or Inf when there is one, or when it is out of range. */
static double largest(const overlap_save *s, const char *peak)
{
    double top = 0;
    for (int64_t l = 0; l < s->fft->lanes; l++) {
        const int64_t check = l + s->fft->lanes;
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

static int one_pair(const call *c, int64_t g, int64_t pair, char *slot)
{
    const fc_problem *const p = c->p;
    const overlap_save *const s = &c->s;
    const int64_t together = s->parts == 2 || s->half ? 1 : 2, block_bytes = s->block * s->size;
    int64_t blocks = fc_min(together, s->blocks - pair * together);
    place at[2];
    for (int64_t b = 0; b < blocks; b++) at[b] = find_block(p, s, pair * together + b);
    if (s->half) split(s, at), blocks = 2;
    const int64_t vectors = 2 * s->fft->lanes * s->size;
    char *const peak = slot + s->buffer + s->n[ROWS] * vectors, *const z = slot + s->blocks_at;
    memset(peak, 0, (size_t)vectors);
    for (int64_t i = 0; i < p->c; i++)
        into_slabs(c, at, blocks, g * p->c + i, slot, z + i * block_bytes);
    const double top = largest(s, peak);
    if (isnan(top)) return 0;
    const int in_place = p->c * p->k == 1;
    char *const sum = in_place ? z : z + p->c * block_bytes;
    const int64_t slab_bytes = s->slab * s->size, samples = s->n[PLANES] * s->n[COLUMNS];
    int64_t budget = GUARD_PRODUCTS * samples * s->n[ROWS] * (p->c + p->k);
    for (int64_t k = 0; k < p->k; k++) {
        const char *const h = c->packed + s->spectra + (g * p->k + k) * p->c * block_bytes;
        for (int64_t b = 0; b < s->slabs; b++) {
            char *const to = sum + b * slab_bytes;
            for (int64_t i = 0; i < p->c; i++) {
                char *const from = z + i * block_bytes + b * slab_bytes;
                if (k == 0) slab_forward(c, slot, from);
                s->fft->multiply(samples, from, h + i * block_bytes + b * slab_bytes, i > 0, to);
            }
            slab_inverse(c, slot, to);
        }
        const double bound = ((const double *)(c->packed + s->bound))[g * p->k + k];
        /* data of zeros give outputs of 0, which are right */
        const double error = s->guard && top > 0 ? bound * top : -1;
        if (!from_slabs(c, at, blocks, g, k, error, slot, sum, &budget)) return 0;
    }
    return 1;
}

static void work(void *context, int64_t i, int64_t slot)
{
    const call *const c = context;
    char *const at = c->workspace + slot * c->s.slot_bytes;
    memset(at + c->s.beyond, 0, (size_t)c->s.row_bytes);
    if (!one_pair(c, i / c->s.pairs, i % c->s.pairs, at)) c->epilogue->left[i] = 1;
}

static void run(const fc_problem *p, const fc_config *config, const fc_kernels *kernels, const void *x,
                const void *packed, const fc_epilogue *epilogue, void *y, void *workspace, int64_t threads)
{
    call c = {.p = p, .kernels = kernels, .x = x, .packed = packed, .epilogue = epilogue, .y = y,
              .workspace = workspace};
    fc_overlap_save_layout(p, config, kernels, &c.s);
    for (int a = 0; a < AXES; a++) fc_overlap_save_line(&c.s, a, packed, &c.line[a]);
    fc_parallel(p->g * c.s.pairs, threads, work, &c);
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
    return s.slot_bytes * fc_min(threads, fc_max(1, p->g * s.pairs));
}

const fc_driver fc_driver_overlap_save = {
    .name = "overlap_save", .workspace_bytes = workspace_bytes, .packed_bytes = packed_bytes,
    .pack = fc_overlap_save_pack, .run = run,
};
