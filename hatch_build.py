"""The C kernels, compiled while a wheel is built: hatchling calls :class:`Kernels`.

Where no C compiler is at work the wheel is pure Python, and NumPy computes. With the kernels it is one for every Python
of a platform, because they know nothing of Python.

``python hatch_build.py`` compiles them into this checkout, ``python hatch_build.py PATH -fsanitize=address`` elsewhere
and with more options.
"""

import os
import platform
import shlex
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

SOURCES = Path(__file__).parent / "seqloss" / "backends" / "numpy" / "native"
LIBRARY = "seqloss/backends/numpy/native/libseqloss.so"

# Numbers are what the sources say: nothing is contracted, and nothing reordered.
FLAGS = ("-std=c11", "-O3", "-fPIC", "-ffp-contract=off", "-fno-math-errno", "-fno-trapping-math", "-Wall", "-Wextra")

AVX512 = ("-mavx512f", "-mavx512bw", "-mavx512dq", "-mavx512vl", "-mprefer-vector-width=512")
VERSIONS = {"baseline": (), "avx2": ("-mavx2",), "avx512": AVX512}
"""The instructions of each version of the kernels; a processor without AVX has only the first."""


def build(library: Path, *options: str) -> None:
    """Compile the library; OSError or CalledProcessError where that fails."""
    compiler = shlex.split(os.environ.get("CC", "")) or [shutil.which("cc") or "gcc"]
    has_avx = platform.machine().lower() in ("x86_64", "amd64")
    versions = VERSIONS if has_avx else {"baseline": ()}
    with tempfile.TemporaryDirectory() as folder:
        objects = []
        jobs = [(f"{name}.o", "kernel.c", (f"-DVERSION={name}", *flags)) for name, flags in versions.items()]
        for target, source, more in (*jobs, ("versions.o", "versions.c", ())):
            objects.append(str(Path(folder) / target))
            line = [*compiler, *FLAGS, *more, *options, "-c", str(SOURCES / source), "-o", objects[-1]]
            subprocess.run(line, check=True)
        # Beside its place first: a process that has the old one in use keeps it.
        fresh = library.with_suffix(".new")
        subprocess.run([*compiler, *options, "-shared", "-o", str(fresh), *objects, "-lm"], check=True)
        fresh.replace(library)


class Kernels(BuildHookInterface):
    """Adds the library to a wheel; an editable install has it in the checkout."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        in_place = Path(self.root) / LIBRARY
        library = in_place if version == "editable" else Path(self.directory) / "libseqloss.so"
        library.parent.mkdir(parents=True, exist_ok=True)
        try:
            build(library)
        except (OSError, subprocess.CalledProcessError) as error:
            self.app.display_warning(f"without the C kernels, because they were not compiled: {error}")
            return
        build_data["force_include"][str(library)] = LIBRARY
        build_data["pure_python"] = False
        build_data["tag"] = f"py3-none-{_platform()}"

    def finalize(self, version: str, build_data: dict[str, Any], artifact_path: str) -> None:
        if version != "editable":
            (Path(self.directory) / "libseqloss.so").unlink(missing_ok=True)


def _platform() -> str:
    """That of this machine: a wheel for more than one of them is made by auditwheel or delocate."""
    from packaging.tags import platform_tags

    return next(tag for tag in platform_tags() if not tag.startswith(("manylinux", "musllinux")))


if __name__ == "__main__":
    path = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent / LIBRARY
    build(path, *sys.argv[2:])
