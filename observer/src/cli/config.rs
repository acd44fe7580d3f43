//! `observer config check`: reads a file, says what it sets or what is wrong with it.

use std::{io, path::Path};

use crate::config::{Config, ConfigError, Flags};

/// Reads and checks `file` and writes a summary to `out`. Flags and environment play no part.
pub fn check(file: &Path, out: &mut dyn io::Write) -> anyhow::Result<()> {
    let config = read(file)?;
    writeln!(out, "{}: ok", file.display())?;
    write!(out, "{}", summary(&config))?;
    Ok(())
}

fn read(file: &Path) -> Result<Config, ConfigError> {
    Config::load(Some(file), &Flags::default(), &|_| None)
}

/// What a configuration comes to, one line a setting.
fn summary(config: &Config) -> String {
    let Config {
        listen,
        cgroup,
        capture,
        ignore,
        services,
        routes,
        metrics,
        flows,
        log,
    } = config;
    let cgroup = cgroup
        .as_ref()
        .map_or("found".to_owned(), |path| path.display().to_string());
    let lines = [
        ("listen", listen.address.to_string()),
        ("cgroup", cgroup),
        (
            "capture",
            format!(
                "{} bytes of ring buffer, {} connections",
                capture.ring_bytes, capture.max_connections
            ),
        ),
        (
            "ignore",
            format!(
                "{} ports, {} cgroups, {} services",
                ignore.ports.len(),
                ignore.cgroups.len(),
                ignore.services.len()
            ),
        ),
        ("services", format!("{} rules", services.len())),
        ("routes", format!("{} patterns", routes.patterns.len())),
        (
            "metrics",
            format!(
                "{} series a family, idle for {:?}",
                metrics.series_budget, metrics.idle_expiry
            ),
        ),
        (
            "flows",
            format!("{} kept, sampled at {}", flows.history, flows.sampling),
        ),
        ("log", log.level.as_str().to_owned()),
    ];
    lines
        .iter()
        .map(|(key, value)| format!("  {key:<9} {value}\n"))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_good_file_is_summed_up() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(
            file.path(),
            "listen: 127.0.0.1:1\nignore: {ports: [22, 53]}\n",
        )
        .unwrap();
        let mut out = Vec::new();
        check(file.path(), &mut out).unwrap();
        let text = String::from_utf8(out).unwrap();
        assert!(text.lines().next().unwrap().ends_with(": ok"), "{text}");
        assert!(text.contains("127.0.0.1:1"), "{text}");
        assert!(text.contains("2 ports, 0 cgroups"), "{text}");
    }

    #[test]
    fn a_bad_file_is_one_line_with_the_place() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "listen: nowhere\n").unwrap();
        let mut out = Vec::new();
        let error = check(file.path(), &mut out).unwrap_err().to_string();
        assert!(error.contains(":1:9: listen: "), "{error}");
        assert!(out.is_empty());
    }
}
