/* scores: those of all windows of an image, a block of rows at a time.
 *
 *   y[p][q] = score of the windows x[c][p .. p + taps[0]][q .. q + taps[1]]
 *
 * x         [channels][rows of x][columns of x], rows and channels anywhere; or sums that are known:
 *           [channels + 1][rows][columns], the last plane those of squares
 * products  [rows][columns]
 * y         the same; float or double
 * workspace a thread: the sums of a block down, [channels + 1][BLOCK][ld]; a row of them along; pointers
 *
 * A block has as many rows as a window, or BLOCK. With fewer a row of x is read more often: 1080p, windows
 * of 120 x 120, one thread of a Zen 3 with AVX2, sums down took 7.0 ms by 32 rows, 6.1 by 64, 4.4 by 120.
 */
#include <math.h>

#include "scores.h"

enum { BLOCK = 256 };

/* Samples of a piece of an image that is centred: 256 KB of doubles, half of an L2. */
enum { PIECE = 1 << 15 };

/* Bytes of a block's sums that are made at a time: half of an L2 of 2 MB. */
enum { SUMS_BYTES = 1 << 20 };

static int64_t block_rows(const fc_score_image *m) { return fc_min(fc_min(m->taps[0], BLOCK), m->rows); }

/* Columns whose sums are made at a time. Those down of windows that reach beyond are made twice: they are at most an eighth. */
static int64_t strip_columns(const fc_score_image *m)
{
    const int64_t fit = SUMS_BYTES / (8 * (m->channels + 1) * block_rows(m));
    const int64_t strips = fc_ceil_div(m->columns, fc_max(fit, 8 * m->taps[1]));
    return m->known ? m->columns : fc_round_up(fc_ceil_div(m->columns, strips), FC_ALIGN / 8);
}

/* Doubles of a row of sums: a multiple of a page would put all rows in few sets of L2. */
static int64_t row_pitch(const fc_score_image *m)
{
    const int64_t ld = fc_round_up(strip_columns(m) + m->taps[1] - 1, FC_ALIGN / 8);
    return ld % 512 ? ld : ld + FC_ALIGN / 8;
}

static int64_t slot_bytes(const fc_score_image *m)
{
    const int64_t planes = m->channels + 1, ld = row_pitch(m);
    return fc_round_up(planes * ((block_rows(m) + 1) * ld * 8 + (int64_t)sizeof(double *)), FC_ALIGN);
}

static int64_t blocks(const fc_score_image *m) { return fc_ceil_div(m->rows, block_rows(m)); }

static int64_t units(const fc_score_image *m) { return blocks(m) * fc_ceil_div(m->columns, strip_columns(m)); }

int64_t fc_scores_workspace(const fc_score_image *m, int64_t threads)
{
    return slot_bytes(m) * fc_min(threads, units(m));
}

typedef struct {
    const fc_score_image *m;
    const fc_scores *kernel;
    char *workspace;
} call;

/* A block of a strip of columns; the next one, most often this thread's, finds the lower half of its rows in L2. */
static void work(void *context, int64_t i, int64_t slot)
{
    const call *const c = context;
    const fc_score_image *const m = c->m;
    const int64_t block = block_rows(m), first = i % blocks(m) * block, n = fc_min(block, m->rows - first);
    const int64_t ld = row_pitch(m), plane = block * ld, channels = m->channels, strip = strip_columns(m);
    const int64_t column = i / blocks(m) * strip, count = fc_min(strip, m->columns - column);
    const double *const x = m->x + first * m->x_row + column;
    double *const sums = (double *)(c->workspace + slot * slot_bytes(m));
    double *const line = sums + (channels + 1) * plane;
    const double **const at = (const double **)(line + (channels + 1) * ld);
    if (!m->known)
        for (int64_t k = 0; k < channels; k++)
            c->kernel->down(count + m->taps[1] - 1, m->taps[0], n, x + k * m->x_c, m->x_row, k > 0, sums + k * plane,
                            sums + channels * plane, ld);
    for (int64_t j = 0; j < n; j++) {
        for (int64_t k = 0; k <= channels; k++) {
            at[k] = m->known ? x + k * m->x_c + j * m->x_row : line + k * ld;
            if (!m->known) c->kernel->along(m->taps[1], count, sums + k * plane + j * ld, line + k * ld);
        }
        const int64_t row = first + j, to = row * m->columns + column;
        for (int64_t i = 0; i < count; i += FC_ALIGN / 8) __builtin_prefetch(m->products + to + m->columns + i, 0, 2);
        if (c->kernel->score(count, channels, at, m->products + to, &m->rule, m->narrow,
                             (char *)m->y + to * (m->narrow ? 4 : 8)))
            __atomic_store_n(&m->doubtful[row], 1, __ATOMIC_RELAXED);
    }
}

void fc_scores_run(const fc_score_image *m, const fc_kernels *kernels, void *workspace, int64_t threads)
{
    call c = {m, kernels->scores_f64, workspace};
    fc_parallel(units(m), threads, work, &c);
}

typedef struct {
    const fc_scores *kernel;
    const fc_score_samples *m;
    double *parts;
} samples;

int64_t fc_scores_pieces(int64_t count) { return fc_ceil_div(count, PIECE); }

/* Where piece i begins, and how many samples it has. */
static const void *piece(const fc_score_samples *m, int64_t i, int64_t *count)
{
    *count = fc_min(PIECE, m->count - i * PIECE);
    return (const char *)m->x + i * PIECE * fc_dtype_bytes(m->of);
}

static void total(void *context, int64_t i, int64_t slot)
{
    (void)slot;
    const samples *const c = context;
    int64_t n;
    const void *const x = piece(c->m, i, &n);
    c->parts[i] = c->kernel->total(c->m->of, n, x);
}

static void centre(void *context, int64_t i, int64_t slot)
{
    (void)slot;
    const samples *const c = context;
    const double mean = c->m->mean;
    double *const y = c->m->y + i * PIECE;
    int64_t n;
    const void *const x = piece(c->m, i, &n);
    c->parts[i] = c->kernel->centre(c->m->of, n, x, mean, y);
}

double fc_scores_total(const fc_score_samples *m, const fc_kernels *kernels, double *parts, int64_t threads)
{
    samples c = {kernels->scores_f64, m, parts};
    double sum = 0;
    fc_parallel(fc_scores_pieces(m->count), threads, total, &c);
    for (int64_t i = 0; i < fc_scores_pieces(m->count); i++) sum += parts[i];
    return sum;
}

double fc_scores_centre(const fc_score_samples *m, const fc_kernels *kernels, double *parts, int64_t threads)
{
    samples c = {kernels->scores_f64, m, parts};
    double largest = 0;
    fc_parallel(fc_scores_pieces(m->count), threads, centre, &c);
    for (int64_t i = 0; i < fc_scores_pieces(m->count); i++) largest = fmax(largest, parts[i]);
    return largest;
}
