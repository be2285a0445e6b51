"""Applies a Django application's pending migrations, one run at a time, and says what came of it.

    handler(event, context)                      in a Lambda function
    python3 windlass_django.py '{"action": …}'   once, in a task or on any machine

    {"action": "migrate", "mark": "…", "databases": ["default"], "patience": 60}   applies what is pending
    {"action": "state", …}                                                       only says what is

Answers {"protocol": 1, "applied": […], "pending": […], "all_applied": […], "running": holder or null}. Its first and
last lines of log bear the mark. A PostgreSQL advisory lock is held while it migrates. Needs nothing but Django.
"""

import glob
import json
import os
import re
import sys
import time

LOCK = 0x77696E646C617373  # "windlass"
FOLDERS = (".", os.environ.get("LAMBDA_TASK_ROOT", "."), "/app", "/code", "/srv", "/usr/src/app", "/var/task")
HOLDER = """SELECT coalesce(nullif(a.application_name, ''), 'process ' || a.pid) || ', since ' || to_char(a.backend_start, 'HH24:MI:SS TZ')
FROM pg_locks l JOIN pg_stat_activity a USING (pid) WHERE l.locktype = 'advisory' AND l.granted
AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database()) AND (l.classid::bigint << 32 | l.objid::bigint) = %s"""


class Locked(Exception):
    pass


def say(word, **what):
    print(f"windlass-{word} {json.dumps(what)}", flush=True)


def setup():
    found = [path for below in ("", "*") for folder in FOLDERS for path in sorted(glob.glob(os.path.join(folder, below, "manage.py")))]
    if not found:
        raise RuntimeError(f"there is no manage.py in {', '.join(FOLDERS)}: set WORKDIR to the project's directory")
    os.chdir(os.path.dirname(os.path.abspath(found[0])))
    sys.path.insert(0, os.getcwd())
    with open("manage.py", encoding="utf-8") as manage:
        found = re.search(r"DJANGO_SETTINGS_MODULE['\"]\s*,\s*['\"]([\w.]+)", manage.read())
    if found:
        os.environ.setdefault("DJANGO_SETTINGS_MODULE", found[1])
    import django

    django.setup()


def state(databases):
    """What is pending and what is applied, asked on connections of their own."""
    from django.db import connections
    from django.db.migrations.executor import MigrationExecutor

    pending, applied = [], []
    for alias in databases:
        connection = connections[alias].copy()
        name = (lambda app, migration, prefix="" if alias == "default" else alias + ":": f"{prefix}{app}.{migration}")
        try:
            executor = MigrationExecutor(connection)
            executor.loader.check_consistent_history(connection)
            plan = executor.migration_plan(executor.loader.graph.leaf_nodes())
            pending += [name(migration.app_label, migration.name) for migration, _ in plan]
            applied += sorted(name(*key) for key in executor.loader.applied_migrations)
        finally:
            connection.close()
    return pending, applied


def lock(alias, mark, patience):
    """A connection that holds the lock, or that stands for a database without one; and who holds it otherwise."""
    from django.db import connections

    connection = connections[alias].copy()
    if connection.vendor != "postgresql":
        return connection, None
    until, waiting = time.time() + patience, False
    with connection.cursor() as cursor:
        cursor.execute("SELECT set_config('application_name', %s, false)", [f"windlass {mark}"[:63]])
        while True:
            cursor.execute("SELECT pg_try_advisory_lock(%s)", [LOCK])
            if cursor.fetchone()[0]:
                return connection, None
            cursor.execute(HOLDER, [LOCK])
            row = cursor.fetchone()
            holder = row[0] if row else "somebody who has just let go"
            if time.time() >= until:
                connection.close()
                return None, holder
            if not waiting:
                print(f"waiting for another migration of `{alias}`: {holder}", flush=True)
            waiting = True
            time.sleep(0.5)


def not_atomic(names):
    from django.db.migrations.loader import MigrationLoader

    known = MigrationLoader(None, ignore_no_migrations=True).disk_migrations
    return [name for name in names if not getattr(known.get(tuple(name.split(":")[-1].split(".", 1))), "atomic", True)]


def migrate(databases, mark, patience):
    from django.core.management import call_command

    from django.db import connections

    held = []
    # Two aliases of one database are one lock: it would wait for itself.
    one = {tuple(str(connections[alias].settings_dict.get(key)) for key in ("HOST", "PORT", "NAME")): alias for alias in reversed(databases)}
    try:
        for alias in sorted(one.values()):
            connection, holder = lock(alias, mark, patience)
            if connection is None:
                raise Locked(f"another migration holds the database `{alias}`: {holder}")
            held.append(connection)
        before, _ = state(databases)
        try:
            for alias in databases:
                call_command("migrate", database=alias, interactive=False, no_color=True)
        except Exception as error:
            try:
                after, _ = state(databases)
            except Exception:  # the first error is the one to tell
                text = f"{error} (applied before it: not known)"
            else:
                done = [name for name in before if name not in after]
                text = f"{after[0] if after else 'after the last migration'}: {error}".strip()
                text += f" (applied before it: {', '.join(done) or 'nothing'}; still pending: {', '.join(after) or 'nothing'}"
                text += f"; not atomic, so a part of it may be applied: {loose[0]})" if (loose := not_atomic(after[:1])) else ")"
            raise type(type(error).__name__, (Exception,), {})(text) from error
        sys.stdout.flush()
        after, applied = state(databases)
        return [name for name in before if name not in after], after, applied
    finally:
        for connection in held:
            connection.close()


def handler(event, context=None):
    event = event or {}
    action, mark = event.get("action", "migrate"), event.get("mark", "")
    databases = event.get("databases") or ["default"]
    if action not in ("migrate", "state"):
        raise ValueError(f"unknown action {action!r}")
    if action == "migrate":
        say("start", mark=mark, request=getattr(context, "aws_request_id", None))
    try:
        setup()
        running = None
        if action == "migrate":
            applied, pending, everything = migrate(databases, mark, event.get("patience", 60))
        else:
            for alias in databases:
                connection, holder = lock(alias, "state", 0)
                if connection:
                    connection.close()
                running = running or holder
            applied, (pending, everything) = [], state(databases)
    except BaseException as error:
        if action == "migrate":
            say("end", mark=mark, error={"errorType": type(error).__name__, "errorMessage": str(error)})
        raise
    finally:
        if "django.db" in sys.modules:
            sys.modules["django.db"].connections.close_all()
    answer = {"protocol": 1, "applied": applied, "pending": pending, "all_applied": everything, "running": running}
    say("end" if action == "migrate" else "state", mark=mark, answer=answer)
    return answer


if __name__ == "__main__":
    handler(json.loads(sys.argv[1]) if len(sys.argv) > 1 else {})
