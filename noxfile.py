"""Everything that is checked: ``python -m nox`` runs the default sessions.

Nothing is built or installed twice. ``build`` makes the wheel, ``base`` has it with NumPy and the tools for tests, and
each ``install`` adds a framework to that. An environment sees the packages of others through a ``.pth`` file, and the
sessions that need them ask for them to be made first.
"""

import os
import shutil
import sys
from pathlib import Path

import nox

# The first with requires=.
nox.needs_version = ">=2025.2.9"
nox.options.error_on_external_run = True
nox.options.stop_on_first_error = False

HERE = Path(__file__).parent
CONSTRAINTS = str(HERE / "constraints.txt")
PROJECT = nox.project.load_toml(HERE / "pyproject.toml")
BACKENDS = ("numpy", "torch", "tensorflow", "jax")
# All but NumPy, in the order in which they may be imported into one process: torch before TensorFlow.
EXTRAS = ("torch", "tensorflow", "jax")

nox.options.sessions = [
    *("lint", "types", "wheel"),
    *(f"tests({name})" for name in BACKENDS),
    *("together", "engines", "docs", "plugin"),
]

# --- environments


def group(name: str) -> list[str]:
    """A dependency group of pyproject.toml."""
    return nox.project.dependency_groups(PROJECT, name)


def install(session: nox.Session, *packages: str) -> None:
    session.install("--constraint", CONSTRAINTS, *packages)


def python_of(session: nox.Session, backend: str) -> str:
    """The Python of the environment with one framework."""
    name = "base" if backend == "numpy" else f"install-{backend}"
    python = "Scripts/python.exe" if os.name == "nt" else "bin/python"
    return str(HERE / Path(session.cache_dir).parent / name / python)


def packages_of(session: nox.Session, python: str) -> str:
    """The folder in which an environment has its packages."""
    program = "import sysconfig; print(sysconfig.get_path('purelib'))"
    return session.run(python, "-c", program, silent=True, external=True).strip()


def on(session: nox.Session, *backends: str) -> None:
    """Let the environment of this session see the packages of others."""
    others = "\n".join(packages_of(session, python_of(session, name)) for name in backends)
    (Path(packages_of(session, "python")) / "others.pth").write_text(others)


def built(session: nox.Session) -> Path:
    """The folder with the wheel of this run."""
    return HERE / session.cache_dir / "dist"


@nox.session
def build(session: nox.Session) -> None:
    """The source distribution and the wheel, once for all sessions."""
    install(session, "build")
    # With -R, as in `nox -R -s "tests(torch)"`, the last one is good enough: tests import the checkout.
    session.run_install("python", "-c", "import shutil, sys; shutil.rmtree(sys.argv[1], True)", str(built(session)))
    session.run_install("python", "-m", "build", "--outdir", str(built(session)), str(HERE))
    session.run_install("python", "-c", TAKE_LIBRARY, str(built(session)), str(HERE))


TAKE_LIBRARY = """
import pathlib, sys, zipfile
(wheel,), checkout = pathlib.Path(sys.argv[1]).glob("*.whl"), pathlib.Path(sys.argv[2])
(checkout / "seqloss/backends/numpy/native/libseqloss.so").unlink(missing_ok=True)
with zipfile.ZipFile(wheel) as file:
    file.extractall(checkout, [name for name in file.namelist() if name.endswith(".so")])
"""
"""The C kernels of the wheel, if it has them, are put into the checkout, where the tests import seqloss from."""


@nox.session(requires=["build"])
def base(session: nox.Session) -> None:
    """seqloss as it was built, with NumPy and the tools for tests."""
    (wheel,) = built(session).glob("*.whl")
    install(session, str(wheel), *group("test"))


@nox.session(name="install", requires=["base"])
@nox.parametrize("backend", EXTRAS, ids=EXTRAS)
def install_framework(session: nox.Session, backend: str) -> None:
    """A framework, and nothing of another one."""
    on(session, "numpy")
    install(session, *PROJECT["project"]["optional-dependencies"][backend])


