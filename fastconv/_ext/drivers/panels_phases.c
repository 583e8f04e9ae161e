/* Input dilation (transposed convolution): panels.c's tiles with sums of their own for each phase of the outputs.
 *
 * With input dilation e, output o = pixel*e + phase - lead meets the taps r for which phase - lead + r*l - pad is
 * a multiple of e, in x[pixel + that / e]: few samples beside the pixel, the same for all pixels. They are the
 * kernel of a problem without input dilation, whose panels serve all phases; a phase takes the rows it needs:
 *
 *     3 taps, e = 2, pad 1     panel: x[pixel], x[pixel + 1]
 *         phase 0 (o = 0 2 4 ..)    w1 x[pixel]
 *         phase 1 (o = 1 3 5 ..)    w0 x[pixel] + w2 x[pixel + 1]
 *
 * `lead` is what makes that kernel smallest: 4 taps with pad 2 read two samples for lead 1, and three for lead 0.
 * Sums of the phases along the last axis are woven, as their outputs lie side by side in y.
 *
 * Crochiere and Rabiner, Multirate Digital Signal Processing, 1983, section 3.3.
 */
#include <string.h>

#include "panels.h"
#include "residue.h"

void fc_panels_plan_phases(const fc_problem *p, geometry *s)
{
    s->whole = s->p = p;
    s->phases = fc_volume(p->input_dilation, p->dims);
    s->inner = p->input_dilation[p->dims - 1];
    s->weights = fc_volume(p->ker, p->dims);
    if (s->phases == 1) return;
    s->p = &s->dense;
    s->dense = *p;
    for (int64_t d = 0; d < p->dims; d++) {
        const int64_t e = p->input_dilation[d];
        s->lead[d] = 0;
        if (e == 1) continue;
        int64_t least = INT64_MAX;
        for (int64_t lead = 0; lead < e; lead++) {
            const int64_t low = fc_first_sample(p, d, lead), high = fc_last_sample(p, d, lead);
            if (high - low + 1 >= least) continue;
            least = high - low + 1;
            s->lead[d] = lead;
            s->dense.pad[d] = -low;
        }
        s->dense.ker[d] = least;
        s->dense.dilation[d] = s->dense.input_dilation[d] = 1;
        s->dense.out[d] = fc_ceil_div(p->out[d] + s->lead[d], e);
    }
}

/* Along an axis, taps and their places in the panel's kernel. */
static fc_residue find_taps(const geometry *s, int64_t d, int64_t phase)
{
    if (s->whole->input_dilation[d] == 1) return (fc_residue){s->whole->ker[d], 0, 1, 0, 1};
    fc_residue t = fc_residue_of(s->whole, d, phase - s->lead[d]);
    t.at += s->p->pad[d];
    return t;
}

/* Taps of a phase, of all axes; how many they are. */
static int64_t find_all_taps(const geometry *s, int64_t phase, fc_residue *axes)
{
    int64_t count = 1;
    for (int64_t d = s->p->dims - 1; d >= 0; phase /= s->whole->input_dilation[d], d--) {
        axes[d] = find_taps(s, d, phase % s->whole->input_dilation[d]);
        count *= axes[d].count;
    }
    return count;
}

/* Elements from a filter's first weight to that of tap t of a phase; its place in the panel's kernel. */
static int64_t weight_of(const geometry *s, const fc_residue *axes, int64_t t, int64_t *place)
{
    int64_t weight = 0, volume = 1;
    *place = 0;
    for (int64_t d = s->p->dims - 1; d >= 0; t /= axes[d].count, volume *= s->p->ker[d], d--) {
        const int64_t i = t % axes[d].count;
        weight += (axes[d].r + i * axes[d].step) * s->whole->w_s[d];
        *place += (axes[d].at + i * axes[d].jump) * volume;
    }
    return weight;
}

void fc_panels_pack(const geometry *s, const char *w, int64_t channels, int64_t rows, char *to)
{
    const fc_problem *p = s->whole;
    for (int64_t phase = 0; phase < s->phases; phase++) {
        fc_residue axes[FC_DIMS];
        const int64_t count = find_all_taps(s, phase, axes);
        for (int64_t t = 0; t < count; t++) {
            int64_t place, at = weight_of(s, axes, t, &place);
            for (int64_t c = 0; c < channels; c++, at += p->w_c)
                for (int64_t i = 0; i < rows; i++, to += s->bytes)
                    if (s->bytes == 4)
                        memcpy(to, w + (at + i * p->w_k) * 4, 4);
                    else
                        memcpy(to, w + (at + i * p->w_k) * 8, 8);
        }
    }
}

