//! What a reply of Stripe means for the money. Pure: no I/O.

use std::{collections::HashMap, time::Duration};

use http::StatusCode;
use serde::Deserialize;

use super::{
    api::{Reply, word},
    config::is_id,
};
use crate::{
    method::{DeclineReason, Declined},
    protocol::ChallengeId,
};

/// A PaymentIntent, as far as it decides anything.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Intent {
    /// `pi_...`, safe in a path.
    pub(super) id: String,
    pub(super) status: Status,
    /// In Stripe's minor units.
    pub(super) amount: u64,
    pub(super) amount_received: Option<u64>,
    pub(super) amount_capturable: Option<u64>,
    pub(super) currency: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Status {
    /// The money has moved.
    Succeeded,
    /// The payment method takes its time.
    Processing,
    /// Money may move yet if somebody does something, unless the PaymentIntent is cancelled.
    Open,
    /// The money is held and moves when it is captured, unless the PaymentIntent is cancelled.
    Authorized,
    /// No money moved, and none will without the merchant's secret key.
    Failed,
    /// No money moved, and none ever will.
    Canceled,
    /// A status that this version does not know.
    Other,
}

impl Status {
    fn parse(status: &str) -> Self {
        match status {
            "succeeded" => Self::Succeeded,
            "processing" => Self::Processing,
            "requires_action" | "requires_confirmation" => Self::Open,
            // Where nobody asked for manual capture it is cancelled too.
            "requires_capture" => Self::Authorized,
            "requires_payment_method" => Self::Failed,
            "canceled" => Self::Canceled,
            _ => Self::Other,
        }
    }
}

#[derive(Deserialize)]
struct WireIntent {
    id: String,
    status: String,
    amount: u64,
    #[serde(default)]
    amount_received: Option<u64>,
    #[serde(default)]
    amount_capturable: Option<u64>,
    currency: String,
}

impl WireIntent {
    fn check(self) -> Option<Intent> {
        let Self { id, status, amount, amount_received, amount_capturable, currency } = self;
        let status = Status::parse(&status);
        is_id(&id, "pi_").then_some(Intent { id, status, amount, amount_received, amount_capturable, currency })
    }
}

/// An error object (Stripe API reference, "Errors"). The message is read only to find out whose
/// fault it is and goes nowhere.
#[derive(Default, Deserialize)]
struct ErrorBody {
    #[serde(default, rename = "type")]
    kind: Option<String>,
    #[serde(default)]
    code: Option<String>,
    #[serde(default)]
    decline_code: Option<String>,
    #[serde(default)]
    param: Option<String>,
    #[serde(default)]
    message: Option<String>,
    #[serde(default)]
    payment_intent: Option<WireIntent>,
}

impl ErrorBody {
    fn read(reply: &Reply) -> Option<Self> {
        #[derive(Deserialize)]
        struct Wrapper {
            error: ErrorBody,
        }
        serde_json::from_slice(&reply.body).ok().map(|Wrapper { error }| error)
    }

    fn code(&self) -> &str {
        self.code.as_deref().unwrap_or_default()
    }

    fn kind(&self) -> &str {
        self.kind.as_deref().unwrap_or_default()
    }

    /// Whether the payer's token is at fault. Stripe's test mode answers with a message and without a
    /// code or a parameter when a token is spent, revoked, expired or does not cover the amount.
    fn is_about_the_token(&self) -> bool {
        let names_it = |text: &Option<String>| {
            text.as_deref().is_some_and(|text| {
                let text = text.to_ascii_lowercase().replace(' ', "_");
                ["shared_payment_granted_token", "shared_payment_token", "shared_payment_issued_token"]
                    .iter()
                    .any(|name| text.contains(name))
            })
        };
        names_it(&self.param) || names_it(&self.code) || names_it(&self.message)
    }

    fn is_too_much_for_the_token(&self) -> bool {
        let message = self.message.as_deref().unwrap_or_default();
        self.code() == "amount_too_large" || message.contains("greater than the remaining amount")
    }
}

