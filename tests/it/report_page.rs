//! The page of a release, read with a parser: it asks for nothing, runs nothing, and shows texts as they are.

use quick_xml::Reader;
use quick_xml::events::Event;

use crate::shop::Shop;
use crate::support::proxy::Fault;
use crate::support::request::Recorded;

/// What of a page matters: its elements with their attributes, and its texts.
#[derive(Debug, Default)]
struct Parsed {
    elements: Vec<(String, Vec<(String, String)>)>,
    text: String,
    style: String,
}

impl Parsed {
    /// Reads a page, which is well-formed XML too, and refuses whatever could leave it or run in it.
    #[track_caller]
    fn of(html: &str) -> Self {
        let mut reader = Reader::from_str(html);
        reader.config_mut().check_end_names = true;
        let (mut page, mut inside) = (Self::default(), Vec::new());
        loop {
            match reader.read_event().unwrap_or_else(|error| panic!("{error} at {}:\n{html}", reader.error_position())) {
                Event::Start(element) => {
                    page.element(&element);
                    inside.push(element.local_name().as_ref().to_owned());
                }
                Event::Empty(element) => page.element(&element),
                Event::End(_) => drop(inside.pop()),
                Event::Text(text) => match inside.last().map(AsRef::as_ref) {
                    Some("style") => page.style.push_str(&text),
                    _ => page.text.push_str(&text),
                },
                Event::GeneralRef(name) => {
                    let entity = format!("&{};", &*name);
                    page.text.push_str(&quick_xml::escape::unescape(&entity).unwrap());
                }
                Event::Eof => break,
                _ => {}
            }
        }
        assert!(inside.is_empty(), "{inside:?}");
        for (name, attributes) in &page.elements {
            assert!(!["script", "link", "img", "iframe", "object", "embed", "form", "base"].contains(&name.as_str()), "{name}");
            for (attribute, value) in attributes {
                assert!(!attribute.starts_with("on") && attribute != "src", "{name} {attribute}={value}");
                let leads_out = attribute == "href" && !value.starts_with("https://") && !value.starts_with("http://");
                assert!(!leads_out, "{name} {attribute}={value}");
            }
        }
        assert!(!page.style.contains("url(") && !page.style.contains("@import"), "the style asks for something");
        let policy = |(name, attributes): &(String, Vec<(String, String)>)| {
            name == "meta" && attributes.iter().any(|(_, value)| value == "default-src 'none'; style-src 'unsafe-inline'")
        };
        assert!(page.elements.iter().any(policy), "it has no policy");
        page
    }

    fn element(&mut self, element: &quick_xml::events::BytesStart<'_>) {
        let attribute = |attribute: quick_xml::events::attributes::Attribute<'_>| {
            let value = quick_xml::escape::unescape(&attribute.value).unwrap().into_owned();
            (attribute.key.local_name().as_ref().to_owned(), value)
        };
        let attributes = element.attributes().map(|found| attribute(found.unwrap())).collect();
        self.elements.push((element.local_name().as_ref().to_owned(), attributes));
    }

    fn has(&self, id: &str) -> bool {
        self.elements.iter().any(|(_, attributes)| attributes.iter().any(|(name, value)| name == "id" && value == id))
    }
}

fn read(shop: &Shop, name: &str) -> String {
    let html = std::fs::read_to_string(shop.scene.project().join(name)).unwrap();
    // For whoever wants to look at it in a browser.
    std::fs::write(std::path::Path::new(env!("CARGO_TARGET_TMPDIR")).join(name), &html).unwrap();
    html
}

const NASTY: &str = "</pre><script>alert('1')</script> \"quoted\" & <b>bold</b>";

