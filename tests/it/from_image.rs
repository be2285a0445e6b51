//! A site whose files lie in a service's image, with a real engine: what Django's `collectstatic` leaves there is served by the CDN.

use std::process::{Command, Stdio};

use crate::shop::Shop;
use crate::support::ministack;

/// As `ManifestStaticFilesStorage` does it: a copy of each file with a hash in its name, and a manifest that says which.
const COLLECT: &str = r"
import hashlib, json, os, shutil
paths = {}
for folder, _, files in os.walk('assets'):
    for name in files:
        source = os.path.join(folder, name)
        path = os.path.relpath(source, 'assets')
        stem, extension = os.path.splitext(path)
        paths[path] = stem + '.' + hashlib.md5(open(source, 'rb').read()).hexdigest()[:12] + extension
        for target in (path, paths[path]):
            os.makedirs(os.path.dirname('static/' + target) or '.', exist_ok=True)
            shutil.copy(source, 'static/' + target)
json.dump({'paths': paths, 'version': '1.1', 'hash': ''}, open('static/staticfiles.json', 'w'))
os.symlink('css/look.css', 'static/old.css')
os.symlink('/etc/passwd', 'static/passwd')
";

const DOCKERFILE: &str = "FROM local/python:3.11-bookworm\nWORKDIR /app\nCOPY . .\nRUN python3 collect.py\n";

/// The images that a test leaves on the engine go when this is dropped.
struct Leftovers(String);

impl Leftovers {
    fn remove(&self) {
        let remove = r#"docker images --quiet --no-trunc "$0" | sort --unique | xargs --no-run-if-empty docker rmi --force"#;
        Command::new("sh").args(["-c", remove, &self.0]).stdout(Stdio::null()).stderr(Stdio::null()).status().unwrap();
    }
}

impl Drop for Leftovers {
    fn drop(&mut self) {
        self.remove();
    }
}

/// A site out of the image of `api`, which nobody has built yet.
async fn shop(name: &str) -> (Leftovers, Shop) {
    let shop = Shop::site(name).await;
    let registry = ministack::shared().registry();
    shop.add_service(registry);
    shop.seed.repository(&format!("{name}/api")).await;
    shop.configure("prebuilt: true", "from_image: {service: api, path: /app/static}\n    prefix: static");
    shop.scene.write("api/Dockerfile", DOCKERFILE).write("api/collect.py", COLLECT).write("api/assets/css/look.css", "a {}\n");
    shop.scene.write("api/assets/logo #1.svg", "<svg/>");
    shop.scene.commit(3);
    (Leftovers(format!("{registry}/{name}/api")), shop)
}

const LOOK: &str = "static/css/look.2d6c8208b853.css";

#[tokio::test]
async fn files_out_of_an_image_are_planned_released_and_served() {
    let (images, mut shop) = shop("from-image").await;
    // The plan names what the release does, also where the image has still to be built; it is built, and nothing is written.
    let planned = shop.run(&["plan", "web", "--format", "json"]).expect(0);
    assert_eq!(shop.proxy.written(), [""; 0]);
    assert!(planned.stderr.contains("api build:"), "{}", planned.stderr);
    let planned: serde_json::Value = serde_json::from_str(&planned.stdout).unwrap();
    let site = &planned["sites"]["web"];
    let keys = |part: &str| site[part].as_array().unwrap().iter().map(|write| write["key"].as_str().unwrap()).collect::<Vec<_>>();
    let written = ["static/css/look.css", LOOK, "static/logo #1.677433a0892a.svg", "static/logo #1.svg", "static/old.css"];
    assert_eq!([keys("upload"), keys("publish")].concat().iter().filter(|key| written.contains(key)).count(), 5, "{site}");
    let text = shop.run(&["plan", "web"]).expect(0).stdout;
    assert!(text.contains("web: /app/static in the image of api to s3://from-image-web"), "{text}");
    assert!(text.contains("- passwd: a link that leads out of the build output"), "{text}");

    let released = shop.release_units(&["web"]);
    assert!(released.stderr.contains("web check: https://"), "{}", released.stderr);
    assert_eq!(released.stderr.matches("api build:").count(), 1, "built once: {}", released.stderr);
    let head = shop.head(LOOK).await.unwrap();
    assert_eq!((head.cache_control(), head.content_type()), (Some("public, max-age=31536000, immutable"), Some("text/css; charset=utf-8")));
    assert_eq!(shop.head("static/css/look.css").await.unwrap().cache_control(), Some("public, max-age=300"));
    let served = shop.get("/static/logo%20%231.svg").await;
    assert_eq!((served.status, &served.body[..], served.content_type.as_deref()), (200, &b"<svg/>"[..], Some("image/svg+xml")));
    assert_eq!(shop.get("/static/old.css").await.body, "a {}\n");
    assert!(shop.head("static/passwd").await.is_none());
    assert_eq!(shop.scene.git(&["status", "--porcelain"]), "", "Git passes over what was unpacked");

    // What is live came out of this image: no engine is asked. What was unpacked is no part of the image.
    shop.scene.set("DOCKER_HOST", "unix:///nonexistent");
    shop.release_units(&["web"]);
    assert_eq!(shop.proxy.written(), [""; 0]);
    shop.scene.unset("DOCKER_HOST");

    // Another machine, which has neither the files nor the image.
    std::fs::remove_dir_all(shop.scene.project().join(".windlass")).unwrap();
    images.remove();
    shop.run(&["release", "web", "--audit"]).expect(0);
    assert_eq!(shop.proxy.written(), [""; 0]);

    shop.scene.write("api/assets/css/look.css", "b {}\n");
    shop.release_units(&["web"]);
    let mut written = shop.written();
    written.sort();
    assert_eq!(
        written,
        [
            "s3:CopyObject static/css/look.css",
            "s3:CopyObject static/old.css",
            "s3:CopyObject static/staticfiles.json",
            "s3:PutObject static/css/look.d61bf042eaba.css"
        ]
    );
    assert!(shop.head(LOOK).await.is_some(), "open pages still ask for it");
}

