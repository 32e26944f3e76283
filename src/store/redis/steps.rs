//! The journal.

use std::sync::LazyLock;

use async_trait::async_trait;
use redis::{Script, ScriptInvocation};

use super::{
    RedisNonceStore,
    link::Does,
    reply::{Reply, encode, proof},
};
use crate::{
    protocol::{ChallengeId, Settlement, Timestamp},
    store::{
        Claim, Claimed, End, JournalEntry, Lease, NonceStore, Page, RefundReason, Release, StoreError, StoreErrorKind,
        Take, Taken,
        row::{State, read_settlement, settlement_json, unreadable},
    },
};

macro_rules! script {
    ($name:literal) => {
        LazyLock::new(|| {
            Script::new(concat!(include_str!("scripts/entry.lua"), include_str!(concat!("scripts/", $name, ".lua"))))
        })
    };
}

static CLAIM: LazyLock<Script> = script!("claim");
static TAKE: LazyLock<Script> = script!("take");
static RENEW: LazyLock<Script> = script!("renew");
static SETTLE: LazyLock<Script> = script!("settle");
static REFUND: LazyLock<Script> = script!("refund");
static COMMIT: LazyLock<Script> = script!("commit");
static RELEASE: LazyLock<Script> = script!("release");
static PUT_OFF: LazyLock<Script> = script!("put_off");
static FIND: LazyLock<Script> = script!("find");
static UNFINISHED: LazyLock<Script> = script!("unfinished");

/// How many open entries the server looks at in one go: it does nothing else meanwhile.
const LOOK: usize = 256;

impl RedisNonceStore {
    /// A script on one entry, with the keys and arguments that each has.
    fn on<'a>(&self, script: &'a Script, id: ChallengeId) -> ScriptInvocation<'a> {
        let name = encode(id.as_bytes());
        // In order of the bytes of the id. Only open entries are there, so the name beside them costs little.
        let place = [id.as_bytes(), name.as_bytes()].concat();
        let mut script = script.key(self.key("e:", &name));
        script.key(self.key("open", "")).key(self.key("token", ""));
        script.arg(self.key("", "")).arg(name).arg(place);
        script
    }

    /// A step with a lease.
    async fn with(&self, script: &Script, lease: Lease, argument: &str) -> Result<(), StoreError> {
        let mut script = self.on(script, lease.id);
        script.arg(lease.token.to_string()).arg(argument);
        match self.run(&script, Does::Change).await?.word()?.as_str() {
            "ok" => Ok(()),
            "lost" => Err(StoreErrorKind::LeaseLost.into()),
            "conflict" => Err(StoreErrorKind::Conflict.into()),
            _ => Err(unreadable()),
        }
    }
}

fn lease(id: ChallengeId, reply: &mut Reply) -> Result<Lease, StoreError> {
    Ok(Lease { id, token: reply.number()?.ok_or_else(unreadable)? })
}

fn end(reply: &mut Reply) -> Result<End, StoreError> {
    reply.number()?.and_then(State::end).ok_or_else(unreadable)
}

/// The present instant.
fn now(instant: Timestamp) -> String {
    instant.unix_millis().to_string()
}

/// When something ends: not earlier than that.
pub(super) fn until(instant: Timestamp) -> String {
    instant.unix_millis_ceil().to_string()
}

#[async_trait]
impl NonceStore for RedisNonceStore {
    async fn claim(&self, claim: Claim) -> Result<Claimed, StoreError> {
        let mut script = self.on(&CLAIM, claim.id);
        script.arg(proof(&claim.proof)).arg(now(claim.now));
        script.arg(until(claim.lease_until)).arg(until(claim.keep_until)).arg(&*claim.record);
        let reply = &mut self.run(&script, Does::Add).await?;
        Ok(match reply.word()?.as_str() {
            "won" => Claimed::Won { lease: lease(claim.id, reply)?, resumed: false },
            "resumed" => Claimed::Won { lease: lease(claim.id, reply)?, resumed: true },
            "settled" => {
                Claimed::Settled { lease: lease(claim.id, reply)?, settlement: read_settlement(&reply.word()?)? }
            }
            "busy" => Claimed::Busy,
            "refunding" => Claimed::Refunding,
            "spent" => Claimed::Spent(end(reply)?),
            "other" => Claimed::OtherProof,
            _ => return Err(unreadable()),
        })
    }

