//! The cluster that this host is a node of: whom to ask, what to keep, what to leave out.

use std::{net::IpAddr, path::PathBuf, time::Duration};

use super::Glob;

/// The cluster that this host is a node of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kubernetes {
    /// Whether the cluster is asked.
    pub enabled: Switch,
    /// Name of the node that the agent runs on; empty when not set.
    pub node: String,
    /// `k8s.cluster.name`; empty when not set.
    pub cluster: String,
    /// File that tells where the API server is and who asks; `None`: the pod's service account.
    pub kubeconfig: Option<PathBuf>,
    /// Context of `kubeconfig`; empty for its current one.
    pub context: String,
    /// Where the hub is, `http://` or `https://`; empty when there is none.
    pub hub: String,
    /// Certificates (PEM) that the hub's must be signed by; `None` where the hub is `http://`.
    pub hub_ca: Option<PathBuf>,
    /// File with the token that the hub asks for; `None` sends none.
    pub hub_token: Option<PathBuf>,
    /// Labels of pods that are kept and told.
    pub labels: Vec<Glob>,
    /// Annotations of pods that are kept and told.
    pub annotations: Vec<Glob>,
    /// How long a call is held back for a pod that is not known yet; 0 holds none.
    pub hold: Duration,
}

/// On, off, or on where it makes sense.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Switch {
    /// On in a pod, and where something of the cluster is set.
    #[default]
    Auto,
    /// Always.
    On,
    /// Never.
    Off,
}

/// Pods by what they are.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pods {
    /// Namespaces.
    pub namespaces: Vec<Glob>,
    /// Workloads, as `Kind/name` or `namespace/Kind/name`.
    pub workloads: Vec<Glob>,
    /// Labels of pods; one that matches is enough.
    pub labels: Vec<LabelPattern>,
}

/// A label, with a value or with any.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LabelPattern {
    /// Name of the label.
    pub name: String,
    /// Its value.
    pub value: Glob,
}

/// A network outside of the cluster that gets a name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NamedNetwork {
    /// Its name.
    pub name: String,
    /// Its addresses: first address and length of the prefix.
    pub ranges: Vec<(IpAddr, u8)>,
}

// === impl Kubernetes ===

impl Default for Kubernetes {
    fn default() -> Self {
        Self {
            enabled: Switch::Auto,
            node: String::new(),
            cluster: String::new(),
            kubeconfig: None,
            context: String::new(),
            hub: String::new(),
            hub_ca: None,
            hub_token: None,
            labels: Vec::new(),
            annotations: Vec::new(),
            hold: Duration::from_secs(3),
        }
    }
}

impl Kubernetes {
    /// Whether the cluster is asked, by a process that is in a pod or not.
    pub fn is_on(&self, in_pod: bool) -> bool {
        match self.enabled {
            Switch::On => true,
            Switch::Off => false,
            Switch::Auto => in_pod || self.kubeconfig.is_some() || !self.hub.is_empty(),
        }
    }
}

// === impl Switch ===

impl Switch {
    /// All values.
    pub const ALL: [Self; 3] = [Self::Auto, Self::On, Self::Off];

    /// Name in the file and in the environment.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::On => "on",
            Self::Off => "off",
        }
    }
}

// === impl Pods ===

impl Pods {
    /// Whether nothing is chosen.
    pub fn is_empty(&self) -> bool {
        self.namespaces.is_empty() && self.workloads.is_empty() && self.labels.is_empty()
    }

    /// Whether one pattern of any kind matches.
    pub fn matches<'a>(
        &self,
        namespace: &str,
        (kind, name): (&str, &str),
        mut labels: impl Iterator<Item = (&'a str, &'a str)> + Clone,
    ) -> bool {
        let workload = || {
            let short = format!("{kind}/{name}");
            let full = format!("{namespace}/{short}");
            let fits = |glob: &Glob| glob.matches(&short) || glob.matches(&full);
            self.workloads.iter().any(fits)
        };
        self.namespaces.iter().any(|glob| glob.matches(namespace))
            || !self.workloads.is_empty() && workload()
            || !self.labels.is_empty()
                && labels.any(|(name, value)| {
                    let fits =
                        |label: &LabelPattern| label.name == name && label.value.matches(value);
                    self.labels.iter().any(fits)
                })
    }
}

// === parsing ===

