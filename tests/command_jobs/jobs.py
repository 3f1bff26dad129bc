"""What workers are told to do in tests: each is an entry, and most end badly."""

import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from seqloss.commands import steps
from seqloss.core.errors import OptionError

HEART = "import sys, time\nwhile True:\n    open(sys.argv[1], 'a').write('.')\n    time.sleep(0.02)"


def echoes(framework, inputs, options):
    print("this is not the result")
    return {"framework": framework, "options": options}, {name: 2 * x for name, x in inputs.items()}


def exits(framework, inputs, options):
    print("last words", flush=True)
    os._exit(3)


def leaves(framework, inputs, options):
    sys.exit(options["status"])


def says_nothing(framework, inputs, options):
    os._exit(0)


def is_shot(framework, inputs, options):
    os.kill(os.getpid(), signal.SIGSEGV)


def hangs(framework, inputs, options):
    """With a child that hangs too, and is not waited for."""
    subprocess.Popen([sys.executable, "-S", "-c", HEART, options["heart"]])
    time.sleep(3600)


def tells(framework, inputs, options):
    """Steps that take half the limit each, and then nothing more."""
    for number in range(options["steps"]):
        time.sleep(options["seconds"])
        steps.tell({"number": number})
    if options["end"] == "hangs":
        time.sleep(3600)
    if options["end"] == "exits":
        os._exit(3)
    return {}, {}


def writes_garbage(framework, inputs, options):
    Path(sys.argv[1], options["file"]).write_bytes(options["content"].encode())
    if options["file"] == "arrays.npz":
        Path(sys.argv[1], "result.json").write_text('{"facts": {}}')
    os._exit(0)


def returns_what_json_cannot_hold(framework, inputs, options):
    return {"object": object()}, {}


def returns_objects(framework, inputs, options):
    return {}, {"x": np.array([object()])}


def writes_into_its_input(framework, inputs, options):
    inputs["x"][0] = 1
    return {}, {}


def refuses(framework, inputs, options):
    raise OptionError("not like this")


def reads_stdin(framework, inputs, options):
    return {"stdin": sys.stdin.read()}, {}


def holds_much(framework, inputs, options):
    """Has a child, a temporary folder and a file that is not whole yet; says when all are there, and hangs."""
    part = Path(options["part"])
    child = subprocess.Popen([sys.executable, "-S", "-c", HEART, options["heart"]])
    try:
        part.write_text("half of it")
        kept = tempfile.mkdtemp()
        while not os.path.exists(options["heart"]):
            time.sleep(0.01)
        Path(options["ready"]).write_text(f"{kept} {child.pid}")
        time.sleep(3600)
    finally:
        part.unlink()


def hears_nothing(framework, inputs, options):
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    time.sleep(3600)
