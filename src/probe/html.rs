//! What a page refers to, by a small tolerant scanner: enough to see that no published page points at a file that is not there.
//!
//! Deliberately absent: a document tree, scripts that load more, and style sheets' own references.

use reqwest::Url;

/// The `rel` values whose `href` a browser fetches by itself.
const FETCHED: [&str; 9] = [
    "stylesheet",
    "modulepreload",
    "preload",
    "icon",
    "apple-touch-icon",
    "apple-touch-icon-precomposed",
    "mask-icon",
    "manifest",
    "prefetch",
];

/// Elements whose content is text, whatever it looks like.
const RAW_TEXT: [&str; 4] = ["script", "style", "textarea", "title"];

/// The addresses that a page makes a browser fetch from its own origin: scripts, style sheets, preloads, icons, the manifest and images,
/// each once, in the order of the page, without fragments. `base` is the page's own address; a `<base href>` counts.
#[must_use]
pub fn references(html: &str, base: &str) -> Vec<String> {
    let Ok(page) = Url::parse(base) else { return Vec::new() };
    let mut base = page.clone();
    let mut found: Vec<String> = Vec::new();
    for tag in Tags(html) {
        let reference = match tag.name.as_str() {
            "base" => {
                if let Some(href) = tag.get("href").and_then(|href| page.join(&href).ok()) {
                    base = href;
                }
                None
            }
            "script" | "img" => tag.get("src"),
            "link" => tag.get("rel").filter(|rel| is_fetched(rel)).and_then(|_| tag.get("href")),
            _ => None,
        };
        // An empty reference names the page itself and fetches nothing.
        let Some(mut url) = reference.filter(|text| !text.is_empty()).and_then(|text| base.join(&text).ok()) else { continue };
        url.set_fragment(None);
        if url.origin() == page.origin() && !found.iter().any(|earlier| earlier == url.as_str()) {
            found.push(url.into());
        }
    }
    found
}

fn is_fetched(rel: &str) -> bool {
    rel.split_ascii_whitespace().any(|word| FETCHED.iter().any(|known| word.eq_ignore_ascii_case(known)))
}

struct Tag {
    name: String,
    attributes: Vec<(String, String)>,
}

impl Tag {
    fn get(&self, name: &str) -> Option<String> {
        // The first of two equal attributes counts: <https://html.spec.whatwg.org/multipage/parsing.html#parse-error-duplicate-attribute>
        self.attributes.iter().find(|(known, _)| known == name).map(|(_, value)| decode(value.trim()))
    }
}

/// The start tags of the rest of a page.
struct Tags<'a>(&'a str);

impl Iterator for Tags<'_> {
    type Item = Tag;

    fn next(&mut self) -> Option<Tag> {
        loop {
            self.0 = &self.0[self.0.find('<')? + 1..];
            if let Some(comment) = self.0.strip_prefix("!--") {
                self.0 = &comment[comment.find("-->")?..];
            } else if self.0.starts_with(|c: char| c.is_ascii_alphabetic()) {
                break;
            }
        }
        let end = self.0.find(|c: char| c.is_ascii_whitespace() || c == '>' || c == '/').unwrap_or(self.0.len());
        let name = self.0[..end].to_ascii_lowercase();
        self.0 = &self.0[end..];
        let mut attributes = Vec::new();
        while let Some(attribute) = self.attribute() {
            attributes.push(attribute);
        }
        if RAW_TEXT.contains(&name.as_str()) {
            self.0 = after_raw_text(self.0, &name);
        }
        Some(Tag { name, attributes })
    }
}

