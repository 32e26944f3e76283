//! `Idempotency-Key`: a paid answer is kept, and given again to whoever presents the same key and the
//! same credential for the same request.
//!
//! Nothing here moves money or decides about single use: when it fails, the answer is that of a request
//! without the header.

use std::{
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::Bytes;
use http::HeaderMap;
use sha2::{Digest as _, Sha256};
use tokio::{sync::oneshot, task::JoinHandle};

use super::{
    Inner, Refusal, RefusalKind,
    bind::Bound,
    events,
    kept::{Kept, Recording, TooLong},
    repeat,
    tasks::within,
};
use crate::{
    protocol::{ChallengeId, ContentDigest, IDEMPOTENCY_KEY},
    store::{AnswerKey, AnswerStore, KeptAnswer, Proof, Reservation, StoreError},
};

/// The longest `Idempotency-Key`.
const MAX_KEY_BYTES: usize = 255;

/// What a merchant keeps answers with.
pub(crate) struct Answers {
    pub(super) store: Arc<dyn AnswerStore>,
    /// The largest answer that is kept, with its head.
    pub(super) limit: usize,
    /// For how long.
    pub(super) ttl: Duration,
}

/// Why a paid request was not served by the service behind us.
pub(crate) enum NotServed {
    Refused(Refusal),
    /// It was served before, and this is the answer.
    Kept(Box<Kept>),
}

impl From<Refusal> for NotServed {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

impl NotServed {
    pub(super) fn of(self, id: ChallengeId) -> Self {
        match self {
            Self::Refused(refusal) => Self::Refused(refusal.of(id)),
            kept @ Self::Kept(_) => kept,
        }
    }
}

/// The key of a request, where answers are kept: the bytes of the field as they are, in quotes or not.
pub(crate) fn idempotency_key<'h>(merchant: &Inner, headers: &'h HeaderMap) -> Result<Option<&'h [u8]>, Refusal> {
    if merchant.answers.is_none() {
        return Ok(None);
    }
    let mut keys = headers.get_all(IDEMPOTENCY_KEY).iter().map(|value| value.as_bytes());
    let Some(key) = keys.next() else { return Ok(None) };
    let invalid = |detail| Err(Refusal::detailed(RefusalKind::IdempotencyKeyInvalid, detail));
    if keys.any(|other| other != key) {
        return invalid("The request carries more than one Idempotency-Key. Nothing was charged.");
    }
    if key.is_empty() || key == b"\"\"" {
        return invalid("The Idempotency-Key is empty. Nothing was charged.");
    }
    if key.len() > MAX_KEY_BYTES {
        return invalid("The Idempotency-Key is longer than 255 bytes. Nothing was charged.");
    }
    // A text in quotes may have spaces.
    if !key.iter().all(|byte| matches!(byte, b' '..=b'~')) {
        return invalid("The Idempotency-Key is not visible ASCII. Nothing was charged.");
    }
    Ok(Some(key))
}

/// The name under which the answer of a request is kept, and what must be the same when it comes again.
pub(crate) struct Asked {
    key: AnswerKey,
    request: [u8; 32],
}

impl Asked {
    /// `digest` is that of the body; a body that nobody has read has none, and its answer is not kept.
    pub(crate) fn new(bound: &Bound, key: &[u8], scope: &str, digest: Option<&ContentDigest>) -> Self {
        let request = fingerprint(scope, digest, bound.proof());
        Self { key: AnswerKey::new(bound.payment.id, key), request }
    }
}

/// Method, path, body and credential. The scope has no fixed length, so it stands at the end.
fn fingerprint(scope: &str, digest: Option<&ContentDigest>, proof: Proof) -> [u8; 32] {
    let mut hash = Sha256::new();
    match digest {
        Some(digest) => {
            hash.update([1]);
            hash.update(digest.as_bytes());
        }
        None => hash.update([0]),
    }
    hash.update(proof.key().as_bytes());
    hash.update(scope);
    hash.finalize().into()
}

