//! Bodies on their way through the gate, and connections that were upgraded.

use std::convert::Infallible;
use std::error::Error as StdError;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::header::{self, HeaderMap, HeaderValue};
use http::{Response, StatusCode};
use http_body::{Body, Frame, SizeHint};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::flight::{Ending, InFlight};
use super::inspecting::HeldBody;
use super::judged_body::JudgedBody;
use super::outcome::Outcome;
use super::pool::{Answer, Http1, StreamSlot};
use super::switch;
use crate::live::Live;
use crate::telemetry::metrics::UpstreamError;
use crate::upstream::AtEndpoint;
use crate::wire::headers;
use crate::wire::refusal::{self, Refusal};

/// What ends a body early.
pub(super) type BodyError = Box<dyn StdError + Send + Sync>;

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

/// The body of a response: a refusal, or what the model server answers.
pub struct GateBody(Kind);

enum Kind {
    Whole(Full<Bytes>),
    Relayed(Box<RelayedBody>),
    /// Another body in the place of one that was read; its record is kept to the end.
    Instead(Full<Bytes>, Box<RelayedBody>),
}

/// A model server's body as it comes in.
struct RelayedBody {
    incoming: Incoming,
    is_http2: bool,
    /// HTTP/1.1: the connection it comes on, moved along by whoever polls the body. No task of its
    /// own stands between the two sockets.
    connection: Option<Box<Http1>>,
    flight: Rc<InFlight>,
    outcome: Outcome,
    /// Whether messages of the client may still be refused.
    is_judged_by_message: bool,
    refusal_told: bool,
    _at: Option<AtEndpoint>,
    _slot: Option<StreamSlot>,
}

impl GateBody {
    /// A body that is complete.
    #[must_use]
    pub fn whole(body: Full<Bytes>) -> Self {
        Self(Kind::Whole(body))
    }

    /// A body that is sent instead of one that was read to its end.
    #[must_use]
    pub(super) fn instead(read: Self, body: Full<Bytes>) -> Self {
        match read.0 {
            Kind::Whole(_) => Self(Kind::Whole(body)),
            Kind::Relayed(relayed) | Kind::Instead(_, relayed) => {
                Self(Kind::Instead(body, relayed))
            }
        }
    }

    /// The gate answers instead of the model server after all.
    pub(super) fn failed(&mut self, refusal: Refusal) {
        if let Kind::Relayed(body) = &mut self.0 {
            body.outcome.failed(refusal, "");
        }
    }
}

impl Body for GateBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        match &mut self.get_mut().0 {
            Kind::Whole(body) | Kind::Instead(body, _) => {
                Pin::new(body).poll_frame(cx).map_err(|never: Infallible| match never {})
            }
            Kind::Relayed(body) => body.poll(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.0 {
            Kind::Whole(body) | Kind::Instead(body, _) => body.is_end_stream(),
            Kind::Relayed(body) => !body.is_judged_by_message && body.incoming.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.0 {
            Kind::Whole(body) | Kind::Instead(body, _) => body.size_hint(),
            Kind::Relayed(body) => body.incoming.size_hint(),
        }
    }
}

impl RelayedBody {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        self.flight.piece_offered.set(None);
        if let Some(trailers) = self.refused_call(cx) {
            return Poll::Ready(trailers.map(|trailers| Ok(Frame::trailers(trailers))));
        }
        let mut frame = Pin::new(&mut self.incoming).poll_frame(cx);
        if frame.is_pending()
            && let Some(connection) = &mut self.connection
        {
            connection.drive(cx);
            frame = Pin::new(&mut self.incoming).poll_frame(cx);
        }
        match frame {
            Poll::Pending => Poll::Pending,
            Poll::Ready(None) => {
                // HTTP/2: a reset without an error looks like an end. While the client still sends
                // it may be one ("stop sending", RFC 9113, section 8.1); after that it is none.
                if self.is_http2 && self.flight.uploaded.get() && !self.incoming.is_end_stream() {
                    self.outcome.upstream_failed(UpstreamError::Reset);
                    return Poll::Ready(Some(Err("the model server's answer broke off".into())));
                }
                self.release(cx);
                Poll::Ready(None)
            }
            Poll::Ready(Some(Ok(frame))) => {
                if let Some(data) = frame.data_ref() {
                    self.outcome.bytes_out += data.len() as u64;
                }
                // The last piece too: an HTTP/2 client may leave no window for it.
                self.flight.piece_offered.set(Some(Instant::now()));
                if self.incoming.is_end_stream() {
                    self.release(cx);
                }
                Poll::Ready(Some(Ok(frame)))
            }
            Poll::Ready(Some(Err(error))) => {
                self.outcome.upstream_failed(UpstreamError::Reset);
                self.connection = None;
                Poll::Ready(Some(Err(error.into())))
            }
        }
    }

