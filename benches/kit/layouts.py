"""Small sites as the usual tools lay them out, each in two editions between which every file with a hash in its name gets another one."""

import hashlib
import json
import re
from collections import namedtuple

from .trees import fingerprint

# `asset` gives a hashed file's path from its name, its kind and the edition; `pages` and `plain` keep their names.
Layout = namedtuple("Layout", "name asset pages plain")


def _hex(of, length):
    return hashlib.sha256(of.encode()).hexdigest()[:length]


def _vite(name, kind, edition):
    return f"assets/{name}-{fingerprint(f'{name} {edition}')}.{kind}"


def _cra(name, kind, edition):
    folder = {"js": "js", "css": "css"}.get(kind, "media")
    # A name without a digit in its hash could be a word, so that one is made sure of.
    return f"static/{folder}/{name}.1{_hex(f'{name} {edition}', 7)}.{'chunk.' if kind == 'js' else ''}{kind}"


def _next(name, kind, edition):
    digest = _hex(f"{name} {edition}", 16)
    if kind == "js":
        return f"_next/static/chunks/app/{name}-{digest}.js"
    if kind == "css":
        return f"_next/static/css/{digest}.css"
    return f"_next/static/media/{name}.{digest[:8]}.{kind}"


LAYOUTS = [
    Layout("Vite", _vite, ["index.html", "docs/index.html"], ["service-worker.js", "manifest.webmanifest", "robots.txt"]),
    Layout("CRA", _cra, ["index.html"], ["asset-manifest.json", "manifest.json", "robots.txt", "favicon.ico"]),
    Layout("Next", _next, ["index.html", "about.html", "blog/post/index.html", "404.html"], ["index.txt", "favicon.ico"]),
]


def write(layout, root, edition):
    """Writes an edition of a layout to `root`."""
    kinds = ["js"] * 14 + ["css"] * 3 + ["svg"] * 3
    assets = [layout.asset(f"{kind}part{number}", kind, edition) for number, kind in enumerate(kinds)]
    if layout.name == "Next":
        build = _hex(f"build {edition}", 12)
        assets += [f"_next/static/{build}/_buildManifest.js", f"_next/static/{build}/_ssgManifest.js"]
    files = {path: f"/* {path}, edition {edition} */" for path in assets}
    # The first edition has a page that the second has not, and the other way round.
    pages = [*layout.pages, f"only-in-{edition}/index.html"]
    for number, page in enumerate(pages):
        # Each page names its own half of the assets, the entry document all of them.
        named = assets if number == 0 else assets[number % 2 :: 2]
        files[page] = f"<!doctype html><title>{page} {edition}</title>\n" + "\n".join(map(_element, named))
    for name in layout.plain:
        files[name] = json.dumps({"edition": edition, "files": assets})
    for path, text in files.items():
        file = root / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)


def _element(path):
    if path.endswith(".css"):
        return f'<link rel="stylesheet" href="/{path}">'
    return f'<script src="/{path}"></script>' if path.endswith(".js") else f'<img src="/{path}" alt="">'


def references(html):
    """The keys that a page names."""
    return set(re.findall(r'(?:src|href)="/([^"]+)"', html))
