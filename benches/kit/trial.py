"""The application that is released again and again, and what has to be true of it whatever happens."""

import hashlib
import json
import os
import re
import shutil
import signal
import subprocess
from pathlib import Path

from kit.cloud import Cloud
from kit.server import WRITES

SITES = ("web", "docs")
# What the scripted ECS plays says the name: complete after 0.5 s, at --scale 1.
SERVICES = {"api": "ok@0.5", "worker": "ok-2@0.5", "admin": "ok-3@0.5"}
BUCKETS = {f"E{site.upper()}": f"km-{site}" for site in SITES}
OLD_IMAGE = "registry.example/shop/api@sha256:" + "0" * 64
# The codes of a run that says what is live, and how to go on. 1 is a bug.
TOLD = {11, 12, 13, 14, 20, 21, 22, 23, 24, 30, 31, 32, 33, 34, 40, 41}


def image(service, number):
    return f"registry.example/shop/{service}@sha256:{hashlib.sha256(f'{service}{number}'.encode()).hexdigest()}"


def md5(text):
    return hashlib.md5(text.encode()).hexdigest()


def files(site, number):
    """What a build of a site's `number`-th edition holds."""
    asset = f"assets/{site}-{hashlib.sha256(f'{site}{number}'.encode()).hexdigest()[:8]}.js"
    page = f'<!doctype html><script src="/{asset}"></script><p>{number}\n'
    return {"index.html": page, "about/index.html": page, asset: f"// {site} {number}\n", "robots.txt": f"# {number}\n"}


# What a page names, by its content.
NAMES = {
    md5(body): re.search(r'src="/([^"]+)"', body).group(1)
    for site in SITES for number in range(1, 9) for path, body in files(site, number).items() if path.endswith(".html")
}


class Run:
    def __init__(self, code, said):
        self.code, self.said = code, said