#[tokio::test]
async fn a_page_says_what_went_live_and_why_a_release_failed() {
    let mut shop = Shop::whole("page").await;
    shop.push_image().await;
    shop.scene.set("JENKINS_URL", "https://ci.example/");
    shop.scene.set("BUILD_URL", "https://ci.example/job/shop/7/");
    let invoke = |request: &Recorded| request.operation == "lambda:Invoke";
    let answer = serde_json::json!({ "applied": ["items.0001_initial"] }).to_string();
    shop.proxy.fail_next(invoke, 1, Fault::Answer { status: 200, headers: vec![], body: answer });
    shop.scene.write("dist/a&b <i>.txt", "x");
    shop.run(&["release", "--report", "page-done.html"]).expect(0);
    let done = Parsed::of(&read(&shop, "page-done.html"));
    for text in [
        "shop: release ",
        "done",
        "a&b <i>.txt",
        "page:2 (",
        "applied items.0001_initial",
        "no recorded release",
        "Jenkins: https://ci.example/job/shop/7/",
    ] {
        assert!(done.text.contains(text), "{text:?} is not in\n{}", done.text);
    }
    assert!(done.has("live") && done.has("timeline") && !done.has("failures") && !done.has("runs"));
    assert!(done.elements.iter().any(|(name, attributes)| name == "a" && attributes[0].1 == "https://ci.example/job/shop/7/"));

    shop.build(2);
    shop.scene.write("api/app.py", "2\n");
    shop.scene.commit(7);
    shop.push_image().await;
    let body = serde_json::json!({ "errorType": "ProgrammingError", "errorMessage": NASTY }).to_string();
    let error = vec![("x-amz-function-error", "Unhandled".to_owned())];
    shop.proxy.fail_next(invoke, 1, Fault::Answer { status: 200, headers: error, body });
    shop.run(&["release", "--report", "page-failed.html"]).expect(23);
    let failed = Parsed::of(&read(&shop, "page-failed.html"));
    for text in [NASTY, "failed (23)", "Why it failed", "Next:", "still as before", "has to be looked at"] {
        assert!(failed.text.contains(text), "{text:?} is not in\n{}", failed.text);
    }

    // The same from the record, when the machine is gone; and of a release that took two runs.
    shop.proxy.fail_next(invoke, 1, Fault::Answer { status: 200, headers: vec![], body: "{}".to_owned() });
    let released = shop.run(&["release"]).expect(0);
    let id = released.stdout.trim_end().rsplit(' ').next().unwrap();
    let told = shop.run(&["history", id, "--report", "page-record.html"]).expect(0).stdout;
    assert!(told.contains("publish     web publish: 3 files") && told.contains("    build: https://ci.example/job/shop/7/"), "{told}");
    let record = Parsed::of(&read(&shop, "page-record.html"));
    assert!(record.has("runs") && !record.has("failures"));
    assert!(record.text.contains("failed (23)") && record.text.contains("page:3 ("), "{}", record.text);
    assert_eq!(shop.refused(&["history", "20260101T000000Z-8f14b3f52b4d"], 11).lines().count(), 2);
}

#[tokio::test]
async fn a_failed_builds_last_lines_are_on_the_page_without_its_colours() {
    let shop = Shop::site("page-build").await;
    let script = format!("printf '\\033[31m%s\\033[0m\\n' '{}'; exit 3", NASTY.replace('\'', r"'\''"));
    shop.scene.write("web/build.sh", script);
    shop.configure("prebuilt: true", "path: web\n    build: sh build.sh\n    output: dist");
    shop.run(&["release", "--report", "page-build.html"]).expect(20);
    let page = Parsed::of(&read(&shop, "page-build.html"));
    assert!(page.text.contains(NASTY) && !page.text.contains('\x1b') && page.text.contains("prepare: web build"), "{}", page.text);
}

#[tokio::test]
async fn a_page_of_nothing_says_so() {
    let shop = Shop::site("page-nothing").await;
    shop.release();
    shop.run(&["release", "--report", "page-nothing.html"]).expect(0);
    assert!(Parsed::of(&read(&shop, "page-nothing.html")).text.contains("nothing to do"));
    shop.configure("    bucket:", "    buckett:");
    shop.run(&["release", "--report", "page-refused.html"]).expect(10);
    let refused = Parsed::of(&read(&shop, "page-refused.html"));
    assert!(refused.text.contains("unknown key `buckett`") && refused.text.contains("failed (10)"), "{}", refused.text);
}
