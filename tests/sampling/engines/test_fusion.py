"""Tests of steps fused for a GPU, and of tasks shared by the ranks of a cluster."""

import functools
import itertools

import pytest

import pixelsr
from pixelsr import sampling
from pixelsr.sampling.engines.cuda.cluster import Part, share
from pixelsr.sampling.engines.cuda.memory_layout import read, written
from pixelsr.sampling.engines.fusion import tasks
from pixelsr.sampling.plan import Pointwise, Product
from tests.support.networks import NETWORKS, RECURRENT, network
from tests.support.plans import make_plan


def test_every_gate_and_relu_of_a_gated_pixelcnn_is_joined_to_its_product():
    every = tasks(make_plan(network("GatedPixelCNN")))
    left = [task.step for task in every if isinstance(task.step, Pointwise)]
    assert {step.expression[0] for step in left} == {"sub"}  # the normalization of levels


def test_a_sum_that_nobody_else_reads_is_not_written():
    joined = [task for task in tasks(make_plan(network("GatedPixelCNN"))) if task.function]
    kept = {task.placed.when for task in joined if task.keeps}
    assert kept == {"row"}  # the links read the vertical stack's sums
    assert any(not task.keeps for task in joined if task.function == "gate")
    assert all(not task.keeps for task in joined if task.function == "relu")


@pytest.mark.parametrize("name", [*NETWORKS, *RECURRENT])
def test_each_step_is_done_once_and_what_is_read_has_been_written(name):
    plan = make_plan(network(name))
    every = tasks(plan)
    assert len(every) + sum(bool(task.function) for task in every) == len(plan.placed)
    spans = [span for task in every for span in written(task)]
    given = {plan.image, *plan.conditioning}
    for task in every:
        for span in read(task):
            assert span.buffer in given or any(span.overlaps(other) for other in spans)


# Clusters.


@functools.cache
def wide_plan():
    model = pixelsr.GatedPixelCNN(channels=64, layers=3, head_channels=600).eval()
    return sampling.plan(model, (4, 4))


def wide_tasks(when: str, color: int = 0):
    due = [task for task in tasks(wide_plan()) if task.placed.when == when]
    return [task for task in due if task.placed.color == color]


@pytest.mark.parametrize("cluster_size", [2, 4, 8])
@pytest.mark.parametrize("stage", [("left", 0), ("color", 0), ("color", 2)])
def test_members_do_each_tile_of_each_task_once(cluster_size, stage):
    due = wide_tasks(*stage)
    done: dict[int, list[tuple[int, int]]] = {}
    for work in share(due, cluster_size):
        for part in work:
            if part is not None:
                done.setdefault(id(part.task), []).append((part.first, part.first + part.tiles))
    for task in due:
        pieces = sorted(done[id(task)])
        assert pieces[0][0] == 0
        assert all(a[1] == b[0] for a, b in itertools.pairwise(pieces))
    assert len({sum(part is None for part in work) for work in share(due, cluster_size)}) == 1


@pytest.mark.parametrize("cluster_size", [2, 8])
@pytest.mark.parametrize("stage", [("left", 0), ("color", 1)])
def test_a_barrier_stands_between_members_that_write_and_read_the_same(cluster_size, stage):
    between: list[list[tuple[int, Part]]] = [[]]
    lists = [list(work) for work in share(wide_tasks(*stage), cluster_size)]
    while any(lists):  # all ranks, up to the next barrier
        for rank, work in enumerate(lists):
            while work and work[0] is not None:
                between[-1].append((rank, work.pop(0)))
            if work:
                work.pop(0)
        between.append([])
    assert max(len({rank for rank, _ in section}) for section in between) > 1
    for section in between:
        for rank, part in section:
            for other, before in section:
                same = other == rank or part.task is before.task
                spans = [(a, b) for a in written(before.task) for b in read(part.task)]
                assert same or not any(a.overlaps(b) for a, b in spans)


def test_a_chain_of_small_tasks_is_left_to_the_leader():
    small = [task for task in wide_tasks("color", 0) if not task.placed.logits_only]
    assert all(isinstance(task.step, Product) for task in small)
    leader, *others = share(small, 8)
    assert [part.task for part in leader] == small
    assert others == [[]] * 7