/// The answer to a request that was delivered before, whatever the journal still knows of it: `None`
/// when none is kept.
///
/// # Errors
/// A refusal: another request has this key, the first one is still being answered, or nobody can say.
pub(super) async fn look_up(merchant: &Inner, asked: &Asked) -> Result<Option<Box<Kept>>, Refusal> {
    let Some(answers) = &merchant.answers else { return Ok(None) };
    let now = merchant.now();
    let row = match step(merchant, answers.store.look_up(asked.key, now)).await {
        Ok(row) => row,
        Err(error) => {
            events::answers_failed("look_up", &error);
            return Err(Refusal::new(RefusalKind::Unavailable).retry_after_or_default(error.retry_after()));
        }
    };
    let Some(KeptAnswer { request, until, answer }) = row else { return Ok(None) };
    if request != asked.request {
        return Err(Refusal::new(RefusalKind::IdempotencyKeyReused));
    }
    match answer {
        Some(answer) => {
            let kept = Kept::read(answer);
            if kept.is_none() {
                events::answer_unreadable();
            }
            Ok(kept.map(Box::new))
        }
        None if until > now => {
            let detail = "The first request with this Idempotency-Key is still being answered.";
            Err(Refusal::detailed(RefusalKind::InFlight, detail))
        }
        None => Ok(None),
    }
}

/// The answer to a request that is bound to another one's challenge: whether that one came with the
/// same key. `refusal` is what it is told otherwise.
pub(crate) async fn reused(merchant: Arc<Inner>, id: ChallengeId, key: AnswerKey, refusal: Refusal) -> Refusal {
    let Some(answers) = &merchant.answers else { return refusal };
    match step(&merchant, answers.store.look_up(key, merchant.now())).await {
        Ok(None) => refusal,
        Ok(Some(_)) => Refusal::new(RefusalKind::IdempotencyKeyReused).of(id),
        Err(error) => {
            events::answers_failed("look_up", &error);
            Refusal::new(RefusalKind::Unavailable).retry_after_or_default(error.retry_after())
        }
    }
}

/// The row that names the key under which an answer was kept before the journal calls it delivered. No
/// request has an empty key.
fn pointer(id: ChallengeId) -> AnswerKey {
    AnswerKey::new(id, b"")
}

/// Whether an answer for settled money is kept under another key than that of the request, or of none: its
/// record in the journal was lost, and the money must not buy a second one.
pub(super) async fn kept_under_another_key(
    merchant: &Inner,
    id: ChallengeId,
    asked: Option<&Asked>,
) -> Result<bool, Refusal> {
    let Some(answers) = &merchant.answers else { return Ok(false) };
    let now = merchant.now();
    let found = async {
        let Some(row) = step(merchant, answers.store.look_up(pointer(id), now)).await? else { return Ok(false) };
        let key = AnswerKey::from_bytes(row.request);
        if asked.is_some_and(|asked| asked.key == key) {
            return Ok(false);
        }
        let row = step(merchant, answers.store.look_up(key, now)).await?;
        Ok(row.is_some_and(|row| row.answer.is_some()))
    };
    found.await.map_err(|error: StoreError| {
        events::answers_failed("look_up", &error);
        Refusal::new(RefusalKind::Unavailable).retry_after_or_default(error.retry_after())
    })
}

/// Says that the answer is on its way. `None` when it cannot be kept: it is delivered all the same.
pub(super) async fn reserve(merchant: &Arc<Inner>, id: ChallengeId, asked: &Asked) -> Option<Box<Keeper>> {
    let answers = merchant.answers.as_ref()?;
    // Without a runtime nobody could keep it.
    tokio::runtime::Handle::try_current().ok()?;
    if let Err(error) = step(merchant, answers.store.reserve(reservation(merchant, answers, asked))).await {
        events::answers_failed("reserve", &error);
        return None;
    }
    let (sender, receiver) = oneshot::channel();
    let held = Asked { key: asked.key, request: asked.request };
    let task = merchant.tasks.spawn(hold(Arc::clone(merchant), id, held, receiver));
    Some(Box::new(Keeper {
        key: asked.key,
        answer: Some(sender),
        task: Some(task),
        outcome: Outcome::NotKept,
        first: false,
        recording: None,
        declared: None,
        complete: false,
        held: None,
        limit: answers.limit,
    }))
}

