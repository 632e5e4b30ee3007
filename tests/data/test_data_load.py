"""Tests of `load_images` with images of any source: colors, workers, and the store."""

import contextlib
import gzip
import json
import os
import pickle
import resource
import signal
import tempfile

import numpy as np
import pytest
import torch
from PIL import Image

from pixelsr.data import cache as storing
from pixelsr.data import image_io as reading
from pixelsr.data.cache import Prepared, Store
from pixelsr.data.load import load_images
from pixelsr.data.preprocessing import Squares, batches
from pixelsr.data.sources import open_source
from tests.support.data_cases import WHOLE, draw, refuse
from tests.support.processes import Process, script

COUNT = 40


@pytest.fixture
def folder(tmp_path):
    """Return a folder of images of many sizes; one is too small, one damaged, one no image."""
    path = tmp_path / "images"
    for k in range(COUNT):
        draw(path / f"{k:02}.png", 8 + k % 5, 8 + k % 3, seed=k)
    draw(path / "07.png", 8, 7)
    (path / "20.png").write_bytes((path / "20.png").read_bytes()[:60])
    (path / "39.txt").write_text("not an image")
    return path


@pytest.fixture
def store(tmp_path):
    return tmp_path / "runs" / "store"


@contextlib.contextmanager
def disk_of(size):
    """Limit the size of files to `size` bytes; writing beyond it fails, as on a full disk."""
    usual = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, usual[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, usual)


def forbid_decoding(monkeypatch):
    def refuse_to_open(path):
        raise AssertionError(f"{path} should not be decoded again")

    monkeypatch.setattr("pixelsr.data.sources.open_image", refuse_to_open)


def test_images_and_sentences_do_not_depend_on_workers(folder):
    said = {workers: [] for workers in (0, 2)}
    images = {w: load_images(folder, 8, said[w].append, workers=w) for w in (0, 2)}
    assert images[0].shape == (COUNT - 2, 3, 8, 8)
    assert torch.equal(images[0], images[2])
    assert said[0] == said[2]
    assert all(name in says for name, says in zip(["07.", "20.", "39."], said[0], strict=True))


def test_loading_does_not_advance_the_random_numbers_of_the_process(folder):
    before = torch.get_rng_state()
    load_images(folder, 8, lambda sentence: None, workers=1)
    assert torch.equal(torch.get_rng_state(), before)


def test_one_color_is_the_gray_of_pillow(tmp_path):
    values = draw(tmp_path / "a.png", 8, 8)
    gray = np.asarray(Image.fromarray(values).convert("L"))
    images = load_images(tmp_path, 8, refuse, colors=1)
    assert torch.equal(images, torch.from_numpy(gray.copy())[None, None])


def test_a_gray_image_keeps_its_values_in_one_color_and_in_three(tmp_path):
    values = torch.from_numpy(draw(tmp_path / "a.png", 8, 8, "L"))
    for colors in (1, 3):
        images = load_images(tmp_path, 8, refuse, colors=colors)
        assert torch.equal(images, values.expand(1, colors, -1, -1))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"size": 0}, "size must be at least 1, got 0"),
        ({"colors": 2}, "colors must be 1 or 3, got 2"),
        ({"workers": -1}, "workers must be at least 0, got -1"),
    ],
    ids=str,
)
def test_an_argument_out_of_range_is_named(folder, options, message):
    with pytest.raises(ValueError, match=message):
        load_images(folder, **({"size": 8, "report": refuse} | options))


def test_nothing_is_shown_where_stderr_is_no_terminal(tmp_path, capfd):
    draw(tmp_path / "a.png", 8, 8)
    load_images(tmp_path, 8, refuse)
    assert capfd.readouterr() == ("", "")


@pytest.mark.skipif(not os.path.exists("/proc/self/maps"), reason="needs /proc")
@pytest.mark.parametrize("keep", [False, True], ids=["temporary", "store"])
def test_images_are_mapped_from_a_file_and_outlive_it(folder, store, tmp_path, monkeypatch, keep):
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(scratch))
    images = load_images(folder, 8, lambda sentence: None, store=store if keep else None)
    expected = images.clone()
    assert list(scratch.iterdir()) == []
    with open("/proc/self/maps") as maps:
        assert any(str(store if keep else scratch) in line for line in maps)
    for path in store.glob("*"):
        path.unlink()
    assert torch.equal(images, expected)


def test_a_store_is_used_again_without_decoding(folder, store, monkeypatch):
    said = [], []
    first = load_images(folder, 8, said[0].append, store=store)
    forbid_decoding(monkeypatch)
    second = load_images(folder, 8, said[1].append, store=store)
    assert torch.equal(first, second)
    assert said[0] == said[1]
    assert len(said[0]) == 3


def test_what_is_written_to_the_tensor_does_not_reach_the_store(folder, store):
    first = load_images(folder, 8, lambda sentence: None, store=store)
    expected = first.clone()
    first.zero_()
    assert torch.equal(load_images(folder, 8, lambda sentence: None, store=store), expected)


def _rewrite(folder):
    draw(folder / "03.png", 8, 8, seed=99)


