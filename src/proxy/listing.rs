//! Answers that list models, cut down to what the caller may use.

use bytes::{Bytes, BytesMut};
use http::{Response, StatusCode, header};
use http_body_util::{BodyExt as _, Full};

use super::inspecting::Room;
use super::relay::GateBody;
use crate::policy::Filter;
use crate::settings::Limits;
use crate::wire::headers;
use crate::wire::model_list;
use crate::wire::refusal::Refusal;

/// Reads a list and answers what of it may be shown. An answer that is not a success is passed on.
///
/// # Errors
/// When it cannot be read, is no such list, or is larger than what is inspected: then nothing of it
/// is shown.
pub(super) async fn cut_down(
    response: Response<GateBody>,
    is_head: bool,
    path: &str,
    filter: Filter,
    may_use: impl Fn(&str) -> bool,
    limits: &Limits,
    mut room: Room,
) -> Result<Response<GateBody>, Refusal> {
    let (mut parts, mut body) = response.into_parts();
    let has_list = parts.status.is_success() && parts.status != StatusCode::NO_CONTENT;
    if !has_list {
        return Ok(Response::from_parts(parts, body));
    }
    headers::forget_the_whole(&mut parts.headers);
    if is_head {
        return Ok(Response::from_parts(parts, body));
    }
    let cut = match read(&mut body, limits, &mut room).await {
        Ok(list) if !parts.headers.contains_key(header::CONTENT_ENCODING) => {
            model_list::cut_down(filter, &list, may_use).ok_or(Refusal::UpstreamProtocol)
        }
        Ok(_) => Err(Refusal::UpstreamProtocol),
        Err(refusal) => Err(refusal),
    };
    match cut {
        Ok(list) => {
            Ok(Response::from_parts(parts, GateBody::instead(body, Full::from(Bytes::from(list)))))
        }
        Err(refusal) => {
            body.failed(refusal, path);
            Err(refusal)
        }
    }
}

async fn read(body: &mut GateBody, limits: &Limits, room: &mut Room) -> Result<Bytes, Refusal> {
    let mut list = BytesMut::new();
    while let Some(frame) = body.frame().await {
        let Ok(frame) = frame else { return Err(Refusal::UpstreamReset) };
        let Some(piece) = frame.data_ref() else { continue };
        if list.len() + piece.len() > limits.inspect_body_bytes {
            return Err(Refusal::UpstreamProtocol);
        }
        if !room.resize(list.len() + piece.len()) {
            return Err(Refusal::Overloaded);
        }
        list.extend_from_slice(piece);
    }
    Ok(list.freeze())
}
