"""What the documents say of `real-or-fake`."""

from collections.abc import Mapping
from typing import Any

from ..support.report_text import again, image, machine, table

NAME = "real-or-fake"
PAPER = {"L2 regression": 4.0, "GAN": 8.5, "PixelRecursiveSR, tau 1": 11.0}
"""Percentage fooled, CelebA, 8x8 to 32x32."""


def section(results: Mapping[str, Any]) -> str:
    """The paragraph, table and image of the documents."""
    settings = results["settings"]
    count, side, small = len(settings["images"]), settings["size"], settings["small_size"]
    return "\n\n".join(
        (
            f"The command writes `{NAME}.html`, a page for any browser, without a server or a "
            f"network. It shows a photo and, beside it, a sample that `{settings['model']}` "
            f"({settings['parameters']:,} parameters, temperature {settings['temperature']:g}, "
            f"seed {settings['seed']}) drew from the photo made small, {small}x{small}, and asks "
            "which one a camera took. Order and sides are random; the time to look is chosen on "
            "the page, from 0.5 seconds to no limit; the answer is a click or an arrow key. At the "
            "end stands the percentage fooled, how often the sample was taken for the photo, with "
            "Wilson's interval of 95%. 50% is perfect: people can only guess. The answers can be "
            "saved as JSON.",
            f"The page holds {count} of {settings['held_out_images']:,} held-out photos, "
            f"{side}x{side}, spread evenly, and one sample of each, nothing picked; it was made on "
            f"{machine(results)}. It is not part of the documents, as the photos are not ours to "
            "give. **Nobody's answers are reported here**: how often this model fools people is "
            "not known.",
            "For orientation, the paper's figures, of 8x8 to 32x32 faces of CelebA, which is "
            "another set of images, and of larger models; taken from what others quote of it:",
            table(["", "percentage fooled, the paper"], [[k, f"{v}"] for k, v in PAPER.items()]),
            "A pair on the page looks like these, of portraits in the public domain, without the "
            f"{small}x{small} input, which is shown at the end only.",
            image(NAME, "Two portraits: input, sample, photo"),
            again(results),
        )
    )
