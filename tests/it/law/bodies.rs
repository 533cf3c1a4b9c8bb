//! Models that are named in bodies: the second question to the law, the messages of a gRPC call, and
//! lists whose answer is cut down.

use std::sync::Arc;

use faregate::policy::{
    Ask, BodyFault, BodyForm, BodyModel, Caller, Decision, Filter, Grant, Inspection,
    MessageDecision, Moment, Origin, Permit, Policy, Reason, RequestPath, RouteSpec, TokenEntry,
};
use faregate::token::Presented;

use super::world::{EVALUATION, World, route, secret, token};

const NOW: Moment = Moment(1_000);
const CHAT: &str = "/v1/chat/completions";
const STREAM: &str = "/inference.GRPCInferenceService/ModelStreamInfer";
const LIST: &str = "/v1/models";

fn world(patterns: &[&str]) -> World {
    let places = |names: &[&str]| Some(names.iter().map(|&name| name.into()).collect());
    let routes = [
        RouteSpec { model: places(&["body"]), ..route("POST", CHAT, EVALUATION) },
        RouteSpec { model: places(&["grpc:1"]), ..route("POST", STREAM, EVALUATION) },
        RouteSpec { filter: Some("openai-models".into()), ..route("GET", LIST, EVALUATION) },
    ];
    World {
        routes: routes.into_iter().map(|spec| (Origin::Own, spec)).collect(),
        default_model: None,
        enforce: true,
        tokens: vec![token(0, &[EVALUATION], patterns), token(1, &[], &["*"])],
    }
}

/// The policy of other tokens under the rules of another policy, as after a change of the file.
fn changed(policy: &Policy, world: &World, tokens: Vec<TokenEntry>) -> Policy {
    world.with_tokens(tokens).policy_under(Arc::clone(policy.rules()))
}

