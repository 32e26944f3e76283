//! While the journal is down nobody waits for it: a few failures in a row open the breaker, and then
//! one payment at a time finds out whether the journal is back.

use std::{
    sync::atomic::{AtomicU32, Ordering},
    time::Duration,
};

use parking_lot::Mutex;
use tokio::time::Instant;

use super::events;

/// Counts claims and looks in a row that the journal did not answer.
///
/// Only claims, and looks before them or instead of them, ask it and count. Once money may have moved, every step is tried.
pub(crate) struct Breaker {
    threshold: u32,
    pause: Duration,
    /// How many of them have failed since one was answered. Below the threshold nothing else is looked at.
    failures: AtomicU32,
    /// When the next payment may try the journal.
    shut_until: Mutex<Option<Instant>>,
}

impl Breaker {
    pub(crate) fn new(threshold: u32, pause: Duration) -> Self {
        Self { threshold, pause, failures: AtomicU32::new(0), shut_until: Mutex::new(None) }
    }

    /// Whether a payment may begin. Otherwise: when to come back.
    pub(crate) fn admit(&self) -> Result<(), Duration> {
        if self.failures.load(Ordering::Relaxed) < self.threshold {
            return Ok(());
        }
        let now = Instant::now();
        let mut shut_until = self.shut_until.lock();
        match *shut_until {
            Some(until) if now < until => Err(until - now),
            // One goes ahead. The next may try after another pause, if this one is never heard of again.
            _ => {
                *shut_until = Some(now + self.pause);
                Ok(())
            }
        }
    }

    /// One was answered, or was not.
    pub(crate) fn record(&self, answered: bool) {
        if answered {
            if self.failures.load(Ordering::Relaxed) != 0 && self.failures.swap(0, Ordering::Relaxed) >= self.threshold
            {
                *self.shut_until.lock() = None;
                events::journal_back();
            }
            return;
        }
        let count = |failures: u32| Some(failures.saturating_add(1).min(self.threshold));
        let before = self.failures.fetch_update(Ordering::Relaxed, Ordering::Relaxed, count).unwrap_or(self.threshold);
        if before.saturating_add(1) >= self.threshold {
            *self.shut_until.lock() = Some(Instant::now() + self.pause);
            if before < self.threshold {
                events::journal_down();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const PAUSE: Duration = Duration::from_secs(2);

    #[tokio::test(start_paused = true)]
    async fn opens_after_failures_in_a_row_and_lets_one_at_a_time_try() {
        let breaker = Breaker::new(3, PAUSE);
        for answered in [false, false, true, false, false] {
            breaker.record(answered);
            assert_eq!(breaker.admit(), Ok(()));
        }
        breaker.record(false);
        assert_eq!(breaker.admit(), Err(PAUSE));
        tokio::time::advance(PAUSE).await;
        assert_eq!(breaker.admit(), Ok(()), "the first after the pause");
        assert_eq!(breaker.admit(), Err(PAUSE), "the second");
        breaker.record(false);
        assert_eq!(breaker.admit(), Err(PAUSE), "the first has failed");
        tokio::time::advance(PAUSE).await;
        assert_eq!(breaker.admit(), Ok(()));
        breaker.record(true);
        assert_eq!((breaker.admit(), breaker.admit()), (Ok(()), Ok(())));
    }

    #[tokio::test(start_paused = true)]
    async fn a_probe_that_is_never_heard_of_again_does_not_lock_everybody_out() {
        let breaker = Breaker::new(1, PAUSE);
        breaker.record(false);
        tokio::time::advance(PAUSE).await;
        assert_eq!(breaker.admit(), Ok(()));
        tokio::time::advance(PAUSE).await;
        assert_eq!(breaker.admit(), Ok(()));
    }
}
