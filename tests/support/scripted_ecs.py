#!/usr/bin/env python3
"""A scripted, time-driven ECS: what no emulator does. Deployments fail in time, tasks crash, alarms go off, answers are stale.

    scripted_ecs.py [--port 0] [--scale 1.0] [--throttle 0.0]

AWS JSON 1.1 for ECS and CloudWatch Logs, the query protocol for ELBv2 and STS, all on one loopback port, which the first line of stdout
names. A service plays the scenario that its name says (`crash-loop`, or `crash-loop-3` for one more of it); its clock starts with
UpdateService. `GET /_calls` lists the calls so far, `POST /_forget` forgets them, `GET /_state` shows each service's deployments with the
moments when they ended, `GET /_revisions` its task definitions. `POST /_save` remembers all services, `POST /_restore` goes back to that.
Every service begins with one complete deployment of `NAME:1`.

Where a behaviour comes from stands beside it. AWS's documentation is at https://docs.aws.amazon.com/AmazonECS/latest/
"""

import argparse
import copy
import datetime
import json
import random
import re
import sys
import threading
import time
import urllib.parse
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

ACCOUNT = "000000000000"
ARN = f"arn:aws:ecs:us-east-1:{ACCOUNT}"
OLD_IMAGE = "registry.example/shop/api@sha256:" + "0" * 64

