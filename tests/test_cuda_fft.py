"""cuFFT's transforms on a GPU: what they must not hide, how they are called, and without them."""

from __future__ import annotations

import ctypes
import dataclasses
import sys
from typing import Any

import numpy as np
import pytest
from cuda_emulator import Fault
from fake_gpu import Tensor, execute
from problems import arrays, check, mixed_magnitude, oracle, values
from test_cuda_kernels import on_gpu, plant

import fastconv
from fastconv import ndimage, signal
from fastconv._problem import Problem
from fastconv.cuda import cufft, launch
from fastconv.solvers import BY_NAME, _cuda_fft

RNG = np.random.default_rng(0)
SOLVER = BY_NAME["cuda_fft"]
SIGNAL = "conv1d f32 n1 c2 w90 k2 s7 p3"


def noise(*shape: int, dtype: str = "f4") -> Any:
    return RNG.standard_normal(shape).astype(dtype)


def quiet_windows() -> None:
    """Blocks with outputs whose windows are all but silent, and some of 0: a digit of each S."""
    problem = on_gpu(SIGNAL)
    x, w, _ = arrays(problem)
    x = x.copy()
    x[0, 0, 10], x[0, :, 60:80] = 3e9, 0
    for config in SOLVER.configs(problem, launch.gpu()):  # type: ignore[arg-type]
        y = execute(SOLVER, problem, config, x, w)
        right, s = oracle(problem, x, w)
        assert (abs(y - right) <= 0.1 * s).all(), "outputs are off"
        assert (y[s == 0] == 0).all()


@pytest.mark.usefixtures("transforming")
def test_quiet_windows_beside_loud_ones() -> None:
    quiet_windows()


IN_ROUNDS = {
    "conv1d f32 n2 c4 w150 k6 s12 g2 p11:3 u2 l2": "64",
    "conv2d f32 n2 c3 h19 w23 k4 r5 s4 p2,1 reflect": "16x16",
}


def in_rounds(monkeypatch: pytest.MonkeyPatch) -> None:
    """Blocks in rounds of a few, the last of which has less, in the memory of one."""
    for text, circle in IN_ROUNDS.items():
        problem = on_gpu(text)
        x, w, bias = arrays(Problem.parse(text))
        config = {"circle": circle}
        monkeypatch.setattr(_cuda_fft, "ROUND", 1)
        one = _cuda_fft.sizes_of(problem, _cuda_fft.Layout.of(problem, circle))
        monkeypatch.setattr(_cuda_fft, "ROUND", 3 * 4 * sum(one.worked))
        at = _cuda_fft.Layout.of(problem, circle)
        assert (at.rows, at.once, at.rounds) == (8, 3, 3)
        residual = values(np.random.default_rng(3), problem.y_dtype, problem.y_shape)
        y = execute(SOLVER, problem, config, x, w, bias.astype("f4"), residual)
        sums, s = oracle(problem, x, w, bias)
        bound, b = SOLVER.error_bound(problem, config), mixed_magnitude(problem, x, w)
        check(problem, y, (sums + residual, s), bound, b + 8 * abs(residual))
        monkeypatch.undo()


@pytest.mark.usefixtures("transforming")
def test_rounds_of_blocks() -> None:
    with pytest.MonkeyPatch.context() as patch:
        in_rounds(patch)


@pytest.mark.usefixtures("transforming")
def test_memory_is_bounded() -> None:
    """However long a signal is; a block of its own is as long as the signal."""
    problem = on_gpu("conv1d f32 n1 c1 w100000000 k1 s4096 p4095")
    configs = SOLVER.configs(problem, launch.gpu())  # type: ignore[arg-type]
    found = [SOLVER.workspace(problem, config) for config in configs]
    assert max(found[:-1]) < 1.6 * _cuda_fft.ROUND < found[-1] / 4


