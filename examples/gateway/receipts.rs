//! Signed receipts: which key signs them, who may see them, and where they are kept.

use std::{error::Error, fmt::Display, fs, path::PathBuf, sync::Arc};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use ed25519_dalek::{SigningKey, pkcs8::EncodePrivateKey as _, pkcs8::spki::der::pem::LineEnding};
use tower_mpp::{
    ReceiptHeader,
    protocol::{Realm, Visibility},
    receipt::{Ed25519Signer, Jwks, PayloadCapture, ReceiptSigner as _, Receipts, Recipient},
    store::ReceiptStore,
};
use zeroize::Zeroizing;

use super::{
    common::{journal::Location, secret_file},
    config::{self, ConfigError, Environment, ReceiptForm},
    routes::LEDGER,
    settings::Place,
};

/// In the data folder: a PKCS#8 private key in PEM.
const KEY_FILE: &str = "receipt.key";

/// `[receipts]`, checked.
pub(crate) struct ReceiptSettings {
    /// Where the ledger is served; `None` is here.
    base_url: Option<String>,
    key_file: PathBuf,
    /// The key file is in our folder, and is made at the first start.
    ours: bool,
    key_id: Option<String>,
    previous: Jwks,
    name: String,
    pub(crate) title: String,
    visibility: Visibility,
    capture: PayloadCapture,
    recipient: Option<Recipient>,
    environment: Option<String>,
    header: ReceiptHeader,
    /// Where receipts are kept; `None` is with the payments.
    pub(crate) ledger: Option<Location>,
}

/// Receipts that are switched on.
pub(crate) struct Issuing {
    pub(crate) receipts: Receipts,
    pub(crate) header: ReceiptHeader,
    pub(crate) title: String,
}

pub(super) fn check(
    place: Place<'_>,
    table: config::Receipts,
    data_dir: &std::path::Path,
    journal: &Location,
    realm: &Realm,
    test_mode: bool,
    environment: Environment<'_>,
) -> Result<ReceiptSettings, ConfigError> {
    let base_url = match table.base_url {
        Some(url) => Some(url),
        None if realm.is_loopback() => None,
        None => Some(format!("https://{realm}")),
    };
    let previous = match &table.previous_keys {
        None => Jwks::default(),
        Some(path) => {
            let unusable = |problem: &dyn Display| {
                place.error("receipts.previous_keys", format_args!("{}: {problem}", path.display()))
            };
            let text = fs::read_to_string(path).map_err(|error| unusable(&error))?;
            text.parse().map_err(|error| unusable(&error))?
        }
    };
    let capture = table.capture.unwrap_or(PayloadCapture::HashOnly);
    let recipient = match (capture, table.encryption_key) {
        (PayloadCapture::EncryptedAtRest, Some(key)) => Some(recipient(place, &key)?),
        (PayloadCapture::EncryptedAtRest, None) => {
            return Err(place.error(
                "receipts.encryption_key",
                "it is not set, but capture = \"encrypted_at_rest\" needs it: the X25519 public key of who may read the payloads",
            ));
        }
        (_, Some(_)) => {
            return Err(place.error(
                "receipts.encryption_key",
                "nothing is encrypted; write capture = \"encrypted_at_rest\", or remove this line",
            ));
        }
        (_, None) => None,
    };
    Ok(ReceiptSettings {
        base_url,
        ours: table.key_file.is_none(),
        key_file: table.key_file.unwrap_or_else(|| data_dir.join(KEY_FILE)),
        key_id: table.key_id,
        previous,
        name: table.name.unwrap_or_default(),
        title: table.title.unwrap_or_else(|| "Receipts".to_owned()),
        visibility: table.visibility.unwrap_or_default(),
        capture,
        recipient,
        environment: table.environment.or_else(|| Some(if test_mode { "test" } else { "production" }.to_owned())),
        header: match table.header.unwrap_or_default() {
            ReceiptForm::Mpp => ReceiptHeader::Mpp,
            ReceiptForm::Url => ReceiptHeader::Url,
            ReceiptForm::Raw => ReceiptHeader::Raw,
        },
        ledger: ledger(place, table.ledger, table.ledger_env, journal, environment)?,
    })
}

fn recipient(place: Place<'_>, key: &str) -> Result<Recipient, ConfigError> {
    let bytes = URL_SAFE_NO_PAD.decode(key).ok().and_then(|bytes| <[u8; 32]>::try_from(bytes).ok());
    let recipient = bytes.and_then(|bytes| Recipient::new(bytes).ok());
    recipient.ok_or_else(|| {
        place.error(
            "receipts.encryption_key",
            "it is no X25519 public key; write its 32 bytes in base64url without padding",
        )
    })
}

