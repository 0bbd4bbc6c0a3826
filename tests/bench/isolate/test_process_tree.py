"""CPU seconds of a tree of processes, read from outside."""

import subprocess
import sys

import pytest

from fastkernels.bench.isolate import process_tree

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="/proc and process clocks are Linux's")

SPIN = "import time\ndef spin():\n    end = time.thread_time() + 0.2\n    while time.thread_time() < end: pass\n"
SAY = "print('done', flush=True)\ninput()\n"
WAYS = {
    "itself": SPIN + "spin()\n" + SAY,
    "a dead thread": SPIN + "import threading\nt = threading.Thread(target=spin); t.start(); t.join()\n" + SAY,
    "a reaped child": SPIN + "import os\nif os.fork() == 0:\n    spin()\n    os._exit(0)\nos.wait()\n" + SAY,
    "a living grandchild": SPIN + """import os, signal
read, write = os.pipe()
if os.fork() == 0:
    if os.fork() == 0:
        spin()
        os.write(write, b'x')
    signal.pause()
os.read(read, 1)
""" + SAY,
}


@pytest.mark.parametrize("way", WAYS)
def test_work_counts_wherever_the_tree_does_it(way):
    process = subprocess.Popen([sys.executable, "-c", WAYS[way]], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    try:
        assert process.stdout.readline() == b"done\n"
        assert 0.19 <= process_tree.cpu_s(process.pid) < 1.0
        assert process_tree.cpu_s(process.pid) >= 0.19
    finally:
        for pid in reversed(process_tree.members(process.pid)):
            subprocess.run(["kill", "-9", str(pid)], check=False)
        process.communicate()


def test_an_idle_tree_uses_nothing_and_a_dead_one_counts_nothing():
    process = subprocess.Popen([sys.executable, "-c", SAY], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert process.stdout.readline() == b"done\n"
    before = process_tree.cpu_s(process.pid)
    assert process_tree.cpu_s(process.pid) - before < 0.002
    process.communicate(b"\n")
    assert process_tree.cpu_s(process.pid) == 0.0
