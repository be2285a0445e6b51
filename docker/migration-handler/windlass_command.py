"""Runs a migration command in a Lambda function: what it exits with is the verdict.

    {"action": "migrate", "mark": "…", "command": ["alembic", "upgrade", "head"]}
    {"action": "state", …}

Answers {"protocol": 1, "exit": 0}. Nothing is known of what the command applied.
"""

import json
import subprocess
import sys


class CommandFailed(Exception):
    pass


def say(word, **what):
    print(f"windlass-{word} {json.dumps(what)}", flush=True)


def handler(event, context=None):
    action, mark = event.get("action", "migrate"), event.get("mark", "")
    if action == "state":
        return {"protocol": 1, "running": None}
    if action != "migrate":
        raise ValueError(f"unknown action {action!r}")
    say("start", mark=mark, request=getattr(context, "aws_request_id", None))
    try:
        last = ""
        with subprocess.Popen(event["command"], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace") as child:
            for line in child.stdout:
                print(line, end="", flush=True)
                last = line.strip() or last
        if child.returncode:
            how = f"exited with {child.returncode}" if child.returncode > 0 else f"was killed by signal {-child.returncode}"
            raise CommandFailed(f"`{' '.join(event['command'])}` {how}: {last or 'it said nothing'}")
    except BaseException as error:
        say("end", mark=mark, error={"errorType": type(error).__name__, "errorMessage": str(error)})
        raise
    answer = {"protocol": 1, "exit": 0}
    say("end", mark=mark, answer=answer)
    return answer


if __name__ == "__main__":
    handler(json.loads(sys.argv[1]))