void fc_panels_phase_offsets(const geometry *s, fc_panels_phase *phases, int64_t *offset)
{
    int64_t first = 0;
    for (int64_t phase = 0; phase < s->phases; phase++) {
        fc_residue axes[FC_DIMS];
        phases[phase] = (fc_panels_phase){first, find_all_taps(s, phase, axes)};
        for (int64_t t = 0; t < phases[phase].taps; t++, first++) {
            int64_t place, *to = offset;
            weight_of(s, axes, t, &place);
            for (int64_t b = 0; b < s->tap_blocks; b += fc_max(1, s->tap_blocks - 1)) {
                const int64_t channels = channels_of(s, b);
                for (int64_t c = 0; c < channels; c++)
                    to[first * channels + c] = (place * channels + c) * s->nr * s->bytes;
                to += s->weights * channels;
            }
        }
    }
}

/* Woven sums [begin, end) of a tile are outputs of one row: element `y` of a filter is where sum 0 would be. */
typedef struct {
    int64_t y, begin, end;
} row_piece;

/* The piece of pixels [first, first + count) that the row of the first of them has, at an outer phase; how many
 * pixels that are. */
static int64_t find_piece(const geometry *s, int64_t first, int64_t count, int64_t outer, row_piece *piece)
{
    const fc_problem *p = s->whole;
    const int64_t last = p->dims - 1, pixel = first % s->p->out[last], column = pixel * s->inner - s->lead[last];
    int64_t y = 0, inside = 1;
    count = fc_min(count, s->p->out[last] - pixel);
    first /= s->p->out[last];
    for (int64_t d = last - 1; d >= 0; first /= s->p->out[d], outer /= p->input_dilation[d], d--) {
        const int64_t e = p->input_dilation[d];
        const int64_t place = first % s->p->out[d] * e + outer % e - s->lead[d];
        inside &= place >= 0 && place < p->out[d];
        y += place * p->y_s[d];
    }
    *piece = (row_piece){y + column * p->y_s[last], fc_max(0, -column),
                         inside ? fc_min(count * s->inner, p->out[last] - column) : 0};
    return count;
}

void fc_panels_multiply_phases(const job *j, const unit *u, const tile *t, int64_t from, int64_t to, int64_t block,
                               const char *w)
{
    static const double zeros[FC_PANEL_ROWS];
    const geometry *const s = j->s;
    const fc_problem *const p = s->whole;
    const int64_t channels = channels_of(s, block), vectors = fc_ceil_div(t->count, s->kernels->lanes);
    const int64_t *const offset = j->offset + (block > 0 && block + 1 == s->tap_blocks) * s->weights * s->channel_block;
    const int64_t of_phase = s->kernels->rows * s->nr;
    for (int64_t outer = 0; outer < s->phases / s->inner; outer++) {
        row_piece pieces[FC_PANEL_PIXELS];
        int64_t found = 0;
        for (int64_t at = 0, count; at < t->count; at += count) {
            row_piece next;
            count = find_piece(s, t->first + at, t->count - at, outer, &next);
            if (next.begin >= next.end) continue;
            const int64_t before = at * s->inner;
            pieces[found++] = (row_piece){next.y - before * p->y_s[p->dims - 1], next.begin + before, next.end + before};
        }
        if (!found) continue;
        for (int64_t i = from; i < to; i++) {
            const int64_t k = filter_of(s, i), rows = filter_of(s, i + 1) - k;
            fc_panel_fn *const run = s->tiles->tile[vectors - 1][rows - 1];
            const char *const own = w + k * channels * s->weights * s->bytes;
            const void *const bias = block ? (const void *)zeros : j->bias + (u->g * p->k + k) * s->bytes;
            for (int64_t f = 0; f < s->inner; f++) {
                const fc_panels_phase *const h = &j->phases[outer * s->inner + f];
                const int64_t first = h->first * channels;
                run(h->taps * channels, t->x, offset + first, own + first * rows * s->bytes, bias, 0,
                    u->sums + f * of_phase * s->bytes, s->nr, 1, 0, 0);
            }
            char *const y = j->y + (u->n * p->y_n + (u->g * p->k + k) * p->y_k) * s->bytes;
            for (const row_piece *piece = pieces; piece < pieces + found; piece++)
                s->kernels->weave(s->inner, rows, u->sums, of_phase, s->nr, piece->begin, piece->end, block > 0,
                                  y + piece->y * s->bytes, p->y_s[p->dims - 1], p->y_k);
        }
    }
}

void fc_panels_finish_phases(const job *j, const unit *u, int64_t k, int64_t end)
{
    const geometry *const s = j->s;
    const fc_problem *const p = s->whole;
    const int64_t step = p->y_s[p->dims - 1];
    for (int64_t outer = 0; outer < s->phases / s->inner; outer++)
        for (int64_t at = u->first; at < u->end;) {
            row_piece piece;
            at += find_piece(s, at, u->end - at, outer, &piece);
            for (int64_t i = k; i < end && piece.begin < piece.end; i++)
                fc_finish(p, j->kernels, j->epilogue, j->y,
                          u->n * p->y_n + (u->g * p->k + i) * p->y_k + piece.y + piece.begin * step,
                          piece.end - piece.begin, step);
        }
}
