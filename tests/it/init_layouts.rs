//! `init` on layouts that are told by a few files, and answers that fit none.

use crate::init::{init, scene};
use crate::support::scene::Scene;

/// What is said, and what is written, of a checkout of a few files.
fn of_files(files: &[(&str, &str)]) -> (String, String) {
    let scene = Scene::new("http://127.0.0.1:1");
    for (path, text) in files {
        scene.write(path, text);
    }
    let said = init(&scene, &[]).expect(0).stdout;
    let written = ["windlass.yml", "Dockerfile"].map(|name| std::fs::read_to_string(scene.project().join(name)).unwrap_or_default());
    (said, written.concat())
}

#[test]
fn a_container_that_migrates_when_it_starts_is_said() {
    let nest = r#"{"scripts": {"start:prod": "node dist/main", "start:migrate": "prisma migrate deploy && npm run start:prod"}, "dependencies": {"@nestjs/core": "11"}}"#;
    for (command, place) in [
        ("CMD [\"npm\", \"run\", \"start:migrate\"]", "package.json:1: it migrates when it starts"),
        ("CMD npx prisma migrate deploy && node dist/main.js", "Dockerfile:3: it migrates when it starts"),
        ("ENTRYPOINT [\"/app/bin/entrypoint.sh\"]", "bin/entrypoint.sh:3: it migrates when it starts"),
    ] {
        let dockerfile = format!("FROM node:22\nCOPY . /app\n{command}\n");
        let script = ("bin/entrypoint.sh", "#!/bin/sh\n# waits\nnpx prisma migrate deploy\nexec \"$@\"\n");
        let (said, _) = of_files(&[("package.json", nest), ("package-lock.json", "{}"), ("Dockerfile", &dockerfile), script]);
        assert!(said.contains(place), "{said}");
    }
}