/// With the payments, unless they are kept where no receipts can be.
fn ledger(
    place: Place<'_>,
    file: Option<PathBuf>,
    variable: Option<String>,
    journal: &Location,
    environment: Environment<'_>,
) -> Result<Option<Location>, ConfigError> {
    match (file, variable) {
        (Some(_), Some(_)) => Err(place.error("receipts", "give ledger or ledger_env, not both")),
        (Some(path), None) if path.as_os_str().is_empty() => {
            Err(place.error("receipts.ledger", "it is empty; name a file"))
        }
        (Some(path), None) => Ok(Some(Location::Sqlite(path))),
        (None, Some(variable)) => {
            let url = environment.required(&variable, &place.of("receipts.ledger_env"))?;
            match Location::parse(&url) {
                Ok(location @ Location::Postgres(_)) => Ok(Some(location)),
                _ => Err(ConfigError::new(variable, "it is no URL of PostgreSQL; write postgres://...")),
            }
        }
        (None, None) if matches!(journal, Location::Redis(_)) => Err(place.error(
            "receipts.ledger",
            "Redis keeps no receipts; name a file for one gateway, or write ledger_env = \"NAME\" with the URL of a PostgreSQL for several",
        )),
        (None, None) => Ok(None),
    }
}

impl ReceiptSettings {
    /// What the ledger is served under.
    pub(super) fn paths(&self) -> Vec<String> {
        LEDGER.iter().map(|path| (*path).to_owned()).chain([Receipts::keys_path_of(&self.name)]).collect()
    }

    /// Opens the key, which is made at the first start when it is ours, and gets everything ready. `address` is
    /// where the gateway listens.
    pub(crate) fn open(&self, store: Arc<dyn ReceiptStore>, address: impl Display) -> Result<Issuing, Box<dyn Error>> {
        let pem = match self.ours {
            true => {
                if let Some(folder) = self.key_file.parent() {
                    secret_file::private_folder(folder)?;
                }
                secret_file::read_or_create(&self.key_file, new_key)?
            }
            false => self.given_key()?,
        };
        self.ready(&pem, store, address)
    }

    /// The same, writing nothing.
    pub(crate) fn look(&self, store: Arc<dyn ReceiptStore>, address: impl Display) -> Result<Issuing, Box<dyn Error>> {
        let pem = match self.ours {
            true => secret_file::read(&self.key_file)?.unwrap_or_else(new_key),
            false => self.given_key()?,
        };
        self.ready(&pem, store, address)
    }

    fn given_key(&self) -> Result<Zeroizing<String>, Box<dyn Error>> {
        let missing = || ConfigError::new(self.key_file.display(), "there is no such file; see receipts.key_file");
        Ok(secret_file::read(&self.key_file)?.ok_or_else(missing)?)
    }

    fn ready(&self, pem: &str, store: Arc<dyn ReceiptStore>, address: impl Display) -> Result<Issuing, Box<dyn Error>> {
        let unusable = |error| ConfigError::new(self.key_file.display(), error);
        // A name that says which key it is, without anybody having to think of one.
        let id = match &self.key_id {
            Some(id) => id.clone(),
            None => {
                let key = Ed25519Signer::from_pkcs8_pem("unnamed", pem).map_err(unusable)?.public_key();
                let thumbprint = key.map(|key| key.thumbprint()).unwrap_or_default();
                format!("receipt-{}", thumbprint.get(..12).unwrap_or_default())
            }
        };
        let signer = Ed25519Signer::from_pkcs8_pem(id, pem)
            .map_err(|error| ConfigError::new(format_args!("{} (receipts.key_id)", self.key_file.display()), error))?;
        let base_url = self.base_url.clone().unwrap_or_else(|| format!("http://{address}"));
        let mut builder = Receipts::builder(base_url, signer)
            .store(store)
            .visibility(self.visibility)
            .capture(self.capture)
            .keys_name(self.name.as_str());
        for key in &self.previous.keys {
            builder = builder.previous_key(key.clone());
        }
        if let Some(recipient) = &self.recipient {
            builder = builder.encrypt_for(recipient.clone());
        }
        if let Some(environment) = &self.environment {
            builder = builder.environment(environment.as_str());
        }
        Ok(Issuing { receipts: builder.build()?, header: self.header, title: self.title.clone() })
    }
}

fn new_key() -> Zeroizing<String> {
    let seed = Zeroizing::new(rand::random::<[u8; 32]>());
    let key = SigningKey::from_bytes(&seed);
    key.to_pkcs8_pem(LineEnding::LF).unwrap_or_default()
}
