//! Chains of controllers: at once, late, never, too many.

use proptest::prelude::*;

use super::*;

fn second(number: u64) -> Monotonic {
    Monotonic(number * 1_000_000_000)
}

fn owner(kind: &str, name: &str) -> Owner {
    Owner {
        kind: kind.into(),
        name: name.into(),
    }
}

fn owners() -> Owners {
    Owners::new(Limits {
        controllers: 4,
        pods: 4,
        ..Limits::default()
    })
}

/// A pod that a ReplicaSet of this uid controls, or a Job.
fn pod(uid: &str, controller: &str, resource: Resource) -> Draft {
    let kind = if resource == Resource::Jobs {
        "Job"
    } else {
        "ReplicaSet"
    };
    Draft {
        pod: PodObject {
            uid: uid.into(),
            name: uid.into(),
            ..PodObject::default()
        },
        controller: Some(Controller {
            owner: owner(kind, &format!("{controller}-name")),
            uid: controller.into(),
            resource: Some(resource),
            above: None,
        }),
    }
}

fn set(uid: &str) -> ControllerObject {
    let controller = Some((owner("Deployment", "shop"), "d1".into()));
    ControllerObject {
        uid: uid.into(),
        controller,
    }
}

fn shown(pod: &PodObject) -> String {
    let owners: Vec<String> = pod
        .owners
        .iter()
        .map(|owner| format!("{}/{}", owner.kind, owner.name))
        .collect();
    format!("{}: {} = {}", pod.uid, owners.join(" "), pod.service.name)
}

fn all(pods: &[PodObject]) -> Vec<String> {
    let mut found: Vec<String> = pods.iter().map(shown).collect();
    found.sort();
    found
}

#[test]
fn what_is_certain_goes_out_at_once() {
    let mut owners = owners();
    let mut check = |draft: Draft, expected: &str| {
        let told = owners.pod(draft, second(1)).map(|pod| shown(&pod));
        assert_eq!(told.as_deref(), Some(expected));
    };
    let mut alone = pod("p", "c", Resource::Jobs);
    alone.controller = None;
    check(alone, "p:  = p");
    // A controller of a kind that is not known ends the chain.
    let mut other = pod("p", "c", Resource::Jobs);
    other.controller.as_mut().unwrap().owner = owner("StatefulSet", "db");
    other.controller.as_mut().unwrap().resource = None;
    check(other, "p: StatefulSet/db = db");
    // Labels told what is above.
    let mut labelled = pod("p", "c", Resource::ReplicaSets);
    labelled.controller.as_mut().unwrap().above = Some(owner("Rollout", "shop"));
    check(labelled, "p: ReplicaSet/c-name Rollout/shop = shop");
    // A controller that nobody could find by its uid.
    check(
        pod("p", "", Resource::ReplicaSets),
        "p: ReplicaSet/-name = -name",
    );
    assert!(!owners.waiting());
}

#[test]
fn a_pod_waits_for_its_controller() {
    let mut owners = owners();
    assert_eq!(
        owners.pod(pod("p", "c", Resource::ReplicaSets), second(1)),
        None
    );
    assert_eq!(owners.deadline(), Some(second(3)));
    // Told again, it does not wait for longer.
    assert_eq!(
        owners.pod(pod("p", "c", Resource::ReplicaSets), second(2)),
        None
    );
    assert_eq!(owners.deadline(), Some(second(3)));
    assert!(
        owners
            .controller(Resource::ReplicaSets, set("other"), second(2))
            .is_empty()
    );
    let told = owners.controller(Resource::ReplicaSets, set("c"), second(2));
    assert_eq!(all(&told), ["p: ReplicaSet/c-name Deployment/shop = shop"]);
    assert!(!owners.waiting());
    assert!(owners.expire(second(9)).is_empty());
    // From now on it is known.
    let told = owners.pod(pod("q", "c", Resource::ReplicaSets), second(9));
    assert_eq!(
        all(&told.into_iter().collect::<Vec<_>>()),
        ["q: ReplicaSet/c-name Deployment/shop = shop"]
    );
    assert_eq!(owners.tables()[1].entries, 0);
}

#[test]
fn a_pod_that_waited_in_vain_goes_out_and_is_corrected() {
    let mut owners = owners();
    assert_eq!(owners.pod(pod("p", "c", Resource::Jobs), second(1)), None);
    assert!(owners.expire(second(2)).is_empty());
    assert_eq!(all(&owners.expire(second(3))), ["p: Job/c-name = c-name"]);
    assert_eq!(owners.losses()[0].count, 1);
    assert!(!owners.waiting());
    // It does not wait again.
    assert!(
        owners
            .pod(pod("p", "c", Resource::Jobs), second(4))
            .is_some()
    );
    let job = ControllerObject {
        uid: "c".into(),
        controller: Some((owner("CronJob", "nightly"), "x".into())),
    };
    let told = owners.controller(Resource::Jobs, job, second(60));
    assert_eq!(all(&told), ["p: Job/c-name CronJob/nightly = nightly"]);
    assert_eq!(owners.tables()[1].entries, 0);
}

#[test]
fn a_pod_that_is_gone_does_not_come_back() {
    let mut owners = owners();
    owners.pod(pod("p", "c", Resource::Jobs), second(1));
    owners.pod(pod("q", "c", Resource::Jobs), second(1));
    owners.remove_pod("p");
    assert_eq!(
        all(&owners.controller(Resource::Jobs, set("c"), second(1))).len(),
        1
    );
    owners.pod(pod("p", "e", Resource::Jobs), second(1));
    owners.begin_pods();
    assert!(owners.expire(second(9)).is_empty());
    assert!(
        owners
            .controller(Resource::Jobs, set("e"), second(9))
            .is_empty()
    );
    assert_eq!((owners.tables()[1].entries, owners.waiting()), (0, false));
}

