"""Seed known faults, one at a time, and count how many the tests catch.

    python tests/mutate.py [--list] [--only TEXT] [--keep]

The tree is copied to a temporary folder and built there once; for each fault one text of one file
is replaced, the objects that file goes into are compiled again, and fast tests are run until the
first fails. A crash or a hang counts as caught. The exit code is 1 when a fault survives and 2 when
one cannot be seeded, because its text is no longer there exactly once.
"""

from __future__ import annotations

import argparse
import dataclasses
import os
import pathlib
import shlex
import shutil
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
COPIED = ("fastconv", "tests", "setup.py", "pyproject.toml", "README.md", "LICENSE")

#: A test run that takes so many times as long as all tests did without a fault hangs, and none
#: does within so many seconds.
HANGS, LEAST = 4, 240

SOLVERS, KERNELS = "tests/test_solvers.py", "tests/test_kernels.py"

#: Of a file whose others read what is not copied.
FEATURES, ESTIMATES, IMAGES, TREES, LEADING = (
    f"tests/test_model.py::{test}"
    for test in (
        "test_features_are_what_they_are_called", "test_estimates_grow_with_the_problem",
        "test_estimates_are_of_all_images", "test_trees_are_walked_all_at_once",
        "test_candidates_passed_over_come_last",
    )
)  # fmt: skip
ENGINE, PLANNER = "tests/test_engine.py", "tests/test_planner.py"
REPRODUCIBLE = "tests/test_reproducible.py"
INTEGER, HALVES = "tests/test_integer.py", "tests/test_halves.py"
EPILOGUE, SHORTCUT = "tests/test_epilogue.py", "tests/test_shortcut.py"
AMX, MATCH = "tests/test_amx.py", "tests/test_match.py"
GRADIENT, WORKSPACE = "tests/test_amx_gradient.py", "tests/test_cuda_workspace.py"
ACCURACY, PARALLEL, PROBLEM = (
    "tests/test_accuracy.py",
    "tests/test_parallel.py",
    "tests/test_problem.py",
)


@dataclasses.dataclass(frozen=True)
class Fault:
    """`text` of `file`, which is under fastconv/, becomes `replacement`; `tests` should notice."""

    what: str
    file: str
    text: str
    replacement: str
    tests: tuple[str, ...] = (KERNELS, SOLVERS)


