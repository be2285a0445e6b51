//! A secret that the program was given is in nothing that it prints and nothing that it keeps.

use crate::shop::Shop;
use crate::support::scene::Outcome;

const KEY: &str = "wJalrXUtnFEMI-K7MDENG-bPxRfiCYEXAMPLEKEY";
const TOKEN: &str = "npm-7f3c1e9ab2d84560";

async fn shop(name: &str, build: &str) -> Shop {
    let mut shop = Shop::site(name).await;
    shop.scene.set("AWS_SECRET_ACCESS_KEY", KEY);
    shop.scene.set("NPM_TOKEN", TOKEN);
    shop.configure("prebuilt: true", &format!("build: {build}\n    env: {{REGISTRY_TOKEN: \"${{NPM_TOKEN}}\"}}"));
    shop
}

#[track_caller]
fn assert_silent(outcome: &Outcome) {
    for (stream, text) in [("stdout", &outcome.stdout), ("stderr", &outcome.stderr)] {
        for secret in [KEY, TOKEN] {
            assert!(!text.contains(secret), "{secret} is on {stream}:\n{text}");
        }
    }
}

async fn assert_not_kept(shop: &Shop) {
    let keys = shop.keys("state").await;
    for key in keys {
        let object = shop.seed.s3().get_object().bucket(format!("{}-state", shop.name)).key(&key).send().await.unwrap();
        let body = String::from_utf8_lossy(&object.body.collect().await.unwrap().to_vec()).into_owned();
        assert!(!body.contains(KEY) && !body.contains(TOKEN), "a secret is in {key}");
    }
}

#[tokio::test]
async fn a_secret_that_a_build_prints_is_masked() {
    let shop = shop("secret-printed", "\"env; echo token is $NPM_TOKEN >&2\"").await;
    for arguments in [&["plan"][..], &["plan", "--format", "json"], &["release", "--rebuild", "--format", "json"], &["status"], &["verify"]]
    {
        let outcome = shop.run(arguments).expect(0);
        assert_silent(&outcome);
        assert!(!arguments.contains(&"release") || outcome.stdout.contains("token is ***"), "{}", outcome.stdout);
    }
    assert_not_kept(&shop).await;
}

#[tokio::test]
async fn a_secret_is_masked_in_whatever_form_a_build_prints_it() {
    let script = "\"printf 'user:%s' $NPM_TOKEN | base64; printf '%s@host' $NPM_TOKEN | base64 -w0; head -c 65530 /dev/zero | tr '\\\\0' x; echo $NPM_TOKEN\"";
    let shop = shop("secret-forms", script).await;
    let outcome = shop.run(&["release", "--format", "json"]).expect(0);
    assert_silent(&outcome);
    // What stands for the secret alone, after five and after no bytes.
    for (text, stream) in [(&outcome.stdout, "stdout"), (&outcome.stderr, "stderr")] {
        for part in ["cG0tN2YzYzFlOWFiMmQ4NDU2", "bnBtLTdmM2MxZTlhYjJkODQ1"] {
            assert!(!text.contains(part), "{part} is on {stream}");
        }
    }
    shop.run(&["plan", "--out", "../plan.json", "--rebuild"]).expect(0);
    let plan = std::fs::read_to_string(shop.scene.project().join("../plan.json")).unwrap();
    assert!(!plan.contains(TOKEN) && !plan.contains(KEY));
    assert_not_kept(&shop).await;
}

#[tokio::test]
async fn a_secret_that_a_failing_build_prints_is_masked() {
    let shop = shop("secret-failing", "\"echo denied for $NPM_TOKEN; exit 1\"").await;
    let human = shop.run(&["release"]).expect(20);
    assert!(human.stderr.contains("denied for ***"), "{}", human.stderr);
    assert_silent(&human);
    assert_silent(&shop.run(&["release", "--format", "json"]).expect(20));
}

#[tokio::test]
async fn a_secret_in_the_build_command_is_masked() {
    let shop = shop("secret-command", "\"tr '\\\\0' ' ' < /proc/$$/cmdline > ../seen; echo ${NPM_TOKEN} > /dev/null\"").await;
    assert_silent(&shop.run(&["plan"]).expect(0));
    let seen = std::fs::read_to_string(shop.scene.project().join("../seen")).unwrap();
    assert!(seen.starts_with("/bin/sh -c ") && !seen.contains(TOKEN), "whoever lists processes sees it: {seen}");
    assert_silent(&shop.run(&["release", "--format", "json"]).expect(0));
    assert_not_kept(&shop).await;
    shop.configure("> /dev/null", "> /dev/null; exit 1");
    assert_silent(&shop.run(&["release", "--format", "json"]).expect(20));
}

/// Every file below a directory, but the configuration and the sources, which a person has written.
fn files(directory: &std::path::Path, to: &mut Vec<std::path::PathBuf>) {
    for entry in std::fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() && !path.ends_with(".git") {
            files(&path, to);
        } else if path.is_file() {
            to.push(path);
        }
    }
}

