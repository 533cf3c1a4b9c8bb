//! Bodies on their way through the gate, and connections that were upgraded.

use std::convert::Infallible;
use std::error::Error as StdError;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Instant;

use bytes::Bytes;
use http::header::{self, HeaderMap, HeaderValue};
use http::{Response, StatusCode};
use http_body::{Body, Frame, SizeHint};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::flight::{Ending, InFlight};
use super::outcome::Outcome;
use super::pool::{Answer, Http1, StreamSlot};
use super::switch;
use crate::telemetry::metrics::UpstreamError;
use crate::upstream::AtEndpoint;
use crate::wire::headers;
use crate::wire::refusal::{self, Refusal};

/// What ends a body early.
pub(super) type BodyError = Box<dyn StdError + Send + Sync>;

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
    pub(super) fn failed(&mut self, refusal: Refusal, path: &str) {
        if let Kind::Relayed(body) = &mut self.0 {
            body.outcome.failed(refusal, path);
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
            Kind::Whole(body) => {
                Pin::new(body).poll_frame(cx).map_err(|never: Infallible| match never {})
            }
            Kind::Instead(body, read) => {
                // An HTTP/2 client may leave no window for it.
                read.flight.piece_offered.set(Some(Instant::now()));
                Pin::new(body).poll_frame(cx).map_err(|never: Infallible| match never {})
            }
            Kind::Relayed(body) => body.poll(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.0 {
            Kind::Whole(body) | Kind::Instead(body, _) => body.is_end_stream(),
            Kind::Relayed(body) => body.incoming.is_end_stream() && !body.has_refusal_to_tell(),
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

    /// Whether trailers of the gate are to come, whatever the model server said. Only then: an answer
    /// of headers alone has to end with them, or gRPC clients do not look for the status there (gRPC
    /// over HTTP/2, "Trailers-Only").
    fn has_refusal_to_tell(&self) -> bool {
        self.is_judged_by_message
            && !self.refusal_told
            && matches!(self.flight.ended(), Some(Ending::Refused(_)))
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
