"""Build of the one extension module: kernels compiled once per instruction set, the rest once."""

import os
import pathlib
import platform
import shutil
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from Cython.Build import cythonize
from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext
from setuptools.errors import CompileError

EXT = pathlib.Path("fastconv/_ext")

# One line per instruction set: its compiler flags. A compiler that refuses them drops the set.
ISAS = {
    "x86_64": {
        "baseline": [],
        "avx2": ["-mavx2", "-mfma", "-mf16c"],
        "avx512": ["-mavx512f", "-mavx512bw", "-mavx512dq", "-mavx512vl", "-mavx2", "-mfma",
                   "-mf16c", "-mprefer-vector-width=512"],
    },
    "aarch64": {"baseline": [], "neon": ["-march=armv8-a+simd"]},
}  # fmt: skip
ISAS["AMD64"] = ISAS["x86_64"]
ISAS["arm64"] = ISAS["aarch64"]

# -std=c11 turns contraction to fused multiply-add off: ask for it. Nothing else of fast-math is
# allowed: NaN, Inf and signed zeros keep their meaning. -g0 is for compilers that Python was built
# with -g: nine tenths of the module and a quarter of the time to compile it would go to that.
FLAGS = ["-O3", "-g0", "-std=c11", "-ffp-contract=fast", "-fvisibility=hidden", "-fno-math-errno",
         "-fno-trapping-math", "-pthread"]  # fmt: skip


class BuildExt(build_ext):
    """Compiles `_ext/kernels/*.c` once per instruction set and adds the objects."""

    def build_extensions(self) -> None:
        command = getattr(self.compiler, "compiler", None)  # MSVC's has no such attribute
        if command and shutil.which(command[0]) is None:
            raise CompileError(
                f"fastconv is built from C and found no compiler called {command[0]}: install one"
                " (Debian, Ubuntu: apt install build-essential; Fedora: dnf install gcc;"
                " macOS: xcode-select --install) or set CC=/path/to/compiler"
            )
        super().build_extensions()

    def build_extension(self, ext: Extension) -> None:
        flags = FLAGS if self.compiler.compiler_type != "msvc" else ["/O2", "/std:c11"]
        kernels = sorted(str(path) for path in (EXT / "kernels").glob("*.c"))
        # A file at a time, on all cores: a build is minutes of compiling.
        with ThreadPoolExecutor(os.cpu_count()) as pool:

            def compiled(sources, output_dir, macros, extra):  # futures of the objects
                return [
                    pool.submit(
                        self.compiler.compile,
                        [source],
                        output_dir=str(output_dir),
                        macros=macros,
                        include_dirs=ext.include_dirs,
                        extra_postargs=[*flags, *extra],
                        depends=ext.depends,
                    )
                    for source in sources
                ]

            rest = compiled(ext.sources, self.build_temp, ext.define_macros, [])
            isas = ISAS.get(platform.machine(), {"baseline": []})
            of_isa = {
                isa: compiled(
                    kernels,
                    pathlib.Path(self.build_temp) / isa,
                    [("FC_ISA", isa), (f"FC_ISA_{isa}", None)],
                    extra,
                )
                for isa, extra in isas.items()
            }
            for isa, futures in of_isa.items():
                try:
                    # warnings of a flag that the compiler does not know must count as a refusal
                    objects = [name for future in futures for name in future.result()]
                except Exception as error:
                    if isa == "baseline":
                        raise
                    print(f"fastconv: built without {isa} kernels: {error}", file=sys.stderr)
                    continue
                ext.extra_objects.extend(objects)
                ext.define_macros.append((f"FC_HAVE_{isa}", None))
            # The table of what there is, which has to know it.
            rest += compiled([str(EXT / "isa.c")], self.build_temp, ext.define_macros, [])
            ext.extra_objects.extend(name for future in rest for name in future.result())
        ext.sources = []
        super().build_extension(ext)  # links


extension = Extension(
    "fastconv._ext.core",
    [str(EXT / "core.pyx"), *sorted(map(str, (EXT / "drivers").glob("*.c")))],
    include_dirs=[np.get_include(), str(EXT)],
    define_macros=[
        ("NPY_NO_DEPRECATED_API", "NPY_1_7_API_VERSION"),
        ("NPY_TARGET_VERSION", "NPY_2_0_API_VERSION"),  # what pyproject.toml asks for
    ],
    extra_link_args=["-pthread"] if sys.platform != "win32" else [],
    depends=[
        str(p) for p in sorted(EXT.rglob("*")) if p.suffix in (".c", ".h", ".inc", ".pxi", ".pyx")
    ],
)

setup(ext_modules=cythonize([extension]), cmdclass={"build_ext": BuildExt})
