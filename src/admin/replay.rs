//! Requests that are sent again because their answer was lost get the same answer.

use std::cell::Cell;
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::header::HeaderValue;
use http::{HeaderMap, Response, StatusCode};
use http_body_util::Full;
use tokio::sync::{Mutex, OwnedMutexGuard};

use super::problem::Refusal;
use super::response::Body;

/// How long an answer is kept.
const KEPT: Duration = Duration::from_secs(600);

/// So many answers are kept; beyond, the oldest go first.
const MAX_KEPT: usize = 10_000;

/// So many bytes of bodies are kept; beyond, the oldest go first.
const MAX_KEPT_BYTES: usize = 16 << 20;

/// The header (draft-ietf-httpapi-idempotency-key-header).
const IDEMPOTENCY_KEY: &str = "idempotency-key";

/// Answers by who asked for what.
#[derive(Default)]
pub(super) struct Replays {
    kept: HashMap<Rc<Asked>, Kept>,
}

/// What makes two requests one.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(super) struct Asked {
    /// The hash of the administrator key.
    pub(super) administrator: [u8; 32],
    /// The path.
    pub(super) path: String,
    /// The idempotency key.
    pub(super) key: String,
}

struct Kept {
    since: Instant,
    waiting: Waiting,
}

/// What those with the same key wait for.
#[derive(Clone, Default)]
pub(super) struct Waiting {
    answer: Arc<Mutex<Option<Answer>>>,
    /// How long the body of the answer is, in bytes.
    length: Rc<Cell<usize>>,
}

/// An answer, whose bytes may hold a secret: they are wiped from memory with it.
pub(super) struct Answer {
    body_hash: blake3::Hash,
    status: StatusCode,
    headers: HeaderMap,
    body: Bytes,
}

/// The turn of one request among those with the same key.
pub(super) struct Turn {
    answer: OwnedMutexGuard<Option<Answer>>,
    length: Rc<Cell<usize>>,
    body_hash: blake3::Hash,
}

/// The idempotency key of a request, if it has one.
pub(super) fn key_of(headers: &HeaderMap) -> Result<Option<String>, Refusal> {
    let mut lines = headers.get_all(IDEMPOTENCY_KEY).iter();
    let Some(line) = lines.next() else { return Ok(None) };
    let key = line.to_str().ok().filter(|key| (1..=255).contains(&key.len()));
    match key {
        Some(key) if lines.next().is_none() => Ok(Some(key.into())),
        _ => Err(Refusal::bad_request(
            "`Idempotency-Key` is 1 to 255 printable characters, in one header.",
        )),
    }
}

impl Replays {
    /// What to wait for before the request is carried out.
    pub(super) fn enter(&mut self, asked: Asked, now: Instant) -> Waiting {
        self.kept.retain(|_, kept| {
            let is_waited_for = Arc::strong_count(&kept.waiting.answer) > 1;
            is_waited_for || now.saturating_duration_since(kept.since) < KEPT
        });
        while self.kept.len() >= MAX_KEPT || self.bytes() > MAX_KEPT_BYTES {
            let oldest = self.kept.iter().min_by_key(|(_, kept)| kept.since);
            let Some(asked) = oldest.map(|(asked, _)| Rc::clone(asked)) else { break };
            self.kept.remove(&asked);
        }
        let new = || Kept { since: now, waiting: Waiting::default() };
        self.kept.entry(Rc::new(asked)).or_insert_with(new).waiting.clone()
    }

    fn bytes(&self) -> usize {
        self.kept.values().map(|kept| kept.waiting.length.get()).sum()
    }
}

impl Turn {
    /// Waits until no other request with the key is being carried out. Then there is an answer
    /// already, or it is this one's turn to make one.
    pub(super) async fn take(
        waiting: Waiting,
        body: &[u8],
    ) -> Result<Result<Response<Body>, Self>, Refusal> {
        let Waiting { answer, length } = waiting;
        let answer = answer.lock_owned().await;
        let body_hash = blake3::hash(body);
        match &*answer {
            None => Ok(Err(Self { answer, length, body_hash })),
            Some(before) if before.body_hash == body_hash => Ok(Ok(before.response())),
            Some(_) => Err(Refusal::new(
                StatusCode::UNPROCESSABLE_ENTITY,
                "idempotency_key_reused",
                "This `Idempotency-Key` was sent with another body; make a new one for a new \
                 request.",
            )),
        }
    }

    /// Keeps the answer for those who ask again.
    pub(super) fn keep(mut self, status: StatusCode, headers: &HeaderMap, body: Bytes) {
        let (body_hash, headers) = (self.body_hash, headers.clone());
        self.length.set(body.len());
        *self.answer = Some(Answer { body_hash, status, headers, body });
    }
}

impl Answer {
    fn response(&self) -> Response<Body> {
        let mut response = Response::new(Full::new(self.body.clone()));
        *response.status_mut() = self.status;
        *response.headers_mut() = self.headers.clone();
        response.headers_mut().insert("idempotent-replayed", HeaderValue::from_static("true"));
        response
    }
}