impl Tags<'_> {
    /// The next attribute of the tag that the rest begins in; `None` behind its `>`.
    fn attribute(&mut self) -> Option<(String, String)> {
        self.0 = self.0.trim_start_matches(|c: char| c.is_ascii_whitespace() || c == '/');
        if self.0.is_empty() || self.0.starts_with('>') {
            return None;
        }
        // A `=` at the start belongs to the name, by the standard; so that this always moves on.
        let end = self.0.char_indices().skip(1).find(|&(_, c)| c.is_ascii_whitespace() || matches!(c, '=' | '>' | '/'));
        let (name, rest) = self.0.split_at(end.map_or(self.0.len(), |(at, _)| at));
        self.0 = rest;
        let Some(value) = rest.trim_ascii_start().strip_prefix('=').map(str::trim_ascii_start) else {
            return Some((name.to_ascii_lowercase(), String::new()));
        };
        let (value, rest) = match value.chars().next() {
            Some(quote @ ('"' | '\'')) => value[1..].split_once(quote).unwrap_or((&value[1..], "")),
            _ => value.split_at(value.find(|c: char| c.is_ascii_whitespace() || c == '>').unwrap_or(value.len())),
        };
        self.0 = rest;
        Some((name.to_ascii_lowercase(), value.to_owned()))
    }
}

/// What follows the end tag of a raw text element; nothing when it never ends.
fn after_raw_text<'a>(text: &'a str, name: &str) -> &'a str {
    let closes = |at: &usize| text[at + 2..].get(..name.len()).is_some_and(|end| end.eq_ignore_ascii_case(name));
    text.match_indices("</").map(|(at, _)| at).find(closes).map_or("", |at| &text[at..])
}

/// The character references that occur in addresses.
fn decode(text: &str) -> String {
    text.replace("&#38;", "&").replace("&#x26;", "&").replace("&amp;", "&").replace("&quot;", "\"").replace("&#39;", "'")
}

#[cfg(test)]
mod tests {
    use super::*;

    const BASE: &str = "https://shop.example/app/index.html";

    #[test]
    fn a_page_of_vite_is_read_whole() {
        let html = r#"<!doctype html><html><head><meta charset="utf-8">
            <link rel="icon" href="/favicon.svg"><link rel="manifest" href=/site.webmanifest>
            <script type="module" crossorigin src="/assets/index-1a2b.js"></script>
            <link rel="modulepreload" crossorigin href="/assets/vendor-3c4d.js">
            <LINK REL='preload StyleSheet' HREF='assets/index.css?a=1&amp;b=2#top'>
            </head><body><img alt="a > b" src="../logo.png"/><img src="../logo.png"></body></html>"#;
        assert_eq!(
            references(html, BASE),
            [
                "https://shop.example/favicon.svg",
                "https://shop.example/site.webmanifest",
                "https://shop.example/assets/index-1a2b.js",
                "https://shop.example/assets/vendor-3c4d.js",
                "https://shop.example/app/assets/index.css?a=1&b=2",
                "https://shop.example/logo.png",
            ]
        );
    }

    #[test]
    fn what_a_browser_does_not_fetch_from_here_is_left_out() {
        let html = r#"<!-- <script src="/comment.js"></script> --><script>document.write('<img src="/written.png">')</script>
            <title><img src="/title.png"></title><img src="data:image/png;base64,AAAA"><img src=""><img>
            <script src="https://cdn.example/x.js"></script><script src="//cdn.example/y.js"></script><script src="http://shop.example/z.js"></script>
            <link rel="canonical" href="/other"><link rel="alternate" href="/feed"><a href="/page">page</a>"#;
        assert_eq!(references(html, BASE), Vec::<String>::new());
    }

    #[test]
    fn a_base_element_moves_what_is_relative() {
        assert_eq!(references(r#"<base href="/v2/"><script src="a.js"></script>"#, BASE), ["https://shop.example/v2/a.js"]);
    }

    #[test]
    fn a_broken_page_ends_the_scan_and_not_the_program() {
        for html in [
            "<",
            "<img",
            "<img src",
            "<img src=",
            "<img src='",
            "<img =a src=\"/ü.png",
            "<!--",
            "<script>",
            "<script src=/a.js><",
            "<ü>",
            "</",
        ] {
            let _ = references(html, BASE);
        }
        assert_eq!(references("<img =a src=\"/a.png\"<img src=/b.png>", BASE), ["https://shop.example/a.png"]);
        assert_eq!(references("<img src=/a.png>", "not an address"), Vec::<String>::new());
    }
}
