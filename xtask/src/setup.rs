//! `cargo xtask setup`: installs what is missing, and says nothing when nothing is.

pub(crate) mod kubernetes;
mod peers;

use std::{collections::BTreeSet, fs, path::Path, process::Command};

use anyhow::{Context, Result, bail};

use crate::{
    toolchain::{self, Compiler, DEBIAN_LLVM, DEBIAN_PACKAGES, LINKER_VERSION, Toolchain, clean},
    workspace::{find, is_root, output_of, run as run_command, run_quietly, say, succeeds},
};

/// Options of `setup`.
#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// Only what building needs
    #[arg(long)]
    build: bool,
}

/// A program and the Debian package that has it.
struct Tool {
    program: &'static str,
    package: &'static str,
}

/// What the tests drive, witness and inspect with.
const TEST_TOOLS: &[Tool] = &[
    Tool {
        program: "nginx",
        package: "nginx-light",
    },
    Tool {
        program: "wrk",
        package: "wrk",
    },
    Tool {
        program: "curl",
        package: "curl",
    },
    Tool {
        program: "node",
        package: "nodejs",
    },
    Tool {
        program: "python3",
        package: "python3",
    },
    Tool {
        program: "ip",
        package: "iproute2",
    },
    Tool {
        program: "nft",
        package: "nftables",
    },
    Tool {
        program: "h2load",
        package: "nghttp2-client",
    },
    Tool {
        program: "nghttpd",
        package: "nghttp2-server",
    },
    Tool {
        program: "openssl",
        package: "openssl",
    },
    Tool {
        program: "haproxy",
        package: "haproxy",
    },
    Tool {
        program: "tcplife",
        package: "libbpf-tools",
    },
    Tool {
        program: "dnsmasq",
        package: "dnsmasq-base",
    },
    Tool {
        program: "dig",
        package: "bind9-dnsutils",
    },
    Tool {
        program: "gtlsclient",
        package: "ngtcp2-client",
    },
    Tool {
        program: "gtlsserver",
        package: "ngtcp2-server",
    },
    Tool {
        program: "crun",
        package: "crun",
    },
    Tool {
        program: "skopeo",
        package: "skopeo",
    },
    Tool {
        program: "capsh",
        package: "libcap2-bin",
    },
    Tool {
        program: "prometheus",
        package: "prometheus",
    },
    Tool {
        program: "promtool",
        package: "prometheus",
    },
];

/// What the kernel matrix boots with.
const VM_TOOLS: &[Tool] = &[
    Tool {
        program: "qemu-system-x86_64",
        package: "qemu-system-x86",
    },
    Tool {
        program: "busybox",
        package: "busybox-static",
    },
    Tool {
        program: "cpio",
        package: "cpio",
    },
];

/// While it is there, package scripts start no service (invoke-rc.d(8)).
const POLICY: &str = "/usr/sbin/policy-rc.d";

/// Keeps services from starting until dropped.
struct NoServices {
    /// Whether the policy is ours to remove.
    ours: bool,
}

/// Installs what is missing.
pub(crate) fn run(options: &Options) -> Result<()> {
    if options.build {
        for_building()
    } else {
        for_testing()
    }
}

/// Installs what building needs: a BPF toolchain. A linker for the host is there, or we would not
/// have been built.
pub(crate) fn for_building() -> Result<()> {
    if Toolchain::detect().is_ok() {
        return Ok(());
    }
    // Debian's compiler is released and stays as it is; a nightly that someone has already made
    // ready for this is what they want, though.
    let mut order = [Compiler::Debian, Compiler::Nightly];
    if toolchain::is_there(&Compiler::Nightly) {
        order.reverse();
    }
    let mut problems = Vec::new();
    for compiler in order {
        match complete(&compiler) {
            Ok(()) => return Ok(()),
            Err(error) => problems.push(format!("{error:#}")),
        }
    }
    bail!("no BPF toolchain could be set up; {}", problems.join("; "))
}

