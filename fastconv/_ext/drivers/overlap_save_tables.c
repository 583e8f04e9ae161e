/* overlap_save: stages of transforms, and tables of their factors, which are roots of one. */
#include <float.h>
#include <math.h>
#include <string.h>

#include "overlap_save.h"

/* Radices of n, and how many factors its stages have. Fours first: they are the cheapest. */
void fc_overlap_save_stages(int64_t n, fc_fft_line *line)
{
    memset(line, 0, sizeof *line);
    line->n = n;
    static const int32_t radices[] = {4, 2, 3, 5};
    int64_t m = n;
    for (int64_t i = 0; i < 4; i++)
        for (; m % radices[i] == 0; m /= radices[i]) {
            line->radix[line->stages++] = radices[i];
            line->factor_count += (m / radices[i] - 1) * (radices[i] - 1);
        }
}

/* The frequency that ends up at position i. */
static int64_t frequency(const fc_fft_line *line, int64_t i)
{
    int64_t k = 0, weight = 1, m = line->n;
    for (int64_t s = 0; s < line->stages; s++) {
        m /= line->radix[s];
        k += i / m * weight;
        i %= m;
        weight *= line->radix[s];
    }
    return k;
}

/* Long doubles whose products are all roots e^(-2 pi i j / n): root j is near[j % 2^bits] far[j / 2^bits]. */
typedef struct {
    int64_t n;
    int bits;
    long double *near, *far;
} roots;

static int root_bits(int64_t n)
{
    int bits = 0;
    while ((int64_t)1 << 2 * bits < n) bits++;
    return bits;
}

static int64_t roots_bytes(int64_t n) { return (int64_t)(4 * sizeof(long double)) << root_bits(n); }

static void multiply(const long double *a, const long double *b, long double *to)
{
    const long double re = a[0] * b[0] - a[1] * b[1];
    to[1] = a[0] * b[1] + a[1] * b[0];
    to[0] = re;
}

static void root(int64_t n, int64_t j, long double *to)
{
    const long double turn = 6.283185307179586476925286766559005768L;
    const long double angle = turn * (long double)j / (long double)n;
    to[0] = cosl(angle), to[1] = -sinl(angle);
}

/* Every `step`-th root, 2^bits of them: those of powers of two, and products of these, where long doubles
 * have digits to spare. */
static void powers(int64_t n, int64_t step, int bits, long double *to)
{
    root(n, 0, to);
    for (int64_t high = 1; high < (int64_t)1 << bits; high *= 2)
        for (int64_t i = high; i < 2 * high; i++)
            if (i == high || LDBL_MANT_DIG == DBL_MANT_DIG) root(n, i * step % n, to + 2 * i);
            else multiply(to + 2 * (i - high), to + 2 * high, to + 2 * i);
}

static roots roots_of(int64_t n, void *scratch)
{
    const int bits = root_bits(n);
    const roots r = {n, bits, scratch, (long double *)scratch + ((int64_t)2 << bits)};
    powers(n, 1, bits, r.near);
    powers(n, (int64_t)1 << bits, bits, r.far);
    return r;
}

static void set(int64_t size, void *to, int64_t i, long double value)
{
    if (size == 4) ((float *)to)[i] = (float)value;
    else ((double *)to)[i] = (double)value;
}

/* Writes root j, rounded once, as elements i and i + apart. */
static void set_root(const roots *r, int64_t j, int64_t size, void *to, int64_t i, int64_t apart)
{
    j %= r->n;
    const int64_t low = ((int64_t)1 << r->bits) - 1;
    long double value[2];
    multiply(r->near + 2 * (j & low), r->far + 2 * (j >> r->bits), value);
    set(size, to, i, value[0]);
    set(size, to, i + apart, value[1]);
}

/* Roots that tables are made of, a sample of a circle: theta, of halves, is the last of four times as many. */
int64_t fc_overlap_save_turns(const overlap_save *s) { return s->half ? 4 : 1; }

void fc_overlap_save_line(const overlap_save *s, int axis, const void *packed, fc_fft_line *line)
{
    fc_overlap_save_stages(s->n[axis], line);
    line->factors = (const char *)packed + s->factors[axis];
}

int64_t fc_overlap_save_tables_bytes(const overlap_save *s)
{
    return roots_bytes(fc_overlap_save_turns(s) * s->n[ROWS] * s->n[COLUMNS] + s->n[PLANES]);
}

void fc_overlap_save_tables(const overlap_save *s, char *packed, void *scratch)
{
    const int64_t lanes = s->fft->lanes, size = s->size;
    fc_fft_line line;
    for (int axis = 0; axis < AXES; axis++) {
        fc_overlap_save_line(s, axis, packed, &line);
        const roots r = roots_of(line.n, scratch);
        int64_t at = 0, m = line.n;
        for (int64_t t = 0; t < line.stages; t++) {
            const int64_t radix = line.radix[t], q = m / radix;
            for (int64_t j = 1; j < q; j++)
                for (int64_t i = 1; i < radix; i++, at += 2)
                    set_root(&r, i * j * (line.n / m), size, packed + s->factors[axis], at, 1);
            m = q;
        }
    }
    fc_overlap_save_line(s, ROWS, packed, &line);
    if (!s->one_axis && !s->half) return;
    /* theta^(j1 n2 + j2): powers by rows are weights, those by columns part of what rows are turned by */
    const int64_t row = s->one_axis ? s->n[COLUMNS] : 1;
    const roots r = roots_of(fc_overlap_save_turns(s) * s->n[ROWS] * row, scratch);
    for (int64_t i = 0; s->half && i < line.n; i++)
        set_root(&r, r.n - i * row, size, packed + s->weights, 2 * i, 1);
    for (int64_t i = 0; s->one_axis && i < line.n; i++) {
        const int64_t k = fc_overlap_save_turns(s) * frequency(&line, i) + (s->half ? r.n - 1 : 0);
        for (int64_t l = 0; l < lanes; l++)
            set_root(&r, k * l, size, packed + s->near, i * 2 * lanes + l, lanes);
        for (int64_t b = 0; b < s->n[COLUMNS] / lanes; b++)
            set_root(&r, k * b * lanes, size, packed + s->far, 2 * (b * line.n + i), 1);
    }
}