FAULTS = (
    # ---- what every driver shares
    Fault("reflect repeats the wrong sample", "_ext/drivers/common.c",
          "return t < size ? t : 2 * size - 1 - t;", "return t < size ? t : 2 * size - 2 - t;"),
    Fault("mirror has too long a period", "_ext/drivers/common.c",
          "t = modulo(t, 2 * size - 2);", "t = modulo(t, 2 * size - 1);"),
    Fault("nearest takes the other end", "_ext/drivers/common.c",
          "return t < 0 ? 0 : size - 1;", "return t < 0 ? size - 1 : 0;"),
    Fault("wrap does not: a negative remainder", "_ext/drivers/common.c",
          "return m < 0 ? m + b : m;", "return m < 0 ? 0 : m;"),
    Fault("samples stand between dilated ones", "_ext/drivers/common.c",
          "if (t < 0 || t % e) return -1;", "if (t < 0) return -1;"),
    Fault("all workers use the caller's slot of the workspace", "_ext/drivers/parallel.c",
          "work(work_context, i, slot);", "work(work_context, i, slot * 0);", (KERNELS, PARALLEL)),
    Fault("the last unit of work is left out", "_ext/drivers/parallel.c",
          "for (int64_t i = 0; i < count; i++) function(context, i, 0);",
          "for (int64_t i = 0; i < count - (count > 2); i++) function(context, i, 0);"),
    # ---- naive
    Fault("naive: the stride is forgotten", "_ext/drivers/naive.inc",
          "o[d] * p->stride[d] + r[d] * p->dilation[d]", "o[d] + r[d] * p->dilation[d]"),
    Fault("naive: a sign of the complex product", "_ext/drivers/naive.inc",
          "re += a * w[2 * wi] - b * w[2 * wi + 1];", "re += a * w[2 * wi] + b * w[2 * wi + 1];"),
    Fault("naive: every group reads the first", "_ext/drivers/naive.inc",
          "(group * p->c + c) * p->x_c", "c * p->x_c"),
    Fault("naive: zeros beyond the ends are multiplied", "_ext/drivers/naive.inc",
          "if (filled && p->boundary != FC_CONSTANT) goto next;",
          "if (0) goto next;"),
    # ---- register tiles and direct
    Fault("tile: sums are not accumulated", "_ext/kernels/tile.inc",
          "if (accumulate) sum[i][v] += *to;", "if (accumulate > 1) sum[i][v] += *to;"),
    Fault("tile: one row of weights for all", "_ext/kernels/tile.inc",
          "const T weight = w[t * rows + i];", "const T weight = w[t * rows + i / 2 * 2];"),
    Fault("direct: a later block of taps overwrites", "_ext/drivers/direct.c",
          "sums + row * nr * s->bytes, nr, tap > first);", "sums + row * nr * s->bytes, nr, 0);"),
    Fault("direct: a sign of the complex expansion", "_ext/drivers/direct.c",
          "if (channel % 2 && (row + i) % 2 == 0)", "if (channel % 2 && (row + i) % 2)"),
    Fault("direct: a band starts a row early", "_ext/drivers/direct.c",
          "const int64_t start = band * s->band;",
          "const int64_t start = band * s->band - (band > 0);"),
    Fault("direct: filters of the second part use the first's weights", "_ext/drivers/direct.c",
          "int64_t from = part * s->rows_a_part;", "int64_t from = 0 * part * s->rows_a_part;"),
    Fault("phase: the stride phase of a tap", "_ext/drivers/phase.c",
          "while (l->phase[a][i] != t % u) i++;", "while (l->phase[a][i] != r[d] % u) i++;"),
    Fault("phase: an interior one sample too long", "_ext/drivers/phase.c",
          "inside = fc_max(0, p->in[d] - origin);",
          "inside = fc_max(0, p->in[d] + 1 - origin);"),
    Fault("im2col: the transposed tile takes the tap's stride", "_ext/drivers/im2col.c",
          "s->swapped.stride[p->dims - 1] = p->dilation[p->dims - 1];",
          "s->swapped.stride[p->dims - 1] = p->stride[p->dims - 1];"),
    Fault("im2col: the next row of columns stays in its image", "_ext/drivers/im2col.c",
          "n += d < 0;", "n += 0;"),
    Fault("winograd: an overflow is taken for a large output", "_ext/kernels/winograd.c",
          "#define LARGEST FLT_MAX", "#define LARGEST (1.0f / 0.0f)", (ACCURACY, SOLVERS)),
    Fault("phase: the tail mask keeps a column too many", "_ext/drivers/phase.c",
          "run->count = fc_min(end - from, (row - run->o[last]) * l->unit - run->rest);",
          "run->count = fc_min(end - from, (row + 1 - run->o[last]) * l->unit - run->rest);"),
    # ---- integers and halves
    Fault("pairs: padding with a zero point adds nothing", "_ext/drivers/pairs.c",
          "packed, (uint32_t)zero, epilogue", "packed, 0, epilogue"),
    Fault("pairs: the sign of a channel spills into the next", "_ext/kernels/pairs.inc",
          "to[j] = (uint16_t)(x[j] - zero) |", "to[j] = (uint32_t)(x[j] - zero) |"),
    Fault("pairs: rows of an image that is not dense are taken for one", "_ext/drivers/pairs.c",
          "return in_a_row ? 1 : rows;", "return 1;"),
    Fault("pairs: images of 32 bits are read as of 16", "solvers/_joined.py",
          "problem.is_exact and problem.x_dtype in NARROW\n", "problem.is_exact\n", (SOLVERS,)),
    Fault("sums of whole numbers are cut as right to the largest sample", "ndimage.py",
          'arguments["accuracy"] = "strict"', "pass", ("tests/test_ndimage.py",)),
    Fault("panels: narrow sums of a part of the filters are the first's", "_ext/drivers/panels.c",
          "u.k = filter_of(s, from);", "u.k = 0;", (SOLVERS, INTEGER)),
    Fault("pairs: quantised sums lose their zero point", "_ext/kernels/pairs.c",
          "0x4b400000 - (int32_t)zero};", "0x4b400000};", (INTEGER,)),
    Fault("quads: padding with a zero point is of zeros", "_ext/drivers/quads.c",
          "(uint32_t)p->cval_i & 255 : 0)", "0 : 0)", (SOLVERS, INTEGER)),
    Fault("quads: samples less 128 are not made good", "_ext/drivers/quads.c",
          "packed, off, epilogue", "packed, 0, epilogue", (SOLVERS, INTEGER)),
    Fault("quads: weights with a sign are summed as if without", "_ext/drivers/quads.c",
          "has_sign ? (uint32_t)(int8_t)low : low", "low", (SOLVERS, INTEGER)),
    Fault("quads: rows end with their padding left as it was", "_ext/drivers/quads.c",
          "fill(row + high, width - high, a->beyond);", ""),
    Fault("quads: one pixel takes x for w", "_ext/kernels/quads.c",
          "add_products(sum, ALL(x), weights)", "add_products(sum, weights, ALL(x))"),
    Fault("quads: the last channels take a neighbour's place", "_ext/drivers/quads.c",
          "*to |= (uint32_t)low << 8 * i;", "*to |= (uint32_t)low << 8 * (i & 1);"),
    Fault("depthwise: planes of padding are the first of x", "_ext/drivers/depthwise_cut.c",
          "if (s->p->pad[d]) return 0;", "if (s->p->pad[d] < 0) return 0;"),
    Fault("quad_rows: samples less 128 are not made good", "_ext/drivers/quad_rows.c",
          "start = a->factor * w[filters * s->filter + filter];", "start = 0;"),
    Fault("quad_rows: padding is of zeros whatever zero has become", "_ext/drivers/quad_rows.c",
          "memset(copy + first * s->pitch, a->beyond,", "memset(copy + first * s->pitch, 0,"),
    Fault("quad_lanes: samples less 128 are not made good", "_ext/drivers/quad_lanes.c",
          "start[c] = a->factor * of[c];", "start[c] = 0;"),
    Fault("quad_lanes: padding is of zeros whatever zero has become", "_ext/drivers/quad_lanes.c",
          "memset(copy, a->beyond,", "memset(copy, 0,"),
    Fault("quad_lanes: channels take the first ones' scales", "_ext/drivers/quad_lanes.c",
          "a->epilogue->scale[block * s->lanes + c];", "a->epilogue->scale[c];", (INTEGER,)),
    Fault("quad_lanes: samples that no window sees lie where others do",
          "_ext/drivers/quad_lanes.c", ": s->rows * s->columns) * s->lanes);", ": 0) * s->lanes);"),
    Fault("quad_lanes: planes with gaps are read as without", "_ext/drivers/quad_lanes.c",
          "if (!is_dense(p->x_s, p->in)) {", "if (0) {"),
    Fault("quad_lanes: a band of rows has the sums of the one before", "_ext/drivers/quad_lanes.c",
          "copy + (row + i) * p->stride[0]", "copy + i * p->stride[0]"),
    Fault("quad_lanes: of a quad the middle samples change places", "_ext/kernels/quad_lanes.c",
          "#define PART(i) i, i + 4, i + 8, i + 12, i + 1,",
          "#define PART(i) i, i + 8, i + 4, i + 12, i + 1,"),
    Fault("quad_lanes: rows of outputs meet the weights of the first", "_ext/kernels/quad_lanes.c",
          "w + (i - j * u) * quads + q", "w + (i - j * u) % 1 * quads + q"),
    Fault("quad_rows: short rows are copied without their middle", "_ext/drivers/quad_rows.c",
          "memcpy(&last, end - 8, 8);", "memcpy(&last, end - 7, 7);"),
    Fault("quad_rows: weights of strides down lie as without", "_ext/kernels/quad_rows.c",
          "w[(ROWS - 1 - j) * down * quads + q]", "w[(ROWS - 1 - j) * quads + q]"),
    Fault("quad_rows: the second channel's weights begin a row late", "_ext/kernels/quad_rows.c",
          "t++, w += (ROWS - 1) * down * quads)",
          "t++, w += ROWS * down * quads)"),
    Fault("quad_rows: outputs of two vectors change places", "_ext/kernels/quad_rows.c",
          "y[2] = FC_SHUFFLE(even_1, odd_1, low)", "y[2] = FC_SHUFFLE(odd_1, even_1, low)"),
    Fault("quad_rows: a tile stores two of its rows", "_ext/drivers/quad_rows.c",
          "rows = fc_min(tile->rows, p->out[0] - row);", "rows = fc_min(2, p->out[0] - row);"),
    Fault("scores: doubt in a strip of columns is forgotten in the next", "_ext/drivers/scores.c",
          "        if (c->kernel->score(",
          "        m->doubtful[row] = 0;\n        if (c->kernel->score(", (MATCH,)),
    Fault("scores: a strip's last windows lack their last columns", "_ext/drivers/scores.c",
          "c->kernel->down(count + m->taps[1] - 1,", "c->kernel->down(count,", (MATCH,)),
    Fault("scores: roots are left at 14 bits", "_ext/kernels/inverse_root.h",
          "r * (1.5 - 0.5 * (a * r) * r);", "r;", (MATCH,)),
    Fault("scores of bytes: rows that have left a window stay", "_ext/drivers/scores_u8.c",
          "row > first ? x - m->taps[0] * m->x_row : NULL", "NULL", (MATCH,)),
    Fault("scores of bytes: squares of one channel alone", "_ext/drivers/scores_u8.c",
          "down + channels * ld);", "down + (k ? k : channels) * ld);", (MATCH,)),
    Fault("pairs: tiles of VNNI leave out the second channel", "_ext/kernels/panels.c",
          '"v"((vec_words){0} + (weight))', '"v"((vec_words){0} + (weight & 0xffff))'),
    Fault("winograd_pairs: padding with a zero point adds nothing", "_ext/drivers/winograd_pairs.c",
          "(uint32_t)j->zero * j->sums[filter] + (e->bias", "(e->bias", (SOLVERS, INTEGER)),
    Fault("winograd_pairs: rows of samples are shared by tiles of other columns",
          "_ext/drivers/winograd_pairs.c", "t.column == before.column && ", "", (SOLVERS, KERNELS)),
    Fault("winograd_pairs: a block of filters begins with the first",
          "_ext/drivers/winograd_pairs.c", "(k - first) * s->ldv", "k * s->ldv", (KERNELS,)),
    Fault("winograd_pairs: the lower outputs add the last point", "_ext/kernels/winograd_pairs.c",
          "sums[1][j] = (m1 - m2) - m3;", "sums[1][j] = (m1 - m2) + m3;"),
    Fault("winograd_pairs: quarters of negative sums are those of large ones",
          "_ext/kernels/winograd_pairs.c", "(words)((ints)left >> 2)", "(left >> 2)"),
    Fault("winograd_pairs: large weights are cut to 16 bits", "solvers/winograd_pairs.py",
          "-largest <= w.min() <= w.max() <= largest", "True"),
    Fault("winograd_pairs: twice the channels", "solvers/winograd_pairs.py",
          ">= _MOST:", ">= 2 * _MOST:", (INTEGER,)),
    Fault("halves: bfloat16 rounds ties up", "_ext/kernels/halves.c",
          "(bits + 0x7fff + (bits >> 16 & 1)) >> 16", "(bits + 0x8000) >> 16", (HALVES,)),
    Fault("halves: parts of an image have the first part's bias", "_ext/drivers/depthwise_halves.c",
          "(const float *)own.bias + c * p->k;", "(const float *)own.bias;", (HALVES, SOLVERS)),
    Fault("halves: strided samples of a part are read as dense", "_ext/drivers/depthwise_halves.c",
          "        if (apart == 1) {", "        if (apart) {", (HALVES, SOLVERS)),
    Fault("halves: the last elements of a chunk stay", "_ext/drivers/halves.c",
          "fc_min(CHUNK, h->count - first)", "fc_min(CHUNK, h->count - first) / 8 * 8",
          (HALVES,)),
    # ---- panels
    Fault("panels: the sums of a block of taps are forgotten", "_ext/drivers/panels.c",
          "bias, block || n,", "bias, n > 0,"),
    Fault("panels: short bands of a y that L2 does not hold are read in runs", "solvers/_panels.py",
          "far and (long or not band)", "far", ("tests/test_planner.py",)),
    Fault("panels: tiles side by side read the same panel", "_ext/kernels/panels_tile.inc",
          "w += ldw, x += ldx, add", "w += ldw, add"),
    Fault("panels: tiles side by side are of filters", "_ext/kernels/panels_tile.inc",
          "filters = ldx ? 0 : rows, next = ldx ? vectors * LANES : rows * ldy",
          "filters = rows, next = ldx ? vectors * LANES : rows * ldy"),
    Fault("panels: a tile that leaves out taps goes with those beside it", "_ext/drivers/panels.c",
          "u->found[end] == 1 && u->spans[end * s->most_spans].count == taps) end++;",
          "u->found[end] == 1) end++;"),
    Fault("panels: pixels are picked beyond the end of their row", "_ext/drivers/panels_fill.c",
          "&at->lanes, shift, p->in[last],", "&at->lanes, shift, p->in[last] + 1,"),
    Fault("panels: four taps are picked beyond the end of their row", "_ext/drivers/panels_fill.c",
          "&at->lanes, begin, p->in[last],", "&at->lanes, begin, p->in[last] + 1,"),
    Fault("panels: the last taps of a row are the next four", "_ext/drivers/panels_fill.c",
          "return begin + 4 - r;", "return 4;"),
    Fault("panels: pixels at an edge have the first of four taps", "_ext/kernels/panels.inc",
          "x[lanes->index[t] + tap] : 0;", "x[lanes->index[t]] : 0;"),
    Fault("panels: pixels are picked of rows of padding", "_ext/drivers/panels_fill.c",
          "if (rows[i] != NO_ROW) at->live |=", "at->live |="),
    Fault("panels: taps on padding are left out, not their weights", "_ext/drivers/panels.c",
          "own + next->first * rows * s->bytes,", "own,"),
    Fault("panels: strided outputs are read one by one", "_ext/drivers/panels.c",
          " && p->pad[d] == 0 && p->stride[d] == 1;", " && p->pad[d] == 0;"),
    Fault("panels: 1x1 layers read a partial tile in place", "_ext/drivers/panels.c",
          "in_place ? j->offset + s->channel_block : j->offset,", "j->offset + s->channel_block,"),
    Fault("panels: a panel is read as far apart as x", "_ext/drivers/panels.c",
          "u.found[i], in_place && j->near,", "u.found[i], j->near,"),
    Fault("panels: 1x1 layers begin each tile of filters where x does",
          "_ext/kernels/panels_tile.inc",
          "next = ldx ? VECTORS * LANES : rows * ldy;", "next = ldx ? VECTORS * LANES : ldy;"),
    Fault("panels: samples in place are those of the first channels", "_ext/drivers/panels.c",
          "(u.g * p->c + b * s->channel_block) * p->x_c) * s->bytes;",
          "u.g * p->c * p->x_c) * s->bytes;"),
    Fault("strides of 3 and 4: lanes of the last vector are those of the first",
          "_ext/kernels/apart.inc", "LANES + (step) * (i) % LANES :", "(step) * (i) % LANES :"),
    Fault("panels: sums that run on over gaps have none", "_ext/drivers/panels_fill.c",
          "copy(sums, s->phase, 1,", "copy(sums, width, 1,"),
    Fault("panels: the rows of a band in gaps begin where x does", "_ext/drivers/panels_fill.c",
          "to + (begun * s->phase + low) * s->bytes, s->phase);",
          "to + begun * s->phase * s->bytes, s->phase);"),
    Fault("panels: the filters of a part of a tile lie without a gap", "_ext/drivers/panels.c",
          "own += s->nr * s->bytes)", "own += count * s->bytes)"),
    Fault("panels: a band's row ends a sample late", "_ext/drivers/panels_fill.c",
          "fc_ceil_div(fc_max(0, p->in[last] - origin), step)));",
          "fc_ceil_div(fc_max(0, p->in[last] + step - origin), step)));"),
    Fault("panels: rows whose windows overlap are joined", "_ext/drivers/panels_fill.c",
          "s->joined = reach == 0 &&", "s->joined ="),
    Fault("panels: blocks along a row begin with its first sample", "_ext/drivers/panels_fill.c",
          "const int64_t origin = begin * step + f % step - p->pad[last];",
          "const int64_t origin = f % step - p->pad[last];"),
    Fault("panels: a tile beside padding counts as whole", "_ext/drivers/panels_fill.c",
          "origin >= 0 && origin + reach < p->in[last];", "origin >= 0;"),
    Fault("panels: a row's second piece overwrites the first", "_ext/kernels/panels.inc",
          "if (!first) a |= *(const NAME(bits) *)y;", ""),
    Fault("panels: phases of outputs begin at the wrong one", "_ext/drivers/panels_phases.c",
          "s->lead[d] = lead;", "s->lead[d] = 0;"),
    Fault("panels: woven sums forget an earlier block of taps", "_ext/drivers/panels_phases.c",
          "piece->end, block > 0,", "piece->end, 0,"),
    Fault("panels: a woven row ends a lane late", "_ext/kernels/panels.inc",
          "low - f * LANES, high - f * LANES);", "low - f * LANES, high + 1 - f * LANES);"),
    Fault("panels: half of what is woven is the other half again", "_ext/kernels/panels.inc",
          "of[v + phases / 2], second);", "of[v + phases / 2], first);"),
    Fault("panels: of three woven phases the third is the second again",
          "_ext/kernels/panels.inc", "% 3 == 2 ? LANES + THIRD(v, i) : (i))",
          "% 3 == 2 ? THIRD(v, i) : (i))"),
    # ---- col2im
    Fault("col2im: the sums of a block of channels are forgotten", "_ext/drivers/col2im.c",
          "j->in_place, near, c, channels, s->nr, at + i);",
          "j->in_place, near, 0, channels, s->nr, at + i);"),
    Fault("col2im: the rest of a row overlaps what has been summed before",
          "_ext/drivers/col2im.c", "(wide <= count && channels == s->p->c)", "wide <= count"),
    Fault("col2im: what taps meet beyond a block is left over", "_ext/drivers/col2im.c",
          "if (!apart) memset(row + end * s->bytes, 0, (size_t)((all - end) * s->bytes));", ""),
    Fault("col2im: there are no zeros between rows in place", "_ext/drivers/col2im.c",
          "(apart ? all : begin)", "begin"),
    Fault("col2im: zeros behind a row are none before the next", "_ext/drivers/col2im_plan.c",
          "fc_min(fc_min(before, after), a->window - 1)", "fc_min(after, a->window - 1)"),
    Fault("col2im: outputs begin at the wrong phase", "_ext/drivers/col2im_plan.c",
          "rest % p->input_dilation[d] - s->axes[d].lead", "rest % p->input_dilation[d]"),
    Fault("col2im: parts of the filters but the first have none", "_ext/drivers/col2im.c",
          "u.block < (part + 1) * s->filter_blocks / s->parts;",
          "u.block < s->filter_blocks / s->parts;"),
    Fault("col2im: four vectors of sums are the first again", "_ext/kernels/col2im.inc",
          "(from + offset[t] + v * LANES)", "(from + offset[t])"),
    # ---- tiles of AMX
    Fault("amx: odd channels are multiplied by the even ones' samples", "_ext/kernels/amx.c",
          "odd[pair][k] = widened(w->parts[pair][2 * k + 1]);",
          "odd[pair][k] = widened(w->parts[pair][2 * k]);", (AMX,)),
    Fault("amx: sums below the smallest normal number are kept", "_ext/kernels/amx.c",
          "fabs(v) < 0x1.ffffffp-127 ? v * 0.0 : v", "fabs(v) < 0 ? v * 0.0 : v", (AMX,)),
    Fault("amx: an output that is not finite counts as right", "_ext/kernels/amx.c",
          "(size > limit) & (size <= FLT_MAX)", "size > limit", (AMX,)),
    Fault("amx: sums near the largest number are taken for finite", "_ext/drivers/amx_split.c",
          "q->limited |= !(most", "q->limited |= 0 && !(most", (AMX,)),
    Fault("amx: channels side by side are turned round in a pair", "_ext/kernels/amx.c",
          "upper_halves(low + part, high + part,", "upper_halves(high + part, low + part,", (AMX,)),
    Fault("amx: a large NaN among channels side by side counts as 0", "_ext/kernels/amx.c",
          "if (!half && seen->most >= LARGE_NAN) split_lines", "if (0) split_lines", (AMX,)),
    Fault("amx: filters beyond the last are written to y's next pixel", "_ext/kernels/amx.c",
          "(__mmask32)(((uint64_t)1 << filters) - 1)", "(__mmask32)-1", (AMX,)),
    Fault("amx: a residual is added before the last filters' sums are", "_ext/drivers/amx_split.c",
          "p->y_k == 1 && step == filters", "p->y_k == 1", (AMX,)),
    Fault("amx: a large NaN counts as 0", "_ext/kernels/amx.c",
          "if (!half && seen->most >= LARGE_NAN) split_rows", "if (0) split_rows", (AMX,)),
    Fault("amx: sums are added to what the last run left", "_ext/kernels/amx.c",
          "else if (t->accumulate) move_lines", "else if (0) move_lines", (AMX, SOLVERS)),
    Fault("amx: the third part of x is taken for its second", "_ext/kernels/amx.inc",
          "x + 2 * b->x_part", "x + b->x_part", (AMX,)),
    Fault("amx_int8: bytes of w are of the other signedness", "_ext/kernels/amx_int8.c",
          "v * (w_signed ? (uint32_t)(int8_t)b : b)", "v * (!w_signed ? (uint32_t)(int8_t)b : b)",
          (AMX,)),
    Fault("amx_int8: the second four pixels of sixteen change places with the third",
          "_ext/kernels/amx_int8.c", "i / 4 * 16 + 4 * j + i % 4",
          "i / 4 * 16 + 4 * (j == 1 ? 2 : j == 2 ? 1 : j) + i % 4", (AMX, SOLVERS)),
    Fault("amx_int8: rows gathered together have no padding between them",
          "_ext/kernels/amx_int8.c", "column = 0, y += gap * ROW;", "column = 0;", (AMX, SOLVERS)),
    Fault("amx_int8: a whole tile of outputs begins where the run before did",
          "_ext/kernels/amx_int8.c", "y += t->runs->to * size;",
          "y += t->runs->to / 32 * 32 * size;", (AMX, SOLVERS)),
    Fault("amx_int8: padding is 0 whatever the zero point", "_ext/drivers/amx_int8.c",
          "(int)(p->cval_i & 0xff)", "0", (AMX, SOLVERS)),
    Fault("amx: rows are one that are not in y", "_ext/drivers/amx_split.h",
          "columns == pitch && y_row == columns * p->y_s[s->column]", "columns == pitch",
          (AMX, SOLVERS)),
    Fault("amx_int8: planes beyond the ends keep what was there", "_ext/drivers/amx_int8.c",
          "        else\n            clear(s, to, to + s->plane * LINE);\n", "", (AMX, SOLVERS)),
    Fault("amx_split: what may have been flushed is not looked at", "_ext/drivers/amx_split.c",
          "smallest(&q->seen) >= of.safe) return -1;", "1) return -1;", (AMX,)),
    Fault("amx_split: weights with subnormal parts count as safe", "_ext/drivers/amx_split_plan.c",
          "if (least < 0x1p-103) safe = INFINITY;", "if (least < 0) safe = INFINITY;", (AMX,)),
    Fault("amx_split: a block of layers forgets those before it", "_ext/drivers/amx_split.c",
          "        stored = 1;", "        stored = 0;", (AMX, SOLVERS)),
    Fault("amx_split: rows of a tile that end in it run on", "_ext/drivers/amx_split.c",
          "while (to->tile == (t * n + i) / 2) to++;", "while (to->tile >= 0) to++;",
          (AMX, SOLVERS)),
    Fault("amx_split: rows of one residue are one", "_ext/drivers/amx_split.h",
          "if (s->row_residues == 1 && columns", "if (columns", (AMX, SOLVERS)),
    Fault("amx_split: sums of residues are not stored in turn", "_ext/drivers/amx_split.c",
          "b.sums = q->sums + i * SIDE;", "b.sums = q->sums;", (AMX, SOLVERS)),
    Fault("amx_split: a residue reads the samples of another", "_ext/drivers/amx_split.h",
          "t.at -= fc_first_sample(p, d, 0);", "t.at = 0;", (AMX, SOLVERS)),
    Fault("amx_split: weights of a residue are those of the first", "_ext/drivers/amx_split.h",
          "(s->layers * s->first[residue] + layer", "(layer", (AMX, SOLVERS)),
    Fault("amx_split: outputs in doubt are looked for among positions", "_ext/drivers/amx_split.c",
          "q->at.y_top + run->row", "q->at.top + run->row", (AMX,)),
    Fault("amx: results in bfloat16 are cut off", "_ext/kernels/amx.c",
          "even = bits + 0x7fff + (bits >> 16 & 1);", "even = bits;", (AMX,)),
    Fault("amx: of samples in bfloat16 those between strides are read", "_ext/kernels/amx.c",
          "*pair = (even & 0xffff) | odd << 16;",
          "*pair = even >> 16 | (odd & 0xffff0000);", (AMX,)),
    Fault("amx: small samples in bfloat16 are not seen", "_ext/kernels/amx.c",
          "if (!of_lanes.above[i]) continue;", "continue;", (AMX,)),
    Fault("amx_split: what is settled is in doubt again", "_ext/drivers/amx_split.c",
          "    t->last = 0; /*", "    /*", (AMX,)),
    Fault("amx_split: blocks of layers are rounded to bfloat16, each", "solvers/_driver.py",
          "is_own and self._rounds and y.dtype", "is_own and y.dtype", (AMX,)),
    Fault("amx: of samples in float16 those between strides are read", "_ext/kernels/amx.c",
          "(__mmask32)((((uint64_t)1 << 2 * fc_min(count, SIDE)) - 1) >> 1);",
          "(__mmask32)(((uint64_t)1 << 2 * fc_min(count, SIDE)) - 2);", (AMX,)),
    Fault("amx: the second part of a float16 is its sample's", "_ext/kernels/amx.c",
          "p.second = bits_of(v) >> 16 | (bits_of(z) & 0xffff0000), p.third = 0;",
          "p.second = p.first, p.third = 0;", (AMX,)),
    Fault("amx: results in float16 change places", "_ext/kernels/amx.c",
          "_mm512_castsi256_si512(of_low), of_high, 1)",
          "_mm512_castsi256_si512(of_high), of_low, 1)", (AMX,)),
    Fault("amx_split: float16 is taken for bfloat16 in a doubtful sum", "_ext/drivers/amx_split.c",
          "halves_f32->widen[0](", "halves_f32->widen[1](", (AMX,)),
    Fault("amx_split: taps of a row have the first one's weights", "_ext/drivers/amx_split.h",
          "c / s->of->c * s->of->w_s[s->column] + c", "c", (AMX,)),
    Fault("amx_split: joined rows begin at x, not at its padding", "_ext/drivers/amx_split_fill.c",
          "q->at->left * p->stride[d] - p->pad[d], bytes", "q->at->left * p->stride[d], bytes",
          (AMX,)),
    Fault("amx_split: joined rows keep what was behind the last sample",
          "_ext/drivers/amx_split_fill.c",
          "    memset(to + b * p->c * bytes, 0, (size_t)((columns - b) * p->c * bytes));\n", "",
          (AMX,)),
    Fault("amx_split: a doubtful sum of joined taps reads without their stride",
          "_ext/drivers/amx_split.c", "column * p->stride[s->column] + c / p->c",
          "column + c / p->c", (AMX,)),
    Fault("amx: the second line of woven channels is the first again", "_ext/kernels/amx.c",
          "+ n * ROW, rows[n] + i, ROW);", "+ n * ROW, rows[0] + i, ROW);", (AMX,)),
    Fault("amx_split: four products leave out nothing of any weights", "solvers/amx_split.py",
          '(products, _stored(problem)) == (4, "f16")', "products == 4", (AMX,)),
    Fault("amx_winograd: a channel is paired with itself", "_ext/kernels/amx_winograd.c",
          "input_line_wide(line_of, half[1] + i * a, odd);",
          "input_line_wide(line_of, half[0] + i * a, odd);", (AMX, SOLVERS)),
    Fault("amx_winograd: what may have been flushed is not looked at",
          "_ext/drivers/amx_winograd_plan.c", "ldexp(PARTS * gain, 24 - 126);",
          "ldexp(PARTS * gain, -126 - 126);", (AMX,)),
    Fault("amx_winograd: a tile that reads NaN is like others", "_ext/drivers/amx_winograd.c",
          "if (!(next <= FLT_MAX)) most = INFINITY;", "", (AMX,)),
    Fault("amx_winograd: outputs of phases are taken for neighbours", "_ext/drivers/amx_winograd.c",
          "if (next != end) {", "if (next < end) {", (AMX, SOLVERS)),
    Fault("amx_winograd: the second tile of tiles reads the sums of the first",
          "_ext/drivers/amx_winograd.c", "pixel / SIDE % 2 * 2 * TILE", "0 * TILE", (AMX, SOLVERS)),
    Fault("amx_gradient: a sample is paired with the one beside it", "_ext/kernels/amx_gradient.c",
          "before[i][part] >> 16 | now[i][part]", "before[i][part] >> 16 | before[i][part]",
          (GRADIENT,)),
    Fault("amx_gradient: zeros between pictures are left out", "_ext/drivers/amx_gradient_plan.c",
          "a.width + a.reach - a.lead), a.used)", "a.width), a.used)", (GRADIENT,)),
    Fault("amx_gradient: all outputs read the first phase of rows", "_ext/drivers/amx_gradient.c",
          "row % v->phases * h->phases", "0 * h->phases", (GRADIENT,)),
    Fault("amx_gradient: steps that are added begin at the first", "_ext/drivers/amx_gradient.c",
          "(first * s->step_lines + line)", "line", (GRADIENT,)),
    Fault("amx_gradient: what may have been flushed is not looked at",
          "_ext/drivers/amx_gradient.c", "return (float)ldexp(lost, 24 - 126);", "return -1;",
          (GRADIENT,)),
    Fault("amx_gradient: sums that are not finite stay", "_ext/drivers/amx_gradient.c",
          "!(right && !limited)", "limited", (GRADIENT,)),
    Fault("amx_gradient: what is prepared changes with its array", "solvers/amx_gradient.py",
          "w if dense and not self.problem.prepared else w.copy()", "w if dense else w.copy()",
          (GRADIENT,)),
    # ---- implicit GEMM
    Fault("implicit_gemm: the sums of a block of taps are forgotten",
          "_ext/kernels/implicit_gemm.inc",
          "sum[i][v] += *(const NAME(vec) *)(add + i * add_step + v * LANES);",
          "sum[i][v] += *(const NAME(vec) *)(add + v * LANES);"),
    Fault("implicit_gemm: a transposition keeps one lane too many",
          "_ext/kernels/implicit_gemm.inc",
          "const fc_mask rest = fc_lanes(sizeof(T), 0, rows % L);",
          "const fc_mask rest = fc_lanes(sizeof(T), 0, rows % L + 1);"),
    Fault("implicit_gemm: padding at the end of a run is read from x",
          "_ext/drivers/implicit_gemm_pixels.c",
          "const int64_t end = p->in[d] - origin;", "const int64_t end = p->in[d] + 1 - origin;"),
    Fault("implicit_gemm: the window's last tap is not looked at",
          "_ext/drivers/implicit_gemm_pixels.c",
          "+ (p->ker[d] - 1) * p->dilation[d] < p->in[d];", "< p->in[d];"),
    Fault("implicit_gemm: a panel is read with the step of x",
          "_ext/drivers/implicit_gemm_pixels.c",
          "(place){t, own, u->in_panel, 1, copy_tile",
          "(place){t, own, u->in_panel, s->step, copy_tile"),
    Fault("implicit_gemm: taps on padding are left out, not their weights",
          "_ext/drivers/implicit_gemm.c",
          "w + spans[n].first * width * s->bytes,", "w,"),
    Fault("implicit_gemm: the last piece of a copy begins where the one before ends",
          "_ext/kernels/implicit_gemm.inc",
          "const int64_t last = count - Q;", "const int64_t last = (pieces - 1) * Q;"),
    Fault("implicit_gemm: a row's last pixel has all its phases",
          "_ext/drivers/implicit_gemm_store.c",
          "fc_min(pixels, (p->out[last] - begin) / 2)",
          "fc_min(pixels, (p->out[last] - begin + 1) / 2)"),
    Fault("implicit_gemm: a band's rows begin where its padding does",
          "_ext/drivers/implicit_gemm_band.c",
          "to + (rows->low * s->band_row + columns->low) * s->bytes, s->band_row);",
          "to + rows->low * s->band_row * s->bytes, s->band_row);"),
    Fault("implicit_gemm: of a row of taps on a band, the first is multiplied",
          "_ext/drivers/implicit_gemm_band.c",
          "spans[found - 1].count = tap * b->channels + channels -",
          "spans[found - 1].count = tap * b->channels + b->channels -"),
    Fault("implicit_gemm: a tile across images starts with the first image",
          "_ext/drivers/implicit_gemm_pixels.c",
          "if (s->across) return (tile){from, to - from,",
          "if (s->across) return (tile){0, to - from,"),
    Fault("implicit_gemm: every second element of a row is every one behind the first half",
          "_ext/kernels/implicit_gemm.inc",
          "even = 2 * lane - (lane >= (I)(LANES / 2));", "even = 2 * lane;"),
    # ---- depthwise
    Fault("depthwise: integers are written side by side whatever the strides of y",
          "_ext/drivers/depthwise_strips.c",
          "char *const own = step == s->unit ? to : cut;", "char *const own = cut ? to : cut;",
          ("tests/test_separable.py",)),
    Fault("laplace: sums that are not finite are kept", "_shortcut.py",
          "if core.is_finite(result):", "if result.size > 0:", ("tests/test_ndimage.py",)),
    Fault("laplace: sums that are not finite are kept by calls met before", "_shortcut.py",
          "return None if self._tries and not core.is_finite(result) else result",
          "return result", (SHORTCUT,)),
    Fault("depthwise: an input row is weighted as the next", "_ext/kernels/depthwise_rows.inc",
          "row[j] = w + (i - j * b->u) * b->s;",
          "row[j] = w + (i - j * b->u + (i == 3)) % b->r * b->s;"),
    Fault("depthwise: the last vector is cut off a sample late", "_ext/kernels/depthwise_rows.inc",
          "e->last[k + h] = fc_lanes(sizeof(T), b->low - end, b->high - end);",
          "e->last[k + h] = fc_lanes(sizeof(T), b->low - end, b->high + 1 - end);"),
    Fault("depthwise: a folded tap takes its neighbour's vector", "_ext/kernels/depthwise.inc",
          "if (q - b >= 0 && q - b < vectors) sum[q - b] += weight[b] * in;",
          "if (q - b >= 0 && q - b < vectors) sum[q - b] += weight[b ^ (taps > 2)] * in;"),
    Fault("depthwise: a strip takes a sample too many from x", "_ext/drivers/depthwise_strips.c",
          "fc_min(count, fc_ceil_div(s->in - origin, s->v)));",
          "fc_min(count, fc_ceil_div(s->in + 1 - origin, s->v)));"),
    Fault("depthwise: dilated rows are taken one after the other", "_ext/drivers/depthwise.c",
          "block->ldy = scratch ? block->columns : s->l * y_row;",
          "block->ldy = scratch ? block->columns : y_row;"),
    Fault("depthwise: a signed sample is read as an unsigned one", "_ext/kernels/depthwise.inc",
          "case FC_I8: NAME(copy_i8)(count, x, step, to); break;",
          "case FC_I8: NAME(copy_u8)(count, x, step, to); break;"),
    Fault("depthwise: the second picture has the first one's weights", "_ext/kernels/picture.inc",
          "w + next + t * ldw + s, lanes);", "w + t * ldw + s, lanes);"),
    Fault("depthwise: the second picture's outputs are a lane off", "_ext/kernels/picture.inc",
          "numbers = (numbers + (INDEX)beside)", "numbers = (numbers + (INDEX)beside + 1)"),
    Fault("depthwise: two pictures share a column of padding too few",
          "_ext/drivers/depthwise_cut.c",
          "fc_ceil_div(s->pad + count, s->v));", "fc_ceil_div(count, s->v));"),
    Fault("depthwise: two of four phases change places", "_ext/kernels/depthwise.inc",
          "out[f + 2] = NAME(second)(a, b, 1);", "out[2 - f + 1] = NAME(second)(a, b, 1);"),
    Fault("depthwise: a third of a row is a lane off", "_ext/kernels/depthwise.inc",
          "order[i] = (LANE_INDEX)lane;", "order[i] = (LANE_INDEX)(lane ^ (i == 1));"),
    Fault("depthwise: a row that kernel rows lie on is left out", "_ext/drivers/depthwise.c",
          "s->row_phases >> phase % 64 & 1; end++)",
          "s->row_phases >> (phase + 1) % 64 & 1; end++)"),
    Fault("depthwise: a phase that a tap lies on is left out", "_ext/drivers/depthwise_cut.c",
          "s->apart[h] = used >> f & 1 ?", "s->apart[h] = used >> f & 1 && f < 3 ?"),
    Fault("depthwise: rows of a dilated stride make runs as of one that is not",
          "_ext/kernels/picture.inc", "fc_min(b->u / b->l, b->r)", "fc_min(b->u, b->r)"),
    Fault("depthwise: an output at the end of a signal has a tap beyond it",
          "_ext/drivers/depthwise_strips.c",
          "if (i >= 0 && i < s->in) sum +=", "if (i >= 0 && i <= s->in) sum +="),
    # ---- dot
    Fault("dot: columns beyond the last are weighted", "_ext/kernels/dot.inc",
          "fc_lanes(sizeof(T), 0, b->columns - whole);",
          "fc_lanes(sizeof(T), 0, b->columns - whole + 1);"),
    Fault("dot: a tile's rows read the weights of the first", "_ext/kernels/dot.inc",
          "w[q] = b->w[i - q * b->step];", "w[q] = b->w[i];"),
    Fault("dot: sums of a block overwrite those so far", "_ext/kernels/dot.inc",
          "LANES) += sum[q * columns + s];", "LANES) = sum[q * columns + s];"),
    Fault("dot: the next plane is copied over the one in use", "_ext/drivers/dot.c",
          "(q + 1) % 2 * s->strip_bytes", "q % 2 * s->strip_bytes"),
    Fault("dot: outputs that are not finite stay", "_ext/drivers/dot.c",
          "if (!isfinite(sum)) sum =", "if (0) sum =", (ACCURACY, SOLVERS)),
    # ---- im2col
    Fault("im2col: BLAS is told to transpose", "_ext/drivers/im2col.c",
          'transposed ? "T" : "N"', 'transposed ? "N" : "T"'),
    Fault("im2col: a block of taps does not add", "_ext/drivers/im2col.c",
          "const int add = tap > 0 || (s->into_y && bias);",
          "const int add = s->into_y && bias;"),
    Fault("im2col: 1x1 of padded x read in place", "_ext/drivers/im2col.c",
          "s->in_place &= p->in[d] == p->out[d] && p->stride", "s->in_place &= p->stride"),
    # ---- winograd
    Fault("winograd: a sign of the input transform", "_ext/kernels/winograd_points.inc",
          "u[4] = even_q - odd_q;", "u[4] = even_q + odd_q;"),
    Fault("winograd: a sign of the output transform", "_ext/kernels/winograd_points.inc",
          "z[1] = v[1] - v[2] + v[3];", "z[1] = v[1] - v[2] - v[3];"),
    Fault("winograd: no output is suspected", "_ext/kernels/winograd.inc",
          "return any != 0;", "return 0;", (ACCURACY, SOLVERS)),
    Fault("winograd: tiles hang over the last row", "_ext/drivers/winograd_input.c",
          "g->y_rows = fc_min(row->m, ", "g->y_rows = fc_max(row->m, "),
    Fault("winograd: vectors of two segments repeat the first", "_ext/drivers/winograd_input.c",
          "const int64_t first = fc_max(lane, h->lane);",
          "const int64_t first = fc_max(lane, g->lane);"),
    Fault("winograd: rows at the top are filled in from below", "_ext/drivers/winograd_input.c",
          "stage + (g->top * pitch + g->before) * bytes);", "stage + g->before * bytes);"),
    Fault("winograd: a section that is not full is the first", "_ext/drivers/winograd_plan.c",
          "first[d] += is_full[class][at] ? 0 : t->full;", "first[d] += 0;"),
    Fault("winograd: points inf leave out full sections", "_ext/drivers/winograd_plan.c",
          "*from = across ? s->class[1]", "*from = across ? s->class[2]"),
    Fault("winograd: the last of every other sample is the one before", "_ext/kernels/winograd.inc",
          "t = fc_min(t, count - LANES);", "t = fc_min(t, count - LANES - 1);"),
    Fault("winograd: a lane's peak is its neighbour's", "_ext/drivers/winograd_input.c",
          "l->segments[i].at + t * s->step + m, bytes);",
          "l->segments[i].at + (t + 1) * s->step + m, bytes);", (ACCURACY, SOLVERS)),
    Fault("winograd: transforms that are subnormal numbers are trusted",
          "_ext/drivers/winograd_plan.c",
          "if (sizes[k] > 0 && sizes[k] < least) return INFINITY;", "(void)least;"),
    Fault("winograd: later filters use the first's weights", "_ext/drivers/winograd.c",
          "fc_winograd_weights(s, from, &ldw) * bytes;",
          "fc_winograd_weights(s, from / s->at_once * s->at_once, &ldw) * bytes;"),
    Fault("winograd: rows below the top are read in its place", "_ext/drivers/winograd_input.c",
          "(r - g->top) * g->ld", "r * g->ld"),
    Fault("winograd: what lies before a row is read", "_ext/drivers/winograd_input.c",
          "const int64_t low = g->in_place ? g->before : 0,", "const int64_t low = 0,"),
    Fault("winograd: a few samples lack their last", "_ext/kernels/winograd.inc",
          "fc_lanes(sizeof(T), 0, count);", "fc_lanes(sizeof(T), 0, count - 1);"),
    Fault("winograd: error levels leave out the transforms", "_ext/drivers/winograd_plan.c",
          "across[j] += growth0[p * row->points + i] *",
          "across[j] += 0 * growth0[p * row->points + i] *", (ACCURACY, SOLVERS)),
    Fault("winograd: the tile of a mended output", "_ext/drivers/winograd.c",
          "o[s->last] += (lane - g->lane) * s->step * s->apart;",
          "o[s->last] += lane * s->step * s->apart;",
          (ACCURACY, SOLVERS)),
    # ---- separable
    Fault("rows: the last tap of the first of several rows is left out", "_ext/kernels/rows.inc",
          "for (int64_t t = rows - 1; t < taps; t++)",
          "for (int64_t t = rows - 1; t + 1 < taps; t++)"),
    Fault("rows: a tap along a row is read a sample early", "_ext/kernels/along.inc",
          "const index shift = first + (__typeof__(first[0] + 0))(t * step - block);",
          "const index shift = first + (__typeof__(first[0] + 0))(t * step - block - (t > 1));"),
    Fault("rows: a tile of half a row begins a sample early", "_ext/kernels/along.inc",
          "step, fc_min(j, count - HALF)", "step, fc_min(j, count - HALF - 1)"),
    Fault("rows: a tile of one vector begins a sample early", "_ext/kernels/along.inc",
          "step, fc_min(j, count - LANES)", "step, fc_min(j, count - LANES - (count > LANES))"),
    Fault("rows: an end of a block is that of the one before", "_ext/kernels/along.inc",
          "ends[i * vectors + v] + sum[v]", "ends[fc_max(0, i - 1) * vectors + v] + sum[v]"),
    Fault("rows: along a row the next block's end lacks a sample", "_ext/kernels/along.inc",
          "next[block - step + 2 * r - i] = after += w * *down;",
          "next[block - step + 2 * r - i] = after, after += w * *down;"),
    Fault("separable: the ring is a row short", "_ext/drivers/separable_plan.c",
          "s->ring_rows = s->span_a + (s->padded - 1) * step_a;",
          "s->ring_rows = fc_max(1, s->span_a + (s->padded - 1) * step_a - 1);"),
    Fault("separable: borders come from the sample beside", "_ext/drivers/separable_rows.c",
          "u->shift + source - u->low;", "u->shift + source - u->low + (source > 0);"),
    Fault("separable: what lies beyond the ends is not filtered down", "_ext/drivers/separable.c",
          "u.edge[t] = sum;", "(void)sum;"),
    Fault("separable: bands of the second axis have no halo", "_ext/drivers/separable.c",
          "(u->end_b - u->begin_b - 1) * stride + s->span_b;",
          "(u->end_b - u->begin_b - 1) * stride + 1;"),
    Fault("separable: a float sum is never in doubt", "_ext/drivers/separable.c",
          "0x1p21 ? (sizes + 2 * size)", "0x1p21 ? 0 * (sizes + 2 * size)",
          ("tests/test_separable.py",)),
    Fault("factors: a kernel need only be nearly a product", "_ext/drivers/factors.c",
          "<= 2 * (double)axes * eps * fabs(value)", "<= 2e3 * (double)axes * eps * fabs(value)",
          ("tests/test_separable.py",)),
    Fault("low_rank: a kernel need only be nearly a sum", "_ext/drivers/low_rank.c",
          "fabs(rest) <= rounded * sizes", "fabs(rest) <= 2e3 * rounded * sizes",
          ("tests/test_low_rank.py",)),
    Fault("separable: NaN of terms of both signs stays", "_ext/drivers/separable_rows.c",
          "if (s->terms > 1 && !is_finite(u, to))", "if (s->terms > 9 && !is_finite(u, to))",
          ("tests/test_low_rank.py",)),
    Fault("rows: what lies a little below a whole number is cut to it", "_ext/kernels/cut.inc",
          "*sure &= sum[i] - __builtin_convertvector(whole[i], vec_f32) >= least;",
          "*sure &= sum[i] - __builtin_convertvector(whole[i], vec_f32) >= 0 * least;",
          ("tests/test_separable.py",)),
    Fault("box: a sample is never subtracted again", "_ext/kernels/box.inc",
          "*at = sum - (NAME(sums))LOAD(leaves + j + v * LANES);", "*at = sum;",
          ("tests/test_separable.py",)),
    Fault("box: what lies before a vector is left out", "_ext/kernels/box.inc",
          "*at = sum - samples + before;", "*at = sum - samples;", ("tests/test_separable.py",)),
    Fault("box: a quotient of 16 bits is not mended", "_ext/kernels/box.c",
          "return mean - (vec_shorts)((rest)(sum - mean * (uint16_t)divisor) >= divisor);",
          "return mean;",
          ("tests/test_separable.py",)),
    Fault("box: a quotient is one too small", "_ext/kernels/box.c",
          "return mean - (sum - mean * q.divisor >= q.divisor);", "return mean;",
          ("tests/test_separable.py",)),
    Fault("box: an odd sum of samples is left out", "_ext/kernels/box.inc",
          "done += taps & width;", "done = taps & width;", ("tests/test_ndimage.py",)),
    Fault("separable: weights over another number are taken for equal ones",
          "_ext/drivers/separable_means.c", "exact->weighted = !equal;", "exact->weighted = 0;",
          ("tests/test_separable.py",)),
    Fault("shortcut: weights of one hash are taken for the same", "_shortcut.py",
          "if self._weights is not None and not core.same_bytes(arrays[1], self._weights):",
          "if False:", ("tests/test_shortcut.py",)),
    Fault("engine: the rank is not part of the key", "_engine.py",
          "key = (key, _planner.mode(), prepared, rank)", "key = (key, _planner.mode(), prepared)",
          ("tests/test_separable.py",)),
    # ---- Cython and Python
    Fault("core: the padding after is taken for the padding before", "_ext/core.pyx",
          "p.pad[d] = g.before[d]", "p.pad[d] = g.after[d]"),
    Fault("geometry: channels are a group's", "_ext/geometry.pxi",
          "self.x = <double>self.batch * self.channels * self.groups",
          "self.x = <double>self.batch * self.channels", (FEATURES,)),
    Fault("estimates: packing is part of a prepared call", "_ext/costs/winograd.pxi",
          "if not p.prepared:", "if p.prepared:", (ESTIMATES,)),
    Fault("estimates: images are not counted", "_ext/costs/panels.pxi",
          "work *= p.batch * p.groups", "work *= p.groups", (IMAGES,)),
    Fault("trees: a question's answer is no bit", "_ext/trees.pxi",
          "leaf[t] = 2 * leaf[t] +", "leaf[t] = leaf[t] +", (TREES,)),
    Fault("choosing: a solver of whole numbers is asked about others alone", "_planner.py",
          "solver.exact is others:", "solver.exact is not others:", (LEADING,)),
    Fault("polyphase: an input residue is off by one", "solvers/_polyphase.py",
          "(rho * u + r * l - pad) % e == 0", "(rho * u + r * l - pad + 1) % e == 0"),
    Fault("overlap_save: what runs past the end of halves stays positive",
          "_ext/drivers/overlap_save_plan.c", "negative || halved == COLUMNS,", "negative,"),
    Fault("overlap_save: both halves begin with the same output",
          "_ext/drivers/overlap_save_rows.c", "at[1].first[d] += s->half;", ""),
    Fault("overlap_save: small outputs of the first columns alone are looked at",
          "_ext/drivers/overlap_save.c", "for (int64_t range = 0, m = 0; range < t->ranges; m++) {",
          "for (int64_t range = 0, m = 0; range < 1; m++) {", ("tests/test_fourier.py",)),
    Fault("overlap_save: halves leave with the weights that they came with", "_ext/kernels/fft.inc",
          "(part ? -w[2 * i + 1] : w[2 * i + 1])", "(part ? w[2 * i + 1] : -w[2 * i + 1])"),
    Fault("fft: taps lie forwards on the circle", "solvers/_fourier.py",
          "(offset - np.arange(problem.kernel[axis]) * problem.dilation[axis]) % n",
          "(offset + np.arange(problem.kernel[axis]) * problem.dilation[axis]) % n"),
    Fault("fft: the threshold of the guard is nought", "solvers/_guard.py",
          "bound = np.where(limit > 0, DIGIT * limit, -1)",
          "bound = np.where(limit > 0, 0 * limit, -1)",
          (ACCURACY, SOLVERS)),
    Fault("fft: a NaN reaches one output too few", "solvers/_guard.py",
          "while run < r:", "while run < r - 1:", (ACCURACY, SOLVERS)),
    Fault("finish: the last vector is finished twice", "_ext/kernels/finish.inc",
          "*(NAME(vec) *)(y + last) = end;",
          "*(NAME(vec) *)(y + last) = NAME(one)(y + last, residual ? residual + last : NULL,"
          " activation, low, high);", (EPILOGUE,)),
    Fault("finish: half of a power of two is lost", "_ext/kernels/finish.inc",
          "high = raised - low;", "high = low;", (EPILOGUE,)),
    Fault("finish: NaN is clamped", "_ext/kernels/finish.inc",
          "(NAME(word))(x < least), least, x)", "~(NAME(word))(x >= least), least, x)",
          (EPILOGUE,)),
    Fault("finish: a complex residual has one part", "_ext/drivers/im2col.c",
          "fc_finish(j->s->p, j->kernels, j->epilogue, j->y, at * parts + part,",
          "fc_finish(j->s->p, j->kernels, j->epilogue, j->y, at * parts,", (EPILOGUE,)),
    Fault("epilogue: a phase is given the residual of another", "solvers/_polyphase.py",
          "epilogue.part(part.y)", "epilogue.part(self._parts[0][0].y)", (EPILOGUE,)),
    Fault("epilogue: a residual in out is read after it is written", "_epilogue.py",
          "residual.flags.aligned and not np.may_share_memory(residual, y)",
          "residual.flags.aligned", (EPILOGUE,)),
    Fault("direct: True is taken for 1", "_ext/calls.pxi",
          "key.append(type(value))", "pass", (SHORTCUT,)),
    Fault("recent: an out over the input is not noticed", "_ext/recent.pxi",
          "if start < end and start", "if start > end and start", (SHORTCUT,)),
    Fault("shortcut: one array given twice is taken for two", "_shortcut.py",
          "need(not any(np.may_share_memory(a, b) for a, b in pairs))", "pass", (SHORTCUT,)),
    Fault("shortcut: scales that have changed are not noticed", "_shortcut.py",
          "if not core.same_bytes(arrays[place], values):", "if False:", (SHORTCUT,)),
    Fault("shortcut: the bias of the first call is used for ever", "_shortcut.py",
          "self._derived if self._bias is None else self._bias(arrays),", "self._derived,",
          (SHORTCUT,)),
    Fault("is_finite: the last element is not looked at", "_ext/calls.pxi",
          "_is_finite_f32(<const uint32_t *>first, reach // 4)",
          "_is_finite_f32(<const uint32_t *>first, reach // 4 - 1)", (SHORTCUT,)),
    Fault("threads: workers keep subnormal numbers", "_ext/drivers/parallel.c",
          "fc_flush(work_flushes);", "", (REPRODUCIBLE,)),
    Fault("threads: the flushing mode stays", "_plan.py",
          "core.flush(before)", "pass", (REPRODUCIBLE,)),
    Fault("threads: deterministic tiles depend on threads", "solvers/im2col.py",
          "parts = _PARTS if problem.deterministic else 0", "parts = 0", (REPRODUCIBLE,)),
    Fault("threads: a deterministic choice depends on threads", "_planner.py",
          "best = _best(problem.on(1), workspace_limit)",
          "best = _best(problem, workspace_limit)", (REPRODUCIBLE,)),
    Fault("threads: a sleeping worker is not woken", "_ext/drivers/parallel.c",
          "if (!atomic_load(&asleep)) return;", "return;", (PARALLEL,)),
    Fault("threads: a call does not wait for the workers inside", "_ext/drivers/parallel.c",
          "    close_gate();", "    atomic_fetch_and(&gate, ~PLACES);", (PARALLEL,)),
    Fault("threads: workers stay where they started", "_ext/drivers/parallel.c",
          "follow_caller(&cores);", "(void)cores;", (PARALLEL,)),
    Fault("threads: filters are packed over the first ones", "_ext/drivers/implicit_gemm.c",
          "block + taps * row * s->bytes", "block", (PARALLEL,)),
    Fault("plan: a flipped kernel is not flipped", "_plan.py",
          "w if self._flip is None else w[self._flip]", "w"),
    Fault("plan: strides of records are taken for whole", "_plan.py",
          "return not any(s % size for s in a.strides)", "return True", (SOLVERS,)),
    Fault("engine: a negative padding cuts one sample too many", "_engine.py",
          "start = min(size, -(lo // e)) if lo < 0 else 0",
          "start = min(size, 1 - lo // e) if lo < 0 else 0", (ENGINE,)),
    Fault("engine: the accuracy is not part of the key", "_engine.py",
          "else None, accuracy, threads, workspace_limit,\n",
          "else None, threads, workspace_limit,\n", (ENGINE,)),
    Fault("kept: weights are not compared", "_kept.py",
          "(fixed or core.same_bytes(w, kept[0], threads))", "True",
          ("tests/test_kept.py",)),
    Fault("kept: layers of one network put each other out", "_kept.py",
          " and weights.used < waiting.since", "", ("tests/test_kept.py",)),
    Fault("kept: what was met first stays for ever", "_kept.py",
          "weights.used < waiting.since", "weights.used < 0", ("tests/test_kept.py",)),
    Fault("choosing: solvers far off are expanded", "_planner.py",
          "if seconds <= most:", "if True:", ("tests/test_model.py",)),
    Fault("kept: room that is given up is not counted", "_kept.py",
          "self._bytes -= weights.bytes", "pass", ("tests/test_kept.py",)),
    Fault("planner: the error bound is not looked at", "_planner.py",
          "if bound > allowed_error(problem):", "if bound > 1e3:", (PLANNER, ACCURACY)),
    Fault("planner: the workspace limit is not looked at", "_planner.py",
          "elif memory > limit:", "elif memory > 2 * limit:", (PLANNER,)),
    Fault("problem: one output too many", "_problem.py",
          "(p - s) // u + 1 for p, s, u", "(p - s + u - 1) // u + 1 for p, s, u", (PROBLEM,)),
    # ---- what plans on a GPU work in
    Fault("gpu: streams share a workspace", "cuda/workspace.py",
          "key = ordinal, stream, threading.get_ident() if stream == _PER_THREAD else 0",
          "key = ordinal, 0, 0", (WORKSPACE,)),
    Fault("gpu: a workspace is made anew in each call", "cuda/workspace.py",
          "found = idle.pop() if idle else make()", "found = make()", (WORKSPACE,)),
    Fault("gpu: warm calls of two threads are mixed", "cuda/tape.py",
          "with keep.lock:", "if True:", (WORKSPACE,)),
    Fault("gpu: a result is what a plan works in", "cuda/interop.py",
          "_without_memory if planning.get() else DeviceArray.new",
          "_without_memory if planning.get() else DeviceArray.borrow", (WORKSPACE,)),
    Fault("gpu: a plan is given out before its weights are there", "_engine.py",
          "interop.settle(data)", "pass", (WORKSPACE,)),
)  # fmt: skip


