"""Tests that every shipped configuration of the training kernels compiles for two GPUs."""

import itertools

import pytest

pytest.importorskip("triton")
from pixelsr.kernels.configs import GATED, GRAD_WEIGHT, HALF, IEEE, LSTM, LSTM_GRAD, PRODUCTS, TF32
from tests.support.aot import MOST_SHARED, Job, resources_of
from tests.support.helpers import slow

DTYPES = {HALF: ("bf16", "fp16"), TF32: ("fp32",), IEEE: ("fp32",)}
PLACES = {"pixels": "i64", "height": "i32", "width": "i32"}
CHANNELS = {"in_channels": "i32", "out_channels": "i32"}
STRIDES = dict.fromkeys(("x_n", "x_h", "x_w"), "i64")


def product_job(config, precision, dtype, lanes, gated, capability, index="int32"):
    pointers = ("x_ptr", "weight_ptr", "bias_ptr", "add_ptr", "out_ptr", "gated_ptr")
    signature = dict.fromkeys(pointers, f"*{dtype}")
    signature |= {"table_ptr": "*i32", "first_ptr": "*i32", **PLACES, **CHANNELS, **STRIDES}
    constexprs = {
        "HAS_BIAS": True,
        "HAS_ADD": True,
        "GATED": gated,
        **_blocks(config, precision, lanes, index),
    }
    return _job("_masked_conv2d_kernel", signature, constexprs, capability, config, lanes)


def grad_weight_job(config, precision, dtype, lanes, capability, index="int32"):
    signature = {"x_ptr": f"*{dtype}", "grad_ptr": f"*{dtype}", "partial_ptr": "*fp32"}
    signature |= {"table_ptr": "*i32", "owner_ptr": "*i32", "entries": "i32"}
    signature |= {"tiles_a_split": "i32", **PLACES, **CHANNELS, **STRIDES}
    constexprs = _blocks(config, precision, lanes, index)
    kernel = "_masked_conv2d_grad_weight_kernel"
    return _job(kernel, signature, constexprs, capability, config, lanes)


def _blocks(config, precision, lanes, index):
    return {
        "LANES": lanes,
        "BLOCK_P": config.pixels,
        "BLOCK_OUT": config.out,
        "BLOCK_IN": config.inputs,
        "INDEX": index,
        "PRECISION": "tf32" if precision == TF32 else "ieee",
    }


def _job(kernel, signature, constexprs, capability, config, lanes):
    """Return the kernel as launched for 32x32 images and 64 channels; a first layer has 3."""
    odd = {"entries", "tiles_a_split"}
    odd |= {"in_channels", "x_n", "x_h", "x_w"} if lanes else set()
    return Job(
        "pixelsr.kernels.masked_conv2d.convolution",
        kernel,
        signature,
        constexprs,
        capability,
        config.warps,
        config.stages,
        tuple(name for name in signature if name not in odd),
    )


def jobs(capability):
    for (precision, kind), config in PRODUCTS.items():
        for dtype in DTYPES[precision]:
            name = f"{precision} {kind} {dtype}"
            yield (
                name,
                precision,
                product_job(config, precision, dtype, kind == "lanes", False, capability),
            )
    for (precision, kind), config in GATED.items():
        dtype = DTYPES[precision][0]
        name = f"gated {precision} {kind} {dtype}"
        yield (
            name,
            precision,
            product_job(config, precision, dtype, kind == "lanes", True, capability),
        )
    for (precision, kind), config in GRAD_WEIGHT.items():
        for dtype in DTYPES[precision]:
            name = f"grad weight {precision} {kind} {dtype}"
            yield (
                name,
                precision,
                grad_weight_job(config, precision, dtype, kind == "lanes", capability),
            )


@pytest.mark.parametrize("capability", [slow(80), 90])
def test_every_configuration_compiles_to_matrix_instructions_without_spills(capability):
    names, precisions, made = zip(*jobs(capability), strict=True)
    for name, precision, used in zip(names, precisions, resources_of(made), strict=True):
        assert used["STACK"] == used["LOCAL"] == 0, f"{name} spills: {used}"
        assert used["SHARED"] <= MOST_SHARED[capability], f"{name}: {used}"
        assert used["ASYNC"] > 0, f"{name} waits for each load: {used}"
        matrix = used["MMA"] + used["WGMMA"]
        assert (matrix > 0) == (precision != IEEE), f"{name}: {used}"
        if capability == 90 and precision == HALF and "grad weight half lanes" not in name:
            assert used["WGMMA"] > 0, f"{name} is on a slower path: {used}"


def test_all_that_can_be_large_is_addressed_by_64_bits():
    """Check that large tensors are addressed by 64 bits.

    Weights, biases and tables are small; a feature map may have more than 2^31 values.
    """
    outputs = {"x_ptr", "add_ptr", "out_ptr"}
    large = [outputs, {*outputs, "gated_ptr"}, {"x_ptr", "grad_ptr", "partial_ptr"}]
    forward = product_job(PRODUCTS[HALF, "wide"], HALF, "bf16", False, False, 90, "int64")
    gated = product_job(GATED[HALF, "wide"], HALF, "bf16", False, True, 90, "int64")
    weight = grad_weight_job(GRAD_WEIGHT[HALF, "wide"], HALF, "bf16", False, 90, "int64")
    for names, used in zip(large, resources_of([forward, gated, weight]), strict=True):
        assert names <= set(used["WIDE"])
        assert not {"table_ptr", "weight_ptr"} & set(used["WIDE"])
        assert used["STACK"] == used["LOCAL"] == 0


