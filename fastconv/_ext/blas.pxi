"""Part of core.pyx: SciPy's BLAS, handed to C."""

from scipy.linalg cimport cython_blas

cdef extern from "fc.h" nogil:
    ctypedef void fc_gemm(char *, char *, int *, int *, int *, void *, void *, int *, void *, int *,
                          void *, void *, int *) noexcept nogil
    ctypedef struct fc_blas:
        fc_gemm *sgemm
        fc_gemm *dgemm
        fc_gemm *cgemm
        fc_gemm *zgemm
    fc_blas fc_blas_table

fc_blas_table.sgemm = <fc_gemm *>cython_blas.sgemm
fc_blas_table.dgemm = <fc_gemm *>cython_blas.dgemm
fc_blas_table.cgemm = <fc_gemm *>cython_blas.cgemm
fc_blas_table.zgemm = <fc_gemm *>cython_blas.zgemm
