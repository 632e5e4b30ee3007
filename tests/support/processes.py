"""Processes for tests, forked from a server that has imported PyTorch once.

To import PyTorch takes a process two seconds. The server imports nothing of this project, because
the environment of a process may decide what that imports. A few tests of each kind start a real
`python -m pixelsr` by `subprocess` instead.
"""

import contextlib
import multiprocessing
import os
import resource
import runpy
import signal
import socket
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from multiprocessing import reduction

CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(["torch", "torch.distributed.nn"])


class _Stream:
    """A file descriptor; a copy of it arrives in the child as a number."""

    def __init__(self, number):
        self.number = number

    def __reduce__(self):
        return _detach, (reduction.DupFd(self.number),)


def _detach(stream):
    return stream.detach()


def _begin(work, arguments, stdout, stderr, environment):
    """Make this process like one that was just started, in a session of its own, and work."""
    os.setsid()
    multiprocessing.set_start_method(None, force=True)  # the default
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGHUP, signal.SIG_DFL)  # `nohup` ignores it
    os.environ.clear()
    os.environ.update(environment)
    for copy, number in ((stdout, 1), (stderr, 2)):
        os.dup2(copy, number)
        os.close(copy)
    sys.stdout, sys.stderr = os.fdopen(1, "w", closefd=False), os.fdopen(2, "w", 1, closefd=False)
    work(*arguments)


class Process:
    """A process that calls `work(*arguments)`, with the interface of `subprocess.Popen`."""

    def __init__(self, work, *arguments, environment=None):
        pipes = [os.pipe(), os.pipe()]
        ends = [_Stream(end) for _, end in pipes]
        given = (work, arguments, *ends, {**os.environ, **(environment or {})})
        self._process = CONTEXT.Process(target=_begin, args=given)
        self._process.start()
        for _, end in pipes:
            os.close(end)
        self.stdout, self.stderr = (os.fdopen(end) for end, _ in pipes)

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self._process.kill()
        self._process.join()
        self._kill_children()
        self.stdout.close()
        self.stderr.close()

    @property
    def pid(self):
        return self._process.pid

    @property
    def returncode(self):
        return self._process.exitcode

    def poll(self):
        return self.returncode

    def send_signal(self, number):
        os.kill(self.pid, number)

    def _kill_children(self):
        """Kill all processes of the session; the process itself has ended or is late."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)

    def communicate(self, timeout=300):
        """Return what the process writes until its end."""
        with ThreadPoolExecutor(2) as pool:
            texts = [pool.submit(stream.read) for stream in (self.stdout, self.stderr)]
            self._process.join(timeout)
            is_late = self.returncode is None
            self._kill_children()  # else a child that keeps the streams open is waited for
            stdout, stderr = (text.result() for text in texts)
        if is_late:
            raise TimeoutError(f"it still ran after {timeout} seconds: {(stdout + stderr)[-1000:]}")
        return stdout, stderr


def run(work, *arguments, timeout=300, environment=None):
    """Call `work(*arguments)` in a process, and return its status and output."""
    with Process(work, *arguments, environment=environment) as process:
        return _finished(process, timeout)


def run_workers(count, work, *arguments, timeout=300):
    """Run several processes that find each other as those of `torchrun` do."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        common = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free.getsockname()[1])}
    common["WORLD_SIZE"] = str(count)
    with contextlib.ExitStack() as stack:
        started = []
        for rank in map(str, range(count)):
            environment = common | {"RANK": rank, "LOCAL_RANK": rank}
            process = Process(work, *arguments, environment=environment)
            started.append(stack.enter_context(process))
        return [_finished(process, timeout) for process in started]


def _finished(process, timeout):
    stdout, stderr = process.communicate(timeout)
    return subprocess.CompletedProcess([], process.returncode, stdout, stderr)


# What a process does.


def script(text, *arguments):
    """Run the text of a Python program, as `python -c` does."""
    sys.argv = ["-c", *map(str, arguments)]
    exec(compile(text, "<script>", "exec"), {"__name__": "__main__"})


def with_small_files(size, work, *arguments):
    """Work where no file can hold more than `size` bytes, as on a full disk."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    work(*arguments)


def module(name, *arguments):
    """Run a module, as `python -m` does."""
    sys.argv = [name, *map(str, arguments)]
    runpy.run_module(name, run_name="__main__", alter_sys=True)


def command(*arguments):
    """Run `pixelsr` with these arguments."""
    module("pixelsr", *arguments)