class Tree:
    """A copy of the repository, and the commands that compile and link each of its objects."""

    def __init__(self, root: pathlib.Path) -> None:
        self.root = root
        ignored = shutil.ignore_patterns("__pycache__", "*.so", ".hypothesis", "core.c")
        for name in COPIED:
            source = ROOT / name
            if source.is_dir():
                shutil.copytree(source, root / name, ignore=ignored)
            elif source.exists():
                shutil.copy2(source, root / name)
        built = self._run([sys.executable, "setup.py", "build_ext", "--inplace"])
        lines = [shlex.split(line) for line in built.stdout.splitlines() if " -o " in line]
        self._compile = {}
        for line in lines:
            if "-c" in line:
                self._compile[line[line.index("-o") + 1]] = line
        (self._link,) = (line for line in lines if "-c" not in line)
        (self._module,) = (root / "fastconv" / "_ext").glob("core.*.so")

    def _run(self, command: list[str]) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(command, cwd=self.root, capture_output=True, text=True, check=False)
        if done.returncode:
            raise SystemExit(f"{shlex.join(command)}\n{done.stdout}{done.stderr}")
        return done

    def _objects(self, file: str) -> list[str]:
        """Objects that a C file goes into: its own, or those of every source that includes it."""
        path = pathlib.PurePath("fastconv", file)
        if path.suffix in (".pyx", ".pxi"):
            path = pathlib.PurePath("fastconv/_ext/core.c")
        sources = {line[line.index("-c") + 1] for line in self._compile.values()}
        if path.suffix == ".c":
            touched = {str(path)}
        else:
            include = f'"{path.name}"'
            touched = {s for s in sources if include in (self.root / s).read_text()}
        assert touched & sources, file
        return [o for o, line in self._compile.items() if line[line.index("-c") + 1] in touched]

    def test(self, tests: tuple[str, ...], limit: float | None = None) -> tuple[bool, str]:
        """Whether all pass within a limit in seconds, and what the first to fail was."""
        environment = {**os.environ, "PYTHONPATH": str(self.root), "HYPOTHESIS_PROFILE": "ci",
                       "CI": "1", "PYTHONDONTWRITEBYTECODE": "1"}  # fmt: skip
        command = [sys.executable, "-m", "pytest", "-x", "-q", "--no-header", "--tb=no",
                   "-p", "no:cacheprovider", "-p", "no:xdist", *tests]  # fmt: skip
        try:
            done = subprocess.run(
                command, cwd=self.root, env=environment, capture_output=True, text=True,
                check=False, timeout=limit,
            )  # fmt: skip
        except subprocess.TimeoutExpired:
            return False, "a hang"
        if done.returncode == 0:
            return True, ""
        for line in done.stdout.splitlines():
            if line.startswith(("FAILED ", "ERROR ")):
                return False, line.split(" ", 1)[1].partition(" - ")[0]
        if done.returncode < 0 or "Fatal Python error" in done.stderr:
            return False, "a crash"
        return False, f"exit code {done.returncode}: {done.stdout[-300:]}{done.stderr[-300:]}"

    def try_fault(self, fault: Fault, limit: float) -> tuple[bool, str]:
        """`test` with the fault in place; the tree is as before afterwards."""
        path = self.root / "fastconv" / fault.file
        before = path.read_text()
        path.write_text(before.replace(fault.text, fault.replacement))
        objects = [] if path.suffix == ".py" else self._objects(fault.file)
        saved = {o: (self.root / o).read_bytes() for o in [*objects, str(self._module)]}
        try:
            if path.suffix in (".pyx", ".pxi"):
                self._run([sys.executable, "-m", "cython", "-3", "fastconv/_ext/core.pyx"])
            for o in objects:
                self._run(self._compile[o])
            if objects:
                self._run(self._link[: self._link.index("-o") + 1] + [str(self._module)]
                          + self._link[self._link.index("-o") + 2 :])  # fmt: skip
            return self.test(fault.tests, limit)
        finally:
            path.write_text(before)
            for o, content in saved.items():
                (self.root / o).unlink()
                (self.root / o).write_bytes(content)


