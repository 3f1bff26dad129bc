"""How the tests of the pytest plugin load it."""

from pathlib import Path

# Here, so that all sessions in this process share one: pytester forgets what a session imports, but for the parts that
# the packages around them hold.
import seqloss.testing.plugin  # noqa: F401

ROOT = Path(__file__).parents[1]
PLUGIN = ("-p", "seqloss.testing.plugin", "-p", "no:cacheprovider")
