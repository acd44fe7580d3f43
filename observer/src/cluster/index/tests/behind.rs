//! Tests of who is behind a service account, or a Service.

use proptest::{collection::vec, prelude::*};

use super::*;
use crate::model::policy::Traits;

fn traits(account: &str) -> Arc<Traits> {
    Arc::new(Traits {
        service_account: account.into(),
        labels: Box::new([("app".into(), account.into())]),
        ..Traits::default()
    })
}

/// A pod of a Deployment with a service account.
fn member(uid: &str, deployment: &str, account: &str) -> PodObject {
    let owners = [
        ("ReplicaSet", format!("{deployment}-1")),
        ("Deployment", deployment.to_owned()),
    ];
    PodObject {
        owners: owners
            .into_iter()
            .map(|(kind, name)| Owner {
                kind: kind.into(),
                name: name.into(),
            })
            .collect(),
        addresses: Vec::new(),
        traits: traits(account),
        ..pod(uid, "10.0.0.1")
    }
}

fn say(behind: &Behind) -> String {
    match behind {
        Behind::Nobody => "nobody".to_owned(),
        Behind::One(pod) => pod.workload().1.to_owned(),
        Behind::Several => "several".to_owned(),
    }
}

fn account(index: &Index, name: &str) -> String {
    say(&index.account("shop", name))
}

fn behind(index: &Index, name: &str) -> String {
    say(&index.behind("shop", name))
}

#[test]
fn an_account_is_a_workloads_while_no_other_has_it() {
    let mut index = index();
    let web = |uid: &str| Object::Pod(member(uid, "web", "web"));
    set(&mut index, CLUSTER, web("a"), 1);
    assert_eq!(account(&index, "web"), "several", "not all pods are known");
    complete(&mut index);
    set(&mut index, CLUSTER, web("a"), 2);
    set(&mut index, CLUSTER, web("b"), 2);
    assert_eq!(account(&index, "web"), "web");
    assert_eq!(account(&index, "cart"), "nobody");
    assert_eq!(say(&index.account("other", "web")), "nobody");
    // One of them becomes another's: the API does not, but what is told of owners may come later.
    set(
        &mut index,
        CLUSTER,
        Object::Pod(member("c", "job", "web")),
        3,
    );
    assert_eq!(account(&index, "web"), "several");
    tell(
        &mut index,
        CLUSTER,
        Change::Remove(Kind::Pod, "c".into()),
        4,
    );
    assert_eq!(account(&index, "web"), "web");
    let finished = PodObject {
        finished: true,
        ..member("b", "web", "web")
    };
    set(&mut index, CLUSTER, Object::Pod(finished), 5);
    tell(
        &mut index,
        CLUSTER,
        Change::Remove(Kind::Pod, "a".into()),
        5,
    );
    assert_eq!(account(&index, "web"), "nobody");
}

#[test]
fn a_service_is_a_workloads_while_all_its_endpoints_are() {
    let mut index = index();
    complete(&mut index);
    for (uid, deployment) in [("a", "web"), ("b", "web"), ("c", "cart")] {
        set(
            &mut index,
            CLUSTER,
            Object::Pod(member(uid, deployment, "x")),
            1,
        );
    }
    let endpoints = |uid: &str, pods: &[&str]| {
        let endpoints: Vec<_> = pods.iter().map(|pod| ("10.0.0.9", *pod)).collect();
        Object::Endpoints(slice(uid, "web", &endpoints))
    };
    assert_eq!(behind(&index, "web"), "nobody");
    set(&mut index, CLUSTER, endpoints("s1", &["a", "b"]), 2);
    assert_eq!(behind(&index, "web"), "web");
    // Another slice of it.
    set(&mut index, CLUSTER, endpoints("s2", &["c"]), 3);
    assert_eq!(behind(&index, "web"), "several");
    set(&mut index, CLUSTER, endpoints("s2", &["b"]), 4);
    assert_eq!(behind(&index, "web"), "web");
    // A pod that nobody told of yet, and something that is no pod.
    set(&mut index, CLUSTER, endpoints("s2", &["d"]), 5);
    assert_eq!(behind(&index, "web"), "several");
    set(&mut index, CLUSTER, Object::Pod(member("d", "web", "x")), 6);
    assert_eq!(behind(&index, "web"), "web");
    set(&mut index, CLUSTER, endpoints("s2", &[""]), 7);
    assert_eq!(behind(&index, "web"), "several");
    tell(
        &mut index,
        CLUSTER,
        Change::Remove(Kind::Endpoints, "s2".into()),
        8,
    );
    assert_eq!(behind(&index, "web"), "web");
    tell(
        &mut index,
        CLUSTER,
        Change::Remove(Kind::Pod, "a".into()),
        9,
    );
    assert_eq!(behind(&index, "web"), "web", "the slice is behind");
    tell(
        &mut index,
        CLUSTER,
        Change::Remove(Kind::Pod, "b".into()),
        9,
    );
    assert_eq!(behind(&index, "web"), "nobody");
}

#[test]
fn what_does_not_fit_makes_nobody_the_only_one() {
    let mut index = Index::new(Config {
        max_pods: 1,
        ..Config::default()
    });
    complete(&mut index);
    set(
        &mut index,
        CLUSTER,
        Object::Pod(member("a", "web", "web")),
        1,
    );
    assert_eq!(account(&index, "web"), "web");
    set(
        &mut index,
        CLUSTER,
        Object::Pod(member("b", "cart", "web")),
        1,
    );
    assert_eq!(account(&index, "web"), "several");
}

