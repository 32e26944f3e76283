//! How a merchant sets up Stripe. Everything that can be wrong is found by
//! [`StripeBuilder::build`], before the first payment.

use std::{collections::BTreeMap, fmt, time::Duration};

use http::{HeaderValue, Uri};
use zeroize::Zeroizing;

use super::{Stripe, api::Api};
use crate::protocol::Amount;

const BASE_URL: &str = "https://api.stripe.com";
/// The first version that knows `shared_payment_granted_token` on PaymentIntents.
const VERSION: &str = "2026-07-29.preview";
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
const TIMEOUT: Duration = Duration::from_secs(30);
/// A claim in the journal is held for as long as a settlement takes.
const MAX_TIMEOUT: Duration = Duration::from_secs(600);

/// Stripe takes 50 metadata keys; two are ours.
const MAX_METADATA: usize = 48;
const MAX_METADATA_KEY: usize = 40;
const MAX_METADATA_VALUE: usize = 500;
/// The metadata stands in every challenge, and a whole 402 should stay below 8 KB.
const MAX_METADATA_BYTES: usize = 2_048;

/// Settings of [`Stripe`]; made by [`Stripe::builder`].
///
/// `Debug` does not print the secret key.
#[must_use = "a builder does nothing until `build` is called"]
pub struct StripeBuilder {
    secret_key: Zeroizing<String>,
    network_id: String,
    base_url: String,
    version: String,
    connect_timeout: Duration,
    timeout: Duration,
    payment_method_types: Vec<String>,
    metadata: BTreeMap<String, String>,
    recipient: Option<String>,
    connect: Connect,
    manual_capture: bool,
}

/// Stripe Connect settlement (Stripe charge draft, "Stripe Connect Settlement"). From the merchant's
/// configuration only, never from a client and never in a challenge. Amounts are in Stripe's minor units.
#[derive(Clone, Debug, Default)]
pub(super) struct Connect {
    pub(super) stripe_account: Option<String>,
    pub(super) application_fee_amount: Option<Amount>,
    pub(super) on_behalf_of: Option<String>,
    pub(super) transfer: Option<Transfer>,
    pub(super) transfer_group: Option<String>,
}

#[derive(Clone, Debug)]
pub(super) struct Transfer {
    pub(super) destination: String,
    pub(super) amount: Option<Amount>,
}

impl Connect {
    /// Whether fee and transfer can be taken out of a payment of `amount`.
    pub(super) fn fits(&self, amount: Amount) -> bool {
        let transfer = self.transfer.as_ref().and_then(|transfer| transfer.amount);
        [self.application_fee_amount, transfer].into_iter().flatten().all(|part| part <= amount)
    }
}

/// What [`Stripe`] is made of once the settings are known to be good.
pub(super) struct Settings {
    pub(super) network_id: String,
    pub(super) payment_method_types: Vec<String>,
    pub(super) metadata: BTreeMap<String, String>,
    pub(super) recipient: Option<String>,
    pub(super) connect: Connect,
    pub(super) manual_capture: bool,
    pub(super) timeout: Duration,
    pub(super) test_key: bool,
}

impl StripeBuilder {
    pub(super) fn new(secret_key: String, network_id: String) -> Self {
        Self {
            secret_key: Zeroizing::new(secret_key),
            network_id,
            base_url: BASE_URL.to_owned(),
            version: VERSION.to_owned(),
            connect_timeout: CONNECT_TIMEOUT,
            timeout: TIMEOUT,
            payment_method_types: vec!["card".to_owned(), "link".to_owned()],
            metadata: BTreeMap::new(),
            recipient: None,
            connect: Connect::default(),
            manual_capture: false,
        }
    }

    /// Where the API is (default `https://api.stripe.com`). Plain `http` is taken for loopback
    /// addresses only.
    pub fn base_url(mut self, url: impl Into<String>) -> Self {
        self.base_url = url.into();
        self
    }

    /// The `Stripe-Version` header (default `2026-07-29.preview`).
    pub fn version(mut self, version: impl Into<String>) -> Self {
        self.version = version.into();
        self
    }

    /// How long name look-up, TCP and TLS may take together (default 5 seconds).
    pub fn connect_timeout(mut self, timeout: Duration) -> Self {
        self.connect_timeout = timeout;
        self
    }

