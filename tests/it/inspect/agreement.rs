//! A body that the gate reads is read by others too: what the gate passes, they must read alike.

use bytes::Bytes;
use faregate::wire::inspect::{
    Boundary, Fault, GrpcScan, JsonScan, Message, MultipartScan, PathStep, UrlEncodedScan,
};
use http_body_util::{BodyDataStream, Full};
use serde::de::{Deserializer, MapAccess, Visitor};
use unicode_normalization::UnicodeNormalization as _;

/// What a reader of the gate says.
pub(crate) type Found = Result<Option<String>, Fault>;

/// The boundary of the forms.
pub(crate) const BOUNDARY: &str = "X-b";

/// The path of the model in messages that have messages in a repeated field.
pub(crate) const TASKS: [PathStep; 3] = [
    PathStep { field: 1, is_repeated: true },
    PathStep { field: 1, is_repeated: false },
    PathStep { field: 1, is_repeated: false },
];

/// The body in the pieces that the cuts make of it; cuts are taken modulo its length.
fn pieces<'b>(body: &'b [u8], cuts: &[usize]) -> Vec<&'b [u8]> {
    let mut places: Vec<usize> = cuts.iter().map(|cut| cut % (body.len() + 1)).collect();
    places.extend([0, body.len()]);
    places.sort_unstable();
    places.windows(2).map(|pair| &body[pair[0]..pair[1]]).collect()
}

/// Feeds a body whole, in pieces and byte by byte: it must come to the same.
fn fed(body: &[u8], cuts: &[usize], read: impl Fn(&[&[u8]]) -> Found) -> Found {
    let whole = read(&[body]);
    assert_eq!(read(&pieces(body, cuts)), whole, "in pieces");
    assert_eq!(read(&body.chunks(1).collect::<Vec<_>>()), whole, "byte by byte");
    whole
}

fn is_model(name: &str) -> bool {
    name.eq_ignore_ascii_case("model")
}

/// Reads a JSON body. serde_json must read what the gate passes, and find the same model there; and
/// what it reads without a doubt, the gate must pass.
pub(crate) fn json(body: &[u8], cuts: &[usize]) -> Found {
    let found = fed(body, cuts, |pieces| {
        let mut scan = JsonScan::new("model");
        pieces.iter().try_for_each(|piece| scan.feed(piece))?;
        scan.end()
    });
    match serde_json::from_slice::<Members>(body) {
        Ok(Members(members)) => {
            let named = |name: &str| name == "model";
            let models: Vec<_> = members.iter().filter(|(name, _)| named(name)).collect();
            let is_ambiguous =
                members.iter().any(|(name, _)| !named(name) && is_taken_for_it(name));
            match &models[..] {
                _ if is_ambiguous => assert!(found.is_err(), "{members:?}, but {found:?}"),
                [] => assert_eq!(found, Ok(None)),
                [(_, serde_json::Value::String(model))] if model.len() > 256 => {
                    assert_eq!(found, Err(Fault::BadModel));
                }
                [(_, serde_json::Value::String(model))] => {
                    assert_eq!(found.as_ref(), Ok(&Some(model.clone())));
                }
                [_] => assert_eq!(found, Err(Fault::BadBody)),
                _ => assert!(found.is_err(), "{models:?}, but {found:?}"),
            }
        }
        // JSON has numbers of any size; who cannot hold one refuses the body.
        Err(error) if error.to_string().starts_with("number out of range") => {}
        Err(error) => assert!(found.is_err(), "{error}, but {found:?}"),
    }
    found
}

/// Whether some reader takes the name of a member for that of the model.
fn is_taken_for_it(name: &str) -> bool {
    let seen = name.split('\0').next().unwrap_or_default();
    seen.nfkc().collect::<String>().to_lowercase() == "model"
}

/// The members of a JSON object, repeated ones too.
struct Members(Vec<(String, serde_json::Value)>);

impl<'de> serde::Deserialize<'de> for Members {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Collect;
        impl<'de> Visitor<'de> for Collect {
            type Value = Members;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Members, A::Error> {
                let mut members = Vec::new();
                while let Some(member) = map.next_entry()? {
                    members.push(member);
                }
                Ok(Members(members))
            }
        }
        deserializer.deserialize_map(Collect)
    }
}