fn asking<T>(
    method: &str,
    path: &str,
    query: Option<&str>,
    number: usize,
    then: impl FnOnce(&Ask<'_>) -> T,
) -> T {
    let secret = secret(number);
    let caller = Caller::Secret { secret: Presented::new(secret.as_bytes()), user: "" };
    then(&Ask { method, path: RequestPath::parse(path).unwrap(), query, caller, now: NOW })
}

fn inspection(policy: &Policy, path: &str, query: Option<&str>) -> Inspection {
    asking("POST", path, query, 0, |ask| match policy.decide(ask) {
        Decision::Inspect(inspection) => inspection,
        other => panic!("{other:?}"),
    })
}

fn decide_with(
    policy: &Policy,
    path: &str,
    inspection: Inspection,
    found: BodyModel<'_>,
) -> Decision {
    asking("POST", path, None, 0, |ask| policy.decide_with(ask, inspection, found))
}

fn permit(decision: Decision) -> Permit {
    match decision {
        Decision::Allow(permit) => permit,
        other => panic!("{other:?}"),
    }
}

fn reason(decision: Decision) -> Reason {
    match decision {
        Decision::Deny(denial) => denial.reason,
        other => panic!("{other:?}"),
    }
}

#[test]
fn no_body_is_read_for_who_is_refused_anyway() {
    let policy = world(&["iris*"]).policy();
    for (number, query, expected) in [
        (0, Some("model=a&model=b"), Reason::ModelConflict),
        (1, None, Reason::GroupNotAllowed),
        (7, None, Reason::UnknownToken),
    ] {
        let decided = asking("POST", CHAT, query, number, |ask| policy.decide(ask));
        assert_eq!(reason(decided), expected, "{number} {query:?}");
    }
    let inspection = inspection(&policy, CHAT, None);
    let route = &policy.rules().routes.routes()[inspection.route()];
    assert_eq!(route.in_body(), Some(BodyForm::Text { json: true, form: None }));
    assert_eq!(policy.token_id(inspection.token()).unwrap().as_str(), "token-0");
    let denial = inspection.denied(Reason::BadBody);
    assert_eq!((denial.route, denial.token), (Some(0), Some(inspection.token())));
}

#[test]
fn a_change_between_the_two_questions_counts() {
    let world = world(&["iris*"]);
    let policy = world.policy();
    let narrower = changed(&policy, &world, vec![token(0, &[EVALUATION], &["iris-2"])]);
    let gone = changed(&policy, &world, Vec::new());
    let asked = || inspection(&policy, CHAT, None);
    let iris = BodyModel::One("iris");
    assert_eq!(permit(decide_with(&policy, CHAT, asked(), iris)).model().unwrap().as_str(), "iris");
    assert_eq!(reason(decide_with(&narrower, CHAT, asked(), iris)), Reason::ResourceNotAllowed);
    assert_eq!(reason(decide_with(&gone, CHAT, asked(), iris)), Reason::UnknownToken);
}

#[test]
fn a_body_that_was_read_for_another_route_is_not_taken() {
    let world = world(&["iris*"]);
    let policy = world.policy();
    // The same routes, compiled again: they may have meant something else.
    let other_rules = world.policy();
    let asked = || inspection(&policy, CHAT, None);
    let iris = BodyModel::One("iris");
    let again = decide_with(&other_rules, CHAT, asked(), iris);
    assert!(matches!(again, Decision::Inspect(_)), "{again:?}");
    let elsewhere = decide_with(&policy, STREAM, asked(), iris);
    assert!(matches!(elsewhere, Decision::Inspect(_)), "{elsewhere:?}");
}

/// A call that was let in by its first message, which named `iris`.
fn a_call(policy: &Policy, query: Option<&str>) -> Grant {
    let inspection = inspection(policy, STREAM, query);
    let found = BodyModel::One("iris");
    asking("POST", STREAM, query, 0, |ask| {
        permit(policy.decide_with(ask, inspection, found)).grant()
    })
}

fn message(policy: &Policy, grant: &mut Grant, found: BodyModel<'_>) -> MessageDecision {
    policy.decide_message(grant, &Arc::clone(policy.rules()), found, NOW)
}

const PASS: MessageDecision = MessageDecision::Pass { would_deny: None };

#[test]
fn every_message_of_a_call_is_judged() {
    let policy = world(&["iris*"]).policy();
    let mut grant = a_call(&policy, None);
    for (found, expected) in [
        (BodyModel::One("iris"), PASS),
        (BodyModel::One("iris-2"), PASS),
        (BodyModel::One("secret"), MessageDecision::Refuse(Reason::ResourceNotAllowed)),
        (BodyModel::One("iris\n"), MessageDecision::Refuse(Reason::BadModel)),
        (BodyModel::One("iris"), PASS),
        (BodyModel::None, MessageDecision::Refuse(Reason::ModelUnresolved)),
    ] {
        assert_eq!(message(&policy, &mut grant, found), expected, "{found:?}");
    }
    for fault in BodyFault::ALL {
        let decided = message(&policy, &mut grant, BodyModel::Unclear(fault));
        assert_eq!(decided, MessageDecision::Refuse(fault.reason()));
    }
}

#[test]
fn what_the_query_names_binds_every_message() {
    let policy = world(&["iris*"]).policy();
    let mut grant = a_call(&policy, Some("model=iris"));
    assert_eq!(message(&policy, &mut grant, BodyModel::None), PASS);
    let other = message(&policy, &mut grant, BodyModel::One("iris-2"));
    assert_eq!(other, MessageDecision::Refuse(Reason::ModelConflict));
}

#[test]
fn who_loses_a_model_of_a_call_loses_the_call() {
    let world = world(&["iris", "wine"]);
    let policy = world.policy();
    let rules = Arc::clone(policy.rules());
    let only_iris = changed(&policy, &world, vec![token(0, &[EVALUATION], &["iris"])]);
    let mut grant = a_call(&policy, None);
    // The policy in force decides, not the one that let the call in.
    let refused = only_iris.decide_message(&mut grant, &rules, BodyModel::One("wine"), NOW);
    assert_eq!(refused, MessageDecision::Refuse(Reason::ResourceNotAllowed));
    assert!(only_iris.still_grants(&grant, &rules, NOW));
    assert_eq!(message(&policy, &mut grant, BodyModel::One("wine")), PASS);
    assert!(policy.still_grants(&grant, &rules, NOW));
    assert!(!only_iris.still_grants(&grant, &rules, NOW));
    let gone = changed(&policy, &world, Vec::new());
    let refused = gone.decide_message(&mut grant, &rules, BodyModel::One("iris"), NOW);
    assert_eq!(refused, MessageDecision::Refuse(Reason::UnknownToken));
}

#[test]
fn a_call_names_so_many_models_and_no_more() {
    let policy = world(&["*"]).policy();
    let mut grant = a_call(&policy, None);
    let decided: Vec<MessageDecision> = (1..100)
        .map(|number| message(&policy, &mut grant, BodyModel::One(&format!("model-{number}"))))
        .collect();
    let passed = decided.iter().take_while(|decision| **decision == PASS).count();
    // And the one of the first message.
    assert_eq!(passed, 63);
    assert_eq!(decided[passed], MessageDecision::Refuse(Reason::ModelConflict));
    assert_eq!(message(&policy, &mut grant, BodyModel::One("model-1")), PASS);
}

#[test]
fn where_nothing_is_enforced_all_is_let_through_and_told() {
    let world = World { enforce: false, ..world(&["iris*"]) };
    let policy = world.policy();
    for fault in BodyFault::ALL {
        let inspection = inspection(&policy, CHAT, None);
        let decided = decide_with(&policy, CHAT, inspection, BodyModel::Unclear(fault));
        assert_eq!(permit(decided).would_deny(), Some(fault.reason()));
    }
    // Without a token nothing is read.
    let decided = asking("POST", CHAT, None, 7, |ask| policy.decide(ask));
    assert_eq!(permit(decided).would_deny(), Some(Reason::UnknownToken));
    let mut grant = a_call(&policy, None);
    let told = |reason| MessageDecision::Pass { would_deny: Some(reason) };
    let secret = message(&policy, &mut grant, BodyModel::One("secret"));
    assert_eq!(secret, told(Reason::ResourceNotAllowed));
    let inspection = inspection(&policy, STREAM, None);
    let first = decide_with(&policy, STREAM, inspection, BodyModel::One("secret"));
    let mut grant = permit(first).grant();
    let later = message(&policy, &mut grant, BodyModel::One("iris"));
    assert_eq!(later, told(Reason::ResourceNotAllowed));
}

#[test]
fn a_list_is_cut_down_to_what_the_token_may_use() {
    let list = |policy: &Policy| permit(asking("GET", LIST, None, 0, |ask| policy.decide(ask)));
    let some = world(&["iris*"]).policy();
    let permit = list(&some);
    assert_eq!(permit.filter(), Some(Filter::OpenAiModels));
    let token = permit.token().unwrap();
    let shown = ["iris", "iris-2", "secret"].map(|model| some.may_use(token, model));
    assert_eq!(shown, [true, true, false]);
    assert_eq!(list(&world(&["*", "iris"]).policy()).filter(), None);
    let none = world(&[]).policy();
    assert_eq!(list(&none).filter(), Some(Filter::OpenAiModels));
    let unenforced = World { enforce: false, ..world(&["iris*"]) };
    assert_eq!(list(&unenforced.policy()).filter(), None);
}
