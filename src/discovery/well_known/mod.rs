//! The document at `/.well-known/mpp`: who sells, what, how it is paid, and what works.
//!
//! It has two sources. The [`Config`] holds texts that only the merchant knows; the [`Facts`] come from the running
//! merchant, and everything that is a flag, a price, an offer or a rule comes from them. Both meet in
//! [`WellKnown::new`], at start-up, where a text about something that is not there is an error.
//!
//! There is no standard for this document; the members and their order are those of a deployed gateway.
//!
//! ```
//! use http::Method;
//! use tower_mpp::{
//!     Clock as _, KeyRing, Merchant, SystemClock,
//!     discovery::well_known::{Config, Facts, ModelCard, WellKnown, model_options},
//!     method::Sandbox,
//!     store::MemoryNonceStore,
//! };
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let merchant = Merchant::builder("api.example.com", KeyRing::new("a random secret of 32 bytes or more")?)
//! #     .test_mode(true)
//! #     .method(Sandbox::new())
//! #     .nonce_store(MemoryNonceStore::single_process(100))
//! #     .build()?;
//! let config: Config = serde_json::from_str(r#"{"merchant": {"name": "Example"}}"#)?;
//! let models: Vec<ModelCard> =
//!     serde_json::from_str(r#"[{"id": "fast", "model": "bedrock/nova", "price": "0.50", "default": true}]"#)?;
//! let facts = Facts::of(&merchant).models(model_options(&models)?).sold_by_model(Method::POST, "/v1/agent/messages");
//! let document = WellKnown::new(&config, &models, &facts)?.document(SystemClock.now());
//! assert!(document.is_some());
//! # Ok(())
//! # }
//! ```

mod config;
mod document;
mod facts;
mod models;
mod sold;

use std::{fmt, sync::Arc, time::Duration};

use bytes::Bytes;
use parking_lot::Mutex;

pub use self::{
    config::{
        AtxpMcp, Config, Form, Icon, Logo, MerchantCard, ModelCard, PaymentMethodCard, ProviderBilling, Reasons,
        RouteCard, RouteKind, Sessions, Tool, model_options,
    },
    facts::{Built, Facts, Stage},
};
use super::Invalid;
use crate::protocol::Timestamp;

/// For how long one copy of the document is given out. Both of its paths give out the same one.
pub(super) const COPY: Duration = Duration::from_secs(60);

/// The document at `/.well-known/mpp`. Cheap to clone.
#[derive(Clone)]
pub struct WellKnown(Arc<Source>);

enum Source {
    /// MPP is disabled.
    Absent,
    /// The same for ever.
    Fixed(Bytes),
    /// Everything but the time at its end.
    Dated { head: String, copy: Mutex<Option<(Timestamp, Bytes)>> },
}

impl WellKnown {
    /// Brings the merchant's texts and the facts together. `models` is the table of which the price list in the facts
    /// was made; it may be empty where nothing is priced by a model.
    ///
    /// # Errors
    /// [`Invalid`] when the texts and the facts contradict each other, or something is sold that no payment method
    /// can take.
    pub fn new(config: &Config, models: &[ModelCard], facts: &Facts) -> Result<Self, Invalid> {
        if facts.stage == Stage::Disabled {
            return Ok(Self(Arc::new(Source::Absent)));
        }
        let document = document::Document::new(config, models, facts)?;
        Ok(Self(Arc::new(match config.form {
            Form::Minimal => Source::Fixed(document.minimal().to_json().into()),
            Form::Full => {
                let mut head = document.full().to_json();
                // The closing brace comes after the time.
                head.pop();
                Source::Dated { head, copy: Mutex::new(None) }
            }
        })))
    }

    /// The document, or nothing while MPP is disabled. `generated_at` is when this copy was made, which is at most a
    /// minute before `now`.
    pub fn document(&self, now: Timestamp) -> Option<Bytes> {
        match &*self.0 {
            Source::Absent => None,
            Source::Fixed(document) => Some(document.clone()),
            Source::Dated { head, copy } => {
                let mut copy = copy.lock();
                if let Some((made, document)) = &*copy
                    && *made <= now
                    && made.until(now) < COPY
                {
                    return Some(document.clone());
                }
                let document = Bytes::from(format!("{head},\"generated_at\":\"{}\"}}", in_millis(now)));
                *copy = Some((now, document.clone()));
                Some(document)
            }
        }
    }
}

/// RFC 3339 with exactly three digits of a second.
fn in_millis(instant: Timestamp) -> String {
    let millis = instant.unix_millis();
    let seconds = Timestamp::from_unix_millis(millis.div_euclid(1000) * 1000).unwrap_or(instant).to_string();
    format!("{}.{:03}Z", seconds.trim_end_matches('Z'), millis.rem_euclid(1000))
}

impl fmt::Debug for WellKnown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let source = match &*self.0 {
            Source::Absent => "Absent",
            Source::Fixed(_) => "Fixed",
            Source::Dated { .. } => "Dated",
        };
        f.debug_tuple("WellKnown").field(&source).finish()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn the_time_has_milliseconds_always() {
        for (given, written) in [
            ("2026-06-05T21:10:50.167Z", "2026-06-05T21:10:50.167Z"),
            ("2026-06-05T21:10:50Z", "2026-06-05T21:10:50.000Z"),
            ("2026-06-05T21:10:50.1Z", "2026-06-05T21:10:50.100Z"),
            ("1969-12-31T23:59:59.999999Z", "1969-12-31T23:59:59.999Z"),
        ] {
            assert_eq!(in_millis(given.parse().unwrap()), written);
        }
    }

    #[test]
    fn a_copy_is_given_out_for_a_minute_and_never_after_the_clock_went_back() {
        let source = Source::Dated { head: "{\"a\":1".into(), copy: Mutex::new(None) };
        let document = WellKnown(Arc::new(source));
        let at = |second| Timestamp::from_unix(second).unwrap();
        let first = document.document(at(1000)).unwrap();
        assert_eq!(first, "{\"a\":1,\"generated_at\":\"1970-01-01T00:16:40.000Z\"}");
        assert_eq!(document.document(at(1059)).unwrap(), first);
        assert_ne!(document.document(at(1060)).unwrap(), first);
        assert_eq!(document.document(at(1000)).unwrap(), first);
    }
}
