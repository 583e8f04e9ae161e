/* How the separable driver shares out a problem: axes, dtypes, bands, chunks and the workspace. */
#include "separable.h"
#include "stored.h"

/* Elements behind the last axis with a kernel from which that axis is not filtered along a row. */
enum { SHORT_ROW = 32 };

/* Outputs along a row that are turned at once: with as many samples, of all lanes, they fit L1. */
enum { TURNED = 256 };

/* Which axis has which part. Python's why_not holds problems to those that fit. */
static void find_axes(const fc_problem *p, fc_separable *s)
{
    int64_t used[FC_DIMS], count = 0;
    for (int64_t d = 0; d < p->dims; d++)
        if (p->ker[d] > 1) used[count++] = d;
    const int64_t last = count ? used[count - 1] : p->dims - 1;
    s->unit = fc_volume(p->in + last + 1, p->dims - last - 1);
    s->h = last;
    s->along = 1;
    if (last + 1 < p->dims && s->unit >= SHORT_ROW && count < 3) {
        s->h = last + 1;
        s->unit = fc_volume(p->in + last + 2, p->dims - last - 2);
        s->along = 0;
    } else if (count) {
        count--;
    }
    s->a = count ? used[0] : s->h - 1;
    s->b = count > 1 ? used[1] : -1;
}

/* Bytes filtered along one axis are summed in float, though double is asked for: what they become
 * is cut to bytes, and where a float sum leaves doubt which byte that is, it is made anew. Whole numbers of up to
 * 16 bits are summed modulo 2^16. */
static void find_dtypes(const fc_problem *p, const fc_kernels *kernels, fc_separable *s)
{
    int64_t axes = 0;
    for (int64_t d = 0; d < p->dims; d++) axes += p->ker[d] > 1;
    s->doubtful = p->dtype == FC_F64 && p->x_dtype == FC_U8 && p->y_dtype == FC_U8 && axes == 1 &&
                  (p->boundary != FC_CONSTANT || (double)(float)p->cval[0] == p->cval[0]);
    s->whole = p->dtype == FC_U8 || p->dtype == FC_U16;
    s->means = p->dtype == FC_F64 && p->x_dtype == p->y_dtype && p->x_dtype != FC_F64 && axes == 1;
    s->dtype = s->doubtful ? FC_F32 : s->whole ? FC_U16 : p->dtype;
    s->kernel = s->whole ? kernels->rows_u16 : s->dtype == FC_F32 ? kernels->rows_f32 : kernels->rows_f64;
    s->turn = s->dtype == FC_F32 ? kernels->implicit_gemm_f32 : kernels->implicit_gemm_f64;
    s->from = fc_stored_in(p->x_dtype, s->dtype, kernels);
    s->to = fc_stored_in(p->y_dtype, s->dtype, kernels);
    s->bytes = fc_dtype_bytes(s->dtype);
    s->x_bytes = fc_dtype_bytes(p->x_dtype);
    s->y_bytes = fc_dtype_bytes(p->y_dtype);
}

