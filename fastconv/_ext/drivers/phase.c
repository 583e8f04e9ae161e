/* The phase-split, padded copy of an input block; see phase.h. */
#include "phase.h"

#include <string.h>

void fc_phase_layout(const fc_problem *p, int64_t band, fc_phase *l)
{
    l->axes = 0;
    for (int64_t d = 0; d < p->dims; d++)
        if (p->out[d] != 1 || p->ker[d] != 1 || p->in[d] != 1 || p->pad[d]) l->axis[l->axes++] = d;
    if (!l->axes) l->axis[l->axes++] = p->dims - 1;
    int64_t used = 0;
    l->planes = 1;
    for (int64_t a = 0; a < l->axes; a++) {
        const int64_t d = l->axis[a], u = p->stride[d];
        l->phase[a] = l->storage + used;
        l->phases[a] = 0;
        for (int64_t r = 0; r < p->ker[d]; r++) {
            const int64_t f = r * p->dilation[d] % u;
            int64_t i = 0;
            while (i < l->phases[a] && l->phase[a][i] != f) i++;
            if (i == l->phases[a]) l->phase[a][l->phases[a]++] = f;
            if (l->phases[a] == u) break;
        }
        used += l->phases[a];
        l->planes *= l->phases[a];
        const int64_t outputs = a == 0 ? fc_min(band, p->out[d]) : p->out[d];
        l->length[a] = outputs + (p->ker[d] - 1) * p->dilation[d] / u;
    }
    l->band = fc_min(band, p->out[l->axis[0]]);
    l->tail = l->axes;
    l->unit = 1;
    l->plane = 1;
    for (int64_t a = l->axes - 1; a >= 0; a--) {
        l->pitch[a] = l->plane;
        l->plane *= l->length[a];
    }
}

void fc_phase_offsets(const fc_problem *p, const fc_phase *l, int64_t channels, int64_t *offset)
{
    const int64_t taps = fc_volume(p->ker, p->dims);
    for (int64_t tap = 0; tap < taps; tap++) {
        int64_t r[FC_DIMS], plane = 0, at = 0;
        for (int64_t d = p->dims - 1, rest = tap; d >= 0; d--) {
            r[d] = rest % p->ker[d];
            rest /= p->ker[d];
        }
        for (int64_t a = 0; a < l->axes; a++) {
            const int64_t d = l->axis[a], t = r[d] * p->dilation[d], u = p->stride[d];
            int64_t i = 0;
            while (l->phase[a][i] != t % u) i++;
            plane = plane * l->phases[a] + i;
            at += t / u * l->pitch[a];
        }
        offset[tap] = plane * l->plane + at;
    }
    for (int64_t channel = 1; channel < channels; channel++)
        for (int64_t tap = 0; tap < taps; tap++)
            offset[channel * taps + tap] = offset[tap] + channel * l->planes * l->plane;
}

/* Copies `count` elements with source stride `stride`, both in elements of `bytes`. */
static void copy_strided(char *to, const char *from, int64_t count, int64_t stride, int64_t bytes)
{
    if (stride == 1) {
        memcpy(to, from, (size_t)(count * bytes));
    } else if (bytes == 4) {
        for (int64_t j = 0; j < count; j++) ((uint32_t *)to)[j] = ((const uint32_t *)from)[j * stride];
    } else if (bytes == 8) {
        /* complex64 need only lie at a multiple of 4 */
        for (int64_t j = 0; j < count; j++) memcpy(to + 8 * j, from + 8 * j * stride, 8);
    } else if (bytes == 2) {
        for (int64_t j = 0; j < count; j++) ((uint16_t *)to)[j] = ((const uint16_t *)from)[j * stride];
    } else {
        for (int64_t j = 0; j < count; j++)
            memcpy(to + j * bytes, from + j * stride * bytes, (size_t)bytes);
    }
}