    async fn renew(&self, lease: Lease, end: Timestamp) -> Result<(), StoreError> {
        self.with(&RENEW, lease, &until(end)).await
    }

    async fn settle(&self, lease: Lease, settlement: &Settlement) -> Result<(), StoreError> {
        self.with(&SETTLE, lease, &settlement_json(settlement)?).await
    }

    async fn refund(&self, lease: Lease, reason: RefundReason) -> Result<(), StoreError> {
        self.with(&REFUND, lease, reason.as_str()).await
    }

    async fn commit(&self, lease: Lease, end: End) -> Result<(), StoreError> {
        self.with(&COMMIT, lease, &State::of(end).to_string()).await
    }

    async fn release(&self, lease: Lease, reason: Release) -> Result<(), StoreError> {
        let reason = match reason {
            Release::NotCharged => "not_charged",
            Release::Unknown => "unknown",
            Release::Undelivered => "undelivered",
            Release::NotRefundable => "not_refundable",
        };
        self.with(&RELEASE, lease, reason).await
    }

    async fn put_off(&self, lease: Lease, instant: Timestamp) -> Result<(), StoreError> {
        self.with(&PUT_OFF, lease, &until(instant)).await
    }

    async fn take(&self, take: Take) -> Result<Taken, StoreError> {
        let mut script = self.on(&TAKE, take.id);
        script.arg(now(take.now)).arg(until(take.lease_until)).arg(u8::from(take.asked_for));
        let reply = &mut self.run(&script, Does::Change).await?;
        Ok(match reply.word()?.as_str() {
            "won" => Taken::Won { lease: lease(take.id, reply)?, entry: reply.entry(take.id)? },
            "busy" => Taken::Busy,
            "spent" => Taken::Spent(end(reply)?),
            "absent" => Taken::Absent,
            _ => return Err(unreadable()),
        })
    }

    async fn find(&self, id: ChallengeId) -> Result<Option<JournalEntry>, StoreError> {
        let reply = &mut self.run(&self.on(&FIND, id), Does::Look).await?;
        match reply.word()?.as_str() {
            "found" => reply.entry(id).map(Some),
            "absent" => Ok(None),
            _ => Err(unreadable()),
        }
    }

    async fn unfinished(&self, page: Page) -> Result<Vec<JournalEntry>, StoreError> {
        let mut found = Vec::new();
        // Behind all places that begin with this id: what follows it there is text.
        let mut after =
            page.after.map_or_else(|| b"-".to_vec(), |id| [b"(", id.as_bytes().as_slice(), b"\xff"].concat());
        while found.len() < page.limit {
            let mut script = UNFINISHED.key(self.key("e:", ""));
            script.key(self.key("open", "")).key(self.key("token", ""));
            script.arg(self.key("", "")).arg(after).arg(now(page.now)).arg(u8::from(page.due));
            script.arg((page.limit - found.len()).min(LOOK)).arg(LOOK);
            let reply = &mut self.run(&script, Does::Look).await?;
            let more = reply.bytes()?;
            let listed = &mut reply.list()?;
            while !listed.is_empty() {
                let id = listed.id()?;
                found.push(listed.entry(id)?);
            }
            let Some(last) = more else { break };
            after = [b"(".as_slice(), &last].concat();
        }
        Ok(found)
    }

    /// Nothing: the server forgets by itself.
    async fn forget(&self, _: Timestamp, _: usize) -> Result<usize, StoreError> {
        Ok(0)
    }
}