INSTALLED = {"numpy": "base", **{name: f"install({name})" for name in EXTRAS}}
"""The session that makes the environment with a framework."""

# --- what is checked by default


def settings(session: nox.Session) -> dict[str, str]:
    """Variables for runs of tests."""
    quiet = {"TF_CPP_MIN_LOG_LEVEL": "3", "JAX_PLATFORMS": "cpu", "OMP_NUM_THREADS": "1"}
    # Nothing is left outside of the checkout. (JAX has a cache too, but two processes that write it fail now and then.)
    return quiet | {"TORCHINDUCTOR_CACHE_DIR": str(HERE / session.cache_dir / "inductor")}


def pytest(session: nox.Session, python: str, *arguments: str) -> None:
    """Tests on every core, in the environment of this Python."""
    workers = os.environ.get("SEQLOSS_TEST_WORKERS", "auto")
    # worksteal gives a worker tests that stand side by side, which share what was compiled for one of them.
    run = ("-m", "pytest", "-q", "-n", workers, "--dist", "worksteal", "--durations", "30")
    session.run(python, *run, *arguments, *session.posargs, env=settings(session), external=True)


@nox.session
def lint(session: nox.Session) -> None:
    """Style, by ruff."""
    install(session, *group("lint"))
    session.run("ruff", "check", ".")
    session.run("ruff", "format", "--check", ".")


@nox.session(requires=["base"])
def types(session: nox.Session) -> None:
    """Types, by mypy --strict; the backends are compared with the protocol. Calls of users, by pyright too."""
    on(session, "numpy")
    install(session, *group("types"))
    session.run("mypy")
    session.run("pyright", env={"PYRIGHT_PYTHON_IGNORE_WARNINGS": "1"})


@nox.session(requires=["build"])
def wheel(session: nox.Session) -> None:
    """The wheel alone with NumPy, tried from another directory."""
    (path,) = built(session).glob("*.whl")
    install(session, str(path))
    session.chdir(session.create_tmp())
    session.run("python", "-m", "seqloss", "parity")
    install(session, *group("test"))
    options = ("--backends", "numpy", "-c", str(HERE / "pyproject.toml"))
    session.run("python", "-m", "pytest", "-q", str(HERE / "tests" / "conformance"), *options)
    # That was with the kernels in C, if there was a compiler; now with those in NumPy.
    tried = ("test_kernels.py", "test_exact.py", "test_sequence_loss.py", "test_token_loss.py", "test_objectives.py")
    conformance = [str(HERE / "tests" / "conformance" / name) for name in tried]
    session.run("python", "-m", "pytest", "-q", *conformance, *options, env={"SEQLOSS_NATIVE": "0"})
    # And as it is installed without one.
    (source,) = built(session).glob("*.tar.gz")
    without = ("--no-deps", "--force-reinstall", "--no-cache-dir", str(source))
    session.install(*without, env={"CC": "no-compiler"})
    session.run("python", "-m", "seqloss", "parity")


def suite(name: str, doc: str, *options: str) -> None:
    """A session for each framework, which asks for no other one."""
    for backend in BACKENDS:

        @nox.session(name=f"{name}({backend})", venv_backend="none", requires=[INSTALLED[backend]])
        def run(session: nox.Session, backend: str = backend) -> None:
            # A choice of tests, as in `-- -k name`, cannot be complete.
            census = [] if session.posargs else ["--census"]
            pytest(session, python_of(session, backend), "tests", "--backends", backend, *options, *census)

        run.__doc__ = doc


suite("tests", "The suite for one framework, where no other one is installed.")


@nox.session(requires=list(INSTALLED.values()))
def together(session: nox.Session) -> None:
    """All four in one process, compared pairwise; and what importing brings where all of them are there."""
    on(session, *BACKENDS)
    pytest(session, "python", "tests/together", "tests/test_imports.py", "--backends", ",".join(BACKENDS))


