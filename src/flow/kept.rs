//! An answer as it is kept: recorded while it leaves, and read back.

use bytes::{Buf as _, Bytes};
use http::{
    HeaderMap, HeaderName, HeaderValue, StatusCode,
    header::{CONNECTION, TE, TRANSFER_ENCODING, UPGRADE},
};

/// Another one is another format.
const VERSION: u8 = 1;

/// The length of the body is known before it is read.
const LENGTH_KNOWN: u8 = 1;
/// There is nothing behind the head.
const ENDED: u8 = 1 << 1;
const SENSITIVE: u8 = 1;

/// Where the length of the body stands: behind version, status, flags and declared length.
const BODY_LENGTH_AT: usize = 1 + 2 + 1 + 8;

/// An answer that was kept.
#[derive(Debug, PartialEq)]
pub(crate) struct Kept {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
    pub(crate) trailers: Option<HeaderMap>,
    /// What the body said of its length before it was read: servers write it into `Content-Length`.
    pub(crate) length: Option<u64>,
    /// The body said that it has no frames.
    pub(crate) ended: bool,
}

/// An answer on its way into a store, never longer than its limit.
pub(crate) struct Recording {
    bytes: Vec<u8>,
    limit: usize,
    body_at: usize,
    trailers: bool,
}

/// The answer is longer than what is kept.
#[derive(Debug)]
pub(crate) struct TooLong;

impl Recording {
    /// Begins with the head. What concerns one connection only is left out.
    pub(crate) fn begin(
        status: StatusCode,
        headers: &HeaderMap,
        length: Option<u64>,
        ended: bool,
        limit: usize,
    ) -> Result<Self, TooLong> {
        let mut recording = Self { bytes: Vec::with_capacity(limit.min(1024)), limit, body_at: 0, trailers: false };
        let flags = if length.is_some() { LENGTH_KNOWN } else { 0 } | if ended { ENDED } else { 0 };
        recording.push(&[VERSION])?;
        recording.push(&status.as_u16().to_be_bytes())?;
        recording.push(&[flags])?;
        recording.push(&length.unwrap_or(0).to_be_bytes())?;
        recording.push(&[0; 8])?;
        recording.fields(headers)?;
        recording.body_at = recording.bytes.len();
        Ok(recording)
    }

    /// The next data of the body.
    pub(crate) fn push(&mut self, data: &[u8]) -> Result<(), TooLong> {
        if data.len() > self.room() {
            return Err(TooLong);
        }
        self.bytes.extend_from_slice(data);
        Ok(())
    }

    /// How much more can be recorded.
    pub(crate) fn room(&self) -> usize {
        self.limit.saturating_sub(self.bytes.len())
    }

    /// How much of the body was recorded.
    pub(crate) fn body_length(&self) -> u64 {
        self.bytes.len().saturating_sub(self.body_at) as u64
    }

    /// The trailers, which end the body.
    pub(crate) fn trailers(&mut self, trailers: &HeaderMap) -> Result<(), TooLong> {
        self.end_body();
        self.fields(trailers)
    }

    pub(crate) fn finish(mut self) -> Bytes {
        self.end_body();
        self.bytes.into()
    }

    fn end_body(&mut self) {
        let length = self.body_length().to_be_bytes();
        if !self.trailers
            && let Some(room) = self.bytes.get_mut(BODY_LENGTH_AT..BODY_LENGTH_AT + 8)
        {
            room.copy_from_slice(&length);
            self.trailers = true;
        }
    }

    fn fields(&mut self, fields: &HeaderMap) -> Result<(), TooLong> {
        let kept = || fields.iter().filter(|(name, _)| !is_of_one_connection(name));
        self.push(&length(kept().count())?)?;
        for (name, value) in kept() {
            self.push(&[if value.is_sensitive() { SENSITIVE } else { 0 }])?;
            self.push(&length(name.as_str().len())?)?;
            self.push(name.as_str().as_bytes())?;
            self.push(&length(value.len())?)?;
            self.push(value.as_bytes())?;
        }
        Ok(())
    }
}

fn length(length: usize) -> Result<[u8; 4], TooLong> {
    u32::try_from(length).map(u32::to_be_bytes).map_err(|_| TooLong)
}

/// Fields between two neighbours (RFC 9110 section 7.6.1). `Trailer` goes the whole way.
fn is_of_one_connection(name: &HeaderName) -> bool {
    [CONNECTION, TE, TRANSFER_ENCODING, UPGRADE].contains(name)
        || matches!(name.as_str(), "keep-alive" | "proxy-connection")
}

