/* Bands of rows and pieces of columns of a depthwise problem; see depthwise.c. */
#include <string.h>

#include "depthwise.h"
#include "stored.h"

enum {
    IN_PLACE_VECTORS = 8, /* fewer vectors between the edges of a row are not worth a piece */
    PADDED_VECTORS = 64,  /* longer rows of stride 1 are not worth a copy */
    END_PRODUCTS = 64,    /* fewer at the ends of a row are made one by one: strips take some 200 ns */
    PIECE = 16384,        /* outputs of a piece in place: 8 input rows of them fit L2 */
    NARROW_PIECE = 4096,  /* the same where their sums lie in cache, too, before they are cut to integers */
    VOLUME_VECTORS = 1 << 13, /* planes copied together: half of the least L2 that comes with such vectors */
    VOLUME_ROWS = 8         /* in lower bands more rows are copied twice than planes would be otherwise */
};

static const fc_depthwise *kernel_of(fc_dtype dtype, const fc_kernels *kernels)
{
    switch (dtype) {
    case FC_F64: return kernels->depthwise_f64;
    case FC_U32: return kernels->depthwise_u32;
    case FC_U64: return kernels->depthwise_u64;
    default: return kernels->depthwise_f32;
    }
}

int64_t fc_depthwise_mergeable(const fc_problem *p)
{
    int64_t m = 0;
    while (m < p->dims) {
        const int64_t d = p->dims - 1 - m;
        if (p->ker[d] != 1 || p->stride[d] != 1 || p->pad[d] || p->in[d] != p->out[d]) break;
        m++;
    }
    return m;
}

int64_t fc_depthwise_dense(const fc_problem *p)
{
    int64_t expected = 1, m = 0;
    for (const int64_t most = fc_depthwise_mergeable(p); m < most; m++) {
        const int64_t d = p->dims - 1 - m;
        if (p->in[d] != 1 && (p->x_s[d] != expected || p->y_s[d] != expected)) break;
        expected *= p->in[d];
    }
    return m;
}

/* Phases of a stride that taps lie on, a bit each. */
static uint64_t used_phases(int64_t taps, int64_t stride, int64_t dilation)
{
    uint64_t used = 0;
    for (int64_t i = 0; i < taps; i++) used |= (uint64_t)1 << i * dilation % stride % 64;
    return used;
}

/* Elements of a strip whose column phases have `plane` elements: narrow rows are read as vectors. */
static int64_t strip_of(const fc_depthwise_cut *s, int64_t plane)
{
    return fc_round_up(s->planes * plane + s->kernel->lanes, s->kernel->lanes);
}

/* Elements of a column phase of a row of `positions`, amid zeros: whole vectors. */
static int64_t padded_plane(const fc_depthwise_cut *s, int64_t positions)
{
    return fc_round_up((positions + s->extra) * s->unit, s->kernel->lanes) + s->kernel->lanes;
}

static int64_t volume_bytes(const fc_depthwise_cut *s) { return VOLUME_VECTORS * s->kernel->lanes * s->bytes; }

/* Whether the axes before rows have one position, sample 0 of x. */
static int is_one_plane(const fc_depthwise_cut *s)
{
    for (int64_t d = 0; d < s->outer; d++)
        if (s->p->pad[d]) return 0;
    return s->outers * s->taps == 1;
}

static void choose_axes(const fc_problem *p, int64_t merged, fc_depthwise_cut *s)
{
    const int64_t lanes = s->kernel->lanes;
    s->unit = fc_volume(p->in + p->dims - merged, merged);
    s->column = p->dims - 1 - merged;
    s->s = s->v = s->step = 1;
    s->pad = 0;
    if (s->unit >= 2 * lanes || s->column < 0) { /* the unit is a row by itself */
        s->row = s->column;
        s->column = -1;
        s->in = s->out = s->unit;
        s->unit = 1;
    } else {
        const int64_t d = s->column;
        s->row = d - 1;
        s->s = p->ker[d];
        s->v = p->stride[d];
        s->step = p->dilation[d];
        s->in = p->in[d];
        s->out = p->out[d];
        s->pad = p->pad[d];
    }
    s->r = s->u = s->l = s->rows = 1;
    s->outer = fc_max(s->row, 0);
    if (s->row >= 0) {
        s->r = p->ker[s->row];
        s->u = p->stride[s->row];
        s->l = p->dilation[s->row];
        s->rows = p->out[s->row];
    }
    s->taps = fc_volume(p->ker, s->outer);
    s->outers = fc_volume(p->out, s->outer);
    s->planes = 1; /* column phases that a tap lies on: all up to the largest that one does */
    for (int64_t i = 0; i < s->s; i++) s->planes = fc_max(s->planes, i * s->step % s->v + 1);
    s->extra = (s->s - 1) * s->step / s->v;
    s->row_phases = used_phases(s->r, s->u, s->l);
    for (int64_t f = 0; f < s->u; f++) s->gaps |= !(s->row_phases >> f % 64 & 1);
}

