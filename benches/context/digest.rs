//! The digest of a build context against reading it: 10,000 files, 136 MB, in the page cache.
//!
//!     cargo test --release --test context_digest -- --nocapture
//!
//! Medians of 5, turn about, each on a tree of its own: what a process has read once it does not read again. Fails if the digest comes
//! at less than 0.8 of the speed at which one thread reads the same files, as `cat` would.

use std::collections::BTreeMap;
use std::io::Read as _;
use std::path::Path;
use std::time::{Duration, Instant};
use std::{fs, hint};

use windlass::docker::{Recipe, digest, scan};

const FILES: usize = 10_000;
const BYTES: usize = 13_600;
const ROUNDS: usize = 5;
const PROMISE: f64 = 0.8;

fn plant(root: &Path, seed: usize) {
    fs::write(root.join("Dockerfile"), "FROM scratch\nCOPY . /\n").unwrap();
    for number in 0..FILES {
        let folder = root.join(format!("src/{}/{}", number % 10, number % 100));
        if number < 100 {
            fs::create_dir_all(&folder).unwrap();
        }
        let content: Vec<u8> = (0..BYTES).map(|at| ((at * 31 + number * 7 + seed) % 251).to_le_bytes()[0]).collect();
        fs::write(folder.join(format!("{number}.py")), content).unwrap();
    }
}

fn read_all(root: &Path) -> u64 {
    let mut buffer = vec![0; 128 * 1024];
    let mut total = 0;
    for found in walkdir::WalkDir::new(root).into_iter().map(Result::unwrap).filter(|found| found.file_type().is_file()) {
        let mut file = fs::File::open(found.path()).unwrap();
        loop {
            match file.read(&mut buffer).unwrap() {
                0 => break,
                read => total += read as u64,
            }
        }
    }
    total
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort();
    times[times.len() / 2]
}

#[test]
fn a_digest_costs_little_more_than_reading() {
    let recipe = Recipe { dockerfile: "Dockerfile".into(), args: BTreeMap::new(), target: None, platform: "linux/amd64".into() };
    let (mut reads, mut digests) = (Vec::new(), Vec::new());
    for round in 0..ROUNDS {
        let root = tempfile::tempdir().unwrap();
        plant(root.path(), round);
        let mut sides = [true, false];
        sides.rotate_left(round % 2);
        for reading in sides {
            let start = Instant::now();
            if reading {
                hint::black_box(read_all(root.path()));
                reads.push(start.elapsed());
            } else {
                hint::black_box(digest(&scan(root.path(), "Dockerfile").unwrap(), &recipe, &[], None).unwrap());
                digests.push(start.elapsed());
            }
        }
    }
    let (read, digest) = (median(reads), median(digests));
    let speed = read.as_secs_f64() / digest.as_secs_f64();
    println!(
        "{FILES} files, medians of {ROUNDS}: read {read:.1?}, digest {digest:.1?}: {speed:.2} of the speed, promised at least {PROMISE}"
    );
    assert!(speed >= PROMISE, "MISSED {speed:.2}, promised at least {PROMISE}");
}
