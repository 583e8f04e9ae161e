"""Part of core.pyx: whether kernels are outer products."""

cdef extern from "fc.h" nogil:
    int fc_factorize(const fc_problem *, const void *, double *)


def is_rank_one(cnp.ndarray w):
    """Whether each filter of float32 or float64 w, (K, 1, *kernel), is an outer product of vectors."""
    cdef fc_problem p
    cdef double few[256]
    cdef double *factors = few
    cdef int64_t taps = 0, k
    cdef int found = 1
    memset(&p, 0, sizeof(fc_problem))
    p.dtype = <fc_dtype><int>(cnp.PyArray_TYPE(w) == cnp.NPY_FLOAT64)
    p.dims = cnp.PyArray_NDIM(w) - 2
    for d in range(p.dims):
        p.ker[d] = cnp.PyArray_DIMS(w)[2 + d]
        p.w_s[d] = cnp.PyArray_STRIDES(w)[2 + d] // cnp.PyArray_ITEMSIZE(w)
        taps += p.ker[d]
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
