"""Ctrl-C at the worst of moments: inside destructors, again and again, and when everything is done."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Callable

import pytest

from study.cli.terminal import interrupts
from tests.study.conftest import Answer

HEAD = """
import atexit, os, signal, sys, threading, time
from study.cli import app as cli

class Interrupted:
    def __init__(self, seconds=0.0):
        self.seconds = seconds

    def __del__(self):
        os.kill(os.getpid(), signal.SIGINT)
        until = time.monotonic() + self.seconds
        while True:  # the interrupt is raised in here, and cannot leave it
            if time.monotonic() >= until:
                break

def app():
    command()
    time.sleep(300)
    print("the interrupt was lost")
"""
TAIL = """
cli.app, sys.argv = app, ["gaplab"]
cli.main()
"""
ONCE = """
def command():
    Interrupted()
"""
LONG = """
class Long:
    def __del__(self):
        for _ in range(5):  # the same interrupt, dropped and raised again
            try:
                Interrupted(0.1)
                time.sleep(0.1)
            except KeyboardInterrupt:
                Interrupted()
def command():
    Long()
"""
STORM = """
def storm():
    while True:
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(0.0005)

def command():
    threading.Thread(target=storm, daemon=True).start()
    while True:
        Interrupted()
"""
AT_THE_END = """
def late():
    os.kill(os.getpid(), signal.SIGINT)
    time.sleep(300)

def app():
    print("done")
    atexit.register(late)
"""


@pytest.mark.parametrize("program", [ONCE, LONG, STORM, AT_THE_END], ids=["once", "long", "storm", "at the end"])
def test_it_ends_the_command_at_once_without_a_traceback(program: str) -> None:
    done = subprocess.run([sys.executable, "-c", HEAD + program + TAIL], capture_output=True, text=True, timeout=200, check=False)
    assert done.returncode == interrupts.CODE, done.stderr
    assert "Traceback" not in done.stderr
    assert "Exception ignored" not in done.stderr
    assert done.stdout == ("done\n" if program == AT_THE_END else "")


@pytest.mark.parametrize("command", [("check", "theorem1"), ("atlas", "build")])
def test_it_is_told_of_wherever_it_comes(command: tuple[str, ...], gaplab: Callable[..., Answer], monkeypatch: pytest.MonkeyPatch) -> None:
    """Typer, by itself, ends with the right code and without a word."""

    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("study.spec.reading.read_spec", interrupted)
    answer = gaplab(*command)
    assert (answer.code, answer.out) == (interrupts.CODE, "")
    assert answer.err.strip() == "Interrupted: what is recorded stays, and the same command goes on from there."


@pytest.mark.parametrize("module", ["typer", "study.cli.app", "study.cli.scaling"])
def test_it_is_told_of_while_the_command_is_loaded(module: str) -> None:
    program = f"""
import os, signal, sys

class Early:
    def find_spec(self, name, path=None, target=None):
        if name == {module!r}:
            os.kill(os.getpid(), signal.SIGINT)

signal.signal(signal.SIGINT, signal.default_int_handler)
sys.meta_path.insert(0, Early())
from study.cli import main
main()
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=25, check=False)
    assert done.returncode == interrupts.CODE, done.stderr
    assert (done.stdout, done.stderr) == ("", f"{interrupts.TOLD}\n")


def test_other_errors_in_destructors_are_told_as_ever() -> None:
    program = "class Broken:\n    def __del__(self): raise OSError('told')\ndef app(): Broken()\n"
    done = subprocess.run([sys.executable, "-c", HEAD + program + TAIL], capture_output=True, text=True, timeout=200, check=False)
    assert done.returncode == 0
    assert "OSError: told" in done.stderr


def test_a_program_with_handlers_of_its_own_keeps_them() -> None:
    def own(number: int, frame: object) -> None:
        """Of a program that calls gaplab."""

    hook, before = sys.unraisablehook, signal.signal(signal.SIGINT, own)
    try:
        with interrupts.delivered():
            assert (signal.getsignal(signal.SIGINT), sys.unraisablehook) == (own, hook)
        assert signal.getsignal(signal.SIGINT) is own
    finally:
        signal.signal(signal.SIGINT, before)