/// A secret that looks otherwise in a URL.
const ODD: &str = "npm/7f3c+1e9a=b2d84560";

/// The canaries as they are, URL-encoded and in base64.
fn canaries() -> Vec<String> {
    use base64::Engine as _;
    let base64 = |text: &str| base64::engine::general_purpose::STANDARD.encode(text);
    [KEY, ODD].iter().flat_map(|secret| [(*secret).to_owned(), in_a_url(secret), base64(secret)]).collect()
}

fn in_a_url(secret: &str) -> String {
    secret.replace('/', "%2F").replace('+', "%2B").replace('=', "%3D")
}

#[tokio::test]
async fn no_output_of_any_kind_holds_a_secret() {
    let said = "echo $NPM_TOKEN; printf %s $NPM_TOKEN | base64; printf %s $NPM_TOKEN | sed 's,/,%2F,; s,+,%2B,; s,=,%3D,'";
    for (name, end, exit) in [("secret-files", "true", 0), ("secret-files-fail", "exit 1", 20)] {
        let mut shop = shop(name, &format!("\"{said}; {end}\"")).await;
        shop.scene.set("NPM_TOKEN", ODD);
        let outputs =
            ["--junit", "out/junit.xml", "--report", "out/page.html", "--result", "out/result.json", "--export", "out/release.env"];
        for format in ["human", "json"] {
            let outcome = shop.run(&[&["release", "--rebuild", "--format", format], &outputs[..]].concat()).expect(exit);
            assert_silent(&outcome);
        }
        // A failure far from any build: the file that cannot be read bears the secret in its name.
        let error = shop.run(&["release", "--plan", &format!("{ODD}.json")]).expect(13);
        assert_silent(&error);
        let mut all = Vec::new();
        files(&shop.scene.project(), &mut all);
        assert!(exit != 0 || all.iter().any(|path| path.ends_with("out/page.html")), "{all:?}");
        for path in all.iter().filter(|path| !path.ends_with("windlass.yml")) {
            let text = String::from_utf8_lossy(&std::fs::read(path).unwrap()).into_owned();
            for canary in canaries() {
                assert!(!text.contains(&canary), "{canary} is in {}", path.display());
            }
        }
        assert_not_kept(&shop).await;
    }
}

/// An image's build prints the secret that is mounted for it; what is said, kept and written down of the image does not hold it.
#[tokio::test]
async fn neither_an_image_nor_what_is_said_of_it_holds_a_secret() {
    let (_images, mut shop) = crate::images::shop("secret-image", true).await;
    shop.scene.set("AWS_SECRET_ACCESS_KEY", KEY);
    shop.scene.set("NPM_TOKEN", ODD);
    let busybox = ["/bin/busybox", "/usr/bin/busybox"].into_iter().find(|path| std::path::Path::new(path).exists());
    shop.scene.write("api/busybox", std::fs::read(busybox.expect("apt-get install busybox-static")).unwrap());
    let file = shop.scene.project().join("api/busybox");
    std::fs::set_permissions(file, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    shop.scene.write("api/root/var/lib/dpkg/status", "Package: libc6\nStatus: install ok installed\nVersion: 2.36\n");
    let says = "cat $S; base64 $S; sed 's,/,%2F,; s,+,%2B,; s,=,%3D,' $S; head -c 65530 /dev/zero | tr '\\0' x; cat $S";
    shop.scene.write(
        "api/Dockerfile",
        format!(
            "FROM scratch\nCOPY busybox /bin/sh\nCOPY busybox /bin/busybox\nCOPY root /\nCOPY app.py /\nRUN --mount=type=secret,id=token \
             S=/run/secrets/token; for i in cat base64 sed head tr; do eval \"$i() {{ /bin/busybox $i \\\"\\$@\\\"; }}\"; done; {says}\n"
        ),
    );
    let with = "repository: secret-image/api, sbom: true, secrets: [\"id=token,env=NPM_TOKEN\"]}";
    shop.configure("repository: secret-image/api}", with);
    let outputs = ["--junit", "out/junit.xml", "--report", "out/page.html", "--result", "out/result.json"];
    let built = shop.run(&[&["stage", "images", "--format", "json"], &outputs[..]].concat()).expect(0);
    assert!(built.stdout.contains("***") || built.stderr.contains("***"), "it was printed:\n{}", built.stdout);
    let mut all = Vec::new();
    files(&shop.scene.project(), &mut all);
    for name in [".windlass/sbom/api.cdx.json", "out/page.html", "out/junit.xml"] {
        assert!(all.iter().any(|path| path.ends_with(name)), "{name} is not in {all:?}");
    }
    let kept = all.iter().map(|path| (path.display().to_string(), String::from_utf8_lossy(&std::fs::read(path).unwrap()).into_owned()));
    let said = [("stdout".to_owned(), built.stdout), ("stderr".to_owned(), built.stderr)];
    for (place, text) in kept.chain(said) {
        for canary in canaries() {
            assert!(!text.contains(&canary), "{canary} is in {place}");
        }
    }
    assert_not_kept(&shop).await;
}