void fc_phase_value(const fc_problem *p, int64_t part, int64_t bytes, void *value)
{
    memset(value, 0, (size_t)bytes);
    if (p->boundary != FC_CONSTANT) return;
    const int floating = p->dtype == FC_F32 || p->dtype == FC_F64 || p->dtype == FC_C64 ||
                         p->dtype == FC_C128;
    if (!floating) {
        memcpy(value, &p->cval_i, (size_t)bytes); /* low bytes first on every platform we target */
    } else if (bytes == 4) {
        const float f = (float)p->cval[part];
        memcpy(value, &f, 4);
    } else {
        memcpy(value, &p->cval[part], 8);
    }
}

void fc_phase_fill_value(char *to, int64_t count, const void *value, int64_t bytes)
{
    uint64_t bits[2] = {0};
    memcpy(bits, value, (size_t)bytes);
    if (!bits[0] && !bits[1])
        memset(to, 0, (size_t)(count * bytes));
    else
        for (int64_t j = 0; j < count; j++) memcpy(to + j * bytes, value, (size_t)bytes);
}

static void border(const fc_problem *p, int64_t d, int64_t t, const char *x, int64_t scale,
                   int64_t unit, const void *value, int64_t bytes, char *to)
{
    const int64_t source = fc_source(p, d, t);
    if (source < 0)
        fc_phase_fill_value(to, unit, value, bytes);
    else
        copy_strided(to, x + source * p->x_s[d] * scale * bytes, unit, scale, bytes);
}

void fc_phase_row(const fc_problem *p, int64_t d, int64_t f, int64_t start, int64_t length,
                  const char *x, int64_t scale, int64_t unit, const void *value, int64_t bytes,
                  char *to)
{
    const int64_t u = p->stride[d], step = p->x_s[d] * scale;
    /* interior: 0 <= (start + j)*u + f - pad < in */
    const int64_t origin = start * u + f - p->pad[d];
    const int64_t before = fc_max(0, -origin), inside = fc_max(0, p->in[d] - origin);
    const int64_t a = fc_min(length, u == 1 ? before : fc_ceil_div(before, u));
    const int64_t b = fc_max(a, fc_min(length, u == 1 ? inside : fc_ceil_div(inside, u)));
    const int64_t row = unit * bytes;
    for (int64_t j = 0; j < a; j++)
        border(p, d, (start + j) * u + f, x, scale, unit, value, bytes, to + j * row);
    for (int64_t j = b; j < length; j++)
        border(p, d, (start + j) * u + f, x, scale, unit, value, bytes, to + j * row);
    if (b <= a) return;
    const char *from = x + (origin + a * u) * step * bytes;
    if (unit == 1)
        copy_strided(to + a * row, from, b - a, u * step, bytes);
    else if (u * step == unit * scale)
        copy_strided(to + a * row, from, (b - a) * unit, scale, bytes);
    else
        for (int64_t j = 0; j < b - a; j++)
            copy_strided(to + (a + j) * row, from + j * u * step * bytes, unit, scale, bytes);
}

