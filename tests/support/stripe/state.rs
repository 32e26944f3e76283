//! What the stand-in knows, and the endpoints that read and change it.

use std::{
    collections::{BTreeMap, HashMap},
    time::Duration,
};

use http::Method;
use serde_json::{Value, json};

use super::{Call, Charge, Recorded, Refund, Reply, Shared, error, invalid, no_such, now, ok};

#[derive(Default)]
pub(super) struct State {
    pub(super) requests: Vec<Recorded>,
    pub(super) charges: Vec<Charge>,
    pub(super) refunds: Vec<StoredRefund>,
    pub(super) intents: BTreeMap<String, Value>,
    /// What each PaymentIntent was made with, beside its object.
    origins: HashMap<String, Origin>,
    pub(super) tokens: HashMap<String, Token>,
    pub(super) keys: HashMap<(Option<String>, String), Used>,
    happened: HashMap<String, u32>,
    pub(super) delay: Option<Duration>,
    pub(super) acts_before_cancel: bool,
}

struct Origin {
    account: Option<String>,
    token: String,
}

pub(super) struct StoredRefund {
    pub(super) record: Refund,
    object: Value,
}

/// An idempotency key that was used; without a reply while the request is at work.
pub(super) struct Used {
    pub(super) print: String,
    pub(super) reply: Option<Reply>,
}

pub(super) struct Token {
    id: String,
    currency: Option<String>,
    max_amount: u64,
    captured: u64,
    expires_at: u64,
    deactivated: Option<&'static str>,
    /// Tokens that were not granted have no limit, so they are used up by one payment.
    implicit: bool,
}

impl Token {
    pub(super) fn object(&self) -> Value {
        json!({
            "id": self.id, "object": "shared_payment.granted_token", "created": now(), "livemode": false,
            "agent_details": {"network_business_profile": "profile_test_standin"},
            "deactivated_at": self.deactivated.map(|_| now()), "deactivated_reason": self.deactivated,
            "usage_details": {"amount_captured": {"currency": self.currency, "value": self.captured}},
            "usage_limits": {"currency": self.currency, "expires_at": self.expires_at, "max_amount": self.max_amount},
        })
    }
}

/// Names that need no grant.
const NAMES: [&str; 17] = [
    "ok",
    "declined",
    "insufficient",
    "action",
    "processing",
    "expired",
    "overlimit",
    "unauthorized",
    "forbidden",
    "ratelimited",
    "badrequest",
    "5xx",
    "stored5xx",
    "slow",
    "drop",
    "garbage",
    "wrongamount",
];

/// The text of Stripe's test mode for a token that is spent, revoked or expired.
const DEACTIVATED: &str =
    "The shared payment granted token cannot be used because it is already in a deactivated state.";
/// The text of Stripe's test mode for a token that does not cover the amount.
const OVER_LIMIT: &str =
    "The requested amount is greater than the remaining amount capturable with this shared payment granted token.";

impl State {
    pub(super) fn first_time(&mut self, what: &str) -> bool {
        self.times(what) == 1
    }

    pub(super) fn times(&mut self, what: &str) -> u32 {
        let times = self.happened.entry(what.to_owned()).or_default();
        *times += 1;
        *times
    }

    /// Whether the answer to an executed call gets lost.
    pub(super) fn loses(&mut self, call: &Call) -> bool {
        let token = call.token().to_owned();
        if token.starts_with("spt_drop_twice") {
            return self.times(&token) <= 2;
        }
        if token.starts_with("spt_drop") && !token.starts_with("spt_drop_before") {
            return self.first_time(&token);
        }
        if let Some(id) = call.intent_in_path("capture") {
            return self.token_of(id).contains("capture_drop") && self.times(&format!("capture {id}")) <= 2;
        }
        if let Some(id) = call.intent_in_path("cancel") {
            return self.token_of(id).contains("cancel_drop") && self.first_time(&format!("cancel {id}"));
        }
        let Some(intent) = call.field("payment_intent").filter(|_| call.method == Method::POST) else {
            return false;
        };
        let drops = self.origins.get(intent).is_some_and(|origin| origin.token.contains("refund_drop"));
        drops && self.first_time(&format!("refund {intent}"))
    }

