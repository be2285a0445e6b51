"""Migrates the database from a Lambda function made of the service's own image.

    {"action": "migrate"}   applies what is pending (the default)
    {"action": "plan"}      only says what is pending

Answers {"applied": ["app.name", ...], "pending": ["app.name", ...]}. A failure is raised, so that Lambda reports a
function error.
"""

import os

import django
from django.core.management import call_command
from django.db import connection
from django.db.migrations.executor import MigrationExecutor

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "shop.settings")
django.setup()

LOCK = 0x73686F70  # any number that only migrations of this database take


def pending():
    executor = MigrationExecutor(connection)
    plan = executor.migration_plan(executor.loader.graph.leaf_nodes())
    return [f"{migration.app_label}.{migration.name}" for migration, _ in plan]


def handler(event, context):
    action = (event or {}).get("action", "migrate")
    if action not in ("migrate", "plan"):
        raise ValueError(f"unknown action {action!r}")
    try:
        with connection.cursor() as cursor:
            # Held by the session: freed when the connection closes, however this ends.
            cursor.execute("SELECT pg_advisory_lock(%s)", [LOCK])
        before = pending()
        if action == "migrate":
            call_command("migrate", interactive=False, no_color=True)
        after = pending()
        return {"applied": [name for name in before if name not in after], "pending": after}
    finally:
        connection.close()