@nox.session(requires=list(INSTALLED.values()))
def engines(session: nox.Session) -> None:
    """The loss in trainers and over several processes; each test starts the frameworks that it needs."""
    on(session, *BACKENDS)
    install(session, *group("engines"))
    # The tests of a file look at what one program found, which each worker would run again.
    pytest(session, "python", "tests/engines", "--backends", "numpy", "--dist", "loadfile")


@nox.session(requires=["base"])
def docs(session: nox.Session) -> None:
    """The site with warnings as errors, and every snippet in it."""
    on(session, "numpy")
    install(session, *group("docs"))
    session.run("python", "-m", "sphinx", "-W", "--keep-going", "-n", "-b", "html", "docs", "docs/_build/html")
    session.run("python", "docs/check_pages.py", "docs/_build/html")
    session.run("python", "-m", "sphinx", "-W", "-b", "doctest", "docs", "docs/_build/doctest")


def lowest(requirement: str) -> str:
    """A requirement of pyproject.toml at its lower bound."""
    return requirement.replace(">=", "==")


@nox.session(requires=["install(jax)"])
def plugin(session: nox.Session) -> None:
    """Projects of their own, one that uses the pytest plugin and one that does not; on the oldest pytest too."""
    folder = Path(session.create_tmp()).resolve()
    shutil.rmtree(folder)
    sample, unrelated = folder / "sample", folder / "unrelated"
    shutil.copytree(HERE / "tests" / "sample_project", sample, ignore=shutil.ignore_patterns(".*", "__pycache__"))
    unrelated.mkdir()
    (unrelated / "test_it.py").write_text("def test_it(): pass\n")
    (unrelated / "pytest.ini").write_text("[pytest]\nfilterwarnings = error\n")

    def run(project: Path, *arguments: str, python: str = python_of(session, "jax"), status: int = 0) -> None:
        with session.chdir(project):
            session.run(python, "-m", "pytest", "-q", *arguments, success_codes=[status], external=True)

    run(unrelated)
    run(sample)
    golden = sample / "tests" / "golden"
    before = {path.name: path.read_bytes() for path in golden.iterdir()}
    run(sample, "--seqloss-golden-update")
    if {path.name: path.read_bytes() for path in golden.iterdir()} != before:
        session.error("what agrees with the golden files must leave them as they are")
    shutil.rmtree(golden)
    run(sample, "--seqloss-backends", "numpy", status=1)
    run(sample, "--seqloss-backends", "numpy", "--seqloss-golden-update")
    if {path.name for path in golden.iterdir()} != set(before):
        session.error("golden files that are not there must be recorded, and nothing else be left")
    # Only NumPy and JAX are installed here, and the others must be an error, not a skip.
    run(sample, "--seqloss-backends", "numpy,torch", status=4)

    if sys.version_info >= (3, 14):
        session.log("the oldest pytest is left out: it does not run on this Python")
        return
    (wheel,) = built(session).glob("*.whl")
    session.install("--no-deps", str(wheel))
    (requirement,) = PROJECT["project"]["optional-dependencies"]["pytest"]
    # Plugins that are made for a newer pytest stay out: an environment that is reused sees them from the start.
    alone = ("-p", "no:xdist", "-p", "no:xdist.looponfail", "-p", "no:hypothesispytest")
    # Below it, too, what has nothing to do with seqloss runs.
    for version in (requirement.replace(">=", "<"), lowest(requirement)):
        session.install(version)
        run(unrelated, *alone, python="python")
    on(session, "numpy")
    run(sample, "--seqloss-backends", "numpy", *alone, python="python")
    run(HERE, "tests/plugin/test_plugin_own.py", "--backends", "numpy", *alone, python="python")


# --- on demand