fn reservation(merchant: &Inner, answers: &Answers, asked: &Asked) -> Reservation {
    let now = merchant.now();
    Reservation {
        key: asked.key,
        request: asked.request,
        now,
        until: now.saturating_add(merchant.settings.lease),
        keep_until: now.saturating_add(answers.ttl),
    }
}

/// Renews a reservation until the answer is there or given up. It does not depend on anybody who reads
/// the answer.
async fn hold(
    merchant: Arc<Inner>,
    id: ChallengeId,
    asked: Asked,
    mut answer: oneshot::Receiver<(Bytes, bool)>,
) -> Outcome {
    let Some(answers) = &merchant.answers else { return Outcome::NotKept };
    let answer = loop {
        match tokio::time::timeout(merchant.settings.lease / 3, &mut answer).await {
            Ok(answer) => break answer.ok(),
            Err(_) => {
                let renewal = answers.store.reserve(reservation(&merchant, answers, &asked));
                if let Err(error) = step(&merchant, renewal).await {
                    events::answers_failed("reserve", &error);
                }
            }
        }
    };
    let mut outcome = Outcome::NotKept;
    let answer = match answer {
        Some((answer, false)) => Some(answer),
        Some((answer, true)) => {
            let now = merchant.now();
            let request = *asked.key.as_bytes();
            let keep_until = now.saturating_add(answers.ttl);
            let named = Reservation { key: pointer(id), request, now, until: now, keep_until };
            match step(&merchant, answers.store.reserve(named)).await {
                Ok(()) => Some(answer),
                Err(error) => {
                    events::answers_failed("reserve", &error);
                    None
                }
            }
        }
        None => None,
    };
    if let Some(answer) = answer {
        let keep_until = merchant.now().saturating_add(answers.ttl);
        match step(&merchant, answers.store.keep(asked.key, answer, keep_until)).await {
            Ok(()) => return Outcome::Kept,
            Err(error) => events::answers_failed("keep", &error),
        }
        outcome = Outcome::Unknown;
    }
    if let Err(error) = step(&merchant, answers.store.give_up(asked.key)).await {
        events::answers_failed("give_up", &error);
    }
    outcome
}

/// What became of an answer.
enum Outcome {
    Kept,
    NotKept,
    /// The store did not say. What is complete stays.
    Unknown,
}

/// Whether an answer was kept although the store did not say so.
async fn was_kept(merchant: &Inner, key: AnswerKey) -> bool {
    let Some(answers) = &merchant.answers else { return false };
    let mut pauses = repeat::LONG.iter().copied().map(Duration::from_millis);
    loop {
        let error = match step(merchant, answers.store.look_up(key, merchant.now())).await {
            Ok(row) => return row.is_some_and(|row| row.answer.is_some()),
            Err(error) => error,
        };
        events::answers_failed("look_up", &error);
        match pauses.next() {
            Some(pause) => tokio::time::sleep(pause).await,
            None => return false,
        }
    }
}

/// One step of the store, within its time.
async fn step<T>(merchant: &Inner, step: impl Future<Output = Result<T, StoreError>>) -> Result<T, StoreError> {
    within(merchant.settings.store_timeout, step)
        .await
        .unwrap_or_else(|| Err(StoreError::unavailable("the answer store did not answer in time")))
}

