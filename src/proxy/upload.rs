//! The body of a request, on its way from the client to the model server.

use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;

use super::flight::InFlight;
use super::inspecting::HeldBody;
use super::judged_body::JudgedBody;
use super::relay::BodyError;
use crate::live::Live;

/// A body of this size or less, if it is already there, leaves together with the head.
const SMALL_BODY: u64 = 16 * 1024;

/// The body of a request, on its way to the model server.
pub(super) enum OutBody {
    /// None.
    Empty,
    /// All of it was there already.
    Ready(Option<Bytes>),
    /// The rest is still to come.
    Stream(ClientBody),
    /// It was read for its model.
    Judged(Box<JudgedBody>),
}

/// A client's body as it comes in.
pub(super) struct ClientBody {
    first: Option<Result<Frame<Bytes>, hyper::Error>>,
    incoming: Incoming,
    is_http2: bool,
    flight: Rc<InFlight>,
}

impl ClientBody {
    pub(super) fn new(incoming: Incoming, is_http2: bool, flight: &Rc<InFlight>) -> Self {
        Self { first: None, incoming, is_http2, flight: Rc::clone(flight) }
    }
}

impl OutBody {
    /// Takes a body that was read for its model.
    pub(super) fn held(
        held: HeldBody,
        is_http2: bool,
        flight: &Rc<InFlight>,
        live: &Arc<Live>,
    ) -> Self {
        Self::Judged(Box::new(JudgedBody::new(held, is_http2, flight, live)))
    }

    /// Takes a client's body. If it is small and was sent with the head, it will leave with the
    /// head too, in one write; whoever sends it slowly has it streamed.
    pub(super) async fn take(
        mut incoming: Incoming,
        is_http2: bool,
        flight: &Rc<InFlight>,
    ) -> Self {
        if incoming.is_end_stream() {
            flight.uploaded.set(true);
            return Self::Empty;
        }
        let flight = Rc::clone(flight);
        let Some(whole) = incoming.size_hint().exact().filter(|size| *size <= SMALL_BODY) else {
            return Self::Stream(ClientBody { first: None, incoming, is_http2, flight });
        };
        let mut asked = false;
        let first = std::future::poll_fn(|cx| {
            match Pin::new(&mut incoming).poll_frame(cx) {
                Poll::Ready(frame) => Poll::Ready(frame),
                Poll::Pending if asked => Poll::Ready(None),
                Poll::Pending => {
                    // The connection hands a body over once it was asked for: ask, and look again
                    // after it had its turn.
                    asked = true;
                    cx.waker().wake_by_ref();
                    Poll::Pending
                }
            }
        })
        .await;
        match first {
            Some(Ok(frame)) => match frame.into_data() {
                Ok(data) if data.len() as u64 == whole => {
                    flight.bytes_in.set(whole);
                    flight.uploaded.set(true);
                    Self::Ready(Some(data))
                }
                Ok(data) => {
                    let first = Some(Ok(Frame::data(data)));
                    Self::Stream(ClientBody { first, incoming, is_http2, flight })
                }
                Err(trailers) => Self::Stream(ClientBody {
                    first: Some(Ok(trailers)),
                    incoming,
                    is_http2,
                    flight,
                }),
            },
            Some(Err(error)) => {
                Self::Stream(ClientBody { first: Some(Err(error)), incoming, is_http2, flight })
            }
            None => Self::Stream(ClientBody { first: None, incoming, is_http2, flight }),
        }
    }
}

/// How much of a refused request's body is read and thrown away, in bytes, and for how long.
const DISCARDED_BYTES: usize = 8 * 1024 * 1024;
const DISCARDED_TIME: Duration = Duration::from_secs(2);

/// Reads what a refused client still sends, within bounds: many clients lose the answer when the
/// stream or connection is reset on them while they write.
pub fn discard(mut body: Incoming) {
    if body.is_end_stream() {
        return;
    }
    tokio::task::spawn_local(async move {
        let reading = async {
            let mut read = 0;
            while read < DISCARDED_BYTES
                && let Some(Ok(frame)) = body.frame().await
            {
                read += frame.data_ref().map_or(0, Bytes::len);
            }
        };
        // However it ends, the body is dropped, and with it the stream or the connection's reading.
        let _ = tokio::time::timeout(DISCARDED_TIME, reading).await;
    });
}

impl Body for OutBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        match self.get_mut() {
            Self::Empty => Poll::Ready(None),
            Self::Ready(data) => Poll::Ready(data.take().map(|data| Ok(Frame::data(data)))),
            Self::Stream(body) => body.poll(cx),
            Self::Judged(body) => body.poll(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Empty => true,
            Self::Ready(data) => data.is_none(),
            Self::Stream(body) => body.first.is_none() && body.incoming.is_end_stream(),
            Self::Judged(body) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Empty => SizeHint::with_exact(0),
            Self::Ready(data) => {
                SizeHint::with_exact(data.as_ref().map_or(0, |data| data.len() as u64))
            }
            Self::Stream(body) => body.size_hint(),
            Self::Judged(body) => body.size_hint(),
        }
    }
}

impl ClientBody {
    pub(super) fn poll(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        if self.flight.is_over() {
            return Poll::Ready(Some(Err("the request was ended".into())));
        }
        self.flight.uploading.register(cx);
        let frame = match self.first.take() {
            Some(first) => Poll::Ready(Some(first)),
            None => Pin::new(&mut self.incoming).poll_frame(cx),
        };
        let Poll::Ready(frame) = frame else {
            if self.flight.body_awaited.get().is_none() {
                self.flight.body_awaited.set(Some(Instant::now()));
            }
            return Poll::Pending;
        };
        self.flight.body_awaited.set(None);
        self.flight.postpone_response_due();
        let Some(frame) = frame else {
            // A stream that the client reset without an error looks like one that ended.
            if self.is_http2 && !self.incoming.is_end_stream() {
                self.flight.client_failed.set(true);
                return Poll::Ready(Some(Err("the client's body broke off".into())));
            }
            self.flight.uploaded.set(true);
            return Poll::Ready(None);
        };
        let frame = match frame {
            Ok(frame) => frame,
            Err(error) => {
                self.flight.client_failed.set(true);
                return Poll::Ready(Some(Err(error.into())));
            }
        };
        if self.incoming.is_end_stream() {
            self.flight.uploaded.set(true);
        }
        if let Some(data) = frame.data_ref() {
            self.flight.bytes_in.set(self.flight.bytes_in.get() + data.len() as u64);
        }
        let frame = match frame.into_trailers() {
            Ok(mut trailers) => {
                self.flight.namespace.site.headers.clean_request_trailers(&mut trailers);
                Frame::trailers(trailers)
            }
            Err(data) => data,
        };
        Poll::Ready(Some(Ok(frame)))
    }

    pub(super) fn size_hint(&self) -> SizeHint {
        let mut hint = self.incoming.size_hint();
        let before = match &self.first {
            Some(Ok(frame)) => frame.data_ref().map_or(0, |data| data.len() as u64),
            _ => 0,
        };
        if let Some(exact) = hint.exact() {
            hint.set_exact(exact + before);
        }
        hint
    }
}

impl Drop for ClientBody {
    fn drop(&mut self) {
        self.flight.body_awaited.set(None);
    }
}
