//! What happens in the cluster: pods restart containers, and pods are replaced by others.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    thread::sleep,
    time::{Duration, Instant},
};

use anyhow::{Context, Result};
use observer_tests::apiserver::{
    double::Double,
    objects::{Objects, slice_of},
};
use serde_json::{Value, json};

/// A cluster, and what has happened in it.
pub(super) struct Churn {
    /// Pods as they were made, and as the server has them.
    pods: Vec<(Value, Arc<Value>)>,
    services: usize,
    next: usize,
}

/// Changes of the API a second: the status of a pod, a pod gone, its successor, and the
/// EndpointSlice that names it.
pub(super) const CHANGES: u64 = (STATUS + 3 * REPLACED) * PARTS;
const STATUS: u64 = 2;
const REPLACED: u64 = 1;
/// What happens in a second does so in so many parts.
const PARTS: u64 = 10;
/// A step through all pods that meets each.
const STRIDE: usize = 7_919;

// === impl Churn ===

impl Churn {
    /// Fills a server; slices name the pods as the server has them.
    pub(super) fn fill(server: &Double, objects: &Objects) -> Result<Self> {
        let Objects {
            nodes,
            workloads,
            services,
            pods,
            ..
        } = objects;
        for all in [nodes, workloads, services, pods] {
            server.insert(all)?;
        }
        let pods = pods.iter().map(|pod| Ok((pod.clone(), read(server, pod)?)));
        let churn = Self {
            pods: pods.collect::<Result<_>>()?,
            services: services.len(),
            next: 0,
        };
        let slices: Vec<Value> = (0..churn.services).map(|at| churn.slice(at)).collect();
        server.insert(&slices)?;
        Ok(churn)
    }

    /// Lets things happen until it is told to stop; `made` counts changes.
    pub(super) fn run(
        &mut self,
        server: &Double,
        stop: &AtomicBool,
        made: &AtomicU64,
    ) -> Result<()> {
        let part = Duration::from_secs(1) / PARTS as u32;
        let mut due = Instant::now();
        while !stop.load(Relaxed) {
            for _ in 0..STATUS {
                self.restart(server)?;
                made.fetch_add(1, Relaxed);
            }
            for _ in 0..REPLACED {
                self.replace(server)?;
                made.fetch_add(3, Relaxed);
            }
            due += part;
            sleep(due.saturating_duration_since(Instant::now()));
        }
        Ok(())
    }

    fn step(&mut self) -> usize {
        self.next += 1;
        self.next * STRIDE % self.pods.len()
    }

    /// A container of a pod ends and runs again, with another id.
    fn restart(&mut self, server: &Double) -> Result<()> {
        let at = self.step();
        let id = format!("containerd://{:064x}", self.next);
        let (_, pod) = self.pods.get_mut(at).context("no such pod")?;
        let mut new = (**pod).clone();
        let status = &mut new["status"]["containerStatuses"][0];
        status["containerID"] = json!(id);
        status["restartCount"] = json!(self.next);
        server.write(&new)?;
        *pod = read(server, &new)?;
        Ok(())
    }

    /// A pod goes, another comes in its place, and the slice of its Service names that.
    fn replace(&mut self, server: &Double) -> Result<()> {
        let at = self.step();
        let next = self.next;
        let (made, pod) = self.pods.get_mut(at).context("no such pod")?;
        server.take(pod)?;
        made["metadata"]["name"] =
            json!(format!("service-{}-6d4cf56db6-r{next}", at % self.services));
        server.insert([&*made])?;
        *pod = read(server, made)?;
        server.write(&self.slice(at % self.services))
    }

    /// The slice of a Service: of every so many pods one.
    fn slice(&self, service: usize) -> Value {
        let pods = self.pods.iter().skip(service).step_by(self.services);
        let pods: Vec<&Value> = pods.map(|(_, pod)| &**pod).collect();
        slice_of(&format!("service-{service}"), 0, &pods)
    }
}

fn read(server: &Double, pod: &Value) -> Result<Arc<Value>> {
    let name = pod["metadata"]["name"].as_str().unwrap_or_default();
    let found = server.object("pods", "default", name);
    found.with_context(|| format!("the server has no pod {name}"))
}
