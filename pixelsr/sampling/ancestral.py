"""The ancestral method: a pass of the whole network for each value."""

from .engines.base import Engine, Positions


class AncestralEngine(Engine):
    """The engine that runs the whole network for each value, for any causal network."""

    def positions(self) -> Positions:
        request, images = self.request, self.images
        inputs = []
        if request.low_res is not None:
            each = request.samples // len(request.low_res)
            inputs.append(request.low_res.repeat_interleave(each, 0))
        expected = (request.samples, request.levels, *images.shape[1:])
        for row, col, color in request.unknown.permute(1, 2, 0).nonzero().tolist():
            logits = request.model(images, *inputs)
            if logits.shape != expected:
                raise ValueError(
                    f"{type(request.model).__name__} gives logits {list(logits.shape)}, "
                    f"expected [N, L, C, H, W] = {list(expected)}"
                )
            drawn = yield (row, col, color), logits[:, :, color, row, col]
            self.write((row, col, color), drawn)
