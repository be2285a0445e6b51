"""Does `windlass plan` say what the release that follows does, and are the headers right? By the server's log and what it stores."""

import json
import subprocess
import urllib.parse

from . import layouts
from .clients import environment
from .trees import fingerprint

# One file of each type that built sites have, and how it must be served: type, with a charset or not, encoding.
TYPES = {
    "about.html": ("text/html", True, None),
    "app.js": ("text/javascript", True, None),
    "worker.mjs": ("text/javascript", True, None),
    "style.css": ("text/css", True, None),
    "data.json": ("application/json", None, None),
    "app.js.map": ("application/json", None, None),
    "robots.txt": ("text/plain", True, None),
    "sitemap.xml": (("application/xml", "text/xml"), None, None),
    "logo.svg": ("image/svg+xml", None, None),
    "photo.webp": ("image/webp", False, None),
    "favicon.ico": (("image/x-icon", "image/vnd.microsoft.icon"), False, None),
    "font.woff2": ("font/woff2", False, None),
    "module.wasm": ("application/wasm", False, None),
    "manifest.webmanifest": ("application/manifest+json", None, None),
    "paper.pdf": ("application/pdf", False, None),
    ".well-known/apple-app-site-association": ("application/json", None, None),
    "app.js.br": ("text/javascript", True, "br"),
    "style.css.gz": ("text/css", True, "gzip"),
}


def run(server, client, home):
    """Pairs of a promise and what is wrong with it, which is empty if it is kept."""
    told = environment(server, home)
    root = home / "plan-check"

    def command(verb, *options):
        release = client.command(root, server.url)
        release[release.index("release")] = verb
        return subprocess.run([*release, *options], env=told, capture_output=True, text=True)

    def round_trip(name):
        """A plan, then its release."""
        server.admin("reset")
        planned = command("plan", "--format", "json")
        if planned.returncode != 0:
            yield f"{name}: plan", planned.stderr.strip()
            return
        writes = server.counts()["writes"]
        plan = json.loads(planned.stdout)["sites"]["web"]
        server.admin("reset")
        released = command("release")
        wrong = [f"the plan made {writes} writes"] if writes else []
        if released.returncode != 0:
            wrong.append(f"the release ended with {released.returncode}: {released.stderr.strip()}")
        wrong += [f"{what}: {why}" for what, why in compare(plan, server.log(), server.objects("site")) if why]
        count = f"{len(plan['upload'])} uploads, {len(plan['publish'])} overwrites, {len(plan.get('prune', []))} deletes"
        yield f"{name}: keys, bytes, order and headers of {count} are the plan's", "; ".join(wrong)

    server.admin("wipe")
    _write(root)
    yield from round_trip("types, first release")
    wrong = [text for path, wanted in TYPES.items() for text in _wrong_type(path, wanted, server.objects("site"))]
    yield f"content types, {len(TYPES) - len(wrong)} of {len(TYPES)}", "; ".join(wrong)

    for layout in layouts.LAYOUTS:
        server.admin("wipe")
        for edition in (1, 2):
            _remove(root)
            layouts.write(layout, root, edition)
            yield from round_trip(f"{layout.name}, release {edition}")


def compare(plan, log, objects):
    done = [line for line in log if line.bucket == "site" and 200 <= line.status < 300]
    written = [line for line in done if line.operation in ("PutObject", "CopyObject", "CompleteMultipartUpload")]
    deleted = [key for line in done if line.operation.startswith("DeleteObject") for key in line.keys]
    uploads = {write["key"]: write["size"] for write in plan["upload"]}
    publish = [write["key"] for write in plan["publish"]]
    keys = [line.keys[0] for line in written]

    yield "keys", _difference({*uploads, *publish}, set(keys)) or ("some twice" if len(keys) != len(set(keys)) else "")
    stored = {key: objects[key].size for key in keys if key in objects}
    yield "bytes", _difference({**uploads, **{write["key"]: write["size"] for write in plan["publish"]}}.items(), stored.items())
    sent = sum(line.bytes for line in written if line.keys[0] in uploads)
    yield "bytes sent for uploads", "" if sent == sum(uploads.values()) else f"{sent} instead of {sum(uploads.values())}"

    # Within a rank a release works side by side; the ranks follow one another.
    ranks = {key: 0 for key in uploads}
    for write in plan["publish"]:
        ranks[write["key"]] = 3 if write["key"] == "index.html" else 2 if write["class"] == "entry" else 1
    for what, order in (("log", [ranks[key] for key in keys if key in ranks]), ("plan", [ranks[key] for key in publish])):
        yield f"order in the {what}", "" if order == sorted(order) else "not uploads, files, pages, entry document"
    first_delete = next((number for number, line in enumerate(done) if line.operation.startswith("Delete")), len(done))
    late = [line.keys[0] for line in done[first_delete:] if line in written]
    yield "deletes last", f"written after them: {late[:3]}" if late else ""
    yield "deletes", _difference({prune["key"] for prune in plan.get("prune", [])}, set(deleted))

    wrong = []
    for write in [*plan["upload"], *plan["publish"]]:
        held = _headers(objects, write["key"])
        for header, value in write["headers"].items():
            found = held.get(header.replace("_", "-"))
            if value is not None and found != value:
                wrong.append(f"{write['key']}: {header} is {found} and not {value}")
    yield "headers", "; ".join(wrong[:3])


def _difference(wanted, found):
    missing, more = sorted(set(wanted) - set(found)), sorted(set(found) - set(wanted))
    parts = []
    if missing:
        parts.append(f"{len(missing)} planned and not done: {missing[:3]}")
    if more:
        parts.append(f"{len(more)} done and not planned: {more[:3]}")
    return "; ".join(parts)


def _wrong_type(path, wanted, objects):
    types, charset, encoding = wanted
    held = _headers(objects, path)
    full = held.get("content-type", "")
    found = full.split(";")[0].strip()
    if found not in ((types,) if isinstance(types, str) else types):
        yield f"{path} is {full or 'without a type'}"
    elif charset is not None and charset != ("charset=utf-8" in full.lower()):
        yield f"{path} is {full}, {'without' if charset else 'with'} a charset"
    elif held.get("content-encoding") != encoding:
        yield f"{path} has the encoding {held.get('content-encoding')}"


def _headers(objects, key):
    if key not in objects:
        return {}
    return {name: urllib.parse.unquote(value) for name, _, value in (part.partition("=") for part in objects[key].headers.split())}


def _write(root):
    files = {"index.html": "<!doctype html><title>Types</title>", **{path: f"// {path}" for path in TYPES}}
    files[f"assets/app-{fingerprint('app')}.js"] = "export {}"
    for path, text in files.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text(text)


def _remove(root):
    for path in sorted(root.rglob("*"), reverse=True):
        path.rmdir() if path.is_dir() else path.unlink()
