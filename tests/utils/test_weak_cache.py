"""Tests of the cache of results for each object, and of the cache of engines' programs."""

import gc
import weakref
from types import SimpleNamespace

import pytest
from torch import nn

from pixelsr.sampling.engines import program_cache
from pixelsr.sampling.engines.program_cache import ProgramCache
from pixelsr.utils.weak_cache import weak_cache


class Owner:
    pass


def test_a_result_is_computed_once_for_each_owner_and_arguments():
    calls = []

    @weak_cache
    def function(owner, *args):
        calls.append(args)
        return len(calls)

    first, second = Owner(), Owner()
    assert [function(first, 1), function(first, 1), function(first, 2)] == [1, 1, 2]
    assert function(second, 1) == 3
    with pytest.raises(TypeError, match="function takes no keywords, got"):
        function(first, number=1)


def test_results_are_forgotten_with_their_owner():
    function = weak_cache(lambda owner: Owner())
    owner = Owner()
    result = weakref.ref(function(owner))
    assert result() is not None
    del owner
    gc.collect()
    assert result() is None


def test_a_program_is_packed_again_for_other_weights_plans_and_keys(monkeypatch):
    monkeypatch.setattr(program_cache, "bind", lambda plan, request: request)
    cache, model, packed = ProgramCache(), nn.Linear(1, 1), []
    plans = [Owner(), Owner()]

    def get(plan, number, key):
        request = SimpleNamespace(model=model, number=number)
        return cache.get(plan, request, key, lambda: packed.append(key) or len(packed))

    assert [get(plans[0], 0, "a"), get(plans[0], 0, "a")] == [1, 1]
    assert [get(plans[0], 0, "b"), get(plans[1], 0, "a"), get(plans[0], 0, "a")] == [2, 3, 1]
    assert get(plans[0], 1, "a") == 4  # programs of other weights are forgotten
    assert get(plans[0], 0, "a") == 5
    for key in "bcde":
        get(plans[0], 0, key)
    assert get(plans[0], 0, "a") == 10  # the latest four are kept
    assert get(plans[0], 0, "e") == 9
