//! A written image against the rules of the specification, read back by other code than wrote it.

use std::{collections::BTreeMap, io::Read, path::PathBuf};

use flate2::read::GzDecoder;
use observer_tests::requirement::{Need, lacking};

use super::*;

/// The image of the tests.
fn image() -> Image {
    Image {
        name: "registry.example:5000/tools/observer:1.2".to_owned(),
        platform: Platform {
            architecture: "amd64",
        },
        created: "1970-01-01T00:00:00Z".to_owned(),
        labels: vec![(
            "org.opencontainers.image.title".to_owned(),
            "Observer".to_owned(),
        )],
        entries: vec![
            Entry::folder("etc"),
            Entry::file("etc/passwd", 0o644, b"root\n".to_vec()),
            // More than one block of an archive, and of gzip.
            Entry::file("observer", 0o755, vec![7; 100_000]),
        ],
        modified: 1_700_000_000,
    }
}

fn read_json(folder: &Path, path: &str) -> Value {
    serde_json::from_slice(&fs::read(folder.join(path)).unwrap()).unwrap()
}

/// The content that `descriptor` refers to, if its size and digest are right.
fn blob(folder: &Path, descriptor: &Value) -> Vec<u8> {
    let digest = descriptor["digest"].as_str().unwrap();
    let content = fs::read(folder.join("blobs").join(digest.replace(':', "/"))).unwrap();
    assert_eq!(descriptor["size"], content.len());
    assert_eq!(super::digest(&content), digest);
    content
}

/// Files of `archive` as tar(1) lists them: mode, owner, time, and path.
fn listed(archive: &Path) -> Vec<String> {
    let mut command = std::process::Command::new("tar");
    command.args([
        "--list",
        "--verbose",
        "--numeric-owner",
        "--full-time",
        "--utc",
        "--file",
    ]);
    let output = command.arg(archive).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    let text = String::from_utf8(output.stdout).unwrap();
    text.lines()
        .map(|line| line.split_whitespace().collect::<Vec<_>>().join(" "))
        .collect()
}