void fc_separable_plan(const fc_problem *p, const fc_config *config, const fc_kernels *kernels,
                          int64_t threads, fc_separable *s)
{
    s->p = p;
    find_axes(p, s);
    find_dtypes(p, kernels, s);
    s->terms = fc_max(1, config->v[1]);
    s->weights = 0;
    s->outer = 1;
    for (int64_t d = 0; d < p->dims; d++) {
        s->first[d] = s->weights;
        s->weights += s->terms * p->ker[d];
        if (d < s->h && d != s->a && d != s->b) s->outer *= p->out[d];
    }
    s->exact_at = fc_round_up(s->weights * s->bytes, FC_ALIGN);
    s->dense_at = fc_round_up(s->exact_at + s->weights * (int64_t)sizeof(double) + (int64_t)sizeof(fc_separable_exact), FC_ALIGN);
    s->filter_bytes = s->dense_at + (s->terms > 1 ? fc_round_up(fc_volume(p->ker, p->dims) * s->bytes, FC_ALIGN) : 0);
    s->out_a = s->a < 0 ? 1 : p->out[s->a];
    s->out_b = s->b < 0 ? 1 : p->out[s->b];
    s->out_h = p->out[s->h];
    s->span_a = fc_separable_span(p, s->a);
    s->span_b = fc_separable_span(p, s->b);
    s->span_h = fc_separable_span(p, s->h);
    const int sliding = s->a < 0 || p->ker[s->a] == 1 || (p->stride[s->a] == 1 && p->dilation[s->a] == 1);
    const int64_t taps_a = fc_separable_taps(p, s->a), taps_b = fc_separable_taps(p, s->b);
    const int64_t taps_h = fc_separable_taps(p, s->h);
    /* weights may turn out to be equal */
    const int sums = !s->whole && !s->doubtful;
    const int box = sums && s->terms == 1 && sliding && s->b < 0 && taps_a >= FC_SEPARABLE_BOX;
    const int along = sums && s->terms == 1 && s->along && taps_h >= FC_SEPARABLE_BOX;
    s->rows = sliding ? s->kernel->rows : 1;
    if (sliding && along && s->b < 0) s->rows = fc_round_up(s->turn->lanes, s->kernel->rows);
    s->padded = fc_max(fc_max(s->rows, s->kernel->rows), fc_max(box ? taps_a : 1, along ? s->turn->lanes : 1));
    const int64_t block = taps_h * p->dilation[s->h] * s->unit;
    s->turned = along ? block * fc_max(1, TURNED / block) : 0;
    const int64_t step_a = s->a < 0 ? 1 : p->stride[s->a], step_b = s->b < 0 ? 1 : p->stride[s->b];

    /* v[0] bytes: first fewer outputs of b, down to a few of its span, then shorter chunks */
    s->ring_rows = s->span_a + (s->padded - 1) * step_a;
    const int64_t sample = s->unit * s->bytes, met = s->span_a + (s->rows - 1) * step_a;
    const int64_t fit = (s->b < 0 ? 1 : 4) * config->v[0] / met;
    s->b_band = s->out_b;
    if (s->b >= 0) {
        const int64_t rows = fit / ((s->out_h + s->span_h) * sample);
        const int64_t least = fc_max(2 * s->span_b, s->kernel->rows);
        s->b_band = fc_min(s->out_b, fc_max((rows - s->span_b) / step_b, least));
    }
    const int64_t images = p->n * p->g * p->k * s->outer;
    int64_t units = images;
    if (units < 4 * threads && s->b >= 0)
        s->b_band = fc_min(s->b_band, fc_max(fc_ceil_div(s->out_b * units, 4 * threads), s->kernel->rows));
    s->b_bands = fc_ceil_div(s->out_b, s->b_band);
    s->b_band = fc_ceil_div(s->out_b, s->b_bands);
    s->b_bands = fc_ceil_div(s->out_b, s->b_band);
    s->b_rows = (s->b_band - 1) * step_b + s->span_b;

    s->chunk = fc_min(s->out_h, fc_max(fit / (s->b_rows * sample) - s->span_h, 4 * s->span_h));
    /* a border is copied from its own chunk, but for zeros: padding that reaches further needs all */
    const int64_t after = s->out_h + s->span_h - 1 - p->in[s->h] - p->pad[s->h];
    if (p->boundary == FC_WRAP || fc_max(p->pad[s->h], after) > s->span_h) s->chunk = s->out_h;
    s->chunks = fc_max(1, s->out_h / s->chunk);
    s->chunk = fc_ceil_div(s->out_h, s->chunks);
    s->chunks = fc_ceil_div(s->out_h, s->chunk);

    units *= s->b_bands * s->chunks;
    s->a_bands = 1;
    if (threads > 1 && units < 4 * threads)
        s->a_bands = fc_max(1, fc_min(fc_ceil_div(4 * threads, units), s->out_a / (2 * s->span_a)));
    if (threads > 1 && units * s->a_bands < threads)
        s->a_bands = fc_min(s->out_a, fc_ceil_div(threads, units));
    /* blocks of windows begin at the same rows whatever the bands: so do not results depend on threads */
    s->a_band = fc_round_up(fc_ceil_div(s->out_a, s->a_bands), box ? taps_a : s->rows);
    s->a_bands = fc_ceil_div(s->out_a, s->a_band);

    const int64_t line = FC_ALIGN / s->bytes;
    s->pitch = fc_round_up((s->chunk + s->span_h) * s->unit, line) + line;
    const int64_t row = s->pitch * s->bytes;
    s->ring_at = 0;
    s->spread_at = s->ring_at + s->ring_rows * s->b_rows * row;
    s->fixed_at = s->spread_at + row;
    s->middle_at = s->fixed_at + row;
    s->padded_at = s->middle_at + (s->b >= 0 ? s->rows * s->b_rows : 0) * row;
    s->store_at = s->padded_at + s->terms * s->padded * row;
    s->box_at = s->store_at + s->padded * row;
    const int64_t vector = s->turn->lanes * s->bytes, ends = box ? taps_a * FC_BOX_VECTORS : 0;
    /* samples, sums and ends of blocks */
    const int64_t turned = along ? 2 * s->turned + 3 * block : 0;
    s->pointers_at = s->box_at + fc_round_up(fc_max(ends, turned) * vector, FC_ALIGN);
    const int64_t pointers = 2 * fc_max(taps_a, taps_b) + s->terms * taps_h + 3 * s->padded;
    s->border_at = s->pointers_at + fc_round_up(pointers * (int64_t)sizeof(void *), FC_ALIGN);
    const int64_t borders = s->along ? 2 * (s->chunk + s->span_h) : 0;
    s->slot_bytes = s->border_at + fc_round_up(borders * (int64_t)sizeof(int64_t), FC_ALIGN);
}
