"""The program of docs/training.md that needs a trainer; tests/test_examples.py runs the others."""

import os
import pathlib
import subprocess
import sys

ROOT = pathlib.Path(__file__).parents[2]


def test_hugging_face_prints_what_it_says():
    path = ROOT / "examples" / "training" / "hugging_face.py"
    settings = os.environ | {"HF_HUB_OFFLINE": "1", "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, str(path)], capture_output=True, text=True, check=False, env=settings)
    assert done.returncode == 0, done.stderr
    *logged, last = done.stdout.splitlines()
    assert len(logged) > 20  # the loss of each step
    assert path.read_text(encoding="utf-8").endswith(f"# Output:\n# {last}\n")
