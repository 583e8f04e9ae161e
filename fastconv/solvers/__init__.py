"""Every algorithm; equal estimates are broken in this order. Adding one is one line here."""

from __future__ import annotations

from fastconv._solver import Solver
from fastconv.solvers.amx_gradient import AmxGradient
from fastconv.solvers.amx_int8 import AmxInt8
from fastconv.solvers.amx_split import AmxSplit
from fastconv.solvers.amx_winograd import AmxWinograd
from fastconv.solvers.col2im import Col2im
from fastconv.solvers.cuda_direct import CudaDirect
from fastconv.solvers.cuda_fft import CudaFft
from fastconv.solvers.cuda_fir import CudaFir
from fastconv.solvers.cuda_gemm import CudaGemm
from fastconv.solvers.cuda_mma import CudaMma
from fastconv.solvers.cuda_winograd import CudaWinograd
from fastconv.solvers.depthwise import Depthwise
from fastconv.solvers.direct import Direct
from fastconv.solvers.dot import Dot
from fastconv.solvers.fft import Fft
from fastconv.solvers.im2col import Im2col
from fastconv.solvers.implicit_gemm import ImplicitGemm
from fastconv.solvers.limbs import Limbs
from fastconv.solvers.naive import Naive
from fastconv.solvers.overlap_save import OverlapSave
from fastconv.solvers.pairs import Pairs
from fastconv.solvers.panels import Panels
from fastconv.solvers.quad_rows import QuadRows
from fastconv.solvers.quads import Quads
from fastconv.solvers.separable import Separable
from fastconv.solvers.tilted import Tilted
from fastconv.solvers.winograd import Winograd
from fastconv.solvers.winograd_pairs import WinogradPairs

SOLVERS: tuple[Solver, ...] = (
    Depthwise(), Direct(), ImplicitGemm(), Panels(), Dot(), Col2im(), Pairs(), Quads(), QuadRows(),
    Separable(), Im2col(), Winograd(), WinogradPairs(), AmxInt8(), AmxSplit(), AmxWinograd(),
    AmxGradient(), Fft(), OverlapSave(), Limbs(), Tilted(), Naive(),
    CudaDirect(), CudaFir(), CudaGemm(), CudaMma(), CudaWinograd(), CudaFft(),
)  # fmt: skip
BY_NAME: dict[str, Solver] = {solver.name: solver for solver in SOLVERS}