/// Reads a form that is urlencoded, and as the simplest of its readers do.
pub(crate) fn urlencoded(body: &[u8], cuts: &[usize]) -> Found {
    let found = fed(body, cuts, |pieces| {
        let mut scan = UrlEncodedScan::new("model");
        pieces.iter().try_for_each(|piece| scan.feed(piece))?;
        scan.end()
    });
    if let Ok(found) = &found {
        // With `;` as a separator and without.
        for separators in [&b"&"[..], b"&;"] {
            let mut models = Vec::new();
            for pair in body.split(|byte| separators.contains(byte)) {
                let mut halves = pair.splitn(2, |byte| *byte == b'=');
                let mut half = || form_decoded(halves.next().unwrap_or_default());
                let (name, value) = (half(), half());
                if is_model(&name) {
                    assert_eq!(name, "model");
                    models.push(value);
                }
            }
            assert_eq!(models, found.iter().cloned().collect::<Vec<_>>());
        }
    }
    found
}

/// Decodes as lenient readers do: what is no escape is left alone, and what is no text is replaced.
fn form_decoded(text: &[u8]) -> String {
    let mut decoded = Vec::new();
    let mut rest = text;
    while let [first, after @ ..] = rest {
        let digits = after.get(..2).and_then(|digits| std::str::from_utf8(digits).ok());
        let escape = digits.and_then(|digits| u8::from_str_radix(digits, 16).ok());
        rest = after;
        match (first, escape) {
            (b'%', Some(byte)) => {
                decoded.push(byte);
                rest = &after[2..];
            }
            (b'+', _) => decoded.push(b' '),
            _ => decoded.push(*first),
        }
    }
    String::from_utf8_lossy(&decoded).into_owned()
}

/// Reads a form in parts. multer must read what the gate passes, and find the same model there.
pub(crate) fn multipart(body: &[u8], cuts: &[usize]) -> Found {
    let boundary = Boundary::parse(BOUNDARY).unwrap();
    let found = fed(body, cuts, |pieces| {
        let mut scan = MultipartScan::new(&boundary, "model");
        pieces.iter().try_for_each(|piece| scan.feed(piece))?;
        scan.end()
    });
    if let Ok(found) = &found {
        let mut models = Vec::new();
        for (name, file_name, content) in parts(body).expect("multer reads it too") {
            if name.as_deref().is_some_and(is_model) {
                assert_eq!((name.as_deref(), file_name), (Some("model"), None));
                models.push(String::from_utf8(content).unwrap());
            }
        }
        assert_eq!(models, found.iter().cloned().collect::<Vec<_>>());
    }
    found
}

type Part = (Option<String>, Option<String>, Vec<u8>);

/// The parts of a form as multer reads them.
fn parts(body: &[u8]) -> Result<Vec<Part>, multer::Error> {
    thread_local! {
        static RUNTIME: tokio::runtime::Runtime =
            tokio::runtime::Builder::new_current_thread().build().unwrap();
    }
    RUNTIME.with(|runtime| {
        runtime.block_on(async {
            let body = BodyDataStream::new(Full::new(Bytes::copy_from_slice(body)));
            let mut form = multer::Multipart::new(body, BOUNDARY);
            let mut parts = Vec::new();
            while let Some(part) = form.next_field().await? {
                let name = part.name().map(Into::into);
                let file_name = part.file_name().map(Into::into);
                parts.push((name, file_name, part.bytes().await?.to_vec()));
            }
            Ok(parts)
        })
    })
}

/// A message with the model in its field 1, and whatever else. The field as often as it is there.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Infer {
    #[prost(string, repeated, tag = "1")]
    pub(crate) models: Vec<String>,
}

/// A message with a message in its field 1, which names the model.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Predict {
    #[prost(message, repeated, tag = "1")]
    pub(crate) specs: Vec<Infer>,
}

/// A message with a list of those.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct MultiInference {
    #[prost(message, repeated, tag = "1")]
    pub(crate) tasks: Vec<Predict>,
}

/// The same messages as servers declare them: the last of a field counts, or both are merged.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct DeclaredInfer {
    #[prost(string, tag = "1")]
    pub(crate) model: String,
}

