/* Samples of amx_split's units: split into parts, with their padding, 32 channels beside each other. */
#include <string.h>

#include "amx_split.h"

typedef struct {
    const amx_unit *at;
    char *row; /* of joined samples */
    fc_amx_range *seen;
} samples;

static void clear(const amx_geometry *s, char *to, int64_t count)
{
    for (int64_t part = 0; part < s->parts && count > 0; part++) memset(to + part * s->x_part, 0, (size_t)(count * LINE));
}

/* A plane: `channels` of them, those of x, in a phase of rows and columns. */
static void fill_plane(const amx_geometry *s, const samples *q, const void *x, int64_t channels, int64_t row_phase,
                       int64_t column_phase, char *to)
{
    const fc_problem *p = s->p;
    const int64_t step = s->v * p->x_s[s->column], x_row = s->row < 0 ? 0 : p->x_s[s->row];
    const amx_plane in = plane_of(s, q->at, row_phase, column_phase);
    clear(s, to, in.top * s->pitch);
    for (int64_t i = in.top; i < in.bottom; i++) {
        char *const line = to + i * s->pitch * LINE;
        clear(s, line, in.from);
        const int64_t at = (in.origin + i * s->u) * x_row + (in.left + in.from * s->v) * p->x_s[s->column];
        if (p->x_dtype == FC_BF16)
            s->tiles->join(in.end - in.from, (const uint16_t *)x + at, step, channels, p->x_c, line + in.from * LINE, q->seen);
        else
            s->tiles->split[p->x_dtype == FC_F16](in.end - in.from, (const char *)x + at * fc_dtype_bytes(p->x_dtype), step,
                                                  channels, p->x_c, s->parts, line + in.from * LINE, s->x_part, q->seen);
        clear(s, line + in.end * LINE, s->pitch - in.end);
    }
    clear(s, to + in.bottom * s->pitch * LINE, s->plane - in.bottom * s->pitch);
}

/* A plane of every pair of channels, as they lie. */
static void fill_across(const amx_geometry *s, const samples *q, const void *x, int64_t channels, char *to)
{
    const fc_problem *p = s->p;
    const int64_t step = s->v * p->x_s[s->column], x_row = s->row < 0 ? 0 : p->x_s[s->row];
    const amx_plane in = plane_of(s, q->at, 0, 0);
    int64_t rows = in.bottom - in.top, count = in.end - in.from;
    const int whole = count == s->pitch && rows == q->at->rows;
    if (whole && s->u * x_row == count * step) count *= rows, rows = 1; /* one run */
    const int64_t at = (in.origin + in.top * s->u) * x_row + (in.left + in.from * s->v) * p->x_s[s->column];
    for (int64_t pair = 0; pair < SIDE; pair++, to += s->x_row) {
        const int64_t c = 2 * pair;
        for (int64_t part = 0; part < s->parts && !(whole && c < channels); part++)
            memset(to + part * s->x_part, 0, (size_t)s->x_row);
        for (int64_t part = 0; part < s->parts && whole; part++)
            memset(to + part * s->x_part + q->at->rows * s->pitch * 4, 0, (size_t)(s->x_row - q->at->rows * s->pitch * 4));
        for (int64_t i = 0; i < rows && c < channels; i++) {
            const int64_t even = at + c * p->x_c + i * s->u * x_row, odd = even + p->x_c;
            char *const row = to + ((in.top + i) * s->pitch + in.from) * 4;
            const char *const a = (const char *)x + even * fc_dtype_bytes(p->x_dtype);
            const char *const b = c + 1 < channels ? (const char *)x + odd * fc_dtype_bytes(p->x_dtype) : NULL;
            if (p->x_dtype == FC_BF16)
                s->tiles->join_across(count, (const uint16_t *)a, (const uint16_t *)b, step, row, q->seen);
            else
                s->tiles->split_across[p->x_dtype == FC_F16](count, a, b, step, s->parts, row, s->x_part, q->seen);
        }
    }
}

/* A row of x as a row of samples and zeros, from that under the first tap of the first output on, channels side by side. */
static void join_row(const amx_geometry *s, const samples *q, const void *x, int64_t at, char *to)
{
    const fc_problem *p = s->of;
    const int64_t d = s->column, first = q->at->left * p->stride[d] - p->pad[d], bytes = fc_dtype_bytes(p->x_dtype);
    const int64_t columns = (q->at->columns - 1) * p->stride[d] + p->ker[d], a = fc_min(columns, fc_max(0, -first));
    const int64_t b = fc_max(a, fc_min(columns, p->in[d] - first));
    memset(to, 0, (size_t)(a * p->c * bytes));
    s->tiles->weave(b - a, p->c, (const char *)x + (at + (first + a) * p->x_s[d]) * bytes, p->x_s[d], p->x_c, bytes,
                    to + a * p->c * bytes);
    memset(to + b * p->c * bytes, 0, (size_t)((columns - b) * p->c * bytes));
}

/* A plane of joined channels from c on, in a phase of rows. */
static void fill_joined(const amx_geometry *s, const samples *q, const void *x, int64_t c, int64_t row_phase, char *to)
{
    const fc_problem *p = s->of;
    const int64_t step = p->stride[s->column] * p->c, x_row = s->row < 0 ? 0 : p->x_s[s->row];
    const int64_t channels = fc_min(FC_AMX_CHANNELS, s->p->c - c), bytes = fc_dtype_bytes(p->x_dtype);
    const amx_plane in = plane_of(s, q->at, row_phase, 0);
    clear(s, to, in.top * s->pitch);
    for (int64_t i = in.top; i < in.bottom; i++) {
        char *const line = to + i * s->pitch * LINE, *const from = q->row + c * bytes;
        join_row(s, q, x, (in.origin + i * s->u) * x_row, q->row);
        if (p->x_dtype == FC_BF16)
            s->tiles->join(q->at->columns, (const uint16_t *)from, step, channels, 1, line, q->seen);
        else
            s->tiles->split[p->x_dtype == FC_F16](q->at->columns, from, step, channels, 1, s->parts, line, s->x_part, q->seen);
        clear(s, line + q->at->columns * LINE, s->pitch - q->at->columns);
    }
    clear(s, to + in.bottom * s->pitch * LINE, s->plane - in.bottom * s->pitch);
}

void fc_amx_fill(const amx_geometry *s, const amx_unit *at, const void *x, int64_t layer, int64_t index, int64_t x_at,
                 char *to, char *row, fc_amx_range *seen)
{
    const fc_problem *p = s->of ? s->of : s->p;
    const samples q = {at, row, seen};
    const int64_t c = layer % s->channel_tiles * FC_AMX_CHANNELS, channels = fc_min(FC_AMX_CHANNELS, s->p->c - c);
    x_at += at->n * p->x_n + (at->g * p->c + (s->of ? 0 : c)) * p->x_c;
    const char *const from = (const char *)x + x_at * fc_dtype_bytes(p->x_dtype);
    if (s->across) {
        fill_across(s, &q, from, channels, to + index * s->plane * LINE);
        return;
    }
    for (int64_t f = 0; f < s->row_phases * s->column_phases; f++) {
        char *const plane = to + (f * s->depth + index) * s->plane * LINE;
        if (s->of)
            fill_joined(s, &q, from, c, f, plane);
        else
            fill_plane(s, &q, from, channels, f / s->column_phases, f % s->column_phases, plane);
    }
}
