//! The model server of the demo: the iris classifier, spoken to as one speaks to OVHcloud ML Serving.
//!
//! Its answers have the form of OVHcloud's serving runtime
//! (<https://github.com/ovh/serving-runtime>, see its README): `GET /iris/describe` names the tensors,
//! `POST /iris/eval` takes one JSON object of input tensors and answers one of output tensors. A flower is
//! asked for by four numbers, several at once by four lists of equal length, and the answer is a single one or
//! a list as the question was. A refusal is `{"status": …, "message": "…"}`.
//!
//! It differs where the demo gains: tensors the model does not have are refused rather than passed over, the
//! label is the name of the species, a list of one flower is answered by a list, and the body is read as JSON
//! whatever `Content-Type` it declares.

mod input;

use std::io;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::header::{ALLOW, CONTENT_TYPE, HeaderValue};
use http::{Method, Request, Response, StatusCode};
use http_body::Body;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use serde::Serialize;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;

use input::{Asked, InputTensors};

use super::iris::{self, Classification, MEASUREMENTS, SPECIES};

/// The largest body that is evaluated, in bytes.
const BODY_LIMIT: usize = 1 << 20;

/// How many bytes of a body are read at all. A body over [`BODY_LIMIT`] is read on to here and thrown away:
/// a connection closed on a client that still writes may lose it the answer that says why.
const DISCARD_LIMIT: usize = 16 << 20;

/// The most flowers in one request.
const MOST_FLOWERS: usize = 10_000;

/// How long a client may take over the head of a request, or leave a kept connection idle, and again how long
/// over the body.
const READ_TIMEOUT: Duration = Duration::from_secs(30);

/// How long requests under way may take to finish once the server is asked to stop.
const GRACE: Duration = Duration::from_secs(2);

/// How long to wait after a connection could not be accepted: file descriptors run out for a while, not for
/// ever.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// After how many failures to accept in a row the listener is given up.
const MOST_ACCEPT_FAILURES: u32 = 600;

/// The longest name that a refusal repeats, in characters.
const LONGEST_NAME: usize = 64;

/// The longest message of a refusal, in characters: the parser's may repeat a value of any length.
const LONGEST_MESSAGE: usize = 400;

/// Serves the iris model on `listener` until `stop` is ready, then lets the requests under way finish for two
/// seconds at most.
///
/// No client can end it. Dropping the future ends the connections with it.
///
/// # Errors
///
/// If for a minute no connection at all can be accepted, the error of the last attempt.
pub async fn serve(listener: TcpListener, stop: impl Future<Output = ()>) -> io::Result<()> {
    // Nothing is ever sent: that the sender is gone is the sign to stop.
    let (serving, stopped) = watch::channel(());
    let mut connections = JoinSet::new();
    let mut failures = 0;
    let mut stop = std::pin::pin!(stop);

    loop {
        let accepted = tokio::select! {
            () = &mut stop => break,
            // What has ended is taken out of the set, however it ended: that is its client's affair.
            Some(_) = connections.join_next() => continue,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, _)) => {
                failures = 0;
                connections.spawn(converse(stream, stopped.clone()));
            }
            Err(error) => {
                failures += 1;
                if failures == MOST_ACCEPT_FAILURES {
                    return Err(error);
                }
                tokio::select! {
                    () = &mut stop => break,
                    () = tokio::time::sleep(ACCEPT_PAUSE) => {}
                }
            }
        }
    }

    drop(listener);
    drop(serving);
    let finished = async { while connections.join_next().await.is_some() {} };
    // Whoever takes longer is cut off when the set is dropped.
    let _ = tokio::time::timeout(GRACE, finished).await;
    Ok(())
}

/// Answers the requests of one connection until the client has no more, or the server stops.
async fn converse(stream: TcpStream, mut stopped: watch::Receiver<()>) {
    // Answers are small and written whole; should the socket refuse, they are only a little later.
    let _ = stream.set_nodelay(true);
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(READ_TIMEOUT)
        .serve_connection(
            TokioIo::new(stream),
            service_fn(async |request| Ok::<_, std::convert::Infallible>(answer(request).await)),
        );
    let mut connection = std::pin::pin!(connection);
    // The errors left aside are those of a client that does not speak HTTP or went away.
    tokio::select! {
        _ = connection.as_mut() => {}
        _ = stopped.changed() => {
            connection.as_mut().graceful_shutdown();
            let _ = connection.await;
        }
    }
}