/// As [`DeclaredInfer`].
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct DeclaredPredict {
    #[prost(message, optional, tag = "1")]
    pub(crate) spec: Option<DeclaredInfer>,
}

/// As [`DeclaredInfer`].
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct DeclaredMultiInference {
    #[prost(message, repeated, tag = "1")]
    pub(crate) tasks: Vec<DeclaredPredict>,
}

/// A message in a call, with the prefix before it.
pub(crate) fn framed(message: &[u8]) -> Vec<u8> {
    let length = u32::try_from(message.len()).unwrap();
    [&[0][..], &length.to_be_bytes(), message].concat()
}

/// Reads a message at three paths. prost must read what the gate passes, and find the same model.
pub(crate) fn protobuf(message: &[u8], cuts: &[usize]) -> [Found; 3] {
    use prost::Message as _;

    let call = framed(message);
    let found = [&TASKS[2..], &TASKS[1..], &TASKS[..]].map(|path| {
        fed(&call, cuts, |pieces| {
            let (mut messages, end) = grpc_in_pieces(path, pieces);
            end?;
            let (model, bytes) = messages.pop().expect("one message");
            assert!(messages.is_empty() && bytes == call);
            Ok(model)
        })
    });
    let one = |models: Vec<String>, found: &Option<String>| {
        assert_eq!(models, found.iter().cloned().collect::<Vec<_>>());
    };
    if let Ok(found) = &found[0] {
        one(Infer::decode(message).unwrap().models, found);
        let declared = DeclaredInfer::decode(message).unwrap().model;
        assert_eq!(declared, found.clone().unwrap_or_default());
    }
    if let Ok(found) = &found[1] {
        let specs = Predict::decode(message).unwrap().specs;
        assert!(specs.len() <= 1);
        one(specs.into_iter().flat_map(|spec| spec.models).collect(), found);
        let spec = DeclaredPredict::decode(message).unwrap().spec.unwrap_or_default();
        assert_eq!(spec.model, found.clone().unwrap_or_default());
    }
    if let Ok(found) = &found[2] {
        for task in MultiInference::decode(message).unwrap().tasks {
            assert!(task.specs.len() <= 1);
            one(task.specs.into_iter().flat_map(|spec| spec.models).collect(), found);
        }
        for task in DeclaredMultiInference::decode(message).unwrap().tasks {
            let model = task.spec.unwrap_or_default().model;
            assert_eq!(model, found.clone().unwrap_or_default());
        }
    }
    found
}

/// What was read of a call: the model of each message with its bytes, and how the call ended.
pub(crate) type Call = (Vec<(Option<String>, Vec<u8>)>, Result<(), Fault>);

/// The longest message of a call.
pub(crate) const MESSAGE_LIMIT: usize = 64 * 1024;

fn grpc_in_pieces(path: &[PathStep], pieces: &[&[u8]]) -> Call {
    let mut scan = GrpcScan::new(path, MESSAGE_LIMIT);
    let mut messages = Vec::new();
    for piece in pieces {
        let mut piece = Bytes::copy_from_slice(piece);
        loop {
            match scan.next(&mut piece) {
                Ok(Some(Message { model, bytes })) => {
                    messages.push((model, bytes.into_pieces().concat()));
                }
                Ok(None) => break,
                Err(fault) => return (messages, Err(fault)),
            }
        }
    }
    (messages, scan.end())
}

/// Reads a call. What is released is what came, in order and message by message.
pub(crate) fn grpc(call: &[u8], cuts: &[usize]) -> Call {
    let read = grpc_in_pieces(&TASKS[2..], &[call]);
    assert_eq!(grpc_in_pieces(&TASKS[2..], &pieces(call, cuts)), read, "in pieces");
    let by_bytes: Vec<_> = call.chunks(1).collect();
    assert_eq!(grpc_in_pieces(&TASKS[2..], &by_bytes), read, "byte by byte");
    let released = read.0.iter().map(|(_, bytes)| &bytes[..]).collect::<Vec<_>>().concat();
    assert!(call.starts_with(&released));
    assert!(read.1.is_err() || released == call);
    for (model, bytes) in &read.0 {
        let [alone, ..] = protobuf(&bytes[5..], cuts);
        assert_eq!(alone.as_ref(), Ok(model));
    }
    read
}
