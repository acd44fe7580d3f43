//! What either role may ask of the API server: what it asks for, and nothing else.

use std::collections::BTreeSet;

use anyhow::{Context, Result, ensure};
use observer::cluster::{
    stream::authentication,
    watch::{self, Declarations, Scope},
};
use observer::model::policy::{PolicyKind, PolicyPart};
use observer_tests::requirement::{Need, lacking};

use super::objects::{Object, at, each, the, with};

/// A verb on a resource of a group, and the names that it is for; empty: any.
type Right = (String, String, String, String);

/// What a rule may have.
const KEYS: [&str; 4] = ["apiGroups", "resources", "resourceNames", "verbs"];

/// The rights of the cluster role whose name ends so.
fn rights(objects: &[Object], name_end: &str) -> Result<BTreeSet<Right>> {
    rights_of(the(objects, "ClusterRole", name_end)?)
}

fn rights_of(role: &Object) -> Result<BTreeSet<Right>> {
    let text = |value: &serde_json::Value| value.as_str().map(str::to_owned);
    let mut rights = BTreeSet::new();
    for rule in each(&role.0, "/rules") {
        let known = rule.as_object().context("a rule")?;
        ensure!(
            known.keys().all(|key| KEYS.contains(&key.as_str())),
            "{rule}"
        );
        for group in each(rule, "/apiGroups").filter_map(text) {
            for resource in each(rule, "/resources").filter_map(text) {
                for verb in each(rule, "/verbs").filter_map(text) {
                    let names: Vec<String> =
                        each(rule, "/resourceNames").filter_map(text).collect();
                    rights.insert((group.clone(), resource.clone(), verb, names.join(",")));
                }
            }
        }
    }
    Ok(rights)
}

/// What the code says that it asks for.
fn asked(rights: impl IntoIterator<Item = watch::Right>) -> BTreeSet<Right> {
    rights
        .into_iter()
        .map(|right| {
            let watch::Right {
                group,
                resource,
                verb,
                namespace: _,
                name,
            } = right;
            let [group, resource, verb, name] = [group, resource, verb, name].map(str::to_owned);
            (group, resource, verb, name)
        })
        .collect()
}

#[test]
fn each_role_may_do_what_it_does_and_nothing_else() -> Result<()> {
    if lacking(&[Need::Helm])? {
        return Ok(());
    }
    let everything = declarations(|_| true);
    let agent = asked(Scope::Node("any".to_owned()).rights(&everything));
    let alone = asked(Scope::Cluster.rights(&everything));
    let unasked = alone.clone();
    let mut hub = unasked.clone();
    hub.extend(asked([authentication::RIGHT]));

    let objects = with(&[])?;
    ensure!(rights(&objects, "-agent")? == agent, "agent with a hub");
    ensure!(rights(&objects, "-hub")? == hub, "hub");
    let objects = with(&["hub.authenticate=false"])?;
    ensure!(
        rights(&objects, "-hub")? == unasked,
        "hub that does not authenticate"
    );
    let objects = with(&["hub.enabled=false"])?;
    ensure!(rights(&objects, "-agent")? == alone, "agent without a hub");
    ensure!(
        !objects.iter().any(|object| object.name().ends_with("-hub")),
        "there is a hub"
    );
    Ok(())
}

/// What is read of what is declared, by part.
fn declarations(is_on: impl Fn(PolicyPart) -> bool) -> Declarations {
    let mut kinds = PolicyKind::ALL.to_vec();
    kinds.retain(|kind| is_on(kind.part()));
    Declarations {
        kinds,
        istio_namespace: "istio-system".to_owned(),
        istio_revisions: false,
    }
}