    /// How long one settlement or refund may take in all, repeats and cancellation included (default
    /// 30 seconds). A settlement that takes longer ends as unknown.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// What payers may pay with: `methodDetails.paymentMethodTypes` (default `card`, `link`).
    pub fn payment_method_types<S: Into<String>>(mut self, types: impl IntoIterator<Item = S>) -> Self {
        self.payment_method_types = types.into_iter().map(Into::into).collect();
        self
    }

    /// Adds a pair to `methodDetails.metadata` of every challenge, where the payer sees it, and to the
    /// metadata of every PaymentIntent. Keys that begin with `mpp_` are ours.
    pub fn metadata(mut self, key: impl Into<String>, value: impl Into<String>) -> Self {
        self.metadata.insert(key.into(), value.into());
        self
    }

    /// Names who is paid (`acct_...`): `recipient` of every challenge and in discovery, where wallets show and compare
    /// it. It decides nothing: the money goes to the account of the key, or to
    /// [`stripe_account`](Self::stripe_account).
    pub fn recipient(mut self, account: impl Into<String>) -> Self {
        self.recipient = Some(account.into());
        self
    }

    /// Holds the money first and captures it afterwards (`capture_method: manual`; off by default), which is
    /// what a route needs that settles after its handler
    /// ([`SettleTiming::AfterHandler`](crate::SettleTiming)). What is held and not captured is cancelled. Routes
    /// that settle before their handler capture at once, at the price of a second call.
    ///
    /// Payers must be able to pay with something that can be held: cards and Link can.
    pub fn manual_capture(mut self, on: bool) -> Self {
        self.manual_capture = on;
        self
    }

    /// Charges on a connected account: the `Stripe-Account` header of every call (`acct_...`).
    pub fn stripe_account(mut self, account: impl Into<String>) -> Self {
        self.connect.stripe_account = Some(account.into());
        self
    }

    /// The platform's fee per payment, in Stripe's minor units of the price's currency. Prices below it
    /// are not offered. It is given back when a payment is refunded in full.
    pub fn application_fee_amount(mut self, amount: Amount) -> Self {
        self.connect.application_fee_amount = Some(amount);
        self
    }

    /// The connected account that is the business of record (`acct_...`).
    pub fn on_behalf_of(mut self, account: impl Into<String>) -> Self {
        self.connect.on_behalf_of = Some(account.into());
        self
    }

    /// Transfers the payment, or `amount` of it in Stripe's minor units, to a connected account
    /// (`acct_...`). Prices below `amount` are not offered. Refunds take the transfer back.
    pub fn transfer_data(mut self, destination: impl Into<String>, amount: Option<Amount>) -> Self {
        self.connect.transfer = Some(Transfer { destination: destination.into(), amount });
        self
    }

    /// A reconciliation name that links charges and transfers. Not secret.
    pub fn transfer_group(mut self, group: impl Into<String>) -> Self {
        self.connect.transfer_group = Some(group.into());
        self
    }

    /// Checks all settings and makes the payment method.
    ///
    /// # Errors
    /// [`StripeConfigError`] names every setting that is wrong and what to do about it.
    pub fn build(self) -> Result<Stripe, StripeConfigError> {
        let mut found = Problems(Vec::new());
        found.check("secret_key", key_problem(&self.secret_key));
        found.check("network_id", network_problem(&self.network_id, is_test_key(&self.secret_key)));
        found.check("connect_timeout", (self.connect_timeout.is_zero()).then_some("it is zero: give it seconds"));
        found.check("timeout", timeout_problem(self.timeout, self.connect_timeout));
        found.check("payment_method_types", types_problem(&self.payment_method_types));
        found.check("metadata", metadata_problem(&self.metadata));
        found.check("recipient", recipient_problem(self.recipient.as_deref(), &self.connect));
        found.connect(&self.connect);
        let version = found.header("version", &self.version);
        let base = match parse_base_url(&self.base_url) {
            Ok(base) => Some(base),
            Err(problem) => {
                found.check("base_url", Some(problem));
                None
            }
        };
        let account = match &self.connect.stripe_account {
            Some(account) => found.header("stripe_account", account).map(Some),
            None => Some(None),
        };
        let (Some(version), Some(base), Some(account), []) = (version, base, account, found.0.as_slice()) else {
            return Err(StripeConfigError { problems: found.0 });
        };
        let test_key = is_test_key(&self.secret_key);
        let api = Api::new(base, &self.secret_key, version, account, self.connect_timeout)
            .map_err(|problem| StripeConfigError { problems: vec![("base_url", problem)] })?;
        let settings = Settings {
            network_id: self.network_id,
            payment_method_types: self.payment_method_types,
            metadata: self.metadata,
            recipient: self.recipient,
            connect: self.connect,
            manual_capture: self.manual_capture,
            timeout: self.timeout,
            test_key,
        };
        Ok(Stripe::with(api, settings))
    }
}

