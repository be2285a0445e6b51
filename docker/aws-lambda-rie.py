#!/usr/bin/env python3
"""Stands in for AWS's Lambda Runtime Interface Emulator in images run outside Lambda.

    aws-lambda-rie COMMAND [ARGUMENT...]

Serves invocations on :8080, and on 127.0.0.1:9001 the Runtime API for COMMAND, which is started with the first
invocation and again after it has died, as on Lambda. Every invocation is answered: an error of the function, of its
initialisation, a dead process and a timeout all carry X-Amz-Function-Error.
"""

import json
import os
import signal
import subprocess
import sys
import threading
import time
import uuid
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

INVOKE = "/2015-03-31/functions/function/invocations"
RUNTIME = "/2018-06-01/runtime/"
RUNTIME_ADDRESS = ("127.0.0.1", 9001)
TIMEOUT = float(os.environ.get("AWS_LAMBDA_FUNCTION_TIMEOUT") or 300)


def error_body(kind, message):
    return json.dumps({"errorType": kind, "errorMessage": message}).encode()


class Sandbox:
    """One runtime process and at most one invocation in it."""

    def __init__(self, command):
        self.command = command
        self.child = None
        self.one_at_a_time = threading.Lock()
        self.changed = threading.Condition()
        self.event = None  # (request id, deadline, body), waiting to be fetched
        self.running = None  # request id
        self.answer = None  # (is an error, body)
        self.init_error = None

    def invoke(self, body):
        with self.one_at_a_time:
            request_id = str(uuid.uuid4())
            started = time.time()
            print(f"START RequestId: {request_id} Version: $LATEST", flush=True)
            answer = self._run(request_id, started + TIMEOUT, body)
            duration = (time.time() - started) * 1000
            print(f"END RequestId: {request_id}\nREPORT RequestId: {request_id}\tDuration: {duration:.2f} ms", flush=True)
            return request_id, answer

    def _run(self, request_id, deadline, body):
        self._start()
        with self.changed:
            self.answer, self.running = None, request_id
            self.event = (request_id, deadline, body)
            self.changed.notify_all()
            while self.answer is None and self.child.poll() is None and time.time() < deadline:
                self.changed.wait(0.05)
            self.event = self.running = None
            if self.answer is not None:
                return self.answer
            if self.child.poll() is None:
                self._stop()
                return True, error_body("Sandbox.Timedout", f"RequestId: {request_id} Error: Task timed out after {TIMEOUT:.2f} seconds")
            if self.init_error is not None:
                return True, self.init_error
            how = f"exit status {self.child.returncode}" if self.child.returncode >= 0 else f"signal {-self.child.returncode}"
            return True, error_body("Runtime.ExitError", f"RequestId: {request_id} Error: Runtime exited with error: {how}")

    def _start(self):
        if self.child is not None and self.child.poll() is None:
            return
        self.init_error = None
        environment = {
            "AWS_LAMBDA_FUNCTION_NAME": "test_function",
            "AWS_LAMBDA_FUNCTION_VERSION": "$LATEST",
            "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": "3008",
            "AWS_LAMBDA_LOG_GROUP_NAME": "/aws/lambda/Functions",
            "AWS_LAMBDA_LOG_STREAM_NAME": "$LATEST",
            "PYTHONUNBUFFERED": "1",
            **os.environ,
            "AWS_LAMBDA_RUNTIME_API": "%s:%d" % RUNTIME_ADDRESS,
        }
        try:
            self.child = subprocess.Popen(self.command, env=environment)
        except OSError as error:
            print(error, file=sys.stderr, flush=True)
            self.child = subprocess.Popen(["false"])

    def _stop(self):
        self.child.kill()
        self.child.wait()

    def next(self):
        with self.changed:
            while self.event is None:
                self.changed.wait()
            event, self.event = self.event, None
            return event

    def settle(self, request_id, is_error, body):
        with self.changed:
            if request_id != self.running:
                return False
            self.answer = (is_error, body)
            self.changed.notify_all()
            return True


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def body(self):
        if self.headers.get("Transfer-Encoding", "").lower() != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length") or 0))
        chunks = []
        while size := int(self.rfile.readline().split(b";")[0], 16):
            chunks.append(self.rfile.read(size))
            self.rfile.readline()
        while self.rfile.readline().strip():
            pass
        return b"".join(chunks)

    def reply(self, status, body=b"", headers=()):
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        for name, value in headers:
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


class InvokeApi(Handler):
    def do_POST(self):
        body = self.body()
        if self.path != INVOKE:
            return self.reply(404, error_body("ResourceNotFoundException", self.path))
        request_id, (is_error, answer) = self.server.sandbox.invoke(body or b"{}")
        headers = [("X-Amzn-RequestId", request_id), ("X-Amz-Executed-Version", "$LATEST")]
        if is_error:
            headers.append(("X-Amz-Function-Error", "Unhandled"))
        self.reply(200, answer, headers)


class RuntimeApi(Handler):
    def do_GET(self):
        if self.path != RUNTIME + "invocation/next":
            return self.reply(404)
        request_id, deadline, body = self.server.sandbox.next()
        arn = os.environ.get("_LAMBDA_FUNCTION_ARN", "arn:aws:lambda:us-east-1:012345678912:function:test_function")
        self.reply(200, body, [
            ("Lambda-Runtime-Aws-Request-Id", request_id),
            ("Lambda-Runtime-Deadline-Ms", str(int(deadline * 1000))),
            ("Lambda-Runtime-Invoked-Function-Arn", arn),
        ])

    def do_POST(self):
        body = self.body()
        sandbox = self.server.sandbox
        step = self.path.removeprefix(RUNTIME).split("/")
        if step == ["init", "error"]:
            sandbox.init_error = body
            return self.reply(202, b'{"status":"OK"}')
        if len(step) == 3 and step[0] == "invocation" and step[2] in ("response", "error"):
            if sandbox.settle(step[1], step[2] == "error", body):
                return self.reply(202, b'{"status":"OK"}')
            return self.reply(400, error_body("InvalidRequestID", "Invalid request ID"))
        return self.reply(404)


def serve(address, handler, sandbox):
    server = ThreadingHTTPServer(address, handler)
    server.daemon_threads = True
    server.sandbox = sandbox
    threading.Thread(target=server.serve_forever, daemon=True).start()


def main():
    if len(sys.argv) < 2:
        sys.exit("usage: aws-lambda-rie COMMAND [ARGUMENT...]")
    sandbox = Sandbox(sys.argv[1:])
    serve(RUNTIME_ADDRESS, RuntimeApi, sandbox)
    serve(("0.0.0.0", 8080), InvokeApi, sandbox)
    # As the first process of a container it would otherwise ignore SIGTERM.
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    stop.wait()
    if sandbox.child is not None and sandbox.child.poll() is None:
        sandbox.child.kill()


main()
