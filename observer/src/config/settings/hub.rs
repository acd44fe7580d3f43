//! The settings of the hub.

use super::{
    super::{Account, Config},
    Setting, count, kubernetes, truth,
};

pub(in crate::config) const HUB_LISTEN: Setting = Setting {
    key: "hub.listen",
    set: listen,
};
pub(in crate::config) const HUB_TLS_CERTIFICATE: Setting = Setting {
    key: "hub.tls.certificate",
    set: certificate,
};
pub(in crate::config) const HUB_TLS_KEY: Setting = Setting {
    key: "hub.tls.key",
    set: key,
};
pub(in crate::config) const HUB_AUTHENTICATE: Setting = Setting {
    key: "hub.authenticate",
    set: authenticate,
};
pub(in crate::config) const HUB_AGENT_ACCOUNT: Setting = Setting {
    key: "hub.agent_account",
    set: agent_account,
};
pub(in crate::config) const HUB_MAX_AGENTS: Setting = Setting {
    key: "hub.max_agents",
    set: max_agents,
};

fn listen(config: &mut Config, text: &str) -> Result<(), String> {
    config.hub.listen = text.parse().map_err(|_| {
        format!("{text:?} is not an address and port: write `0.0.0.0:9921` or `[::]:9921`")
    })?;
    Ok(())
}

fn certificate(config: &mut Config, text: &str) -> Result<(), String> {
    config.hub.tls.certificate = Some(kubernetes::file(text)?);
    Ok(())
}

fn key(config: &mut Config, text: &str) -> Result<(), String> {
    config.hub.tls.key = Some(kubernetes::file(text)?);
    Ok(())
}

fn authenticate(config: &mut Config, text: &str) -> Result<(), String> {
    config.hub.authenticate = truth(text)?;
    Ok(())
}

fn agent_account(config: &mut Config, text: &str) -> Result<(), String> {
    let is_name = |name: &str| {
        let known =
            |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"-.".contains(&byte);
        !name.is_empty() && name.len() <= 253 && name.bytes().all(known)
    };
    let parts = text.trim().split_once('/');
    let account = parts
        .filter(|(namespace, name)| is_name(namespace) && is_name(name))
        .map(|(namespace, name)| Account {
            namespace: namespace.to_owned(),
            name: name.to_owned(),
        });
    config.hub.agent_account = Some(account.ok_or_else(|| {
        format!("{text:?} is no service account: write `NAMESPACE/NAME`, as in `observer/observer-agent`")
    })?);
    Ok(())
}

fn max_agents(config: &mut Config, text: &str) -> Result<(), String> {
    config.hub.max_agents = count(text, 1, 100_000)?;
    Ok(())
}
