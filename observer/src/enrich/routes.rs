//! Route templates with a budget for each service, and a cache in front of them.

use std::{hash::BuildHasher, sync::Arc, time::Duration};

use hashbrown::HashMap;

use crate::model::{exchange::RequestHead, rpc, time::Monotonic, workload::Workload};

use super::template::{RoutePattern, write_template};

/// Limits of the routes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Limits {
    /// Segments of a template, before `/*`.
    pub(super) depth: usize,
    /// Distinct templates of one service.
    pub(super) routes: usize,
    /// Services with a budget of their own.
    pub(super) services: usize,
    /// How long an unused template takes part of the budget.
    pub(super) idle: Duration,
}

/// What a route is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Path<'a> {
    path: &'a str,
    truncated: bool,
    /// It is a service and its method: a name as a whole, however long its words are.
    procedure: bool,
}

/// Names a service in [`Routes`].
pub(super) type ServiceIndex = u32;

/// Budget shared by all that have none of their own.
pub(super) const SHARED: ServiceIndex = 0;

/// From paths to routes.
#[derive(Debug)]
pub(super) struct Routes {
    patterns: Vec<(RoutePattern, Arc<str>)>,
    limits: Limits,
    services: Vec<Service>,
    free: Vec<ServiceIndex>,
    by_name: HashMap<(Box<str>, Box<str>), ServiceIndex, foldhash::fast::RandomState>,
    cache: Box<[Cached]>,
    hasher: foldhash::fast::RandomState,
    scratch: String,
    /// Number of the current period; what was cached in another is looked up again, so that use
    /// is noted at least once a period.
    epoch: u32,
    period: Option<Monotonic>,
    none: Arc<str>,
    overflow: Arc<str>,
    /// Calls that got the overflow route.
    pub(super) overflowed: u64,
    /// Services that had to share a budget.
    pub(super) shared: u64,
}

#[derive(Debug, Default)]
struct Service {
    name: (Box<str>, Box<str>),
    /// Connections that hold the index.
    users: usize,
    /// Templates, each with the last epoch that used it.
    routes: HashMap<Arc<str>, u32, foldhash::fast::RandomState>,
}

#[derive(Clone, Debug)]
struct Cached {
    service: ServiceIndex,
    epoch: u32,
    truncated: bool,
    procedure: bool,
    path: String,
    route: Arc<str>,
}

/// The route of what is beyond a service's budget.
pub(super) const OVERFLOW: &str = "/*";

/// Paths that are cached, a power of two. Each place holds the last path that fell on it.
const CACHE: usize = 4096;

/// Longest path that is cached, bytes.
const MAX_CACHED: usize = 256;

/// Longest path that is taken for a service and its method, bytes.
const MAX_PROCEDURE: usize = 256;

/// Length of an epoch.
const PERIOD: Duration = Duration::from_secs(60);

// === impl Path ===

impl<'a> Path<'a> {
    /// A path of which nothing else is known.
    pub(super) fn plain(path: &'a str) -> Self {
        Self {
            path,
            truncated: false,
            procedure: false,
        }
    }

    /// The path of a request. `rpc`: it is a remote procedure call.
    pub(super) fn of(head: &'a RequestHead, rpc: bool) -> Self {
        Self {
            path: &head.path,
            truncated: head.truncated,
            procedure: rpc && is_procedure(&head.path),
        }
    }
}

/// `/package.Service/Method`, in the characters that such names have.
fn is_procedure(path: &str) -> bool {
    let named = |name: &str| {
        name.bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-' | b'$'))
    };
    path.len() <= MAX_PROCEDURE
        && rpc::names(path).is_some_and(|(service, method)| named(service) && named(method))
}

// === impl Routes ===

impl Routes {
    pub(super) fn new(patterns: Vec<RoutePattern>, limits: Limits) -> Self {
        let none: Arc<str> = "".into();
        let vacant = Cached {
            service: SHARED,
            epoch: 0,
            truncated: false,
            procedure: false,
            path: String::new(),
            route: none.clone(),
        };
        Self {
            patterns: with_routes(patterns),
            limits,
            services: vec![Service::default()],
            free: Vec::new(),
            by_name: HashMap::default(),
            cache: vec![vacant; CACHE].into_boxed_slice(),
            hasher: foldhash::fast::RandomState::default(),
            scratch: String::new(),
            epoch: 1,
            period: None,
            none,
            overflow: OVERFLOW.into(),
            overflowed: 0,
            shared: 0,
        }
    }

