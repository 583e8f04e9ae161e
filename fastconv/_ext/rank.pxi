"""Part of core.pyx: whether kernels are outer products, or sums of a few."""

cdef extern from "fc.h" nogil:
    enum: FC_U8, FC_U16
    int fc_factorize(const fc_problem *, const void *, double *)


cdef extern from "drivers/separable.h" nogil:
    enum: FC_LOW_RANK
    int64_t fc_low_rank(const fc_problem *, const void *, int64_t, int, double *, double *)


cdef inline int64_t _describe(cnp.ndarray w, fc_problem *p) noexcept:
    """The kernel of p from w, (K, 1, *kernel); the sum of its sizes."""
    cdef int64_t taps = 0
    memset(p, 0, sizeof(fc_problem))
    cdef Py_ssize_t size = cnp.PyArray_ITEMSIZE(w)
    p.dtype = <fc_dtype>(FC_U8 if size == 1 else FC_U16 if size == 2 else FC_F32 if size == 4 else FC_F64)
    p.dims = cnp.PyArray_NDIM(w) - 2
    for d in range(p.dims):
        p.ker[d] = cnp.PyArray_DIMS(w)[2 + d]
        p.w_s[d] = cnp.PyArray_STRIDES(w)[2 + d] // cnp.PyArray_ITEMSIZE(w)
        taps += p.ker[d]
    return taps


def is_rank_one(cnp.ndarray w):
    """Whether each filter of w, (K, 1, *kernel), is an outer product of vectors: of float32, float64 or, of
    whole numbers, integers of 8 and 16 bits."""
    cdef fc_problem p
    cdef double few[256]
    cdef double *factors = few
    cdef int64_t taps = _describe(w, &p), k
    cdef int found = 1
    cdef cnp.ndarray many
    if taps > 256:
        many = np.empty(taps)
        factors = <double *>cnp.PyArray_DATA(many)
    cdef const char *filters = <const char *>cnp.PyArray_DATA(w)
    for k in range(cnp.PyArray_DIMS(w)[0]):
        if not fc_factorize(&p, filters + k * cnp.PyArray_STRIDES(w)[0], factors):
            found = 0
            break
    return bool(found)


def low_rank(cnp.ndarray w, bint dropping):
    """Outer products that each filter of float32 or float64 w, (K, 1, *kernel), is a sum of; 0 when these are
    more than `MOST_TERMS`, or not as many for each, or cancel too much. See drivers/low_rank.c."""
    cdef fc_problem p
    cdef int64_t taps = _describe(w, &p), k, terms, all_terms = 0
    cdef cnp.ndarray factors = np.empty(FC_LOW_RANK * taps)
    cdef double *u = <double *>cnp.PyArray_DATA(factors)
    cdef const char *filters = <const char *>cnp.PyArray_DATA(w)
    cdef int64_t rows = next((p.ker[d] for d in range(p.dims) if p.ker[d] > 1), 1)
    for k in range(cnp.PyArray_DIMS(w)[0]):
        terms = fc_low_rank(&p, filters + k * cnp.PyArray_STRIDES(w)[0], FC_LOW_RANK, dropping, u,
                            u + FC_LOW_RANK * rows)
        if terms == 0 or (k and terms != all_terms):
            return 0
        all_terms = terms
    return all_terms


MOST_TERMS = FC_LOW_RANK