suite("full", "Every case, row and vector in every mode and dtype, not the choice that tests runs.", "--full")


def mutants(backend: str) -> None:
    @nox.session(name=f"mutants({backend})", requires=[INSTALLED[backend]])
    def run(session: nox.Session) -> None:
        """Small faults put into the sources: which of them the tests of a framework notice."""
        on(session, *dict.fromkeys(("numpy", backend)))
        install(session, *group("mutants"))
        state = HERE / session.cache_dir / "mutants"
        command = ("python", "tests/mutants", backend, "--state", str(state), *session.posargs)
        session.run(*command, env=settings(session))


for name in BACKENDS:
    mutants(name)


@nox.session(requires=["base"])
def fuzz(session: nox.Session) -> None:
    """The C kernels with a look at every address and number, over 100,000 calls; `-- 1000` for fewer."""
    on(session, "numpy")
    install(session, "hatchling")
    library = HERE / session.cache_dir / "fuzz" / "libseqloss.so"
    library.parent.mkdir(exist_ok=True)
    looks = ("-g", "-fsanitize=address,undefined", "-fno-sanitize-recover=all")
    session.run("python", "hatch_build.py", str(library), *looks)
    compiler = os.environ.get("CC", "cc")
    runtime = session.run(compiler, "-print-file-name=libasan.so", silent=True, external=True).strip()
    # Python's own memory is no matter here.
    sanitized = {"LD_PRELOAD": runtime, "ASAN_OPTIONS": "detect_leaks=0", "PYTHONMALLOC": "malloc"}
    session.run("python", "tests/fuzz", str(library), *(session.posargs or ["100000"]), env=sanitized)


@nox.session(requires=["base"])
def screens(session: nox.Session) -> None:
    """The site on a wide and on a narrow screen, in Chromium, which has to be installed."""
    on(session, "numpy")
    install(session, *group("docs"))
    session.run("python", "-m", "sphinx", "-q", "-b", "html", "docs", "docs/_build/html")
    session.run("python", "docs/check_screens.py", "docs/_build/html")


@nox.session(requires=list(INSTALLED.values()))
def bench(session: nox.Session) -> None:
    """The measurements behind docs/performance.md. Not part of the default run: machines in CI are shared."""
    on(session, *BACKENDS)
    install(session, *group("bench"))
    session.run("python", "-m", "benchmarks", *session.posargs)


@nox.session
@nox.parametrize("backend", BACKENDS, ids=BACKENDS)
def minimums(session: nox.Session, backend: str) -> None:
    """The lower bounds of pyproject.toml, one environment per framework."""
    extras = PROJECT["project"]["optional-dependencies"]
    # An extra may ask for more of NumPy than the project does.
    wanted = (*PROJECT["project"]["dependencies"], *extras.get(backend, []))
    bounds = {requirement.partition(">=")[0]: requirement for requirement in wanted}
    session.install(".", *group("test"), *map(lowest, bounds.values()))
    paths = ("tests/conformance", "tests/test_host_values.py")
    pytest(session, "python", *paths, "--backends", backend, "--full", "--census")


@nox.session
def pythons(session: nox.Session) -> None:
    """The NumPy-only tests on every newer Python that is present."""
    present = [name for minor in range(12, 20) if (name := shutil.which(f"python3.{minor}"))]
    if not present:
        session.error("no Python newer than 3.11 is on the PATH")
    for python in present:
        environment = Path(session.create_tmp()) / Path(python).name
        session.run(python, "-m", "venv", "--clear", str(environment), external=True)
        inside = str(environment / "bin" / "python")
        wanted = ["--constraint", CONSTRAINTS, str(HERE), *group("test")]
        session.run(inside, "-m", "pip", "install", "-q", *wanted, external=True)
        session.run(
            inside, "-m", "pytest", "-q", "-n", "auto", "tests", "--backends", "numpy", "--census", external=True
        )