# Seconds at --scale 1. `kind` is what becomes of the first deployment of a new revision:
#   complete   COMPLETED after `after`
#   crash      a task stops every `period` with `stop`; ECS's own count goes up unless `uncounted`
#   fail       FAILED after `after` for `reason`
#   stuck      nothing ever comes of it
#   other      somebody else's deployment takes its place after `after`
#   going      the service is deleted after `after`
# Then `rollback` (what ECS does by itself): after `back` the revision before is COMPLETED again.
EXITED = {"stopCode": "EssentialContainerExited", "stoppedReason": "Essential container in task exited"}
OLD = ["rolloutState", "rolloutStateReason", "failedTasks", "events", "updatedAt", "deploymentConfiguration", "schedulingStrategy"]
SCENARIOS = {
    "ok": {"kind": "complete", "after": 3},
    # API_Deployment: rolloutState; an update's answer precedes what other calls see ("eventual consistency", API_UpdateService).
    "stale": {"kind": "complete", "after": 3, "stale": 2},
    "crash-breaker": {"kind": "crash", "period": 0.7, "stop": EXITED, "exit": 1, "breaker": True, "rollback": True, "back": 1.5},
    # deployment-circuit-breaker.html: without rollback the failed deployment stays the one in force.
    "breaker-only": {"kind": "crash", "period": 0.7, "stop": EXITED, "exit": 1, "breaker": True, "rollback": False},
    "rollback-failed": {"kind": "crash", "period": 0.7, "stop": EXITED, "exit": 1, "breaker": True, "rollback": True, "back": 1,
                        "back_fails": True},
    # deployment-alarm-failure.html; ServiceDeploymentAlarms.triggeredAlarmNames
    "alarm": {"kind": "fail", "after": 2, "reason": "ECS deployment failed: alarm(s) detected.", "rollback": True, "back": 1,
              "alarms": ["api-5xx"]},
    "crash-loop": {"kind": "crash", "period": 1.5, "stop": EXITED, "exit": 1},
    # An endpoint that knows nothing of service deployments: UnknownOperationException.
    "crash-loop-plain": {"kind": "crash", "period": 1.5, "stop": EXITED, "exit": 3, "plain": True},
    # containers-roadmap#1206: failedTasks goes back to 0 with each task that runs, so that the breaker never trips.
    "crash-later": {"kind": "crash", "period": 1.5, "stop": EXITED, "exit": 1, "uncounted": True, "breaker": True, "rollback": True},
    # stopped-task-error-codes.html
    "no-image": {"kind": "crash", "period": 0.7, "breaker": True, "rollback": True, "back": 1, "stop": {
        "stopCode": "TaskFailedToStart", "stoppedReason": "CannotPullContainerError: pull image manifest has been retried 1 time(s): "
        "failed to resolve ref registry.example/shop/api@sha256:9999: not found"}},
    "no-secret": {"kind": "crash", "period": 0.7, "breaker": True, "rollback": True, "back": 1, "stop": {
        "stopCode": "TaskFailedToStart", "stoppedReason": "ResourceInitializationError: unable to pull secrets or registry auth: execution "
        "resource retrieval failed: unable to retrieve secret from asm: ResourceNotFoundException: Secrets Manager can't find the specified secret."}},
    "out-of-memory": {"kind": "crash", "period": 0.7, "stop": EXITED, "exit": 137, "breaker": True, "rollback": True, "back": 1,
                      "container_reason": "OutOfMemoryError: Container killed due to memory usage"},
    "no-exit-code": {"kind": "crash", "period": 0.7, "breaker": True, "rollback": True, "back": 1, "stop": {
        "stopCode": "TaskFailedToStart", "stoppedReason": "Task failed to start"}},
    "unhealthy-container": {"kind": "crash", "period": 1, "exit": 143, "health": "UNHEALTHY", "stop": {
        "stopCode": "ServiceSchedulerInitiated", "stoppedReason": "Task failed container health checks"}},
    "unhealthy-target": {"kind": "crash", "period": 1, "exit": 143, "balanced": True, "target": [
        "unhealthy", "Target.ResponseCodeMismatch", "Health checks failed with these codes: [503]"], "stop": {
        "stopCode": "ServiceSchedulerInitiated",
        "stoppedReason": "Task failed ELB health checks in (target-group arn:aws:elasticloadbalancing:us-east-1:1:targetgroup/api/1)"}},
    # service-event-messages-list.html
    "not-placed": {"kind": "stuck", "event": "was unable to place a task because no container instance met all of its requirements. The "
                   "closest matching (container-instance 5f0a) has insufficient memory available."},
    "superseded": {"kind": "other", "after": 1.5},
    "going": {"kind": "going", "after": 1.5},
    "inactive": {"status": "INACTIVE"},
    "code-deploy": {"controller": "CODE_DEPLOY"},
    # API_Service: it has task sets, and a task definition of its own only with the controller ECS.
    "external": {"controller": "EXTERNAL", "leave_out": ["taskDefinition", "deployments"]},
    # deployment-type-ecs.html: the least is rounded up and the most down.
    "deadlock": {"percent": [100, 100]},
    "desired-zero": {"kind": "complete", "after": 0.5, "desired": 0},
    "daemon": {"kind": "complete", "after": 2, "scheduling": "DAEMON"},
    # API_ListTasks: at most 100 an answer; API_DescribeTasks: at most 100 a question.
    "many-tasks": {"kind": "crash", "period": 0.5, "stop": EXITED, "exit": 1, "desired": 120, "batch": 120},
    # API_UpdateService: without launchType and capacityProviderStrategy the service keeps its own; to send another than it has is refused.
    "hosts": {"kind": "complete", "after": 2, "capacity": {"launchType": "EC2"}},
    "providers": {"kind": "complete", "after": 2, "capacity": {"capacityProviderStrategy": [
        {"capacityProvider": "hosts", "base": 1, "weight": 1}, {"capacityProvider": "FARGATE_SPOT", "base": 0, "weight": 3}]}},
    # using_firelens.html: what a container prints goes to wherever a router sends it.
    "firelens": {"kind": "crash", "period": 0.7, "stop": EXITED, "exit": 1, "breaker": True, "rollback": True, "back": 1,
                 "log": {"logDriver": "awsfirelens", "options": {"Name": "otlp", "Host": "signoz.internal"}}},
    # A container that is not essential may end while its task goes on (API_ContainerDefinition).
    "sidecar": {"kind": "complete", "after": 2.5, "sidecar": True},
    # API_ServiceDeployment: lifecycleStage
    "blue-green": {"kind": "complete", "after": 5, "strategy": "BLUE_GREEN",
                   "stages": ["SCALE_UP", "TEST_TRAFFIC_SHIFT", "PRODUCTION_TRAFFIC_SHIFT", "BAKE_TIME"]},
    "blue-green-back": {"kind": "fail", "after": 3, "strategy": "BLUE_GREEN", "rollback": True, "back": 1, "stages": ["SCALE_UP", "TEST_TRAFFIC_SHIFT"],
                        "reason": "Service deployment rolled back because of a lifecycle hook failure."},
    "linear": {"kind": "complete", "after": 4, "strategy": "LINEAR", "stages": ["SCALE_UP", "PRODUCTION_TRAFFIC_SHIFT"]},
    "canary": {"kind": "complete", "after": 4, "strategy": "CANARY", "stages": ["SCALE_UP", "PRODUCTION_TRAFFIC_SHIFT"]},
    "stuck": {"kind": "stuck"},
    "never-back": {"kind": "crash", "period": 0.5, "stop": EXITED, "exit": 1, "back": 10_000},
    "sick": {"kind": "complete", "after": 1, "balanced": True, "answers": 503},
    "well": {"kind": "complete", "after": 1, "balanced": True, "answers": 200},
    # A server whose workers die one after the other takes connections, and answers none.
    "sick-hangs": {"kind": "complete", "after": 1, "balanced": True, "hangs": True},
    # Its tasks run, and have said why they are not well.
    "sick-talks": {"kind": "complete", "after": 1, "balanced": True, "answers": 503, "containers": [{"name": "web", "lastStatus": "RUNNING"}]},
    "skewed": {"kind": "crash", "period": 1, "stop": EXITED, "exit": 1, "clock": -3600},
    # Credentials of a CodeBuild role end after an hour.
    "expires": {"kind": "complete", "after": 8, "expires": 2},
    # Fewer fields than AWS sends, and values that nobody knows.
    "bare": {"kind": "complete", "after": 2, "bare": True},
    "slow": {"kind": "complete", "after": 15},
    # From here on: endpoints that say less than AWS does, refuse more, are late, or lose what they have to say. `leave_out` takes fields
    # away, `refuse` names actions with code and status, `lose` how many answers of an action are lost after it was carried out, `late` how
    # long an answer takes, `times` is how moments are written.
    # API_Deployment: before rolloutState there were only counts.
    "old-ok": {"kind": "complete", "after": 2, "plain": True, "leave_out": OLD},
    "old-crash": {"kind": "crash", "period": 0.8, "stop": EXITED, "exit": 1, "plain": True, "leave_out": OLD},
    # A role that may roll a service, and nothing that is newer than 2020.
    "denied": {"kind": "crash", "period": 0.8, "stop": EXITED, "exit": 1, "refuse": {
        action: ["AccessDeniedException", 400] for action in ("ListServiceDeployments", "DescribeServiceDeployments", "StopServiceDeployment")}},
    "blind": {"kind": "crash", "period": 0.8, "stop": EXITED, "exit": 1, "plain": True, "refuse": {
        "ListTasks": ["AccessDeniedException", 400]}},
    "mute": {"kind": "crash", "period": 0.8, "balanced": True, "exit": None, "refuse": {
        "GetLogEvents": ["", 501], "DescribeTargetHealth": ["", 404], "ListServiceDeployments": ["", 501], "DescribeTargetGroups": ["", 501]},
        "stop": {"stopCode": "ServiceSchedulerInitiated", "stoppedReason": "Task failed ELB health checks in (target-group x)"}},
    "iso": {"kind": "crash", "period": 0.8, "stop": EXITED, "exit": 1, "times": "iso"},
    "timeless": {"kind": "crash", "period": 0.8, "stop": EXITED, "exit": 1, "times": "none"},
    "null-exit": {"kind": "crash", "period": 0.8, "exit": None, "container_reason": None, "stop": {
        "stopCode": "EssentialContainerExited", "stoppedReason": None}},
    "short-update": {"kind": "complete", "after": 2, "update_says": ["serviceName", "taskDefinition"]},
    "stale-update": {"kind": "complete", "after": 3, "stale": 1.5, "stale_update": True},
    "blue-green-plain": {"kind": "complete", "after": 3, "strategy": "BLUE_GREEN", "plain": True},
    "late": {"kind": "complete", "after": 2, "late": {"DescribeServices": 3.6}},
    "late-register": {"kind": "complete", "after": 2, "late": {"RegisterTaskDefinition": 30}},
    "late-update": {"kind": "complete", "after": 2, "late": {"UpdateService": 30}},
    "lost": {"kind": "complete", "after": 2, "lose": {"RegisterTaskDefinition": 1, "UpdateService": 1}},
    "lost-for-good": {"kind": "complete", "after": 2, "lose": {"UpdateService": 100}},
    # API_UpdateService and API_DescribeTasks, "eventual consistency": an answer may be older than one before it, or know nothing at all.
    # `window` is when: from so many seconds after the update, up to so many.
    "old-answers": {"kind": "complete", "after": 5, "window": [0.5, 3.5], "says": "before"},
    "missing-answers": {"kind": "complete", "after": 4, "window": [0.5, 2.5], "says": "missing"},
    # cloudposse/terraform-aws-ecs-alb-service-task#258; amazon-ecs-agent#1354. `refuse_first` is how often an action is refused at first.
    "crowded": {"kind": "complete", "after": 1, "refuse_first": {"RegisterTaskDefinition": [
        2, "ClientException", "Too many concurrent attempts to create a new revision of the specified family."]}},
    "late-revision": {"kind": "complete", "after": 1, "refuse_first": {"UpdateService": [2, "ClientException", "TaskDefinition not found."]}},
    # API_ListServiceDeployments: pages; no order is promised.
    "blue-green-paged": {"kind": "complete", "after": 4, "strategy": "BLUE_GREEN", "pages": True, "stages": ["SCALE_UP", "BAKE_TIME"]},
    # API_Deployment: rolloutState "is only returned for services that use the rolling update"; before the shift of traffic the blue revision
    # handles all of it (API_ServiceDeployment, lifecycleStage).
    "blue-first": {"kind": "complete", "after": 5, "strategy": "BLUE_GREEN", "blue_first": True, "stages": ["SCALE_UP", "BAKE_TIME"],
                   "leave_out": ["rolloutState", "rolloutStateReason"]},
    # stop-service-deployment.html: ROLLBACK_REQUESTED, then ROLLBACK_IN_PROGRESS: it takes its time.
    "blue-green-slowly-back": {"kind": "fail", "after": 1.5, "strategy": "BLUE_GREEN", "rollback": True, "back": 12, "green_last": True,
                               "stages": ["SCALE_UP"], "reason": "Service deployment rolled back because of a lifecycle hook failure."},
    # API_Service: a service may be registered with several target groups, of which one may be for another protocol than HTTP.
    "two-groups": {"kind": "complete", "after": 1, "balanced": True, "answers": 503, "groups": ["grpc"]},
    # An emulator does not say which load balancer a group has that mere rules forward to.
    "rules-alone": {"kind": "complete", "after": 1, "balanced": True, "answers": 503, "unnamed": True},
    # API_HttpHeaderConditionConfig: a rule that asks for a header which only the distribution sends; others get the default action's answer.
    "behind-header": {"kind": "complete", "after": 1, "balanced": True, "answers": 403, "header": "X-Origin-Key"},
    # API_AdvancedConfiguration: after the shift it is the alternate group that serves.
    "alternate": {"kind": "complete", "after": 1, "answers": 503, "strategy": "BLUE_GREEN", "stages": ["SCALE_UP"], "groups": ["blue"],
                  "alternate": True},
    # service-event-messages-list.html
    "no-capacity": {"kind": "stuck", "event": "was unable to place a task. Reason: Capacity is unavailable at this time. Please try again "
                    "later or in a different availability zone."},
    "no-role": {"kind": "stuck", "event": f"failed to launch a task with (error ECS was unable to assume the role 'arn:aws:iam::{ACCOUNT}:role/task' "
                "that was provided for this task.)."},
}
# The numbers of benches/rollouts are part of a scenario's name: `ok@12.5` completes after 12.5 s.