@pytest.mark.parametrize("capability", [slow(80), 90])
def test_the_gate_compiles_without_spills(capability):
    pointers = ("x_ptr", "out_ptr", "grad_ptr", "add_ptr")
    signature = {**dict.fromkeys(pointers, "*bf16"), "channels": "i32", "count": "i64"}
    forward = {
        name: kind for name, kind in signature.items() if name not in ("grad_ptr", "add_ptr")
    }
    made = [
        Job(
            "pixelsr.kernels.gate",
            kernel,
            types,
            {"BLOCK": 1024, **flags},
            capability,
            aligned=tuple(types),
        )
        for kernel, types, flags in (
            ("_gate_kernel", forward, {}),
            ("_gate_grad_kernel", signature, {"HAS_ADD": True}),
        )
    ]
    for used in resources_of(made):
        assert used["STACK"] == used["LOCAL"] == 0
        assert used["REG"] <= 64
        assert {"x_ptr", "out_ptr"} <= set(used["WIDE"])


SHARE = dict.fromkeys(("samples", "works", "first_wavefront", "last_wavefront"), "i32")


def lstm_job(config, precision, dtype, diagonal, capability):
    given = ("gates_ptr", "weight_ptr", "initial_ptr", "hidden_ptr", "activations_ptr")
    signature = dict.fromkeys(given, f"*{dtype}")
    signature |= {"edge_ptr": "*fp32", "cell_ptr": "*fp32", "edge_state": "i32"}
    signature |= dict.fromkeys(("gates_n", "gates_h", "gates_w"), "i64")
    signature |= dict.fromkeys(("cell_n", "cell_h", "cell_w"), "i64")
    return _lstm_job(
        "forward", "lstm", signature, {"KEEP": True}, config, precision, diagonal, capability
    )


def lstm_grad_job(config, precision, dtype, diagonal, capability):
    given = ("grad_ptr", "weight_ptr", "initial_ptr", "activations_ptr", "grad_gates_ptr")
    signature = dict.fromkeys(given, f"*{dtype}")
    signature |= {"cell_ptr": "*fp32", "of_cell_ptr": "*fp32", "states": "i32"}
    signature |= dict.fromkeys(("grad_n", "grad_h", "grad_w"), "i64")
    return _lstm_job(
        "backward", "lstm_grad", signature, {}, config, precision, diagonal, capability
    )


def _lstm_job(module, name, signature, flags, config, precision, diagonal, capability):
    """Return the kernel as launched for 32x32 images and the paper's 128 channels."""
    signature |= dict.fromkeys(("batch", "height", "width", "channels", "taps", "border"), "i32")
    constexprs = {
        **flags,
        **_blocks(config, precision, None, None),
        "DIAGONAL": diagonal,
        "REVERSE": diagonal,
        "OPERANDS": signature["weight_ptr"][1:],
    }
    return Job(
        f"pixelsr.kernels.lstm.{module}",
        f"_{name}_kernel",
        signature | SHARE,
        {key: value for key, value in constexprs.items() if value is not None},
        capability,
        config.warps,
        config.stages,
        tuple(name for name in signature if name not in ("taps", "border")),
    )


def lstm_jobs(capability):
    for make, table in ((lstm_job, LSTM), (lstm_grad_job, LSTM_GRAD)):
        for (precision, way), config in table.items():
            for dtype, diagonal in itertools.product(DTYPES[precision], (False, True)):
                kind = "diagonal" if diagonal else "row"
                name = f"{make.__name__} {way} {kind} {precision} {dtype}"
                yield name, precision, make(config, precision, dtype, diagonal, capability)


def hard(name):
    """Return True for some jobs, of every kernel and kind, where registers are scarce."""
    return "alone row half bf16" in name or "wavefront diagonal half bf16" in name


@pytest.mark.parametrize(
    ("capability", "chosen"),
    [
        (80, hard),
        (90, hard),
        (90, lambda name: "alone row tf32" in name or "alone row ieee" in name),
        *(pytest.param(some, lambda _: True, marks=pytest.mark.slow) for some in (80, 90)),
    ],
    ids=["80", "90", "float32", "all-80", "all-90"],
)
def test_the_recurrences_compile_to_matrix_instructions_without_spills(capability, chosen):
    jobs = [job for job in lstm_jobs(capability) if chosen(job[0])]
    names, precisions, made = zip(*jobs, strict=True)
    large = {"activations_ptr", "cell_ptr"}
    for name, precision, used in zip(names, precisions, resources_of(made), strict=True):
        assert used["STACK"] == used["LOCAL"] == 0, f"{name} spills: {used}"
        assert used["SHARED"] <= MOST_SHARED[capability], f"{name}: {used}"
        assert used["ASYNC"] > 0, f"{name} waits for each load: {used}"
        assert (used["MMA"] + used["WGMMA"] > 0) == (precision != IEEE), f"{name}: {used}"
        if capability == 90 and precision == HALF:
            assert used["WGMMA"] > 0, f"{name} is on a slower path: {used}"
        others = {"of_cell_ptr", "grad_gates_ptr", "grad_ptr"}
        others = others if "grad" in name else {"gates_ptr", "hidden_ptr"}
        assert large | others <= set(used["WIDE"]), name
