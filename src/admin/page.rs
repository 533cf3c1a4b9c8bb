//! The token page: files that are part of the program, so that nothing else has to be installed.

use bytes::Bytes;
use http::Response;
use http::header::{self, HeaderValue};
use http_body_util::Full;

use super::response::Body;

struct File {
    name: &'static str,
    content_type: &'static str,
    text: &'static str,
}

const HTML: &str = "text/html; charset=utf-8";
const CSS: &str = "text/css; charset=utf-8";
const SCRIPT: &str = "text/javascript; charset=utf-8";
const SVG: &str = "image/svg+xml";

macro_rules! files {
    ($($name:literal: $content_type:expr,)+) => {
        [$(File {
            name: $name,
            content_type: $content_type,
            text: include_str!(concat!("page/", $name)),
        }),+]
    };
}

/// The page itself, then what it loads from `/page/…`.
static FILES: [File; 22] = files! {
    "index.html": HTML,
    "page.css": CSS,
    "icon.svg": SVG,
    "api.js": SCRIPT,
    "app.js": SCRIPT,
    "dates.js": SCRIPT,
    "dialog.js": SCRIPT,
    "dom.js": SCRIPT,
    "expiry-field.js": SCRIPT,
    "explain-dialog.js": SCRIPT,
    "icons.js": SCRIPT,
    "menu.js": SCRIPT,
    "namespace-view.js": SCRIPT,
    "pattern.js": SCRIPT,
    "resource-field.js": SCRIPT,
    "secret-box.js": SCRIPT,
    "sign-in.js": SCRIPT,
    "text.js": SCRIPT,
    "token-details.js": SCRIPT,
    "token-dialogs.js": SCRIPT,
    "token-form.js": SCRIPT,
    "token-table.js": SCRIPT,
};

/// A file of the page by its name; the page itself without one.
pub(super) fn file(name: Option<&str>) -> Option<Response<Body>> {
    let (page, others) = FILES.split_first()?;
    let file = match name {
        None => page,
        Some(name) => others.iter().find(|file| file.name == name)?,
    };
    let mut response = Response::new(Full::new(Bytes::from_static(file.text.as_bytes())));
    let content_type = HeaderValue::from_static(file.content_type);
    response.headers_mut().insert(header::CONTENT_TYPE, content_type);
    Some(response)
}
