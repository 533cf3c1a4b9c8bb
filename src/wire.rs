//! What stands on the wire: credentials, headers and refusals, as plain functions on the parts of
//! a request. Nothing here waits, and nothing here decides.

pub mod credential;
pub mod headers;
pub mod inspect;
pub mod model_list;
pub mod refusal;
pub mod target;