/// Answers one request.
async fn answer(request: Request<Incoming>) -> Response<Full<Bytes>> {
    match (request.uri().path(), request.method()) {
        ("/iris/describe", &(Method::GET | Method::HEAD)) => json(StatusCode::OK, &description()),
        ("/iris/describe", method) => wrong_method(method, HeaderValue::from_static("GET, HEAD")),
        ("/iris/eval", &Method::POST) => evaluate(request.into_body()).await,
        ("/iris/eval", method) => wrong_method(method, HeaderValue::from_static("POST")),
        _ => refusal(
            StatusCode::NOT_FOUND,
            "there is nothing here: this server knows GET /iris/describe and POST /iris/eval"
                .into(),
        ),
    }
}

fn wrong_method(method: &Method, allowed: HeaderValue) -> Response<Full<Bytes>> {
    let mut response = refusal(
        StatusCode::METHOD_NOT_ALLOWED,
        format!("the method {} is not for this path", shortened(method.as_str(), LONGEST_NAME)),
    );
    response.headers_mut().insert(ALLOW, allowed);
    response
}

/// The answer to `POST /iris/eval` with this body.
async fn evaluate(body: Incoming) -> Response<Full<Bytes>> {
    let read = tokio::time::timeout(READ_TIMEOUT, read_body(body)).await;
    let bytes = match read {
        Ok(Ok(bytes)) => bytes,
        Ok(Err(Unread::TooLarge)) => {
            return refusal(
                StatusCode::PAYLOAD_TOO_LARGE,
                format!("the body is larger than {BODY_LIMIT} bytes"),
            );
        }
        // This client mostly does not hear it any more.
        Ok(Err(Unread::BrokenOff)) => {
            return refusal(StatusCode::BAD_REQUEST, "the body broke off".into());
        }
        Err(_) => {
            return refusal(
                StatusCode::REQUEST_TIMEOUT,
                format!("the body took longer than {} seconds", READ_TIMEOUT.as_secs()),
            );
        }
    };
    let tensors: InputTensors = match serde_json::from_slice(&bytes) {
        Ok(tensors) => tensors,
        Err(error) if error.is_data() => return bad_request(error.to_string()),
        Err(error) => return bad_request(format!("the body is not JSON: {error}")),
    };
    match tensors.flowers() {
        Ok(Asked::One(features)) => {
            let Classification { label, probabilities } = iris::classify(features);
            json(
                StatusCode::OK,
                &OutputTensors { output_label: label, output_probability: probabilities },
            )
        }
        Ok(Asked::Several(flowers)) => {
            let (output_label, output_probability): (Vec<_>, Vec<_>) = flowers
                .into_iter()
                .map(|features| {
                    let Classification { label, probabilities } = iris::classify(features);
                    (label, probabilities)
                })
                .unzip();
            json(StatusCode::OK, &OutputTensors { output_label, output_probability })
        }
        Err(message) => bad_request(message),
    }
}

/// Why a body could not be had.
enum Unread {
    TooLarge,
    BrokenOff,
}

/// Reads the body whole, if it is not over [`BODY_LIMIT`].
async fn read_body(mut body: Incoming) -> Result<Bytes, Unread> {
    if body.size_hint().lower() > DISCARD_LIMIT as u64 {
        return Err(Unread::TooLarge);
    }
    let mut kept = BytesMut::new();
    let mut total = 0;
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|_| Unread::BrokenOff)?;
        // Trailers say nothing of the flowers.
        let Some(data) = frame.data_ref() else {
            continue;
        };
        total += data.len();
        if total > DISCARD_LIMIT {
            return Err(Unread::TooLarge);
        }
        if total <= BODY_LIMIT {
            kept.extend_from_slice(data);
        } else {
            kept = BytesMut::new();
        }
    }
    if total > BODY_LIMIT {
        return Err(Unread::TooLarge);
    }
    Ok(kept.freeze())
}

fn tensor_names() -> String {
    MEASUREMENTS.map(|name| format!("`{name}`")).join(", ")
}

