//! The answers that are kept beside the journal.

use std::sync::LazyLock;

use async_trait::async_trait;
use bytes::Bytes;
use redis::{Script, ScriptInvocation};

use super::{RedisNonceStore, link::Does, reply::encode, steps::until};
use crate::{
    protocol::{ChallengeId, Timestamp},
    store::{
        AnswerStore, KeptAnswer, Lease, Reservation, StoreError, StoreErrorKind,
        row::{instant, unreadable},
    },
};

static RESERVE: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("scripts/reserve.lua")));
static KEEP: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("scripts/keep.lua")));
static GIVE_UP: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("scripts/give_up.lua")));
static LOOK_UP: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("scripts/look_up.lua")));

impl RedisNonceStore {
    fn on_answer<'a>(&self, script: &'a Script, id: ChallengeId) -> ScriptInvocation<'a> {
        script.key(self.key("a:", &encode(id.as_bytes())))
    }

    async fn change(&self, script: &ScriptInvocation<'_>, does: Does) -> Result<(), StoreError> {
        match self.run(script, does).await?.word()?.as_str() {
            "ok" => Ok(()),
            "lost" => Err(StoreErrorKind::LeaseLost.into()),
            _ => Err(unreadable()),
        }
    }
}

#[async_trait]
impl AnswerStore for RedisNonceStore {
    async fn reserve(&self, reservation: Reservation) -> Result<(), StoreError> {
        let Lease { id, token } = reservation.lease;
        let mut script = self.on_answer(&RESERVE, id);
        script.arg(token.to_string()).arg(&reservation.request).arg(reservation.now.unix_millis());
        script.arg(until(reservation.until)).arg(until(reservation.keep_until));
        self.change(&script, Does::Add).await
    }

    async fn keep(&self, lease: Lease, answer: Bytes, keep_until: Timestamp) -> Result<(), StoreError> {
        let mut script = self.on_answer(&KEEP, lease.id);
        script.arg(lease.token.to_string()).arg(&*answer).arg(until(keep_until));
        self.change(&script, Does::Add).await
    }

    async fn give_up(&self, lease: Lease) -> Result<(), StoreError> {
        let mut script = self.on_answer(&GIVE_UP, lease.id);
        script.arg(lease.token.to_string());
        self.change(&script, Does::Change).await
    }

    async fn look_up(&self, id: ChallengeId, now: Timestamp) -> Result<Option<KeptAnswer>, StoreError> {
        let mut script = self.on_answer(&LOOK_UP, id);
        script.arg(now.unix_millis());
        let reply = &mut self.run(&script, Does::Look).await?;
        match reply.word()?.as_str() {
            "found" => {}
            "absent" => return Ok(None),
            _ => return Err(unreadable()),
        }
        let request = reply.bytes()?.and_then(|bytes| bytes.try_into().ok()).ok_or_else(unreadable)?;
        let until = instant(reply.number()?.ok_or_else(unreadable)?)?;
        Ok(Some(KeptAnswer { request, until, answer: reply.bytes()?.map(Bytes::from) }))
    }

    /// Nothing: the server forgets by itself.
    async fn forget(&self, _: Timestamp, _: usize) -> Result<usize, StoreError> {
        Ok(0)
    }
}
