/* scores: those of all windows of an image of bytes, from whole numbers, a band of rows at a time.
 *
 *   y[p][q] = score of the windows x[c][p .. p + taps[0]][q .. q + taps[1]]
 *
 * x         [channels][rows of x][columns of x], rows and channels anywhere
 * products  [rows][columns], sums of products with the template as it is
 * y         the same
 * workspace a thread: sums down of a row of windows, [channels + 1][ld], the last those of squares; of a row along, and
 *           the same once more for what along takes apart; pointers
 *
 * Sums down go from a row to the next; each band begins with those of a whole window.
 */
#include <string.h>

#include "scores.h"

/* Rows of a band, in windows' heights: beginning a band costs half of that for as many rows. */
enum { HEIGHTS = 4, LEAST = 32 };

static int64_t band_rows(const fc_byte_image *m) { return fc_max(LEAST, HEIGHTS * m->taps[0]); }

static int64_t row_pitch(const fc_byte_image *m) { return fc_round_up(m->columns + m->taps[1] - 1, FC_ALIGN / 4); }

static int64_t slot_bytes(const fc_byte_image *m)
{
    const int64_t planes = m->channels + 1;
    return fc_round_up((2 * planes + 1) * row_pitch(m) * 4 + planes * (int64_t)sizeof(int32_t *), FC_ALIGN);
}

static int64_t bands(const fc_byte_image *m) { return fc_ceil_div(m->rows, band_rows(m)); }

int64_t fc_byte_scores_workspace(const fc_byte_image *m, int64_t threads)
{
    return slot_bytes(m) * fc_min(threads, bands(m));
}

typedef struct {
    const fc_byte_image *m;
    const fc_byte_scores *kernel;
    char *workspace;
} call;

static void band(void *context, int64_t i, int64_t slot)
{
    const call *const c = context;
    const fc_byte_image *const m = c->m;
    const int64_t first = i * band_rows(m), end = fc_min(m->rows, first + band_rows(m));
    const int64_t ld = row_pitch(m), across = m->columns + m->taps[1] - 1, channels = m->channels;
    int32_t *const down = (int32_t *)(c->workspace + slot * slot_bytes(m)), *const along = down + (channels + 1) * ld;
    int32_t *const apart = along + (channels + 1) * ld;
    const int32_t **const at = (const int32_t **)(apart + ld);
    memset(down, 0, (size_t)((channels + 1) * ld * 4));
    for (int64_t k = 0; k <= channels; k++) at[k] = along + k * ld;
    for (int64_t row = first - m->taps[0] + 1; row < end; row++) {
        /* the row that enters, and the one that leaves once a window is full */
        for (int64_t k = 0; k < channels; k++) {
            const uint8_t *const x = m->x + k * m->x_c + (row + m->taps[0] - 1) * m->x_row;
            c->kernel->slide(across, x, row > first ? x - m->taps[0] * m->x_row : NULL, down + k * ld, down + channels * ld);
        }
        if (row < first) continue;
        for (int64_t k = 0; k <= channels; k++) {
            memcpy(apart, down + k * ld, (size_t)across * 4);
            c->kernel->along(m->taps[1], m->columns, apart, along + k * ld);
        }
        c->kernel->score(m->columns, channels, at, m->products + row * m->columns, &m->rule, m->y + row * m->columns);
    }
}

void fc_byte_scores_run(const fc_byte_image *m, const fc_kernels *kernels, void *workspace, int64_t threads)
{
    call c = {m, kernels->scores_u8_i32, workspace};
    fc_parallel(bands(m), threads, band, &c);
}
