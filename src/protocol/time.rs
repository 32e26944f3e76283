//! Instants on the wire: RFC 3339 `date-time`, always UTC when we write it.

use std::{fmt, str::FromStr, time::Duration};

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// An instant in UTC with nanosecond resolution, written as RFC 3339 (`2025-01-15T12:05:00Z`).
///
/// Values come from the injected [`Clock`](crate::Clock) or from the wire, never from a hidden
/// call to the system clock.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(jiff::Timestamp);

/// The text is not an RFC 3339 `date-time`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not an RFC 3339 date-time")]
pub struct InvalidTimestamp;

impl Timestamp {
    /// The beginning of 1970, from which instants are counted.
    pub const EPOCH: Self = Self(jiff::Timestamp::UNIX_EPOCH);

    /// The instant `seconds` after the Unix epoch, or `None` outside the years -9999 to 9999.
    pub fn from_unix(seconds: i64) -> Option<Self> {
        jiff::Timestamp::from_second(seconds).ok().map(Self)
    }

    /// The instant `millis` milliseconds after the Unix epoch, or `None` outside the years -9999 to 9999.
    pub fn from_unix_millis(millis: i64) -> Option<Self> {
        jiff::Timestamp::from_millisecond(millis).ok().map(Self)
    }

    /// Now, by the system clock. Only [`SystemClock`](crate::SystemClock) calls this.
    pub(crate) fn system_now() -> Self {
        Self(jiff::Timestamp::now())
    }

    /// Whole seconds since the Unix epoch, rounded towards the past.
    pub fn unix(self) -> i64 {
        self.unix_millis().div_euclid(1000)
    }

    /// Milliseconds since the Unix epoch, rounded towards the past.
    pub fn unix_millis(self) -> i64 {
        i64::try_from(self.0.as_nanosecond().div_euclid(1_000_000)).unwrap_or(i64::MAX)
    }

    /// Milliseconds since the Unix epoch, rounded towards the future: what ends there does not end early.
    pub(crate) fn unix_millis_ceil(self) -> i64 {
        let millis = self.unix_millis();
        match Self::from_unix_millis(millis) {
            Some(floor) if floor < self => millis.saturating_add(1),
            _ => millis,
        }
    }

    /// This instant without its fraction of a second.
    #[must_use]
    pub fn truncated(self) -> Self {
        Self::from_unix(self.unix()).unwrap_or(self)
    }

    /// `self + duration`, or the last representable instant.
    #[must_use]
    pub fn saturating_add(self, duration: Duration) -> Self {
        Self(self.0.checked_add(duration).unwrap_or(jiff::Timestamp::MAX))
    }

    /// The time from `self` until `later`; zero when `later` is not later.
    pub fn until(self, later: Self) -> Duration {
        Duration::try_from(later.0.duration_since(self.0)).unwrap_or(Duration::ZERO)
    }
}

/// Byte classes of RFC 3339 section 5.6: `d` digit, `T` either case, everything else literal.
const DATE_TIME: &[u8; 19] = b"dddd-dd-ddTdd:dd:dd";

/// RFC 3339 is narrower than what date libraries accept (spaces, missing seconds, annotations), and
/// a bound field must have one reading, so its shape is checked before the library sees it.
fn has_rfc3339_shape(text: &str) -> bool {
    let Some((head, mut tail)) = text.as_bytes().split_at_checked(DATE_TIME.len()) else {
        return false;
    };
    let head_ok = head.iter().zip(DATE_TIME).all(|(byte, class)| match class {
        b'd' => byte.is_ascii_digit(),
        b'T' => byte.eq_ignore_ascii_case(&b'T'),
        literal => byte == literal,
    });
    if let [b'.', rest @ ..] = tail {
        let digits = rest.iter().take_while(|b| b.is_ascii_digit()).count();
        if digits == 0 {
            return false;
        }
        tail = rest.get(digits..).unwrap_or_default();
    }
    let zone_ok = match tail {
        [b'Z' | b'z'] => true,
        [b'+' | b'-', h1, h2, b':', m1, m2] => [h1, h2, m1, m2].iter().all(|b| b.is_ascii_digit()),
        _ => false,
    };
    head_ok && zone_ok
}

impl FromStr for Timestamp {
    type Err = InvalidTimestamp;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if !has_rfc3339_shape(text) {
            return Err(InvalidTimestamp);
        }
        text.parse().map(Self).map_err(|_| InvalidTimestamp)
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Debug for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Serialize for Timestamp {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Timestamp {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<str>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn only_the_rfc_3339_shape_is_read() {
        for good in [
            "2025-01-15T12:05:00Z",
            "2025-01-15t12:05:00z",
            "2025-01-15T12:05:00.123Z",
            "2025-01-15T12:05:00+05:30",
            "2016-12-31T23:59:60Z",
        ] {
            assert!(good.parse::<Timestamp>().is_ok(), "{good}");
        }
        for bad in [
            "",
            "tomorrow",
            "2025-01-15 12:05:00Z",
            "2025-01-15|12:05:00Z",
            "2025-01-15T12:05Z",
            "2025-01-15T12:05:00",
            "2025-01-15T12:05:00.Z",
            "2025-01-15T12:05:00Z|x",
            "2025-01-15T12:05:00Z[UTC]",
            "2025-01-15T12:05:00+0530",
            "2025-13-15T12:05:00Z",
            "2025-02-30T12:05:00Z",
            "+2025-01-15T12:05:00Z",
            "٢025-01-15T12:05:00Z",
        ] {
            assert!(bad.parse::<Timestamp>().is_err(), "{bad}");
        }
    }

    #[test]
    fn written_in_utc_without_a_needless_fraction() {
        let instant: Timestamp = "2025-01-15T12:05:00+02:00".parse().unwrap();
        assert_eq!(instant.to_string(), "2025-01-15T10:05:00Z");
        let fraction: Timestamp = "2025-01-15T10:05:00.250Z".parse().unwrap();
        assert_eq!(fraction.truncated(), instant);
        assert_eq!(instant.until(fraction), Duration::from_millis(250));
        assert_eq!(fraction.until(instant), Duration::ZERO);
    }
}
