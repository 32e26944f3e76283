//! What a receipt says about the bytes of a request or an answer.

use crate::{
    protocol::{ContentDigest, Digester},
    receipt::{PayloadCapture, Receipts, hash_text},
};

/// Bytes that have gone by. Nothing is known of those that nobody has looked at to their end.
#[derive(Clone, Default)]
pub(crate) struct Payload {
    digest: Option<ContentDigest>,
}

impl Payload {
    /// `sha256-` and the hexadecimal hash.
    pub(super) fn hash(&self) -> Option<String> {
        self.digest.as_ref().map(hash_text)
    }
}

/// Looks at bytes as they go by, as far as the merchant wants to know them.
#[derive(Clone)]
pub(crate) struct Watch {
    digester: Option<Digester>,
    length: u64,
}

impl Watch {
    pub(super) fn new(receipts: &Receipts) -> Self {
        let digester = (receipts.capture() != PayloadCapture::None).then(Digester::new);
        Self { digester, length: 0 }
    }

    /// The next bytes.
    pub(crate) fn see(&mut self, data: &[u8]) {
        self.length = self.length.saturating_add(data.len() as u64);
        if let Some(digester) = &mut self.digester {
            digester.update(data);
        }
    }

    /// How many bytes have gone by.
    pub(crate) fn length(&self) -> u64 {
        self.length
    }

    /// That was all.
    pub(crate) fn finish(self) -> Payload {
        Payload { digest: self.digester.map(Digester::finish) }
    }

    /// The same for bytes that were looked at before.
    pub(crate) fn known(self, digest: ContentDigest) -> Payload {
        Payload { digest: self.digester.map(|_| digest) }
    }
}