@pytest.mark.usefixtures("transforming")
@pytest.mark.parametrize("accuracy", ["balanced", "fast"])
def test_numbers_without_spectra(accuracy: str) -> None:
    """NaN and Inf reach their windows alone, and products that float32 does not hold are summed."""
    problem = on_gpu(SIGNAL).replace(accuracy=accuracy)
    x, w, _ = arrays(problem)
    x = x.copy()
    x[0, 1, 20], x[0, 0, 55] = np.nan, -np.inf
    for factors in ((1.0, 1.0), (1e-25, 1e-12), (1e30, 1e7), (1e-3, 1e34)):
        one, other = (np.float32(f) * a for f, a in zip(factors, (x, w)))
        for config in SOLVER.configs(problem, launch.gpu()):  # type: ignore[arg-type]
            y = execute(SOLVER, problem, config, one, other)
            right, s = oracle(problem, one, other)
            normal = np.where(s <= 1e-36, 1, s)  # below, float32 has fewer digits
            bound = SOLVER.error_bound(problem, config)
            b = mixed_magnitude(problem, one, other)
            check(problem, y, (right, normal), max(bound, 1e-2 * (accuracy == "fast")), b)


@pytest.mark.parametrize(
    "name, right, wrong, message",
    [
        ("outputs", "unclear(magnitude(found), limit) &", "inside(0, 0) &", "outputs are off"),
        ("outputs", "s * gap_w", "s * gap_w + 1", "outputs are off"),
        ("outputs", "below * across) * kept_w", "below * across) * step_v", "outputs are off|not"),
        ("inputs", "sync()", "t = tid", "no barrier between"),
        ("inputs", "get(s, tid + 1)", "peak", "outputs are off"),
        ("inputs", "* step_w - pad_w", "* step_w", "outputs are off"),
        ("filters", "+ r) * taps_s", "+ r) * taps_r", "element|outputs are off"),
        ("products", "real = fma(v_i, u_i, real)", "real = real", "outputs are off"),
        ("add", "fma(found, factor, zero())", "zero()", "outputs are off"),
    ],
)
def test_planted_faults_are_caught(
    name: str, right: str, wrong: str, message: str, emulated: Any, transforming: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    plant(monkeypatch, emulated, f"fourier_{name}", right, wrong)
    with pytest.raises((Fault, AssertionError), match=message):
        quiet_windows()


@pytest.mark.parametrize(
    "name, right, wrong",
    [
        ("outputs", "row_z = first + where", "row_z = where"),
        ("inputs", "row = first + where", "row = where"),
        ("outputs", "inside(p, p_count)", "inside(p, p_count + 1)"),
    ],
)
def test_planted_faults_of_rounds(
    name: str, right: str, wrong: str, emulated: Any, transforming: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    plant(monkeypatch, emulated, f"fourier_{name}", right, wrong)
    with pytest.raises((Fault, AssertionError), match="are off|not allocated|element"):
        with pytest.MonkeyPatch.context() as patch:
            in_rounds(patch)


def test_calls(transforming: Any) -> None:
    """By front ends; the second call of each is of other data."""
    for _ in range(2):
        a, w, image = noise(200), noise(9), noise(20, 31)
        there = [Tensor.holding(one) for one in (a, w)]
        for function in (signal.convolve, signal.correlate):
            y = function(*there, "same", method="cuda_fft").host()
            np.testing.assert_allclose(y, function(a, w, "same"), rtol=0, atol=1e-4)
        y = ndimage.gaussian_filter(Tensor.holding(image), 1.5, method="cuda_fft").host()
        right = ndimage.gaussian_filter(image, 1.5)
        np.testing.assert_allclose(y, right, rtol=0, atol=1e-5)
    assert {kind for _, _, kind in transforming.executed} == {0x2A, 0x2C}


def complex_signals() -> None:
    """Each way that conjugates come about: of the taps, and of samples that are fewer than them."""
    for sizes in ((200, 9), (9, 200)):
        a, b = (noise(n) + 1j * noise(n) for n in sizes)
        for function in (signal.convolve, signal.correlate):
            for _ in range(2):
                for real in (2, 0, 1):  # neither of them, or one
                    pair = [v.real.copy() if i == real else v for i, v in enumerate((a, b))]
                    there = [Tensor.holding(one) for one in pair]
                    y = function(*there, "same", method="cuda_fft").host()
                    right = function(*(one.astype("c16") for one in pair), "same")
                    assert y.dtype == np.complex64
                    np.testing.assert_allclose(y, right, rtol=0, atol=1e-4)


def doubt_all(monkeypatch: pytest.MonkeyPatch, driver: Any) -> None:
    """Every output is summed from its definition."""
    limit = "limit = fma(fma(peak, peak, peak), fma(peak, peak, peak), peak)"
    plant(monkeypatch, driver, "fourier_outputs", "limit = fma(found, zero(), limit)", limit)


@pytest.mark.usefixtures("transforming")
@pytest.mark.parametrize("doubtful", [False, True])
def test_complex_signals(doubtful: bool, emulated: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    if doubtful:
        doubt_all(monkeypatch, emulated)
    complex_signals()


VOLUMES = (
    "conv3d f32 n2 c2 d9 h7 w8 k2 t3 r2 s4 p2,1,1:2 u1,2,1",
    "conv3d f64 n1 c2 d8 h5 w6 k2 t2 r1 s3 g2 p1,0,1 l2,1,1 mirror",
)


def volumes(circle: str) -> None:
    for text in VOLUMES:
        problem = on_gpu(text)
        x, w, bias = arrays(Problem.parse(text))
        residual = values(np.random.default_rng(3), problem.y_dtype, problem.y_shape)
        bias = bias.astype(x.dtype)
        y = execute(SOLVER, problem, {"circle": circle}, x, w, bias, residual)
        sums, s = oracle(problem, x, w, bias)
        bound, b = SOLVER.error_bound(problem, {"circle": circle}), mixed_magnitude(problem, x, w)
        check(problem, y, (sums + residual, s), bound, b + 8 * abs(residual))


@pytest.mark.usefixtures("transforming")
def test_volumes_whose_outputs_are_all_in_doubt(
    emulated: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    doubt_all(monkeypatch, emulated)
    volumes("8x8x8")


@pytest.mark.parametrize(
    "name, right, wrong, in_doubt",
    [
        ("outputs", "o * step_t + t * gap_d", "o * step_t + t", True),
        ("outputs", "inside(front, depth)", "inside(front + 1, depth)", True),
        ("outputs", "(c * taps_t + t)", "(c * taps_r + t)", True),
        ("outputs", "layer * kept_d + within", "layer * kept_d", False),
        ("outputs", "within * step_t * area", "within * area * 0", False),
        ("outputs", "o * r_d", "o * r_h", False),
        ("inputs", "front = ahead + within", "front = within", False),
        ("inputs", "layer * step_d - pad_d", "layer - pad_d", False),
        ("filters", "inside(within - t * gap_d, 1)", "inside(0, 1)", False),
    ],
)
def test_planted_faults_of_volumes(
    name: str, right: str, wrong: str, in_doubt: bool, emulated: Any, transforming: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    if in_doubt:
        doubt_all(monkeypatch, emulated)
    whole = emulated.launch

    def planted(handle: Any, *rest: Any) -> None:
        if handle.name == f"fourier_{name}":  # of the volumes extended by zeros, or of all
            handle = dataclasses.replace(handle, text=handle.text.replace(right, wrong))
        whole(handle, *rest)

    monkeypatch.setattr(emulated, "launch", planted)
    with pytest.raises((Fault, AssertionError), match="are off|not allocated|element"):
        volumes("8x8x8")


@pytest.mark.usefixtures("transforming")
def test_complex_bias_and_residual() -> None:
    text = "conv1d c64 n2 c1 w90 k1 s9 p4"
    problem = on_gpu(text)
    x, w, bias = arrays(Problem.parse(text))
    residual = values(np.random.default_rng(3), "c64", problem.y_shape)
    y = execute(SOLVER, problem, {"circle": "32"}, x, w, bias.astype("c8"), residual)
    sums, s = oracle(problem, x, w, bias)
    bound, b = SOLVER.error_bound(problem, {"circle": "32"}), mixed_magnitude(problem, x, w)
    check(problem, y, (sums + residual, s), bound, b + 8 * abs(residual))


@pytest.mark.parametrize(
    "name, right, wrong",
    [
        ("outputs", "sign = turn", "sign = plus"), ("inputs", "sign = turn", "sign = plus"),
        ("filters", "factor = upper", "factor = lower"), ("filters", "(k + c) & 1", "0 * k"),
    ],
)  # fmt: skip
def test_planted_faults_of_complex_signals(
    name: str, right: str, wrong: str, emulated: Any, transforming: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    plant(monkeypatch, emulated, f"fourier_{name}", right, wrong)
    if name == "outputs":
        doubt_all(monkeypatch, emulated)
    with pytest.raises(AssertionError, match="Not equal"):
        complex_signals()


def test_families_of_methods(transforming: Any) -> None:
    """By the names of SciPy's methods, and in blocks."""
    a, w = noise(200), noise(9)
    there = [Tensor.holding(one) for one in (a, w)]
    right = np.convolve(a.astype("f8"), w)
    for call, by_transforms in (
        (lambda: signal.convolve(*there, method="fft"), True),
        (lambda: signal.convolve(*there, method="direct"), False),
        (lambda: signal.correlate(there[0], Tensor.holding(w[::-1].copy()), method="fft"), True),
        (lambda: signal.fftconvolve(*there, method="fft"), True),
        (lambda: signal.oaconvolve(*there, method="overlap_save"), True),
        (lambda: signal.upfirdn(there[1], there[0]), False),
        (lambda: signal.upfirdn(there[1], there[0], method="direct"), False),
    ):
        transforming.executed.clear()
        np.testing.assert_allclose(call().host(), right, rtol=0, atol=1e-4)
        assert bool(transforming.executed) == by_transforms
    whole = [Tensor.holding(one.astype("i4")) for one in (100 * a, 9 * w)]
    y = signal.convolve(*whole, method="fft").host()  # exact: sums of products
    np.testing.assert_array_equal(y, np.convolve((100 * a).astype("i4"), (9 * w).astype("i4")))


def test_a_warm_plan_can_be_captured(emulated: Any, transforming: Any) -> None:
    """It makes no plan of cuFFT's, allocates nothing and waits for nothing, on its own stream."""
    x, w = noise(1, 2, 60), noise(3, 2, 9)
    there = Tensor.holding(x)
    plan = fastconv.plan(fastconv.conv1d, there, Tensor.holding(w), padding=4, method="cuda_fft")
    y = Tensor.empty((1, 3, 60), "f4")
    plan(there, out=y)
    emulated.capturing = True
    launches, executed = len(emulated.launches), len(transforming.executed)
    y.host()[...] = np.nan
    plan(there, out=y)
    emulated.capturing = False
    names = [name for name, *_ in emulated.launches[launches:]]
    assert names == [f"fourier_{name}" for name in ("inputs", "products", "outputs")]
    assert len(transforming.executed) == executed + 2
    right = fastconv.conv1d(x, w, padding=4)
    np.testing.assert_allclose(y.host(), right, rtol=0, atol=1e-4)


def test_without_cufft(emulated: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cufft, "library", lambda: None)
    x, w = Tensor.holding(noise(40)), Tensor.holding(noise(5))
    with pytest.raises(ValueError, match="cuFFT is not found: install nvidia-cufft"):
        fastconv.convolve(x, w, method="cuda_fft")
    assert fastconv.convolve(x, w).shape == (44,)


def test_what_cufft_answers(transforming: Any) -> None:
    transforming.fails = "cufftCreate"
    x, w = Tensor.holding(noise(40)), Tensor.holding(noise(5))
    with pytest.raises(cufft.CufftError, match=r"cufftCreate: internal error \(5\)"):
        fastconv.convolve(x, w, method="cuda_fft")


def test_the_library_is_found_by_its_name(monkeypatch: pytest.MonkeyPatch) -> None:
    """As PyTorch has loaded it; the newer one first."""
    asked = []

    def load(name: str) -> Any:
        asked.append(name)
        if name == cufft._NAMES[0]:
            raise OSError(name)
        return "a library"

    monkeypatch.setattr(ctypes, "CDLL", load)
    monkeypatch.setitem(sys.modules, "cuda.pathfinder", None)
    assert cufft._load() == "a library" and asked == list(cufft._NAMES)


def test_every_function_is_there() -> None:
    """Of cuFFT itself, where it is: it is loaded without a driver."""
    library = cufft._load()
    if library is None:
        pytest.skip("cuFFT is not installed")
    names = ("Create", "SetAutoAllocation", "MakePlanMany64", "SetStream", "SetWorkArea", "Destroy")
    for name in (*(f"cufft{name}" for name in names), *cufft._EXECUTES.values()):
        assert getattr(library, name) is not None