class Refused(Exception):
    def __init__(self, code, message, status=400):
        super().__init__(message)
        self.code, self.message, self.status = code, message, status


class Lost(Exception):
    """What was asked is done, and nobody hears of it."""


class Late:
    def __init__(self, answer, seconds):
        self.answer, self.seconds = answer, seconds


def timed(value, how):
    """Moments as other endpoints write them: API references of JSON services allow numbers, some send ISO 8601, some nothing."""
    if isinstance(value, list):
        return [timed(one, how) for one in value]
    if not isinstance(value, dict):
        return value
    moments = {key for key in value if key.endswith("At") and isinstance(value[key], (int, float))}
    kept = {key: timed(one, how) for key, one in value.items() if key not in moments}
    if how == "iso":
        kept.update({key: datetime.datetime.fromtimestamp(value[key], datetime.timezone.utc).isoformat() for key in moments})
    return kept


class Deployment:
    def __init__(self, number, revision, created, script, kind):
        self.id = f"ecs-svc/{number:019d}"
        self.arn = f"{ARN}:service-deployment/shop/x/{number:017d}"
        self.revision, self.created, self.script, self.kind = revision, created, script, kind
        self.state, self.ended, self.reason = "IN_PROGRESS", None, f"ECS deployment {self.id} in progress."
        self.failed, self.crashed, self.stopping = 0, 0, False
        # Has anybody been told that it failed, and at which stage it is? What passes unseen on a busy machine is no test.
        self.failure_told, self.stage_told = False, False

    def end(self, state, at, reason):
        self.state, self.ended, self.reason = state, at, reason


