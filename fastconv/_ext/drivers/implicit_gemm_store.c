/* From the sums [pixel][filter] of implicit_gemm.c's tiles to y. */
#include <string.h>

#include "implicit_gemm.h"

#define T float
#define NAME(x) x##_f32
#include "implicit_gemm_store.inc"
#define T double
#define NAME(x) x##_f64
#include "implicit_gemm_store.inc"

/* Sums of `pixels` outputs that lie `step` apart from y[at], and filters from `k`. */
static void store_run(const job *j, const char *sums, int64_t width, int64_t pixels, int64_t g, int64_t k,
                      int64_t at, int64_t step)
{
    const geometry *s = j->s;
    const fc_problem *p = s->p;
    const int64_t filters = fc_min(width, s->filters - k), parts = s->parts;
    at += ((g * p->k + k / parts) * p->y_k) * parts;
    char *const y = (char *)j->y + at * s->bytes;
    if (step == 1 && parts == 1)
        s->kernels->transpose(sums, width, pixels, filters, y, p->y_k);
    else if (p->y_k == 1)
        for (int64_t i = 0; i < pixels; i++)
            memcpy(y + i * step * s->bytes, sums + i * width * s->bytes, (size_t)(filters * s->bytes));
    else if (s->bytes == 4)
        scatter_f32(sums, width, pixels, filters, y, step, p->y_k * parts, parts);
    else
        scatter_f64(sums, width, pixels, filters, y, step, p->y_k * parts, parts);
    for (int64_t f = 0; f < filters; f++)
        fc_finish(p, j->kernels, j->epilogue, j->y, at + f / parts * p->y_k * parts + f % parts, pixels,
                  step);
}

/* Sums of `pixels` pixels of one row from `o` of image n, and filters [k, k + filters) that have the outer
 * phases in common: the phases of one filter lie side by side, and so do its outputs. */
static void store_phases(const job *j, const char *sums, int64_t width, int64_t pixels, int64_t n,
                         const int64_t *o, int64_t g, int64_t k, int64_t filters)
{
    const geometry *s = j->s;
    const fc_problem *p = s->whole;
    const int64_t last = p->dims - 1, inner = s->phase[last], step = p->y_s[last];
    int64_t at = n * p->y_n + g * p->k * p->y_k, outer = k / (p->k * inner);
    for (int64_t d = last - 1; d >= 0; d--) {
        const int64_t place = o[d] * s->phase[d] + outer % s->phase[d] - s->lead[d];
        outer /= s->phase[d];
        if (place < 0 || place >= p->out[d]) return;
        at += place * p->y_s[d];
    }
    const int64_t begin = o[last] * inner - s->lead[last]; /* below 0: the row begins with a later phase */
    const int pairs = inner == 2 && step == 1;
    const int64_t first = pairs && begin < 0;
    const int64_t end = pairs ? fc_max(first, fc_min(pixels, (p->out[last] - begin) / 2)) : first;
    if (first < end) {
        const char *const from = sums + first * width * s->bytes;
        char *const y = (char *)j->y + (at + k / 2 % p->k * p->y_k + begin + 2 * first) * s->bytes;
        (s->bytes == 4 ? store_pairs_f32 : store_pairs_f64)(from, width, end - first, filters / 2, y, p->y_k);
    }
    for (int64_t f = 0; f < filters; f++) {
        const int64_t start = begin + (k + f) % inner, low = start < 0;
        const int64_t high = fc_max(low, fc_min(pixels, fc_ceil_div(p->out[last] - start, inner)));
        const int64_t row = at + (k + f) / inner % p->k * p->y_k;
        for (int64_t pixel = low; pixel < high; pixel++) {
            if (pixel == first && first < end) pixel = end;
            if (pixel >= high) break;
            memcpy((char *)j->y + (row + (start + pixel * inner) * step) * s->bytes,
                   sums + (pixel * width + f) * s->bytes, (size_t)s->bytes);
        }
        fc_finish(p, j->kernels, j->epilogue, j->y, row + (start + low * inner) * step, high - low,
                  inner * step);
    }
}

/* Sums of `pixels` pixels that follow each other from output o of image n; all in one row where there are
 * phases. */
static void store_pixels(const job *j, const char *sums, int64_t width, int64_t pixels, int64_t n,
                         const int64_t *o, int64_t g, int64_t k)
{
    const geometry *s = j->s;
    const fc_problem *p = s->p;
    if (s->phases > 1) {
        const int64_t same = s->whole->k * s->phase[p->dims - 1], last = fc_min(k + width, s->filters);
        for (int64_t f = k, next; f < last; f = next) {
            next = fc_min(last, (f / same + 1) * same);
            store_phases(j, sums + (f - k) * s->bytes, width, pixels, n, o, g, f, next - f);
        }
        return;
    }
    int64_t at = n * p->y_n;
    for (int64_t d = 0; d < p->dims; d++) at += o[d] * p->y_s[d];
    store_run(j, sums, width, pixels, g, k, at * s->parts, p->y_s[p->dims - 1] * s->parts);
}

/* Sums of a block of outputs, a row after the other. */
static void store_band(const job *j, const unit *u, const char *sums, int64_t width, int64_t k)
{
    const geometry *s = j->s;
    const fc_problem *p = s->p;
    const int64_t last = p->dims - 1;
    int64_t o[FC_DIMS], rows = 1;
    memcpy(o, u->o, sizeof o);
    if (s->phases == 1 && u->rows > 1 && p->y_s[last - 1] == u->columns * p->y_s[last]) rows = u->rows;
    for (int64_t i = 0; i < u->rows; i += rows) {
        if (last > 0) o[last - 1] = u->o[last - 1] + i;
        store_pixels(j, sums + i * u->columns * width * s->bytes, width, rows * u->columns, u->n, o, u->g, k);
    }
}

void fc_pixels_store(const job *j, const unit *u, const char *sums, int64_t width, int64_t k)
{
    const geometry *s = j->s;
    const fc_problem *p = s->p;
    int64_t o[FC_DIMS];
    if (s->band) {
        store_band(j, u, sums, width, k);
        return;
    }
    if (s->across) {
        for (int64_t i = u->first; i < u->end; i++, sums += s->kernels->pixels * width * s->bytes) {
            const tile t = fc_pixels_tile(s, i);
            fc_pixels_unravel(p, t.output, o);
            int64_t at = t.first * p->y_n;
            for (int64_t d = 0; d < p->dims; d++) at += o[d] * p->y_s[d];
            store_run(j, sums, width, t.count, u->g, k, at * s->parts, p->y_n * s->parts);
        }
        return;
    }
    /* axes that follow each other in y without a gap make longer runs */
    int64_t last = p->dims - 1;
    int64_t run = p->out[last];
    const int64_t step = p->y_s[last];
    while (s->phases == 1 && last > 0 && p->y_s[last - 1] == step * run) run *= p->out[--last];
    const tile from = fc_pixels_tile(s, u->first), to = fc_pixels_tile(s, u->end - 1);
    for (int64_t pixel = from.first, count; pixel < to.first + to.count; pixel += count) {
        count = fc_min(to.first + to.count - pixel, run - pixel % run);
        const int64_t n = fc_pixels_unravel(p, pixel, o);
        store_pixels(j, sums, width, count, n, o, u->g, k);
        sums += count * width * s->bytes;
    }
}
