//! The description of the API in `OpenAPI` 3.1, made of the table of calls and the types of bodies.

use std::sync::LazyLock;

use bytes::Bytes;
use http::header::{self, HeaderValue};
use http::{Response, StatusCode};
use http_body_util::Full;
use serde_json::{Map, Value, json};
use utoipa::openapi::RefOr;
use utoipa::openapi::schema::Schema;
use utoipa::{PartialSchema, ToSchema};

use super::explanation::Explained;
use super::input::{EmptyBody, ExplainBody, LimitsBody, NewTokenBody, PatchBody, RegenerateBody};
use super::list::{MAX_LIMIT, SORT_KEYS, TokensView};
use super::namespaces::{NamespacesView, RoutesView};
use super::problem::Problem;
use super::response::Body;
use super::router::{ENDPOINTS, Endpoint, Operation};
use super::tokens::TokenAnswer;

static DOCUMENT: LazyLock<Bytes> = LazyLock::new(|| {
    let text = serde_json::to_vec_pretty(&document()).unwrap_or_default();
    Bytes::from(text)
});

/// The document, as it is sent.
pub(super) fn response() -> Response<Body> {
    let mut response = Response::new(Full::new(DOCUMENT.clone()));
    *response.status_mut() = StatusCode::OK;
    let content_type = HeaderValue::from_static("application/json");
    response.headers_mut().insert(header::CONTENT_TYPE, content_type);
    response
}

/// What the document says of a call beside its place in the table.
struct Described {
    summary: &'static str,
    description: &'static str,
    request: Option<RequestBody>,
    success: u16,
    answer: Option<String>,
    /// Statuses of refusals, beside those that every call has.
    refusals: &'static [u16],
}

struct RequestBody {
    schema: String,
    is_required: bool,
}

/// A host, a site, a key or a wait that is not right, and what must not happen.
const REFUSALS_OF_ALL: [u16; 6] = [400, 401, 403, 421, 429, 500];

/// What can be wrong with a change, beside.
const CHANGE: &[u16] = &[404, 408, 409, 412, 413, 415, 422, 503];