/// Installs what building and testing need.
pub(crate) fn for_testing() -> Result<()> {
    for_building()?;
    let packages = missing(TEST_TOOLS.iter().chain(VM_TOOLS));
    if !packages.is_empty() {
        install("programs that the tests use", &packages)?;
    }
    peers::complete();
    lint_components()
}

/// Installs the programs of the kernel matrix.
pub(crate) fn for_vm() -> Result<()> {
    for_building()?;
    let packages = missing(VM_TOOLS.iter());
    if packages.is_empty() {
        Ok(())
    } else {
        install("programs of the kernel matrix", &packages)
    }
}

/// Packages of those `tools` that are not there.
fn missing<'a>(tools: impl Iterator<Item = &'a Tool>) -> Vec<&'static str> {
    let packages: BTreeSet<_> = tools
        .filter(|tool| find(tool.program).is_none())
        .map(|tool| tool.package)
        .collect();
    packages.into_iter().collect()
}

/// Clippy and rustfmt, which a minimal rustup profile leaves out.
fn lint_components() -> Result<()> {
    for (program, component) in [("cargo-clippy", "clippy"), ("cargo-fmt", "rustfmt")] {
        if !succeeds(clean(program).arg("--version")) {
            say(&format!("installing rustup's {component}"));
            run_quietly(clean("rustup").args(["component", "add", component]))?;
        }
    }
    Ok(())
}

/// Installs what `compiler` lacks to be one of the combinations of [`toolchain`].
fn complete(compiler: &Compiler) -> Result<()> {
    match compiler {
        Compiler::Debian => {
            let packages: Vec<_> = DEBIAN_PACKAGES
                .iter()
                .copied()
                .filter(|name| !is_installed(name))
                .collect();
            if !packages.is_empty() {
                install("Debian's compiler and LLVM for BPF", &packages)?;
            }
        }
        Compiler::Nightly if !toolchain::is_there(compiler) => {
            say("installing a compiler for BPF: rustup's nightly with rust-src");
            let mut rustup = clean("rustup");
            rustup.args(["toolchain", "install", "nightly", "--profile", "minimal"]);
            rustup.args(["--component", "rust-src", "--no-self-update"]);
            output_of(&mut rustup)?;
        }
        Compiler::Nightly => {}
    }
    if toolchain::linker(compiler).is_none() {
        install_linker(compiler)?;
    }
    Ok(())
}

/// Installs `bpf-linker` below `target/tools`.
fn install_linker(compiler: &Compiler) -> Result<()> {
    let root = toolchain::linker_root(compiler);
    match compiler {
        Compiler::Debian => {
            let packages: Vec<_> = DEBIAN_PACKAGES
                .iter()
                .copied()
                .filter(|name| !is_installed(name))
                .collect();
            if !packages.is_empty() {
                install("libraries of bpf-linker", &packages)?;
            }
            say(&format!(
                "building bpf-linker {LINKER_VERSION}, about a minute"
            ));
            let mut cargo = clean("cargo");
            cargo
                .args([
                    "install",
                    "--quiet",
                    "bpf-linker",
                    "--locked",
                    "--version",
                    LINKER_VERSION,
                ])
                .args(["--no-default-features", "--features", "llvm-22", "--root"])
                .arg(&root)
                .env("LLVM_PREFIX", DEBIAN_LLVM)
                .env("LLVM_SYS_221_PREFIX", DEBIAN_LLVM);
            run_quietly(&mut cargo).context("cannot build bpf-linker")
        }
        Compiler::Nightly => {
            // Built from source it would need the very LLVM of nightly; the released binary
            // brings its own.
            say(&format!("downloading bpf-linker {LINKER_VERSION}"));
            download_linker(&root.join("bin")).with_context(|| {
                format!(
                    "cannot download bpf-linker: install version {LINKER_VERSION} so that it is \
                     in PATH (`cargo binstall bpf-linker`)"
                )
            })
        }
    }
}

