"""Part of core.pyx: estimates that solvers have in C, in place of Python.

Each is the formula of a solver's `cost`, with the constants of its module; of a new problem they
are evaluated for a dozen candidates, which took Python 10 to 40 us each.
"""

include "costs/direct.pxi"
include "costs/implicit_gemm.pxi"
include "costs/winograd.pxi"
include "costs/panels.pxi"
include "costs/col2im.pxi"
include "costs/im2col.pxi"
include "costs/amx.pxi"
include "costs/depthwise.pxi"
include "costs/dot.pxi"
include "costs/separable.pxi"
include "costs/fourier.pxi"
