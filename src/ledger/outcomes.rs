//! What came of a call, said afterwards. A receipt never changes; this is added to it.

use bytes::Bytes;
use http::{StatusCode, request::Parts};
use serde::Deserialize;
use serde_json::{Value, json};

use super::{
    Ledger,
    answer::{Answer, NO_STORE, PRIVATE, Refusal, json, open},
    receipts::NOT_FOUND,
};
use crate::{
    protocol::{ReceiptId, Timestamp},
    store::OutcomeRow,
};

const OUTCOMES: [&str; 11] = [
    "succeeded",
    "partially_solved",
    "failed",
    "no_progress",
    "regressed",
    "user_satisfied",
    "user_unsatisfied",
    "tool_chain_succeeded",
    "tool_chain_failed",
    "review_pending",
    "out_of_scope",
];
const SOURCES: [&str; 5] = ["self_report", "human_reviewer", "webhook", "automated_test", "agent_runner"];

/// How many outcomes a receipt has at most.
const MAX_OUTCOMES: usize = 100;
/// How many labels an outcome has at most, and how long they and the notes are, in bytes.
const MAX_LABELS: usize = 16;
const MAX_LABEL: usize = 64;
const MAX_NOTES: usize = 4096;

/// What is said, before it has been looked at. Another member is a mistake that its sender wants to know of.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Said {
    receipt_id: Option<Value>,
    outcome: Option<Value>,
    source: Option<Value>,
    score: Option<Value>,
    labels: Option<Vec<String>>,
    notes: Option<String>,
}

impl Ledger {
    /// The receipt is known to be for the caller before anything is said about its outcomes.
    pub(super) async fn outcomes_of(&self, head: &Parts, id: Option<ReceiptId>) -> Result<Answer, Refusal> {
        let seen = self.seen(head, id).await?;
        let rows = self.receipts.store().outcomes(seen.row.id, MAX_OUTCOMES).await?;
        let outcomes: Vec<Value> = rows
            .iter()
            .filter_map(|row| serde_json::from_str(&row.json).ok())
            .map(|mut outcome: Value| {
                if let Some(members) = outcome.as_object_mut().filter(|_| !seen.owned) {
                    members.remove("notes");
                }
                outcome
            })
            .collect();
        let body = json!({"outcomes": outcomes, "receipt_id": seen.row.id}).to_string();
        Ok(if seen.owned { json(body, PRIVATE) } else { open(json(body, NO_STORE)) })
    }

    /// Adds an outcome. That it comes from the owner has been checked before its body was read.
    pub(super) async fn add_outcome(&self, body: &Bytes) -> Result<Answer, Refusal> {
        const NO_RECEIPT: Refusal = Refusal::bad_request("missing_receipt_id", "Write the receipt_id.");
        let invalid = |message| Refusal::bad_request("invalid_request", message);
        let said: Said = serde_json::from_slice(body).map_err(|_| {
            invalid("Send a JSON object of receipt_id, outcome, source, and maybe score, labels (texts) and notes.")
        })?;
        let id = said.receipt_id.as_ref().and_then(Value::as_str).filter(|id| !id.is_empty()).ok_or(NO_RECEIPT)?;
        let outcome = one_of(&OUTCOMES, said.outcome.as_ref()).ok_or(Refusal::bad_request(
            "invalid_outcome",
            "The outcome is none of succeeded, partially_solved, failed, no_progress, regressed, user_satisfied, \
             user_unsatisfied, tool_chain_succeeded, tool_chain_failed, review_pending and out_of_scope.",
        ))?;
        let source = one_of(&SOURCES, said.source.as_ref()).ok_or(Refusal::bad_request(
            "invalid_source",
            "The source is none of self_report, human_reviewer, webhook, automated_test and agent_runner.",
        ))?;
        if said.score.as_ref().is_some_and(|score| !score.is_number()) {
            return Err(invalid("The score is a number."));
        }
        let labels = said.labels.unwrap_or_default();
        if labels.len() > MAX_LABELS || labels.iter().any(|label| label.is_empty() || label.len() > MAX_LABEL) {
            return Err(invalid("There are at most 16 labels, of 1 to 64 bytes each."));
        }
        if said.notes.as_ref().is_some_and(|notes| notes.len() > MAX_NOTES) {
            return Err(invalid("The notes have at most 4096 bytes."));
        }
        let id: ReceiptId = id.parse().map_err(|_| NOT_FOUND)?;
        let store = self.receipts.store();
        store.get(id).await?.ok_or(NOT_FOUND)?;
        if store.outcomes(id, MAX_OUTCOMES).await?.len() >= MAX_OUTCOMES {
            let message = "This receipt has 100 outcomes already.";
            return Err(Refusal::new(StatusCode::CONFLICT, "too_many_outcomes", message));
        }
        let now = self.clock.now();
        let created_at = Timestamp::from_unix_millis(now.unix_millis()).unwrap_or(now);
        let row = json!({
            "created_at": created_at,
            "labels": labels,
            "notes": said.notes,
            "outcome": outcome,
            "receipt_id": id,
            "score": said.score,
            "source": source,
        })
        .to_string();
        store.append_outcome(OutcomeRow { receipt: id, created_at, json: row.as_str().into() }).await?;
        let mut answer = json(row, PRIVATE);
        *answer.status_mut() = StatusCode::CREATED;
        Ok(answer)
    }
}

fn one_of(known: &[&'static str], said: Option<&Value>) -> Option<&'static str> {
    let said = said?.as_str()?;
    known.iter().copied().find(|name| *name == said)
}