/// The text, cut after `longest` characters: a stranger may have made it long.
fn shortened(text: &str, longest: usize) -> String {
    let mut characters = text.chars();
    let mut short: String = characters.by_ref().take(longest).collect();
    if characters.next().is_some() {
        short.push('…');
    }
    short
}

/// The answer of `/iris/describe`.
#[derive(Serialize)]
struct Description {
    inputs: Vec<TensorDescription>,
    outputs: Vec<TensorDescription>,
}

/// The name, the type and the shape of a tensor; -1 stands for any size.
#[derive(Serialize)]
struct TensorDescription {
    name: &'static str,
    r#type: &'static str,
    shape: Vec<i64>,
}

fn description() -> Description {
    let of_each_flower = |name, r#type| TensorDescription { name, r#type, shape: vec![-1] };
    Description {
        inputs: MEASUREMENTS.map(|name| of_each_flower(name, "float")).into(),
        outputs: vec![
            of_each_flower("output_label", "string"),
            TensorDescription {
                name: "output_probability",
                r#type: "float",
                shape: vec![-1, SPECIES.len() as i64],
            },
        ],
    }
}

/// The answer of `/iris/eval`.
#[derive(Serialize)]
struct OutputTensors<Label, Probability> {
    output_label: Label,
    output_probability: Probability,
}

/// The answer to a request that is not evaluated.
#[derive(Serialize)]
struct Refusal {
    status: u16,
    message: String,
}

fn bad_request(message: String) -> Response<Full<Bytes>> {
    refusal(StatusCode::BAD_REQUEST, message)
}

fn refusal(status: StatusCode, message: String) -> Response<Full<Bytes>> {
    let refusal =
        Refusal { status: status.as_u16(), message: shortened(&message, LONGEST_MESSAGE) };
    json(status, &refusal)
}