impl fmt::Debug for StripeBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StripeBuilder")
            .field("network_id", &self.network_id)
            .field("base_url", &self.base_url)
            .field("version", &self.version)
            .finish_non_exhaustive()
    }
}

/// Settings of [`Stripe`] that cannot work. Never contains the secret key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StripeConfigError {
    problems: Vec<(&'static str, &'static str)>,
}

impl StripeConfigError {
    /// Every setting that is wrong, by the name of its method or argument, and what to do about it.
    pub fn problems(&self) -> impl Iterator<Item = (&'static str, &'static str)> {
        self.problems.iter().copied()
    }
}

impl fmt::Display for StripeConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Stripe is not set up")?;
        for (i, (field, problem)) in self.problems.iter().enumerate() {
            write!(f, "{} {field}: {problem}", if i == 0 { ":" } else { ";" })?;
        }
        Ok(())
    }
}

impl std::error::Error for StripeConfigError {}

struct Problems(Vec<(&'static str, &'static str)>);

impl Problems {
    fn check(&mut self, field: &'static str, problem: Option<&'static str>) {
        self.0.extend(problem.map(|problem| (field, problem)));
    }

    fn header(&mut self, field: &'static str, value: &str) -> Option<HeaderValue> {
        let header = HeaderValue::from_str(value).ok().filter(|value| !value.is_empty());
        if header.is_none() {
            self.check(field, Some("it cannot stand in a header: give it visible ASCII characters"));
        }
        header
    }

    fn connect(&mut self, connect: &Connect) {
        const ACCOUNT: &str = "it is not a connected account: give its id, acct_...";
        let bad = |account: &Option<String>| account.as_deref().is_some_and(|id| !is_id(id, "acct_"));
        self.check("stripe_account", bad(&connect.stripe_account).then_some(ACCOUNT));
        self.check("on_behalf_of", bad(&connect.on_behalf_of).then_some(ACCOUNT));
        if let Some(transfer) = &connect.transfer {
            self.check("transfer_data", (!is_id(&transfer.destination, "acct_")).then_some(ACCOUNT));
            let both = transfer.amount.is_some() && connect.application_fee_amount.is_some();
            self.check(
                "transfer_data",
                both.then_some("Stripe takes either an amount here or application_fee_amount: drop one"),
            );
        }
        let nowhere =
            connect.application_fee_amount.is_some() && connect.stripe_account.is_none() && connect.transfer.is_none();
        self.check(
            "application_fee_amount",
            nowhere.then_some("a fee needs a connected account to take it from: set stripe_account or transfer_data"),
        );
        let group = connect.transfer_group.as_deref();
        let group_ok = group.is_none_or(|group| (1..=255).contains(&group.len()) && !group.contains(char::is_control));
        self.check("transfer_group", (!group_ok).then_some("give it 1 to 255 bytes without control characters"));
    }
}

fn is_test_key(key: &str) -> bool {
    key.starts_with("sk_test_") || key.starts_with("rk_test_")
}

fn key_problem(key: &str) -> Option<&'static str> {
    if key.is_empty() {
        Some("it is empty: give a secret key (sk_...) or a restricted key (rk_...) of the Stripe dashboard")
    } else if key.starts_with("pk_") {
        Some("this is a publishable key: give the secret key (sk_...) or a restricted key (rk_...)")
    } else if key.contains(char::is_whitespace) {
        Some("it has white space: remove the line break or the spaces around it")
    } else if is_id(key, "sk_") || is_id(key, "rk_") {
        None
    } else {
        Some("it must begin with sk_ or rk_ and have only letters, digits and _")
    }
}

