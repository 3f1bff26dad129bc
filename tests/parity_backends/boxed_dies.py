"""A backend that takes its process with it."""

import os
import sys

print("the shelf broke", file=sys.stderr, flush=True)
os._exit(7)