    /// Replaces patterns and limits; all routes are found anew.
    pub(super) fn reconfigure(&mut self, patterns: Vec<RoutePattern>, limits: Limits) {
        self.patterns = with_routes(patterns);
        self.limits = limits;
        for service in &mut self.services {
            service.routes.clear();
        }
        self.epoch = self.epoch.wrapping_add(1);
    }

    /// Changes when a route that was given before must be asked for again.
    pub(super) fn epoch(&self) -> u32 {
        self.epoch
    }

    /// Services with a budget of their own.
    pub(super) fn services(&self) -> usize {
        self.by_name.len()
    }

    /// Templates of all services.
    pub(super) fn len(&self) -> usize {
        self.services
            .iter()
            .map(|service| service.routes.len())
            .sum()
    }

    /// The budget that a connection of this workload uses until [`Self::release`].
    pub(super) fn acquire(&mut self, workload: &Workload) -> ServiceIndex {
        let name = (workload.namespace.clone(), workload.service.clone());
        let index = match self.by_name.get(&name) {
            Some(index) => *index,
            None if self.by_name.len() >= self.limits.services => {
                self.shared += 1;
                SHARED
            }
            None => {
                let service = Service {
                    name: name.clone(),
                    ..Service::default()
                };
                let index = self.free.pop().unwrap_or_else(|| {
                    self.services.push(Service::default());
                    ServiceIndex::try_from(self.services.len() - 1).unwrap_or(SHARED)
                });
                if let Some(place) = self.services.get_mut(index as usize) {
                    *place = service;
                }
                self.by_name.insert(name, index);
                index
            }
        };
        if let Some(service) = self.services.get_mut(index as usize) {
            service.users += 1;
        }
        index
    }

    /// A connection has gone.
    pub(super) fn release(&mut self, index: ServiceIndex) {
        if let Some(service) = self.services.get_mut(index as usize) {
            service.users = service.users.saturating_sub(1);
        }
    }

    /// The route of a path. Configured patterns first, then the heuristic within the budget.
    pub(super) fn route(&mut self, index: ServiceIndex, asked: Path<'_>) -> Arc<str> {
        let Path {
            path,
            truncated,
            procedure,
        } = asked;
        let hash = self.hasher.hash_one((index, path));
        let place = usize::try_from(hash).unwrap_or_default() % CACHE;
        if let Some(cached) = self.cache.get(place)
            && cached.epoch == self.epoch
            && cached.service == index
            && cached.truncated == truncated
            && cached.procedure == procedure
            && cached.path == path
        {
            return cached.route.clone();
        }
        let Some(route) = self.find(index, asked) else {
            self.overflowed += 1;
            return self.overflow.clone();
        };
        if path.len() <= MAX_CACHED
            && let Some(cached) = self.cache.get_mut(place)
        {
            cached.service = index;
            cached.epoch = self.epoch;
            cached.truncated = truncated;
            cached.procedure = procedure;
            // The place's buffer is used again: no allocation in the steady state.
            cached.path.clear();
            cached.path.push_str(path);
            cached.route = route.clone();
        }
        route
    }

    /// Starts a new epoch when one is over, and forgets templates and services out of use.
    pub(super) fn expire(&mut self, now: Monotonic) {
        let started = *self.period.get_or_insert(now);
        if now.since(started) < PERIOD {
            return;
        }
        self.period = Some(now);
        self.epoch = self.epoch.wrapping_add(1);
        let periods = self.limits.idle.as_secs() / PERIOD.as_secs();
        let periods = u32::try_from(periods).unwrap_or(u32::MAX).max(1);
        let epoch = self.epoch;
        for (index, service) in self.services.iter_mut().enumerate() {
            service
                .routes
                .retain(|_, used| epoch.wrapping_sub(*used) <= periods);
            let unused = index != SHARED as usize && service.users == 0;
            if unused && service.routes.is_empty() && self.by_name.remove(&service.name).is_some() {
                *service = Service::default();
                self.free.extend(ServiceIndex::try_from(index));
            }
        }
    }

    fn find(&mut self, index: ServiceIndex, asked: Path<'_>) -> Option<Arc<str>> {
        let Path {
            path, truncated, ..
        } = asked;
        // The name of a procedure is known; no pattern can make it better.
        if !truncated
            && !asked.procedure
            && let Some((_, route)) = self.patterns.iter().find(|(one, _)| one.matches(path))
        {
            return Some(route.clone());
        }
        if asked.procedure {
            self.scratch.clear();
            self.scratch.push_str(path);
        } else {
            write_template(path, truncated, self.limits.depth, &mut self.scratch);
        }
        if self.scratch.is_empty() {
            return Some(self.none.clone());
        }
        let service = self.services.get_mut(index as usize)?;
        if let Some((route, used)) = service.routes.get_key_value_mut(self.scratch.as_str()) {
            *used = self.epoch;
            return Some(route.clone());
        }
        if service.routes.len() >= self.limits.routes {
            return None;
        }
        let route: Arc<str> = self.scratch.as_str().into();
        service.routes.insert(route.clone(), self.epoch);
        Some(route)
    }
}