def _touch(folder):
    os.utime(folder / "03.png", (0, 0))


def _permit(folder):
    (folder / "03.png").chmod(0o700)


def _rename(folder):
    (folder / "03.png").rename(folder / "99.png")


def _add(folder):
    draw(folder / "more" / "a.png", 8, 8)


def _remove(folder):
    (folder / "03.png").unlink()


@pytest.mark.parametrize("change", [_rewrite, _touch, _permit, _rename, _add, _remove])
def test_a_store_of_other_files_is_replaced(folder, store, change):
    load_images(folder, 8, lambda sentence: None, store=store)
    (old,) = store.glob("*.raw")
    change(folder)
    images = load_images(folder, 8, lambda sentence: None, store=store)
    assert torch.equal(images, load_images(folder, 8, lambda sentence: None))
    assert not old.exists()
    assert len(list(store.iterdir())) == 2


@pytest.mark.parametrize("options", [{"size": 7}, {"colors": 1}], ids=str)
def test_a_store_made_with_other_options_is_replaced(folder, store, options):
    load_images(folder, 8, lambda sentence: None, store=store)
    options = {"size": 8, "report": lambda sentence: None} | options
    images = load_images(folder, store=store, **options)
    assert torch.equal(images, load_images(folder, **options))
    assert len(list(store.iterdir())) == 2


def test_a_store_made_by_another_pillow_is_replaced(folder, store, monkeypatch):
    """Check that the store is decoded again, because another Pillow may read other files."""
    load_images(folder, 8, lambda sentence: None, store=store)
    monkeypatch.setattr("PIL.__version__", "0")
    forbid_decoding(monkeypatch)
    with pytest.raises(AssertionError, match="decoded again"):
        load_images(folder, 8, lambda sentence: None, store=store)


def _edit(store, **facts):
    path = store / "images.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | facts))


@pytest.mark.parametrize(
    "damage",
    [
        lambda store: (store / "images.json").unlink(),
        lambda store: (store / "images.json").write_bytes(b"\xff\x00"),
        lambda store: (store / "images.json").write_text("[]"),
        lambda store: (store / "images.json").write_text("{}"),
        lambda store: _edit(store, shape=None),
        lambda store: _edit(store, shape=[10**6, 3, 8, 8]),
        lambda store: next(store.glob("*.raw")).unlink(),
        lambda store: os.truncate(next(store.glob("*.raw")), 100),
    ],
    ids=[
        "gone",
        "binary",
        "a list",
        "empty",
        "no shape",
        "large shape",
        "no raw file",
        "truncated",
    ],
)
def test_a_damaged_store_is_replaced(folder, store, damage):
    expected = load_images(folder, 8, lambda sentence: None, store=store).clone()
    damage(store)
    assert torch.equal(load_images(folder, 8, lambda sentence: None, store=store), expected)
    assert len(list(store.iterdir())) == 2


def test_a_store_of_an_idx_file_follows_the_file(tmp_path, store):
    path = tmp_path / "digits.gz"
    for data in (WHOLE, WHOLE[:16] + WHOLE[:15:-1]):
        path.write_bytes(gzip.compress(data))
        for _ in range(2):
            images = load_images(path, 8, refuse, colors=1, store=store)
            assert torch.equal(images, load_images(path, 8, refuse, colors=1))


def test_two_that_write_a_store_at_once_are_both_right_and_one_is_kept(store):
    images = [torch.full((2, 1, 3, 3), value, dtype=torch.uint8) for value in (1, 2)]
    shelves = [Store(store, "one"), Store(store, "other")]

    def fill(file, number):
        file.append(images[number].numpy().tobytes())
        return Prepared(torch.from_numpy(file.map((2, 1, 3, 3))), [])

    def fill_while_the_other_writes(file):
        shelves[1].write(lambda other: fill(other, 1))
        return fill(file, 0)

    assert torch.equal(shelves[0].write(fill_while_the_other_writes).images, images[0])
    assert shelves[0].read() is None
    assert torch.equal(shelves[1].read().images, images[1])
    assert len(list(store.iterdir())) == 2


def test_facts_are_not_taken_for_those_of_another_raw_file(folder, store):
    """Check facts whose raw file is missing, as after a kill between writing the two."""
    load_images(folder, 8, lambda sentence: None, store=store)
    (raw,) = store.glob("*.raw")
    raw.rename(store / "images-other.raw")
    assert Store(store, "other").read() is None


def test_what_a_killed_process_left_in_a_store_is_removed(folder, store):
    store.mkdir(parents=True)
    for name in (".images-0.partial", "images-0.raw", "mine.txt"):
        (store / name).touch()
    load_images(folder, 8, lambda sentence: None, store=store)
    names = {path.name for path in store.iterdir()}
    assert "mine.txt" in names
    assert len(names) == 3


def test_a_full_disk_gives_one_sentence_and_leaves_nothing(folder, store):
    with pytest.raises(OSError, match="store cannot be written: File too large"), disk_of(4000):
        load_images(folder, 8, lambda sentence: None, store=store)
    assert list(store.iterdir()) == []


