//! Reading a body to find out which model it names, before any byte of it goes on.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http::request::Parts;
use http::{HeaderMap, Version};
use http_body::Body as _;
use http_body_util::BodyExt as _;
use hyper::body::Incoming;

use super::upload::discard;
use crate::policy::{BodyFault, BodyForm, BodyModel, Reason};
use crate::settings::Limits;
use crate::wire::inspect::{self, BodyReader, BodyScan, Fault, GrpcScan, Held};
use crate::wire::refusal::Refusal;

/// The room that all bodies together may take while they are held.
#[derive(Default)]
pub struct InspectionRoom(AtomicUsize);

/// A part of that room; given back when dropped.
pub(super) struct Room {
    all: Arc<InspectionRoom>,
    most: usize,
    taken: usize,
}

impl Room {
    pub(super) fn new(all: &Arc<InspectionRoom>, most: usize) -> Self {
        Self { all: Arc::clone(all), most, taken: 0 }
    }

    /// Makes the part as large as this; false when there is no room.
    pub(super) fn resize(&mut self, bytes: usize) -> bool {
        if bytes > self.taken {
            let more = bytes - self.taken;
            let before = self.all.0.fetch_add(more, Ordering::Relaxed);
            if before.saturating_add(more) > self.most {
                self.all.0.fetch_sub(more, Ordering::Relaxed);
                return false;
            }
        } else {
            self.all.0.fetch_sub(self.taken - bytes, Ordering::Relaxed);
        }
        self.taken = bytes;
        true
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        self.all.0.fetch_sub(self.taken, Ordering::Relaxed);
    }
}

/// What a body names.
pub(super) enum Named {
    None,
    One(String),
    Unclear(BodyFault),
}

impl Named {
    pub(super) fn as_body_model(&self) -> BodyModel<'_> {
        match self {
            Self::None => BodyModel::None,
            Self::One(model) => BodyModel::One(model),
            Self::Unclear(fault) => BodyModel::Unclear(*fault),
        }
    }
}

impl From<Result<Option<String>, Fault>> for Named {
    fn from(read: Result<Option<String>, Fault>) -> Self {
        match read {
            Ok(None) => Self::None,
            Ok(Some(model)) => Self::One(model),
            Err(fault) => Self::Unclear(fault.into()),
        }
    }
}

/// A body, or its beginning, that was read and has gone nowhere yet.
pub(super) struct HeldBody {
    /// In the order they came.
    pub(super) pieces: VecDeque<Bytes>,
    pub(super) trailers: Option<HeaderMap>,
    /// What was not read.
    pub(super) rest: Option<Incoming>,
    /// Whether the client was let know that its body is wanted, if it waits for that.
    pub(super) is_asked_for: bool,
    /// For a gRPC call, whose further messages are judged as they pass.
    pub(super) messages: Option<Messages>,
    pub(super) room: Room,
}

/// The further messages of a gRPC call.
pub(super) struct Messages {
    pub(super) scan: GrpcScan,
    /// What came with the message before, and is not looked at yet.
    pub(super) unread: Bytes,
}

/// Reads a body as far as it takes to know what it names: to its end, or to that of the first
/// message of a gRPC call.
///
/// # Errors
/// When the client does not go on, breaks off, or there is no room for its body.
pub(super) async fn read(
    body: Incoming,
    form: BodyForm<'_>,
    parts: &Parts,
    limits: &Limits,
    room: Room,
) -> Result<(Named, HeldBody), Refusal> {
    let reading = Reading {
        held: Held::default(),
        trailers: None,
        body,
        is_asked_for: false,
        is_http2: parts.version == Version::HTTP_2,
        patience: limits.body_idle_timeout,
        room,
    };
    let limit = limits.inspect_body_bytes;
    if reading.body.is_end_stream() {
        return Ok(reading.finished(Named::None));
    }
    let announced = reading.body.size_hint().exact();
    match inspect::reader(form, &parts.headers, limit) {
        Err(fault) => Ok(reading.given_up(fault)),
        Ok(BodyReader::Messages(scan)) => reading.first_message(scan).await,
        Ok(BodyReader::Whole(_)) if announced.is_some_and(|length| length > limit as u64) => {
            Ok(reading.given_up(Fault::TooLarge))
        }
        Ok(BodyReader::Whole(scan)) => reading.whole(scan).await,
    }
}

