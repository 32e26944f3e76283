//! A clock that goes with the timers of the runtime, so that leases and sleeps agree under paused time.

use tokio::time::Instant;
use tower_mpp::{Clock, protocol::Timestamp};

/// Shows a fixed instant plus what the runtime's own clock has gone on since.
#[derive(Debug)]
pub struct RuntimeClock {
    start: Timestamp,
    origin: Instant,
}

impl RuntimeClock {
    /// Starts in 2026. Made inside the runtime.
    pub fn start() -> Self {
        Self { start: "2026-01-01T00:00:00Z".parse().unwrap(), origin: Instant::now() }
    }
}

impl Clock for RuntimeClock {
    fn now(&self) -> Timestamp {
        self.start.saturating_add(self.origin.elapsed())
    }
}
