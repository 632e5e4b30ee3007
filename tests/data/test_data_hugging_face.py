"""Tests of Hugging Face data sets, saved on disk or found by name; no network is used."""

import os

os.environ["HF_HUB_OFFLINE"] = "1"  # the library reads this when it is imported

import sys

import numpy as np
import pytest
import torch
from PIL import Image

from pixelsr.data.load import load_images
from tests.support.data_cases import draw, refuse

datasets = pytest.importorskip("datasets")


@pytest.fixture(autouse=True)
def _own_cache(tmp_path, monkeypatch):
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")


@pytest.fixture
def images(tmp_path):
    """Write three image files; return their folder and their values."""
    values = [draw(tmp_path / "images" / f"{k}.png", 8, 8, seed=k) for k in range(3)]
    return tmp_path / "images", torch.from_numpy(np.stack(values)).permute(0, 3, 1, 2)


def save(path, columns, **features):
    types = datasets.Features(features)
    datasets.Dataset.from_dict(columns, features=types).save_to_disk(path)
    return path


def test_a_saved_data_set_gives_its_images_in_order(tmp_path, images):
    folder, values = images
    files = [str(folder / f"{k}.png") for k in (2, 0, 1)]
    columns = {"label": [0, 1, 2], "image": files, "thumbnail": [files[0]] * 3}
    save(
        tmp_path / "saved",
        columns,
        label=datasets.Value("int64"),
        image=datasets.Image(),
        thumbnail=datasets.Image(),
    )
    assert torch.equal(load_images(tmp_path / "saved", 8, refuse), values[[2, 0, 1]])


@pytest.mark.parametrize("feature", [{"decode": False}, {"mode": "L"}], ids=str)
def test_neither_the_way_of_decoding_nor_the_format_of_a_data_set_matters(
    tmp_path, images, feature
):
    folder, values = images
    columns = {"image": [str(folder / f"{k}.png") for k in range(3)]}
    dataset = datasets.Dataset.from_dict(columns).cast_column("image", datasets.Image(**feature))
    dataset.with_format("arrow").save_to_disk(tmp_path / "saved")
    assert torch.equal(load_images(tmp_path / "saved", 8, refuse), values)


def test_images_are_read_by_the_same_rules_as_those_in_a_folder(tmp_path):
    folder = tmp_path / "images"
    draw(folder / "alpha.png", 9, 8, "RGBA")
    draw(folder / "cmyk.jpg", 9, 8, "CMYK")
    deep = np.arange(72, dtype=np.uint16).reshape(8, 9) * 900
    Image.fromarray(deep).save(folder / "deep.png")
    turned = Image.Exif()
    turned[0x0112] = 6
    upright = np.random.default_rng(0).integers(0, 256, (8, 9, 3), dtype=np.uint8)
    Image.fromarray(upright).save(folder / "turned.png", exif=turned)
    columns = {"image": [str(path) for path in sorted(folder.iterdir())]}
    save(tmp_path / "saved", columns, image=datasets.Image())
    saved = load_images(tmp_path / "saved", 8, refuse)
    assert torch.equal(saved, load_images(folder, 8, refuse))


def test_rows_that_cannot_be_used_are_named_and_skipped(tmp_path, images):
    good = (images[0] / "0.png").read_bytes()
    files = [good, good[:60], b"text", b"", None, good]
    columns = {"image": [None if file is None else {"bytes": file} for file in files]}
    save(tmp_path / "saved", columns, image=datasets.Image())
    said = []
    assert len(load_images(tmp_path / "saved", 8, said.append, workers=2)) == 2
    assert [sentence.split(", row ")[1][0] for sentence in said] == ["1", "2", "3", "4"]
    assert all(s.startswith("skipped: ") and "\n" not in s for s in said)
    assert said[3].endswith("row 4 holds no image")
    said.clear()
    with pytest.raises(ValueError, match="saved holds no image of at least 9x9"):
        load_images(tmp_path / "saved", 9, said.append)
    assert said[-1].endswith("row 5 is 8x8, smaller than 9x9")


