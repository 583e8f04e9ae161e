"""Part of core.pyx: whether there are tiles of AMX, and one block of them for tests."""

cdef extern from "fc.h" nogil:
    enum: FC_AMX_SIDE, FC_AMX_CHANNELS
    ctypedef struct fc_amx_state:
        pass
    ctypedef struct fc_amx_block:
        int64_t pixels, filters, products, steps
        const int64_t *offset
        const char *x
        const char *w
        int64_t x_part
        void *sums
        int64_t sum_row
        int across
    ctypedef void (*amx_run)(const fc_amx_block *) noexcept nogil
    ctypedef struct fc_amx_int8:
        amx_run emulated[2][2]
        amx_run hardware[2][2]
    ctypedef struct fc_amx:
        void (*emulated)(const fc_amx_block *) noexcept nogil
        void (*hardware)(const fc_amx_block *) noexcept nogil
        void (*enter)(fc_amx_state *) noexcept nogil
        void (*leave)(const fc_amx_state *) noexcept nogil
    ctypedef struct amx_table "fc_kernels":
        const fc_amx *amx_bf16
        const fc_amx_int8 *amx_int8_i32
    const char *fc_amx_absent()
    const char *fc_amx_int8_absent()


def amx_absent():
    """None where tiles of AMX can be used with the instruction set in use, else why not.

    The first call asks the operating system for them and tries them.
    """
    cdef const char *reason = fc_amx_absent()
    if reason != NULL:
        return reason.decode()
    if (<const amx_table *>_kernels(_isa)).amx_bf16.hardware == NULL:
        return f"AMX is used beside avx512, not {_isa}"
    return None


def amx_int8_absent():
    """The same of tiles of integers."""
    cdef const char *reason = fc_amx_int8_absent()
    return amx_absent() if reason == NULL else reason.decode()


def multiply_tiles(cnp.ndarray x, cnp.ndarray w, cnp.ndarray sums, int64_t products, str isa,
                   bint emulated):
    """sums = one step: x (parts, pixels, 32) and w (parts, filters / 16, 16, 16, 2), a pair of channels and a filter,
    uint16 bits of bfloat16, sums (pixels / 16, 2, 16, 16) float32, where filters and pixels are 16 or 32; all in C order."""
    cdef const fc_amx *tiles = (<const amx_table *>_kernels(isa)).amx_bf16
    cdef fc_amx_block b
    cdef int64_t offset = 0
    cdef fc_amx_state before
    b.filters = cnp.PyArray_DIMS(w)[1]
    b.pixels = cnp.PyArray_DIMS(x)[1] // FC_AMX_SIDE
    b.products = products
    b.steps = 1
    b.offset = &offset
    b.x = <const char *>cnp.PyArray_DATA(x)
    b.w = <const char *>cnp.PyArray_DATA(w)
    b.x_part = cnp.PyArray_STRIDES(x)[0]
    b.across = 0
    b.sums = cnp.PyArray_DATA(sums)
    b.sum_row = cnp.PyArray_STRIDES(sums)[2]
    if emulated:
        tiles.emulated(&b)
    else:
        tiles.enter(&before)
        tiles.hardware(&b)
        tiles.leave(&before)


def multiply_bytes(cnp.ndarray x, cnp.ndarray w, cnp.ndarray sums, str isa, bint emulated):
    """The same of bytes: x (pixels, 64) and w (filters / 16, 16, 16, 4), 4 channels and a filter, int8 or uint8, sums int32."""
    cdef const amx_table *kernels = <const amx_table *>_kernels(isa)
    cdef int x_signed = x.dtype == np.int8, w_signed = w.dtype == np.int8
    cdef fc_amx_block b
    cdef int64_t offset = 0
    cdef fc_amx_state before
    b.filters = cnp.PyArray_DIMS(w)[0]
    b.pixels = cnp.PyArray_DIMS(x)[0] // FC_AMX_SIDE
    b.products = b.steps = 1
    b.offset = &offset
    b.x = <const char *>cnp.PyArray_DATA(x)
    b.w = <const char *>cnp.PyArray_DATA(w)
    b.x_part = 0
    b.sums = cnp.PyArray_DATA(sums)
    b.sum_row = cnp.PyArray_STRIDES(sums)[2]
    if emulated:
        kernels.amx_int8_i32.emulated[x_signed][w_signed](&b)
    else:
        kernels.amx_bf16.enter(&before)
        kernels.amx_int8_i32.hardware[x_signed][w_signed](&b)
        kernels.amx_bf16.leave(&before)
