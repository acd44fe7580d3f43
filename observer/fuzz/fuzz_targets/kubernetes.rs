//! Any bytes as objects, events and lists of the Kubernetes API: bounded, and alike however they
//! are cut.
#![no_main]

use libfuzzer_sys::fuzz_target;
use observer::cluster::read::{
    Event, Found, ListReader, Losses, Options, Pattern, Resource, event, object, status,
};

fuzz_target!(|data: &[u8]| {
    // The first byte says which resource, and how the rest is cut.
    let Some((first, data)) = data.split_first() else {
        return;
    };
    let resource = Resource::ALL[usize::from(*first) % Resource::ALL.len()];
    let options = Options {
        labels: vec![Pattern::new("app*")],
        annotations: vec![Pattern::new("*")],
        service_from_labels: true,
        traits: first % 2 == 0,
    };
    let mut losses = Losses::default();
    let found = object(resource, data, &options, &mut losses);
    assert_eq!(found.is_none(), losses.malformed == 1);
    if let Some(Found::Pod(draft)) = &found {
        assert!(!draft.pod.uid.is_empty() && !draft.pod.name.is_empty());
        assert!(draft.pod.addresses.len() <= 64 && draft.pod.containers.len() <= 128);
        let ids = draft
            .pod
            .containers
            .iter()
            .flat_map(|container| &container.ids);
        assert!(ids.into_iter().all(|id| id.len() == 64));
        let pod = draft.clone().finish(Vec::new());
        assert!(!pod.service.name.is_empty());
    }
    // What is an object is one in an event too.
    if found.is_some() {
        let line = [b"{\"type\":\"ADDED\",\"object\":", data, b"}"].concat();
        match event(resource, &line, &options, &mut Losses::default()) {
            Some(Event::Set(told, _)) => assert_eq!(Some(told), found),
            other => panic!("{other:?}"),
        }
    }
    event(resource, data, &options, &mut losses);
    status(data);

    let read = |size: usize| {
        let (mut items, mut list, mut losses) = (0, ListReader::default(), Losses::default());
        for piece in data.chunks(size) {
            list.push(piece, &mut losses, |item, losses| {
                items += 1;
                object(resource, item, &options, losses);
            });
        }
        (items, list.finish(), losses)
    };
    assert_eq!(read(usize::from(*first) + 1), read(data.len().max(1)));
});
