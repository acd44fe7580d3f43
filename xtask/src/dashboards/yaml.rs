//! YAML of values that are made here; texts are quoted as in JSON, which is YAML too.

use serde_json::Value;

/// A file with what says where it comes from.
pub(super) fn generated(value: &Value) -> String {
    let mut text =
        "# Made by `cargo xtask dashboards`: change xtask/src/dashboards instead.\n".to_owned();
    write(&mut text, value, 0);
    text
}

/// Appends the lines of a map or a list.
fn write(text: &mut String, value: &Value, depth: usize) {
    let indent = "  ".repeat(depth);
    match value {
        Value::Object(map) => {
            for (key, value) in map {
                text.push_str(&format!("{indent}{key}:"));
                after(text, value, depth + 1);
            }
        }
        Value::Array(list) => {
            for value in list {
                let mut item = String::new();
                match value {
                    Value::Object(map) if !map.is_empty() => write(&mut item, value, depth + 1),
                    _ => {
                        after(&mut item, value, depth + 1);
                    }
                }
                // The dash stands in the indentation of the first line.
                text.push_str(&format!("{indent}- {}", item.trim_start()));
            }
        }
        scalar => text.push_str(&format!("{indent}{scalar}\n")),
    }
}

/// Appends a value behind its key.
fn after(text: &mut String, value: &Value, depth: usize) {
    match value {
        Value::Object(map) if map.is_empty() => text.push_str(" {}\n"),
        Value::Array(list) if list.is_empty() => text.push_str(" []\n"),
        Value::Object(_) | Value::Array(_) => {
            text.push('\n');
            write(text, value, depth);
        }
        Value::String(block) if block.contains('\n') => {
            text.push_str(" |-\n");
            for line in block.lines() {
                let line = format!("{}{line}", "  ".repeat(depth));
                text.push_str(line.trim_end());
                text.push('\n');
            }
        }
        scalar => text.push_str(&format!(" {scalar}\n")),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn maps_lists_and_blocks() {
        let value = json!({
            "groups": [{"name": "a: b", "rules": [{"expr": "x\n  + y", "labels": {}}]}, {"name": "c"}],
            "list": ["one", 2, true, null], "none": []
        });
        let expected = "groups:\n  - name: \"a: b\"\n    rules:\n      - expr: |-\n          x\n            + y\n        labels: {}\n  - name: \"c\"\nlist:\n  - \"one\"\n  - 2\n  - true\n  - null\nnone: []\n";
        let text = generated(&value);
        assert_eq!(text.split_once('\n').unwrap().1, expected);
    }
}
