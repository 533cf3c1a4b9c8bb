//! What a gateway asks, whichever language it asks in, and how it is judged.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Instant;

use ::http::header::{self, HeaderMap, HeaderName, HeaderValue};
use ::http::{Method, Uri};
use bytes::Bytes;
use http_body_util::BodyExt as _;
use hyper::body::{Body as _, Incoming};

use super::ForwardAuth;
use super::record::Record;
use crate::live::{self, Asked, NamespaceInForce, Refused};
use crate::policy::{
    BodyFault, BodyModel, Decision, Denial, Inspection, MessageDecision, Permit, Reason,
};
use crate::wire::headers;
use crate::wire::inspect::{self, BodyReader, Fault};
use crate::wire::refusal::Refusal;

/// By this header Envoy tells whether it sent less than the whole body.
pub(super) const PARTIAL_BODY: HeaderName = HeaderName::from_static("x-envoy-auth-partial-body");

/// The most models that the messages of one gRPC call may name.
const MAX_MODELS: usize = 64;

/// A request that came to a gateway.
#[derive(Debug)]
pub(super) struct Question {
    pub(super) method: Method,
    pub(super) uri: Uri,
    /// Its headers, with `Host`, and without those that the gateway added to ask.
    pub(super) headers: HeaderMap,
    /// The client, as the gateway tells.
    pub(super) client: Option<IpAddr>,
    /// Whether the gateway can be told which headers to take out, whatever their names.
    pub(super) can_remove_headers: bool,
}

/// What a gateway sent of the request's body.
#[derive(Debug)]
pub(super) enum Body {
    /// Nothing, or not all of it.
    Unknown,
    /// All of it.
    Whole(Bytes),
    /// All of it, if there is any, still on its way.
    Coming(Incoming),
}

/// A request that may go on.
pub(super) struct Allowed {
    pub(super) namespace: Arc<NamespaceInForce>,
    pub(super) permit: Permit,
}

/// The law's first answer.
enum FirstAnswer {
    Allowed(Allowed),
    ReadBody(Inspection, Result<BodyReader, Fault>),
}

/// What the messages of a body name; there is one message where the body is no gRPC.
struct Models {
    first: Option<String>,
    further: Vec<Option<String>>,
}

impl Question {
    /// The id of the request: the client's if it is sane, else a new one.
    pub(super) fn request_id(&self) -> HeaderValue {
        headers::request_id(&self.headers)
    }

    fn asked(&self) -> Asked<'_> {
        // `Upgrade` is between the client and the gateway, and is not passed on by all that ask;
        // the key is there in every handshake of WebSocket (RFC 6455, section 4.1).
        let is_upgrade = headers::wanted_upgrade(&self.headers).is_some()
            || self.headers.contains_key(header::SEC_WEBSOCKET_KEY);
        Asked { method: &self.method, uri: &self.uri, headers: &self.headers, is_upgrade }
    }
}

impl ForwardAuth {
    /// Judges a request, and counts and logs what came of it.
    pub(super) async fn judge(
        &self,
        question: &Question,
        body: Body,
        record: &Record,
    ) -> Result<Allowed, Refused> {
        let judged = self.judge_unrecorded(question, body).await;
        match &judged {
            Ok(allowed) => record.allowed(allowed),
            Err(refused) => record.refused(refused),
        }
        judged
    }

    async fn judge_unrecorded(&self, question: &Question, body: Body) -> Result<Allowed, Refused> {
        let (inspection, reader) = match self.ask_first(question)? {
            FirstAnswer::Allowed(allowed) => return Ok(allowed),
            FirstAnswer::ReadBody(inspection, reader) => (inspection, reader),
        };
        let read = match reader {
            Ok(reader) => self.read(reader, &question.headers, body).await,
            Err(fault) => Err(fault.into()),
        };
        self.ask_with_body(question, inspection, read)
    }

    fn ask_first(&self, question: &Question) -> Result<FirstAnswer, Refused> {
        let started = Instant::now();
        let _judging = self.judging.enter();
        let gate = self.live.gate();
        let heard = gate.hear(question.asked())?;
        let namespace = heard.namespace.clone();
        if !question.can_remove_headers
            && question.headers.keys().any(|name| namespace.site.headers.may_deceive(name))
        {
            let refusal = Refusal::UnsafeHeader;
            return Err(Refused { refusal, namespace: Some(namespace), denial: None });
        }
        let decision = namespace.policy.decide(&heard.ask(live::now()));
        self.metrics.decision_duration.observe(started.elapsed().as_secs_f64());
        match decision {
            Decision::Allow(permit) => {
                let permit = without_filter(&namespace, permit)?;
                Ok(FirstAnswer::Allowed(Allowed { namespace, permit }))
            }
            Decision::Inspect(inspection) => {
                let routes = namespace.policy.rules().routes.routes();
                let form = routes.get(inspection.route()).and_then(|route| route.in_body());
                // A route whose body need not be read is not asked about in two steps.
                let form = form.ok_or_else(Refused::internal)?;
                let limit = gate.limits.inspect_body_bytes;
                let reader = inspect::reader(form, &question.headers, limit);
                Ok(FirstAnswer::ReadBody(inspection, reader))
            }
            Decision::Deny(denial) => Err(Refused::by_law(&namespace, denial)),
        }
    }

