"""One run of one client: what it took, and what the server saw of it."""

import json
import subprocess
import sys
from collections import namedtuple
from pathlib import Path

# Seconds, bytes, and counts of the server's. `stale` are files whose object is missing or has another content.
Run = namedtuple("Run", "status wall cpu rss requests puts copies sent stale operations server_cpu errors")


class Meter:
    def __init__(self, home):
        self.errors = home / "errors.txt"
        launcher = Path(__file__).with_name("launcher.py")
        command = [sys.executable, "-I", "-S", str(launcher)]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.stdin.close()
        self.process.wait()

    def run(self, server, client, environment, tree, *options):
        server.admin("reset")
        before = server.cpu()
        order = {"argv": client.command(tree.root, server.url, *options), "env": environment, "errors": str(self.errors)}
        print(json.dumps(order), file=self.process.stdin, flush=True)
        used = json.loads(self.process.stdout.readline())
        server_cpu = server.cpu() - before
        counts = server.counts()
        operations = counts["operations"]
        objects = server.objects(client.bucket)
        stale = sum(1 for path, md5 in tree.md5.items() if path not in objects or objects[path].md5 != md5)
        return Run(
            **used,
            requests=counts["requests"],
            puts=operations.get("PutObject", 0) + operations.get("UploadPart", 0),
            copies=operations.get("CopyObject", 0),
            sent=counts["put_bytes"],
            stale=stale,
            operations=operations,
            server_cpu=server_cpu,
            errors=self.errors.read_text(errors="replace").strip() if used["status"] else "",
        )
