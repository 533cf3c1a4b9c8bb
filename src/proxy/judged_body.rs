//! A body that was read for its model, on its way on; and the further messages of a gRPC call, each
//! judged before it goes.

use std::collections::VecDeque;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::HeaderMap;
use http_body::{Frame, SizeHint};

use super::flight::{Ending, InFlight};
use super::inspecting::{HeldBody, Messages, Named, Room};
use super::relay::BodyError;
use super::upload::ClientBody;
use crate::live::{self, Live};
use crate::policy::{MessageDecision, Reason};
use crate::wire::inspect::Held;
use crate::wire::refusal::Refusal;

/// The body; what it holds counts while it does.
pub(super) struct JudgedBody {
    pieces: VecDeque<Bytes>,
    trailers: Option<HeaderMap>,
    rest: Option<ClientBody>,
    messages: Option<Messages>,
    /// The message that is being read, as it came.
    unjudged: Held,
    room: Room,
    /// Whether it is counted that the call would be refused.
    is_objected: bool,
    flight: Rc<InFlight>,
    live: Arc<Live>,
}

impl JudgedBody {
    pub(super) fn new(
        held: HeldBody,
        is_http2: bool,
        flight: &Rc<InFlight>,
        live: &Arc<Live>,
    ) -> Self {
        let HeldBody { pieces, mut trailers, rest, messages, room, .. } = held;
        if let Some(trailers) = &mut trailers {
            flight.namespace.site.headers.clean_request_trailers(trailers);
        }
        let length: usize = pieces.iter().map(Bytes::len).sum();
        flight.bytes_in.set(length as u64);
        flight.uploaded.set(rest.is_none());
        flight.is_judged_by_message.set(messages.is_some());
        let is_objected = flight.grant.borrow().would_deny().is_some();
        Self {
            pieces,
            trailers,
            rest: rest.map(|rest| ClientBody::new(rest, is_http2, flight)),
            messages,
            unjudged: Held::default(),
            room,
            is_objected,
            flight: Rc::clone(flight),
            live: Arc::clone(live),
        }
    }

    pub(super) fn poll(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        loop {
            if self.flight.is_over() {
                return Poll::Ready(Some(Err("the request was ended".into())));
            }
            if let Some(piece) = self.pieces.pop_front() {
                return Poll::Ready(Some(Ok(Frame::data(piece))));
            }
            if let Some(messages) = &mut self.messages
                && !messages.unread.is_empty()
            {
                if let Err(refusal) = self.judge() {
                    return self.refused(refusal);
                }
                continue;
            }
            // What was held is gone but for a message that is not complete.
            self.room.resize(self.unjudged.len());
            let Some(rest) = &mut self.rest else {
                let trailers = self.trailers.take();
                return Poll::Ready(trailers.map(|trailers| Ok(Frame::trailers(trailers))));
            };
            let frame = match rest.poll(cx) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Some(Err(error))) => return Poll::Ready(Some(Err(error))),
                Poll::Ready(Some(Ok(frame))) => frame,
                Poll::Ready(None) => {
                    self.rest = None;
                    if let Err(refusal) = self.end() {
                        return self.refused(refusal);
                    }
                    continue;
                }
            };
            let Some(messages) = &mut self.messages else { return Poll::Ready(Some(Ok(frame))) };
            match frame.into_data() {
                Ok(piece) => messages.unread = piece,
                Err(frame) => {
                    // They are the end of the body, so they may not pass a message that they cut.
                    self.rest = None;
                    self.flight.uploaded.set(true);
                    self.trailers = frame.into_trailers().ok();
                    if let Err(refusal) = self.end() {
                        return self.refused(refusal);
                    }
                }
            }
        }
    }

    /// Reads what came, and lets go what may.
    fn judge(&mut self) -> Result<(), Refusal> {
        let Some(messages) = &mut self.messages else { return Ok(()) };
        let mut piece = std::mem::take(&mut messages.unread);
        if !self.room.resize(self.unjudged.len() + piece.len()) {
            return Err(Refusal::Overloaded);
        }
        while !piece.is_empty() {
            let before = piece.clone();
            let read = messages.scan.next(&mut piece);
            self.unjudged.push(before.slice(..before.len() - piece.len()));
            let named = match read {
                Ok(None) => return Ok(()),
                Ok(Some(message)) => message.model.map_or(Named::None, Named::One),
                Err(fault) => Named::Unclear(fault.into()),
            };
            let would_deny = decide(&self.flight, &self.live, &named)?;
            object(&self.flight, &mut self.is_objected, would_deny);
            self.pieces.extend(std::mem::take(&mut self.unjudged).into_pieces());
            if matches!(named, Named::Unclear(_)) {
                // Nothing is enforced here, and what follows cannot be read either.
                self.pieces.push_back(piece);
                self.messages = None;
                return Ok(());
            }
        }
        Ok(())
    }

    /// The client said all it had to say.
    fn end(&mut self) -> Result<(), Refusal> {
        let Some(messages) = self.messages.take() else { return Ok(()) };
        if let Err(fault) = messages.scan.end() {
            let would_deny = decide(&self.flight, &self.live, &Named::Unclear(fault.into()))?;
            object(&self.flight, &mut self.is_objected, would_deny);
            self.pieces.extend(std::mem::take(&mut self.unjudged).into_pieces());
        }
        Ok(())
    }

    fn refused(&self, refusal: Refusal) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        if let Refusal::Denied(reason) = refusal {
            self.flight.namespace.site.metrics.decided(Some(reason), None);
        }
        self.flight.end(Ending::Refused(refusal));
        Poll::Ready(Some(Err("a message of the call was refused".into())))
    }

    pub(super) fn is_end_stream(&self) -> bool {
        self.pieces.is_empty() && self.trailers.is_none() && self.rest.is_none()
    }

    pub(super) fn size_hint(&self) -> SizeHint {
        let held: usize = self.pieces.iter().map(Bytes::len).sum();
        match &self.rest {
            // Trailers need a framing without a length.
            None if self.trailers.is_none() => SizeHint::with_exact(held as u64),
            Some(rest) if self.messages.is_none() => match rest.size_hint().exact() {
                Some(rest) => SizeHint::with_exact(held as u64 + rest),
                None => SizeHint::default(),
            },
            _ => SizeHint::default(),
        }
    }
}

/// Judges a message by the policy in force: what was permitted when the call began may not be any
/// more. Lets through what would be refused where nothing is enforced, and tells why.
fn decide(flight: &InFlight, live: &Live, named: &Named) -> Result<Option<Reason>, Refusal> {
    let judged_by = &flight.namespace;
    let gate = live.gate();
    let Some(in_force) = gate.namespace_named(&judged_by.site.settings.name) else {
        return Err(Refusal::Denied(Reason::UnknownToken));
    };
    let decision = in_force.policy.decide_message(
        &mut flight.grant.borrow_mut(),
        judged_by.policy.rules(),
        named.as_body_model(),
        live::now(),
    );
    match decision {
        MessageDecision::Pass { would_deny } => Ok(would_deny),
        MessageDecision::Refuse(reason) => Err(Refusal::Denied(reason)),
    }
}

/// Counts, once for a call, that it would be refused if anything were enforced.
fn object(flight: &InFlight, is_objected: &mut bool, would_deny: Option<Reason>) {
    if would_deny.is_some() && !std::mem::replace(is_objected, true) {
        flight.namespace.site.metrics.decided(None, would_deny);
    }
}
