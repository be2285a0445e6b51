"""Copies an application and the packages that it is installed with into one folder, as a function's zip holds them.

    python3 windlass_bundle.py FOLDER

Run while an image is made of the application's own, by its own Python: what is copied is what it would import.
"""

import os
import shutil
import sys

FOLDERS = (".", "/app", "/code", "/srv", "/usr/src/app", "/var/task")
# A function brings none of these to use, and they are a third of what a small application weighs.
FOREIGN = {".git", ".venv", "venv", "env", "node_modules", "__pycache__", "pip", "setuptools", "wheel", "pkg_resources"}


def left_out(folder, names):
    virtual = lambda name: os.path.isfile(os.path.join(folder, name, "pyvenv.cfg"))
    return [name for name in names if name in FOREIGN or name.endswith(".pyc") or name.startswith(".env") or virtual(name)]


def main(into):
    here = next((path for path in FOLDERS if os.path.isfile(os.path.join(path, "manage.py"))), ".")
    here = os.path.abspath(here)
    if here == "/":
        sys.exit("the image has no WORKDIR, and no manage.py where one is looked for: set WORKDIR to the project's directory")
    packages = [path for path in sys.path if path.endswith(("site-packages", "dist-packages")) and os.path.isdir(path)]
    # What comes first on the path is what is imported: it is copied last, and the application after it.
    for folder in [*reversed(packages), here]:
        print(f"copying {folder}", flush=True)
        shutil.copytree(folder, into, dirs_exist_ok=True, ignore=left_out, ignore_dangling_symlinks=True)
    for folder, _, names in os.walk(into):
        os.chmod(folder, 0o755)
        for name in names:
            path = os.path.join(folder, name)
            os.chmod(path, 0o755 if os.access(path, os.X_OK) and not path.endswith(".py") else 0o644)


main(sys.argv[1])
