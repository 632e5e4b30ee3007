import numpy as np
import pytest
import torch

from pixelsr.data.downsample import area_average
from pixelsr.data.load import load_images
from pixelsr.data.sources import Folder
from tests.support.data_cases import draw, refuse


def test_area_average_is_the_exact_mean_of_each_block():
    images = torch.randint(0, 256, (2, 3, 12, 8), dtype=torch.uint8)
    small = area_average(images, 4)
    assert small.shape == (2, 3, 3, 2)
    block = images[1, 2, 4:8, 0:4].double()
    assert abs(small[1, 2, 1, 0].item() - block.mean().item()) <= 0.5


@pytest.mark.parametrize(("total", "mean"), [(2, 0), (6, 2), (10, 2), (1018, 254), (1020, 255)])
def test_area_average_rounds_half_to_even(total, mean):
    values = [total // 4 + (k < total % 4) for k in range(4)]
    image = torch.tensor(values, dtype=torch.uint8).view(1, 1, 2, 2)
    assert area_average(image, 2).item() == mean


def test_area_average_by_one_changes_nothing():
    images = torch.randint(0, 256, (1, 3, 5, 4), dtype=torch.uint8)
    assert torch.equal(area_average(images, 1), images)


@pytest.mark.parametrize(
    ("images", "factor"),
    [
        (torch.zeros(1, 3, 6, 8, dtype=torch.uint8), 4),
        (torch.zeros(1, 3, 8, 6, dtype=torch.uint8), 4),
        (torch.zeros(1, 3, 8, 8, dtype=torch.uint8), 0),
        (torch.zeros(1, 3, 8, 8), 4),
        (torch.zeros(3, 8, 8, dtype=torch.uint8), 4),
    ],
    ids=["height", "width", "factor", "dtype", "rank"],
)
def test_area_average_refuses_what_it_cannot_cut(images, factor):
    with pytest.raises(ValueError, match=r"uint8|cannot be cut"):
        area_average(images, factor)


def test_an_image_of_the_right_size_stays_as_it_is(tmp_path):
    values = draw(tmp_path / "a.png", 8, 8)
    images = load_images(tmp_path, 8, refuse)
    assert images.dtype == torch.uint8
    assert images.is_contiguous()
    assert torch.equal(images, torch.from_numpy(values).permute(2, 0, 1)[None])


def test_the_center_square_is_averaged_down(tmp_path):
    values = draw(tmp_path / "a.png", 40, 32)
    square = torch.from_numpy(values[:, 4:36]).permute(2, 0, 1)[None]
    assert torch.equal(load_images(tmp_path, 8, refuse), area_average(square, 4))


def test_images_come_sorted_from_all_folders_below(tmp_path):
    names = ["b.png", "a/z.png", "a/b/c.png", "c/a.png"]
    values = {name: draw(tmp_path / name, 8, 8, seed=k) for k, name in enumerate(names)}
    expected = [values[name] for name in ["a/b/c.png", "a/z.png", "b.png", "c/a.png"]]
    images = load_images(tmp_path, 8, refuse)
    assert torch.equal(images, torch.from_numpy(np.stack(expected)).permute(0, 3, 1, 2))


@pytest.mark.parametrize("mode", ["L", "RGBA", "CMYK"])
def test_any_mode_becomes_three_colors(tmp_path, mode):
    draw(tmp_path / ("a.jpg" if mode == "CMYK" else "a.png"), 9, 8, mode)
    assert load_images(tmp_path, 8, refuse).shape == (1, 3, 8, 8)


def test_what_cannot_be_used_is_named_and_skipped(tmp_path):
    draw(tmp_path / "good.png", 8, 8)
    draw(tmp_path / "small.png", 9, 7)
    draw(tmp_path / "cut.png", 64, 64)
    cut = (tmp_path / "cut.png").read_bytes()
    (tmp_path / "cut.png").write_bytes(cut[: len(cut) // 2])
    (tmp_path / "empty.png").touch()
    (tmp_path / "notes.txt").write_text("not an image")
    (tmp_path / "dangling.png").symlink_to(tmp_path / "nowhere")
    (tmp_path / ".hidden").write_text("not an image, and of no interest")
    said = []
    assert len(load_images(tmp_path, 8, said.append)) == 1
    assert len(said) == 5
    for name in ["cut.png", "dangling.png", "empty.png", "notes.txt", "small.png"]:
        (sentence,) = [s for s in said if name in s]
        assert "\n" not in sentence
    assert any("9x7, smaller than 8x8" in sentence for sentence in said)


def test_links_to_folders_are_followed_each_real_folder_once(tmp_path):
    root, outside = tmp_path / "root", tmp_path / "outside"
    for k, path in enumerate([root / "z" / "a.png", outside / "b.png", outside / "in" / "c.png"]):
        draw(path, 8, 8, seed=k)
    draw(tmp_path / "aside" / "d.png", 8, 8, seed=3)
    (root / "a").symlink_to(root / "z")  # sorts before its target, but is not loaded in its place
    (root / "c").symlink_to(outside)
    (root / "b").symlink_to(outside / "in")
    (root / ".hidden").symlink_to(tmp_path / "aside")
    paths = ["b/c.png", "c/b.png", "z/a.png"]
    assert [str(path.relative_to(root)) for path in Folder(root).paths] == paths
    assert len(load_images(root, 8, refuse)) == 3


def test_loops_of_links_end(tmp_path):
    draw(tmp_path / "a" / "b" / "c.png", 8, 8)
    (tmp_path / "a" / "b" / "up").symlink_to(tmp_path)
    (tmp_path / "a" / "itself").symlink_to(tmp_path / "a" / "itself")
    said = []
    assert len(load_images(tmp_path, 8, said.append)) == 1
    assert said == [f"skipped: no such image: {tmp_path / 'a' / 'itself'}"]


def test_a_folder_may_be_a_link_itself(tmp_path):
    draw(tmp_path / "real" / "c.png", 8, 8)
    (tmp_path / "link").symlink_to(tmp_path / "real")
    assert Folder(tmp_path / "link").paths == [tmp_path / "link" / "c.png"]


def test_a_folder_without_an_image_is_an_error(tmp_path):
    (tmp_path / "notes.txt").write_text("not an image")
    with pytest.raises(ValueError, match="holds no image of at least 8x8"):
        load_images(tmp_path, 8, lambda sentence: None)


def test_a_missing_folder_is_an_error(tmp_path):
    with pytest.raises(NotADirectoryError, match="nowhere is not a folder"):
        load_images(tmp_path / "nowhere", 8, refuse)
