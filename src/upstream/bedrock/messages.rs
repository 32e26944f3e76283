//! Requests of the Messages API, read with the path of what is wrong in them.

use serde_json::{Map, Value};

use super::error::{AnthropicError, invalid};

/// A value in a request, and where it stands.
#[derive(Clone)]
pub(super) struct Field<'a> {
    pub(super) path: String,
    pub(super) value: &'a Value,
}

impl<'a> Field<'a> {
    pub(super) fn wrong(&self, what: &str) -> AnthropicError {
        invalid(format!("{}: {what}", self.path))
    }

    pub(super) fn object(&self) -> Result<Object<'a>, AnthropicError> {
        let members = self.value.as_object().ok_or_else(|| self.wrong("must be an object"))?;
        Ok(Object { path: self.path.clone(), members })
    }

    pub(super) fn items(&self) -> Result<Vec<Field<'a>>, AnthropicError> {
        let items = self.value.as_array().ok_or_else(|| self.wrong("must be an array"))?;
        let item = |(at, value)| Field { path: format!("{}.{at}", self.path), value };
        Ok(items.iter().enumerate().map(item).collect())
    }

    pub(super) fn text(&self) -> Result<&'a str, AnthropicError> {
        self.value.as_str().ok_or_else(|| self.wrong("must be a string"))
    }

    pub(super) fn some_text(&self) -> Result<&'a str, AnthropicError> {
        match self.text()? {
            "" => Err(self.wrong("must not be empty")),
            text => Ok(text),
        }
    }

    /// A text with more than white space in it.
    pub(super) fn words(&self) -> Result<&'a str, AnthropicError> {
        let text = self.text()?;
        if text.trim().is_empty() { Err(self.wrong("must not be empty")) } else { Ok(text) }
    }

    /// One of a few texts.
    pub(super) fn one_of(&self, known: &[&str]) -> Result<&'a str, AnthropicError> {
        match self.text()? {
            text if known.contains(&text) => Ok(text),
            _ => Err(self.wrong(&format!("must be {}", known.join(" or ")))),
        }
    }

    pub(super) fn some_items(&self) -> Result<Vec<Field<'a>>, AnthropicError> {
        let items = self.items()?;
        if items.is_empty() { Err(self.wrong("must not be empty")) } else { Ok(items) }
    }

    pub(super) fn truth(&self) -> Result<bool, AnthropicError> {
        self.value.as_bool().ok_or_else(|| self.wrong("must be true or false"))
    }

    /// A number from 0 to 1.
    pub(super) fn fraction(&self) -> Result<f64, AnthropicError> {
        let number = self.value.as_f64().filter(|number| (0.0..=1.0).contains(number));
        number.ok_or_else(|| self.wrong("must be a number from 0 to 1"))
    }

    pub(super) fn count(&self) -> Result<u64, AnthropicError> {
        self.value.as_u64().ok_or_else(|| self.wrong("must be a whole number"))
    }
}

/// An object in a request, and where it stands.
#[derive(Clone)]
pub(super) struct Object<'a> {
    path: String,
    members: &'a Map<String, Value>,
}

impl<'a> Object<'a> {
    pub(super) fn of_request(members: &'a Map<String, Value>) -> Self {
        Self { path: String::new(), members }
    }

    fn path_of(&self, name: &str) -> String {
        if self.path.is_empty() { name.to_owned() } else { format!("{}.{name}", self.path) }
    }

