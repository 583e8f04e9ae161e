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
    uint8_t *doubtful; /* a byte a row: whether `score` said so */
} fc_score_image;

int64_t fc_scores_workspace(const fc_score_image *m, int64_t threads);
void fc_scores_run(const fc_score_image *m, const fc_kernels *kernels, void *workspace, int64_t threads);

#endif
