/* Outputs along an axis with input dilation e and stride 1: those of one residue modulo e meet the same taps, r for which
 * output + r*l - pad is a multiple of e, in sample (output + r*l - pad) / e (Crochiere and Rabiner, Multirate Digital Signal
 * Processing, 1983, section 3.3).
 */
#ifndef FC_RESIDUE_H
#define FC_RESIDUE_H

#include "../fc.h"

/* `count` taps, the first of them r, `step` apart; the samples that they meet, `at` and on, `jump` apart. */
typedef struct {
    int64_t count, r, step, at, jump;
} fc_residue;

/* Rounded up, of any sign. */
static inline int64_t fc_divided(int64_t a, int64_t b) { return a > 0 ? fc_ceil_div(a, b) : -(-a / b); }

/* What outputs `lead` before 0, of all residues, meet first and last. */
static inline int64_t fc_first_sample(const fc_problem *p, int64_t d, int64_t lead)
{
    return fc_divided(-p->pad[d] - lead, p->input_dilation[d]);
}

static inline int64_t fc_last_sample(const fc_problem *p, int64_t d, int64_t lead)
{
    return fc_divided((p->ker[d] - 1) * p->dilation[d] - p->pad[d] - lead, p->input_dilation[d]);
}

/* The taps that output `o` meets. */
static inline fc_residue fc_residue_of(const fc_problem *p, int64_t d, int64_t o)
{
    const int64_t e = p->input_dilation[d];
    fc_residue t = {0};
    for (int64_t r = 0; r < p->ker[d]; r++) {
        const int64_t from = o + r * p->dilation[d] - p->pad[d];
        if (from % e) continue;
        if (t.count == 0) t.r = r, t.at = from / e;
        if (t.count == 1) t.step = r - t.r, t.jump = from / e - t.at;
        t.count++;
    }
    return t;
}

#endif