#[test]
fn the_layout_keeps_the_rules_of_the_specification() {
    let target = tempfile::tempdir().unwrap();
    let written = write(&image(), target.path()).unwrap();
    let folder = target.path().join("oci");
    assert_eq!(
        read_json(&folder, "oci-layout"),
        json!({ "imageLayoutVersion": "1.0.0" })
    );
    let index = read_json(&folder, "index.json");
    assert_eq!(index["schemaVersion"], 2);
    assert_eq!(index["mediaType"], INDEX);
    let [described] = index["manifests"].as_array().unwrap().as_slice() else {
        panic!("{index}")
    };
    assert_eq!(described["mediaType"], MANIFEST);
    assert_eq!(described["digest"], written.manifest);
    assert_eq!(
        described["platform"],
        json!({ "architecture": "amd64", "os": "linux" })
    );
    assert_eq!(
        described["annotations"]["org.opencontainers.image.ref.name"],
        "1.2"
    );

    let manifest: Value = serde_json::from_slice(&blob(&folder, described)).unwrap();
    assert_eq!(manifest["schemaVersion"], 2);
    assert_eq!(manifest["mediaType"], MANIFEST);
    assert_eq!(manifest["config"]["mediaType"], CONFIG);
    let [layer] = manifest["layers"].as_array().unwrap().as_slice() else {
        panic!("{manifest}")
    };
    assert_eq!(layer["mediaType"], LAYER);

    let config: Value = serde_json::from_slice(&blob(&folder, &manifest["config"])).unwrap();
    assert_eq!(config["architecture"], "amd64");
    assert_eq!(config["os"], "linux");
    assert_eq!(config["config"]["Entrypoint"], json!(["/observer"]));
    assert_eq!(config["config"]["User"], "0");
    assert_eq!(
        config["config"]["Labels"]["org.opencontainers.image.title"],
        "Observer"
    );
    assert_eq!(config["rootfs"]["type"], "layers");
    // The identity of a layer is that of what comes out of gzip.
    let mut archive = Vec::new();
    GzDecoder::new(blob(&folder, layer).as_slice())
        .read_to_end(&mut archive)
        .unwrap();
    assert_eq!(config["rootfs"]["diff_ids"], json!([digest(&archive)]));
    let path = target.path().join("layer.tar");
    fs::write(&path, &archive).unwrap();
    assert_eq!(
        listed(&path),
        [
            "drwxr-xr-x 0/0 0 2023-11-14 22:13:20 etc/",
            "-rw-r--r-- 0/0 5 2023-11-14 22:13:20 etc/passwd",
            "-rwxr-xr-x 0/0 100000 2023-11-14 22:13:20 observer",
        ]
    );
    // Every blob is referred to, and nothing else is there.
    let mut blobs: Vec<PathBuf> = fs::read_dir(folder.join("blobs/sha256"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    blobs.sort();
    assert_eq!(blobs.len(), 3, "{blobs:?}");
}

#[test]
fn the_file_has_the_layout_and_what_older_engines_want() {
    let target = tempfile::tempdir().unwrap();
    write(&image(), target.path()).unwrap();
    let into = target.path().join("unpacked");
    fs::create_dir(&into).unwrap();
    let status = std::process::Command::new("tar")
        .arg("--extract")
        .arg("--file")
        .arg(target.path().join("observer.tar"))
        .arg("--directory")
        .arg(&into)
        .status()
        .unwrap();
    assert!(status.success());
    let collect = |folder: &Path| -> BTreeMap<String, Vec<u8>> {
        let mut found = BTreeMap::new();
        for path in ["oci-layout", "index.json", "blobs/sha256"] {
            let path = folder.join(path);
            if path.is_file() {
                found.insert(path.display().to_string(), fs::read(&path).unwrap());
            } else {
                for entry in fs::read_dir(&path).unwrap() {
                    let path = entry.unwrap().path();
                    found.insert(path.display().to_string(), fs::read(&path).unwrap());
                }
            }
        }
        let prefix = folder.display().to_string();
        found
            .into_iter()
            .map(|(path, content)| (path.replace(&prefix, ""), content))
            .collect()
    };
    assert_eq!(collect(&into), collect(&target.path().join("oci")));
    let docker = read_json(&into, "manifest.json");
    let [image] = docker.as_array().unwrap().as_slice() else {
        panic!("{docker}")
    };
    assert_eq!(
        image["RepoTags"],
        json!(["registry.example:5000/tools/observer:1.2"])
    );
    for path in [&image["Config"], &image["Layers"][0]] {
        assert!(into.join(path.as_str().unwrap()).is_file(), "{path}");
    }
}

#[test]
fn the_same_files_make_the_same_image() {
    let (one, two) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    write(&image(), one.path()).unwrap();
    write(&image(), two.path()).unwrap();
    let read = |folder: &Path| fs::read(folder.join("observer.tar")).unwrap();
    assert_eq!(read(one.path()), read(two.path()));
    let mut other = image();
    other.entries[1].content = Some(b"toor\n".to_vec());
    write(&other, two.path()).unwrap();
    assert_ne!(read(one.path()), read(two.path()));
}

#[test]
fn another_program_reads_the_image() {
    if lacking(&[Need::Tool("skopeo")]).unwrap() {
        return;
    }
    let target = tempfile::tempdir().unwrap();
    let written = write(&image(), target.path()).unwrap();
    let folder = target.path().display();
    // The file is read in both of its forms, and the layout is converted, which checks each digest.
    for (source, digest) in [
        (format!("oci:{folder}/oci:1.2"), Some(&written.manifest)),
        (
            format!("oci-archive:{folder}/observer.tar:1.2"),
            Some(&written.manifest),
        ),
        (format!("docker-archive:{folder}/observer.tar"), None),
    ] {
        let output = std::process::Command::new("skopeo")
            .args(["--tmpdir", &folder.to_string(), "inspect", &source])
            .output()
            .unwrap();
        assert!(output.status.success(), "{source}: {output:?}");
        let found: Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!(found["Architecture"], "amd64", "{source}");
        assert_eq!(found["Os"], "linux", "{source}");
        assert_eq!(found["Layers"].as_array().unwrap().len(), 1, "{source}");
        if let Some(digest) = digest {
            assert_eq!(found["Digest"], **digest, "{source}");
        }
        let copy = format!("dir:{folder}/copy");
        let output = std::process::Command::new("skopeo")
            .args([
                "--insecure-policy",
                "--tmpdir",
                &folder.to_string(),
                "copy",
                &source,
                &copy,
            ])
            .output()
            .unwrap();
        assert!(output.status.success(), "{source}: {output:?}");
    }
}

#[test]
fn names_are_completed_as_engines_do() {
    for (name, full, tag_of) in [
        ("observer", "docker.io/library/observer:latest", "latest"),
        ("observer:1", "docker.io/library/observer:1", "1"),
        ("team/observer:1", "docker.io/team/observer:1", "1"),
        ("host:5000/observer", "host:5000/observer:latest", "latest"),
        ("host.example/observer:1", "host.example/observer:1", "1"),
        ("localhost/observer:1", "localhost/observer:1", "1"),
    ] {
        assert_eq!(full_name(name), full);
        assert_eq!(tag(name), tag_of, "{name}");
    }
}