fn described(operation: Operation) -> Option<Described> {
    let read = |summary, description, answer, refusals| Described {
        summary,
        description,
        request: None,
        success: 200,
        answer: Some(answer),
        refusals,
    };
    let change = |summary, description, request, success, answer| Described {
        summary,
        description,
        request,
        success,
        answer,
        refusals: CHANGE,
    };
    let body = |schema, is_required| Some(RequestBody { schema, is_required });
    let token = || Some(name::<TokenAnswer<'_>>());
    Some(match operation {
        Operation::Page | Operation::PageFile | Operation::OpenApi => return None,
        Operation::ListNamespaces => read(
            "List the namespaces that the key opens",
            "With where their requests go, the groups that their routes ask for, and whether \
             their tokens can be changed here.",
            name::<NamespacesView>(),
            &[],
        ),
        Operation::ListTokens => read(
            "List tokens",
            "A page of the tokens in force that the filters leave, in the order of the file \
             unless `sort` says another.",
            name::<TokensView<'_>>(),
            &[404, 422],
        ),
        Operation::CreateToken => change(
            "Issue a token",
            "The answer has its secret: this is the one time it is shown.",
            body(name::<NewTokenBody>(), true),
            201,
            token(),
        ),
        Operation::GetToken => {
            read("Show a token", "As it is in force.", name::<TokenAnswer<'_>>(), &[404])
        }
        Operation::UpdateToken => change(
            "Change a token",
            "What is absent stays as it is.",
            body(name::<PatchBody>(), true),
            200,
            token(),
        ),
        Operation::DeleteToken => change(
            "Delete a token",
            "It is refused from then on; open streams of it are ended.",
            None,
            204,
            None,
        ),
        Operation::RegenerateToken => change(
            "Give a token a new secret",
            "Id, resources and groups stay. The old secret stops at once, or after the grace \
             period; one that was in its grace already stops at once.",
            body(name::<RegenerateBody>(), false),
            200,
            token(),
        ),
        Operation::DisableToken => change(
            "Switch a token off",
            "It can be switched on again.",
            body(name::<EmptyBody>(), false),
            200,
            token(),
        ),
        Operation::EnableToken => change(
            "Switch a token on again",
            "Its secret and rights are as before.",
            body(name::<EmptyBody>(), false),
            200,
            token(),
        ),
        Operation::Explain => Described {
            request: body(name::<ExplainBody>(), true),
            ..read(
                "Say whether a request would be allowed, and why",
                "Judged as the gate would; nothing is sent anywhere.",
                name::<Explained<'_>>(),
                &[404, 408, 413, 415, 422],
            )
        },
        Operation::ListRoutes => read(
            "List the routes in force",
            "A request is judged by the most specific one that matches it.",
            name::<RoutesView<'_>>(),
            &[404],
        ),
    })
}

fn name<T: ToSchema>() -> String {
    T::name().into_owned()
}

fn reference(name: &str) -> Value {
    json!({ "$ref": format!("#/components/schemas/{name}") })
}

fn schemas() -> Map<String, Value> {
    let mut all: Vec<(String, RefOr<Schema>)> = Vec::new();
    fn add<T: ToSchema + PartialSchema>(all: &mut Vec<(String, RefOr<Schema>)>) {
        all.push((T::name().into_owned(), T::schema()));
        T::schemas(all);
    }
    add::<Problem<'_>>(&mut all);
    add::<NamespacesView>(&mut all);
    add::<TokensView<'_>>(&mut all);
    add::<TokenAnswer<'_>>(&mut all);
    add::<RoutesView<'_>>(&mut all);
    add::<Explained<'_>>(&mut all);
    add::<NewTokenBody>(&mut all);
    add::<PatchBody>(&mut all);
    add::<RegenerateBody>(&mut all);
    add::<EmptyBody>(&mut all);
    add::<ExplainBody>(&mut all);
    let json = |schema| serde_json::to_value(schema).unwrap_or_default();
    let mut schemas: Map<String, Value> =
        all.into_iter().map(|(name, schema)| (name, json(schema))).collect();
    // What attributes of one member cannot say.
    let mut exclude = |name: String, combination: Value| {
        if let Some(schema) = schemas.get_mut(&name) {
            schema["not"] = combination;
        }
    };
    exclude(
        name::<NewTokenBody>(),
        json!({ "required": ["expires_at", "expires_in"],
                "properties": { "expires_at": { "type": "string" },
                                "expires_in": { "type": "string" } } }),
    );
    exclude(
        name::<LimitsBody>(),
        json!({ "required": ["burst"],
                "properties": { "burst": { "type": "integer" },
                                "requests_per_second": { "type": "null" } } }),
    );
    schemas
}

fn parameters(endpoint: &Endpoint) -> Vec<Value> {
    let in_path = |name: &str, pattern: &str, description: &str| {
        json!({ "name": name, "in": "path", "required": true, "description": description,
                "schema": { "type": "string", "pattern": pattern } })
    };
    let in_query = |name: &str, description: &str, schema: Value| json!({ "name": name, "in": "query", "description": description, "schema": schema });
    let in_header = |name: &str, description: &str, schema: Value| json!({ "name": name, "in": "header", "description": description, "schema": schema });
    let mut parameters = Vec::new();
    if endpoint.path.contains("{namespace}") {
        let description = "The namespace's name, as in the settings.";
        parameters.push(in_path("namespace", "^[A-Za-z0-9._-]{1,64}$", description));
    }
    if endpoint.path.contains("{id}") {
        parameters.push(in_path("id", "^[A-Za-z0-9._-]{1,64}$", "The token's id."));
    }
    if endpoint.operation == Operation::ListTokens {
        let sorts = SORT_KEYS.iter().flat_map(|key| [(*key).to_owned(), format!("-{key}")]);
        let sorts: Vec<String> = sorts.collect();
        let text = json!({ "type": "string" });
        parameters.extend([
            in_query(
                "q",
                "Text in the name, id, resources or labels; letter case is ignored.",
                text.clone(),
            ),
            in_query("group", "Only tokens with this group.", text.clone()),
            in_query(
                "state",
                "Only tokens in this state.",
                json!({ "type": "string", "enum": ["active", "expired", "disabled"] }),
            ),
            in_query(
                "sort",
                "By what the tokens are sorted; `-` before it: from the last to the \
                first. What has no such value comes last.",
                json!({ "type": "string", "enum": sorts, "default": "file" }),
            ),
            in_query("cursor", "The `next_cursor` of the page before.", text),
            in_query(
                "limit",
                "How many tokens a page has.",
                json!({ "type": "integer", "minimum": 1, "maximum": MAX_LIMIT, "default": 50 }),
            ),
        ]);
    }
    let is_change = endpoint.method != "GET" && endpoint.operation != Operation::Explain;
    if is_change {
        parameters.push(in_header(
            "If-Match",
            "The generation, in quotation marks, that the token file must have: else 412. `*` is any.",
            json!({ "type": "string", "pattern": "^(\"[0-9a-f]{64}\"|\\*)$" }),
        ));
    }
    if is_change && endpoint.method == "POST" {
        parameters.push(in_header(
            "Idempotency-Key",
            "Sent again within 10 minutes with the same body, the request gets the same answer.",
            json!({ "type": "string", "pattern": "^[!-~]{1,255}$" }),
        ));
    }
    parameters
}

fn response_headers(status: u16, endpoint: &Endpoint) -> Value {
    let text =
        |description: &str| json!({ "description": description, "schema": { "type": "string" } });
    let mut headers = Map::new();
    let mut add = |name: &str, header: Value| drop(headers.insert(name.into(), header));
    add("X-Request-Id", text("The request's id, as in logs and audit lines."));
    if status >= 400 {
        add("Faregate-Reason", text("The `reason` of the problem."));
    }
    let is_change = endpoint.method != "GET" && endpoint.operation != Operation::Explain;
    if is_change && endpoint.method == "POST" && matches!(status, 200 | 201 | 409) {
        let description = "Is there when this is the answer of an earlier request with the same \
                           `Idempotency-Key`.";
        add(
            "Idempotent-Replayed",
            json!({ "description": description,
                                           "schema": { "type": "string", "enum": ["true"] } }),
        );
    }
    match status {
        401 => add("WWW-Authenticate", text("How to bring the key (RFC 6750).")),
        429 | 503 => add(
            "Retry-After",
            json!({ "description": "Seconds to wait.",
                                    "schema": { "type": "integer" } }),
        ),
        201 => add("Location", text("The path of the new token.")),
        _ => {}
    }
    let is_of_file = !matches!(endpoint.operation, Operation::ListNamespaces | Operation::Explain);
    if matches!(status, 200 | 201) && is_of_file {
        add("ETag", text("The generation of the token file, for `If-Match`."));
    }
    Value::Object(headers)
}

fn responses(endpoint: &Endpoint, described: &Described) -> Map<String, Value> {
    let mut responses = Map::new();
    let name_of = |status: u16| {
        let status = StatusCode::from_u16(status).ok();
        status.and_then(|status| status.canonical_reason()).unwrap_or_default()
    };
    let mut success = json!({ "description": name_of(described.success),
                              "headers": response_headers(described.success, endpoint) });
    if let Some(answer) = &described.answer {
        success["content"] = json!({ "application/json": { "schema": reference(answer) } });
    }
    responses.insert(described.success.to_string(), success);
    for status in REFUSALS_OF_ALL.iter().chain(described.refusals) {
        responses.insert(
            status.to_string(),
            json!({
                "description": name_of(*status),
                "headers": response_headers(*status, endpoint),
                "content": {
                    "application/problem+json": { "schema": reference(&name::<Problem<'_>>()) }
                },
            }),
        );
    }
    responses
}

fn document() -> Value {
    let mut paths = Map::new();
    for endpoint in &ENDPOINTS {
        let Some(described) = described(endpoint.operation) else { continue };
        let mut operation = json!({
            "operationId": endpoint.operation.as_str(),
            "summary": described.summary,
            "description": described.description,
            "parameters": parameters(endpoint),
            "responses": responses(endpoint, &described),
        });
        if let Some(request) = &described.request {
            operation["requestBody"] = json!({
                "required": request.is_required,
                "content": { "application/json": { "schema": reference(&request.schema) } },
            });
        }
        let path = paths.entry(endpoint.path).or_insert_with(|| json!({}));
        path[endpoint.method.to_lowercase()] = operation;
    }
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "Faregate admin API",
            "version": env!("CARGO_PKG_VERSION"),
            "license": { "name": "Apache-2.0", "identifier": "Apache-2.0" },
            "description": "Issues, changes and withdraws the tokens of the namespaces that an \
                administrator key opens. A change is answered when it is on disk and in force.",
        },
        "paths": paths,
        "components": {
            "schemas": schemas(),
            "securitySchemes": {
                "administrator_key": {
                    "type": "http",
                    "scheme": "bearer",
                    "description": "An administrator key: `fga_…`, from `faregate admin-key issue`.",
                },
            },
        },
        "security": [{ "administrator_key": [] }],
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reference_leads_somewhere() {
        let document = document();
        let text = document.to_string();
        let schemas = document["components"]["schemas"].as_object().unwrap();
        let mut references = 0;
        for part in text.split("\"$ref\":\"#/components/schemas/").skip(1) {
            let name = part.split('"').next().unwrap();
            assert!(schemas.contains_key(name), "{name}");
            references += 1;
        }
        assert!(references > 20);
    }

    #[test]
    fn every_call_with_a_key_is_described() {
        let document = document();
        for endpoint in ENDPOINTS.iter().filter(|endpoint| !endpoint.operation.is_public()) {
            let operation = &document["paths"][endpoint.path][endpoint.method.to_lowercase()];
            assert_eq!(operation["operationId"], endpoint.operation.as_str());
        }
    }
}
