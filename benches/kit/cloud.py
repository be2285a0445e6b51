"""A cloud for the benches that kill and disturb releases: the counting S3 server, the scripted ECS, and here a scripted Lambda and
CloudFront, behind one address. Everything in it can be remembered and gone back to.

Each behaviour is what AWS documents:
Lambda      https://docs.aws.amazon.com/lambda/latest/api/ (GetFunction, UpdateFunctionCode, PublishVersion, Invoke); a function that was
            invoked runs to its end, whoever waits for it
CloudFront  https://docs.aws.amazon.com/cloudfront/latest/APIReference/API_CreateInvalidation.html: the same reference with the same paths
            is the same invalidation
Logs        https://docs.aws.amazon.com/AmazonCloudWatchLogs/latest/APIReference/API_FilterLogEvents.html
"""

import copy
import hashlib
import http.client
import json
import re
import socket
import struct
import subprocess
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from kit.server import Server

READS = ("Get", "Describe", "List", "BatchGet", "BatchCheck", "Filter", "AssumeRole")
SCRIPTED = Path(__file__).resolve().parents[2] / "tests" / "support" / "scripted_ecs.py"
# How long a stalled answer is held back: longer than anybody waits for one.
STALL = 90

# What becomes of one request, and in which words this is said.
FAULTS = {
    "throttle": "throttled", "5xx": "answered with a server error", "reset-before": "cut off before the server acted",
    "reset-after": "cut off after the server acted", "stall": "done, and never answered", "truncate": "done, and its answer cut short",
}


class Ecs:
    """The scripted ECS, as a child."""

    def __init__(self, scale):
        command = [sys.executable, "-B", str(SCRIPTED), "--until-eof", "--scale", str(scale)]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        host, port = self.process.stdout.readline().strip().split("//")[1].split(":")
        self.address = host, int(port)

    def ask(self, method, path):
        connection = http.client.HTTPConnection(*self.address, timeout=30)
        connection.request(method, path, b"")
        answer = json.loads(connection.getresponse().read())
        connection.close()
        return answer


class Lambda:
    """One function, its versions, its log, and the database that it migrates."""

    def __init__(self, seconds):
        self.seconds, self.lock = seconds, threading.Lock()
        self.image, self.versions, self.applied, self.log, self.invocations = "", {}, set(), [], 0

    def configuration(self, name):
        sha = hashlib.sha256(self.image.encode()).hexdigest()
        return {"FunctionName": name, "FunctionArn": f"arn:aws:lambda:us-east-1:000000000000:function:{name}", "PackageType": "Image",
                "State": "Active", "LastUpdateStatus": "Successful", "Timeout": 300, "CodeSha256": sha, "Architectures": ["x86_64"]}

    def answer(self, method, path, body):
        name = path.split("/functions/")[1].split("/")[0].split("?")[0].split(":")[0]
        asked = json.loads(body or b"{}")
        last = path.split("?")[0].rsplit("/", 1)[-1]
        if last == "invocations":
            return 200, self.invoke(asked)
        with self.lock:
            if (method, last) == ("PUT", "code"):
                self.image = asked["ImageUri"]
                return 200, self.configuration(name)
            if (method, last) == ("POST", "versions"):
                version = self.versions.setdefault(self.image, str(len(self.versions) + 1))
                return 201, {**self.configuration(name), "Version": version}
            return 200, {"Configuration": self.configuration(name), "Code": {"ImageUri": self.image, "ResolvedImageUri": self.image}}

    def invoke(self, asked):
        """What a handler of windlass's answers and logs. Each image brings one migration; a second run of it finds nothing pending."""
        mark, migrates = asked.get("mark"), asked.get("action", "migrate") == "migrate"
        if migrates:
            with self.lock:
                self.invocations += 1
                self.say("windlass-start", {"mark": mark, "request": "r"})
            time.sleep(self.seconds)
        with self.lock:
            before, name = set(self.applied), f"items.{self.image[-8:]}"
            if migrates:
                self.applied.add(name)
            answer = {"protocol": 1, "applied": sorted(self.applied - before), "pending": [], "all_applied": sorted(self.applied), "running": None}
            if migrates:
                self.say("windlass-end", {"mark": mark, "answer": answer})
            return answer

    def say(self, word, said):
        self.log.append({"logStreamName": "stream", "timestamp": int(time.time() * 1000), "message": f"{word} {json.dumps(said)}"})

    def logs(self, action, asked):
        with self.lock:
            if action == "FilterLogEvents":
                pattern = (asked.get("filterPattern") or "").strip('"')
                return {"events": [one for one in self.log if pattern in one["message"]]}
            start = int(asked.get("nextToken") or 0)
            events = [{"timestamp": one["timestamp"], "message": one["message"]} for one in self.log[start:]]
            return {"events": events, "nextForwardToken": str(len(self.log)), "nextBackwardToken": "0"}