def unseedable(faults: tuple[Fault, ...]) -> list[str]:
    """Faults whose text is not in its file exactly once."""
    wrong = []
    for fault in faults:
        path = ROOT / "fastconv" / fault.file
        count = path.read_text().count(fault.text) if path.exists() else 0
        if count != 1:
            wrong.append(f"{fault.file}: {count} times {fault.text!r} ({fault.what})")
    return wrong


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--list", action="store_true", help="print the faults and stop")
    parser.add_argument(
        "--only", default="", metavar="TEXT", help="those whose name has TEXT in it"
    )
    parser.add_argument("--keep", action="store_true", help="keep the temporary folder")
    options = parser.parse_args()
    faults = tuple(f for f in FAULTS if options.only in f.what)
    if wrong := unseedable(faults):
        print("these faults can no longer be seeded:", *wrong, sep="\n  ", file=sys.stderr)
        return 2
    if options.list:
        print(*(f"{f.file}: {f.what}" for f in faults), sep="\n")
        return 0
    folder = tempfile.mkdtemp(prefix="fastconv-mutate-")
    begun = time.monotonic()
    try:
        print(f"{len(faults)} faults; building and testing without them", flush=True)
        tree = Tree(pathlib.Path(folder))
        built = time.monotonic()
        passed, first = tree.test(tuple(dict.fromkeys(t for f in faults for t in f.tests)))
        if not passed:
            print(f"the tests fail without any fault: {first}", file=sys.stderr)
            return 2
        print(f"built and tested without faults in {time.monotonic() - begun:.0f} s", flush=True)
        limit = max(LEAST, HANGS * (time.monotonic() - built))
        survived = []
        for fault in faults:
            start = time.monotonic()
            passed, first = tree.try_fault(fault, limit)
            if passed:
                survived.append(fault)
            print(f"{'SURVIVED' if passed else 'caught  '} {time.monotonic() - start:4.0f} s  "
                  f"{fault.what:<60} {first}", flush=True)  # fmt: skip
    finally:
        if options.keep:
            print(folder)
        else:
            shutil.rmtree(folder, ignore_errors=True)
    print(f"{len(faults) - len(survived)} of {len(faults)} faults caught in "
          f"{time.monotonic() - begun:.0f} s")  # fmt: skip
    return 1 if survived else 0


if __name__ == "__main__":
    sys.exit(main())
