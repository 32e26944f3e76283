//! Services that many merchants sell, with the way in which their keys are sent.
//!
//! ```
//! use tower_mpp::{Price, proxy::{Route, presets::{self, OpenAi}}};
//!
//! # fn main() -> Result<(), tower_mpp::protocol::InvalidPrice> {
//! let openai = presets::openai("sk-of-the-merchant")
//!     .route(OpenAi::ChatCompletions, Route::paid(Price::usd("0.05")?))
//!     .route("GET /v1/models", Route::free());
//! # Ok(())
//! # }
//! ```

use std::fmt::Write as _;

use http::HeaderName;

use super::{Service, credentials::ApiKeyIn};
use crate::{receipt::Provider, upstream::Usage};

/// OpenAI at `/openai/`: the key goes into `Authorization: Bearer`.
pub fn openai(api_key: impl Into<String>) -> Service {
    Service::new("openai", "https://api.openai.com")
        .api_key(api_key, ApiKeyIn::Bearer)
        .provider(Provider::OpenAi, Usage::OpenAi)
        .remove_header("openai-organization")
        .remove_header("openai-project")
        .title("OpenAI")
        .description("Chat completions, embeddings, image generation, and audio transcription.")
        .docs_llms_url_with(|route| {
            const DOCS: &str = "https://context7.com/websites/platform_openai/llms.txt";
            Some(route.map_or_else(|| DOCS.to_owned(), |route| topic(DOCS, route)))
        })
}

/// Anthropic at `/anthropic/`: the key goes into `x-api-key`.
pub fn anthropic(api_key: impl Into<String>) -> Service {
    Service::new("anthropic", "https://api.anthropic.com")
        .api_key(api_key, ApiKeyIn::Header(HeaderName::from_static("x-api-key")))
        .provider(Provider::Anthropic, Usage::Anthropic)
        .title("Anthropic")
        .description("Claude language models for messages and completions.")
}

/// The API of Stripe at `/stripe/`: the key is the user of `Authorization: Basic`. This sells calls of that API; the
/// payment method is `Stripe` of the feature `stripe`.
pub fn stripe(api_key: impl Into<String>) -> Service {
    Service::new("stripe", "https://api.stripe.com")
        .api_key(api_key, ApiKeyIn::BasicUser)
        .remove_header("stripe-account")
        .remove_header("stripe-context")
        .title("Stripe")
        .description("Payment processing, customers, subscriptions, and invoices.")
        .docs_llms_url_with(|route| {
            let of_route = |route| topic("https://context7.com/websites/stripe/llms.txt", route);
            Some(route.map_or_else(|| "https://docs.stripe.com/llms.txt".to_owned(), of_route))
        })
}

macro_rules! routes {
    ($(#[$doc:meta])* $name:ident { $($variant:ident = $key:literal),+ $(,)? }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[non_exhaustive]
        pub enum $name {
            $(
                #[doc = concat!("`", $key, "`")]
                $variant,
            )+
        }

        impl $name {
            /// All of them.
            pub const ALL: &[Self] = &[$(Self::$variant),+];

            /// The key of the route.
            pub const fn as_str(self) -> &'static str {
                match self {
                    $(Self::$variant => $key,)+
                }
            }
        }

        impl From<$name> for String {
            fn from(route: $name) -> Self {
                route.as_str().to_owned()
            }
        }
    };
}

routes! {
    /// Routes of [`openai`].
    OpenAi {
        ChatCompletions = "POST /v1/chat/completions",
        Completions = "POST /v1/completions",
        Embeddings = "POST /v1/embeddings",
        ImageGenerations = "POST /v1/images/generations",
        ImageEdits = "POST /v1/images/edits",
        ImageVariations = "POST /v1/images/variations",
        AudioTranscriptions = "POST /v1/audio/transcriptions",
        AudioTranslations = "POST /v1/audio/translations",
    }
}

routes! {
    /// Routes of [`anthropic`].
    Anthropic {
        Messages = "POST /v1/messages",
        CreateBatch = "POST /v1/messages/batches",
        ListBatches = "GET /v1/messages/batches",
        Batch = "GET /v1/messages/batches/:batchId",
        Complete = "POST /v1/complete",
    }
}

routes! {
    /// Routes of [`stripe`].
    Stripe {
        CreateCharge = "POST /v1/charges",
        CreateCustomer = "POST /v1/customers",
        Customer = "GET /v1/customers/:id",
        CreatePaymentIntent = "POST /v1/payment_intents",
        PaymentIntent = "GET /v1/payment_intents/:id",
        CreateSubscription = "POST /v1/subscriptions",
        Subscription = "GET /v1/subscriptions/:id",
        CreateInvoice = "POST /v1/invoices",
        Invoice = "GET /v1/invoices/:id",
    }
}

/// The documentation of one route: its key as a topic, escaped as `encodeURIComponent` does.
fn topic(docs: &str, route: &str) -> String {
    let mut url = format!("{docs}?topic=");
    for byte in route.bytes() {
        if byte.is_ascii_alphanumeric() || b"-_.!~*'()".contains(&byte) {
            url.push(char::from(byte));
        } else {
            let _ = write!(url, "%{byte:02X}");
        }
    }
    url
}