fn with_routes(patterns: Vec<RoutePattern>) -> Vec<(RoutePattern, Arc<str>)> {
    patterns
        .into_iter()
        .map(|pattern| {
            let route = pattern.as_str().into();
            (pattern, route)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: Limits = Limits {
        depth: 8,
        routes: 3,
        services: 2,
        idle: Duration::from_secs(180),
    };

    fn workload(service: &str) -> Workload {
        Workload {
            service: service.into(),
            ..Workload::default()
        }
    }

    fn at(seconds: u64) -> Monotonic {
        Monotonic(seconds * 1_000_000_000)
    }

    #[test]
    fn patterns_come_first_and_are_outside_the_budget() {
        let pattern = RoutePattern::parse("/shop/{name}/x").unwrap();
        let mut routes = Routes::new(vec![pattern], LIMITS);
        let index = routes.acquire(&workload("a"));
        for path in ["/shop/blue/x", "/shop/red/x"] {
            assert_eq!(&*routes.route(index, Path::plain(path)), "/shop/{name}/x");
        }
        assert_eq!(routes.len(), 0);
        assert_eq!(
            &*routes.route(index, Path::plain("/shop/blue/y")),
            "/shop/blue/y"
        );
        routes.reconfigure(Vec::new(), LIMITS);
        assert_eq!(
            &*routes.route(index, Path::plain("/shop/blue/x")),
            "/shop/blue/x"
        );
        assert_eq!(&*routes.route(index, Path::plain("*")), "");
        let cut = Path {
            truncated: true,
            ..Path::plain("/shop/bl")
        };
        assert_eq!(&*routes.route(index, cut), "/shop/*");
    }

    #[test]
    fn each_service_has_a_budget() {
        let mut routes = Routes::new(Vec::new(), LIMITS);
        let (a, b) = (
            routes.acquire(&workload("a")),
            routes.acquire(&workload("b")),
        );
        for path in ["/x", "/y", "/z", "/x", "/items/1", "/items/2"] {
            let expected = if path.starts_with("/items") {
                "/*"
            } else {
                path
            };
            assert_eq!(&*routes.route(a, Path::plain(path)), expected);
        }
        assert_eq!(routes.overflowed, 2);
        assert_eq!(&*routes.route(b, Path::plain("/items/1")), "/items/{id}");
        // Beyond the limit, services share one budget.
        assert_eq!(routes.acquire(&workload("c")), SHARED);
        assert_eq!(routes.acquire(&workload("a")), a);
        assert_eq!((routes.shared, routes.services()), (1, 2));
    }

    #[test]
    fn unused_templates_and_services_expire() {
        let mut routes = Routes::new(Vec::new(), LIMITS);
        let index = routes.acquire(&workload("a"));
        routes.expire(at(0));
        for path in ["/x", "/y", "/z"] {
            routes.route(index, Path::plain(path));
        }
        for minute in 1..=3 {
            routes.expire(at(minute * 60));
            routes.route(index, Path::plain("/x"));
        }
        assert_eq!(&*routes.route(index, Path::plain("/new")), "/*");
        routes.expire(at(240));
        assert_eq!(routes.len(), 1, "/x was used");
        assert_eq!(&*routes.route(index, Path::plain("/new")), "/new");
        // A service goes with its last connection and its last template.
        for minute in 5..=20 {
            routes.expire(at(minute * 60));
        }
        assert_eq!((routes.len(), routes.services()), (0, 1));
        routes.release(index);
        routes.expire(at(21 * 60));
        assert_eq!(routes.services(), 0);
        assert_eq!(
            routes.acquire(&workload("b")),
            index,
            "its place is used again"
        );
    }

    #[test]
    fn the_same_value_is_given_again() {
        let mut routes = Routes::new(Vec::new(), LIMITS);
        let first = routes.route(SHARED, Path::plain("/items/1"));
        assert!(Arc::ptr_eq(
            &first,
            &routes.route(SHARED, Path::plain("/items/1"))
        ));
        assert!(Arc::ptr_eq(
            &first,
            &routes.route(SHARED, Path::plain("/items/2"))
        ));
        let long = format!("/items/{}", "9".repeat(400));
        assert_eq!(&*routes.route(SHARED, Path::plain(&long)), "/items/{token}");
    }
}
