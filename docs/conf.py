"""Sphinx configuration. Build: sphinx-build -W --keep-going -n -b html docs docs/_build/html (and -b doctest)."""

import doctest
import pathlib
import re
import sys
import tomllib

import seqloss

HERE = pathlib.Path(__file__).parent
# The worked example of a backend is a pair of modules beside these pages; benchmarks draws what was measured.
sys.path[:0] = [str(HERE / "snippets"), str(HERE.parent)]

project = "seqloss"
author = copyright = "the seqloss authors"
version = release = seqloss.__version__

extensions = [
    "sphinx.ext.autodoc",
    "sphinx.ext.doctest",
    "numpydoc",
    "myst_parser",
    "sphinx_design",
    "sphinx_copybutton",
]
exclude_patterns = ["_build", "_drawn"]
html_theme = "furo"
html_title = f"seqloss {release}"
html_static_path = ["_static"]
html_css_files = ["tables.css"]

# The docstrings give shapes and dtype kinds, which say more than the annotations.
autodoc_typehints = "none"
autodoc_member_order = "bysource"
# Not installed where the site is built. Modules for a framework are shown all the same.
autodoc_mock_imports = ["keras", "torch"]
# Fences of colons, and definitions: each is text unless it is named here.
myst_enable_extensions = ["colon_fence", "deflist"]
myst_heading_anchors = 3
# Sphinx by itself would not compare the text of errors. Long ones are wrapped in these pages.
doctest_default_flags = doctest.NORMALIZE_WHITESPACE | doctest.DONT_ACCEPT_TRUE_FOR_1

# The button copies what one types, without prompts and without what is printed.
copybutton_prompt_text = r">>> |\.\.\. ?|\$ "
copybutton_prompt_is_regexp = True
copybutton_line_continuation_character = "\\"

numpydoc_show_class_members = False
# All checks but these, for the reasons beside them.
numpydoc_validation_checks = {
    "all",
    "ES01",  # no extended summary where one line says it
    "EX01",  # errors need no example
    "SA01",  # not everything has a relative
}
# The functions of the protocol have Array API names and meaning, and one line each.
numpydoc_validation_exclude = {r"\.core\.(contract|linear|protocol)\."}


def without_examples_of_frameworks(app, what, name, obj, options, lines):
    """Where examples are run, leave out those that need a framework: the tests of that framework run them."""
    if app.builder.name == "doctest" and name.startswith("seqloss.torch."):
        lines.clear()


def versions():
    """A table of what is supported: the bounds of pyproject.toml, and what constraints.txt has."""
    project = tomllib.loads((HERE.parent / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    pinned = re.findall(
        r"^([\w-]+)==(\S+)", (HERE.parent / "constraints.txt").read_text(encoding="utf-8"), re.MULTILINE
    )
    names = {"torch": "PyTorch", "tensorflow": "TensorFlow", "jax": "JAX", "keras": "Keras", "pytest": "pytest"}
    extras = project["optional-dependencies"]
    wanted = [("NumPy", project["dependencies"][0]), *((called, extras[name][0]) for name, called in names.items())]
    rows = []
    for name, requirement in wanted:
        package, _, oldest = requirement.partition(">=")
        rows.append(f"| {name} | `{package}` | {oldest} | {dict(pinned)[package]} |")
    return "\n".join(["| | package | oldest | tested |", "|---|---|---|---|", *rows])


def setup(app):
    # Last, because others read the text too.
    app.connect("autodoc-process-docstring", without_examples_of_frameworks, priority=900)

    # Tables and pictures are made from the figures in "measured", so that they cannot differ from them.
    from benchmarks import pages

    pages.write(HERE / "measured", HERE / "_drawn")

    (HERE / "_drawn" / "versions.md").write_text(versions() + "\n")

    from seqloss.testing.invariants import INVARIANTS

    rows = [
        f"| `{name}` | {invariant.summary} | {', '.join(f'`{part}`' for part in invariant.unless)} |"
        for name, invariant in INVARIANTS.items()
    ]
    head = ["| name | what must hold | does not apply with |", "|---|---|---|"]
    (HERE / "_drawn" / "invariants.md").write_text("\n".join([*head, *rows, ""]))
