/* overlap_save: samples beyond the ends, and outputs that may be nothing but error. */
#include <math.h>
#include <string.h>

#include "overlap_save.h"

void fc_overlap_save_fill(const fc_problem *p, int64_t axis, int64_t item, const char *x, int64_t t,
                          int64_t n, char *to)
{
    const int64_t padded = fc_overlap_save_padded(p, axis), size = p->in[axis], step = p->x_s[axis] * item;
    int64_t low = 0, high = 0;
    if (x) {
        low = fc_min(n, fc_max(0, p->pad[axis] - t));
        high = fc_max(low, fc_min(n, p->pad[axis] + size - t));
        const char *from = x + (t + low - p->pad[axis]) * step;
        if (step == item) memcpy(to + low * item, from, (size_t)((high - low) * item));
        else if (item == 4)
            for (int64_t j = low; j < high; j++, from += step) memcpy(to + j * 4, from, 4);
        else
            for (int64_t j = low; j < high; j++, from += step) memcpy(to + j * item, from, (size_t)item);
    }
    if (p->boundary == FC_ZEROS) {
        memset(to, 0, (size_t)(low * item));
        memset(to + high * item, 0, (size_t)((n - high) * item));
        return;
    }
    for (int64_t j = 0; j < n; j++) {
        if (j == low) j = high;
        if (j >= n) break;
        int64_t source = -1;
        if (x && t + j < padded) source = fc_source(p, axis, t + j);
        if (source >= 0)
            memcpy(to + j * item, x + source * step, (size_t)item);
        else if (p->boundary == FC_CONSTANT && t + j < padded) {
            const float f[2] = {(float)p->cval[0], (float)p->cval[1]};
            const int is_float = p->dtype == FC_F32 || p->dtype == FC_C64;
            memcpy(to + j * item, is_float ? (const void *)f : p->cval, (size_t)item);
        } else
            memset(to + j * item, 0, (size_t)item);
    }
}

/* Taps summed before their sizes are compared: mostly the first few show that S is large. */
enum { RUN = 32 };

typedef struct {
    double re, im, size;
} sums;

static inline double larger_part(double re, double im) { return fmax(fabs(re), fabs(im)); }

static inline double real_at(int64_t size, const void *x, int64_t i)
{
    return size == 4 ? (double)((const float *)x)[i] : ((const double *)x)[i];
}

/* Adds `count` products of samples `step` reals apart. A modulus is at least its larger part. */
static inline void add(int64_t size, int64_t parts, int64_t count, const void *x, int64_t step,
                       const void *w, sums *s)
{
    for (int64_t i = 0; i < count; i++) {
        const double a = real_at(size, x, i * step), c = real_at(size, w, i * parts);
        if (parts == 1) {
            s->re += a * c, s->size += fabs(a * c);
            continue;
        }
        const double b = real_at(size, x, i * step + 1), d = real_at(size, w, 2 * i + 1);
        s->re += a * c - b * d, s->im += a * d + b * c;
        s->size += larger_part(a, b) * larger_part(c, d);
    }
}

int fc_overlap_save_settle(const fc_problem *p, const overlap_save *s, const void *x, int64_t image,
                           int64_t g, int64_t k, const int64_t *o, double error, const void *packed,
                           int64_t *budget, void *to)
{
    const int64_t item = s->parts * s->size, last = s->axis[COLUMNS];
    const int64_t filter = g * p->k + k, along = p->ker[last], step = p->x_s[last];
    const char *const w = (const char *)packed + s->w + filter * p->c * s->taps * item;
    const char *const at_image = (const char *)x + (image * p->x_n + g * p->c * p->x_c) * item;
    /* taps that meet x along the last axis: near the ends of a long signal they are few of many */
    int64_t begin = 0, end = along;
    if (p->boundary == FC_ZEROS) {
        const int64_t before = p->pad[last] - o[last] * p->stride[last];
        begin = fc_min(along, fc_ceil_div(fc_max(0, before), p->dilation[last]));
        end = fc_max(begin, fc_min(along, fc_ceil_div(fc_max(0, before + p->in[last]), p->dilation[last])));
    }
    const int64_t runs = fc_ceil_div(end - begin, RUN), lines = p->c * s->taps / along;
    const int64_t total = lines * runs;
    const int64_t start = ((const int64_t *)((const char *)packed + s->start))[filter];
    const int64_t first = start / along * runs
                          + fc_max(0, fc_min(runs - 1, (start % along - begin) / RUN));
    sums sum = {0, 0, 0};
    char copied[RUN * 16];
    for (int64_t i = 0; i < total && sum.size <= 10 * error; i++) {
        const int64_t run = (first + i) % total, line = run / runs, tap = begin + run % runs * RUN;
        const int64_t count = fc_min(RUN, end - tap), dilation = p->dilation[last];
        const int64_t t = o[last] * p->stride[last] + tap * dilation;
        const char *row = at_image + line / (s->taps / along) * p->x_c * item;
        int64_t rest = line % (s->taps / along);
        *budget -= 4;
        for (int64_t d = p->dims - 1; d >= 0 && row; d--) {
            if (d == last) continue;
            const int64_t r = p->ker[d] > 1 ? rest % p->ker[d] : 0;
            if (p->ker[d] > 1) rest /= p->ker[d];
            const int64_t source = fc_source(p, d, o[d] * p->stride[d] + r * p->dilation[d]);
            row = source < 0 ? NULL : row + source * p->x_s[d] * item;
        }
        if (!row && p->boundary == FC_ZEROS) continue;
        *budget -= count;
        const char *from = NULL;
        int64_t apart = step * dilation;
        if (row && t >= p->pad[last] && t + (count - 1) * dilation < p->pad[last] + p->in[last])
            from = row + (t - p->pad[last]) * step * item;
        else {
            for (int64_t j = 0; j < count; j++)
                fc_overlap_save_fill(p, last, item, row, t + j * dilation, 1, copied + j * item);
            from = copied;
            apart = 1;
        }
        const char *const taps = w + (line * along + tap) * item;
        sums part = {0, 0, 0};
        if (s->size == 4) add(4, s->parts, count, from, apart * s->parts, taps, &part);
        else add(8, s->parts, count, from, apart * s->parts, taps, &part);
        sum.re += part.re, sum.im += part.im, sum.size += part.size;
    }
    if (sum.size > 10 * error) return 0;
    for (int64_t i = 0; i < s->parts; i++) {
        const double value = i ? sum.im : sum.re;
        if (s->size == 4) ((float *)to)[i] = (float)value;
        else ((double *)to)[i] = value;
    }
    return 1;
}