#[test]
fn controllers_outlive_their_end_for_a_while() {
    let mut owners = owners();
    owners.begin(Resource::ReplicaSets);
    owners.controller(Resource::ReplicaSets, set("c"), second(1));
    owners.controller(Resource::ReplicaSets, set("d"), second(1));
    owners.complete(Resource::ReplicaSets, second(1));
    owners.controller(Resource::Jobs, set("j"), second(1));
    // A list without `c`, and the end of `d`; the Job is another resource's.
    owners.begin(Resource::ReplicaSets);
    owners.controller(Resource::ReplicaSets, set("d"), second(2));
    owners.complete(Resource::ReplicaSets, second(2));
    owners.remove_controller("d", second(2));
    assert_eq!(owners.tables()[0].entries, 3);
    // One is needed meanwhile, by a pod that ends.
    assert!(
        owners
            .pod(pod("p", "c", Resource::ReplicaSets), second(300))
            .is_some()
    );
    owners.expire(second(602));
    assert_eq!(owners.tables()[0].entries, 2);
    owners.expire(second(901));
    assert_eq!(owners.tables()[0].entries, 1);
    assert!(
        owners
            .pod(pod("p", "j", Resource::Jobs), second(902))
            .is_some()
    );
}

#[test]
fn who_does_not_watch_controllers_asks_for_each_once() {
    let mut owners = owners();
    owners.pod(pod("p", "c", Resource::Jobs), second(1));
    owners.pod(pod("q", "c", Resource::Jobs), second(1));
    owners.pod(pod("r", "e", Resource::ReplicaSets), second(1));
    let asked: Vec<Wanted> = std::iter::from_fn(|| owners.wanted()).collect();
    let names: Vec<&str> = asked.iter().map(|wanted| &*wanted.name).collect();
    assert_eq!(names, ["c-name", "e-name"]);
    assert_eq!(owners.answer(Resource::Jobs, set("c"), second(1)).len(), 2);
    assert_eq!(
        all(&owners.no_answer("e")),
        ["r: ReplicaSet/e-name = e-name"]
    );
    assert!(owners.no_answer("e").is_empty());
    // An answer is forgotten when nobody needed it for long.
    owners.expire(second(602));
    assert_eq!(owners.tables()[0].entries, 0);
}

#[test]
fn what_does_not_fit_is_counted() {
    let mut owners = owners();
    for uid in ["a", "b", "c", "d"] {
        assert_eq!(owners.pod(pod(uid, "set", Resource::Jobs), second(1)), None);
    }
    // One pod too many does not wait.
    assert!(
        owners
            .pod(pod("e", "set", Resource::Jobs), second(1))
            .is_some()
    );
    assert_eq!(owners.losses()[1].count, 1);
    for number in 0..4 {
        owners.controller(Resource::Jobs, set(&number.to_string()), second(1));
    }
    // One controller too many is not kept, but used.
    let told = owners.controller(Resource::Jobs, set("set"), second(1));
    assert_eq!(told.len(), 4);
    assert!(told.iter().all(|pod| pod.owners.len() == 2));
    assert_eq!(
        (owners.losses()[1].count, owners.tables()[0].entries),
        (2, 4)
    );
}

#[test]
fn chains_that_turn_round_end() {
    let mut owners = owners();
    let ring = |uid: &str, above: &str| ControllerObject {
        uid: uid.into(),
        controller: Some((owner("Job", above), above.into())),
    };
    owners.controller(Resource::Jobs, ring("a", "b"), second(1));
    owners.controller(Resource::Jobs, ring("b", "a"), second(1));
    let told = owners
        .pod(pod("p", "a", Resource::Jobs), second(1))
        .unwrap();
    assert_eq!(shown(&told), "p: Job/a-name Job/b Job/a = a");
}

proptest! {
    /// Whatever comes in whatever order: nobody waits for longer than patience, tables keep their
    /// limits, and who is told has its own controller first.
    #[test]
    fn nobody_waits_for_ever(steps in prop::collection::vec((0_u8..7, 0_u8..6, 0_u8..6), 0..200)) {
        let mut owners = owners();
        let mut waits: HashMap<String, Monotonic> = HashMap::new();
        for (number, (what, one, other)) in steps.into_iter().enumerate() {
            let now = Monotonic(number as u64 * 300_000_000);
            let (uid, controller) = (format!("p{one}"), format!("c{other}"));
            let mut told = Vec::new();
            match what {
                0 | 1 => match owners.pod(pod(&uid, &controller, Resource::Jobs), now) {
                    Some(pod) => told.push(pod),
                    None => { waits.entry(uid).or_insert(now); }
                },
                2 => { owners.remove_pod(&uid); waits.remove(&uid); }
                3 => told = owners.controller(Resource::Jobs, set(&controller), now),
                4 => owners.remove_controller(&controller, now),
                5 => told = owners.no_answer(&controller),
                _ => told = owners.expire(now),
            }
            if owners.deadline().is_some_and(|deadline| deadline <= now) {
                told.extend(owners.expire(now));
            }
            for pod in told {
                prop_assert!(pod.owners.first().is_some_and(|owner| &*owner.kind == "Job"));
                waits.remove(&*pod.uid);
            }
            for table in owners.tables() {
                prop_assert!(table.entries <= table.limit);
            }
        }
        let left = owners.expire(Monotonic(u64::MAX));
        prop_assert!(waits.len() <= left.len(), "{:?}", waits);
        prop_assert!(!owners.waiting());
    }
}
