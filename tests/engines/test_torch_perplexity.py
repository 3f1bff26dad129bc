"""``seqloss.torch.Perplexity`` in two processes of torch.distributed: the same bits as in one."""

import json
import os
import pathlib
import subprocess
import sys

ROOT = pathlib.Path(__file__).parents[2]
PROGRAM = """
import json, sys
import torch
import seqloss

rank, size, store = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
if size > 1:
    torch.distributed.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=size)
generator = torch.Generator().manual_seed(4)
metric = seqloss.torch.Perplexity()
for batch, tokens in enumerate((3, 11, 1, 5)):
    logits, targets = torch.randn(1, tokens, 9, generator=generator), torch.zeros(1, tokens, dtype=torch.int32)
    if size == 1 or (rank == 0 and batch != 1) or (rank == 1 and batch == 1):
        metric.update(logits, targets)
found = {"own": float(metric.compute())}
for name in ("all", "again"):
    total = metric.all_reduce()
    found[name] = [float(total.compute()), total.sum().to_dict()]
found["still"] = float(metric.compute())
if size > 1:
    nothing = seqloss.torch.Perplexity()
    found["empty rank"] = (metric if rank == 0 else nothing).all_reduce().sum().to_dict()
    torch.distributed.destroy_process_group()
print(json.dumps(found))
"""


def run(size, store):
    """What each of so many processes has found."""
    settings = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    started = [
        subprocess.Popen(
            [sys.executable, "-W", "error", "-c", PROGRAM, str(rank), str(size), str(store)],
            env=settings,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(size)
    ]
    try:
        said = [process.communicate(timeout=120) for process in started]
    finally:
        for process in started:
            process.kill()
    assert [process.returncode for process in started] == [0] * size, said
    return [json.loads(out) for out, _ in said]


def test_two_processes_are_one(tmp_path):
    (alone,) = run(1, tmp_path / "none")
    first, second = run(2, tmp_path / "store")
    for found in (first, second):
        assert found["all"] == found["again"] == alone["all"]
        assert found["still"] == found["own"] != alone["own"]
    assert first["own"] != second["own"]
    assert first["empty rank"] == second["empty rank"] != alone["all"][1]
