//! The Kubernetes API server, its store and Helm, built from the Go module proxy below
//! `target/tools/kubernetes`: no package has them.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, bail};

use super::install;
use crate::workspace::{find, output_of, run_quietly, say, succeeds, target, write_if_different};

/// A program in Go, and what it is built of.
struct Program {
    name: &'static str,
    /// Its package.
    package: &'static str,
    /// The module that has it, with its version.
    module: &'static str,
    version: &'static str,
    /// What the linker is told beside leaving out symbols.
    settings: &'static str,
}

/// What the tests run; the real server has to be as new as what its double says that it is.
const PROGRAMS: &[Program] = &[
    Program {
        name: "kube-apiserver",
        package: "k8s.io/kubernetes/cmd/kube-apiserver",
        module: "k8s.io/kubernetes",
        version: "v1.35.4",
        settings: "-X k8s.io/component-base/version.gitVersion=v1.35.4 \
                   -X k8s.io/component-base/version.gitMajor=1 \
                   -X k8s.io/component-base/version.gitMinor=35",
    },
    Program {
        name: "etcd",
        package: "go.etcd.io/etcd/server/v3",
        module: "go.etcd.io/etcd/server/v3",
        version: "v3.6.16",
        settings: "",
    },
    Program {
        name: "helm",
        package: "helm.sh/helm/v3/cmd/helm",
        module: "helm.sh/helm/v3",
        version: "v3.20.2",
        settings: "",
    },
];

/// The folder with the programs, which `KUBEBUILDER_ASSETS` names to the tests.
pub(crate) fn folder() -> PathBuf {
    target("tools/kubernetes")
}

/// Whether the tests find a server there.
pub(crate) fn is_there() -> bool {
    ["kube-apiserver", "etcd"]
        .iter()
        .all(|name| folder().join(name).is_file())
}

/// Builds what is missing, or is of another version.
pub(super) fn complete() -> Result<()> {
    let missing: Vec<&Program> = PROGRAMS.iter().filter(|one| !one.is_built()).collect();
    if missing.is_empty() {
        return Ok(());
    }
    if find("go").is_none() {
        install("Go's compiler", &["golang-go"])?;
    }
    let go = find("go").context("there is no go in PATH")?;
    for program in missing {
        program
            .build(&go)
            .with_context(|| format!("cannot build {}", program.name))?;
    }
    if find("kubectl").is_none() {
        say("there is no kubectl in PATH; the tests do without");
    }
    Ok(())
}

/// Modules that a `go.mod` replaces by folders of its own repository: they are modules too, of the
/// same release, and the proxy has them only as such.
fn staged(module: &str) -> Vec<&str> {
    module
        .lines()
        .filter_map(|line| line.split_once("=> ./staging/"))
        .filter_map(|(name, _)| name.trim().trim_start_matches("replace ").split(' ').next())
        .collect()
}

// === impl Program ===

impl Program {
    fn path(&self) -> PathBuf {
        folder().join(self.name)
    }

    /// Written when all else is done.
    fn stamp(&self) -> PathBuf {
        folder().join(format!("{}.version", self.name))
    }

    fn is_built(&self) -> bool {
        self.path().is_file()
            && fs::read_to_string(self.stamp()).is_ok_and(|built| built.trim() == self.version)
    }

    fn build(&self, go: &Path) -> Result<()> {
        let Self {
            name,
            package,
            module,
            version,
            settings,
        } = self;
        say(&format!(
            "building {name} {version}, which takes minutes the first time"
        ));
        // A module of its own, so that no version here depends on another program's.
        let place = target("tools/kubernetes-build").join(name);
        let text =
            format!("module observer.test/{name}\n\ngo 1.25.0\n\nrequire {module} {version}\n");
        // Begun anew: what an interrupted build has resolved may be half.
        if place.exists() {
            fs::remove_dir_all(&place)
                .with_context(|| format!("cannot remove {}", place.display()))?;
        }
        write_if_different(&place.join("go.mod"), text.as_bytes())?;
        let command = || {
            let mut command = Command::new(go);
            command
                .current_dir(&place)
                .env("GOFLAGS", "-mod=mod")
                .env_remove("GOBIN");
            // Whoever needs another one than ours has it fetched.
            command.env("GOTOOLCHAIN", "auto");
            command
        };
        let named = format!("{module}@{version}");
        let told = output_of(command().args(["mod", "download", "-json", &named]))?;
        let own = told
            .lines()
            .find_map(|line| line.trim().strip_prefix("\"GoMod\": \""))
            .and_then(|rest| rest.split('"').next())
            .context("go does not say where the module's own go.mod is")?;
        let own = fs::read_to_string(own).with_context(|| format!("cannot read {own}"))?;
        let staged = staged(&own);
        if !staged.is_empty() {
            // Release 1.35.4 of the whole is 0.35.4 of its parts.
            let Some(minor) = version.strip_prefix("v1.") else {
                bail!("{version} has parts of an unknown version");
            };
            let mut edit = command();
            edit.args(["mod", "edit"]);
            for name in staged {
                edit.arg(format!("-replace={name}={name}@v0.{minor}"));
            }
            run_quietly(&mut edit)?;
        }
        let partial = folder().join(format!("{name}.partial"));
        fs::create_dir_all(folder())?;
        let mut build = command();
        build.args(["build", "-buildvcs=false", "-trimpath", "-ldflags"]);
        build.arg(format!("-s -w {settings}").trim());
        run_quietly(build.arg("-o").arg(&partial).arg(package))?;
        if !succeeds(Command::new(&partial).arg(if *name == "helm" {
            "version"
        } else {
            "--version"
        })) {
            bail!("what was built does not run here");
        }
        fs::rename(&partial, self.path())
            .with_context(|| format!("cannot write {}", self.path().display()))?;
        write_if_different(&self.stamp(), format!("{version}\n").as_bytes()).map(drop)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_of_a_release_are_found() {
        let text = "module x\n\nreplace k8s.io/single => ./staging/src/k8s.io/single\n\nreplace (\n\
                    \tk8s.io/api => ./staging/src/k8s.io/api\n\tother.test/x => other.test/y v1.0.0\n\
                    \tk8s.io/kubectl => ./staging/src/k8s.io/kubectl\n)\n";
        assert_eq!(
            staged(text),
            ["k8s.io/single", "k8s.io/api", "k8s.io/kubectl"]
        );
        assert!(staged("module x\n").is_empty());
    }
}