/// What the answer to "create this PaymentIntent" means.
#[derive(Debug)]
pub(super) enum Created {
    /// There is a PaymentIntent; its status says the rest.
    Intent(Intent),
    /// Certain: no money moved.
    Declined(Declined),
    /// The request was refused before anything was done, for a reason that is not the payer's.
    /// Certain when nobody asked before, else it says nothing about the earlier request.
    Refused { why: &'static str, retry_after: Option<Duration> },
    /// The same request is still at work.
    InUse,
    /// Stripe will not tell with this idempotency key: it must be looked for.
    LookUp(&'static str),
    /// Nobody knows.
    Unknown(&'static str),
}

pub(super) fn created(reply: &Reply) -> Created {
    if reply.status.is_success() {
        return match intent(reply) {
            Some(intent) => Created::Intent(intent),
            None => Created::Unknown("Stripe's answer is not a PaymentIntent"),
        };
    }
    if reply.status.is_server_error() {
        return if reply.replayed {
            // The key answers with this stored error from now on, whatever became of the payment.
            Created::LookUp("Stripe has stored a server error for this payment")
        } else {
            Created::Unknown("a server error of Stripe")
        };
    }
    let error = ErrorBody::read(reply);
    match (reply.status, error) {
        // These answers come from the door: the payment was not looked at, whoever wrote the body.
        (StatusCode::UNAUTHORIZED, _) => {
            Created::Refused { why: "Stripe does not accept the secret key (401)", retry_after: None }
        }
        (StatusCode::FORBIDDEN, _) => {
            Created::Refused { why: "the secret key may not create PaymentIntents (403)", retry_after: None }
        }
        (StatusCode::TOO_MANY_REQUESTS, _) => Created::Refused {
            why: "Stripe limits our requests (429)",
            retry_after: Some(reply.retry_after.unwrap_or(Duration::from_secs(2))),
        },
        (StatusCode::CONFLICT, Some(error)) if error.code() == "idempotency_key_in_use" => Created::InUse,
        (_, None) => Created::Unknown("an answer that is not Stripe's"),
        (_, Some(error)) => refused(reply.status, error),
    }
}

fn refused(status: StatusCode, error: ErrorBody) -> Created {
    if error.kind() == "idempotency_error" {
        return Created::LookUp(
            "the idempotency key was used with other parameters before: has the configuration changed?",
        );
    }
    match status {
        StatusCode::PAYMENT_REQUIRED => {
            // The failed PaymentIntent is nested in the error. When it is not at its end the status
            // decides, not the error.
            let nested = error.payment_intent.and_then(WireIntent::check);
            if let Some(intent) = nested.filter(|intent| !matches!(intent.status, Status::Failed | Status::Canceled)) {
                return Created::Intent(intent);
            }
            Created::Declined(if error.decline_code.as_deref() == Some("insufficient_funds") {
                Declined::new(DeclineReason::Insufficient, "The payment method has insufficient funds.")
            } else {
                declined()
            })
        }
        StatusCode::BAD_REQUEST | StatusCode::NOT_FOUND if error.is_about_the_token() => {
            Created::Declined(if error.is_too_much_for_the_token() {
                Declined::new(DeclineReason::Insufficient, "The Shared Payment Token does not cover the amount.")
            } else {
                Declined::new(
                    DeclineReason::Refused,
                    "The Shared Payment Token cannot be used: it is unknown, spent, expired or revoked.",
                )
            })
        }
        StatusCode::BAD_REQUEST | StatusCode::NOT_FOUND => Created::Refused {
            why: "Stripe refuses the request that we build: check the configuration",
            retry_after: None,
        },
        _ => Created::Unknown("an answer of Stripe that says neither yes nor no"),
    }
}

pub(super) fn declined() -> Declined {
    Declined::new(DeclineReason::Refused, "The payment was declined.")
}

/// Reads a PaymentIntent.
pub(super) fn intent(reply: &Reply) -> Option<Intent> {
    serde_json::from_slice::<WireIntent>(&reply.body).ok()?.check()
}

/// Reads the answer to a search for PaymentIntents: the one that decides, or `None` when there is
/// none. `Err` when it is not an answer.
pub(super) fn search_result(reply: &Reply) -> Result<Option<Intent>, ()> {
    #[derive(Deserialize)]
    struct Found {
        data: Vec<WireIntent>,
    }
    if !reply.status.is_success() {
        return Err(());
    }
    let Found { data } = serde_json::from_slice(&reply.body).map_err(|_| ())?;
    let intents: Option<Vec<Intent>> = data.into_iter().map(WireIntent::check).collect();
    let rank = |intent: &Intent| match intent.status {
        Status::Succeeded => 0,
        Status::Processing | Status::Other => 1,
        Status::Open | Status::Authorized => 2,
        Status::Failed => 3,
        Status::Canceled => 4,
    };
    Ok(intents.ok_or(())?.into_iter().min_by_key(rank))
}

/// What the answer to "refund" means.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum RefundReply {
    /// Done, or on its way: `re_...`.
    Refunded(String),
    /// Somebody has given it all back before.
    AlreadyRefunded,
    /// Never.
    Refused(&'static str),
    Fault {
        why: &'static str,
        retry_after: Option<Duration>,
    },
    Unknown(&'static str),
}

#[derive(Deserialize)]
struct WireRefund {
    id: String,
    #[serde(default)]
    status: Option<String>,
    amount: u64,
    #[serde(default)]
    metadata: HashMap<String, String>,
}

pub(super) fn refunded(reply: &Reply, amount: u128) -> RefundReply {
    if !reply.status.is_success() {
        return refund_error(reply);
    }
    let Ok(refund) = serde_json::from_slice::<WireRefund>(&reply.body) else {
        return RefundReply::Unknown("Stripe's answer is not a refund");
    };
    match refund.status.as_deref() {
        Some("failed" | "canceled") => {
            RefundReply::Refused("the refund failed at the bank: give the money back by hand")
        }
        Some("succeeded" | "pending") if u128::from(refund.amount) == amount => RefundReply::Refunded(refund.id),
        _ => RefundReply::Unknown("a refund in an unexpected state, or of another amount"),
    }
}

/// Finds the refund of a challenge in a list of refunds.
///
/// # Errors
/// What else the reply means; [`RefundReply::Refused`] when there is one of another amount.
pub(super) fn refund_of(reply: &Reply, id: ChallengeId, amount: u128) -> Result<Option<String>, RefundReply> {
    #[derive(Deserialize)]
    struct List {
        data: Vec<WireRefund>,
    }
    if !reply.status.is_success() {
        return Err(refund_error(reply));
    }
    let List { data } = serde_json::from_slice(&reply.body)
        .map_err(|_| RefundReply::Unknown("Stripe's answer is not a list of refunds"))?;
    let id = id.to_string();
    let ours = |refund: &WireRefund| {
        refund.metadata.get("mpp_challenge_id") == Some(&id)
            && matches!(refund.status.as_deref(), Some("succeeded" | "pending"))
    };
    match data.into_iter().find(ours) {
        Some(refund) if u128::from(refund.amount) == amount => Ok(Some(refund.id)),
        Some(_) => Err(RefundReply::Refused("it was refunded before, with another amount")),
        None => Ok(None),
    }
}

fn refund_error(reply: &Reply) -> RefundReply {
    let error = ErrorBody::read(reply);
    match (reply.status, error) {
        (StatusCode::UNAUTHORIZED, _) => {
            RefundReply::Fault { why: "Stripe does not accept the secret key (401)", retry_after: None }
        }
        (StatusCode::FORBIDDEN, _) => {
            RefundReply::Fault { why: "the secret key may not read and create refunds (403)", retry_after: None }
        }
        (StatusCode::TOO_MANY_REQUESTS, _) => RefundReply::Fault {
            why: "Stripe limits our requests (429)",
            retry_after: Some(reply.retry_after.unwrap_or(Duration::from_secs(2))),
        },
        (StatusCode::BAD_REQUEST | StatusCode::NOT_FOUND | StatusCode::PAYMENT_REQUIRED, Some(error)) => {
            match (error.kind(), error.code()) {
                (_, "charge_already_refunded") => RefundReply::AlreadyRefunded,
                (_, "balance_insufficient" | "insufficient_funds") => {
                    RefundReply::Fault { why: "the Stripe balance does not cover the refund", retry_after: None }
                }
                ("idempotency_error", _) => RefundReply::Refused("a refund with other parameters was asked for before"),
                (_, "charge_disputed") => RefundReply::Refused("the payment is disputed"),
                _ => RefundReply::Refused("Stripe refuses the refund: see its log"),
            }
        }
        _ => RefundReply::Unknown("Stripe did not say what became of the refund"),
    }
}

/// `code` and `decline_code` of an error, for the log.
pub(super) fn codes(reply: &Reply) -> (String, String) {
    let ErrorBody { code, decline_code, .. } = ErrorBody::read(reply).unwrap_or_default();
    let safe = |text: Option<String>| word(text.as_deref().unwrap_or_default()).to_owned();
    (safe(code), safe(decline_code))
}

#[cfg(test)]
mod tests {
    use http::{HeaderMap, HeaderValue};
    use serde_json::{Value, json};

    use super::*;

    fn reply(status: u16, body: Value) -> Reply {
        raw(status, body.to_string())
    }

    fn raw(status: u16, body: impl Into<String>) -> Reply {
        let status = StatusCode::from_u16(status).unwrap_or_default();
        Reply::new(status, &HeaderMap::new(), body.into().into())
    }

    fn error(status: u16, error: Value) -> Reply {
        reply(status, json!({ "error": error }))
    }

    fn an_intent(status: &str) -> Value {
        json!({"id": "pi_1", "object": "payment_intent", "status": status, "amount": 50, "currency": "usd"})
    }

    /// One word for what a reply means.
    fn word_for(reply: &Reply) -> &'static str {
        match created(reply) {
            Created::Intent(intent) => match intent.status {
                Status::Succeeded => "succeeded",
                Status::Processing => "processing",
                Status::Open => "open",
                Status::Authorized => "authorized",
                Status::Failed => "failed",
                Status::Canceled => "canceled",
                Status::Other => "other",
            },
            Created::Declined(declined) if declined.reason() == DeclineReason::Insufficient => "insufficient",
            Created::Declined(_) => "declined",
            Created::Refused { .. } => "refused",
            Created::InUse => "in use",
            Created::LookUp(_) => "look up",
            Created::Unknown(_) => "unknown",
        }
    }

    #[test]
    fn the_status_of_a_payment_intent_decides() {
        for (status, meaning) in [
            ("succeeded", "succeeded"),
            ("processing", "processing"),
            ("requires_action", "open"),
            ("requires_confirmation", "open"),
            ("requires_capture", "authorized"),
            ("requires_payment_method", "failed"),
            ("canceled", "canceled"),
            ("a_status_of_next_year", "other"),
        ] {
            assert_eq!(word_for(&reply(200, an_intent(status))), meaning, "{status}");
        }
    }

    #[test]
    fn a_success_that_cannot_be_read_is_unknown() {
        for body in [
            "",
            "{}",
            "[]",
            "<html>",
            "{\"id\":\"pi_1\"}",
            "{\"id\":\"pi_1\",\"status\":\"succeeded\",\"amount\":5e-1}",
        ] {
            assert_eq!(word_for(&raw(200, body)), "unknown", "{body}");
        }
        // The id goes into the path of further calls.
        for id in ["", "pi_", "re_1", "pi_1/../../refunds", "pi_1?x", "pi_é"] {
            let mut intent = an_intent("succeeded");
            if let Some(member) = intent.get_mut("id") {
                *member = json!(id);
            }
            assert_eq!(word_for(&reply(200, intent)), "unknown", "{id}");
        }
    }

    #[test]
    fn every_error_has_one_meaning() {
        let declined = |decline: &str| json!({"type": "card_error", "code": "card_declined", "decline_code": decline});
        let with_intent = |status: &str| json!({"type": "card_error", "payment_intent": an_intent(status)});
        let invalid = |more: Value| {
            let mut error = json!({"type": "invalid_request_error"});
            if let (Some(error), Value::Object(more)) = (error.as_object_mut(), more) {
                error.extend(more);
            }
            error
        };
        let deactivated =
            "The shared payment granted token cannot be used because it is already in a deactivated state.";
        let too_much = "The requested amount is greater than the remaining amount capturable with this shared payment \
                        granted token.";
        for (reply, meaning) in [
            (error(402, declined("generic_decline")), "declined"),
            (error(402, declined("insufficient_funds")), "insufficient"),
            (error(402, with_intent("requires_payment_method")), "declined"),
            // The money is not where the error says it is.
            (error(402, with_intent("processing")), "processing"),
            (error(402, with_intent("requires_action")), "open"),
            (error(402, with_intent("succeeded")), "succeeded"),
            (error(400, invalid(json!({"message": deactivated}))), "declined"),
            (error(400, invalid(json!({"message": too_much}))), "insufficient"),
            (
                error(
                    400,
                    invalid(
                        json!({"code": "resource_missing", "message": "No such shared_payment_granted_token: 'spt_1'"}),
                    ),
                ),
                "declined",
            ),
            (
                error(404, invalid(json!({"code": "resource_missing", "param": "shared_payment_granted_token"}))),
                "declined",
            ),
            (error(400, invalid(json!({"code": "shared_payment_token_expired"}))), "declined"),
            (error(400, invalid(json!({"code": "amount_too_small"}))), "refused"),
            (
                error(400, invalid(json!({"code": "resource_missing", "param": "transfer_data[destination]"}))),
                "refused",
            ),
            (
                error(
                    400,
                    invalid(json!({"message": "The livemode of the API request and the network_id do not match"})),
                ),
                "refused",
            ),
            (error(404, invalid(json!({"message": "Unrecognized request URL"}))), "refused"),
            (error(400, json!({"type": "idempotency_error"})), "look up"),
            (error(401, invalid(json!({}))), "refused"),
            (raw(401, "<html>"), "refused"),
            (raw(403, "a proxy"), "refused"),
            (raw(429, ""), "refused"),
            (error(409, json!({"type": "idempotency_error", "code": "idempotency_key_in_use"})), "in use"),
            (error(409, invalid(json!({"code": "lock_timeout"}))), "unknown"),
            (error(424, json!({"type": "api_error"})), "unknown"),
            (raw(402, "<html>"), "unknown"),
            (raw(400, "a proxy"), "unknown"),
            (raw(404, ""), "unknown"),
            (raw(307, ""), "unknown"),
            (raw(500, ""), "unknown"),
            (error(502, declined("generic_decline")), "unknown"),
        ] {
            assert_eq!(word_for(&reply), meaning, "{} {:?}", reply.status, reply.body);
        }
    }

    #[test]
    fn a_server_error_that_was_stored_must_be_looked_up() {
        let mut headers = HeaderMap::new();
        headers.insert("idempotent-replayed", HeaderValue::from_static("true"));
        let reply = Reply::new(StatusCode::INTERNAL_SERVER_ERROR, &headers, "{}".into());
        assert_eq!(word_for(&reply), "look up");
    }

    #[test]
    fn a_search_finds_the_payment_that_decides() {
        let found = |list: &[&str]| {
            let data: Vec<_> = list.iter().map(|status| an_intent(status)).collect();
            search_result(&reply(200, json!({"object": "search_result", "data": data})))
        };
        let status = |list: &[&str]| found(list).ok().flatten().map(|intent| intent.status);
        assert_eq!(found(&[]), Ok(None));
        assert_eq!(status(&["canceled", "succeeded", "processing"]), Some(Status::Succeeded));
        assert_eq!(status(&["canceled", "requires_action", "processing"]), Some(Status::Processing));
        assert_eq!(status(&["canceled", "requires_capture"]), Some(Status::Authorized));
        assert_eq!(status(&["canceled"]), Some(Status::Canceled));
        // One that cannot be read may be the one that decides.
        assert_eq!(search_result(&reply(200, json!({"data": [an_intent("canceled"), {"id": "x"}]}))), Err(()));
        assert_eq!(search_result(&reply(403, json!({"data": []}))), Err(()));
    }

    #[test]
    fn refunds_are_read_with_care() {
        let refund = |status: &str, amount: u64| reply(200, json!({"id": "re_1", "status": status, "amount": amount}));
        assert_eq!(refunded(&refund("succeeded", 50), 50), RefundReply::Refunded("re_1".to_owned()));
        assert_eq!(refunded(&refund("pending", 50), 50), RefundReply::Refunded("re_1".to_owned()));
        assert!(matches!(refunded(&refund("failed", 50), 50), RefundReply::Refused(_)));
        assert!(matches!(refunded(&refund("requires_action", 50), 50), RefundReply::Unknown(_)));
        assert!(matches!(refunded(&refund("succeeded", 49), 50), RefundReply::Unknown(_)));
        for (status, code, meaning) in [
            (400, json!({"code": "charge_already_refunded"}), "already"),
            (400, json!({"code": "charge_disputed"}), "refused"),
            (400, json!({"code": "balance_insufficient"}), "fault"),
            (400, json!({"type": "idempotency_error"}), "refused"),
            (400, json!({"message": "Refund amount is greater than unrefunded amount"}), "refused"),
            (404, json!({"code": "resource_missing"}), "refused"),
            (401, json!({}), "fault"),
            (403, json!({}), "fault"),
            (429, json!({}), "fault"),
            (409, json!({"code": "idempotency_key_in_use"}), "unknown"),
            (500, json!({}), "unknown"),
        ] {
            let is = match refunded(&error(status, code.clone()), 50) {
                RefundReply::Refunded(_) => "refunded",
                RefundReply::AlreadyRefunded => "already",
                RefundReply::Refused(_) => "refused",
                RefundReply::Fault { .. } => "fault",
                RefundReply::Unknown(_) => "unknown",
            };
            assert_eq!(is, meaning, "{status} {code}");
        }
    }
}