fn network_problem(id: &str, test_key: bool) -> Option<&'static str> {
    // Stripe's ids of today begin with `profile_`; peers configure others, and Stripe is the judge.
    if !is_id(id, "") {
        Some("it is not a Business Network Profile: give its id (profile_...), see the Stripe dashboard")
    } else if id.starts_with("profile_test_") && !test_key {
        Some("it is a profile of the test mode, but the secret key is not a test key")
    } else {
        None
    }
}

fn timeout_problem(timeout: Duration, connect_timeout: Duration) -> Option<&'static str> {
    if timeout <= connect_timeout {
        Some("it must be longer than connect_timeout")
    } else if timeout > MAX_TIMEOUT {
        Some("it must be at most 10 minutes")
    } else {
        None
    }
}

fn types_problem(types: &[String]) -> Option<&'static str> {
    let name = |name: &String| {
        (1..=64).contains(&name.len())
            && name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_')
    };
    if types.is_empty() {
        Some("the draft requires at least one, for instance card")
    } else if types.len() > 32 || !types.iter().all(name) {
        Some("give at most 32 names as Stripe spells them, for instance card, link")
    } else {
        None
    }
}

fn metadata_problem(metadata: &BTreeMap<String, String>) -> Option<&'static str> {
    let size: usize = metadata.iter().map(|(key, value)| key.len() + value.len()).sum();
    if metadata.len() > MAX_METADATA {
        Some("Stripe takes 50 pairs, of which 2 are ours: give at most 48")
    } else if metadata.keys().any(|key| key.is_empty() || key.chars().count() > MAX_METADATA_KEY) {
        Some("a key must have 1 to 40 characters")
    } else if metadata.keys().any(|key| key.contains(['[', ']']) || key.contains(char::is_control)) {
        Some("a key must not have square brackets or control characters")
    } else if metadata.keys().any(|key| key.starts_with("mpp_")) {
        Some("keys that begin with mpp_ are ours: choose another name")
    } else if metadata.values().any(|value| value.is_empty() || value.chars().count() > MAX_METADATA_VALUE) {
        Some("a value must have 1 to 500 characters")
    } else if size > MAX_METADATA_BYTES {
        Some("it stands in every challenge: give at most 2048 bytes in all")
    } else {
        None
    }
}

fn recipient_problem(recipient: Option<&str>, connect: &Connect) -> Option<&'static str> {
    let recipient = recipient?;
    if !is_id(recipient, "acct_") {
        Some("it is not an account: give its id, acct_...")
    } else if connect.stripe_account.as_deref().is_some_and(|account| account != recipient) {
        Some("the money goes to stripe_account: give the same account, or drop one")
    } else {
        None
    }
}

/// Takes `https://host[:port][/path]`, or the same with `http` for a loopback host; without the
/// slash at the end.
fn parse_base_url(url: &str) -> Result<String, &'static str> {
    let uri: Uri = url.parse().map_err(|_| "it is not a URL")?;
    let authority = uri.authority().ok_or("it is not an absolute URL: https://...")?;
    if authority.as_str().contains('@') || uri.query().is_some() {
        return Err("it must have no user name and no query");
    }
    match uri.scheme_str() {
        Some("https") => {}
        Some("http") if is_loopback(authority.host()) => {}
        _ => return Err("it must be https (http is for loopback addresses only)"),
    }
    Ok(url.trim_end_matches('/').to_owned())
}

fn is_loopback(host: &str) -> bool {
    let ip = host.trim_start_matches('[').trim_end_matches(']').parse::<std::net::IpAddr>();
    host.eq_ignore_ascii_case("localhost") || ip.is_ok_and(|ip| ip.is_loopback())
}