#[test]
fn parts_of_the_mesh_that_are_off_give_no_rights() -> Result<()> {
    if lacking(&[Need::Helm])? {
        return Ok(());
    }
    for (value, off) in [
        ("mesh.istio=false", PolicyPart::Istio),
        ("mesh.linkerd=false", PolicyPart::Linkerd),
        ("mesh.gatewayApi=false", PolicyPart::GatewayApi),
        ("mesh.networkPolicy=false", PolicyPart::NetworkPolicy),
    ] {
        let expected = asked(Scope::Cluster.rights(&declarations(|part| part != off)));
        let objects = with(&[value, "hub.authenticate=false"])?;
        ensure!(rights(&objects, "-hub")? == expected, "{value}");
        let objects = with(&[value, "hub.enabled=false"])?;
        ensure!(
            rights(&objects, "-agent")? == expected,
            "{value} without a hub"
        );
    }
    let nothing = asked(Scope::Cluster.rights(&Declarations::default()));
    let objects = with(&[
        "mesh.enabled=false",
        "mesh.events=true",
        "hub.authenticate=false",
    ])?;
    ensure!(rights(&objects, "-hub")? == nothing, "without a mesh");
    let node = asked(Scope::Node("any".to_owned()).rights(&Declarations::default()));
    ensure!(rights(&objects, "-agent")? == node, "agent without a mesh");

    // Who tells findings may create Events.
    let objects = with(&["mesh.events=true"])?;
    let mut agent = node;
    agent.extend(asked([watch::EVENTS]));
    ensure!(rights(&objects, "-agent")? == agent, "agent with events");

    // With revisions it is a role of their namespace that gives the right to all ConfigMaps there.
    for (set, role) in [
        (&["mesh.istioRevisions=true"][..], "-hub"),
        (&["mesh.istioRevisions=true", "hub.enabled=false"], "-agent"),
    ] {
        let objects = with(&[set, &["mesh.istioNamespace=mesh"]].concat())?;
        let local = the(&objects, "Role", role)?;
        ensure!(*at(&local.0, "/metadata/namespace") == "mesh");
        let found = rights_of(local)?;
        let expected =
            ["list", "watch"].map(|verb| ["", "configmaps", verb, ""].map(str::to_owned).into());
        ensure!(
            found == expected.into_iter().collect::<BTreeSet<Right>>(),
            "{found:?}"
        );
        ensure!(
            !rights(&objects, role)?
                .iter()
                .any(|right| right.1 == "configmaps")
        );
        let binding = &the(&objects, "RoleBinding", role)?.0;
        ensure!(*at(binding, "/metadata/namespace") == "mesh");
        ensure!(*at(binding, "/roleRef/name") == *local.name());
        let subjects: Vec<_> = each(binding, "/subjects").collect();
        let account = the(&objects, "ServiceAccount", role)?;
        ensure!(subjects.len() == 1 && *at(subjects[0], "/name") == *account.name());
    }
    Ok(())
}

#[test]
fn accounts_get_their_own_role_and_no_other() -> Result<()> {
    if lacking(&[Need::Helm])? {
        return Ok(());
    }
    for set in [
        &[][..],
        &["namespace.name=elsewhere"],
        &["fullnameOverride=lens"],
    ] {
        let objects = with(set)?;
        for role in ["-agent", "-hub"] {
            let binding = &the(&objects, "ClusterRoleBinding", role)?.0;
            let account = the(&objects, "ServiceAccount", role)?;
            let subjects: Vec<_> = each(binding, "/subjects").collect();
            ensure!(subjects.len() == 1, "{binding}");
            ensure!(*at(subjects[0], "/name") == *account.name());
            ensure!(at(subjects[0], "/namespace") == at(&account.0, "/metadata/namespace"));
            ensure!(
                *at(binding, "/roleRef/name") == *the(&objects, "ClusterRole", role)?.name(),
                "{binding}"
            );
        }
        // Roles of one namespace are not needed.
        ensure!(
            !objects
                .iter()
                .any(|object| ["Role", "RoleBinding"].contains(&object.kind()))
        );
    }
    Ok(())
}
