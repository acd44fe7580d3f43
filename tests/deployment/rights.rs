//! What either role may ask of the API server: what it asks for, and nothing else.

use std::collections::BTreeSet;

use anyhow::{Context, Result, ensure};
use observer::cluster::{
    stream::authentication,
    watch::{self, Scope},
};
use observer_tests::requirement::{Need, lacking};

use super::objects::{Object, at, each, the, with};

/// A verb on a resource of a group.
type Right = (String, String, String);

/// The rights of the cluster role whose name ends so.
fn rights(objects: &[Object], name_end: &str) -> Result<BTreeSet<Right>> {
    let role = the(objects, "ClusterRole", name_end)?;
    let text = |value: &serde_json::Value| value.as_str().map(str::to_owned);
    let mut rights = BTreeSet::new();
    for rule in each(&role.0, "/rules") {
        let known = rule.as_object().context("a rule")?;
        ensure!(
            known
                .keys()
                .all(|key| ["apiGroups", "resources", "verbs"].contains(&key.as_str())),
            "{rule}"
        );
        for group in each(rule, "/apiGroups").filter_map(text) {
            for resource in each(rule, "/resources").filter_map(text) {
                for verb in each(rule, "/verbs").filter_map(text) {
                    rights.insert((group.clone(), resource.clone(), verb));
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
            } = right;
            (group.to_owned(), resource.to_owned(), verb.to_owned())
        })
        .collect()
}

#[test]
fn each_role_may_do_what_it_does_and_nothing_else() -> Result<()> {
    if lacking(&[Need::Helm])? {
        return Ok(());
    }
    let agent = asked(Scope::Node("any".to_owned()).rights());
    let alone = asked(Scope::Cluster.rights());
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
