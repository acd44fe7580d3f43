//! Flows as JSON lines: the last ones, and those to come.

use std::{convert::Infallible, sync::atomic::Ordering};

use axum::{
    body::{Body, Bytes},
    extract::{Query, State},
    http::{StatusCode, header},
    response::{IntoResponse, Response},
};
use tokio::sync::{
    OwnedSemaphorePermit,
    broadcast::{
        self,
        error::{RecvError, TryRecvError},
    },
    mpsc,
};
use tokio_stream::{StreamExt as _, wrappers::ReceiverStream};

use crate::aggregate::history::Flow;

use super::{
    Hub, Recent,
    filter::FlowFilter,
    flow::{self, LostLine},
};

/// What `/api/v1/flows` was asked for.
#[derive(Debug, PartialEq, Eq)]
struct Request {
    last: usize,
    follow: bool,
    filter: FlowFilter,
}

/// A live subscription of one client.
struct Follower {
    hub: Hub,
    live: broadcast::Receiver<Flow>,
    filter: FlowFilter,
    out: mpsc::Sender<Bytes>,
    /// Flows up to this one were in the history.
    shown: u64,
    _slot: OwnedSemaphorePermit,
}

/// Flows without `last`.
const LAST: usize = 100;

/// Bytes that are sent in one piece, roughly.
const PIECE: usize = 32 * 1024;

/// Pieces that wait for a client before flows wait instead.
const PIECES: usize = 4;

pub(super) async fn flows(
    State(hub): State<Hub>,
    parameters: Result<Query<Vec<(String, String)>>, axum::extract::rejection::QueryRejection>,
) -> Response {
    let request = match parameters {
        Ok(Query(parameters)) => Request::parse(&parameters),
        Err(error) => Err(error.to_string()),
    };
    let Request {
        last,
        follow,
        filter,
    } = match request {
        Ok(request) => request,
        Err(error) => return (StatusCode::BAD_REQUEST, format!("{error}\n")).into_response(),
    };
    let slot = match follow.then(|| hub.shared.followers.clone().try_acquire_owned()) {
        None => None,
        Some(Ok(slot)) => Some(slot),
        Some(Err(_)) => {
            hub.shared.refused.fetch_add(1, Ordering::Relaxed);
            let text = "too many clients follow flows; try again later\n";
            return (StatusCode::SERVICE_UNAVAILABLE, text).into_response();
        }
    };
    // Before the history is asked for, so that no flow falls between the two.
    let live = slot.map(|slot| (slot, hub.shared.live.subscribe()));
    let Recent { flows, sequence } = match hub.history(last, filter.clone()).await {
        Ok(recent) => recent,
        Err(error) => return error.into_response(),
    };
    let (out, pieces) = mpsc::channel(PIECES);
    tokio::spawn(async move {
        if send_history(&hub, flows, &out).await.is_ok()
            && let Some((slot, live)) = live
        {
            let follower = Follower {
                hub,
                live,
                filter,
                out,
                shown: sequence,
                _slot: slot,
            };
            follower.run().await;
        }
    });
    let body = Body::from_stream(ReceiverStream::new(pieces).map(Ok::<Bytes, Infallible>));
    ([(header::CONTENT_TYPE, "application/x-ndjson")], body).into_response()
}

async fn send_history(
    hub: &Hub,
    flows: Vec<Flow>,
    out: &mpsc::Sender<Bytes>,
) -> Result<(), mpsc::error::SendError<Bytes>> {
    let mut piece = Vec::new();
    for flow in flows {
        flow::render(&mut piece, &flow, hub.offset());
        if piece.len() >= PIECE {
            out.send(std::mem::take(&mut piece).into()).await?;
        }
    }
    if !piece.is_empty() {
        out.send(piece.into()).await?;
    }
    Ok(())
}

// === impl Request ===

impl Request {
    fn parse(parameters: &[(String, String)]) -> Result<Self, String> {
        let mut last = None;
        let mut follow = false;
        let mut filter = FlowFilter::default();
        for (key, value) in parameters {
            match key.as_str() {
                "last" => match value.parse() {
                    Ok(value) => last = Some(value),
                    Err(_) => return Err(format!("last={value}: expected a number")),
                },
                "follow" => match value.as_str() {
                    "true" => follow = true,
                    "false" => follow = false,
                    _ => return Err(format!("follow={value}: expected true or false")),
                },
                _ => match filter.parse(key, value) {
                    Ok(true) => {}
                    Ok(false) => {
                        let keys = FlowFilter::KEYS.join(", ");
                        return Err(format!("{key}: expected one of last, follow, {keys}"));
                    }
                    Err(error) => return Err(error.to_string()),
                },
            }
        }
        // Who follows wants what comes.
        let last = last.unwrap_or(if follow { 0 } else { LAST });
        Ok(Self {
            last,
            follow,
            filter,
        })
    }
}

// === impl Follower ===

impl Follower {
    /// Sends flows until the client goes, the observer ends or nobody publishes any more.
    async fn run(mut self) {
        let mut stopping = std::pin::pin!(self.hub.shared.stopping());
        loop {
            let received = tokio::select! {
                () = self.out.closed() => return,
                () = &mut stopping => return,
                received = self.live.recv() => received,
            };
            let mut piece = Vec::new();
            match received {
                Ok(flow) => self.render(&mut piece, &flow),
                Err(RecvError::Lagged(count)) => self.lost(&mut piece, count),
                Err(RecvError::Closed) => return,
            }
            while piece.len() < PIECE {
                match self.live.try_recv() {
                    Ok(flow) => self.render(&mut piece, &flow),
                    Err(TryRecvError::Lagged(count)) => self.lost(&mut piece, count),
                    // Let others run: a busy host could fill piece after piece without a pause.
                    Err(TryRecvError::Empty | TryRecvError::Closed) => break,
                }
                tokio::task::coop::consume_budget().await;
            }
            if !piece.is_empty() && self.out.send(piece.into()).await.is_err() {
                return;
            }
        }
    }

    fn render(&self, piece: &mut Vec<u8>, flow: &Flow) {
        if flow.sequence > self.shown && self.filter.matches(flow) {
            flow::render(piece, flow, self.hub.offset());
        }
    }

    fn lost(&self, piece: &mut Vec<u8>, count: u64) {
        self.hub.shared.lagged.fetch_add(count, Ordering::Relaxed);
        flow::line(piece, &LostLine::new(count));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(query: &str) -> Result<Request, String> {
        let pairs: Vec<(String, String)> = query
            .split('&')
            .filter(|pair| !pair.is_empty())
            .filter_map(|pair| pair.split_once('='))
            .map(|(key, value)| (key.to_owned(), value.to_owned()))
            .collect();
        Request::parse(&pairs)
    }

    #[test]
    fn parameters() {
        assert_eq!(parse("").unwrap().last, LAST);
        assert_eq!(parse("follow=true").unwrap().last, 0);
        let request = parse("follow=true&last=7&status=404").unwrap();
        assert_eq!((request.last, request.follow), (7, true));
        assert_ne!(request.filter, FlowFilter::default());
        for query in [
            "last=-1",
            "last=many",
            "follow=yes",
            "colour=red",
            "status=abc",
        ] {
            let key = query.split_once('=').unwrap().0;
            let error = parse(query).unwrap_err();
            assert!(
                error.starts_with(key) && error.contains("expected"),
                "{error}"
            );
        }
    }
}
