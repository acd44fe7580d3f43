//! The way of one signal to its collector: one connection, one request at a time, tried again while
//! that makes sense.

mod complaint;

use std::{marker::PhantomData, sync::Arc, time::Duration};

use tokio::{sync::watch, time::Instant};

use self::complaint::Complaint;
use super::{
    compression,
    connection::{Body, Connection, Failure},
    message::Message,
    outcome::Outcome,
    retry::Retry,
    tls::Tls,
};
use crate::{
    config::{Destination, Otlp, OtlpCompression, Signal},
    export::status::{Dropped, Owed, Status, add},
};

/// Sends messages of one kind to where the settings say, one after the other.
pub struct Sender<M> {
    signal: Signal,
    settings: watch::Receiver<Arc<Otlp>>,
    status: Arc<Status>,
    route: Option<Route>,
    max_elapsed: Duration,
    retry: Retry,
    complaint: Complaint,
    message: PhantomData<fn(M)>,
}

/// Where it goes, and what it goes by.
struct Route {
    destination: Destination,
    tls: Option<Tls>,
    connection: Option<Connection>,
}

/// A part of what is to be sent.
struct Part {
    body: Body,
    items: u64,
}

/// What became of a part.
enum Delivery {
    Taken { rejected: u64 },
    TooLarge { certain: bool },
    Lost(Dropped),
}

/// Most bytes of a message, unpacked: what servers of gRPC take unless they are told otherwise, less
/// some room.
const MAX_MESSAGE: usize = (4 << 20) - (64 << 10);
/// A smaller message is not split where it may be a quota that is exhausted: that would only make
/// more requests of it.
const LEAST_SPLIT: usize = 16 << 10;

// === impl Sender ===

impl<M: Message> Sender<M> {
    /// A sender that connects when it has something to send.
    pub fn new(signal: Signal, settings: watch::Receiver<Arc<Otlp>>, status: Arc<Status>) -> Self {
        let mut sender = Self {
            signal,
            settings,
            status,
            route: None,
            max_elapsed: Duration::ZERO,
            retry: Retry::new(),
            complaint: Complaint::default(),
            message: PhantomData,
        };
        sender.refresh();
        sender
    }

    /// Whether there is somewhere to send to, by the settings as they are now.
    pub fn is_on(&mut self) -> bool {
        self.refresh();
        self.route.is_some()
    }

    /// Makes a message of about `items` items, and sends it. Every item is counted: as sent, or as
    /// lost and why. That it takes long is what the queue in front is for.
    pub async fn send(&mut self, items: u64, make: impl FnOnce() -> M + Send + 'static) {
        self.refresh();
        let mut owed = Owed::new(Arc::clone(&self.status), self.signal, items);
        let Some(route) = &self.route else {
            owed.lost(Dropped::TurnedOff);
            return;
        };
        let packed = route.destination.compression == OtlpCompression::Gzip;
        // This takes milliseconds, and the runtime has other things to do.
        let made = tokio::task::spawn_blocking(move || {
            let mut parts = Vec::new();
            let unencodable = pack(make(), packed, &mut parts);
            (parts, unencodable)
        });
        let Ok((mut parts, unencodable)) = made.await else {
            owed.lost(Dropped::Unencodable);
            return;
        };
        let all = parts.iter().map(|part| part.items).sum::<u64>();
        owed.set(all + unencodable);
        owed.split(unencodable).lost(Dropped::Unencodable);
        // The first to be sent is the last. All stay owed until their part is settled.
        parts.reverse();
        while let Some(part) = parts.pop() {
            let items = part.items;
            match self.deliver(&part.body).await {
                Delivery::Taken { rejected } => owed.split(items).taken(rejected),
                Delivery::Lost(reason) => owed.split(items).lost(reason),
                Delivery::TooLarge { certain } => match split::<M>(part, certain).await {
                    Some([first, second]) => parts.extend([second, first]),
                    None => owed.split(items).lost(Dropped::TooLarge),
                },
            }
        }
    }

    /// Takes over new settings; whether it goes elsewhere from now on.
    fn refresh(&mut self) -> bool {
        let settings = Arc::clone(&self.settings.borrow_and_update());
        self.max_elapsed = settings.max_elapsed;
        if self.signal == Signal::Metrics {
            // By then there are newer ones.
            self.max_elapsed = self.max_elapsed.min(settings.interval);
        }
        let destination = settings.destination(self.signal);
        if self.route.as_ref().map(|route| &route.destination) == destination.as_ref() {
            return false;
        }
        self.status.of(self.signal).goes_to(destination.as_ref());
        self.retry.reset();
        self.complaint = Complaint::default();
        self.route = destination.map(|destination| {
            tracing::info!(
                signal = self.signal.as_str(),
                collector = destination.shown(),
                protocol = destination.protocol(),
                "telemetry goes out over OTLP"
            );
            Route {
                destination,
                tls: None,
                connection: None,
            }
        });
        true
    }