    fn token_of(&self, id: &str) -> String {
        self.origins.get(id).map(|origin| origin.token.clone()).unwrap_or_default()
    }

    /// A capture that is not looked at.
    pub(super) fn refuses_capture(&mut self, call: &Call) -> Option<Reply> {
        let id = call.intent_in_path("capture")?;
        let token = self.token_of(id);
        if token.contains("capture_ratelimited") {
            return Some(error(429, json!({"type": "invalid_request_error", "code": "rate_limit"})));
        }
        if token.contains("capture_5xx") && self.first_time(&format!("capture {id}")) {
            return Some(error(500, json!({"type": "api_error", "message": "Sorry, something went wrong."})));
        }
        let lost = token.contains("capture_drop_before") && self.times(&format!("capture {id}")) <= 2;
        lost.then(|| Reply { lost: true, ..error(500, json!({})) })
    }

    pub(super) fn capture(&mut self, id: &str, call: &Call) -> Result<Reply, Reply> {
        call.only(&["amount_to_capture"])?;
        let intent = self.intent(id, call)?.clone();
        let (status, held) = (intent["status"].as_str().unwrap(), intent["amount_capturable"].as_u64().unwrap());
        if status != "requires_capture" {
            let message = format!(
                "This PaymentIntent could not be captured because it has a status of {status}. Only a PaymentIntent \
                 with one of the following statuses may be captured: requires_capture."
            );
            let code = "payment_intent_unexpected_state";
            return Ok(invalid(400, &message, json!({"code": code, "payment_intent": intent})));
        }
        let amount = if call.field("amount_to_capture").is_some() { call.integer("amount_to_capture")? } else { held };
        if amount > held {
            return Ok(invalid(400, "There is less to capture.", json!({"code": "amount_too_large"})));
        }
        let token = self.token_of(id);
        if token.contains("capture_declined") {
            let body = json!({
                "type": "card_error", "code": "card_declined", "decline_code": "generic_decline",
                "message": "Your card was declined. SECRET DETAIL OF THE BANK", "payment_intent": intent,
            });
            return Ok(error(402, body));
        }
        if token.contains("capture_lapsed") {
            cancel(self.intents.get_mut(id).unwrap(), Some("automatic"));
            let message = "The charge cannot be captured as it has expired.";
            return Ok(invalid(400, message, json!({"code": "charge_expired_for_capture"})));
        }
        self.take(id, amount);
        if token.contains("capture_stored5xx") {
            return Ok(error(500, json!({"type": "api_error", "message": "Sorry, something went wrong."})));
        }
        Ok(ok(self.intents[id].clone()))
    }

    pub(super) fn succeed_all(&mut self, from: &str) {
        let ids: Vec<String> =
            self.intents.iter().filter(|(_, i)| i["status"] == from).map(|(id, _)| id.clone()).collect();
        for id in ids {
            self.succeed(&id);
        }
    }

    /// The payer's side is done: the money moves, or is held.
    pub(super) fn succeed(&mut self, id: &str) {
        let intent = self.intents.get_mut(id).unwrap();
        intent["latest_charge"] = json!(id.replace("pi_", "ch_"));
        intent["next_action"] = Value::Null;
        let amount = intent["amount"].as_u64().unwrap();
        if intent["capture_method"] == "manual" {
            intent["status"] = json!("requires_capture");
            intent["amount_capturable"] = json!(amount);
            return;
        }
        self.take(id, amount);
    }

    /// Money moves.
    fn take(&mut self, id: &str, amount: u64) {
        let intent = self.intents.get_mut(id).unwrap();
        intent["status"] = json!("succeeded");
        intent["amount_received"] = json!(amount);
        intent["amount_capturable"] = json!(0);
        let origin = &self.origins[id];
        self.charges.push(Charge {
            payment_intent: id.to_owned(),
            token: origin.token.clone(),
            amount,
            currency: intent["currency"].as_str().unwrap().to_owned(),
            account: origin.account.clone(),
        });
        let token = self.tokens.get_mut(&origin.token).unwrap();
        token.captured += amount;
        if token.implicit || token.captured >= token.max_amount {
            token.deactivated = Some("consumed");
        }
    }