class Service:
    def __init__(self, cluster, name, scale):
        self.cluster, self.name, self.scale = cluster, name, scale
        base, _, number = name.partition("@")
        self.script = copy.deepcopy(SCENARIOS.get(base) or SCENARIOS.get(re.sub(r"-\d+$", "", base)) or {"missing": True})
        if number:
            self.script["period" if self.script.get("kind") == "crash" else "after"] = float(number)
        self.definitions, self.tasks, self.events = [], [], []
        self.register(first_definition(name, self.script.get("log")))
        self.number = random.randrange(10**12)
        now = self.now()
        first = Deployment(self.next(), self.definitions[0]["taskDefinitionArn"], now - 3600, self.script, "complete")
        first.end("COMPLETED", now - 3500, "ECS deployment completed.")
        self.deployments, self.updated, self.before, self.status = [first], None, [], self.script.get("status", "ACTIVE")
        self.event(f"(service {name}) has reached a steady state.", now - 3500)

    def now(self):
        return time.time() + self.script.get("clock", 0)

    def next(self):
        self.number += 1
        return self.number

    def of(self, name, default=0.0):
        return self.script.get(name, default) * self.scale

    @property
    def desired(self):
        return self.script.get("desired", 2)

    def event(self, message, at):
        self.events.insert(0, {"id": f"event-{self.next()}", "createdAt": at, "message": message})

    def register(self, document):
        revision = copy.deepcopy(document)
        # What ECS writes into its answers where nothing was said (seen in those of DescribeTaskDefinition).
        for container in revision.get("containerDefinitions", []):
            for key, value in [("cpu", 0), ("essential", True), ("environment", []), ("mountPoints", []), ("volumesFrom", [])]:
                container.setdefault(key, value)
            for port in container.get("portMappings", []):
                port.setdefault("hostPort", port["containerPort"])
                port.setdefault("protocol", "tcp")
        for key in ("volumes", "placementConstraints"):
            revision.setdefault(key, [])
        number = len(self.definitions) + 1
        revision.update(taskDefinitionArn=f"{ARN}:task-definition/{self.name}:{number}", revision=number, status="ACTIVE",
                        requiresAttributes=[{"name": "com.amazonaws.ecs.capability.ecr-auth"}], compatibilities=["EC2", "FARGATE"],
                        registeredAt=time.time(), registeredBy=f"arn:aws:iam::{ACCOUNT}:user/test")
        self.definitions.append(revision)
        return revision

    def update(self, revision, force):
        now = self.now()
        self.advance(now)
        if revision == self.deployments[0].revision and not force:
            return
        self.before, self.updated = [self.view(one, now) for one in self.deployments], now
        # The script is about the first time that a revision which is not the first is rolled; the way back always ends well.
        is_back = revision == self.definitions[0]["taskDefinitionArn"]
        script = {"kind": "complete", "after": self.script.get("back", 1)} if is_back else self.script
        self.begin(revision, now, script)

    def begin(self, revision, now, script):
        for one in self.deployments:
            if one.state == "IN_PROGRESS" and one.ended is None:
                one.ended = now
        self.deployments.insert(0, Deployment(self.next(), revision, now, script, script.get("kind")))
        self.event(f"(service {self.name}) has started {self.desired} tasks: (task {self.next():032x}).", now)

    def stop(self, task_number, at, deployment):
        script = deployment.script
        task = {
            "taskArn": f"{ARN}:task/{self.cluster}/{task_number:032x}", "taskDefinitionArn": deployment.revision, "startedBy": deployment.id,
            "group": f"service:{self.name}", "lastStatus": "STOPPED", "desiredStatus": "STOPPED", "createdAt": at - self.of("period", 1),
            "stoppedAt": at, "containers": [{"name": "web", "lastStatus": "STOPPED", "healthStatus": script.get("health", "UNKNOWN")}],
            **script["stop"],
        }
        if "exit" in script:
            task["containers"][0]["exitCode"] = script["exit"]
        if "container_reason" in script:
            task["containers"][0]["reason"] = script["container_reason"]
        self.tasks.append(task)

    def back(self, deployment, at, reason):
        """ECS rolls back by itself: a new deployment of the last revision that was completed."""
        deployment.end("FAILED", at, reason)
        if self.script.get("rollback") or deployment.stopping:
            good = next(one for one in self.deployments if one.state == "COMPLETED")
            script = {"kind": "fail" if self.script.get("back_fails") else "complete", "after": self.script.get("back", 1),
                      "reason": "ECS deployment circuit breaker: rollback failed: tasks failed to start."}
            again = Deployment(self.next(), good.revision, at, script, script["kind"])
            again.reason = f"ECS deployment circuit breaker: rolling back to deploymentId {good.id}."
            self.deployments.insert(0, again)

    def advance(self, now):
        if self.updated is None:
            return
        one = self.deployments[0]
        script, age = one.script, now - one.created
        after = script.get("after", 0) * self.scale
        if script.get("stages") and not one.stage_told:
            age = min(age, 0.99 * after)
        if one.state != "IN_PROGRESS":
            self.settle(now)
            return
        if one.stopping:
            self.back(one, now, "Service deployment stopped by user.")
        elif one.kind == "complete" and age >= after:
            one.end("COMPLETED", one.created + after, f"ECS deployment {one.id} completed.")
            self.event(f"(service {self.name}) (deployment {one.id}) deployment completed.", one.ended)
        elif one.kind == "fail" and age >= after:
            self.back(one, one.created + after, script["reason"])
        elif one.kind == "crash":
            period = script["period"] * self.scale
            while one.state == "IN_PROGRESS" and one.created + (one.crashed + 1) * period <= now:
                one.crashed += 1
                at = one.created + one.crashed * period
                for _ in range(script.get("batch", 1)):
                    self.stop(random.getrandbits(128), at, one)
                one.failed = 0 if script.get("uncounted") else one.crashed
                self.event(f"(service {self.name}) has started 1 tasks: (task {self.next():032x}).", at)
                # deployment-circuit-breaker.html: half of the desired tasks, at least 3.
                if script.get("breaker") and one.failed >= 3:
                    self.event(f"(service {self.name}) (deployment {one.id}) deployment failed: tasks failed to start.", at)
                    self.back(one, at, "ECS deployment circuit breaker: tasks failed to start.")
        elif one.kind == "other" and age >= after:
            one.ended = one.created + after
            other = self.register(self.definitions[0])
            self.deployments.insert(0, Deployment(self.next(), other["taskDefinitionArn"], one.ended, {"after": 1}, "complete"))
        elif one.kind == "going" and age >= after:
            self.status = "DRAINING"
        if script.get("event") and age >= 0.5 and not any(script["event"] in event["message"] for event in self.events):
            self.event(f"(service {self.name}) {script['event']}", now)
        self.settle(now)

    def settle(self, now):
        """A deployment that has nothing left to do is listed no more, some time after a newer one is complete."""
        if self.deployments[0].state == "COMPLETED" and now - self.deployments[0].ended > 1.5 * self.scale:
            keep = [one for one in self.deployments[1:] if one.kind == "other" or one.state == "FAILED" and not one.failure_told]
            self.gone = getattr(self, "gone", []) + [one for one in self.deployments[1:] if one not in keep]
            self.deployments = [self.deployments[0], *keep]

    def view(self, one, now):
        is_primary = one is self.deployments[0]
        done = one.state == "COMPLETED"
        running = self.desired if done and is_primary else 0
        if not is_primary and done:
            running = self.desired if self.deployments[0].state == "IN_PROGRESS" else 0
        if one.kind == "complete" and is_primary and not done:
            running = self.desired // 2 if now - one.created > one.script.get("after", 0) * self.scale / 2 else 0
        if one.script.get("uncounted") and is_primary and not done:
            running = 1
        return {
            "id": one.id, "status": "PRIMARY" if is_primary else "ACTIVE", "taskDefinition": one.revision, "desiredCount": self.desired,
            "pendingCount": 0 if done else self.desired - running, "runningCount": running, "failedTasks": one.failed,
            "createdAt": one.created, "updatedAt": now, "rolloutState": one.state, "rolloutStateReason": one.reason, "launchType": "FARGATE",
        }

    def describe(self):
        now = self.now()
        self.advance(now)
        views = [self.view(one, now) for one in self.deployments]
        for one in self.deployments:
            one.failure_told |= one.state == "FAILED"
        if self.updated is not None and now - self.updated < self.of("stale"):
            views = self.before
        if self.script.get("says") == "before" and self.in_window():
            views = self.before
        shifted = self.deployments[0].state != "IN_PROGRESS"
        if self.script.get("blue_first") and len(views) > 1 and not shifted:
            views[0]["status"], views[1]["status"] = "ACTIVE", "PRIMARY"
        if self.script.get("green_last") and len(views) > 2 and not shifted:
            # The rollback is on its way, and nothing of the service tells.
            views = [{**views[1], "status": "PRIMARY", "rolloutState": "IN_PROGRESS"}, {**views[2], "status": "ACTIVE"}]
        configuration = {"minimumHealthyPercent": self.script.get("percent", [100, 200])[0],
                         "maximumPercent": self.script.get("percent", [100, 200])[1],
                         "strategy": self.script.get("strategy", "ROLLING"),
                         "deploymentCircuitBreaker": {"enable": self.script.get("breaker", False), "rollback": self.script.get("rollback", False)}}
        if "alarms" in self.script:
            configuration["alarms"] = {"enable": True, "rollback": True, "alarmNames": self.script["alarms"]}
        answer = {
            "serviceArn": f"{ARN}:service/{self.cluster}/{self.name}", "serviceName": self.name, "clusterArn": f"{ARN}:cluster/{self.cluster}",
            "status": self.status, "desiredCount": self.desired, "runningCount": sum(view["runningCount"] for view in views),
            "pendingCount": sum(view["pendingCount"] for view in views), "taskDefinition": views[0]["taskDefinition"], "deployments": views,
            "events": self.events[:100], "deploymentConfiguration": configuration, "launchType": "FARGATE",
            "schedulingStrategy": self.script.get("scheduling", "REPLICA"), "createdAt": now - 86400, "roleArn": None,
        }
        if "capacity" in self.script:
            for view in [answer, *views]:
                del view["launchType"]
                view.update(self.script["capacity"])
        if "controller" in self.script:
            answer["deploymentController"] = {"type": self.script["controller"]}
        if self.script.get("balanced"):
            answer["loadBalancers"] = [{"targetGroupArn": group_arn(self.name), "containerName": "web", "containerPort": 8000}]
        for other in self.script.get("groups", []):
            alternate = {"advancedConfiguration": {"alternateTargetGroupArn": group_arn(self.name)}} if "alternate" in self.script else {}
            balancer = {"targetGroupArn": group_arn(other), "containerName": "web", "containerPort": 9000, **alternate}
            answer["loadBalancers"] = [balancer, *answer.get("loadBalancers", [])]
        for field in self.script.get("leave_out", []):
            answer.pop(field, None)
            for view in views:
                view.pop(field, None)
        if self.script.get("bare"):
            for view in views:
                for field in ["id", "failedTasks", "rolloutStateReason", "launchType", "createdAt", "pendingCount"]:
                    view.pop(field)
                if view["rolloutState"] == "IN_PROGRESS":
                    view["rolloutState"] = "BEING_THOUGHT_ABOUT"
            bare = {key: answer[key] for key in ["serviceName", "status", "taskDefinition", "deployments"]}
            return {**bare, "schedulingStrategy": "OF_NEXT_YEAR", "ofNextYear": {"x": [1]}}
        return answer

    def in_window(self):
        begin, end = self.script.get("window", [0, 0])
        return self.updated is not None and begin * self.scale <= self.now() - self.updated < end * self.scale

    def service_deployments(self):
        now = self.now()
        self.advance(now)
        if self.updated is None:
            return []
        found = []
        everything = self.deployments + getattr(self, "gone", [])
        for index, one in enumerate(everything):
            # A rollback is no service deployment of its own: the one that failed goes through ROLLBACK_*.
            if one.reason.startswith("ECS deployment circuit breaker: rolling back"):
                continue
            status = {"IN_PROGRESS": "IN_PROGRESS", "COMPLETED": "SUCCESSFUL"}.get(one.state)
            if one.state == "FAILED":
                newer = everything[index - 1] if index else None
                status = "STOPPED" if newer is None else {"COMPLETED": "ROLLBACK_SUCCESSFUL", "FAILED": "ROLLBACK_FAILED"}.get(newer.state, "ROLLBACK_IN_PROGRESS")
            if newer_failed(everything, index):
                continue
            view = {"serviceDeploymentArn": one.arn, "serviceArn": f"{ARN}:service/{self.cluster}/{self.name}", "createdAt": one.created,
                    "status": status, "statusReason": one.reason}
            stages = one.script.get("stages")
            if stages and one.state == "IN_PROGRESS":
                one.stage_told = True
                part = (now - one.created) / max(0.1, one.script["after"] * self.scale)
                view["lifecycleStage"] = stages[min(len(stages) - 1, int(part * len(stages)))]
            if one.script.get("breaker"):
                view["deploymentCircuitBreaker"] = {"status": "TRIGGERED" if one.state == "FAILED" else "MONITORING",
                                                    "failureCount": one.failed, "threshold": 3}
            if one.script.get("alarms") and one.state == "FAILED":
                view["alarms"] = {"status": "TRIGGERED", "alarmNames": one.script["alarms"], "triggeredAlarmNames": one.script["alarms"]}
            if one.state == "FAILED":
                view["rollback"] = {"reason": one.reason}
            found.append(view)
        return found


