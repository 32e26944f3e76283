//! What a signed receipt says.

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::UsdCost;
use crate::protocol::{Amount, ChallengeId, Currency, Intent, MethodId, ReceiptId, Timestamp, Visibility};

macro_rules! names {
    ($(#[$of:meta])* $name:ident { $($(#[$meta:meta])* $variant:ident = $text:literal),+ $(,)? }) => {
        $(#[$of])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
        #[non_exhaustive]
        pub enum $name { $($(#[$meta])* #[serde(rename = $text)] $variant),+ }

        impl $name {
            /// As it stands in a receipt.
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $text),+ }
            }
        }
    };
}

names! {
    /// The wire that a provider was called on.
    Provider {
        /// Anthropic.
        Anthropic = "anthropic",
        /// OpenAI.
        OpenAi = "openai",
        /// Google.
        Google = "google",
        /// Amazon Bedrock.
        AwsBedrock = "aws_bedrock",
        /// OpenRouter.
        OpenRouter = "openrouter",
        /// Groq.
        Groq = "groq",
    }
}

names! {
    /// What a receipt is about.
    ReceiptType {
        /// A call of a provider, or of whatever else the service does.
        Inference = "inference",
        /// A call that was answered without one.
        CacheHit = "cache_hit",
        /// A call that a policy refused.
        Blocked = "blocked",
        /// A call that failed, or whose answer broke off.
        Failed = "failed",
        /// Money that was taken for calls of others.
        Settlement = "settlement",
        /// Money that was given back.
        Refund = "refund",
        /// A correction of what another receipt says.
        ReconciliationAdjustment = "reconciliation_adjustment",
    }
}

names! {
    /// How sure an estimated cost is.
    CostConfidence {
        /// Everything that costs is in it.
        Complete = "complete",
        /// Something is missing.
        Partial = "partial",
        /// It is a guess.
        Low = "low",
    }
}

names! {
    /// What is kept of requests and answers.
    PayloadCapture {
        /// Hashes.
        HashOnly = "hash_only",
        /// Hashes, and the payloads, encrypted for their owner.
        EncryptedAtRest = "encrypted_at_rest",
        /// Nothing.
        None = "none",
    }
}

names! {
    /// How a receipt is signed.
    SigningAlgorithm {
        /// Ed25519 (RFC 8032): everybody can verify it.
        Ed25519 = "ed25519",
        /// HMAC-SHA256: only who has the secret can.
        HmacSha256 = "hmac_sha256",
    }
}

/// What was paid, as it stands in a receipt.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PaidWith {
    /// The payment method.
    pub method: MethodId,
    /// The intent.
    pub intent: Intent,
    /// In minor units of the currency.
    pub amount: Amount,
    /// The currency or asset.
    pub currency: Currency,
    /// The rail's reference. Not in what everybody may see, unless that is all of the receipt.
    #[serde(default)]
    pub reference: Option<String>,
    /// The challenge that was paid. Not in what everybody may see, unless that is all of the receipt.
    #[serde(default)]
    pub challenge_id: Option<ChallengeId>,
}

/// What a receipt says, without its signature. Every member of the schema is there; what is not known is null.
///
/// A merchant fills in what it knows, beginning with the default; the merchant's layer fills in what it sees:
/// ids, hashes, instants, statuses and the payment.
///
/// It is read back from JSON strictly: names that the schema does not know are refused where it lists them, and
/// members that it does not have are left out (they stay in [`Verified::receipt`](super::Verified::receipt)).
/// Instants are written with milliseconds: what is finer is cut off.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
#[allow(missing_docs, reason = "the names are those of the schema, and what is not plain is said beside it")]
pub struct ReceiptBody {
    // Identity
    pub receipt_id: Option<ReceiptId>,
    pub request_id: Option<String>,
    /// The receipt that this one adds to.
    pub parent_receipt_id: Option<ReceiptId>,
    pub client_request_id: Option<String>,
    pub idempotency_key: Option<String>,
    pub agent_id: Option<String>,
    pub tenant_id: Option<String>,
    pub project_id: Option<String>,
    pub customer_id: Option<String>,
    pub environment: Option<String>,
    pub api_key_id: Option<String>,
    pub user_id: Option<String>,
    // Provider
    /// The wire.
    pub provider: Option<Provider>,
    /// The vendor of the model behind a wire that routes.
    pub upstream_provider: Option<String>,
    pub model_id: Option<String>,
    pub region: Option<String>,
    pub aws_account_id: Option<String>,
    pub iam_principal: Option<String>,
    // Outcome
    /// [`ReceiptType::Inference`] where nothing is said.
    pub receipt_type: Option<ReceiptType>,
    /// `succeeded`, `partial`, `failed`, `blocked` or `in_progress`, or what else the merchant says.
    pub status: Option<String>,
    pub http_status: Option<u16>,
    pub provider_status: Option<u16>,
    pub error_class: Option<String>,
    pub error_code: Option<String>,
    pub error_message_hash: Option<String>,
    // Tokens and cost
    /// At most 2⁵³ - 1, like every number in a receipt.
    pub input_tokens: Option<u64>,
    pub output_tokens: Option<u64>,
    pub cache_read_tokens: Option<u64>,
    pub cache_write_tokens: Option<u64>,
    pub tokens_source: Option<String>,
    pub cost_source: Option<String>,
    pub cost_estimated_usd: Option<UsdCost>,
    pub cost_estimate_confidence: Option<CostConfidence>,
    pub cost_final_usd: Option<UsdCost>,
    pub cost_currency: Option<String>,
    pub pricing_table_id: Option<String>,
    pub pricing_version: Option<String>,
    #[serde(with = "millis")]
    pub pricing_effective_at: Option<Timestamp>,
    // Pipeline
    pub routing_decision: Option<String>,
    pub policy_decision: Option<String>,
    pub cache_status: Option<String>,
    #[serde(deserialize_with = "list")]
    pub module_chain: Vec<String>,
    pub settlement_protocol: Option<String>,
    // Hashes and payloads: `sha256-` and 64 hexadecimal digits
    pub client_request_hash: Option<String>,
    pub provider_request_hash: Option<String>,
    pub provider_response_hash: Option<String>,
    pub client_response_hash: Option<String>,
    pub payload_capture: Option<PayloadCapture>,
    /// An envelope as JSON.
    pub encrypted_request_blob: Option<String>,
    pub encrypted_response_blob: Option<String>,
    pub encryption_alg: Option<String>,
    pub encryption_pubkey_fingerprint: Option<String>,
    // Visibility
    pub visibility: Visibility,
    /// Filled in when it is signed, with [`public_receipt_hash`](Self::public_receipt_hash).
    pub redaction_policy: Option<String>,
    /// `sha256-` and the hexadecimal hash of what everybody may see, canonical and without its signature.
    pub public_receipt_hash: Option<String>,
    // Timing
    #[serde(with = "millis")]
    pub request_started_at: Option<Timestamp>,
    #[serde(with = "millis")]
    pub request_ended_at: Option<Timestamp>,
    #[serde(with = "millis")]
    pub created_at: Option<Timestamp>,
    /// What was paid. Not of the schema: this library adds it.
    pub payment: Option<PaidWith>,
    /// The name of the agent in public, where it has one. Not of the schema, and in public receipts only: of
    /// `public_minimal` and `public_full`, and where a redaction policy keeps it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub agent_handle: Option<String>,
}

/// Instants with exactly three digits after the second.
pub(super) mod millis {
    use super::{Deserialize as _, Deserializer, Serializer, Timestamp};

    pub(in crate::receipt) fn floor(at: Timestamp) -> Timestamp {
        Timestamp::from_unix_millis(at.unix_millis()).unwrap_or(at)
    }

    pub(super) fn serialize<S: Serializer>(at: &Option<Timestamp>, serializer: S) -> Result<S::Ok, S::Error> {
        match at {
            Some(at) => serializer.collect_str(&format_args!("{:.3}", floor(*at))),
            None => serializer.serialize_none(),
        }
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Timestamp>, D::Error> {
        Option::deserialize(deserializer)
    }
}

/// Others may write null for nothing.
fn list<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<String>, D::Error> {
    Option::deserialize(deserializer).map(Option::unwrap_or_default)
}