    pub(super) fn intent(&self, id: &str, call: &Call) -> Result<&Value, Reply> {
        self.intents
            .get(id)
            .filter(|_| self.origins[id].account == call.account())
            .ok_or_else(|| no_such("payment_intent", id, 404))
    }

    pub(super) fn create_intent(&mut self, shared: &Shared, call: &Call) -> Result<Reply, Reply> {
        const KNOWN: [&str; 14] = [
            "amount",
            "currency",
            "capture_method",
            "confirm",
            "automatic_payment_methods[enabled]",
            "automatic_payment_methods[allow_redirects]",
            "shared_payment_granted_token",
            "payment_method_data[shared_payment_granted_token]",
            "application_fee_amount",
            "on_behalf_of",
            "transfer_data[destination]",
            "transfer_data[amount]",
            "transfer_group",
            "description",
        ];
        call.only(&KNOWN)?;
        let (amount, currency) = (call.integer("amount")?, call.required("currency")?.to_owned());
        let token = call.token().to_owned();
        let param = "shared_payment_granted_token";
        if token.is_empty() {
            let message = format!("Missing required param: {param}.");
            return Err(invalid(400, &message, json!({"code": "parameter_missing", "param": param})));
        }
        // Tokens are a preview feature: another version does not know the parameter.
        if !call.header("stripe-version").is_some_and(|version| version.ends_with(".preview")) {
            let message = format!("Received unknown parameter: {param}");
            return Err(invalid(400, &message, json!({"code": "parameter_unknown", "param": param})));
        }
        if token.starts_with("spt_badrequest") {
            let message = "No such destination: 'acct_x'";
            return Err(invalid(
                400,
                message,
                json!({"code": "resource_missing", "param": "transfer_data[destination]"}),
            ));
        }
        let capture_method = call.field("capture_method").unwrap_or("automatic");
        if !["automatic", "automatic_async", "manual"].contains(&capture_method) {
            return Err(invalid(400, "Invalid capture_method", json!({"param": "capture_method"})));
        }
        let fee = call.field("application_fee_amount").and_then(|fee| fee.parse::<u64>().ok());
        if fee.is_some_and(|fee| fee > amount) {
            return Err(invalid(400, "Your application fee cannot be larger than the amount.", json!({})));
        }
        if amount < 50 && currency == "usd" {
            return Err(invalid(400, "Amount must be at least $0.50 usd", json!({"code": "amount_too_small"})));
        }
        if let Err(refused) = self.check_token(&token, amount, &currency) {
            // The payment was executed as far as the token, so the answer is stored.
            return Ok(refused);
        }

        let id = shared.next("pi_standin");
        let amount = if token.starts_with("spt_wrongamount") { amount - 1 } else { amount };
        let status = if token.starts_with("spt_action") {
            "requires_action"
        } else if token.starts_with("spt_processing") {
            "processing"
        } else {
            "requires_payment_method"
        };
        let next_action = json!({"type": "use_stripe_sdk", "use_stripe_sdk": {}});
        let transfer = call.field("transfer_data[destination]").map(|to| json!({"destination": to}));
        self.intents.insert(
            id.clone(),
            json!({
                "id": id, "object": "payment_intent", "amount": amount, "amount_capturable": 0, "amount_received": 0,
                "application_fee_amount": fee, "canceled_at": null, "cancellation_reason": null,
                "capture_method": capture_method, "client_secret": format!("{id}_secret_standin"),
                "confirmation_method": "automatic", "created": now(), "currency": currency,
                "last_payment_error": null, "latest_charge": null, "livemode": false, "metadata": call.metadata(),
                "next_action": if status == "requires_action" { next_action } else { Value::Null },
                "on_behalf_of": call.field("on_behalf_of"), "payment_method_types": ["card"], "status": status,
                "transfer_data": transfer, "transfer_group": call.field("transfer_group"),
            }),
        );
        self.origins.insert(id.clone(), Origin { account: call.account(), token: token.clone() });
        if token.starts_with("spt_declined") || token.starts_with("spt_insufficient") {
            let decline = if token.starts_with("spt_declined") { "generic_decline" } else { "insufficient_funds" };
            let body = json!({
                "type": "card_error", "code": "card_declined", "decline_code": decline,
                "message": "Your card was declined. SECRET DETAIL OF THE BANK", "payment_intent": self.intents[&id],
            });
            return Ok(error(402, body));
        }
        if status == "requires_payment_method" {
            self.succeed(&id);
        }
        if token.starts_with("spt_stored5xx") {
            return Ok(error(500, json!({"type": "api_error", "message": "Sorry, something went wrong."})));
        }
        if token.starts_with("spt_garbage") {
            return Ok(Reply { body: "<html>Bad gateway</html>".to_owned(), ..ok(json!({})) });
        }
        Ok(ok(self.intents[&id].clone()))
    }

