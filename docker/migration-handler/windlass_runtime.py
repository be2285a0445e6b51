"""A Lambda runtime for one handler, so that any image with Python can be a function: windlass_runtime.py MODULE

In Lambda it speaks the Runtime API (https://docs.aws.amazon.com/lambda/latest/dg/runtimes-api.html). Anywhere else it
serves invocations on :8080, as AWS's emulator does, for clouds that run on one machine.
"""

import importlib
import json
import os
import signal
import sys
import threading
import traceback
import urllib.request
import uuid
from http.server import BaseHTTPRequestHandler, HTTPServer

from windlass_secrets import guarded, masked


class Context:
    def __init__(self, request_id):
        self.aws_request_id = request_id


def answer(handler, body, request_id):
    """Whether it failed, and the body of the answer."""
    try:
        return False, json.dumps(handler(json.loads(body or b"{}"), Context(request_id)))
    except BaseException as error:
        print(masked(traceback.format_exc()), file=sys.stderr, flush=True)
        trace = traceback.format_list(traceback.extract_tb(error.__traceback__))
        return True, json.dumps({"errorType": type(error).__name__, "errorMessage": str(error), "stackTrace": trace})


def runtime(handler, api):
    base = f"http://{api}/2018-06-01/runtime/invocation/"
    while True:
        with urllib.request.urlopen(base + "next") as event:
            request_id, body = event.headers["Lambda-Runtime-Aws-Request-Id"], event.read()
        failed, text = answer(handler, body, request_id)
        sys.stdout.flush()
        request = urllib.request.Request(f"{base}{request_id}/{'error' if failed else 'response'}", text.encode())
        if failed:
            request.add_header("Lambda-Runtime-Function-Error-Type", "Unhandled")
        urllib.request.urlopen(request).close()


def emulate(handler):
    class Invoke(BaseHTTPRequestHandler):
        def log_message(self, *_):
            pass

        def do_POST(self):
            request_id = self.headers.get("X-Amzn-RequestId") or str(uuid.uuid4())
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            print(f"START RequestId: {request_id}", flush=True)
            failed, text = answer(handler, body, request_id)
            print(f"END RequestId: {request_id}\nREPORT RequestId: {request_id}", flush=True)
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            if failed:
                self.send_header("X-Amz-Function-Error", "Unhandled")
            self.end_headers()
            self.wfile.write(text.encode())

    server = HTTPServer(("0.0.0.0", 8080), Invoke)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: threading.Thread(target=server.shutdown).start())
    server.serve_forever()


def main():
    handler = guarded(importlib.import_module(sys.argv[1]).handler)
    api = os.environ.get("AWS_LAMBDA_RUNTIME_API")
    runtime(handler, api) if api else emulate(handler)


main()