/* Cuts columns into pieces of `width`, the last of which takes what is left. In place: an edge,
 * pieces of the interior, an edge. */
static void cut_columns(fc_depthwise_cut *s, int64_t threads)
{
    const int64_t lanes = s->kernel->lanes;
    /* positions beyond the last of x, and (stride 1) outputs that see them */
    const int64_t beyond = (s->out - 1) * s->v + (s->s - 1) * s->step - s->pad - s->in + 1;
    const int64_t right = fc_min(s->out, fc_max(0, beyond));
    s->width = s->out;
    s->pieces = s->piece_units = 1;
    if (s->source >= FC_PADDED) {
        const int zeros = s->p->boundary == FC_ZEROS || (s->p->boundary == FC_CONSTANT && !s->p->cval[0]);
        const int columns = s->v == 1 || (s->v <= FC_DEPTHWISE_APART && s->unit == 1);
        const int both = zeros && columns && (s->r > 1 || (s->v > 1 && s->row >= 0)) && is_one_plane(s) &&
                         s->out * s->unit <= PIECE;
        const int near = s->v == 1 || (s->v == 2 && s->step == 1);
        /* dilated rows have more masks: 3x3, 256 @ 30x30 0.157 ms, from copies 0.122; 96 @ 56x56 0.150, 0.162 */
        const int64_t least = s->kernel->edge_columns * (s->step > 1 ? 3 : 1);
        if (s->source == FC_EDGES && both && near && s->s <= s->kernel->edges && s->out * s->unit >= least &&
            fc_max(s->pad, beyond) * s->unit <= lanes)
            return;
        s->source = FC_PADDED;
        const int64_t row_bytes = strip_of(s, padded_plane(s, s->out)) * s->bytes;
        const int64_t deep = fc_volume(s->p->in, s->outer);
        if (zeros && columns && s->taps > 1 && s->out * s->unit <= PIECE && s->column >= 0 &&
            deep * row_bytes * fc_min((VOLUME_ROWS - 1) * s->u + (s->r - 1) * s->l + 1, s->p->in[s->row]) <=
                volume_bytes(s)) {
            s->stacked = deep;
            return;
        }
        if (both && s->column >= 0 && (s->v > 1 || s->out * s->unit <= PADDED_VECTORS * lanes)) return;
        s->source = FC_BETWEEN;
    }
    if (s->source == FC_BETWEEN) {
        const int floats = s->p->dtype == FC_F32 || s->p->dtype == FC_F64;
        s->ends = s->p->boundary == FC_ZEROS && floats && !s->to && s->row < 0 && s->column >= 0 && s->unit == 1 &&
                  (s->pad + right) * s->s <= END_PRODUCTS;
        s->left = s->ends ? s->pad : fc_round_up(s->pad, lanes);
        s->right = s->ends ? right : fc_round_up(right, lanes);
        if (s->v != 1 || (s->out - s->left - s->right) * s->unit < IN_PLACE_VECTORS * lanes)
            s->source = FC_STRIPS, s->left = s->right = s->ends = 0;
    }
    const int64_t cut = s->out - s->left - s->right;
    int64_t most = s->to ? NARROW_PIECE : PIECE;
    if (s->source == FC_STRIPS) {
        const int64_t high = (fc_min(s->rows, 8) - 1) * s->u + (s->r - 1) * s->l + 1;
        most = s->strip_bytes / (s->taps * high * s->planes * s->unit * s->bytes) - s->extra;
        most = fc_max(most, 8 * lanes);
    }
    const int few = s->p->n * s->p->g * s->outers * s->rows < threads;
    if (few) most = fc_min(most, fc_max(fc_ceil_div(cut, 4 * threads), 16 * lanes));
    s->width = fc_min(cut, fc_round_up(fc_ceil_div(cut, fc_ceil_div(cut, most)), lanes));
    s->pieces = cut / s->width + (cut % s->width >= lanes) + (s->left > 0) + (s->right > 0);
    s->piece_units = few ? s->pieces : 1;
}

/* Positions from a channel to the next where both are less than a vector: zeros between them serve as the padding of
 * either. */
static int64_t find_beside(const fc_depthwise_cut *s)
{
    const int64_t lanes = s->kernel->lanes, count = fc_min(s->in, (s->out + s->extra) * s->v - s->pad);
    const int64_t low = s->pad / s->v; /* where the first sample of a phase is at least */
    const int64_t apart = fc_max(fc_max(s->out, s->out + s->extra - low), fc_ceil_div(s->pad + count, s->v));
    const int fits = (apart + s->out) * s->unit <= lanes && (apart + low + 1) * s->unit + lanes <= s->plane;
    return s->source == FC_PADDED && s->picture && s->picture->two && !s->stacked && fits ? apart : 0;
}