    /// Asks the law that is in force now, which may be a later one.
    fn ask_with_body(
        &self,
        question: &Question,
        inspection: Inspection,
        read: Result<Models, BodyFault>,
    ) -> Result<Allowed, Refused> {
        let _judging = self.judging.enter();
        let heard = self.live.gate().hear(question.asked())?;
        let (namespace, now) = (heard.namespace.clone(), live::now());
        let first = match &read {
            Ok(models) => body_model(models.first.as_deref()),
            Err(fault) => BodyModel::Unclear(*fault),
        };
        let permit = match namespace.policy.decide_with(&heard.ask(now), inspection, first) {
            Decision::Allow(permit) => without_filter(&namespace, permit)?,
            Decision::Deny(denial) => return Err(Refused::by_law(&namespace, denial)),
            Decision::Inspect(inspection) => {
                // The routes changed while the body came, and now it had to be read otherwise.
                let denial = inspection.denied(Reason::ModelUnresolved);
                return Err(Refused::by_law(&namespace, denial));
            }
        };
        let mut grant = permit.grant();
        for model in read.iter().flat_map(|models| &models.further) {
            let found = body_model(model.as_deref());
            let rules = namespace.policy.rules();
            match namespace.policy.decide_message(&mut grant, rules, found, now) {
                MessageDecision::Pass { .. } => {}
                MessageDecision::Refuse(reason) => {
                    let (route, token) = (permit.route(), permit.token());
                    let denial = Denial { route, token, ..Denial::early(reason) };
                    return Err(Refused::by_law(&namespace, denial));
                }
            }
        }
        Ok(Allowed { namespace, permit })
    }

    /// Reads a body to its end. It is not kept: the gateway has it, and forwards it.
    async fn read(
        &self,
        reader: BodyReader,
        headers: &HeaderMap,
        body: Body,
    ) -> Result<Models, BodyFault> {
        if headers.get_all(PARTIAL_BODY).iter().any(|partial| partial != "false") {
            return Err(BodyFault::Absent);
        }
        let mut scan = Scan { reader, models: Vec::new(), is_empty: true };
        match body {
            Body::Unknown => {}
            Body::Whole(body) => scan.feed(body)?,
            Body::Coming(mut body) => {
                let limits = self.limits();
                while !body.is_end_stream() {
                    let frame = tokio::time::timeout(limits.body_idle_timeout, body.frame());
                    match frame.await {
                        Ok(Some(Ok(frame))) => {
                            if let Ok(piece) = frame.into_data() {
                                scan.feed(piece)?;
                            }
                        }
                        Ok(None) => break,
                        // It broke off, or did not go on.
                        Ok(Some(Err(_))) | Err(_) => return Err(BodyFault::Malformed),
                    }
                }
            }
        }
        scan.end()
    }
}

/// A list that the token may see a part of cannot be cut down here: its answer does not pass here.
fn without_filter(namespace: &Arc<NamespaceInForce>, permit: Permit) -> Result<Permit, Refused> {
    if permit.filter().is_none() {
        return Ok(permit);
    }
    let (route, token) = (permit.route(), permit.token());
    let denial = Denial { route, token, ..Denial::early(Reason::ResourceNotAllowed) };
    Err(Refused::by_law(namespace, denial))
}

fn body_model(model: Option<&str>) -> BodyModel<'_> {
    model.map_or(BodyModel::None, BodyModel::One)
}

/// A body that is being read.
struct Scan {
    reader: BodyReader,
    models: Vec<Option<String>>,
    is_empty: bool,
}

impl Scan {
    fn feed(&mut self, mut piece: Bytes) -> Result<(), BodyFault> {
        self.is_empty &= piece.is_empty();
        match &mut self.reader {
            BodyReader::Whole(scan) => Ok(scan.feed(&piece)?),
            BodyReader::Messages(scan) => {
                while let Some(message) = scan.next(&mut piece)? {
                    if self.models.contains(&message.model) {
                        continue;
                    }
                    if self.models.len() == MAX_MODELS {
                        return Err(BodyFault::Conflict);
                    }
                    self.models.push(message.model);
                }
                Ok(())
            }
        }
    }

    /// An empty body is none: no gateway tells the two apart, and who sends none may have one that
    /// the gateway did not send along.
    fn end(self) -> Result<Models, BodyFault> {
        if self.is_empty {
            return Err(BodyFault::Absent);
        }
        match self.reader {
            BodyReader::Whole(scan) => Ok(Models { first: scan.end()?, further: Vec::new() }),
            BodyReader::Messages(scan) => {
                scan.end()?;
                let mut models = self.models.into_iter();
                let first = models.next().ok_or(BodyFault::Absent)?;
                Ok(Models { first, further: models.collect() })
            }
        }
    }
}
