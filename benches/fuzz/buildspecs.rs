//! Damaged buildspecs, as many as fit into a time: reading, looking at and outlining them must neither panic nor hang.
//!
//! `WINDLASS_FUZZ_SECONDS=3600 cargo test --test fuzz_buildspecs -- --nocapture`; `cargo test` alone leaves it out.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use windlass::buildspec::{Order, Source, lint, outline, read};
use windlass::model::yaml::{Value, parse};

/// No buildspec of this size may take longer.
const LIMIT: Duration = Duration::from_secs(2);

const PIECES: &[&str] = &[
    "version: 0.2\n",
    "phases:\n",
    "  build:\n",
    "    commands:\n",
    "      - ",
    "    finally: [",
    "]",
    "{",
    "}",
    ": ",
    "- ",
    "&a ",
    "*a",
    "<<: *a\n",
    "|\n",
    ">-\n",
    "'",
    "\"",
    "\\",
    "#",
    "\t",
    "\r\n",
    "\u{feff}",
    "\0",
    "ü",
    "𝄞",
    "---\n",
    "...\n",
    "!!str ",
    "? ",
    "on-failure: RETRY-99999999999-(\n",
    "batch:\n",
    "  build-graph:\n",
    "    - identifier: a\n",
    "      depend-on: [a]\n",
    "  build-matrix: {dynamic: {env: {variables: {A: [1, 2, 3]}}}}\n",
    "  build-fanout: {parallelism: 100}\n",
    "artifacts: {files: '**/*'}\n",
    "secondary-artifacts:\n",
    "env:\n",
    "  secrets-manager: {A: 'arn:aws:secretsmanager:a:b:secret:c:d:e:f'}\n",
    "  shell: bash\n",
    "cd \"$A\" && [[ ${B//x} == {1..9} ]] <<< $(c)",
    "~",
    "null",
    "%YAML 1.2\n",
    "[[[[[[[[",
    "cache: {key: '$(x)', paths: [a]}\n",
    "reports: {r: {file-format: junitxml}}\n",
];

struct Random(u64);

impl Random {
    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 % limit.max(1) as u64).unwrap()
    }
}

/// A place between two characters.
fn boundary(text: &str, at: usize) -> usize {
    (at..=text.len()).find(|at| text.is_char_boundary(*at)).unwrap_or(text.len())
}

fn damaged(seeds: &[String], random: &mut Random) -> String {
    let mut text = seeds[random.below(seeds.len())].clone();
    for _ in 0..=random.below(6) {
        let from = boundary(&text, random.below(text.len() + 1));
        let to = boundary(&text, (from + random.below(30)).min(text.len()));
        match random.below(5) {
            0 => text.replace_range(from..to, ""),
            1 => text.insert_str(from, PIECES[random.below(PIECES.len())]),
            2 => {
                let piece = text[from..to].repeat(1 + random.below(4));
                text.insert_str(from, &piece);
            }
            3 => text.truncate(from),
            _ => {
                let other = &seeds[random.below(seeds.len())];
                let start = boundary(other, random.below(other.len() + 1));
                let end = boundary(other, (start + random.below(120)).min(other.len()));
                text.insert_str(from, &other[start..end]);
            }
        }
        text.truncate(boundary(&text, 4000));
    }
    text
}

/// Reads it, looks at it and outlines it; is it accepted?
fn looked_at(text: &str) -> bool {
    let Ok((buildspec, _)) = read(text) else { return false };
    std::hint::black_box(lint(&buildspec));
    let order = Order {
        buildspec: Source::Text { name: "x".into(), text: text.to_owned() },
        environment: BTreeMap::new(),
        ..Order::new("/".into())
    };
    assert!(outline(&order, true).is_ok());
    true
}

#[test]
fn damaged_buildspecs_neither_panic_nor_hang() {
    let cases = parse(include_str!("../../tests/cases/buildspec.yml")).unwrap();
    let Value::Sequence(cases) = &cases.get("cases").unwrap().value else { panic!("no cases") };
    let text = |value: &Value| match value {
        Value::Scalar { text, .. } => Some(text.clone()),
        _ => None,
    };
    let mut seeds: Vec<String> = cases.iter().filter_map(|case| text(&case.get("buildspec")?.value)).collect();
    seeds.push(PIECES.concat());
    let seconds = std::env::var("WINDLASS_FUZZ_SECONDS").map_or(10, |seconds| seconds.parse().unwrap());
    let (started, mut runs, mut accepted) = (Instant::now(), 0_u64, 0_u64);
    let nanos = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().subsec_nanos();
    let mut random = Random(u64::from(nanos) | 1);
    while started.elapsed() < Duration::from_secs(seconds) {
        let text = damaged(&seeds, &mut random);
        // On a busy machine the other programs' time counts, too: what really takes long does so each time.
        let mut shortest = Duration::MAX;
        for _ in 0..3 {
            let begun = Instant::now();
            match std::panic::catch_unwind(|| looked_at(&text)) {
                Ok(ok) if shortest == Duration::MAX => accepted += u64::from(ok),
                Ok(_) => {}
                Err(_) => panic!("it panics at {text:?}"),
            }
            shortest = shortest.min(begun.elapsed());
            if shortest < LIMIT {
                break;
            }
        }
        assert!(shortest < LIMIT, "it takes {shortest:?}: {text:?}");
        runs += 1;
        if runs.is_multiple_of(1_000_000) {
            eprintln!("{runs} buildspecs after {} s", started.elapsed().as_secs());
        }
    }
    eprintln!("{runs} buildspecs in {seconds} s, {accepted} of them accepted: no panic, no hang");
}