def test_a_data_set_without_images_names_its_columns(tmp_path):
    columns = {"text": ["a"], "label": [1]}
    save(tmp_path / "saved", columns, text=datasets.Value("string"), label=datasets.Value("int8"))
    message = r"saved has no column of images \(Image\), only: text \(string\), label \(int8\)"
    with pytest.raises(ValueError, match=message):
        load_images(tmp_path / "saved", 8, refuse)


def test_of_a_saved_data_set_with_splits_one_is_to_be_named(tmp_path, images):
    columns = {"image": [str(images[0] / "1.png")]}
    dataset = datasets.Dataset.from_dict(columns).cast_column("image", datasets.Image())
    datasets.DatasetDict(train=dataset, test=dataset).save_to_disk(tmp_path / "saved")
    with pytest.raises(ValueError, match="holds the splits test, train: name one of these folders"):
        load_images(tmp_path / "saved", 8, refuse)
    assert len(load_images(tmp_path / "saved" / "test", 8, refuse)) == 1


def test_a_damaged_data_set_gives_one_sentence(tmp_path, images):
    columns = {"image": [str(images[0] / "1.png")]}
    save(tmp_path / "saved", columns, image=datasets.Image())
    (data,) = (tmp_path / "saved").glob("*.arrow")
    data.write_bytes(data.read_bytes()[:200])
    with pytest.raises(ValueError, match="saved cannot be loaded: ") as error:
        load_images(tmp_path / "saved", 8, refuse)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("split", ["", "#train"])
def test_a_data_set_is_loaded_by_name(images, split, capfd):
    folder, values = images
    assert torch.equal(load_images(f"hf:{folder}{split}", 8, refuse), values)
    assert capfd.readouterr().err == ""


def test_a_split_is_written_as_for_load_dataset(images):
    folder, values = images
    assert torch.equal(load_images(f"hf:{folder}#train[1:]", 8, refuse), values[1:])


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("hf:{}#nope", "#nope cannot be loaded: .*nope"),
        ("hf:{}/nowhere", "nowhere cannot be loaded: "),
        ("hf:nobody/nothing", "hf:nobody/nothing cannot be loaded: "),
        ("hf:a/b/c", "hf:a/b/c cannot be loaded: "),
        ("hf:", "hf: names no data set, expected hf:NAME or hf:NAME#SPLIT"),
        ("hf:#train", "hf:#train names no data set"),
    ],
)
def test_a_name_that_cannot_be_loaded_gives_one_sentence(images, name, message):
    with pytest.raises(ValueError, match=message) as error:
        load_images(name.format(images[0]), 8, refuse)
    assert "\n" not in str(error.value)


def test_a_local_folder_of_such_a_name_comes_first(tmp_path, monkeypatch):
    draw(tmp_path / "hf:mine" / "a.png", 8, 8)
    monkeypatch.chdir(tmp_path)
    assert len(load_images("hf:mine", 8, refuse)) == 1


def test_a_store_follows_the_data_set(tmp_path, images):
    folder, values = images
    where, store = f"hf:{folder}", tmp_path / "store"
    assert torch.equal(load_images(where, 8, refuse, store=store), values)
    (kept,) = store.glob("*.raw")
    assert torch.equal(load_images(where, 8, refuse, store=store), values)
    assert list(store.glob("*.raw")) == [kept]
    changed = draw(folder / "1.png", 8, 8, seed=9)
    again = load_images(where, 8, refuse, store=store)
    assert torch.equal(again[1], torch.from_numpy(changed).permute(2, 0, 1))


@pytest.mark.parametrize("where", ["hf:mnist", "{}/saved"])
def test_without_the_library_one_sentence_says_how_to_install_it(tmp_path, monkeypatch, where):
    save(tmp_path / "saved", {"label": [1]}, label=datasets.Value("int8"))
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(ValueError, match="needs their library: pip install datasets"):
        load_images(where.format(tmp_path), 8, refuse)