    pub(super) fn check_token(&mut self, id: &str, amount: u64, currency: &str) -> Result<(), Reply> {
        let named = id.strip_prefix("spt_").is_some_and(|name| NAMES.iter().any(|known| name.starts_with(known)));
        if named && !self.tokens.contains_key(id) {
            let expired = id.starts_with("spt_expired");
            self.tokens.insert(
                id.to_owned(),
                Token {
                    id: id.to_owned(),
                    currency: None,
                    max_amount: if id.starts_with("spt_overlimit") { 0 } else { u64::MAX },
                    captured: 0,
                    expires_at: u64::MAX,
                    deactivated: expired.then_some("expired"),
                    implicit: true,
                },
            );
        }
        let Some(token) = self.tokens.get_mut(id) else {
            return Err(no_such("shared_payment_granted_token", id, 400));
        };
        if token.expires_at <= now() && token.deactivated.is_none() {
            token.deactivated = Some("expired");
        }
        if token.deactivated.is_some() {
            return Err(invalid(400, DEACTIVATED, json!({})));
        }
        if token.currency.as_deref().is_some_and(|granted| granted != currency) {
            let message = "The currency does not match the currency of the shared payment granted token.";
            return Err(invalid(400, message, json!({})));
        }
        if amount > token.max_amount - token.captured {
            return Err(invalid(400, OVER_LIMIT, json!({})));
        }
        Ok(())
    }

    pub(super) fn search(&self, call: &Call) -> Result<Reply, Reply> {
        let query = call.required("query")?;
        let wanted = query
            .strip_prefix("metadata['")
            .and_then(|rest| rest.split_once("']:'"))
            .and_then(|(key, rest)| Some((key, rest.strip_suffix('\'')?)))
            .ok_or_else(|| invalid(400, "We were unable to parse your search query.", json!({})))?;
        let found = |intent: &&Value| intent["metadata"][wanted.0] == wanted.1;
        let ours = |id: &Value| self.origins[id.as_str().unwrap()].account == call.account();
        let data: Vec<_> = self.intents.values().filter(|intent| ours(&intent["id"])).filter(found).collect();
        Ok(ok(json!({
            "object": "search_result", "url": "/v1/payment_intents/search", "has_more": false, "next_page": null,
            "data": data,
        })))
    }

    pub(super) fn cancel(&mut self, id: &str, call: &Call) -> Result<Reply, Reply> {
        call.only(&["cancellation_reason"])?;
        if self.acts_before_cancel {
            self.succeed_all("requires_action");
        }
        let intent = self.intent(id, call)?.clone();
        let status = intent["status"].as_str().unwrap();
        if !matches!(
            status,
            "requires_payment_method" | "requires_confirmation" | "requires_action" | "requires_capture"
        ) {
            let message = format!("You cannot cancel this PaymentIntent because it has a status of {status}.");
            let code = "payment_intent_unexpected_state";
            return Ok(invalid(400, &message, json!({"code": code, "payment_intent": intent})));
        }
        let intent = self.intents.get_mut(id).unwrap();
        cancel(intent, call.field("cancellation_reason"));
        Ok(ok(intent.clone()))
    }

