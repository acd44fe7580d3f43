//! Which agents may read the stream: those whose token the API server says is theirs and for us.

use std::{
    fmt,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use hashbrown::HashMap;
use k8s_openapi::api::authentication::v1::{TokenReview, TokenReviewSpec, TokenReviewStatus};
use kube::api::{Api, PostParams};
use sha2::{Digest as _, Sha256};
use tokio::sync::Semaphore;

use super::counters::{Counters, Refused, add};
use crate::cluster::watch::Right;

/// Whose tokens are taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// What tokens must be for.
    pub audience: String,
    /// The service account that they must belong to, `namespace/name`; `None`: any.
    pub account: Option<(String, String)>,
    /// How long an answer holds.
    pub keep: Duration,
    /// How long a refusal holds.
    pub keep_refusal: Duration,
    /// Most answers that are kept.
    pub answers: usize,
    /// Longest wait for an answer.
    pub timeout: Duration,
}

/// Checks tokens.
pub struct Authenticator {
    options: Options,
    reviews: Api<TokenReview>,
    answers: Mutex<HashMap<[u8; 32], Answer>>,
    /// Questions that are asked at a time: agents with bad tokens must not flood the API server.
    asking: Semaphore,
}

/// Why a token is refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// As it is counted.
    pub reason: Refused,
    /// What is wrong, and what to do.
    pub text: String,
}

struct Answer {
    verdict: Result<(), Refusal>,
    until: Instant,
}

/// What the API server must allow who asks.
pub const RIGHT: Right = Right {
    group: "authentication.k8s.io",
    resource: "tokenreviews",
    verb: "create",
    namespace: String::new(),
    name: "",
};

/// Most questions to the API server at a time.
const ASKING: usize = 16;

// === impl Options ===

impl Default for Options {
    fn default() -> Self {
        Self {
            audience: super::AUDIENCE.to_owned(),
            account: None,
            keep: Duration::from_secs(60),
            keep_refusal: Duration::from_secs(10),
            answers: 10_000,
            timeout: Duration::from_secs(10),
        }
    }
}

// === impl Authenticator ===

impl Authenticator {
    /// Asks through `client`, which must be allowed to create TokenReviews.
    pub fn new(client: kube::Client, options: Options) -> Self {
        Self {
            options,
            reviews: Api::all(client),
            answers: Mutex::default(),
            asking: Semaphore::new(ASKING),
        }
    }

    /// Checks the value of an `Authorization` header.
    ///
    /// # Errors
    ///
    /// When there is none, it is not valid, not for us, of another account, or cannot be checked.
    pub async fn check(&self, header: Option<&[u8]>, counters: &Counters) -> Result<(), Refusal> {
        let Some(token) = header.and_then(bearer) else {
            return Err(Refusal::new(
                Refused::NoToken,
                "no bearer token: mount a service account token with the hub's audience".to_owned(),
            ));
        };
        let digest: [u8; 32] = Sha256::digest(token.as_bytes()).into();
        if let Some(verdict) = self.remembered(&digest, Instant::now()) {
            return verdict;
        }
        let asked = tokio::time::timeout(self.options.timeout, self.ask(token, counters)).await;
        let verdict = asked.unwrap_or_else(|_| {
            let text = "the API server did not say in time whose the token is; try again";
            Err(Refusal::new(Refused::NoReview, text.to_owned()))
        });
        self.remember(digest, &verdict, Instant::now());
        verdict
    }

    async fn ask(&self, token: &str, counters: &Counters) -> Result<(), Refusal> {
        // Never closed, so this only waits.
        let _asking = self.asking.acquire().await;
        add(&counters.reviews, 1);
        let review = TokenReview {
            spec: TokenReviewSpec {
                token: Some(token.to_owned()),
                audiences: Some(vec![self.options.audience.clone()]),
            },
            ..TokenReview::default()
        };
        match self.reviews.create(&PostParams::default(), &review).await {
            Ok(review) => self.judge(review.status.unwrap_or_default()),
            Err(error) => {
                tracing::warn!(%error, "cannot ask the API server whose an agent's token is");
                let text = "the API server could not be asked whose the token is; try again";
                Err(Refusal::new(Refused::NoReview, text.to_owned()))
            }
        }
    }

    fn judge(&self, status: TokenReviewStatus) -> Result<(), Refusal> {
        let Options {
            audience, account, ..
        } = &self.options;
        if status.authenticated != Some(true) {
            let text = format!("the token is not valid, or not for the audience {audience}");
            return Err(Refusal::new(Refused::BadToken, text));
        }
        // An authenticator that knows nothing of audiences names none: the token is for anybody.
        if !status.audiences.unwrap_or_default().contains(audience) {
            let text = format!("the token is not for the audience {audience}");
            return Err(Refusal::new(Refused::BadToken, text));
        }
        let user = status.user.and_then(|user| user.username);
        let user = user.unwrap_or_default();
        if let Some((namespace, name)) = account
            && user != format!("system:serviceaccount:{namespace}:{name}")
        {
            tracing::warn!(user, "an agent showed the token of another account");
            let text =
                format!("the token is not of the service account {name} in namespace {namespace}");
            return Err(Refusal::new(Refused::WrongAccount, text));
        }
        Ok(())
    }

    fn remembered(&self, digest: &[u8; 32], now: Instant) -> Option<Result<(), Refusal>> {
        let answers = self.answers.lock().unwrap_or_else(PoisonError::into_inner);
        let answer = answers.get(digest)?;
        (now < answer.until).then(|| answer.verdict.clone())
    }

    fn remember(&self, digest: [u8; 32], verdict: &Result<(), Refusal>, now: Instant) {
        let keep = match verdict {
            Ok(()) => self.options.keep,
            // Says nothing of the token.
            Err(refusal) if refusal.reason == Refused::NoReview => return,
            Err(_) => self.options.keep_refusal,
        };
        let mut answers = self.answers.lock().unwrap_or_else(PoisonError::into_inner);
        if answers.len() >= self.options.answers {
            answers.retain(|_, answer| now < answer.until);
        }
        if answers.len() < self.options.answers {
            let answer = Answer {
                verdict: verdict.clone(),
                until: now + keep,
            };
            answers.insert(digest, answer);
        }
    }
}

impl fmt::Debug for Authenticator {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Authenticator")
            .field("options", &self.options)
            .finish_non_exhaustive()
    }
}

/// The token in `Bearer TOKEN` (RFC 6750).
fn bearer(header: &[u8]) -> Option<&str> {
    let (scheme, token) = std::str::from_utf8(header).ok()?.split_once(' ')?;
    let token = token.trim();
    (scheme.eq_ignore_ascii_case("bearer") && !token.is_empty()).then_some(token)
}

// === impl Refusal ===

impl Refusal {
    const fn new(reason: Refused, text: String) -> Self {
        Self { reason, text }
    }
}
