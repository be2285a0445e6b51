"""The counting server, as a child of the benchmark. What it can be asked is in counting-s3/src/admin.rs."""

import json
import os
import ssl
import subprocess
import urllib.parse
import urllib.request
from collections import namedtuple

# A request that has been answered; `keys` holds more than one only for a bulk deletion.
Line = namedtuple("Line", "at operation bucket keys bytes status md5")
# An object as it is stored.
Stored = namedtuple("Stored", "md5 etag size headers")

WRITES = {"PutObject", "CopyObject", "DeleteObject", "DeleteObjects", "CompleteMultipartUpload"}


class Server:
    def __init__(self, program, tls_directory=None):
        command = [str(program), "127.0.0.1:0"]
        self.authority = None
        if tls_directory is not None:
            command += ["--tls", str(tls_directory)]
            self.authority = tls_directory / "authority.pem"
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        self.url = self.process.stdout.readline().strip()
        if not self.url:
            raise SystemExit("the counting server did not start")
        handlers = [urllib.request.ProxyHandler({})]
        if self.authority:
            handlers.append(urllib.request.HTTPSHandler(context=ssl.create_default_context(cafile=self.authority)))
        self._opener = urllib.request.build_opener(*handlers)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.terminate()
        self.process.wait()

    def admin(self, verb, **parameters):
        query = urllib.parse.urlencode(parameters)
        with self._opener.open(f"{self.url}/__{verb}?{query}", timeout=60) as answer:
            return answer.read().decode()

    def counts(self):
        return json.loads(self.admin("stats"))

    def log(self):
        lines = []
        for text in self.admin("log").splitlines():
            at, operation, bucket, keys, size, status, md5 = text.split("\t")
            keys = [urllib.parse.unquote(key) for key in keys.split()]
            lines.append(Line(int(at), operation, bucket, keys, int(size), int(status), md5))
        return lines

    def objects(self, bucket):
        """Every object of a bucket, by its key."""
        objects = {}
        for text in self.admin("dump", bucket=bucket).splitlines():
            _, key, md5, etag, size, headers = text.split("\t")
            objects[urllib.parse.unquote(key)] = Stored(md5, etag, int(size), headers)
        return objects

    def cpu(self):
        """Seconds of CPU that the server has used; 0 where the system does not say."""
        try:
            with open(f"/proc/{self.process.pid}/stat") as file:
                fields = file.read().rsplit(")", 1)[1].split()
        except OSError:
            return 0.0
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