class CloudFront:
    """Distributions over buckets, by id, and their invalidations."""

    XML = 'xmlns="http://cloudfront.amazonaws.com/doc/2020-05-31/"'

    def __init__(self, buckets):
        self.buckets, self.invalidations = buckets, {}

    def answer(self, method, path, body):
        part = path.split("/distribution/")[1].split("?")[0].split("/")
        if len(part) == 1:
            return 200, self.distribution(part[0])
        if method == "POST":
            reference = re.search(rb"<CallerReference>([^<]*)", body).group(1).decode()
            self.invalidations.setdefault(reference, f"I{len(self.invalidations) + 1:013d}")
            return 201, self.invalidation(self.invalidations[reference], reference, body)
        return 200, self.invalidation(part[-1], "r", b"")

    def invalidation(self, number, reference, body):
        paths = re.search(rb"<Paths>.*</Paths>", body, re.S)
        paths = paths.group(0).decode() if paths else "<Paths><Quantity>0</Quantity></Paths>"
        return (f"<Invalidation {self.XML}><Id>{number}</Id><Status>Completed</Status><CreateTime>2026-01-01T00:00:00Z</CreateTime>"
                f"<InvalidationBatch>{paths}<CallerReference>{reference}</CallerReference></InvalidationBatch></Invalidation>")

    def distribution(self, id_):
        bucket = self.buckets[id_]
        return (f"<Distribution {self.XML}><Id>{id_}</Id><ARN>arn:aws:cloudfront::000000000000:distribution/{id_}</ARN><Status>Deployed</Status>"
                f"<LastModifiedTime>2026-01-01T00:00:00Z</LastModifiedTime><InProgressInvalidationBatches>0</InProgressInvalidationBatches>"
                f"<DomainName>{id_.lower()}.cloudfront.example</DomainName><DistributionConfig><CallerReference>r</CallerReference>"
                "<DefaultRootObject>index.html</DefaultRootObject><Origins><Quantity>1</Quantity><Items><Origin><Id>s3</Id>"
                f"<DomainName>{bucket}.s3.us-east-1.amazonaws.com</DomainName><OriginPath></OriginPath><OriginAccessControlId>E1</OriginAccessControlId>"
                "<S3OriginConfig><OriginAccessIdentity></OriginAccessIdentity></S3OriginConfig></Origin></Items></Origins><DefaultCacheBehavior>"
                "<TargetOriginId>s3</TargetOriginId><ViewerProtocolPolicy>redirect-to-https</ViewerProtocolPolicy></DefaultCacheBehavior>"
                "<Comment></Comment><Enabled>true</Enabled></DistributionConfig></Distribution>")


class Trouble:
    """What is to happen to the `number`-th request of a kind: `kill-before` and `kill-after` end the victim, the others are FAULTS."""

    def __init__(self, what, kind, number, victim=None):
        self.what, self.kind, self.number, self.victim = what, kind, number, victim
        self.known, self.struck = threading.Event(), ""
        if victim is not None or not what.startswith("kill"):
            self.known.set()

    def kill(self):
        # The process has to be known, however soon its first request comes.
        self.known.wait(30)
        self.victim.kill()
        self.victim.wait()