    /// Sends a part until it is taken, or for as long as that makes sense.
    async fn deliver(&mut self, body: &Body) -> Delivery {
        let mut started = None;
        loop {
            self.refresh();
            if let Some(at) = self.retry.not_before(Instant::now()) {
                if started.is_some_and(|started| at > started + self.max_elapsed) {
                    return Delivery::Lost(Dropped::Expired);
                }
                tokio::select! {
                    () = tokio::time::sleep_until(at) => {}
                    // It may go elsewhere now.
                    () = changed(&mut self.settings) => continue,
                }
            }
            let Some(route) = &mut self.route else {
                return Delivery::Lost(Dropped::TurnedOff);
            };
            let status = self.status.of(self.signal);
            if started.is_some() {
                add(&status.retries, 1);
            }
            let now = Instant::now();
            started.get_or_insert(now);
            let outcome = route.attempt(body).await;
            let bytes = body.sent(route.destination.grpc).len();
            status.requested(bytes, now.elapsed());
            let collector = route.destination.shown();
            let about = (self.signal, collector.as_str());
            match outcome {
                Outcome::Taken { rejected, text } => {
                    self.retry.reset();
                    status.taken();
                    if rejected > 0 {
                        self.complaint
                            .tell(about, &text, "some items were rejected");
                    } else {
                        self.complaint.over(about);
                    }
                    return Delivery::Taken { rejected };
                }
                Outcome::Passing { after, text } => {
                    status.failed(&text);
                    self.complaint.tell(about, &text, "telemetry waits");
                    self.retry.failed(Instant::now(), after);
                }
                Outcome::TooLarge { certain, text } => {
                    status.failed(&text);
                    self.complaint.tell(about, &text, "a request is too large");
                    return Delivery::TooLarge { certain };
                }
                Outcome::Refused { text } => {
                    self.retry.reset();
                    status.failed(&text);
                    self.complaint.tell(about, &text, "telemetry is refused");
                    return Delivery::Lost(Dropped::Refused);
                }
            }
        }
    }
}

/// When the settings change; never, when nobody is left to change them.
pub(in crate::export) async fn changed(settings: &mut watch::Receiver<Arc<Otlp>>) {
    if settings.changed().await.is_err() {
        std::future::pending().await
    }
}

/// Bodies of a message, of which each is as large as may be; and items that fit none.
fn pack<M: Message>(message: M, packed: bool, parts: &mut Vec<Part>) -> u64 {
    let items = message.items() as u64;
    if message.encoded_len() > MAX_MESSAGE && items > 1 {
        let Some((first, second)) = message.halves() else {
            return items;
        };
        return pack(first, packed, parts) + pack(second, packed, parts);
    }
    match body(&message, packed) {
        // A request of nothing says nothing.
        _ if items == 0 => 0,
        Some(body) => {
            parts.push(Part { body, items });
            0
        }
        None => items,
    }
}

fn body<M: Message>(message: &M, packed: bool) -> Option<Body> {
    let plain = message.encode_to_vec();
    if packed {
        Body::new(&compression::gzip(&plain).ok()?, true)
    } else {
        Body::new(&plain, false)
    }
}

/// Two parts of one, read from its body: that is seldom needed, so nothing else is kept for it.
async fn split<M: Message>(part: Part, certain: bool) -> Option<[Part; 2]> {
    let split = tokio::task::spawn_blocking(move || {
        let packed = part.body.is_packed();
        let sent = part.body.sent(false);
        let plain = match packed {
            true => compression::gunzip(&sent, 2 * MAX_MESSAGE).ok()?,
            false => sent.to_vec(),
        };
        if plain.len() < LEAST_SPLIT && !certain {
            return None;
        }
        let (first, second) = M::decode(&*plain).ok()?.halves()?;
        let part = |message: M| {
            let items = message.items() as u64;
            let body = body(&message, packed)?;
            Some(Part { body, items })
        };
        Some([part(first)?, part(second)?])
    });
    split.await.ok()?
}

// === impl Route ===

impl Route {
    /// Sends a body once, within the time for that.
    async fn attempt(&mut self, body: &Body) -> Outcome {
        let timeout = self.destination.timeout;
        let passing = |text| Outcome::Passing { after: None, text };
        let outcome = match tokio::time::timeout(timeout, self.ask(body)).await {
            Ok(Ok(outcome)) => return outcome,
            Ok(Err(failure)) => passing(failure.to_string()),
            Err(_) => passing(format!("no answer within {timeout:?}")),
        };
        // Whatever state it is in: the next attempt looks the name up and connects anew.
        self.connection = None;
        outcome
    }

    async fn ask(&mut self, body: &Body) -> Result<Outcome, Failure> {
        self.secure().await?;
        let open = self.connection.take().filter(Connection::is_open);
        if let Some(mut connection) = open {
            match connection.ask(&self.destination, body).await {
                // It was closed while it was idle, most likely.
                Err(Failure::Broken(_)) => {}
                answer => {
                    self.connection = Some(connection);
                    return answer;
                }
            }
        }
        let mut connection = Connection::open(&self.destination, self.tls.as_ref()).await?;
        let answer = connection.ask(&self.destination, body).await;
        self.connection = Some(connection);
        answer
    }

    /// Sees to it that TLS is spoken with what is in the files now.
    async fn secure(&mut self) -> Result<(), Failure> {
        if !self.destination.secure {
            return Ok(());
        }
        match &mut self.tls {
            Some(tls) => {
                if tls.renew(std::time::Instant::now()).await {
                    self.connection = None;
                }
            }
            None => {
                let protocol: &[u8] = if self.destination.grpc {
                    b"h2"
                } else {
                    b"http/1.1"
                };
                let files = self.destination.tls.clone();
                self.tls = Some(Tls::read(files, protocol).await?);
            }
        }
        Ok(())
    }
}

#[cfg(test)]
pub(in crate::export) mod tests;