struct Reading {
    held: Held,
    trailers: Option<HeaderMap>,
    body: Incoming,
    is_asked_for: bool,
    is_http2: bool,
    patience: Duration,
    room: Room,
}

impl Reading {
    async fn whole(mut self, mut scan: BodyScan) -> Result<(Named, HeldBody), Refusal> {
        loop {
            let piece = match self.next().await {
                Ok(Some(piece)) => piece,
                Ok(None) => break,
                Err(refusal) => return Err(self.broken_off(refusal)),
            };
            let read = scan.feed(&piece);
            self.held.push(piece);
            if let Err(fault) = read {
                return Ok(self.given_up(fault));
            }
        }
        // No byte came, whatever the framing let expect: that is no body, and none to be read.
        let named = if self.held.is_empty() { Named::None } else { scan.end().into() };
        Ok(self.finished(named))
    }

    async fn first_message(mut self, mut scan: GrpcScan) -> Result<(Named, HeldBody), Refusal> {
        loop {
            let piece = match self.next().await {
                Ok(Some(piece)) => piece,
                Ok(None) => break,
                Err(refusal) => return Err(self.broken_off(refusal)),
            };
            // The scan holds it too, and shares it: where nothing is enforced, even what cannot be
            // read goes on.
            self.held.push(piece.clone());
            let mut unread = piece;
            match scan.next(&mut unread) {
                Ok(None) => {}
                Err(fault) => return Ok(self.given_up(fault)),
                Ok(Some(message)) => {
                    let named = message.model.map_or(Named::None, Named::One);
                    self.held = message.bytes;
                    let messages = Some(Messages { scan, unread });
                    return Ok((named, HeldBody { messages, ..self.into_held() }));
                }
            }
        }
        let named = scan.end().map(|()| None).into();
        Ok(self.finished(named))
    }

    /// The next piece; none at the end.
    async fn next(&mut self) -> Result<Option<Bytes>, Refusal> {
        self.is_asked_for = true;
        loop {
            let frame = tokio::time::timeout(self.patience, self.body.frame()).await;
            match frame.map_err(|_| Refusal::BodyTimeout)? {
                // A stream that the client reset without an error looks like one that ended.
                None if self.is_http2 && !self.body.is_end_stream() => {
                    return Err(Refusal::Denied(Reason::BadBody));
                }
                None => return Ok(None),
                Some(Err(_)) => return Err(Refusal::Denied(Reason::BadBody)),
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(piece) if self.room.resize(self.held.len() + piece.len()) => {
                        return Ok(Some(piece));
                    }
                    Ok(_) => return Err(Refusal::Overloaded),
                    Err(frame) => self.trailers = frame.into_trailers().ok(),
                },
            }
        }
    }

    /// It cannot be read on. Who did nothing wrong is let finish, so as to hear the answer.
    fn broken_off(self, refusal: Refusal) -> Refusal {
        if refusal == Refusal::Overloaded {
            discard(self.body);
        }
        refusal
    }

    /// All of it was read.
    fn finished(self, named: Named) -> (Named, HeldBody) {
        (named, HeldBody { rest: None, ..self.into_held() })
    }

    /// It was read as far as this, and what follows does not matter.
    fn given_up(self, fault: Fault) -> (Named, HeldBody) {
        (Named::Unclear(fault.into()), self.into_held())
    }

    fn into_held(self) -> HeldBody {
        HeldBody {
            pieces: self.held.into_pieces().into(),
            trailers: self.trailers,
            rest: Some(self.body),
            is_asked_for: self.is_asked_for,
            messages: None,
            room: self.room,
        }
    }
}
