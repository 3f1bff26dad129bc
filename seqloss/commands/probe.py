"""A look at one framework, in a process of its own. NumPy must not be imported before it: its time counts too."""

import importlib
import math
import time
from collections.abc import Callable
from typing import Any

from seqloss.commands import backends

Module = Any
Facts = dict[str, Any]


def probe(framework: str, inputs: dict[str, Any], options: dict[str, Any]) -> tuple[Facts, dict[str, Any]]:
    """Facts about the framework, and whether its backend gives the loss of two tokens."""
    started = time.perf_counter()
    module = importlib.import_module(framework)
    seconds = time.perf_counter() - started
    loss = _loss(framework)
    facts = {
        "version": backends.version(framework),
        "import_seconds": seconds,
        "loss": loss,
        "works": abs(loss - math.log(2)) < 1e-6,
        "devices": [],
        "threads": "-",
        "settings": {},
    }
    return {**facts, **_MORE.get(framework, _nothing)(module)}, {}


def _loss(framework: str) -> float:
    import numpy as np

    import seqloss
    from seqloss.core import dispatch

    backend = dispatch.load(framework)
    logits, targets = backend.asarray(np.zeros((1, 2, 2), np.float32)), backend.asarray(np.array([[0, 1]], np.int32))
    return float(backend.to_numpy(seqloss.sequence_loss(logits, targets)))


def _nothing(module: Module) -> Facts:
    return {}


def _numpy(numpy: Module) -> Facts:
    from seqloss.backends.numpy import library, threads

    return {"devices": ["cpu"], "threads": threads.allowed(), "settings": {"kernels": str(library.found())}}


def _torch(torch: Module) -> Facts:
    devices = ["cpu"]
    if torch.cuda.is_available():
        count = torch.cuda.device_count()
        devices += [f"cuda:{i} ({torch.cuda.get_device_name(i)})" for i in range(count)]
    mps = getattr(torch.backends, "mps", None)
    if mps is not None and mps.is_available():
        devices.append("mps")
    precision = torch.get_float32_matmul_precision()
    default = str(torch.get_default_dtype()).removeprefix("torch.")
    settings = {"default dtype": default, "matmul precision": precision}
    return {"devices": devices, "threads": torch.get_num_threads(), "settings": settings}


def _tensorflow(tensorflow: Module) -> Facts:
    config = tensorflow.config
    devices = [device.name.removeprefix("/physical_device:").lower() for device in config.list_physical_devices()]
    threads = config.threading.get_intra_op_parallelism_threads()
    settings = {"eager": tensorflow.executing_eagerly(), "onednn": _onednn()}
    return {"devices": devices, "threads": threads or "auto", "settings": settings}


def _onednn() -> str:
    import os

    return {"0": "off", "1": "on"}.get(os.environ.get("TF_ENABLE_ONEDNN_OPTS", ""), "default")


def _jax(jax: Module) -> Facts:
    devices = [f"{device.platform}:{device.id} ({device.device_kind})" for device in jax.devices()]
    names = {"x64": "jax_enable_x64", "matmul precision": "jax_default_matmul_precision"}
    found = {name: getattr(jax.config, attribute, "unknown") for name, attribute in names.items()}
    settings = {name: "default" if value is None else value for name, value in found.items()}
    return {"devices": devices, "threads": "auto", "settings": settings}


_MORE: dict[str, Callable[[Module], Facts]] = {
    "numpy": _numpy,
    "torch": _torch,
    "tensorflow": _tensorflow,
    "jax": _jax,
}
