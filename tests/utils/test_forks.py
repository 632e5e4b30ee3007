"""Tests that a forked child draws as its parent does, whatever the parent ran before."""

import multiprocessing

import pytest

from tests.support.helpers import slow
from tests.support.processes import run, script

SCRIPT = """
import multiprocessing, sys
import torch
import pixelsr

torch.set_num_threads(2)
what = sys.argv[1]
model = pixelsr.GatedPixelCNN(channels=32, layers=2, head_channels=32, levels=8).eval()


def draw(method):
    return pixelsr.sample(model, 2, image_size=(2, 2), method=method).tolist()


def child(queue):
    queue.put((torch.get_num_threads(), draw("cached"), draw("ancestral")))


if what == "sampled":
    draw("cached")
elif what == "multiplied":
    torch.randn(300, 300) @ torch.randn(300, 300)
context = multiprocessing.get_context("fork")
queue = context.Queue()
process = context.Process(target=child, args=(queue,))
process.start()
threads, cached, ancestral = queue.get(timeout=100)
process.join(10)
assert process.exitcode == 0
assert cached == draw("cached") and ancestral == draw("ancestral")
assert torch.get_num_threads() == 2
print(threads)
"""


@pytest.mark.skipif(
    "fork" not in multiprocessing.get_all_start_methods(), reason="this system does not fork"
)
@pytest.mark.parametrize("parent", ["sampled", slow("multiplied")])
def test_a_forked_child_draws_with_one_thread(parent):
    done = run(script, SCRIPT, parent, timeout=200)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "1\n"