#[test]
fn traits_are_kept_once_and_whoever_tells_none_takes_none_away() {
    let mut index = index();
    complete(&mut index);
    set(
        &mut index,
        CLUSTER,
        Object::Pod(member("a", "web", "web")),
        1,
    );
    set(
        &mut index,
        CLUSTER,
        Object::Pod(member("b", "web", "web")),
        1,
    );
    let of = |index: &Index, uid: &str| index.pod(uid).unwrap().traits.clone();
    assert_eq!(of(&index, "a"), traits("web"));
    assert!(Arc::ptr_eq(&of(&index, "a"), &of(&index, "b")));
    // A hub that is older tells none of them, and a node that tells less of the owners does.
    let without = |uid: &str| PodObject {
        traits: Arc::default(),
        ..member(uid, "web", "web")
    };
    set(&mut index, CLUSTER, Object::Pod(without("a")), 2);
    assert_eq!(of(&index, "a"), traits("web"));
    set(&mut index, CLUSTER, Object::Pod(without("c")), 2);
    assert_eq!(*of(&index, "c"), Traits::default());
    let bare = PodObject {
        owners: Vec::new(),
        ..member("c", "web", "web")
    };
    set(&mut index, NODE, Object::Pod(bare), 3);
    assert!(Arc::ptr_eq(&of(&index, "c"), &of(&index, "b")));
    assert_eq!(index.pod("c").unwrap().workload().1, "web");
    assert_eq!(account(&index, "web"), "web");
}

/// What happens to one of few pods and slices.
#[derive(Clone, Copy, Debug)]
enum Act {
    Pod {
        pod: u8,
        deployment: u8,
        account: u8,
    },
    Gone {
        pod: u8,
    },
    Slice {
        slice: u8,
        service: u8,
        pods: u8,
    },
    SliceGone {
        slice: u8,
    },
    List,
}

fn act() -> impl Strategy<Value = Act> {
    prop_oneof![
        4 => (0..5_u8, 0..2_u8, 0..2_u8)
            .prop_map(|(pod, deployment, account)| Act::Pod { pod, deployment, account }),
        1 => (0..5_u8).prop_map(|pod| Act::Gone { pod }),
        3 => (0..3_u8, 0..2_u8, 0..32_u8)
            .prop_map(|(slice, service, pods)| Act::Slice { slice, service, pods }),
        1 => (0..3_u8).prop_map(|slice| Act::SliceGone { slice }),
        1 => Just(Act::List),
    ]
}

proptest! {
    #[test]
    fn answers_are_those_of_all_that_is_known(acts in vec(act(), 1..40)) {
        let mut index = index();
        complete(&mut index);
        let mut slices: std::collections::BTreeMap<u8, (u8, u8)> = Default::default();
        // A pod that is gone does not come back: the next one has another uid.
        let mut lives = [0_u32; 5];
        let uid = |pod: u8, lives: &[u32; 5]| format!("{pod}-{}", lives[usize::from(pod)]);
        for (second, act) in (1..).zip(acts) {
            match act {
                Act::Pod { pod, deployment, account } => {
                    let uid = uid(pod, &lives);
                    let object = member(&uid, &format!("d{deployment}"), &format!("a{account}"));
                    set(&mut index, CLUSTER, Object::Pod(object), second);
                }
                Act::Gone { pod } => {
                    let uid = uid(pod, &lives);
                    tell(&mut index, CLUSTER, Change::Remove(Kind::Pod, uid.into()), second);
                    lives[usize::from(pod)] += 1;
                }
                Act::Slice { slice: number, service, pods } => {
                    let uids: Vec<String> =
                        (0..5).filter(|pod| pods & (1 << pod) != 0).map(|pod| uid(pod, &lives)).collect();
                    let addresses: Vec<String> =
                        (0..uids.len()).map(|number| format!("10.0.1.{number}")).collect();
                    let endpoints: Vec<_> = addresses
                        .iter()
                        .zip(&uids)
                        .map(|(address, uid)| (address.as_str(), uid.as_str()))
                        .collect();
                    // Slices do not change their Service, nor come back.
                    let service = slices.get(&number).map_or(service, |known| known.0);
                    let object = slice(&format!("s{number}"), &format!("w{service}"), &endpoints);
                    set(&mut index, CLUSTER, Object::Endpoints(object), second);
                    slices.entry(number).or_insert((service, 0));
                }
                Act::SliceGone { slice } => {
                    let uid = format!("s{slice}");
                    tell(&mut index, CLUSTER, Change::Remove(Kind::Endpoints, uid.into()), second);
                }
                Act::List => {
                    tell(&mut index, CLUSTER, Change::Begin(Kind::Pod), second);
                    tell(&mut index, CLUSTER, Change::Complete(Kind::Pod), second);
                    lives.iter_mut().for_each(|life| *life += 1);
                }
            }
            index.expire(super::second(second));
            for name in ["a0", "a1"] {
                let mut workloads: Vec<&str> = index
                    .pods()
                    .filter(|pod| &*pod.traits.service_account == name)
                    .map(|pod| pod.workload().1)
                    .collect();
                workloads.sort_unstable();
                workloads.dedup();
                let expected = match workloads[..] {
                    [] => "nobody",
                    [one] => one,
                    _ => "several",
                };
                prop_assert_eq!(account(&index, name), expected);
            }
            for name in ["w0", "w1"] {
                // Worked out anew, it is the same.
                let kept = behind(&index, name);
                index.behind = Answers::default();
                prop_assert_eq!(behind(&index, name), kept);
            }
        }
    }
}
