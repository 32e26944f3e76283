//! The form bodies of the calls to Stripe. Pure.

use form_urlencoded::Serializer;

use super::config::Settings;
use crate::{
    method::RefundRequest,
    protocol::{Amount, ChallengeId, Currency, Intent},
};

/// `POST /v1/payment_intents` (Stripe charge draft, "Settlement Procedure").
pub(super) fn payment_intent(
    settings: &Settings,
    id: ChallengeId,
    amount: Amount,
    currency: &Currency,
    token: &str,
) -> String {
    let mut form = Serializer::new(String::new());
    form.append_pair("amount", &amount.to_string())
        .append_pair("automatic_payment_methods[allow_redirects]", "never")
        .append_pair("automatic_payment_methods[enabled]", "true");
    if settings.manual_capture {
        form.append_pair("capture_method", "manual");
    }
    form.append_pair("confirm", "true")
        .append_pair("currency", currency.as_str())
        .append_pair("shared_payment_granted_token", token);
    let connect = &settings.connect;
    if let Some(fee) = connect.application_fee_amount {
        form.append_pair("application_fee_amount", &fee.to_string());
    }
    if let Some(account) = &connect.on_behalf_of {
        form.append_pair("on_behalf_of", account);
    }
    if let Some(transfer) = &connect.transfer {
        form.append_pair("transfer_data[destination]", &transfer.destination);
        if let Some(amount) = transfer.amount {
            form.append_pair("transfer_data[amount]", &amount.to_string());
        }
    }
    if let Some(group) = &connect.transfer_group {
        form.append_pair("transfer_group", group);
    }
    // The builder refuses keys that begin with `mpp_`, so none of these replaces ours.
    for (key, value) in &settings.metadata {
        form.append_pair(&format!("metadata[{key}]"), value);
    }
    form.append_pair("metadata[mpp_challenge_id]", &id.to_string())
        .append_pair("metadata[mpp_intent]", Intent::CHARGE.as_str());
    form.finish()
}

/// `POST /v1/payment_intents/{id}/capture`: all of it.
pub(super) fn capture(amount: Amount) -> String {
    format!("amount_to_capture={amount}")
}

/// `POST /v1/refunds`. A refund of the whole payment takes back transfer and fee as well.
pub(super) fn refund(settings: &Settings, refund: &RefundRequest<'_>) -> String {
    let mut form = Serializer::new(String::new());
    form.append_pair("amount", &refund.amount.to_string())
        .append_pair("metadata[mpp_challenge_id]", &refund.challenge_id.to_string())
        .append_pair("payment_intent", &refund.settlement.reference)
        .append_pair("reason", "requested_by_customer");
    if settings.connect.application_fee_amount.is_some() {
        form.append_pair("refund_application_fee", "true");
    }
    if settings.connect.transfer.is_some() {
        form.append_pair("reverse_transfer", "true");
    }
    form.finish()
}

/// `GET /v1/payment_intents/search` for the PaymentIntents of a challenge.
pub(super) fn search_path(id: ChallengeId) -> String {
    let mut query = Serializer::new(String::new());
    // A challenge id has base64url characters only, so nothing in it ends the quotes.
    query.append_pair("query", &format!("metadata['mpp_challenge_id']:'{id}'")).append_pair("limit", "100");
    format!("/v1/payment_intents/search?{}", query.finish())
}

/// `GET /v1/refunds` of a PaymentIntent.
pub(super) fn refunds_path(payment_intent: &str) -> String {
    let mut query = Serializer::new(String::new());
    query.append_pair("payment_intent", payment_intent).append_pair("limit", "100");
    format!("/v1/refunds?{}", query.finish())
}
