//! The settings of the access log.

use std::path::PathBuf;

use super::{
    super::{AccessOnly, AccessTo, Config, parse_bytes, parse_duration},
    Setting, count,
};

pub(in crate::config) const ACCESS_TO: Setting = Setting {
    key: "access_log.to",
    set: to,
};
pub(in crate::config) const ACCESS_PATH: Setting = Setting {
    key: "access_log.path",
    set: path,
};
pub(in crate::config) const ACCESS_MAX_BYTES: Setting = Setting {
    key: "access_log.max_bytes",
    set: max_bytes,
};
pub(in crate::config) const ACCESS_ONLY: Setting = Setting {
    key: "access_log.only",
    set: only,
};
pub(in crate::config) const ACCESS_SAMPLING: Setting = Setting {
    key: "access_log.sampling",
    set: sampling,
};
pub(in crate::config) const ACCESS_SLOW: Setting = Setting {
    key: "access_log.slow",
    set: slow,
};
pub(in crate::config) const ACCESS_PER_SECOND: Setting = Setting {
    key: "access_log.per_second",
    set: per_second,
};

fn to(config: &mut Config, text: &str) -> Result<(), String> {
    config.access_log.to = match text.trim() {
        "none" => AccessTo::None,
        "stdout" => AccessTo::Stdout,
        "file" => AccessTo::File,
        "otlp" => AccessTo::Otlp,
        _ => return Err(format!("{text:?} is none of none, stdout, file and otlp")),
    };
    Ok(())
}

fn path(config: &mut Config, text: &str) -> Result<(), String> {
    let path = PathBuf::from(text.trim());
    if !path.is_absolute() || path.file_name().is_none() {
        return Err(format!("{text:?} is not an absolute path of a file"));
    }
    config.access_log.path = Some(path);
    Ok(())
}

fn max_bytes(config: &mut Config, text: &str) -> Result<(), String> {
    config.access_log.max_bytes = Some(parse_bytes(text)?)
        .filter(|bytes| (1 << 20..=1 << 40).contains(bytes))
        .ok_or_else(|| format!("{text:?} is not a size from 1MiB to 1024GiB"))?;
    Ok(())
}

fn only(config: &mut Config, text: &str) -> Result<(), String> {
    config.access_log.only = match text.trim() {
        "all" => AccessOnly::All,
        "failed" => AccessOnly::Failed,
        "slow" => AccessOnly::Slow,
        _ => return Err(format!("{text:?} is none of all, failed and slow")),
    };
    Ok(())
}

fn sampling(config: &mut Config, text: &str) -> Result<(), String> {
    config.access_log.sampling = text
        .trim()
        .parse()
        .ok()
        .filter(|ratio| (0.0..=1.0).contains(ratio))
        .ok_or_else(|| format!("{text:?} is not a ratio: write a number from 0 to 1"))?;
    Ok(())
}

fn slow(config: &mut Config, text: &str) -> Result<(), String> {
    config.access_log.slow = parse_duration(text)?;
    Ok(())
}

fn per_second(config: &mut Config, text: &str) -> Result<(), String> {
    config.access_log.per_second = count(text, 1, 1_000_000)?;
    Ok(())
}
