"""Tests of `pixelsr complete`: it keeps known pixels, or fails with one sentence and no file."""

from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import Result
from PIL import Image

import pixelsr
from pixelsr.data.binarize import binarize
from pixelsr.data.crop import area_resize, center_square, to_tensor
from pixelsr.data.downsample import area_average, visible_average
from pixelsr.data.quantize import from_levels, to_levels
from tests.support.command_cases import (
    holds,
    invoke,
    prior,
    read_image,
    refusal,
    save_photo,
    tiny,
    words,
    written,
)

SIDE = 7


@pytest.fixture
def model(tmp_path) -> Path:
    return save(prior(), tmp_path / "model")


def save(network: pixelsr.models.PixelModel, folder: Path) -> Path:
    network.save_pretrained(folder)
    (folder / "training.toml").write_text(f"size = {SIDE}\n")
    return folder


def complete(*arguments: object) -> Result:
    return invoke("complete", *arguments)


def square(
    photo: Path, box: tuple[int, int, int, int] | None = None, side: int = SIDE
) -> torch.Tensor:
    image = Image.open(photo)
    return area_resize(to_tensor(image.crop(box or center_square(image.size))), side)


def save_mask(path: Path, size: tuple[int, int], marks: dict[tuple[int, int], int]) -> Path:
    """Save a black mask with the given grays at (x, y)."""
    mask = Image.new("L", size)
    for xy, gray in marks.items():
        mask.putpixel(xy, gray)
    mask.save(path)
    return path


def expect(shown: torch.Tensor, hidden: torch.Tensor, **options: object) -> torch.Tensor:
    mask = ~hidden.expand(1, 3, SIDE, SIDE)
    return pixelsr.sample(
        prior(), image_size=(SIDE, SIDE), known=shown[None], known_mask=mask, **options
    )


HALVES = {
    "upper": (slice(0, 3), slice(None)),
    "lower": (slice(4, None), slice(None)),
    "left": (slice(None), slice(0, 3)),
    "right": (slice(None), slice(4, None)),
}


# --- the kept and the drawn pixels ---


@pytest.mark.parametrize("keep", HALVES)
def test_the_kept_half_comes_back_untouched_and_the_rest_is_drawn(model, photo, out, keep):
    options = ["--keep", keep, "--samples", 2, "--seed", 3]
    result = complete(photo, "-o", out, "--model", model, *options)
    assert result.exit_code == 0, result.output
    assert result.stdout == f"2 images in {out}, side by side in {out / 'sheet.png'}\n"
    assert list(written(out)) == ["photo-1.png", "photo-2.png", "sheet.png"]
    hidden = torch.ones(SIDE, SIDE, dtype=torch.bool)
    hidden[HALVES[keep]] = False
    given, images = square(photo), [read_image(out / f"photo-{k}.png") for k in (1, 2)]
    for image in images:
        assert torch.equal(image[:, ~hidden], given[:, ~hidden])
        assert not torch.equal(image, given)
    assert torch.equal(torch.stack(images), expect(given, hidden, n=2, seed=3))


def test_the_upper_half_is_kept_by_default(model, photo, tmp_path):
    for name, options in {"a": [], "b": ["--keep", "upper"]}.items():
        assert complete(photo, "-o", tmp_path / name, "--model", model, *options).exit_code == 0
    assert written(tmp_path / "a") == written(tmp_path / "b")


def test_the_index_counts_on_from_photo_to_photo(model, photo, out):
    other = save_photo(photo.with_name("other.png"), seed=1)
    options = ["--model", model, "--samples", 2, "--max-batch", 3]
    assert complete(photo, other, "-o", out, *options).exit_code == 0
    hidden = torch.ones(SIDE, SIDE, dtype=torch.bool)
    hidden[:3] = False
    expected = expect(square(other), hidden, n=2, first_index=2)
    images = [read_image(out / f"other-{k}.png") for k in (1, 2)]
    assert torch.equal(torch.stack(images), expected)


