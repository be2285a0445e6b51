//! Vite and Create React App: where a build writes, and below which path its pages are served.

use std::sync::LazyLock;

use regex::Regex;

use super::node_kind::{Bundler, Kind, pattern, script};
use super::package::Package;
use super::tree::{Tree, line_at, search};
use super::{Place, path};

/// A text; what is resolved from the configuration's own directory; a URL from there.
static OUT_DIR: LazyLock<Regex> = LazyLock::new(|| {
    pattern(concat!(
        r#"\boutDir\s*:\s*(?:["'`]([^"'`$]+)["'`]"#,
        r#"|(?:path\.)?(?:resolve|join)\(\s*(?:__dirname|import\.meta\.dirname|process\.cwd\(\))\s*((?:,\s*["'`][^"'`$]+["'`]\s*)+),?\s*\)"#,
        r#"|(?:fileURLToPath\(\s*)?new URL\(\s*["'`]([^"'`$]+)["'`]\s*,\s*import\.meta\.url\s*\))"#,
    ))
});
static QUOTED: LazyLock<Regex> = LazyLock::new(|| pattern(r#"["'`]([^"'`]+)["'`]"#));
static OUT_DIR_AT_ALL: LazyLock<Regex> = LazyLock::new(|| pattern(r"\b(outDir)\b\s*[:,}]"));
static OUT_DIR_FLAG: LazyLock<Regex> = LazyLock::new(|| pattern(r"--outDir[= ]['\x22]?([^\s'\x22&|;]+)"));
static ROOT: LazyLock<Regex> = LazyLock::new(|| pattern(r#"(?m)(?:^|[{,])\s*root\s*:\s*["'`]([^"'`$]+)["'`]"#));
static BASE: LazyLock<Regex> = LazyLock::new(|| pattern(r#"(?m)(?:^|[{,])\s*base\s*:\s*["'`]([^"'`$]*)["'`]"#));
static BASE_AT_ALL: LazyLock<Regex> = LazyLock::new(|| pattern(r"(?m)(?:^|[{,])\s*(base)\s*(?::|,|\}|$)"));
static BASE_FLAG: LazyLock<Regex> = LazyLock::new(|| pattern(r"--base[= ]['\x22]?([^\s'\x22&|;]+)"));

/// What `outDir` says, whether that is meant from the configuration's own directory, and where it stands.
pub(super) fn out_dir(file: &str, text: &str) -> Option<(String, bool, Place)> {
    let found = OUT_DIR.captures(text)?;
    let line = Place::line(file, line_at(text, found.get(0)?.start()));
    if let Some(plain) = found.get(1) {
        return Some((plain.as_str().to_owned(), false, line));
    }
    let resolved = match (found.get(2), found.get(3)) {
        (Some(parts), _) => QUOTED.captures_iter(parts.as_str()).map(|part| part[1].to_owned()).collect::<Vec<_>>().join("/"),
        (None, url) => url?.as_str().to_owned(),
    };
    Some((resolved, true, line))
}

/// The path of a public URL: all of it, or what follows the host. Empty where pages work anywhere (`.`).
fn below(url: &str) -> &str {
    let path = url.split_once("://").map_or(url, |(_, rest)| rest.find('/').map_or("", |at| &rest[at..]));
    if path.starts_with('/') { path } else { "" }
}

/// A variable that the script `build` or a file of variables sets for a build.
fn variable(tree: &Tree, package: &Package, name: &str) -> Option<(String, Place)> {
    let value = |text: &str| text.trim().trim_matches(['"', '\'']).to_owned();
    let assigned = |word: &str| Some(word.strip_prefix(name)?.trim_start().strip_prefix('=')?.to_owned());
    let by_script = package.script("build").and_then(|command| command.split_whitespace().find_map(assigned));
    if let Some(found) = by_script {
        return Some((value(&found), package.place("build")));
    }
    [".env.production", ".env"].iter().find_map(|own| {
        let file = path::join(&package.directory, own);
        let text = tree.text(&file)?;
        let mut lines = text.lines().enumerate();
        lines.find_map(|(number, line)| {
            let found = assigned(line.trim_start().trim_start_matches("export ").trim_start())?;
            Some((value(found.split(" #").next().unwrap_or_default()), Place::line(&file, number + 1)))
        })
    })
}

/// <https://create-react-app.dev/docs/advanced-configuration/>: `PUBLIC_URL` wins over `homepage`.
pub(super) fn react_scripts(tree: &Tree, package: &Package) -> Bundler {
    let output = variable(tree, package, "BUILD_PATH").map_or_else(|| ("build".to_owned(), None), |(output, at)| (output, Some(at)));
    let home = || package.json["homepage"].as_str().map(|home| (home.to_owned(), package.place("homepage")));
    let said = variable(tree, package, "PUBLIC_URL").or_else(home);
    let computed = said.as_ref().filter(|(url, _)| url.contains('$')).map(|(_, at)| at.clone());
    Bundler {
        tool: "Create React App",
        at: package.place("react-scripts"),
        output: Some(output),
        base: said.filter(|_| computed.is_none()).map(|(url, at)| (below(&url).to_owned(), at)),
        computed,
        fallback: "react-scripts build",
        frozen: "REACT_APP_",
    }
}

pub(super) fn vite(tree: &Tree, package: &Package) -> Kind {
    let directory = package.directory.as_str();
    let at = ["vite", "rolldown-vite"].iter().find(|name| package.dependency(name).is_some());
    let at = at.map_or_else(|| package.place("build"), |name| package.place(name));
    let config = script(tree, directory, "vite.config");
    let (text, file) = config.unwrap_or_default();
    let root = search(&file, &text, &ROOT).map_or_else(|| ".".to_owned(), |(root, _)| root);
    let Some(pages) = path::normal(&format!("{directory}/{root}")) else {
        return Kind::Other("Vite, whose `root` lies outside of the checkout".to_owned(), at);
    };
    if !tree.inside(&pages).any(|file| path::ending(file) == "html") {
        let what = "Vite without a page of its own: what it builds belongs to another unit, whose Dockerfile has to build it";
        return Kind::Other(what.to_owned(), at);
    }
    let flag = |pattern: &Regex| package.script("build").and_then(|command| pattern.captures(command)).map(|found| found[1].to_owned());
    let in_root = |output: &str| if root == "." { output.to_owned() } else { format!("{root}/{output}") };
    let output = match (flag(&OUT_DIR_FLAG), out_dir(&file, &text)) {
        (Some(output), _) => Some((in_root(&output), Some(package.place("build")))),
        // Text is from `root`; what is resolved is from the configuration's own directory.
        (None, Some((output, resolved, line))) => Some((if resolved { output } else { in_root(&output) }, Some(line))),
        (None, None) if OUT_DIR_AT_ALL.is_match(&text) => None,
        (None, None) => Some((in_root("dist"), None)),
    };
    let base = flag(&BASE_FLAG).map(|base| (base, package.place("build"))).or_else(|| search(&file, &text, &BASE));
    let computed = match &base {
        Some((base, at)) => base.contains('$').then(|| at.clone()),
        None => search(&file, &text, &BASE_AT_ALL).map(|(_, at)| at),
    };
    Kind::Site(Bundler {
        tool: "Vite",
        at,
        output,
        base: base.filter(|_| computed.is_none()).map(|(base, at)| (below(&base).to_owned(), at)),
        computed,
        fallback: "vite build",
        frozen: "VITE_",
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_output_is_read_in_its_forms() {
        let output = |text: &str| out_dir("x", text).map(|(output, resolved, _)| (output, resolved));
        let is = |text: &str, resolved| Some((text.to_owned(), resolved));
        assert_eq!(output("build: { outDir: 'build' }"), is("build", false));
        assert_eq!(output("outDir: path.resolve(__dirname, \"../www\"),"), is("../www", true));
        assert_eq!(output("outDir: resolve(__dirname, '..', 'server', 'public')"), is("../server/public", true));
        assert_eq!(output("outDir: fileURLToPath(new URL('./www', import.meta.url)),"), is("./www", true));
        assert_eq!(output("outDir: process.env.OUT"), None);
        assert!(OUT_DIR_AT_ALL.is_match("outDir: process.env.OUT") && OUT_DIR_AT_ALL.is_match("{ outDir }"));
    }

    #[test]
    fn a_public_url_is_a_path_or_has_one() {
        for (url, path) in
            [("/portal", "/portal"), (".", ""), ("./", ""), ("https://cdn.example.com/app/", "/app/"), ("https://x.example", "")]
        {
            assert_eq!(below(url), path);
        }
        assert!(BASE_AT_ALL.is_match("  base: mode === 'x' ? '/a/' : '/',") && BASE_AT_ALL.is_match("{ base, build: {} }"));
        assert!(!BASE_AT_ALL.is_match("database: 1"));
    }
}
