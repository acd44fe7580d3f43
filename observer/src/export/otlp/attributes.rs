//! Attributes of OTLP: keys with a value, texts cut to a length that every receiver takes.

use opentelemetry_proto::tonic::common::v1::{AnyValue, ArrayValue, KeyValue, any_value::Value};

/// Longest text of an attribute, bytes; what is longer is cut before the character that would not
/// fit (`OTEL_ATTRIBUTE_VALUE_LENGTH_LIMIT` is the like of SDKs).
pub(super) const MAX_TEXT: usize = 1024;

/// A list of attributes. What is empty or not known is not in it.
#[derive(Clone, Debug, Default)]
pub(super) struct Attributes(pub(super) Vec<KeyValue>);

/// `text` as far as it fits.
pub(super) fn cut(text: &str) -> &str {
    text.get(..text.floor_char_boundary(MAX_TEXT))
        .unwrap_or(text)
}

/// One text.
pub(super) fn text_value(text: &str) -> AnyValue {
    AnyValue {
        value: Some(Value::StringValue(cut(text).to_owned())),
    }
}

// === impl Attributes ===

impl Attributes {
    /// With room for `count` of them.
    pub(super) fn with_capacity(count: usize) -> Self {
        Self(Vec::with_capacity(count))
    }

    fn push(&mut self, key: impl Into<String>, value: Value) {
        self.0.push(KeyValue {
            key: key.into(),
            value: Some(AnyValue { value: Some(value) }),
            ..KeyValue::default()
        });
    }

    /// A text that is not empty.
    pub(super) fn text(&mut self, key: impl Into<String>, value: &str) {
        if !value.is_empty() {
            self.push(key, Value::StringValue(cut(value).to_owned()));
        }
    }

    /// A text that was made for this.
    pub(super) fn made(&mut self, key: &str, mut value: String) {
        value.truncate(value.floor_char_boundary(MAX_TEXT));
        if !value.is_empty() {
            self.push(key, Value::StringValue(value));
        }
    }

    /// A text, if there is one.
    pub(super) fn some(&mut self, key: &str, value: Option<&str>) {
        if let Some(value) = value {
            self.text(key, value);
        }
    }

    /// A whole number; as much as there is room for.
    pub(super) fn integer(&mut self, key: &str, value: impl TryInto<i64>) {
        self.push(key, Value::IntValue(value.try_into().unwrap_or(i64::MAX)));
    }

    /// A number.
    pub(super) fn float(&mut self, key: &str, value: f64) {
        self.push(key, Value::DoubleValue(value));
    }

    /// Whether something is so.
    pub(super) fn flag(&mut self, key: &str, value: bool) {
        self.push(key, Value::BoolValue(value));
    }

    /// Texts, if there are any.
    pub(super) fn texts<T: AsRef<str>>(&mut self, key: &str, values: impl Iterator<Item = T>) {
        let values: Vec<AnyValue> = values.map(|value| text_value(value.as_ref())).collect();
        if !values.is_empty() {
            self.push(key, Value::ArrayValue(ArrayValue { values }));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_cut_between_characters() {
        let mut attributes = Attributes::default();
        attributes.text("a", &"ä".repeat(MAX_TEXT));
        attributes.made("b", format!("x{}", "ä".repeat(MAX_TEXT)));
        let lengths: Vec<usize> = attributes
            .0
            .iter()
            .map(|pair| match &pair.value.as_ref().unwrap().value {
                Some(Value::StringValue(text)) => text.len(),
                other => panic!("{other:?}"),
            })
            .collect();
        assert_eq!(lengths, [MAX_TEXT, MAX_TEXT - 1]);
    }

    #[test]
    fn what_is_empty_is_left_out() {
        let mut attributes = Attributes::default();
        attributes.text("a", "");
        attributes.made("b", String::new());
        attributes.some("c", None);
        attributes.texts("d", std::iter::empty::<&str>());
        assert!(attributes.0.is_empty());
        attributes.integer("e", u64::MAX);
        assert_eq!(
            attributes.0[0].value.as_ref().unwrap().value,
            Some(Value::IntValue(i64::MAX))
        );
    }
}
