/* Scores of an image's windows: what drivers/scores.c is asked for. */
#ifndef FC_SCORES_H
#define FC_SCORES_H

#include "../fc.h"

typedef struct {
    int64_t channels, rows, columns, taps[2]; /* rows and columns of scores */
    int known, narrow;                        /* x holds sums of windows; y holds floats */
    const double *x;
    int64_t x_c, x_row;
    const double *products;
    fc_score_rule rule;
    void *y;
    uint8_t *doubtful; /* a byte a row: becomes 1 where `score` says so */
} fc_score_image;

/* An array of count samples of a dtype, bytes, float or double. */
typedef struct {
    fc_dtype of;
    int64_t count;
    const void *x;
    double mean, *y;
} fc_score_samples;

/* Whole pieces of an array, whose sums or largest sizes are put together in the order they lie. */
int64_t fc_scores_pieces(int64_t count);
/* The sum of all samples; `parts` has a double for each piece. */
double fc_scores_total(const fc_score_samples *m, const fc_kernels *kernels, double *parts, int64_t threads);
/* y = x - mean; the largest of abs(y), NaN left out. */
double fc_scores_centre(const fc_score_samples *m, const fc_kernels *kernels, double *parts, int64_t threads);

int64_t fc_scores_workspace(const fc_score_image *m, int64_t threads);
void fc_scores_run(const fc_score_image *m, const fc_kernels *kernels, void *workspace, int64_t threads);

/* Scores of an image of bytes: scores_u8.c. */
typedef struct {
    int64_t channels, rows, columns, taps[2]; /* rows and columns of scores */
    const uint8_t *x;
    int64_t x_c, x_row;
    const int32_t *products;
    fc_byte_rule rule;
    float *y;
} fc_byte_image;
int64_t fc_byte_scores_workspace(const fc_byte_image *m, int64_t threads);
void fc_byte_scores_run(const fc_byte_image *m, const fc_kernels *kernels, void *workspace, int64_t threads);

#endif
