//! The law: who may ask what of which model. Pure: the same policy and the same question give the
//! same answer; it knows no HTTP library, file, clock or randomness.
//!
//! The way in is [`Policy::decide`] (and [`Policy::decide_with`], where the model is named in a body,
//! which the law does not read itself), the way to make a policy is [`compile`] on a [`Document`],
//! the way to change one is a function of [`amend`] on a document.

pub mod amend;
mod compile;
mod decision;
mod document;
pub mod entry_rules;
mod explanation;
mod facts;
mod model;
mod path;
mod pattern;
mod problem;
pub mod profile;
mod reason;
mod route;
mod token_state;

pub use compile::{Compiled, Policy, Rules, compile};
pub use decision::{
    Ask, BodyFault, BodyModel, Caller, Decision, Denial, Grant, Inspection, MessageDecision,
    Permit, SecretUsed, TokenIndex,
};
pub use document::{
    AdminEntry, Document, Limits, MAX_NAME_CHARS, Moment, Placed, Previous, TokenEntry,
};
pub use explanation::{Explanation, Step};
pub use facts::TokenFacts;
pub use model::{ModelError, ModelId};
pub use path::{PathError, RequestPath, decoded_segment};
pub use pattern::{Pattern, PatternError};
pub use problem::{Problem, Problems};
pub use reason::Reason;
pub use route::{
    Access, BodyForm, Dialect, Field, FieldPath, Filter, Origin, Place, Route, RouteError,
    RouteMatch, RouteSpec, RouteTable,
};
pub use token_state::TokenState;