void fc_phase_fill(const fc_problem *p, const fc_phase *l, const void *x, int64_t n, int64_t first,
                   int64_t channels, int64_t start, int64_t count, int64_t slack, int64_t parts,
                   int64_t bytes, void *planes)
{
    /* Trailing axes that are copied as they are and lie dense in x join the axis before them. */
    int64_t axes = l->axes, unit = 1;
    while (axes > 1) {
        const int64_t d = l->axis[axes - 1];
        if (p->ker[d] != 1 || p->stride[d] != 1 || p->in[d] != p->out[d] || p->pad[d] ||
            p->x_s[d] != unit)
            break;
        unit *= p->in[d];
        axes--;
    }
    const int64_t last = axes - 1, inner = l->axis[last];
    const int64_t row = l->length[last] * unit * bytes;
    const int64_t missing = l->band - count; /* rows of a short last band, left unread */
    char value[8];
    for (int64_t c = 0; c < channels; c++) {
        const int64_t part = c % parts;
        const char *const channel =
            (const char *)x +
            ((n * p->x_n + (first + c / parts) * p->x_c) * parts + part) * bytes;
        fc_phase_value(p, part, bytes, value);
        for (int64_t plane = 0; plane < l->planes; plane++) {
            int64_t f[FC_DIMS], rest = plane;
            for (int64_t a = l->axes - 1; a >= 0; a--) {
                f[a] = l->phase[a][rest % l->phases[a]];
                rest /= l->phases[a];
            }
            char *to = (char *)planes + (c * l->planes + plane) * l->plane * bytes;
            int64_t j[FC_DIMS] = {0};
            for (;;) {
                const char *from = channel;
                int64_t inside = 1;
                for (int64_t a = 0; a < last; a++) {
                    const int64_t d = l->axis[a], at = j[a] + (a == 0 ? start : 0);
                    const int64_t source = fc_source(p, d, at * p->stride[d] + f[a]);
                    inside &= source >= 0;
                    from += source * p->x_s[d] * parts * bytes;
                }
                const int64_t length = l->length[last] - (last == 0 ? missing : 0);
                if (inside)
                    fc_phase_row(p, inner, f[last], last == 0 ? start : 0, length, from, parts,
                                 unit, value, bytes, to);
                else
                    fc_phase_fill_value(to, length * unit, value, bytes);
                to += row;
                int64_t a = last - 1;
                for (; a >= 0; a--) {
                    if (++j[a] < l->length[a] - (a == 0 ? missing : 0)) break;
                    j[a] = 0;
                }
                if (a < 0) break;
            }
        }
    }
    memset((char *)planes + channels * l->planes * l->plane * bytes, 0, (size_t)(slack * bytes));
}

void fc_phase_merge(const fc_problem *p, fc_phase *l)
{
    while (l->tail > 1) {
        const int64_t d = l->axis[l->tail - 1], before = l->axis[l->tail - 2];
        if (l->length[l->tail - 1] != p->out[d] || p->y_s[before] != p->y_s[d] * p->out[d]) break;
        l->unit *= p->out[d];
        l->tail--;
    }
}

int64_t fc_phase_next(const fc_problem *p, const fc_phase *l, int64_t count, int64_t from)
{
    /* round up to the next output, axis by axis from the innermost */
    int64_t o[FC_DIMS] = {0};
    for (int64_t a = 0; a < l->tail; a++) {
        o[a] = from / l->pitch[a];
        from %= l->pitch[a];
    }
    for (int64_t a = l->tail - 1; a >= 0; a--) {
        const int64_t outputs = a == 0 ? count : p->out[l->axis[a]];
        if (o[a] < outputs) continue;
        if (a == 0) return -1;
        o[a - 1]++;
        for (int64_t b = a; b < l->tail; b++) o[b] = 0;
        from = 0;
    }
    for (int64_t a = 0; a < l->tail; a++) from += o[a] * l->pitch[a];
    return from;
}

int64_t fc_phase_runs(const fc_problem *p, const fc_phase *l, int64_t count, int64_t from,
                      int64_t columns, fc_run *runs)
{
    const int64_t last = l->tail - 1, end = from + columns;
    const int64_t row = last == 0 ? count : p->out[l->axis[last]];
    int64_t found = 0;
    while ((from = fc_phase_next(p, l, count, from)) >= 0 && from < end) {
        fc_run *run = &runs[found++];
        run->rest = from;
        for (int64_t a = 0; a < l->tail; a++) {
            run->o[a] = run->rest / l->pitch[a];
            run->rest %= l->pitch[a];
        }
        run->column = columns - (end - from);
        run->count = fc_min(end - from, (row - run->o[last]) * l->unit - run->rest);
        from += run->count;
    }
    return found;
}
