//! The hub: what `observer hub` listens on, and whom it answers.

use std::{
    net::{Ipv4Addr, SocketAddr},
    path::PathBuf,
};

/// What `observer hub` listens on, and whom it answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hub {
    /// Address and port; port 0 lets the kernel choose.
    pub listen: SocketAddr,
    /// Its certificate; without one it answers in the clear.
    pub tls: HubTls,
    /// Agents must show a token that the API server accepts.
    pub authenticate: bool,
    /// Service account that these tokens must belong to; `None`: any.
    pub agent_account: Option<Account>,
    /// Most agents at a time.
    pub max_agents: u32,
}

/// Files of the hub's certificate, PEM: both or none.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HubTls {
    /// The certificate, and those that lead to its authority.
    pub certificate: Option<PathBuf>,
    /// Its private key.
    pub key: Option<PathBuf>,
}

/// A service account.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Account {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
}

// === impl Hub ===

impl Default for Hub {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from((Ipv4Addr::UNSPECIFIED, 9921)),
            tls: HubTls::default(),
            authenticate: true,
            agent_account: None,
            max_agents: 5_000,
        }
    }
}
