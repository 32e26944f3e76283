//! What cannot be published.

use std::fmt;

/// A catalog or a configuration of documents that cannot be published: which field, and what to do about it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {problem}")]
pub struct Invalid {
    field: String,
    problem: String,
}

impl Invalid {
    pub(super) fn new(field: impl fmt::Display, problem: impl fmt::Display) -> Self {
        Self { field: field.to_string(), problem: problem.to_string() }
    }

    /// Where it stands: `services.openai.routes`.
    pub fn field(&self) -> &str {
        &self.field
    }
}
