//! One request on one connection: sent, and waited for.

use std::future::poll_fn;
use std::pin::pin;
use std::rc::Rc;
use std::task::Poll;

use http::{Request, Response, StatusCode};
use hyper::body::Incoming;
use hyper::client::conn::http2;

use super::{Answer, Failed, Http1};
use crate::policy::Reason;
use crate::proxy::flight::{Ending, InFlight};
use crate::proxy::upload::OutBody;
use crate::wire::refusal::Refusal;

pub(super) async fn send_http1(
    mut connection: Box<Http1>,
    request: Request<OutBody>,
    flight: &Rc<InFlight>,
) -> Result<Answer, Failed> {
    let sending = connection.sender.try_send_request(request);
    let mut sending = pin!(sending);
    let response = wait(
        poll_fn(|cx| {
            connection.drive(cx);
            sending.as_mut().poll(cx)
        }),
        flight,
    )
    .await?;
    if response.status() == StatusCode::SWITCHING_PROTOCOLS {
        // Nobody asked for that.
        return Err(Failed { refusal: Refusal::UpstreamProtocol, unsent: None });
    }
    Ok(Answer { response, connection: Some(connection), at: None, slot: None, upgrade: None })
}

pub(super) async fn send_http2(
    mut sender: http2::SendRequest<OutBody>,
    request: Request<OutBody>,
    flight: &Rc<InFlight>,
) -> Result<Answer, Failed> {
    let response = wait(sender.try_send_request(request), flight).await?;
    Ok(Answer { response, connection: None, at: None, slot: None, upgrade: None })
}

/// Waits for the head of an answer, or for the flight's end.
pub(super) async fn wait(
    sending: impl Future<
        Output = Result<Response<Incoming>, hyper::client::conn::TrySendError<Request<OutBody>>>,
    >,
    flight: &Rc<InFlight>,
) -> Result<Response<Incoming>, Failed> {
    let mut sending = pin!(sending);
    let sent = poll_fn(|cx| {
        if let Some(why) = flight.ended() {
            return Poll::Ready(Err(why));
        }
        flight.waiting.register(cx);
        sending.as_mut().poll(cx).map(Ok)
    })
    .await;
    match sent {
        Ok(Ok(response)) => Ok(response),
        Ok(Err(mut error)) => {
            if let Some(why) = flight.ended() {
                // What ended the flight made the exchange fail in the same breath.
                return Err(Failed { refusal: refusal_for(why), unsent: None });
            }
            let unsent = error.take_message();
            let cause = error.error();
            let refusal = if flight.client_failed.get() {
                Refusal::Denied(Reason::BadBody)
            } else if cause.is_parse() || cause.is_parse_too_large() {
                Refusal::UpstreamProtocol
            } else {
                Refusal::UpstreamReset
            };
            tracing::debug!(error = %cause, "no answer of the model server");
            Err(Failed { refusal, unsent })
        }
        Err(why) => Err(Failed { refusal: refusal_for(why), unsent: None }),
    }
}

/// Waits for something that nothing was sent for yet, or for the flight's end.
pub(super) async fn unless_ended<T>(
    future: impl Future<Output = T>,
    flight: &Rc<InFlight>,
) -> Result<T, Refusal> {
    let mut future = pin!(future);
    poll_fn(|cx| {
        if let Some(why) = flight.ended() {
            return Poll::Ready(Err(refusal_for(why)));
        }
        flight.waiting.register(cx);
        future.as_mut().poll(cx).map(Ok)
    })
    .await
}

fn refusal_for(why: Ending) -> Refusal {
    match why {
        Ending::ResponseTimeout => Refusal::UpstreamTimeout,
        Ending::BodyTimeout | Ending::WriteTimeout => Refusal::BodyTimeout,
        Ending::Revoked => Refusal::Revoked,
        Ending::Drain => Refusal::Overloaded,
        Ending::Refused(refusal) => refusal,
    }
}