/// Reads a label pattern: `name` or `name=value`.
pub(super) fn label(text: &str) -> Result<LabelPattern, String> {
    let (name, value) = text.split_once('=').unwrap_or((text, "*"));
    let name = name.trim();
    if name.is_empty() || name.contains(['*', '?']) || name.contains(char::is_whitespace) {
        return Err(format!(
            "{text:?} is not a label: write `name` or `name=value`, a pattern in the value only"
        ));
    }
    Ok(LabelPattern {
        name: name.to_owned(),
        value: Glob::new(value.trim()),
    })
}

/// Reads a network: `10.0.0.0/8`, `2001:db8::/32`, or one address.
pub(super) fn range(text: &str) -> Result<(IpAddr, u8), String> {
    let text = text.trim();
    let wrong = || format!("{text:?} is not a network: write `10.0.0.0/8` or `2001:db8::/32`");
    let (address, length) = match text.split_once('/') {
        Some((address, length)) => (address, Some(length)),
        None => (text, None),
    };
    let address: IpAddr = address.parse().map_err(|_| wrong())?;
    let most = if address.is_ipv4() { 32 } else { 128 };
    let length = match length {
        Some(length) => length
            .parse()
            .ok()
            .filter(|length| *length <= most)
            .ok_or_else(wrong)?,
        None => most,
    };
    Ok((address, length))
}

/// Reads where a hub is.
pub(super) fn hub(text: &str) -> Result<String, String> {
    let text = text.trim().trim_end_matches('/');
    let rest = text
        .strip_prefix("http://")
        .or_else(|| text.strip_prefix("https://"));
    match rest {
        Some(authority) if !authority.is_empty() && !authority.contains(['/', '?', '#', '@']) => {
            Ok(text.to_owned())
        }
        _ => Err(format!(
            "{text:?} is not the address of a hub: write `http://observer-hub.observer:9921`, \
             without a path"
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_networks_and_hubs_are_checked() {
        let plain = label("app").unwrap();
        assert_eq!((plain.name.as_str(), plain.value.as_str()), ("app", "*"));
        let valued = label("tier = web*").unwrap();
        assert_eq!(
            (valued.name.as_str(), valued.value.as_str()),
            ("tier", "web*")
        );
        assert!(label("").is_err() && label("*=1").is_err() && label("a b").is_err());
        assert_eq!(
            range("10.0.0.0/8").unwrap(),
            ("10.0.0.0".parse().unwrap(), 8)
        );
        assert_eq!(range("::1").unwrap().1, 128);
        for wrong in [
            "",
            "10.0.0.0/33",
            "10.0.0/8",
            "fd00::/129",
            "x/8",
            "10.0.0.0/",
        ] {
            assert!(range(wrong).is_err(), "{wrong}");
        }
        assert_eq!(hub("http://hub:1/").unwrap(), "http://hub:1");
        for wrong in [
            "",
            "hub:1",
            "ftp://hub",
            "http://",
            "http://a@b",
            "http://a/b",
        ] {
            assert!(hub(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn pods_are_chosen_by_any_pattern() {
        let labels = [("app", "web"), ("tier", "front")];
        let check = |pods: &Pods| pods.matches("shop", ("Deployment", "cart"), labels.into_iter());
        assert!(!check(&Pods::default()));
        let globs = |text: &str| vec![Glob::new(text)];
        for (workload, expected) in [
            ("Deployment/cart", true),
            ("shop/Deployment/cart", true),
            ("shop/*", true),
            ("*/cart", true),
            ("cart", false),
            ("other/Deployment/cart", false),
        ] {
            let pods = Pods {
                workloads: globs(workload),
                ..Pods::default()
            };
            assert_eq!(check(&pods), expected, "{workload}");
        }
        let pods = Pods {
            namespaces: globs("sh*"),
            ..Pods::default()
        };
        assert!(check(&pods));
        for (text, expected) in [
            ("app=w*", true),
            ("tier", true),
            ("app=x", false),
            ("x", false),
        ] {
            let pods = Pods {
                labels: vec![label(text).unwrap()],
                ..Pods::default()
            };
            assert_eq!(check(&pods), expected, "{text}");
        }
    }

    #[test]
    fn it_is_on_where_it_makes_sense() {
        let kubernetes = |enabled, hub: &str| Kubernetes {
            enabled,
            hub: hub.to_owned(),
            ..Kubernetes::default()
        };
        assert!(!kubernetes(Switch::Auto, "").is_on(false));
        assert!(kubernetes(Switch::Auto, "").is_on(true));
        assert!(kubernetes(Switch::Auto, "http://hub").is_on(false));
        assert!(kubernetes(Switch::On, "").is_on(false));
        assert!(!kubernetes(Switch::Off, "http://hub").is_on(true));
    }
}
