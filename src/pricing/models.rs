//! A price by the model that the JSON body names.

use std::{
    collections::{HashMap, hash_map::Entry},
    fmt,
};

use async_trait::async_trait;
use bytes::Bytes;
use http::{StatusCode, header::CONTENT_ENCODING, request::Parts};

use super::{HeadQuote, MediaType, Prices, Pricing, Quote, Refused, named_model::NamedModel};
use crate::protocol::Price;

/// A model that is sold: what clients call it, what the provider calls it, what a call costs.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ModelOption {
    /// The id of the option: `fast`.
    pub id: String,
    /// The name of the model, with its provider in front: `bedrock/us.amazon.nova-micro-v1:0`. Everybody reads it.
    pub model: String,
    /// What the provider is asked for, where that is nobody's business: an ARN holds the number of an account.
    pub upstream_model: Option<String>,
    /// Other names by which clients may ask for it.
    pub aliases: Vec<String>,
    /// What one call costs.
    pub price: Price,
    /// Whether it is sold at present.
    pub status: ModelStatus,
}

/// Whether a model is sold.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ModelStatus {
    /// It is.
    #[default]
    Live,
    /// Its names are known, and whoever asks for it is refused before any challenge.
    Disabled,
}

impl ModelStatus {
    /// The name in catalogues: `live` or `disabled`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Live => "live",
            Self::Disabled => "disabled",
        }
    }
}

impl fmt::Display for ModelStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl ModelOption {
    /// An option with these names and this price, which is sold.
    pub fn new(id: impl Into<String>, model: impl Into<String>, price: Price) -> Self {
        Self {
            id: id.into(),
            model: model.into(),
            upstream_model: None,
            aliases: Vec::new(),
            price,
            status: ModelStatus::Live,
        }
    }

    /// Asks the provider for another model than the one that clients read. They cannot ask for it by this name.
    #[must_use]
    pub fn upstream_model(mut self, name: impl Into<String>) -> Self {
        self.upstream_model = Some(name.into());
        self
    }

    /// Adds another name.
    #[must_use]
    pub fn alias(mut self, name: impl Into<String>) -> Self {
        self.aliases.push(name.into());
        self
    }

    /// Whether it is sold.
    #[must_use]
    pub fn status(mut self, status: ModelStatus) -> Self {
        self.status = status;
        self
    }

    /// Whether it is sold at present.
    pub fn is_live(&self) -> bool {
        self.status == ModelStatus::Live
    }

    /// The model without its provider: `us.amazon.nova-micro-v1:0` of `bedrock/us.amazon.nova-micro-v1:0`.
    pub fn bare_model(&self) -> &str {
        self.model.split_once('/').map_or(&*self.model, |(_, bare)| bare)
    }

    /// What the provider is asked for.
    pub fn asked_model(&self) -> &str {
        self.upstream_model.as_deref().unwrap_or_else(|| self.bare_model())
    }

    fn names(&self) -> impl Iterator<Item = &str> {
        [&self.id, &self.model].into_iter().chain(&self.aliases).map(String::as_str)
    }
}

/// The models that are sold, and which of them is meant when a request names none.
///
/// As a [`Pricing`] it reads the member `model` of the JSON body: the id of an option, its model with or without the
/// provider, or one of its aliases, letter by letter. Whatever else is named is refused before any challenge, and so
/// is a body that two readers could read differently: the service behind reads the same bytes with another parser.
/// It can ask [`choose`](Self::choose) again for the option that was paid for, and should read the body as JSON
/// whatever its `Content-Type` says; where it does not, [`json_only`](Self::json_only) keeps other types from it.
///
/// ```
/// use tower_mpp::{Price, pricing::{ModelOption, ModelOptions}};
///
/// let models = ModelOptions::new([
///     ModelOption::new("fast", "bedrock/us.amazon.nova-micro-v1:0", Price::usd("0.50")?),
///     ModelOption::new("coding", "bedrock/us.anthropic.claude-opus-4-7", Price::usd("1.50")?).alias("claude-opus-4-7"),
/// ])?
/// .default_option("fast")?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct ModelOptions {
    options: Vec<ModelOption>,
    /// Places in `options`.
    by_name: HashMap<String, usize>,
    default: Option<usize>,
    json_only: bool,
}