def newer_failed(everything, index):
    """The rollback's own entry, when it has failed too."""
    return everything[index].kind == "fail" and index + 1 < len(everything) and everything[index + 1].state == "FAILED"


def first_definition(name, log=None):
    log = log or {"logDriver": "awslogs", "options": {
        "awslogs-group": f"/ecs/{name}", "awslogs-region": "us-east-1", "awslogs-stream-prefix": "web"}}
    return {
        "family": name, "networkMode": "awsvpc", "requiresCompatibilities": ["FARGATE"], "cpu": "256", "memory": "512",
        "executionRoleArn": f"arn:aws:iam::{ACCOUNT}:role/execution", "taskRoleArn": f"arn:aws:iam::{ACCOUNT}:role/task",
        "volumes": [{"name": "data", "efsVolumeConfiguration": {"fileSystemId": "fs-1", "ofNextYear": 3}}],
        # A field that no SDK of today knows.
        "thoughtOfNextYear": {"deep": [1, {"er": True}]},
        "runtimePlatform": {"cpuArchitecture": "X86_64", "operatingSystemFamily": "LINUX"},
        "containerDefinitions": [
            {"name": "web", "image": OLD_IMAGE, "cpu": 0, "essential": True, "portMappings": [{"containerPort": 8000, "protocol": "tcp"}],
             "environment": [{"name": "DJANGO_SETTINGS", "value": "shop.settings"}, {"name": "API_TOKEN", "value": "hunter2-hunter2"}],
             "secrets": [{"name": "DATABASE_URL", "valueFrom": f"arn:aws:secretsmanager:us-east-1:{ACCOUNT}:secret:shop:url::"}],
             "logConfiguration": log, "newHere": "kept"},
            {"name": "proxy", "image": "registry.example/proxy:1", "cpu": 0, "essential": False},
        ],
    }