impl Kept {
    /// Reads what [`Recording::finish`] has written, and nothing else.
    pub(crate) fn read(mut bytes: Bytes) -> Option<Self> {
        let bytes = &mut bytes;
        if bytes.try_get_u8().ok()? != VERSION {
            return None;
        }
        let status = StatusCode::from_u16(bytes.try_get_u16().ok()?).ok()?;
        let flags = bytes.try_get_u8().ok()?;
        let length = Some(bytes.try_get_u64().ok()?).filter(|_| flags & LENGTH_KNOWN != 0);
        let body_length = usize::try_from(bytes.try_get_u64().ok()?).ok()?;
        let headers = fields(bytes)?;
        let body = take(bytes, body_length)?;
        let trailers = if bytes.is_empty() { None } else { Some(fields(bytes)?) };
        bytes.is_empty().then_some(Self { status, headers, body, trailers, length, ended: flags & ENDED != 0 })
    }
}

fn fields(bytes: &mut Bytes) -> Option<HeaderMap> {
    let mut fields = HeaderMap::new();
    for _ in 0..bytes.try_get_u32().ok()? {
        let flags = bytes.try_get_u8().ok()?;
        let name = short(bytes)?;
        let mut value = HeaderValue::from_maybe_shared(short(bytes)?).ok()?;
        value.set_sensitive(flags & SENSITIVE != 0);
        fields.try_append(HeaderName::from_bytes(&name).ok()?, value).ok()?;
    }
    Some(fields)
}

fn short(bytes: &mut Bytes) -> Option<Bytes> {
    let length = usize::try_from(bytes.try_get_u32().ok()?).ok()?;
    take(bytes, length)
}

fn take(bytes: &mut Bytes, length: usize) -> Option<Bytes> {
    (length <= bytes.len()).then(|| bytes.split_to(length))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing)]
mod tests {
    use super::*;

    fn headers() -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.append("set-cookie", HeaderValue::from_static("a=1"));
        headers.append("x-other", HeaderValue::from_bytes(b"caf\xe9 \xff").unwrap());
        headers.append("set-cookie", HeaderValue::from_static("b=2"));
        headers.append("x-empty", HeaderValue::from_static(""));
        headers.get_mut("x-other").unwrap().set_sensitive(true);
        headers
    }

    fn recorded() -> (Kept, Bytes) {
        let mut sent = headers();
        for name in ["connection", "transfer-encoding", "keep-alive", "upgrade", "te", "proxy-connection"] {
            sent.insert(HeaderName::from_static(name), HeaderValue::from_static("x"));
        }
        let mut trailers = HeaderMap::new();
        trailers.insert("grpc-status", HeaderValue::from_static("0"));
        let mut recording = Recording::begin(StatusCode::CREATED, &headers(), Some(7), false, 4096).unwrap();
        recording.push(b"one\0").unwrap();
        recording.push(b"two").unwrap();
        assert_eq!(recording.body_length(), 7);
        recording.trailers(&trailers).unwrap();
        let kept = Kept {
            status: StatusCode::CREATED,
            headers: headers(),
            body: Bytes::from_static(b"one\0two"),
            trailers: Some(trailers),
            length: Some(7),
            ended: false,
        };
        (kept, recording.finish())
    }

    #[test]
    fn what_was_recorded_is_read_back_byte_for_byte_and_in_order() {
        let (kept, bytes) = recorded();
        let read = Kept::read(bytes).unwrap();
        assert_eq!(read, kept);
        assert!(read.headers["x-other"].is_sensitive());
        let order: Vec<_> = read.headers.iter().collect();
        assert_eq!(order, headers().iter().collect::<Vec<_>>());
    }

    #[test]
    fn an_answer_without_a_body_is_not_one_with_an_empty_one() {
        let recording = Recording::begin(StatusCode::NO_CONTENT, &HeaderMap::new(), Some(0), true, 100).unwrap();
        let kept = Kept::read(recording.finish()).unwrap();
        assert!(kept.ended && kept.body.is_empty() && kept.trailers.is_none() && kept.length == Some(0));
        let recording = Recording::begin(StatusCode::OK, &HeaderMap::new(), None, false, 100).unwrap();
        let kept = Kept::read(recording.finish()).unwrap();
        assert!(!kept.ended && kept.length.is_none());
    }

    #[test]
    fn nothing_is_recorded_beyond_the_limit() {
        assert!(Recording::begin(StatusCode::OK, &headers(), None, false, 40).is_err());
        let mut recording = Recording::begin(StatusCode::OK, &HeaderMap::new(), None, false, 34).unwrap();
        recording.push(&[1; 10]).unwrap();
        recording.push(&[1]).unwrap_err();
        assert_eq!(recording.body_length(), 10);
    }

    #[test]
    fn damaged_rows_are_refused_and_never_panic() {
        let (kept, bytes) = recorded();
        for length in 0..bytes.len() {
            assert_ne!(Kept::read(bytes.slice(..length)).as_ref(), Some(&kept), "{length} bytes");
        }
        for at in 0..bytes.len() {
            for value in [0, 1, 0x7f, 0xff] {
                let mut damaged = bytes.to_vec();
                damaged[at] = value;
                let _ = Kept::read(damaged.into());
            }
        }
        let mut longer = bytes.to_vec();
        longer.push(0);
        assert_eq!(Kept::read(longer.into()), None);
        assert_eq!(Kept::read(Bytes::from_static(b"\x02")), None);
    }
}
