//! A pod of a mesh: its containers, what the API says of it, and the redirection in its network.

use std::time::Duration;

use anyhow::{Context, Result};
use serde_json::{Value, json};

use super::{Plane, Protocol, ambient, gateway, istio, linkerd};
use crate::{
    apiserver::objects,
    kubernetes::{self, Control, Known, NAMESPACE, Site},
    node::PodSpec,
    peers,
    place::Place,
    server::{PYTHON, Server},
};

/// What a pod is to be.
#[derive(Clone, Debug)]
pub struct Spec<'a> {
    /// Name of its Deployment, which its own begins with.
    pub name: &'a str,
    /// Which of several pods of one Deployment it is.
    pub replica: usize,
    /// Value of its label `app`: which Service it answers for.
    pub app: &'a str,
    /// Value of its label `version`.
    pub version: &'a str,
    /// The account that it runs under.
    pub account: &'a str,
    /// What the API says that carries its traffic.
    pub plane: Plane,
    /// Whether its traffic is redirected to its proxy as the API says.
    pub captured: bool,
    /// Ports that are not redirected on the way in.
    pub open_inbound: &'a [u16],
    /// Ports that are not redirected on the way out.
    pub open_outbound: &'a [u16],
    /// What its application speaks.
    pub serves: Protocol,
    /// It says that it wants no proxy.
    pub is_opted_out: bool,
    /// It is a gateway: a proxy without an application.
    pub is_gateway: bool,
    /// Further annotations.
    pub annotations: &'a [(&'a str, &'a str)],
}

/// A pod that runs, with what carries its traffic.
#[derive(Debug)]
pub struct Member<'a> {
    /// As it runs, and as the API has it.
    pub known: Known<'a>,
    /// Name of its Deployment.
    pub workload: String,
    /// The account that it runs under.
    pub account: String,
    /// What carries its traffic.
    pub plane: Plane,
    /// What its application speaks.
    pub serves: Protocol,
    /// It is a gateway.
    pub is_gateway: bool,
    /// The node that it is on.
    pub(super) number: usize,
}

// === impl Spec ===

impl<'a> Spec<'a> {
    /// A pod of Deployment `name`, which also names its account and its Service.
    pub fn new(name: &'a str, plane: Plane) -> Self {
        Self {
            name,
            replica: 0,
            app: name,
            version: "v1",
            account: name,
            plane,
            captured: true,
            open_inbound: &[],
            open_outbound: &[],
            serves: Protocol::Http1,
            is_opted_out: false,
            is_gateway: false,
            annotations: &[],
        }
    }

    /// One of several versions of what answers for the Service `app`.
    #[must_use]
    pub fn version(mut self, app: &'a str, version: &'a str) -> Self {
        (self.app, self.version, self.account) = (app, version, app);
        self
    }

    /// Another pod of its Deployment.
    #[must_use]
    pub fn replica(mut self, number: usize) -> Self {
        self.replica = number;
        self
    }

    /// It without a proxy by its own wish.
    #[must_use]
    pub fn opted_out(mut self) -> Self {
        self.is_opted_out = true;
        self
    }

    /// A gateway of this name.
    pub fn gateway(name: &'a str) -> Self {
        Self {
            is_gateway: true,
            ..Self::new(name, Plane::None)
        }
    }

    /// It with another protocol.
    #[must_use]
    pub fn serves(mut self, protocol: Protocol) -> Self {
        self.serves = protocol;
        self
    }

    /// What the API says beside the containers.
    fn describe(&self, object: &mut Value) {
        let metadata = &mut object["metadata"];
        metadata["labels"]["app"] = json!(self.app);
        metadata["labels"]["version"] = json!(self.version);
        if self.is_opted_out {
            metadata["labels"]["sidecar.istio.io/inject"] = json!("false");
        }
        if self.is_gateway {
            metadata["labels"]["istio"] = json!(gateway::LABEL);
            metadata["labels"]["service.istio.io/canonical-name"] = json!(self.app);
            metadata["labels"]["service.istio.io/canonical-revision"] = json!("latest");
            metadata["labels"]["sidecar.istio.io/inject"] = json!("false");
        }
        let mut annotations = match self.plane {
            Plane::None => json!({}),
            Plane::Istio => {
                metadata["labels"]["security.istio.io/tlsMode"] = json!("istio");
                metadata["labels"]["service.istio.io/canonical-name"] = json!(self.app);
                metadata["labels"]["service.istio.io/canonical-revision"] = json!(self.version);
                let status = json!({
                    "initContainers": ["istio-init"], "containers": [istio::CONTAINER],
                    "revision": "default",
                });
                json!({"sidecar.istio.io/status": status.to_string()})
            }
            Plane::Linkerd => {
                metadata["labels"]["linkerd.io/control-plane-ns"] = json!("linkerd");
                json!({"linkerd.io/proxy-version": "stable-2.18.0"})
            }
            Plane::Ambient => json!({"ambient.istio.io/redirection": "enabled"}),
        };
        for (key, value) in self.annotations {
            annotations[*key] = json!(value);
        }
        if annotations.as_object().is_some_and(|map| !map.is_empty()) {
            metadata["annotations"] = annotations;
        }
        object["spec"]["serviceAccountName"] = json!(self.account);
    }
}