class Cloud:
    """All of it, behind `self.url`."""

    def __init__(self, program, buckets, scale=0.1, seconds=0.05):
        self.s3, self.ecs = Server(program), Ecs(scale)
        self.s3_address = self.s3.url.split("//")[1].split(":")[0], int(self.s3.url.rsplit(":", 1)[1])
        self.function, self.cdn, self.buckets = Lambda(seconds), CloudFront(buckets), buckets
        self.lock, self.counts, self.trouble = threading.Lock(), {"write": 0, "read": 0}, None
        self.requests, self.written = [], []
        self.router = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.router.daemon_threads, self.router.cloud = True, self
        self.url = f"http://127.0.0.1:{self.router.server_address[1]}"
        threading.Thread(target=self.router.serve_forever, daemon=True).start()

    def disturb(self, trouble=None):
        """Begins to count anew."""
        with self.lock:
            self.counts, self.trouble, self.requests, self.written = {"write": 0, "read": 0}, trouble, [], []
        self.function.invocations = 0

    def save(self):
        self.s3.admin("save")
        self.ecs.ask("POST", "/_save")
        function = self.function
        self.kept = copy.deepcopy((function.image, function.versions, function.applied, function.log, self.cdn.invalidations))

    def restore(self):
        self.s3.admin("restore")
        self.s3.admin("reset")
        self.ecs.ask("POST", "/_restore")
        function = self.function
        function.image, function.versions, function.applied, function.log, self.cdn.invalidations = copy.deepcopy(self.kept)

    def end(self):
        self.router.shutdown()
        self.s3.__exit__()
        self.ecs.process.kill()
        self.ecs.process.wait()


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def handle(self):
        try:
            super().handle()
        except OSError:
            pass

    def all(self):
        cloud = self.server.cloud
        body = self.rfile.read(int(self.headers.get("content-length") or 0))
        scope = re.search(r"Credential=[^/]+/\d+/[^/]+/([^/]+)/", self.headers.get("authorization") or "")
        service = scope.group(1) if scope else "page"
        name, kind = self.named(service, body)
        with cloud.lock:
            cloud.counts[kind] += 1
            cloud.requests.append((time.time(), kind, name, len(body)))
            trouble = cloud.trouble
            met = trouble is not None and trouble.kind == kind and cloud.counts[kind] == trouble.number
            if met:
                trouble.struck = name
        what = trouble.what if met else ""
        if what == "kill-before":
            trouble.kill()
            return self.cut()
        if what in ("throttle", "5xx"):
            return self.send(*refusal(service, what))
        if what == "reset-before":
            return self.cut()
        status, headers, answer = self.acted(service, name, body)
        if status < 400:
            # Whose credentials, and what was done: in the order in which it was.
            key = re.search(r"Credential=([^/]+)/", self.headers.get("authorization") or "")
            cloud.written.append((key.group(1) if key else "", kind, name))
        if what == "kill-after":
            trouble.kill()
            return self.cut()
        if what == "reset-after":
            return self.cut()
        if what == "stall":
            self.connection.settimeout(STALL)
            try:
                self.rfile.read(1)
            except OSError:
                pass
            return self.cut()
        self.send(status, headers, answer, what == "truncate")

    do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = all

    def named(self, service, body):
        target = self.headers.get("x-amz-target")
        form = re.search(rb"(?:^|&)Action=(\w+)", body) if service in ("sts", "elasticloadbalancing") else None
        action = target.rsplit(".", 1)[-1] if target else form.group(1).decode() if form else ""
        if action:
            return f"{service}:{action}", "read" if action.startswith(READS) else "write"
        path = self.path.split("?")[0]
        return f"{service}:{self.command} {path}", "read" if self.command in ("GET", "HEAD") else "write"

    def acted(self, service, name, body):
        cloud = self.server.cloud
        asked = name.rsplit(":", 1)[-1]
        json_type = [("content-type", "application/x-amz-json-1.1")]
        if service == "lambda":
            status, answer = cloud.function.answer(self.command, self.path, body)
            return status, json_type, json.dumps(answer).encode()
        if service == "cloudfront":
            status, answer = cloud.cdn.answer(self.command, self.path, body)
            return status, [("content-type", "text/xml")], answer.encode()
        if service == "logs" and "/aws/lambda/" in body.decode():
            return 200, json_type, json.dumps(cloud.function.logs(asked, json.loads(body))).encode()
        if service == "page":
            host = (self.headers.get("host") or "").split(".")[0]
            bucket = next((bucket for id_, bucket in cloud.buckets.items() if id_.lower() == host), None)
            path = self.path.split("?")[0]
            return self.passed_on(cloud.s3_address, f"/{bucket}{path}{'index.html' if path.endswith('/') else ''}", body)
        return self.passed_on(cloud.s3_address if service == "s3" else cloud.ecs.address, self.path, body)

    def passed_on(self, address, path, body):
        connection = http.client.HTTPConnection(*address, timeout=60)
        headers = {name: value for name, value in self.headers.items() if name.lower() not in ("connection", "expect")}
        connection.request(self.command, path, body, headers)
        answer = connection.getresponse()
        result = answer.status, answer.getheaders(), answer.read()
        connection.close()
        return result

    def send(self, status, headers, answer, truncated=False):
        there = {name.lower(): value for name, value in headers}
        length = there.get("content-length", "0") if self.command == "HEAD" else str(len(answer))
        kept = {name: value for name, value in there.items() if name not in ("transfer-encoding", "connection", "content-length")}
        kept.setdefault("date", self.date_time_string())
        lines = [f"HTTP/1.1 {status} {http.client.responses.get(status, '')}"]
        lines += [f"{name}: {value}" for name, value in {**kept, "content-length": length}.items()]
        head = ("\r\n".join(lines) + "\r\n\r\n").encode()
        whole = head + (b"" if self.command == "HEAD" else answer)
        try:
            if truncated:
                # Inside the body, or where there is none inside the head.
                self.wfile.write(whole[: len(head) + len(answer) // 2] if len(whole) > len(head) else head[: len(head) // 2])
                self.wfile.flush()
                self.close_connection = True
                return
            self.wfile.write(whole)
        except OSError:
            self.close_connection = True

    def cut(self):
        """A reset, not an orderly end."""
        self.close_connection = True
        try:
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.connection.close()
        except OSError:
            pass


def refusal(service, what):
    """How a service throttles, and how it fails: https://docs.aws.amazon.com/sdkref/latest/guide/feature-retry-behavior.html"""
    if service == "s3":
        status, code = (503, "SlowDown") if what == "throttle" else (500, "InternalError")
        return status, [("content-type", "application/xml")], f"<Error><Code>{code}</Code><Message>Please try again</Message></Error>".encode()
    if service in ("cloudfront", "sts", "elasticloadbalancing"):
        status, code = (400, "Throttling") if what == "throttle" else (500, "InternalFailure")
        text = f"<ErrorResponse><Error><Type>Sender</Type><Code>{code}</Code><Message>Rate exceeded</Message></Error></ErrorResponse>"
        return status, [("content-type", "text/xml")], text.encode()
    if service == "lambda":
        status, code = (429, "TooManyRequestsException") if what == "throttle" else (500, "ServiceException")
    else:
        status, code = (400, "ThrottlingException") if what == "throttle" else (500, "ServerException")
    headers = [("content-type", "application/x-amz-json-1.1"), ("x-amzn-errortype", code)]
    return status, headers, json.dumps({"__type": code, "message": "Rate exceeded"}).encode()