#[test]
fn applications_that_share_a_package_are_told_apart() {
    let nest = r#"{"scripts": {"build": "nest build", "start:prod": "node dist/apps/api/main"}, "dependencies": {"@nestjs/core": "11"}}"#;
    let cli = r#"{"monorepo": true, "root": "apps/api", "projects": {"api": {"type": "application", "root": "apps/api"},
        "mailer": {"type": "application", "root": "apps/mailer"}, "common": {"type": "library", "root": "libs/common"}}}"#;
    let (said, written) = of_files(&[("package.json", nest), ("package-lock.json", "{}"), ("nest-cli.json", cli)]);
    assert!(
        said.contains("nest-cli.json:2: `mailer`, another application of this workspace") && !said.contains("`api`, another"),
        "{said}"
    );
    assert!(written.contains(r#"CMD ["node","dist/apps/api/main"]"#), "{written}");
}

#[test]
fn a_react_router_without_a_server_is_a_site_and_a_checked_environment_is_not_asked_for() {
    let package = r#"{"scripts": {"build": "react-router build"}, "dependencies": {"@react-router/node": "7"}, "devDependencies": {"@react-router/dev": "7", "vite": "7"}}"#;
    let config = ("react-router.config.ts", "export default { ssr: false }");
    let (_, written) = of_files(&[("package.json", package), ("package-lock.json", "{}"), config]);
    assert!(written.contains("output: build/client\n"), "{written}");
    let next = r#"{"scripts": {"build": "next build", "start": "next start"}, "dependencies": {"next": "16"}}"#;
    let checked = ("src/env.js", "export const env = createEnv({ skipValidation: !!process.env.SKIP_ENV_VALIDATION });");
    let (_, written) = of_files(&[("package.json", next), ("package-lock.json", "{}"), checked]);
    assert!(written.contains("RUN SKIP_ENV_VALIDATION=1 npm run build\n"), "{written}");
}

#[test]
fn settings_that_are_nowhere_are_refused() {
    let scene = scene("two-settings");
    let said = init(&scene, &["--settings", "api=quay.settings.productoin"]).expect(10).stderr;
    assert!(said.contains("no file of `api` is the settings module `quay.settings.productoin`:"), "{said}");
    assert!(said.contains("--settings api=") && !scene.project().join("windlass.yml").exists(), "{said}");
}

#[test]
fn the_health_of_a_controller_has_the_path_of_its_controller() {
    let nest = r#"{"scripts": {"build": "nest build", "start:prod": "node dist/main"}, "dependencies": {"@nestjs/core": "11"}}"#;
    let health = |main: &str, controller: &str| {
        let (said, _) =
            of_files(&[("package.json", nest), ("package-lock.json", "{}"), ("src/main.ts", main), ("src/app.controller.ts", controller)]);
        let line = said.lines().find(|line| line.contains("says whether it is well")).unwrap_or_default();
        line.split('`').nth(1).unwrap_or_default().to_owned()
    };
    assert_eq!(health("", "@Controller() class A { @Get('health') h() {} }"), "/health");
    assert_eq!(health("", "@Controller('api') class A { @Get('/health') h() {} }"), "/api/health");
    assert_eq!(health("", "@Controller({ path: 'api', version: '1' }) class A { @Get('health') h() {} }"), "/api/health");
    assert_eq!(health("", "@Controller('shop') class A {}\n@Controller() class B { @Get('healthz') h() {} }"), "/healthz");
    assert_eq!(health("app.setGlobalPrefix('api/v1');", "@Controller('health') class A { @Get() h() {} }"), "/api/v1/health");
    let but = "app.setGlobalPrefix('api', { exclude: ['health'] });";
    assert_eq!(health(but, "@Controller('health') class A { @Get() h() {} }"), "/health");
}

#[test]
fn what_nobody_takes_is_said() {
    let nest = r#"{"scripts": {"build": "nest build", "start:prod": "node dist/main"}, "dependencies": {"@nestjs/core": "11"}}"#;
    let sql = ("api/prisma/migrations/1_init/migration.sql", "SELECT 1;");
    let schema = ("api/prisma/schema.prisma", "datasource db {\n  provider = \"postgresql\"\n}\n");
    // The engine may come with the image, or with the root of the workspace.
    let (said, written) = of_files(&[("api/package.json", nest), ("api/package-lock.json", "{}"), schema, sql]);
    assert!(said.contains("Prisma on postgresql, with migrations") && written.contains("framework: prisma"), "{said}{written}");
    let apart = [("db/migrations/1_init/migration.sql", "SELECT 1;"), ("db/schema.prisma", "datasource db {}\n")];
    let (said, _) = of_files(&[&[("api/package.json", nest), ("api/package-lock.json", "{}")], &apart[..]].concat());
    assert!(said.contains("db/schema.prisma: a schema of Prisma's with migrations that no package refers to"), "{said}");

    let scene = Scene::new("http://127.0.0.1:1");
    scene.write("status/index.html", "<h1>All is well</h1>\n").write("public/index.html", "<h1>Shop</h1>\n");
    let said = init(&scene, &["--dry-run"]).expect(0).stdout;
    assert!(said.contains("`--as status=site` takes it") && !said.contains("bucket: shop-status"), "{said}");
    let said = init(&scene, &["--as", "status=site"]).expect(0).stdout;
    assert!(said.contains("status/index.html: pages as they are: a site") && said.contains("bucket: shop-status"), "{said}");
}

#[test]
fn what_compose_makes_of_one_image_are_services_too() {
    let dockerfile =
        "FROM python:3.13 AS base\nCOPY . /srv\nEXPOSE 8000\nCMD [\"gunicorn\", \"a.wsgi\"]\nFROM base AS reports\nFROM base AS app\n";
    let compose = "x-all: &all\n  build: {context: ., target: app}\n  image: shop\nservices:\n  \
                   beat: {<<: *all, command: celery beat}\n  api: {<<: *all, ports: ['8000:8000'], depends_on: {setup: {condition: service_completed_successfully}}}\n  \
                   mails: {image: shop}\n  worker: {extends: {service: beat}, build: {context: ., target: app}, command: [celery, worker]}\n  \
                   reports: {build: {context: ., target: reports}}\n  setup: {<<: *all, command: ./setup}\n  \
                   migrate: {<<: *all, command: python manage.py migrate}\n  adminer: {<<: *all, profiles: [tools]}\n  db: {image: postgres}\n";
    let (said, written) = of_files(&[("Dockerfile", dockerfile), ("compose.yaml", compose)]);
    let services: Vec<&str> = written.lines().filter(|line| line.starts_with("  ") && !line.starts_with("   ")).collect();
    let names: Vec<&str> = services.iter().map(|line| line.split(':').next().unwrap_or_default().trim()).collect();
    assert_eq!(names, ["api", "beat", "mails", "worker", "reports"], "{written}");
    assert_eq!(written.matches("repository: shop/api ").count(), 4, "{written}");
    assert!(written.contains("repository: shop/reports ") && written.matches("target: reports").count() == 1, "{written}");
    assert!(said.contains("Compose's `beat` has the same image, and runs `celery beat`: a service"), "{said}");
    for (name, why) in [
        ("setup", "ends before others begin"),
        ("migrate", "is called like something that ends"),
        ("adminer", "runs only where its profile is asked for"),
    ] {
        assert!(said.contains(&format!("Compose's `{name}` has the same image, and {why}: no service")), "{said}");
    }

    let scene = Scene::new("http://127.0.0.1:1");
    scene.write("Dockerfile", dockerfile).write("compose.yaml", compose);
    let flags = ["--as", "beat=skip", "--as", "adminer=service", "--ecs-service", "mails=shop-mails", "--dry-run"];
    let said = init(&scene, &flags).expect(0).stdout;
    assert!(said.contains("Compose's `beat`: left out, as --as says") && said.contains("\n  adminer:"), "{said}");
    assert!(said.contains("service: shop-mails\n") && said.contains("UNITS: api mails worker adminer\n"), "{said}");
}

#[test]
fn what_shares_code_shares_its_migrations() {
    let files = [
        ("api/manage.py", "import os\nos.environ.setdefault(\"DJANGO_SETTINGS_MODULE\", \"shop.settings\")\n"),
        ("api/shop/settings.py", "WSGI_APPLICATION = \"shop.wsgi.application\"\nDATABASES = {\"default\": {}}\n"),
        ("api/shop/wsgi.py", ""),
        ("api/requirements.txt", "django\ngunicorn\n"),
        ("api/Dockerfile", "FROM python:3.13\nWORKDIR /app\nCOPY . .\nCMD gunicorn shop.wsgi\n"),
        ("api/shop/urls.py", "urlpatterns = [path(\"healthz\", ok)]\n"),
        ("docker-compose.yml", "services:\n  jobs: {build: api, command: celery -A shop worker}\n  web: {build: api}\n"),
    ];
    // The directory's name is the server's, whose workers have their own; and it alone is asked for health.
    let (_, written) = of_files(&files);
    assert!(written.contains("from: api\n    services: [jobs] ") && written.matches("health: /healthz").count() == 1, "{written}");
}

#[test]
fn a_list_of_packages_in_an_image_is_no_site_in_it() {
    let root = r#"{"workspaces": ["api", "web"]}"#;
    let nest =
        r#"{"name": "api", "scripts": {"build": "nest build", "start:prod": "node dist/main"}, "dependencies": {"@nestjs/core": "11"}}"#;
    let vite = r#"{"name": "web", "scripts": {"build": "vite build"}, "devDependencies": {"vite": "7"}}"#;
    for (copied, said_so) in [("web/package.json", false), ("web", true)] {
        let dockerfile = format!(
            "FROM node:24\nCOPY package.json package-lock.json ./\nCOPY {copied} web/\nCOPY api api\nCMD [\"node\", \"api/dist/main\"]\n"
        );
        let files = [("package.json", root), ("package-lock.json", "{}"), ("api/package.json", nest), ("web/package.json", vite)];
        let (said, _) = of_files(&[&files[..], &[("web/index.html", "<p>"), ("Dockerfile.api", &dockerfile)]].concat());
        assert_eq!(said.contains("an image is made of it, too"), said_so, "{said}");
    }
}