/// The right to keep one answer. Dropped before the answer is complete, it gives the reservation up.
pub(crate) struct Keeper {
    key: AnswerKey,
    /// To the task that holds the reservation.
    answer: Option<oneshot::Sender<(Bytes, bool)>>,
    task: Option<JoinHandle<Outcome>>,
    /// What it has said.
    outcome: Outcome,
    /// The answer is kept before the journal calls it delivered.
    first: bool,
    recording: Option<Recording>,
    /// The length of the body, where it was declared.
    declared: Option<u64>,
    /// All data of the body were recorded, and nothing but trailers can follow.
    complete: bool,
    held: Option<Held>,
    limit: usize,
}

/// The last frame of an answer, which leaves once the answer is kept.
pub(crate) enum Held {
    Data(Bytes),
    Trailers(HeaderMap),
    End,
}

impl Keeper {
    pub(crate) fn limit(&self) -> usize {
        self.limit
    }

    /// Begins with a head.
    pub(crate) fn begin(&mut self, recording: Recording, declared: Option<u64>) {
        self.recording = Some(recording);
        self.declared = declared;
    }

    /// Whether a body of this length fits behind the head that was recorded.
    pub(crate) fn has_room_for(&self, length: u64) -> bool {
        let room = self.recording.as_ref().map_or(0, Recording::room);
        usize::try_from(length).is_ok_and(|length| length <= room)
    }

    /// The next data. On an error there is nothing more to record.
    pub(crate) fn data(&mut self, data: &[u8]) -> Result<(), TooLong> {
        let recording = self.recording.as_mut().ok_or(TooLong)?;
        recording.push(data)?;
        self.complete = self.declared == Some(recording.body_length());
        Ok(())
    }

    pub(crate) fn trailers(&mut self, trailers: &HeaderMap) -> Result<(), TooLong> {
        self.recording.as_mut().ok_or(TooLong)?.trailers(trailers)
    }

    /// The answer is whole: keeps it, whatever becomes of this handle.
    pub(crate) fn keep(&mut self) {
        if let (Some(recording), Some(task)) = (self.recording.take(), self.answer.take()) {
            // Nobody there: the runtime is shutting down.
            let _ = task.send((recording.finish(), self.first));
        }
    }

    /// The answer is whole, and not recorded as delivered yet.
    pub(crate) fn keep_first(&mut self) {
        self.first = true;
        self.keep();
    }

    /// Holds the last frame back.
    pub(crate) fn hold(&mut self, frame: Held) {
        self.held = Some(frame);
    }

    pub(crate) fn is_holding(&self) -> bool {
        self.held.is_some()
    }

    /// How much data is held back.
    pub(crate) fn held_length(&self) -> Option<u64> {
        self.held.as_ref().map(|held| if let Held::Data(data) = held { data.len() as u64 } else { 0 })
    }

    pub(crate) fn release(&mut self) -> Option<Held> {
        self.held.take()
    }

    /// The answer broke off: what was recorded is not one.
    pub(crate) fn abandon(&mut self) {
        self.complete = false;
        self.recording = None;
    }

    /// Waits until the answer is kept, or cannot be.
    pub(crate) fn poll_kept(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if let Some(task) = &mut self.task {
            // It may have panicked.
            self.outcome = ready!(Pin::new(task).poll(cx)).unwrap_or(Outcome::Unknown);
            self.task = None;
        }
        Poll::Ready(())
    }

    /// Gives the reservation up, unless the answer is being kept, and waits until the store knows. Answers
    /// whether it is kept.
    pub(super) async fn give_up(mut self: Box<Self>, merchant: &Inner) -> bool {
        self.complete = false;
        self.answer = None;
        if let Some(task) = self.task.take() {
            self.outcome = task.await.unwrap_or(Outcome::Unknown);
        }
        match self.outcome {
            Outcome::Kept => true,
            Outcome::NotKept => false,
            Outcome::Unknown => was_kept(merchant, self.key).await,
        }
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        // Servers do not ask for the end of a body whose declared length they have got.
        if self.complete {
            self.keep();
        }
    }
}