    /// A member that may be missing. `null` is missing.
    pub(super) fn may(&self, name: &str) -> Option<Field<'a>> {
        let value = self.members.get(name).filter(|value| !value.is_null())?;
        Some(Field { path: self.path_of(name), value })
    }

    pub(super) fn must(&self, name: &str) -> Result<Field<'a>, AnthropicError> {
        self.may(name).ok_or_else(|| invalid(format!("{}: is required", self.path_of(name))))
    }

    pub(super) fn kind(&self) -> Result<&'a str, AnthropicError> {
        self.must("type")?.text()
    }

    /// Refuses what nobody here understands: it was meant, and it would not be done.
    pub(super) fn only(&self, known: &[&str]) -> Result<(), AnthropicError> {
        match self.members.iter().find(|(name, value)| !known.contains(&name.as_str()) && !value.is_null()) {
            Some((name, _)) => Err(self.wrong_member(name, "is not supported for this model")),
            None => Ok(()),
        }
    }

    /// Refuses what is not known, and `null` where it says nothing.
    pub(super) fn known(&self, known: &[&str], nullable: &[&str]) -> Result<(), AnthropicError> {
        for (name, value) in self.members {
            if !known.contains(&name.as_str()) {
                return Err(self.wrong_member(name, "is not supported here"));
            }
            if value.is_null() && !nullable.contains(&name.as_str()) {
                return Err(self.wrong_member(name, "must not be null"));
            }
        }
        Ok(())
    }

    pub(super) fn wrong_member(&self, name: &str, what: &str) -> AnthropicError {
        invalid(format!("{}: {what}", self.path_of(&shown(name))))
    }
}

/// A name that a client has made up, no longer than a name is.
pub(super) fn shown(name: &str) -> String {
    name.chars().filter(|c| !c.is_control()).take(100).collect()
}

/// What a request says to us, whatever its model.
#[derive(Clone, Debug)]
pub(super) struct Envelope {
    /// The model as it was asked for, if one was.
    pub(super) model: Option<String>,
    pub(super) max_tokens: u64,
    pub(super) stream: bool,
    pub(super) members: Map<String, Value>,
}

/// Longer names are nobody's.
const MAX_MODEL: usize = 300;

impl Envelope {
    pub(super) fn read(body: &[u8]) -> Result<Self, AnthropicError> {
        let value: Value =
            serde_json::from_slice(body).map_err(|error| invalid(format!("The body is not JSON: {error}")))?;
        let Value::Object(members) = value else { return Err(invalid("The body must be a JSON object.")) };
        let request = Object::of_request(&members);
        let model = match request.may("model") {
            Some(field) => match field.some_text()? {
                model if model.len() > MAX_MODEL => return Err(field.wrong("is too long")),
                model => Some(model.to_owned()),
            },
            None => None,
        };
        let field = request.must("max_tokens")?;
        let max_tokens = field.count()?;
        if max_tokens == 0 || i32::try_from(max_tokens).is_err() {
            return Err(field.wrong("must be at least 1, and less than 2^31"));
        }
        let stream = request.may("stream").map(|field| field.truth()).transpose()?.unwrap_or(false);
        let messages = request.must("messages")?;
        if messages.items()?.is_empty() {
            return Err(messages.wrong("must not be empty"));
        }
        Ok(Self { model, max_tokens, stream, members })
    }

    pub(super) fn request(&self) -> Object<'_> {
        Object::of_request(&self.members)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(body: &str) -> String {
        Envelope::read(body.as_bytes()).map(|_| String::new()).unwrap_or_else(|error| error.message().to_owned())
    }

    #[test]
    fn an_error_names_the_member_and_says_what_it_must_be() {
        let with = |rest: &str| format!(r#"{{"messages":[{{"role":"user","content":"hi"}}],{rest}}}"#);
        assert_eq!(refused(&with(r#""max_tokens":1"#)), "");
        assert_eq!(refused(&with(r#""max_tokens":0"#)), "max_tokens: must be at least 1, and less than 2^31");
        assert_eq!(refused(&with(r#""max_tokens":1.5"#)), "max_tokens: must be a whole number");
        assert_eq!(refused(&with(r#""stop":1"#)), "max_tokens: is required");
        assert_eq!(refused(&with(r#""max_tokens":1,"stream":"yes""#)), "stream: must be true or false");
        assert_eq!(refused(&with(r#""max_tokens":1,"model":"""#)), "model: must not be empty");
        assert_eq!(refused(r#"{"max_tokens":1,"messages":[]}"#), "messages: must not be empty");
        assert_eq!(refused("[]"), "The body must be a JSON object.");
        assert!(refused("{").starts_with("The body is not JSON: "));
    }
}
