//! JSON as it comes: what has another type than expected is as if it were not there.
//!
//! Nothing but invalid JSON is an error, so that one strange field costs no object. Text is
//! borrowed from the bytes: what is not kept is never copied.

use std::{borrow::Cow, fmt, marker::PhantomData};

use serde::{
    Deserialize, Deserializer,
    de::{IgnoredAny, MapAccess, SeqAccess, Visitor, value::MapAccessDeserializer},
};
use serde_json::value::RawValue;

/// A string; empty when it is none.
#[derive(Clone, Debug, Default)]
pub(super) struct Text<'a>(pub(super) Cow<'a, str>);

/// A boolean; false when it is none.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Flag(pub(super) bool);

/// A number of 16 bits; 0 when it is none.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Number(pub(super) u16);

/// A number of 16 bits or a name; 0 and empty when it is neither.
#[derive(Clone, Debug, Default)]
pub(super) struct Target<'a> {
    pub(super) number: u16,
    pub(super) name: Text<'a>,
}

/// A value as it is written, of which nothing but that it is JSON was looked at; empty when it is
/// missing or null.
#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(transparent)]
pub(super) struct Raw<'a>(#[serde(borrow)] Option<&'a RawValue>);

/// An object; its default when it is none.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Part<T>(pub(super) T);

/// A list; empty when it is none, and cut at [`MAX_ELEMENTS`].
#[derive(Clone, Debug)]
pub(super) struct Many<T> {
    pub(super) elements: Vec<T>,
    /// Elements beyond.
    pub(super) cut: u64,
}

/// An object of strings; empty when it is none, and cut at [`MAX_PAIRS`].
#[derive(Clone, Debug, Default)]
pub(super) struct Pairs<'a> {
    pairs: Vec<(Cow<'a, str>, Cow<'a, str>)>,
    /// Pairs beyond.
    pub(super) cut: u64,
}

/// What a value of JSON is taken for; anything but what it overrides is its default.
trait Loose<'de>: Default {
    fn borrowed(text: &'de str) -> Self {
        Self::text(text)
    }

    fn text(_: &str) -> Self {
        Self::default()
    }

    fn flag(_: bool) -> Self {
        Self::default()
    }

    fn number(_: u64) -> Self {
        Self::default()
    }

    fn list<A: SeqAccess<'de>>(mut list: A) -> Result<Self, A::Error> {
        while list.next_element::<IgnoredAny>()?.is_some() {}
        Ok(Self::default())
    }

    fn object<A: MapAccess<'de>>(mut object: A) -> Result<Self, A::Error> {
        while object.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(Self::default())
    }
}

/// Takes any value for a `T`.
struct Anything<T>(PhantomData<T>);

/// Most elements of a list that are read: an EndpointSlice has up to 1000.
pub(super) const MAX_ELEMENTS: usize = 1024;
/// Most labels, annotations and the like that are read.
pub(super) const MAX_PAIRS: usize = 16_384;

// === impl Anything ===

impl<'de, T: Loose<'de>> Visitor<'de> for Anything<T> {
    type Value = T;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("any value")
    }

    fn visit_borrowed_str<E>(self, value: &'de str) -> Result<T, E> {
        Ok(T::borrowed(value))
    }

    fn visit_str<E>(self, value: &str) -> Result<T, E> {
        Ok(T::text(value))
    }

    fn visit_bool<E>(self, value: bool) -> Result<T, E> {
        Ok(T::flag(value))
    }

    fn visit_u64<E>(self, value: u64) -> Result<T, E> {
        Ok(T::number(value))
    }

    fn visit_i64<E>(self, _: i64) -> Result<T, E> {
        Ok(T::default())
    }

    fn visit_f64<E>(self, _: f64) -> Result<T, E> {
        Ok(T::default())
    }

    fn visit_unit<E>(self) -> Result<T, E> {
        Ok(T::default())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, list: A) -> Result<T, A::Error> {
        T::list(list)
    }

    fn visit_map<A: MapAccess<'de>>(self, object: A) -> Result<T, A::Error> {
        T::object(object)
    }
}

