//! The one model that a JSON body names, for every reader.

use std::fmt;

use serde::{
    Deserialize, Deserializer,
    de::{Error as _, IgnoredAny, MapAccess, Visitor},
};

/// The member `model` of an object, where it has one.
///
/// Whoever serves the call reads the same bytes with another parser. Some take the first of two members, some the
/// last, and some do not mind its case: a body that any two could read differently is not read at all.
pub(super) struct NamedModel(pub(super) Option<String>);

impl NamedModel {
    pub(super) fn read(body: &[u8]) -> Option<Self> {
        // A parser that passes over what it does not need does not look for broken characters in it.
        serde_json::from_str(std::str::from_utf8(body).ok()?).ok()
    }
}

impl<'de> Deserialize<'de> for NamedModel {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Members;

        impl<'de> Visitor<'de> for Members {
            type Value = NamedModel;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<NamedModel, A::Error> {
                let mut model = None;
                while let Some(name) = members.next_key::<String>()? {
                    if !name.eq_ignore_ascii_case("model") {
                        members.next_value::<IgnoredAny>()?;
                    } else if name != "model" || model.is_some() {
                        return Err(A::Error::duplicate_field("model"));
                    } else {
                        // A text: null is read as nothing by some and as a mistake by others.
                        model = Some(members.next_value()?);
                    }
                }
                Ok(NamedModel(model))
            }
        }

        deserializer.deserialize_map(Members)
    }
}
