//! Tokens, and what they cost.

use aws_sdk_bedrockruntime::types::TokenUsage;
use serde_json::{Value, json};

use super::super::Report;
use crate::receipt::{CostConfidence, UsdCost};

/// What a model costs the merchant, in millionths of a dollar for a million tokens: 3 dollars for a million tokens
/// are `3_000_000`. With it, receipts carry an estimated cost.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[must_use]
pub struct BedrockPrice {
    input: u64,
    output: u64,
    cache_read: Option<u64>,
    cache_write: Option<u64>,
}

impl BedrockPrice {
    /// For tokens read and tokens written.
    pub fn new(input: u64, output: u64) -> Self {
        Self { input, output, cache_read: None, cache_write: None }
    }

    /// For tokens read from the prompt cache and written into it. Without it a cost with such tokens is incomplete.
    pub fn cache(mut self, read: u64, write: u64) -> Self {
        (self.cache_read, self.cache_write) = (Some(read), Some(write));
        self
    }

    /// The cost and how sure it is: millionths of a dollar for a million tokens are 10⁻¹² dollars for one. Nothing
    /// where a receipt could not carry it exactly.
    fn cost(&self, tokens: &Tokens) -> Option<(UsdCost, CostConfidence)> {
        let (mut sum, mut confidence) = (0_u64, CostConfidence::Complete);
        for (count, price) in [
            (tokens.input, Some(self.input)),
            (tokens.output, Some(self.output)),
            (tokens.cache_read, self.cache_read),
            (tokens.cache_write, self.cache_write),
        ] {
            match (count.unwrap_or(0), price) {
                (0, _) => {}
                (_, None) => confidence = CostConfidence::Partial,
                (count, Some(price)) => sum = sum.checked_add(count.checked_mul(price)?)?,
            }
        }
        if tokens.input.is_none() || tokens.output.is_none() {
            confidence = CostConfidence::Partial;
        }
        let cost = UsdCost::from_pico(i64::try_from(sum).ok()?);
        cost.is_exact().then_some((cost, confidence))
    }
}

/// The tokens of a call, as far as the provider has counted them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Tokens {
    pub(super) input: Option<u64>,
    pub(super) output: Option<u64>,
    pub(super) cache_read: Option<u64>,
    pub(super) cache_write: Option<u64>,
}

impl Tokens {
    pub(super) fn of_converse(usage: &TokenUsage) -> Self {
        let count = |tokens: i32| u64::try_from(tokens).ok();
        Self {
            input: count(usage.input_tokens()),
            output: count(usage.output_tokens()),
            cache_read: usage.cache_read_input_tokens().and_then(count),
            cache_write: usage.cache_write_input_tokens().and_then(count),
        }
    }

    /// Reads the `usage` of an answer or event of Anthropic's. What it does not say stays as it is.
    pub(super) fn read(&mut self, usage: &Value) {
        let count = |name| usage.get(name).and_then(Value::as_u64);
        self.input = count("input_tokens").or(self.input);
        self.output = count("output_tokens").or(self.output);
        self.cache_read = count("cache_read_input_tokens").or(self.cache_read);
        self.cache_write = count("cache_creation_input_tokens").or(self.cache_write);
    }

    /// The `usage` of an answer. A count that nobody knows is 0: the members must be there.
    pub(super) fn json(&self) -> Value {
        json!({
            "input_tokens": self.input.unwrap_or(0),
            "output_tokens": self.output.unwrap_or(0),
            "cache_read_input_tokens": self.cache_read.unwrap_or(0),
            "cache_creation_input_tokens": self.cache_write.unwrap_or(0),
        })
    }

    /// Tells the receipt.
    pub(super) fn tell(&self, report: &Report, price: Option<&BedrockPrice>) {
        if *self == Self::default() {
            return;
        }
        let cost = price.and_then(|price| price.cost(self));
        report.update(|receipt| {
            receipt.input_tokens = self.input;
            receipt.output_tokens = self.output;
            receipt.cache_read_tokens = self.cache_read;
            receipt.cache_write_tokens = self.cache_write;
            receipt.tokens_source = Some("provider".to_owned());
            if let Some((cost, confidence)) = cost {
                receipt.cost_estimated_usd = Some(cost);
                receipt.cost_estimate_confidence = Some(confidence);
                receipt.cost_source = Some("price_table".to_owned());
                receipt.cost_currency = Some("USD".to_owned());
            }
        });
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn tokens(input: u64, output: u64, cache_read: u64) -> Tokens {
        Tokens { input: Some(input), output: Some(output), cache_read: Some(cache_read), cache_write: None }
    }

    #[test]
    fn a_cost_is_exact_to_the_millionth_of_a_millionth() {
        // 3 dollars in, 15 out, 0.30 from the cache, for a million each.
        let price = BedrockPrice::new(3_000_000, 15_000_000).cache(300_000, 3_750_000);
        let (cost, confidence) = price.cost(&tokens(1000, 200, 10)).unwrap();
        assert_eq!((cost.to_string().as_str(), confidence), ("0.006003", CostConfidence::Complete));
        let (_, confidence) = BedrockPrice::new(1, 1).cost(&tokens(1, 1, 1)).unwrap();
        assert_eq!(confidence, CostConfidence::Partial, "nobody knows what cached tokens cost");
        assert_eq!(BedrockPrice::new(u64::MAX, 1).cost(&tokens(2, 1, 0)), None);
    }
}
