"""Part of core.pyx: scores of windows."""

from libc.stdint cimport int32_t

cdef extern from "fc.h" nogil:
    ctypedef struct fc_score_rule:
        double each, norm, share, least, limit
    ctypedef struct fc_byte_rule:
        double n, norm
        const double *total

cdef extern from "drivers/scores.h" nogil:
    ctypedef struct fc_score_image:
        int64_t channels, rows, columns
        int64_t *taps
        int known, narrow
        const double *x
        int64_t x_c, x_row
        const double *products
        fc_score_rule rule
        void *y
        uint8_t *doubtful
    ctypedef struct fc_score_samples:
        fc_dtype of
        int64_t count
        const void *x
        double mean
        double *y
    ctypedef struct fc_byte_image:
        int64_t channels, rows, columns
        int64_t *taps
        const uint8_t *x
        int64_t x_c, x_row
        const int32_t *products
        fc_byte_rule rule
        float *y
    int64_t fc_byte_scores_workspace(const fc_byte_image *, int64_t)
    void fc_byte_scores_run(const fc_byte_image *, const fc_kernels *, void *, int64_t)
    int64_t fc_scores_pieces(int64_t)
    double fc_scores_total(const fc_score_samples *, const fc_kernels *, double *, int64_t)
    double fc_scores_centre(const fc_score_samples *, const fc_kernels *, double *, int64_t)
    int64_t fc_scores_workspace(const fc_score_image *, int64_t)
    void fc_scores_run(const fc_score_image *, const fc_kernels *, void *, int64_t)


def scores(cnp.ndarray x, taps, cnp.ndarray products, rule, cnp.ndarray y, int64_t threads=1,
           isa=None):
    """Write the scores y (rows, columns) of windows; the rows in which some are doubtful, as bools.

    x are C-ordered doubles: (channels, rows + taps[0] - 1, columns + taps[1] - 1), or with `taps` None
    sums of windows (channels + 1, rows, columns), the last those of squares. products and y are C-ordered,
    double, and float or double. `rule` is (1 / N, norm, share, least, limit) of kernels/scores.c.
    """
    cdef fc_score_image m
    cdef const fc_kernels *kernels = _kernels(_isa if isa is None else isa)
    memset(&m, 0, sizeof(fc_score_image))
    m.known = taps is None
    m.taps[0], m.taps[1] = taps or (1, 1)
    m.channels = cnp.PyArray_DIMS(x)[0] - m.known
    m.rows, m.columns = cnp.PyArray_DIMS(y)[0], cnp.PyArray_DIMS(y)[1]
    m.x = <const double *>cnp.PyArray_DATA(x)
    m.x_c, m.x_row = cnp.PyArray_STRIDES(x)[0] // 8, cnp.PyArray_STRIDES(x)[1] // 8
    m.products = <const double *>cnp.PyArray_DATA(products)
    m.rule.each, m.rule.norm, m.rule.share, m.rule.least, m.rule.limit = rule
    m.y, m.narrow = cnp.PyArray_DATA(y), cnp.PyArray_ITEMSIZE(y) == 4
    cdef cnp.ndarray doubtful = np.zeros(m.rows, np.bool_)
    m.doubtful = <uint8_t *>cnp.PyArray_DATA(doubtful)
    cdef cnp.ndarray scratch = _scratch(fc_scores_workspace(&m, threads))
    cdef void *workspace = _aligned(scratch)
    with nogil:
        fc_scores_run(&m, kernels, workspace, threads)
    return doubtful


def byte_scores(cnp.ndarray x, taps, cnp.ndarray products, double n, double norm, cnp.ndarray total,
                cnp.ndarray y, int64_t threads=1, isa=None):
    """Write the scores y (rows, columns) of windows of bytes x (channels, rows + taps[0] - 1, columns + taps[1] - 1).

    All are C-ordered: products int32, y float32, and `total`, the template's sums, double. n, norm and total are
    those of kernels/scores_u8.c; no sum of a window's products or squares is 2^31 or more.
    """
    cdef fc_byte_image m
    cdef const fc_kernels *kernels = _kernels(_isa if isa is None else isa)
    memset(&m, 0, sizeof(fc_byte_image))
    m.taps[0], m.taps[1] = taps
    m.channels, m.rows, m.columns = cnp.PyArray_DIMS(x)[0], cnp.PyArray_DIMS(y)[0], cnp.PyArray_DIMS(y)[1]
    m.x = <const uint8_t *>cnp.PyArray_DATA(x)
    m.x_c, m.x_row = cnp.PyArray_STRIDES(x)[0], cnp.PyArray_STRIDES(x)[1]
    m.products, m.y = <const int32_t *>cnp.PyArray_DATA(products), <float *>cnp.PyArray_DATA(y)
    m.rule.n, m.rule.norm, m.rule.total = n, norm, <const double *>cnp.PyArray_DATA(total)
    cdef cnp.ndarray scratch = _scratch(fc_byte_scores_workspace(&m, threads))
    cdef void *workspace = _aligned(scratch)
    with nogil:
        fc_byte_scores_run(&m, kernels, workspace, threads)


cdef dict _CENTRED = {"B": FC_U8, "f": FC_F32, "d": FC_F64}


def total(cnp.ndarray x, int64_t threads=1):
    """The sum of a C-ordered array of bytes, floats or doubles, in double."""
    return _over(x, None, 0, threads)


def centre(cnp.ndarray x, double mean, cnp.ndarray y, int64_t threads=1):
    """Write y = x - mean, doubles like y; the largest of abs(y), NaN left out. Both are C-ordered."""
    return _over(x, y, mean, threads)


cdef double _over(cnp.ndarray x, cnp.ndarray y, double mean, int64_t threads) except? -1:
    cdef fc_score_samples m
    cdef double found
    m.of, m.count, m.x = <fc_dtype><int>_CENTRED[x.dtype.char], x.size, cnp.PyArray_DATA(x)
    m.mean, m.y = mean, NULL
    cdef cnp.ndarray parts = np.empty(fc_scores_pieces(m.count))
    cdef double *each = <double *>cnp.PyArray_DATA(parts)
    cdef const fc_kernels *kernels = _kernels(_isa)
    if y is not None:
        m.y = <double *>cnp.PyArray_DATA(y)
    with nogil:
        if m.y:
            found = fc_scores_centre(&m, kernels, each, threads)
        else:
            found = fc_scores_total(&m, kernels, each, threads)
    return found