#[tokio::test]
async fn stages_on_several_machines_take_the_files_out_of_what_was_pushed() {
    let (images, shop) = shop("from-pushed").await;
    let refused = shop.refused(&["stage", "assets", "web"], 11);
    assert!(refused.ends_with("hint: run `windlass stage images` first\n"), "{refused}");
    let pushed = shop.run(&["stage", "images", "web"]).expect(0).stdout;
    let release = pushed.trim_end().rsplit(' ').next().unwrap();
    images.remove();
    shop.run(&["stage", "assets", "web", "--release", release]).expect(0);
    std::fs::remove_dir_all(shop.scene.project().join(".windlass")).unwrap();
    shop.run(&["stage", "publish", "web", "--release", release]).expect(0);
    assert_eq!(shop.get("/static/css/look.css").await.body, "a {}\n");

    // The same image by its address, as another build may have made it.
    let image =
        Command::new("docker").args(["images", "--digests", "--format", "{{.Repository}}@{{.Digest}}", &images.0]).output().unwrap();
    let image = String::from_utf8(image.stdout).unwrap().lines().next().unwrap().to_owned();
    shop.configure("image: {repository: from-pushed/api}", &format!("image: {image}"));
    shop.configure("prefix: static", "prefix: other");
    shop.release_units(&["web"]);
    assert_eq!(shop.get("/other/css/look.css").await.body, "a {}\n");
}

#[tokio::test]
async fn what_an_image_does_not_hold_is_said_before_anything_is_written() {
    let (_images, mut shop) = shop("from-nowhere").await;
    shop.configure("path: /app/static}", "path: /app/statics}");
    let refused = shop.refused(&["release", "web"], 20);
    assert!(refused.contains("has no directory `/app/statics`") && refused.contains("correct `sites.web.from_image.path`"), "{refused}");
    shop.configure("path: /app/statics}", "path: /app/empty}").configure("prefix: static", "prefix: \"\"");
    shop.scene.write("api/Dockerfile", format!("{DOCKERFILE}RUN mkdir empty\n"));
    let refused = shop.refused(&["release", "web"], 20);
    assert!(refused.contains("there are no files"), "{refused}");
    shop.configure("path: /app/empty}", "path: static}");
    assert!(shop.refused(&["release", "web"], 10).contains("`static` is no directory of an image"));
    shop.configure("service: api, path: static}", "service: apy, path: /static}");
    assert!(shop.refused(&["release", "web"], 10).contains("there is no service `apy`; did you mean `api`?"));
    shop.configure("service: apy", "service: api");
    shop.scene.set("DOCKER_HOST", "unix:///nonexistent");
    let refused = shop.refused(&["plan", "web"], 11);
    assert!(refused.contains("a site's files have to be taken out of an image, and no Docker engine answers"), "{refused}");
}
