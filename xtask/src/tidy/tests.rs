//! The rules.

use std::collections::BTreeSet;

use super::source::{Source, all, before_tests, code, written};

/// Modules of the daemon, and the modules that each may import. A stage sees values and nouns,
/// never another stage but for the snapshots that it answers with; nobody sees `app`.
const IMPORTS: &[(&str, &[&str])] = &[
    ("model", &[]),
    ("config", &["model"]),
    ("telemetry", &["model"]),
    ("host", &["model", "config", "telemetry"]),
    ("listen", &[]),
    ("cluster", &["model", "config", "telemetry", "listen"]),
    ("mesh", &["model", "config", "telemetry"]),
    ("capture", &["model", "config", "telemetry"]),
    ("decode", &["model", "config", "telemetry"]),
    ("assemble", &["model", "config", "telemetry"]),
    (
        "enrich",
        &["model", "config", "telemetry", "host", "cluster", "mesh"],
    ),
    ("aggregate", &["model", "config", "telemetry", "mesh"]),
    (
        "serve",
        &[
            "model",
            "config",
            "telemetry",
            "aggregate",
            "listen",
            "mesh",
        ],
    ),
    ("export", &["model", "config", "telemetry", "aggregate"]),
    // The command line prints what it is told, and makes one report of those of several agents; of
    // capture it knows whether there is an object.
    (
        "cli",
        &["model", "config", "host", "telemetry", "capture", "mesh"],
    ),
];

/// Stages without clock, I/O and runtime: one recorded fixture drives them in one thread.
const PURE: &[&str] = &["model", "decode", "assemble", "mesh", "enrich", "aggregate"];

/// What a pure stage does not name.
const IMPURE: &[&str] = &[
    "tokio::",
    "std::fs",
    "std::net::Tcp",
    "std::thread",
    "Instant::now",
    "SystemTime::now",
];

/// Most lines of a file before its tests.
const MOST_LINES: usize = 500;

/// Fails with all of `problems`, if there are any.
fn none(problems: Vec<String>) {
    assert!(problems.is_empty(), "\n{}\n", problems.join("\n"));
}

/// The module of the daemon that a file belongs to.
fn module(source: &Source) -> Option<&str> {
    let path = source.path.strip_prefix("observer/src/")?;
    path.split('/').next()?.split('.').next()
}

/// Whether a file holds nothing but tests.
fn is_test(source: &Source) -> bool {
    source.path.ends_with("/tests.rs") || source.path.contains("/tests/")
}

/// The top-level modules that `code` names after `crate::`, also in a group.
fn imported(code: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for (at, _) in code.match_indices("crate::") {
        let rest = &code[at + "crate::".len()..];
        if let Some(group) = rest.strip_prefix('{') {
            let mut depth = 0_usize;
            let mut name = String::new();
            for character in group.chars() {
                match character {
                    '}' if depth == 0 => break,
                    '{' => depth += 1,
                    '}' => depth -= 1,
                    ',' if depth == 0 => {
                        found.extend(first_name(&name));
                        name.clear();
                        continue;
                    }
                    _ => {}
                }
                name.push(character);
            }
            found.extend(first_name(&name));
        } else {
            found.extend(first_name(rest));
        }
    }
    found
}

fn first_name(path: &str) -> Option<String> {
    let name: String = path
        .trim_start()
        .chars()
        .take_while(|character| character.is_alphanumeric() || *character == '_')
        .collect();
    (!name.is_empty()).then_some(name)
}

#[test]
fn stages_import_only_what_the_table_allows() {
    let mut problems = Vec::new();
    for source in all() {
        let Some(module) = module(&source) else {
            continue;
        };
        // Tests may drive neighbours.
        if ["main", "lib", "app"].contains(&module) || is_test(&source) {
            continue;
        }
        let Some((_, allowed)) = IMPORTS.iter().find(|(name, _)| *name == module) else {
            problems.push(format!(
                "{}: module {module} is not in the table",
                source.path
            ));
            continue;
        };
        for name in imported(&code(before_tests(&source.text))) {
            if name != module && !allowed.contains(&&*name) {
                problems.push(format!("{}: {module} must not import {name}", source.path));
            }
        }
    }
    none(problems);
}

#[test]
fn only_capture_knows_aya() {
    let mut problems = Vec::new();
    for source in all() {
        if source.path.starts_with("observer/") && module(&source) != Some("capture") {
            let code = code(&source.text);
            if code.contains("aya::") || code.contains("use aya") {
                problems.push(format!("{}: only capture uses aya", source.path));
            }
        }
    }
    none(problems);
}

