"""Part of core.pyx: transforms of overlap_save, for their tests."""

from libc.stdint cimport int32_t

cdef extern from "fc.h" nogil:
    """
    static const fc_fft *fft_of(const fc_kernels *k, int64_t size)
    {
        return size == 4 ? k->fft_f32 : k->fft_f64;
    }
    """
    enum: FC_FFT_STAGES
    ctypedef struct fc_fft_line:
        int64_t n, stages, factor_count
        int32_t *radix
        const void *factors
    ctypedef struct fc_fft:
        int64_t lanes
        void (*forward)(const fc_fft_line *, void *)
        void (*inverse)(const fc_fft_line *, void *)
    const fc_fft *fft_of(const fc_kernels *, int64_t)


cdef const fc_fft *_fft(dtype, isa) except NULL:
    return fft_of(_kernels(_isa if isa is None else isa), np.dtype(dtype).itemsize)


def transform_lanes(dtype, isa=None):
    """Transforms of float32 or float64 that are made side by side."""
    return _fft(dtype, isa).lanes


def transform(cnp.ndarray z, radices, cnp.ndarray factors, bint back=False, isa=None):
    """Transform z (n, 2, lanes), C-ordered, in place; n is the product of the radices, of 2, 3, 4 and 5.

    Lane i of z[j] are the real and the imaginary part of sample j. `factors` are those of an
    `fc_fft_line`, of z's dtype. Frequencies come in the order that kernels/fft.c says; `back` takes
    them in that order, and gives n times the samples.
    """
    cdef const fc_fft *fft = _fft(z.dtype, isa)
    cdef fc_fft_line line
    if len(radices) > FC_FFT_STAGES or cnp.PyArray_DIMS(z)[2] != fft.lanes:
        raise ValueError(f"expected z (n, 2, {fft.lanes}), got {np.shape(z)} in {len(radices)} stages")
    line.n = cnp.PyArray_DIMS(z)[0]
    line.stages = len(radices)
    line.factor_count = cnp.PyArray_SIZE(factors) // 2
    for i, radix in enumerate(radices):
        line.radix[i] = radix
    line.factors = cnp.PyArray_DATA(factors)
    if back:
        fft.inverse(&line, cnp.PyArray_DATA(z))
    else:
        fft.forward(&line, cnp.PyArray_DATA(z))
