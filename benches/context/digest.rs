//! The digest of a build context against reading it: 10,000 files, 136 MB, in the page cache.
//!
//!     cargo test --release --test context_digest -- --nocapture
//!
//! Medians of 7, turn about, each on a tree of its own: what a process has read once it does not read again. Reading them all is a walk that
//! opens, reads and closes each file: on one thread, as `cat` would, and once more with as many threads as there are processors, to which the
//! walk gives files while it goes on. Fails if the digest comes at less than 0.8 of the speed of the first; the second is said beside it.

use std::collections::BTreeMap;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, mpsc};
use std::time::{Duration, Instant};
use std::{fs, hint, thread};

use windlass::docker::{Recipe, digest, scan};

const FILES: usize = 10_000;
const BYTES: usize = 13_600;
const ROUNDS: usize = 7;
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

fn files(root: &Path) -> impl Iterator<Item = PathBuf> {
    let found = walkdir::WalkDir::new(root).into_iter().map(Result::unwrap);
    found.filter(|found| found.file_type().is_file()).map(walkdir::DirEntry::into_path)
}

fn read(path: &Path, buffer: &mut [u8]) -> u64 {
    let mut file = fs::File::open(path).unwrap();
    let mut total = 0;
    loop {
        match file.read(buffer).unwrap() {
            0 => return total,
            read => total += read as u64,
        }
    }
}

fn by_one(root: &Path) -> u64 {
    let mut buffer = vec![0; 128 * 1024];
    files(root).map(|path| read(&path, &mut buffer)).sum()
}

fn by_all(root: &Path) -> u64 {
    let (to, from) = mpsc::sync_channel::<Vec<PathBuf>>(64);
    let from = Mutex::new(from);
    let work = || {
        let (mut total, mut buffer) = (0, vec![0; 128 * 1024]);
        loop {
            let Ok(row) = from.lock().unwrap().recv() else { return total };
            total += row.iter().map(|path| read(path, &mut buffer)).sum::<u64>();
        }
    };
    thread::scope(|scope| {
        let threads = thread::available_parallelism().unwrap().get();
        let workers: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
        let mut row = Vec::new();
        for path in files(root) {
            row.push(path);
            if row.len() == 64 {
                to.send(std::mem::take(&mut row)).unwrap();
            }
        }
        to.send(row).unwrap();
        drop(to);
        workers.into_iter().map(|worker| worker.join().unwrap()).sum()
    })
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort();
    times[times.len() / 2]
}

#[test]
fn a_digest_costs_little_more_than_reading() {
    let recipe = Recipe { dockerfile: "Dockerfile".into(), args: BTreeMap::new(), target: None, platform: "linux/amd64".into() };
    let own = |root: &Path| {
        hint::black_box(digest(&scan(root, "Dockerfile").unwrap(), &recipe, &[], None).unwrap());
        0
    };
    let sides: [&dyn Fn(&Path) -> u64; 3] = [&by_one, &by_all, &own];
    let mut times = [const { Vec::new() }; 3];
    for round in 0..ROUNDS {
        let root = tempfile::tempdir().unwrap();
        plant(root.path(), round);
        for number in 0..sides.len() {
            let side = (round + number) % sides.len();
            let start = Instant::now();
            hint::black_box(sides[side](root.path()));
            times[side].push(start.elapsed());
        }
    }
    let [one, all, digest] = times.map(median);
    let of = |reading: Duration| reading.as_secs_f64() / digest.as_secs_f64();
    let (speed, of_all) = (of(one), of(all));
    println!(
        "{FILES} files, medians of {ROUNDS}: read by one thread {one:.1?}, digest {digest:.1?}: {speed:.2} of the speed, promised at least \
         {PROMISE}; read by all processors {all:.1?}: {of_all:.2}"
    );
    assert!(speed >= PROMISE, "MISSED {speed:.2}, promised at least {PROMISE}");
}
