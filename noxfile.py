"""Everything that is checked, each in an environment of its own: ``python -m nox`` runs the default sessions."""

import os
import shutil
from pathlib import Path

import nox

nox.needs_version = ">=2024.4.15"
nox.options.error_on_external_run = True
nox.options.stop_on_first_error = False

HERE = Path(__file__).parent
CONSTRAINTS = str(HERE / "constraints.txt")
PROJECT = nox.project.load_toml(HERE / "pyproject.toml")
BACKENDS = ("numpy", "torch", "tensorflow", "jax")
# All but NumPy, in the order in which they may be imported into one process: torch before TensorFlow.
EXTRAS = ("torch", "tensorflow", "jax")

nox.options.sessions = ["lint", "types", "light", "tests", "together", "docs", "wheel", "plugin"]


def group(name: str) -> list[str]:
    """A dependency group of pyproject.toml."""
    return nox.project.dependency_groups(PROJECT, name)


def install(session: nox.Session, *packages: str) -> None:
    session.install("--constraint", CONSTRAINTS, *packages)


def pytest(session: nox.Session, *arguments: str) -> None:
    # pip's processes are gone by now, so every core is free; loadscope would leave them idle at the end.
    workers = os.environ.get("SEQLOSS_TEST_WORKERS", "auto")
    quiet = {"TF_CPP_MIN_LOG_LEVEL": "3", "JAX_PLATFORMS": "cpu", "OMP_NUM_THREADS": "1"}
    session.run("python", "-m", "pytest", "-q", "-n", workers, *arguments, *session.posargs, env=quiet)


@nox.session
def lint(session: nox.Session) -> None:
    """Style, by ruff."""
    install(session, *group("lint"))
    session.run("ruff", "check", ".")
    session.run("ruff", "format", "--check", ".")


@nox.session
def types(session: nox.Session) -> None:
    """Types, by mypy --strict; the backends are compared with the protocol."""
    install(session, ".", *group("types"))
    session.run("mypy")


@nox.session
@nox.parametrize("backend", BACKENDS, ids=BACKENDS)
def tests(session: nox.Session, backend: str) -> None:
    """The whole suite for one backend, where no other framework is installed."""
    install(session, "." if backend == "numpy" else f".[{backend}]", *group("test"))
    # A choice of tests, as in `-- -k name`, cannot be complete.
    census = [] if session.posargs else ["--census"]
    pytest(session, "tests", "--backends", backend, *census)


@nox.session
@nox.parametrize("backend", BACKENDS, ids=BACKENDS)
def vectors(session: nox.Session, backend: str) -> None:
    """Every recorded vector, compiled too. Not part of the default run, which compiles a choice of them."""
    install(session, "." if backend == "numpy" else f".[{backend}]", *group("test"))
    pytest(session, "tests/golden", "--backends", backend, "--every-vector")


@nox.session
def together(session: nox.Session) -> None:
    """All four in one process, compared pairwise."""
    install(session, ".[all]", *group("test"))
    pytest(session, "tests/together", "--backends", ",".join(BACKENDS))


@nox.session
def light(session: nox.Session) -> None:
    """With NumPy alone: importing stays light, and the README's command works."""
    install(session, ".", *group("test"))
    pytest(session, "tests/test_imports.py")
    session.run("python", "-m", "seqloss", "parity")


@nox.session
def docs(session: nox.Session) -> None:
    """The site with warnings as errors, and every snippet in it."""
    install(session, ".", *group("docs"))
    session.run("python", "-m", "sphinx", "-W", "--keep-going", "-n", "-b", "html", "docs", "docs/_build/html")
    session.run("python", "-m", "sphinx", "-W", "-b", "doctest", "docs", "docs/_build/doctest")


@nox.session
def wheel(session: nox.Session) -> None:
    """The built wheel in an empty environment, tried from another directory."""
    install(session, "build")
    out = Path(session.create_tmp()).resolve()
    shutil.rmtree(out / "dist", ignore_errors=True)
    session.run("python", "-m", "build", "--outdir", str(out / "dist"), str(HERE))
    environment = out / "empty"
    session.run("python", "-m", "venv", "--clear", str(environment))
    python = str(environment / "bin" / "python")
    (built,) = (out / "dist").glob("*.whl")
    session.run(python, "-m", "pip", "install", "-q", "--constraint", CONSTRAINTS, str(built), external=True)
    session.chdir(out)
    session.run(python, "-m", "seqloss", "parity", external=True)
    session.run(python, "-m", "pip", "install", "-q", "--constraint", CONSTRAINTS, *group("test"), external=True)
    suite = str(HERE / "tests" / "conformance")
    session.run(
        python, "-m", "pytest", "-q", suite, "--backends", "numpy", "-c", str(HERE / "pyproject.toml"), external=True
    )


@nox.session
def plugin(session: nox.Session) -> None:
    """A project of its own tests its losses with the pytest plugin, out of another directory."""
    install(session, ".[jax]", "pytest")
    copy = Path(session.create_tmp()).resolve() / "project"
    shutil.rmtree(copy, ignore_errors=True)
    shutil.copytree(HERE / "tests" / "sample_project", copy, ignore=shutil.ignore_patterns(".*", "__pycache__"))
    golden = copy / "tests" / "golden"
    before = {path.name: path.read_bytes() for path in golden.iterdir()}
    session.chdir(copy)
    run = ("python", "-m", "pytest", "-q")
    session.run(*run)
    session.run(*run, "--seqloss-golden-update")
    if {path.name: path.read_bytes() for path in golden.iterdir()} != before:
        session.error("what agrees with the golden files must leave them as they are")
    shutil.rmtree(golden)
    session.run(*run, "--seqloss-backends", "numpy", success_codes=[1])
    session.run(*run, "--seqloss-backends", "numpy", "--seqloss-golden-update")
    if {path.name for path in golden.iterdir()} != set(before):
        session.error("golden files that are not there must be recorded, and nothing else be left")
    # Only NumPy and JAX are installed here, and the others must be an error, not a skip.
    session.run(*run, "--seqloss-backends", "numpy,torch", success_codes=[4])


@nox.session
def bench(session: nox.Session) -> None:
    """The measurements behind docs/performance.md. Not part of the default run: machines in CI are shared."""
    install(session, ".[all]", *group("bench"))
    session.run("python", "-m", "benchmarks", *session.posargs)


def lowest(requirement: str) -> str:
    """A requirement of pyproject.toml at its lower bound."""
    return requirement.replace(">=", "==")


@nox.session
@nox.parametrize("backend", BACKENDS, ids=BACKENDS)
def minimums(session: nox.Session, backend: str) -> None:
    """The lower bounds of pyproject.toml, one environment per framework."""
    extras = PROJECT["project"]["optional-dependencies"]
    # An extra may ask for more of NumPy than the project does.
    wanted = (*PROJECT["project"]["dependencies"], *extras.get(backend, []))
    bounds = {requirement.partition(">=")[0]: requirement for requirement in wanted}
    session.install(".", *group("test"), *map(lowest, bounds.values()))
    pytest(session, "tests/conformance", "tests/test_host_values.py", "--backends", backend, "--census")


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