def test_an_enlarger_sees_nothing_of_what_is_hidden(photo, tmp_path):
    model = save(tiny(), tmp_path / "enlarger")
    mask = Image.new("L", (40, 30))
    mask.paste(255, (12, 3, 17, 28))
    mask.save(tmp_path / "mask.png")
    drawn = {}
    for name, color in {"green": (0, 255, 0), "black": (0, 0, 0)}.items():
        scratched = Image.open(photo).convert("RGB")
        scratched.paste(color, mask=mask)
        scratched.save(tmp_path / f"{name}.png")
        options = ["--mask", tmp_path / "mask.png", "--size", 8, "--samples", 2, "--seed", 5]
        out = tmp_path / name
        result = complete(tmp_path / f"{name}.png", "-o", out, "--model", model, *options)
        assert result.exit_code == 0, result.output
        drawn[name] = [read_image(out / f"{name}-{k}.png") for k in (1, 2)]
    assert torch.equal(torch.stack(drawn["green"]), torch.stack(drawn["black"]))


def test_an_enlarger_sees_what_is_kept_made_small(photo, out, tmp_path):
    model = save(tiny(), tmp_path / "enlarger")
    options = ["--model", model, "--samples", 2, "--size", 8, "--keep", "left"]
    options += ["--low-res-of", "visible"]
    assert complete(photo, "-o", out, *options).exit_code == 0
    known = square(photo, side=8)[None]
    mask = torch.zeros(1, 3, 8, 8, dtype=torch.bool)
    mask[:, :, :, :4] = True
    low_res = visible_average(known, ~mask[:, 0], 2)
    assert torch.equal(low_res[..., :2], area_average(known, 2)[..., :2])
    expected = pixelsr.sample(tiny(), n=2, low_res=low_res, known=known, known_mask=mask)
    images = [read_image(out / f"photo-{k}.png") for k in (1, 2)]
    assert torch.equal(torch.stack(images), expected)


@pytest.mark.parametrize("chosen", [[], ["--low-res-of", "whole"]], ids=["default", "chosen"])
def test_an_enlarger_redraws_a_half_from_the_whole_photo_made_small(photo, out, tmp_path, chosen):
    model = save(tiny(), tmp_path / "enlarger")
    options = ["--model", model, "--samples", 2, "--size", 8, *chosen]
    assert complete(photo, "-o", out, *options).exit_code == 0
    known = square(photo, side=8)[None]
    mask = torch.zeros(1, 3, 8, 8, dtype=torch.bool)
    mask[:, :, :4] = True
    expected = pixelsr.sample(
        tiny(), n=2, low_res=area_average(known, 2), known=known, known_mask=mask
    )
    images = [read_image(out / f"photo-{k}.png") for k in (1, 2)]
    assert torch.equal(torch.stack(images), expected)


def test_an_enlarger_completes_sizes_that_it_magnifies(photo, out, tmp_path):
    model = save(tiny(), tmp_path / "enlarger")
    result = complete(photo, "-o", out, "--model", model, "--size", 7)
    assert result.exit_code == 1
    assert "sides that are multiples of 2, got 7x7" in result.stderr
    assert not out.exists()


def test_an_enlarger_that_tells_no_size_draws_eight_small_pixels(photo, out, tmp_path):
    tiny().save_pretrained(tmp_path / "enlarger")
    options = ["--model", tmp_path / "enlarger", "--samples", 1]
    assert complete(photo, "-o", out, *options).exit_code == 0
    assert read_image(out / "photo-1.png").shape == (3, 16, 16)


def test_size_and_box_choose_the_image(model, photo, out):
    options = ["--model", model, "--size", 5, "--box", "7,3,23,19", "--samples", 1]
    assert complete(photo, "-o", out, *options).exit_code == 0
    expected = area_resize(to_tensor(Image.open(photo).crop((7, 3, 23, 19))), 5)
    assert torch.equal(read_image(out / "photo-1.png")[:, :2], expected[:, :2])


