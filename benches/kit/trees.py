"""The trees: built sites of any size, the same at every run and on every machine.

Most files lie in `assets/`, small and with a hash in their names, as Vite writes them; the rest are pages and the files that every
site has. Each file says near its beginning which edition it is. An edit changes that and nothing else: neither its name, nor its size,
nor (as after a reproducible build, or from an archive) its modification time.
"""

import base64
import hashlib
import math
import os
import random
import time
from collections import namedtuple
from pathlib import Path

# Share of all files, median size, spread (of the size's logarithm).
KINDS = [
    ("js", 0.50, 6_000, 1.2),
    ("js.map", 0.12, 15_000, 1.1),
    ("svg", 0.10, 1_500, 0.6),
    ("webp", 0.09, 30_000, 1.1),
    ("css", 0.08, 3_000, 1.0),
    ("html", 0.06, 9_000, 0.6),
    ("png", 0.03, 60_000, 1.2),
    ("woff2", 0.02, 28_000, 0.5),
]
FIXED = "index.html service-worker.js manifest.webmanifest robots.txt favicon.ico 404.html asset-manifest.json sitemap.xml".split()
WORDS = 'const function return export import =>{ }; React.createElement( "use strict"; useState( null void 0 className: '.split(" ")
SEED = 20
LONG_AGO = 1_700_000_000

Planned = namedtuple("Planned", "path kind size fingerprinted")


class Tree:
    def __init__(self, root, count):
        """Writes a tree of `count` files to `root`."""
        self.root = Path(root)
        self.planned = _plan(count)
        self.md5 = {}
        chance = random.Random(SEED)
        binary = chance.randbytes(4 << 20)
        text = "".join(chance.choice(WORDS) + format(chance.getrandbits(40), "x") for _ in range(200_000)).encode()
        for number, file in enumerate(self.planned):
            pool = binary if file.kind in ("webp", "png", "woff2", "ico") else text
            at = chance.randrange(len(pool) - file.size)
            body = self._head(number, file)
            body += pool[at : at + file.size - len(body)]
            path = self.root / file.path
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(body)
            self.md5[file.path] = hashlib.md5(body).hexdigest()
        self.date(LONG_AGO)

    @property
    def bytes(self):
        return sum(file.size for file in self.planned)

    @property
    def without_fingerprint(self):
        return sum(1 for file in self.planned if not file.fingerprinted)

    def date(self, when=None):
        """Gives every file a modification time; now, if none is given."""
        when = time.time() if when is None else when
        for file in self.planned:
            os.utime(self.root / file.path, (when, when))

    def edit(self, generation, share=0.01):
        """Makes another edition of one file in a hundred, of the page and the service worker always."""
        chance = random.Random(SEED + generation)
        count = max(2, round(len(self.planned) * share))
        picked = {0, 1, *chance.sample(range(2, len(self.planned)), count - 2)}
        for number in sorted(picked):
            path = self.planned[number].path
            self._edition(path, generation)
        return len(picked)

    def _edition(self, path, generation):
        file = self.root / path
        before = file.stat()
        body = file.read_bytes()
        at = body.index(b"edition ") + len(b"edition ")
        body = body[:at] + b"%08d" % generation + body[at + 8 :]
        file.write_bytes(body)
        os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))
        self.md5[path] = hashlib.md5(body).hexdigest()

    def _head(self, number, file):
        if file.kind != "html":
            return b"/* edition 00000000 of file %d */\n" % number
        head = "<!doctype html><!-- edition 00000000 of page %d --><title>Page</title>\n" % number
        assets = [file.path for file in self.planned if file.fingerprinted and file.kind in ("js", "css")][:8]
        return (head + "".join(_reference(path) for path in assets)).encode()


def _reference(path):
    if path.endswith(".css"):
        return f'<link rel="stylesheet" href="/{path}">\n'
    return f'<script type="module" src="/{path}"></script>\n'


def _plan(count):
    chance = random.Random(SEED)
    planned = [Planned(path, path.rsplit(".", 1)[1], chance.randint(2_000, 6_000), False) for path in FIXED]
    kinds, shares = [kind[0] for kind in KINDS], [kind[1] for kind in KINDS]
    while len(planned) < count:
        number = len(planned)
        kind = chance.choices(kinds, shares)[0]
        _, _, median, spread = KINDS[kinds.index(kind)]
        size = int(min(2e6, max(1_000, median * math.exp(chance.gauss(0, spread)))))
        if kind == "html":
            planned.append(Planned(f"docs/s{number % 37}/p{number}/index.html", kind, max(size, 2_000), False))
        else:
            planned.append(Planned(f"assets/chunk{number}-{fingerprint(number)}.{kind}", kind, size, True))
    return planned


def fingerprint(of):
    """Eight characters as a bundler writes them, with a digit among them: without one they could be a word."""
    salt = 0
    while True:
        text = base64.urlsafe_b64encode(hashlib.sha256(f"{of} {salt}".encode()).digest()).decode()[:8]
        if any(letter.isdigit() for letter in text):
            return text
        salt += 1
