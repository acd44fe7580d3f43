//! The chart of `deploy/helm`, and what Helm makes of it.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, ensure};

use crate::{process, requirement::find_tool};

/// What a rendering is made with.
#[derive(Clone, Debug)]
pub struct Rendering {
    /// Name of the release.
    pub release: &'static str,
    /// Namespace of the release.
    pub namespace: &'static str,
    /// Version of Kubernetes that it is for.
    pub kubernetes: &'static str,
    /// Values that differ from the defaults, as `a.b=c`.
    pub set: Vec<String>,
}

/// Folder of the plain manifests, below the root of the workspace.
pub const MANIFESTS: &str = "deploy/kubernetes";

/// What opens each file of the plain manifests.
const HEAD: &str =
    "# Rendered from deploy/helm/observer by `cargo xtask manifests`: change that instead.\n";

/// Labels that say that Helm installed an object.
const HELM_LABELS: [&str; 2] = ["app.kubernetes.io/managed-by:", "helm.sh/chart:"];

/// The folder of the chart.
pub fn folder() -> PathBuf {
    workspace().join("deploy/helm/observer")
}

/// The root of the workspace.
pub fn workspace() -> PathBuf {
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR"));
    manifest.parent().unwrap_or(manifest).to_owned()
}

/// The program: `HELM`, that of `cargo xtask setup`, or one in the `PATH`.
pub fn helm() -> Option<PathBuf> {
    std::env::var_os("HELM")
        .map(PathBuf::from)
        .into_iter()
        .chain([workspace().join("target/tools/kubernetes/helm")])
        .find(|path| path.is_file())
        .or_else(|| find_tool("helm"))
}

/// A command of Helm that keeps nothing of its own beside what is installed.
pub fn command() -> Result<Command> {
    let helm = helm().context("Helm is not here: run `cargo xtask setup`, or set HELM")?;
    let mut command = Command::new(helm);
    quiet(&mut command);
    Ok(command)
}

/// Keeps what Helm keeps out of the folders of whoever runs the tests.
pub fn quiet(command: &mut Command) -> &mut Command {
    for variable in ["HELM_CACHE_HOME", "HELM_CONFIG_HOME", "HELM_DATA_HOME"] {
        command.env(variable, workspace().join("target/helm"));
    }
    command
}

/// The plain manifests as the chart renders them: name of a file, and its content.
pub fn manifests() -> Result<Vec<(String, String)>> {
    let rendered = Rendering::of(&[
        "namespace.create=true",
        "tests.enabled=false",
        // A key that is the same for everybody would be no secret.
        "hub.tls.mode=none",
    ])
    .render()?;
    let mut files: Vec<(String, String)> = Vec::new();
    for document in rendered
        .split("---\n")
        .filter(|part| !part.trim().is_empty())
    {
        let (source, object) = document
            .strip_prefix("# Source: observer/templates/")
            .and_then(|rest| rest.split_once('\n'))
            .context("a rendered object does not say which template it is from")?;
        let name = source.replace('/', "-");
        let object: String = object
            .lines()
            .filter(|line| {
                !HELM_LABELS
                    .iter()
                    .any(|label| line.trim().starts_with(label))
            })
            .flat_map(|line| [line, "\n"])
            .collect();
        match files.iter_mut().find(|(known, _)| *known == name) {
            Some((_, content)) => {
                content.push_str("---\n");
                content.push_str(&object);
            }
            None => files.push((name, format!("{HEAD}{object}"))),
        }
    }
    ensure!(!files.is_empty(), "the chart renders nothing");
    files.sort();
    let mut list = format!(
        "{HEAD}apiVersion: kustomize.config.k8s.io/v1beta1\nkind: Kustomization\nresources:\n"
    );
    for (name, _) in &files {
        list.push_str(&format!("  - {name}\n"));
    }
    files.push(("kustomization.yaml".to_owned(), list));
    Ok(files)
}

// === impl Rendering ===

impl Rendering {
    /// A release `observer` in the namespace `observer` with these values.
    pub fn of(set: &[&str]) -> Self {
        Self {
            release: "observer",
            namespace: "observer",
            kubernetes: "1.33.0",
            set: set.iter().map(|value| (*value).to_owned()).collect(),
        }
    }

    /// What Helm renders: objects of YAML, with `---` between, hooks among them.
    pub fn render(&self) -> Result<String> {
        let Self {
            release,
            namespace,
            kubernetes,
            set,
        } = self;
        let mut command = command()?;
        command.args(["template", release]).arg(folder()).args([
            "--namespace",
            namespace,
            "--kube-version",
            kubernetes,
        ]);
        for value in set {
            command.args(["--set", value]);
        }
        process::check(&mut command)
    }
}