def test_a_photo_of_few_levels_and_one_color(photo, out, tmp_path):
    model = save(prior(colors=1, levels=4), tmp_path / "gray")
    result = complete(photo, "-o", out, "--model", model, "--samples", 1)
    assert result.exit_code == 0, result.output
    image = Image.open(photo).convert("L")
    gray = area_resize(to_tensor(image.crop(center_square(image.size))), SIDE)
    expected = from_levels(to_levels(gray, 4), 4)
    assert torch.equal(read_image(out / "photo-1.png")[:1, :3], expected[:, :3])
    assert set(read_image(out / "photo-1.png").unique().tolist()) <= {0, 85, 170, 255}


@pytest.mark.parametrize("kept", ["bernoulli", "threshold", None])
def test_a_photo_is_binarized_as_the_images_of_the_training_were(photo, out, tmp_path, kept):
    model = save(prior(colors=1, levels=2), tmp_path / "binary")
    if kept:
        (model / "training.toml").write_text(f'size = {SIDE}\nbinarize = "{kept}"\n')
    more = save_photo(tmp_path / "more.png")  # does not change the first one
    result = complete(more, photo, "-o", out, "--model", model, "--samples", 1)
    assert result.exit_code == 0, result.output
    image = Image.open(photo).convert("L")
    gray = area_resize(to_tensor(image.crop(center_square(image.size))), SIDE)
    white = from_levels(to_levels(gray, 2), 2)
    drawn = binarize(gray[None])[0]
    assert not torch.equal(white, drawn)
    expected = drawn if kept == "bernoulli" else white
    assert torch.equal(read_image(out / "photo-1.png")[:1, :3], expected[:, :3])


def test_a_folder_stands_for_all_its_images(model, out, tmp_path):
    folder = tmp_path / "photos"
    save_photo(folder / "good.png")
    words(folder / "words.txt")
    result = complete(folder, "-o", out, "--model", model, "--samples", 1)
    assert result.exit_code == 0, result.output
    assert list(written(out)) == ["good-1.png", "sheet.png"]
    assert "skipped" in result.stderr
    assert str(folder / "words.txt") in result.stderr


# --- the small image of the visible pixels ---


