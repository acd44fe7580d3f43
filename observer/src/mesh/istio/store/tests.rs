//! What is found by keys is what would be found by asking all.

use proptest::prelude::*;

use super::*;
use crate::{
    mesh::istio::{routing::host_matches, tests::object},
    model::policy::PolicyKind,
};

#[derive(Debug)]
struct Thing {
    meta: Meta,
    selector: Labels,
    host: String,
}

impl Declared for Thing {
    fn meta(&self) -> &Meta {
        &self.meta
    }
}

impl Choosing for Thing {
    fn selector(&self) -> &Labels {
        &self.selector
    }
}

fn told(number: usize, created: u64) -> PolicyObject {
    let namespace = if number.is_multiple_of(3) {
        "web"
    } else {
        "shop"
    };
    let name = format!("{namespace}/o{number}");
    object(PolicyKind::Sidecar, &name, created, serde_json::Value::Null)
}

fn labels() -> impl Strategy<Value = Labels> {
    prop::collection::btree_map("[abc]", "[xy]", 0..3).prop_map(|labels| {
        let pairs = labels.into_iter();
        Labels(
            pairs
                .map(|(name, value)| (name.into(), value.into()))
                .collect(),
        )
    })
}

fn host() -> impl Strategy<Value = String> {
    prop::sample::select(vec![
        "*", "*.b", "*.a.b", "*-a.b", "*b", "a.b", "a.a.b", "b", "c", "x-a.b",
    ])
    .prop_map(str::to_owned)
}

fn names(things: &[&Arc<Thing>]) -> Vec<String> {
    things.iter().map(|it| it.meta.name().to_owned()).collect()
}

proptest! {
    #[test]
    fn keys_find_what_asking_all_would(
        declared in prop::collection::vec((labels(), host(), 0..4_u64), 0..24),
        pod in labels(),
        wanted in prop::sample::select(vec!["a.b", "a.a.b", "x-a.b", "b", "c", "d", "ab"]),
    ) {
        let mut by_selector = BySelector::default();
        let mut by_host = ByHost::default();
        let mut all = Vec::new();
        for (number, (selector, host, created)) in declared.into_iter().enumerate() {
            let object = told(number, created);
            let thing = Arc::new(Thing { meta: Meta::of(&object), selector, host });
            by_selector.insert(thing.clone());
            by_host.insert(&thing.host, &thing);
            all.push((object, thing));
        }
        let mut sorted: Vec<&Arc<Thing>> = all.iter().map(|(_, thing)| thing).collect();
        sorted.sort_by(|left, right| left.meta.age().cmp(&right.meta.age()));

        let traits = Traits { labels: pod.0.clone(), ..Traits::default() };
        for namespace in ["shop", "web", "none"] {
            let own = || sorted.iter().copied().filter(|it| it.meta.namespace() == namespace);
            let choosing: Vec<_> =
                own().filter(|it| !it.selector.is_empty() && it.selector.select(&traits)).collect();
            prop_assert_eq!(names(&by_selector.choosing(namespace, &traits)), names(&choosing));
            let general: Vec<_> = own().filter(|it| it.selector.is_empty()).collect();
            let found: Vec<_> = by_selector.general(namespace).iter().collect();
            prop_assert_eq!(names(&found), names(&general));
        }
        prop_assert_eq!(by_selector.all().count(), all.len());

        // The most specific host first: without a star, then by length.
        let mut matching: Vec<_> =
            sorted.iter().copied().filter(|it| host_matches(&it.host, wanted)).collect();
        matching.sort_by_key(|it| (it.host.starts_with('*'), usize::MAX - it.host.len()));
        let found: Vec<_> = by_host.matching(wanted).flatten().collect();
        prop_assert_eq!(names(&found), names(&matching));

        for (object, thing) in &all {
            by_selector.remove(object);
            by_host.remove(&thing.host, object);
        }
        prop_assert_eq!(by_selector.all().count(), 0);
        prop_assert!(by_host.is_empty());
    }
}

#[test]
fn exports_say_who_may_know() {
    let to = |list: &[&str]| Export(list.iter().map(|to| (*to).into()).collect());
    for (export, default, client, expected) in [
        (&[][..], &[][..], "web", true),
        (&["*"], &[], "web", true),
        (&["."], &[], "web", false),
        (&["."], &[], "shop", true),
        (&["~"], &[], "shop", false),
        (&["web"], &[], "web", true),
        (&["web"], &[], "shop", false),
        (&[], &["."], "web", false),
        (&["*"], &["."], "web", true),
    ] {
        let default: Vec<Box<str>> = default.iter().map(|to| (*to).into()).collect();
        let found = to(export).reaches("shop", client, &default);
        assert_eq!(found, expected, "{export:?} {default:?} {client}");
    }
}
