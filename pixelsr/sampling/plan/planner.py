"""Makes the plan of a model: gives every channel its stage and lays down the steps."""

import operator
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, cast

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, fx, nn

from pixelsr import functional
from pixelsr.errors import PlanError
from pixelsr.nn import GatedMaskedConv2d, MaskedConv2d

from .ir import ROW, Buffer, Placed, Plan, Prefill, Product, Span, Step
from .lowering import Emitter
from .pointwise import BY_FORM, PointwiseOp
from .recurrence import StateToState, emit_diagonal_bilstm, emit_row_lstm
from .symbolic import (
    BoolArray,
    Channel,
    Convolution,
    Deferred,
    PointwiseValue,
    Sum,
    Value,
    broadcast,
    common_padding,
    cut,
    runs,
    shifted,
)
from .trace import (
    UNPLANNED,
    argument,
    depends_on,
    describe,
    extract,
    logits_layout,
    needed,
    placeholders,
    reads_of,
    run_conditioning,
    trace,
)

_CHANNELS = (1, -3)  # the dimension of a feature map's channels


class Planner:
    """Walks the graph; each node becomes a value, or is put off until its reader is known."""

    def __init__(
        self,
        model: nn.Module,
        image_size: tuple[int, int],
        low_res_size: tuple[int, int] | None,
        graph: fx.Graph | None = None,
    ) -> None:
        self.model, self.image_size, self.low_res_size = model, image_size, low_res_size
        self.graph = graph or trace(model, low_res_size is not None)
        self.modules = dict(model.named_modules())
        self.parameters = {
            **dict(model.named_parameters(remove_duplicate=False)),
            **dict(model.named_buffers(remove_duplicate=False)),
        }
        self.emitter = Emitter()
        self.results: dict[fx.Node, Deferred] = {}
        self.image, *rest = placeholders(self.graph)
        self.low_res = rest[0] if low_res_size is not None else None
        self.by_image = depends_on(self.graph, self.image)
        self.behind_logits = _behind_logits(self.graph)
        self.colors, self.levels = logits_layout(self.graph)
        said = getattr(model, "colors", self.colors), getattr(model, "levels", self.levels)
        if said != (self.colors, self.levels):
            raise PlanError(
                f"the model says that it has {said[0]} colors and {said[1]} levels, "
                f"its logits have {self.colors} and {self.levels}"
            )

    def run(self) -> Plan:
        channels = tuple(Channel(self.image.name, c, c + 1, "") for c in range(self.colors))
        self.emitter.buffers[self.image.name] = Buffer(
            self.image.name, self.image, tuple(range(self.colors))
        )
        self.results[self.image] = Value(channels)
        for node in self.by_image - {self.image}:
            if node.op != "output":
                self._kind(node)
        conditioning_features, values = self._conditioning()
        for node in self.graph.nodes:
            if node.op == "output":
                return self._finish(node, conditioning_features, values)
            if node in self.by_image and node is not self.image:
                self.results[node] = self._planned(node)
        raise PlanError(f"{type(self.model).__name__} returns nothing")

    # The conditioning features: whatever does not depend on the image that is drawn.

    def _conditioning(self) -> tuple[fx.GraphModule | None, tuple[str, ...]]:
        parameters = _parameters_of_leaves(self.graph)
        border = [
            node
            for node in self.graph.nodes
            if node not in self.by_image
            and node is not self.low_res
            and node not in parameters
            and any(user in self.by_image or user.op == "output" for user in node.users)
        ]
        if not border:
            return None, ()
        inputs = [self.low_res] if self.low_res is not None else []
        stage = extract(self.model, self.graph, inputs, border)
        for node, value in zip(border, self._try(stage), strict=True):
            height, count, width, size = value.shape
            if count > 1:
                raise PlanError(f"{node.name} holds {count} feature maps for one small image")
            padding = None if width == 1 else width - self.image_size[1]
            if height not in (1, self.image_size[0]) or (padding is not None and padding < 0):
                raise PlanError(
                    f"the small image gives features ({node.name}) of {height} x {width} pixels "
                    f"for images of {self.image_size[0]} x {self.image_size[1]}"
                )
            self.results[node] = self.emitter.allocate(node, [ROW] * size, [""] * size, padding)
        return stage, tuple(node.name for node in border)

    def _try(self, stage: fx.GraphModule) -> tuple[Tensor, ...]:
        """Run the conditioning features once, to learn how many channels its values have."""
        if self.low_res_size is None:
            return run_conditioning(stage, None)
        parameter = next(self.model.parameters())
        shape = (1, self.colors, *self.low_res_size)
        zeros = torch.zeros(shape, dtype=torch.uint8, device=parameter.device)
        return run_conditioning(stage, zeros)

    # One node of the graph.

    def _kind(self, node: fx.Node) -> Any:
        """Return the kind of a node: a key of `_LEAVES` or `BY_FORM`.

        Raises:
            PlanError: something else; the message names it.
        """
        kind: Any = node.target
        if node.op == "call_module":
            module = self.modules[kind]
            if module._forward_hooks or module._forward_pre_hooks:
                raise PlanError(
                    f"layer {kind} has hooks, which the cached sampler cannot run; "
                    'method="ancestral" runs them'
                )
            is_dropout = isinstance(module, nn.Dropout | nn.Dropout2d) and not module.training
            kind = nn.Identity if is_dropout else type(module)
            kind = nn.Conv2d if isinstance(module, nn.Conv2d) else kind
        if kind in (nn.Dropout, nn.Dropout2d):
            raise PlanError(
                f"layer {node.target} drops features at random; call model.eval() first"
            )
        if kind not in _LEAVES and kind not in BY_FORM:
            raise PlanError(
                f"the cached sampler does not know {describe(node, self.modules)}; "
                'method="ancestral" samples any causal model'
            )
        return kind

    def _planned(self, node: fx.Node) -> Deferred:
        try:
            return self._visit(node)
        except PlanError:
            raise
        except UNPLANNED as error:
            raise PlanError(
                f"{describe(node, self.modules)} cannot be planned as it is called ({error}); "
                'method="ancestral" samples any causal model'
            ) from error

    def _visit(self, node: fx.Node) -> Deferred:
        kind = self._kind(node)
        if kind in _BY_CHANNEL and node in self.behind_logits:
            raise PlanError(
                f"{describe(node, self.modules)} behind functional.to_logits cannot be planned; "
                "only pointwise functions can follow it"
            )
        if kind in _LEAVES:
            return self._done(node, _LEAVES[kind](self, node))
        return self._done(node, self._pointwise(node, BY_FORM[kind]))

    def _done(self, node: fx.Node, value: Deferred) -> Deferred:
        """Put off what is read once; place what is read several times."""
        return value if reads_of(node) == 1 else self.emitter.place(value, node)

    def _placed(self, node: fx.Node) -> Value:
        value = self.results[node] = self.emitter.place(self.results[node], node)
        return value

    def _convolution(self, node: fx.Node) -> Deferred:
        own, add = self._own_products(node), argument(node, 1, "add")
        return own if add is None else _accumulated(own, self._term(add))

    def _own_products(self, node: fx.Node) -> Sum:
        name = str(node.target)
        layer = cast("nn.Conv2d", self.modules[name])
        if layer.stride != (1, 1) or layer.groups != 1 or layer.padding_mode != "zeros":
            raise PlanError(f"layer {name}: stride, groups and padding modes cannot be planned")
        (kh, kw), (dh, dw) = layer.kernel_size, layer.dilation
        if kh % 2 == 0 or kw % 2 == 0:
            raise PlanError(f"layer {name} has an even kernel, {layer.kernel_size}, without center")
        padding = (0, 0) if layer.padding == "valid" else layer.padding
        if padding != "same" and padding != (dh * (kh // 2), dw * (kw // 2)):
            raise PlanError(f"layer {name} changes the size of its input: padding {layer.padding}")
        source = self._placed(node.all_input_nodes[0])
        if (kh, kw) != (1, 1):
            source = self._among_zeros(source, node)
        if len(source.channels) != layer.in_channels:
            raise PlanError(
                f"layer {name} expects {layer.in_channels} channels, got {len(source.channels)}"
            )
        convolution = Convolution(
            name,
            source,
            _live_taps(layer),
            tuple(dh * (row - kh // 2) for row in range(kh)),
            tuple(dw * (col - kw // 2) for col in range(kw)),
            layer.bias is not None,
        )
        return Sum((convolution,), ())

    def _is_image(self, operand: Any) -> bool:
        """Return True if this is the image itself, in 8 bits, or a part of it."""
        if operand is self.image or not isinstance(operand, fx.Node):
            return operand is self.image
        same = operand.target in (F.pad, operator.getitem, torch.cat, torch.chunk, "chunk")
        return same and any(map(self._is_image, operand.all_input_nodes))

    def _pointwise(self, node: fx.Node, ops: tuple[PointwiseOp, ...]) -> Deferred:
        """Return the pointwise function of a node, with its options as the last operands."""
        module = self.modules.get(str(node.target)) if node.op == "call_module" else None
        op = _variant(ops, module, node.kwargs)
        operands = None if op is None else _operands(op, module, node)
        if op is None or operands is None:
            raise PlanError(f"{describe(node, self.modules)} with options cannot be planned")
        if any(map(self._is_image, operands)) and op.name != "div":
            raise PlanError(
                f"{describe(node, self.modules)} on uint8 images would wrap around; "
                "make them features first, by functional.normalize_images or .float()"
            )
        if op.name == "add" and all(isinstance(operand, fx.Node) for operand in operands):
            return self._add(*operands)
        return self._pointwise_value(op.name, operands)

    def _add(self, a: Any, b: Any) -> Deferred:
        """A sum in which convolutions take part is accumulated in one buffer."""
        if not any(isinstance(self.results[node], Sum) for node in (a, b)):
            return self._pointwise_value("add", [a, b])
        return _accumulated(self._term(a), self._term(b))

    def _term(self, node: fx.Node) -> Sum | Value:
        term = self.results[node]
        return term if isinstance(term, Sum) else self._placed(node)

    def _pointwise_value(self, opcode: str, operands: list[Any]) -> PointwiseValue:
        """An expression of the operands, taking over those that are formulas themselves."""
        args: list[Value] = []
        parts: list[Any] = []
        for operand in operands:
            if not isinstance(operand, fx.Node):
                parts.append(("const", float(operand)))
                continue
            value = self.results[operand]
            if isinstance(value, PointwiseValue):
                parts.append(shifted(value.expression, len(args)))
                args += value.args
            else:
                parts.append(("arg", len(args)))
                args.append(self._placed(operand))
        width = max(len(arg.channels) for arg in args)
        return PointwiseValue((opcode, *parts), tuple(broadcast(arg, width) for arg in args))

    # The leaves of `functional` and the shape functions.

    def _normalize_images(self, node: fx.Node) -> Deferred:
        levels = argument(node, 2, "levels")
        scaled = self._pointwise_value("mul", [node.all_input_nodes[0], 2 / (levels - 1)])
        return PointwiseValue(("sub", scaled.expression, ("const", 1.0)), scaled.args)

    def _gate(self, node: fx.Node) -> Deferred:
        source = self._placed(node.all_input_nodes[0])
        if len(source.channels) % 2:
            raise PlanError(f"{node.name} cuts {len(source.channels)} channels in two halves")
        a, b = cut(source, 2)
        return PointwiseValue(("mul", ("tanh", ("arg", 0)), ("sigmoid", ("arg", 1))), (a, b))

    def _prelu(self, node: fx.Node) -> Deferred:
        """Return ``max(0, x) + weight * min(0, x)``, where the weight is a constant feature map."""
        source = self._placed(node.all_input_nodes[0])
        name = f"{node.target}.weight"
        if node.op != "call_module":
            weight = argument(node, 1, "weight")
            name = str(weight.target) if isinstance(weight, fx.Node) else ""
            if name not in self.parameters:
                raise PlanError(f"{node.name}: its weight must be a parameter or a buffer")
        count, width = self.parameters[name].numel(), len(source.channels)
        if count not in (1, width):
            raise PlanError(f"{node.name} has {count} weights for {width} channels")
        channels = list(range(width)) if count > 1 else [0] * width
        slope = self.emitter.constant(node, f"{node.name}.weight", name, channels)
        return PointwiseValue(("leaky_relu", ("arg", 0), ("arg", 1)), (source, slope))

    def _pass(self, node: fx.Node) -> Deferred:
        return self.results[node.all_input_nodes[0]]

    def _chunk(self, node: fx.Node) -> Deferred:
        return self._placed(node.all_input_nodes[0])

    def _getitem(self, node: fx.Node) -> Deferred:
        source, index = cast("tuple[Any, Any]", node.args)
        if index == (Ellipsis, slice(None, -1)):
            return self._cropped(self._placed(source))
        if self._is_gated(source) and index == 1:
            return self._pass(node)  # the features before the gate, see `trace._show_gates`
        if source.target in (torch.chunk, "chunk") and isinstance(index, int):
            dim = argument(source, 2, "dim", 0)
            if dim not in _CHANNELS:
                raise PlanError(f"chunk along dimension {dim}; only channels (1) can be cut")
            return cut(self._placed(source), argument(source, 1, "chunks"))[index]
        chosen = _channel_slice(index)
        if chosen is None:
            raise PlanError(
                f"the cached sampler does not know the indexing {source}[{_written(index)}]; "
                "only slices of channels, x[:, a:b], can be planned; "
                'method="ancestral" samples any causal model'
            )
        value = self._placed(source)
        channels = value.channels[chosen]
        if not channels:
            raise PlanError(f"{source}[{_written(index)}] chooses no channel")
        return replace(value, channels=channels)

    def _is_gated(self, node: fx.Node) -> bool:
        return isinstance(self.modules.get(str(node.target)), GatedMaskedConv2d)

    def _cat(self, node: fx.Node) -> Deferred:
        dim = argument(node, 1, "dim", 0)
        if dim not in _CHANNELS:
            raise PlanError(f"cat along dimension {dim}; only channels (1) can be joined")
        parts = argument(node, 0, "tensors")
        if isinstance(parts, fx.Node):
            raise PlanError(f"cat of {parts}, which is not written as a list of feature maps")
        values = [self._placed(part) for part in parts]
        channels = tuple(channel for value in values for channel in value.channels)
        return Value(channels, common_padding(values))

    # Columns beyond the image: those of margins, which are zero where nothing has written.

    def _pad(self, node: fx.Node) -> Deferred:
        source = self._among_zeros(self._placed(node.all_input_nodes[0]), node)
        left, right, *others = argument(node, 1, "pad")
        plain = argument(node, 2, "mode", "constant") == "constant"
        if left or right < 0 or any(others) or not plain or argument(node, 3, "value"):
            raise PlanError(
                f"{describe(node, self.modules)}: only columns of zeros on the right can be planned"
            )
        return replace(source, padding=(source.padding or 0) + right)

    def _cropped(self, source: Value) -> Value:
        if source.padding == 0:
            raise PlanError("the last column of the image is cut off, expected one of padding")
        return replace(source, padding=(source.padding or 0) - 1)

    def _among_zeros(self, source: Value, node: fx.Node) -> Value:
        """A map as one that has zeros around it.

        Beside a cropped map stand the columns that were cut off, beside hidden states may stand the
        initial one: what reads there reads a copy.
        """
        buffers = [self.emitter.buffers[channel.buffer] for channel in source.channels]
        if any(b.initial or b.padding > (source.padding or 0) for b in buffers):
            copy = PointwiseValue(("arg", 0), (source,))
            return self.emitter.place(copy, node, f"{node.name}.source")
        return source

    # Recurrences.

    def _row_lstm(self, node: fx.Node) -> Deferred:
        gates, states = self._gates(node), self._states(node, 1, "weight", "initial_state")
        return emit_row_lstm(self.emitter, node, gates, states, self.image_size[1])

    def _diagonal_bilstm(self, node: fx.Node) -> Deferred:
        gates = self._gates(node)
        left = self._states(node, 1, "weight", "initial_state")
        right = self._states(node, 3, "weight_reverse", "initial_state_reverse")
        width = self.image_size[1]
        maps = emit_diagonal_bilstm(self.emitter, node, gates, left, right, width)
        return PointwiseValue(("add", ("arg", 0), ("arg", 1)), maps)

    def _gates(self, node: fx.Node) -> Sum:
        term = self._term(argument(node, 0, "gates"))
        return term if isinstance(term, Sum) else Sum((), (term,))

    def _states(self, node: fx.Node, place: int, *names: str) -> StateToState:
        """The parameters of one direction, given from a place on, or by name."""
        weight, initial = (argument(node, place + i, name) for i, name in enumerate(names))
        if {"get_attr"} != {getattr(operand, "op", None) for operand in (weight, initial)}:
            raise PlanError(f"{node.name}: its weights and initial states must be parameters")
        taps = operator.attrgetter(weight.target)(self.model).shape[2]
        return StateToState(weight.target, initial.target, taps)

    # The end.

    def _finish(
        self, output: fx.Node, stage: fx.GraphModule | None, values: tuple[str, ...]
    ) -> Plan:
        result = output.args[0]
        if not isinstance(result, fx.Node):
            raise PlanError(f"the model returns a {type(result).__name__}, expected logits alone")
        logits = self._placed(result)
        if logits.padding:
            raise PlanError(f"the logits are {logits.padding} columns wider than the image")
        self._check_logits(logits)
        if len({channel.buffer for channel in logits.channels}) > 1:
            logits = self.emitter.place(PointwiseValue(("arg", 0), (logits,)), output)
        spans = []
        for color in range(self.colors):
            channels = logits.channels[color * self.levels : (color + 1) * self.levels]
            spans.append(_single_span(channels))
        placed = self._placed_steps()
        padding = max((placed.padding for placed in placed), default=0)
        is_recurrent = any(buffer.initial for buffer in self.emitter.buffers.values())
        return Plan(
            self.image_size,
            self.colors,
            self.levels,
            self.image.name,
            tuple(spans),
            self.emitter.buffers,
            placed,
            padding,
            stage,
            values,
            None if is_recurrent or padding else self._prefill(values),
        )

    def _check_logits(self, logits: Value) -> None:
        if len(logits.channels) != self.colors * self.levels:
            raise PlanError(
                f"the output has {len(logits.channels)} channels, expected {self.colors} colors "
                f"x {self.levels} levels"
            )
        for number, channel in enumerate(logits.channels):
            color = number // self.levels
            if channel.stage > color:
                raise PlanError(
                    f"the logits of color {color} are known only when {channel.stage} colors of "
                    f"their own pixel are drawn: {channel.cause} comes too late"
                )

    def _placed_steps(self) -> tuple[Placed, ...]:
        """Return every step with its moment; no other pixel reads from a logits-only step."""
        carried = {name for placed in self.emitter.steps for name in _read_elsewhere(placed.step)}
        for placed in reversed(self.emitter.steps):
            if placed.step.out.buffer in carried:
                carried |= {span.buffer for span in placed.step.sources}
        return tuple(
            replace(placed, padding=self.emitter.padding_of(placed))
            if placed.step.out.buffer in carried
            else replace(placed, logits_only=True, padding=0)
            for placed in self.emitter.steps
        )

    def _prefill(self, values: tuple[str, ...]) -> Prefill:
        """Return the part of the network that computes the maps which rows below read."""
        kept = [
            buffer
            for buffer in self.emitter.buffers.values()
            if buffer.rows > 1 and buffer.name not in (self.image.name, *values)
        ]
        outputs = [buffer.node for buffer in kept]
        border = {node for node in self.graph.nodes if node.name in values}
        read = needed(outputs, {self.image, *border})
        inputs = [self.image, *(node for node in self.graph.nodes if node in border & read)]
        module = extract(self.model, self.graph, inputs, outputs)
        names = tuple(node.name for node in inputs[1:])
        return Prefill(module, tuple(buffer.name for buffer in kept), names)


_LEAVES: dict[Any, Callable[[Planner, fx.Node], Deferred]] = {
    nn.Conv2d: Planner._convolution,
    nn.Identity: Planner._pass,
    functional.normalize_images: Planner._normalize_images,
    functional.gate: Planner._gate,
    functional.to_logits: Planner._pass,
    functional.add_logits: lambda planner, node: planner._add(*node.args),
    torch.chunk: Planner._chunk,
    "chunk": Planner._chunk,
    operator.getitem: Planner._getitem,
    torch.cat: Planner._cat,
    F.pad: Planner._pad,
    F.prelu: Planner._prelu,
    nn.PReLU: Planner._prelu,
    functional.row_lstm: Planner._row_lstm,
    functional.diagonal_bilstm: Planner._diagonal_bilstm,
    "float": Planner._pass,
    "double": Planner._pass,
}


_BY_CHANNEL = set(_LEAVES) - {functional.add_logits, "float", "double", nn.Identity}
"""Operations that take dimension 1 for channels, which it is not in logits ``[N, L, C, H, W]``."""


def _variant(
    ops: tuple[PointwiseOp, ...], module: nn.Module | None, given: Mapping[str, Any]
) -> PointwiseOp | None:
    """Return the function that the options of a call choose among those with its form, if any."""
    for op in ops:
        if all(getattr(module, k, given.get(k, value)) == value for k, value in op.variant):
            return op
    return None


def _operands(op: PointwiseOp, module: nn.Module | None, node: fx.Node) -> list[Any] | None:
    """Return the operands of a call, its options last; None for a call that has others."""
    ignored = ("inplace", *dict(op.variant))
    given = {name: value for name, value in node.kwargs.items() if name not in ignored}
    inputs = op.arity - len(op.options)
    operands = list(node.args[:inputs])
    for place, (name, default) in enumerate(op.options, inputs):
        own = getattr(module, name, given.pop(name, None))
        value = node.args[place] if len(node.args) > place else own
        operands.append(default if value is None else value)
    is_whole = len(operands) == op.arity >= len(node.args) and not given
    return operands if is_whole else None


def _behind_logits(graph: fx.Graph) -> set[fx.Node]:
    """Return the nodes that read the result of `functional.to_logits`, directly or not."""
    made = [node for node in graph.nodes if node.target is functional.to_logits]
    return {reached for node in made for reached in depends_on(graph, node) - {node}}


def _channel_slice(index: Any) -> slice | None:
    """Return the slice of channels that an index of a feature map chooses; None for any other."""
    parts: list[Any] = list(index) if isinstance(index, tuple) else [index]
    if parts.count(Ellipsis) == 1:
        place = parts.index(Ellipsis)
        parts[place : place + 1] = [slice(None)] * (5 - len(parts))
    if len(parts) > 4 or not all(isinstance(part, slice) for part in parts):
        return None
    parts += [slice(None)] * (4 - len(parts))
    batch, channels, *others = parts
    is_whole = all(part == slice(None) for part in (batch, *others))
    bounds = (channels.start, channels.stop, channels.step)
    is_fixed = all(bound is None or type(bound) is int for bound in bounds)
    return channels if is_whole and is_fixed else None


def _written(index: Any) -> str:
    """Return an index as Python code has it."""
    if isinstance(index, tuple):
        return ", ".join(map(_written, index))
    if not isinstance(index, slice):
        return "..." if index is Ellipsis else str(index)
    ends = ["" if end is None else str(end) for end in (index.start, index.stop)]
    return ":".join([*ends, *([] if index.step is None else [str(index.step)])])


def _accumulated(*terms: Sum | Value) -> Sum:
    """Convolutions, and values, that are added up in one buffer."""
    convolutions: tuple[Convolution, ...] = ()
    values: tuple[Value, ...] = ()
    for term in terms:
        if isinstance(term, Sum):
            convolutions, values = convolutions + term.convolutions, values + term.values
        else:
            values += (term,)
    width = max(len(c.live) for c in convolutions)
    return Sum(convolutions, tuple(broadcast(value, width) for value in values))


def _read_elsewhere(step: Step) -> list[str]:
    """The buffers that a step reads at other pixels than its own."""
    names = [span.buffer for span in step.sources if span.dr or span.dc]
    if isinstance(step, Product) and step.src and (any(step.rows) or any(step.cols)):
        names.append(step.src.buffer)
    return names


def _parameters_of_leaves(graph: fx.Graph) -> set[fx.Node]:
    """Return the parameters that leaves take, which are no feature maps."""
    maps = {functional.row_lstm: "gates", functional.diagonal_bilstm: "gates", F.prelu: "input"}
    return {
        operand
        for node in graph.nodes
        if node.target in maps
        for operand in node.all_input_nodes
        if operand is not argument(node, 0, maps[node.target])
    }


def _live_taps(layer: nn.Conv2d) -> BoolArray:
    if isinstance(layer, MaskedConv2d):
        return layer.mask().cpu().numpy()
    return np.ones(layer.weight.shape, dtype=bool)


def _single_span(channels: tuple[Channel, ...]) -> Span:
    (span, *more) = [run[0] for run in runs([channel.place for channel in channels])]
    if more:
        raise PlanError("the levels of a color do not stand side by side in the output")
    return span
