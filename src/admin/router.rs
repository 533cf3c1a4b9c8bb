//! Which calls there are: the one table that requests are matched with and the `OpenAPI` document
//! is made of.

use http::Method;

/// What a call does. Its name is the `action` of metrics and audit lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[allow(missing_docs, reason = "each is a line of the table below")]
pub enum Operation {
    Page,
    PageFile,
    OpenApi,
    ListNamespaces,
    ListTokens,
    CreateToken,
    GetToken,
    UpdateToken,
    DeleteToken,
    RegenerateToken,
    DisableToken,
    EnableToken,
    Explain,
    ListRoutes,
}

impl Operation {
    /// As in metrics, audit lines and the `OpenAPI` document.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Page => "page",
            Self::PageFile => "page_file",
            Self::OpenApi => "openapi",
            Self::ListNamespaces => "list_namespaces",
            Self::ListTokens => "list_tokens",
            Self::CreateToken => "create_token",
            Self::GetToken => "get_token",
            Self::UpdateToken => "update_token",
            Self::DeleteToken => "delete_token",
            Self::RegenerateToken => "regenerate_token",
            Self::DisableToken => "disable_token",
            Self::EnableToken => "enable_token",
            Self::Explain => "explain",
            Self::ListRoutes => "list_routes",
        }
    }

    /// Whether it is answered without an administrator key: what it answers is the same for
    /// everybody and says nothing of any namespace.
    #[must_use]
    pub fn is_public(self) -> bool {
        matches!(self, Self::Page | Self::PageFile | Self::OpenApi)
    }
}

/// A line of the table of calls.
#[derive(Debug, Clone, Copy)]
pub struct Endpoint {
    /// `GET` includes `HEAD`.
    pub method: &'static str,
    /// `{…}` stands for one segment.
    pub path: &'static str,
    /// What is done.
    pub operation: Operation,
}

const fn at(method: &'static str, path: &'static str, operation: Operation) -> Endpoint {
    Endpoint { method, path, operation }
}

/// Every call.
pub const ENDPOINTS: [Endpoint; 14] = [
    at("GET", "/", Operation::Page),
    at("GET", "/page/{file}", Operation::PageFile),
    at("GET", "/openapi.json", Operation::OpenApi),
    at("GET", "/api/v1/namespaces", Operation::ListNamespaces),
    at("GET", "/api/v1/namespaces/{namespace}/tokens", Operation::ListTokens),
    at("POST", "/api/v1/namespaces/{namespace}/tokens", Operation::CreateToken),
    at("GET", "/api/v1/namespaces/{namespace}/tokens/{id}", Operation::GetToken),
    at("PATCH", "/api/v1/namespaces/{namespace}/tokens/{id}", Operation::UpdateToken),
    at("DELETE", "/api/v1/namespaces/{namespace}/tokens/{id}", Operation::DeleteToken),
    at("POST", "/api/v1/namespaces/{namespace}/tokens/{id}/regenerate", Operation::RegenerateToken),
    at("POST", "/api/v1/namespaces/{namespace}/tokens/{id}/disable", Operation::DisableToken),
    at("POST", "/api/v1/namespaces/{namespace}/tokens/{id}/enable", Operation::EnableToken),
    at("POST", "/api/v1/namespaces/{namespace}/explain", Operation::Explain),
    at("GET", "/api/v1/namespaces/{namespace}/routes", Operation::ListRoutes),
];

/// What a request is for.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Found<'p> {
    /// A call, with what stands in the place of `{…}`, in order.
    Call(Operation, Vec<&'p str>),
    /// The path is one of another method; these are its methods.
    OtherMethod(String),
    /// Nothing.
    Nothing,
}

/// Finds the call of a request. Segments are compared as they stand: no name that is served needs
/// an escape.
pub(super) fn find<'p>(method: &Method, path: &'p str) -> Found<'p> {
    let method = if *method == Method::HEAD { "GET" } else { method.as_str() };
    let mut methods: Vec<&str> = Vec::new();
    for endpoint in &ENDPOINTS {
        let Some(values) = matched(endpoint.path, path) else { continue };
        if endpoint.method == method {
            return Found::Call(endpoint.operation, values);
        }
        methods.push(endpoint.method);
        if endpoint.method == "GET" {
            methods.push("HEAD");
        }
    }
    if methods.is_empty() { Found::Nothing } else { Found::OtherMethod(methods.join(", ")) }
}

fn matched<'p>(template: &str, path: &'p str) -> Option<Vec<&'p str>> {
    let mut values = Vec::new();
    let mut given = path.split('/');
    for expected in template.split('/') {
        let given = given.next()?;
        if expected.starts_with('{') {
            if given.is_empty() {
                return None;
            }
            values.push(given);
        } else if expected != given {
            return None;
        }
    }
    given.next().is_none().then_some(values)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_matched_whole() {
        let get = |path| find(&Method::GET, path);
        assert_eq!(get("/"), Found::Call(Operation::Page, vec![]));
        let tokens = "/api/v1/namespaces/a/tokens";
        assert_eq!(get(tokens), Found::Call(Operation::ListTokens, vec!["a"]));
        let head = find(&Method::HEAD, "/api/v1/namespaces/a/tokens/t");
        assert_eq!(head, Found::Call(Operation::GetToken, vec!["a", "t"]));
        for nothing in ["", "/api", "/api/v1/namespaces/", "/api/v1/namespaces//tokens", "//"] {
            assert_eq!(get(nothing), Found::Nothing, "{nothing}");
        }
        assert_eq!(find(&Method::PUT, tokens), Found::OtherMethod("GET, HEAD, POST".into()));
    }
}