def group_arn(name):
    return f"arn:aws:elasticloadbalancing:us-east-1:{ACCOUNT}:targetgroup/{name}/1"


class World:
    def __init__(self, scale, throttle):
        self.scale, self.throttle = scale, throttle
        self.lock = threading.RLock()
        self.services, self.tags, self.calls, self.random, self.port = {}, {}, [], random.Random(7), 0
        # How often in a row the same question was throttled: never as often as anybody asks.
        self.throttled = {}

    def service(self, cluster, name):
        cluster, name = (cluster or "default").rsplit("/", 1)[-1], name.rsplit("/", 1)[-1]
        if cluster == "nowhere":
            raise Refused("ClusterNotFoundException", "Cluster not found.")
        if name not in self.services:
            self.services[name] = Service(cluster, name, self.scale)
        return self.services[name]

    def call(self, action, question):
        self.calls.append({"at": time.time(), "action": action, "question": question})
        asked = action + json.dumps(question, sort_keys=True)
        if self.random.random() < self.throttle and self.throttled.get(asked, 0) < 3:
            self.throttled[asked] = self.throttled.get(asked, 0) + 1
            self.calls[-1]["throttled"] = True
            raise Refused("ThrottlingException", "Rate exceeded")
        self.throttled.pop(asked, None)
        script = self.script_of(question)
        if action in script.get("refuse", {}):
            code, status = script["refuse"][action]
            raise Refused(code, "", status)
        first = script.get("refuse_first", {}).get(action, [0])
        if first[0] > 0:
            first[0] -= 1
            raise Refused(first[1], first[2])
        answer = getattr(self, action)(question)
        if "times" in script and isinstance(answer, dict):
            answer = timed(answer, script["times"])
        if action == "DescribeServices" and "leave_out" in script:
            answer.pop("failures", None)
        if script.get("lose", {}).get(action, 0) > 0:
            script["lose"][action] -= 1
            raise Lost(0)
        if action in script.get("late", {}):
            return Late(answer, script["late"][action] * self.scale)
        return answer

    def script_of(self, q):
        """The script of the service that a question is about."""
        name = next((q[key] for key in ("service", "family", "serviceName", "familyPrefix") if key in q), None)
        name = name or (q.get("services") or [None])[0] or q.get("logGroupName") or q.get("TargetGroupArn") or q.get("TargetGroupArns.member.1")
        if name and "targetgroup" in name:
            name = name.split("/")[-2]
        if name is None and q.get("tasks"):
            name = next((one.name for one in self.services.values() for task in one.tasks if task["taskArn"] in q["tasks"]), None)
        own = self.services.get((name or "").rsplit("/", 1)[-1])
        return own.script if own else {}

    def DescribeClusters(self, q):
        there = [name for name in q.get("clusters", ["default"]) if name != "nowhere"]
        return {"clusters": [{"clusterArn": f"{ARN}:cluster/{name}", "clusterName": name, "status": "ACTIVE"} for name in there], "failures": []}

    def DescribeServices(self, q):
        if len(q["services"]) > 10:
            raise Refused("InvalidParameterException", "Maximum number of services is 10.")
        found, failures = [], []
        for name in q["services"]:
            service = self.service(q.get("cluster"), name)
            if service.script.get("missing") or (service.script.get("says") == "missing" and service.in_window()):
                failures.append({"arn": f"{ARN}:service/shop/{name}", "reason": "MISSING"})
                continue
            if service.updated is not None and "expires" in service.script and service.now() - service.updated > service.of("expires"):
                raise Refused("ExpiredTokenException", "The security token included in the request is expired")
            found.append(service.describe())
        return {"services": found, "failures": failures}

    def UpdateService(self, q):
        service = self.service(q.get("cluster"), q["service"])
        if service.script.get("missing"):
            raise Refused("ServiceNotFoundException", "Service not found.")
        service.update(self.definition(q["taskDefinition"])["taskDefinitionArn"], q.get("forceNewDeployment", False))
        stale = service.script.get("stale", 0)
        if not service.script.get("stale_update"):
            service.script["stale"] = 0
        answer = service.describe()
        service.script["stale"] = stale
        return {"service": {key: answer[key] for key in service.script.get("update_says", answer)}}

    def definition(self, text):
        family, _, number = text.rsplit("/", 1)[-1].partition(":")
        service = self.service("shop", family)
        active = [one for one in service.definitions if one["status"] == "ACTIVE"]
        if number and int(number) <= len(service.definitions):
            return service.definitions[int(number) - 1]
        if not number and active:
            return active[-1]
        raise Refused("ClientException", f"Unable to describe task definition: {text}")

    def DescribeTaskDefinition(self, q):
        definition = self.definition(q["taskDefinition"])
        first = [{"key": "team", "value": "shop"}] if definition["revision"] == 1 else []
        return {"taskDefinition": definition, "tags": self.tags.get(definition["taskDefinitionArn"], first)}

    def RegisterTaskDefinition(self, q):
        made = self.service("shop", q["family"]).register({key: value for key, value in q.items() if key != "tags"})
        self.tags[made["taskDefinitionArn"]] = q.get("tags", [])
        return {"taskDefinition": made}

    def ListTaskDefinitions(self, q):
        service = self.service("shop", q["familyPrefix"])
        arns = [one["taskDefinitionArn"] for one in service.definitions if one["status"] == q.get("status", "ACTIVE")]
        return {"taskDefinitionArns": arns[::-1] if q.get("sort") == "DESC" else arns}

    def DeregisterTaskDefinition(self, q):
        definition = self.definition(q["taskDefinition"])
        definition["status"] = "INACTIVE"
        return {"taskDefinition": definition}

    def ListTasks(self, q):
        if "serviceName" not in q:
            return {"taskArns": []}
        service = self.service(q.get("cluster"), q["serviceName"])
        service.advance(service.now())
        if q.get("desiredStatus") == "STOPPED":
            arns = [task["taskArn"] for task in service.tasks]
        else:
            # What ecs-deploy counts: the running tasks of the newest complete deployment.
            good = next((one for one in service.deployments if one.state == "COMPLETED"), None)
            arns = [f"{ARN}:task/{service.cluster}/run-{service.name}-{good.revision.rsplit(':', 1)[-1]}-{number}" for number in range(service.desired)] if good else []
        start = int(q.get("nextToken") or 0)
        answer = {"taskArns": arns[start:start + 100]}
        return {**answer, "nextToken": str(start + 100)} if len(arns) > start + 100 else answer

    def DescribeTasks(self, q):
        if len(q["tasks"]) > 100:
            raise Refused("InvalidParameterException", "Tasks cannot exceed 100 elements")
        known = {task["taskArn"]: task for service in self.services.values() for task in service.tasks}
        tasks = []
        for arn in q["tasks"]:
            name = arn.rsplit("/", 1)[-1]
            if name.startswith("run-"):
                family, revision = name[4:].rsplit("-", 2)[:2]
                containers = self.service("shop", family).script.get("containers", [])
                tasks.append({"taskArn": arn, "lastStatus": "RUNNING", "desiredStatus": "RUNNING", "containers": containers,
                              "taskDefinitionArn": f"{ARN}:task-definition/{family}:{revision}"})
            elif arn in known:
                tasks.append(known[arn])
        return {"tasks": tasks, "failures": []}

    def plain(self, service):
        if service.script.get("plain") or service.script.get("bare"):
            raise Refused("UnknownOperationException", "")

    def ListServiceDeployments(self, q):
        service = self.service(q.get("cluster"), q["service"])
        self.plain(service)
        brief = ["serviceDeploymentArn", "serviceArn", "createdAt", "status"]
        found = [{key: one[key] for key in brief} for one in service.service_deployments()]
        if service.script.get("pages"):
            at = int(q.get("nextToken") or 0)
            found = found[::-1][at:at + 1]
            return {"serviceDeployments": found, **({"nextToken": str(at + 1)} if found else {})}
        return {"serviceDeployments": found}

    def DescribeServiceDeployments(self, q):
        wanted = q["serviceDeploymentArns"]
        every = [one for service in list(self.services.values()) for one in service.service_deployments()]
        return {"serviceDeployments": [one for one in every if one["serviceDeploymentArn"] in wanted], "failures": []}

    def StopServiceDeployment(self, q):
        for service in self.services.values():
            for one in service.deployments:
                if one.arn == q["serviceDeploymentArn"]:
                    if one.state != "IN_PROGRESS":
                        raise Refused("ConflictException", "The service deployment is in a terminal state.")
                    one.stopping = True
                    service.advance(service.now())
                    return {"serviceDeploymentArn": one.arn}
        raise Refused("ServiceDeploymentNotFoundException", "Service deployment not found.")

    def ListContainerInstances(self, q):
        return {"containerInstanceArns": [f"{ARN}:container-instance/shop/{number}" for number in (1, 2)]}

    def DescribeContainerInstances(self, q):
        def resources(cpu, memory):
            return [{"name": "CPU", "type": "INTEGER", "integerValue": cpu}, {"name": "MEMORY", "type": "INTEGER", "integerValue": memory}]
        return {"containerInstances": [
            {"ec2InstanceId": f"i-000{number}", "status": "ACTIVE", "registeredResources": resources(4096, 15_800),
             "remainingResources": resources(1024 * number, 120 * number)} for number in (1, 2)]}

    def GetLogEvents(self, q):
        # /ecs/NAME, web/web/TASK
        lines = ["Traceback (most recent call last):", '  File "/app/manage.py", line 22, in <module>', "    main()",
                 "django.core.exceptions.ImproperlyConfigured: the variable SHOP_CURRENCY is not set"]
        lines = [f"starting worker {number}" for number in range(30)] + lines
        return {"events": [{"timestamp": 1, "message": line} for line in lines[-q.get("limit", 10_000):]], "nextForwardToken": "f", "nextBackwardToken": "b"}

    def DescribeTargetHealth(self, q):
        name = q["TargetGroupArn"].split("/")[-2]
        state, reason, text = self.service("shop", name).script.get("target", ["healthy", "", ""])
        return (f"<TargetHealthDescriptions><member><Target><Id>10.0.1.7</Id><Port>8000</Port></Target><TargetHealth><State>{state}</State>"
                f"<Reason>{reason}</Reason><Description>{text}</Description></TargetHealth></member></TargetHealthDescriptions>")

    def DescribeTargetGroups(self, q):
        arn = q["TargetGroupArns.member.1"]
        unnamed = self.service("shop", arn.split("/")[-2]).script.get("unnamed") if arn.split("/")[-2] in self.services else False
        balancers = "" if unnamed else "<member>balancer</member>"
        return f"<TargetGroups><member><TargetGroupArn>{arn}</TargetGroupArn><LoadBalancerArns>{balancers}</LoadBalancerArns></member></TargetGroups>"

    def DescribeLoadBalancers(self, q):
        return "<LoadBalancers><member><LoadBalancerArn>balancer</LoadBalancerArn><DNSName>127.0.0.1</DNSName></member></LoadBalancers>"

    def DescribeListeners(self, q):
        return (f"<Listeners><member><ListenerArn>listener</ListenerArn><Port>{self.port}</Port><Protocol>HTTP</Protocol><DefaultActions><member>"
                "<Type>fixed-response</Type></member></DefaultActions></member></Listeners>")

    def DescribeRules(self, q):
        def rule(name, service):
            header = service.script.get("header")
            wants = (f"<member><Field>http-header</Field><HttpHeaderConfig><HttpHeaderName>{header}</HttpHeaderName><Values><member>secret</member>"
                     "</Values></HttpHeaderConfig></member>") if header else ""
            return (f"<member><RuleArn>{name}</RuleArn><Conditions>{wants}</Conditions><Actions><member><Type>forward</Type>"
                    f"<TargetGroupArn>{group_arn(name)}</TargetGroupArn></member></Actions></member>")
        return f"<Rules>{''.join(rule(name, service) for name, service in self.services.items())}</Rules>"

    def GetCallerIdentity(self, q):
        return f"<Arn>arn:aws:iam::{ACCOUNT}:user/test</Arn><UserId>test</UserId><Account>{ACCOUNT}</Account>"


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    world = None

    def log_message(self, *_):
        pass

    def answer(self, status, body, kind="application/x-amz-json-1.1"):
        data = body.encode()
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def do_GET(self):
        world = self.world
        with world.lock:
            if self.path == "/_calls":
                return self.answer(200, json.dumps(world.calls))
            if self.path == "/_state":
                state = {name: [{"id": one.id, "revision": one.revision, "state": one.state, "created": one.created, "ended": one.ended,
                                 "crashed": one.crashed} for one in service.deployments + getattr(service, "gone", [])]
                         for name, service in world.services.items()}
                return self.answer(200, json.dumps(state))
            if self.path == "/_revisions":
                return self.answer(200, json.dumps({name: service.definitions for name, service in world.services.items()}))
            name = self.path.strip("/").split("/")[-1]
            script = world.service("shop", name).script
        if script.get("hangs"):
            # Until the one who asks has enough of it.
            self.rfile.read(1)
            self.close_connection = True
            return None
        with world.lock:
            return self.answer(script.get("answers", 404), json.dumps({"version": "v2"}), "application/json")

    def do_POST(self):
        world = self.world
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0)).decode()
        if self.path == "/_forget":
            with world.lock:
                world.calls.clear()
            return self.answer(200, "{}")
        if self.path == "/_save":
            with world.lock:
                world.kept = copy.deepcopy(world.services)
            return self.answer(200, "{}")
        if self.path == "/_restore":
            with world.lock:
                world.services = copy.deepcopy(world.kept)
                world.calls.clear()
            return self.answer(200, "{}")
        target = self.headers.get("X-Amz-Target")
        is_query = target is None
        question = dict(urllib.parse.parse_qsl(body)) if is_query else json.loads(body or "{}")
        action = question.get("Action", "") if is_query else target.rsplit(".", 1)[-1]
        with world.lock:
            try:
                if not hasattr(World, action) or not action[:1].isupper():
                    raise Refused("UnknownOperationException", "")
                answer = world.call(action, question)
            except Lost:
                self.close_connection = True
                return self.connection.close()
            except Refused as refused:
                if is_query:
                    return self.answer(refused.status, f"<ErrorResponse><Error><Code>{refused.code}</Code><Message>{refused.message}</Message></Error></ErrorResponse>", "text/xml")
                return self.answer(refused.status, json.dumps({"__type": refused.code, "message": refused.message}))
        if isinstance(answer, Late):
            time.sleep(answer.seconds)
            answer = answer.answer
        if is_query:
            return self.answer(200, f"<{action}Response><{action}Result>{answer}</{action}Result></{action}Response>", "text/xml")
        return self.answer(200, json.dumps(answer))


class Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def handle_error(self, request, client_address):
        # Whoever has asked may have been killed since.
        if not isinstance(sys.exc_info()[1], OSError):
            super().handle_error(request, client_address)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--scale", type=float, default=1.0)
    parser.add_argument("--throttle", type=float, default=0.0)
    parser.add_argument("--until-eof", action="store_true", help="end with standard input")
    arguments = parser.parse_args()
    world = World(arguments.scale, arguments.throttle)
    Handler.world = world
    server = Server(("127.0.0.1", arguments.port), Handler)
    world.port = server.server_address[1]
    print(f"http://127.0.0.1:{world.port}", flush=True)
    if arguments.until_eof:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        sys.stdin.buffer.read()
    else:
        server.serve_forever()


if __name__ == "__main__":
    main()