/// Whether `text` is an id of Stripe: a prefix, then letters, digits and `_`; at most 255 bytes.
pub(super) fn is_id(text: &str, prefix: &str) -> bool {
    text.len() <= 255
        && text
            .strip_prefix(prefix)
            .is_some_and(|rest| !rest.is_empty() && rest.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_'))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    const KEY: &str = "sk_test_4eC39HqLyjWDarjtT1zdp7dc";

    fn builder() -> StripeBuilder {
        Stripe::builder(KEY, "profile_test_1")
    }

    fn problems(builder: StripeBuilder) -> Vec<&'static str> {
        builder.build().err().map(|error| error.problems().map(|(field, _)| field).collect()).unwrap_or_default()
    }

    #[test]
    fn good_settings_are_taken() {
        assert!(Stripe::new(KEY, "profile_1MqDcVKA5fEO2tZvKQm9g8Yj").is_ok());
        for url in ["https://api.stripe.com/", "http://127.0.0.1:12111", "http://[::1]:1", "http://localhost:1"] {
            assert_eq!(problems(builder().base_url(url)), [""; 0], "{url}");
        }
        let connect = builder()
            .stripe_account("acct_1")
            .application_fee_amount(Amount::new(10))
            .on_behalf_of("acct_2")
            .transfer_group("order 7");
        assert_eq!(problems(connect), [""; 0]);
    }

    #[test]
    fn every_mistake_is_named_at_once() {
        let error = Stripe::builder("pk_test_1", "").timeout(Duration::ZERO).build().err().unwrap();
        let fields: Vec<_> = error.problems().map(|(field, _)| field).collect();
        assert_eq!(fields, ["secret_key", "network_id", "timeout"]);
        assert!(error.to_string().contains("publishable"));
    }

    #[test]
    fn each_wrong_setting_is_named() {
        for key in ["", "sk_", "pk_live_1", "sk_test_1\n", " sk_test_1", "token", "sk_test_ä"] {
            assert_eq!(problems(Stripe::builder(key, "profile_1")), ["secret_key"], "{key:?}");
        }
        assert_eq!(problems(Stripe::builder("sk_live_1", "profile_test_1")), ["network_id"]);
        for url in ["", "api.stripe.com", "http://api.stripe.com", "ftp://127.0.0.1", "https://u@h", "https://h/?q"] {
            assert_eq!(problems(builder().base_url(url)), ["base_url"], "{url:?}");
        }
        assert_eq!(problems(builder().version("a\nb")), ["version"]);
        assert_eq!(problems(builder().timeout(Duration::from_secs(5))), ["timeout"]);
        assert_eq!(problems(builder().timeout(Duration::MAX)), ["timeout"]);
        assert_eq!(problems(builder().payment_method_types([""; 0])), ["payment_method_types"]);
        assert_eq!(problems(builder().payment_method_types(["Card"])), ["payment_method_types"]);
        assert_eq!(problems(builder().stripe_account("cus_1")), ["stripe_account"]);
        assert_eq!(problems(builder().on_behalf_of("")), ["on_behalf_of"]);
        assert_eq!(problems(builder().transfer_data("x", None)), ["transfer_data"]);
        assert_eq!(problems(builder().transfer_group("")), ["transfer_group"]);
        assert_eq!(problems(builder().application_fee_amount(Amount::new(1))), ["application_fee_amount"]);
        assert_eq!(problems(builder().recipient("profile_1")), ["recipient"]);
        assert_eq!(problems(builder().recipient("acct_1").stripe_account("acct_2")), ["recipient"]);
        assert_eq!(problems(builder().recipient("acct_1").stripe_account("acct_1")), [""; 0]);
        let both = builder().application_fee_amount(Amount::new(1)).transfer_data("acct_1", Some(Amount::new(1)));
        assert_eq!(problems(both), ["transfer_data"]);
    }

    #[test]
    fn metadata_keeps_to_stripes_limits_and_cannot_replace_ours() {
        for (key, value) in [
            ("", "x"),
            ("a[b]", "x"),
            ("mpp_challenge_id", "x"),
            (&*"k".repeat(41), "x"),
            ("k", ""),
            ("k", &*"v".repeat(501)),
        ] {
            assert_eq!(problems(builder().metadata(key, value)), ["metadata"], "{key}");
        }
        let many = (0..49).fold(builder(), |builder, i| builder.metadata(format!("k{i}"), "v"));
        assert_eq!(problems(many), ["metadata"]);
        let large = (0..5).fold(builder(), |builder, i| builder.metadata(format!("k{i}"), "v".repeat(500)));
        assert_eq!(problems(large), ["metadata"]);
        assert_eq!(problems(builder().metadata("tenant", "7")), [""; 0]);
    }

    #[test]
    fn the_key_is_in_no_output() {
        let error = Stripe::builder("sk_secret!", "profile_1").build().err().unwrap();
        let built = builder().build().unwrap();
        for text in [format!("{:?}", builder()), format!("{built:?}"), format!("{error:?} {error}")] {
            assert!(!text.contains("secret!") && !text.contains("4eC39"), "{text}");
        }
    }
}