// === impl Member ===

impl<'a> Member<'a> {
    pub(super) fn start(site: &Site<'a>, number: usize, spec: &Spec<'_>) -> Result<Self> {
        let account = json!({
            "apiVersion": "v1", "kind": "ServiceAccount",
            "metadata": {"namespace": NAMESPACE, "name": spec.account},
        });
        if site.api.read(&account).is_err() {
            site.api.create(&account)?;
        }
        let containers: &[&str] = match spec.plane {
            _ if spec.is_gateway => &[istio::CONTAINER],
            Plane::None | Plane::Ambient => &["app"],
            Plane::Istio => &["app", istio::CONTAINER],
            Plane::Linkerd => &["app", linkerd::CONTAINER],
        };
        let mut name = format!("{}-5d8f-{number}", spec.name);
        if spec.replica > 0 {
            name.push_str(&format!("-{}", spec.replica));
        }
        let pod = PodSpec {
            containers,
            ..PodSpec::new(NAMESPACE, &name)
        };
        let set = format!("{}-5d8f", spec.name);
        let control = Control::Set(&set, ("apps/v1", "Deployment", spec.name));
        // The owner of the owner is an object too.
        let mut deployment = objects::deployment(spec.name, 1);
        deployment["metadata"]["namespace"] = json!(NAMESPACE);
        if site.api.read(&deployment).is_err() {
            site.api.create(&deployment)?;
        }
        let known = site.run(number, pod, control, |object| spec.describe(object))?;
        let member = Self {
            known,
            workload: spec.name.to_owned(),
            account: spec.account.to_owned(),
            plane: spec.plane,
            serves: spec.serves,
            is_gateway: spec.is_gateway,
            number,
        };
        let rules = match spec.plane {
            _ if !spec.captured => None,
            Plane::None => None,
            Plane::Istio => Some(istio::rules(spec)),
            Plane::Linkerd => Some(linkerd::rules(spec)),
            Plane::Ambient => Some(ambient::rules(spec)),
        };
        if let Some(rules) = rules {
            let place = member.app()?;
            let namespace = place.namespace().context("no network of its own")?;
            namespace.rules(&rules)?;
            if spec.plane == Plane::Ambient {
                ambient::route(namespace)?;
            }
        }
        Ok(member)
    }

    /// A place in its application's container.
    pub fn app(&self) -> Result<Place<'_>> {
        self.known.pod.container("app")
    }

    /// A place in its proxy's container.
    pub fn proxy(&self) -> Result<Place<'_>> {
        self.known.pod.container(match self.plane {
            Plane::Linkerd => linkerd::CONTAINER,
            _ => istio::CONTAINER,
        })
    }

    /// A web server as its application, which answers with the pod's name.
    pub fn serve(&self) -> Result<Server> {
        kubernetes::serve(&self.known.pod)
    }

    /// A server of gRPC as its application: see the Go peer.
    pub fn serve_rpc(&self) -> Result<Server> {
        let address = std::net::SocketAddr::from(([0, 0, 0, 0], kubernetes::PORT));
        let place = self.app()?;
        let mut command = peers::go(&place, &["grpc-serve", "-listen"])?;
        Server::at(&place, address, &mut command, |command, _| {
            command.arg(address.to_string());
            Ok(())
        })
    }

    /// A server of a protocol that nobody knows as its application: see `peers/echo.py`.
    pub fn serve_bytes(&self) -> Result<Server> {
        let address = std::net::SocketAddr::from(([0, 0, 0, 0], kubernetes::PORT));
        let place = self.app()?;
        let mut command = place.command(PYTHON)?;
        Server::at(&place, address, &mut command, |command, _| {
            command.arg("-B").arg(peers::script("echo.py"));
            command.args(["serve", "0.0.0.0", &kubernetes::PORT.to_string()]);
            Ok(())
        })
    }

    /// A server of HTTP/1.1 as its application that answers after this time: see `peers/slow.py`.
    pub fn serve_slowly(&self, time: Duration) -> Result<Server> {
        let address = std::net::SocketAddr::from(([0, 0, 0, 0], kubernetes::PORT));
        let place = self.app()?;
        let mut command = place.command(PYTHON)?;
        Server::at(&place, address, &mut command, |command, _| {
            command.arg("-B").arg(peers::script("slow.py"));
            command.args(["0.0.0.0", &kubernetes::PORT.to_string()]);
            command.arg(time.as_secs_f64().to_string());
            Ok(())
        })
    }

    /// As [`Self::serve`], with further parts of nginx.conf, or parameters of its `listen`.
    pub fn serve_with(&self, parameters: &str, directives: &str) -> Result<Server> {
        let any = std::net::SocketAddr::from(([0, 0, 0, 0], kubernetes::PORT));
        let answer = format!(
            "{directives} location / {{ return 200 \"{}\\n\"; }}",
            self.known.pod.name()
        );
        Server::nginx_at(&self.app()?, any, parameters, &answer)
    }
}
