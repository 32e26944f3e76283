//! The answers that are kept beside the journal.

use std::sync::LazyLock;

use async_trait::async_trait;
use bytes::Bytes;
use redis::{Script, ScriptInvocation};

use super::{RedisNonceStore, link::Does, reply::encode, steps::until};
use crate::{
    protocol::Timestamp,
    store::{
        AnswerKey, AnswerStore, KeptAnswer, Reservation, StoreError,
        row::{instant, unreadable},
    },
};

static RESERVE: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("scripts/reserve.lua")));
static KEEP: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("scripts/keep.lua")));
static GIVE_UP: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("scripts/give_up.lua")));
static LOOK_UP: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("scripts/look_up.lua")));

impl RedisNonceStore {
    fn on_answer<'a>(&self, script: &'a Script, key: AnswerKey) -> ScriptInvocation<'a> {
        script.key(self.key("a:", &encode(key.as_bytes())))
    }

    async fn change(&self, script: &ScriptInvocation<'_>, does: Does) -> Result<(), StoreError> {
        match self.run(script, does).await?.word()?.as_str() {
            "ok" => Ok(()),
            _ => Err(unreadable()),
        }
    }
}

#[async_trait]
impl AnswerStore for RedisNonceStore {
    async fn reserve(&self, reservation: Reservation) -> Result<(), StoreError> {
        let mut script = self.on_answer(&RESERVE, reservation.key);
        script.arg(&reservation.request).arg(reservation.now.unix_millis());
        script.arg(until(reservation.until)).arg(until(reservation.keep_until));
        self.change(&script, Does::Add).await
    }

    async fn keep(&self, key: AnswerKey, answer: Bytes, keep_until: Timestamp) -> Result<(), StoreError> {
        let mut script = self.on_answer(&KEEP, key);
        script.arg(&*answer).arg(until(keep_until));
        self.change(&script, Does::Add).await
    }

    async fn give_up(&self, key: AnswerKey) -> Result<(), StoreError> {
        self.change(&self.on_answer(&GIVE_UP, key), Does::Change).await
    }

    async fn look_up(&self, key: AnswerKey, now: Timestamp) -> Result<Option<KeptAnswer>, StoreError> {
        let mut script = self.on_answer(&LOOK_UP, key);
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