/// Options that cannot be sold side by side.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidModelOptions {
    /// There is none.
    #[error("there is no model option; add at least one")]
    Empty,
    /// An option has an empty id, model or alias.
    #[error("{field} of model option {option:?} is empty; give it a name or remove it")]
    EmptyName {
        /// The id of the option.
        option: String,
        /// `id`, `model` or `aliases`.
        field: &'static str,
    },
    /// Two options have one name, in whatever case.
    #[error("the name {name:?} belongs to the model options {first:?} and {second:?}; give it to one of them")]
    Duplicate {
        /// As the second one writes it.
        name: String,
        /// The id of an option.
        first: String,
        /// The id of the other one.
        second: String,
    },
    /// The default is the id of no option.
    #[error("the default model option {0:?} is none of the options; name one by its id")]
    UnknownDefault(String),
    /// The default option is not sold.
    #[error("the default model option {0:?} is disabled; choose one that is live")]
    DisabledDefault(String),
    /// There is a default already.
    #[error("{second:?} cannot be the default model option beside {first:?}; choose one of them")]
    SecondDefault {
        /// The id of the first one.
        first: String,
        /// The id of the second one.
        second: String,
    },
}

impl ModelOptions {
    /// Options by all their names. The model without its provider belongs to nobody where two options could mean it.
    ///
    /// # Errors
    /// [`InvalidModelOptions`].
    pub fn new(options: impl IntoIterator<Item = ModelOption>) -> Result<Self, InvalidModelOptions> {
        let options: Vec<_> = options.into_iter().collect();
        let mut names = Names::default();
        for (at, option) in options.iter().enumerate() {
            for (name, field) in option.names().zip(["id", "model"].into_iter().chain(std::iter::repeat("aliases"))) {
                if name.is_empty() {
                    return Err(InvalidModelOptions::EmptyName { option: option.id.clone(), field });
                }
                names.add(name, at, &options)?;
            }
        }
        let by_name = names.with_bare_models(&options);
        Self::of(options, by_name)
    }

    /// Options that have one name each, letter by letter: what the service behind calls the model.
    ///
    /// # Errors
    /// [`InvalidModelOptions`].
    pub fn by_name<N: Into<String>>(prices: impl IntoIterator<Item = (N, Price)>) -> Result<Self, InvalidModelOptions> {
        let option = |(name, price): (N, Price)| {
            let name = name.into();
            ModelOption::new(name.clone(), name, price)
        };
        let options: Vec<_> = prices.into_iter().map(option).collect();
        let mut names = Names::default();
        for (at, option) in options.iter().enumerate() {
            if option.id.is_empty() {
                return Err(InvalidModelOptions::EmptyName { option: String::new(), field: "id" });
            }
            names.add(&option.id, at, &options)?;
        }
        Self::of(options, names.exact)
    }

    fn of(options: Vec<ModelOption>, by_name: HashMap<String, usize>) -> Result<Self, InvalidModelOptions> {
        if options.is_empty() {
            return Err(InvalidModelOptions::Empty);
        }
        Ok(Self { options, by_name, default: None, json_only: false })
    }

    /// What is meant when a body has no member `model`. Without it such a body is refused.
    ///
    /// # Errors
    /// [`InvalidModelOptions`] when `id` is not the id of a live option, or when there is a default already.
    pub fn default_option(mut self, id: &str) -> Result<Self, InvalidModelOptions> {
        let at = self.options.iter().position(|option| option.id == id);
        let (at, option) = at
            .and_then(|at| Some((at, self.options.get(at)?)))
            .ok_or_else(|| InvalidModelOptions::UnknownDefault(id.to_owned()))?;
        if !option.is_live() {
            return Err(InvalidModelOptions::DisabledDefault(id.to_owned()));
        }
        if let Some(first) = self.default() {
            return Err(InvalidModelOptions::SecondDefault { first: first.id.clone(), second: id.to_owned() });
        }
        self.default = Some(at);
        Ok(self)
    }

    /// Whether a body that is declared as something else than JSON is refused (415): off by default, because `curl -d`
    /// declares a form. Switch it on where the service behind goes by the `Content-Type`: in a form it could read
    /// another model than the one that was priced. A [proxy](crate::proxy) does this without being told.
    #[must_use]
    pub fn json_only(mut self, on: bool) -> Self {
        self.json_only = on;
        self
    }

    /// All options, as they were given.
    pub fn options(&self) -> &[ModelOption] {
        &self.options
    }

    /// Those that are sold at present.
    pub fn live(&self) -> impl Iterator<Item = &ModelOption> {
        self.options.iter().filter(|option| option.is_live())
    }

