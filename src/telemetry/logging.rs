//! Logs: one line per event on standard error, JSON or text.
//!
//! Only the gate's own events are written. Libraries log whole header blocks at `trace`, and with
//! them credentials; they have no voice here.

use std::collections::HashMap;
use std::fmt::{self, Write as _};
use std::io::Write as _;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::sync::{LazyLock, Mutex, PoisonError};

use serde_json::{Map, Value};
use tracing::field::{Field, Visit};
use tracing::{Event, Level as TracingLevel, Metadata, Subscriber};
use tracing_appender::non_blocking::{NonBlocking, NonBlockingBuilder, WorkerGuard};
use tracing_subscriber::layer::{Context, Layer, SubscriberExt as _};
use tracing_subscriber::registry::Registry;

use crate::policy::{Moment, Problem};
use crate::settings::{Level, Log, LogFormat};
use crate::token::redact;

/// The longest value of a field, in bytes; more is cut.
const MAX_VALUE_BYTES: usize = 2048;

static LEVEL: AtomicU8 = AtomicU8::new(2);
static AS_TEXT: AtomicBool = AtomicBool::new(false);

/// Keeps the writer alive; on drop the lines that wait are written.
pub struct Logging {
    _guard: WorkerGuard,
}

/// Starts logging. A slow standard error never delays a request: lines wait in a bounded queue and
/// are dropped when it is full.
pub fn start(log: &Log) -> Logging {
    apply(log);
    let (writer, guard) =
        NonBlockingBuilder::default().buffered_lines_limit(16_384).finish(std::io::stderr());
    let subscriber = Registry::default().with(Lines { writer });
    // Only tests start it twice in a process; the first one goes on then.
    let _ = tracing::subscriber::set_global_default(subscriber);
    Logging { _guard: guard }
}

/// Takes over level and format while running.
pub fn apply(log: &Log) {
    let level = match log.level {
        Level::Error => 0,
        Level::Warn => 1,
        Level::Info => 2,
        Level::Debug => 3,
        Level::Trace => 4,
    };
    LEVEL.store(level, Ordering::Relaxed);
    AS_TEXT.store(log.format == LogFormat::Text, Ordering::Relaxed);
}

/// Tells what is odd in a file, though not wrong.
pub fn tell_warnings(file: &Path, warnings: &[Problem]) {
    for warning in warnings {
        tracing::warn!(
            file = %file.display(),
            // What the program made stands on no line.
            line = warning.line.filter(|line| *line > 0).map(|line| line as u64),
            remedy = warning.remedy,
            "{}",
            warning.what
        );
    }
}

struct Lines {
    writer: NonBlocking,
}

fn is_wanted(metadata: &Metadata<'_>) -> bool {
    let level = match *metadata.level() {
        TracingLevel::ERROR => 0,
        TracingLevel::WARN => 1,
        TracingLevel::INFO => 2,
        TracingLevel::DEBUG => 3,
        TracingLevel::TRACE => 4,
    };
    level <= LEVEL.load(Ordering::Relaxed)
}

impl<S: Subscriber> Layer<S> for Lines {
    fn register_callsite(
        &self,
        metadata: &'static Metadata<'static>,
    ) -> tracing::subscriber::Interest {
        if metadata.target().split("::").next() == Some("faregate") {
            // Asked anew each time: the level may change while running.
            tracing::subscriber::Interest::sometimes()
        } else {
            tracing::subscriber::Interest::never()
        }
    }

    fn enabled(&self, metadata: &Metadata<'_>, _: Context<'_, S>) -> bool {
        is_wanted(metadata)
    }

    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let mut fields = Fields::default();
        event.record(&mut fields);
        let line = if AS_TEXT.load(Ordering::Relaxed) {
            text_line(event.metadata().level(), fields)
        } else {
            json_line(event.metadata().level(), fields)
        };
        // There is nowhere to tell that standard error is gone.
        let _ = self.writer.clone().write_all(line.as_bytes());
    }
}

#[derive(Default)]
struct Fields {
    message: String,
    rest: Map<String, Value>,
}

impl Fields {
    fn add(&mut self, field: &Field, value: Value) {
        self.rest.insert(field.name().into(), value);
    }

    fn add_text(&mut self, field: &Field, text: &str) {
        let text = tellable(text);
        if field.name() == "message" {
            self.message = text;
        } else {
            self.add(field, Value::String(text));
        }
    }
}

