//! Values as policies write them: with a `*` at an end, and paths with templates.

/// Whether a value is a pattern: `*` for any that is there, `*suffix`, `prefix*`, or itself.
pub fn pattern_matches(pattern: &str, value: &str) -> bool {
    match (pattern.strip_prefix('*'), pattern.strip_suffix('*')) {
        (Some(""), _) => !value.is_empty(),
        (Some(suffix), _) => value.ends_with(suffix),
        (None, Some(prefix)) => value.starts_with(prefix),
        (None, None) => pattern == value,
    }
}

/// Whether a path is a pattern of `paths`, which may have `{*}` for one segment and `{**}` for any
/// number of them.
pub fn path_matches(pattern: &str, path: &str) -> bool {
    if !pattern.contains("{*}") && !pattern.contains("{**}") {
        return pattern_matches(pattern, path);
    }
    template_matches(pattern, path)
}

/// Steps through both, and goes back to the last two places where a template may take more: one for
/// each kind, as `{**}` takes all that `{*}` can.
fn template_matches(pattern: &str, path: &str) -> bool {
    let (pattern, path) = (pattern.as_bytes(), path.as_bytes());
    let (mut at, mut next) = (0, 0);
    // Pattern after the template, and up to where of the path it has taken.
    let mut segment: Option<(usize, usize)> = None;
    let mut any: Option<(usize, usize)> = None;
    loop {
        let rest = pattern.get(at..).unwrap_or_default();
        if let Some(after) = rest.strip_prefix(b"{**}") {
            at = pattern.len() - after.len();
            any = Some((at, next));
            segment = None;
            continue;
        }
        if let Some(after) = rest.strip_prefix(b"{*}") {
            // At least one byte.
            if path.get(next).is_some_and(|byte| *byte != b'/') {
                at = pattern.len() - after.len();
                next += 1;
                segment = Some((at, next));
                continue;
            }
        } else if let (Some(wanted), Some(byte)) = (rest.first(), path.get(next)) {
            if wanted == byte {
                at += 1;
                next += 1;
                continue;
            }
        } else if rest.is_empty() && next == path.len() {
            return true;
        }
        // A segment takes one more, or else any number does.
        if let Some((after, taken)) = segment
            && path.get(taken).is_some_and(|byte| *byte != b'/')
        {
            at = after;
            next = taken + 1;
            segment = Some((after, next));
        } else if let Some((after, taken)) = any
            && taken < path.len()
        {
            at = after;
            next = taken + 1;
            segment = None;
            any = Some((after, next));
        } else {
            return false;
        }
    }
}

#[cfg(test)]
mod tests;