def some_images(height: int, width: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randint(256, (2, 3, height, width), generator=generator, dtype=torch.uint8)


def test_where_all_is_visible_it_is_the_area_average():
    images = some_images(12, 20)
    nothing = torch.zeros(2, 12, 20, dtype=torch.bool)
    assert torch.equal(visible_average(images, nothing, 4), area_average(images, 4))


def test_a_block_that_is_partly_hidden_is_the_mean_of_the_rest():
    images, hidden = some_images(4, 4), torch.zeros(2, 4, 4, dtype=torch.bool)
    hidden[1, 1, 3] = True
    small = visible_average(images, hidden, 2)
    rest = images[1, :, [0, 0, 1], [2, 3, 2]].double().mean(1).round()
    assert torch.equal(small[1, :, 0, 1].double(), rest)
    others = area_average(images, 2)
    others[1, :, 0, 1] = small[1, :, 0, 1]
    assert torch.equal(small, others)


@pytest.mark.parametrize(("height", "width"), [(7, 7), (6, 11), (1, 9), (16, 16)])
def test_a_hidden_block_lies_between_what_surrounds_it(height, width):
    ramp = 10 + 5 * torch.arange(width).expand(1, 3, height, width).to(torch.uint8)
    hidden = torch.zeros(1, height, width, dtype=torch.bool)
    hidden[:, :, 2 : width - 2] = True
    small = visible_average(ramp, hidden, 1).int()
    # The result is a straight ramp up to the rounding of the scales, equal in each color.
    assert (small - ramp.int()).abs().max() <= 3
    flat = torch.full_like(ramp, 77)
    flat[hidden[:, None].expand_as(flat)] = 0
    assert visible_average(flat, hidden, 1).unique().tolist() == [77]


def test_where_nothing_is_visible_there_is_no_small_image(photo, out, tmp_path):
    Image.new("L", (40, 30), 255).save(tmp_path / "white.png")
    options = ["--mask", tmp_path / "white.png", "--size", 8]
    enlarger = save(tiny(), tmp_path / "enlarger")
    message = refusal(complete(photo, "-o", out, "--model", enlarger, *options), out)
    assert f"{photo}: all of the image is hidden, expected at least one visible" in message
    model = save(prior(), tmp_path / "prior")
    assert complete(photo, "-o", out, "--model", model, *options).exit_code == 0


def test_a_prior_has_no_small_image_to_choose(model, photo, out):
    options = ["--model", model, "--low-res-of", "visible"]
    message = refusal(complete(photo, "-o", out, *options), out)
    assert "sees no small image: --low-res-of is for PixelRecursiveSR" in message


# --- the mask ---


def test_a_pixel_is_drawn_if_any_part_of_it_is_marked(model, photo, out, tmp_path):
    # The square is 30 wide and begins at x = 5. Its 7 cells are 4.29 wide, so column 4 of the
    # square lies across a cell border.
    mask = save_mask(tmp_path / "mask.png", (40, 30), {(5 + 4, 29): 128, (5 + 20, 0): 127})
    result = complete(photo, "-o", out, "--model", model, "--mask", mask, "--samples", 1)
    assert result.exit_code == 0, result.output
    hidden = torch.zeros(SIDE, SIDE, dtype=torch.bool)
    hidden[6, 0] = hidden[6, 1] = True
    assert torch.equal(read_image(out / "photo-1.png"), expect(square(photo), hidden)[0])


def test_a_mask_goes_through_the_box(model, photo, out, tmp_path):
    box = (10, 2, 24, 16)  # 14 on a side: cells of 2
    mask = save_mask(tmp_path / "mask.png", (40, 30), {(11, 3): 255, (9, 3): 255})
    options = ["--box", ",".join(map(str, box)), "--mask", mask, "--samples", 1]
    assert complete(photo, "-o", out, "--model", model, *options).exit_code == 0
    hidden = torch.zeros(SIDE, SIDE, dtype=torch.bool)
    hidden[0, 0] = True
    assert torch.equal(read_image(out / "photo-1.png"), expect(square(photo, box), hidden)[0])


def test_a_mask_of_the_images_own_size_is_taken_as_it_is(model, photo, out, tmp_path):
    mask = save_mask(tmp_path / "mask.png", (SIDE, SIDE), {(2, 5): 255})
    options = ["--mask", mask, "--samples", 1]
    assert complete(photo, "-o", out, "--model", model, *options).exit_code == 0
    hidden = torch.zeros(SIDE, SIDE, dtype=torch.bool)
    hidden[5, 2] = True
    assert torch.equal(read_image(out / "photo-1.png"), expect(square(photo), hidden)[0])


# --- the sheet ---


def test_the_sheet_shows_what_was_given_the_completions_and_the_original(model, photo, out):
    assert complete(photo, "-o", out, "--model", model, "--samples", 2).exit_code == 0
    sheet, original = Image.open(out / "sheet.png"), square(photo)
    given = original.clone()
    row, column = np.indices((SIDE, SIDE))
    hatch = torch.from_numpy(np.where((row + column) % 2, 144, 112).astype(np.uint8))
    given[:, 3:] = hatch[3:]
    for tile in (given, original, *(read_image(out / f"photo-{k}.png") for k in (1, 2))):
        assert holds(sheet, tile, 256 // SIDE)


def test_the_sheet_of_many_photos_shows_the_first_24_and_says_so(model, out, tmp_path):
    for k in range(25):
        save_photo(tmp_path / "photos" / f"{k:02d}.png", SIDE, SIDE, seed=k)
    result = complete(tmp_path / "photos", "-o", out, "--model", model, "--samples", 1)
    assert result.exit_code == 0, result.output
    assert len(written(out)) == 25 + 1
    assert "those of the first 24 photos side by side in" in result.stdout
    sheet = Image.open(out / "sheet.png")
    assert holds(sheet, read_image(out / "23-1.png"), 256 // SIDE)
    assert not holds(sheet, read_image(out / "24-1.png"), 256 // SIDE)


# --- refused arguments ---


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        (["--tau", 1, "--temperature", 1], "not both"),
        (["--tau", -1], "x>0"),
        (["--temperature", "inf"], "finite"),
        (["--samples", 0], "1<=x<=64"),
        (["--samples", 65], "1<=x<=64"),
        (["--seed", 2**64], "0<=x<=18446744073709551615"),
        (["--size", 0], "1<=x<=16384"),
        (["--size", 31], "the square to complete is 30 pixels a side, expected at least 31"),
        (["--keep", "middle"], "middle"),
        (["--engine", "steam"], "steam"),
        (["--max-batch", 0], "x>=1"),
        (["--box", "1,2,3"], "LEFT,TOP,RIGHT,BOTTOM"),
        (["--box", "5,5,5,5"], "empty"),
        (["--box", "0,0,4,4"], "the square to complete is 4 pixels a side, expected at least 7"),
        (["--box", "20,0,60,40"], "leaves the image"),
        (["--model", "no-such-model"], "no-such-model"),
        (["--mask", "nowhere.png"], "no such image: nowhere.png"),
    ],
    ids=str,
)
def test_a_bad_option_is_refused(model, photo, out, options, reason):
    message = refusal(complete(photo, "-o", out, "--model", model, *options), out)
    assert reason in message
    assert not out.exists()


@pytest.mark.parametrize(
    ("size", "marks", "reason"),
    [
        (
            (39, 30),
            {(0, 0): 255},
            "the mask is 39x30 pixels, expected the photo's 40x30 or the model's 7x7",
        ),
        ((40, 30), {}, "the mask marks nothing to draw"),
        ((40, 30), {(4, 0): 255}, "the mask marks nothing to draw: no pixel in the square"),
        ((7, 7), {(0, 0): 127}, "the mask marks nothing to draw"),
    ],
    ids=["size", "black", "outside", "small"],
)
def test_a_bad_mask_is_refused(model, photo, out, tmp_path, size, marks, reason):
    mask = save_mask(tmp_path / "mask.png", size, marks)
    message = refusal(complete(photo, "-o", out, "--model", model, "--mask", mask), out)
    assert reason in message
    assert str(photo) in message
    assert not out.exists()


def test_mask_and_keep_contradict_each_other(model, photo, out, tmp_path):
    mask = save_mask(tmp_path / "mask.png", (40, 30), {(20, 20): 255})
    options = ["--model", model, "--mask", mask, "--keep", "upper"]
    assert "--mask or --keep, not both" in refusal(complete(photo, "-o", out, *options), out)


def test_a_mask_is_never_written_over(model, photo, tmp_path):
    mask = save_mask(tmp_path / "photo-1.png", (40, 30), {(20, 20): 255})
    before = mask.read_bytes()
    result = complete(photo, "-o", tmp_path, "--model", model, "--mask", mask)
    assert f"{mask} is one of the inputs" in result.stderr
    assert mask.read_bytes() == before


def test_a_conditioning_network_completes_nothing(photo, out, tmp_path):
    model = save(tiny().conditioning, tmp_path / "other")
    message = refusal(complete(photo, "-o", out, "--model", model), out)
    assert "is a ConditioningNetwork" in message


def test_a_prior_that_tells_no_size_needs_one(model, photo, out):
    (model / "training.toml").unlink()
    message = refusal(complete(photo, "-o", out, "--model", model), out)
    assert message.endswith("give --size")
