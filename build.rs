//! Says how the program is linked, which the manifest of a package has no words for.

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    let is = |name: &str, value: &str| std::env::var(name).is_ok_and(|found| found == value);
    if is("PROFILE", "release") && is("CARGO_CFG_TARGET_OS", "linux") && is("CARGO_CFG_TARGET_ENV", "gnu") {
        // At a fixed address: otherwise every start relocates some 100,000 pointers, in pages that are then memory of its own, by
        // a table that is a tenth of the file. What a random address protects from, safe Rust does not have.
        println!("cargo::rustc-link-arg-bins=-no-pie");
    }
}
