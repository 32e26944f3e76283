//! What clients may switch on at the provider beyond a plain call: by default nothing, because the price is fixed and
//! some of it costs more.

use http::{HeaderMap, HeaderName, HeaderValue};
use serde::Deserialize;
use tower_mpp::upstream::bedrock::{BedrockBuilder, MessagesShape};

const BETA: HeaderName = HeaderName::from_static("anthropic-beta");
const OF_ANTHROPIC: &str = "anthropic-";

/// `[agent.provider]`, its member `allow`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Extras {
    betas: Vec<String>,
    tools: Vec<String>,
    members: Vec<String>,
}

impl Extras {
    /// What bodies for an API like Anthropic's may say.
    pub(super) fn shape(&self) -> MessagesShape {
        let shape = self.betas.iter().fold(MessagesShape::new(), MessagesShape::allow_beta);
        let shape = self.tools.iter().fold(shape, MessagesShape::allow_tool);
        self.members.iter().fold(shape, MessagesShape::allow_member)
    }

    /// The same for Bedrock.
    pub(super) fn tell(&self, builder: BedrockBuilder) -> BedrockBuilder {
        let builder = self.betas.iter().fold(builder, BedrockBuilder::beta);
        let builder = self.tools.iter().fold(builder, BedrockBuilder::allow_tool);
        self.members.iter().fold(builder, BedrockBuilder::allow_member)
    }

    /// Of what clients say to Anthropic in headers, only the betas that are allowed pass: the rest speaks of the
    /// merchant's account.
    pub(super) fn filter(&self, headers: &mut HeaderMap) {
        let asked: Vec<String> = headers
            .get_all(BETA)
            .into_iter()
            .filter_map(|value| value.to_str().ok())
            .flat_map(|value| value.split(','))
            .map(|beta| beta.trim().to_owned())
            .filter(|beta| self.betas.contains(beta))
            .collect();
        let theirs = headers.keys().filter(|name| name.as_str().starts_with(OF_ANTHROPIC));
        for name in theirs.cloned().collect::<Vec<_>>() {
            headers.remove(name);
        }
        if !asked.is_empty()
            && let Ok(value) = HeaderValue::try_from(asked.join(","))
        {
            headers.insert(BETA, value);
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn of_the_headers_for_anthropic_only_allowed_betas_pass() {
        let sent = || {
            let mut headers = HeaderMap::new();
            headers.append("anthropic-beta", "dear-1, wanted-1".parse().unwrap());
            headers.append("anthropic-beta", "wanted-2".parse().unwrap());
            headers.insert("anthropic-user-profile-id", "u".parse().unwrap());
            headers.insert("accept", "*/*".parse().unwrap());
            headers
        };
        let mut none = sent();
        Extras::default().filter(&mut none);
        assert_eq!((none.len(), none.get("accept").is_some()), (1, true));
        let mut some = sent();
        Extras { betas: vec!["wanted-1".into(), "wanted-2".into()], ..Extras::default() }.filter(&mut some);
        assert_eq!((some.len(), &some["anthropic-beta"]), (2, &HeaderValue::from_static("wanted-1,wanted-2")));
    }
}
