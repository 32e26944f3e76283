//! What the service says about a call.

use std::{fmt, sync::Arc};

use parking_lot::Mutex;

use super::ReceiptBody;

/// Lets the service behind the layer say what its receipt shall say: provider, model, tokens, cost, modules. It
/// stands in the extensions of a paid request where receipts are signed, and can be filled in up to the end of the
/// answer's body, also from a task or a stream of its own.
///
/// What the merchant sees itself stays its own: ids, instants, the payment, the hashes of what the client sent and
/// got, and the visibility unless it is narrowed.
#[derive(Clone, Default)]
pub struct Attribution(Arc<Mutex<ReceiptBody>>);

impl Attribution {
    /// Nothing is known yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Fills something in.
    ///
    /// ```
    /// # use tower_mpp::receipt::{Attribution, Provider};
    /// # let attribution = Attribution::new();
    /// attribution.update(|receipt| {
    ///     receipt.provider = Some(Provider::AwsBedrock);
    ///     receipt.model_id = Some("us.amazon.nova-micro-v1:0".into());
    ///     receipt.input_tokens = Some(12);
    /// });
    /// ```
    pub fn update(&self, fill: impl FnOnce(&mut ReceiptBody)) {
        fill(&mut self.0.lock());
    }

    /// What has been filled in so far.
    pub fn body(&self) -> ReceiptBody {
        self.0.lock().clone()
    }
}

impl fmt::Debug for Attribution {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Attribution(..)")
    }
}
