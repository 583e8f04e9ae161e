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

/* Samples of a piece of an image that is centred: 256 KB of doubles, half of an L2; sums that are made side by side. */
enum { PIECE = 1 << 15, SUMS = 8 };

static int64_t block_rows(const fc_score_image *m) { return fc_min(fc_min(m->taps[0], BLOCK), m->rows); }

/* Doubles of a row of sums: a multiple of a page would put all rows in few sets of L2. */
static int64_t row_pitch(const fc_score_image *m)
{
    const int64_t ld = fc_round_up(m->columns + m->taps[1] - 1, FC_ALIGN / 8);
    return ld % 512 ? ld : ld + FC_ALIGN / 8;
}

static int64_t slot_bytes(const fc_score_image *m)
{
    const int64_t planes = m->channels + 1, ld = row_pitch(m);
    return fc_round_up(planes * ((block_rows(m) + 1) * ld * 8 + (int64_t)sizeof(double *)), FC_ALIGN);
}

static int64_t blocks(const fc_score_image *m) { return fc_ceil_div(m->rows, block_rows(m)); }

int64_t fc_scores_workspace(const fc_score_image *m, int64_t threads)
{
    return slot_bytes(m) * fc_min(threads, blocks(m));
}

typedef struct {
    const fc_score_image *m;
    const fc_scores *kernel;
    char *workspace;
} call;

static void work(void *context, int64_t i, int64_t slot)
{
    const call *const c = context;
    const fc_score_image *const m = c->m;
    const int64_t block = block_rows(m), first = i * block, n = fc_min(block, m->rows - first);
    const int64_t ld = row_pitch(m), plane = block * ld, channels = m->channels;
    double *const sums = (double *)(c->workspace + slot * slot_bytes(m));
    double *const line = sums + (channels + 1) * plane;
    const double **const at = (const double **)(line + (channels + 1) * ld);
    if (!m->known)
        for (int64_t k = 0; k < channels; k++)
            c->kernel->down(m->columns + m->taps[1] - 1, m->taps[0], n,
                            m->x + k * m->x_c + first * m->x_row, m->x_row, k > 0, sums + k * plane,
                            sums + channels * plane, ld);
    for (int64_t j = 0; j < n; j++) {
        for (int64_t k = 0; k <= channels; k++) {
            at[k] = m->known ? m->x + k * m->x_c + (first + j) * m->x_row : line + k * ld;
            if (!m->known) c->kernel->along(m->taps[1], m->columns, sums + k * plane + j * ld, line + k * ld);
        }
        const int64_t row = first + j;
        m->doubtful[row] = (uint8_t)c->kernel->score(
            m->columns, channels, at, m->products + row * m->columns, &m->rule, m->narrow,
            (char *)m->y + row * m->columns * (m->narrow ? 4 : 8));
    }
}

void fc_scores_run(const fc_score_image *m, const fc_kernels *kernels, void *workspace, int64_t threads)
{
    call c = {m, kernels->scores_f64, workspace};
    fc_parallel(blocks(m), threads, work, &c);
}

/* Of bytes sums are whole, PIECE * 255 at most, and the 256 differences are looked up: 0.14 and 1.5 ms of a picture
 * of 1080p, one thread of a Zen 3, where conversions took 1.1 and 2.3. */
static double total_u8(int64_t count, const uint8_t *x)
{
    uint32_t sum = 0;
    for (int64_t i = 0; i < count; i++) sum += x[i];
    return sum;
}

static double centre_u8(int64_t count, const uint8_t *restrict x, double mean, double *restrict y)
{
    double less[256];
    uint8_t least = 255, most = 0;
    for (int i = 0; i < 256; i++) less[i] = i - mean;
    for (int64_t i = 0; i < count; i++) {
        least = x[i] < least ? x[i] : least;
        most = x[i] > most ? x[i] : most;
    }
    for (int64_t i = 0; i < count; i++) y[i] = less[x[i]];
    return fmax(fabs(less[least]), fabs(less[most]));
}

#define X float
#define NAME(x) x##_f32
#include "centre.inc"
#define X double
#define NAME(x) x##_f64
#include "centre.inc"

typedef struct {
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
    c->parts[i] = c->m->of == FC_U8    ? total_u8(n, x)
                  : c->m->of == FC_F32 ? total_f32(n, x)
                                       : total_f64(n, x);
}

static void centre(void *context, int64_t i, int64_t slot)
{
    (void)slot;
    const samples *const c = context;
    const double mean = c->m->mean;
    double *const y = c->m->y + i * PIECE;
    int64_t n;
    const void *const x = piece(c->m, i, &n);
    c->parts[i] = c->m->of == FC_U8    ? centre_u8(n, x, mean, y)
                  : c->m->of == FC_F32 ? centre_f32(n, x, mean, y)
                                       : centre_f64(n, x, mean, y);
}

double fc_scores_total(const fc_score_samples *m, double *parts, int64_t threads)
{
    samples c = {m, parts};
    double sum = 0;
    fc_parallel(fc_scores_pieces(m->count), threads, total, &c);
    for (int64_t i = 0; i < fc_scores_pieces(m->count); i++) sum += parts[i];
    return sum;
}

double fc_scores_centre(const fc_score_samples *m, double *parts, int64_t threads)
{
    samples c = {m, parts};
    double largest = 0;
    fc_parallel(fc_scores_pieces(m->count), threads, centre, &c);
    for (int64_t i = 0; i < fc_scores_pieces(m->count); i++) largest = fmax(largest, parts[i]);
    return largest;
}
