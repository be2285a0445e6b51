"""The clients: how each brings a directory to a bucket, so that what is gone from the one goes from the other, too."""

import json
import os
import ssl
import subprocess
from collections import namedtuple
from pathlib import Path

from . import programs

TUNED = "--checksum --fast-list --transfers=64 --checkers=64 --s3-no-head --s3-no-check-bucket --no-update-modtime".split()

# What everything is compared with: of the peers that compare contents, the fastest, with its best settings.
YARDSTICK = "rclone-tuned"

# `command` gives the arguments for a tree and the server's URL; `kms` are those that tell of a bucket with a key of KMS.
Client = namedtuple("Client", "name version bucket command kms", defaults=[[]])

HELP = {
    "rclone-tuned": "rclone sync " + " ".join(TUNED),
    "rclone": "rclone sync, as it is",
    "aws": "aws s3 sync --delete",
    "s5cmd": "s5cmd sync --delete",
}


def environment(server, home):
    """All that a client is told: nothing of the machine's own settings, credentials or proxies."""
    told = {
        "PATH": os.environ.get("PATH", os.defpath),
        "HOME": str(home),
        "LANG": "C.UTF-8",
        "TMPDIR": str(home),
        "AWS_ACCESS_KEY_ID": "benchmark",
        "AWS_SECRET_ACCESS_KEY": "benchmark",
        "AWS_REGION": "us-east-1",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_EC2_METADATA_DISABLED": "true",
        "AWS_CONFIG_FILE": "/nonexistent",
        "AWS_SHARED_CREDENTIALS_FILE": "/nonexistent",
        "RCLONE_CONFIG": "/dev/null",
    }
    if server.authority:
        told["SSL_CERT_FILE"] = told["AWS_CA_BUNDLE"] = str(_trusted(server.authority, home))
    return told


def _trusted(authority, home):
    """The server's authority beside all that the machine trusts: to read those is part of what TLS costs."""
    paths = ssl.get_default_verify_paths()
    machine = [Path(path) for path in (paths.cafile, paths.openssl_cafile, "/etc/ssl/certs/ca-certificates.crt", "/etc/ssl/cert.pem") if path]
    found = next((path.read_text() for path in machine if path.is_file()), "")
    bundle = home / "trusted.pem"
    bundle.write_text(found + authority.read_text())
    return bundle


def windlass(program, home, *, name="windlass"):
    """One prebuilt site without a distribution, whose state is in another bucket."""

    def command(tree, url, *options):
        configuration = home / f"windlass-{tree.name}.yml"
        site = {"path": str(tree), "output": ".", "prebuilt": True, "bucket": "site", "source_maps": "upload"}
        site["keep"] = {"releases": 1, "days": 0}
        # JSON is YAML.
        configuration.write_text(json.dumps({"app": "bench", "state": "s3://state/bench", "sites": {"web": site}}))
        return [str(program), "release", "--config", str(configuration), "--endpoint-url", url, "--progress", "none", *options]

    return Client(name, _version([str(program), "--version"]), "site", command)


def peers(names):
    """The peers of these names that can be had."""
    made = {"rclone-tuned": _rclone_tuned, "rclone": _rclone, "aws": _aws, "s5cmd": _s5cmd}
    found = []
    for name in names:
        path = programs.find_peer(name.split("-")[0])
        if path is not None:
            found.append(made[name](str(path)))
    return found


def _rclone_with(program, name, options):
    def command(tree, url, *more):
        access = ["--s3-provider=Other", f"--s3-endpoint={url}", "--s3-region=us-east-1", "--s3-force-path-style"]
        keys = ["--s3-access-key-id=benchmark", "--s3-secret-access-key=benchmark"]
        return [program, "sync", str(tree), f":s3:{name}", *access, *keys, "--quiet", *options, *more]

    # Without this it takes the entity tag for the MD5 of what it has just uploaded, and gives up.
    kms = ["--s3-server-side-encryption=aws:kms"]
    return Client(name, _version([program, "version"]), name, command, kms)


def _rclone_tuned(program):
    return _rclone_with(program, "rclone-tuned", TUNED)


def _rclone(program):
    return _rclone_with(program, "rclone", [])


def _aws(program):
    def command(tree, url):
        return [program, "--endpoint-url", url, "s3", "sync", str(tree), "s3://aws", "--delete", "--only-show-errors"]

    return Client("aws", _version([program, "--version"]), "aws", command)


def _s5cmd(program):
    def command(tree, url):
        return [program, "--endpoint-url", url, "--log", "error", "sync", "--delete", f"{tree}/", "s3://s5cmd/"]

    return Client("s5cmd", _version([program, "version"]), "s5cmd", command)


def _version(command):
    """The first line of what it says. This also brings the program into memory before anything is timed."""
    run = subprocess.run(command, capture_output=True, text=True)
    return ((run.stdout or run.stderr).splitlines() or ["unknown"])[0]
