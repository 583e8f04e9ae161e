"""Part of core.pyx: how weights lie, and what becomes of finished sums, of a driver's call and of any array."""


cdef void _set_weight_strides(fc_problem *p, cnp.ndarray w) noexcept:
    cdef int64_t d, size = cnp.PyArray_ITEMSIZE(w)
    p.w_k = cnp.PyArray_STRIDES(w)[0] // size
    p.w_c = cnp.PyArray_STRIDES(w)[1] // size
    for d in range(p.dims):
        p.w_s[d] = cnp.PyArray_STRIDES(w)[2 + d] // size


cdef const void *_weights(fc_problem *p, cnp.ndarray packed) noexcept:
    """Packed weights, which are bytes, or w itself."""
    if cnp.PyArray_TYPE(packed) == cnp.NPY_UINT8:
        return _aligned(packed)
    _set_weight_strides(p, packed)
    return cnp.PyArray_DATA(packed)


cdef void _set_epilogue(fc_epilogue *e, bias, residual, activation):
    """`activation` is (place in ACTIVATIONS, low, high) or None."""
    memset(e, 0, sizeof(fc_epilogue))
    if bias is not None:
        e.bias = cnp.PyArray_DATA(<cnp.ndarray>bias)
    if residual is not None:
        e.residual = cnp.PyArray_DATA(<cnp.ndarray>residual)
    if activation is not None and len(activation) == 2:  # a quantization
        e.scale = <const float *>cnp.PyArray_DATA(<cnp.ndarray>activation[0])
        e.zero = activation[1]
    elif activation is not None:
        e.activation = <fc_activation><int>activation[0]
        e.low = activation[1]
        e.high = activation[2]


def quantize(cnp.ndarray sums, cnp.ndarray scale, int64_t zero, cnp.ndarray y, str isa=None):
    """y (N, K, *out) of 8 bits from int32 sums, of filter k times scale[k]; all in C order."""
    cdef const fc_kernels *kernels = _kernels(isa or _isa)
    cdef fc_dtype to = <fc_dtype><int>STORED.index(y.dtype.kind + "8")
    cdef int64_t i, filters = cnp.PyArray_DIMS(y)[1], rows = cnp.PyArray_DIMS(y)[0] * filters
    cdef int64_t count = y.size // rows if rows else 0
    cdef const char *from_ = <const char *>cnp.PyArray_DATA(sums)
    cdef char *at = <char *>cnp.PyArray_DATA(y)
    cdef const float *scales = <const float *>cnp.PyArray_DATA(scale)
    with nogil:
        for i in range(rows):
            kernels.pairs_i32.quantize(to, from_ + 4 * i * count, count, scales[i % filters], zero, at + i * count)


def finish(cnp.ndarray y, residual, activation, str isa=None):
    """y = activation(y + residual) in place; both of the same strides, whatever these are."""
    cdef fc_problem p
    cdef fc_epilogue epilogue
    cdef const fc_kernels *kernels = _kernels(isa or _isa)
    cdef int64_t parts = 2 if y.dtype.kind == "c" else 1
    cdef int64_t size = y.itemsize // parts, at, part, count, step
    cdef int axis = -1  # becomes that of the least stride
    if y.size == 0:
        return
    if y.flags.c_contiguous:
        y = y.reshape(-1)
    memset(&p, 0, sizeof(fc_problem))
    p.dtype = FC_F32 if size == 4 else FC_F64
    _set_epilogue(&epilogue, None, residual, activation)
    cdef cnp.flatiter lines = cnp.PyArray_IterAllButAxis(y, &axis)
    cdef char *first = <char *>cnp.PyArray_DATA(y)
    count = cnp.PyArray_DIMS(y)[axis]
    step = cnp.PyArray_STRIDES(y)[axis] // size
    with nogil:
        while cnp.PyArray_ITER_NOTDONE(lines):
            at = (<char *>cnp.PyArray_ITER_DATA(lines) - first) // size
            for part in range(parts):
                fc_finish_run(&p, kernels, &epilogue, first, at + part, count, step)
            cnp.PyArray_ITER_NEXT(lines)
