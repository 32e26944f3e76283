//! What a receipt says about the bytes of a request or an answer.

use bytes::{Bytes, BytesMut};

#[cfg(feature = "encrypted-capture")]
use super::events;
#[cfg(feature = "encrypted-capture")]
use crate::receipt::{Recipient, seal};
use crate::{
    protocol::{ContentDigest, Digester},
    receipt::{PayloadCapture, Receipts, hash_text},
};

/// Bytes that have gone by. Nothing is known of those that nobody has looked at to their end.
#[derive(Clone, Default)]
pub(crate) struct Payload {
    digest: Option<ContentDigest>,
    /// Themselves, where they are to be encrypted for their owner and are not too many.
    #[cfg_attr(not(feature = "encrypted-capture"), allow(dead_code, reason = "nobody can encrypt it"))]
    copy: Option<Bytes>,
}

impl Payload {
    /// `sha256-` and the hexadecimal hash.
    pub(super) fn hash(&self) -> Option<String> {
        self.digest.as_ref().map(hash_text)
    }

    /// An envelope that only the owner can open. Nothing is sealed where there is nothing to read.
    #[cfg(feature = "encrypted-capture")]
    pub(super) fn sealed(&self, recipient: &Recipient) -> Option<String> {
        let copy = self.copy.as_ref().filter(|copy| !copy.is_empty())?;
        seal(recipient, copy).inspect_err(|error| events::receipt_failed("seal", error)).ok()
    }
}

/// Looks at bytes as they go by, as far as the merchant wants to know them.
#[derive(Clone)]
pub(crate) struct Watch {
    digester: Option<Digester>,
    length: u64,
    copy: Option<BytesMut>,
    limit: usize,
}

impl Watch {
    /// Copies no more than `limit` bytes: of what is longer, nothing.
    pub(super) fn new(receipts: &Receipts, limit: usize) -> Self {
        let digester = (receipts.capture() != PayloadCapture::None).then(Digester::new);
        let copy = (receipts.capture() == PayloadCapture::EncryptedAtRest).then(BytesMut::new);
        Self { digester, length: 0, copy, limit }
    }

    /// Whether the bytes themselves are wanted.
    pub(crate) fn copies(&self) -> bool {
        self.copy.is_some()
    }

    /// The next bytes.
    pub(crate) fn see(&mut self, data: &[u8]) {
        self.length = self.length.saturating_add(data.len() as u64);
        if let Some(digester) = &mut self.digester {
            digester.update(data);
        }
        match &mut self.copy {
            Some(copy) if data.len() <= self.limit.saturating_sub(copy.len()) => copy.extend_from_slice(data),
            copy => *copy = None,
        }
    }

    /// How many bytes have gone by.
    pub(crate) fn length(&self) -> u64 {
        self.length
    }

    /// That was all.
    pub(crate) fn finish(self) -> Payload {
        Payload { digest: self.digester.map(Digester::finish), copy: self.copy.map(BytesMut::freeze) }
    }

    /// The same for bytes whose digest is known, and that are not wanted themselves.
    pub(crate) fn known(self, digest: ContentDigest) -> Payload {
        Payload { digest: self.digester.map(|_| digest), copy: None }
    }
}
