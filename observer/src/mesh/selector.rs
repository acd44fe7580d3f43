//! Label selectors, and finding those that choose a pod among many.

use std::{collections::BTreeMap, sync::Arc};

use serde::Deserialize;

use super::shelf::{Shelf, Three, Triple};
use crate::model::policy::find;

/// Labels, sorted by name.
pub(super) type Labels = [(Box<str>, Box<str>)];

/// What chooses by labels; an empty one chooses all.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct Selector {
    match_labels: BTreeMap<Box<str>, Box<str>>,
    match_expressions: Vec<Expression>,
}

/// Things that choose pods of their namespace by labels.
#[derive(Debug)]
pub(super) struct Selected<T> {
    /// By namespace, and one label and value that they all demand: both empty when none is.
    shelf: Shelf<Three, T>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
struct Expression {
    key: Box<str>,
    operator: Operator,
    values: Vec<Box<str>>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
enum Operator {
    #[default]
    In,
    NotIn,
    Exists,
    DoesNotExist,
}

// === impl Selector ===

impl Selector {
    /// Whether it chooses what has these labels.
    pub(super) fn matches(&self, labels: &Labels) -> bool {
        let equal = self
            .match_labels
            .iter()
            .all(|(name, value)| find(labels, name) == Some(&**value));
        equal && self.match_expressions.iter().all(|it| it.matches(labels))
    }

    /// A label and value without which it chooses nothing; both empty when there is none.
    fn demanded(&self) -> (&str, &str) {
        let first = self.match_labels.iter().next();
        first.map_or(("", ""), |(name, value)| (name, value))
    }
}

// === impl Expression ===

impl Expression {
    fn matches(&self, labels: &Labels) -> bool {
        let value = find(labels, &self.key);
        let listed = value.is_some_and(|value| self.values.iter().any(|it| **it == *value));
        match self.operator {
            Operator::In => listed,
            Operator::NotIn => !listed,
            Operator::Exists => value.is_some(),
            Operator::DoesNotExist => value.is_none(),
        }
    }
}

// === impl Selected ===

impl<T> Selected<T> {
    /// Takes a thing that chooses by a selector.
    pub(super) fn insert(&mut self, namespace: &str, selector: &Selector, uid: &str, it: Arc<T>) {
        let (label, value) = selector.demanded();
        let key = (namespace.into(), label.into(), value.into());
        self.shelf.insert(key, uid, it);
    }

    /// Forgets it; the selector is that which it came with.
    pub(super) fn remove(&mut self, namespace: &str, selector: &Selector, uid: &str) {
        let (label, value) = selector.demanded();
        self.shelf.remove(&Triple(namespace, label, value), uid);
    }

    /// Those that may choose a pod of a namespace with these labels, in no order; whether they do is
    /// for their selectors to say.
    pub(super) fn candidates<'s, 'a>(
        &'s self,
        namespace: &'a str,
        labels: &'a Labels,
    ) -> impl Iterator<Item = &'s Arc<T>> + use<'s, 'a, T> {
        let pairs = labels.iter().map(|(name, value)| (&**name, &**value));
        // No label has an empty name: none is found twice.
        std::iter::once(("", ""))
            .chain(pairs)
            .flat_map(move |(name, value)| self.shelf.get(&Triple(namespace, name, value)))
    }
}

impl<T> Default for Selected<T> {
    fn default() -> Self {
        Self {
            shelf: Shelf::default(),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn labels(list: &[(&str, &str)]) -> Box<Labels> {
        let mut list: Vec<(Box<str>, Box<str>)> = list
            .iter()
            .map(|(name, value)| ((*name).into(), (*value).into()))
            .collect();
        list.sort();
        list.dedup_by(|left, right| left.0 == right.0);
        list.into()
    }

    fn selector(json: &str) -> Selector {
        serde_json::from_str(json).expect("a selector")
    }

    #[test]
    fn all_that_a_selector_says_must_hold() {
        let pod = labels(&[("app", "web"), ("tier", "front")]);
        for (json, expected) in [
            ("{}", true),
            (r#"{"matchLabels": {"app": "web"}}"#, true),
            (r#"{"matchLabels": {"app": "web", "tier": "back"}}"#, false),
            (r#"{"matchLabels": {"zone": "a"}}"#, false),
            (
                r#"{"matchExpressions": [{"key": "app", "operator": "In", "values": ["web", "x"]}]}"#,
                true,
            ),
            (
                r#"{"matchExpressions": [{"key": "zone", "operator": "In", "values": ["a"]}]}"#,
                false,
            ),
            (
                r#"{"matchExpressions": [{"key": "app", "operator": "NotIn", "values": ["web"]}]}"#,
                false,
            ),
            (
                r#"{"matchExpressions": [{"key": "zone", "operator": "NotIn", "values": ["a"]}]}"#,
                true,
            ),
            (
                r#"{"matchExpressions": [{"key": "app", "operator": "Exists"}]}"#,
                true,
            ),
            (
                r#"{"matchExpressions": [{"key": "app", "operator": "DoesNotExist"}]}"#,
                false,
            ),
            (
                r#"{"matchLabels": {"app": "web"}, "matchExpressions": [{"key": "tier", "operator": "DoesNotExist"}]}"#,
                false,
            ),
        ] {
            assert_eq!(selector(json).matches(&pod), expected, "{json}");
        }
        assert!(
            serde_json::from_str::<Selector>(r#"{"matchExpressions": [{"operator": "Gt"}]}"#)
                .is_err()
        );
    }

    proptest! {
        /// What is found by labels is what would be found by asking all.
        #[test]
        fn candidates_are_all_that_choose(
            selectors in prop::collection::vec(prop::collection::btree_map("[abc]", "[xy]", 0..3), 0..20),
            pod in prop::collection::btree_map("[abc]", "[xy]", 0..4),
        ) {
            let mut index = Selected::default();
            let selectors: Vec<Selector> = selectors
                .into_iter()
                .map(|wanted| Selector {
                    match_labels: wanted
                        .into_iter()
                        .map(|(name, value)| (name.into(), value.into()))
                        .collect(),
                    match_expressions: Vec::new(),
                })
                .collect();
            for (number, selector) in selectors.iter().enumerate() {
                index.insert("shop", selector, &number.to_string(), Arc::new(number));
            }
            let pod: Vec<(Box<str>, Box<str>)> = pod
                .into_iter()
                .map(|(name, value)| (name.into(), value.into()))
                .collect();
            let chosen = |number: &usize| selectors.get(*number).is_some_and(|it| it.matches(&pod));
            let mut found: Vec<usize> = index.candidates("shop", &pod).map(|it| **it).collect();
            found.retain(chosen);
            found.sort_unstable();
            let expected: Vec<usize> = (0..selectors.len()).filter(chosen).collect();
            prop_assert_eq!(found, expected);
            prop_assert_eq!(index.candidates("other", &pod).count(), 0);
            for (number, selector) in selectors.iter().enumerate() {
                index.remove("shop", selector, &number.to_string());
            }
            prop_assert_eq!(index.candidates("shop", &pod).count(), 0);
        }
    }
}