    pub(super) fn create_refund(&mut self, shared: &Shared, call: &Call) -> Result<Reply, Reply> {
        call.only(&["payment_intent", "amount", "reason", "reverse_transfer", "refund_application_fee"])?;
        let id = call.required("payment_intent")?.to_owned();
        let intent = self.intent(&id, call).map_err(|_| no_such("payment_intent", &id, 400))?.clone();
        let charge = intent["latest_charge"].as_str().unwrap_or_default();
        let before = self.refunds.iter().filter(|refund| refund.record.payment_intent == id);
        let given_back: u64 = before.map(|refund| refund.record.amount).sum();
        let left = intent["amount_received"].as_u64().unwrap() - given_back;
        if charge.is_empty() {
            let message = format!("This PaymentIntent ({id}) does not have a successful charge to refund.");
            return Ok(invalid(400, &message, json!({})));
        }
        if left == 0 {
            let message = format!("Charge {charge} has already been refunded.");
            return Ok(invalid(400, &message, json!({"code": "charge_already_refunded"})));
        }
        let amount = if call.field("amount").is_some() { call.integer("amount")? } else { left };
        if amount > left {
            let message = format!("Refund amount ({amount}) is greater than unrefunded amount on charge ({left})");
            return Ok(invalid(400, &message, json!({"param": "amount"})));
        }
        let token = &self.origins[&id].token;
        if token.contains("refund_balance") {
            return Ok(invalid(
                400,
                "Insufficient funds in your Stripe balance.",
                json!({"code": "balance_insufficient"}),
            ));
        }
        let status = if token.contains("refund_pending") {
            "pending"
        } else if token.contains("refund_failed") {
            "failed"
        } else {
            "succeeded"
        };
        let record = Refund { id: shared.next("re_standin"), payment_intent: id.clone(), amount };
        let object = json!({
            "id": record.id, "object": "refund", "amount": amount, "charge": charge, "created": now(),
            "currency": intent["currency"], "metadata": call.metadata(), "payment_intent": id,
            "reason": call.field("reason"), "status": status,
        });
        self.refunds.push(StoredRefund { record, object: object.clone() });
        Ok(ok(object))
    }

    pub(super) fn list_refunds(&self, call: &Call) -> Reply {
        let wanted = call.field("payment_intent");
        let data: Vec<_> = self
            .refunds
            .iter()
            .filter(|refund| wanted.is_none_or(|id| refund.record.payment_intent == id))
            .map(|refund| &refund.object)
            .collect();
        ok(json!({"object": "list", "url": "/v1/refunds", "has_more": false, "data": data}))
    }

    pub(super) fn grant(&mut self, shared: &Shared, call: &Call) -> Result<Reply, Reply> {
        call.required("payment_method")?;
        let currency = call.required("usage_limits[currency]")?.to_owned();
        let max_amount = call.integer("usage_limits[max_amount]")?;
        let expires_at = match call.field("usage_limits[expires_at]") {
            Some(_) => call.integer("usage_limits[expires_at]")?,
            None => now() + 3600,
        };
        let id = shared.next("spt_granted");
        let token = Token {
            id: id.clone(),
            currency: Some(currency),
            max_amount,
            captured: 0,
            expires_at,
            deactivated: None,
            implicit: false,
        };
        let object = token.object();
        self.tokens.insert(id, token);
        Ok(ok(object))
    }

    pub(super) fn revoke(&mut self, id: &str) -> Result<Reply, Reply> {
        let token = self.tokens.get_mut(id).ok_or_else(|| no_such("shared_payment_granted_token", id, 404))?;
        token.deactivated.get_or_insert("revoked");
        Ok(ok(token.object()))
    }
}

/// Whatever is held is let go.
pub(super) fn cancel(intent: &mut Value, reason: Option<&str>) {
    intent["status"] = json!("canceled");
    intent["amount_capturable"] = json!(0);
    intent["canceled_at"] = json!(now());
    intent["cancellation_reason"] = json!(reason);
}