fn download_linker(folder: &Path) -> Result<()> {
    fs::create_dir_all(folder)?;
    for (program, package) in [("curl", "curl"), ("zstd", "zstd")] {
        if find(program).is_none() {
            install("programs to download bpf-linker with", &[package])?;
        }
    }
    let url = format!(
        "https://github.com/aya-rs/bpf-linker/releases/download/v{LINKER_VERSION}/\
         bpf-linker-{}-unknown-linux-musl.tar.zst",
        std::env::consts::ARCH
    );
    let archive = folder.join("bpf-linker.tar.zst");
    run_quietly(
        Command::new("curl")
            .args([
                "--fail",
                "--silent",
                "--show-error",
                "--location",
                "--output",
            ])
            .arg(&archive)
            .arg(url),
    )?;
    run_quietly(
        Command::new("tar")
            .arg("-C")
            .arg(folder)
            .arg("--zstd")
            .arg("-xf")
            .arg(&archive),
    )?;
    fs::remove_file(&archive)?;
    if !succeeds(Command::new(folder.join("bpf-linker")).arg("--version")) {
        bail!("the archive has no bpf-linker that runs here");
    }
    Ok(())
}

/// Installs Debian packages, or says in one line what to install by hand.
fn install(what: &str, packages: &[&str]) -> Result<()> {
    let list = packages.join(" ");
    if find("apt-get").is_none() {
        bail!("{what}: there is no apt-get here; install the counterpart of the packages {list}");
    }
    if !is_root() {
        bail!("{what}: run this as root once, or `sudo apt-get install {list}`");
    }
    say(&format!("installing {what}: {list}"));
    let guard = NoServices::new()?;
    if !offered(packages) {
        run_quietly(apt_get().arg("update"))?;
        if !offered(packages) {
            bail!("{what}: this distribution does not offer all of {list}");
        }
    }
    let mut command = apt_get();
    command
        .args(["install", "--yes", "--no-install-recommends"])
        .args(packages);
    // The lists may be older than what the mirror still has.
    if let Err(first) = run_quietly(&mut command) {
        say(&format!("{first:#}; trying again with new package lists"));
        run_quietly(apt_get().arg("update"))?;
        run_quietly(&mut command)?;
    }
    drop(guard);
    Ok(())
}

/// Whether apt knows all of `packages`.
fn offered(packages: &[&str]) -> bool {
    packages.iter().all(|package| {
        output_of(Command::new("apt-cache").args(["policy", package]))
            .is_ok_and(|text| text.contains("Candidate:") && !text.contains("Candidate: (none)"))
    })
}

fn is_installed(package: &str) -> bool {
    output_of(Command::new("dpkg-query").args(["-W", "-f", "${db:Status-Status}", package]))
        .is_ok_and(|status| status == "installed")
}

fn apt_get() -> Command {
    let mut command = Command::new("apt-get");
    command
        .args(["--quiet", "-o", "DPkg::Lock::Timeout=300"])
        .env("DEBIAN_FRONTEND", "noninteractive");
    command
}

// === impl NoServices ===

impl NoServices {
    fn new() -> Result<Self> {
        let ours = !Path::new(POLICY).exists();
        if ours {
            // 101: an action is forbidden by the policy.
            fs::write(POLICY, "#!/bin/sh\nexit 101\n")
                .with_context(|| format!("cannot write {POLICY}"))?;
            run_command(Command::new("chmod").args(["+x", POLICY]))?;
        }
        Ok(Self { ours })
    }
}

impl Drop for NoServices {
    fn drop(&mut self) {
        if self.ours {
            // Left behind it would only keep services from starting, and say so.
            if let Err(error) = fs::remove_file(POLICY) {
                say(&format!(
                    "cannot remove {POLICY}, remove it by hand: {error}"
                ));
            }
        }
    }
}