class Trial:
    """Two sites behind distributions, three services, one after the other two, and a migration, in a cloud of their own."""

    def __init__(self, windlass, program, home, options=(), scale=0.1, kms=False):
        self.windlass, self.home, self.options = windlass, Path(home), list(options)
        self.cloud = Cloud(program, BUCKETS, scale)
        # With a key of KMS entity tags are no digests.
        self.cloud.s3.admin("etag", **{"as": "kms" if kms else "md5"})
        self.checkout(self.home / "project", 1)

    def begin(self):
        """Releases the first edition, to which every trial goes back, and then the second, which is what has to come of each."""
        first = self.run()
        if first.code != 0:
            raise SystemExit(f"the first release ended with {first.code}:\n{first.said}")
        self.cloud.save()
        self.back()
        second = self.run()
        if second.code != 0 or self.invocations() != 1:
            raise SystemExit(f"the second release ended with {second.code}:\n{second.said}")
        self.counts, self.requests = dict(self.cloud.counts), list(self.cloud.requests)
        self.expected = self.settled()
        return second

    def checkout(self, project, number):
        """What the checkout holds of an edition."""
        shutil.rmtree(project, ignore_errors=True)
        for site in SITES:
            for path, content in files(site, number).items():
                file = project / site / "dist" / path
                file.parent.mkdir(parents=True, exist_ok=True)
                file.write_text(content)
        services = "".join(
            f"  {unit}: {{image: '{image(unit, number)}', cluster: shop, service: '{name}', container: web"
            + (", after: [api, worker]" if unit == "admin" else "") + "}\n" for unit, name in SERVICES.items())
        sites = "".join(f"  {site}: {{path: {site}, prebuilt: true, bucket: km-{site}, distribution: E{site.upper()}}}\n" for site in SITES)
        migration = f"  main: {{framework: django, driver: lambda-image, from: api, function: shop, image: '{image('api', number)}'}}\n"
        text = f"app: shop\nstate: s3://km-state/w\nsites:\n{sites}services:\n{services}migrations:\n{migration}"
        (project / "windlass.yml").write_text(text)

    def back(self, number=2):
        """Goes back to where only the first edition is live, with another in the checkout."""
        self.cloud.restore()
        self.cloud.disturb()
        self.checkout(self.home / "project", number)
        self.base = {site: self.objects(site) for site in SITES}

    def objects(self, site):
        return {key: (stored.md5, stored.headers) for key, stored in self.cloud.s3.objects(f"km-{site}").items()}

    def start(self, project="project", arguments=("release",), log="log", **more):
        environment = {
            "PATH": os.environ["PATH"], "HOME": str(self.home), "AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test",
            "AWS_REGION": "us-east-1", "AWS_ENDPOINT_URL": self.cloud.url, "AWS_EC2_METADATA_DISABLED": "true",
            # Nobody has the images: an engine would look for their registry by name, for long.
            "DOCKER_HOST": "unix:///nonexistent", **more,
        }
        with open(self.home / log, "wb") as out:
            command = [str(self.windlass), *arguments, *self.options]
            return subprocess.Popen(command, cwd=self.home / project, env=environment, stdout=out, stderr=out, stdin=subprocess.DEVNULL)

    def run(self, arguments=("release",)):
        process = self.start(arguments=arguments)
        process.wait()
        return Run(process.returncode, (self.home / "log").read_text())

    def invocations(self):
        return self.cloud.function.invocations

    def settled(self):
        """What is there: every object of the sites, and what each service runs."""
        return {site: self.objects(site) for site in SITES}, self.running()

    def running(self):
        state, revisions = self.cloud.ecs.ask("GET", "/_state"), self.cloud.ecs.ask("GET", "/_revisions")
        running = {}
        for unit, name in SERVICES.items():
            arn = state[name][0]["revision"]
            found = next(one for one in revisions[name] if one["taskDefinitionArn"] == arn)
            running[unit] = found["containerDefinitions"][0]["image"]
        return running

    def wrong(self, once=True):
        """Everything that must not be, of what has happened since this went back, and of what there is now. Where an answer was lost the
        SDK asks again, as it should: then nothing is said of what was done `once`."""
        return [*self.wrong_pages(), *self.wrong_services(once), *(self.repeated() if once else [])]

    def wrong_pages(self):
        """Plays the server's log back: after each single write, every page names what is there."""
        there = {site: {key: md5 for key, (md5, _) in objects.items()} for site, objects in self.base.items()}
        wrong = []
        for line in self.cloud.s3.log():
            site = line.bucket.removeprefix("km-")
            if line.operation not in WRITES or line.status >= 300 or site not in there:
                continue
            for key in line.keys:
                there[site].pop(key, None)
                if not line.operation.startswith("Delete"):
                    there[site][key] = line.md5
            for key, digest in there[site].items():
                if digest in NAMES and NAMES[digest] not in there[site]:
                    wrong.append(f"{site}/{key} names {NAMES[digest]}, which is not there")
        return wrong

    def wrong_services(self, once):
        """A service runs the old image or the new one, and nothing else of its definition has changed."""
        wrong = []
        revisions = self.cloud.ecs.ask("GET", "/_revisions")
        for unit, name in SERVICES.items():
            first, images = None, []
            for revision in revisions[name]:
                rest = json.loads(json.dumps({key: value for key, value in revision.items() if key not in ("taskDefinitionArn", "revision", "registeredAt", "status")}))
                images.append(rest["containerDefinitions"][0].pop("image"))
                # Which release has registered it is written on it.
                labels = rest["containerDefinitions"][0].pop("dockerLabels", {})
                wrong += [f"{revision['taskDefinitionArn']} has a label {label}" for label in labels if not label.startswith("windlass.")]
                first = first or rest
                if rest != first:
                    wrong.append(f"{revision['taskDefinitionArn']} is no clone of the first")
            known = [OLD_IMAGE, image(unit, 1), image(unit, 2)]
            wrong += [f"{unit} has a revision of {one}" for one in images if one not in known]
            if once and len(images) > 3:
                wrong.append(f"{unit}: {len(images) - 2} revisions were registered")
        running = self.running()
        return wrong + [f"{unit} runs {one}" for unit, one in running.items() if one not in (image(unit, 1), image(unit, 2))]

    def repeated(self):
        """What was uploaded, or rolled, more often than once."""
        uploaded, wrong = set(), []
        for line in self.cloud.s3.log():
            if line.operation == "PutObject" and line.status < 300 and line.bucket != "km-state":
                what = (line.bucket, *line.keys, line.md5)
                if what in uploaded:
                    wrong.append(f"{line.bucket}/{line.keys[0]} was uploaded twice")
                uploaded.add(what)
        rolled = [call["question"]["service"] for call in self.cloud.ecs.ask("GET", "/_calls") if call["action"] == "UpdateService"]
        return wrong + [f"{name} was rolled {rolled.count(name)} times" for name in sorted(set(rolled)) if rolled.count(name) > 1]

    def finished(self, once=True):
        """Runs the same command again, and once more: what is wrong with what there is then."""
        wrong = []
        again = self.run()
        if again.code != 0:
            wrong.append(f"the next run ended with {again.code}: {again.said[-600:]}")
        wrong += self.wrong(once)
        return wrong + self.differs() + self.idle()

    def differs(self):
        wrong = []
        if self.settled() != self.expected:
            wrong.append("the final state is another than without a disturbance")
        if self.invocations() != 1:
            wrong.append(f"the migration was invoked {self.invocations()} times")
        return wrong

    def idle(self):
        self.cloud.disturb()
        further = self.run()
        if further.code != 0 or self.cloud.counts["write"]:
            return [f"a further run ended with {further.code} and made {self.cloud.counts['write']} writes"]
        return []

    def killed(self, trouble):
        """Kills a release at a request; gives what was wrong then, and `None` if it never came to that request."""
        self.back()
        self.cloud.disturb(trouble)
        process = self.start()
        trouble.victim = process
        trouble.known.set()
        process.wait()
        if process.returncode != -signal.SIGKILL:
            return None
        wrong = self.wrong()
        self.cloud.trouble = None
        return wrong + self.finished()

    def disturbed(self, trouble):
        """Lets a fault happen to a request of a release; gives how it ended, and what was wrong."""
        self.back()
        self.cloud.disturb(trouble)
        run = self.run()
        if not trouble.struck:
            return None, []
        once = trouble.what in ("throttle", "5xx", "reset-before")
        wrong = self.wrong(once)
        self.cloud.trouble = None
        if run.code == 0:
            return 0, wrong + self.differs() + self.idle()
        last = run.said.rstrip().splitlines()[-1:] or [""]
        if run.code not in TOLD or not last[0].startswith("hint: "):
            wrong.append(f"it ended with {run.code}: {run.said[-600:]}")
        return run.code, wrong + self.finished(once)

    def end(self):
        self.cloud.end()