    /// The end of the answer when a message of the call was refused; none while none was.
    fn refused_call(&mut self, cx: &Context<'_>) -> Option<Option<HeaderMap>> {
        if self.refusal_told {
            return Some(None);
        }
        if !self.is_judged_by_message {
            return None;
        }
        let Some(Ending::Refused(refusal)) = self.flight.ended() else {
            self.flight.waiting.register(cx);
            return None;
        };
        self.refusal_told = true;
        self.outcome.refused_in_its_course(refusal);
        Some(Some(refusal::grpc_trailers(refusal)))
    }

    /// The whole answer is here: the connection may serve another request.
    fn release(&mut self, cx: &mut Context<'_>) {
        if let Some(connection) = self.connection.take() {
            connection.release(cx);
        }
    }
}

impl Drop for RelayedBody {
    fn drop(&mut self) {
        self.flight.finish();
        self.outcome.bytes_in = self.flight.bytes_in.get();
        // hyper never polls a body that it knows to be empty (`HEAD`, 204, `Content-Length: 0`).
        if let Some(connection) = self.connection.take()
            && self.incoming.is_end_stream()
        {
            connection.release(&mut Context::from_waker(std::task::Waker::noop()));
        }
    }
}

/// Makes the response that the client gets of the one that the model server gave.
pub(super) fn relay(answer: Answer, flight: Rc<InFlight>, outcome: Outcome) -> Response<GateBody> {
    let Answer { response, connection, at, slot, upgrade } = answer;
    flight.mark_answered();
    let (mut parts, incoming) = response.into_parts();
    let is_http2 = parts.version == http::Version::HTTP_2;
    parts.version = http::Version::HTTP_11;
    let protocol = parts.headers.get(header::UPGRADE).cloned();
    headers::clean_response(&mut parts.headers);
    if let Some((client, server)) = upgrade {
        parts.headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
        if let Some(protocol) = protocol {
            parts.headers.insert(header::UPGRADE, protocol);
        }
        tokio::task::spawn_local(bridge(client, server, flight, outcome, at));
        return Response::from_parts(parts, GateBody::whole(Full::default()));
    }
    debug_assert_ne!(parts.status, StatusCode::SWITCHING_PROTOCOLS);
    let body = RelayedBody {
        is_judged_by_message: flight.is_judged_by_message.get(),
        refusal_told: false,
        incoming,
        is_http2,
        connection,
        flight,
        outcome,
        _at: at,
        _slot: slot,
    };
    Response::from_parts(parts, GateBody(Kind::Relayed(Box::new(body))))
}

/// Carries bytes both ways after both sides agreed to another protocol.
async fn bridge(
    client: OnUpgrade,
    server: OnUpgrade,
    flight: Rc<InFlight>,
    mut outcome: Outcome,
    _at: Option<AtEndpoint>,
) {
    let carried = async {
        let (client, server) = tokio::try_join!(client, server)?;
        let mut client = WatchedClient { io: TokioIo::new(client), flight: &flight };
        let mut server = TokioIo::new(server);
        let counts = tokio::io::copy_bidirectional(&mut client, &mut server).await?;
        Ok::<_, BodyError>(counts)
    };
    let ended = switch::until_off(&flight.waiting, carried).await;
    if let Some(Ok((bytes_in, bytes_out))) = ended {
        (outcome.bytes_in, outcome.bytes_out) = (bytes_in, bytes_out);
    }
}

/// The client's side of an upgraded connection, which tells when the client takes nothing.
struct WatchedClient<'f> {
    io: TokioIo<Upgraded>,
    flight: &'f InFlight,
}

impl WatchedClient<'_> {
    fn note<T>(&self, written: Poll<T>) -> Poll<T> {
        let offered = &self.flight.piece_offered;
        match &written {
            Poll::Ready(_) => offered.set(None),
            Poll::Pending if offered.get().is_none() => offered.set(Some(Instant::now())),
            Poll::Pending => {}
        }
        written
    }
}

impl AsyncRead for WatchedClient<'_> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.io).poll_read(cx, buf)
    }
}

impl AsyncWrite for WatchedClient<'_> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<std::io::Result<usize>> {
        let written = Pin::new(&mut self.io).poll_write(cx, buf);
        self.note(written)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}
