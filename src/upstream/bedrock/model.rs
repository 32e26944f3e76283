//! Which models are called, and how.

use super::usage::BedrockPrice;

/// Families of models that differ in what they take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Family {
    Anthropic,
    Nova,
    Mistral,
    Cohere,
    Other,
}

impl Family {
    /// `anthropic.claude-...`, `us.anthropic.claude-...`, and the same at the end of an ARN.
    fn of(id: &str) -> Self {
        let id = last(id);
        let starts = |vendor: &str| {
            id.strip_prefix(vendor).is_some()
                || id.split_once('.').is_some_and(|(_, rest)| rest.strip_prefix(vendor).is_some())
        };
        if starts("anthropic.") {
            Self::Anthropic
        } else if starts("amazon.nova") {
            Self::Nova
        } else if starts("mistral.") {
            Self::Mistral
        } else if starts("cohere.command-r") {
            Self::Cohere
        } else {
            Self::Other
        }
    }

    /// Whether it has a cache for prompts.
    pub(super) fn caches(self) -> bool {
        matches!(self, Self::Anthropic | Self::Nova)
    }
}

fn last(id: &str) -> &str {
    id.rsplit_once('/').map_or(id, |(_, last)| last)
}

/// How a model is called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wire {
    Converse,
    /// `InvokeModel` with Anthropic's own bodies.
    Native,
}

/// A model of Bedrock, or an inference profile.
///
/// ```
/// # use tower_mpp::upstream::bedrock::{BedrockModel, BedrockPrice};
/// let fast = BedrockModel::new("us.amazon.nova-micro-v1:0")
///     .alias("fast")
///     // 0.035 dollars for a million tokens in, 0.14 for a million out.
///     .price(BedrockPrice::new(35_000, 140_000));
/// ```
#[derive(Clone, Debug)]
#[must_use]
pub struct BedrockModel {
    pub(super) id: String,
    pub(super) name: String,
    pub(super) aliases: Vec<String>,
    pub(super) price: Option<BedrockPrice>,
    pub(super) family: Family,
    pub(super) wire: Wire,
    pub(super) max_tokens: Option<u32>,
}

impl BedrockModel {
    /// By its id, `us.anthropic.claude-sonnet-4-6`, or by the id or ARN of an inference profile. A prefix `bedrock/`
    /// is left out.
    ///
    /// Ids of Anthropic are called with Anthropic's own bodies (`InvokeModel`), all others over Converse. The
    /// ARN of an application inference profile does not show what is behind it: say it with
    /// [`native`](Self::native).
    pub fn new(id: impl Into<String>) -> Self {
        let id = plain(&id.into()).to_owned();
        let family = Family::of(&id);
        let wire = if family == Family::Anthropic { Wire::Native } else { Wire::Converse };
        // An ARN holds the number of an account.
        let name = last(&id).to_owned();
        Self { id, name, aliases: Vec::new(), price: None, family, wire, max_tokens: None }
    }

    /// Another name that clients may ask for it by: `fast`.
    pub fn alias(mut self, name: impl Into<String>) -> Self {
        self.aliases.push(name.into());
        self
    }

    /// What it is called in receipts, and in answers over Converse. By default its id, or the last part of its ARN.
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.name = name.into();
        self
    }

    /// What it costs the merchant.
    pub fn price(mut self, price: BedrockPrice) -> Self {
        self.price = Some(price);
        self
    }

    /// The most tokens that a request may ask for: a fixed price needs a limit of what it buys.
    pub fn max_tokens(mut self, limit: u32) -> Self {
        self.max_tokens = Some(limit);
        self
    }

    /// It is one of Anthropic's, and is called with Anthropic's own bodies.
    pub fn native(mut self) -> Self {
        (self.family, self.wire) = (Family::Anthropic, Wire::Native);
        self
    }

    /// It is called over Converse, also when it is one of Anthropic's.
    pub fn converse(mut self) -> Self {
        self.wire = Wire::Converse;
        self
    }

    /// Whether a client means this model. `bedrock/` may stand before any name.
    pub(super) fn is_called(&self, asked: &str) -> bool {
        let asked = plain(asked);
        let bare = |name: &str| plain(name) == asked;
        bare(&self.id) || bare(&self.name) || self.aliases.iter().any(|alias| bare(alias))
    }
}

pub(super) fn plain(name: &str) -> &str {
    name.strip_prefix("bedrock/").unwrap_or(name)
}

/// Model ids without a place that are called in one: `anthropic.` as `us.anthropic.`.
#[derive(Clone, Debug, Default)]
pub(super) struct Profiles(Vec<(String, String)>);

impl Profiles {
    pub(super) fn add(&mut self, ids: String, prefix: String) {
        self.0.push((ids, prefix));
    }

    /// The longest match counts.
    pub(super) fn id(&self, id: &str) -> String {
        let of = self.0.iter().filter(|(ids, _)| id.starts_with(ids.as_str())).max_by_key(|(ids, _)| ids.len());
        of.map_or_else(|| id.to_owned(), |(_, prefix)| format!("{prefix}{id}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_model_is_known_by_each_of_its_names() {
        let model = BedrockModel::new("bedrock/us.amazon.nova-micro-v1:0").alias("fast");
        for name in ["us.amazon.nova-micro-v1:0", "bedrock/us.amazon.nova-micro-v1:0", "fast", "bedrock/fast"] {
            assert!(model.is_called(name), "{name}");
        }
        for name in ["", "amazon.nova-micro-v1:0", "Fast", "fast ", "bedrock/bedrock/fast"] {
            assert!(!model.is_called(name), "{name}");
        }
    }

    #[test]
    fn the_family_is_seen_in_the_id() {
        let arn = "arn:aws:bedrock:us-east-1:123456789012:inference-profile/us.anthropic.claude-sonnet-4-6";
        for (id, family, wire) in [
            ("anthropic.claude-3-haiku-20240307-v1:0", Family::Anthropic, Wire::Native),
            (arn, Family::Anthropic, Wire::Native),
            ("global.anthropic.claude-opus-4-7", Family::Anthropic, Wire::Native),
            ("eu.amazon.nova-lite-v1:0", Family::Nova, Wire::Converse),
            ("amazon.titan-text-express-v1", Family::Other, Wire::Converse),
            ("mistral.mistral-large-2402-v1:0", Family::Mistral, Wire::Converse),
            ("arn:aws:bedrock:us-east-1:123456789012:application-inference-profile/abc", Family::Other, Wire::Converse),
        ] {
            let model = BedrockModel::new(id);
            assert_eq!((model.family, model.wire), (family, wire), "{id}");
            assert!(!model.name.contains("123456789012"), "{}", model.name);
        }
    }

    #[test]
    fn an_id_gets_the_place_of_its_vendor() {
        let mut profiles = Profiles::default();
        profiles.add("anthropic.".into(), "us.".into());
        profiles.add("anthropic.claude-opus".into(), "global.".into());
        assert_eq!(profiles.id("anthropic.claude-sonnet-4-6"), "us.anthropic.claude-sonnet-4-6");
        assert_eq!(profiles.id("anthropic.claude-opus-4-7"), "global.anthropic.claude-opus-4-7");
        assert_eq!(profiles.id("eu.anthropic.claude-opus-4-7"), "eu.anthropic.claude-opus-4-7");
        assert_eq!(profiles.id("amazon.nova-micro-v1:0"), "amazon.nova-micro-v1:0");
    }
}
