//! The toolchain of the kernel programs: which of the two combinations, and what it is run with.
//!
//! BPF code needs `core` built from source, so a compiler with the source beside it, and
//! `bpf-linker`, whose LLVM must not be older than the compiler's:
//!
//! 1. rustup's `nightly` with the component `rust-src`, and a released `bpf-linker`, which
//!    brings its own LLVM;
//! 2. Debian's `rustc-web`, `cargo-web` and `rust-web-src`, and `bpf-linker` built against
//!    Debian's LLVM 22.
//!
//! A complete one is used as it is, the first before the second.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, anyhow};

use crate::workspace::{command, find, output_of, say, target};

/// The version of `bpf-linker` that is installed when there is none.
pub(crate) const LINKER_VERSION: &str = "0.13.0";

/// Debian packages of the second combination; the last two are what LLVM is linked with.
pub(crate) const DEBIAN_PACKAGES: &[&str] = &[
    "rustc-web",
    "cargo-web",
    "rust-web-src",
    "llvm-22-dev",
    "libpolly-22-dev",
    "libzstd-dev",
    "zlib1g-dev",
];

/// LLVM of the second combination.
pub(crate) const DEBIAN_LLVM: &str = "/usr/lib/llvm-22";

/// What comes with every combination: variables that an outer cargo or rustup set for itself, and
/// that would lead the inner one astray.
const INHERITED: &[&str] = &[
    "CARGO",
    "CARGO_BUILD_TARGET",
    "CARGO_ENCODED_RUSTFLAGS",
    "CARGO_MAKEFLAGS",
    "CARGO_MANIFEST_DIR",
    "CARGO_MANIFEST_PATH",
    "CARGO_TARGET_DIR",
    "LD_LIBRARY_PATH",
    "MAKEFLAGS",
    "RUSTC",
    "RUSTC_WORKSPACE_WRAPPER",
    "RUSTC_WRAPPER",
    "RUSTDOC",
    "RUSTFLAGS",
    "RUSTUP_TOOLCHAIN",
    "RUST_RECURSION_COUNT",
];

/// Something that compiles for `bpfel-unknown-none`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Compiler {
    /// rustup's nightly.
    Nightly,
    /// Debian's packages.
    Debian,
}

/// A combination that is complete.
#[derive(Clone, Debug)]
pub(crate) struct Toolchain {
    /// What compiles.
    pub(crate) compiler: Compiler,
    /// What links.
    pub(crate) linker: PathBuf,
}

/// The compiler that is there, with the source of `core`.
pub(crate) fn compiler() -> Option<Compiler> {
    let mut nightly = clean("rustup");
    nightly.args(["run", "nightly", "rustc", "--print", "sysroot"]);
    if output_of(&mut nightly).is_ok_and(|sysroot| has_source(Path::new(&sysroot))) {
        return Some(Compiler::Nightly);
    }
    let whole = has_source(Path::new("/usr"))
        && Path::new("/usr/bin/cargo").is_file()
        && Path::new("/usr/bin/rustc").is_file();
    whole.then_some(Compiler::Debian)
}

/// The linker that is there: ours, or one in `PATH`.
pub(crate) fn linker(compiler: &Compiler) -> Option<PathBuf> {
    let ours = linker_root(compiler).join("bin/bpf-linker");
    if ours.is_file() {
        Some(ours)
    } else {
        find("bpf-linker")
    }
}

/// Where [`crate::setup`] installs the linker of `compiler`.
pub(crate) fn linker_root(compiler: &Compiler) -> PathBuf {
    target(match compiler {
        Compiler::Nightly => "tools/nightly",
        Compiler::Debian => "tools",
    })
}

/// A command without what an outer cargo or rustup left in the environment.
pub(crate) fn clean(program: &str) -> Command {
    let mut command = command(program);
    for name in INHERITED {
        command.env_remove(name);
    }
    command
}

fn has_source(sysroot: &Path) -> bool {
    sysroot
        .join("lib/rustlib/src/rust/library/core/Cargo.toml")
        .is_file()
}

// === impl Toolchain ===

impl Toolchain {
    /// The combination that is complete, or what to do to have one.
    pub(crate) fn detect() -> Result<Self> {
        let missing = || anyhow!("the BPF toolchain is not complete: run `cargo xtask setup`");
        let compiler = compiler().ok_or_else(missing)?;
        let linker = linker(&compiler).ok_or_else(missing)?;
        Ok(Self { compiler, linker })
    }

    /// Builds the kernel programs, if they changed, and leaves the object where the build script
    /// of the daemon looks for it.
    pub(crate) fn build_object(&self) -> Result<()> {
        let folder = target("bpf-build");
        let flags = [
            // aya-ebpf wants to know whose registers `pt_regs` are.
            format!("--cfg=bpf_target_arch=\"{}\"", std::env::consts::ARCH),
            "-Cdebuginfo=2".to_owned(),
            "-Clink-arg=--btf".to_owned(),
            format!("-Clinker={}", self.linker.display()),
        ];
        let mut cargo = self.cargo();
        cargo
            .args(["build", "--quiet", "--release", "--locked"])
            .args(["-Z", "build-std=core", "--target", "bpfel-unknown-none"])
            .args(["--package", "observer-ebpf", "--bin", "observer-ebpf"])
            .arg("--target-dir")
            .arg(&folder)
            .env("CARGO_ENCODED_RUSTFLAGS", flags.join("\x1f"));
        crate::workspace::run(&mut cargo).context("cannot build the kernel programs")?;
        let built = folder.join("bpfel-unknown-none/release/observer-ebpf");
        let object =
            fs::read(&built).with_context(|| format!("cannot read {}", built.display()))?;
        let kept = target("bpf/observer-ebpf");
        if crate::workspace::write_if_different(&kept, &object)? {
            say(&format!(
                "built the kernel programs ({} bytes)",
                object.len()
            ));
        }
        Ok(())
    }

    /// Cargo of this combination, allowed to use unstable options.
    fn cargo(&self) -> Command {
        match self.compiler {
            Compiler::Nightly => {
                let mut cargo = clean("rustup");
                // `rustup run` puts nightly before what rust-toolchain.toml asks for.
                cargo.args(["run", "nightly", "cargo"]);
                cargo
            }
            Compiler::Debian => {
                let mut cargo = clean("/usr/bin/cargo");
                cargo
                    .env("RUSTC", "/usr/bin/rustc")
                    .env("RUSTC_BOOTSTRAP", "1");
                cargo
            }
        }
    }
}
