"""Tests of the backend that "auto" chooses, on a GPU that need not be present."""

import json
import types

import pytest
import torch

from benchmarks.suites.bench_masked_conv import SHAPES
from benchmarks.tools import fastest
from pixelsr import functional
from pixelsr.ops import backends
from pixelsr.ops.backends import GATE, LSTM, MASKED_CONV2D, PIXEL_CROSS_ENTROPY, choose

pytest.importorskip("triton")

PARTS = ("forward", "gradient to input", "gradient to weight")


@pytest.fixture
def on_a_gpu(monkeypatch):
    """Return a stand-in for a tensor on an H200."""
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "NVIDIA H200")
    properties = types.SimpleNamespace(major=9)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: properties)
    return types.SimpleNamespace(
        device=torch.device("cuda"), dtype=torch.bfloat16, is_floating_point=lambda: True
    )


@pytest.mark.parametrize(
    ("table", "chosen"),
    [
        ({}, "cropped"),
        ({"NVIDIA H100": {"masked_conv2d": "triton"}}, "cropped"),
        ({"NVIDIA H200": {"masked_conv2d": "cropped"}}, "cropped"),
        ({"NVIDIA H200": {"masked_conv2d": "triton"}}, "triton"),
    ],
    ids=str,
)
def test_a_convolution_is_triton_s_where_results_of_that_gpu_say_so(
    on_a_gpu, monkeypatch, table, chosen
):
    monkeypatch.setattr(backends, "_FASTEST", table)
    assert choose("auto", MASKED_CONV2D, on_a_gpu) == chosen
    assert choose("triton", MASKED_CONV2D, on_a_gpu) == "triton"


@pytest.mark.parametrize("operator", [GATE, PIXEL_CROSS_ENTROPY, LSTM])
def test_other_operators_are_triton_s_on_every_gpu(on_a_gpu, monkeypatch, operator):
    monkeypatch.setattr(backends, "_FASTEST", {})
    assert choose("auto", operator, on_a_gpu) == "triton"


def test_the_table_is_read_while_a_graph_is_traced(monkeypatch):
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "a GPU")
    monkeypatch.setattr(backends, "_FASTEST", {"a GPU": {"masked_conv2d": "triton"}})

    def run(x):
        return x + 1 if backends.fastest("masked_conv2d", x.device) == "triton" else x - 1

    compiled = torch.compile(run, fullgraph=True, backend="eager")
    assert compiled(torch.ones(())) == 2


def test_the_gate_behind_a_convolution_is_chosen_by_itself(monkeypatch):
    asked = []
    monkeypatch.setattr(functional.convolution, "gate", lambda x: asked.append(x) or x)
    x, weight = torch.randn(1, 3, 4, 4), torch.randn(6, 3, 3, 3)
    _, y = functional.masked_conv2d_gate(x, weight, mask_type="A")
    assert asked[0] is y
    functional.masked_conv2d_gate(x, weight, mask_type="A", backend="cropped")
    assert len(asked) == 1, "a backend that is named is all that runs"


def results(triton=1.0, cropped=2.0, error=0.004, shapes=SHAPES):
    return [
        {
            "step": "convolutions",
            "commit": "abc",
            "device": "NVIDIA H200",
            "what": part,
            "layer": list(layer),
            "dtype": "bfloat16",
            "seconds": {"dense": 3.0, "triton": triton, "cropped": cropped},
            "from_dense": {"dense": 0.0, "triton": error, "cropped": 0.004},
        }
        for layer in shapes
        for part in PARTS
    ]


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        (results(), "triton"),
        (results(triton=2.1), "cropped"),
        (results(error=0.3), "cropped"),
        (results(error=float("nan")), "cropped"),
    ],
    ids=["faster", "slower", "wrong", "NaN"],
)
def test_results_write_the_table(tmp_path, lines, expected):
    file, table = tmp_path / "gpu.jsonl", tmp_path / "fastest.json"
    table.write_text('{"another": {"masked_conv2d": "triton"}}')
    old = [{**line, "commit": "old", "seconds": {"triton": 9, "cropped": 0}} for line in results()]
    other = [{"step": "build", "commit": "abc", "device": "NVIDIA H200", "ended": "done"}]
    file.write_text("".join(json.dumps(line) + "\n" for line in [*old, *lines, *other]))
    fastest.main(file, table)
    found = json.loads(table.read_text())
    assert found == {
        "another": {"masked_conv2d": "triton"},
        "NVIDIA H200": {"masked_conv2d": expected},
    }


def test_half_of_the_results_write_nothing(tmp_path):
    file, table = tmp_path / "gpu.jsonl", tmp_path / "fastest.json"
    table.write_text("{}")
    lines = results(shapes=SHAPES[1:])
    file.write_text("".join(json.dumps(line) + "\n" for line in lines))
    with pytest.raises(SystemExit, match="3 of 21 parts of layers were not measured"):
        fastest.main(file, table)
    assert table.read_text() == "{}"
