//! Any bytes as objects that a mesh is told by: bounded, alike over the hub's stream, and read by the
//! mesh that they are for.
#![no_main]

use libfuzzer_sys::fuzz_target;
use observer::{
    cluster::{
        object::Change,
        read::{Event, Found, Losses, Options, Resource, event, object},
        stream::message::{decode_change, encode_policy},
    },
    mesh::policy::Policies,
    model::policy::{PolicyChange, PolicyKind},
};

fuzz_target!(|data: &[u8]| {
    // The first byte says which kind.
    let Some((first, data)) = data.split_first() else {
        return;
    };
    let kind = PolicyKind::ALL[usize::from(*first) % PolicyKind::ALL.len()];
    let resource = Resource::Policy(kind);
    let (options, mut losses) = (Options::default(), Losses::default());
    let found = object(resource, data, &options, &mut losses);
    assert_eq!(found.is_none(), losses.malformed == 1);
    if found.is_some() {
        let line = [b"{\"type\":\"MODIFIED\",\"object\":", data, b"}"].concat();
        match event(resource, &line, &options, &mut Losses::default()) {
            Some(Event::Set(told, _)) => assert_eq!(Some(told), found),
            other => panic!("{other:?}"),
        }
    }
    event(resource, data, &options, &mut losses);
    let Some(Found::Policy(policy)) = found else {
        return;
    };
    assert!(!policy.uid.is_empty() && !policy.name.is_empty());
    assert!(policy.content.len() <= 192 << 10);
    assert!(policy.labels.len() <= 64 && policy.annotations.len() <= 64);
    assert!(policy.labels.is_sorted() && policy.annotations.is_sorted());
    if !policy.content.is_empty() {
        assert!(policy.content.starts_with('{') && policy.content.ends_with('}'));
    }
    let told = decode_change(encode_policy(&policy));
    let set = PolicyChange::Set(policy.clone());
    assert_eq!(told, Ok(Change::Declared(set.clone())));
    // What cannot be understood is said to be so, and nothing worse.
    let mut policies = Policies::default();
    policies.apply(set);
    assert_eq!(policies.objects().count(), 1);
    policies.apply(PolicyChange::Remove(kind, policy.uid.clone()));
    assert_eq!(
        policies.objects().count() + policies.misunderstood().count(),
        0
    );
});
