use super::{Place, SETTINGS, TOKENS};

fn arguments<'a>(id: &'a str, method: &'a str, path: &'a str) -> Vec<&'a str> {
    vec!["explain", "--token-id", id, "--method", method, "--path", path]
}

#[test]
fn every_rule_can_be_the_one_that_decides() {
    let place = Place::new();
    for (id, method, path, reason, last_rule) in [
        ("batch", "POST", "/iris/eval", "allowed", "resource"),
        ("batch", "GET", "/iris?model=iris", "allowed", "resource"),
        ("batch", "GET", "/iris?model=wine", "model_conflict", "model"),
        ("batch", "POST", "/wine/eval", "resource_not_allowed", "resource"),
        ("batch", "DELETE", "/iris", "group_not_allowed", "group"),
        ("batch", "POST", "/", "no_route", "token"),
        ("batch", "POST", "/iris/../wine", "bad_path", "path"),
        ("batch", "POST", "iris", "bad_path", "path"),
        ("old", "DELETE", "/iris", "expired_token", "token"),
        ("none", "POST", "/iris/eval", "unknown_token", "token"),
        ("batch", "CONNECT", "/iris", "method_not_allowed", "method"),
    ] {
        let mut arguments = arguments(id, method, path);
        let told = place.ok(&arguments).out;
        arguments.push("--json");
        let json = place.json(&arguments);
        let allowed = reason == "allowed";
        assert_eq!(json["allowed"], allowed, "{path}");
        assert_eq!(json["reason"], reason, "{path}");
        let steps = json["steps"].as_array().unwrap();
        assert_eq!(steps.last().unwrap()["rule"], last_rule, "{path}: {steps:?}");
        let verdict = if allowed { "yes".into() } else { format!("no: {reason}") };
        assert!(told.lines().next().unwrap().ends_with(&verdict), "{told}");
        assert_eq!(told.matches("<- decides").count(), 1, "{told}");
        assert_eq!(told.lines().count(), 1 + steps.len(), "{told}");
    }
    let mut arguments = arguments("batch", "POST", "/iris/eval");
    arguments.push("--json");
    let route = &place.json(&arguments)["route"];
    assert_eq!(route["path"], "/{model}/{rest...}");
    assert_eq!(route["group"], "model-evaluation");
    assert_eq!(route["profile"], "ovh");
}

#[test]
fn a_body_is_read_for_the_model_that_it_names() {
    let place = Place::with(&SETTINGS.replace("\"ovh\"", "\"openai\""), TOKENS);
    let asked = |body: &str, more: &[&str]| {
        place.write("body.json", body);
        let mut arguments = arguments("batch", "POST", "/v1/chat/completions");
        arguments.extend(["--body", "body.json", "--json"]);
        arguments.extend(more);
        place.json(&arguments)["reason"].as_str().unwrap().to_owned()
    };
    assert_eq!(asked(r#"{"model":"iris-1"}"#, &[]), "allowed");
    assert_eq!(asked(r#"{"model":"wine"}"#, &[]), "resource_not_allowed");
    assert_eq!(asked(r#"{"model":"iris-1","mod\u0065l":"wine"}"#, &[]), "model_conflict");
    assert_eq!(asked("{", &[]), "bad_body");
    assert_eq!(asked("", &[]), "model_unresolved");
    let form = ["--header", "Content-Type: application/x-www-form-urlencoded"];
    assert_eq!(asked(r#"{"model":"iris-1"}"#, &form), "unsupported_encoding");
    let mut without_file = arguments("batch", "POST", "/v1/chat/completions");
    without_file.extend(["--body", "none.json"]);
    assert!(place.fails(1, &without_file).contains("none.json"));
    let mut bad_header = arguments("batch", "POST", "/v1/chat/completions");
    bad_header.extend(["--header", "no colon"]);
    assert!(place.fails(2, &bad_header).contains("Name: value"));
}

#[test]
fn what_is_not_enforced_is_said_to_be_so() {
    let settings = SETTINGS.replace("profiles = ", "enforce = false\nprofiles = ");
    let place = Place::with(&settings, TOKENS);
    let mut arguments = arguments("batch", "POST", "/wine/eval");
    let told = place.ok(&arguments).out;
    assert!(told.contains("yes, only because nothing is enforced"), "{told}");
    arguments.push("--json");
    let json = place.json(&arguments);
    assert_eq!(json["allowed"], true);
    assert_eq!(json["would_deny"], "resource_not_allowed");
    assert!(place.ok(&["routes"]).err.contains("enforce = false"));
}

#[test]
fn the_route_table_is_shown_with_what_each_route_asks_for() {
    let own = r#"
[[namespace.route]]
methods = ["GET"]
path = "/health"
group = "public"

[[namespace.route]]
methods = ["POST"]
path = "/score/{model}"
group = "scoring"
"#;
    let place = Place::with(&format!("{SETTINGS}{own}"), TOKENS);
    let table = place.ok(&["routes"]).out;
    let has = |words: [&str; 5]| {
        table.lines().any(|line| line.split_whitespace().collect::<Vec<_>>() == words)
    };
    assert!(has(["GET", "/health", "-", "public", "own"]), "{table}");
    assert!(has(["POST", "/score/{model}", "path", "scoring", "own"]), "{table}");
    let ovh = ["PUT,PATCH,DELETE", "/{model}", "path", "model-management", "ovh"];
    assert!(has(ovh), "{table}");
    let json = place.json(&["routes", "--json"]);
    assert_eq!(json["namespace"], "default");
    assert_eq!(json["routes"].as_array().unwrap().len(), table.lines().count() - 1);
    assert_eq!(json["routes"][0]["methods"], serde_json::json!(["GET"]));
}
