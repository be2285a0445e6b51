"""Reads secrets into variables before a migration, in a function, where nobody else does: ECS fills a task's itself.

    DATABASE_SECRET_ARN=arn:aws:secretsmanager:…       DATABASE_URL, and DB_* and PG* for host, port, name, user, password
    STRIPE_KEY_SECRET_ARN=arn:aws:secretsmanager:…     STRIPE_KEY; `arn:…:secret:NAME-abcdef:KEY::` takes a key of its JSON, as in ECS

A database's secret is as RDS keeps it (JSON: username, password, host, port, dbname), or a URL. What the JSON lacks, as that of a
password that RDS manages does, is taken from DB_HOST, DB_PORT, DB_NAME or PGHOST, PGPORT, PGDATABASE. A variable that is
set already stays. Values are taken out of whatever is printed and answered. Needs nothing but Python, and `secretsmanager:GetSecretValue`.
"""

import datetime
import hashlib
import hmac
import json
import os
import sys
import urllib.error
import urllib.parse
import urllib.request

END = "_SECRET_ARN"
given, hidden = {}, set()


class SecretFailed(Exception):
    pass


def ask(arn):
    """The text of a secret, by a signed request: https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_sigv-create-signed-request.html"""
    env = os.environ
    region = (arn.split(":") + [""] * 4)[3] or env.get("AWS_REGION") or env.get("AWS_DEFAULT_REGION", "us-east-1")
    url = env.get("AWS_ENDPOINT_URL_SECRETS_MANAGER") or env.get("AWS_ENDPOINT_URL") or f"https://secretsmanager.{region}.amazonaws.com"
    host, body = urllib.parse.urlsplit(url).netloc, json.dumps({"SecretId": arn})
    now = datetime.datetime.now(datetime.timezone.utc).strftime("%Y%m%dT%H%M%SZ")
    signed = {"content-type": "application/x-amz-json-1.1", "host": host, "x-amz-date": now, "x-amz-target": "secretsmanager.GetSecretValue"}
    if env.get("AWS_SESSION_TOKEN"):
        signed["x-amz-security-token"] = env["AWS_SESSION_TOKEN"]
    names, sha = ";".join(sorted(signed)), lambda text: hashlib.sha256(text.encode()).hexdigest()
    canonical = "\n".join(["POST", "/", "", *(f"{name}:{signed[name]}" for name in sorted(signed)), "", names, sha(body)])
    scope = f"{now[:8]}/{region}/secretsmanager/aws4_request"
    key = ("AWS4" + env.get("AWS_SECRET_ACCESS_KEY", "")).encode()
    for part in (*scope.split("/"), "\n".join(["AWS4-HMAC-SHA256", now, scope, sha(canonical)])):
        key = hmac.new(key, part.encode(), hashlib.sha256).digest()
    signed["authorization"] = f"AWS4-HMAC-SHA256 Credential={env.get('AWS_ACCESS_KEY_ID')}/{scope}, SignedHeaders={names}, Signature={key.hex()}"
    try:
        with urllib.request.urlopen(urllib.request.Request(url, body.encode(), signed), timeout=15) as answer:
            text = json.load(answer).get("SecretString")
    except urllib.error.HTTPError as error:
        kind = json.loads(error.read() or b"{}").get("__type", error.reason).split("#")[-1]
        raise SecretFailed(f"{arn}: {kind}: the function's role needs secretsmanager:GetSecretValue on it") from None
    except OSError as error:
        raise SecretFailed(f"{arn}: Secrets Manager cannot be reached ({error}): the function needs a NAT gateway, or its endpoint in the VPC") from None
    if text is None:
        raise SecretFailed(f"{arn}: the secret is not a text")
    return text


def database(text):
    """The variables that a database's secret stands for."""
    try:
        known = json.loads(text)
    except ValueError:
        known = None
    if not isinstance(known, dict):
        return {"DATABASE_URL": text}
    known.update({"dbname": known.get("dbname") or known.get("database"), "username": known.get("username") or known.get("user")})
    got, names = {}, {"host": ("DB_HOST", "PGHOST"), "port": ("DB_PORT", "PGPORT"), "dbname": ("DB_NAME", "PGDATABASE"),
                      "username": ("DB_USER", "PGUSER"), "password": ("DB_PASSWORD", "PGPASSWORD")}
    for key, variables in names.items():
        value = known.get(key) or next((os.environ[name] for name in variables if os.environ.get(name)), None)
        known[key] = value and str(value)
        got.update({name: known[key] for name in variables if value})
    hidden.add(known["password"])
    quoted = {key: urllib.parse.quote(known[key] or "", safe="") for key in ("username", "password", "dbname")}
    if known["host"]:
        engine = str(known.get("engine", "postgresql")).replace("postgresql", "postgres").replace("postgres", "postgresql")
        port = f":{known['port']}" if known["port"] else ""
        got["DATABASE_URL"] = f"{engine}://{quoted['username']}:{quoted['password']}@{known['host']}{port}/{quoted['dbname']}"
        hidden.add(quoted["password"])
    return got


def load():
    """Sets the variables; those that an earlier invocation has set anew, as secrets rotate."""
    for name, arn in sorted(os.environ.items()):
        if not name.endswith(END) or not arn:
            continue
        parts = arn.split(":")
        secret, key = (":".join(parts[:7]), parts[7]) if len(parts) > 7 else (arn, "")
        text = ask(secret)
        hidden.add(text)
        if key:
            text = json.loads(text).get(key)
            if text is None:
                raise SecretFailed(f"{secret}: the secret has no key {key}")
            hidden.add(str(text))
        own = name[: -len(END)]
        for variable, value in (database(str(text)) if own == "DATABASE" else {own: str(text)}).items():
            if given.get(variable) == os.environ.get(variable):
                os.environ[variable] = given[variable] = value


def masked(text):
    for value in sorted((value for value in hidden if value and len(value) > 3), key=len, reverse=True):
        text = text.replace(value, "***")
    return text


class Masking:
    def __init__(self, stream):
        self.stream = stream

    def write(self, text):
        return self.stream.write(masked(text))

    def __getattr__(self, name):
        return getattr(self.stream, name)


def guarded(handler):
    """`handler` with its secrets, none of which it gives away."""

    def guard(event, context=None):
        streams = sys.stdout, sys.stderr
        sys.stdout, sys.stderr = Masking(sys.stdout), Masking(sys.stderr)
        try:
            load()
            return handler(event, context)
        except BaseException as error:
            text = masked(str(error))
            if text == str(error):
                raise
            raise type(type(error).__name__, (Exception,), {})(text) from None
        finally:
            sys.stdout, sys.stderr = streams

    return guard
