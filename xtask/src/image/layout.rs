//! An image by the OCI image specification 1.1, as a folder and as one file.

use std::{fs, io::Write, path::Path};

use anyhow::{Context, Result};
use flate2::{Compression, GzBuilder};
use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};

use super::archive::{self, Entry};

/// What an image is made of.
#[derive(Clone, Debug)]
pub(super) struct Image {
    /// Name and tag.
    pub(super) name: String,
    /// What it runs on.
    pub(super) platform: Platform,
    /// When it was made, RFC 3339.
    pub(super) created: String,
    /// Labels, which are annotations of the manifest too.
    pub(super) labels: Vec<(String, String)>,
    /// Files of its only layer.
    pub(super) entries: Vec<Entry>,
    /// When they were changed, seconds since 1970.
    pub(super) modified: u64,
}

/// What an image runs on; Linux in any case.
#[derive(Clone, Copy, Debug)]
pub(super) struct Platform {
    /// By the names of Go.
    pub(super) architecture: &'static str,
}

/// What was written.
#[derive(Clone, Debug)]
pub(super) struct Written {
    /// Digest of the manifest.
    pub(super) manifest: String,
    /// Length of the file, bytes.
    pub(super) archive_bytes: usize,
}

/// A blob and how it is referred to.
struct Blob {
    digest: String,
    content: Vec<u8>,
}

const LAYER: &str = "application/vnd.oci.image.layer.v1.tar+gzip";
const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const INDEX: &str = "application/vnd.oci.image.index.v1+json";

/// Writes `folder/oci`, an image layout, and `folder/observer.tar`, the same in one file, which
/// engines load that know the layout, and through its `manifest.json` those that do not.
pub(super) fn write(image: &Image, folder: &Path) -> Result<Written> {
    let Image {
        name,
        platform: Platform { architecture },
        created,
        labels,
        entries,
        modified,
    } = image;
    let labels: Map<String, Value> = labels
        .iter()
        .map(|(key, value)| (key.clone(), value.clone().into()))
        .collect();
    let layer = archive::write(entries, *modified)?;
    let layer_digest = digest(&layer);
    let layer = Blob::new(compressed(&layer)?);
    let config = Blob::json(&json!({
        "architecture": architecture,
        "os": "linux",
        "created": created,
        "config": {
            "User": "0",
            "Entrypoint": ["/observer"],
            "WorkingDir": "/",
            "Labels": labels,
        },
        // Of the archive before compression.
        "rootfs": { "type": "layers", "diff_ids": [layer_digest] },
        "history": [{ "created": created, "created_by": "cargo xtask image" }],
    }))?;
    let manifest = Blob::json(&json!({
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "config": config.descriptor(CONFIG),
        "layers": [layer.descriptor(LAYER)],
        "annotations": labels,
    }))?;
    let mut described = manifest.descriptor(MANIFEST);
    described["platform"] = json!({ "architecture": architecture, "os": "linux" });
    described["annotations"] = json!({
        "io.containerd.image.name": full_name(name),
        "org.opencontainers.image.ref.name": tag(name),
    });
    let index = serde_json::to_vec(&json!({
        "schemaVersion": 2,
        "mediaType": INDEX,
        "manifests": [described],
    }))?;
    let docker = serde_json::to_vec(&json!([{
        "Config": config.path(),
        "RepoTags": [name],
        "Layers": [layer.path()],
    }]))?;
    let mut files = vec![
        Entry::file(
            "oci-layout",
            0o644,
            br#"{"imageLayoutVersion":"1.0.0"}"#.to_vec(),
        ),
        Entry::file("index.json", 0o644, index),
        Entry::folder("blobs"),
        Entry::folder("blobs/sha256"),
    ];
    let digest = manifest.digest.clone();
    for blob in [config, manifest, layer] {
        files.push(Entry::file(&blob.path(), 0o644, blob.content));
    }
    write_folder(&files, &folder.join("oci"))?;
    files.push(Entry::file("manifest.json", 0o644, docker));
    let content = archive::write(&files, *modified)?;
    let path = folder.join("observer.tar");
    fs::write(&path, &content).with_context(|| format!("cannot write {}", path.display()))?;
    Ok(Written {
        manifest: digest,
        archive_bytes: content.len(),
    })
}

/// Replaces `folder` by `files`.
fn write_folder(files: &[Entry], folder: &Path) -> Result<()> {
    let replace = || {
        if folder.exists() {
            fs::remove_dir_all(folder)?;
        }
        fs::create_dir_all(folder)?;
        files.iter().try_for_each(|file| {
            let path = folder.join(&file.path);
            match &file.content {
                None => fs::create_dir_all(path),
                Some(content) => fs::write(path, content),
            }
        })
    };
    replace().with_context(|| format!("cannot write {}", folder.display()))
}

/// `content` as gzip, without a time or a name in it.
fn compressed(content: &[u8]) -> Result<Vec<u8>> {
    let mut writer = GzBuilder::new().write(Vec::new(), Compression::best());
    writer.write_all(content).context("cannot compress")?;
    writer.finish().context("cannot compress")
}

fn digest(content: &[u8]) -> String {
    let hash: String = Sha256::digest(content)
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    format!("sha256:{hash}")
}

/// The tag in `registry:5000/observer:1.0`.
fn tag(name: &str) -> &str {
    match name.rsplit_once(':') {
        Some((_, tag)) if !tag.contains('/') => tag,
        _ => "latest",
    }
}

/// The name with all that engines otherwise add to it.
fn full_name(name: &str) -> String {
    let tagged = if name.ends_with(&format!(":{}", tag(name))) {
        name.to_owned()
    } else {
        format!("{name}:latest")
    };
    match tagged.split_once('/') {
        Some((first, _)) if first.contains(['.', ':']) || first == "localhost" => tagged,
        Some(_) => format!("docker.io/{tagged}"),
        None => format!("docker.io/library/{tagged}"),
    }
}

// === impl Blob ===

impl Blob {
    fn new(content: Vec<u8>) -> Self {
        Self {
            digest: digest(&content),
            content,
        }
    }

    fn json(value: &Value) -> Result<Self> {
        Ok(Self::new(serde_json::to_vec(value)?))
    }

    fn descriptor(&self, media_type: &str) -> Value {
        json!({
            "mediaType": media_type,
            "digest": self.digest,
            "size": self.content.len(),
        })
    }

    fn path(&self) -> String {
        format!("blobs/{}", self.digest.replace(':', "/"))
    }
}

#[cfg(test)]
mod tests;
