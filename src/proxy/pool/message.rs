use http::header::{self, HeaderMap, HeaderValue};
use http::uri::{PathAndQuery, Scheme as UriScheme};
use http::{Request, Uri, Version};
use http_body::Body as _;

use crate::proxy::upload::OutBody;
use crate::wire::refusal::Refusal;

/// What a request is made of besides headers and body.
pub(super) struct Message {
    pub(super) target: PathAndQuery,
    pub(super) host: HeaderValue,
    pub(super) takes_trailers: bool,
}

impl Message {
    pub(super) fn in_http1(&self, request: &mut Request<OutBody>) {
        *request.version_mut() = Version::HTTP_11;
        *request.uri_mut() = Uri::from(self.target.clone());
        let headers = request.headers_mut();
        headers.remove(header::TE);
        headers.insert(header::HOST, self.host.clone());
        join_cookies(headers);
        // hyper would leave a body of unknown length out of a GET.
        if request.body().size_hint().exact().is_none() {
            let chunked = HeaderValue::from_static("chunked");
            request.headers_mut().insert(header::TRANSFER_ENCODING, chunked);
        }
    }

    pub(super) fn in_http2(
        &self,
        request: &mut Request<OutBody>,
        scheme: UriScheme,
    ) -> Result<(), Refusal> {
        *request.version_mut() = Version::HTTP_2;
        let host = self.host.to_str().map_err(|_| Refusal::Internal)?;
        *request.uri_mut() = Uri::builder()
            .scheme(scheme)
            .authority(host)
            .path_and_query(self.target.clone())
            .build()
            .map_err(|_| Refusal::Internal)?;
        let headers = request.headers_mut();
        headers.remove(header::HOST);
        if self.takes_trailers {
            headers.insert(header::TE, HeaderValue::from_static("trailers"));
        }
        Ok(())
    }
}

/// HTTP/2 may part cookies into several lines; before HTTP/2 there is one (RFC 9113, section 8.2.3).
fn join_cookies(headers: &mut HeaderMap) {
    let lines: Vec<&[u8]> =
        headers.get_all(header::COOKIE).iter().map(HeaderValue::as_bytes).collect();
    if lines.len() > 1
        && let Ok(joined) = HeaderValue::from_bytes(&lines.join(&b"; "[..]))
    {
        headers.insert(header::COOKIE, joined);
    }
}