def test_a_disk_that_is_full_at_the_last_file_leaves_nothing(folder, store, monkeypatch):
    def refuse_to_write(path, data):
        raise OSError(f"{path} cannot be written: No space left on device")

    monkeypatch.setattr(storing, "write_whole", refuse_to_write)
    with pytest.raises(OSError, match=r"images\.json cannot be written"):
        load_images(folder, 8, lambda sentence: None, store=store)
    assert list(store.iterdir()) == []


def test_a_full_disk_without_a_store_names_the_temporary_folder(folder, tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    message = f"a temporary file in {tmp_path} cannot be written: File too large"
    with pytest.raises(OSError, match=message), disk_of(4000):
        load_images(folder, 8, lambda sentence: None)


def test_a_store_that_cannot_be_made_gives_one_sentence(folder):
    with pytest.raises(OSError, match=r"00\.png cannot be written: File exists"):
        load_images(folder, 8, refuse, store=folder / "00.png")


def test_where_no_image_is_usable_the_store_stays_empty(tmp_path, store):
    draw(tmp_path / "images" / "a.png", 8, 8)
    with pytest.raises(ValueError, match="holds no image of at least 9x9"):
        load_images(tmp_path / "images", 9, lambda sentence: None, store=store)
    assert list(store.iterdir()) == []


@pytest.mark.parametrize("kind", ["folder", "idx", "gzipped idx", "data set"])
def test_a_source_can_be_sent_to_a_worker_of_any_start_method(tmp_path, kind):
    where = tmp_path / "source"
    if kind == "folder":
        draw(where / "a.png", 8, 8)
    elif kind == "data set":
        datasets = pytest.importorskip("datasets")
        draw(tmp_path / "a.png", 8, 8)
        dataset = datasets.Dataset.from_dict({"image": [str(tmp_path / "a.png")]})
        dataset.cast_column("image", datasets.Image()).save_to_disk(where)
    else:
        where.write_bytes(WHOLE if kind == "idx" else gzip.compress(WHOLE))
    squares = Squares(open_source(where, 8), 8, 3)
    assert len(squares) >= 1
    assert torch.equal(pickle.loads(pickle.dumps(squares))[0], squares[0])


class Deadly:
    """A source that kills the process that reads it."""

    def __len__(self):
        return 1

    def __getitem__(self, index):
        os.kill(os.getpid(), signal.SIGKILL)

    def fingerprint(self):
        return ""


def test_a_killed_worker_gives_one_sentence():
    with pytest.raises(ChildProcessError, match="was killed, perhaps for lack of memory"):
        list(batches(Squares(Deadly(), 8, 3), workers=1))


class Telling(Deadly):
    """A source that reports the signal handlers of the process that reads it."""

    def __getitem__(self, index):
        raise ValueError([signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)])


def test_a_worker_does_not_run_the_signal_handlers_of_the_program():
    """Check that workers do not inherit the program's signal handlers.

    If they did, each worker would answer Ctrl-C, and none would end when terminated.
    """
    usual = {n: signal.signal(n, lambda *_: None) for n in (signal.SIGINT, signal.SIGTERM)}
    try:
        (batch,) = batches(Squares(Telling(), 8, 3), workers=1)
    finally:
        for number, handler in usual.items():
            signal.signal(number, handler)
    assert batch.skipped == [f"skipped: {[signal.SIG_IGN, signal.SIG_DFL]}"]


INTERRUPTED = """
import sys, time
from pathlib import Path
import pixelsr.data.sources as sources
from pixelsr.data.load import load_images

def slow(path, usual=sources.open_image):
    time.sleep(0.02)
    return usual(path)

sources.open_image = slow
source, store, workers = sys.argv[1:]
try:
    load_images(source, 8, lambda sentence: print(sentence, flush=True), workers=int(workers),
                  store=Path(store))
    print("finished")
except KeyboardInterrupt:
    print("interrupted")
"""


@pytest.mark.parametrize("workers", [0, 2])
def test_ctrl_c_ends_all_processes_at_once_and_leaves_nothing(folder, store, workers):
    for k in range(100, 400):
        (folder / f"{k}.png").symlink_to(folder / "00.png")
    with Process(script, INTERRUPTED, folder, store, workers) as process:
        assert "07.png" in process.stdout.readline(), process.stderr.read()
        os.killpg(process.pid, signal.SIGINT)
        stdout, stderr = process.communicate(timeout=20)
    assert stdout.splitlines()[-1] == "interrupted"
    assert stderr == ""
    assert list(store.iterdir()) == []
    with pytest.raises(ProcessLookupError):
        os.killpg(process.pid, 0)


def test_an_image_in_memory_is_read_as_one_in_a_file(tmp_path):
    draw(tmp_path / "a.png", 9, 8, "RGBA")
    data = (tmp_path / "a.png").read_bytes()
    assert reading.decode_image(data, "row 1") == reading.open_image(tmp_path / "a.png")
    with pytest.raises(ValueError, match=r"^row 1 cannot be decoded: "):
        reading.decode_image(data[:60], "row 1")