    /// What is meant when a body names no model.
    pub fn default(&self) -> Option<&ModelOption> {
        self.options.get(self.default?)
    }

    /// The different prices of what is sold, in the order of the options.
    pub fn prices(&self) -> Vec<&Price> {
        let mut prices = Vec::new();
        for option in self.live() {
            if !prices.contains(&&option.price) {
                prices.push(&option.price);
            }
        }
        prices
    }

    /// The option of this name, sold or not.
    pub fn find(&self, name: &str) -> Option<&ModelOption> {
        self.options.get(*self.by_name.get(name)?)
    }

    /// The option that a JSON body asks for: by id, by model with or without its provider, or by alias; the default
    /// one when the body names none.
    ///
    /// # Errors
    /// [`Refused`] when the body has more than one reading, or names a model that is not sold.
    pub fn choose(&self, head: &Parts, body: &[u8]) -> Result<&ModelOption, Refused> {
        if head.headers.contains_key(CONTENT_ENCODING) {
            return Err(Refused::new(
                StatusCode::UNSUPPORTED_MEDIA_TYPE,
                "The body must be JSON without a content-encoding.",
            ));
        }
        if self.json_only && MediaType::of(&head.headers) == MediaType::Other {
            return Err(Refused::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, MediaType::WANTED));
        }
        let unreadable = || {
            Refused::bad_request(match self.default {
                None => "The body must be a JSON object with exactly one member \"model\", a text.",
                Some(_) => "The body must be a JSON object with at most one member \"model\", a text.",
            })
        };
        let NamedModel(named) = NamedModel::read(body).ok_or_else(unreadable)?;
        let option = match &named {
            Some(name) => self.find(name).ok_or("There is no such model here."),
            None => self.default().ok_or("The body must name a model."),
        };
        match option {
            Ok(option) if option.is_live() => Ok(option),
            Ok(_) => Err(self.refused("This model is not available at present.")),
            Err(why) => Err(self.refused(why)),
        }
    }

    fn refused(&self, why: &str) -> Refused {
        let live = self.live().map(|option| option.id.as_str()).collect::<Vec<_>>().join(", ");
        let live = if live.is_empty() { "none at present" } else { &live };
        Refused::bad_request(format!("{why} Models: {live}."))
    }
}

#[async_trait]
impl Pricing for ModelOptions {
    fn known(&self) -> Vec<Prices> {
        self.prices().into_iter().cloned().map(Prices::all).collect()
    }

    fn is_by_resource(&self) -> bool {
        true
    }

    fn reads_json(&self) -> bool {
        true
    }

    fn quote_head(&self, _: &Parts) -> HeadQuote {
        HeadQuote::NeedsBody
    }

    async fn quote(&self, head: &Parts, body: &Bytes) -> Quote {
        self.choose(head, body).map(|option| option.price.clone()).into()
    }
}

/// Names that have been given away.
#[derive(Default)]
struct Names {
    exact: HashMap<String, usize>,
    /// In lower case: two names that somebody could take for one are not sold at two prices.
    folded: HashMap<String, usize>,
}

impl Names {
    fn add(&mut self, name: &str, at: usize, options: &[ModelOption]) -> Result<(), InvalidModelOptions> {
        let owner = *self.folded.entry(name.to_lowercase()).or_insert(at);
        if owner != at {
            let id = |at: usize| options.get(at).map(|option| option.id.clone()).unwrap_or_default();
            return Err(InvalidModelOptions::Duplicate { name: name.to_owned(), first: id(owner), second: id(at) });
        }
        self.exact.insert(name.to_owned(), at);
        Ok(())
    }

    /// Adds the models without their providers, where each means one option only.
    fn with_bare_models(mut self, options: &[ModelOption]) -> HashMap<String, usize> {
        let mut bare: HashMap<String, Option<usize>> = HashMap::new();
        for (at, option) in options.iter().enumerate().filter(|(_, option)| !option.bare_model().is_empty()) {
            match bare.entry(option.bare_model().to_lowercase()) {
                Entry::Vacant(free) => drop(free.insert(Some(at))),
                Entry::Occupied(mut taken) => drop(taken.insert(None)),
            }
        }
        for (at, option) in options.iter().enumerate() {
            let folded = option.bare_model().to_lowercase();
            let is_its_own = self.folded.get(&folded).is_none_or(|owner| *owner == at);
            if is_its_own && bare.get(&folded) == Some(&Some(at)) {
                self.exact.insert(option.bare_model().to_owned(), at);
            }
        }
        self.exact
    }
}