fn json(status: StatusCode, content: &impl Serialize) -> Response<Full<Bytes>> {
    let (status, body) = match serde_json::to_vec(content) {
        Ok(body) => (status, body),
        Err(_) => (StatusCode::INTERNAL_SERVER_ERROR, Vec::new()),
    };
    let mut response = Response::new(Full::new(body.into()));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};
    use std::net::SocketAddr;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::sync::oneshot;
    use tokio::task::JoinHandle;

    struct RunningServer {
        address: SocketAddr,
        stop: oneshot::Sender<()>,
        ended: JoinHandle<io::Result<()>>,
    }

    impl RunningServer {
        async fn start() -> Self {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let address = listener.local_addr().unwrap();
            let (stop, stopped) = oneshot::channel();
            let ended = tokio::spawn(serve(listener, async {
                let _ = stopped.await;
            }));
            Self { address, stop, ended }
        }

        /// Writes these bytes and reads the answer until the server closes.
        async fn exchange(&self, request: &[u8]) -> Answer {
            let mut stream = TcpStream::connect(self.address).await.unwrap();
            stream.write_all(request).await.unwrap();
            let mut bytes = Vec::new();
            stream.read_to_end(&mut bytes).await.unwrap();
            Answer::parse(&bytes)
        }

        async fn send(&self, method: &str, path: &str, body: &[u8]) -> Answer {
            let mut request = format!(
                "{method} {path} HTTP/1.1\r\nHost: iris\r\nConnection: close\r\nContent-Length: {}\r\n\r\n",
                body.len()
            )
            .into_bytes();
            request.extend_from_slice(body);
            self.exchange(&request).await
        }

        async fn evaluate(&self, body: impl AsRef<[u8]>) -> Answer {
            self.send("POST", "/iris/eval", body.as_ref()).await
        }

        /// Asserts that this body is refused with 400 and with a message that holds every one of `parts`.
        async fn refuses(&self, body: impl AsRef<[u8]>, parts: &[&str]) {
            let answer = self.evaluate(body).await;
            let message = answer.refused(400);
            for part in parts {
                assert!(message.contains(part), "`{part}` is not in: {message}");
            }
        }

        /// Asserts that the server still answers, and ends when it is told to.
        async fn ends_well(self) {
            assert_eq!(self.send("GET", "/iris/describe", b"").await.status, 200);
            self.stop.send(()).unwrap();
            self.ended.await.unwrap().unwrap();
        }
    }

    struct Answer {
        status: u16,
        headers: Vec<(String, String)>,
        body: Vec<u8>,
    }

    impl Answer {
        fn parse(bytes: &[u8]) -> Self {
            let end = bytes
                .windows(4)
                .position(|window| window == b"\r\n\r\n")
                .unwrap_or_else(|| panic!("no answer: {:?}", String::from_utf8_lossy(bytes)));
            let head = std::str::from_utf8(&bytes[..end]).unwrap();
            let mut lines = head.split("\r\n");
            let status = lines.next().unwrap().strip_prefix("HTTP/1.1 ").unwrap();
            let headers = lines.map(|line| {
                let (name, value) = line.split_once(": ").unwrap();
                (name.to_ascii_lowercase(), value.to_owned())
            });
            Self {
                status: status[..3].parse().unwrap(),
                headers: headers.collect(),
                body: bytes[end + 4..].to_vec(),
            }
        }

        fn header(&self, wanted: &str) -> Option<&str> {
            let found = self.headers.iter().find(|(name, _)| name == wanted);
            found.map(|(_, value)| value.as_str())
        }

        /// The JSON of the body, after a look at its length and type.
        fn json(&self) -> Value {
            assert_eq!(self.header("content-type"), Some("application/json"));
            assert_eq!(self.header("content-length"), Some(self.body.len().to_string().as_str()));
            serde_json::from_slice(&self.body).unwrap()
        }

        /// The message of a refusal with this status, which is all that its body holds besides.
        fn refused(&self, status: u16) -> String {
            let body = self.json();
            assert_eq!(self.status, status, "{body}");
            let message = body["message"].as_str().unwrap().to_owned();
            assert_eq!(body, json!({"status": status, "message": message}));
            message
        }
    }

    /// A well-formed body with the value of one tensor replaced.
    fn with(tensor: &str, value: &str) -> String {
        let members = MEASUREMENTS.map(|name| {
            let value = if name == tensor { value } else { "1.5" };
            format!("\"{name}\": {value}")
        });
        format!("{{{}}}", members.join(", "))
    }

    /// A body with these four values in the order of the measurements.
    fn of(values: [&str; 4]) -> String {
        let members: Vec<String> = MEASUREMENTS
            .iter()
            .zip(values)
            .map(|(name, value)| format!("\"{name}\": {value}"))
            .collect();
        format!("{{{}}}", members.join(", "))
    }

    fn assert_close(answered: &Value, expected: [f64; 3]) {
        let answered: Vec<f64> = answered
            .as_array()
            .unwrap()
            .iter()
            .map(|probability| probability.as_f64().unwrap())
            .collect();
        assert_eq!(answered.len(), 3);
        for (answered, expected) in answered.iter().zip(expected) {
            assert!((answered - expected).abs() < 1e-7, "{answered} {expected}");
        }
    }

    #[tokio::test]
    async fn describes_its_tensors() {
        let server = RunningServer::start().await;
        let answer = server.send("GET", "/iris/describe", b"").await;
        assert_eq!(answer.status, 200);
        assert_eq!(
            answer.json(),
            json!({
                "inputs": [
                    {"name": "sepal_length", "type": "float", "shape": [-1]},
                    {"name": "sepal_width", "type": "float", "shape": [-1]},
                    {"name": "petal_length", "type": "float", "shape": [-1]},
                    {"name": "petal_width", "type": "float", "shape": [-1]},
                ],
                "outputs": [
                    {"name": "output_label", "type": "string", "shape": [-1]},
                    {"name": "output_probability", "type": "float", "shape": [-1, 3]},
                ],
            })
        );

        let head = server.send("HEAD", "/iris/describe", b"").await;
        assert_eq!(head.status, 200);
        assert_eq!(head.header("content-length"), answer.header("content-length"));
        assert_eq!(head.header("content-type"), Some("application/json"));
        assert!(head.body.is_empty());
        server.ends_well().await;
    }

    #[tokio::test]
    async fn one_flower_gets_one_answer() {
        let server = RunningServer::start().await;
        let answer = server.evaluate(of(["5.1", "3.5", "1.4", "0.2"])).await;
        assert_eq!(answer.status, 200);
        let tensors = answer.json();
        assert_eq!(tensors.as_object().unwrap().len(), 2);
        assert_eq!(tensors["output_label"], "setosa");
        assert_close(
            &tensors["output_probability"],
            [0.981_583_495, 0.018_416_490_6, 1.449_866_74e-8],
        );
        server.ends_well().await;
    }

    #[tokio::test]
    async fn several_flowers_get_as_many_answers_in_their_order() {
        let server = RunningServer::start().await;
        let answer =
            server.evaluate(of(["[6.2, 5.1]", "[3.4, 3.5]", "[5.4, 1.4]", "[2.3, 0.2]"])).await;
        assert_eq!(answer.status, 200);
        let tensors = answer.json();
        assert_eq!(tensors["output_label"], json!(["virginica", "setosa"]));
        let probabilities = tensors["output_probability"].as_array().unwrap();
        assert_eq!(probabilities.len(), 2);
        assert_close(&probabilities[0], [4.573_030_61e-5, 0.038_411_972_3, 0.961_542_297]);
        assert_close(&probabilities[1], [0.981_583_495, 0.018_416_490_6, 1.449_866_74e-8]);

        let answer = server.evaluate(of(["[7]", "[3]", "[5]", "[1.4]"])).await;
        assert_eq!(answer.json()["output_label"], json!(["versicolor"]));
        assert_eq!(answer.json()["output_probability"].as_array().unwrap().len(), 1);
        server.ends_well().await;
    }

    #[tokio::test]
    async fn whole_negative_and_enormous_numbers_are_numbers() {
        let server = RunningServer::start().await;
        for value in ["3", "-3", "18446744073709551615", "1.7e308", "-1.7e308", "0"] {
            for tensor in MEASUREMENTS {
                let answer = server.evaluate(with(tensor, value)).await;
                assert_eq!(answer.status, 200, "{tensor} {value}");
                let tensors = answer.json();
                let label = tensors["output_label"].as_str().unwrap();
                assert!(SPECIES.contains(&label));
                let probabilities = tensors["output_probability"].as_array().unwrap();
                let sum: f64 = probabilities.iter().map(|one| one.as_f64().unwrap()).sum();
                assert!((sum - 1.0).abs() < 1e-12, "{tensor} {value}: {probabilities:?}");
            }
        }
        server.ends_well().await;
    }

    #[tokio::test]
    async fn a_missing_tensor_is_named() {
        let server = RunningServer::start().await;
        for missing in MEASUREMENTS {
            let mut body: Value = serde_json::from_str(&with("", "")).unwrap();
            body.as_object_mut().unwrap().remove(missing).unwrap();
            let expected = format!("tensor `{missing}` is missing");
            server.refuses(body.to_string(), &[&expected]).await;
        }
        server.refuses("{}", &["tensor `sepal_length` is missing"]).await;
        server.ends_well().await;
    }

    #[tokio::test]
    async fn an_unknown_tensor_is_named() {
        let server = RunningServer::start().await;
        server
            .refuses(
                r#"{"stepal_length": 5.1}"#,
                &["tensor `stepal_length` is unknown", "`sepal_length`, `sepal_width`"],
            )
            .await;
        // Beside four good ones too, and a long name is not repeated whole.
        let body = with("", "").replace('}', &format!(", \"{}\": 1}}", "ü".repeat(5000)));
        let answer = server.evaluate(&body).await;
        let message = answer.refused(400);
        assert!(
            message.starts_with("tensor `üü") && message.contains("…` is unknown"),
            "{message}"
        );
        assert!(message.len() < 500, "{message}");
        server.ends_well().await;
    }

    #[tokio::test]
    async fn a_value_that_is_no_number_is_refused_with_its_tensor() {
        let server = RunningServer::start().await;
        for tensor in MEASUREMENTS {
            for value in [
                "\"5.1\"",
                "null",
                "true",
                "{}",
                "[\"5.1\"]",
                "[null]",
                "[1, true]",
                "[[1.0]]",
                "[{}]",
            ] {
                server.refuses(with(tensor, value), &[&format!("tensor `{tensor}`: ")]).await;
            }
        }
        // A long value is not repeated whole.
        let answer =
            server.evaluate(with("petal_width", &format!("\"{}\"", "x".repeat(100_000)))).await;
        let message = answer.refused(400);
        assert!(message.starts_with("tensor `petal_width`: "), "{message}");
        assert!(message.chars().count() <= LONGEST_MESSAGE + 1);
        server.ends_well().await;
    }

    #[tokio::test]
    async fn a_number_that_is_not_finite_is_refused_with_its_tensor() {
        let server = RunningServer::start().await;
        for tensor in MEASUREMENTS {
            for value in
                ["1e999", "-1e999", "[1.0, 1e999]", "NaN", "Infinity", "-Infinity", "[NaN]"]
            {
                server.refuses(with(tensor, value), &[&format!("tensor `{tensor}`: ")]).await;
            }
        }
        server.refuses(with("petal_length", "1e999"), &["number out of range"]).await;
        server.ends_well().await;
    }

    #[tokio::test]
    async fn lists_of_different_length_are_refused() {
        let server = RunningServer::start().await;
        server
            .refuses(
                of(["[1, 2]", "[1, 2]", "[1, 2, 3]", "[1, 2]"]),
                &["tensor `petal_length` has 3 values where `sepal_length` has 2"],
            )
            .await;
        server
            .refuses(
                of(["[1, 2]", "[1, 2]", "[1, 2]", "[1]"]),
                &["tensor `petal_width` has 1 values where `sepal_length` has 2"],
            )
            .await;
        server.ends_well().await;
    }

    #[tokio::test]
    async fn numbers_and_lists_do_not_mix() {
        let server = RunningServer::start().await;
        server
            .refuses(
                of(["1", "2", "[3]", "4"]),
                &["tensor `petal_length` is a list where `sepal_length` is a single number"],
            )
            .await;
        server
            .refuses(
                of(["[1]", "[2]", "[3]", "4"]),
                &["tensor `petal_width` is a single number where `sepal_length` is a list"],
            )
            .await;
        server.ends_well().await;
    }

    #[tokio::test]
    async fn a_list_has_at_least_one_and_at_most_ten_thousand_values() {
        let server = RunningServer::start().await;
        for tensor in MEASUREMENTS {
            let expected = format!("tensor `{tensor}`: the list is empty");
            server.refuses(with(tensor, "[]"), &[&expected]).await;
        }
        let list = |values: usize| format!("[{}]", vec!["1.5"; values].join(","));
        let most = list(10_000);
        let answer = server.evaluate(of([&most, &most, &most, &most])).await;
        assert_eq!(answer.status, 200);
        assert_eq!(answer.json()["output_label"].as_array().unwrap().len(), 10_000);
        server
            .refuses(
                of([&most, &most, &list(10_001), &most]),
                &["tensor `petal_length`: the list is too long: 10000 values are the most"],
            )
            .await;
        server.ends_well().await;
    }

    #[tokio::test]
    async fn a_body_that_is_not_json_is_refused() {
        let server = RunningServer::start().await;
        for body in ["", "sepal_length=5.1", "{", "{\"sepal_leng", "{1: 2}", "\u{feff}{}"] {
            server.refuses(body, &["the body is not JSON: "]).await;
        }
        server.refuses(b"{\"\xff\": 1}", &["the body is not JSON: "]).await;
        let twice = format!("{0} {0}", with("", ""));
        server.refuses(twice, &["the body is not JSON: trailing characters"]).await;
        // Broken inside a value, the message also says in which tensor.
        server.refuses("{\"sepal_width\": [1, 2", &["tensor `sepal_width`: "]).await;
        // Deeper than any stack should follow.
        let deep = with("sepal_width", &"[".repeat(500_000));
        server.refuses(deep, &["tensor `sepal_width`: "]).await;
        server.ends_well().await;
    }

    #[tokio::test]
    async fn json_that_is_no_object_is_refused() {
        let server = RunningServer::start().await;
        for body in ["[5.1, 3.5, 1.4, 0.2]", "5.1", "\"setosa\"", "null", "true"] {
            server.refuses(body, &["expected an object of the tensors `sepal_length`"]).await;
        }
        server.ends_well().await;
    }

    #[tokio::test]
    async fn a_tensor_given_twice_is_refused() {
        let server = RunningServer::start().await;
        for tensor in MEASUREMENTS {
            // The second time spelled with an escape: the name counts, not its spelling.
            for again in [tensor.to_owned(), tensor.replace('_', "\\u005f")] {
                let body = with("", "").replace('}', &format!(", \"{again}\": 1.5}}"));
                let expected = format!("tensor `{tensor}` is given twice");
                server.refuses(body, &[&expected]).await;
            }
        }
        server.ends_well().await;
    }

    #[tokio::test]
    async fn a_body_over_one_mebibyte_is_refused() {
        let server = RunningServer::start().await;
        let padded = |length: usize| {
            let body = of(["5.1", "3.5", "1.4", "0.2"]);
            format!("{body}{}", " ".repeat(length - body.len()))
        };
        // The last that fits, the first that does not, and one far over.
        assert_eq!(server.evaluate(padded(BODY_LIMIT)).await.status, 200);
        for length in [BODY_LIMIT + 1, 5 * BODY_LIMIT] {
            let message = server.evaluate(padded(length)).await.refused(413);
            assert_eq!(message, "the body is larger than 1048576 bytes");
        }

        // One that says how long it would be is refused before it comes.
        let declared =
            b"POST /iris/eval HTTP/1.1\r\nHost: iris\r\nContent-Length: 99999999999\r\n\r\n";
        server.exchange(declared).await.refused(413);

        // One in chunks, which does not say: 40 times 32 KiB.
        let mut chunked =
            b"POST /iris/eval HTTP/1.1\r\nHost: iris\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n"
                .to_vec();
        for _ in 0..40 {
            chunked.extend_from_slice(b"8000\r\n");
            chunked.extend_from_slice(&[b' '; 0x8000]);
            chunked.extend_from_slice(b"\r\n");
        }
        chunked.extend_from_slice(b"0\r\n\r\n");
        server.exchange(&chunked).await.refused(413);
        server.ends_well().await;
    }

    #[tokio::test]
    async fn a_body_in_chunks_is_read_whole() {
        let server = RunningServer::start().await;
        let body = of(["5.1", "3.5", "1.4", "0.2"]);
        let (first, second) = body.split_at(20);
        let request = format!(
            "POST /iris/eval HTTP/1.1\r\nHost: iris\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n\
             {:x}\r\n{first}\r\n{:x}\r\n{second}\r\n0\r\nX-Trailer: 1\r\n\r\n",
            first.len(),
            second.len()
        );
        let answer = server.exchange(request.as_bytes()).await;
        assert_eq!(answer.json()["output_label"], "setosa");
        server.ends_well().await;
    }

    #[tokio::test]
    async fn an_unknown_path_is_not_found() {
        let server = RunningServer::start().await;
        for path in [
            "/",
            "/iris",
            "/iris/",
            "/iris/eval/",
            "/iris//eval",
            "/Iris/eval",
            "/eval",
            "/describe",
            "/iris/%65val",
            "/rose/eval",
        ] {
            for method in ["GET", "POST"] {
                let message = server.send(method, path, b"").await.refused(404);
                assert!(message.contains("POST /iris/eval"), "{message}");
            }
        }
        // A query is no part of the path.
        assert_eq!(server.send("GET", "/iris/describe?v=1", b"").await.status, 200);
        server.ends_well().await;
    }

    #[tokio::test]
    async fn a_wrong_method_is_told_the_right_one() {
        let server = RunningServer::start().await;
        for (path, methods, allowed) in [
            ("/iris/describe", ["POST", "PUT", "DELETE", "OPTIONS"], "GET, HEAD"),
            ("/iris/eval", ["GET", "PUT", "DELETE", "OPTIONS"], "POST"),
        ] {
            for method in methods {
                let answer = server.send(method, path, b"").await;
                let message = answer.refused(405);
                assert!(message.contains(method), "{message}");
                assert_eq!(answer.header("allow"), Some(allowed));
            }
        }
        let head = server.send("HEAD", "/iris/eval", b"").await;
        assert_eq!((head.status, head.header("allow")), (405, Some("POST")));
        server.ends_well().await;
    }

    #[tokio::test]
    async fn a_connection_serves_many_requests() {
        let server = RunningServer::start().await;
        let body = of(["5.1", "3.5", "1.4", "0.2"]);
        let one = format!(
            "POST /iris/eval HTTP/1.1\r\nHost: iris\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        );
        let last = one.replace("Host:", "Connection: close\r\nHost:");
        let mut stream = TcpStream::connect(server.address).await.unwrap();
        // A refused one in between does not end the connection.
        let refused = "POST /iris/eval HTTP/1.1\r\nHost: iris\r\nContent-Length: 2\r\n\r\n{}";
        let requests = format!("{one}{refused}{one}{last}");
        stream.write_all(requests.as_bytes()).await.unwrap();
        let mut answers = String::new();
        stream.read_to_string(&mut answers).await.unwrap();
        assert_eq!(answers.matches("HTTP/1.1 200 OK").count(), 3);
        assert_eq!(answers.matches("HTTP/1.1 400 Bad Request").count(), 1);
        server.ends_well().await;
    }

    #[tokio::test]
    async fn bad_clients_do_not_end_the_server() {
        let server = RunningServer::start().await;
        // Nonsense, nothing at all, half a head, half a body: each then goes away.
        for request in [
            &b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"[..],
            b"",
            b"POST /iris/eval HT",
            b"POST /iris/eval HTTP/1.1\r\nHost: iris\r\nContent-Length: 100\r\n\r\n{\"sepal",
            b"POST /iris/eval HTTP/1.1\r\nHost: iris\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
            b"POST /iris/eval HTTP/1.1\r\nHost: iris\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
        ] {
            let mut stream = TcpStream::connect(server.address).await.unwrap();
            stream.write_all(request).await.unwrap();
            stream.shutdown().await.unwrap();
            let mut bytes = Vec::new();
            // Whether it is told anything, or cut off, is all the same; that it ends is not.
            let _ = stream.read_to_end(&mut bytes).await;
            assert!(!bytes.starts_with(b"HTTP/1.1 2"), "{:?}", String::from_utf8_lossy(&bytes));
        }
        // One that stays and never says a word keeps nobody else from being served.
        let silent = TcpStream::connect(server.address).await.unwrap();
        let answer = server.evaluate(of(["5.1", "3.5", "1.4", "0.2"])).await;
        assert_eq!(answer.json()["output_label"], "setosa");
        drop(silent);
        server.ends_well().await;
    }

    #[tokio::test]
    async fn stopping_lets_a_request_under_way_finish() {
        let server = RunningServer::start().await;
        let body = of(["5.1", "3.5", "1.4", "0.2"]);
        let (first, second) = body.split_at(20);
        let head = format!(
            "POST /iris/eval HTTP/1.1\r\nHost: iris\r\nExpect: 100-continue\r\nContent-Length: {}\r\n\r\n",
            body.len()
        );
        let mut stream = TcpStream::connect(server.address).await.unwrap();
        stream.write_all(head.as_bytes()).await.unwrap();
        // The server asks for the body: the request is under way.
        let mut interim = [0; 25];
        stream.read_exact(&mut interim).await.unwrap();
        assert_eq!(&interim, b"HTTP/1.1 100 Continue\r\n\r\n");
        stream.write_all(first.as_bytes()).await.unwrap();

        server.stop.send(()).unwrap();
        // It takes no new connection once it has heard; until then they may still be queued.
        while TcpStream::connect(server.address).await.is_ok() {
            tokio::task::yield_now().await;
        }
        stream.write_all(second.as_bytes()).await.unwrap();
        let mut bytes = Vec::new();
        stream.read_to_end(&mut bytes).await.unwrap();
        assert_eq!(Answer::parse(&bytes).json()["output_label"], "setosa");
        server.ended.await.unwrap().unwrap();
    }

    #[tokio::test]
    async fn stopping_does_not_wait_for_ever() {
        let server = RunningServer::start().await;
        let mut stream = TcpStream::connect(server.address).await.unwrap();
        stream
            .write_all(b"POST /iris/eval HTTP/1.1\r\nHost: iris\r\nExpect: 100-continue\r\nContent-Length: 9\r\n\r\n")
            .await
            .unwrap();
        let mut interim = [0; 25];
        stream.read_exact(&mut interim).await.unwrap();
        server.stop.send(()).unwrap();
        // The body never comes: the grace ends, and the connection with it.
        server.ended.await.unwrap().unwrap();
        assert_eq!(stream.read(&mut interim).await.unwrap_or(0), 0);
    }
}