impl Visit for Fields {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.add_text(field, value);
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.add_text(field, &format!("{value:?}"));
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.add(field, value.into());
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.add(field, value.into());
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        self.add(field, value.into());
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.add(field, value.into());
    }
}

/// The time of a line: RFC 3339 with milliseconds.
pub(super) fn now() -> String {
    format!("{:.3}", jiff::Timestamp::now())
}

/// A text as it may be told: without secrets, and not too long.
pub(super) fn tellable(text: &str) -> String {
    // Redacted before it is cut, so that no cut secret escapes.
    let text = redact(text);
    if text.len() <= MAX_VALUE_BYTES {
        return text.into_owned();
    }
    let mut end = MAX_VALUE_BYTES;
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    format!("{}…", &text[..end])
}

/// A text as JSON that a terminal takes no orders from. JSON itself lets DEL, the C1 controls (CSI
/// is one) and marks that turn the reading direction stand as they are.
pub(super) fn json_text(text: String) -> String {
    let quoted = Value::String(text).to_string();
    let gives_orders =
        |c: char| c.is_control() || matches!(c, '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    if !quoted.contains(gives_orders) {
        return quoted;
    }
    let mut out = String::with_capacity(quoted.len() + 16);
    for c in quoted.chars() {
        if gives_orders(c) {
            let _ = write!(out, "\\u{:04x}", u32::from(c));
        } else {
            out.push(c);
        }
    }
    out
}

fn json_line(level: &TracingLevel, fields: Fields) -> String {
    let mut line = String::with_capacity(256);
    // `time level message` first, for people; serde_json would sort them among the fields.
    let _ = write!(
        line,
        "{{\"time\":\"{}\",\"level\":\"{level}\",\"message\":{}",
        now(),
        json_text(fields.message)
    );
    for (name, value) in fields.rest {
        let value = match value {
            Value::String(text) => json_text(text),
            other => other.to_string(),
        };
        let _ = write!(line, ",{}:{value}", Value::String(name));
    }
    line.push_str("}\n");
    line
}

fn text_line(level: &TracingLevel, fields: Fields) -> String {
    // JSON's escapes keep control characters and line breaks out of the terminal.
    let escaped = |text: String| {
        let quoted = Value::String(text).to_string();
        quoted.chars().filter(|c| !c.is_control()).collect::<String>()
    };
    let message = escaped(fields.message);
    let mut line = format!("{} {level:5} {}", now(), message.trim_matches('"'));
    for (name, value) in fields.rest {
        let value = match value {
            Value::String(text) => escaped(text),
            other => other.to_string(),
        };
        let _ = write!(line, " {name}={value}");
    }
    line.push('\n');
    line
}

/// Lines per second and reason: a flood of refusals shall not become a flood of lines.
const LINES_PER_SECOND: u32 = 10;

/// Whether a line for this reason may still be written in this second.
#[must_use]
pub fn may_write(reason: &'static str, now: Moment) -> bool {
    static WRITTEN: LazyLock<Mutex<HashMap<&'static str, (Moment, u32)>>> =
        LazyLock::new(Mutex::default);
    // Poisoned only by a panic in these few lines; the counts are still good.
    let mut written = WRITTEN.lock().unwrap_or_else(PoisonError::into_inner);
    let (at, count) = written.entry(reason).or_insert((now, 0));
    if *at != now {
        (*at, *count) = (now, 0);
    }
    *count += 1;
    *count <= LINES_PER_SECOND
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_control_character_reaches_a_terminal_and_the_json_says_the_same() {
        let text = "a\n\u{1b}[31m\u{7f}\u{9b}31m\u{202e}\u{2066}é\"";
        let told = json_text(text.into());
        assert!(told.chars().all(|c| c.is_ascii_graphic() || c == 'é'), "{told}");
        assert_eq!(serde_json::from_str::<String>(&told).unwrap(), text);
        assert_eq!(json_text("plain é".into()), "\"plain é\"");
    }

    #[test]
    fn a_secret_across_the_cut_is_redacted_first() {
        let text = format!("{}fg_{}", "x".repeat(MAX_VALUE_BYTES - 8), "S".repeat(40));
        let told = tellable(&text);
        assert!(!told.contains("SSS") && told.len() <= MAX_VALUE_BYTES + '…'.len_utf8(), "{told}");
        assert_eq!(tellable(&"é".repeat(MAX_VALUE_BYTES)).chars().count(), MAX_VALUE_BYTES / 2 + 1);
    }
}