void fc_depthwise_plan(const fc_problem *p, const fc_config *config, const fc_kernels *kernels,
                       int64_t threads, int64_t merged, fc_depthwise_source source,
                       fc_depthwise_cut *s)
{
    memset(s, 0, sizeof *s);
    s->p = p;
    s->kernel = kernel_of(p->dtype, kernels);
    s->picture = p->dtype == FC_F32 ? kernels->picture_f32 : p->dtype == FC_F64 ? kernels->picture_f64 : NULL;
    s->bytes = fc_dtype_bytes(p->dtype);
    s->x_bytes = fc_dtype_bytes(p->x_dtype);
    s->y_bytes = fc_dtype_bytes(p->y_dtype);
    s->to = p->y_dtype == p->dtype ? NULL : fc_stored_in(p->y_dtype, p->dtype, kernels);
    choose_axes(p, merged, s);
    s->source = source;
    s->strip_bytes = config->v[0];
    cut_columns(s, threads);

    const int64_t lanes = s->kernel->lanes;
    const int64_t longest = s->width + (s->pieces > 1 ? lanes : 0); /* of all pieces but edges */
    const int64_t widest = s->source == FC_BETWEEN ? fc_max(s->left, s->right) : longest;
    s->plane = s->source == FC_PADDED ? padded_plane(s, widest) : (widest + s->extra) * s->unit;
    s->strip = strip_of(s, s->plane);
    /* position i of phase f is x's i*v + f - pad */
    const uint64_t used = used_phases(s->s, s->v, s->step);
    for (int64_t h = 0; h < s->v && s->v <= FC_DEPTHWISE_APART; h++) {
        const int64_t f = (h + s->pad) % s->v;
        s->apart[h] = used >> f & 1 ? f * s->plane + (h + s->pad) / s->v * s->unit : -1;
    }
    const int64_t halo = (s->r - 1) * s->l;
    const int64_t stacked = s->stacked ? s->stacked : s->taps;
    const int64_t fit = (s->stacked ? volume_bytes(s) : s->strip_bytes) / (stacked * s->strip * s->bytes);
    int64_t band = fc_max(fc_max((fit - halo - 1) / s->u + 1, 4 * s->l), fc_min(halo, 64));
    if (s->source == FC_EDGES) band = s->rows;
    const int64_t images = p->n * p->g * s->outers;
    if (threads > 1 && images < 4 * threads) {
        const int64_t even = fc_ceil_div(s->rows, fc_ceil_div(4 * threads, images));
        band = fc_min(band, fc_max(even, 4 * s->l));
    }
    s->bands = fc_ceil_div(s->rows, band);
    s->band = fc_min(s->rows, fc_round_up(fc_ceil_div(s->rows, s->bands), 4));
    s->bands = fc_ceil_div(s->rows, s->band);
    s->in_rows = (s->band - 1) * s->u + halo + 1;

    s->channels = s->source >= FC_PADDED ? fc_max(1, p->g / (threads == 1 ? 1 : 8 * threads)) : 1;
    s->beside = find_beside(s);
    if (s->beside) s->channels = fc_round_up(s->channels, 2);
    s->strip_bytes = fc_round_up(stacked * s->in_rows * s->strip * s->bytes, FC_ALIGN);
    /* the next channel is copied before one is read: what was just written in other pieces is read late */
    s->copy_bytes = s->strip_bytes;
    s->copies = s->source == FC_PADDED && s->picture && !s->stacked && 2 * s->copy_bytes <= config->v[0] ? 2 : 1;
    s->strip_bytes *= s->copies;
    s->pointer_bytes = fc_round_up(s->taps * s->in_rows * (int64_t)sizeof(void *), FC_ALIGN);
    s->border_bytes = fc_round_up(s->strip * (int64_t)sizeof(int64_t), FC_ALIGN);
    const int64_t most = fc_max(widest, longest) * s->unit + lanes;
    /* rows of sums, and one of what they become */
    s->scratch_bytes = fc_round_up((FC_DEPTHWISE_ROWS * s->bytes + (s->to ? s->y_bytes : 0)) * most, FC_ALIGN);
    s->slot_bytes = s->strip_bytes + s->pointer_bytes + s->border_bytes + s->scratch_bytes;
    /* shared by all: offsets of column taps, rows of x, and a row of what is beyond the ends */
    const int64_t padded = s->row < 0 ? 1 : (s->rows - 1) * s->u + halo + 1;
    s->table_bytes = fc_round_up((s->s + padded) * (int64_t)sizeof(int64_t), FC_ALIGN);
    s->constant_bytes =
        s->source == FC_BETWEEN ? fc_round_up((most + s->extra * s->unit) * s->bytes, FC_ALIGN) : 0;
}