#[test]
fn pure_stages_have_no_clock_and_no_input_or_output() {
    let mut problems = Vec::new();
    for source in all() {
        if !module(&source).is_some_and(|module| PURE.contains(&module)) || is_test(&source) {
            continue;
        }
        let code = code(before_tests(&source.text));
        for name in IMPURE.iter().filter(|name| code.contains(**name)) {
            problems.push(format!("{}: {name} in a pure stage", source.path));
        }
    }
    none(problems);
}

#[test]
fn every_file_says_what_it_is_for() {
    let mut problems = Vec::new();
    for Source { path, text } in all() {
        let sentence: Vec<&str> = text
            .lines()
            .map_while(|line| line.strip_prefix("//! "))
            .collect();
        if !sentence.join(" ").contains(['.', ':']) {
            problems.push(format!("{path}: does not open with a `//!` sentence"));
        }
    }
    none(problems);
}

#[test]
fn no_file_is_too_long() {
    let mut problems = Vec::new();
    for Source { path, text } in all() {
        let lines = before_tests(&text).lines().count();
        if lines > MOST_LINES && !path.ends_with("/tests.rs") {
            problems.push(format!(
                "{path}: {lines} lines, at most {MOST_LINES} before its tests"
            ));
        }
    }
    none(problems);
}

#[test]
fn no_module_is_in_a_file_that_is_called_mod() {
    none(
        all()
            .into_iter()
            .map(|s| s.path)
            .filter(|path| path.ends_with("/mod.rs"))
            .collect(),
    );
}

#[test]
fn unsafe_is_where_it_belongs() {
    let allowed = [
        "observer-ebpf/",
        "observer/src/capture/",
        "observer/src/capture.rs",
        "tests/",
    ];
    let mut problems = Vec::new();
    for Source { path, text } in all() {
        if allowed.iter().any(|prefix| path.starts_with(prefix)) {
            continue;
        }
        let code = code(&text);
        let words = code.split(|character: char| !character.is_alphanumeric() && character != '_');
        if words.into_iter().any(|word| word == "unsafe") {
            problems.push(format!("{path}: unsafe outside capture and observer-ebpf"));
        }
    }
    none(problems);
}

#[test]
fn nothing_is_ignored_or_left_to_do() {
    let mut problems = Vec::new();
    for Source { path, text } in all() {
        let code = code(&text);
        for word in [
            "#[ignore",
            "#[should_panic",
            "dbg!(",
            "todo!(",
            "unimplemented!(",
        ] {
            if code.contains(word) {
                problems.push(format!("{path}: {word}"));
            }
        }
    }
    none(problems);
}

#[test]
fn no_file_names_a_path_of_one_machine() {
    // Put together here, so that this file does not hold what it looks for.
    let roots = ["home", "root", "work", "Users"].map(|name| format!("/{name}/"));
    let mut problems = Vec::new();
    for path in written() {
        if path.file_name().is_some_and(|name| name == "Cargo.lock") {
            continue;
        }
        // Fixtures that are not text hold what was on the wire.
        let Ok(text) = std::fs::read_to_string(&path) else {
            continue;
        };
        for (number, line) in text.lines().enumerate() {
            for root in &roots {
                // At the start of a path, not inside of one: `/sys/kernel/work/` is fine.
                let starts = line.match_indices(root.as_str()).any(|(at, _)| {
                    let before = line[..at].chars().next_back();
                    !before.is_some_and(|c| c.is_alphanumeric() || "/._-}*\\".contains(c))
                });
                if starts {
                    problems.push(format!(
                        "{}:{}: {}",
                        path.display(),
                        number + 1,
                        line.trim()
                    ));
                }
            }
        }
    }
    none(problems);
}

#[test]
fn scripts_are_executable() {
    use std::os::unix::fs::PermissionsExt;
    let mode = std::fs::metadata(crate::workspace::root().join(".ci/run"))
        .unwrap()
        .permissions();
    assert_eq!(mode.mode() & 0o111, 0o111);
}

#[test]
fn imports_are_found_alone_and_in_groups() {
    let check = |code: &str, expected: &[&str]| {
        assert_eq!(
            imported(code).into_iter().collect::<Vec<_>>(),
            expected,
            "{code}"
        );
    };
    check("use crate::model::time::Monotonic;", &["model"]);
    check(
        "use crate::{\n    config::Config,\n    host::{self, a},\n};",
        &["config", "host"],
    );
    check("fn f(x: crate::app::X) {}", &["app"]);
    check("use super::x;", &[]);
}