// === impl Text ===

impl Text<'_> {
    pub(super) fn as_str(&self) -> &str {
        &self.0
    }
}

impl<'de: 'a, 'a> Loose<'de> for Text<'a> {
    fn borrowed(text: &'de str) -> Self {
        Self(Cow::Borrowed(text))
    }

    fn text(text: &str) -> Self {
        Self(Cow::Owned(text.to_owned()))
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Text<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Anything(PhantomData))
    }
}

// === impl Target ===

impl<'de: 'a, 'a> Loose<'de> for Target<'a> {
    fn borrowed(text: &'de str) -> Self {
        Self {
            number: 0,
            name: Text::borrowed(text),
        }
    }

    fn text(text: &str) -> Self {
        Self {
            number: 0,
            name: Text::text(text),
        }
    }

    fn number(value: u64) -> Self {
        Self {
            number: u16::try_from(value).unwrap_or_default(),
            name: Text::default(),
        }
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Target<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Anything(PhantomData))
    }
}

// === impl Raw ===

impl<'a> Raw<'a> {
    /// The text of an object; `None` for anything else.
    pub(super) fn object(&self) -> Option<&'a str> {
        let text = self.0?.get();
        text.starts_with('{').then_some(text)
    }

    /// The text of a list; `None` for anything else.
    pub(super) fn list(&self) -> Option<&'a str> {
        let text = self.0?.get();
        text.starts_with('[').then_some(text)
    }
}

// === impl Flag ===

impl Loose<'_> for Flag {
    fn flag(value: bool) -> Self {
        Self(value)
    }
}

impl<'de> Deserialize<'de> for Flag {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Anything(PhantomData))
    }
}

// === impl Number ===

impl Loose<'_> for Number {
    fn number(value: u64) -> Self {
        Self(u16::try_from(value).unwrap_or_default())
    }
}

impl<'de> Deserialize<'de> for Number {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Anything(PhantomData))
    }
}

// === impl Part ===

impl<'de, T: Default + Deserialize<'de>> Loose<'de> for Part<T> {
    fn object<A: MapAccess<'de>>(object: A) -> Result<Self, A::Error> {
        T::deserialize(MapAccessDeserializer::new(object)).map(Self)
    }
}

impl<'de, T: Default + Deserialize<'de>> Deserialize<'de> for Part<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Anything(PhantomData))
    }
}

// === impl Many ===

impl<T> Default for Many<T> {
    fn default() -> Self {
        Self {
            elements: Vec::new(),
            cut: 0,
        }
    }
}

impl<'de, T: Deserialize<'de>> Loose<'de> for Many<T> {
    fn list<A: SeqAccess<'de>>(mut list: A) -> Result<Self, A::Error> {
        let mut many = Self::default();
        while many.elements.len() < MAX_ELEMENTS {
            match list.next_element()? {
                Some(element) => many.elements.push(element),
                None => return Ok(many),
            }
        }
        while list.next_element::<IgnoredAny>()?.is_some() {
            many.cut += 1;
        }
        Ok(many)
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Many<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Anything(PhantomData))
    }
}

// === impl Pairs ===

impl<'a> Pairs<'a> {
    /// The value of a name.
    pub(super) fn get(&self, name: &str) -> Option<&str> {
        self.iter()
            .find(|(key, _)| *key == name)
            .map(|(_, value)| value)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.pairs.iter().map(|(name, value)| (&**name, &**value))
    }
}

impl<'de: 'a, 'a> Loose<'de> for Pairs<'a> {
    fn object<A: MapAccess<'de>>(mut object: A) -> Result<Self, A::Error> {
        let mut found = Self::default();
        while found.pairs.len() < MAX_PAIRS {
            match object.next_entry::<Text<'a>, Text<'a>>()? {
                Some((name, value)) => found.pairs.push((name.0, value.0)),
                None => return Ok(found),
            }
        }
        while object.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {
            found.cut += 1;
        }
        Ok(found)
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Pairs<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Anything(PhantomData))
    }
}
