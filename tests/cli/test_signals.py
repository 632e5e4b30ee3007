"""Tests of commands that a signal ends, and of commands whose standard output is lost."""

import os
import signal
import subprocess
import sys
import time

import pytest

import pixelsr
from pixelsr.cli import errors
from pixelsr.utils.signals import end_signals, signals_raise
from tests.support.command_cases import invoke, save_photo, tiny
from tests.support.processes import Process, script

SLOW = """
import sys, time
from pixelsr.cli import main
from pixelsr.sampling import api
def slow(*arguments):
    print("drawing", file=sys.stderr, flush=True)
    time.sleep(60)
api.start_engine = slow
main()
"""


@pytest.fixture
def command(tmp_path):
    tiny().save_pretrained(tmp_path / "model")
    photo = save_photo(tmp_path / "photo.png")
    return ["enlarge", photo, "-o", tmp_path / "out", "--model", tmp_path / "model"]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_ends_the_drawing_with_one_sentence(command, number):
    with Process(script, SLOW, *command) as process:
        assert process.stderr.readline() == "drawing\n"
        began = time.perf_counter()
        process.send_signal(number)
        _, said = process.communicate(timeout=50)
    assert time.perf_counter() - began < 30
    assert process.returncode == 128 + number
    assert said == f"Error: ended by {number.name}\n"


@pytest.mark.parametrize("lost", ["full", "closed"])
def test_a_standard_output_that_is_lost_gives_one_sentence(command, tmp_path, lost):
    read, write = os.pipe()
    os.close(read)
    stdout = open("/dev/full", "w") if lost == "full" else write  # noqa: SIM115
    line = [sys.executable, "-m", "pixelsr", *map(str, command)]
    done = subprocess.run(line, stdout=stdout, stderr=subprocess.PIPE, text=True, timeout=60)
    os.close(write)
    reason = "No space left on device" if lost == "full" else "Broken pipe"
    assert done.returncode == 1
    assert done.stderr == f"Error: standard output cannot be written: {reason}\n"
    assert len(list((tmp_path / "out").iterdir())) == 5  # written before


def test_another_full_disk_is_not_taken_for_standard_output(monkeypatch):
    def full(*arguments):
        raise OSError(28, "No space left on device", "some/file")

    monkeypatch.setattr(pixelsr.models.PixelModel, "from_pretrained", full)
    result = invoke("evaluate", "photos", "--model", "faces-8x32")
    assert result.exit_code == 1
    assert result.stderr == "Error: some/file: No space left on device\n"
    assert errors.sentence(OSError(28, "No space left on device")) == "No space left on device"


def test_the_signals_are_as_before_after_a_command():
    before = {number: signal.getsignal(number) for number in end_signals()}
    with signals_raise():
        assert {number: signal.getsignal(number) for number in before} != before
    assert {number: signal.getsignal(number) for number in before} == before


def test_a_hangup_that_is_ignored_stays_ignored():
    """Check that an ignored SIGHUP, as under `nohup`, stays ignored."""
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with signals_raise():
            assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
            signal.raise_signal(signal.SIGHUP)
    finally:
        signal.signal(signal.SIGHUP, before)
