//! Puts the compiled kernel programs where `capture::object` embeds them.
//!
//! `cargo xtask build` leaves the object at `target/bpf/observer-ebpf`; `OBSERVER_BPF_OBJECT`
//! names another one. Without an object the library is complete but for the kernel programs, so
//! that everything that does not load them builds and tests on stable Rust alone.

use std::{
    env, fs, io,
    path::{Path, PathBuf},
};

fn main() -> io::Result<()> {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-env-changed=OBSERVER_BPF_OBJECT");
    let embedded = variable("OUT_DIR")?.join("observer-ebpf");
    let object = if let Some(path) = env::var_os("OBSERVER_BPF_OBJECT") {
        let path = PathBuf::from(path);
        println!("cargo::rerun-if-changed={}", path.display());
        fs::read(&path).map_err(|error| at(&path, "OBSERVER_BPF_OBJECT names", &error))?
    } else {
        let folder = variable("CARGO_MANIFEST_DIR")?.join("../target/bpf");
        // The folder is watched, not the file: cargo takes a watched file that does not exist
        // for changed, and would build this package again every time.
        fs::create_dir_all(&folder)?;
        println!("cargo::rerun-if-changed={}", folder.display());
        match fs::read(folder.join("observer-ebpf")) {
            Ok(object) => object,
            Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
            Err(error) => return Err(at(&folder, "cannot read the object in", &error)),
        }
    };
    fs::write(embedded, object)
}

fn variable(name: &str) -> io::Result<PathBuf> {
    env::var_os(name)
        .map(PathBuf::from)
        .ok_or_else(|| io::Error::other(format!("cargo did not set {name}")))
}

fn at(path: &Path, what: &str, error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{what} {}: {error}", path.display()))
}
